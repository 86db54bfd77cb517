"""The transactions of one process, and the memory map under them, which may only move while none is open."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import locks


class Gate:
    """Counts the transactions that are open, and keeps new ones waiting while the map moves.

    check: raises what is wrong with the environment; asked when ``closed`` or ``void`` say that something is. reading: of a process that
    has no slot in LMDB's table of readers: other processes' writers wait as long as a transaction is open.
    """

    def __init__(self, check: Callable[[], None], reading: locks.WhileReading | None):
        self.moves = 0  # of the map: addresses taken before one are void
        self.moving = False
        self.closed = False
        self.void: str | None = None  # why nothing may be read any more
        self._check = check
        self._reading = reading
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._inside = 0

    def enter(self, nested: bool = False) -> int:
        """Begin a transaction: from here on the map stays where it is, until ``leave``. Returns ``moves``.

        nested: whoever waits for this has another one open, so that a map which waits to move mustn't be waited for.
        """
        if self._pid != os.getpid():
            self._check()
        with self._condition:
            while self.moving and not (nested and self._inside):  # it doesn't move before they have ended
                self._condition.wait()
            if self.closed or self.void is not None:
                self._check()
            if self._reading is not None and not self._inside:
                self._wait_for_writer(self._reading)
            self._inside += 1
            return self.moves

    def _wait_for_writer(self, reading: locks.WhileReading) -> None:
        """For the first transaction. The gate is open meanwhile: the map may move."""
        deadline = time.monotonic() + locks.READ_SECONDS
        while self.moving or not (self._inside or reading.attempt()):
            reading.check_patience(deadline)
            self._condition.wait(locks.PAUSE_SECONDS)
            self._check()

    def leave(self) -> None:
        """End a transaction."""
        with self._condition:
            self._inside -= 1
            if self._inside:
                return
            if self._reading is not None:
                self._reading.release()
            if self.moving or self.closed:
                self._condition.notify_all()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within a transaction, or as good as."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def hold_still(self, seconds: float | None = None, unless: int | None = None) -> bool:
        """Let no transaction begin, and wait for those there are to end: then the map may move, until ``go_on``.

        False: one didn't end within ``seconds``, or the map has moved since ``moves`` was ``unless``.
        """
        with self._condition:
            while self.moving:
                self._condition.wait()
            if unless is not None and self.moves != unless:
                return False
            self.moving = True
            if self._condition.wait_for(lambda: not self._inside, seconds):
                return True
            self.moving = False
            self._condition.notify_all()
            return False

    def go_on(self) -> None:
        """The map may have moved, and transactions may begin again."""
        with self._condition:
            self.moves += 1
            self.moving = False
            self._condition.notify_all()

    def close(self) -> bool:
        """Let no transaction begin any more, and wait for those there are to end. False: it was closed before."""
        with self._condition:
            before, self.closed = self.closed, True
            while self._inside or self.moving:
                self._condition.wait()
            return not before
