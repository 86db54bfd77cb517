"""Counts the open transactions of a process, because the memory map may only move while there are none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import locks


class Gate:
    """Counts open transactions, and makes new ones wait while the map moves.

    check: raises the error that says why the environment can't be used; called if ``closed`` or ``void`` is set.
    reading: the lock of a process that can't enter LMDB's table of readers; held while any transaction is open. None for all others.
    """

    def __init__(self, check: Callable[[], None], reading: locks.WhileReading | None):
        self.moves = 0  # how often the map has moved: addresses from before a move are invalid
        self.moving = False
        self.closed = False
        self.void: str | None = None  # why nothing can be read any more
        self._check = check
        self._reading = reading
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._inside = 0

    def enter(self, nested: bool = False) -> int:
        """Begin a transaction: the map does not move until ``leave``. Returns ``moves``.

        nested: the caller already has a transaction open. The map can't move before that one ends, so a pending move is not waited for.
        """
        if self._pid != os.getpid():
            self._check()
        with self._condition:
            while self.moving and not (nested and self._inside):  # nested ones pass: the map moves only after they have ended
                self._condition.wait()
            if self.closed or self.void is not None:
                self._check()
            if self._reading is not None and not self._inside:
                self._wait_for_writer(self._reading)
            self._inside += 1
            return self.moves

    def _wait_for_writer(self, reading: locks.WhileReading) -> None:
        """Take the reading lock for the first transaction. The condition is released between attempts, so the map may move."""
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
        """Count the block as a transaction: the map does not move in it."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def hold_still(self, seconds: float | None = None, unless: int | None = None) -> bool:
        """Block new transactions and wait for the open ones to end. The map may then move until ``go_on``.

        Returns False, blocking nothing, if one did not end within ``seconds``, or if the map has moved since ``moves`` was ``unless``.
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
        """Undo ``hold_still``: count a move of the map, and let transactions begin again."""
        with self._condition:
            self.moves += 1
            self.moving = False
            self._condition.notify_all()

    def close(self) -> bool:
        """Refuse new transactions for good, and wait for the open ones to end. False if it was closed before."""
        with self._condition:
            before, self.closed = self.closed, True
            while self._inside or self.moving:
                self._condition.wait()
            return not before
