"""Execution records of searches, for metrics and slow-query logs: the plan of each arm and the time of each stage.

The service calls ``begin()`` and ``end()`` around a search of the current thread. Recording takes a few microseconds. The plan, as data or
as text, is only built when it is asked for afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .request import Search


class Clock:
    """Measures the milliseconds of each stage of a search."""

    def __init__(self):
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now

    def charge(self, stage: str, seconds: float) -> None:
        """Add a part of the time since the last lap to a stage. The next lap counts only the rest."""
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * seconds
        self._last += seconds

    @property
    def milliseconds(self) -> dict[str, float]:
        return {stage: round(value, 4) for stage, value in self.stages.items()}


class ArmTrace(NamedTuple):
    """The execution record of one arm. ``names`` and ``explain`` are evaluated lazily, after the search, and must not use its transaction.

    names: returns the plan of each segment. matches: the number of rows that the arm could return. hits: the results of each query.
    explain: returns the arm's entry of the plan.
    """

    names: Callable[[], Sequence[str]]
    matches: int
    hits: Sequence[tuple[Any, Any]]
    explain: Callable[[], dict[str, Any]]


class SearchTrace:
    """The execution record of one search or batch; empty if a call did no search."""

    __slots__ = ("_arms", "_hits", "clock", "live", "search", "sequence")

    def __init__(self):
        self.search: Search | None = None
        self.clock: Clock | None = None
        self.live = self.sequence = 0
        self._arms: dict[tuple[int, str], ArmTrace] = {}  # (stage, arm) → its last run; linear fusion may run an arm several times
        self._hits: dict[int, int] = {}  # stage → hits of a prefetch

    def start(self, search: Search, live: int, sequence: int) -> Clock:
        """Record the start of a search. live: the number of live rows. Returns its clock."""
        self.search, self.live, self.sequence, self.clock = search, live, sequence, Clock()
        return self.clock

    def record_arm(self, search: Search, arm: str, trace: ArmTrace) -> None:
        """Record a run of an arm. search: the stage it belongs to."""
        self._arms[_depth(search), arm] = trace

    def record_prefetch(self, search: Search, hits: int) -> None:
        """Record the number of candidates that a prefetch stage returned."""
        self._hits[_depth(search)] = hits

    def plan_name(self) -> str | None:
        """A short name of the plan for metrics: the plan of a single arm, "several" if its segments used different ones, "fusion",
        "prefetch" or "batch"; None when nothing was searched.
        """
        search = self.search
        if search is None or not self._arms:
            return None
        if search.queries != 1:
            return "batch"
        if search.prefetch is not None:
            return "prefetch"
        if search.fused:
            return "fusion"
        (trace,) = self._arms.values()
        names = trace.names()
        return names[0] if len(names) == 1 or len(set(names)) == 1 else "several"

    def plan(self) -> dict[str, Any] | None:
        """How the search was run, in the form of ``Hits.plan``; None when nothing was searched."""
        search = self.search
        if search is None or self.clock is None or not self._arms:
            return None
        matches = next(iter(self._arms.values())).matches
        return whole_plan(search, self.live, self.sequence, matches, self._stage(search), self.clock)

    def _stage(self, search: Search) -> dict[str, Any]:
        depth, before = _depth(search), None
        if search.prefetch is not None:
            before = self._stage(search.prefetch) | {"limit": search.prefetch.limit, "hits": self._hits.get(depth - 1, 0)}
        traces = [trace for (stage, _), trace in self._arms.items() if stage == depth]
        arms = [trace.explain() | {"candidates": max((len(docids) for docids, _ in trace.hits), default=0)} for trace in traces]
        fusion = {"method": search.fusion.name, "candidates": search.candidates, "missing": search.fusion.missing}
        return stage_plan(arms, fusion if search.fused else None) | {"prefetch": before}


def stage_plan(arms: list[dict], fusion: dict | None) -> dict[str, Any]:
    """A stage's entry of the plan. exact: the results of all arms are exact, or the fusion is proven though some arm's list isn't."""
    exact = all(arm["exact"] for arm in arms) or bool(fusion and fusion.get("proven"))
    return {"exact": exact, "arms": arms, "fusion": fusion, "prefetch": None}


def whole_plan(search: Search, live: int, sequence: int, matches: int, stage: dict[str, Any], clock: Clock) -> dict[str, Any]:
    """How a search was run, as plain data (``vectordb_client.model.plan.Plan``). live: the number of live rows. matches: of those, the rows
    that match the filter. stage: the last stage's entry.
    """
    return {
        "sequence": sequence,
        "queries": search.queries,
        "live_rows": live,
        "filter": None if search.filter is None else {"matches": matches, "selectivity": matches / max(live, 1)},
        **stage,
        "exact": all_exact(stage),
        "milliseconds": clock.milliseconds,
    }


def all_exact(stage: dict) -> bool:
    """Whether the results of every stage of a plan are exact."""
    return stage["exact"] and (stage["prefetch"] is None or all_exact(stage["prefetch"]))


def _depth(search: Search) -> int:
    """The number of prefetch stages before this one."""
    depth = 0
    while search.prefetch is not None:
        search, depth = search.prefetch, depth + 1
    return depth


class _Thread(threading.local):
    trace: SearchTrace | None = None


_thread = _Thread()


def current() -> SearchTrace | None:
    """The record of the current thread's search; None if it isn't being recorded."""
    return _thread.trace


def begin() -> SearchTrace:
    """Start recording the searches of the current thread, until ``end()``. Returns the record."""
    _thread.trace = trace = SearchTrace()
    return trace


def end() -> None:
    """Stop recording in the current thread."""
    _thread.trace = None
