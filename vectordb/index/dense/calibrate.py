"""Calibration: measure the recall and cost of every plan on the segment itself, by selectivity and by query–filter correlation.

Some rows of the segment serve as queries; they are left out of the graph meanwhile. For each selectivity, queries get random filters of all
kinds of correlation (KINDS) and their exact answers, and every setting of every plan answers the queries of similar correlation. The
planner interpolates between the selectivities and between the correlations.

The correlation is expressed as ρ, the selectivity near the query divided by the overall selectivity. ρ = 1: no correlation. ρ < 1: the
filter excludes the rows near the query.

Real queries may be farther from the rows than rows are from one another, and then find less. So queries are made as well, from means of
some rows and from random combinations of many (``far.py``). What all queries find is recorded by the distance of what they find, and a
search that finds rows at a distance at which its setting finds too little is followed by one with more effort.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

import numpy as np

from ...kernels import bitset, columns_of_memory, planner
from ...kernels import segment as kernel
from ...kernels.layout import R_LOCAL, REPORT_WIDTH
from .. import exact
from ..base import Plan
from ..exact import scores_of
from ..model import DEPTHS, Corrections, settings_of
from .far import NOISE, distances_of, kinds_of, made_queries
from .model import NEVER
from .plans import PLANS
from .points import ALIKE, CORRELATIONS, USUAL, bins_of, groups_of, points_by_distance, slope_of, spread
from .scratch import DenseScratch
from .search import CALL_MICROSECONDS, run_plan
from .segment import DenseSegment

# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commits 5afc918 to
# e7bcf53 (bench/RESULTS.md, "Under filters"), which compares predicted with observed recall and cost, and the chosen setting with the best
# one. [build]: bounds the time that calibration adds to a build; the same run measured 5,687 points a second, upserts and index. [tests]:
# set so that tests with duplicates pass; no benchmark is recorded. [float]: from the rounding of the type. [chosen]: chosen, not measured.

# What is measured.
QUERIES, FEW_QUERIES = 160, 48  # queries; the second for segments without a graph [build]
FILTERED = 80  # the first queries, that filters are drawn for and around [build]
REQUESTS = (112, 32)  # filtered requests of each selectivity, for each of DEPTHS [build]
OTHERS = (160, 48)  # queries without a filter by which plans that need no graph are measured, for each of DEPTHS [build]
DEEP = 3  # one query in DEEP is asked for the larger number of results, where there is no filter [build]
MADE, FEW_MADE = 96, 24  # queries that are made; the second for segments without a graph [build]
MADE_REQUESTS = (36, 16)  # filtered requests with made queries of each selectivity, for each of DEPTHS [build]
SCAN_QUERIES = 6  # queries of a group by which the code scan is timed; its time hardly varies [build]
EXACT_QUERIES, EXACT_QUERIES_OF_LARGE = 6, 2  # queries by which the exact scan is timed; the second above PARALLEL_ROWS [build]
PARALLEL_ROWS = 20_000  # rows from which on the selectivities are calibrated in parallel [chosen]
SCORES = 64 << 20  # scores of queries and rows that are kept; in larger segments fewer queries are asked, down to FILTERED [chosen]
SCORED_ROWS = 16_384  # rows scored at a time in float64; bounds memory [chosen]
SELECTIVITIES = (0.8, 0.35, 0.12, 0.04, 0.012, 0.004, 0.0015)  # of the filters [P2]
SCANNED = 400  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan [chosen]
# How a filter is correlated with the query; ``_ball`` has the probabilities [P2].
KINDS = ("none", "near", "fewer near", "none near", "whole clusters", "around another", "none near", "around another")
FAR_BLUR = 0.3  # blur of a filter's boundary that lies far from the query, relative to one near it [P2]
RANKED = 8_192  # rows, evenly spread, whose order stands for that of all [chosen]

# What the measurements become.
TELLING = 0.01  # share of the score gap between a query's 10th best and median row, below which rows count as tied [tests]
ROUNDING = 3e-7  # rounding error of a float32 dot product of unit vectors, times √dimensions [float]
NEARLY_ALL = 0.995  # recall of a setting whose cost bounds the search for others [build]
ALL = 0.9985  # recall at which a sweep ends: more effort only costs more [build]
COST_BOUND = 1.3  # times the cost of the cheapest setting of recall NEARLY_ALL; a sweep ends above it [build]
LEVEL = 0.002  # recall that a sweep has to gain by three more settings, else it ends [build]
STEP_COST = 1.3  # how many times as much as the one before it a setting beyond the end of a sweep is taken to cost [chosen]
COLD_QUERIES, COLD_BYTES = 24, 4 << 20  # searches by which the cost of a call is measured, and memory read between them [chosen]
MOST_COLD = 3.0  # times the cost in a batch; a search of its own isn't taken to cost more [chosen]


@dataclass(frozen=True)
class Settings:
    """The settings that a file built now is calibrated for. table: float64 ``(settings, 3)``. families: the settings of each plan that
    stand beside one another with rising effort, except for the exact scan. exact: its setting. uncompiled: bool ``(settings,)``, those of
    plans with a kernel of their own.
    """

    table: np.ndarray
    families: list[np.ndarray]
    exact: int
    uncompiled: np.ndarray

    @classmethod
    def now(cls) -> Settings:
        table = settings_of(PLANS)
        exact = planner.setting_of(table, planner.EXACT)
        plans, efforts = table[:, planner.PLAN], table[:, planner.EFFORT]
        begins = np.flatnonzero((np.diff(plans) != 0) | (np.diff(efforts) <= 0)) + 1
        families = np.split(np.arange(len(table)), begins)
        uncompiled = np.array([PLANS[int(plan)].kernel is not None for plan in plans])
        return cls(table, [family for family in families if family[0] != exact], exact, uncompiled)


def calibrate(
    segment: DenseSegment,
    vectors: np.ndarray,
    docids: np.ndarray,
    order: np.ndarray,
    held: np.ndarray,
    seed: int,
    threads: int,
    progress: Callable[[float], None],
) -> tuple[dict[str, np.ndarray], float]:
    """Calibrate a segment. Returns (the sections of its file that hold the models, the result of ``_Bench.cold``).

    vectors, docids: its rows, by docid. order: int ``(rows,)``, the index in ``vectors`` of the segment's row i. held: indexes in
    ``vectors`` of the rows that serve as queries. progress: called with the share that is done, 0 … 1.
    """
    bench = _Bench(segment, vectors, docids, order, held, seed)
    shares = [s for s in SELECTIVITIES if s * segment.rows >= SCANNED] or [SELECTIVITIES[0]]
    levels = [1.0, *(float(np.log2(s)) for s in shares)]  # the first stands for "no filter"; it is above the log2 of every selectivity
    done = itertools.count(1)

    def measure(level: int) -> list[tuple[np.ndarray, ...]]:
        measured = bench.lane(seed + level).level(shares[level - 1] if level else None)
        progress(next(done) / len(levels))
        return measured

    # Threads that share caches slow down searches of the graph more than scans, so most searches, those without a filter, are timed alone.
    cells = [measure(0)]
    if threads > 1 and segment.rows >= PARALLEL_ROWS:
        with ThreadPoolExecutor(threads) as pool:
            cells += pool.map(measure, range(1, len(levels)))
    else:
        cells += [measure(level) for level in range(1, len(levels))]
    tables = [np.array([[cell[d][part] for cell in cells] for d in range(len(DEPTHS))], np.float32) for part in range(5)]
    recalls, lows, costs, far_recalls, far_costs = (table.reshape(len(DEPTHS), -1, table.shape[-1]) for table in tables)
    sections = {
        "settings": bench.settings.table,
        "levels": np.array(levels),
        "locals": np.array(CORRELATIONS),
        "recalls": recalls,
        "lows": lows,
        "costs": costs,
        "distance_points": np.array([[cell[d][5] for cell in cells] for d in range(len(DEPTHS))]),
        "alike": np.array([cells[0][d][6] for d in range(len(DEPTHS))]),
        "far_recalls": far_recalls,
        "far_costs": far_costs,
    }
    return sections, bench.lane(seed).cold(np.array([cell[0][0] for cell in cells[0]]))


def unfiltered_recalls(
    segment: DenseSegment, vectors: np.ndarray, docids: np.ndarray, order: np.ndarray, held: np.ndarray, seed: int, settings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the mean recall of some settings without a filter, by the rows that serve as queries; its standard error), float64. Arguments as for
    ``calibrate``; settings: indexes.
    """
    bench = _Bench(segment, vectors, docids, order, held, seed, made=0).lane(seed)
    drawn, every, k = bench._requests(["none"], None, np.arange(bench.held)), np.arange(bench.held), DEPTHS[0]
    cell = drawn.of(every, *bench._needed(drawn, every, k), k)
    found = np.array([bench._run(int(setting), cell, every)[0] for setting in settings]).reshape(len(settings), bench.held)
    return found.mean(axis=1), found.std(axis=1) / np.sqrt(bench.held)


