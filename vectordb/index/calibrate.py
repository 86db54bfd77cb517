"""Measure every plan on the segment itself: recall and time by selectivity and by how the filter is correlated with the query.

Some rows serve as queries (they are not in the graph meanwhile). For each cell — a selectivity, and a way in which the matching rows lie
to the query — each has a filter of its own, with its exact answer; each setting of each plan answers all of them. The planner
interpolates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from ..kernels import bitset, columns_of_memory, planner
from ..kernels import segment as kernel
from ..kernels.layout import R_LOCAL, REPORT_WIDTH
from .scratch import Scratch

QUERIES, FEW_QUERIES = 80, 48  # the second for segments so small that little depends on it
FEWER = 3  # one in so many queries takes part in a filtered cell, of which there are many
PARALLEL_ROWS = 20_000
SCAN_QUERIES = 6
TELLING = 0.01  # of what lies between a query's best rows and the others
SCORED_ROWS = 16_384  # at a time, in float64
ROUNDING = 3e-7  # of a float32 product, times the root of the number of dimensions
EXACT_QUERIES, EXACT_QUERIES_OF_LARGE = 6, 2  # the second for segments of more than PARALLEL_ROWS
UNMEASURED_ROW, UNMEASURED_NUMBER = 0.008, 0.00025  # microseconds for a row and each of its numbers, where a full scan wasn't measured
CALL_MICROSECONDS = 4.0  # from Python and back
NEARLY_ALL, ALL = 0.995, 0.9985  # recalls
DEPTHS = (10, 100)  # results asked for; requests for other numbers use the nearest model, its efforts scaled
SELECTIVITIES = (0.8, 0.4, 0.2, 0.1, 0.04, 0.01, 0.004, 0.0015)
SCANNED = 400  # with fewer matching rows than this, scoring each is the plan
NEVER = 1e7  # microseconds: what a plan costs where it can't be used
# Where the models have points: log2 ρ, ρ the selectivity near the query over the whole one.
LOCALS = (-8.0, -5.0, -3.5, -2.0, -1.0, -0.4, 0.0, 0.5, 1.0, 2.0, 4.0)
KINDS = ("none", "near", "fewer near", "none near", "whole clusters", "around another", "around another")
FAR_BLUR = 0.3  # how much of that there is where a filter's bound is far from the query
FEWEST = 6.0  # queries (weighed) that a point needs
DOUBT = 0.5  # standard errors that are taken off a mean recall
_LEARNING = 1 / 64  # the weight of one measurement


def _settings() -> np.ndarray:
    rows = [(planner.SCAN, 0, 0)]
    rows += [(planner.FUNNEL, spread, 400) for spread in (0.3, 0.7, 1.0, 1.3, 1.6, 2.2, 3.0, 4.0, 5.0)]
    rows += [(planner.FUNNEL, spread, 2_000) for spread in (3.0, 4.0, 5.0, 6.0, 7.0)]
    rows += [(planner.CLUSTERS_SCAN, m, 0) for m in (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)]
    rows += [(planner.CLUSTERS_FUNNEL, m, 12) for m in (500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 11_000, 16_000, 32_000)]
    rows += [(planner.CLUSTERS_FUNNEL, m, 40) for m in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)]
    rows += [(planner.GRAPH_BEAM, e, 0) for e in (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7.5, 9, 12, 16, 22, 30, 40)]
    rows += [(planner.GRAPH_TWO_HOP, e, 0) for e in (1, 1.5, 2, 3, 4, 6, 9, 14, 24)]
    rows += [(planner.POST_FILTER, e, 0) for e in (2, 3, 4, 6, 8, 12, 16, 24, 32)]
    rows += [(planner.EXACT, 0, 0)]
    return np.array(rows, np.float64)


SETTINGS = _settings()  # what files are calibrated for from now on; each is searched by its own table
EXACT = len(SETTINGS) - 1
_FAMILIES = [
    np.flatnonzero((SETTINGS[:, planner.PLAN] == plan) & (SETTINGS[:, planner.WIDTH] == width))
    for plan, width in dict.fromkeys(map(tuple, SETTINGS[:EXACT, [planner.PLAN, planner.WIDTH]].tolist()))
]
PLAN_NAMES = tuple(planner.PLANS[plan].name for plan in range(len(planner.PLANS)))
FILTER_PLANS, GRAPH_PLANS = planner.FILTER_PLANS, planner.GRAPH_PLANS


@dataclass(frozen=True)
class Model:
    """What was measured for one depth. levels: log2 selectivity, descending, the first is "no filter"; locals: log2 ρ, ascending; recalls,
    costs (microseconds): float32 ``(levels · locals, settings)``.
    """

    depth: int
    settings: np.ndarray
    levels: np.ndarray
    locals: np.ndarray
    recalls: np.ndarray
    costs: np.ndarray


@dataclass
class Corrections:
    """What running taught about each plan of a segment. table: float64 ``(2, plans)``, measured less predicted recall, and measured over
    predicted cost. A cost factor that all plans share changes no choice.
    """

    table: np.ndarray = field(default_factory=lambda: _uncorrected(len(PLAN_NAMES)))
    calls: int = 0

    @classmethod
    def of(cls, plans: int) -> Corrections:
        """Of so many plans, nothing learned yet."""
        return cls(_uncorrected(plans))

    def learn_cost(self, plan: int, predicted: float, actual: float) -> None:
        """Move a plan's cost factor towards a measurement (microseconds)."""
        if predicted > 0:
            factor = self.table[1]
            factor[plan] = min(max(factor[plan] + _LEARNING * (min(actual / predicted, 8.0) - factor[plan]), 0.25), 4.0)

    def learn_recall(self, plan: int, predicted: float, actual: float) -> None:
        """Move a plan's recall offset towards a measurement."""
        offset = self.table[0]
        offset[plan] = min(max(offset[plan] + _LEARNING * ((actual - predicted) - offset[plan]), -0.2), 0.02)


