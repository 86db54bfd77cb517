"""The lists of a file: k-means in two levels, the nearest centroid of each row, and the division of lists that are too long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..base import Progress
from ..dense.graphs import of_library
from ..dense.pieces import in_pieces
from .frame import Frame

# Unit and meaning. [design]: of the method, as for inverted lists in general. [chosen]: chosen, not measured.
ROWS_A_LIST = 250  # rows of a list, on average [design]
ROWS_LEARNED = 64  # rows a list from which the centroids are learned [design]
ONE_LEVEL = 512  # lists up to which one k-means finds all centroids: several small ones would be no faster [chosen]
ITERATIONS = 8  # of k-means [chosen]
NEAR_GROUPS = 6  # groups of lists, of those that k-means made in two levels, whose centroids a row is compared with [chosen]
TOO_LONG = 2.0  # times the mean length; a longer list is divided [design]
MOST_LEARNED = 16_000  # rows of a list that is divided from which its parts are learned, at most [chosen]
AT_ONCE = 8_192  # rows compared at a time [chosen]


def count_for(rows: int) -> int:
    """The number of lists of a file."""
    return max(1, round(rows / ROWS_A_LIST))


class Clusters:
    """Centroids, in groups that k-means made. centroids: float32 ``(lists, dim)``; groups: the first list of each, and the end; middles:
    float32 ``(groups, dim)``.
    """

    def __init__(self, centroids: np.ndarray, groups: np.ndarray, middles: np.ndarray):
        self.centroids, self.groups, self.middles = centroids, groups, middles
        self._halves = np.einsum("ij,ij->i", centroids, centroids) / 2

    @classmethod
    def learned(cls, sample: np.ndarray, count: int, seed: int, threads: int, step: Progress) -> Clusters:
        """``count`` centroids of rotated rows. Raises what ``step`` raises, and Unbuildable."""
        if count == 1 or len(sample) <= count:
            middle = sample.mean(axis=0, keepdims=True)
            return cls(middle, np.array([0, 1]), middle)
        if count <= ONE_LEVEL:
            found = means_of(sample, count, seed, threads)
            return cls(found, np.array([0, len(found)]), found.mean(axis=0, keepdims=True))
        middles = means_of(sample, round(np.sqrt(count)), seed, threads)
        nearest = nearest_of(sample, middles, np.einsum("ij,ij->i", middles, middles) / 2)
        kept = np.unique(nearest)
        parts: list[np.ndarray] = [middles] * len(kept)

        def divide(low: int, high: int) -> None:
            for i in range(low, high):
                rows = sample[nearest == kept[i]]
                parts[i] = means_of(rows, max(round(count * len(rows) / len(sample)), 1), seed)

        in_pieces(len(kept), 1, threads, divide, lambda high: step("clusters", high / len(kept)))
        return cls(np.concatenate(parts), np.concatenate([[0], np.cumsum([len(part) for part in parts])]), middles[kept])

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """The nearest list of each row (float32, rotated), int32; among those of the nearest NEAR_GROUPS groups."""
        if len(self.middles) <= NEAR_GROUPS:
            return nearest_of(rows, self.centroids, self._halves).astype(np.int32)
        apart = np.einsum("ij,ij->i", self.middles, self.middles) / 2 - rows @ self.middles.T
        near = np.argpartition(apart, NEAR_GROUPS, axis=1)[:, :NEAR_GROUPS]
        best, found = np.full(len(rows), np.inf, np.float32), np.zeros(len(rows), np.int32)
        order = np.argsort(near.reshape(-1), kind="stable")
        ends = np.searchsorted(near.reshape(-1)[order], np.arange(len(self.middles) + 1))
        for group in range(len(self.middles)):
            some = order[ends[group] : ends[group + 1]] // NEAR_GROUPS
            if not len(some):
                continue
            low, high = self.groups[group], self.groups[group + 1]
            apart = self._halves[low:high] - rows[some] @ self.centroids[low:high].T
            nearest = apart.argmin(axis=1)
            value = apart[np.arange(len(some)), nearest]
            better = value < best[some]
            best[some[better]], found[some[better]] = value[better], low + nearest[better]
        return found


def lists_of(frame: Frame, vectors: np.ndarray, seen: np.ndarray, seed: int, threads: int, step: Progress) -> tuple[np.ndarray, np.ndarray]:
    """(centroids, float32 ``(lists, dim)`` in the frame; the list of each row, int32). seen: the rows to learn from, int64 ascending.

    No list is empty, and lists of more than TOO_LONG times the mean are divided where their rows differ.
    """
    step("clusters", 0.0)
    count = count_for(len(vectors))
    clusters = Clusters.learned(frame.rotated(vectors[seen]), count, seed, threads, step)
    assigned = np.empty(len(vectors), np.int32)

    def assign(low: int, high: int) -> None:
        assigned[low:high] = clusters.assign(frame.rotated(vectors[low:high]))

    in_pieces(len(vectors), AT_ONCE, threads, assign, lambda high: step("lists", high / len(vectors)))
    centroids = _divided(frame, vectors, clusters.centroids, assigned, seed, threads, lambda high: step("lists", 1.0))
    sizes = np.bincount(assigned, minlength=len(centroids))
    numbers = np.cumsum(sizes > 0) - 1
    return np.ascontiguousarray(centroids[sizes > 0]), numbers[assigned].astype(np.int32)


def _divided(
    frame: Frame, vectors: np.ndarray, centroids: np.ndarray, assigned: np.ndarray, seed: int, threads: int, step: Callable[[int], None]
) -> np.ndarray:
    """Divide the lists that are too long: ``assigned`` is changed. Returns all centroids."""
    sizes = np.bincount(assigned, minlength=len(centroids))
    usual = len(vectors) / max(len(centroids), 1)
    long = np.flatnonzero(sizes > TOO_LONG * max(usual, ROWS_A_LIST / 2))
    if not len(long):
        return centroids
    order = np.argsort(assigned, kind="stable")
    ends = np.concatenate([[0], np.cumsum(sizes)])
    added = [centroids.copy()]
    divided: list[tuple[np.ndarray, np.ndarray]] = [(centroids, assigned)] * len(long)

    def divide(low: int, high: int) -> None:
        for i in range(low, high):
            rotated = frame.rotated(vectors[order[ends[long[i]] : ends[long[i] + 1]]])
            parts = means_of(rotated[:: len(rotated) // MOST_LEARNED + 1], int(np.ceil(len(rotated) / usual)), seed)
            divided[i] = parts, nearest_of(rotated, parts, np.einsum("ij,ij->i", parts, parts) / 2)

    in_pieces(len(long), 1, threads, divide, step)
    count = len(centroids)
    for one, (parts, nearest) in zip(long.tolist(), divided, strict=True):
        added[0][one] = parts[0]
        added.append(parts[1:])
        assigned[order[ends[one] : ends[one + 1]]] = np.where(nearest == 0, one, count + nearest - 1)
        count += len(parts) - 1
    return np.concatenate(added)


def nearest_of(rows: np.ndarray, centroids: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row. halves: half the squared length of each centroid."""
    return (halves - rows @ centroids.T).argmin(axis=1)


def means_of(rows: np.ndarray, count: int, seed: int, threads: int = 1) -> np.ndarray:
    """Centroids of some rows by faiss's k-means, float32 ``(count or fewer, dim)``."""
    count = min(count, len(rows))
    if count == 1:
        return rows.mean(axis=0, keepdims=True)
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        means = faiss.Kmeans(
            rows.shape[1], count, niter=ITERATIONS, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=1_000, verbose=False
        )
        with of_library("faiss"):
            means.train(np.ascontiguousarray(rows))
    finally:
        faiss.omp_set_num_threads(before)
    return np.ascontiguousarray(means.centroids, np.float32)
