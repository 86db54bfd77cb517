"""The ground truth: exact answers by brute force, shared by all systems; and the judging of a system's answers.

A row is correct if its exact float64 score is at least that of the k-th best row, within a relative 1e-6. So rows that tie with the k-th
count as correct. Rows that don't match the filter, were deleted or are duplicates are wrong, whatever their score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import Dataset, cache_folder
from .filters import Filter

TIE = 1e-6
_VERSION = 1
_SLACK = 32  # rows beyond k that float32 scores preselect for exact scoring in float64
_BLOCK = 64
RRF = 60


@dataclass
class Truth:
    """The k best rows of each of q queries.

    ids: (q, k), padded with -1. scores: (q, k) float64, higher is better (L2 as −d²). matches: (q,), number of rows that could be found.
    """

    ids: np.ndarray
    scores: np.ndarray
    matches: np.ndarray

    @property
    def k(self) -> int:
        return self.ids.shape[1]

    def expected(self, k: int) -> np.ndarray:
        """Length of a complete answer to each query: min(k, matches)."""
        return np.minimum(k, self.matches)

    def at(self, k: int) -> Truth:
        return Truth(self.ids[:, :k], self.scores[:, :k], self.matches)


@dataclass
class Judged:
    """A judged answer. good: correct rows among the first k. wrong: rows that break the filter, are deleted, unknown or duplicates."""

    good: int
    returned: int
    wrong: int


def exact(
    dataset: Dataset,
    queries: Sequence[int],
    k: int,
    filters: Sequence[Filter | None] | None = None,
    alive: np.ndarray | None = None,
    cache: bool = True,
) -> Truth:
    """The k best rows for these queries of the data set. filters: one per query. alive: rows that are not deleted, (n,) bool."""
    key = _key(dataset, queries, k, filters, alive)
    path = cache_folder() / "truth" / f"{key}.npz"
    if cache and path.exists():
        with np.load(path) as arrays:
            return Truth(arrays["ids"], arrays["scores"], arrays["matches"])
    truth = _hybrid(dataset, queries, k, filters, alive) if dataset.arm == "hybrid" else _compute(dataset, queries, k, filters, alive)
    if cache:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, ids=truth.ids, scores=truth.scores, matches=truth.matches)
        scratch.replace(path)
    return truth


def _key(dataset: Dataset, queries, k: int, filters, alive) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, dataset.hash, dataset.arm, list(map(int, queries)), k]).encode())
    for one in filters or ():
        digest.update(b"-" if one is None else one.key.encode())
    if alive is not None:
        digest.update(np.packbits(alive).tobytes())
    return digest.hexdigest()[:32]


def _compute(dataset: Dataset, queries, k: int, filters, alive) -> Truth:
    q = len(queries)
    truth = Truth(np.full((q, k), -1, dtype=np.int64), np.full((q, k), -np.inf), np.zeros(q, dtype=np.int64))
    for low in range(0, q, _BLOCK):
        block = list(queries[low : low + _BLOCK])
        scores, reachable = _scores(dataset, block)
        for i, query in enumerate(block):
            allowed = None if filters is None or filters[low + i] is None else filters[low + i].mask
            for mask in (alive, None if reachable is None else reachable[i]):
                allowed = mask if allowed is None else allowed if mask is None else allowed & mask
            rows = np.arange(len(dataset)) if allowed is None else np.flatnonzero(allowed)
            truth.matches[low + i] = len(rows)
            ids, values = _best(dataset, query, rows, scores[i][rows], k)
            truth.ids[low + i, : len(ids)], truth.scores[low + i, : len(ids)] = ids, values
    return truth


def _scores(dataset: Dataset, block: list[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """(float32 scores of all rows, rows that share a term with the query). The second is None unless vectors are sparse. Rows without a
    common term are never hits of a sparse query.
    """
    if dataset.multi is not None:
        return np.stack([dataset.multi.best(dataset.multi_queries[query]) for query in block]), None
    if dataset.vectors is None:
        scores = np.asarray((dataset.sparse_queries[block] @ dataset.sparse.T).todense())
        shared = (dataset.sparse_queries[block] != 0).astype(np.float32) @ (dataset.sparse != 0).astype(np.float32).T
        return scores, np.asarray(shared.todense()) > 0
    vectors = np.asarray(dataset.vectors)
    queries = np.asarray(dataset.queries[block], dtype=np.float32)
    scores = queries @ vectors.T
    if dataset.metric == "l2":
        scores = 2 * scores - np.einsum("ij,ij->i", vectors, vectors)
    return scores, None


def _best(dataset: Dataset, query: int, rows: np.ndarray, rough: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, float64 scores) of the k best of these rows. float32 scores preselect candidates, with a margin for their rounding error."""
    kept_rows = k + _SLACK
    if kept_rows < len(rows):
        edge = np.partition(rough, len(rough) - kept_rows)[len(rough) - kept_rows]
        kept = rough >= edge - 1e-5 * max(1.0, float(np.abs(rough).max()))
        rows = rows[kept]
    scores = score(dataset, query, rows)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def score(dataset: Dataset, query: int, rows: np.ndarray) -> np.ndarray:
    """Exact float64 scores of these rows: inner product, −d² for L2, or MaxSim."""
    if dataset.multi is not None:
        return dataset.multi.take(rows).best(dataset.multi_queries[query], np.float64) if len(rows) else np.empty(0)
    if dataset.vectors is None:
        whole = np.zeros(dataset.sparse.shape[1])
        low, high = dataset.sparse_queries.indptr[query : query + 2]
        whole[dataset.sparse_queries.indices[low:high]] = dataset.sparse_queries.data[low:high]
        return np.asarray(dataset.sparse[rows].astype(np.float64) @ whole)
    vectors, query_vector = np.asarray(dataset.vectors[rows], dtype=np.float64), np.asarray(dataset.queries[query], dtype=np.float64)
    if dataset.metric == "l2":
        return -((vectors - query_vector) ** 2).sum(axis=1)
    scores = vectors @ query_vector
    return scores / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query_vector) + 1e-300) if dataset.metric == "cosine" else scores


