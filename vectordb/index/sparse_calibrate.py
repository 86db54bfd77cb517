"""Measure every setting of the sparse plans on the segment itself, recall and time by selectivity and depth; choose by what was measured.

Rows serve as queries, each in three forms: whole, a third of its terms (what encoders make of queries), and a few (what words make of
them); the row itself may not be found. The plan that is exact by construction gives the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

import numpy as np

from ..kernels import TINY_WEIGHT, topk
from ..kernels import impact as kernel
from .calibrate import DEPTHS, DOUBT, Corrections
from .sparse_scratch import MAX_QUERY_TERMS, Scratch

QUERIES, FEWEST_QUERIES = 32, 16  # rows that ask; fewer of segments so large that it would take minutes
ASKED_ROWS = 6_400_000  # queries times rows, between these
LIKED = 1_000  # rows that a filter may keep away from, the best for a query
AWAY = 0.25  # it keeps so much of its share among them
FEW_TERMS = 6
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)
LEAST_MATCHES = 200  # with fewer, scoring each is the plan
NEARLY_ALL = 0.9985
NOT_EXACT = 0.9999  # the most that is believed of a plan that may miss rows
MARGIN = 0.005  # of predicted recall over the target, at most
CALL_MICROSECONDS = 2.0  # from Python and back
PLAN_NAMES = ("scan", "impacts", "safe impacts")
PLAN, SHARE, SPREAD = range(3)  # columns of a setting


def _settings() -> np.ndarray:
    rows = [(kernel.SCAN, 0, 0), (kernel.SAFE, 1, 0)]
    rows += [(kernel.IMPACTS, share, spread) for share in (0.03, 0.06, 0.12, 0.25, 0.5) for spread in (0, 1.5, 3, 5)]
    return np.array(rows, np.float64)


SETTINGS = _settings()
SCAN, SAFE = 0, 1  # rows of SETTINGS


@dataclass(frozen=True)
class Model:
    """What was measured for one depth. levels: log2 selectivity, descending from 0; recalls, costs (microseconds): float32
    ``(levels, settings)``; scan: microseconds to score one row.
    """

    depth: int
    settings: np.ndarray
    levels: np.ndarray
    recalls: np.ndarray
    costs: np.ndarray
    scan: float


@dataclass(frozen=True)
class Choice:
    """A setting (a row of the model's), and its predicted microseconds and recall before corrections."""

    setting: int
    microseconds: float
    recall: float


def models_of(sections: dict[str, np.ndarray]) -> tuple[Model, ...]:
    """The models as a segment keeps them."""
    return tuple(
        Model(depth, sections["settings"], sections["levels"], sections["recalls"][i], sections["costs"][i], float(sections["scan"][0]))
        for i, depth in enumerate(DEPTHS)
    )


def model_for(models: tuple[Model, ...], k: int) -> Model:
    """The model whose depth is meant for k results."""
    return models[0] if k <= 3 * models[0].depth else models[1]


def predictions(model: Model, rows: int, matches: int, free: bool, corrections: Corrections) -> tuple[np.ndarray, np.ndarray]:
    """(microseconds, recall) of every setting for a request, between the two levels that it lies between. free: the rows that don't match
    are dead. A filter, however many rows it matches, is none of the first level, which is that of no filter: it may lie badly.
    """
    at = np.log2(max(matches, 1) / rows)
    if matches < rows and not free and len(model.levels) > 1:
        at = min(at, model.levels[1])
    costs = np.array([np.interp(-at, -model.levels, column) for column in model.costs.T])
    recalls = np.array([np.interp(-at, -model.levels, column) for column in model.recalls.T])
    costs[SCAN] = model.scan * matches
    recalls[[SCAN, SAFE]] = 1.0
    plans = model.settings[:, PLAN].astype(int)
    offsets, factors = corrections.table
    return costs * factors[plans], np.where(plans == kernel.IMPACTS, np.clip(recalls + offsets[plans], 0, NOT_EXACT), recalls)


def choose(model: Model, rows: int, matches: int, free: bool, k: int, target: float, corrections: Corrections) -> Choice:
    """The cheapest setting whose predicted recall reaches the target with a margin; those that are exact always do."""
    costs, recalls = predictions(model, rows, matches, free, corrections)
    if matches <= k:
        setting = SCAN
    else:
        needed = target + min((1.0 - target) / 2, MARGIN)
        setting = int(np.argmin(np.where(recalls >= needed, costs, np.inf)))
    plan = int(model.settings[setting, PLAN])
    offset, factor = corrections.table[:, plan]
    return Choice(setting, float(costs[setting] / factor), float(recalls[setting] - offset if plan == kernel.IMPACTS else 1.0))


def first_look(k: int) -> int:
    """How many rows are scored before it is known how many more must be."""
    return k + k // 4 + 12


def calibrate(layout, idf: bool, seed: int, threads: int, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """The sections that hold the models of a segment, whose ``layout`` is given. idf, threads: as for ``build``."""
    shares = [1.0, *(share for share in SELECTIVITIES if share * layout.rows >= LEAST_MATCHES)]
    shape = (len(DEPTHS), len(shares), len(SETTINGS))
    recalls, costs = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    bench = _Bench(layout, idf, seed)
    scan = bench.scan_cost()
    done = [0] * len(DEPTHS)

    def measure(d: int) -> None:
        lane = bench.lane(seed + d)
        for i, share in enumerate(shares):
            recalls[d, i], costs[d, i] = lane.cell(share, DEPTHS[d])
            done[d] = i + 1
            progress(sum(done) / len(shares) / len(DEPTHS))

    with ThreadPoolExecutor(min(threads, len(DEPTHS))) as pool:
        list(pool.map(measure, range(len(DEPTHS))))
    return {
        "settings": SETTINGS,
        "levels": np.log2(shares),
        "recalls": recalls,
        "costs": costs,
        "scan": np.array([scan]),
    }


class _Bench:
    """The queries, and the machinery to run one cell."""

    def __init__(self, layout, idf: bool, seed: int):
        self.layout = layout
        self.rng = np.random.default_rng(seed + 1)
        self.noise = self.rng.integers(0, 65_536, 2 * layout.rows, dtype=np.uint16)
        self.scratch = Scratch(layout.rows, layout.vocabulary)
        self.idf = np.ones(layout.vocabulary, np.float32)
        if idf:
            frequencies = layout.sections["frequencies"].astype(np.float64)
            self.idf = np.log1p((layout.rows - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
        self.forms = [[], [], []] if layout.signed or not layout.vocabulary else self._queries()

    def lane(self, seed: int) -> _Bench:
        """The same with scratch space and random numbers of its own, for a thread."""
        lane = copy(self)
        lane.scratch = Scratch(self.layout.rows, self.layout.vocabulary)
        lane.rng = np.random.default_rng(seed + 2)
        return lane

    def _queries(self) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
        """For each form (row, terms, weights) of each query."""
        sections = self.layout.sections
        count = min(max(ASKED_ROWS // self.layout.rows, FEWEST_QUERIES), QUERIES)
        forms: list[list] = [[], [], []]
        for row in self.rng.choice(self.layout.rows, min(count, self.layout.rows), replace=False).tolist():
            low, high = sections["row_at"][row : row + 2].tolist()
            if low == high:
                continue
            places = sections["row_terms"][low:high].astype(np.int64)
            weights = np.ones(high - low, np.float32) if self.layout.binary else sections["row_weights"][low:high]
            for form, size in zip(forms, (high - low, -(-(high - low) // 3), FEW_TERMS), strict=True):
                kept = np.sort(self.rng.choice(high - low, min(size, high - low, MAX_QUERY_TERMS), replace=False))
                asked = weights[kept] * self.idf[places[kept]]
                if (asked >= TINY_WEIGHT).all():
                    form.append((row, sections["terms"][places[kept]], asked))
        return forms

    def _run(self, setting: int, query: tuple[int, np.ndarray, np.ndarray], k: int, bits: np.ndarray) -> np.ndarray:
        """The keys found, unordered."""
        heap, report = np.empty(k, np.int64), np.empty(kernel.REPORT_WIDTH, np.int64)
        plan, share, spread = SETTINGS[setting].tolist()
        size = kernel.search_impacts(
            self.layout.description, self.scratch.work, int(plan), share, spread, first_look(k), bits, query[1], query[2], heap, report
        )
        return heap[:size]

    def scan_cost(self) -> float:
        """Microseconds to score one row."""
        bits = self._filter(0.2, None)
        some = [query for form in self.forms for query in form[:2]]
        matches = max(int(np.bitwise_count(bits).sum()), 1)
        for query in some[:1]:
            self._run(SCAN, query, 1, bits)  # compiles, and reads into the cache
        return self._timed(SCAN, [(query, bits, 0.0) for query in some], 10)[1] / matches

    def _filter(self, share: float, liked: np.ndarray | None) -> np.ndarray:
        """A random filter's bitmap. liked: rows of which it keeps only AWAY of the share."""
        rows = self.layout.rows
        if share >= 1:
            return self.layout.every_bit.copy()
        start = int(self.rng.integers(rows))
        kept = np.zeros(-(-rows // 64) * 64, np.bool_)
        kept[:rows] = self.noise[start : start + rows] < share * 65_536
        if liked is not None:
            kept[liked] = self.noise[start + rows - len(liked) : start + rows] < AWAY * share * 65_536
        return np.packbits(kept, bitorder="little").view(np.uint64)

    def cell(self, share: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Recall and microseconds of each setting. The recall is that of the form and kind of filter that is served worst."""
        recalls, costs = np.ones(len(SETTINGS)), np.zeros(len(SETTINGS))
        groups = []
        for form in self.forms:
            asked = form if k == DEPTHS[0] else form[::2]
            for away in (False, True) if share < 1 else (False,):
                if asked:
                    groups.append([self._asked(query, share, away, k) for query in asked])
        if not groups:
            return recalls, costs
        for setting in range(len(SETTINGS)):
            if setting == SCAN:
                continue
            spread, same = SETTINGS[setting, SPREAD], SETTINGS[setting, SHARE] == SETTINGS[setting - 1, SHARE]
            if spread > 0 and same and recalls[setting - 1] >= NEARLY_ALL:  # more effort would only cost more
                recalls[setting], costs[setting] = recalls[setting - 1], 1.2 * costs[setting - 1]
                continue
            found = [self._timed(setting, group, k) for group in groups]
            recalls[setting] = min(recall for recall, _ in found)
            costs[setting] = np.mean([cost for _, cost in found])
        return recalls, costs

    def _asked(self, query: tuple[int, np.ndarray, np.ndarray], share: float, away: bool, k: int) -> tuple:
        """(query, bitmap of a filter that leaves out the query's own row, the k-th best score under it: −inf with fewer matches)."""
        liked = None
        if away:
            liked = _rows_of(self._run(SAFE, query, min(self.layout.rows // 20 + 1, LIKED), self.layout.every_bit), self.layout)
        bits = self._filter(share, liked)
        bits[query[0] >> 6] &= ~(np.uint64(1) << np.uint64(query[0] & 63))
        scores = _scores_of(self._run(SAFE, query, k, bits))
        return query, bits, float(scores.min()) if len(scores) == k else -np.inf

    def _timed(self, setting: int, asked: list[tuple], k: int) -> tuple[float, float]:
        """(mean recall less some standard errors, microseconds) of some requests."""
        if not asked:
            return 1.0, 0.0
        started = time.thread_time_ns()
        found = [self._run(setting, query, k, bits) for query, bits, _ in asked]
        elapsed = (time.thread_time_ns() - started) / 1e3 / len(asked) - CALL_MICROSECONDS
        right = [
            1.0 if kth == -np.inf else float((_scores_of(keys) >= kth).sum()) / k for keys, (_, _, kth) in zip(found, asked, strict=True)
        ]
        return float(np.mean(right) - DOUBT * np.std(right) / np.sqrt(len(right))), max(elapsed, 0.1)


def _rows_of(keys: np.ndarray, layout) -> np.ndarray:
    docids = np.int64(0xFFFFFFFF) - (keys & np.int64(0xFFFFFFFF))
    return layout.inverse[docids - layout.first]


def _scores_of(keys: np.ndarray) -> np.ndarray:
    docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
    topk.unpack(keys.copy(), docids, scores)
    return scores
