"""Counts the open transactions of a process, because the memory map may only move while there are none.

Most transactions are counted under a lock. A thread that begins and ends one within a single function can enter without it, as a
``Visitor``: it notes where it is first, and then looks whether the gate is shut. Whoever wants to be alone shuts the gate first, and then
looks for visitors. So one of the two sees the other.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import locks

# Constants: seconds.
_LOOK_SECONDS = 0.001  # between two looks for visitors: a visit takes some ten microseconds
_SETTLE_SECONDS = 0.005  # without the GIL: in this time a processor writes what a thread has stored to where others see it

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
_visitors: weakref.WeakSet[Visitor] = weakref.WeakSet()
_visitors_lock = threading.Lock()


class Visitor:
    """A thread that enters gates without their lock. inside: the gate that it has entered, or None.

    Enter by setting ``inside``, then go on only if the gate isn't ``shut``; always set ``inside`` to None afterwards. No call may stand
    between the ``try`` and the first of these: an interrupt can only come in at calls, so none is lost.
    """

    __slots__ = ("__weakref__", "inside")

    def __init__(self) -> None:
        self.inside: Gate | None = None
        with _visitors_lock:
            _visitors.add(self)


class Gate:
    """Counts open transactions, and makes new ones wait while the map moves.

    check: raises the error that says why the environment can't be used; called if it was ended. reading: the lock of a process that can't
    enter LMDB's table of readers; held while any transaction is open. None for all others.

    Attributes:
        moves: how often the map has moved. Addresses from before a move are invalid.
        moving: somebody waits for all transactions to end, or moves the map.
        closed: no transaction may begin any more. void: why nothing can be read any more, or None.
        shut: visitors may not enter.
    """

    def __init__(self, check: Callable[[], None], reading: locks.WhileReading | None):
        self.moves = 0
        self.moving = self.closed = False
        self.void: str | None = None
        self.shut = reading is not None
        self._check = check
        self._reading = reading
        self._pid = os.getpid()
        self._condition = threading.Condition()
        self._inside = 0
        _gates.add(self)

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

        Returns False, with transactions allowed again, if one did not end within ``seconds``, or if the map has moved since ``moves`` was
        ``unless``.
        """
        with self._condition:
            while self.moving:
                self._condition.wait()
            if unless is not None and self.moves != unless:
                return False
            self.moving = True
            self._mark()
            try:
                if self._emptied(seconds):
                    return True
            except BaseException:
                self._open_again()
                raise
            self._open_again()
            return False

    def _emptied(self, seconds: float | None) -> bool:
        """Wait until nobody is inside; False if that takes longer. The gate must be shut, and the condition held."""
        end = None if seconds is None else time.monotonic() + seconds
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            time.sleep(_SETTLE_SECONDS)
        while True:
            if self._inside:
                left = None if end is None else end - time.monotonic()
                if not self._condition.wait_for(lambda: not self._inside, left):
                    return False
            if not self._visited():
                return True
            if end is not None and time.monotonic() >= end:
                return False
            self._condition.wait(_LOOK_SECONDS)

    def _visited(self) -> bool:
        with _visitors_lock:
            return any(visitor.inside is self for visitor in _visitors)

    def go_on(self) -> None:
        """Undo ``hold_still``: count a move of the map, and let transactions begin again."""
        with self._condition:
            self.moves += 1
            self._open_again()

    def _open_again(self) -> None:
        self.moving = False
        self._mark()
        self._condition.notify_all()

    def close(self) -> bool:
        """Refuse new transactions for good, and wait for the open ones to end. False if it was closed before."""
        with self._condition:
            before, self.closed = self.closed, True
            self._mark()
            while True:
                self._emptied(None)
                if not self.moving:
                    return not before
                self._condition.wait()

    def end(self, why: str | None = None, closed: bool = False) -> None:
        """Refuse new transactions for good, without waiting. why: the reason; None where it is just closed."""
        if why is not None:
            self.void = why
        self.closed = self.closed or closed
        self._mark()

    def _mark(self) -> None:
        self.shut = self.moving or self.closed or self.void is not None or self._reading is not None or self._pid != os.getpid()


def _forked() -> None:
    """In a forked child: nothing that its parent has opened can be used, and a lock may be held by a thread that doesn't exist here."""
    global _visitors_lock
    _visitors_lock = threading.Lock()
    for gate in _gates:
        gate.shut = True


os.register_at_fork(after_in_child=_forked)
