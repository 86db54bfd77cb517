"""The asyncio client: the methods of ``Client``, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from . import silence  # noqa: F401  # isort: skip  # before grpc is loaded
import grpc
import grpc.aio

from ..errors import ClosedError, DeadlineError
from ..model.access import AsyncCollections, AwaitError, awaited
from ..model.arguments import named
from ..model.checks import check_timeout
from ..model.schema import Schema
from . import calls
from .aio_collection import AsyncCollection
from .channel import (
    METHODS,
    STREAMS,
    call_metadata,
    channel_options,
    check_fork,
    check_target,
    failure,
    metadata_of,
    open_channel,
    tls_credentials,
)
from .retry import check_retries, pause_before_retry

__all__ = ["AsyncClient", "AsyncCollection"]

T = TypeVar("T")
_used_in: int | None = None  # the id of the process in which an asyncio client first connected


class AsyncClient(AsyncCollections):
    """``Client`` for asyncio. Arguments, results and errors are those of ``Client``.

    One client may be used in several event loops; it makes a connection in each. Large batches are encoded and large answers decoded in a
    thread, so that they don't block the event loop. Cancelling a task cancels its call; a write may have been executed. After a fork
    only ``Client`` works. ``async for name in client`` reads the names of the collections.

    Example:
        ```python
        async with AsyncClient("localhost:7070") as client:
            docs = await client.collection("docs")
            hits = await docs.search({"v": query}, limit=5)
        ```
    """

    @named
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
        tls_credentials(*self._tls)  # raises now rather than at the first call
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._lock = threading.Lock()

    @awaited
    @named
    async def create_collection(
        self, name: str, schema: Schema, *, exist_ok: bool = False, timeout: float | None = None
    ) -> AsyncCollection:
        """Create a collection, see ``Client.create_collection``."""
        return AsyncCollection(self, await self._run(calls.create_collection(self._service, name, schema, exist_ok), timeout))

    @awaited
    @named
    async def collection(self, name: str, *, timeout: float | None = None) -> AsyncCollection:
        """Open a collection that exists, and read its schema. Raises NotFoundError."""
        return AsyncCollection(self, await self._run(calls.collection(self._service, name), timeout))

    async def collections(self, *, timeout: float | None = None) -> list[str]:
        """The names of all collections, sorted."""
        return await self._run(calls.collections(), timeout)

    @named
    async def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a collection with all its points. Raises NotFoundError."""
        return await self._run(calls.drop_collection(name), timeout)

    async def server_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The ``version`` of the service, and its limits ``max_message_bytes`` and ``max_batch``."""
        return await self._run(calls.server_info(), timeout)

    async def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Counters and states of all processes of the service since it started, as plain data."""
        return await self._run(calls.status(), timeout)

    @named
    async def snapshot(self, path: str, *, archive: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Copy the database into the ``snapshot_dir`` of the service, see ``Client.snapshot``."""
        return await self._run(calls.snapshot(path, archive), timeout, endless=True)

    async def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``AsyncCollection.purge`` for all collections, those that were dropped included."""
        return await self._run(calls.purge(None, timeout), calls.patience(timeout), endless=True)

    async def close(self) -> None:
        """Cancel calls under way and close the connections. A second call does nothing."""
        self._closed = True
        with self._lock:
            connections, self._connections = self._connections, {}
        for loop, connection in connections.items():
            if loop is asyncio.get_running_loop():
                await connection.channel.close()
            elif not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    asyncio.run_coroutine_threadsafe(connection.channel.close(), loop)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        raise AwaitError("a client of asyncio is entered with `async with`; write async with AsyncClient(…) as client", field="client")

    def __exit__(self, *_: object) -> None:  # `with` looks it up before it calls __enter__
        pass

    def __repr__(self) -> str:
        return f"AsyncClient({self.target!r}{', closed' if self._closed else ''})"

    def _connection(self) -> _Connection:
        """The connection of the running event loop. A channel belongs to the loop in which it was made."""
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
            raise ClosedError("gRPC for asyncio doesn't work in a process that was forked after it was used; start processes with 'spawn'")
        check_fork()
        _used_in = os.getpid()
        return _Connection(open_channel(grpc.aio, self.target, self._options, *self._tls))

    async def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False, large: bool = False) -> T:
        """Drive the steps of a method, with the arguments of ``Client._run``. large: a thread encodes and decodes the messages."""
        if self._closed:
            raise ClosedError("the client was closed")
        methods = self._connection().methods
        left = self._timeout if timeout is None and not endless else check_timeout(timeout)
        end = None if left is None else time.monotonic() + left
        answer: Any = None  # a generator must be sent None first
        try:
            while True:
                ended, value = await asyncio.to_thread(_advanced, steps, answer) if large else _advanced(steps, answer)
                if ended:
                    return value
                answer = await self._call(methods, *value, end)
        except (grpc.aio.UsageError, asyncio.CancelledError):
            if self._closed and not _is_cancelled():  # the client was closed, and the task itself was not cancelled
                raise ClosedError("the client was closed") from None
            raise

    async def _call(self, methods: Mapping[str, Any], name: str, request: Any, end: float | None) -> Any:
        """Make one call, and repeat it as ``retry`` allows."""
        attempt, left = 0, None
        while True:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"the timeout passed before {name} was called", field="timeout")
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

    async def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> AsyncGenerator[Any, None]:
        """Make a streaming call. ends_quietly: the timeout and ``close`` end the stream without an error."""
        if self._closed:
            raise ClosedError("the client was closed")
        call: Any = self._connection().methods[name](request, timeout=check_timeout(timeout), metadata=self._metadata)
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
            if not self._closed or _is_cancelled():
                raise
            if not ends_quietly:  # the client was closed, and the task itself was not cancelled
                raise ClosedError("the client was closed") from None
        finally:
            call.cancel()


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Connection:
    """A channel of one event loop, with a callable for each method."""

    def __init__(self, channel: grpc.aio.Channel):
        self.channel = channel
        self.methods: dict[str, Any] = {
            name: (channel.unary_stream if name in STREAMS else channel.unary_unary)(path, write, read)
            for name, (path, write, read) in METHODS.items()
        }


def _advanced(steps: calls.Steps[T], answer: Any) -> tuple[bool, Any]:
    """Advance a generator: (False, the next call) or (True, the result)."""
    try:
        return False, steps.send(answer)
    except StopIteration as done:
        return True, done.value
