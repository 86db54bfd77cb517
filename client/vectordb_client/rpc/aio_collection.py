"""A collection of a service, for the asyncio client."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ..errors import InvalidArgumentError
from ..model.access import AsyncPointsOfCollection
from ..model.aliases import (
    Column,
    Durability,
    FilterLike,
    FusionLike,
    Ids,
    PointsLike,
    Selection,
    SupportsArray,
    Vector,
    VectorColumn,
    Versions,
)
from ..model.arguments import named
from ..model.ranking import Prefetch
from ..model.results import Change, CollectionInfo, Hits, Page, Point, WriteResult
from ..model.schema import AttributeType, Schema, VectorField
from ..model.tuning import FusionTuning, tune
from ..model.values import Id, is_single_id
from . import calls, changes
from .bulk import Bulk, BulkResult, Chunk, Outcome, attempts, of_a_point

if TYPE_CHECKING:
    from .aio import AsyncClient

_LARGE = 64  # points, queries or hits from which on a thread encodes and decodes, so that the event loop isn't blocked


def _large(*values: Any) -> bool:
    """Whether a list, or the number of requested hits, is so large that encoding or decoding would block the event loop."""
    return any(_size(value) >= _LARGE for value in values)


def _size(value: Any) -> float:
    if value is None or isinstance(value, (str, bytes)):
        return 0
    if isinstance(value, int):
        return value
    try:
        return len(value)
    except TypeError:  # a generator
        return float("inf")


def _parts(value: Any) -> Iterable[Any]:
    """The lists in an argument: the values of a mapping, or the argument itself."""
    return value.values() if isinstance(value, Mapping) else (value,)


class AsyncCollection(AsyncPointsOfCollection):
    """A collection of a service, with the methods of ``Collection``, awaited. ``async for point in docs`` reads all points.

    ``len(docs)`` and ``id in docs`` can't await, so they raise a TypeError that says what to write instead.
    """

    def __init__(self, client: AsyncClient, remote: calls.Remote):
        self._client = client
        self._remote = remote

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self._remote.name

    @property
    def schema(self) -> Schema:
        """The vector fields and attributes of the collection, as last read; ``info()`` reads them again."""
        return self._remote.schema

    @named
    async def upsert(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Insert points. A point whose id exists is replaced as a whole.

        Arguments, result and errors are those of ``Collection.upsert``.
        """
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        steps = calls.write(self._remote, "upsert", points, columns, durability)
        return await self._client._run(steps, timeout, large=_large(points, ids))

    @named
    async def bulk(
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
        """Write many points like ``upsert``, in chunks, of which several are written at the same time.

        Arguments, result and errors are those of ``Collection.bulk``.
        """
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return await _write_all(work, functools.partial(self.upsert, durability=durability, timeout=timeout))

    @named
    async def update(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Change some fields of points that exist. Fields that are not given stay as they are.

        Arguments, result and errors are those of ``Collection.update``.
        """
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        steps = calls.write(self._remote, "update", points, columns, durability)
        return await self._client._run(steps, timeout, large=_large(points, ids))

    @named
    async def delete(
        self,
        ids: Ids | None = None,
        *,
        filter: FilterLike | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Delete points by id or by filter. Ids that don't exist are ignored.

        Arguments, result and errors are those of ``Collection.delete``.
        """
        return await self._client._run(calls.delete(self._remote, ids, filter, if_version, if_filter, durability), timeout)

    async def set_terms(
        self, field: str, terms: Mapping[int, str | None], *, durability: Durability | None = None, timeout: float | None = None
    ) -> int:
        """Name the terms of a sparse field. Explained searches and ``info`` then show words instead of term numbers.

        Arguments, result and errors are those of ``Collection.set_terms``.
        """
        return await self._client._run(calls.set_terms(self._remote, field, terms, durability), timeout)

    @overload
    async def get(
        self, ids: Id, *, with_vectors: Selection = False, with_attributes: Selection = True, timeout: float | None = None
    ) -> Point | None: ...
    @overload
    async def get(
        self,
        ids: Iterable[Id] | SupportsArray,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> list[Point | None]: ...
    @named
    async def get(
        self, ids: Ids, *, with_vectors: Selection = False, with_attributes: Selection = True, timeout: float | None = None
    ) -> list[Point | None] | Point | None:
        """Read points by id.

        Arguments, result and errors are those of ``Collection.get``.
        """
        steps = calls.get(self._remote, ids, with_vectors, with_attributes)
        return await self._client._run(steps, timeout, large=not is_single_id(ids) and _large(ids))

    @named
    async def search(
        self,
        vectors: Mapping[str, Vector] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: FusionLike = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Selection = True,
        with_vectors: Selection = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> Hits:
        """Find the best ``limit`` points for a query of one or several arms. An arm is a vector field with its query.

        Arguments, result and errors are those of ``Collection.search``.
        """
        wanted = calls.SearchOptions(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        return await self._client._run(calls.search(self._remote, vectors, text, wanted), timeout, large=_large(limit))

    @named
    async def search_batch(
        self,
        vectors: Mapping[str, VectorColumn] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: FusionLike = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Selection = True,
        with_vectors: Selection = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> list[Hits]:
        """Run many searches at once, in one message. All queries share the other arguments, which are those of ``search``.

        Arguments, result and errors are those of ``Collection.search_batch``.
        """
        wanted = calls.SearchOptions(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        steps = calls.search_batch(self._remote, vectors, text, wanted)
        return await self._client._run(steps, timeout, large=_large(*_parts(vectors), *_parts(text), limit))

    async def tune_fusion(
        self,
        vectors: Mapping[str, VectorColumn] | None,
        qrels: Sequence[Mapping[Id, float]],
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        candidates: int = 100,
        recall: float | None = None,
        folds: int = 5,
        seed: int = 0,
        timeout: float | None = None,
    ) -> FusionTuning:
        """Learn the weights of ``Linear`` fusion from judged queries, and measure them on queries they were not learned from.

        Arguments, result and errors are those of ``Collection.tune_fusion``.
        """
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed)
        try:
            arguments = next(steps)
            while True:
                arguments = steps.send(await self.search_batch(**arguments, timeout=timeout))
        except StopIteration as done:
            return done.value

    @named
    async def count(self, filter: FilterLike | None = None, *, timeout: float | None = None) -> int:
        """Count points.

        Arguments, result and errors are those of ``Collection.count``.
        """
        return await self._client._run(calls.count(self._remote, filter), timeout)

    @named
    async def scroll(
        self,
        *,
        filter: FilterLike | None = None,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> Page:
        """Read one page of points in the order of ids: integers, then strings, then UUIDs.

        Arguments, result and errors are those of ``Collection.scroll``.
        """
        steps = calls.scroll(self._remote, filter, limit, cursor, with_vectors, with_attributes)
        return await self._client._run(steps, timeout, large=_large(limit))

    async def iterate(
        self,
        *,
        filter: FilterLike | None = None,
        page: int = 1000,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> AsyncIterator[Point]:
        """Read all points, page by page, in the order of ``scroll``. ``for point in docs`` does the same. Use it with ``async for``.

        Arguments, values and errors are those of ``Collection.iterate``.
        """
        cursor = None
        while True:
            points = await self.scroll(
                filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes, timeout=timeout
            )
            for point in points:
                yield point
            cursor = points.cursor
            if cursor is None:
                return

    async def terms(self, field: str, *, after: int | None = None, limit: int = 10_000, timeout: float | None = None) -> dict[int, str]:
        """Read a page of the words of a sparse field's terms, in ascending order of terms.

        Arguments, result and errors are those of ``Collection.terms``.
        """
        return await self._client._run(calls.terms(self._remote, field, after, limit), timeout)

    async def info(self, *, timeout: float | None = None) -> CollectionInfo:
        """Schema, counts, sequence number and statistics of the fields. ``print(docs.info())`` shows them as a short text.

        Arguments, result and errors are those of ``Collection.info``.
        """
        return await self._client._run(calls.info(self._remote), timeout)

    async def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, AttributeType] | None = None,
        exist_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Add vector fields and attributes. Existing points have no value in them.

        Arguments, result and errors are those of ``Collection.add_fields``.
        """
        return await self._client._run(calls.add_fields(self._remote, vectors, attributes, exist_ok), timeout)

    async def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Index rows that are not indexed yet, merge the index segments of each field, and remove deleted rows.

        Arguments, result and errors are those of ``Collection.optimize``.
        """
        return await self._client._run(calls.optimize(self._remote, wait, timeout), calls.patience(timeout), endless=wait)

    async def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Erase deleted and replaced points from every file of the directory, then search all files for leftovers.

        Arguments, result and errors are those of ``Collection.purge``.
        """
        return await self._client._run(calls.purge(self._remote, timeout), calls.patience(timeout), endless=True)

    async def changes(
        self,
        since: int = 0,
        *,
        follow: bool = False,
        with_vectors: Selection = False,
        with_attributes: Selection = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Change]:
        """Read what each batch after a sequence number did, in order and without gaps. Use it with ``async for``.

        Arguments, values and errors are those of ``Collection.changes``.
        """
        request = calls.changes(self._remote, since, follow, with_vectors, with_attributes)
        stream = self._client._stream("Changes", request, changes.Assembly(), timeout, ends_quietly=follow)
        try:
            async for change in stream:
                yield change
        finally:
            await stream.aclose()

    def __repr__(self) -> str:
        return f"AsyncCollection({self.name!r} of {self._client.target!r})"


async def _write_all(bulk: Bulk, upsert: Callable[..., Awaitable[WriteResult]]) -> BulkResult:
    """``bulk.write_all`` with tasks instead of threads."""

    async def write(chunk: Chunk) -> Outcome:
        steps = attempts(chunk)
        try:
            part = next(steps)
            while True:
                try:
                    answer: Any = await upsert(**part.arguments)
                except InvalidArgumentError as error:
                    if not of_a_point(error):
                        raise
                    answer = error
                part = steps.send(answer)
        except StopIteration as done:
            return done.value

    pending: set[asyncio.Task] = set()
    try:
        with bulk.shown():
            for chunk in bulk.chunks:
                if len(pending) >= bulk.parallel:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        bulk.add(task.result())
                pending.add(asyncio.create_task(write(chunk)))
            for task in asyncio.as_completed(pending):
                bulk.add(await task)
    finally:
        if pending:
            await asyncio.gather(*pending, return_exceptions=True)
    return bulk.result()
