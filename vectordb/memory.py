"""How much memory work may hold: of one request, and of all requests of a process together.

Who takes a call gives it an ``Allowance`` with its ``Patience``. Work says ``hold(bytes)`` before it makes something that lives until the
call ends, and ``with held(bytes):`` around what is let go sooner; what is small isn't counted. Where there is no allowance, as in an
embedded database, nothing is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import deadline
from .errors import LimitError, RateLimitError

SMALL = 1 << 20  # bytes; below this nothing is counted
_LOOK_SECONDS = 0.05  # between two looks whether anybody still waits for who waits for memory


class Pool:
    """The bytes that the requests of a process may hold together. most: how many. patience: seconds that a request waits for others to let
    some go, unless its own deadline comes sooner. names: the settings that hold the limits of all requests, and of one.
    """

    def __init__(self, most: int, each: int, patience: float, names: tuple[str, str]):
        self.most, self.each, self.names = most, min(each, most), names
        self._patience = patience
        self._taken = self._waiting = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes that requests hold now."""
        return self._taken

    @property
    def awaited(self) -> bool:
        """Whether some request waits for others to let memory go."""
        return self._waiting > 0

    def allowance(self) -> Allowance:
        """For one request; ``close()`` gives back what it holds."""
        return Allowance(self)

    def take(self, nbytes: int) -> None:
        """Raises RateLimitError when others don't let enough go in time, and what ``deadline.check()`` raises."""
        end = time.monotonic() + self._patience
        with self._changed:
            self._waiting += 1  # so long no call rests that may hold what is waited for, nor this one, at the check
            try:
                while self._taken + nbytes > self.most:
                    deadline.check()
                    left = end - time.monotonic()
                    if left <= 0:
                        raise self._refusal(nbytes)
                    self._changed.wait(min(left, _LOOK_SECONDS))
            finally:
                self._waiting -= 1
            self._taken += nbytes

    def _refusal(self, nbytes: int) -> RateLimitError:
        return RateLimitError(
            f"the calls at work hold {_mebibytes(self._taken)}, and this one needs {_mebibytes(nbytes)} more: at most "
            f"{_mebibytes(self.most)} are held (the service's setting {self.names[0]}); try again in {self._patience:g} s",
            field=self.names[0],
            value=nbytes,
            retry_after=self._patience,
        )

    def give(self, nbytes: int) -> None:
        with self._changed:
            self._taken -= nbytes
            self._changed.notify_all()


class Allowance:
    """The bytes that one request may hold. Threads may share it."""

    __slots__ = ("_held", "_lock", "_pool")

    def __init__(self, pool: Pool):
        self._pool = pool
        self._lock = threading.Lock()
        self._held = 0

    def take(self, nbytes: int, what: str) -> None:
        """Raises LimitError when it is more than a request may hold, RateLimitError when others hold too much."""
        pool = self._pool
        with self._lock:
            wanted = self._held + nbytes
            if wanted > pool.each:
                raise LimitError(
                    f"the call needs {_mebibytes(wanted)} of memory, for {what} and what came before; at most {_mebibytes(pool.each)} are "
                    f"given to one (the service's setting {pool.names[1]}); ask for less at a time",
                    field=pool.names[1],
                    value=wanted,
                )
            self._held = wanted
        try:
            pool.take(nbytes)
        except BaseException:
            with self._lock:
                self._held -= nbytes
            raise

    def give(self, nbytes: int) -> None:
        with self._lock:
            self._held -= nbytes
        self._pool.give(nbytes)

    def close(self) -> None:
        """The request is over."""
        with self._lock:
            held, self._held = self._held, 0
        if held:
            self._pool.give(held)


def hold(nbytes: int, what: str) -> None:
    """This thread's work is about to hold so many bytes more, until its call ends. Raises LimitError and RateLimitError."""
    if nbytes >= SMALL:
        allowance = _allowance()
        if allowance is not None:
            allowance.take(nbytes, what)


@contextmanager
def held(nbytes: int, what: str) -> Iterator[None]:
    """``hold``, until the end of the block."""
    allowance = _allowance() if nbytes >= SMALL else None
    if allowance is None:
        yield
        return
    allowance.take(nbytes, what)
    try:
        yield
    finally:
        allowance.give(nbytes)


def _allowance() -> Allowance | None:
    patience = deadline.pending()
    return None if patience is None else patience.allowance


def _mebibytes(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.0f} MiB"
