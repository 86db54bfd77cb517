"""Each compiled kernel against itself uncompiled, on random chunk tables.

``kernel.py_func`` would still call compiled kernels; here every kernel of a module is replaced by its function, and the intrinsics
by Python, so all of it runs interpreted. Sums are compared to 1e-5 of their size, everything else exactly.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math

import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from vectordb.kernels import TABLE_WIDTH, columns, dense, jit, sparse, topk
from vectordb.storage import chunks, fields
from vectordb.types import Dense as DenseField
from vectordb.types import DenseColumn, MultiColumn, MultiVector, SparseColumn
from vectordb.types import Sparse as SparseField

MODULES = (topk, dense, sparse, columns)
KERNELS = {
    f"{module.__name__.rsplit('.', 1)[1]}.{name}": kernel
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, CPUDispatcher) and kernel.py_func.__module__ == module.__name__
}
SEEDS = range(6)


def at_address(address: int, count: int, dtype) -> np.ndarray:
    """``carray``; of a section that a chunk doesn't have, nothing."""
    size = int(count) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype) if address else np.empty(0, dtype)


@contextlib.contextmanager
def interpreted():
    """All kernels uncompiled."""
    plain = {
        numba.carray: at_address,
        jit.pointer: int,
        jit.prefetch: lambda address: None,
        jit.count_trailing_zeros: lambda word: (int(word) & -int(word)).bit_length() - 1,
    }
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        for module in MODULES:
            for name, value in list(vars(module).items()):
                if isinstance(value, CPUDispatcher):
                    patch.setattr(module, name, value.py_func)
                else:
                    for compiled, function in plain.items():
                        if value is compiled:
                            patch.setattr(module, name, function)
        yield


def both(name: str, *arguments):
    """Run a kernel compiled and interpreted on copies of its arguments; returns [(result, arguments)] of each."""
    module, function = name.split(".")
    ran = []
    for mode in (contextlib.nullcontext(), interpreted()):
        with mode:
            given = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in arguments]
            result = getattr({m.__name__.rsplit(".", 1)[1]: m for m in MODULES}[module], function)(*given)
            ran.append((result, given))
    return ran


class Table:
    """A chunk table over chunks of our own memory."""

    def __init__(self, pieces):
        self.values = [np.frombuffer(bytes(chunks.encode(piece)), np.uint8) for piece in pieces]
        rows = [chunks.table_row(value, "test") for value in self.values]
        self.rows = np.array(rows, np.int64).reshape(-1, TABLE_WIDTH)
        self.docids = np.concatenate([piece.docids for piece in pieces]) if pieces else np.empty(0, np.uint32)


def spans(rng, gap):
    """Docids of a few chunks, ascending over all."""
    first, found = int(rng.integers(0, 3)), []
    for _ in range(rng.integers(1, 5)):
        docids = first + np.cumsum(rng.integers(1, gap + 1, rng.integers(1, 12)))
        found.append(docids)
        first = int(docids[-1]) + int(rng.integers(0, 3))
    return found


def table_of(rng, make):
    return Table([make(docids) for docids in spans(rng, int(rng.choice([1, 3])))])


def wanted_of(rng, docids):
    """Some of the docids, and some that no chunk has."""
    end = int(docids[-1]) + 5
    return np.flatnonzero(rng.random(end) < 0.4).astype(np.uint32)


def keys_of(heaps, sizes, scale):
    """Per query the docids and scores of a heap, best first."""
    found = []
    for heap, size in zip(heaps, sizes, strict=True):
        keys = heap[:size].copy()
        docids, scores = np.empty(size, np.int64), np.empty(size, np.float32)
        topk.unpack(keys, docids, scores)
        found.append((docids, scores, scale))
    return found


