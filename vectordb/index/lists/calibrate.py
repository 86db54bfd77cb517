"""Calibration: measure the recall and cost of every setting on the file itself, by selectivity.

Some rows serve as queries, of which the lists were not learned. For each selectivity they get random filters of several kinds: spread
evenly, among the nearest rows, none among the nearest, and around another row. The requests are put into bins by the selectivity near the
query, relative to that of all rows (``model.LIMITS``), and settings are measured for each bin: a search looks where it belongs.

Other queries are made that are unlike the rows (``far``), for which settings are measured by the distance of what they find.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...kernels import bitset, columns_of_memory, planner
from ...kernels import lists as kernel
from ...kernels.rabitq import to_frame
from ..mask import FEW_ROWS
from ..model import DEPTHS, settings_of
from .far import FAR_RANK, LEAST_MADE, MADE, NO_STOPS, made_for, measured, noise_of, usual_of
from .frame import Frame
from .model import BINS, NO_LIMITS, bin_of
from .plans import PLANS
from .search import CALL_MICROSECONDS
from .segment import ListsSegment

# Unit and meaning. [build]: bounds the time that calibration adds to a build. [chosen]: chosen, not measured.
QUERIES = 256  # queries, at most [build]
LEAST_QUERIES = 48  # of a large file [build]
SCORES = 64 << 20  # scores of queries and rows that are kept: in larger files fewer queries are asked, down to LEAST_QUERIES [build]
FILTERED = 64  # requests of each selectivity [build]
DEEP = 3  # one request in DEEP is asked for the larger number of results [build]
SCANS = 3  # requests by which the exact scan is timed [build]
SELECTIVITIES = (0.8, 0.35, 0.12, 0.04, 0.012, 0.004)  # of the filters [chosen]
# How a filter lies to the query [chosen].
KINDS = ("none", "near", "none near", "around another", "fewer near", "none near", "around another", "none near")
NEAR = (0.0003, 0.3)  # share of the rows nearest to a query that a filter of the kind "none near" excludes [chosen]
FEWEST = 6  # requests that a bin is measured by, at least; the nearest ones where it has fewer [chosen]
DOUBT = 1.0  # standard errors subtracted from a measured mean recall [chosen]
WORTH = 0.9  # settings of more rows at full precision are measured from this share of the recall that fewer reach on [build]
ALL = 0.9985  # recall at which a sweep ends: more effort only costs more [build]
LEVEL = 0.002  # recall that a sweep has to gain by three more settings, else it ends [build]
STEP_COST = 1.3  # how many times as much as the one before it a setting beyond the end of a sweep is taken to cost [chosen]
ROUNDING = 2e-6  # of scores in the frame, where lengths are about 1: rows that differ by less count as tied [float]
TYPICAL_ROWS = 4_000  # matching rows of the setting by which the usual distances are measured [chosen]
RANKED = 8_192  # rows, evenly spread, whose order stands for that of all [chosen]


_SCAN, _LOOK = np.array([[kernel.SCAN, 0.0, 0.0]]), np.array([[-1.0, 0.0, 0.0]])


class Drawn(NamedTuple):
    """A request. relative: the selectivity near the query, relative to that of all rows. query: its index. bits: uint64, a bit a row;
    counts: int32, passing rows of each list; matches: of all. others: matches without the query's own row. needed: for each of
    DEPTHS the k-th best score.
    """

    relative: float
    query: int
    filtered: bool
    bits: np.ndarray
    counts: np.ndarray
    matches: int
    others: int
    needed: list[float]


@dataclass
class Bench:
    """segment: the file to measure. queries: float32 ``(n, dim)``; own: their rows. scores: float32 ``(n, rows)``, in the frame, which
    order rows as full-precision scores do. The first ``count`` queries are rows, the others were made, and their ``own`` is −1. table: the
    vectors as a chunk table, which has the addresses of ``held``.
    """

    segment: ListsSegment
    queries: np.ndarray
    own: np.ndarray
    scores: np.ndarray
    table: np.ndarray
    held: tuple[np.ndarray, ...]
    verified: np.ndarray
    settings: np.ndarray
    noise: np.ndarray
    rng: np.random.Generator
    count: int

    def lane(self, seed: int) -> Bench:
        """A copy with its own random numbers, for another thread."""
        lane = copy(self)
        lane.rng = np.random.default_rng(seed)
        return lane

    def warm(self) -> None:
        """A search whose time doesn't count: the first one may have to load the kernel."""
        self._scan([self._drawn("none", None, 0)])

    def level(self, share: float | None) -> tuple[list[np.ndarray], list[np.ndarray], float, list[float]]:
        """Measure all settings at a selectivity (None: no filter): for each of DEPTHS recalls and costs (microseconds), float32 ``(BINS,
        settings)``; the microseconds of a row in the exact scan; and for each of DEPTHS the distance that few queries' results exceed.
        """
        count, usual = self.count, []
        if share is None:
            drawn = [self._drawn("none", None, query) for query in range(count)]
        else:
            chosen = np.resize(self.rng.permutation(count), FILTERED)
            drawn = [self._drawn(KINDS[i % len(KINDS)], share, int(query)) for i, query in enumerate(chosen)]
        recalls, costs = [], []
        for d, k in enumerate(DEPTHS):
            if share is None:
                every = self._sweep(d, k, drawn[:: 1 if d == 0 else DEEP])
                measured = [every] * BINS
            else:
                measured = [self._sweep(d, k, group[:: 1 if d == 0 else max(len(group) // FEWEST, 1)]) for group in _binned(drawn)]
            recalls.append(np.array([own for own, _ in measured]))
            costs.append(np.array([own for _, own in measured]))
            usual.append(usual_of(self._each(self._typical, d, k, drawn[:: 1 if d == 0 else DEEP])[1]))
        return recalls, costs, self._scan(drawn[:SCANS]), usual

    @property
    def _typical(self) -> int:
        """The setting by which the distances of results are measured."""
        return 1 + int(np.searchsorted(self.settings[1 : 1 + len(self.settings) // 2, 1], TYPICAL_ROWS))

    def far(self, usual: list[float], step: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
        """Measure what is found for made queries: (recalls, distances) as ``Far`` has them, for each of DEPTHS. usual: of no filter. step:
        called for each setting.
        """
        made = [self._drawn("none", None, query) for query in range(self.count, len(self.queries))]
        pairs = []
        for d, k in enumerate(DEPTHS):
            shape = len(made), len(self.settings)
            recalls, found, costs = np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            for setting in range(1, len(self.settings)):
                step()
                if setting > 1 and (self.settings[setting - 1, 1:] >= (self.segment.rows, self.settings[setting, 2])).all():
                    recalls[:, setting], found[:, setting] = recalls[:, setting - 1], found[:, setting - 1]
                    continue
                recalls[:, setting], found[:, setting], _ = self._each(setting, d, k, made)
            pairs.append(measured(usual[d], noise_of(len(made)), found, recalls, costs))
        return np.array([recalls for recalls, _ in pairs]), np.array([distances for _, distances in pairs])

    def _sweep(self, d: int, k: int, group: list[Drawn]) -> tuple[np.ndarray, np.ndarray]:
        """(recalls, costs) of all settings for some requests, by rising effort until more is of no use."""
        recalls, costs = np.ones(len(self.settings), np.float32), np.zeros(len(self.settings), np.float32)
        most = max(each.matches for each in group)
        families = np.split(np.arange(1, len(self.settings)), np.flatnonzero(np.diff(self.settings[1:, 2]) != 0) + 1)
        worth = np.zeros(len(families[0]), np.bool_)
        for family in families:
            found: list[float] = []
            ended = False
            for i, setting in enumerate(family.tolist()):
                if ended:
                    recalls[setting], costs[setting] = recalls[setting - 1], STEP_COST * costs[setting - 1]
                    continue
                if worth.any() and not worth[i]:
                    recalls[setting], costs[setting] = recalls[families[0][i]], STEP_COST * costs[families[0][i]]
                    continue
                recalls[setting], costs[setting] = self._run(setting, d, k, group)
                found.append(float(recalls[setting]))
                level = len(found) > 3 and found[-1] >= WORTH and found[-1] - found[-4] < LEVEL
                ended = found[-1] >= ALL or level or self.settings[setting, 1] >= most
            worth = recalls[families[0]] >= WORTH * recalls[families[0]].max()
        return recalls, costs

    def _run(self, setting: int, d: int, k: int, group: list[Drawn]) -> tuple[float, float]:
        """(mean recall less some standard errors, microseconds of one) of some requests by a setting."""
        shares, microseconds = self.shares(setting, d, k, group)
        return float(shares.mean() - DOUBT * shares.std() / np.sqrt(len(shares))), microseconds

    def shares(self, setting: int, d: int, k: int, group: list[Drawn]) -> tuple[np.ndarray, float]:
        """(recalls, microseconds of one) of some requests by a setting."""
        shares, _, elapsed = self._each(setting, d, k, group)
        return shares, max(elapsed / 1e3 / len(group) - CALL_MICROSECONDS, 0.1)

    def _each(self, setting: int, d: int, k: int, group: list[Drawn]) -> tuple[np.ndarray, np.ndarray, int]:
        """(the recall of each of some requests by a setting, the distances of what they find, nanoseconds of all)."""
        segment, shares, distances, elapsed = self.segment, [], [], 0
        options = self.settings[setting : setting + 1]
        for each in group:
            spare = 0 if each.filtered or self.own[each.query] < 0 else 1  # without a filter the query finds its own row
            heap, size = np.empty((1, k + spare), np.int64), np.zeros(1, np.int64)
            query, facts = self.queries[each.query : each.query + 1], np.empty((1, kernel.R_WIDTH))
            began = time.thread_time_ns()
            kernel.search_lists(
                segment.description, options, NO_LIMITS, NO_STOPS, FAR_RANK, each.filtered, each.bits, each.counts, each.matches, query,
                self.table, self.verified, False, heap, size, facts,
            )  # fmt: skip
            elapsed += time.thread_time_ns() - began
            rows = segment.inverse[0xFFFFFFFF - (heap[0, : size[0]] & 0xFFFFFFFF) - segment.first]
            rows = rows[rows != self.own[each.query]]
            possible, needed = min(k, each.others), each.needed[d]
            right = int((self.scores[each.query, rows] >= needed - ROUNDING * (1 + abs(needed))).sum())
            shares.append(min(right, possible) / possible if possible else 1.0)
            distances.append(facts[0, kernel.R_DISTANCE])
        return np.array(shares), np.array(distances), elapsed

    def _scan(self, drawn: list[Drawn]) -> float:
        """Microseconds of a row in the exact scan."""
        k, times = DEPTHS[0], []
        for each in drawn:
            heap, size, facts = np.empty((1, k), np.int64), np.zeros(1, np.int64), np.empty((1, kernel.R_WIDTH))
            began = time.thread_time_ns()
            kernel.search_lists(
                self.segment.description, _SCAN, NO_LIMITS, NO_STOPS, FAR_RANK, each.filtered, each.bits, each.counts, each.matches,
                self.queries[each.query : each.query + 1], self.table, self.verified, False, heap, size, facts,
            )  # fmt: skip
            times.append((time.thread_time_ns() - began) / 1e3 / each.matches)
        return min(times)

    def _drawn(self, kind: str, share: float | None, query: int) -> Drawn:
        """A request with a random filter. The query's own row never matches it."""
        segment, rows = self.segment, self.segment.rows
        bits, counts = np.zeros(-(-rows // 64), np.uint64), np.zeros(segment.lists, np.int32)
        own, scores = int(self.own[query]), self.scores[query]
        if share is None:
            bits[:] = ~np.uint64(0)
            if rows % 64:
                bits[-1] >>= np.uint64(64 - rows % 64)
        else:
            near, above, below = self._ball(kind, share)
            around = query if kind != "around another" else int(self.rng.integers(self.count))
            ordered = np.sort(self.scores[around][:: max(rows // RANKED, 1)])
            bound = ordered[-min(max(round(near * len(ordered)), 1), len(ordered))]
            start = int(self.rng.integers(0, len(self.noise)))
            bitset.filter_by_score(self.scores[around], bound, 0.0, above, below, self.noise, start, bits)
        held = bits.copy()
        if own >= 0:
            held[own >> 6] &= ~(np.uint64(1) << np.uint64(own & 63))
        others = int(np.bitwise_count(held).sum())
        if share is not None:
            bits = held
        matches = int(bitset.passing_of_clusters(bits, segment.offsets, counts))
        needed = [float(planner.kth_score(scores, True, held, k)) for k in DEPTHS]
        relative = self._relative(query, bits, counts, max(matches, 1)) if share is not None else 1.0
        return Drawn(relative, query, share is not None, bits, counts, max(matches, 1), others, needed)

    def _relative(self, query: int, bits: np.ndarray, counts: np.ndarray, matches: int) -> float:
        """The selectivity near a query, as a search measures it, relative to that of all rows."""
        heap, size, facts = np.empty((1, 1), np.int64), np.zeros(1, np.int64), np.empty((1, kernel.R_WIDTH))
        kernel.search_lists(
            self.segment.description, _LOOK, NO_LIMITS, NO_STOPS, FAR_RANK, True, bits, counts, matches,
            self.queries[query : query + 1], self.table, self.verified, False, heap, size, facts,
        )  # fmt: skip
        return float(facts[0, kernel.R_LOCAL]) * self.segment.rows / matches

    def _ball(self, kind: str, share: float) -> tuple[float, float, float]:
        """(share of the rows that count as near the centre, probability of a near row to match, probability of another row to match)."""
        if kind == "near":
            return share, 0.9, 0.1 * share / max(1 - share, 0.1)
        if kind == "none near":
            near = min(NEAR[0] * (NEAR[1] / NEAR[0]) ** self.rng.random(), 0.9 * (1 - share))
            return near, 0.0, share / (1 - near)
        if kind == "fewer near":
            return 0.2, 0.3 * share, 0.94 * share / 0.8
        if kind == "around another":
            return share, 0.95, 0.0
        return 1.0, share, share


def _binned(drawn: list[Drawn]) -> list[list[Drawn]]:
    """The requests of each bin; the nearest to its middle where it has few."""
    own = [bin_of(each.relative) for each in drawn]
    counts = [own.count(b) for b in range(BINS)]
    points = [1.0, 0.35, 0.1, 0.0]
    groups = []
    for b in range(BINS):
        if counts[b] >= FEWEST:
            groups.append([each for each, one in zip(drawn, own, strict=True) if one == b])
        else:
            groups.append(sorted(drawn, key=lambda each, b=b: abs(each.relative - points[b]))[:FEWEST])
    return groups


def calibrate(
    segment: ListsSegment,
    frame: Frame,
    vectors: np.ndarray,
    docids: np.ndarray,
    order: np.ndarray,
    unseen: np.ndarray,
    seed: int,
    threads: int,
    progress: Callable[[float], None],
) -> dict[str, np.ndarray]:
    """The sections that hold the models of a file.

    vectors, docids: its rows, by docid. order: int ``(rows,)``, the index in ``vectors`` of the segment's row i. unseen: indexes of the
    rows from which nothing was learned. progress: called with the share that is done, 0 … 1.
    """
    bench = _bench(segment, frame, vectors, docids, order, unseen, seed)
    bench.lane(seed).warm()
    shares = [share for share in SELECTIVITIES if share * segment.rows > FEW_ROWS]
    done = itertools.count(1)

    def measure(level: int) -> tuple[list[np.ndarray], list[np.ndarray], float, list[float]]:
        cell = bench.lane(seed + level).level(shares[level - 1] if level else None)
        progress(next(done) / (2 + len(shares)))
        return cell

    levels = range(1 + len(shares))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            cells = list(pool.map(measure, levels))
    else:
        cells = [measure(level) for level in levels]
    far_recalls, far_distances = bench.far(cells[0][3], lambda: progress((1 + len(shares)) / (2 + len(shares))))
    progress(1.0)
    return {
        "settings": bench.settings,
        "levels": np.array([0.0, *np.log2(shares)]),
        "recalls": np.array([[cell[0][d] for cell in cells] for d in range(len(DEPTHS))], np.float32),
        "costs": np.array([[cell[1][d] for cell in cells] for d in range(len(DEPTHS))], np.float32),
        "scan": np.array([max(cell[2] for cell in cells)]),
        "far_usual": np.array([[cell[3][d] for cell in cells] for d in range(len(DEPTHS))]),
        "far_distances": far_distances,
        "far_recalls": far_recalls,
    }


def unfiltered_recalls(
    segment: ListsSegment, frame: Frame, vectors: np.ndarray, docids: np.ndarray, order: np.ndarray, rows: np.ndarray, seed: int, settings
) -> tuple[np.ndarray, np.ndarray]:
    """(the mean recall of some settings without a filter; its standard error), float64. rows: indexes of the rows
    that serve as queries; settings: of the settings; others as for ``calibrate``.
    """
    bench = _bench(segment, frame, vectors, docids, order, rows, seed).lane(seed)
    drawn = [bench._drawn("none", None, query) for query in range(bench.count)]
    found = np.array([bench.shares(int(setting), 0, DEPTHS[0], drawn)[0] for setting in settings]).reshape(len(settings), len(drawn))
    return found.mean(axis=1), found.std(axis=1) / np.sqrt(len(drawn))


def _bench(
    segment: ListsSegment, frame: Frame, vectors: np.ndarray, docids: np.ndarray, order: np.ndarray, unseen: np.ndarray, seed: int
) -> Bench:
    rng = np.random.default_rng(seed + 2)
    count = min(QUERIES, max(LEAST_QUERIES, SCORES // len(vectors)))
    held = np.sort(rng.permutation(unseen)[:count]) if len(unseen) else np.arange(min(8, len(vectors)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
    norms[norms == 0] = 1
    count = min(MADE, max(LEAST_MADE, SCORES // 4 // len(vectors)))
    queries = np.concatenate([vectors[held], made_for(frame, vectors, count, rng)])
    if frame.metric != "l2":  # scaling a query scales all its scores alike; those of a very short query would underflow
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        queries = (queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    table, scores = columns_of_memory(vectors, docids, norms), _scores(frame, vectors, queries, place)
    noise = rng.integers(0, 65_536, max(segment.rows, 4_099) + 97, dtype=np.uint16)
    given = (vectors, docids, norms), np.ones(1, np.uint8), settings_of(PLANS), noise, rng
    own = np.concatenate([place[held], np.full(count, -1)])
    return Bench(segment, queries, own, scores, table, *given, len(held))


def _scores(frame: Frame, vectors: np.ndarray, queries: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The score of each query and row in the frame, float32 ``(queries, rows)``, in the segment's order; place: that of each vector."""
    asked = np.empty((len(queries), frame.dim), np.float32)
    scale = 1.0 if frame.metric == "dot" else frame.scale
    to_frame(queries, frame.metric == "cosine", scale, frame.mean, frame.flips, asked)
    own = np.einsum("ij,ij->i", asked, asked)[:, None]
    scores = np.empty((len(queries), len(vectors)), np.float32)
    step = 16_384
    for low in range(0, len(vectors), step):
        block = frame.rotated(vectors[low : low + step])
        products = asked @ block.T
        if frame.metric != "dot":
            products = 2 * products - np.einsum("ij,ij->i", block, block) - own
        scores[:, place[low : low + step]] = products
    return scores
