"""Search one sparse field. Each segment is searched by the cheapest plan that reaches the recall target, all other rows (the tail) exactly.
The results are merged by their exact scores.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ...common import deadline
from ...kernels import FIRST, TINY_WEIGHT, impact_layout, topk
from ...kernels import impact as kernel
from .. import exact
from ..base import Report, Run, SegmentRequest, SegmentTarget, rows_of_bits
from ..exact import Found
from ..model import MEASURED_EVERY
from ..saturation import Saturation, numbers_for, stretch
from .model import Choice, first_pass
from .scratch import MAX_QUERY_TERMS, ImpactScratch
from .segment import ImpactSegment

Query = tuple[np.ndarray, np.ndarray]  # terms uint64 ascending, weights float32

# Constants: unit and meaning, then the source in brackets. [float32]: from the range of that type. [estimate]: a rounded time; machines
# differ. [chosen]: chosen, not measured.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used [chosen]
SCORES = (1e-25, 1e30)  # range of the highest possible score in which 16-bit sums can be scaled [float32]
CALL_MICROSECONDS = 2.0  # microseconds of a kernel call from Python and back, subtracted from measured times [estimate]
_CHOSEN_ANEW = 256  # searches for which a chosen plan is cached; corrections move little meanwhile. Also the cache's entries [chosen]
NOTHING = Run(-1, -1, 0, 0.0, 1.0, False, None, 0)  # of a segment without anything to find


def usable(segments: Sequence[ImpactSegment], queries: Sequence[Query], k: int, exact: bool, saturation: Saturation | None) -> bool:
    """``IndexKind.usable``. The index can't answer for more than MAX_DEPTH results, and for too many terms or scores outside SCORES,
    because sums have 16 bits; and a query whose weights are all negative has no use for it unless rows have negative weights too. An exact
    search uses the lossless plans, once all files have been verified.
    """
    if exact and not all(segment.verified for segment in segments):
        return False
    if k > MAX_DEPTH:
        return False
    most, signed = 0.0, any(segment.signed for segment in segments)
    for segment in segments:
        if segment.unsearchable:
            return False
        most = max(most, segment.most if saturation is None else segment.most * stretch(saturation, segment.mean))
    for terms, weights in queries:
        if not len(terms):
            continue
        bound = most * float(np.abs(weights).sum(dtype=np.float64))
        if len(terms) > MAX_QUERY_TERMS or (bound and not SCORES[0] < bound < SCORES[1]) or (weights.max() < 0 and not signed):
            return False
    return True


def search(request: SegmentRequest) -> tuple[list[Found], Report | None]:
    """``IndexKind.search``, by inner product or BM25. Queries: (terms, weights), which must be ``usable``."""
    queries = request.queries
    report = Report(request.targets, request.k) if request.recorded else None
    if len(queries) == 1:
        return [_search(request, queries[0], report)], report
    reports = [report] + [None] * (len(queries) - 1)  # an explained batch explains its first query
    if not request.timed:
        return deadline.map_with_deadline(exact.pool(), lambda *given: _search(request, *given), queries, reports), report
    return [_search(request, *given) for given in zip(queries, reports, strict=True)], report


def _search(request: SegmentRequest, query: Query, report: Report | None) -> Found:
    parts = []
    for target in request.targets:
        deadline.check()
        keys, run = _search_segment(request, target, query, report is not None)
        parts.append(keys)
        if report is not None and run is not None:
            report.runs.append(run)
    started = time.perf_counter()
    for piece in request.tail:
        if len(piece.docids):
            table = request.chunks.rows[piece.low : piece.high]
            parts.append(keys_of(exact.search_sparse(table, *query, request.k, piece.docids, request.saturation)))
    if report is not None:
        report.tail_microseconds = 1e6 * (time.perf_counter() - started)
    docids, scores = exact.unpacked(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return docids[: request.k], scores[: request.k]


def _search_segment(request: SegmentRequest, target: SegmentTarget, query: Query, recorded: bool) -> tuple[np.ndarray, Run | None]:
    """(keys of one segment, how it was searched if that is ``recorded``)."""
    segment, allowed = target.segment, target.allowed
    matches = int(allowed.matches[0])
    needed = min(request.k, matches)
    if needed == 0 or not segment.vocabulary:
        return np.empty(0, np.int64), NOTHING._replace(elapsed=0.0) if request.timed else NOTHING
    forced = request.forced
    choice = chosen(target, request.k, request.recall) if forced < 0 else Choice(forced, 0.0, 1.0)
    plan, share, misses = segment.model(request.k).settings[choice.setting].tolist()
    heap, facts = np.empty(needed, np.int64), np.zeros(impact_layout.REPORT_WIDTH, np.int64)
    started = time.perf_counter()
    if plan == kernel.POSTINGS:
        heap = by_postings(request.chunks.rows, request.saturation, target, query, needed)
        size = len(heap)
        facts[impact_layout.R_POSTINGS] = segment.postings_of(query[0])
    else:
        space = ImpactScratch.of_thread(segment.rows, segment.vocabulary)
        bits = allowed.bits[0] if allowed.filtered else segment.every_bit
        given = segment.description, space.work, numbers_for(request.saturation, segment.mean)
        size = kernel.search_impacts(*given, int(plan), share, misses, first_pass(needed), matches, bits, *query, heap, facts)
        if (
            size < needed and len(query[0]) and (segment.signed or query[1].min() < TINY_WEIGHT)
        ):  # rows that score 0 or less may be among the best
            heap = by_postings(request.chunks.rows, request.saturation, target, query, needed)
            size = len(heap)
            facts[impact_layout.R_POSTINGS] += segment.postings_of(query[0])
            facts[impact_layout.R_FALLBACK], forced = 1, choice.setting  # nothing is learned of its cost
    corrections = segment.corrections
    corrections.calls += 1
    elapsed = None
    if request.timed or corrections.calls % MEASURED_EVERY == 0:
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
        if forced < 0:  # where a plan fell back to another, its cost includes the other's
            corrections.learn_cost(int(plan), choice.microseconds, elapsed)
    if not recorded:
        return heap[:size], None
    postings, scored, fallback = facts.tolist()
    return heap[:size], Run(
        choice.setting, -1, scored, choice.microseconds, choice.recall, fallback, elapsed if request.timed else None, postings
    )


def by_postings(table: np.ndarray, saturation: Saturation | None, target: SegmentTarget, query: Query, k: int) -> np.ndarray:
    """The plan POSTINGS: an exact search of the chunks that hold the segment's rows. table: of the chunks. Returns the keys of the best k
    rows.
    """
    segment = target.segment
    docids = segment.docids
    if target.allowed.filtered:
        docids = docids[rows_of_bits(target.allowed.bits[0], segment.rows)]
    low = max(int(np.searchsorted(table[:, FIRST], segment.docids[0], "right")) - 1, 0)
    high = int(np.searchsorted(table[:, FIRST], segment.docids[-1], "right"))
    return keys_of(exact.search_sparse(table[low:high], *query, k, docids, saturation))


def chosen(target: SegmentTarget, k: int, recall: float) -> Choice:
    """The choice for a request, cached for _CHOSEN_ANEW searches."""
    segment = target.segment
    key = (int(target.allowed.matches[0]), target.free, k, recall)
    cached = segment.choices.get(key)
    if cached is not None and segment.corrections.calls - cached[0] < _CHOSEN_ANEW:
        return cached[1]
    if len(segment.choices) >= _CHOSEN_ANEW:
        segment.choices.clear()
    choice = segment.model(k).choose(target, k, recall)
    segment.choices[key] = (segment.corrections.calls, choice)
    return choice


def keys_of(hits: Found) -> np.ndarray:
    docids, scores = hits
    keys = np.empty(len(docids), np.int64)
    topk.pack(docids, scores, keys)
    return keys