def same_ranking(one, other):
    for (docids, scores, scale), (other_docids, other_scores, _) in zip(one, other, strict=True):
        np.testing.assert_allclose(scores, other_scores, rtol=1e-5, atol=1e-5 * scale)
        close = np.abs(np.diff(scores, prepend=np.inf, append=-np.inf)) < 1e-4 * scale  # near ties may stand in either order
        apart = ~(close[:-1] | close[1:])
        np.testing.assert_array_equal(docids[apart], other_docids[apart])
        assert set(docids[:-1]) <= set(other_docids) | set(docids[~apart])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("metric", "dtype", "filtered"), list(itertools.product(["dot", "cosine", "l2"], ["float32", "float16"], [False, True]))
)
def test_dense(seed, metric, dtype, filtered):
    rng = np.random.default_rng(seed)
    spec = DenseField(int(rng.integers(1, 20)), metric, dtype)
    table = table_of(rng, lambda d: fields.forward_chunk(spec, DenseColumn(rng.standard_normal((len(d), spec.dim)).astype(dtype)), d))
    queries = rng.standard_normal((int(rng.integers(1, 4)), spec.dim)).astype(np.float32)
    rows = wanted_of(rng, table.docids)
    k = int(rng.integers(1, 15))
    heaps, sizes = np.zeros((len(queries), k), np.int64), np.zeros(len(queries), np.int64)
    low = int(rng.integers(0, len(table.rows)))
    arguments = (table.rows, queries, dtype == "float16", {"dot": 0, "cosine": 1, "l2": 2}[metric], rows, filtered, low, len(table.rows))
    (_, one), (_, other) = both("dense.dense_topk", *arguments, heaps, sizes)
    np.testing.assert_array_equal(one[-1], other[-1])
    same_ranking(keys_of(one[-2], one[-1], 4 * spec.dim), keys_of(other[-2], other[-1], 4 * spec.dim))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("metric", "dtype", "aggregation", "filtered"), list(itertools.product([False, True], ["float32", "float16"], [0, 1], [False, True]))
)
def test_maxsim(seed, metric, dtype, aggregation, filtered):
    rng = np.random.default_rng(seed)
    spec = MultiVector(int(rng.integers(1, 9)), "cosine" if metric else "dot", dtype)

    def make(docids):
        indptr = np.concatenate([[0], np.cumsum(rng.integers(1, 4, len(docids)))])
        return fields.forward_chunk(spec, MultiColumn(indptr, rng.standard_normal((int(indptr[-1]), spec.dim)).astype(dtype)), docids)

    table = table_of(rng, make)
    query = rng.standard_normal((int(rng.integers(1, 4)), spec.dim)).astype(np.float32)
    heap = np.zeros(int(rng.integers(1, 9)), np.int64)
    arguments = (table.rows, query, dtype == "float16", metric, aggregation, wanted_of(rng, table.docids), filtered, 0, len(table.rows))
    (n, one), (m, other) = both("dense.maxsim_topk", *arguments, heap)
    assert n == m
    same_ranking(keys_of([one[-1]], [n], 12 * spec.dim), keys_of([other[-1]], [m], 12 * spec.dim))


def sparse_table(rng, signed):
    pool = np.sort(rng.integers(0, 2**64, 12, dtype=np.uint64))

    def make(docids):
        sizes = rng.integers(0, 5, len(docids))
        terms = np.concatenate([np.sort(rng.permutation(pool)[:n]) for n in sizes] + [pool[:0]])
        weights = rng.random(len(terms)).astype(np.float32) + 0.1
        weights = weights * rng.choice([-1, 1], len(terms)).astype(np.float32) if signed else weights
        column = SparseColumn(np.concatenate([[0], np.cumsum(sizes)]), terms, weights)
        return fields.vector_chunks(SparseField(), column, docids)[1]

    return table_of(rng, make), pool


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("signed", "filtered"), list(itertools.product([False, True], repeat=2)))
def test_sparse(seed, signed, filtered):
    rng = np.random.default_rng(seed)
    table, pool = sparse_table(rng, signed)
    terms = np.sort(np.unique(np.append(rng.choice(pool, 5), rng.integers(0, 99, 1, dtype=np.uint64))))
    weights = rng.random(len(terms)).astype(np.float32) - (0.5 if signed else 0.0)
    span = int((table.rows[:, 1] - table.rows[:, 0]).max()) + 1
    buffers = np.zeros(span, np.float32), np.zeros(span, np.bool_), np.zeros(int(rng.integers(1, 9)), np.int64)
    arguments = (table.rows, terms, weights, signed, wanted_of(rng, table.docids), filtered, 0, len(table.rows))
    (n, one), (m, other) = both("sparse.sparse_topk", *arguments, *buffers)
    assert n == m
    same_ranking(keys_of([one[-1]], [n], 5.0), keys_of([other[-1]], [m], 5.0))
    for scores, touched, _ in (one[-3:], other[-3:]):
        assert not scores.any() and not touched.any()  # left clean for the next query


