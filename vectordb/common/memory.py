"""Limits of the memory that requests use: of one request, and of all requests of a process together.

Whoever accepts a call gives it an ``Allowance`` with its ``Deadline``. The work calls ``hold(bytes)`` before it allocates something that
lives until the call ends, and uses ``with held(bytes):`` for what is freed sooner. Small amounts are not counted. Without an allowance, as
in an embedded database, nothing is counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vectordb_client.errors import LimitError, RateLimitError

from . import deadline

SMALL = 1 << 20  # bytes; smaller amounts are not counted
_LOOK_SECONDS = 0.05  # between two checks whether the caller of a waiting request still waits


class Pool:
    """The memory that all requests of a process may use together. most: bytes of all requests. each: bytes of one request. patience:
    seconds that a request waits for others to free memory, unless its own deadline comes sooner. names: the settings of the two limits,
    for error messages.
    """

    def __init__(self, most: int, each: int, patience: float, names: tuple[str, str]):
        self.most, self.each, self.names = most, min(each, most), names
        self._patience = patience
        self._taken = self._waiting = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes in use by requests."""
        return self._taken

    @property
    def awaited(self) -> bool:
        """Whether a request waits for others to free memory."""
        return self._waiting > 0

    def allowance(self) -> Allowance:
        """A new allowance for one request. Its ``close()`` returns all it took."""
        return Allowance(self)

    def take(self, nbytes: int) -> None:
        """Take bytes from the pool. Raises RateLimitError if others don't free enough in time, and the errors of ``deadline.check()``."""
        end = time.monotonic() + self._patience
        with self._changed:
            self._waiting += 1  # while this is above 0 no call is paused at a check, because it may hold the memory that is needed
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
            f"running calls use {_mebibytes(self._taken)} of memory, and this one needs {_mebibytes(nbytes)} more; the limit is "
            f"{_mebibytes(self.most)} (the service's setting {self.names[0]}); try again in {self._patience:g} s",
            field=self.names[0],
            value=nbytes,
            retry_after=self._patience,
        )

    def give(self, nbytes: int) -> None:
        with self._changed:
            self._taken -= nbytes
            self._changed.notify_all()


class Allowance:
    """The memory that one request may use. Several threads may share it."""

    __slots__ = ("_held", "_lock", "_pool")

    def __init__(self, pool: Pool):
        self._pool = pool
        self._lock = threading.Lock()
        self._held = 0

    def take(self, nbytes: int, what: str) -> None:
        """Raises LimitError if the request would use more than it may, RateLimitError if other requests use too much."""
        pool = self._pool
        with self._lock:
            needed = self._held + nbytes
            if needed > pool.each:
                raise LimitError(
                    f"the call needs {_mebibytes(needed)} of memory in total, most recently for {what}; the limit of a call is "
                    f"{_mebibytes(pool.each)} (the service's setting {pool.names[1]}); ask for less at a time",
                    field=pool.names[1],
                    value=needed,
                )
            self._held = needed
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
        """Return everything to the pool at the end of the request."""
        with self._lock:
            held, self._held = self._held, 0
        if held:
            self._pool.give(held)


def hold(nbytes: int, what: str) -> None:
    """Count bytes that this thread's work is about to allocate, until its call ends. Raises LimitError or RateLimitError."""
    if nbytes >= SMALL:
        allowance = _allowance()
        if allowance is not None:
            allowance.take(nbytes, what)


@contextmanager
def held(nbytes: int, what: str) -> Iterator[None]:
    """Like ``hold``, but only until the end of the block."""
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
    patience = deadline.current()
    return None if patience is None else patience.allowance


def _mebibytes(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.0f} MiB"
