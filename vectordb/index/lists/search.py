"""Search one dense field by its files of lists, each by the cheapest plan that reaches the recall target, and all other rows by an exact
scan. The results are merged by their full-precision scores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np

from ...common import background, deadline
from ...kernels import lists as kernel
from .. import exact
from ..base import Report, Run, SegmentRequest, SegmentTarget
from ..exact import Found
from ..model import AGAIN, MEASURED_EVERY, PLAN
from .far import FAR_RANK
from .model import NO_LIMITS, Choice, Choices
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
    n, choices = len(request.queries), [_chosen_for(request, target) for target in request.targets]
    cores = 1 if request.timed else min(background.cores(), n)
    work = sum(_work(target, choice) for target, choice in zip(request.targets, choices, strict=True))
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


def _search(request: SegmentRequest, choices: Sequence[Choices | None], queries: np.ndarray, report: Report | None) -> list[Found]:
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
    read = exact.scan_tail(chunks.rows, queries, spec, request.tail, heaps, sizes) if request.tail else None
    if report is not None:
        report.tail_read = read
        report.tail_microseconds = 1e6 * (time.perf_counter() - started) / n
    return [exact.unpacked(heaps[q, : sizes[q]]) for q in range(n)]


def _search_segment(
    request: SegmentRequest, target: SegmentTarget, choices: Choices | None, queries: np.ndarray, heaps: np.ndarray, sizes: np.ndarray
) -> tuple[int, Run]:
    """(chunks newly touched, how the first of the queries was searched)."""
    segment, allowed, chunks, k = target.segment, target.allowed, request.chunks, request.k
    half, n = request.spec.dtype == "float16", len(queries)
    if choices is None:
        return 0, _NOTHING._replace(elapsed=0.0 if request.timed else None)
    started, facts = time.perf_counter(), np.zeros((n, kernel.R_WIDTH))
    if allowed.few is not None and request.forced < 0:  # each of them is scored
        rows = allowed.few[segment.inverse[allowed.few.astype(np.int64) - segment.first] >= 0]
        if not len(rows):
            return 0, _NOTHING._replace(elapsed=0.0 if request.timed else None)
        given = queries, half, exact.METRICS[segment.metric], rows, heaps, sizes
        touched = exact.score_dense(chunks.rows, chunks.verified, *given)
        facts[:, kernel.R_SCORED], facts[:, kernel.R_LOCAL] = len(rows), -1
    else:
        touched = kernel.search_lists(
            segment.description, choices.options, choices.limits, choices.stops, FAR_RANK, allowed.filtered, allowed.bits[0],
            allowed.counts[0], int(allowed.matches[0]), queries, chunks.rows, chunks.verified, half, heaps, sizes, facts,
        )  # fmt: skip
    scored, local, option = facts[0, [kernel.R_SCORED, kernel.R_LOCAL, kernel.R_OPTION]].tolist()
    again = AGAIN if facts[0, kernel.R_AGAIN] else 0
    if not allowed.filtered and allowed.few is None:
        local = float(facts[0, kernel.R_DISTANCE])
    choice, corrections, elapsed = choices.each[int(option)], segment.corrections, None
    corrections.calls += 1
    if request.timed or corrections.calls % MEASURED_EVERY == 0:
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1) / n
        if n == 1 and request.forced < 0 and allowed.few is None and not again:
            corrections.learn_cost(int(segment.model(k).settings[choice.setting, PLAN]), choice.microseconds, elapsed)
    return touched, Run(choice.setting, local, scored, choice.microseconds, choice.recall, again, elapsed if request.timed else None)


def _chosen_for(request: SegmentRequest, target: SegmentTarget) -> Choices | None:
    """The choices for a request. None: nothing matches."""
    segment, k = target.segment, request.k
    model, few = segment.model(k), target.allowed.few
    if few is not None and request.forced < 0:
        return model.choices((Choice(0, model.scan * len(few), 1.0),), NO_LIMITS, k)
    if request.forced >= 0 and int(target.allowed.matches[0]):
        return model.choices((Choice(request.forced, 0.0, 1.0),), NO_LIMITS, k)
    return chosen(target, k, request.recall)


def chosen(target: SegmentTarget, k: int, recall: float, anew: bool = False) -> Choices | None:
    """The choices for a search by a plan, cached for _CHOSEN_ANEW searches, unless they are wanted ``anew``. None: nothing matches."""
    segment, matches = target.segment, int(target.allowed.matches[0])
    if not matches:
        return None
    key = (matches, target.free, k, recall)
    cached = segment.choices.get(key)
    if cached is not None and not anew and segment.corrections.calls - cached[0] < _CHOSEN_ANEW:
        return cached[1]
    if len(segment.choices) >= _CHOSEN_ANEW:
        segment.choices.clear()
    choices = segment.model(k).choose(target, k, recall)
    segment.choices[key] = (segment.corrections.calls, choices)
    return choices


def _work(target: SegmentTarget, chosen: Choices | None) -> int:
    """Multiplications of a query, about, at most."""
    if chosen is None:
        return 0
    segment, most, few = target.segment, 0, target.allowed.few
    matches = int(target.allowed.matches[0]) if few is None else len(few)
    for plan, rows, _ in chosen.options.tolist():
        looked_at = segment.rows if rows >= matches else rows * segment.rows // matches
        most = max(most, matches if plan == kernel.SCAN else (looked_at + segment.lists) // _CODES_AT_ONCE)
    return int(most) * segment.dim
