"""Search one multi-vector field. Each segment is searched by the cheapest plan that reaches the recall target, all other rows (the tail)
exactly. The results are merged by their exact scores.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...common import deadline, memory
from ...kernels import FIRST, ITEMS, dense, maxsim, token_lists, topk
from .. import exact
from ..base import Report, Run, SegmentRequest, SegmentTarget, rows_of_bits
from ..exact import Found
from ..model import AGAIN, MEASURED_EVERY, PLAN, STOPPED
from .ahead import CODES, FIRST_LISTS, FIRST_SCORED, VECTORS, ask_codes, ask_vectors, blocks_read
from .far import distance_of
from .model import Choice
from .plans import EXACT, LISTS, candidates, exact_rows
from .scratch import ListScratch
from .segment import CodedQuery, MultiSegment

# Constants: unit and meaning, then the source in brackets. [estimate]: a rounded time; machines differ. [chosen]: chosen, not measured.
MAX_DEPTH = 2_000  # results; for a higher limit the index isn't used [chosen]
CALL_MICROSECONDS = 10.0  # microseconds around the kernels, subtracted from measured times [estimate]
CODES_AT_ONCE = 4  # byte codes multiplied in the time of one float: bounds how late a deadline is noticed [estimate]
ROW_WORK = 64  # multiplications that a row costs beside its products [estimate]
CALIBRATED_LANES = 32  # query vectors, with those that fill a part up, that costs are measured for
ROW_BYTES = 24  # bytes of a row that is scored by byte codes: its number, score and key
LISTED_VECTORS = 4  # of a query, from which on lists may be read: one or two vectors lead to too few rows [chosen]
_CHOSEN_ANEW = 256  # searches for which a chosen plan is cached. Also the cache's entries [chosen]
_NO_ROWS, _NO_KEYS, _NO_BITS = np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.uint64)
_NOTHING = Run(-1, -1, 0, 0.0, 1.0, False, 0.0)


def usable(segments: Sequence[Any], queries: Any, k: int, exact: bool, saturation: object) -> bool:
    """``IndexKind.usable``: an exact search and one for more than MAX_DEPTH results read all vectors."""
    return not exact and k <= MAX_DEPTH


def search(request: SegmentRequest) -> tuple[list[Found], Report | None]:
    """``IndexKind.search``. Queries: float32 matrices ``(rows, dim)``. Raises CorruptionError."""
    queries = request.queries
    report = Report(request.targets, request.k) if request.recorded else None
    if len(queries) == 1:
        return [_search(request, queries[0], report)], report
    reports = [report] + [None] * (len(queries) - 1)  # an explained batch explains its first query
    if not request.timed:
        return deadline.map_with_deadline(exact.pool(), lambda *given: _search(request, *given), queries, reports), report
    return [_search(request, *given) for given in zip(queries, reports, strict=True)], report


def _search(request: SegmentRequest, query: np.ndarray, report: Report | None) -> Found:
    parts = []
    for target in request.targets:
        deadline.check()
        keys, run = _search_segment(request, target, query)
        parts.append(keys)
        if report is not None:
            report.runs.append(run)
    started = time.perf_counter()
    parts += [_tail(request, query, piece) for piece in request.tail if len(piece.docids)]
    if report is not None:
        report.tail_microseconds = 1e6 * (time.perf_counter() - started)
    docids, scores = exact.unpacked(np.concatenate(parts))
    return docids[: request.k], scores[: request.k]


def _tail(request: SegmentRequest, query: np.ndarray, piece: Any) -> np.ndarray:
    heap, spec = np.empty(min(request.k, len(piece.docids)), np.int64), request.spec
    table = request.chunks.rows[piece.low : piece.high]
    return heap[: exact.scan_multi(table, query, spec.stored, spec.metric, spec.aggregation, piece.docids, True, heap, 0)]


def _search_segment(request: SegmentRequest, target: SegmentTarget, query: np.ndarray) -> tuple[np.ndarray, Run]:
    """(keys of the best rows of one segment, how it was searched)."""
    segment, matches = target.segment, int(target.allowed.matches[0])
    needed = min(request.k, matches)
    if needed == 0:
        return _NO_KEYS, _NOTHING if request.timed else _NOTHING._replace(elapsed=None)
    model, forced = segment.model(request.k), request.forced
    started = time.perf_counter()
    choice = _chosen(target, request.k, request.recall, len(query)) if forced < 0 else Choice(forced, 0.0, 1.0)
    keys, scored, fallback, away = _searched(request, target, query, choice, needed)
    predicted, repeated, ran = choice.microseconds, False, choice
    if forced < 0 and away > model.usual and not fallback:
        # What was found is farther than what rows find, so it may lack more than was predicted.
        ran = model.at_distance(target, request.k, choice, away)
        offset = segment.corrections.table[0, int(model.settings[ran.setting, PLAN])]
        if ran.recall + offset < request.recall:
            other = model.choose(target, request.k, request.recall, len(query) >= LISTED_VECTORS, away)
            if other.setting != ran.setting:
                deadline.check()
                keys, more, fallback, away = _searched(request, target, query, other, needed)
                scored, repeated, ran, predicted = scored + more, True, other, predicted + other.microseconds
    corrections = segment.corrections
    corrections.calls += 1
    # Costs are proportional to the query's vectors; those of the calibration had one part.
    predicted, elapsed = predicted * max(-(-len(query) // CALIBRATED_LANES), 1), None
    if request.timed or corrections.calls % MEASURED_EVERY == 0:
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
        if forced < 0 and not fallback and not repeated:
            corrections.learn_cost(int(model.settings[ran.setting, PLAN]), predicted, elapsed)
    shown = elapsed if request.timed else None
    return keys, Run(ran.setting, away, scored, predicted, ran.recall, STOPPED if fallback else AGAIN if repeated else 0, shown)


def _searched(
    request: SegmentRequest, target: SegmentTarget, query: np.ndarray, choice: Choice, needed: int
) -> tuple[np.ndarray, int, bool, float]:
    """(keys of the best rows of one segment by one setting, rows scored, whether lists gave too few, how far what was found is or −1)."""
    segment, matches = target.segment, int(target.allowed.matches[0])
    model, ahead, before = segment.model(request.k), segment.ahead, blocks_read()
    plan, first, second = model.settings[choice.setting].tolist()
    fallback, scored = False, matches
    if plan == EXACT:
        rows = matching(target)
    else:
        coded = segment.coded(query)
        times = model.exact if plan == LISTS else first
        kept, rows = min(exact_rows(times, request.k, model.depth), matches), None
        if plan == LISTS and segment.has_lists:
            rows = by_lists(segment, coded, target, int(first), candidates(second, max(request.k, model.depth)))
            scored, fallback = len(rows), len(rows) < needed
        if rows is None or fallback:
            rows = matching(target)
            scored = scored + matches if fallback else matches
        if kept < len(rows):
            with memory.held(ROW_BYTES * len(rows), "the scores of rows by byte codes"):
                rows = best_by_codes(request, segment, coded, rows, kept, plan == LISTS and not fallback)
            scored += kept
    told = plan != EXACT and model.distances is not None and len(rows) < matches
    ranked = max(needed, min(model.depth, len(rows))) if told else needed
    # One of several queries has a thread of the pool already.
    keys = rescored(request, segment, query, np.sort(rows), ranked, plan == EXACT and len(request.queries) == 1 and not request.timed)
    ahead.learn(blocks_read() - before)
    if not told:
        return keys, scored, fallback, -1.0
    keys = np.sort(keys)[::-1]
    at = min(model.depth, len(keys)) - 1
    away = distance_of(float(exact.scores_of(keys[at : at + 1])[0]), segment.reach(query)) if at >= 0 else -1.0
    return keys[:needed], scored, fallback, away


def matching(target: SegmentTarget) -> np.ndarray:
    """The rows that may be returned, int32 ascending."""
    segment, allowed = target.segment, target.allowed
    if not allowed.filtered:
        return segment.every
    return np.flatnonzero(rows_of_bits(allowed.bits[0], segment.rows)).astype(np.int32)


def by_codes(segment: MultiSegment, coded: CodedQuery, rows: np.ndarray) -> np.ndarray:
    """The scores of some rows (int32) by byte codes, float32."""
    scores = np.full(len(rows), -np.inf if segment.best else 0, np.float32)
    sizes = segment.starts[rows + 1] - segment.starts[rows]
    costs = (sizes * (segment.dim * coded.lanes // CODES_AT_ONCE) + ROW_WORK) * len(coded.lines)
    for low, high in deadline.stretches(costs):
        share = max(int(deadline.work() * len(coded.lines) // max(int(costs[low:high].sum()), 1)), 1)
        for part in range(0, len(coded.lines), share):
            deadline.check()
            some = slice(part, part + share)
            given = coded.lines[some], coded.zeros[some], coded.scales[some], segment.best
            maxsim.add_maxsim(segment.codes, segment.starts, rows[low:high], *given, scores[low:high])
    return scores


def best_by_codes(
    request: SegmentRequest, segment: MultiSegment, coded: CodedQuery, rows: np.ndarray, kept: int, best_first: bool
) -> np.ndarray:
    """The best ``kept`` of some rows (int32) by byte codes, in no order. best_first: those that are probably good come first."""
    if not segment.ahead.asks:
        return best_rows(by_codes(segment, coded, rows), rows, kept)
    size = request.spec.dim * (1 if request.spec.stored == exact.CODES else np.dtype(request.spec.dtype).itemsize)
    place = request.chunks, segment.docids, segment.starts, size
    first = max(round(len(rows) * FIRST_SCORED), kept) if best_first else len(rows)
    scores = by_codes(segment, coded, rows[:first])
    guessed = best_rows(scores, rows[:first], kept)
    ask_vectors(*place, guessed)
    if not best_first:
        return guessed
    best = best_rows(np.concatenate([scores, by_codes(segment, coded, rows[first:])]), rows, kept)
    ask_vectors(*place, best)
    segment.ahead.count(VECTORS, guessed, best)
    return best


def best_rows(scores: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` rows (int32) with the highest scores, in no order."""
    heap = np.empty(count, np.int64)
    size = dense.offer_rows(rows.astype(np.int64), scores, heap, 0)
    return rows_of(heap[:size])


