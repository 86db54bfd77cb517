"""Calibration: measure the recall and cost of every setting on the file itself, by selectivity.

Some rows serve as queries, of which neither the lists nor the frame were learned. For each selectivity they get random filters of several
kinds: spread evenly, among the nearest rows, none among the nearest, and around another row. A setting's recall is that of the kind for
which it finds least, since a search doesn't know how its filter lies.
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
from ..model import DEPTHS, lowered, settings_of
from .frame import Frame
from .plans import PLANS, effort_of
from .search import CALL_MICROSECONDS
from .segment import ListsSegment

# Unit and meaning. [build]: bounds the time that calibration adds to a build. [chosen]: chosen, not measured.
QUERIES = 128  # queries, at most [build]
LEAST_QUERIES = 48  # of a large file [build]
SCORES = 64 << 20  # scores of queries and rows that are kept: in larger files fewer queries are asked, down to LEAST_QUERIES [build]
FILTERED = 48  # requests of each selectivity [build]
DEEP = 3  # one request in DEEP is asked for the larger number of results [build]
SCANS = 3  # requests by which the exact scan is timed [build]
SELECTIVITIES = (0.8, 0.35, 0.12, 0.04, 0.012, 0.004)  # of the filters [chosen]
KINDS = ("none", "near", "none near", "around another")  # how a filter lies to the query [chosen]
NEAR = 0.03  # share of the rows nearest to a query that a filter of the kind "none near" excludes [chosen]
ALL = 0.9985  # recall at which a sweep ends: more effort only costs more [build]
LEVEL = 0.002  # recall that a sweep has to gain by three more settings, else it ends [build]
STEP_COST = 1.3  # how many times as much as the one before it a setting beyond the end of a sweep is taken to cost [chosen]
ROUNDING = 2e-6  # of scores in the frame, where lengths are about 1: rows that differ by less count as tied [float]
RANKED = 8_192  # rows, evenly spread, whose order stands for that of all [chosen]


class Drawn(NamedTuple):
    """A request. query: its index. bits: uint64, a bit a row; counts: int32, passing rows of each list; matches: of all. others: matches
    without the query's own row. needed: for each of DEPTHS the k-th best score.
    """

    kind: str
    query: int
    filtered: bool
    bits: np.ndarray
    counts: np.ndarray
    matches: int
    others: int
    needed: list[float]


@dataclass
class Bench:
    """segment: the file to measure. queries: float32 ``(n, dim)``; own: their rows. scores: float32 ``(n, rows)``, in the frame, which order
    rows as full-precision scores do. table: the vectors as a chunk table.
    """

    segment: ListsSegment
    queries: np.ndarray
    own: np.ndarray
    scores: np.ndarray
    table: np.ndarray
    verified: np.ndarray
    docids: np.ndarray
    settings: np.ndarray
    noise: np.ndarray
    rng: np.random.Generator

    def lane(self, seed: int) -> Bench:
        """A copy with its own random numbers, for another thread."""
        lane = copy(self)
        lane.rng = np.random.default_rng(seed)
        return lane

    def warm(self) -> None:
        """A search whose time doesn't count: the first one may have to load the kernel."""
        self._scan([self._drawn("none", None, 0)])

    def level(self, share: float | None) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        """Measure all settings at a selectivity (None: no filter): for each of DEPTHS recalls and costs (microseconds), float32
        ``(settings,)``; and the microseconds of a row in the exact scan.
        """
        count = len(self.queries)
        if share is None:
            drawn = [self._drawn("none", None, query) for query in range(count)]
        else:
            chosen = self.rng.permutation(count)[:FILTERED]
            drawn = [self._drawn(KINDS[i % len(KINDS)], share, int(query)) for i, query in enumerate(chosen)]
        recalls, costs = [], []
        for d, k in enumerate(DEPTHS):
            groups: list[list[Drawn]] = [[] for _ in KINDS]
            for i, each in enumerate(drawn):
                if d == 0 or (i // len(KINDS)) % DEEP == 0:
                    groups[KINDS.index(each.kind)].append(each)
            measured = self._sweep(d, k, [group for group in groups if group])
            recalls.append(measured[0])
            costs.append(measured[1])
        return recalls, costs, self._scan(drawn[:SCANS])

    def _sweep(self, d: int, k: int, groups: list[list[Drawn]]) -> tuple[np.ndarray, np.ndarray]:
        """(recalls, costs) of all settings, by rising effort until more is of no use."""
        recalls, costs = np.ones(len(self.settings), np.float32), np.zeros(len(self.settings), np.float32)
        most = max(each.matches for group in groups for each in group)
        families = np.split(np.arange(1, len(self.settings)), np.flatnonzero(np.diff(self.settings[1:, 2]) != 0) + 1)
        for family in families:
            found: list[float] = []
            ended = False
            for setting in family.tolist():
                if ended:
                    recalls[setting], costs[setting] = recalls[setting - 1], STEP_COST * costs[setting - 1]
                    continue
                shares = [self._run(setting, d, k, group) for group in groups]
                recalls[setting] = min(recall for recall, _ in shares)
                costs[setting] = np.mean([cost for _, cost in shares])
                found.append(float(recalls[setting]))
                level = len(found) > 3 and found[-1] - found[-4] < LEVEL
                ended = found[-1] >= ALL or level or self.settings[setting, 1] >= most
        return recalls, costs

    def _run(self, setting: int, d: int, k: int, group: list[Drawn]) -> tuple[float, float]:
        """(mean recall less some standard errors, microseconds of one) of some requests by a setting."""
        segment, shares, elapsed = self.segment, [], 0
        effort, kept = effort_of((self.settings[setting, 1], self.settings[setting, 2]), k, k)
        for each in group:
            spare = 0 if each.filtered else 1  # without a filter the query finds its own row
            heap, size = np.empty((1, k + spare), np.int64), np.zeros(1, np.int64)
            query, facts = self.queries[each.query : each.query + 1], np.empty((1, kernel.R_WIDTH))
            began = time.thread_time_ns()
            kernel.search_lists(
                segment.description, kernel.LISTS, effort, kept + spare, each.filtered, each.bits, each.counts, each.matches, query,
                self.table, self.verified, False, heap, size, facts,
            )  # fmt: skip
            elapsed += time.thread_time_ns() - began
            rows = segment.inverse[0xFFFFFFFF - (heap[0, : size[0]] & 0xFFFFFFFF) - segment.first]
            rows = rows[rows != self.own[each.query]]
            possible, needed = min(k, each.others), each.needed[d]
            right = int((self.scores[each.query, rows] >= needed - ROUNDING * (1 + abs(needed))).sum())
            shares.append(min(right, possible) / possible if possible else 1.0)
        return lowered(shares), max(elapsed / 1e3 / len(group) - CALL_MICROSECONDS, 0.1)

    def _scan(self, drawn: list[Drawn]) -> float:
        """Microseconds of a row in the exact scan."""
        k, times = DEPTHS[0], []
        for each in drawn:
            heap, size, facts = np.empty((1, k), np.int64), np.zeros(1, np.int64), np.empty((1, kernel.R_WIDTH))
            began = time.thread_time_ns()
            kernel.search_lists(
                self.segment.description, kernel.SCAN, 0, 0, each.filtered, each.bits, each.counts, each.matches,
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
            around = query if kind != "around another" else int(self.rng.integers(len(self.queries)))
            ordered = np.sort(self.scores[around][:: max(rows // RANKED, 1)])
            bound = ordered[-min(max(round(near * len(ordered)), 1), len(ordered))]
            start = int(self.rng.integers(0, len(self.noise)))
            bitset.filter_by_score(self.scores[around], bound, 0.0, above, below, self.noise, start, bits)
        held = bits.copy()
        held[own >> 6] &= ~(np.uint64(1) << np.uint64(own & 63))
        others = int(np.bitwise_count(held).sum())
        if share is not None:
            bits = held
        matches = int(bitset.passing_of_clusters(bits, segment.offsets, counts))
        needed = [float(planner.kth_score(scores, True, held, k)) for k in DEPTHS]
        return Drawn(kind, query, share is not None, bits, counts, max(matches, 1), others, needed)

    def _ball(self, kind: str, share: float) -> tuple[float, float, float]:
        """(share of the rows that count as near the centre, probability of a near row to match, probability of another row to match)."""
        if kind == "near":
            return share, 0.9, 0.1 * share / max(1 - share, 0.1)
        if kind == "none near":
            near = min(NEAR, 0.9 * (1 - share))
            return near, 0.0, share / (1 - near)
        if kind == "around another":
            return share, 0.95, 0.0
        return 1.0, share, share


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

    vectors, docids: its rows, by docid. order: int ``(rows,)``, the index in ``vectors`` of the segment's row i. unseen: indexes of the rows
    from which nothing was learned. progress: called with the share that is done, 0 … 1.
    """
    bench = _bench(segment, frame, vectors, docids, order, unseen, seed)
    bench.lane(seed).warm()
    shares = [share for share in SELECTIVITIES if share * segment.rows > FEW_ROWS]
    done = itertools.count(1)

    def measure(level: int) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        measured = bench.lane(seed + level).level(shares[level - 1] if level else None)
        progress(next(done) / (1 + len(shares)))
        return measured

    levels = range(1 + len(shares))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            cells = list(pool.map(measure, levels))
    else:
        cells = [measure(level) for level in levels]
    return {
        "settings": bench.settings,
        "levels": np.array([0.0, *np.log2(shares)]),
        "recalls": np.array([[cell[0][d] for cell in cells] for d in range(len(DEPTHS))], np.float32),
        "costs": np.array([[cell[1][d] for cell in cells] for d in range(len(DEPTHS))], np.float32),
        "scan": np.array([max(cell[2] for cell in cells)]),
    }


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
    queries = np.ascontiguousarray(vectors[held])
    if frame.metric != "l2":  # scaling a query scales all its scores alike; those of a very short query would underflow
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        queries = (queries / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return Bench(
        segment, queries, place[held], _scores(frame, vectors, queries, place), columns_of_memory(vectors, docids, norms),
        np.ones(1, np.uint8), docids, settings_of(PLANS), rng.integers(0, 65_536, max(segment.rows, 4_099) + 97, dtype=np.uint16), rng,
    )  # fmt: skip


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
