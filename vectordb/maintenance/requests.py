"""Calls of ``optimize``, ``fit``, ``migrate`` and ``purge`` that wait for the maintenance thread."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from vectordb_client.errors import DeadlineError, LockedError, VectorDBError

from ..common import deadline
from ..storage.lmdb_env import Env

PATIENCE_SECONDS = 10.0  # for other processes to release data.mdb before it is replaced
WAIT_SECONDS = 0.1  # between two checks whether the caller still waits


class Request:
    """A call of ``optimize``, ``fit`` or ``migrate`` for a collection, or of ``purge`` for some collections (number: None).

    fit: the derived field to fit; None for the others. migrate: the field whose migration goes on for a while, likewise. patience: seconds
    that a purge waits for other processes to release data.mdb.
    """

    def __init__(
        self, number: int | None, purged: Sequence[int] = (), patience: float = 0.0, fit: str | None = None, migrate: str | None = None
    ):
        self.name = "purge" if number is None else "fit" if fit is not None else "optimize" if migrate is None else "migrate"
        self.fit, self.migrate = fit, migrate
        self.number = number
        self.purged = purged
        self.patience = patience
        self.begun = time.monotonic()
        self.started = False  # the lock was taken and the work has begun
        self.done = threading.Event()
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        """Answer the caller: ``result``, or the error to raise."""
        self.error = error
        self.done.set()


class Requests:
    """The queue of requests of one directory. condition: held while the queue changes; the maintenance thread waits for it.

    holding: whether this process holds the maintenance lock. locked_out: whether another process held it when this one last tried. The
    maintenance thread sets both.
    """

    def __init__(self, env: Env, condition: threading.Condition):
        self.holding = False
        self.locked_out = False
        self._env = env
        self._condition = condition
        self._queue: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, request: Request) -> None:
        """Queue a request, and wake the maintenance thread. The caller holds the condition."""
        self._queue.append(request)
        self._condition.notify_all()

    def first(self) -> Request | None:
        """The next request, which stays in the queue."""
        with self._condition:
            return self._queue[0] if self._queue else None

    def take(self) -> Request | None:
        """The next request, which has now started."""
        with self._condition:
            if not self._queue:
                return None
            request = self._queue.popleft()
            request.started = True
            return request

    def refuse(self, error: BaseException) -> None:
        """Finish all waiting requests with an error."""
        while self._queue:
            self._queue.popleft().finish(error)

    def answer(self, request: Request, timeout: float | None) -> dict[str, Any]:
        """Wait for a request; returns its result or raises its error. timeout: seconds; None has no limit.

        Raises LockedError or DeadlineError after the timeout, and what ``deadline.check`` raises. A request that has not started by then is
        withdrawn; one that has started continues.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not request.done.wait(min(max(end - time.monotonic(), 0.0), WAIT_SECONDS)):
            if timeout is not None and time.monotonic() >= end:
                self._give_up(request, timeout)
            try:
                deadline.check()
            except VectorDBError:
                self._withdraw(request)
                raise
        if request.error is not None:
            raise request.error
        return {"done": True, **request.result}

    def _withdraw(self, request: Request) -> bool:
        """Cancel a request whose caller no longer waits, unless it has started. Returns whether it was cancelled."""
        with self._condition:
            if request.done.is_set() or request.started:
                return False
            self._queue.remove(request)
            return True

    def _give_up(self, request: Request, timeout: float) -> None:
        """Raise the error of a timeout, unless the request has been finished in the meantime."""
        late = {"field": "timeout", "value": timeout}
        if not self._withdraw(request):
            if request.done.is_set():
                return
            raise DeadlineError(f"{request.name} isn't done after {timeout:g} s; it continues in the background", **late)
        if self.holding:
            raise DeadlineError(f"{request.name} has not started after {timeout:g} s, because other maintenance is running", **late)
        if not self.locked_out:
            raise DeadlineError(f"{request.name} has not started after {timeout:g} s, so it was withdrawn; allow more time", **late)
        where = self._env.path
        raise LockedError(f"another process has been maintaining {where} for {timeout:g} s", field="path", value=str(where))
