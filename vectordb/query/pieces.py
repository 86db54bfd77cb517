"""Reads whose answers are taken in pieces while the snapshot is pinned, so that a large answer is never held as objects as a whole.

``Collection`` takes all pieces; the service encodes each one while it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar, cast

from vectordb_client.model.checks import check_count, check_names, check_selection
from vectordb_client.model.explorations import Exploration
from vectordb_client.model.results import Change, Point
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.values import Id

from ..engine.snapshot import Snapshots, View
from ..filters.cache import FilterCache
from . import changes, direct, direct_groups, execute, ordering, paging, read
from .explore import explore
from .history import Histories
from .request import RequestCache
from .tenants import pinned

T = TypeVar("T")


class PieceReader:
    """The reads of one collection in pieces."""

    def __init__(self, snapshots: Snapshots, filters: FilterCache):
        self._snapshots = snapshots
        self._filters = filters
        self._requests = RequestCache(filters)
        self.histories = Histories(filters)
        self.direct = direct.DirectSearches(snapshots, filters)
        self.direct_groups = direct_groups.DirectGroups(self.direct, snapshots, filters)

    def get(
        self,
        ids: list[Id],
        take: Callable[[list[bool], Iterator[list[Point]]], T],
        *,
        with_vectors: Any,
        with_attributes: Any,
        with_payload: Any = None,
        as_of: int | str | None = None,
        tenant: str | None = None,
    ) -> T:
        """Return ``take(exists, pieces)``: whether each id exists, and their points, read in pieces while ``take`` consumes them.

        tenant, here and below: the reader knows of the points of this tenant only.
        """
        with pinned(self._snapshots, tenant, self._filters) as present:
            view, _ = self.histories.at(present, as_of)
            return take(*read.get(view, ids, *_selections(view, with_attributes, with_vectors), with_payload))

    def scroll(
        self,
        take: Callable[[Iterator[list[Point]], bool, Callable[[Id], str]], T],
        filter: Any,
        limit: int,
        cursor: str | None,
        order_by: Sequence[str] | None,
        *,
        with_vectors: Any,
        with_attributes: Any,
        with_payload: Any = None,
        as_of: int | str | None = None,
    ) -> T:
        """Return ``take(pieces, more, cursor_at)``: the points of a page, read in pieces; whether more points follow the page; a function
        from the id of one of its points to the cursor behind it.
        """
        check_count("limit", limit)
        with self._snapshots.pin() as present:
            view, filters = self.histories.at(present, as_of, cursor if order_by is not None else None)
            selections = _selections(view, with_attributes, with_vectors)
            node = self._filters.bind(filter, view.schema)
            if order_by is not None:
                return take(*ordering.scroll(view, node, order_by, int(limit), cursor, *selections, filters, with_payload))
            return take(*read.scroll(view, node, int(limit), cursor, *selections, filters, with_payload), read.encode_cursor)

    def search(
        self,
        request: SearchRequest,
        vectors: Any,
        text: Any,
        batch: bool,
        take: Callable[[execute.Answers], T],
        tenant: str | None = None,
    ) -> T:
        """Return ``take(answers)`` of a search for one query, or with ``batch`` for many. With a tenant, the request has its filter too."""
        if text is None and not batch:
            hits = self.direct.search(request, vectors)
            if hits is not None:
                return take(cast(execute.Answers, direct.Whole(hits)))
        return self.search_anything(request, vectors, text, batch, take, tenant)

    def search_anything(
        self,
        request: SearchRequest,
        vectors: Any,
        text: Any,
        batch: bool,
        take: Callable[[execute.Answers], T],
        tenant: str | None = None,
    ) -> T:
        """``search`` for those that can't be done directly."""
        with pinned(self._snapshots, tenant, self._filters) as present:
            view, filters = self.histories.at(present, request.as_of, request.cursor)
            if request.order_by is not None:
                return take(cast(execute.Answers, ordering.Ordered(view, request, vectors, text, batch, filters)))
            search, asked = self._requests.search(view, request, vectors, text, batch), view
            paging.check_single(batch, search)
            if not batch and (request.offset or request.cursor is not None):
                asked, search, filters = paging.begin(view, search, filters)
            taken = take(execute.Answers(asked, search, filters))
            if view is present:
                self.direct.learn(view, search)
            return taken

    def explore(self, exploration: Exploration, tenant: str | None = None) -> Generator[tuple[int, int], None, Any]:
        """Run an operation on a field. Yields (work done, all work), returns its result."""
        return explore(lambda: pinned(self._snapshots, tenant, self._filters), exploration, self._filters)

    def changes(
        self,
        since: int,
        *,
        follow: Any = False,
        with_vectors: Any = False,
        with_attributes: Any = False,
        timeout: Any = None,
        tenant: str | None = None,
    ) -> Iterator[tuple[Change, bool]]:
        """``Collection.changes`` with large batches split into parts. The bool says whether more parts of the same batch follow.

        tenant: leave out the points of other tenants.
        """
        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes}
        own = None if tenant is None else (tenant, self._filters)
        return changes.pieces(self._snapshots, since=since, follow=follow, timeout=timeout, own=own, **selected)


def _selections(view: View, with_attributes: Any, with_vectors: Any) -> tuple[bool | Sequence[str], Sequence[str]]:
    """Check the selections: True, False or names of attributes, and names of vector fields. Raises InvalidArgumentError."""
    attributes = check_selection("with_attributes", with_attributes, view.schema.attributes)
    return attributes, check_names("with_vectors", with_vectors, view.schema.vectors)
