"""Exact search: every wanted row is scored. Tables of chunk addresses in, docids and scores out; the oracle of every other index."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import deadline
from ..kernels import COUNT, FIRST, ITEMS, LAST, TINY_WEIGHT, dense, sparse, topk
from .saturation import Saturation, numbers_of

METRICS = {"dot": dense.DOT, "cosine": dense.COSINE, "l2": dense.L2}
AGGREGATIONS = {"maxsim": dense.MAXSIM, "max": dense.MAX}
Found = tuple[np.ndarray, np.ndarray]  # docids int64 and scores float32, best first
_NO_ROWS = np.empty(0, np.uint32)
_PRODUCTS_AT_ONCE = 1 << 30  # of numbers, in one kernel call under a deadline: about a quarter of a second
_PARALLEL_BYTES = 4 << 20  # below this a second thread costs more than it saves
CORES = os.cpu_count() or 1
_pool: tuple[int, ThreadPoolExecutor] | None = None


def pool() -> ThreadPoolExecutor:
    """Threads for kernels, one a core; a new pool after a fork."""
    global _pool
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), ThreadPoolExecutor(CORES, thread_name_prefix="vectordb-kernel"))
    return _pool[1]


def _over_chunks(work: Callable[[int, int], list[np.ndarray]], table: np.ndarray, nbytes: int, k: int) -> list[np.ndarray]:
    """Run ``work(low, high)`` over all chunks, on several cores when there is enough; merges each query's keys."""
    cores = min(CORES, len(table))
    if cores < 2 or nbytes < _PARALLEL_BYTES:
        return work(0, len(table))
    counts = np.cumsum(table[:, COUNT])
    bounds = [0, *(np.searchsorted(counts, counts[-1] * np.arange(1, cores) / cores) + 1).tolist(), len(table)]
    parts = list(deadline.spread(pool(), work, bounds[:-1], bounds[1:]))
    return [np.sort(np.concatenate(keys))[::-1][:k] for keys in zip(*parts, strict=True)]


def search_dense(table: np.ndarray, queries: np.ndarray, dtype: str, metric: str, k: int, rows: np.ndarray | None) -> list[Found]:
    """The exact top k of each query.

    queries: float32 ``(n, dim)``. rows: the wanted docids (uint32, ascending), None for all. Scores: dot
    product, cosine, or minus the squared distance. Ties go to the lower docid.
    """
    wanted, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    total = int(table[:, COUNT].sum()) if rows is None else len(rows)
    k = min(k, total)
    if k == 0:
        return [nothing()] * len(queries)
    if deadline.pending() is not None:
        most = max(16, _PRODUCTS_AT_ONCE // (total * queries.shape[1]))
        if len(queries) > most:  # nobody can stop a kernel call
            parts = [queries[at : at + most] for at in range(0, len(queries), most)]
            return [found for part in parts for found in search_dense(table, part, dtype, metric, k, rows)]
        deadline.check()
    half = dtype == "float16"

    def work(low: int, high: int) -> list[np.ndarray]:
        heaps, sizes = np.empty((len(queries), k), np.int64), np.zeros(len(queries), np.int64)
        dense.dense_topk(table, queries, half, METRICS[metric], wanted, filtered, low, high, heaps, sizes)
        return [heaps[q, : sizes[q]] for q in range(len(queries))]

    nbytes = total * queries.shape[1] * (2 if half else 4) * min(len(queries), 8)
    return [_unpacked(keys) for keys in _over_chunks(work, table, nbytes, k)]


def search_multi(table: np.ndarray, query: np.ndarray, dtype: str, metric: str, aggregation: str, k: int, rows: np.ndarray | None) -> Found:
    """The exact top k by MaxSim or by the best pair. query: float32 ``(rows, dim)``."""
    wanted, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    k = min(k, int(table[:, COUNT].sum()) if rows is None else len(rows))
    if k == 0:
        return nothing()
    deadline.check()
    half, cosine = dtype == "float16", metric == "cosine"

    def work(low: int, high: int) -> list[np.ndarray]:
        heap = np.empty(k, np.int64)
        size = dense.maxsim_topk(table, query, half, cosine, AGGREGATIONS[aggregation], wanted, filtered, low, high, heap)
        return [heap[:size]]

    nbytes = int(table[:, ITEMS].sum()) * query.size * (2 if half else 4)
    return _unpacked(_over_chunks(work, table, nbytes, k)[0])


def search_sparse(
    table: np.ndarray, terms: np.ndarray, weights: np.ndarray, k: int, rows: np.ndarray | None, saturation: Saturation | None = None
) -> Found:
    """The exact top k among rows that share a term with the query, by inner product, or by BM25 where stored weights are term frequencies
    (``saturation``). terms: uint64 ascending, weights float32.
    """
    wanted, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    k = min(k, int(table[:, COUNT].sum()) if rows is None else len(rows))
    if k == 0 or not len(terms) or not len(table):
        return nothing()
    deadline.check()
    span = int((table[:, LAST] - table[:, FIRST]).max()) + 1
    heap = np.empty(k, np.int64)
    scores, touched = np.zeros(span, np.float32), np.zeros(span, np.bool_)
    signed = bool((weights < TINY_WEIGHT).any())
    numbers, lengths = numbers_of(saturation)
    norms = np.zeros(0 if saturation is None else span, np.float32)
    given = (table, terms, weights, signed, wanted, filtered, 0, len(table), lengths, numbers, norms)
    size = sparse.sparse_topk(*given, scores, touched, heap)
    return _unpacked(heap[:size])


def score_sparse(
    table: np.ndarray, terms: np.ndarray, weights: np.ndarray, rows: np.ndarray, saturation: Saturation | None = None
) -> Found:
    """Given rows (docids, uint32) that share a term with the query, best first, out of the forward index: scored as ``search_sparse``
    scores them.
    """
    keys = np.empty(len(rows), np.int64)
    return _unpacked(keys[: sparse.sparse_scores(table, terms, weights, rows, numbers_of(saturation)[0], keys)])


def document_frequencies(table: np.ndarray, terms: np.ndarray, dead_words: np.ndarray | None) -> np.ndarray:
    """Live rows that hold each term, int64."""
    out = np.zeros(len(terms), np.int64)
    empty = np.empty(0, np.uint64)
    sparse.document_frequencies(table, terms, empty if dead_words is None else dead_words, dead_words is not None, out)
    return out


def _unpacked(keys: np.ndarray) -> Found:
    docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
    topk.unpack(keys, docids, scores)
    return docids, scores


def nothing() -> Found:
    """No rows."""
    return np.empty(0, np.int64), np.empty(0, np.float32)
