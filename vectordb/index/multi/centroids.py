"""Centroids of vectors, found in two levels: k-means of a sample, then k-means inside each of these coarse cells. And the lists of rows by
centroid.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...kernels import token_lists
from ...kernels.codes import encode_rows, stride_of
from ..base import Progress
from ..dense.graphs import of_library
from ..dense.pieces import in_pieces

# Constants: unit and meaning. Chosen, not measured, but for CENTROIDS.
CENTROIDS = 8  # times the square root of the vectors; more than that, up to a power of two [by recall and time of 2.4M vectors]
SAMPLED = 40  # vectors of the sample for each centroid
ROUNDS, COARSE_ROUNDS = 6, 8  # of k-means
COARSE_SAMPLED = 256  # vectors of the sample for each coarse centroid
LEAST_OF_CENTROID = 4  # vectors of the sample that a centroid needs
ASSIGNED = 65_536  # rows that are assigned in one call


def count_for(vectors: int, asked: int | None) -> int:
    """The number of centroids for so many vectors."""
    if asked is not None:
        return max(min(asked, vectors // LEAST_OF_CENTROID), 1)
    return max(min(1 << int(np.ceil(np.log2(CENTROIDS * np.sqrt(vectors)))), token_lists.MOST_CENTROIDS), 1)


class Centroids:
    """coarse, fine: byte codes of the coarse and of the fine centroids, uint8 ``(count, stride)``, those of a cell side by side. first:
    int64, the first fine one of each cell, and the end.
    """

    def __init__(self, sample: np.ndarray, count: int, seed: int, threads: int, step: Progress):
        """sample: float32 ``(n, dim)``, vectors in units of the codes' step, in random order; overwritten."""
        with of_library("faiss"):
            coarse, fine, first = _clustered(np.clip(sample, -127, 127, out=sample), count, seed, threads, step)
        self.coarse, self.fine, self.first = _coded(coarse), _coded(fine), first

    def __len__(self) -> int:
        return len(self.fine)

    def labels(self, codes: np.ndarray, threads: int, step: Progress) -> np.ndarray:
        """The nearest centroid of each vector (byte codes), int32."""
        labels = np.empty(len(codes), np.int32)
        lengths = [_lengths(each) for each in (self.coarse, self.fine)]

        def assign(low: int, high: int) -> None:
            token_lists.assign(codes[low:high], self.coarse, lengths[0], self.fine, lengths[1], self.first, labels[low:high])

        in_pieces(len(codes), ASSIGNED, threads, assign, lambda done: step("lists", done / len(codes)))
        return labels


def lists_of(starts: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(where each of ``count`` lists begins, and the end, int64; the rows of the lists, int32). starts: int64, the first vector of each
    row, and the end.
    """
    last, sizes = np.full(count, -1, np.int32), np.zeros(count, np.int64)
    token_lists.count_entries(starts, labels, last, sizes)
    list_at = np.concatenate([[0], np.cumsum(sizes)])
    entries = np.empty(int(list_at[-1]), np.int32)
    last[:] = -1
    token_lists.fill_entries(starts, labels, last, list_at[:-1].copy(), entries)
    return list_at, entries


def _clustered(sample: np.ndarray, count: int, seed: int, threads: int, step: Progress) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coarse centroids, fine centroids, the first fine one of each cell and the end)."""
    cells = max(round(np.sqrt(count)), 1)
    coarse = _means(sample[: COARSE_SAMPLED * cells], cells, COARSE_ROUNDS, seed)
    nearest = _nearest(sample, coarse)
    order = np.argsort(nearest, kind="stable")
    ends = np.searchsorted(nearest[order], np.arange(len(coarse) + 1))
    fine = [coarse[cell : cell + 1] for cell in range(len(coarse))]
    shares = shares_of(np.diff(ends), count)

    def divide(low: int, high: int) -> None:
        for cell in range(low, high):
            own = sample[order[ends[cell] : ends[cell + 1]]]
            if len(own):
                fine[cell] = _means(own, int(shares[cell]), ROUNDS, seed + 1 + cell)

    step("centroids", 0.0)
    in_pieces(len(coarse), 1, threads, divide, lambda done: step("centroids", done / len(coarse)))
    first = np.concatenate([[0], np.cumsum([len(each) for each in fine])])
    return coarse, np.concatenate(fine), first.astype(np.int64)


def shares_of(sizes: np.ndarray, count: int) -> np.ndarray:
    """The number of fine centroids of each coarse cell, int64, by the vectors of the sample in it. Together they are ``count``, unless
    there are too few vectors for so many, or more cells: each cell has one at least.
    """
    most = np.maximum(sizes // LEAST_OF_CENTROID, 1)
    wanted = count * sizes / max(int(sizes.sum()), 1)
    shares = np.clip(np.rint(wanted).astype(np.int64), 1, most)
    while (over := int(shares.sum()) - count) != 0:
        able = shares > 1 if over > 0 else shares < most
        if not able.any():
            break
        short = np.where(able, np.sign(over) * (shares - wanted), -np.inf)  # the cells whose share is the most off come first
        chosen = np.argsort(-short, kind="stable")[: min(abs(over), int(able.sum()))]
        shares[chosen] -= np.sign(over)
    return shares


def _means(sample: np.ndarray, count: int, rounds: int, seed: int) -> np.ndarray:
    """k-means of faiss on one thread, float32 ``(count or fewer, dim)``. Several threads would wait for one another most of the time, and
    the result would depend on their number.
    """
    if count <= 1 or len(sample) <= count:
        return sample.mean(axis=0, keepdims=True)
    import faiss

    sizes = {"min_points_per_centroid": 1, "max_points_per_centroid": len(sample)}

    def train() -> np.ndarray:
        faiss.omp_set_num_threads(1)  # of this thread alone
        means = faiss.Kmeans(sample.shape[1], count, niter=rounds, seed=seed, verbose=False, **sizes)
        means.train(np.ascontiguousarray(sample))
        return np.array(means.centroids, np.float32)

    with ThreadPoolExecutor(1) as own:
        return own.submit(train).result()


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    nearest = np.empty(len(vectors), np.int64)
    for low in range(0, len(vectors), ASSIGNED):
        nearest[low : low + ASSIGNED] = np.argmin(lengths - 2 * (vectors[low : low + ASSIGNED] @ centroids.T), axis=1)
    return nearest


def _coded(centroids: np.ndarray) -> np.ndarray:
    codes = np.empty((len(centroids), stride_of(centroids.shape[1])), np.uint8)
    encode_rows(np.ascontiguousarray(centroids), np.float32(1), codes)
    return codes


def _lengths(codes: np.ndarray) -> np.ndarray:
    """The squared length of each row of codes, int64."""
    return np.square(codes.astype(np.int64) - 128).sum(axis=1)
