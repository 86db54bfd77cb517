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
BEST, TIMES = 0.001, 100  # the share of rows that a filter keeps away from, the best for a query: at least, and times up to so much
FEW_TERMS = 6
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)
LEAST_MATCHES = 200  # with fewer, scoring each is the plan
NEARLY_ALL = 0.9985
NOT_EXACT = 0.9999  # the most that is believed of a plan that may miss rows
MARGIN = 0.005  # of predicted recall over the target, at most
ALIKE = 1.2  # costs that differ by less: recall is worth more than that, and the clock is no better
FULL_SHARE = 0.5  # of a row's terms that a query has: what the three forms of queries come to
FULL_CALL, FULL_POSTING, FULL_ROW = 20.0, 0.003, 0.002  # microseconds to begin, for a posting, and for a row whether it has one or not
CALL_MICROSECONDS = 2.0  # from Python and back
PLAN_NAMES = tuple(kernel.PLANS[plan] for plan in range(len(kernel.PLANS)))
PLAN, SHARE, MISSES = range(3)  # columns of a setting


def _settings() -> np.ndarray:
    rows = [(kernel.SCAN, 0, 0), (kernel.SAFE, 1, 0)]
    rows += [(kernel.IMPACTS, share, misses) for share in (0.03, 0.06, 0.12, 0.25, 0.5) for misses in (0.2, 0.05, 0.01, 0.001)]
    rows += [(kernel.POSTINGS, 1, 0)]
    return np.array(rows, np.float64)


SETTINGS = _settings()  # what files are calibrated for from now on; each is searched by its own table
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


def models_of(sections: dict[str, np.ndarray], rows: int) -> tuple[Model, ...]:
    """The models as a segment keeps them. To a file that wasn't calibrated for the plan POSTINGS it is added."""
    settings, recalls, costs = sections["settings"], sections["recalls"], sections["costs"]
    if not (settings[:, PLAN] == kernel.POSTINGS).any():
        settings = np.vstack([settings, [kernel.POSTINGS, 1, 0]])
        full = np.float32(full_cost(sections["frequencies"], rows))
        recalls, costs = (np.insert(table, table.shape[-1], value, axis=-1) for table, value in ((recalls, np.float32(1)), (costs, full)))
    scan = float(sections["scan"][0])
    return tuple(Model(depth, settings, sections["levels"], recalls[i], costs[i], scan) for i, depth in enumerate(DEPTHS))


def full_cost(frequencies: np.ndarray, rows: int) -> float:
    """Microseconds, about, to add up all postings of a query's terms: it isn't measured here, where there are no chunks, but learned."""
    asked = np.square(frequencies.astype(np.float64)).sum() / max(rows, 1)  # postings of all terms of a row
    return FULL_CALL + FULL_SHARE * asked * FULL_POSTING + rows * FULL_ROW


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
    plans = model.settings[:, PLAN].astype(int)
    costs[plans == kernel.SCAN] = model.scan * matches
    recalls[plans != kernel.IMPACTS] = 1.0
    offsets, factors = corrections.table
    return costs * factors[plans], np.where(plans == kernel.IMPACTS, np.clip(recalls + offsets[plans], 0, NOT_EXACT), recalls)