def _uncorrected(plans: int) -> np.ndarray:
    return np.stack([np.zeros(plans), np.ones(plans)])


def models_of(sections: dict[str, np.ndarray], rows: int, dim: int) -> tuple[Model, ...]:
    """The models as a segment keeps them. To a file that wasn't calibrated for the full scan it is added, at a cost that is rather high."""
    settings, levels, locals_ = sections["settings"], sections["levels"], sections["locals"]
    recalls, costs = sections["recalls"], sections["costs"]
    if not (settings[:, planner.PLAN] == planner.EXACT).any():
        row = UNMEASURED_ROW + dim * UNMEASURED_NUMBER
        full = np.repeat(rows * row * np.minimum(np.exp2(levels), 1.0), len(locals_)).astype(np.float32)
        settings = np.vstack([settings, [planner.EXACT, 0, 0]])
        recalls, costs = (
            np.concatenate([table, np.broadcast_to(column, (len(table), len(full)))[..., None]], axis=2)
            for table, column in ((recalls, np.ones_like(full)), (costs, full))
        )
    return tuple(Model(depth, settings, levels, locals_, recalls[i], costs[i]) for i, depth in enumerate(DEPTHS))


def calibrate(
    layout,
    vectors: np.ndarray,
    docids: np.ndarray,
    order: np.ndarray,
    held: np.ndarray,
    metric: str,
    seed: int,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, np.ndarray]:
    """The sections that hold the models of a segment.

    layout: its description. vectors, docids: its rows, by docid; order: which of them is the segment's row i; held: which serve as queries.
    """
    bench = _Bench(layout, vectors, docids, order, held, metric, seed)
    shares = [s for s in SELECTIVITIES if s * layout.rows >= SCANNED] or [SELECTIVITIES[0]]
    levels = [1.0, *(float(np.log2(s)) for s in shares)]  # the first is "no filter": above every selectivity
    shape = (len(DEPTHS), len(levels), len(LOCALS), len(SETTINGS))
    recalls, costs = np.zeros(shape, np.float32), np.full(shape, NEVER, np.float32)
    done = [0] * len(DEPTHS)

    def measure(d: int) -> None:
        lane = bench.lane(seed + d)
        for i, share in enumerate([None, *shares]):
            kinds = ("none",) if share is None else KINDS
            full = lane.full_cost(share, DEPTHS[d])
            cells = [lane.cell(kind, share, DEPTHS[d], full) for kind in kinds]
            rhos, found, times = (np.concatenate([cell[part] for cell in cells]) for part in range(3))
            found[:, EXACT], times[:, EXACT] = 1.0, full
            recalls[d, i], costs[d, i] = _spread(rhos, found, times)
            done[d] = i + 1
            progress(sum(done) / len(levels) / len(DEPTHS))

    if threads > 1 and layout.rows >= PARALLEL_ROWS:
        with ThreadPoolExecutor(len(DEPTHS)) as pool:
            list(pool.map(measure, range(len(DEPTHS))))
    else:
        for d in range(len(DEPTHS)):
            measure(d)
    return {
        "settings": SETTINGS,
        "levels": np.array(levels),
        "locals": np.array(LOCALS),
        "recalls": recalls.reshape(len(DEPTHS), -1, len(SETTINGS)),
        "costs": costs.reshape(len(DEPTHS), -1, len(SETTINGS)),
    }


