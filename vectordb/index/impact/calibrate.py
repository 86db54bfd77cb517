"""Calibration of a sparse segment: measure the recall and cost of every setting by selectivity and depth; and the choice of a plan.

Rows of the segment serve as queries, in three forms: all terms of the row, a third of them (as a learned sparse encoder makes of a query),
and FEW_TERMS of them (as BM25 makes of a query). The row itself is excluded from the answer. The truth comes from the plan SAFE, which is
exact by construction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass

import numpy as np

from ...kernels import TINY_WEIGHT, topk
from ...kernels import impact as kernel
from ..dense.calibrate import DEPTHS, DOUBT, Corrections
from .scratch import MAX_QUERY_TERMS, Scratch

# Constants: unit and meaning, then the source in brackets. [build]: bounds the time that calibration adds to a build. [estimate]: a rounded
# time; machines differ. [by hand]: a round value, no benchmark of it is recorded.
QUERIES, FEWEST_QUERIES = 32, 16  # queries; the number falls from the first to the second as segments grow [build]
ASKED_ROWS = 6_400_000  # queries × rows, between those two bounds [build]
FEW_TERMS = 6  # terms of the shortest form of a query [by hand]
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)  # of the filters [by hand]
LEAST_MATCHES = 200  # matching rows; a filter with fewer isn't calibrated: scanning them is always the plan [by hand]
BEST, TIMES = 0.001, 100  # a filter may exclude a share of BEST … BEST·TIMES of the rows, the best ones for the query [by hand]
NEARLY_ALL = 0.9985  # recall of a setting above which settings of more effort aren't measured [build]
NOT_EXACT = 0.9999  # highest recall that is predicted of a plan that may miss rows [by hand]
MARGIN = 0.005  # predicted recall that is required above the target, at most [by hand]
ALIKE = 1.2  # ratio of two costs below which the setting of higher recall is taken; measured times vary as much [by hand]
FULL_SHARE = 0.5  # share of a row's terms that a query has, averaged over the three forms [by hand]
FULL_CALL, FULL_POSTING, FULL_ROW = 20.0, 0.003, 0.002  # microseconds of the plan POSTINGS: per call, per posting, per row [estimate]
CALL_MICROSECONDS = 2.0  # microseconds of a kernel call from Python and back, subtracted from measured times [estimate]
PLAN_NAMES = tuple(kernel.PLANS[plan] for plan in range(len(kernel.PLANS)))
PLAN, SHARE, MISSES = range(3)  # columns of a setting


def _settings() -> np.ndarray:
    rows = [(kernel.SCAN, 0, 0), (kernel.SAFE, 1, 0)]
    rows += [(kernel.IMPACTS, share, misses) for share in (0.03, 0.06, 0.12, 0.25, 0.5) for misses in (0.2, 0.05, 0.01, 0.001)]
    rows += [(kernel.POSTINGS, 1, 0)]
    return np.array(rows, np.float64)


SETTINGS = _settings()  # of files built by this version; every file is searched by the table of settings that it contains
SCAN, SAFE = 0, 1  # rows of SETTINGS


@dataclass(frozen=True)
class Model:
    """The measurements for one depth (number of results). levels: log2 selectivity, descending from 0. recalls, costs (microseconds):
    float32 ``(levels, settings)``. scan: microseconds to score one row.
    """

    depth: int
    settings: np.ndarray
    levels: np.ndarray
    recalls: np.ndarray
    costs: np.ndarray
    scan: float


@dataclass(frozen=True)
class Choice:
    """A chosen setting (an index into the model's settings), and its predicted cost (microseconds) and recall before corrections."""

    setting: int
    microseconds: float
    recall: float


def models_of(sections: dict[str, np.ndarray], rows: int) -> tuple[Model, ...]:
    """The models of a file. A file that wasn't calibrated for the plan POSTINGS gets it added, at an estimated cost."""
    settings, recalls, costs = sections["settings"], sections["recalls"], sections["costs"]
    if not (settings[:, PLAN] == kernel.POSTINGS).any():
        settings = np.vstack([settings, [kernel.POSTINGS, 1, 0]])
        full = np.float32(full_cost(sections["frequencies"], rows))
        recalls, costs = (np.insert(table, table.shape[-1], value, axis=-1) for table, value in ((recalls, np.float32(1)), (costs, full)))
    scan = float(sections["scan"][0])
    return tuple(Model(depth, settings, sections["levels"], recalls[i], costs[i], scan) for i, depth in enumerate(DEPTHS))


def full_cost(frequencies: np.ndarray, rows: int) -> float:
    """The estimated cost of the plan POSTINGS, in microseconds. It can't be measured while the file is built, because it reads the chunks;
    ``Corrections`` correct it at run time.
    """
    asked = np.square(frequencies.astype(np.float64)).sum() / max(rows, 1)  # postings of all terms of a row
    return FULL_CALL + FULL_SHARE * asked * FULL_POSTING + rows * FULL_ROW


def model_for(models: tuple[Model, ...], k: int) -> Model:
    """The model to use for k results: that of 10 for up to 30, else that of 100 (see DEPTHS)."""
    return models[0] if k <= 3 * models[0].depth else models[1]


def predictions(model: Model, rows: int, matches: int, free: bool, corrections: Corrections) -> tuple[np.ndarray, np.ndarray]:
    """(costs in microseconds, recalls) of every setting for a request, interpolated between levels of selectivity, with corrections.

    matches: rows that may be returned. free: there is no filter; the other rows are dead. A filter is never predicted by the first level,
    that of "no filter", however many rows it matches: it may exclude just the best rows.
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
    """The cheapest setting whose predicted recall reaches the target plus a margin; exact settings always do. Among settings whose costs
    are within a factor of ALIKE of it, the one of the highest recall.
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
    """The number of rows that a search for k results scores first; from their scores it sees how many more it has to score [by hand]."""
    return k + k // 4 + 12


def calibrate(layout, idf: bool, seed: int, threads: int, progress: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Calibrate a segment. Returns the sections of its file that hold the models. layout: the segment. idf, threads: as for ``build``."""
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
    """The calibration queries, and the methods that run one cell."""

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
        """A copy for another thread, with its own scratch space and random numbers."""
        lane = copy(self)
        lane.scratch = Scratch(self.layout.rows, self.layout.vocabulary)
        lane.rng = np.random.default_rng(seed + 2)
        return lane

    def _queries(self) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
        """For each of the three forms, a list of queries: (row, terms, weights)."""
        sections = self.layout.sections
        count = min(max(ASKED_ROWS // self.layout.rows, FEWEST_QUERIES), QUERIES)
        forms: list[list] = [[], [], []]
        for row in self.rng.choice(self.layout.rows, min(count, self.layout.rows), replace=False).tolist():
            low, high = sections["row_at"][row : row + 2].tolist()
            if low == high:
                continue
            places = sections["row_terms"][low:high].astype(np.int64)
            # A query of BM25 has each word once, so its weights are 1; the row's own weights are term frequencies.
            ones = self.layout.binary or "row_lengths" in sections
            weights = np.ones(high - low, np.float32) if ones else sections["row_weights"][low:high]
            for form, size in zip(forms, (high - low, -(-(high - low) // 3), FEW_TERMS), strict=True):
                kept = np.sort(self.rng.choice(high - low, min(size, high - low, MAX_QUERY_TERMS), replace=False))
                asked = weights[kept] * self.idf[places[kept]]
                if (asked >= TINY_WEIGHT).all():
                    form.append((row, sections["terms"][places[kept]], asked))
        return forms

    def _run(self, setting: int, query: tuple[int, np.ndarray, np.ndarray], k: int, bits: np.ndarray, matches: int = 0) -> np.ndarray:
        """The keys of the k best rows, unordered. matches: the number of rows that may be returned; exact plans don't need it."""
        heap, report = np.empty(k, np.int64), np.empty(kernel.REPORT_WIDTH, np.int64)
        plan, share, misses = SETTINGS[setting].tolist()
        given = self.layout.description, self.scratch.work, self.layout.saturation
        size = kernel.search_impacts(*given, int(plan), share, misses, first_look(k), matches, bits, *query[1:], heap, report)
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
        """Mask (bool) of roughly the top ``share`` of rows for the query. Noise blurs the cut, because real filters correlate with topic,
        not score. At most half of the rows that share a term with the query.
        """
        self._run(SAFE, query, 1, self.layout.every_bit)
        rows = self.layout.rows
        sums = self.scratch.sums[:rows].astype(np.float32)
        count = min(round(share * rows), np.count_nonzero(sums) // 2)
        places = [rows // 2, -min(10, rows), -max(count, 1)]
        middle, top, bound = np.partition(sums, places)[places].tolist()
        return sums + np.float32(self.rng.random() ** 2 * (top - middle) / 32_768) * (noise.astype(np.float32) - 32_768) >= bound

    def cell(self, share: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(recalls, costs in microseconds) of all settings at one selectivity and depth. A setting's recall is the lowest of those of the
        three forms of queries and that under filters that exclude the queries' best rows.
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
            if same and recalls[setting - 1] >= NEARLY_ALL:  # more effort only costs more, so it isn't measured
                recalls[setting], costs[setting] = recalls[setting - 1], 1.2 * costs[setting - 1]
                continue
            found = [self._timed(setting, group, k) for group in groups]
            recalls[setting] = min(recall for recall, _ in found)
            costs[setting] = np.mean([cost for _, cost in found[: len(forms)]])
        return recalls, costs

    def _asked(self, query: tuple[int, np.ndarray, np.ndarray], share: float, away: bool, k: int) -> tuple:
        """(query, bitmap of the rows that it may return, number of rows that match the filter, the k-th best score or −inf). ``away``: the
        filter excludes the query's best rows. The query's own row is excluded from the bitmap.
        """
        bits = self._filter(share, query if away else None)
        matches = int(np.bitwise_count(bits).sum())
        bits[query[0] >> 6] &= ~(np.uint64(1) << np.uint64(query[0] & 63))
        scores = _scores_of(self._run(SAFE, query, k, bits))
        return query, bits, matches, float(scores.min()) if len(scores) == k else -np.inf

    def _timed(self, setting: int, asked: list[tuple], k: int) -> tuple[float, float]:
        """(mean recall minus DOUBT standard errors, microseconds per request) of one setting on some requests."""
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
