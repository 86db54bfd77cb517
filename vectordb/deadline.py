"""Work that nobody waits for any more stops at the next ``check()``: between kernel calls, stages, arms, segments, queries and hits.

Who takes a call says ``with under(Patience(seconds)):`` around the work; what reads a database without one is under the patience of that
database, which ends when it is closed. In a thread without any ``check()`` never raises, and costs some 50 ns.

What a kernel call costs is bounded by ``WORK``: nobody can stop one, so larger work is done in several calls.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .errors import DeadlineError, VectorDBError

if TYPE_CHECKING:
    from .memory import Allowance

T = TypeVar("T")
WORK = 1 << 30  # multiplications, about, in one kernel call: a quarter of a second
EVERY = 1_024  # rounds of a loop in Python between two looks
_AHEAD = 2 * (os.cpu_count() or 1)  # pieces of work handed to a pool before the first one's result is awaited
_GONE = "the deadline passed, or the call was cancelled, before the work was done"


class _Thread(threading.local):
    patience: Patience | None = None


_thread = _Thread()


class Patience:
    """How long somebody waits for work: until ``end`` seconds of ``time.monotonic``, until ``leave`` is called, by any thread, and no
    longer than ``within`` lasts.

    allowance: how much memory the work may hold; that of ``within`` unless given.
    """

    __slots__ = ("_error", "_within", "allowance", "end")

    def __init__(self, seconds: float | None = None, within: Patience | None = None, allowance: Allowance | None = None):
        self.end = float("inf") if seconds is None else time.monotonic() + seconds
        self.allowance = within.allowance if allowance is None and within is not None else allowance
        self._within = within
        self._error: VectorDBError | None = None

    def leave(self, error: VectorDBError | None = None) -> None:
        """Nobody waits any more. error: what the work is to end with, instead of DeadlineError."""
        if self._error is None:
            self._error = error or DeadlineError(_GONE, field="timeout")

    def check(self) -> None:
        """Raises DeadlineError, or what ``leave`` was told, when nobody waits any more."""
        error = self._error
        if error is not None:  # another object each time: several threads may raise it
            raise type(error)(error.message, field=error.field, value=error.value)
        if time.monotonic() >= self.end:
            raise DeadlineError(_GONE, field="timeout")
        if self._within is not None:
            self._within.check()


@contextmanager
def under(patience: Patience | None) -> Iterator[None]:
    """What is done here in this thread is done for somebody with this patience; None waits for ever."""
    outer, _thread.patience = pending(), patience
    try:
        yield
    finally:
        _thread.patience = outer


def pending() -> Patience | None:
    """The patience that this thread's work is done under, if any."""
    return _thread.patience


def begin(patience: Patience) -> bool:
    """Put this thread's work under a patience unless it is under one; returns whether it was done, and ``end()`` is to undo it."""
    if _thread.patience is not None:
        return False
    _thread.patience = patience
    return True


def end() -> None:
    """This thread's work is under no patience any more."""
    _thread.patience = None


def check() -> None:
    """Raises DeadlineError, or what else work is to end with, when nobody waits for this thread's work any more."""
    patience = _thread.patience
    if patience is not None:
        patience.check()


def each(items: Iterable[T], every: int | None = None) -> Iterator[T]:
    """The items, with a ``check()`` before one in ``every`` (``EVERY``): for loops whose length users choose."""
    every = every or EVERY
    for i, item in enumerate(items):
        if not i % every:
            check()
        yield item


def stretches(costs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Consecutive ranges [low, high) of work whose costs (int64 ``(n,)``, of each piece) add up to ``WORK`` at most, or of one piece; with
    a ``check()`` before each.
    """
    ends = np.cumsum(costs)
    low, done = 0, 0
    while low < len(ends):
        check()
        high = max(int(np.searchsorted(ends, done + WORK, "right")), low + 1)
        yield low, high
        low, done = high, int(ends[high - 1])


def spread(pool: Executor, work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """``list(pool.map(work, *arguments))`` under this thread's patience. Only a few pieces wait for the pool's threads at a time, so that
    others get in between. When one fails the others stop at their next ``check()``; none is at work any more when this returns or raises:
    what they read may then go.
    """
    patience = Patience(within=pending())

    def checked(*each: Any) -> T:
        with under(patience):
            patience.check()
            return work(*each)

    done: list[T] = []
    begun: deque[Future] = deque()
    try:
        for given in zip(*arguments, strict=True):
            if len(begun) >= _AHEAD:
                done.append(begun[0].result())
                begun.popleft()
                patience.check()
            begun.append(pool.submit(checked, *given))
        while begun:
            done.append(begun[0].result())
            begun.popleft()
    except BaseException:
        patience.leave()
        for future in begun:
            future.cancel()
        wait(begun)
        raise
    return done
