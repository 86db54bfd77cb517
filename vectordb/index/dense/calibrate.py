"""Calibration: measure the recall and cost of every plan on the segment itself, by selectivity and by query–filter correlation.

Some rows of the segment serve as queries; they are left out of the graph meanwhile. A cell is a selectivity and a kind of correlation
(KINDS). In each cell every query gets a random filter of that kind and its exact answer, and every setting of every plan answers all
queries. The planner interpolates between the cells.

The correlation is expressed as ρ, the selectivity near the query divided by the overall selectivity. ρ = 1: no correlation. ρ < 1: the
filter excludes the rows near the query.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np

from ...kernels import bitset, columns_of_memory, planner
from ...kernels import segment as kernel
from ...kernels.layout import R_LOCAL, REPORT_WIDTH
from .. import exact
from ..base import Plan
from ..exact import scores_of
from ..model import DEPTHS, DOUBT, Corrections, measure_grid, settings_of
from .model import NEVER
from .plans import PLANS
from .scratch import DenseScratch
from .search import CALL_MICROSECONDS, run_plan
from .segment import DenseSegment

# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commits 5afc918 to
# e7bcf53 (bench/RESULTS.md, "Under filters"), which compares predicted with observed recall and cost, and the chosen setting with the best
# one. [build]: bounds the time that calibration adds to a build; the same run measured 5,687 points a second, upserts and index. [tests]:
# set so that tests with duplicates pass; no benchmark is recorded. [float]: from the rounding of the type. [chosen]: chosen, not measured.

# What is measured.
QUERIES, FEW_QUERIES = 80, 48  # queries; the second for segments without a graph [build]
FEWER = 3  # one query in FEWER takes part in a filtered cell; with the larger depth one in 3·FEWER [build]
SCAN_QUERIES = 6  # queries of a group by which the code scan is timed; its time hardly varies [build]
EXACT_QUERIES, EXACT_QUERIES_OF_LARGE = 6, 2  # queries by which the exact scan is timed; the second above PARALLEL_ROWS [build]
PARALLEL_ROWS = 20_000  # rows from which on the depths are calibrated in parallel [chosen]
SCORED_ROWS = 16_384  # rows scored at a time in float64; bounds memory [chosen]
SELECTIVITIES = (0.8, 0.4, 0.2, 0.1, 0.04, 0.01, 0.004, 0.0015)  # of the filters [P2]
SCANNED = 400  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan [chosen]
CORRELATIONS = (-8.0, -5.0, -3.5, -2.0, -1.0, -0.4, 0.0, 0.5, 1.0, 2.0, 4.0)  # log2 ρ at which a model has points [P2]
# How a filter is correlated with the query; ``_ball`` has the probabilities [P2].
KINDS = ("none", "near", "fewer near", "none near", "whole clusters", "around another", "around another")
FAR_BLUR = 0.3  # blur of a filter's boundary that lies far from the query, relative to one near it [P2]

# What the measurements become.
TELLING = 0.01  # share of the score gap between a query's 10th best and median row, below which rows count as tied [tests]
ROUNDING = 3e-7  # rounding error of a float32 dot product of unit vectors, times √dimensions [float]
FEWEST = 6.0  # queries, summed weights, that a point of a model needs; with fewer it takes its neighbour's values [chosen]
NEARLY_ALL = 0.995  # recall of a setting whose cost bounds the search for others [build]
ALL = 0.9985  # recall at which a sweep ends: more effort only costs more [build]
COST_BOUND = 1.3  # times the cost of the cheapest setting of recall NEARLY_ALL; a sweep ends above it [build]


@dataclass(frozen=True)
class Settings:
    """The settings that a file built now is calibrated for. table: float64 ``(settings, 3)``. families: the settings of each plan and
    width, by rising effort, except for the exact scan. exact: its setting.
    """

    table: np.ndarray
    families: list[np.ndarray]
    exact: int

    @classmethod
    def now(cls) -> Settings:
        table = settings_of(PLANS)
        exact = planner.setting_of(table, planner.EXACT)
        kinds = table[:, [planner.PLAN, planner.WIDTH]]
        families = [np.flatnonzero((kinds == kind).all(axis=1)) for kind in dict.fromkeys(map(tuple, kinds.tolist()))]
        return cls(table, [family for family in families if family[0] != exact], exact)


def calibrate(
    segment: DenseSegment,
    vectors: np.ndarray,
    docids: np.ndarray,
    order: np.ndarray,
    held: np.ndarray,
    seed: int,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, np.ndarray]:
    """Calibrate a segment. Returns the sections of its file that hold the models.

    vectors, docids: its rows, by docid. order: int ``(rows,)``, the index in ``vectors`` of the segment's row i. held: indexes in
    ``vectors`` of the rows that serve as queries. progress: called with the share that is done, 0 … 1.
    """
    bench = _Bench(segment, vectors, docids, order, held, seed)
    shares = [s for s in SELECTIVITIES if s * segment.rows >= SCANNED] or [SELECTIVITIES[0]]
    levels = [1.0, *(float(np.log2(s)) for s in shares)]  # the first stands for "no filter"; it is above the log2 of every selectivity

    def lane_of(d: int) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        lane, k, full_scan = bench.lane(seed + d), DEPTHS[d], bench.settings.exact

        def measure(level: int) -> tuple[np.ndarray, np.ndarray]:
            share = shares[level - 1] if level else None
            full = lane.full_cost(share, k)
            cells = [lane.cell(kind, share, k, full) for kind in (KINDS if level else KINDS[:1])]
            rhos, recalls, costs = (np.concatenate([cell[part] for cell in cells]) for part in range(3))
            recalls[:, full_scan], costs[:, full_scan] = 1.0, full
            return _spread(rhos, recalls, costs)

        return measure

    recalls, costs = measure_grid(len(levels), lane_of, threads if segment.rows >= PARALLEL_ROWS else 1, progress)
    flat = len(DEPTHS), -1, recalls.shape[-1]
    return {
        "settings": bench.settings.table,
        "levels": np.array(levels),
        "locals": np.array(CORRELATIONS),
        "recalls": recalls.reshape(flat),
        "costs": costs.reshape(flat),
    }


def _spread(rhos: np.ndarray, recalls: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the measurements of single queries at the points CORRELATIONS. Returns (recalls, costs), float32 ``(points, settings)``.

    rhos: log2 ρ ``(n,)``. recalls, costs (microseconds): ``(n, settings)``. Each query counts for the two points that it lies between, by
    linear weights. A point with too few queries takes the values of the nearest point that has enough.
    """
    right = np.clip(np.searchsorted(CORRELATIONS, rhos), 1, len(CORRELATIONS) - 1)
    points = np.array(CORRELATIONS)
    part = np.clip((rhos - points[right - 1]) / (points[right] - points[right - 1]), 0, 1)
    weights = np.zeros((len(CORRELATIONS), len(rhos)))
    weights[right - 1, np.arange(len(rhos))] = 1 - part
    weights[right, np.arange(len(rhos))] = part
    sums = weights.sum(axis=1)
    filled = np.flatnonzero(sums >= min(FEWEST, sums.max()))
    nearest = filled[np.argmin(np.abs(points[filled][None, :] - points[:, None]), axis=1)]
    means = [(weights[filled] @ values) / sums[filled, None] for values in (recalls, costs)]
    # Subtract some standard errors from the mean recall, which is less certain where queries differ much or are few.
    squares = (weights[filled] @ np.square(recalls)) / sums[filled, None] - np.square(means[0])
    means[0] = means[0] - DOUBT * np.sqrt(np.maximum(squares, 0) / sums[filled, None])
    places = np.searchsorted(filled, nearest)
    return means[0][places].astype(np.float32), means[1][places].astype(np.float32)


