"""How the blocking client makes calls: connection, timeouts, retries, streams. ``Client`` adds the methods."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Self, TypeVar

from . import silence  # noqa: F401  # isort: skip  # before grpc is loaded
import grpc

from ..errors import ClosedError, DeadlineError, UnavailableError
from ..model.checks import check_timeout
from ..model.explorations import Exploration
from . import calls, explore
from .channel import bind, call_metadata, channel_options, check_fork, check_target, failure, metadata_of, open_channel
from .retry import check_retries, pause_before_retry

T = TypeVar("T")


class Endpoint:
    """A service, and how a client calls it. Both clients inherit from it. Raises InvalidArgumentError."""

    def __init__(self, target: Any, timeout: Any, retries: Any, options: Any, api_key: Any, tls: Any, tls_cert: Any, tls_key: Any):
        self.target = check_target(target)
        self._timeout = check_timeout(timeout)
        self._retries = check_retries(retries)
        self._metadata = call_metadata(api_key)
        self._closed = False
        self._service = calls.Service()
        self._options = channel_options(options)
        self._tls = tls, tls_cert, tls_key

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r}{', closed' if self._closed else ''})"

    def _end(self, timeout: float | None, endless: bool) -> float | None:
        """When a call must have ended, by ``time.monotonic``. timeout: None is the timeout of the client, or with ``endless`` no limit."""
        seconds = self._timeout if timeout is None and not endless else check_timeout(timeout)
        return None if seconds is None else time.monotonic() + seconds

    def _pause(self, error: grpc.RpcError, name: str, request: Any, attempt: int, end: float | None) -> float:
        """Seconds to wait before a failed call is repeated. Raises the call's error if it must not be repeated."""
        if attempt < self._retries and not self._closed:
            left = None if end is None else end - time.monotonic()
            pause = pause_before_retry(error.code().name, metadata_of(error), name, request, attempt, left)
            if pause is not None:
                return pause
        raise failure(error, self.target, self._closed) from None


class Transport(Endpoint):
    """The blocking calls of a client."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._left_behind: list[grpc.Channel] = []
        self._connect()

    def close(self) -> None:
        """Cancel calls under way and close the connection. A second call does nothing."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._channel = open_channel(grpc, self.target, self._options, *self._tls)
        self._methods = bind(self._channel)

    def _check_open(self) -> None:
        """Raises ClosedError after ``close``. In a forked process it connects again."""
        if self._closed:
            raise ClosedError("the client was closed")
        if self._pid != os.getpid():
            check_fork()
            self._left_behind.append(self._channel)  # it belongs to the parent process and must not be closed here
            self._connect()

    def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False) -> T:
        """Make the calls of a method, as ``calls`` yields them. timeout, endless: as in ``_end``."""
        if self._closed or self._pid != os.getpid():
            self._check_open()
        end = self._end(timeout, endless)
        try:
            name, request = next(steps)
            while True:
                name, request = steps.send(self._call(name, request, end))
        except StopIteration as done:
            return done.value
        except ValueError:
            if self._closed:  # between the check above and the call
                raise ClosedError("the client was closed") from None
            raise

    def _call(self, name: str, request: Any, end: float | None) -> Any:
        """Make one call, and repeat it as ``retry`` allows."""
        attempt = 0
        while True:
            left = None if end is None else seconds_left(end, name)
            try:
                return self._methods[name](request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                pause = self._pause(error, name, request, attempt, end)
            attempt += 1
            time.sleep(pause)

    def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> Iterator[Any]:
        """Make a streaming call. ends_quietly: the timeout and ``close`` end the stream without an error."""
        self._check_open()
        timeout = check_timeout(timeout)  # raises a ValueError of its own
        try:
            call = self._methods[name](request, timeout=timeout, metadata=self._metadata)
        except ValueError:
            raise ClosedError("the client was closed") from None
        return self._assembled(call, assembly, ends_quietly)

    def _explore(self, remote: calls.Remote, exploration: Exploration, timeout: float | None) -> Any:
        """Run an operation on a field. timeout: None has no limit."""
        assembly = explore.Assembly(exploration)
        for result in self._stream("Explore", calls.explore(remote, exploration), assembly, timeout, ends_quietly=False):
            return result
        raise UnavailableError("the answer of the service is incomplete")

    def _assembled(self, call: Any, assembly: Any, ends_quietly: bool) -> Iterator[Any]:
        try:
            for message in call:
                whole = assembly.add(message)
                if whole is not None:
                    yield whole
        except grpc.RpcError as error:
            raised = failure(error, self.target, self._closed)
            if not (ends_quietly and isinstance(raised, (DeadlineError, ClosedError))):
                raise raised from None
        finally:
            call.cancel()


def seconds_left(end: float, name: str) -> float:
    """Seconds until ``end``. Raises DeadlineError if it has passed before the call of this name."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineError(f"the timeout passed before {name} was called", field="timeout")
    return left
