"""Search one sparse field. Each segment is searched by the cheapest plan that reaches the recall target, all other rows (the tail) exactly.
The results are merged by their exact scores.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common import deadline
from ...kernels import FIRST, TINY_WEIGHT, topk
from ...kernels import impact as kernel
from .. import exact as flat
from ..dense.search import NOTHING_MATCHES, SegmentTarget, TailRange, Trace
from ..exact import Found
from ..saturation import Saturation, numbers_for, stretch
from . import scratch as sparse_scratch
from .calibrate import CALL_MICROSECONDS, PLAN, PLAN_NAMES, Choice, choose, first_look, model_for, predictions
from .segment import SparseSegment

Query = tuple[np.ndarray, np.ndarray]  # terms uint64 ascending, weights float32

# Constants: unit and meaning, then the source in brackets. [float32]: from the range of that type. [by hand]: a round value, no
# benchmark of it is recorded.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used [by hand]
SCORES = (1e-25, 1e30)  # range of the highest possible score in which 16-bit sums can be scaled [float32]
_MEASURED_EVERY = 16  # searches of a segment for each one that is timed; timing costs time itself [by hand]
_CHOSEN_ANEW = 256  # searches for which a chosen plan is cached; corrections move little meanwhile. Also the cache's entries [by hand]


def searchable(segments: Sequence[SparseSegment], queries: Sequence[Query], k: int, saturation: Saturation | None = None) -> bool:
    """Whether the index can answer these queries. It can't where a weight is negative or tiny, because the plans rely on sums that only
    grow; for more than MAX_DEPTH results; and for too many terms or scores outside SCORES, because sums have 16 bits.
    """
    if k > MAX_DEPTH or any(segment.signed for segment in segments):
        return False
    most = max((segment.most * stretch(saturation, segment.mean) for segment in segments), default=0.0)
    for terms, weights in queries:
        if not len(terms):
            continue
        bound = most * float(weights.sum(dtype=np.float64))
        if len(terms) > sparse_scratch.MAX_QUERY_TERMS or weights.min() < TINY_WEIGHT or (bound and not SCORES[0] < bound < SCORES[1]):
            return False
    return True


def search(
    parts: Sequence[SegmentTarget],
    rest: Sequence[TailRange],
    table: np.ndarray,
    queries: Sequence[Query],
    k: int,
    target: float,
    forced: int = -1,
    trace: Trace | None = None,
    saturation: Saturation | None = None,
) -> list[Found]:
    """The best k rows of each query by inner product, or by BM25 (``saturation``), with exact scores, at a predicted mean recall of
    ``target`` or more.

    table: the chunk table of the field's postings. queries: must be ``searchable``. forced: the index of a setting (a row of the segments'
    settings) to run instead of the chosen one; −1: none.
    """
    if len(queries) > 1 and not (trace is not None and trace.measured):
        traces = [trace] + [None] * (len(queries) - 1)
        return deadline.map_with_deadline(
            flat.pool(), lambda query, trace: _search(parts, rest, table, query, k, target, forced, trace, saturation), queries, traces
        )
    # An explained batch explains its first query.
    return [_search(parts, rest, table, query, k, target, forced, trace if q == 0 else None, saturation) for q, query in enumerate(queries)]


def _search(
    parts, rest, table, query: Query, k: int, target: float, forced: int, trace: Trace | None, saturation: Saturation | None
) -> Found:
    terms, weights = query
    found = []
    for part in parts:
        deadline.check()
        keys, report, microseconds = _search_part(part, table, terms, weights, k, target, forced, trace, saturation)
        found.append(keys)
        if trace is not None:
            trace.reports.append([report])
            trace.microseconds.append(microseconds if trace.measured else None)
    started = time.perf_counter()
    for piece in rest:
        if len(piece.docids):
            found.append(_keys(flat.search_sparse(table[piece.low : piece.high], terms, weights, k, piece.docids, saturation)))
    if trace is not None:
        trace.rest_microseconds = 1e6 * (time.perf_counter() - started)
    keys = found[0] if len(found) == 1 else np.concatenate(found)
    docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
    topk.unpack(keys, docids, scores)
    return docids[:k], scores[:k]


def _search_part(
    part: SegmentTarget,
    table: np.ndarray,
    terms,
    weights,
    k: int,
    target: float,
    forced: int,
    trace: Trace | None,
    saturation: Saturation | None,
) -> tuple[np.ndarray, dict | None, float]:
    """(keys, report, microseconds) of one segment. The report is None without a trace; the time is 0 where it wasn't measured."""
    segment, allowed = part.segment, part.allowed
    matches = int(allowed.matches[0])
    wanted = min(k, matches)
    if wanted == 0 or not segment.vocabulary:
        return np.empty(0, np.int64), {"choice": None, "postings": 0, "scored": 0, "fallback": False}, 0.0
    choice = _chosen(part, k, target) if forced < 0 else Choice(forced, 0.0, 1.0)
    plan, share, misses = model_for(segment.models, k).settings[choice.setting].tolist()
    heap, report = np.empty(wanted, np.int64), np.zeros(kernel.REPORT_WIDTH, np.int64)
    started = time.perf_counter()
    if plan == kernel.POSTINGS:
        heap = _by_postings(part, table, terms, weights, wanted, saturation)
        size = len(heap)
        report[kernel.R_POSTINGS] = segment.postings_of(terms)
    else:
        space = sparse_scratch.of_thread(segment.rows, segment.vocabulary)
        bits = allowed.bits[0] if allowed.filtered else segment.every_bit
        given = segment.description, space.work, numbers_for(saturation, segment.mean)
        size = kernel.search_impacts(*given, int(plan), share, misses, first_look(wanted), matches, bits, terms, weights, heap, report)
    corrections = segment.corrections
    corrections.calls += 1
    microseconds = 0.0
    if (trace is not None and trace.measured) or corrections.calls % _MEASURED_EVERY == 0:
        microseconds = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
        if forced < 0:  # where a plan fell back to another, its cost includes the other's
            corrections.learn_cost(int(plan), choice.microseconds, microseconds)
    summary = None
    if trace is not None:
        postings, scored, fallback = report.tolist()
        summary = {"choice": choice, "postings": postings, "scored": scored, "fallback": bool(fallback)}
    return heap[:size], summary, microseconds