def choose(model: Model, rows: int, matches: int, free: bool, k: int, target: float, corrections: Corrections) -> Choice:
    """The cheapest setting whose predicted recall reaches the target with a margin, as those that are exact always do; of settings that
    cost about as much the one that finds most.
    """
    costs, recalls = predictions(model, rows, matches, free, corrections)
    if matches <= k:
        setting = int(np.argmax(model.settings[:, PLAN] == kernel.SCAN))
    else:
        needed = target + min((1.0 - target) / 2, MARGIN)
        reaching = np.where(recalls >= needed, costs, np.inf)
        setting = int(np.argmax(np.where(reaching <= ALIKE * reaching.min(), recalls, -np.inf)))
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
    scan, full = bench.scan_cost(), full_cost(layout.sections["frequencies"], layout.rows)
    done = [0] * len(DEPTHS)

    def measure(d: int) -> None:
        lane = bench.lane(seed + d)
        for i, share in enumerate(shares):
            recalls[d, i], costs[d, i] = lane.cell(share, DEPTHS[d])
            costs[d, i, SETTINGS[:, PLAN] == kernel.POSTINGS] = full
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
            # Of a text each word is asked for once: its weight is how often it is said.
            ones = self.layout.binary or "row_lengths" in sections
            weights = np.ones(high - low, np.float32) if ones else sections["row_weights"][low:high]
            for form, size in zip(forms, (high - low, -(-(high - low) // 3), FEW_TERMS), strict=True):
                kept = np.sort(self.rng.choice(high - low, min(size, high - low, MAX_QUERY_TERMS), replace=False))
                asked = weights[kept] * self.idf[places[kept]]
                if (asked >= TINY_WEIGHT).all():
                    form.append((row, sections["terms"][places[kept]], asked))
        return forms

    def _run(self, setting: int, query: tuple[int, np.ndarray, np.ndarray], k: int, bits: np.ndarray, matches: int = 0) -> np.ndarray:
        """The keys found, unordered. matches: how many rows may be found; an exact plan needn't know."""
        heap, report = np.empty(k, np.int64), np.empty(kernel.REPORT_WIDTH, np.int64)
        plan, share, misses = SETTINGS[setting].tolist()
        given = self.layout.description, self.scratch.work, self.layout.saturation
        size = kernel.search_impacts(*given, int(plan), share, misses, first_look(k), matches, bits, *query[1:], heap, report)
        return heap[:size]

    def scan_cost(self) -> float:
        """Microseconds to score one row."""
        bits = self._filter(0.2)
        some = [query for form in self.forms for query in form[:2]]
        matches = max(int(np.bitwise_count(bits).sum()), 1)
        for query in some[:1]:
            self._run(SCAN, query, 1, bits)  # compiles, and reads into the cache
        return self._timed(SCAN, [(query, bits, matches, 0.0) for query in some], 10)[1] / matches

    def _filter(self, share: float, query: tuple | None = None) -> np.ndarray:
        """A random filter's bitmap. query: one whose best rows it leaves out, how many and how sharply is drawn."""
        rows = self.layout.rows
        if share >= 1:
            return self.layout.every_bit.copy()
        start = int(self.rng.integers(rows))
        noise, near, out = self.noise[start : start + rows], 0.0, None
        if query is not None:
            near = min(BEST * TIMES ** self.rng.random(), 0.9 * (1 - share))
            out = self._best(query, near, noise)
        kept = np.zeros(-(-rows // 64) * 64, np.bool_)
        kept[:rows] = noise[::-1] < share / (1 - near) * 65_536
        if out is not None:
            kept[:rows][out] = False
        return np.packbits(kept, bitorder="little").view(np.uint64)

    def _best(self, query: tuple, share: float, noise: np.ndarray) -> np.ndarray:
        """bool: which rows are a share of all, the best for a query, give or take: filters go by what rows are about, not by scores. They
        are at most half of those that share a term with it.
        """
        self._run(SAFE, query, 1, self.layout.every_bit)
        rows = self.layout.rows
        sums = self.scratch.sums[:rows].astype(np.float32)
        count = min(round(share * rows), np.count_nonzero(sums) // 2)
        places = [rows // 2, -min(10, rows), -max(count, 1)]
        middle, top, bound = np.partition(sums, places)[places].tolist()
        return sums + np.float32(self.rng.random() ** 2 * (top - middle) / 32_768) * (noise.astype(np.float32) - 32_768) >= bound

    def cell(self, share: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Recall and microseconds of each setting. The recall is that of the form that is served worst, or of filters that leave out the
        queries' best rows.
        """
        recalls, costs = np.ones(len(SETTINGS)), np.zeros(len(SETTINGS))
        forms = [form if k == DEPTHS[0] else form[::2] for form in self.forms if form]
        if not forms:
            return recalls, costs
        groups = [[self._asked(query, share, False, k) for query in asked] for asked in forms]
        if share < 1:
            groups.append([self._asked(query, share, True, k) for asked in forms for query in asked])
        for setting in range(len(SETTINGS)):
            if setting == SCAN or SETTINGS[setting, PLAN] == kernel.POSTINGS:
                continue
            same = SETTINGS[setting, SHARE] == SETTINGS[setting - 1, SHARE]
            if same and recalls[setting - 1] >= NEARLY_ALL:  # more effort would only cost more
                recalls[setting], costs[setting] = recalls[setting - 1], 1.2 * costs[setting - 1]
                continue
            found = [self._timed(setting, group, k) for group in groups]
            recalls[setting] = min(recall for recall, _ in found)
            costs[setting] = np.mean([cost for _, cost in found[: len(forms)]])
        return recalls, costs

    def _asked(self, query: tuple[int, np.ndarray, np.ndarray], share: float, away: bool, k: int) -> tuple:
        """(query, bitmap of rows it may find, its own left out; how many match the filter; the k-th best score, −inf with fewer)."""
        bits = self._filter(share, query if away else None)
        matches = int(np.bitwise_count(bits).sum())
        bits[query[0] >> 6] &= ~(np.uint64(1) << np.uint64(query[0] & 63))
        scores = _scores_of(self._run(SAFE, query, k, bits))
        return query, bits, matches, float(scores.min()) if len(scores) == k else -np.inf

    def _timed(self, setting: int, asked: list[tuple], k: int) -> tuple[float, float]:
        """(mean recall less some standard errors, microseconds) of some requests."""
        if not asked:
            return 1.0, 0.0
        started = time.thread_time_ns()
        found = [self._run(setting, query, k, bits, matches) for query, bits, matches, _ in asked]
        elapsed = (time.thread_time_ns() - started) / 1e3 / len(asked) - CALL_MICROSECONDS
        truth = [kth for _, _, _, kth in asked]
        right = [1.0 if kth == -np.inf else float((_scores_of(keys) >= kth).sum()) / k for keys, kth in zip(found, truth, strict=True)]
        return float(np.mean(right) - DOUBT * np.std(right) / np.sqrt(len(right))), max(elapsed, 0.1)


def _scores_of(keys: np.ndarray) -> np.ndarray:
    docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
    topk.unpack(keys.copy(), docids, scores)
    return scores
