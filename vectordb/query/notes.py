"""What a search did, noted for whoever watches it: the plan of each arm and the time of each stage.

A watcher calls ``begin()`` and ``end()`` around a search of its thread. Noting is a few microseconds; the plan as data, and as the text
that ``explain`` prints, is only made when somebody asks for it afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .request import Search


class Clock:
    """Milliseconds of each stage."""

    def __init__(self):
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What has passed since the last lap belongs to this stage."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now

    def charge(self, stage: str, seconds: float) -> None:
        """So much of the time since the last lap belongs to this stage, whatever the next lap is of."""
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * seconds
        self._last += seconds

    @property
    def milliseconds(self) -> dict[str, float]:
        return {stage: round(value, 4) for stage, value in self.stages.items()}


class Ran(NamedTuple):
    """How an arm was run, told when it is asked for and no transaction is needed any more. names: the plans of its segments; found: of each
    query; told: what explain says of it.
    """

    names: Callable[[], Sequence[str]]
    matches: int
    found: Sequence[tuple[Any, Any]]
    told: Callable[[], dict[str, Any]]


class Notes:
    """Of one search, or one batch. Empty when a call made none."""

    __slots__ = ("_arms", "_hits", "clock", "live", "search", "sequence")

    def __init__(self):
        self.search: Search | None = None
        self.clock: Clock | None = None
        self.live = self.sequence = 0
        self._arms: dict[tuple[int, str], Ran] = {}  # (stage, arm): one that is run again, as in linear fusion, is told as it ran last
        self._hits: dict[int, int] = {}

    def began(self, search: Search, live: int, sequence: int) -> Clock:
        """A search begins, over so many live rows. Returns its clock."""
        self.search, self.live, self.sequence, self.clock = search, live, sequence, Clock()
        return self.clock

    def ran(self, search: Search, arm: str, ran: Ran) -> None:
        """An arm of a stage was run."""
        self._arms[_depth(search), arm] = ran

    def gave(self, search: Search, hits: int) -> None:
        """A prefetch stage gave so many candidates."""
        self._hits[_depth(search)] = hits

    def plan_name(self) -> str | None:
        """One word for the plan: that of a single arm, ``several`` where its segments differ, ``fusion``, ``prefetch`` or ``batch``; None
        when nothing was searched.
        """
        search = self.search
        if search is None or not self._arms:
            return None
        if search.queries != 1:
            return "batch"
        if search.prefetch is not None:
            return "prefetch"
        if len(search.arms) > 1:
            return "fusion"
        (ran,) = self._arms.values()
        names = ran.names()
        return names[0] if len(names) == 1 or len(set(names)) == 1 else "several"

    def plan(self) -> dict[str, Any] | None:
        """How the search was run, in the form of ``Hits.plan``; None when nothing was searched."""
        search = self.search
        if search is None or not self._arms:
            return None
        matches = next(iter(self._arms.values())).matches
        stage = self._stage(search)
        return {
            "sequence": self.sequence,
            "queries": search.queries,
            "live_rows": self.live,
            "filter": None if search.filter is None else {"matches": matches, "selectivity": matches / max(self.live, 1)},
            **stage,
            "exact": all_exact(stage),
            "milliseconds": self.clock.milliseconds,
        }

    def _stage(self, search: Search) -> dict[str, Any]:
        depth, before = _depth(search), None
        if search.prefetch is not None:
            before = self._stage(search.prefetch) | {"limit": search.prefetch.limit, "hits": self._hits.get(depth - 1, 0)}
        runs = [ran for (stage, _), ran in self._arms.items() if stage == depth]
        arms = [ran.told() | {"candidates": max((len(docids) for docids, _ in ran.found), default=0)} for ran in runs]
        fusion = {"method": search.fusion.name, "candidates": search.candidates, "missing": search.fusion.missing}
        fusion = fusion if len(search.arms) > 1 else None
        return {"exact": all(arm["exact"] for arm in arms), "arms": arms, "fusion": fusion, "prefetch": before}


def all_exact(stage: dict) -> bool:
    """Whether every stage of a plan is sure of what it found."""
    return stage["exact"] and (stage["prefetch"] is None or all_exact(stage["prefetch"]))


def _depth(search: Search) -> int:
    """How many stages come before this one."""
    depth = 0
    while search.prefetch is not None:
        search, depth = search.prefetch, depth + 1
    return depth


class _Here(threading.local):
    notes: Notes | None = None


_here = _Here()


def current() -> Notes | None:
    """Where this thread's search is noted, None when nobody watches."""
    return _here.notes


def begin() -> Notes:
    """Note from here on what the searches of this thread do, until ``end()``."""
    _here.notes = notes = Notes()
    return notes


def end() -> None:
    """Note no more in this thread."""
    _here.notes = None