class _Bench:
    """The calibration queries with their exact scores of all rows, and the methods that run one cell."""

    def __init__(self, segment: DenseSegment, vectors: np.ndarray, docids: np.ndarray, order: np.ndarray, held: np.ndarray, seed: int):
        self.segment, metric = segment, segment.metric
        self.settings = Settings.now()
        self.n, self.clusters = segment.rows, segment.clusters
        rng = np.random.default_rng(seed + 2)
        held = held if len(held) else np.arange(min(8, len(vectors)))
        self.queries = np.ascontiguousarray(vectors[held])
        if metric != "l2":  # scaling a query scales all its scores alike; those of a very short query would underflow
            lengths = np.linalg.norm(self.queries.astype(np.float64), axis=1, keepdims=True)
            self.queries = (self.queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.own = place[held]
        self.offsets = segment.offsets
        self.noise = rng.integers(0, 65_536, max(self.n, 4_099) + 97, dtype=np.uint16)
        self.norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
        self.norms[self.norms == 0] = 1
        self.table = columns_of_memory(vectors, docids, self.norms)
        self.verified = np.ones(1, np.uint8)
        self.own_docids = docids[held].astype(np.int64)
        nothing = np.zeros((1, len(self.settings.table)), np.float32)
        self.unmeasured = (np.zeros(2), np.zeros(1), nothing, nothing, Corrections.of(PLANS).table)
        self.scores = self._scores(vectors, metric)[:, order]
        # The rounding error of float32 scores: (absolute, relative). Only l2 has a relative part.
        usual = 0.0 if metric == "l2" else 1.0 if metric == "cosine" else float(np.quantile(self.norms, 0.97))
        self.rounding = ROUNDING * np.sqrt(vectors.shape[1]) * usual, 1e-5 if metric == "l2" else 0.0
        self.ordered = np.sort(self.scores, axis=1)
        # Rows whose scores differ by less than this count as tied. Otherwise only an exact scan could
        # reach the target where rows are nearly alike.
        self.telling = TELLING * (self.ordered[:, -min(10, self.n)] - self.ordered[:, self.n // 2])
        self.words = -(-self.n // 64)

    def lane(self, seed: int) -> _Bench:
        """A copy for another thread, with its own scratch space and random numbers."""
        lane = copy(self)
        lane.scratch = DenseScratch(self.n, self.clusters, self.segment.dim)
        lane.rng = np.random.default_rng(seed + 3)
        return lane

    def _scores(self, vectors: np.ndarray, metric: str) -> np.ndarray:
        """The exact score of each query and row, float32 ``(queries, rows)``. Computed in float64, because rows may differ by less than the
        rounding error of float32 products.
        """
        queries = self.queries.astype(np.float64)
        scores = np.empty((len(queries), len(vectors)), np.float32)
        for low in range(0, len(vectors), SCORED_ROWS):
            block = vectors[low : low + SCORED_ROWS].astype(np.float64)
            products = queries @ block.T
            if metric == "cosine":
                products /= self.norms[low : low + SCORED_ROWS]
            elif metric == "l2":
                products = 2 * products - np.einsum("ij,ij->i", block, block) - np.einsum("ij,ij->i", queries, queries)[:, None]
            scores[:, low : low + SCORED_ROWS] = products
        return scores

    def full_cost(self, share: float | None, k: int) -> float:
        """The cost of an exact scan of the matching rows, in microseconds, measured with random filters: correlation doesn't change it."""
        count = EXACT_QUERIES if self.n <= PARALLEL_ROWS else EXACT_QUERIES_OF_LARGE
        cell, _ = self._requests("none", share, self.rng.permutation(len(self.queries))[:count], k)
        every = np.arange(len(cell.matches))
        heaps = np.empty((len(every), k + 1), np.int64)
        # Take the lower of two times: the first run may have to load rows into the processor's cache.
        return min(self._timed(self.settings.exact, cell, every, heaps, np.zeros(len(every), np.int64)) for _ in range(2))

    def cell(self, kind: str, share: float | None, k: int, full: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run one cell. Returns (log2 ρ of each query, recalls, costs in microseconds), the latter two ``(queries, settings)``.

        kind: of the filters. share: their selectivity; None: no filter. full: the cost of the exact scan, an upper bound on useful costs.
        """
        few = 1 if share is None else FEWER if k == DEPTHS[0] else 3 * FEWER
        sample = self.rng.permutation(len(self.queries))[: -(-len(self.queries) // few)]
        cell, rhos = self._requests(kind, share, sample, k)
        recalls = np.zeros((len(sample), len(self.settings.table)), np.float32)
        costs = np.full((len(sample), len(self.settings.table)), NEVER, np.float32)
        enough, given = full, {*self.segment.meta["codecs"]}
        given |= ({"graph"} if self.segment.has_graph else set()) | ({"filter"} if cell.filtered else set())
        for family in self.settings.families:
            if PLANS[int(self.settings.table[family[0], planner.PLAN])].needs <= given:
                enough = self._sweep(family, cell, recalls, costs, enough)
        return rhos, recalls, costs

    def _requests(self, kind: str, share: float | None, sample: np.ndarray, k: int) -> tuple[_Cell, np.ndarray]:
        """Draw a filter of a kind for each of some queries. Returns the cell and the filters' log2 ρ."""
        count = len(sample)
        bits = np.zeros((count, self.words), np.uint64)
        counts = np.zeros((count, self.clusters), np.int32)
        matches = np.zeros(count, np.int64)
        for i, query in enumerate(sample):
            self._filter(kind, share, query, bits[i])
            matches[i] = bitset.passing_of_clusters(bits[i], self.offsets, counts[i])
        needed = np.array([planner.kth_score(self.scores[query], True, bits[i], k) for i, query in enumerate(sample)])
        rhos = self._rho(sample, bits, counts, matches) if share is not None else np.zeros(count)
        return _Cell(share is not None, sample, bits, counts, matches, needed, k, _groups(rhos)), rhos

    def _sweep(self, family: np.ndarray, cell: _Cell, recalls: np.ndarray, costs: np.ndarray, enough: float) -> float:
        """Measure the settings of one plan by rising effort, until more effort is of no use. enough: the lowest cost (microseconds) so far
        of a setting with a recall of NEARLY_ALL or more. Returns the updated ``enough``.
        """
        telling = [group for group in cell.groups if len(group) >= FEWEST] or [np.arange(len(cell.matches))]
        last = len(family) - 1
        for i, setting in enumerate(family):
            if i % 2 and i < last:
                continue  # not measured: it gets the mean of its neighbours below
            recalls[:, setting], costs[:, setting] = self._run(int(setting), cell)
            if i % 2 == 0 and i > 0:
                for table in (recalls, costs):
                    table[:, family[i - 1]] = (table[:, family[i - 2]] + table[:, setting]) / 2
            # The lowest recall of all groups: a setting that serves most queries well may fail those of another correlation.
            recall = min(float(recalls[group, setting].mean()) for group in telling)
            cost = float(costs[:, setting].mean())
            if recall >= NEARLY_ALL:
                enough = min(enough, cost)
            if recall >= ALL or cost > COST_BOUND * enough:
                # More effort would only cost more. Extrapolate the other settings.
                efforts = self.settings.table[family[i:], planner.EFFORT]
                recalls[:, family[i + 1 :]] = recalls[:, [setting]]
                costs[:, family[i + 1 :]] = costs[:, [setting]] * (efforts[1:] / max(efforts[0], 0.1))
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
            around = query if kind != "around another" else int(self.rng.integers(len(self.queries)))
            ordered = self.ordered[around]
            bound = ordered[-min(max(round(near * self.n), 1), self.n)]
            # Real filters correlate with topic, not with distance to the query, so only some of its neighbours match. Blur the cut.
            blur = self.rng.random() * (1.0 if around == query else FAR_BLUR) * float(ordered[-min(10, self.n)] - ordered[self.n // 2])
            bitset.filter_by_score(self.scores[around], bound, blur, above, below, self.noise, start, bits)
        own = int(self.own[query])
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

    def _run(self, setting: int, cell: _Cell) -> tuple[np.ndarray, np.ndarray]:
        """(recalls, costs in microseconds) of the queries of a cell by one setting. Queries of one group, of similar ρ, are timed
        together.
        """
        count, k = len(cell.matches), cell.k
        recalls, times = np.ones(count), np.empty(count)
        scan = (
            self.settings.table[setting, planner.PLAN] == planner.SCAN
        )  # its recall and time hardly vary, so a few queries stand for the group
        for group in cell.groups:
            some = group[:SCAN_QUERIES] if scan else group
            heaps, sizes = np.empty((len(some), k + 1), np.int64), np.zeros(len(some), np.int64)
            times[group] = self._timed(setting, cell, some, heaps, sizes)
            filled = np.arange(k + 1) < sizes[:, None]
            others = filled & ((np.int64(0xFFFFFFFF) - (heaps & np.int64(0xFFFFFFFF))) != self.own_docids[cell.queries[some]][:, None])
            kth = cell.needed[some]
            rounding = self.rounding[0] + self.rounding[1] * np.where(np.isfinite(kth), np.abs(kth), 0)
            needed = kth - np.minimum(rounding, self.telling[cell.queries[some]])
            right = (others & (scores_of(heaps) >= needed[:, None])).sum(axis=1)
            possible = np.minimum(k, cell.matches[some])
            shares = np.where(possible > 0, np.minimum(right, possible) / np.maximum(possible, 1), 1.0)
            recalls[group] = shares.mean() if scan else shares
        return recalls, times

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


@dataclass(frozen=True)
class _Cell:
    """The requests of a cell. queries: indexes of the queries. bits, counts, matches: their filters, as ``search_segment`` takes them.
    needed: the k-th best score of each. groups: indexes of requests with similar ρ.
    """

    filtered: bool
    queries: np.ndarray
    bits: np.ndarray
    counts: np.ndarray
    matches: np.ndarray
    needed: np.ndarray
    k: int
    groups: list[np.ndarray]


def _groups(rhos: np.ndarray) -> list[np.ndarray]:
    """Group queries by the nearest point of CORRELATIONS: the indexes of the queries of each point that has some."""
    points = np.array(CORRELATIONS)
    nearest = np.argmin(np.abs(rhos[:, None] - points), axis=1)
    return [np.flatnonzero(nearest == point) for point in np.unique(nearest)]
