"""Calibration of a segment of a multi-vector field: measure the recall and cost of every setting by selectivity and depth.

Spans of the segment's own rows serve as queries; the row itself is excluded from the answer. Without a filter the truth are exact scores of
the rows that are best by byte codes. Under filters it is the order by byte codes, and the recall is multiplied by that of this order.

Real queries may be farther from the rows than these are from one another, and then find less. So queries are made as well (``far.py``).
What all queries find is recorded by the distance of what they find. A search that finds rows too far away is followed by one with more
effort.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...kernels import AUX, COUNT, DATA, ITEMS, LAST, NORMS, TABLE_WIDTH, dense, token_lists
from ..base import Progress, RowSource
from ..dense.points import POINTS, TAIL, USUAL, points_by_distance
from ..model import DEPTHS, PLAN, lowered, settings_of
from .far import NOISE, distance_of, kinds_of, reach_of
from .model import BYTE_ROW, EXACT_ROW
from .plans import EXACT, LISTS, PLANS, SCAN, candidates, exact_rows
from .scratch import ListScratch
from .search import best_rows, by_codes, read_lists, rows_of
from .segment import CodedQuery, MultiSegment

# Constants: unit and meaning. Chosen, not measured.
QUERIES, FEWEST_QUERIES = 48, 16  # queries; fewer as segments grow
ASKED_VECTORS = 100_000_000  # queries × vectors, between those two bounds
SCORED = 600  # rows that are scored exactly for each query, the best by byte codes
TIMED = 8  # rows of the measurement of an exact score
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # of the filters
LEAST_MATCHES = 200  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan
BEST, TIMES = 0.001, 100  # a filter may exclude a share of BEST … BEST·TIMES of the rows, the best ones for the query
SURE = 0.9995  # recall of the rows that lists leave, at which no more of them are scored exactly
NO_ROW = -1  # stands for the row of a made query
MISSING = (64, 96, 128)  # ranks of the centroid whose score is the missing score
MISSING_SETTING = (16, 200)  # setting of the plan LISTS by which the rank is chosen

SETTINGS = settings_of(PLANS)  # of files built by this version; every file is searched by the table of settings that it contains
_LISTED = np.flatnonzero(SETTINGS[:, PLAN] == LISTS)
_PROBES = list(dict.fromkeys(SETTINGS[_LISTED, 1].astype(int).tolist()))
_NUMBERS = list(dict.fromkeys(SETTINGS[_LISTED, 2].astype(int).tolist()))


class Calibration:
    """The calibration queries of a segment, their scores of all rows by byte codes, and exact scores of the best rows."""

    def __init__(
        self, segment: MultiSegment, queries: Sequence[tuple[int, np.ndarray]], made: Sequence[np.ndarray], seed: int, step: Progress
    ):
        """queries: (row, float32 ``(vectors, dim)``). made: queries unlike the rows, of which half as many are used, but at least
        FEWEST_QUERIES."""
        self.segment, self.rng = segment, np.random.default_rng(seed + 1)
        count = min(max(ASKED_VECTORS // max(segment.total, 1), FEWEST_QUERIES), QUERIES)
        self.queries = list(queries[:count]) if segment.rows > 1 else []
        self.usual = len(self.queries)  # of the queries: those of rows; the others are made, and have no row
        made = made[: max(self.usual // 2, FEWEST_QUERIES) if self.usual else 0]
        self.noise = np.concatenate([np.zeros(self.usual, np.bool_), kinds_of(len(made)) == NOISE])
        self.queries += [(NO_ROW, query) for query in made]
        facts = segment.metric == "cosine", segment.meta["longest"], segment.best
        self.reaches = [reach_of(query, *facts) for _, query in self.queries]
        self.coded = [segment.coded(query) for _, query in self.queries]
        self.scores: list[np.ndarray] = []
        self.best: list[np.ndarray] = []  # of each query, the best rows by byte codes, best first
        spent = []
        for i, ((own, _), coded) in enumerate(zip(self.queries, self.coded, strict=True)):
            started = time.thread_time_ns()
            scores = by_codes(segment, coded, segment.every)
            spent.append(time.thread_time_ns() - started)
            if own != NO_ROW:
                scores[own] = -np.inf
            self.scores.append(scores)
            self.best.append(_top(scores, segment.every, min(SCORED, segment.rows - 1)))
            step("calibration", 0.4 * (i + 1) / len(self.queries))
        self.byte_row = max(float(np.median(spent[: self.usual] or [0])) / 1e3 / segment.rows, 1e-4)
        self.exact_row = self.byte_row
        self.exact = [np.full(len(best), -np.inf, np.float32) for best in self.best]  # in the order of ``best``

    def score(self, rows: RowSource, near: np.ndarray, spec: Any, step: Progress) -> None:
        """Read the vectors once more, and score the best rows of each query exactly. near: the rows of the source that have codes."""
        numbers, best = np.concatenate([[0], np.cumsum(near)]), self.segment.best
        orders = [np.argsort(best) for best in self.best]
        ascending = [best[order] for best, order in zip(self.best, orders, strict=True)]
        half, cosine = spec.dtype == "float16", spec.metric == "cosine"
        measured = not self.queries
        for low, column in rows.blocks():
            block, end = _Block(column, cosine), low + len(column)
            places = np.flatnonzero(near[low:end]).astype(np.uint32)  # in the block, of the rows that have codes
            for (_, query), order, own, exact in zip(self.queries, orders, ascending, self.exact, strict=True):
                begin, stop = np.searchsorted(own, [numbers[low], numbers[end]]).tolist()
                if begin < stop:
                    found = block.scores(query, half, cosine, places[own[begin:stop] - numbers[low]], best)
                    exact[order[begin:stop]] = found
            if len(places) and not measured:
                self.exact_row, measured = self._timed(block, self.queries[0][1], half, cosine, places[:TIMED]), True
            step("calibration", 0.4 + 0.2 * end / len(near))

    def _timed(self, block: _Block, query: np.ndarray, half: bool, cosine: bool, places: np.ndarray) -> float:
        """Microseconds of the exact score of a row."""
        least = np.inf
        for _ in range(3):
            started = time.thread_time_ns()
            block.scores(query, half, cosine, places, False)
            least = min(least, time.thread_time_ns() - started)
        vectors = int(np.diff(block.ends)[places].sum())
        return max(least / 1e3 / vectors * self.segment.total / self.segment.rows, 1e-4)

    def models(self, threads: int, step: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """(entries of the file's header, the sections that hold the models)."""
        segment = self.segment
        shares = [1.0, *(share for share in SELECTIVITIES if share * segment.rows >= LEAST_MATCHES)]
        shape = len(DEPTHS), len(shares), len(SETTINGS)
        recalls, lows, costs = np.zeros(shape, np.float32), np.ones(shape, np.float32), np.full(shape, np.inf, np.float32)
        recalls[:, :, SETTINGS[:, PLAN] == EXACT] = 1
        far = np.ones((len(DEPTHS), len(self.queries), len(SETTINGS)), np.float32)  # recalls
        away = np.zeros(far.shape, np.float32)  # distances of what is found
        exact = []
        for d, k in enumerate(DEPTHS):
            scans = np.flatnonzero(SETTINGS[:, PLAN] == SCAN)
            found = [self._scanned(exact_rows(SETTINGS[s, 1], k, k), k) for s in scans]
            recalls[d][:, scans] = found
            true = np.array([self._distance(q, self._truth(q, k)) for q in range(len(self.queries))], np.float32)
            away[d] = true[:, None]
            for s in scans if self.queries else ():
                far[d, :, s] = self._found_by_scan(exact_rows(SETTINGS[s, 1], k, k), k)
                lows[d, :, s] = _lowest(far[d, : self.usual, s])
            sure = next((i for i, recall in enumerate(found) if recall >= SURE), len(scans) - 1)
            exact.append(float(SETTINGS[scans[sure], 1]))
        facts = {"exact": exact, "missing": MISSING[0]}
        if segment.has_lists and self.queries:
            segment.meta |= facts
            facts["missing"] = segment.meta["missing"] = self._missing(exact[0])
            self._lists(shares, exact, threads, recalls, lows, costs, far, away, step)
        units = np.zeros(2)
        units[BYTE_ROW], units[EXACT_ROW] = self.byte_row, self.exact_row
        sections = {"settings": SETTINGS, "levels": np.log2(shares), "recalls": recalls, "lows": lows, "costs": costs, "units": units}
        return facts, sections | (self._by_distance(far, away, shares) if self.queries else {})

    def _by_distance(self, far: np.ndarray, away: np.ndarray, shares: Sequence[float]) -> dict[str, np.ndarray]:
        """The sections that say what queries find by how far it is. far, away: recalls and distances, ``(depths, queries, settings)``."""
        points = len(POINTS) + 1
        recalls, distances = np.ones((len(DEPTHS), points, len(SETTINGS)), np.float32), np.zeros((len(DEPTHS), points))
        shifts = np.zeros((len(DEPTHS), len(shares)))
        exact = int(np.flatnonzero(SETTINGS[:, PLAN] == EXACT)[0])
        for d, k in enumerate(DEPTHS):
            true = away[d, :, exact].astype(np.float64)
            limit = float(np.quantile(true[: self.usual], USUAL))
            given = true, limit, self.noise, away[d], far[d], np.zeros(far[d].shape), points
            recalls[d], _, distances[d] = points_by_distance(*given)
            for level in range(1, len(shares)):
                shifts[d, level] = max(np.mean([self._filtered_away(q, k, shares[level]) - true[q] for q in range(self.usual)]), 0.0)
        return {"far_recalls": recalls, "distances": distances, "shifts": shifts}

    def _distance(self, q: int, rows: np.ndarray) -> float:
        """The distance of the last of some rows (int32) of a query."""
        return distance_of(float(self.scores[q][rows].min()) if len(rows) else -np.inf, self.reaches[q])

    def _filtered_away(self, q: int, k: int, share: float) -> float:
        """The distance of the best ``k`` rows of a filter that leaves every row with this probability."""
        best = self.best[q]
        return self._distance(q, best[: min(round(k / share), len(best))][-1:])

    def _truth(self, q: int, k: int) -> np.ndarray:
        """The best k rows of a query by exact scores."""
        return self.best[q][np.argsort(-self.exact[q], kind="stable")[:k]]

    def _scanned(self, count: int, k: int) -> float:
        """The recall of the best ``count`` rows by byte codes."""
        return lowered(self._found_by_scan(count, k)[: self.usual]) if self.queries else 1.0

    def _found_by_scan(self, count: int, k: int) -> list[float]:
        """Of each query, the share of its best k rows among the best ``count`` by byte codes."""
        return [float(np.isin(self._truth(q, k), self.best[q][:count]).mean()) for q in range(len(self.queries))]

    def _missing(self, times: float) -> int:
        """The rank of the missing score with the highest recall; the lowest among equals."""
        found = []
        k = DEPTHS[0]
        for rank in MISSING:
            self.segment.meta["missing"] = rank
            right = []
            for q, coded in enumerate(self.coded[: self.usual]):
                number = read_lists(self.segment, coded, MISSING_SETTING[0])
                order, _ = self._listed(number, self._bits(q, None), candidates(MISSING_SETTING[1], k))
                truth = self._truth(q, k)
                marked = np.zeros(self.segment.rows, np.bool_)
                marked[truth] = True
                right.append(self._recall(q, order, marked, len(truth), exact_rows(times, k, k)))
            found.append(np.mean(right))
        return MISSING[int(np.argmax(found))]

    def _lists(
        self,
        shares: Sequence[float],
        exact: Sequence[float],
        threads: int,
        recalls: np.ndarray,
        lows: np.ndarray,
        costs: np.ndarray,
        far: np.ndarray,
        away: np.ndarray,
        step: Progress,
    ) -> None:
        """Measure the plan LISTS, into ``recalls``, ``lows`` and ``costs``; of each query without a filter, into ``far`` and ``away``."""
        filters = [self._filters(q, shares if q < self.usual else shares[:1]) for q in range(len(self.queries))]
        done = []

        def measure(q: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            measured = self._measured(q, self.coded[q], filters[q], shares, exact)
            done.append(q)
            step("calibration", 0.6 + 0.4 * len(done) / len(self.queries))
            return measured

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                measured = list(pool.map(measure, range(len(self.queries))))
        else:
            measured = [measure(q) for q in range(len(self.queries))]
        right = np.array([each[0] for each in measured[: self.usual]])  # queries, depths, filters, settings
        spent = np.mean([each[1] for each in measured[: self.usual]], axis=0)  # filters, probes
        for q, (shown, _, distances) in enumerate(measured):
            far[:, q, _LISTED], away[:, q, _LISTED] = shown[:, 0], distances
        for d, k in enumerate(DEPTHS):
            kept = exact_rows(exact[d], k, k)
            scanned = recalls[d, 0, SETTINGS[:, PLAN] == SCAN][[*SETTINGS[SETTINGS[:, PLAN] == SCAN, 1]].index(exact[d])]
            for level in range(len(shares)):
                own = [0] if level == 0 else [2 * level - 1, 2 * level]
                for i, setting in enumerate(_LISTED.tolist()):
                    recall = min(lowered(right[:, d, f, i]) for f in own)
                    recalls[d, level, setting] = recall if level == 0 else recall * scanned
                    lows[d, level, setting] = min(_lowest(right[:, d, f, i]) for f in own)
                    scored = candidates(SETTINGS[setting, 2], k)
                    time_read = float(np.mean(spent[own, i // len(_NUMBERS)]))
                    costs[d, level, setting] = time_read + scored * self.byte_row + min(kept, scored) * self.exact_row

    def _measured(
        self, q: int, coded: CodedQuery, filters: Sequence[np.ndarray], shares: Sequence[float], exact: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the recalls of a query, ``(depths, filters, settings)``; microseconds of reading lists, ``(filters, probes)``; the distances of
        what is found without a filter, ``(depths, settings)``).
        """
        truths = []
        for k in DEPTHS:
            truths.append([self._truth(q, k), *(self._best_passing(q, bits, k) for bits in filters[1:])])
        right = np.zeros((len(DEPTHS), len(filters), len(_LISTED)))
        spent, away = np.zeros((len(filters), len(_PROBES))), np.zeros((len(DEPTHS), len(_LISTED)))
        most, marked = candidates(max(_NUMBERS), DEPTHS[-1]), np.zeros(self.segment.rows, np.bool_)
        for p, probes in enumerate(_PROBES):
            started = time.thread_time_ns()
            number = read_lists(self.segment, coded, probes)
            read = time.thread_time_ns() - started
            for f, bits in enumerate(filters):
                order, selected = self._listed(number, bits, most)
                spent[f, p] = read / 1e3 + selected
                for d, k in enumerate(DEPTHS):
                    kept, truth = exact_rows(exact[d], k, k), truths[d][f]
                    marked[truth] = True
                    for c, limit in enumerate(_NUMBERS):
                        recall = self._recall(q, order[: candidates(limit, k)], marked, len(truth), kept)
                        right[d, f, p * len(_NUMBERS) + c] = recall
                        if f == 0:
                            away[d, p * len(_NUMBERS) + c] = self._found_away(q, order[: candidates(limit, k)], k)
                    marked[truth] = False
        return right, spent, away

    def _found_away(self, q: int, rows: np.ndarray, k: int) -> float:
        """The distance of the k-th best of some rows (int32)."""
        scores = self.scores[q][rows]
        if len(scores) < min(k, self.segment.rows):
            return distance_of(-np.inf, self.reaches[q])
        return distance_of(float(np.partition(scores, -k)[-k]) if len(scores) >= k else float(scores.min()), self.reaches[q])

    def _listed(self, number: int, bits: np.ndarray, most: int) -> tuple[np.ndarray, float]:
        """(the best rows that pass of those that lists gave, best first; microseconds)."""
        space = ListScratch.of_thread(self.segment.rows)
        heap = np.empty(min(most, max(number, 1)), np.int64)
        started = time.thread_time_ns()
        size = token_lists.best_found(space.sums, space.touched, number, True, bits, heap)
        spent = (time.thread_time_ns() - started) / 1e3
        return rows_of(np.sort(heap[:size])[::-1]), spent

    def _recall(self, q: int, rows: np.ndarray, marked: np.ndarray, count: int, kept: int) -> float:
        """The share of the truth among the best ``kept`` of some rows by byte codes. marked: bool, whether a row is of the truth, as
        ``count`` rows are.
        """
        if not count:
            return 1.0
        if len(rows) > kept:
            rows = rows[np.argpartition(-self.scores[q][rows], kept - 1)[:kept]]
        return np.count_nonzero(marked[rows]) / count

    def _filters(self, q: int, shares: Sequence[float]) -> list[np.ndarray]:
        """Bitmaps: all rows; then for each selectivity a random one, and one that also excludes a random share of the query's best rows.
        None has the query's own row.
        """
        rows = self.segment.rows
        filters = [self._bits(q, None)]
        for share in shares[1:]:
            for away in (False, True):
                left = min(BEST * TIMES ** self.rng.random(), 0.9 * (1 - share)) if away else 0.0
                kept = self.rng.random(rows) < share / (1 - left)
                if away:
                    count = max(round(left * rows), 1)
                    kept[np.argpartition(-self.scores[q], count - 1)[:count]] = False
                filters.append(self._bits(q, kept))
        return filters

    def _bits(self, q: int, kept: np.ndarray | None) -> np.ndarray:
        bits = np.zeros(-(-self.segment.rows // 64) * 64, np.bool_)
        bits[: self.segment.rows] = True if kept is None else kept
        if self.queries[q][0] != NO_ROW:
            bits[self.queries[q][0]] = False
        return np.packbits(bits, bitorder="little").view(np.uint64)

    def _best_passing(self, q: int, bits: np.ndarray, k: int) -> np.ndarray:
        """The best k rows that pass by byte codes."""
        rows = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")[: self.segment.rows]).astype(np.int32)
        return best_rows(self.scores[q][rows], rows, min(k, len(rows))) if len(rows) else rows


def _lowest(recalls: np.ndarray) -> float:
    """The mean of the lowest TAIL of some measured recalls, or the lowest alone where that is less than one."""
    ordered, share = np.sort(recalls), max(TAIL * len(recalls), 1.0)
    counted = np.clip(share - np.arange(len(ordered)), 0, 1)
    return float(counted @ ordered / share)


def _top(scores: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """The best ``count`` rows, best first."""
    found = best_rows(scores, rows, count)
    return found[np.lexsort((found, -scores[found]))]


class _Block:
    """A chunk table of a block of rows in memory, which kernels read like one of the field."""

    def __init__(self, column: Any, cosine: bool):
        self.ends, self._values = column.indptr.astype(np.uint32), np.ascontiguousarray(column.values)
        wide = self._values.astype(np.float64) if cosine else np.empty((0, 1))
        self._norms = np.sqrt(np.einsum("ij,ij->i", wide, wide)).astype(np.float32)
        self._table, count = np.zeros((1, TABLE_WIDTH), np.int64), len(column)
        for place, value in ((LAST, count - 1), (COUNT, count), (ITEMS, len(self._values))):
            self._table[0, place] = value
        for place, array in ((DATA, self.ends), (AUX, self._values), (NORMS, self._norms)):
            self._table[0, place] = array.ctypes.data

    def scores(self, query: np.ndarray, half: bool, cosine: bool, places: np.ndarray, best: bool) -> np.ndarray:
        """The exact scores of some rows of the block (uint32, ascending), float32."""
        count = len(places)
        totals, tops, docids = np.zeros(count, np.float32), np.full(count, -np.inf, np.float32), np.empty(count, np.int64)
        dense.maxsim_add(self._table, query, half, cosine, places, True, 0, 1, totals, tops, docids)
        return tops if best else totals