def _by_postings(part: SegmentTarget, table: np.ndarray, terms, weights, k: int, saturation: Saturation | None) -> np.ndarray:
    """The plan POSTINGS: an exact search of the chunks that hold the segment's rows. Returns the keys of the best k rows."""
    segment, docids = part.segment, part.segment.docids
    if part.allowed.filtered:
        docids = docids[np.unpackbits(part.allowed.bits[0].view(np.uint8), bitorder="little")[: segment.rows].view(np.bool_)]
    low = max(int(np.searchsorted(table[:, FIRST], segment.docids[0], "right")) - 1, 0)
    high = int(np.searchsorted(table[:, FIRST], segment.docids[-1], "right"))
    return _keys(flat.search_sparse(table[low:high], terms, weights, k, docids, saturation))


def _chosen(part: SegmentTarget, k: int, target: float) -> Choice:
    """The choice for a request, cached for _CHOSEN_ANEW searches."""
    segment, matches = part.segment, int(part.allowed.matches[0])
    key = (matches, part.free, k, target)
    cached = segment.choices.get(key)
    if cached is not None and segment.corrections.calls - cached[0] < _CHOSEN_ANEW:
        return cached[1]
    if len(segment.choices) >= _CHOSEN_ANEW:
        segment.choices.clear()
    choice = choose(model_for(segment.models, k), segment.rows, matches, part.free, k, target, segment.corrections)
    segment.choices[key] = (segment.corrections.calls, choice)
    return choice


def _keys(found: Found) -> np.ndarray:
    docids, scores = found
    keys = np.empty(len(docids), np.int64)
    topk.pack(docids, scores, keys)
    return keys


def judged(part: SegmentTarget, report: dict, k: int) -> tuple[int, float] | None:
    """(plan, predicted recall) of a search of a segment; None where an audit can't judge the plan: nothing matched, or it fell back."""
    choice = report["choice"]
    if choice is None or report["fallback"]:
        return None
    return _plan_of(part, choice, k), choice.recall


def _plan_of(part: SegmentTarget, choice: Choice, k: int) -> int:
    return int(model_for(part.segment.models, k).settings[choice.setting, PLAN])


def parameters(settings: np.ndarray, setting: int) -> dict[str, float]:
    """The parameters of a setting, by the names that ``explain`` shows."""
    plan, share, misses = settings[setting].tolist()
    return {"postings": share, "misses": misses} if plan == kernel.IMPACTS else {}


def considered(part: SegmentTarget, k: int) -> list[dict[str, Any]]:
    """Every setting with its predicted cost (microseconds) and recall for a request, cheapest first, for ``explain``."""
    segment, matches = part.segment, int(part.allowed.matches[0])
    model = model_for(segment.models, k)
    costs, recalls = predictions(model, segment.rows, matches, part.free, segment.corrections)
    found = [
        {
            "plan": PLAN_NAMES[int(model.settings[s, PLAN])],
            "parameters": parameters(model.settings, s),
            "microseconds": float(costs[s]),
            "recall": float(recalls[s]),
        }
        for s in range(len(model.settings))
    ]
    return sorted(found, key=lambda row: row["microseconds"])


def plan_name(part: SegmentTarget, report: dict, k: int) -> str:
    """The name of the plan by which a segment was searched."""
    choice = report["choice"]
    return NOTHING_MATCHES if choice is None else PLAN_NAMES[_plan_of(part, choice, k)]


def explained(part: SegmentTarget, report: dict, k: int) -> dict[str, Any]:
    """How a segment was searched, as plain data: an entry of ``segments`` in a plan (``vectordb_client.model.plan.Plan``)."""
    segment, choice = part.segment, report["choice"]
    matches = int(part.allowed.matches[0])
    plan = kernel.SCAN if choice is None else _plan_of(part, choice, k)
    offset, factor = segment.corrections.table[:, plan]
    recall = 1.0 if choice is None or plan != kernel.IMPACTS else min(choice.recall + offset, 1.0)
    return {
        "rows": segment.rows,
        "matches": matches,
        "selectivity": matches / segment.rows,
        "plan": plan_name(part, report, k),
        "parameters": {} if choice is None else parameters(model_for(segment.models, k).settings, choice.setting),
        "predicted": {"microseconds": 0.0 if choice is None else float(choice.microseconds * factor), "recall": float(recall)},
        "fallback": report["fallback"],
        "considered": considered(part, k) if choice is not None else [],
        "rows_scored": report["scored"],
        "postings": report["postings"],
    }
