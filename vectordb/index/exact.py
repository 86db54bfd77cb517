"""Exact search: scores every candidate row. It takes tables of chunk addresses and returns docids and scores. Tests of recall compare with
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..common import background, deadline, memory
from ..kernels import COUNT, FIRST, ITEMS, LAST, TINY_WEIGHT, coded_rows, dense, sparse, topk
from .saturation import Saturation, numbers_of
from .tail import chunks_of

CODES = "codes"  # in the place of a dtype: rows of a multi-vector field are byte codes
METRICS = {"dot": dense.DOT, "cosine": dense.COSINE, "l2": dense.L2}
Found = tuple[np.ndarray, np.ndarray]  # docids int64 and scores float32, best first
_NO_ROWS, _NO_KEYS = np.empty(0, np.uint32), np.empty(0, np.int64)
# Constants: unit and meaning. Chosen, not measured.
_ROW_WORK, _KEPT_WORK = 16, 256  # multiplications that a row costs beside its products; a row that enters the heap of the best
_TERM_WORK, _POSTING_WORK = 16, 4  # multiplications of a term looked up in a block; of a posting
_ROW_TERMS = 256  # terms that a row is assumed to have
_PARALLEL_BYTES = 4 << 20  # bytes; smaller scans run on one thread: starting a second one costs more than it saves
_SORTED = 1 << 19  # keys unpacked between two checks of the deadline
_HEAP_BYTES = 64 << 20  # bytes of the heaps of all threads of a scan, at most; a single thread may exceed it
_pool: tuple[int, ThreadPoolExecutor] | None = None


def pool() -> ThreadPoolExecutor:
    """The process's thread pool for kernels, one thread per core. A forked process gets a new pool."""
    global _pool
    if _pool is None or _pool[0] != os.getpid():
        _pool = (os.getpid(), ThreadPoolExecutor(background.CORES, thread_name_prefix="vectordb-kernel"))
    return _pool[1]


def on_one_thread(rows: int, spec: Any) -> bool:
    """Whether an exact search of so many rows of a dense field (spec: its definition) is one kernel call on one thread."""
    nbytes = rows * spec.dim * (2 if spec.dtype == "float16" else 4)
    return nbytes < _PARALLEL_BYTES and rows * (spec.dim + _ROW_WORK + _KEPT_WORK) <= deadline.WORK