@pytest.mark.parametrize("seed", SEEDS)
def test_unions_frequencies_and_present_rows(seed):
    rng = np.random.default_rng(seed)
    table, pool = sparse_table(rng, False)
    end = int(table.docids[-1]) + 1
    start = int(rng.integers(0, end))
    for size in (1, 2, 5):
        terms, words, out = np.sort(rng.choice(pool, size)), np.zeros(1024, np.uint64), np.zeros(end + 1, np.uint32)
        (n, one), (m, other) = both("sparse.postings_union", table.rows, terms, start, words, out)
        assert n == m
        np.testing.assert_array_equal(one[-1][:n], other[-1][:n])
        assert not one[-2].any() and not other[-2].any()
    dead = rng.integers(0, 2**64, -(-end // 64), dtype=np.uint64)
    for has_dead in (False, True):
        (_, one), (_, other) = both("sparse.document_frequencies", table.rows, pool, dead, has_dead, np.zeros(len(pool), np.int64))
        np.testing.assert_array_equal(one[-1], other[-1])
    (n, one), (m, other) = both("sparse.present_rows", table.rows, start, np.zeros(end + 1, np.uint32))
    np.testing.assert_array_equal(one[-1][:n], table.docids[table.docids >= start])
    np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dtype", "ragged"), list(itertools.product([np.int64, np.float64], [False, True])))
def test_numeric_predicates(seed, dtype, ragged):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        values = rng.integers(-5, 6, int(sizes.sum())).astype(dtype)
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), values) if ragged else chunks.fixed(docids, values)

    table = table_of(rng, make)
    start, out = int(rng.integers(0, 8)), np.zeros(int(table.docids[-1]) + 2, np.uint32)
    low, high = np.sort(rng.integers(-6, 7, 2)).astype(dtype)
    for name, values in (
        ("columns.rows_in_range", (np.array([low]), np.array([high]))),
        ("columns.rows_in_set", (np.unique(rng.integers(-6, 7, 4)).astype(dtype),)),
        ("columns.rows_in_set", (np.empty(0, dtype),)),
    ):
        (n, one), (m, other) = both(name, table.rows, *values, ragged, start, out)
        np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("radial", "ragged"), list(itertools.product([False, True], repeat=2)))
def test_areas(seed, radial, ragged):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        places = rng.uniform((-90, -180), (90, 180), (int(sizes.sum()), 2))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), places) if ragged else chunks.fixed(docids, places)

    table = table_of(rng, make)
    numbers = (10.0, 20.0, 0.0, 0.0, 7e6) if radial else (-40.0, float(rng.choice([-90, 90])), 60.0, 0.0, 0.0)
    out = np.zeros(int(table.docids[-1]) + 2, np.uint32)
    (n, one), (m, other) = both("columns.rows_in_area", table.rows, radial, *numbers, ragged, 1, out)
    np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("phrase", [False, True])
def test_tokens(seed, phrase):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 7, len(docids))
        tokens = rng.choice(np.array([0, 1, 2, columns.ELEMENT_END], np.uint32), int(sizes.sum()))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), tokens)

    table = table_of(rng, make)
    rows = wanted_of(rng, table.docids)
    for tokens in ([0, 1], [2, 0, 1], [1, 1] if phrase else [1, 2]):
        arguments = (table.rows, np.array(tokens, np.uint32), phrase, rows, np.zeros(len(rows) + 1, np.uint32))
        (n, one), (m, other) = both("columns.rows_with_tokens", *arguments)
        np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


