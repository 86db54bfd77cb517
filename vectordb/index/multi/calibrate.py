"""Calibration of a segment of a multi-vector field: measure the recall and cost of every setting by selectivity and depth.

Spans of the segment's own rows serve as queries; the row itself is excluded from the answer. Without a filter the truth are exact scores of
the rows that are best by byte codes. Under filters it is the order by byte codes, and the recall is multiplied by that of this order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...kernels import AUX, COUNT, DATA, ITEMS, LAST, NORMS, TABLE_WIDTH, dense, token_lists
from ..base import Progress, RowSource
from ..model import DEPTHS, PLAN, lowered, settings_of
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
MISSING = (64, 96, 128)  # ranks of the centroid whose score is the missing score
MISSING_SETTING = (16, 200)  # setting of the plan LISTS by which the rank is chosen

SETTINGS = settings_of(PLANS)  # of files built by this version; every file is searched by the table of settings that it contains
_LISTED = np.flatnonzero(SETTINGS[:, PLAN] == LISTS)
_PROBES = list(dict.fromkeys(SETTINGS[_LISTED, 1].astype(int).tolist()))
_NUMBERS = list(dict.fromkeys(SETTINGS[_LISTED, 2].astype(int).tolist()))


class Calibration:
    """The calibration queries of a segment, their scores of all rows by byte codes, and exact scores of the best rows."""

    def __init__(self, segment: MultiSegment, queries: Sequence[tuple[int, np.ndarray]], seed: int, step: Progress):
        """queries: (row, float32 ``(vectors, dim)``)."""
        self.segment, self.rng = segment, np.random.default_rng(seed + 1)
        count = min(max(ASKED_VECTORS // max(segment.total, 1), FEWEST_QUERIES), QUERIES)
        self.queries = queries[:count] if segment.rows > 1 else []
        self.coded = [segment.coded(query) for _, query in self.queries]
        self.scores: list[np.ndarray] = []
        self.best: list[np.ndarray] = []  # of each query, the best rows by byte codes, best first
        spent = []
        for i, ((own, _), coded) in enumerate(zip(self.queries, self.coded, strict=True)):
            started = time.thread_time_ns()
            scores = by_codes(segment, coded, segment.every)
            spent.append(time.thread_time_ns() - started)
            scores[own] = -np.inf
            self.scores.append(scores)
            self.best.append(_top(scores, segment.every, min(SCORED, segment.rows - 1)))
            step("calibration", 0.4 * (i + 1) / len(self.queries))
        self.byte_row = max(float(np.median(spent or [0])) / 1e3 / segment.rows, 1e-4)
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
        recalls, costs = np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32)
        recalls[:, :, SETTINGS[:, PLAN] == EXACT] = 1
        exact = []
        for d, k in enumerate(DEPTHS):
            scans = np.flatnonzero(SETTINGS[:, PLAN] == SCAN)
            found = [self._scanned(exact_rows(SETTINGS[s, 1], k, k), k) for s in scans]
            recalls[d][:, scans] = found
            sure = next((i for i, recall in enumerate(found) if recall >= SURE), len(scans) - 1)
            exact.append(float(SETTINGS[scans[sure], 1]))
        facts = {"exact": exact, "missing": MISSING[0]}
        if segment.has_lists and self.queries:
            segment.meta |= facts
            facts["missing"] = segment.meta["missing"] = self._missing(exact[0])
            self._lists(shares, exact, threads, recalls, costs, step)
        units = np.zeros(2)
        units[BYTE_ROW], units[EXACT_ROW] = self.byte_row, self.exact_row
        return facts, {"settings": SETTINGS, "levels": np.log2(shares), "recalls": recalls, "costs": costs, "units": units}

    def _truth(self, q: int, k: int) -> np.ndarray:
        """The best k rows of a query by exact scores."""
        return self.best[q][np.argsort(-self.exact[q], kind="stable")[:k]]

    def _scanned(self, count: int, k: int) -> float:
        """The recall of the best ``count`` rows by byte codes."""
        found = [np.isin(self._truth(q, k), self.best[q][:count]).mean() for q in range(len(self.queries))]
        return lowered(found) if found else 1.0

    def _missing(self, times: float) -> int:
        """The rank of the missing score with the highest recall; the lowest among equals."""
        found = []
        k = DEPTHS[0]
        for rank in MISSING:
            self.segment.meta["missing"] = rank
            right = []
            for q, coded in enumerate(self.coded):
                number = read_lists(self.segment, coded, MISSING_SETTING[0])
                order, _ = self._listed(number, self._bits(q, None), candidates(MISSING_SETTING[1], k))
                truth = self._truth(q, k)
                marked = np.zeros(self.segment.rows, np.bool_)
                marked[truth] = True
                right.append(self._recall(q, order, marked, len(truth), exact_rows(times, k, k)))
            found.append(np.mean(right))
        return MISSING[int(np.argmax(found))]

    def _lists(
        self, shares: Sequence[float], exact: Sequence[float], threads: int, recalls: np.ndarray, costs: np.ndarray, step: Progress
    ) -> None:
        """Measure the plan LISTS, into ``recalls`` and ``costs``."""
        filters = [self._filters(q, shares) for q in range(len(self.queries))]
        done = []

        def measure(q: int) -> tuple[np.ndarray, np.ndarray]:
            measured = self._measured(q, self.coded[q], filters[q], shares, exact)
            done.append(q)
            step("calibration", 0.6 + 0.4 * len(done) / len(self.queries))
            return measured

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                measured = list(pool.map(measure, range(len(self.queries))))
        else:
            measured = [measure(q) for q in range(len(self.queries))]
        right = np.array([each[0] for each in measured])  # queries, depths, filters, settings
        spent = np.mean([each[1] for each in measured], axis=0)  # filters, probes
        for d, k in enumerate(DEPTHS):
            kept = exact_rows(exact[d], k, k)
            scanned = recalls[d, 0, SETTINGS[:, PLAN] == SCAN][[*SETTINGS[SETTINGS[:, PLAN] == SCAN, 1]].index(exact[d])]
            for level in range(len(shares)):
                own = [0] if level == 0 else [2 * level - 1, 2 * level]
                for i, setting in enumerate(_LISTED.tolist()):
                    recall = min(lowered(right[:, d, f, i]) for f in own)
                    recalls[d, level, setting] = recall if level == 0 else recall * scanned
                    scored = candidates(SETTINGS[setting, 2], k)
                    time_read = float(np.mean(spent[own, i // len(_NUMBERS)]))
                    costs[d, level, setting] = time_read + scored * self.byte_row + min(kept, scored) * self.exact_row

    def _measured(
        self, q: int, coded: CodedQuery, filters: Sequence[np.ndarray], shares: Sequence[float], exact: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the recalls of a query, ``(depths, filters, settings)``; microseconds of reading lists, ``(filters, probes)``)."""
        truths = []
        for k in DEPTHS:
            truths.append([self._truth(q, k), *(self._best_passing(q, bits, k) for bits in filters[1:])])
        right = np.zeros((len(DEPTHS), len(filters), len(_LISTED)))
        spent = np.zeros((len(filters), len(_PROBES)))
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
                    marked[truth] = False
        return right, spent

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
        bits[self.queries[q][0]] = False
        return np.packbits(bits, bitorder="little").view(np.uint64)

    def _best_passing(self, q: int, bits: np.ndarray, k: int) -> np.ndarray:
        """The best k rows that pass by byte codes."""
        rows = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")[: self.segment.rows]).astype(np.int32)
        return best_rows(self.scores[q][rows], rows, min(k, len(rows))) if len(rows) else rows


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
