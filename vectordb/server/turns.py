"""Whose turn it is: waiting calls are served by caller, the one first that has used least of the threads lately.

A caller is an API key or, without keys, a peer. What a caller has used is the time that its calls were at work, each counted by itself
(start-time fair queueing). Three rules, for each lane of each process by itself:

- A caller has at most ``threads`` calls at work. One thread more is kept for callers that have none: nobody can hold them all.
- A long read rests at its next ``deadline.check()`` while others are there: as long as somebody who used less can't begin, and while its
  caller has more calls at work than its share of the cores. A caller that is alone never rests.
- When all places in the queue are taken, a caller that has fewer than another takes the place of the other's newest call.

Messages take memory, so those of a few calls only are read before their turn comes (``READ_AHEAD``).
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

from .. import deadline
from ..memory import Allowance
from .watch import Watch

SLICE = 0.01  # seconds that a call works between two looks whether it should rest
LINGER = 0.05  # seconds after its last call for which a caller still counts as there
CREDIT = 0.1  # seconds of use by which a caller that comes back is ahead of the others
MOST_AHEAD = 10.0  # and who has used less for long, at most: "lately"
LONGEST_REST = 1.0  # seconds; then a call goes on, whoever waits: somebody may wait for what it holds
READ_AHEAD = 16  # calls of a lane whose messages are read, or being read, before they have a thread; of callers that have none as many more
_REMEMBERED = 1_024  # callers that aren't there
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

QUEUED, READING, WAITING, WORKING, RESTING, ENDED = "queued", "reading", "waiting", "working", "resting", "ended"


class Caller:
    """What is known of a caller in one lane."""

    __slots__ = ("ahead", "begun", "last", "name", "queued", "resting", "since", "unbegun", "used", "waiting", "working")

    def __init__(self, name: str):
        self.name = name
        self.used = -math.inf  # seconds at work, of calls that aren't any more
        self.since = 0.0  # sum of the times at which its calls at work began
        self.begun = self.working = 0  # calls that have a thread, of these at work
        self.unbegun: dict[Place, None] = {}  # calls that have a place and no thread: queued ones, whose message is to be read,
        self.queued: deque[Place] = deque()
        self.ahead = 0  # and those whose message is being read or there; of these could work:
        self.waiting: deque[Place] = deque()
        self.resting: deque[Place] = deque()
        self.last = -math.inf  # when its last call ended

    @property
    def inside(self) -> int:
        return self.begun + len(self.unbegun)

    def spent(self, now: float) -> float:
        return self.used + self.working * now - self.since

    def there(self, now: float) -> bool:
        """Whether it has calls that work or could, or had lately."""
        return bool(self.begun or self.waiting) or now - self.last < LINGER

    def wanted(self) -> int:
        """Calls that would work if all could; one more may come at any moment."""
        return max(1, self.begun + len(self.waiting))


class Place:
    """A call's place in a lane. read: begins to read its message; run: its work, in a thread of the lane; refuse: another takes the place.
    Each is called once at most.
    """

    __slots__ = ("arrived", "caller", "lane", "read", "refuse", "run", "since", "state", "thread", "wake")

    def __init__(self, lane: Lane, caller: Caller, refuse: Callable[[], None]):
        self.lane, self.caller, self.refuse = lane, caller, refuse
        self.state = QUEUED
        self.read: Callable[[], None] | None = None
        self.run: Callable[[], None] | None = None
        self.arrived = self.since = 0.0
        self.thread = 0
        self.wake: threading.Event | None = None


class Turn(deadline.Patience):
    """The patience of a call that may be made to rest at a check, in the thread that works for it. place: None rests never."""

    __slots__ = ("_place",)

    def __init__(
        self, seconds: float | None, place: Place | None, within: deadline.Patience | None = None, allowance: Allowance | None = None
    ):
        super().__init__(seconds, within, allowance)
        self._place = place

    def check(self) -> None:
        super().check()
        place = self._place
        if place is not None and place.thread == threading.get_ident():
            place.lane.rest(place, super().check)


class Lane:
    """Threads for calls of one kind, and a queue before them that has an end.

    watch: told when a call begins to wait, and when its thread begins with it. rests: whether long calls make way for others. hurried:
    whether somebody waits for what calls at work hold; then none rests.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        queue: int,
        watch: Watch,
        rests: bool = False,
        hurried: Callable[[], bool] = lambda: False,
        cores: int = CORES,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.queue = name, queue
        self._limit, self._cores, self._rests, self._hurried, self._clock, self._watch = threads, cores, rests, hurried, clock, watch
        self._most_begun = 4 * threads + 1 if rests else threads + 1  # those that rest have a thread too
        self._threads = ThreadPoolExecutor(self._most_begun, f"vectordb-{name}")
        self._lock = threading.Lock()
        self._there: dict[str, Caller] = {}  # callers that have places, or had lately
        self._others: dict[str, Caller] = {}  # what others had used, the one who left last at the end
        self._inside = self._ahead = self._begun = self._working = 0
        self._base = 0.0  # what the caller that used least had spent

    @property
    def inside(self) -> int:
        """Calls that have a place."""
        return self._inside

    def enter(self, who: str, refuse: Callable[[], None]) -> Place | None:
        """A place for a call, None when all are taken. refuse: called if another caller takes it before the call has a thread."""
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
        """``read`` its message when its turn comes; then it is ``ready``, or leaves."""
        with self._lock:
            if place.state is not QUEUED:
                return
            place.read = read
            place.arrived = self._watch.arrived()
            place.caller.queued.append(place)
            acts = self._settle()
        self._do(acts)

    def ready(self, place: Place, run: Callable[[], None]) -> None:
        """Its message is there: ``run`` it in a thread when its turn comes, unless its place was taken."""
        with self._lock:
            if place.state is not READING:
                return
            place.run, place.state = run, WAITING
            place.caller.waiting.append(place)
            acts = self._settle()
        self._do(acts)

    def withdraw(self, place: Place) -> bool:
        """Give up a place whose message didn't come; False when it did."""
        with self._lock:
            if place.state is not READING:
                return False
            self._end(place)
            acts = self._settle()
        self._do(acts)
        return True

    def leave(self, place: Place) -> None:
        """The call is done, or nobody waits for it any more. Leaving twice is fine."""
        with self._lock:
            self._end(place)
            acts = self._settle() if self._inside else []
        self._do(acts)

    def rest(self, place: Place, check: Callable[[], None]) -> None:
        """Let others go first if they should. In the thread of the call. Raises what ``check`` raises."""
        if not self._rests or self._clock() - place.since < SLICE or self._hurried():
            return
        with self._lock:
            now = self._clock()
            if place.state is not WORKING or len(self._there) < 2:
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

    # ---- All below with the lock held, but for _do and _work ----

    def _known(self, who: str) -> Caller:
        """The caller of that name, who is there from now on."""
        self._part()
        now = self._clock()
        spent = [caller.spent(now) for caller in self._there.values() if caller.inside]
        most = max(spent, default=-math.inf)
        self._base = max(self._base, min(spent, default=-math.inf))
        caller = self._there.get(who)
        if caller is None:
            caller = self._there[who] = self._others.pop(who, None) or Caller(who)
        # Who was away, or used little for long, hasn't saved it up.
        caller.used = max(caller.used, most - MOST_AHEAD, -math.inf if caller.inside else self._base - CREDIT)
        return caller

    def _part(self) -> None:
        """Put those aside who were there, and aren't any more."""
        if len(self._there) < 2:
            return
        now = self._clock()
        for caller in [each for each in self._there.values() if not each.inside and now - each.last >= LINGER]:
            del self._there[caller.name]
            self._others[caller.name] = caller
            if len(self._others) > _REMEMBERED:
                del self._others[next(iter(self._others))]

    def _newest_of_most(self, caller: Caller) -> Place | None:
        """The newest call that hasn't begun, of whom has most places; None when that isn't more than the caller would have."""
        more = [other for other in self._there.values() if other.unbegun and other.inside > caller.inside + 1]
        return next(reversed(max(more, key=lambda other: other.inside).unbegun)) if more else None

    def _settle(self) -> list[Callable[[], Any]]:
        """Who goes on now: those that rested are woken; what is to be done for the others, with the lock let go, is returned."""
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
        """Who has used least of those that are able to; of equals, who has fewest calls."""
        found = [caller for caller in self._there.values() if able(caller)]
        return min(found, key=lambda each: (each.spent(now), each.ahead)) if found else None

    def _may_read(self, caller: Caller) -> bool:
        return self._ahead < READ_AHEAD or (caller.ahead == 0 and self._ahead < 2 * READ_AHEAD)

    def _may_begin(self, caller: Caller) -> bool:
        """Whether a call that waits may: not before those of its caller that rest."""
        there = caller.waiting and not caller.resting and caller.begun < self._limit and self._begun < self._most_begun
        return bool(there and self._has_room(caller))

    def _may_go_on(self, caller: Caller, now: float) -> bool:
        """Whether a call that rests may."""
        return bool(caller.resting and self._has_room(caller) and caller.working < self._share(caller, now))

    def _has_room(self, caller: Caller) -> bool:
        return self._working < self._limit or (caller.working == 0 and self._working == self._limit)

    def _share(self, caller: Caller, now: float) -> int:
        """How many of its long calls may work at a time: all when nobody else is there, else as many as leave others their cores."""
        others = [other for other in self._there.values() if other is not caller and other.there(now)]
        if not others:
            return self._limit
        wanted = sum(other.wanted() for other in others)
        return max(1, -(-self._cores // (len(others) + 1)), self._cores - wanted)

    def _should_rest(self, caller: Caller, now: float) -> bool:
        """Of a caller one of whose calls has just stopped: whether that one should wait."""
        if caller.working >= self._share(caller, now):
            return True
        mine = caller.spent(now)
        for other in self._there.values():
            if other is caller or other.spent(now) >= mine:
                continue
            if self._working + 1 < self._limit or (other.working == 0 and self._working + 1 == self._limit):
                continue  # there is room for it beside this one
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
                self._watch.began(place.arrived)
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
        self._watch.began(place.arrived)
        try:
            place.run()
        finally:
            self.leave(place)
