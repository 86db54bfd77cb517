"""Calibration of a sparse segment: measure the recall and cost of every setting by selectivity and depth; and the choice of a plan.

Rows of the segment serve as queries, in three forms: all terms of the row, a third of them (as a learned sparse encoder makes of a query),
and FEW_TERMS of them (as BM25 makes of a query). The row itself is excluded from the answer. The truth comes from the plan SAFE, which is
exact by construction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy

import numpy as np

from ...kernels import TINY_WEIGHT, impact_layout
from ...kernels import impact as kernel
from ..exact import scores_of
from ..model import DEPTHS, PLAN, lowered, measure_grid, settings_of
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
FILTERED = 4  # of so many queries, one is asked with a filter [build]
FEW_TERMS = 6  # terms of the shortest form of a query [S2]
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)  # of the filters [S2]
LEAST_MATCHES = 200  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan [S2]
BEST, TIMES = 0.001, 100  # a filter may exclude a share of BEST … BEST·TIMES of the rows, the best ones for the query [S2]
NEARLY_ALL = 0.9985  # recall of a setting above which settings of more effort aren't measured [S2]
DEARER = 1.2  # cost of a setting that isn't measured, relative to the one with less effort before it [chosen]

SHARE, MISSES = 1, 2  # columns of a setting
SETTINGS = settings_of(PLANS)  # of files built by this version; every file is searched by the table of settings that it contains
SCAN, SAFE = (int(np.flatnonzero(SETTINGS[:, PLAN] == plan)[0]) for plan in (kernel.SCAN, kernel.SAFE))
# Settings that are measured without a filter only. With one, their recall and cost are the means of those of their neighbours, which add up
# as many postings and differ in how many rows they score.
BETWEEN = np.zeros(len(SETTINGS), np.bool_)
_impacts = SETTINGS[:, PLAN] == kernel.IMPACTS
BETWEEN[_impacts] = np.isin(SETTINGS[_impacts, MISSES], np.unique(SETTINGS[_impacts, MISSES])[::-1][1:-1:2])


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
    return {"settings": SETTINGS, "levels": np.log2(shares), "recalls": recalls, "costs": costs, "scan": np.array([scan])}


class _Bench:
    """The calibration queries, and the methods that run one cell."""

    def __init__(self, segment: ImpactSegment, idf: bool, seed: int):
        self.segment = segment
        self.rng = np.random.default_rng(seed + 1)
        self.noise = self.rng.integers(0, 65_536, 2 * segment.rows, dtype=np.uint16)
        self.scratch = ImpactScratch(segment.rows, segment.vocabulary)
        self.scan = np.inf
        self.idf = np.ones(segment.vocabulary, np.float32)
        if idf:
            frequencies = segment.sections["frequencies"].astype(np.float64)
            self.idf = np.log1p((segment.rows - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
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
        count = min(max(ASKED_ROWS // self.segment.rows, FEWEST_QUERIES), QUERIES)
        forms: list[list] = [[], [], []]
        for row in self.rng.choice(self.segment.rows, min(count, self.segment.rows), replace=False).tolist():
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
        return self._timed(SCAN, [(query, bits, matches, 0.0) for query in some], 10)[1] / matches

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

        Within a share of the postings, settings are in the order of their effort. Once one finds nearly all, or takes longer than an exact
        plan, those of more effort can't be the better choice: they aren't measured, and get the recall of the last one measured.
        """
        recalls, costs = np.ones(len(SETTINGS)), np.zeros(len(SETTINGS))
        step = (1 if k == DEPTHS[0] else 2) * (1 if share == 1 else FILTERED)
        exact = self.scan * share * self.segment.rows
        forms = [form[::step] for form in self.forms if form]
        if not forms:
            return recalls, costs
        groups = [[self._asked(query, share, False, k) for query in form] for form in forms]
        if share < 1:
            groups.append([self._asked(query, share, True, k) for form in forms for query in form])
        last = SAFE
        for setting in range(len(SETTINGS)):
            if setting == SCAN or SETTINGS[setting, PLAN] == kernel.POSTINGS or (share < 1 and BETWEEN[setting]):
                continue
            same = SETTINGS[setting, SHARE] == SETTINGS[last, SHARE]
            if same and setting != SAFE and (recalls[last] >= NEARLY_ALL or costs[last] >= exact):
                recalls[setting], costs[setting] = recalls[last], DEARER ** (setting - last) * costs[last]
            else:
                measured = [self._timed(setting, group, k) for group in groups]
                recalls[setting] = min(recall for recall, _ in measured)
                costs[setting] = np.mean([cost for _, cost in measured[: len(forms)]])
            if setting == SAFE:
                exact = min(exact, costs[setting])
            last = setting
        if share < 1:
            for table in (recalls, costs):
                table[BETWEEN] = (table[:-2][BETWEEN[1:-1]] + table[2:][BETWEEN[1:-1]]) / 2
        return recalls, costs

    def _asked(self, query: tuple[int, np.ndarray, np.ndarray], share: float, away: bool, k: int) -> tuple:
        """(query, bitmap of the rows that it may return, number of rows that match the filter, the k-th best score or −inf). ``away``: the
        filter excludes the query's best rows. The query's own row is excluded from the bitmap.
        """
        bits = self._filter(share, query if away else None)
        matches = int(np.bitwise_count(bits).sum())
        bits[query[0] >> 6] &= ~(np.uint64(1) << np.uint64(query[0] & 63))
        scores = scores_of(self._run(SAFE, query, k, bits))
        return query, bits, matches, float(scores.min()) if len(scores) == k else -np.inf

    def _timed(self, setting: int, requests: list[tuple], k: int) -> tuple[float, float]:
        """(mean recall minus DOUBT standard errors, microseconds per request) of one setting on some requests."""
        if not requests:
            return 1.0, 0.0
        started = time.thread_time_ns()
        answers = [self._run(setting, query, k, bits, matches) for query, bits, matches, _ in requests]
        elapsed = (time.thread_time_ns() - started) / 1e3 / len(requests) - CALL_MICROSECONDS
        truth = [kth for _, _, _, kth in requests]
        right = [1.0 if kth == -np.inf else float((scores_of(keys) >= kth).sum()) / k for keys, kth in zip(answers, truth, strict=True)]
        return lowered(right), max(elapsed, 0.1)
