"""What a caller with an API key bound to a tenant has in the place of a collection: the points of the tenant, as if there were no others.

``Served.find`` is the only way from a request to a collection, and it wraps the collection here. The wrapper has the methods that may be
used, and no others, so a method of the service that asks for more fails instead of showing other tenants' points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vectordb_client.errors import PermissionDeniedError, shown
from vectordb_client.model.batch import UNSET, Batch
from vectordb_client.model.collection_info import CollectionInfo
from vectordb_client.model.explorations import Exploration
from vectordb_client.model.results import WriteResult
from vectordb_client.model.schema import Schema
from vectordb_client.model.search_request import SearchRequest

from ...filters import as_filter
from ...query.tenants import tenant_filter


class TenantCollection:
    """A collection as a tenant sees it. Raises PermissionDeniedError if the collection has no attribute that is the tenant."""

    def __init__(self, collection: Any, schema: Schema, tenant: str):
        self._own = tenant_filter(schema, tenant)
        assert schema.tenant is not None
        self._collection, self._attribute, self._tenant = collection, schema.tenant, tenant
        self.pieces = TenantPieces(collection.pieces, self._narrowed, tenant)

    # What concerns no points

    @property
    def name(self) -> str:
        return self._collection.name

    @property
    def number(self) -> int:
        return self._collection.number

    @property
    def revision(self) -> int:
        return self._collection.revision

    @property
    def schema(self) -> Schema:
        return self._collection.schema

    def reached(self, sequence: int) -> bool:
        return self._collection.reached(sequence)

    # Reads

    def count(self, filter: Any = None, *, as_of: Any = None) -> int:
        return self._collection.count(self._narrowed(filter), as_of=as_of)

    def facets(self, facets: Any, *, filter: Any = None, as_of: Any = None) -> Any:
        return self._collection.facets(facets, filter=self._narrowed(filter), as_of=as_of)

    def aggregate(self, functions: Any, *, filter: Any = None, as_of: Any = None) -> Any:
        return self._collection.aggregate(functions, filter=self._narrowed(filter), as_of=as_of)

    def info(self) -> CollectionInfo:
        """The schema, the number of the tenant's points and the newest sequence; nothing that depends on other points."""
        info = self._collection.info()
        return CollectionInfo(info.name, info.schema, self.count(), info.sequence, 0, 0, {}, {})

    # Writes

    def apply_batch(self, batch: Batch, durability: Any = None) -> WriteResult:
        return self._collection.apply_batch(self._bound(batch), durability)

    def delete(self, ids: Any = None, *, filter: Any = None, if_version: Any = None, if_filter: Any = None, durability: Any = None) -> Any:
        return self._collection._commit(self._deletion(ids, filter, if_version, if_filter), durability)

    def write_of(self, batch: Batch) -> tuple[Any, Batch]:
        """The collection and the batch that a transaction keeps."""
        return self._collection, self._bound(batch)

    def deletion_of(self, *, ids: Any, filter: Any, if_version: Any, if_filter: Any) -> tuple[Any, Any]:
        """The collection and the deletion that a transaction keeps."""
        return self._collection, self._deletion(ids, filter, if_version, if_filter)

    def _deletion(self, ids: Any, filter: Any, if_version: Any, if_filter: Any) -> Any:
        if filter is not None:
            filter = self._narrowed(filter)
        return replace(self._collection._checked_delete(ids, filter, if_version, if_filter), tenant=self._tenant)

    def _bound(self, batch: Batch) -> Batch:
        """The batch with the tenant in its points. Raises PermissionDeniedError for a point of another tenant."""
        given = batch.attributes.get(self._attribute)
        for row, value in enumerate(given or ()):
            if value not in (UNSET, self._tenant) and not (value is None and batch.kind == "upsert"):
                where = "the points that match" if batch.filter is not None else f"point {shown(batch.ids[row])}"
                what = f"{where} can't have {self._attribute!r} {shown(value)}: the API key is bound to tenant {shown(self._tenant)}"
                raise PermissionDeniedError(what, field=self._attribute, value=value)
        attributes = dict(batch.attributes)
        if batch.kind == "upsert":
            attributes[self._attribute] = [self._tenant] * len(batch.ids)
        condition = None if batch.filter is None else self._narrowed(batch.filter)
        return replace(batch, attributes=attributes, filter=condition, tenant=self._tenant)

    def _narrowed(self, filter: Any) -> Any:
        """A filter of a request, or none, and the tenant's."""
        return self._own if filter is None else self._own & as_filter(filter)


class TenantPieces:
    """The reads in pieces (``query/pieces.py``)."""

    def __init__(self, pieces: Any, narrowed: Callable[[Any], Any], tenant: str):
        self._pieces, self._narrowed, self._tenant = pieces, narrowed, tenant

    def get(self, ids: Any, take: Any, **selected: Any) -> Any:
        return self._pieces.get(ids, take, **selected, tenant=self._tenant)

    def scroll(self, take: Any, filter: Any, limit: int, cursor: Any, order_by: Any, **selected: Any) -> Any:
        return self._pieces.scroll(take, self._narrowed(filter), limit, cursor, order_by, **selected)

    def search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool, take: Any) -> Any:
        if request.explain:
            what = "explain needs an API key without a tenant, because a plan shows numbers and words of the whole collection"
            raise PermissionDeniedError(what, field="explain", value=True)
        given = request.filter
        own = tuple(map(self._narrowed, given)) if isinstance(given, tuple) else self._narrowed(given)
        bound = SearchRequest.of({**request.changed(), "filter": own})
        return self._pieces.search(bound, vectors, text, batch, take, tenant=self._tenant)

    def explore(self, exploration: Exploration) -> Any:
        return self._pieces.explore(replace(exploration, filter=self._narrowed(exploration.filter)), tenant=self._tenant)

    def changes(self, since: int, *, follow: Any, timeout: Any, with_vectors: Any, with_attributes: Any) -> Any:
        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes}
        return self._pieces.changes(since, follow=follow, timeout=timeout, **selected, tenant=self._tenant)
