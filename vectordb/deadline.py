"""Work that nobody waits for any more stops at the next ``check()``: between kernel calls, stages, arms, segments and queries.

Who takes a call says ``with under(Patience(seconds)):`` around the work. In a thread without one ``check()`` never raises, and costs
some 50 ns.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import DeadlineError

T = TypeVar("T")
_AHEAD = 2 * (os.cpu_count() or 1)  # pieces of work handed to a pool before the first one's result is awaited
_GONE = "the deadline passed, or the call was cancelled, before the work was done"


class _Thread(threading.local):
    patience: Patience | None = None


_thread = _Thread()


class Patience:
    """How long somebody waits for work: until ``end`` seconds of ``time.monotonic``, or until ``leave`` is called, by any
    thread.
    """

    __slots__ = ("end", "gone")

    def __init__(self, seconds: float | None = None):
        self.end = float("inf") if seconds is None else time.monotonic() + seconds
        self.gone = False

    def leave(self) -> None:
        """Nobody waits any more."""
        self.gone = True

    def check(self) -> None:
        """Raises DeadlineError when nobody waits any more."""
        if self.gone or time.monotonic() >= self.end:
            raise DeadlineError(_GONE, field="timeout")


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


def check() -> None:
    """Raises DeadlineError when nobody waits for this thread's work any more."""
    patience = _thread.patience
    if patience is not None:
        patience.check()


def spread(pool: Executor, work: Callable[..., T], *arguments: Iterable[Any]) -> Iterator[T]:
    """``pool.map(work, *arguments)`` under this thread's patience: what hasn't begun when it ends doesn't begin. Only a few wait for the
    pool's threads at a time, so that others get in between.
    """
    patience = pending()
    return pool.map(work, *arguments) if patience is None else _spread(pool, work, zip(*arguments, strict=False), patience)


def _spread(pool: Executor, work: Callable[..., T], given: Iterable[tuple], patience: Patience) -> Iterator[T]:
    def checked(*each: Any) -> T:
        with under(patience):
            patience.check()
            return work(*each)

    under_way: deque[Future] = deque()
    try:
        for each in given:
            if len(under_way) >= _AHEAD:
                yield under_way.popleft().result()
                patience.check()
            under_way.append(pool.submit(checked, *each))
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