class _Bench:
    """The calibration queries with their exact scores of all rows, and the methods that run one cell."""

    scratch: DenseScratch  # of a lane
    rng: np.random.Generator  # of a lane

    def __init__(self, segment: DenseSegment, vectors, docids, order, held, seed: int, made: int = MADE):
        """made: queries that are made, at most; 0 for the check of a calibration."""
        self.segment, metric = segment, segment.metric
        self.settings = Settings.now()
        self.n, self.clusters = segment.rows, segment.clusters
        rng = np.random.default_rng(seed + 2)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        linked = np.ones(-(-self.n // 64) * 64, np.bool_)
        linked[self.n :] = False
        if segment.has_graph:
            linked[place[held]] = False
        self.linked = np.packbits(linked, bitorder="little").view(np.uint64)  # rows that a search of the graph can find
        held = held if len(held) else np.arange(min(8, len(vectors)))
        fewer = max(FILTERED, SCORES // len(vectors))
        if len(held) > fewer:
            held = held[np.linspace(0, len(held) - 1, fewer).astype(int)]
        made = min(made, MADE if segment.has_graph else FEW_MADE, max(FEW_MADE, SCORES // len(vectors) - len(held)))
        self.held = len(held)
        self.queries = np.concatenate([vectors[held], made_queries(vectors, segment.sections["mean"], metric, made, rng)])
        if metric != "l2":  # scaling a query scales all its scores alike; those of a very short query would underflow
            lengths = np.linalg.norm(self.queries.astype(np.float64), axis=1, keepdims=True)
            self.queries = (self.queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        self.own = np.concatenate([place[held], np.full(made, -1)])
        self.offsets = segment.offsets
        self.noise = rng.integers(0, 65_536, max(self.n, 4_099) + 97, dtype=np.uint16)
        self.norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
        self.norms[self.norms == 0] = 1
        self.table = columns_of_memory(vectors, docids, self.norms)
        self.verified = np.ones(1, np.uint8)
        self.own_docids = np.concatenate([docids[held].astype(np.int64), np.full(made, -1)])
        nothing = np.zeros((1, len(self.settings.table)), np.float32)
        self.unmeasured = (np.zeros(2), np.zeros(1), nothing, nothing, Corrections.of(PLANS).table)
        # Half the work is enough for a check: the scores of searches, which are compared with these, have the same rounding error.
        self.scores = self._scores(vectors, metric, place, np.float32 if made == 0 and metric != "l2" else np.float64)
        # The rounding error of float32 scores: (absolute, relative). Only l2 has a relative part.
        usual = 0.0 if metric == "l2" else 1.0 if metric == "cosine" else float(np.quantile(self.norms, 0.97))
        self.rounding = ROUNDING * np.sqrt(vectors.shape[1]) * usual, 1e-5 if metric == "l2" else 0.0
        self.ordered = np.sort(self.scores[:, :: max(self.n // RANKED, 1)], axis=1)
        tenth = self.n - min(10, self.n)
        # The score of the tenth best row less that of a middling one.
        self.gaps = np.partition(self.scores, tenth, axis=1)[:, tenth] - self.ordered[:, self.ordered.shape[1] // 2]
        # Rows whose scores differ by less than this count as tied. Otherwise only an exact scan could
        # reach the target where rows are nearly alike.
        self.telling = TELLING * self.gaps
        self.words = -(-self.n // 64)
        self.distances = distances_of(segment, self.queries)

    def lane(self, seed: int) -> _Bench:
        """A copy for another thread, with its own scratch space and random numbers."""
        lane = copy(self)
        lane.scratch = DenseScratch(self.n, self.clusters, self.segment.dim)
        lane.rng = np.random.default_rng(seed + 3)
        return lane

    def _scores(self, vectors: np.ndarray, metric: str, place: np.ndarray, dtype: type) -> np.ndarray:
        """The exact score of each query and row, float32 ``(queries, rows)``, in the segment's order; place: that of each vector. dtype:
        that they are computed in: float64, where rows may differ by less than the rounding error of float32 products.
        """
        queries = self.queries.astype(dtype)
        scores = np.empty((len(queries), len(vectors)), np.float32)
        for low in range(0, len(vectors), SCORED_ROWS):
            block = vectors[low : low + SCORED_ROWS].astype(dtype, copy=False)
            products = queries @ block.T
            if metric == "cosine":
                products /= self.norms[low : low + SCORED_ROWS]
            elif metric == "l2":
                products = 2 * products - np.einsum("ij,ij->i", block, block) - np.einsum("ij,ij->i", queries, queries)[:, None]
            scores[:, place[low : low + SCORED_ROWS]] = products
        return scores

    def level(self, share: float | None) -> list[tuple[np.ndarray, ...]]:
        """Measure all settings at a selectivity (None: no filter): for each of DEPTHS (recalls, lowest recalls, costs in microseconds) by
        correlation, as ``points.spread`` returns them, (recalls, costs, distances with the slope) by distance, and the distance within
        which nearly all rows find their results.
        """
        count, measured = self.held, []
        made = self.rng.permutation(len(self.queries) - count) + count
        if share is None:
            drawn = self._requests(["none"], None, np.concatenate([self.rng.permutation(count), made]))
        else:
            among = min(FILTERED, count)
            chosen = np.concatenate([self.rng.permutation(among) for _ in range(-(-REQUESTS[0] // among))])[: min(REQUESTS[0], 3 * among)]
            drawn = self._requests(list(KINDS), share, np.concatenate([chosen, made[: MADE_REQUESTS[0]]]))
        rows = drawn.queries < count
        noise = np.concatenate([np.zeros(count, np.bool_), kinds_of(len(self.queries) - count) == NOISE])
        for d, k in enumerate(DEPTHS):
            # Every other one, or every third, …: the kinds of filters take turns.
            steps = (
                [1, 1]
                if d == 0
                else [DEEP, DEEP - 1 if self.segment.has_graph else 1]
                if share is None
                else [max(each[0] // each[d], 1) for each in (REQUESTS, MADE_REQUESTS)]
            )
            some = np.concatenate([np.flatnonzero(rows)[:: steps[0]], np.flatnonzero(~rows)[:: steps[1]]])
            cell = drawn.of(some, *self._needed(drawn, some, k), k)
            full = self._full_cost(cell)
            recalls = np.zeros((len(some), len(self.settings.table)), np.float32)
            costs = np.full((len(some), len(self.settings.table)), NEVER, np.float32)
            own, true = rows[some], self.distances(cell.queries, cell.needed)
            far = np.repeat(true[:, None].astype(np.float32), len(self.settings.table), axis=1)
            for part in (np.flatnonzero(own), np.flatnonzero(~own)):
                for group in groups_of(cell.rhos[part]):
                    self._measure(cell, part[group], full, OTHERS[d] if share is None else len(some), (recalls, costs, far))
            recalls[:, self.settings.exact], costs[:, self.settings.exact] = 1.0, full
            slope = slope_of(cell.rhos[own], true[own]) if share is not None else 0.0
            true, far = true + slope * cell.rhos, far + np.float32(slope) * cell.rhos[:, None].astype(np.float32)
            limit = float(np.quantile(true[own], USUAL))
            usual = own if share is not None else own & (true <= limit)
            ends, bins = bins_of(limit, true[own], far[own], recalls[own])
            beyond = len(CORRELATIONS) - len(ends)
            points = points_by_distance(true, limit, noise[cell.queries], far, recalls, costs, beyond)
            points[0][:, self.settings.uncompiled] = 0.0  # a second search is made in the kernel
            tables = np.concatenate([bins, points[0]]), np.concatenate([np.repeat(points[1][:1], len(ends), axis=0), points[1]])
            alike = float(np.quantile(true[own], ALIKE))
            distances = np.concatenate([ends, points[2], [slope]])
            measured.append((*spread(cell.rhos[usual], recalls[usual], costs[usual]), *tables, distances, alike))
        return measured

    def cold(self, recalls: np.ndarray) -> float:
        """The time of a search in a call of its own, with the caches as other work leaves them, relative to one in a batch of the same
        plan: 1 … MOST_COLD. recalls: of the settings without a filter, for each of DEPTHS.
        """
        drawn = self._requests(["none"], None, self.rng.permutation(self.held)[:COLD_QUERIES])
        every, k = np.arange(len(drawn.matches)), DEPTHS[0]
        unknown = np.zeros(len(every), np.float32)
        cell = drawn.of(every, unknown, unknown, k)
        setting = int(np.argmax(recalls[0] >= min(0.95, recalls[0].max()))) if recalls[0].max() > 0 else self.settings.exact
        heaps, sizes = np.empty((len(every), k + 1), np.int64), np.zeros(len(every), np.int64)
        batch = min(self._timed(setting, cell, every, heaps, np.zeros_like(sizes)) for _ in range(2))
        other, times = np.ones(COLD_BYTES // 8), []
        for i in every:
            other.sum()
            times.append(self._timed(setting, cell, every[i : i + 1], heaps[i : i + 1], sizes[i : i + 1]))
        return min(max(float(np.quantile(times, 0.25)) / batch, 1.0), MOST_COLD)

    def _full_cost(self, cell: _Cell) -> float:
        """The cost of an exact scan of the matching rows, in microseconds: correlation hardly changes it."""
        every = self.rng.permutation(len(cell.matches))[: EXACT_QUERIES if self.n <= PARALLEL_ROWS else EXACT_QUERIES_OF_LARGE]
        heaps = np.empty((len(every), cell.k + 1), np.int64)
        # Take the lower of two times: the first run may have to load rows into the processor's cache.
        return min(self._timed(self.settings.exact, cell, every, heaps, np.zeros(len(every), np.int64)) for _ in range(2))

    def _measure(self, cell: _Cell, group: np.ndarray, full: float, others: int, tables: _Tables) -> None:
        """Run every plan for the requests of a group, into tables. full: the cost of the exact scan, an upper bound on useful costs.
        others: the most requests that plans without a graph run; the others take their mean.
        """
        enough, given = full, {*self.segment.meta["codecs"]}
        given |= ({"graph"} if self.segment.has_graph else set()) | ({"filter"} if cell.filtered else set())
        for family in self.settings.families:
            needs = PLANS[int(self.settings.table[family[0], planner.PLAN])].needs
            if not needs <= given:
                continue
            some = group if "graph" in needs else group[:others]
            enough = self._sweep(family, cell, some, tables, enough)
            if len(some) < len(group):
                for table in tables[:2]:
                    table[np.ix_(group[others:], family)] = table[np.ix_(some, family)].mean(axis=0)

    def _needed(self, drawn: _Drawn, some: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k-th best score of some of the requests, and that among the rows that the graph has."""

        def needed(rows: np.ndarray) -> np.ndarray:
            return np.array([planner.kth_score(self.scores[drawn.queries[i]], True, drawn.bits[i] & rows, k) for i in some])

        every = needed(np.full_like(self.linked, ~np.uint64(0)))
        return every, needed(self.linked) if self.segment.has_graph else every

    def _requests(self, kinds: list[str], share: float | None, chosen: np.ndarray) -> _Drawn:
        """Draw a filter for each of some queries; the kinds take turns."""
        count = len(chosen)
        bits = np.zeros((count, self.words), np.uint64)
        counts = np.zeros((count, self.clusters), np.int32)
        matches = np.zeros(count, np.int64)
        for i, query in enumerate(chosen):
            self._filter(kinds[i % len(kinds)], share, query, bits[i])
            matches[i] = bitset.passing_of_clusters(bits[i], self.offsets, counts[i])
        rhos = self._rho(chosen, bits, counts, matches) if share is not None else np.zeros(count)
        return _Drawn(share is not None, chosen, bits, counts, matches, rhos)

    def _sweep(self, family: np.ndarray, cell: _Cell, group: np.ndarray, tables: _Tables, enough: float) -> float:
        """Measure the settings of one plan by rising effort, until more effort is of no use. enough: the lowest cost (microseconds) so far
        of a setting with a recall of NEARLY_ALL or more. Returns the updated ``enough``.
        """
        last, found, (recalls, costs, far) = len(family) - 1, [], tables
        for i, setting in enumerate(family):
            if i % 2 and i < last:
                continue  # not measured: it gets the mean of its neighbours below
            shares, cost, distances = self._run(int(setting), cell, group)
            recalls[group, setting], costs[group, setting], far[group, setting] = shares, cost, distances
            if i % 2 == 0 and i > 0:
                for table in tables:
                    table[group, family[i - 1]] = (table[group, family[i - 2]] + table[group, setting]) / 2
            found.append(float(shares.mean()))
            if found[-1] >= NEARLY_ALL:
                enough = min(enough, cost)
            level = len(found) > 3 and found[-1] - found[-4] < LEVEL
            if found[-1] >= ALL or level or cost > COST_BOUND * enough:
                # More effort would only cost more. Extrapolate the other settings.
                for more, beyond in enumerate(family[i + 1 :], 1):
                    recalls[group, beyond], costs[group, beyond], far[group, beyond] = shares, cost * STEP_COST**more, distances
                break
        return enough

    def _filter(self, kind: str, share: float | None, query: int, bits: np.ndarray) -> None:
        """Set the bits of the rows that a random filter matches. The query's own row never matches."""
        start = int(self.rng.integers(0, len(self.noise)))
        if share is None:
            bits[:] = ~np.uint64(0)
            if self.n % 64:
                bits[-1] >>= np.uint64(64 - self.n % 64)
        elif kind == "whole clusters":
            bitset.random_filter(self.offsets, (self.rng.random(self.clusters) < share).astype(np.float64), self.noise, start, bits)
        else:
            near, above, below = self._ball(kind, share)
            around = query if kind != "around another" else int(self.rng.integers(min(FILTERED, len(self.queries))))
            ordered = self.ordered[around]
            bound = ordered[-min(max(round(near * len(ordered)), 1), len(ordered))]
            # Real filters correlate with topic, not with distance to the query, so only some of its neighbours match. Blur the cut.
            blur = self.rng.random() * (1.0 if around == query else FAR_BLUR) * float(self.gaps[around])
            bitset.filter_by_score(self.scores[around], bound, blur, above, below, self.noise, start, bits)
        own = int(self.own[query])
        if own >= 0:
            bits[own >> 6] &= ~(np.uint64(1) << np.uint64(own & 63))

    def _ball(self, kind: str, share: float) -> tuple[float, float, float]:
        """(share of the rows that count as near the centre, probability of a near row to match, probability of another row to match).

        The centre of the kind "around another" is another query; then only rows near that one match.
        """
        if kind == "none":  # every row with the same probability
            return 1.0, share, share
        if kind == "near":  # nine in ten matches are among the nearest rows
            return share, 0.9, 0.1 * share / max(1 - share, 0.1)
        if kind == "fewer near":  # in the nearest fifth of the rows the selectivity is 0.3 · share
            return 0.2, 0.3 * share, 0.94 * share / 0.8
        if kind == "none near":  # none of the nearest 0.03 % to 30 % of the rows matches
            near = min(0.0003 * 1000 ** self.rng.random(), 0.9 * (1 - share))
            return near, 0.0, share / (1 - near)
        return share, 0.95, 0.0  # "around another": nearly all rows near another query, and no others

    def _rho(self, sample: np.ndarray, bits: np.ndarray, counts: np.ndarray, matches: np.ndarray) -> np.ndarray:
        """log2 ρ of each query, as a search estimates it."""
        reports, one = np.zeros((len(sample), REPORT_WIDTH)), np.zeros(len(sample), np.int64)
        given, heaps = (bits, counts, matches, self.queries[sample]), np.zeros((len(sample), 1), np.int64)
        self._search(kernel.LOOK, True, given, 1, heaps, one, reports)
        near, shares = np.maximum(reports[:, R_LOCAL], 0.0), np.maximum(matches, 1) / self.n
        return np.array([planner.log_correlation(*pair) for pair in zip(near, shares, strict=True)])

    def _run(self, setting: int, cell: _Cell, group: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """(recalls of some requests of a cell, microseconds of one, distances of what is found) by a setting."""
        k, plan = cell.k, PLANS[int(self.settings.table[setting, planner.PLAN])]
        scan = plan.id == planner.SCAN
        some = group[:SCAN_QUERIES] if scan else group  # a scan's recall and time hardly vary, so a few queries stand for the group
        heaps, sizes = np.empty((len(some), k + 1), np.int64), np.zeros(len(some), np.int64)
        cost = self._timed(setting, cell, some, heaps, sizes)
        filled = np.arange(k + 1) < sizes[:, None]
        others = filled & ((np.int64(0xFFFFFFFF) - (heaps & np.int64(0xFFFFFFFF))) != self.own_docids[cell.queries[some]][:, None])
        kth = (cell.linked if "graph" in plan.needs else cell.needed)[some]
        rounding = self.rounding[0] + self.rounding[1] * np.where(np.isfinite(kth), np.abs(kth), 0)
        needed = kth - np.minimum(rounding, self.telling[cell.queries[some]])
        right = (others & (scores_of(heaps) >= needed[:, None])).sum(axis=1)
        possible = np.minimum(k, cell.matches[some])
        shares = np.where(possible > 0, np.minimum(right, possible) / np.maximum(possible, 1), 1.0)
        if scan:
            return np.full(len(group), shares.mean()), cost, self.distances(cell.queries[group], cell.needed[group])
        found = np.sort(np.where(others, scores_of(heaps), -np.inf), axis=1)
        return shares, cost, self.distances(cell.queries[some], found[:, -k])

    def _timed(self, setting: int, cell: _Cell, queries: np.ndarray, heaps: np.ndarray, sizes: np.ndarray) -> float:
        """Microseconds per query of one call for some queries, without the overhead of the call."""
        reports = np.zeros((len(queries), REPORT_WIDTH))
        given = (cell.bits[queries], cell.counts[queries], cell.matches[queries], self.queries[cell.queries[queries]])
        started = time.thread_time_ns()
        self._search(setting, cell.filtered, given, cell.k, heaps, sizes, reports)
        return max((time.thread_time_ns() - started) / 1e3 - CALL_MICROSECONDS, 0.1) / max(len(queries), 1)

    def _search(self, forced: int, filtered: bool, given: tuple, k: int, heaps: np.ndarray, sizes: np.ndarray, reports: np.ndarray) -> None:
        plan = PLANS[int(self.settings.table[forced, planner.PLAN])] if forced >= 0 else None
        if plan is not None and plan.kernel is not None:
            return self._run_uncompiled(plan, forced, filtered, given, k, heaps, sizes)
        kernel.search_segment(
            self.segment.description, self.scratch.work, self.settings.table, *self.unmeasured, 1.0, forced, k, filtered, *given, k,
            self.table, self.verified, False, heaps, sizes, reports,
        )  # fmt: skip

    def _run_uncompiled(self, plan: Plan, forced: int, filtered: bool, given: tuple, k: int, heaps: np.ndarray, sizes: np.ndarray) -> None:
        for q, (bits, query) in enumerate(zip(given[0], given[3], strict=True)):
            rows, _ = run_plan(plan, self.segment, bits if filtered else None, query, self.settings.table[forced], k)
            docids, metric, some = np.sort(self.segment.docids[rows]), exact.METRICS[self.segment.metric], slice(q, q + 1)
            exact.score_dense(self.table, self.verified, query[None], False, metric, docids, heaps[some], sizes[some])


_Tables = tuple[np.ndarray, np.ndarray, np.ndarray]  # recalls, costs in microseconds, distances; ``(requests, settings)``


@dataclass(frozen=True)
class _Drawn:
    """Filtered requests. queries: indexes of the queries. bits, counts, matches: their filters, as ``search_segment`` takes them. rhos:
    log2 ρ of each.
    """

    filtered: bool
    queries: np.ndarray
    bits: np.ndarray
    counts: np.ndarray
    matches: np.ndarray
    rhos: np.ndarray

    def of(self, some: np.ndarray, needed: np.ndarray, linked: np.ndarray, k: int) -> _Cell:
        """Some of them, for k results. needed, linked: the k-th best score of each."""
        queries, bits, counts, matches = self.queries[some], self.bits[some], self.counts[some], self.matches[some]
        return _Cell(self.filtered, queries, bits, counts, matches, self.rhos[some], needed, linked, k)


@dataclass(frozen=True)
class _Cell(_Drawn):
    """Requests for ``k`` results. needed: the k-th best score of each; linked: that among the rows that the graph has. The calibration
    queries are rows that it lacks, so a search of the graph can't find them.
    """

    needed: np.ndarray
    linked: np.ndarray
    k: int
