"""Search one dense field. Segments are searched by the plan that the planner chooses, all other rows (the tail) by an exact scan. The
results are merged by their full-precision scores.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...common import background, deadline
from ...kernels import bounded, planner, topk
from ...kernels import segment as kernel
from ...kernels.codes import stride_of
from ...kernels.layout import R_FALLBACK, R_LOCAL, R_MICROSECONDS, R_RECALL, R_SCORED, R_SETTING, REPORT_WIDTH
from .. import exact as flat
from ..exact import METRICS, Found
from . import scratch
from .calibrate import CALL_MICROSECONDS, GRAPH_PLANS, PLAN_NAMES, Model
from .segment import Segment, SegmentMask

NOTHING_MATCHES = "nothing matches"

# Constants: unit and meaning, then the source in brackets. [planner]: checked by bench/planner.py, which compares predicted with observed
# recall and cost. [by hand]: a round value, no benchmark of it is recorded.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used [by hand]
BEYOND = 1 / 3  # share of (1 − target) added to the target for k > 2·depth, where predictions are optimistic [planner]
_MEASURED_EVERY = 16  # searches of a segment for each one that is timed; timing costs time itself [by hand]
_QUERIES_AT_ONCE = 64  # queries in a kernel call, which can't be cancelled: bounds how late a deadline is noticed [by hand]
_CODES_AT_ONCE = 8  # byte codes multiplied in the time of one float, for the same bound [by hand]
_PARALLEL_CODES = 64 << 20  # bytes of codes; a smaller scan uses one core, which reads about as fast as the memory delivers [by hand]


@dataclass(frozen=True)
class SegmentTarget:
    """A segment to search and the mask of its rows that may be returned. free: there is no filter; the mask excludes dead rows only."""

    segment: Segment
    allowed: SegmentMask
    free: bool = False


@dataclass(frozen=True)
class TailRange:
    """A range of the tail: chunks [low, high) of the table, and the docids to scan in them (uint32, ascending)."""

    low: int
    high: int
    docids: np.ndarray


@dataclass
class Trace:
    """A record of how each segment was searched, for ``explain``: reports (one for each query) and the microseconds of each kernel call.

    measured: record times too, and search on one thread. Otherwise the search runs as without a trace and only reports are recorded: of a
    batch, those of its first queries.
    """

    measured: bool = True
    reports: list[Sequence] = field(default_factory=list)
    microseconds: list[float | None] = field(default_factory=list)
    rest_microseconds: float = 0.0


def search(
    parts: Sequence[SegmentTarget],
    rest: Sequence[TailRange],
    table: np.ndarray,
    verified: np.ndarray,
    confirm: Callable[[], None],
    queries: np.ndarray,
    dtype: str,
    metric: str,
    k: int,
    target: float,
    forced: int = -1,
    trace: Trace | None = None,
) -> list[Found]:
    """The best k rows of each query, with full-precision scores, at a predicted mean recall of ``target`` or more.

    table: the field's chunk table. verified: a flag for each chunk; the search marks the unverified chunks that it reads with 2, and
    ``confirm()`` checks their checksums. queries: float32 ``(n, dim)``. forced: the index of a setting (a row of the segments' settings) to
    run instead of the planner's choice; −1: none. Raises CorruptionError, and ValueError where the forced plan can't be run.
    """
    if forced >= 0:
        _check_forced(parts, forced, k)
    if len(queries) > 1:
        cores = 1 if trace is not None and trace.measured else min(background.cores(), len(queries))
        work = sum(part.segment.rows * part.segment.dim for part in parts) // _CODES_AT_ONCE
        most = min(max(deadline.WORK // max(work, 1), 1), _QUERIES_AT_ONCE)
        if cores > 1 or len(queries) > most:
            pieces = max(min(4 * cores, len(queries)) if cores > 1 else 1, -(-len(queries) // most))
            bounds = np.linspace(0, len(queries), pieces + 1).astype(int).tolist()

            def run(low: int, high: int) -> list[Found]:
                return _search(
                    parts, rest, table, verified, confirm, queries[low:high], dtype, metric, k, target, forced, None if low else trace
                )

            if cores == 1:
                return [found for low, high in itertools.pairwise(bounds) for found in run(low, high)]
            return [found for some in deadline.map_with_deadline(flat.pool(), run, bounds[:-1], bounds[1:]) for found in some]
    return _search(parts, rest, table, verified, confirm, queries, dtype, metric, k, target, forced, trace)


def _check_forced(parts: Sequence[SegmentTarget], forced: int, k: int) -> None:
    for part in parts:
        plan = int(model_for(part.segment.models, k).settings[forced, planner.PLAN])
        if plan in GRAPH_PLANS and not part.segment.has_graph:
            raise ValueError(f"plan {PLAN_NAMES[plan]!r} needs a graph, and the segment of {part.segment.rows} rows has none")
        if plan == planner.GRAPH_TWO_HOP and not part.allowed.filtered:
            raise ValueError(f"plan {PLAN_NAMES[plan]!r} needs a filter that excludes some row")


def _search(parts, rest, table, verified, confirm, queries, dtype, metric, k, target, forced, trace) -> list[Found]:
    n = len(queries)
    heaps, sizes = np.empty((n, k), np.int64), np.zeros(n, np.int64)
    half = dtype == "float16"
    touched = 0
    for part in parts:
        if touched:
            confirm()  # before the next deadline check, so that a cancelled search leaves no chunk unverified
            touched = 0
        deadline.check()
        segment, allowed = part.segment, part.allowed
        model = model_for(segment.models, k)
        report = np.empty((n, REPORT_WIDTH))
        space = scratch.of_thread(segment.rows, segment.clusters, segment.dim)
        corrections = segment.corrections
        started = time.perf_counter()
        touched += kernel.search_segment(
            segment.description, space.work, model.settings, model.levels, model.locals, model.recalls, model.costs, corrections.table,
            _needed(target, k, model), forced, model.depth, allowed.filtered, allowed.bits, allowed.counts, allowed.matches, queries, k,
            table, verified, half, heaps, sizes, report,
        )  # fmt: skip
        corrections.calls += 1
        measured = trace is not None and trace.measured
        if measured or corrections.calls % _MEASURED_EVERY == 0:
            elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1) / n
            setting = int(report[0, R_SETTING])
            if n == 1 and forced < 0 and setting >= 0:  # where a plan fell back to another, its cost includes the other's
                corrections.learn_cost(int(model.settings[setting, planner.PLAN]), report[0, R_MICROSECONDS], elapsed)
        if trace is not None:
            trace.reports.append(report)
            trace.microseconds.append(elapsed if measured else None)
    if touched:
        confirm()
    started = time.perf_counter()
    for piece in rest:
        if len(piece.docids):
            flat.scan_dense(table, queries, half, METRICS[metric], piece.docids, True, piece.low, piece.high, heaps, sizes)
    if trace is not None:
        trace.rest_microseconds = 1e6 * (time.perf_counter() - started) / n
    found = []
    for q in range(n):
        keys = heaps[q, : sizes[q]]
        docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
        topk.unpack(keys, docids, scores)
        found.append((docids, scores))
    return found


def search_bounded(
    parts: Sequence[SegmentTarget],
    rest: Sequence[TailRange],
    table: np.ndarray,
    query: np.ndarray,
    dtype: str,
    metric: str,
    k: int,
    floor: float,
) -> tuple[Found, np.ndarray]:
    """The k rows with the highest upper bounds of their scores: ((docids, bounds), slack).

    slack: float64 ``(k,)``; the true score of row i is in [bounds[i] − slack[i], bounds[i]]. A row that isn't returned scores less than
    ``floor`` or, if k rows are returned, no more than the last bound. Segments are scanned by their byte codes; each must have the section
    ``lacking`` (the norms of the codes' residuals), which the bounds are made of. Other arguments as in ``search``, for one query.
    """

    def scan(part: SegmentTarget, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        segment, keys = part.segment, np.empty(k, np.int64)
        codes = scratch.aligned((stride_of(segment.dim),), np.int8)
        allowed, lacking = part.allowed, segment.lacking
        size, slope, base = bounded.bounded_topk(
            segment.description, query, codes, allowed.filtered, allowed.bits[0], low, high, lacking, segment.longest, floor, keys
        )
        docids = 0xFFFFFFFF - (keys[:size] & 0xFFFFFFFF)
        return keys[:size], 2 * (slope * lacking[segment.inverse[docids - segment.first]].astype(np.float64) + base)

    pieces = []
    for part in parts:
        nbytes = int(part.allowed.matches[0]) * stride_of(part.segment.dim)
        cores = background.cores() if nbytes >= _PARALLEL_CODES else 1
        cuts = np.linspace(0, part.segment.rows, max(cores, nbytes // _CODES_AT_ONCE // deadline.WORK) + 1).astype(int).tolist()
        pieces += [(part, low, high) for low, high in itertools.pairwise(cuts)]
    deadline.check()
    found = [scan(*pieces[0])] if len(pieces) == 1 else deadline.map_with_deadline(flat.pool(), scan, *zip(*pieces, strict=True))
    heaps, sizes = np.empty((1, k), np.int64), np.zeros(1, np.int64)
    for piece in rest:
        if len(piece.docids):
            flat.scan_dense(
                table, query[None], dtype == "float16", METRICS[metric], piece.docids, True, piece.low, piece.high, heaps, sizes
            )
    keys = np.concatenate([heaps[0, : sizes[0]], *(keys for keys, _ in found)])
    slack = np.concatenate([np.zeros(sizes[0]), *(slack for _, slack in found)])  # the tail's scores are exact
    best = np.argsort(keys)[::-1][:k]
    docids, bounds = np.empty(len(best), np.int64), np.empty(len(best), np.float32)
    topk.unpack(keys[best], docids, bounds)
    return (docids, bounds), slack[best]


def _needed(target: float, k: int, model: Model) -> float:
    """The recall to plan for. For k > 2·depth predictions are optimistic, so plan for target + (1 − target)·BEYOND."""
    return target if k <= 2 * model.depth else target + BEYOND * (1.0 - target)


def model_for(models: Sequence[Model], k: int) -> Model:
    """The model to use for k results: that of 10 for up to 30, else that of 100 (see DEPTHS)."""
    return models[0] if k <= 3 * models[0].depth else models[1]


def considered(segment: Segment, allowed: SegmentMask, k: int, local: float | None) -> list[dict[str, Any]]:
    """Every setting with its predicted cost (microseconds) and recall for a request, cheapest first. local: the selectivity near the query.

    This repeats in Python what the kernel did when it chose the plan, for ``explain``.
    """
    model = model_for(segment.models, k)
    matches = int(allowed.matches[0])
    if matches == 0:
        return []
    share = np.log2(matches / segment.rows)
    cells, weights = np.zeros(4, np.int64), np.zeros(4)
    exact = planner.setting_of(model.settings, planner.EXACT)
    growth, extra = planner.beyond(k, model.depth, matches)
    rho = np.log2(max(local * segment.rows / matches, 2.0**-8)) if local is not None and local >= 0 else 0.0
    level = min(share, model.levels[1]) if allowed.filtered else model.levels[0]
    planner.weights_of(model.levels, model.locals, level, rho, cells, weights)
    found = []
    for s in range(len(model.settings)):
        plan = int(model.settings[s, planner.PLAN])
        cost = planner.cost_of(s, model.settings, cells, weights, model.costs, exact, growth, extra) * segment.corrections.table[1, plan]
        if cost < 1e6:
            recall = min(planner.predict(s, cells, weights, model.recalls) + segment.corrections.table[0, plan], 1.0)
            recall = 1.0 if plan == planner.EXACT else recall
            found.append(
                {"plan": PLAN_NAMES[plan], "parameters": parameters(model, s, k), "microseconds": float(cost), "recall": float(recall)}
            )
    return sorted(found, key=lambda row: row["microseconds"])


def parameters(model: Model, setting: int, k: int) -> dict[str, float]:
    """The parameters of a setting, by the names that ``explain`` shows."""
    plan, effort, width = model.settings[setting].tolist()
    grown = max(k / model.depth, 1.0)
    if plan in (planner.SCAN, planner.EXACT):
        return {}
    if plan == planner.FUNNEL:
        return {"deviations": effort}
    if plan == planner.CLUSTERS_SCAN:
        return {"rows": round(effort * grown)}
    if plan == planner.CLUSTERS_FUNNEL:
        return {"rows": round(effort * grown), "first_pass": round(width * max(k, model.depth))}
    return {"ef": int(effort * max(k, model.depth))}


def judged(part: SegmentTarget, report: np.ndarray, k: int) -> tuple[int, float] | None:
    """(plan, predicted recall) of a search of a segment; None where an audit can't judge the plan: nothing matched, or it fell back."""
    setting = int(report[R_SETTING])
    if setting < 0 or report[R_FALLBACK]:
        return None
    return int(model_for(part.segment.models, k).settings[setting, planner.PLAN]), float(report[R_RECALL])


def plan_name(part: SegmentTarget, report: np.ndarray, k: int) -> str:
    """The name of the plan by which a segment was searched."""
    setting = int(report[R_SETTING])
    return PLAN_NAMES[int(model_for(part.segment.models, k).settings[setting, planner.PLAN])] if setting >= 0 else NOTHING_MATCHES


def explained(part: SegmentTarget, report: np.ndarray, k: int) -> dict[str, Any]:
    """How a segment was searched, as plain data: an entry of ``segments`` in a plan (``vectordb_client.model.plan.Plan``)."""
    segment, allowed = part.segment, part.allowed
    matches = int(allowed.matches[0])
    setting, local = int(report[R_SETTING]), float(report[R_LOCAL])
    model = model_for(segment.models, k)
    plan = int(model.settings[setting, planner.PLAN]) if setting >= 0 else planner.SCAN
    offset, factor = segment.corrections.table[:, plan]
    return {
        "rows": segment.rows,
        "matches": matches,
        "selectivity": matches / segment.rows,
        "local_selectivity": None if local < 0 else local,
        "plan": plan_name(part, report, k),
        "parameters": {} if setting < 0 else parameters(model, setting, k),
        "predicted": {
            "microseconds": float(report[R_MICROSECONDS] * factor),
            "recall": min(float(report[R_RECALL] + offset), 1.0),
        },
        "fallback": bool(report[R_FALLBACK]),
        "considered": considered(segment, allowed, k, local),
        "rows_scored": int(report[R_SCORED]),
    }