def _spread(rhos: np.ndarray, recalls: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measurements of single queries (log2 ρ ``(n,)``; recall and microseconds ``(n, settings)``) as means around the points LOCALS, each
    weighing on the two it lies between. A point without any takes over its neighbour's.
    """
    right = np.clip(np.searchsorted(LOCALS, rhos), 1, len(LOCALS) - 1)
    points = np.array(LOCALS)
    part = np.clip((rhos - points[right - 1]) / (points[right] - points[right - 1]), 0, 1)
    weights = np.zeros((len(LOCALS), len(rhos)))
    weights[right - 1, np.arange(len(rhos))] = 1 - part
    weights[right, np.arange(len(rhos))] = part
    sums = weights.sum(axis=1)
    known = np.flatnonzero(sums >= min(FEWEST, sums.max()))
    nearest = known[np.argmin(np.abs(points[known][None, :] - points[:, None]), axis=1)]
    means = [(weights[known] @ values) / sums[known, None] for values in (recalls, costs)]
    # Queries differ: where they differ much, or were few, the mean is less sure.
    squares = (weights[known] @ np.square(recalls)) / sums[known, None] - np.square(means[0])
    means[0] = means[0] - DOUBT * np.sqrt(np.maximum(squares, 0) / sums[known, None])
    places = np.searchsorted(known, nearest)
    return means[0][places].astype(np.float32), means[1][places].astype(np.float32)


class _Bench:
    """The queries, their exact scores of all rows, and the machinery to run one cell."""

    def __init__(self, layout, vectors, docids, order, held, metric, seed):
        self.layout = layout
        self.n, self.clusters = layout.rows, layout.clusters
        rng = np.random.default_rng(seed + 2)
        held = held if len(held) else np.arange(min(8, len(vectors)))
        self.queries = np.ascontiguousarray(vectors[held])
        if metric != "l2":  # scores are in proportion, and those of very short queries would be none
            lengths = np.linalg.norm(self.queries.astype(np.float64), axis=1, keepdims=True)
            self.queries = (self.queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.own = place[held]
        self.offsets = layout.sections["offsets"]
        self.noise = rng.integers(0, 65_536, max(self.n, 4_099) + 97, dtype=np.uint16)
        self.norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
        self.norms[self.norms == 0] = 1
        self.table = columns_of_memory(vectors, docids, self.norms)
        self.verified = np.ones(1, np.uint8)
        self.own_docids = docids[held].astype(np.int64)
        nothing = np.zeros((1, len(SETTINGS)), np.float32)
        self.unmeasured = (np.zeros(2), np.zeros(1), nothing, nothing, Corrections().table)
        self.scores = self._scores(vectors, metric)[:, order]
        # How far float32 scores of a row may be off, of l2 besides in proportion to themselves.
        usual = 0.0 if metric == "l2" else 1.0 if metric == "cosine" else float(np.quantile(self.norms, 0.97))
        self.rounding = ROUNDING * np.sqrt(vectors.shape[1]) * usual, 1e-5 if metric == "l2" else 0.0
        self.ordered = np.sort(self.scores, axis=1)
        # Where that is all by which rows differ, nothing but a full scan is seen to find the best of them.
        self.telling = TELLING * (self.ordered[:, -min(10, self.n)] - self.ordered[:, self.n // 2])
        self.words = -(-self.n // 64)

    def lane(self, seed: int) -> _Bench:
        """The same with scratch space and random numbers of its own, for a thread."""
        lane = copy(self)
        lane.scratch = Scratch(self.n, self.clusters, self.layout.dim)
        lane.rng = np.random.default_rng(seed + 3)
        return lane

    def _scores(self, vectors: np.ndarray, metric: str) -> np.ndarray:
        """float32, of each query and row; taken in float64, as rows may be alike but for what float32 products can't tell."""
        queries = self.queries.astype(np.float64)
        scores = np.empty((len(queries), len(vectors)), np.float32)
        for low in range(0, len(vectors), SCORED_ROWS):
            block = vectors[low : low + SCORED_ROWS].astype(np.float64)
            found = queries @ block.T
            if metric == "cosine":
                found /= self.norms[low : low + SCORED_ROWS]
            elif metric == "l2":
                found = 2 * found - np.einsum("ij,ij->i", block, block) - np.einsum("ij,ij->i", queries, queries)[:, None]
            scores[:, low : low + SCORED_ROWS] = found
        return scores

    def full_cost(self, share: float | None, k: int) -> float:
        """Microseconds to score every row of a random filter at full precision: how a filter lies makes no difference."""
        count = EXACT_QUERIES if self.n <= PARALLEL_ROWS else EXACT_QUERIES_OF_LARGE
        cell, _ = self._requests("none", share, self.rng.permutation(len(self.queries))[:count], k)
        every = np.arange(len(cell.matches))
        heaps = np.empty((len(every), k + 1), np.int64)
        # The first time may read rows into the cache.
        return min(self._timed(EXACT, cell, every, heaps, np.zeros(len(every), np.int64)) for _ in range(2))

    def cell(self, kind: str, share: float | None, k: int, full: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each query log2 ρ, and recall and microseconds of each setting, for one kind of filter; ``share`` None: no filter. full:
        microseconds in which all can be found.
        """
        few = 1 if share is None else FEWER if k == DEPTHS[0] else 3 * FEWER
        asked = self.rng.permutation(len(self.queries))[: -(-len(self.queries) // few)]
        cell, rhos = self._requests(kind, share, asked, k)
        recalls = np.zeros((len(asked), len(SETTINGS)), np.float32)
        costs = np.full((len(asked), len(SETTINGS)), NEVER, np.float32)
        enough = full
        for family in _FAMILIES:
            plan = int(SETTINGS[family[0], planner.PLAN])
            if (cell.filtered or plan not in FILTER_PLANS) and (self.layout.has_graph or plan not in GRAPH_PLANS):
                enough = self._sweep(family, cell, recalls, costs, enough)
        return rhos, recalls, costs

    def _requests(self, kind: str, share: float | None, asked: np.ndarray, k: int) -> tuple[_Cell, np.ndarray]:
        """A filter of a kind for each of some queries, and its log2 ρ."""
        count = len(asked)
        bits = np.zeros((count, self.words), np.uint64)
        counts = np.zeros((count, self.clusters), np.int32)
        matches = np.zeros(count, np.int64)
        for i, query in enumerate(asked):
            self._filter(kind, share, query, bits[i])
            matches[i] = bitset.passing_of_clusters(bits[i], self.offsets, counts[i])
        needed = np.array([planner.kth_score(self.scores[query], True, bits[i], k) for i, query in enumerate(asked)])
        rhos = self._rho(asked, bits, counts, matches) if share is not None else np.zeros(count)
        return _Cell(share is not None, asked, bits, counts, matches, needed, k, _groups(rhos)), rhos

    def _sweep(self, family: np.ndarray, cell: _Cell, recalls: np.ndarray, costs: np.ndarray, enough: float) -> float:
        """Measure settings of one plan by rising effort, as far as that is of use. enough: the least microseconds in which some setting so
        far found nearly all; returned, perhaps lower.
        """
        telling = [group for group in cell.groups if len(group) >= FEWEST] or [np.arange(len(cell.matches))]
        last = len(family) - 1
        for i, setting in enumerate(family):
            if i % 2 and i < last:
                continue  # lies between its neighbours
            recalls[:, setting], costs[:, setting] = self._run(int(setting), cell)
            if i % 2 == 0 and i > 0:
                for table in (recalls, costs):
                    table[:, family[i - 1]] = (table[:, family[i - 2]] + table[:, setting]) / 2
            # The least of the groups: a setting that most queries are served well by may fail those whose filter lies otherwise.
            recall = min(float(recalls[group, setting].mean()) for group in telling)
            cost = float(costs[:, setting].mean())
            if recall >= NEARLY_ALL:
                enough = min(enough, cost)
            if recall >= ALL or cost > 1.3 * enough:
                # More effort would only cost more than what is known to do.
                efforts = SETTINGS[family[i:], planner.EFFORT]
                recalls[:, family[i + 1 :]] = recalls[:, [setting]]
                costs[:, family[i + 1 :]] = costs[:, [setting]] * (efforts[1:] / max(efforts[0], 0.1))
                break
        return enough

    def _filter(self, kind: str, share: float | None, query: int, bits: np.ndarray) -> None:
        """Sets the bits of the rows that a filter of the kind matches; never that of the query itself."""
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
            # Filters go by what rows are about, not by their distance to a query: its own neighbours are on either side.
            blur = self.rng.random() * (1.0 if around == query else FAR_BLUR) * float(ordered[-min(10, self.n)] - ordered[self.n // 2])
            bitset.filter_by_score(self.scores[around], bound, blur, above, below, self.noise, start, bits)
        own = int(self.own[query])
        bits[own >> 6] &= ~(np.uint64(1) << np.uint64(own & 63))

    def _ball(self, kind: str, share: float) -> tuple[float, float, float]:
        """(how many of all rows, nearest first, are near; probabilities to match of those, and of the others)."""
        if kind == "none":
            return 1.0, share, share
        if kind == "near":
            return share, 0.9, 0.1 * share / max(1 - share, 0.1)
        if kind == "fewer near":
            return 0.2, 0.3 * share, 0.94 * share / 0.8
        if kind == "none near":
            near = min(0.0003 * 1000 ** self.rng.random(), 0.9 * (1 - share))
            return near, 0.0, share / (1 - near)
        return share, 0.95, 0.0

    def _rho(self, asked: np.ndarray, bits: np.ndarray, counts: np.ndarray, matches: np.ndarray) -> np.ndarray:
        """log2 ρ of each query, as searches see it."""
        reports, one = np.zeros((len(asked), REPORT_WIDTH)), np.zeros(len(asked), np.int64)
        self._search(kernel.LOOK, True, (bits, counts, matches, self.queries[asked]), 1, np.zeros((len(asked), 1), np.int64), one, reports)
        near, shares = np.maximum(reports[:, R_LOCAL], 0.0), np.maximum(matches, 1) / self.n
        return np.array([planner.log_rho(*pair) for pair in zip(near, shares, strict=True)])

    def _run(self, setting: int, cell: _Cell) -> tuple[np.ndarray, np.ndarray]:
        """Recall and microseconds of each query by one setting; those of a group, whose filters lie alike, are timed together."""
        count, k = len(cell.matches), cell.k
        recalls, times = np.ones(count), np.empty(count)
        scan = SETTINGS[setting, planner.PLAN] == planner.SCAN  # finds them always: what is measured is its time
        for group in cell.groups:
            some = group[:SCAN_QUERIES] if scan else group
            heaps, sizes = np.empty((len(some), k + 1), np.int64), np.zeros(len(some), np.int64)
            times[group] = self._timed(setting, cell, some, heaps, sizes)
            there = np.arange(k + 1) < sizes[:, None]
            others = there & ((np.int64(0xFFFFFFFF) - (heaps & np.int64(0xFFFFFFFF))) != self.own_docids[cell.asked[some]][:, None])
            kth = cell.needed[some]
            rounding = self.rounding[0] + self.rounding[1] * np.where(np.isfinite(kth), np.abs(kth), 0)
            needed = kth - np.minimum(rounding, self.telling[cell.asked[some]])
            right = (others & (_scores_of(heaps) >= needed[:, None])).sum(axis=1)
            wanted = np.minimum(k, cell.matches[some])
            found = np.where(wanted > 0, np.minimum(right, wanted) / np.maximum(wanted, 1), 1.0)
            recalls[group] = found.mean() if scan else found
        return recalls, times

    def _timed(self, setting: int, cell: _Cell, queries: np.ndarray, heaps: np.ndarray, sizes: np.ndarray) -> float:
        """Microseconds a query of one call for some queries, less what a call costs by itself."""
        reports = np.zeros((len(queries), REPORT_WIDTH))
        given = (cell.bits[queries], cell.counts[queries], cell.matches[queries], self.queries[cell.asked[queries]])
        started = time.thread_time_ns()
        self._search(setting, cell.filtered, given, cell.k, heaps, sizes, reports)
        return max((time.thread_time_ns() - started) / 1e3 - CALL_MICROSECONDS, 0.1) / max(len(queries), 1)

    def _search(self, forced: int, filtered: bool, given: tuple, k: int, heaps: np.ndarray, sizes: np.ndarray, reports: np.ndarray) -> None:
        kernel.search_segment(
            self.layout.description, self.scratch.work, SETTINGS, *self.unmeasured, 1.0, forced, k, filtered, *given, k,
            self.table, self.verified, False, heaps, sizes, reports,
        )  # fmt: skip


@dataclass(frozen=True)
class _Cell:
    """Requests (which of the queries they are, their filters as ``search_segment`` takes them), the k-th best score of each, and groups of
    them by ρ.
    """

    filtered: bool
    asked: np.ndarray
    bits: np.ndarray
    counts: np.ndarray
    matches: np.ndarray
    needed: np.ndarray
    k: int
    groups: list[np.ndarray]


def _groups(rhos: np.ndarray) -> list[np.ndarray]:
    """Indexes of the queries nearest to each of the points LOCALS that has some."""
    points = np.array(LOCALS)
    nearest = np.argmin(np.abs(rhos[:, None] - points), axis=1)
    return [np.flatnonzero(nearest == point) for point in np.unique(nearest)]


def _scores_of(keys: np.ndarray) -> np.ndarray:
    ordered = (keys >> 32).astype(np.int32)
    return (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
