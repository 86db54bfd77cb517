"""Search one dense field by its files of lists, each by the cheapest plan that reaches the recall target, and all other rows by an exact
scan. The results are merged by their full-precision scores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common import background, deadline
from ...kernels import lists as kernel
from .. import exact
from ..base import Report, Run, SegmentRequest, SegmentTarget
from ..exact import Found
from ..model import MEASURED_EVERY, PLAN
from .model import Choice
from .plans import effort_of
from .segment import ListsSegment

# Constants: unit and meaning. Estimates of times, or chosen, not measured.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used
CALL_MICROSECONDS = 4.0  # of a kernel call from Python and back, subtracted from measured times
_CHOSEN_ANEW = 256  # searches for which a chosen plan is cached; corrections move little meanwhile. Also the cache's entries
_CODES_AT_ONCE = 8  # numbers of codes multiplied in the time of one float
_QUERIES_AT_ONCE = 64  # queries in a kernel call, which can't be cancelled
_NOTHING = Run(-1, -1, 0, 0.0, 1.0, False)


def usable(segments: Sequence[ListsSegment], queries: np.ndarray, k: int, exact: bool, saturation: object) -> bool:
    """``IndexKind.usable``: an exact search and one for more than MAX_DEPTH results read all vectors."""
    return not exact and k <= MAX_DEPTH


def search(request: SegmentRequest) -> tuple[list[Found], Report | None]:
    """``IndexKind.search``. Queries: float32 ``(n, dim)``. Raises CorruptionError."""
    report = Report(request.targets, request.k) if request.recorded else None
    n, choices = len(request.queries), [_chosen(request, target) for target in request.targets]
    cores = 1 if request.timed else min(background.cores(), n)
    work = sum(_work(target, choice, request.k) for target, choice in zip(request.targets, choices, strict=True))
    most = min(max(deadline.WORK // max(work, 1), 1), _QUERIES_AT_ONCE)
    if n == 1 or (cores == 1 and n <= most):
        return _search(request, choices, request.queries, report), report
    pieces = max(min(4 * cores, n) if cores > 1 else 1, -(-n // most))
    cuts = np.linspace(0, n, pieces + 1).astype(int).tolist()

    def run(low: int, high: int) -> list[Found]:
        return _search(request, choices, request.queries[low:high], None if low else report)

    if cores == 1:
        return [hits for low, high in itertools.pairwise(cuts) for hits in run(low, high)], report
    return [hits for some in deadline.map_with_deadline(exact.pool(), run, cuts[:-1], cuts[1:]) for hits in some], report


def _search(request: SegmentRequest, choices: Sequence[Choice | None], queries: np.ndarray, report: Report | None) -> list[Found]:
    """Search for some of the queries on this thread."""
    n, k, chunks, spec = len(queries), request.k, request.chunks, request.spec
    heaps, sizes = np.empty((n, k), np.int64), np.zeros(n, np.int64)
    touched = 0
    for target, choice in zip(request.targets, choices, strict=True):
        if touched:
            chunks.confirm()  # before the next deadline check, so that a cancelled search leaves no chunk unverified
            touched = 0
        deadline.check()
        fresh, run = _search_segment(request, target, choice, queries, heaps, sizes)
        touched += fresh
        if report is not None:
            report.runs.append(run)
    if touched:
        chunks.confirm()
    started = time.perf_counter()
    if request.tail:
        exact.scan_tail(chunks.rows, queries, spec, request.tail, heaps, sizes)
    if report is not None:
        report.tail_microseconds = 1e6 * (time.perf_counter() - started) / n
    return [exact.unpacked(heaps[q, : sizes[q]]) for q in range(n)]


def _search_segment(
    request: SegmentRequest, target: SegmentTarget, choice: Choice | None, queries: np.ndarray, heaps: np.ndarray, sizes: np.ndarray
) -> tuple[int, Run]:
    """(chunks newly touched, how the first of the queries was searched)."""
    segment, allowed, chunks, k = target.segment, target.allowed, request.chunks, request.k
    half, n = request.spec.dtype == "float16", len(queries)
    if choice is None:
        return 0, _NOTHING._replace(elapsed=0.0 if request.timed else None)
    started, facts = time.perf_counter(), np.zeros((n, kernel.R_WIDTH))
    if allowed.few is not None and request.forced < 0:  # each of them is scored
        rows = allowed.few[segment.inverse[allowed.few.astype(np.int64) - segment.first] >= 0]
        given = queries, half, exact.METRICS[segment.metric], rows, heaps, sizes
        touched = exact.score_dense(chunks.rows, chunks.verified, *given)
        facts[:, kernel.R_SCORED] = len(rows)
    else:
        touched = run_setting(segment, choice.setting, k, allowed, queries, chunks, half, heaps, sizes, facts)
    corrections, elapsed = segment.corrections, None
    corrections.calls += 1
    if request.timed or corrections.calls % MEASURED_EVERY == 0:
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1) / n
        if n == 1 and request.forced < 0 and allowed.few is None:
            corrections.learn_cost(int(segment.model(k).settings[choice.setting, PLAN]), choice.microseconds, elapsed)
    scored = float(facts[0, kernel.R_SCORED])
    return touched, Run(choice.setting, -1, scored, choice.microseconds, choice.recall, False, elapsed if request.timed else None)


def run_setting(
    segment: ListsSegment,
    setting: int,
    k: int,
    allowed: Any,
    queries: np.ndarray,
    chunks: Any,
    half: bool,
    heaps: np.ndarray,
    sizes: np.ndarray,
    facts: np.ndarray,
) -> int:
    """Run a setting for some queries; returns the chunks newly touched. facts: float64 ``(n, R_WIDTH)``, overwritten. Others as in
    ``search_lists`` and ``SegmentMask``.
    """
    model = segment.model(k)
    plan, *parameters = model.settings[setting].tolist()
    effort, kept = effort_of((parameters[0], parameters[1]), k, model.depth)
    return kernel.search_lists(
        segment.description, int(plan), effort, kept, allowed.filtered, allowed.bits[0], allowed.counts[0], int(allowed.matches[0]),
        queries, chunks.rows, chunks.verified, half, heaps, sizes, facts,
    )  # fmt: skip


def _chosen(request: SegmentRequest, target: SegmentTarget) -> Choice | None:
    """The choice for a request, cached for _CHOSEN_ANEW searches. None: nothing matches."""
    segment, k = target.segment, request.k
    matches = int(target.allowed.matches[0])
    if not matches:
        return None
    if request.forced >= 0:
        return Choice(request.forced, 0.0, 1.0)
    if target.allowed.few is not None:
        return Choice(0, segment.model(k).scan * matches, 1.0)
    key = (matches, target.free, k, request.recall)
    cached = segment.choices.get(key)
    if cached is not None and segment.corrections.calls - cached[0] < _CHOSEN_ANEW:
        return cached[1]
    if len(segment.choices) >= _CHOSEN_ANEW:
        segment.choices.clear()
    choice = segment.model(k).choose(target, k, request.recall)
    segment.choices[key] = (segment.corrections.calls, choice)
    return choice


def _work(target: SegmentTarget, choice: Choice | None, k: int) -> int:
    """Multiplications of a query, about."""
    if choice is None:
        return 0
    segment, matches = target.segment, int(target.allowed.matches[0])
    model = segment.model(k)
    plan, *parameters = model.settings[choice.setting].tolist()
    if int(plan) == kernel.SCAN:
        return matches * segment.dim
    rows, kept = effort_of((parameters[0], parameters[1]), k, model.depth)
    return (min(rows, segment.rows) + segment.lists) * segment.dim // _CODES_AT_ONCE + kept * segment.dim
