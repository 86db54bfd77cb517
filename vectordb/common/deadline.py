"""Cooperative cancellation: ``check()`` raises DeadlineError once the caller's deadline has passed or the caller has disconnected.

Whoever accepts a call runs its work inside ``with scope(Deadline(seconds)):``. Reads outside such a block are under the deadline of their
database, which ends when the database is closed. ``check()`` is called between kernel calls, stages, arms, segments, queries and hits. In
a thread without a deadline it never raises; it costs about 50 ns.

A kernel call can't be stopped. So work larger than ``WORK`` is divided into several calls.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from vectordb_client.errors import DeadlineError, VectorDBError

if TYPE_CHECKING:
    from .memory import Allowance

T = TypeVar("T")
WORK = 1 << 30  # multiplications per kernel call, approximately: about a quarter of a second
EVERY = 1_024  # iterations of a Python loop between two checks
_AHEAD = 2 * (os.cpu_count() or 1)  # tasks that are submitted to a pool before the first result is awaited
_GONE = "the deadline passed, or the call was cancelled, before the work was done"


class _Thread(threading.local):
    deadline: Deadline | None = None


_thread = _Thread()


class Deadline:
    """The deadline of a call, and its cancellation. It ends at ``end`` (``time.monotonic()``), when any thread calls ``leave``, or when
    ``within`` ends.

    seconds: time until the end; None means no limit. within: an outer deadline. allowance: memory that the work may use; by default that
    of ``within``.
    """

    __slots__ = ("_error", "_within", "allowance", "end")
    work: ClassVar[int | None] = None  # multiplications per kernel call, if they are to be fewer than ``WORK``

    def __init__(self, seconds: float | None = None, within: Deadline | None = None, allowance: Allowance | None = None):
        self.end = float("inf") if seconds is None else time.monotonic() + seconds
        self.allowance = within.allowance if allowance is None and within is not None else allowance
        self._within = within
        self._error: VectorDBError | None = None

    def leave(self, error: VectorDBError | None = None) -> None:
        """Cancel: the caller no longer waits. error: what ``check`` then raises; by default DeadlineError."""
        if self._error is None:
            self._error = error or DeadlineError(_GONE, field="timeout")

    def check(self) -> None:
        """Raises DeadlineError after the deadline, or the error given to ``leave`` after a cancellation."""
        error = self._error
        if error is not None:  # a new object each time, because several threads may raise it
            raise type(error)(error.message, field=error.field, value=error.value)
        if time.monotonic() >= self.end:
            raise DeadlineError(_GONE, field="timeout")
        if self._within is not None:
            self._within.check()


@contextmanager
def scope(deadline: Deadline | None) -> Iterator[None]:
    """Put this thread's work inside the block under a deadline; None means no deadline."""
    outer, _thread.deadline = current(), deadline
    try:
        yield
    finally:
        _thread.deadline = outer


def current() -> Deadline | None:
    """The deadline of this thread's work, or None."""
    return _thread.deadline


def begin(deadline: Deadline) -> bool:
    """Put this thread's work under a deadline unless it already has one. If this returns True, call ``end()`` afterwards."""
    if _thread.deadline is not None:
        return False
    _thread.deadline = deadline
    return True


def end() -> None:
    """Undo ``begin``: this thread's work has no deadline."""
    _thread.deadline = None


def check() -> None:
    """Raises DeadlineError, or the error of the cancellation, if this thread's work should stop."""
    deadline = _thread.deadline
    if deadline is not None:
        deadline.check()


def work() -> int:
    """Multiplications per kernel call in this thread, approximately."""
    deadline = _thread.deadline
    return WORK if deadline is None or deadline.work is None else min(deadline.work, WORK)


def each(items: Iterable[T], every: int | None = None) -> Iterator[T]:
    """Iterate with a ``check()`` before every ``every``-th item (default ``EVERY``). For loops whose length depends on user input."""
    every = every or EVERY
    for i, item in enumerate(items):
        if not i % every:
            check()
        yield item


def stretches(costs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Divide work into consecutive ranges [low, high) that cost at most ``work()`` each, or have one element. Checks before each.

    costs: int64 ``(n,)``, the multiplications of each element.
    """
    ends = np.cumsum(costs)
    low, done, most = 0, 0, work()
    while low < len(ends):
        check()
        high = max(int(np.searchsorted(ends, done + most, "right")), low + 1)
        yield low, high
        low, done = high, int(ends[high - 1])


def map_with_deadline(pool: Executor, work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """``list(pool.map(work, *arguments))`` under this thread's deadline.

    Only a few tasks are queued at a time, so that other callers of the pool get their turn. If one fails, the others stop at their next
    ``check()``. When this returns or raises, no task is running, so the data that they read may be released.
    """
    deadline = Deadline(within=current())

    def checked(*each: Any) -> T:
        with scope(deadline):
            deadline.check()
            return work(*each)

    done: list[T] = []
    begun: deque[Future] = deque()
    try:
        for given in zip(*arguments, strict=True):
            if len(begun) >= _AHEAD:
                done.append(begun[0].result())
                begun.popleft()
                deadline.check()
            begun.append(pool.submit(checked, *given))
        while begun:
            done.append(begun[0].result())
            begun.popleft()
    except BaseException:
        deadline.leave()
        for future in begun:
            future.cancel()
        wait(begun)
        raise
    return done
