"""Search one dense field. Segments are searched by the plan that the planner chooses, all other rows (the tail) by an exact scan. The
results are merged by their full-precision scores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common import background, deadline
from ...kernels import bounded, few, planner, topk
from ...kernels import segment as kernel
from ...kernels.codes import stride_of
from ...kernels.layout import R_FALLBACK, R_LOCAL, R_MICROSECONDS, R_RECALL, R_SCORED, R_SETTING, REPORT_WIDTH
from .. import exact
from ..base import Bounds, Plan, Report, Run, SegmentRequest, SegmentTarget, rows_of_bits
from ..exact import Found
from ..model import DEPTHS, MEASURED_EVERY, which_model
from ..scratch import aligned
from .model import needed
from .plans import PLANS
from .scratch import DenseScratch
from .segment import DenseSegment

# Constants: unit and meaning, then the source in brackets. [estimate]: a rounded time; machines differ. [chosen]: chosen, not measured.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used [chosen]
CALL_MICROSECONDS = 4.0  # microseconds of a kernel call from Python and back, subtracted from measured times [estimate]
# Microseconds of a search among few rows, besides and for each row, and for each of its numbers [estimate].
FEW_FIXED, FEW_ROW, FEW_NUMBER = 5.0, 0.01, 0.00004
CEILING_ROUNDING = 1e-4  # relative margin on the highest possible score, far above the rounding error of float32 sums [chosen]
_QUERIES_AT_ONCE = 64  # queries in a kernel call, which can't be cancelled: bounds how late a deadline is noticed [chosen]
_CODES_AT_ONCE = 8  # byte codes multiplied in the time of one float, for the same bound [chosen]
_PARALLEL_CODES = 64 << 20  # bytes of codes; a smaller scan uses one core, which reads about as fast as the memory delivers [chosen]
_run = tuple.__new__  # a third of the cost of the named tuple's constructor


def usable(segments: Sequence[DenseSegment], queries: np.ndarray, k: int, exact: bool, saturation: object) -> bool:
    """``IndexKind.usable``: an exact search and one for more than MAX_DEPTH results read all vectors."""
    return not exact and k <= MAX_DEPTH


def search(request: SegmentRequest) -> tuple[list[Found], Report | None]:
    """``IndexKind.search``. Queries: float32 ``(n, dim)``. Raises CorruptionError, and ValueError if the forced plan can't be run."""
    targets, queries = request.targets, request.queries
    report = Report(targets, request.k) if request.recorded else None
    if request.forced >= 0:
        _check_forced(request)
    if len(queries) > 1:
        cores = 1 if request.timed else min(background.cores(), len(queries))
        work = sum(target.segment.rows * target.segment.dim for target in targets) // _CODES_AT_ONCE
        most = min(max(deadline.WORK // max(work, 1), 1), _QUERIES_AT_ONCE)
        if cores > 1 or len(queries) > most:
            pieces = max(min(4 * cores, len(queries)) if cores > 1 else 1, -(-len(queries) // most))
            cuts = np.linspace(0, len(queries), pieces + 1).astype(int).tolist()

            def run(low: int, high: int) -> list[Found]:
                return _search(request, queries[low:high], None if low else report)

            if cores == 1:
                return [hits for low, high in itertools.pairwise(cuts) for hits in run(low, high)], report
            return [hits for some in deadline.map_with_deadline(exact.pool(), run, cuts[:-1], cuts[1:]) for hits in some], report
    return _search(request, queries, report), report


def _check_forced(request: SegmentRequest) -> None:
    for target in request.targets:
        plan = PLANS[int(target.segment.model(request.k).settings[request.forced, planner.PLAN])]
        if "graph" in plan.needs and not target.segment.has_graph:
            raise ValueError(f"plan {plan.name!r} needs a graph, and the segment of {target.segment.rows} rows has none")
        if plan.id == planner.ACORN and not target.allowed.filtered:
            raise ValueError(f"plan {plan.name!r} needs a filter that excludes some row")


def _search(request: SegmentRequest, queries: np.ndarray, report: Report | None) -> list[Found]:
    """Search for some of the queries on this thread."""
    targets, tail, chunks, _, spec, k, recall, _, forced, _, timed = request
    n = len(queries)
    heaps, sizes = np.empty((n, k), np.int64), np.zeros(n, np.int64)
    half = spec.dtype == "float16"
    touched, which = 0, which_model(k)
    planned = needed(recall, k, DEPTHS[which])
    for target in targets:
        if touched:
            chunks.confirm()  # before the next deadline check, so that a cancelled search leaves no chunk unverified
            touched = 0
        deadline.check()
        segment, allowed = target.segment, target.allowed
        if allowed.few is not None and forced < 0:
            touched += _search_few(request, target, queries, heaps, sizes, report)
            continue
        model = segment.models[which]
        facts = np.empty((n, REPORT_WIDTH))
        space = DenseScratch.of_thread(segment.rows, segment.clusters, segment.dim)
        corrections = segment.corrections
        started = time.perf_counter()
        touched += kernel.search_segment(
            segment.description, space.work, model.settings, model.levels, model.correlations, model.table, model.costs,
            corrections.table, planned, forced, model.depth, allowed.filtered, allowed.bits, allowed.counts,
            allowed.matches, queries, k, chunks.rows, chunks.verified, half, heaps, sizes, facts,
        )  # fmt: skip
        if segment.uncompiled:
            touched += _run_uncompiled(request, target, queries, heaps, sizes, facts)
        corrections.calls += 1
        elapsed = None
        if timed or corrections.calls % MEASURED_EVERY == 0:
            elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1) / n
            setting = int(facts[0, R_SETTING])
            if n == 1 and forced < 0 and setting >= 0:  # where a plan fell back to another, its cost includes the other's
                corrections.learn_cost(int(model.settings[setting, planner.PLAN]), facts[0, R_MICROSECONDS], elapsed)
            segment.follow()
        if report is not None:
            report.runs.append(_run(Run, (*facts[0].tolist(), elapsed if timed else None, None)))
    if touched:
        chunks.confirm()
    started = time.perf_counter()
    read = exact.scan_tail(chunks.rows, queries, spec, tail, heaps, sizes) if tail else None
    if report is not None:
        report.tail_read = read
        report.tail_microseconds = 1e6 * (time.perf_counter() - started) / n
    return [exact.unpacked(heaps[q, : sizes[q]]) for q in range(n)]


def few_run(target: SegmentTarget, k: int, elapsed: float | None = None) -> Run:
    """How a segment is searched of which few rows match. elapsed: microseconds, None if they weren't measured."""
    segment, matches = target.segment, int(target.allowed.matches[0])
    facts = np.zeros(REPORT_WIDTH)
    facts[R_SETTING] = planner.setting_of(segment.model(k).settings, planner.SCAN) if matches else -1
    facts[R_LOCAL], facts[R_SCORED], facts[R_RECALL] = -1, matches, 1
    facts[R_MICROSECONDS] = FEW_FIXED + matches * (FEW_ROW + segment.dim * FEW_NUMBER)
    return _run(Run, (*facts.tolist(), elapsed, None))


def _search_few(request: SegmentRequest, target: SegmentTarget, queries: np.ndarray, heaps, sizes, report: Report | None) -> int:
    """Search a segment of which few rows match. Returns the chunks newly touched."""
    segment, chunks, k = target.segment, request.chunks, request.k
    space = DenseScratch.of_thread(segment.rows, segment.clusters, segment.dim)
    docids = target.allowed.few
    assert docids is not None
    held, half = np.empty(len(docids), np.bool_), request.spec.dtype == "float16"
    started = time.perf_counter()
    touched = few.search_few(
        segment.description, space.work, segment.inverse, docids, held, queries, k, chunks.rows, chunks.verified, half, heaps, sizes
    )
    if report is not None:
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1) / len(queries) if request.timed else None
        report.runs.append(few_run(target, k, elapsed))
    return touched


def _run_uncompiled(request: SegmentRequest, target: SegmentTarget, queries: np.ndarray, heaps, sizes, facts) -> int:
    """Run the queries whose plan has a kernel of its own. facts: their reports, completed here. Returns the chunks newly touched."""
    segment, allowed, chunks, k, touched = target.segment, target.allowed, request.chunks, request.k, 0
    settings, bits = segment.model(k).settings, allowed.bits[0] if allowed.filtered else None
    for q, setting in enumerate(facts[:, R_SETTING].astype(int).tolist()):
        plan = PLANS[int(settings[setting, planner.PLAN])] if setting >= 0 else None
        if plan is None or plan.kernel is None:
            continue
        rows, scored = run_plan(plan, segment, bits, queries[q], settings[setting], k)
        docids, some = segment.docids[rows], slice(q, q + 1)
        if len(docids) < min(k, int(allowed.matches[0])) and request.forced < 0:
            docids = segment.docids if bits is None else segment.docids[rows_of_bits(bits, segment.rows)]
            scored, facts[q, R_FALLBACK] = scored + len(docids), 1
        given = request.spec.dtype == "float16", exact.METRICS[segment.metric], np.sort(docids), heaps[some], sizes[some]
        touched += exact.score_dense(chunks.rows, chunks.verified, queries[some], *given)
        facts[q, R_SCORED] = scored
    return touched


def run_plan(plan: Plan, segment: DenseSegment, bits: np.ndarray | None, query: np.ndarray, setting: np.ndarray, k: int):
    """The rows to score at full precision, by a plan with a kernel of its own, and the number of rows that it scored; see ``plans``."""
    assert plan.kernel is not None
    return plan.kernel(segment, bits, query, tuple(setting[planner.EFFORT :].tolist()), planner.KEPT * k + kernel.KEPT_LEAST)


def bounds(segments: Sequence[DenseSegment], tail: Sequence, spec: Any, query: np.ndarray) -> Bounds | None:
    """``IndexKind.bounds``, from the byte codes of verified files that hold the norms of the codes' residuals."""
    # Bounds can be trusted only in verified files, and files of earlier versions don't contain them.
    if not all(segment.verified and segment.residual_norms is not None for segment in segments):
        return None
    upper_bound = np.inf
    if spec.metric == "cosine":
        upper_bound = 1.0 + CEILING_ROUNDING
    elif spec.metric == "dot" and not tail:
        upper_bound = max(segment.upper_bound(query) for segment in segments) * (1.0 + CEILING_ROUNDING)
    return Bounds(upper_bound, search_bounded, "scan of byte codes with error bounds")


def search_bounded(request: SegmentRequest, threshold: float) -> tuple[Found, np.ndarray]:
    """The k rows with the highest upper bounds of their scores for one query: ((docids, bounds), slack), as ``Bounds.search``."""
    query, k = request.queries[0], request.k

    def scan(target: SegmentTarget, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        segment, keys = target.segment, np.empty(k, np.int64)
        codes = aligned((stride_of(segment.dim),), np.int8)
        allowed, norms = target.allowed, segment.residual_norms
        size, slope, base = bounded.bounded_topk(
            segment.description, query, codes, allowed.filtered, allowed.bits[0], low, high, norms, segment.max_norm, threshold, keys
        )
        docids = 0xFFFFFFFF - (keys[:size] & 0xFFFFFFFF)
        return keys[:size], 2 * (slope * norms[segment.inverse[docids - segment.first]].astype(np.float64) + base)

    pieces = []
    for target in request.targets:
        nbytes = int(target.allowed.matches[0]) * stride_of(target.segment.dim)
        cores = background.cores() if nbytes >= _PARALLEL_CODES else 1
        cuts = np.linspace(0, target.segment.rows, max(cores, nbytes // _CODES_AT_ONCE // deadline.WORK) + 1).astype(int).tolist()
        pieces += [(target, low, high) for low, high in itertools.pairwise(cuts)]
    deadline.check()
    scans = [scan(*pieces[0])] if len(pieces) == 1 else deadline.map_with_deadline(exact.pool(), scan, *zip(*pieces, strict=True))
    heaps, sizes = np.empty((1, k), np.int64), np.zeros(1, np.int64)
    exact.scan_tail(request.chunks.rows, query[None], request.spec, request.tail, heaps, sizes)
    keys = np.concatenate([heaps[0, : sizes[0]], *(keys for keys, _ in scans)])
    slack = np.concatenate([np.zeros(sizes[0]), *(slack for _, slack in scans)])  # the tail's scores are exact
    best = np.argsort(keys)[::-1][:k]
    docids, bounds = np.empty(len(best), np.int64), np.empty(len(best), np.float32)
    topk.unpack(keys[best], docids, bounds)
    return (docids, bounds), slack[best]