def test_half_precision_is_read_exactly():
    """All 65,536 of them; NaN and infinity can't be stored."""
    bits = np.arange(65_536, dtype=np.uint16)
    values = bits.view(np.float16)
    for at in np.flatnonzero(np.isfinite(values)).tolist():
        assert dense.half_to_float(bits[at]) == np.float32(values[at])
    with interpreted():
        for at in (0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x8000, 0x8001, 0xFBFF):
            assert dense.half_to_float(bits[at]) == np.float32(values[at])


def test_keys_order_as_score_then_lower_docid_and_unpack_again():
    scores = [-math.inf, -3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 3.4e38, math.inf]
    pairs = [(np.float32(score), docid) for score in scores if score != 0 or math.copysign(1, score) > 0 for docid in (2**32 - 1, 7, 0)]
    for mode in (contextlib.nullcontext(), interpreted()):
        with mode:
            keys = np.array([topk.make_key(*pair) for pair in pairs], np.int64)
            assert (np.diff(keys) > 0).all()
            docids, unpacked = np.empty(len(keys), np.int64), np.empty(len(keys), np.float32)
            topk.unpack(keys[np.random.default_rng(0).permutation(len(keys))], docids, unpacked)
            assert list(zip(unpacked.tolist(), docids.tolist(), strict=True)) == [(float(s), d) for s, d in reversed(pairs)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_heap_keeps_the_highest_keys(seed):
    rng = np.random.default_rng(seed)
    offered, k = rng.integers(-50, 50, 200), int(rng.integers(1, 30))
    for mode in (contextlib.nullcontext(), interpreted()):
        with mode:
            heap, n = np.empty(k, np.int64), 0
            for key in offered:
                n = topk.offer(heap, n, k, key)
            assert sorted(heap[:n]) == sorted(offered)[-k:]
            assert heap[0] == heap.min()


@pytest.mark.parametrize("seed", SEEDS)
def test_lower_bound_and_find_term(seed):
    rng = np.random.default_rng(seed)
    values = np.unique(rng.integers(0, 60, 25).astype(np.uint64))
    for target in rng.integers(0, 70, 40).astype(np.uint64):
        at = int(np.searchsorted(values, target))
        assert [result for result, _ in both("dense.lower_bound", values, 0, len(values), target)] == [at, at]
        expected = at if at < len(values) and values[at] == target else -1 - at
        start = int(rng.integers(0, at + 1))
        assert [result for result, _ in both("sparse.find_term", values, len(values), start, target)] == [expected, expected]


def test_vectors_are_brought_to_unit_length():
    vectors = np.array([[3, 4], [1e-30, 0], [1e38, 1e38], [1e-45, 0]], np.float32)
    for (result, _), expected in zip(
        both("dense.of_unit_length", vectors), itertools.repeat([[0.6, 0.8], [1, 0], [math.sqrt(0.5)] * 2, [1, 0]])
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_no_kernel_is_without_a_test():
    """A new kernel belongs into a test above, or is called by one that is there."""
    nested = {
        "columns.holds_phrase",
        "columns.holds_words",
        "columns.span_of",
        "dense.first_row",
        "dense.next_position",
        "dense.score_row",
        "dense.select",
        "dense.widest",
        "sparse.set_bits",
        "sparse.threshold",
    }
    assert set(KERNELS) == nested | {
        "columns.rows_in_area",
        "columns.rows_in_range",
        "columns.rows_in_set",
        "columns.rows_with_tokens",
        "dense.dense_topk",
        "dense.half_to_float",
        "dense.lower_bound",
        "dense.maxsim_topk",
        "dense.of_unit_length",
        "sparse.document_frequencies",
        "sparse.find_term",
        "sparse.postings_union",
        "sparse.present_rows",
        "sparse.sparse_topk",
        "topk.make_key",
        "topk.offer",
        "topk.unpack",
    }
