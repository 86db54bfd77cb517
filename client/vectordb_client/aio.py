"""The asyncio client: the methods of ``Client``, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from . import calls, changes
from .arguments import named
from .bulk import Bulk, BulkResult, Chunk, Outcome, attempts, of_a_point
from .channel import (
    METHODS,
    STREAMS,
    call_metadata,
    channel_options,
    check_fork,
    check_target,
    check_timeout,
    failure,
    metadata_of,
    open_channel,
    tls_credentials,
)
from .errors import ClosedError, DeadlineError, InvalidArgumentError
from .ranking import Fusion, Prefetch
from .results import Change, CollectionInfo, Hits, Page, Point, WriteResult
from .retry import check_retries, pause_before_retry
from .schema import Attribute, Schema, VectorField
from .tuning import FusionTuning, tune
from .values import Id, is_single_id

T = TypeVar("T")
_LARGE = 64  # points, queries or hits: from here on a thread's start costs less than it saves
_used_in: int | None = None  # the process in which a client of asyncio first connected


class AsyncClient:
    """``Client`` for asyncio: ``async with AsyncClient("localhost:7070") as client``. Arguments and errors are ``Client``'s.

    It may be used in several event loops, one after another or at the same time: it makes a connection in each. Large batches are encoded
    and large answers are decoded in a thread, so they don't hold up the loop. After a fork only ``Client`` goes on. Cancelling a task
    cancels its call; a write may have happened then.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = 30.0,
        retries: int = 5,
        options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        api_key: str | None = None,
        tls: bool | str | os.PathLike[str] = False,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
    ):
        self.target = check_target(target)
        self._timeout = check_timeout(timeout)
        self._retries = check_retries(retries)
        self._metadata = call_metadata(api_key)
        self._closed = False
        self._service = calls.Service()
        self._options = channel_options(options)
        self._tls = tls, tls_cert, tls_key
        tls_credentials(*self._tls)  # what is wrong with them is said here
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._lock = threading.Lock()

    async def create_collection(
        self, name: str, schema: Schema, *, exist_ok: bool = False, timeout: float | None = None
    ) -> AsyncCollection:
        """A new collection. Raises AlreadyExistsError, or SchemaError. exist_ok: one that exists is returned as it is."""
        return AsyncCollection(self, await self._run(calls.create_collection(self._service, name, schema, exist_ok), timeout))

    async def collection(self, name: str, *, timeout: float | None = None) -> AsyncCollection:
        """A collection that exists; reads its schema. Raises NotFoundError."""
        return AsyncCollection(self, await self._run(calls.collection(self._service, name), timeout))

    async def collections(self, *, timeout: float | None = None) -> list[str]:
        """The names of all collections."""
        return await self._run(calls.collections(), timeout)

    async def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Removes a collection and its points. Raises NotFoundError."""
        return await self._run(calls.drop_collection(name), timeout)

    async def server_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """``version``, ``max_message_bytes`` and ``max_batch`` of the service."""
        return await self._run(calls.server_info(), timeout)

    async def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What the service has been doing since it started, of all its processes: plain data."""
        return await self._run(calls.status(), timeout)

    async def snapshot(self, path: str, *, archive: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Copies the database as it is now to a plain name in the service's ``snapshot_dir``; returns the manifest."""
        return await self._run(calls.snapshot(path, archive), timeout, endless=True)

    async def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``AsyncCollection.purge`` of all collections, and of what was dropped."""
        return await self._run(calls.purge(None, timeout), calls.patience(timeout), endless=True)

    async def close(self) -> None:
        """Ends calls under way and the connection. Closing twice is fine."""
        self._closed = True
        with self._lock:
            connections, self._connections = self._connections, {}
        for loop, connection in connections.items():
            if loop is asyncio.get_running_loop():
                await connection.channel.close()
            elif not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                    asyncio.run_coroutine_threadsafe(connection.channel.close(), loop)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.target!r}{', closed' if self._closed else ''})"

    def _connection(self) -> _Connection:
        """That of the running loop: a channel belongs to the loop it is made in."""
        loop = asyncio.get_running_loop()
        found = self._connections.get(loop)
        if found is not None and _used_in == os.getpid():
            return found
        connection = self._connect()
        with self._lock:
            self._connections = {other: known for other, known in self._connections.items() if not other.is_closed()}
            self._connections[loop] = connection
        return connection

    def _connect(self) -> _Connection:
        global _used_in
        if _used_in not in (None, os.getpid()):
            raise ClosedError("asyncio's gRPC was used before this process was forked, and can't go on here; start processes with 'spawn'")
        check_fork()
        _used_in = os.getpid()
        return _Connection(open_channel(grpc.aio, self.target, self._options, *self._tls))

    async def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False, large: bool = False) -> T:
        """Makes the calls. ``timeout`` None: the client's own, or with ``endless`` no limit. large: a thread makes and reads messages."""
        if self._closed:
            raise ClosedError("the client was closed")
        methods = self._connection().methods
        left = self._timeout if timeout is None and not endless else check_timeout(timeout)
        end = None if left is None else time.monotonic() + left
        answer: Any = None  # what a generator is sent first
        try:
            while True:
                ended, value = await asyncio.to_thread(_advanced, steps, answer) if large else _advanced(steps, answer)
                if ended:
                    return value
                answer = await self._call(methods, *value, end)
        except (grpc.aio.UsageError, asyncio.CancelledError):
            if self._closed and not asyncio.current_task().cancelling():  # closed under this call, and the task goes on
                raise ClosedError("the client was closed") from None
            raise

    async def _call(self, methods: Mapping[str, Any], name: str, request: Any, end: float | None) -> Any:
        """One answer, after as many tries as it may take."""
        attempt, left = 0, None
        while True:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"time ran out before {name}", field="timeout")
            try:
                return await methods[name](request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                left = None if end is None else end - time.monotonic()
                again = attempt < self._retries and not self._closed
                pause = pause_before_retry(error.code().name, metadata_of(error), name, request, attempt, left) if again else None
                if pause is None:
                    raise failure(error, self.target, self._closed) from None
            attempt += 1
            await asyncio.sleep(pause)

    async def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> AsyncIterator[Any]:
        """Makes a streaming call. ends_quietly: its deadline and ``close`` are its end, not its failure."""
        if self._closed:
            raise ClosedError("the client was closed")
        call = self._connection().methods[name](request, timeout=check_timeout(timeout), metadata=self._metadata)
        try:
            async for message in call:
                whole = assembly.add(message)
                if whole is not None:
                    yield whole
        except grpc.RpcError as error:
            raised = failure(error, self.target, self._closed)
            if not (ends_quietly and isinstance(raised, (DeadlineError, ClosedError))):
                raise raised from None
        except asyncio.CancelledError:
            if not self._closed or asyncio.current_task().cancelling():
                raise
            if not ends_quietly:  # closed under this call, and the task goes on
                raise ClosedError("the client was closed") from None
        finally:
            call.cancel()


class _Connection:
    """A channel of one event loop, and the methods over it."""

    def __init__(self, channel: grpc.aio.Channel):
        self.channel = channel
        self.methods = {
            name: (channel.unary_stream if name in STREAMS else channel.unary_unary)(path, write, read)
            for name, (path, write, read) in METHODS.items()
        }


def _advanced(steps: calls.Steps[T], answer: Any) -> tuple[bool, Any]:
    """(False, the next call) or (True, the result)."""
    try:
        return False, steps.send(answer)
    except StopIteration as done:
        return True, done.value


def _large(*values: Any) -> bool:
    """Whether any of a call's lists, or the number of hits asked for, is large enough that its message would hold up the loop."""
    return any(_size(value) >= _LARGE for value in values)


def _size(value: Any) -> float:
    if value is None or isinstance(value, (str, bytes)):
        return 0
    if isinstance(value, int):
        return value
    try:
        return len(value)
    except TypeError:  # read as it comes
        return float("inf")


def _parts(value: Any) -> Iterable[Any]:
    """The lists in an argument that may be a mapping of them."""
    return value.values() if isinstance(value, Mapping) else (value,)


class AsyncCollection:
    """The methods of ``Collection``, awaited. What each does is said there."""

    def __init__(self, client: AsyncClient, remote: calls.Remote):
        self._client = client
        self._remote = remote

    @property
    def name(self) -> str:
        return self._remote.name

    @property
    def schema(self) -> Schema:
        """As it was last read: ``info()`` reads it again, and so does a call that needs it after somebody changed it."""
        return self._remote.schema

    @named
    async def upsert(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Writes whole points, replacing those with the same ids. Returns once it is durable.

        The batch is atomic, unless it is larger than a message of the service may be: then it is sent as several batches in
        order, each atomic, and the result has the last sequence and the sum of the counts. A write with ``if_version`` or
        ``if_filter`` is never taken apart: it raises LimitError instead, as does one point larger than a message.
        """
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        steps = calls.write(self._remote, "upsert", points, columns, durability)
        return await self._client._run(steps, timeout, large=_large(points, ids))

    @named
    async def bulk(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        chunk: int = 1000,
        parallel: int = 4,
        progress: bool | Callable[[int, int], Any] = False,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> BulkResult:
        """Writes many points in chunks, several under way at a time; returns what was written and which points failed."""
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return await _write_all(work, functools.partial(self.upsert, durability=durability, timeout=timeout))

    @named
    async def update(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Changes what is named of points that exist, as ``upsert`` otherwise. Raises NotFoundError naming a missing id."""
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        steps = calls.write(self._remote, "update", points, columns, durability)
        return await self._client._run(steps, timeout, large=_large(points, ids))

    @named
    async def delete(
        self,
        ids: Any = None,
        *,
        filter: Any = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Deletes points by id or by filter; ``.count`` is how many there were."""
        return await self._client._run(calls.delete(self._remote, ids, filter, if_version, if_filter, durability), timeout)

    async def set_terms(
        self, field: str, terms: Mapping[int, str | None], *, durability: str | None = None, timeout: float | None = None
    ) -> int:
        """Says what terms of a sparse field stand for; None takes a word away. Returns how many terms have another word now."""
        return await self._client._run(calls.set_terms(self._remote, field, terms, durability), timeout)

    @named
    async def get(
        self,
        ids: Any,
        *,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> list[Point | None] | Point | None:
        """One point or None for each id, in the order asked; for a single id that point or None."""
        steps = calls.get(self._remote, ids, with_vectors, with_attributes)
        return await self._client._run(steps, timeout, large=not is_single_id(ids) and _large(ids))

    @named
    async def search(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: str | Fusion = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: bool | Sequence[str] = True,
        with_vectors: bool | Sequence[str] = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> Hits:
        """The best ``limit`` points for one query a field (``{field: vector}``) and/or a text; several arms are fused."""
        wanted = calls.Wanted(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        return await self._client._run(calls.search(self._remote, vectors, text, wanted), timeout, large=_large(limit))

    @named
    async def search_batch(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: str | Fusion = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: bool | Sequence[str] = True,
        with_vectors: bool | Sequence[str] = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> list[Hits]:
        """``search`` for many queries in one message: ``{field: n queries}`` and/or n texts; n results."""
        wanted = calls.Wanted(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        steps = calls.search_batch(self._remote, vectors, text, wanted)
        return await self._client._run(steps, timeout, large=_large(*_parts(vectors), *_parts(text), limit))

    async def tune_fusion(
        self,
        vectors: Mapping[str, Any] | None,
        qrels: Sequence[Mapping[Id, float]],
        *,
        text: Any = None,
        filter: Any = None,
        limit: int = 10,
        candidates: int = 100,
        recall: float | None = None,
        folds: int = 5,
        seed: int = 0,
        timeout: float | None = None,
    ) -> FusionTuning:
        """Learns the weights of ``Linear`` fusion from judged queries, and reports what they are worth on queries not learned from."""
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed)
        try:
            arguments = next(steps)
            while True:
                arguments = steps.send(await self.search_batch(**arguments, timeout=timeout))
        except StopIteration as done:
            return done.value

    @named
    async def count(self, filter: Any = None, *, timeout: float | None = None) -> int:
        """How many points match; all of them without a filter."""
        return await self._client._run(calls.count(self._remote, filter), timeout)

    @named
    async def scroll(
        self,
        *,
        filter: Any = None,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> Page:
        """One page of points in id order. It holds fewer than ``limit`` when more don't fit a message; ``cursor`` None is the end."""
        steps = calls.scroll(self._remote, filter, limit, cursor, with_vectors, with_attributes)
        return await self._client._run(steps, timeout, large=_large(limit))

    async def iterate(
        self,
        *,
        filter: Any = None,
        page: int = 1000,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> AsyncIterator[Point]:
        """All points that match, in id order; ``page`` are read at a time, each page within ``timeout``."""
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
        """A page of the words of a sparse field's terms, ascending by term; an empty one is the end."""
        return await self._client._run(calls.terms(self._remote, field, after, limit), timeout)

    async def info(self, *, timeout: float | None = None) -> CollectionInfo:
        """Facts about the collection; reads its schema again."""
        return await self._client._run(calls.info(self._remote), timeout)

    async def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        exist_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """More fields; the points there have no value in them. Raises SchemaError when a name is taken."""
        return await self._client._run(calls.add_fields(self._remote, vectors, attributes, exist_ok), timeout)

    async def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Brings the indexes up to date, merges their segments and takes dead rows out; returns what was done."""
        return await self._client._run(calls.optimize(self._remote, wait, timeout), calls.patience(timeout), endless=wait)

    async def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Takes deleted and replaced points out of every file of the service's directory, and proves it by searching all of them."""
        return await self._client._run(calls.purge(self._remote, timeout), calls.patience(timeout), endless=True)

    async def changes(
        self,
        since: int = 0,
        *,
        follow: bool = False,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Change]:
        """What each batch after sequence ``since`` did, in order and without gaps: ``async for change in collection.changes(…)``."""
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
    """``bulk.write_all`` by tasks."""

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