def rows_of(keys: np.ndarray) -> np.ndarray:
    """The rows of keys (int64), int32."""
    return (0xFFFFFFFF - (keys & 0xFFFFFFFF)).astype(np.int32)


def by_lists(segment: MultiSegment, coded: CodedQuery, target: SegmentTarget, probes: int, count: int) -> np.ndarray:
    """The best rows by lists that may be returned, int32, at most ``count``."""
    if not segment.ahead.asks:
        return rows_of(_best_of_lists(segment, coded, target, probes, count))
    guessed = rows_of(_best_of_lists(segment, coded, target, max(round(probes * FIRST_LISTS), 1), count))
    ask_codes(segment.codes, segment.starts, guessed)
    rows = rows_of(np.sort(_best_of_lists(segment, coded, target, probes, count))[::-1])
    ask_codes(segment.codes, segment.starts, rows)
    segment.ahead.count(CODES, guessed, rows)
    return rows


def _best_of_lists(segment: MultiSegment, coded: CodedQuery, target: SegmentTarget, probes: int, count: int) -> np.ndarray:
    """The keys (int64) of the best rows by so many lists of each query vector, in no order."""
    space, found = ListScratch.of_thread(segment.rows), read_lists(segment, coded, probes)
    heap = np.empty(min(count, max(found, 1)), np.int64)
    filtered = target.allowed.filtered
    bits = target.allowed.bits[0] if filtered else _NO_BITS
    return heap[: token_lists.best_found(space.sums, space.touched, found, filtered, bits, heap)]


