"""Fair scheduling of calls: the waiting caller that has used the least thread time recently goes first.

A caller is an API key or, without keys, a peer. Its usage is the total running time of its calls (start-time fair queueing). Three rules
apply to each pool of each process separately:

- A caller has at most ``threads`` running calls. One more thread is reserved for callers without a running call, so that no caller can
  hold all threads.
- A long read is paused ("rests") at its next ``deadline.check()`` while other callers are present: as long as a caller with less usage
  can't start, and while its own caller has more running calls than its share of the cores. A caller that is alone never rests.
- When the queue is full, a caller with fewer places than another takes the place of that caller's newest call.

Messages take memory, so only a few calls have their message read before their turn (``READ_AHEAD``).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..common import deadline
from ..common.memory import Allowance
from .telemetry.telemetry import Telemetry

SLICE = 0.01  # seconds that a call runs between two checks whether it should rest
LINGER = 0.05  # seconds after its last call for which a caller still counts as present
CREDIT = 0.1  # seconds of usage by which a returning caller is ahead of the others
MOST_AHEAD = 10.0  # maximum lead in seconds of a caller with little usage: bounds "recently"
LONGEST_REST = 1.0  # seconds after which a resting call resumes in any case: others may wait for what it holds
READ_AHEAD = 16  # calls of a pool whose messages are read before they have a thread; callers without such a call get as many more
_REMEMBERED = 1_024  # absent callers whose usage is remembered
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

QUEUED, READING, WAITING, WORKING, RESTING, ENDED = "queued", "reading", "waiting", "working", "resting", "ended"


class Caller:
    """The state of a caller in one pool."""

    __slots__ = ("ahead", "begun", "last", "name", "queued", "resting", "since", "unbegun", "used", "waiting", "working")

    def __init__(self, name: str):
        self.name = name
        self.used = -math.inf  # running time of finished calls, in seconds
        self.since = 0.0  # sum of the start times of its running calls
        self.begun = self.working = 0  # calls that have a thread; of these, running
        self.unbegun: dict[Place, None] = {}  # calls with a place but no thread; of these queued: the message is not read yet,
        self.queued: deque[Place] = deque()
        self.ahead = 0  # and ahead: the message is being read or has been read; of these ready to run:
        self.waiting: deque[Place] = deque()
        self.resting: deque[Place] = deque()
        self.last = -math.inf  # when its last call ended

    @property
    def inside(self) -> int:
        return self.begun + len(self.unbegun)

    def spent(self, now: float) -> float:
        return self.used + self.working * now - self.since

    def is_present(self, now: float) -> bool:
        """Whether it has calls that run or could run, or had some recently."""
        return bool(self.begun or self.waiting) or now - self.last < LINGER

    def runnable(self) -> int:
        """Calls that would run if all could; at least 1, as a call may come at any moment."""
        return max(1, self.begun + len(self.waiting))


class Place:
    """A call's place in a pool. read: starts reading its message; run: does its work, in a thread of the pool; refuse: another call took
    the place. Each is called at most once.
    """

    __slots__ = ("arrived", "caller", "pool", "read", "refuse", "run", "since", "state", "thread", "wake")

    def __init__(self, pool: RequestPool, caller: Caller, refuse: Callable[[], None]):
        self.pool, self.caller, self.refuse = pool, caller, refuse
        self.state = QUEUED
        self.read: Callable[[], None] | None = None
        self.run: Callable[[], None] | None = None
        self.arrived = self.since = 0.0
        self.thread = 0
        self.wake: threading.Event | None = None


class Turn(deadline.Deadline):
    """The deadline of a call that may rest at a check in its own thread. place: None never rests."""

    __slots__ = ("_place",)

    def __init__(
        self, seconds: float | None, place: Place | None, within: deadline.Deadline | None = None, allowance: Allowance | None = None
    ):
        super().__init__(seconds, within, allowance)
        self._place = place

    def check(self) -> None:
        super().check()
        place = self._place
        if place is not None and place.thread == threading.get_ident():
            place.pool.rest(place, super().check)


class RequestPool:
    """The threads for calls of one kind, with a bounded queue.

    telemetry: notified when a call starts to wait and when its thread starts it. rests: whether long calls rest for others. hurried:
    whether another call waits for something that running calls hold; then no call rests.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        queue: int,
        telemetry: Telemetry,
        rests: bool = False,
        hurried: Callable[[], bool] = lambda: False,
        cores: int = CORES,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.queue = name, queue
        self._limit, self._cores, self._rests, self._hurried = threads, cores, rests, hurried
        self._clock, self._telemetry = clock, telemetry
        self._most_begun = 4 * threads + 1 if rests else threads + 1  # resting calls keep their thread
        self._threads = ThreadPoolExecutor(self._most_begun, f"vectordb-{name}")
        self._lock = threading.Lock()
        self._present: dict[str, Caller] = {}  # present callers: with places, or with some recently
        self._absent: dict[str, Caller] = {}  # the usage of absent callers, the most recent last
        self._inside = self._ahead = self._begun = self._working = 0
        self._base = 0.0  # usage of the caller with the least usage

    @property
    def inside(self) -> int:
        """Calls that have a place."""
        return self._inside

    def enter(self, who: str, refuse: Callable[[], None]) -> Place | None:
        """A place for a call, or None if all are taken. refuse: called if another caller takes the place before the call has a thread."""
        pushed = None
        with self._lock:
            caller = self._known(who)
            places = self._limit + self.queue
            if self._inside >= places and not (caller.inside == 0 and self._inside == places):
                pushed = self._newest_of_most(caller)
                if pushed is None:
                    return None
                self._end(pushed)
            place = Place(self, caller, refuse)
            caller.unbegun[place] = None
            self._inside += 1
        if pushed is not None:
            pushed.refuse()
        return place

    def line_up(self, place: Place, read: Callable[[], None]) -> None:
        """Call ``read`` when it is the call's turn to have its message read; then ``ready`` or ``leave`` must follow."""
        with self._lock:
            if place.state is not QUEUED:
                return
            place.read = read
            place.arrived = self._telemetry.arrived()
            place.caller.queued.append(place)
            acts = self._settle()
        self._do(acts)

    def ready(self, place: Place, run: Callable[[], None]) -> None:
        """The message has been read: run the call in a thread when its turn comes, unless its place was taken."""
        with self._lock:
            if place.state is not READING:
                return
            place.run, place.state = run, WAITING
            place.caller.waiting.append(place)
            acts = self._settle()
        self._do(acts)

    def withdraw(self, place: Place) -> bool:
        """Give up the place of a call whose message didn't arrive. False if it did."""
        with self._lock:
            if place.state is not READING:
                return False
            self._end(place)
            acts = self._settle()
        self._do(acts)
        return True

    def leave(self, place: Place) -> None:
        """The call is done, or its caller is gone. May be called twice."""
        with self._lock:
            self._end(place)
            acts = self._settle() if self._inside else []
        self._do(acts)

    def rest(self, place: Place, check: Callable[[], None]) -> None:
        """Pause the call while others should go first. Called in the call's thread. Raises what ``check`` raises."""
        if not self._rests or self._clock() - place.since < SLICE or self._hurried():
            return
        with self._lock:
            now = self._clock()
            if place.state is not WORKING or len(self._present) < 2:
                return
            self._stop_working(place, now)
            if not self._should_rest(place.caller, now):
                self._start_working(place, now)
                return
            place.state, place.wake = RESTING, threading.Event()
            place.caller.resting.append(place)
            acts = self._settle()
        self._do(acts)
        end = self._clock() + LONGEST_REST
        while not place.wake.wait(LINGER):
            check()
            with self._lock:
                acts = self._settle()
                if place.state is RESTING and (self._clock() >= end or self._hurried()):
                    place.caller.resting.remove(place)
                    self._start_working(place, self._clock())
                    place.wake.set()
            self._do(acts)

    # ---- All methods below need the lock, except _do and _work ----

    def _known(self, who: str) -> Caller:
        """The caller of this name, who is present from now on."""
        self._part()
        now = self._clock()
        spent = [caller.spent(now) for caller in self._present.values() if caller.inside]
        most = max(spent, default=-math.inf)
        self._base = max(self._base, min(spent, default=-math.inf))
        caller = self._present.get(who)
        if caller is None:
            caller = self._present[who] = self._absent.pop(who, None) or Caller(who)
        # A caller that was absent, or used little for long, gets no unlimited credit for it.
        caller.used = max(caller.used, most - MOST_AHEAD, -math.inf if caller.inside else self._base - CREDIT)
        return caller

    def _part(self) -> None:
        """Move callers that are no longer present to ``_absent``."""
        if len(self._present) < 2:
            return
        now = self._clock()
        for caller in [each for each in self._present.values() if not each.inside and now - each.last >= LINGER]:
            del self._present[caller.name]
            self._absent[caller.name] = caller
            if len(self._absent) > _REMEMBERED:
                del self._absent[next(iter(self._absent))]

    def _newest_of_most(self, caller: Caller) -> Place | None:
        """The newest call without a thread of the caller with the most places; None unless it has more than ``caller`` would then have."""
        more = [other for other in self._present.values() if other.unbegun and other.inside > caller.inside + 1]
        return next(reversed(max(more, key=lambda other: other.inside).unbegun)) if more else None

    def _settle(self) -> list[Callable[[], Any]]:
        """Let calls proceed: wake resting ones, and return the actions for others, to be done after the lock is released."""
        self._part()
        now = self._clock()
        acts: list[Callable[[], Any]] = []
        while caller := self._least(lambda each: self._may_go_on(each, now) or self._may_begin(each), now):
            if caller.resting:
                place = caller.resting.popleft()
                place.wake.set()
            else:
                place = caller.waiting.popleft()
                del caller.unbegun[place]
                caller.ahead -= 1
                caller.begun += 1
                self._ahead -= 1
                self._begun += 1
                acts.append(partial(self._threads.submit, self._work, place))
            self._start_working(place, now)
        while caller := self._least(lambda each: each.queued and self._may_read(each), now):
            place = caller.queued.popleft()
            place.state = READING
            caller.ahead += 1
            self._ahead += 1
            acts.append(place.read)
        return acts

    def _least(self, able: Callable[[Caller], Any], now: float) -> Caller | None:
        """The caller with the least usage of those for which ``able`` holds; among equals, the one with the fewest calls."""
        callers = [caller for caller in self._present.values() if able(caller)]
        return min(callers, key=lambda each: (each.spent(now), each.ahead)) if callers else None

    def _may_read(self, caller: Caller) -> bool:
        return self._ahead < READ_AHEAD or (caller.ahead == 0 and self._ahead < 2 * READ_AHEAD)

    def _may_begin(self, caller: Caller) -> bool:
        """Whether a waiting call may start. Resting calls of the same caller go first."""
        may = caller.waiting and not caller.resting and caller.begun < self._limit and self._begun < self._most_begun
        return bool(may and self._has_room(caller))

    def _may_go_on(self, caller: Caller, now: float) -> bool:
        """Whether a resting call may resume."""
        return bool(caller.resting and self._has_room(caller) and caller.working < self._share(caller, now))

    def _has_room(self, caller: Caller) -> bool:
        return self._working < self._limit or (caller.working == 0 and self._working == self._limit)

    def _share(self, caller: Caller, now: float) -> int:
        """How many of the caller's long calls may run at a time: all if it is alone, else as many as leave the others their cores."""
        others = [other for other in self._present.values() if other is not caller and other.is_present(now)]
        if not others:
            return self._limit
        runnable = sum(other.runnable() for other in others)
        return max(1, -(-self._cores // (len(others) + 1)), self._cores - runnable)

    def _should_rest(self, caller: Caller, now: float) -> bool:
        """Whether the call that its caller has just paused should rest."""
        if caller.working >= self._share(caller, now):
            return True
        mine = caller.spent(now)
        for other in self._present.values():
            if other is caller or other.spent(now) >= mine:
                continue
            if self._working + 1 < self._limit or (other.working == 0 and self._working + 1 == self._limit):
                continue  # it can run in addition to this one
            if self._may_go_on(other, now) or self._may_begin(other):
                return True
        return False

    def _start_working(self, place: Place, now: float) -> None:
        place.state, place.since = WORKING, now
        place.caller.since += now
        place.caller.working += 1
        self._working += 1

    def _stop_working(self, place: Place, now: float) -> None:
        caller = place.caller
        caller.used += now - place.since
        caller.working -= 1
        caller.since = caller.since - place.since if caller.working else 0.0
        self._working -= 1

    def _end(self, place: Place) -> None:
        caller, state, now = place.caller, place.state, self._clock()
        if state is ENDED:
            return
        if state is WORKING:
            self._stop_working(place, now)
        elif state is RESTING:
            caller.resting.remove(place)
        if state in (WORKING, RESTING):
            caller.begun -= 1
            self._begun -= 1
            caller.last = now
        else:
            del caller.unbegun[place]
            if place.read is not None:
                self._telemetry.began(place.arrived)
            if state is QUEUED and place.read is not None:
                caller.queued.remove(place)
            if state is WAITING:
                caller.waiting.remove(place)
            if state is not QUEUED:
                caller.ahead -= 1
                self._ahead -= 1
        place.state = ENDED
        self._inside -= 1

    @staticmethod
    def _do(acts: list[Callable[[], Any]]) -> None:
        for act in acts:
            act()

    def _work(self, place: Place) -> None:
        place.thread = threading.get_ident()
        self._telemetry.began(place.arrived)
        try:
            place.run()
        finally:
            self.leave(place)