def _over_chunks(work: Callable[[int, int], list[np.ndarray]], table: np.ndarray, nbytes: int, queries: int, k: int) -> list[np.ndarray]:
    """Run ``work(low, high)`` over all chunks, on several cores if the scan is large enough. Returns the k best keys of each query."""
    heaps = 8 * queries * k
    cores = min(background.cores(), len(table), max(_HEAP_BYTES // heaps, 1))
    if cores < 2 or nbytes < _PARALLEL_BYTES:
        with memory.held(heaps, "the best rows so far"):
            return work(0, len(table))
    counts = np.cumsum(table[:, COUNT])
    bounds = [0, *(np.searchsorted(counts, counts[-1] * np.arange(1, cores) / cores) + 1).tolist(), len(table)]
    with memory.held((cores + 1) * heaps, "the best rows so far"):
        parts = deadline.map_with_deadline(pool(), work, bounds[:-1], bounds[1:])
        return [np.sort(np.concatenate(keys))[::-1][:k] for keys in zip(*parts, strict=True)]


def scan_dense(
    table: np.ndarray,
    queries: np.ndarray,
    half: bool,
    metric: int,
    rows: np.ndarray,
    filtered: bool,
    low: int,
    high: int,
    heaps: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """``dense.dense_topk`` over chunks [low, high), split into calls that are short enough to check the deadline between them.

    heaps: int64 ``(queries, k)``, and sizes: int64 ``(queries,)``, the best keys so far; updated in place.
    """
    counts = table[low:high, COUNT]
    total = int(counts.sum())
    if filtered:
        total = min(total, len(rows))
    row = queries.shape[1] + _ROW_WORK + _KEPT_WORK * min(heaps.shape[1], total) // max(total, 1)
    costs, total = counts * row, total * row
    if total * len(queries) <= deadline.work():
        deadline.check()
        dense.dense_topk(table, queries, half, metric, rows, filtered, low, high, heaps, sizes)
        return
    for begin, end in deadline.stretches(costs * len(queries)):
        for some in _shares(len(queries), int(costs[begin:end].sum())):
            dense.dense_topk(table, queries[some], half, metric, rows, filtered, low + begin, low + end, heaps[some], sizes[some])


def scan_tail(table: np.ndarray, queries: np.ndarray, spec: Any, tail: Sequence[Any], heaps: np.ndarray, sizes: np.ndarray) -> int:
    """``scan_dense`` of the rows without an index (``base.TailRange``), to the same result. Of rows with codes it reads only those that may
    be among the best. spec: the field's definition. Returns the rows that were scored at full precision for the first query.
    """
    read, half, metric = 0, spec.dtype == "float16", METRICS[spec.metric]
    for piece in tail:
        docids = piece.docids
        if not len(docids):
            continue
        if piece.codes is not None and piece.codes.suits(docids, heaps.shape[1]):
            held = piece.codes.cover(table, piece.begin, int(docids[-1]) + 1)
            low, high = np.searchsorted(docids, (held.base, held.end)).tolist()
            if piece.codes.suits(docids[low:high], heaps.shape[1]):
                read += _scan_coded(table, queries, half, metric, piece, held, docids[low:high], heaps, sizes)
                docids = np.concatenate([docids[:low], docids[high:]])
        if len(docids):
            scan_dense(table, queries, half, metric, docids, True, piece.low, piece.high, heaps, sizes)
            read += len(docids)
    return read


def _scan_coded(
    table: np.ndarray,
    queries: np.ndarray,
    half: bool,
    metric: int,
    piece: Any,
    held: Any,
    docids: np.ndarray,
    heaps: np.ndarray,
    sizes: np.ndarray,
) -> int:
    """``scan_tail`` of rows with codes. held: the codes. Returns the rows that were scored at full precision for the first query."""
    read, k = 0, heaps.shape[1]
    for q in range(len(queries)):
        deadline.check()
        threshold = float(scores_of(heaps[q, :1])[0]) if sizes[q] == k else -np.inf
        some = piece.codes.candidates(held, docids, queries[q], metric, k, threshold)
        if len(some):
            low, high = chunks_of(table, some, piece.low, piece.high)
            scan_dense(table, queries[q : q + 1], half, metric, some, True, low, high, heaps[q : q + 1], sizes[q : q + 1])
        read += 0 if q else len(some)
    return read


def score_dense(
    table: np.ndarray,
    verified: np.ndarray,
    queries: np.ndarray,
    half: bool,
    metric: int,
    docids: np.ndarray,
    heaps: np.ndarray,
    sizes: np.ndarray,
) -> int:
    """``scan_dense`` of some rows (uint32, ascending). verified: as in ``base.Chunks``. Returns how many chunks were marked as read without
    having been verified.
    """
    if not len(docids) or not len(table):  # no row has a vector
        return 0
    covering = np.unique(np.maximum(np.searchsorted(table[:, FIRST], docids, "right") - 1, 0))
    fresh = covering[verified[covering] != 1]
    verified[fresh] = 2
    scan_dense(table, queries, half, metric, docids, True, int(covering[0]), int(covering[-1]) + 1, heaps, sizes)
    return len(fresh)


def _shares(n: int, cost: int) -> Iterator[slice]:
    """Slices that divide n items of a cost each, so that a slice costs at most ``deadline.work()`` or has one item. Checks the deadline
    before each slice.
    """
    most = max(deadline.work() // max(cost, 1), 1)
    for first in range(0, n, most):
        deadline.check()
        yield slice(first, first + most)


def _stretches_of(n: int, cost: int) -> Iterator[slice]:
    """``_shares`` of the n rows of a query for ``dense.maxsim_add``: none has fewer than TILED rows, unless the query has."""
    most, low = max(deadline.work() // max(cost, 1), dense.TILED), 0
    while low < n:
        deadline.check()
        high = low + most if n - low - most >= dense.TILED else n
        yield slice(low, high)
        low = high


def search_dense(table: np.ndarray, queries: np.ndarray, dtype: str, metric: str, k: int, rows: np.ndarray | None) -> list[Found]:
    """The exact top k of each query, best first.

    queries: float32 ``(n, dim)``. rows: the docids to consider (uint32, ascending); None: all. Scores are dot products, cosines or negated
    squared distances. Ties go to the lower docid.
    """
    chosen, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    total = int(table[:, COUNT].sum()) if rows is None else len(rows)
    k = min(k, total)
    if k == 0:
        return [nothing()] * len(queries)
    half = dtype == "float16"

    def work(low: int, high: int) -> list[np.ndarray]:
        heaps, sizes = np.empty((len(queries), k), np.int64), np.zeros(len(queries), np.int64)
        scan_dense(table, queries, half, METRICS[metric], chosen, filtered, low, high, heaps, sizes)
        return [heaps[q, : sizes[q]] for q in range(len(queries))]

    nbytes = total * queries.shape[1] * (2 if half else 4) * min(len(queries), 8)
    memory.hold(12 * len(queries) * k, "the rows found")
    best = _over_chunks(work, table, nbytes, len(queries), k)
    return [unpacked(keys) for keys in deadline.each(best, max(_SORTED // k, 1))]


def search_multi(table: np.ndarray, query: np.ndarray, dtype: str, metric: str, aggregation: str, k: int, rows: np.ndarray | None) -> Found:
    """The exact top k by MaxSim (aggregation "maxsim": the sum, over the query's rows, of the best match) or by the best pair. query:
    float32 ``(rows, dim)``. dtype: of the stored numbers, or CODES.
    """
    chosen, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    k = min(k, int(table[:, COUNT].sum()) if rows is None else len(rows))
    if k == 0:
        return nothing()

    def work(low: int, high: int) -> list[np.ndarray]:
        heap = np.empty(k, np.int64)
        return [heap[: scan_multi(table[low:high], query, dtype, metric, aggregation, chosen, filtered, heap, 0)]]

    nbytes = int(table[:, ITEMS].sum()) * query.size * (2 if dtype == "float16" else 4)
    return unpacked(_over_chunks(work, table, nbytes, 1, k)[0])


def scan_multi(
    table: np.ndarray,
    query: np.ndarray,
    dtype: str,
    metric: str,
    aggregation: str,
    rows: np.ndarray,
    filtered: bool,
    heap: np.ndarray,
    size: int,
    items: np.ndarray | None = None,
) -> int:
    """``search_multi`` of a chunk table on this thread, split into calls that are short enough to check the deadline between them.

    heap: int64 ``(k,)``, the best keys so far, ``size`` of them; updated in place. items: int64, the vectors of each chunk that are scored;
    None: all. Returns the new size.
    """
    costs = (table[:, ITEMS] if items is None else items) * (query.shape[1] + _ROW_WORK)  # for each row of the query
    coded, half, cosine = dtype == CODES, dtype == "float16", metric == "cosine"
    for begin, end in deadline.stretches(costs * len(query)):
        most = int(table[begin:end, COUNT].sum())
        most = min(most, len(rows)) if filtered else most
        totals, tops, docids = np.zeros(most, np.float32), np.full(most, -np.inf, np.float32), np.empty(most, np.int64)
        count = 0
        for some in _stretches_of(len(query), int(costs[begin:end].sum())):
            given = rows, filtered, begin, end, totals, tops, docids
            if coded:
                count = coded_rows.maxsim_codes(table, query[some], cosine, *given)
            else:
                count = dense.maxsim_add(table, query[some], half, cosine, *given)
        size = dense.offer_rows(docids[:count], (totals if aggregation == "maxsim" else tops)[:count], heap, size)
    return size


def search_sparse(
    table: np.ndarray, terms: np.ndarray, weights: np.ndarray, k: int, rows: np.ndarray | None, saturation: Saturation | None = None
) -> Found:
    """The exact top k among the rows that share a term with the query, by inner product, or by BM25 if ``saturation`` is given (the stored
    weights are then term frequencies). terms: uint64, ascending. weights: float32.
    """
    chosen, filtered = (_NO_ROWS, False) if rows is None else (rows, True)
    k = min(k, int(table[:, COUNT].sum()) if rows is None else len(rows))
    if k == 0 or not len(terms) or not len(table):
        return nothing()
    span = int((table[:, LAST] - table[:, FIRST]).max()) + 1
    scores, touched = np.zeros(span, np.float32), np.zeros(span, np.bool_)
    signed = bool((weights < TINY_WEIGHT).any())
    numbers, lengths = numbers_of(saturation)
    norms = np.zeros(0 if saturation is None else span, np.float32)
    best = _NO_KEYS
    for low, high in deadline.stretches(_term_costs(table, len(terms))):
        heap = np.empty(k, np.int64)
        given = (table, terms, weights, signed, chosen, filtered, low, high, lengths, numbers, norms)
        size = sparse.sparse_topk(*given, scores, touched, heap)
        best = np.sort(np.concatenate([best, heap[:size]]))[-k:] if len(best) else heap[:size]
    return unpacked(best)


def _term_costs(table: np.ndarray, terms: int) -> np.ndarray:
    """The cost of looking up terms in each inverted block and reading their postings, int64, one for each chunk."""
    return _TERM_WORK * terms + table[:, COUNT] * (_POSTING_WORK * min(terms, _ROW_TERMS))


def score_sparse(
    table: np.ndarray, terms: np.ndarray, weights: np.ndarray, rows: np.ndarray, saturation: Saturation | None = None
) -> Found:
    """The given rows (docids, uint32) that share a term with the query, best first, scored from the forward index. The scores are the same
    as those of ``search_sparse``.
    """
    keys, size = np.empty(len(rows), np.int64), 0
    for some in _shares(len(rows), _POSTING_WORK * (len(terms) + _ROW_TERMS)):
        size += sparse.sparse_scores(table, terms, weights, rows[some], numbers_of(saturation)[0], keys[size:])
    return unpacked(keys[:size])


def document_frequencies(table: np.ndarray, terms: np.ndarray, dead_words: np.ndarray | None) -> np.ndarray:
    """The number of live rows that have each term, int64. dead_words: a bitmap of the dead rows; None: no row is dead."""
    out = np.zeros(len(terms), np.int64)
    empty = np.empty(0, np.uint64)
    for low, high in deadline.stretches(_term_costs(table, len(terms))):
        sparse.document_frequencies(table[low:high], terms, empty if dead_words is None else dead_words, dead_words is not None, out)
    return out


def unpacked(keys: np.ndarray) -> Found:
    """The rows of keys (int64), best first. The keys are sorted in place."""
    docids, scores = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
    topk.unpack(keys, docids, scores)
    return docids, scores


def scores_of(keys: np.ndarray) -> np.ndarray:
    """The scores of keys (int64), float32 of the same shape."""
    ordered = (keys >> 32).astype(np.int32)
    return (ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


def nothing() -> Found:
    """An empty result."""
    return np.empty(0, np.int64), np.empty(0, np.float32)
