"""How the asyncio client makes calls. It is ``transport`` for asyncio, and written by hand; ``aio`` with the methods is generated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NoReturn, Self, TypeVar

from . import silence  # noqa: F401  # isort: skip  # before grpc is loaded
import grpc
import grpc.aio

from ..errors import ClosedError, DeadlineError, UnavailableError
from ..model.access import AwaitError
from ..model.checks import check_timeout
from ..model.explorations import Exploration
from . import calls, explore
from .channel import bind, check_fork, failure, open_channel, tls_credentials
from .transport import Endpoint, seconds_left

T = TypeVar("T")
_LARGE = 64  # points, queries or hits from which on a thread encodes and decodes, so that the event loop isn't blocked
_used_in: int | None = None  # the id of the process in which an asyncio client first connected


class AsyncTransport(Endpoint):
    """The awaited calls of a client."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        tls_credentials(*self._tls)  # raises now rather than at the first call
        # Event loop → its channel and the callables of the methods. A channel belongs to the loop in which it was made.
        self._connections: dict[asyncio.AbstractEventLoop, tuple[grpc.aio.Channel, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    async def close(self) -> None:
        """Cancel calls under way and close the connections. A second call does nothing."""
        self._closed = True
        with self._lock:
            connections, self._connections = self._connections, {}
        for loop, (channel, _) in connections.items():
            if loop is asyncio.get_running_loop():
                await channel.close()
            elif not loop.is_closed():
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    asyncio.run_coroutine_threadsafe(channel.close(), loop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        raise AwaitError("a client of asyncio is entered with `async with`; write async with AsyncClient(…) as client", field="client")

    def __exit__(self, *_: object) -> None:  # `with` looks it up before it calls __enter__
        pass

    def _methods(self) -> dict[str, Any]:
        """The methods by name, over the connection of the running event loop. Raises ClosedError."""
        global _used_in
        if self._closed:
            raise ClosedError("the client was closed")
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is not None and _used_in == os.getpid():
            return connection[1]
        if _used_in not in (None, os.getpid()):
            raise ClosedError("gRPC for asyncio doesn't work in a process that was forked after it was used; start processes with 'spawn'")
        check_fork()
        _used_in = os.getpid()
        channel = open_channel(grpc.aio, self.target, self._options, *self._tls)
        methods = bind(channel)
        with self._lock:
            self._connections = {other: known for other, known in self._connections.items() if not other.is_closed()}
            self._connections[loop] = channel, methods
        return methods

    async def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False, large: bool = False) -> T:
        """``Transport._run``, awaited. large: a thread encodes and decodes the messages."""
        methods = self._methods()
        end = self._end(timeout, endless)
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
        attempt = 0
        while True:
            left = None if end is None else seconds_left(end, name)
            try:
                return await methods[name](request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                pause = self._pause(error, name, request, attempt, end)
            attempt += 1
            await asyncio.sleep(pause)

    async def _explore(self, remote: calls.Remote, exploration: Exploration, timeout: float | None) -> Any:
        """``Transport._explore``, awaited."""
        assembly = explore.Assembly(exploration)
        stream = self._stream("Explore", calls.explore(remote, exploration), assembly, timeout, ends_quietly=False)
        async with contextlib.aclosing(stream):
            async for result in stream:
                return result
        raise UnavailableError("the answer of the service is incomplete")

    async def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> AsyncGenerator[Any, None]:
        """Make a streaming call. ends_quietly: the timeout and ``close`` end the stream without an error."""
        call: Any = self._methods()[name](request, timeout=check_timeout(timeout), metadata=self._metadata)
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


def is_large(*values: Any) -> bool:
    """Whether a list, or a number of hits, is so large that encoding or decoding it would block the event loop."""
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


def lists_in(value: Any) -> tuple[Any, ...]:
    """The lists in an argument: the values of a mapping, or the argument itself."""
    return tuple(value.values()) if isinstance(value, Mapping) else (value,)


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _advanced(steps: calls.Steps[T], answer: Any) -> tuple[bool, Any]:
    """Advance a generator: (False, the next call) or (True, the result)."""
    try:
        return False, steps.send(answer)
    except StopIteration as done:
        return True, done.value
