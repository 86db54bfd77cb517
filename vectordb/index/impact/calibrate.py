"""Calibration of a sparse segment: measure the recall and cost of every setting by selectivity and depth; and the choice of a plan.

Rows of the segment serve as queries, in three forms: all terms of the row, a third of them (as a learned sparse encoder makes of a query),
and FEW_TERMS of them (as BM25 makes of a query). The row itself is excluded from the answer. The truth comes from the plan SAFE, which is
exact by construction. What a search by impacts finds is known from one pass over the postings for all its shares of misses
(``kernels/impact_trial.py``); searches are run for their times only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy

import numpy as np

from ...kernels import TINY_WEIGHT, impact_layout, impact_trial
from ...kernels import impact as kernel
from ..exact import unpacked
from ..model import DEPTHS, PLAN, lowered, measure_grid, settings_of
from .far import KINDS, MADE, made_queries
from .model import first_pass, full_cost
from .plans import PLANS
from .scratch import MAX_QUERY_TERMS, ImpactScratch
from .search import CALL_MICROSECONDS
from .segment import ImpactSegment

# Constants: unit and meaning, then the source in brackets. [build]: bounds the time that calibration adds to a build: 7.8 s of building
# 100,000 rows, 44 s of a million (bench/RESULTS.md, sparse suites of 22 November 2026, commit 062f29e). [S2]: checked by the same run.
# [chosen]: chosen, not measured.
QUERIES, FEWEST_QUERIES = 128, 64  # queries without a filter; the number falls from the first to the second as segments grow [build]
ASKED_ROWS = 12_800_000  # queries × rows, between those two bounds [build]
SMALL_ROWS, SMALL_QUERIES = 2_500, 24  # rows of a small segment, and its queries: all plans are fast, and building it must be too [chosen]
FILTERED = 4  # of so many queries, one is asked with a filter [build]
FILTERS = 8  # random filters of a selectivity, by turns [build]
TIMED, SMALL_TIMED = 16, 6  # queries of a form that are timed, at most [build]
FEW_TERMS = 6  # terms of the shortest form of a query [S2]
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)  # of the filters [S2]
LEAST_MATCHES = 600  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan [S2]
BEST, TIMES = 0.001, 100  # a filter may exclude a share of BEST … BEST·TIMES of the rows, the best ones for the query [S2]
DEARER = 1.2  # cost of a setting that isn't timed, relative to the one with less effort before it [chosen]

SHARE, MISSES = 1, 2  # columns of a setting
SETTINGS = settings_of(PLANS)  # of files built by this version; every file is searched by the table of settings that it contains
SCAN, SAFE = (int(np.flatnonzero(SETTINGS[:, PLAN] == plan)[0]) for plan in (kernel.SCAN, kernel.SAFE))
IMPACTS = {  # share of the postings → its settings, by rising effort
    share: np.flatnonzero((SETTINGS[:, PLAN] == kernel.IMPACTS) & (SETTINGS[:, SHARE] == share))
    for share in np.unique(SETTINGS[SETTINGS[:, PLAN] == kernel.IMPACTS, SHARE]).tolist()
}


def calibrate(segment: ImpactSegment, idf: bool, seed: int, threads: int, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Calibrate a segment. Returns the sections of its file that hold the models. idf, threads: as for ``build``."""
    shares = [1.0, *(share for share in SELECTIVITIES if share * segment.rows >= LEAST_MATCHES)]
    bench = _Bench(segment, idf, seed)
    scan, full = bench.scan_cost(), full_cost(segment.sections["frequencies"], segment.rows)
    bench.scan = scan

    def lane_of(d: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        lane = bench.lane(seed + d)

        def measure(level: int) -> tuple[np.ndarray, np.ndarray]:
            recalls, costs = lane.cell(shares[level], DEPTHS[d])
            costs[SETTINGS[:, PLAN] == kernel.POSTINGS] = full
            return recalls, costs

        return measure

    recalls, costs = measure_grid(len(shares), lane_of, threads, progress)
    measured = {"settings": SETTINGS, "levels": np.log2(shares), "recalls": recalls, "costs": costs, "scan": np.array([scan])}
    return measured | {"far_recalls": np.array([bench.far_recalls(depth) for depth in DEPTHS], np.float32)}


class _Bench:
    """The calibration queries, and the methods that run one cell."""

    def __init__(self, segment: ImpactSegment, idf: bool, seed: int):
        self.segment, self.seed = segment, seed
        self.rng = np.random.default_rng(seed + 1)
        self.noise = self.rng.integers(0, 65_536, 2 * segment.rows, dtype=np.uint16)
        self.scratch = ImpactScratch(segment.rows, segment.vocabulary)
        self.scan = np.inf
        self.idf = np.ones(segment.vocabulary, np.float32)
        if idf:
            frequencies = segment.sections["frequencies"].astype(np.float64)
            self.idf = np.log1p((segment.rows - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
        self.count = min(max(ASKED_ROWS // segment.rows, FEWEST_QUERIES), QUERIES)
        small = segment.rows <= SMALL_ROWS
        self.timed = SMALL_TIMED if small else TIMED
        if small:
            self.count = min(self.count, SMALL_QUERIES)
        self.forms = [[], [], []] if not segment.vocabulary else self._queries()

    def lane(self, seed: int) -> _Bench:
        """A copy for another thread, with its own scratch space and random numbers."""
        lane = copy(self)
        lane.scratch = ImpactScratch(self.segment.rows, self.segment.vocabulary)
        lane.rng = np.random.default_rng(seed + 2)
        return lane

    def _queries(self) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
        """For each of the three forms, a list of queries: (row, terms, weights)."""
        sections = self.segment.sections
        forms: list[list] = [[], [], []]
        for row in self.rng.choice(self.segment.rows, min(self.count, self.segment.rows), replace=False).tolist():
            low, high = sections["row_at"][row : row + 2].tolist()
            if low == high:
                continue
            places = sections["row_terms"][low:high].astype(np.int64)
            # A query of BM25 has each word once, so its weights are 1; the row's own weights are term frequencies.
            ones = "row_weights" not in sections or "row_lengths" in sections
            weights = np.ones(high - low, np.float32) if ones else sections["row_weights"][low:high]
            for form, size in zip(forms, (high - low, -(-(high - low) // 3), FEW_TERMS), strict=True):
                kept = np.sort(self.rng.choice(high - low, min(size, high - low, MAX_QUERY_TERMS), replace=False))
                products = weights[kept] * self.idf[places[kept]]
                if (np.abs(products) >= TINY_WEIGHT).all():
                    form.append((row, sections["terms"][places[kept]], products))
        return forms

    def _run(self, setting: int, query: tuple[int, np.ndarray, np.ndarray], k: int, bits: np.ndarray, matches: int = 0) -> np.ndarray:
        """The keys of the k best rows, unordered. matches: the number of rows that may be returned; exact plans don't need it."""
        heap, report = np.empty(k, np.int64), np.empty(impact_layout.REPORT_WIDTH, np.int64)
        plan, share, misses = SETTINGS[setting].tolist()
        given = self.segment.description, self.scratch.work, self.segment.saturation
        size = kernel.search_impacts(*given, int(plan), share, misses, first_pass(k), matches, bits, *query[1:], heap, report)
        return heap[:size]

    def scan_cost(self) -> float:
        """The cost of scoring one row, in microseconds."""
        bits = self._filter(0.2)
        some = [query for form in self.forms for query in form[:2]]
        matches = max(int(np.bitwise_count(bits).sum()), 1)
        for query in some[:1]:
            self._run(SCAN, query, 1, bits)  # a warm-up: compiles the kernel and loads rows into the processor's cache
        return self._timed(SCAN, [(query, bits, matches, None) for query in some], 10) / matches

    def _filter(self, share: float, query: tuple | None = None) -> np.ndarray:
        """The bitmap of a random filter of selectivity ``share``. query: the filter also excludes a random share of this query's best
        rows.
        """
        rows = self.segment.rows
        if share >= 1:
            return self.segment.every_bit.copy()
        start = int(self.rng.integers(rows))
        noise, near, out = self.noise[start : start + rows], 0.0, None
        other = self.noise[-start - rows : len(self.noise) - start]
        if query is not None:
            near = min(BEST * TIMES ** self.rng.random(), 0.9 * (1 - share))
            out = self._best(query, near, noise)
        kept = np.zeros(-(-rows // 64) * 64, np.bool_)
        kept[:rows] = other < np.uint16(share / (1 - near) * 65_536)
        if out is not None:
            kept[:rows][out] = False
        return np.packbits(kept, bitorder="little").view(np.uint64)

    def _best(self, query: tuple, share: float, noise: np.ndarray) -> np.ndarray:
        """Mask (bool) of roughly the top ``share`` of rows for the query. Noise blurs the cut, because real filters correlate with topic,
        not score. At most half of the rows that share a term with the query.
        """
        rows = self.segment.rows
        whole = np.empty(-(-rows // impact_layout.BLOCK_ROWS) * impact_layout.BLOCK_ROWS, np.uint16)
        kernel.all_sums(self.segment.description, self.scratch.work, *query[1:], whole)
        sums = whole[:rows]
        reach = np.cumsum(np.bincount(sums, minlength=65_536)[::-1])  # rows whose sum is 65,535 − i or more
        count = min(round(share * rows), int(reach[-2]) // 2)
        middle, top, bound = (65_535 - np.searchsorted(reach, [rows - rows // 2, min(10, rows), max(count, 1)])).tolist()
        blur = np.float32(self.rng.random() ** 2 * (top - middle) / 32_768)
        return sums + blur * (noise.astype(np.float32) - np.float32(32_768)) >= bound

    def cell(self, share: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(recalls, costs in microseconds) of all settings at one selectivity and depth. A setting's recall is the lowest of those of the
        three forms of queries and that under filters that exclude the queries' best rows.
        """
        recalls, costs = np.ones(len(SETTINGS)), np.zeros(len(SETTINGS))
        step = (1 if k == DEPTHS[0] else 2) * (1 if share == 1 else FILTERED)
        forms = [form[::step] for form in self.forms if form]
        if not forms:
            return recalls, costs
        filters = [self._filter(share) for _ in range(FILTERS if share < 1 else 1)]
        groups = [[self._asked(query, filters[i % len(filters)], k) for i, query in enumerate(form)] for form in forms]
        timed = [asked for group in groups for asked in group[: self.timed]]
        if share < 1:
            turns = [forms[i % len(forms)][i] for i in range(min(map(len, forms)))]
            groups.append([self._asked(query, self._filter(share, query), k) for query in turns])
        measured = [self._found(group, k) for group in groups if group]
        for place in range(len(SETTINGS)):
            if SETTINGS[place, PLAN] == kernel.IMPACTS:
                recalls[place] = min(lowered(found[:, place]) for found in measured)
        costs[SAFE] = self._timed(SAFE, timed, k)
        exact = min(self.scan * share * self.segment.rows, costs[SAFE])
        for settings in IMPACTS.values():
            self._time(settings, timed, k, exact, costs)
        return recalls, costs

    def far_recalls(self, k: int) -> np.ndarray:
        """The recall of each setting without a filter for made queries that are unlike the rows: of the kind for which it finds least."""
        count = min(len(self.forms[0]) // 2, MADE)
        made = made_queries(self.segment, self.idf, count, np.random.default_rng(self.seed + 3)) if self.segment.vocabulary else []
        bits, recalls = self.segment.every_bit, np.ones(len(SETTINGS))
        for kind in range(KINDS):
            fine = [query for query in made[kind::KINDS] if (np.abs(query[1]) >= TINY_WEIGHT).all()]
            asked = [self._asked((-1, *query), bits, k) for query in fine]
            if asked:
                recalls = np.minimum(recalls, self._found(asked, k).mean(axis=0))
        return recalls

    def _asked(self, query: tuple[int, np.ndarray, np.ndarray], bits: np.ndarray, k: int) -> tuple:
        """(query, bitmap of the rows that it may return, number of rows that match the filter, the best k rows). The query's own row, if it
        is one, is excluded from the bitmap.
        """
        matches, row = int(np.bitwise_count(bits).sum()), query[0]
        if row >= 0:
            bits = bits.copy()
            bits[row >> 6] &= ~(np.uint64(1) << np.uint64(row & 63))
        docids, _ = unpacked(self._run(SAFE, query, k, bits))
        return query, bits, matches, self.segment.inverse[docids - self.segment.first].astype(np.int64)

    def _found(self, requests: list[tuple], k: int) -> np.ndarray:
        """The recall of each request with each setting, float64 ``(requests, settings)``. Searches that lack rows for the answer are
        exact.
        """
        found = np.ones((len(requests), len(SETTINGS)))
        for own, (query, bits, matches, truth) in zip(found, requests, strict=True):
            if len(truth) < k:
                continue
            again: dict[bytes, np.ndarray] = {}
            for share, settings in IMPACTS.items():
                misses = SETTINGS[settings, MISSES]
                recalls = self._tried(share, misses, query, bits, matches, truth)
                if (recalls < 0).any() and share < kernel.RETRIED:
                    if misses.tobytes() not in again:
                        tried = self._tried(kernel.RETRIED, misses, query, bits, matches, truth)
                        again[misses.tobytes()] = tried
                    recalls = np.where(recalls < 0, again[misses.tobytes()], recalls)
                own[settings] = np.where(recalls < 0, 1.0, recalls)
        return found

    def _tried(self, share: float, misses: np.ndarray, query: tuple, bits: np.ndarray, matches: int, truth: np.ndarray) -> np.ndarray:
        """The recall of a search by impacts with each of some ``misses``; −1 where it wouldn't be enough."""
        sums, lows = np.empty(len(truth), np.int64), np.empty(len(misses), np.int64)
        report = np.empty(impact_layout.REPORT_WIDTH, np.int64)
        given = self.segment.description, self.scratch.work, self.segment.saturation, share, misses, first_pass(len(truth)), matches, bits
        impact_trial.try_impacts(*given, *query[1:], truth, sums, lows, report)
        sums.sort()
        return np.where(lows == impact_trial.NOT_ENOUGH, -1.0, 1 - np.searchsorted(sums, lows) / len(sums))

    def _time(self, settings: np.ndarray, timed: list[tuple], k: int, exact: float, costs: np.ndarray) -> None:
        """Fill in the costs of settings that read as many postings: the first, one in the middle and the last are timed, those between
        interpolated. Once one takes longer than an exact plan, those of more effort aren't timed.
        """
        known = [0, len(settings) // 2, len(settings) - 1]
        for i, place in enumerate(known):
            before = known[i - 1]
            if i and costs[settings[before]] >= exact:
                costs[settings[place]] = DEARER ** (place - before) * costs[settings[before]]
            else:
                costs[settings[place]] = self._timed(int(settings[place]), timed, k)
        costs[settings] = np.interp(np.arange(len(settings)), known, costs[settings[known]])

    def _timed(self, setting: int, requests: list[tuple], k: int) -> float:
        """Microseconds per request of one setting on some requests."""
        if not requests:
            return 0.0
        started = time.thread_time_ns()
        for query, bits, matches, _ in requests:
            self._run(setting, query, k, bits, matches)
        return max((time.thread_time_ns() - started) / 1e3 / len(requests) - CALL_MICROSECONDS, 0.1)
