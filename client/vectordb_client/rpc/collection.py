"""A collection of a service, for the blocking client: the writing half, on top of the reading half in ``reads``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..model.aliases import Column, Durability, FilterLike, Ids, PointsLike, Span, VectorColumn, Versions
from ..model.arguments import like, named
from ..model.batch import Columns
from ..model.bulk import Bulk, BulkResult, write_all
from ..model.results import WriteResult
from ..model.schema import AttributeType, VectorField
from ..model.unset import UNSET
from ..model.writing import Writing
from . import calls
from .reads import Reads


class Collection(Reads, Writing):
    """A collection of a service, with the methods of the embedded ``vectordb.Collection``. Safe to share between threads.

    ``len(docs)``, ``id in docs`` and ``for point in docs`` work as well; each makes calls to the service.
    """

    @like(Writing.upsert)
    @named
    def upsert(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        if_absent: bool = False,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        columns = Columns(ids, vectors, attributes, payload, if_version, if_filter, if_absent=if_absent)
        # aio: large=is_large(points, ids)
        return self._client._run(calls.write(self._remote, "upsert", points, columns, durability), timeout)

    @like(Writing.bulk, "seconds for each chunk")
    @named
    def bulk(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        chunk: int = 1000,
        parallel: int = 4,
        progress: bool | Callable[[int, int], Any] = False,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> BulkResult:
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return write_all(work, functools.partial(self.upsert, durability=durability, timeout=timeout))

    @like(Writing.update)
    @named
    def update(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        filter: FilterLike | None = None,
        increment: Mapping[str, Any] | None = None,
        payload_merge: Mapping[str, Any] | Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        columns = Columns(ids, vectors, attributes, payload, if_version, if_filter, filter, increment, payload_merge)
        # aio: large=is_large(points, ids)
        return self._client._run(calls.write(self._remote, "update", points, columns, durability), timeout)

    @like(Writing.delete)
    @named
    def delete(
        self,
        ids: Ids | None = None,
        *,
        filter: FilterLike | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        return self._client._run(calls.delete(self._remote, ids, filter, if_version, if_filter, durability), timeout)

    @like(Writing.set_terms)
    def set_terms(
        self, field: str, terms: Mapping[int, str | None], *, durability: Durability | None = None, timeout: float | None = None
    ) -> int:
        return self._client._run(calls.set_terms(self._remote, field, terms, durability), timeout)

    @like(Writing.add_fields)
    def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, AttributeType] | None = None,
        exist_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        return self._client._run(calls.add_fields(self._remote, vectors, attributes, exist_ok), timeout)

    @like(Writing.drop_fields)
    def drop_fields(self, names: str | Sequence[str], *, timeout: float | None = None) -> None:
        return self._client._run(calls.drop_fields(self._remote, names), timeout)

    @like(Writing.rename_fields)
    def rename_fields(self, names: Mapping[str, str], *, timeout: float | None = None) -> None:
        return self._client._run(calls.rename_fields(self._remote, names), timeout)

    @like(Writing.alter)
    def alter(self, *, attributes: Mapping[str, AttributeType] | None = None, ttl: Any = UNSET, timeout: float | None = None) -> None:
        return self._client._run(calls.alter(self._remote, attributes, ttl), timeout)

    @like(Writing.keep_history)
    def keep_history(self, history: Span | None, *, timeout: float | None = None) -> None:
        return self._client._run(calls.keep_history(self._remote, history), timeout)

    def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        return self._client._run(calls.optimize(self._remote, wait, timeout), calls.call_timeout(timeout), endless=wait)

    @named
    def fit(self, field: str, *, timeout: float | None = None) -> dict[str, Any]:
        return self._client._run(calls.fit(self._remote, field, timeout), calls.call_timeout(timeout), endless=True)

    @named
    def migrate(
        self,
        field: str,
        encoder: str,
        *,
        anchors: int = 2000,
        seed: int = 0,
        encode: bool = True,
        dry_run: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        steps = calls.migrate(self._remote, field, encoder, anchors, seed, encode, dry_run, wait, timeout)
        return self._client._run(steps, calls.call_timeout(timeout), endless=True)

    @like(Writing.cancel_migration)
    @named
    def cancel_migration(self, field: str, *, timeout: float | None = None) -> bool:
        return self._client._run(calls.cancel_migration(self._remote, field), timeout)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        return self._client._run(calls.purge(self._remote, timeout), calls.call_timeout(timeout), endless=True)