def candidates(k: int) -> int:
    """Number of rows that each arm contributes to the fusion: vectordb's default, also used for the ground truth."""
    return max(100, 4 * k)


def _hybrid(dataset: Dataset, queries, k: int, filters, alive) -> Truth:
    """The exact best ``candidates(k)`` rows of both arms, fused by reciprocal rank, Σ 1 / (60 + rank) with ranks from 1. Keeps all rows."""
    each = candidates(k)
    arms = [_compute(dataset.only(arm), queries, each, filters, alive) for arm in ("dense", "sparse")]
    q = len(queries)
    truth = Truth(np.full((q, 2 * each), -1, dtype=np.int64), np.full((q, 2 * each), -np.inf), np.zeros(q, dtype=np.int64))
    for i in range(q):
        fused: dict[int, float] = {}
        for arm in arms:
            for rank, row in enumerate(arm.ids[i][arm.ids[i] >= 0].tolist(), 1):
                fused[row] = fused.get(row, 0.0) + 1.0 / (RRF + rank)
        order = sorted(fused, key=lambda row: (-fused[row], row))
        truth.ids[i, : len(order)] = order
        truth.scores[i, : len(order)] = [fused[row] for row in order]
        truth.matches[i] = len(order)
    return truth


def judge(truth: Truth, dataset: Dataset, place: int, query: int, hits: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Judged:
    """Judge one answer. place: the query's index in ``truth``. query: its index in the data set. allowed: rows that may be hits, bool."""
    hits = np.asarray(hits, dtype=np.int64)[:k]
    existing = (hits >= 0) & (hits < len(dataset))
    valid = existing.copy()
    valid[existing] &= True if allowed is None else allowed[hits[existing]]
    valid &= np.isin(np.arange(len(hits)), np.unique(hits, return_index=True)[1])
    wrong = int(len(hits) - valid.sum())
    expected = int(min(k, truth.matches[place]))
    if expected == 0:
        return Judged(0, len(hits), wrong)
    edge = truth.scores[place, expected - 1]
    rows = hits[valid]
    if dataset.arm == "hybrid":
        fused = dict(zip(truth.ids[place].tolist(), truth.scores[place].tolist(), strict=True))
        scores = np.array([fused.get(row, -np.inf) for row in rows.tolist()])
    else:
        scores = score(dataset, query, rows)
    good = scores >= edge - TIE * abs(edge)
    if dataset.arm == "sparse":
        good &= scores > 0
    return Judged(min(int(good.sum()), expected), len(hits), wrong)


def reach(dataset: Dataset, truth: Truth, filters: Sequence[Filter | None]) -> tuple[float, float]:
    """(selectivity, correlation) as measured.

    Selectivity is the mean share of matching rows. Correlation is the share of matching rows among the query's nearest rows (``truth``,
    without filters) ÷ selectivity: 1 is no correlation, more is positive, and 0 means that no near row matches.
    """
    shares, near = [], []
    for i, one in enumerate(filters):
        if one is not None:
            shares.append(one.mask.mean())
            rows = truth.ids[i][truth.ids[i] >= 0]
            near.append(one.mask[rows].mean())
    share = float(np.mean(shares))
    return share, float(np.mean(near)) / share if share else 0.0