def read_lists(segment: MultiSegment, coded: CodedQuery, probes: int) -> int:
    """Reads the lists of the best centroids of each query vector into this thread's scratch space. Returns the number of rows found."""
    sections, space, found = segment.sections, ListScratch.of_thread(segment.rows), 0
    centroids = sections["centroids"]
    probes, depth = min(probes, len(centroids)), min(segment.meta["missing"], len(centroids))
    lanes, floor = coded.lanes, space.tag
    lists, gains = np.empty((lanes, probes), np.int32), np.empty((lanes, probes), np.float32)
    missing = np.empty(lanes, np.float32)
    for part in range(len(coded.lines)):
        if part:
            deadline.check()
        n = min(lanes, coded.rows - part * lanes)
        token_lists.probe(
            centroids, coded.lines[part], coded.zeros[part], coded.scales[part], n, probes, depth, lists, gains, missing
        )  # fmt: skip
        found = token_lists.gather(
            sections["list_at"], sections["entries"], lists[:n], gains[:n], missing, segment.best, space.tag, floor,
            space.sums, space.stamps, space.touched, found,
        )  # fmt: skip
        space.tag += n
    return found


def rescored(
    request: SegmentRequest, segment: MultiSegment, query: np.ndarray, rows: np.ndarray, k: int, parallel: bool = False
) -> np.ndarray:
    """Keys of the best k of some rows (int32 ascending) by their exact scores. parallel: on several cores, if these are many."""
    spec, chunks, docids = request.spec, request.chunks, segment.docids[rows]
    places = np.searchsorted(chunks.rows[:, FIRST], docids, "right") - 1
    covering, members = np.unique(places, return_inverse=True)
    chunks.verify_rows(docids)  # first: an offset of a damaged chunk may lead anywhere
    heap = np.empty(k, np.int64)
    sizes = (segment.starts[rows + 1] - segment.starts[rows]).astype(np.float64)
    items = np.minimum(np.bincount(members, sizes).astype(np.int64), chunks.rows[covering, ITEMS])
    table = chunks.rows[covering]
    if parallel:
        found, scores = exact.search_multi(table, query, spec.stored, spec.metric, spec.aggregation, k, docids)
        topk.pack(found, scores, heap[: len(found)])
        return heap[: len(found)]
    return heap[: exact.scan_multi(table, query, spec.stored, spec.metric, spec.aggregation, docids, True, heap, 0, items)]


def _chosen(target: SegmentTarget, k: int, recall: float, vectors: int) -> Choice:
    """The choice for a request with a query of so many vectors, cached for _CHOSEN_ANEW searches."""
    segment, short = target.segment, vectors < LISTED_VECTORS
    key = (int(target.allowed.matches[0]), target.free, k, recall, short)
    cached = segment.choices.get(key)
    if cached is not None and segment.corrections.calls - cached[0] < _CHOSEN_ANEW:
        return cached[1]
    if len(segment.choices) >= _CHOSEN_ANEW:
        segment.choices.clear()
    choice = segment.model(k).choose(target, k, recall, lists=not short)
    segment.choices[key] = (segment.corrections.calls, choice)
    return choice
