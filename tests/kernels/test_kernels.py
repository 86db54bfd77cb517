"""Each compiled kernel against the same code interpreted, on random chunk tables and small segments.

``kernel.py_func`` would still call other compiled kernels. So every kernel of a module is replaced by its Python function, and the
intrinsics by Python. Sums are compared with a relative tolerance of 1e-5, everything else exactly.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import itertools
import math

import numba
import numpy as np
import pytest
from numba.core.registry import CPUDispatcher
from vectordb_client.model.fields import DenseColumn, MultiColumn, SparseColumn
from vectordb_client.model.schema import Dense as DenseField
from vectordb_client.model.schema import MultiVector
from vectordb_client.model.schema import Sparse as SparseField

from tests.support import sparse_indexed
from tests.support.indexed import METRICS, Indexed, clustered, held_out
from vectordb.fields import FIELD_TYPES
from vectordb.index.base import SegmentMask
from vectordb.index.dense.plans import PLANS
from vectordb.index.dense.scratch import DenseScratch
from vectordb.index.impact import calibrate as sparse_calibrate
from vectordb.index.impact.scratch import ImpactScratch
from vectordb.index.model import settings_of
from vectordb.index.scratch import aligned
from vectordb.kernels import (
    COUNT,
    TABLE_WIDTH,
    beam,
    binary_scan,
    bitset,
    bounded,
    clusters,
    codes,
    columns,
    conditions,
    dense,
    dots,
    few,
    fusion,
    graph,
    hadamard,
    impact,
    impact_build,
    impact_layout,
    impact_lists,
    impact_rows,
    impact_runs,
    impact_windows,
    jit,
    layout,
    planner,
    query_codes,
    rescore,
    scoring,
    segment,
    sparse,
    topk,
)
from vectordb.storage import chunks, format

MODULES = (
    topk,
    bitset,
    dense,
    sparse,
    columns,
    codes,
    dots,
    hadamard,
    scoring,
    beam,
    binary_scan,
    clusters,
    graph,
    planner,
    query_codes,
    rescore,
    segment,
    bounded,
    conditions,
    few,
    impact_lists,
    impact_runs,
    impact_windows,
    impact_rows,
    impact_build,
    impact,
    fusion,
)
KERNELS = {
    f"{module.__name__.rsplit('.', 1)[1]}.{name}": kernel
    for module in MODULES
    for name, kernel in vars(module).items()
    if isinstance(kernel, CPUDispatcher) and kernel.py_func.__module__ == module.__name__
}
SEEDS = range(6)


def forward_chunk(spec, column, docids):
    return FIELD_TYPES[spec.kind].encode(spec, column, docids)[format.FORWARD]


def at_address(address: int, shape, dtype) -> np.ndarray:
    """``carray``; of a section that isn't there, nothing."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not address or not size:
        return np.empty(0, dtype)
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype).reshape(shape)


def dot_of_codes(row: int, query: int, lines: int) -> np.int32:
    """``dots.dot_one``."""
    a, b = at_address(row, lines * codes.LINE, np.uint8), at_address(query, lines * codes.LINE, np.int8)
    return np.int32(a.astype(np.int32) @ b.astype(np.int32))


def four_dots_of_codes(row0: int, row1: int, row2: int, row3: int, query: int, lines: int, out: int) -> None:
    """``dots.dot_four``."""
    at_address(out, 4, np.int32)[:] = [dot_of_codes(row, query, lines) for row in (row0, row1, row2, row3)]


def ones(words: np.ndarray) -> np.ndarray:
    """Set bits of each word."""
    return np.bitwise_count(words).astype(np.int64)


def mask_of(near: np.ndarray) -> np.uint64:
    """64 bools as bits, the first lowest."""
    return np.packbits(near, bitorder="little").view(np.uint64)[0]


def high_of(address: int, least) -> np.uint64:
    """``as_high``."""
    return mask_of(at_address(address, 64, type(least)) >= least)


def distances_of_block(block: int, query: int, words: int, threshold, out: int) -> np.uint64:
    """``block_distances``."""
    rows, wanted = at_address(block, (words, 64), np.uint64), at_address(query, words, np.uint64)
    found = ones(rows ^ wanted[:, None]).sum(axis=0)
    at_address(out, 64, np.uint16)[:] = found
    return mask_of(found <= int(threshold))


FOUR = np.zeros(4, np.int32)


def blocks_transformed(width: int, address: int, count: int, scale: np.float32) -> None:
    """``hadamard.transform_16s`` and ``transform_256s``."""
    blocks, h = at_address(address, (count, width), np.float32), 1
    while h < width:
        pairs = blocks.reshape(count, -1, 2, h)
        blocks[:] = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(count, width)
        h *= 2
    blocks *= scale


@contextlib.contextmanager
def interpreted():
    """All kernels uncompiled."""
    plain = {
        numba.carray: at_address,
        jit.pointer: int,
        jit.prefetch: lambda address: None,
        jit.prefetch_lines: lambda address, lines: None,
        jit.as_high: high_of,
        jit.count_trailing_zeros: lambda word: (int(word) & -int(word)).bit_length() - 1,
        dots.dot_one: dot_of_codes,
        dots.dot_four: four_dots_of_codes,
        dots.room_for_four: lambda: FOUR.ctypes.data,
        codes.positive_of_64: lambda numbers: mask_of(at_address(numbers, 64, np.float32) > 0),
        codes.above_of_64: lambda numbers, limit: mask_of(at_address(numbers, 64, np.uint8) > limit),
        hadamard.transform_16s: functools.partial(blocks_transformed, 16),
        hadamard.transform_256s: functools.partial(blocks_transformed, 256),
        jit.count_ones: lambda word: np.uint64(int(word).bit_count()),
        codes.block_distances: distances_of_block,
        codes.nearer: lambda distances, threshold: mask_of(at_address(distances, 64, np.uint16) <= int(threshold)),
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
    table = table_of(rng, lambda d: forward_chunk(spec, DenseColumn(rng.standard_normal((len(d), spec.dim)).astype(dtype)), d))
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
        return forward_chunk(spec, MultiColumn(indptr, rng.standard_normal((int(indptr[-1]), spec.dim)).astype(dtype)), docids)

    table = table_of(rng, make)
    query = rng.standard_normal((int(rng.integers(1, 4)), spec.dim)).astype(np.float32)
    n = int(table.rows[:, COUNT].sum())
    arguments = (table.rows, query, dtype == "float16", metric, wanted_of(rng, table.docids), filtered, 0, len(table.rows))
    out = np.zeros(n, np.float32), np.full(n, -np.inf, np.float32), np.zeros(n, np.int64)
    (n, one), (m, other) = both("dense.maxsim_add", *arguments, *out)
    assert n == m
    np.testing.assert_array_equal(one[-1][:n], other[-1][:n])
    scores = one[-3 + aggregation][:n]
    np.testing.assert_allclose(scores, other[-3 + aggregation][:n], rtol=1e-4, atol=1e-4)
    parts = [each.copy() for each in out]
    for row in range(len(query)):  # one row of the query after another adds up to the same, to the last bit
        dense.maxsim_add(*arguments[:1], query[row : row + 1], *arguments[2:], *parts)
    for part, whole in zip(parts, one[-3:], strict=True):
        np.testing.assert_array_equal(part[:n], whole[:n])
    heap, docids = np.zeros(int(rng.integers(1, 9)), np.int64), one[-1][:n]
    (n, one), (m, other) = both("dense.offer_rows", docids, scores, heap, 0)
    assert n == m
    same_ranking(keys_of([one[-2]], [n], 12 * spec.dim), keys_of([other[-2]], [m], 12 * spec.dim))


def sparse_table(rng, signed, part=1, highest=2**64):
    pool = np.sort(rng.integers(0, highest, 12, dtype=np.uint64))

    def make(docids):
        sizes = rng.integers(0, 5, len(docids))
        terms = np.concatenate([np.sort(rng.permutation(pool)[:n]) for n in sizes] + [pool[:0]])
        weights = rng.random(len(terms)).astype(np.float32) + 0.1
        weights = weights * rng.choice([-1, 1], len(terms)).astype(np.float32) if signed else weights
        column = SparseColumn(np.concatenate([[0], np.cumsum(sizes)]), terms, weights)
        return FIELD_TYPES["sparse"].encode(SparseField(), column, docids)[part]

    return table_of(rng, make), pool


NOT_COUNTED = np.empty((0, 10), np.int64), np.zeros(3, np.float32), np.empty(0, np.float32)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("signed", "filtered"), list(itertools.product([False, True], repeat=2)))
def test_sparse(seed, signed, filtered):
    rng = np.random.default_rng(seed)
    table, pool = sparse_table(rng, signed)
    terms = np.sort(np.unique(np.append(rng.choice(pool, 5), rng.integers(0, 99, 1, dtype=np.uint64))))
    weights = rng.random(len(terms)).astype(np.float32) - (0.5 if signed else 0.0)
    span = int((table.rows[:, 1] - table.rows[:, 0]).max()) + 1
    buffers = np.zeros(span, np.float32), np.zeros(span, np.bool_), np.zeros(int(rng.integers(1, 9)), np.int64)
    arguments = (table.rows, terms, weights, signed, wanted_of(rng, table.docids), filtered, 0, len(table.rows), *NOT_COUNTED)
    (n, one), (m, other) = both("sparse.sparse_topk", *arguments, *buffers)
    assert n == m
    same_ranking(keys_of([one[-1]], [n], 5.0), keys_of([other[-1]], [m], 5.0))
    for scores, touched, _ in (one[-3:], other[-3:]):
        assert not scores.any() and not touched.any()  # left clean for the next query


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("signed", [False, True])
def test_sparse_rows_score_as_they_do_in_a_search(seed, signed):
    """The same bits from the forward index and from the postings: linear fusion compares them."""
    forward, pool = sparse_table(np.random.default_rng(seed), signed, part=0)
    inverted, _ = sparse_table(np.random.default_rng(seed), signed)
    rng = np.random.default_rng(seed + 100)
    terms = np.sort(np.unique(np.append(rng.choice(pool, 5), rng.integers(0, 99, 1, dtype=np.uint64))))
    weights = rng.random(len(terms)).astype(np.float32) - np.float32(0.5 if signed else 0.0)
    rows = wanted_of(rng, forward.docids)
    keys = np.zeros(len(rows), np.int64)
    (n, one), (m, other) = both("sparse.sparse_scores", forward.rows, terms, weights, rows, NOT_COUNTED[1], keys)
    assert n == m
    same_ranking(keys_of([one[-1]], [n], 5.0), keys_of([other[-1]], [m], 5.0))
    span = int((inverted.rows[:, 1] - inverted.rows[:, 0]).max()) + 1
    buffers = np.zeros(span, np.float32), np.zeros(span, np.bool_), np.zeros(len(rows) + 1, np.int64)
    found = sparse.sparse_topk(inverted.rows, terms, weights, signed, rows, True, 0, len(inverted.rows), *NOT_COUNTED, *buffers)
    assert found == n and (np.sort(buffers[-1][:n]) == np.sort(one[-1][:n])).all()


LONG = np.array([[3e38, -3e38, 3e38], [3e38, 3e38, 3e38], [-3e38, 1.0, 0.0], [1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_rows_too_long_for_float32_have_scores_in_order(metric):
    table = Table([forward_chunk(DenseField(3, metric), DenseColumn(LONG), np.arange(4))])
    query = np.array([[2.0, 2.0, 1.0]], np.float32)
    exact = LONG.astype(np.float64) @ query[0] if metric == "dot" else -((LONG.astype(np.float64) - query[0]) ** 2).sum(axis=1)
    largest = np.finfo(np.float32).max
    expected = np.clip(exact, -largest, largest).astype(np.float32)
    arguments = table.rows, query, False, {"dot": 0, "l2": 2}[metric], np.empty(0, np.uint32), False, 0, 1
    for _, given in both("dense.dense_topk", *arguments, np.zeros((1, 4), np.int64), np.zeros(1, np.int64)):
        ((docids, scores, _),) = keys_of(given[-2], given[-1], 1)
        assert docids.tolist() == np.lexsort((np.arange(4), -expected)).tolist()
        np.testing.assert_allclose(scores, expected[docids], rtol=1e-6)


def test_sums_over_query_rows_beyond_float32_are_finite():
    largest, infinite = np.finfo(np.float32).max, np.float32(np.inf)
    scores = np.array([-infinite, 1.0, infinite], np.float32)
    for n, given in both("dense.offer_rows", np.arange(3), scores, np.zeros(3, np.int64), 0):
        docids, found = keys_of([given[2]], [n], 1)[0][:2]
        assert docids.tolist() == [2, 1, 0] and found.tolist() == [largest, 1.0, -largest]


def test_sparse_sums_beyond_float32_are_finite_and_the_same_in_both_indexes():
    terms, weights = np.array([1, 2, 3], np.uint64), np.array([1e16, 1e16, 1.0], np.float32)
    rows = [[3e38, -3e38, 1.0], [3e38, 3e38, 1.0], [-3e38, 1.0, 1.0], [1.0, 2.0, 3.0]]
    column = SparseColumn(np.arange(0, 13, 3), np.tile(terms, 4), np.array(rows, np.float32).ravel())
    parts = FIELD_TYPES["sparse"].encode(SparseField(), column, np.arange(4))
    forward, inverted = Table([parts[0]]), Table([parts[1]])
    wanted, found = np.arange(4, dtype=np.uint32), []
    for n, given in both("sparse.sparse_scores", forward.rows, terms, weights, wanted, NOT_COUNTED[1], np.zeros(4, np.int64)):
        found.append(keys_of([given[-1]], [n], 1)[0][:2])
    for k in (4, 1):
        buffers = np.zeros(4, np.float32), np.zeros(4, np.bool_), np.zeros(k, np.int64)
        for n, given in both("sparse.sparse_topk", inverted.rows, terms, weights, True, wanted, False, 0, 1, *NOT_COUNTED, *buffers):
            found.append(keys_of([given[-1]], [n], 1)[0][:2])
    for docids, scores in found:
        assert docids.tolist() == found[0][0][: len(docids)].tolist() == [1, 3, 0, 2][: len(docids)]
        assert np.isfinite(scores).all() and scores.tolist() == found[0][1][: len(scores)].tolist()


def texts_table(seed, part):
    """Term frequencies of texts, with lengths that lie in other chunks than the terms."""
    rng = np.random.default_rng(seed)
    pool = np.sort(rng.integers(0, 2**64, 12, dtype=np.uint64))

    def make(docids):
        numbers = np.random.default_rng([seed, int(docids[0]), len(docids)])
        sizes = numbers.integers(0, 5, len(docids))
        terms = np.concatenate([np.sort(numbers.permutation(pool)[:n]) for n in sizes] + [pool[:0]])
        column = SparseColumn(np.concatenate([[0], np.cumsum(sizes)]), terms, numbers.integers(1, 9, len(terms)).astype(np.float32))
        return FIELD_TYPES["sparse"].encode(SparseField(), column, docids, bm25=True)[part]

    parts = [make(docids) for docids in spans(rng, int(rng.choice([1, 3])))]
    return Table([chunks.joined(parts)] if part == format.LENGTHS else parts), pool


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("filtered", [False, True])
def test_texts_score_the_same_by_term_and_by_row(seed, filtered):
    """BM25's factor: the same bits from the postings with lengths, and from the forward index."""
    (inverted, pool), (forward, _), (lengths, _) = (texts_table(seed, part) for part in (1, 0, 3))
    rng = np.random.default_rng(seed + 100)
    terms = np.sort(rng.choice(pool, 5, replace=False))
    weights, numbers = rng.random(5).astype(np.float32) + np.float32(0.1), np.array([2.2, 0.3, 0.2], np.float32)
    wanted = wanted_of(rng, forward.docids) if filtered else forward.docids
    span = int((inverted.rows[:, 1] - inverted.rows[:, 0]).max()) + 1
    counted = lengths.rows, numbers, np.zeros(span, np.float32)
    buffers = np.zeros(span, np.float32), np.zeros(span, np.bool_), np.zeros(len(wanted) + 1, np.int64)
    arguments = (inverted.rows, terms, weights, False, wanted, filtered, 0, len(inverted.rows), *counted)
    (n, one), (m, other) = both("sparse.sparse_topk", *arguments, *buffers)
    assert n == m and (np.sort(one[-1][:n]) == np.sort(other[-1][:n])).all()
    keys = np.zeros(len(wanted), np.int64)
    (also, mine), (_, theirs) = both("sparse.sparse_scores", forward.rows, terms, weights, wanted, numbers, keys)
    assert also == n and (np.sort(mine[-1][:n]) == np.sort(one[-1][:n])).all() and (mine[-1] == theirs[-1]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_norms_of_a_stretch_of_rows(seed):
    lengths, _ = texts_table(seed, 3)
    first, last = np.sort(np.random.default_rng(seed).choice(lengths.docids.astype(np.int64), 2))
    fixed, slope = np.float32(0.25), np.float32(0.5)
    given = lengths.rows, int(first), int(last), fixed, slope, np.zeros(int(last - first) + 1, np.float32)
    (_, one), (_, other) = both("sparse.norms_between", *given)
    np.testing.assert_array_equal(one[-1], other[-1])
    there = lengths.docids[(lengths.docids >= first) & (lengths.docids <= last)].astype(np.int64) - first
    assert (one[-1][there] >= fixed).all() and not np.delete(one[-1], there).any()


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
    asked = rng.integers(0, end + 9, 30)
    for _, (_, _, held) in both("dense.hold", table.rows, asked, np.zeros(30, np.bool_)):
        assert held.tolist() == [docid in table.docids for docid in asked.tolist()]
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
@pytest.mark.parametrize(("dtype", "ragged"), list(itertools.product([np.int64, np.float64], [False, True])))
def test_conditions(seed, dtype, ragged):
    """Terms and ranges, in order or not, alone and together, some negated, against NumPy."""
    rng = np.random.default_rng(seed)
    drawn: dict[int, np.ndarray] = {}

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        values = rng.integers(-5, 6, int(sizes.sum())).astype(dtype) * dtype(-1 if dtype is np.float64 else 1)  # −0.0 too
        drawn.update(zip(docids.tolist(), np.split(values, np.cumsum(sizes)[:-1]), strict=True))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), values) if ragged else chunks.fixed(docids, values)

    numbers, (postings, pool) = table_of(rng, make), sparse_table(rng, False, highest=2**32)
    terms_of: dict[int, set[int]] = {}
    for c in range(len(postings.rows)):
        for term in pool.tolist():
            out = np.zeros(int(postings.docids[-1]) + 2, np.uint32)
            n = sparse.postings_union(postings.rows[c : c + 1], np.array([term], np.uint64), 0, np.zeros(1024, np.uint64), out)
            for docid in out[:n].tolist():
                terms_of.setdefault(docid, set()).add(term)
    rows = int(max(numbers.docids[-1], postings.docids[-1])) + 1
    floats = dtype is np.float64
    count = sum(map(len, drawn.values()))
    keys, owners = np.zeros(count, np.int64), np.zeros(count, np.uint32)
    (n, one), (m, other) = both("conditions.column_keys", numbers.rows, floats, ragged, keys, owners)
    assert n == m == count
    for mine, theirs in zip(one[-2:], other[-2:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    covered = int(rng.integers(0, rows + 1))
    order = np.argsort(one[-2], kind="stable")
    order = order[one[-1][order] < covered]
    keys, owners = one[-2][order].copy(), one[-1][order].copy()
    for _ in range(12):
        described, expected = [], set(range(rows))
        for place in range(int(rng.integers(1, 4))):
            negated = bool(place and rng.random() < 0.4)
            if rng.random() < 0.5:
                wanted = np.unique(rng.choice(pool, int(rng.integers(1, 4)))).tolist()
                described.append(((conditions.TERMS, negated, postings.rows.ctypes.data, len(postings.rows)), wanted, (0,) * 6))
                met = {docid for docid, terms in terms_of.items() if terms.intersection(wanted)}
            else:
                cuts = np.unique(rng.integers(-6, 7, 4))[: 2 * int(rng.integers(1, 3))]
                cuts = cuts[: len(cuts) // 2 * 2].astype(dtype)
                if not len(cuts):
                    continue
                as_keys = [int(conditions.ordered_key(int((cut + 0.0 if floats else cut).view(np.int64)), floats)) for cut in cuts]
                ready = (keys.ctypes.data, owners.ctypes.data, len(keys), covered) if rng.random() < 0.8 else (0, 0, 0, 0)
                described.append(
                    ((conditions.RANGES, negated, numbers.rows.ctypes.data, len(numbers.rows)), as_keys, (*ready, floats, ragged))
                )
                pairs = cuts.reshape(-1, 2)
                met = {docid for docid, some in drawn.items() if any(low <= value <= high for value in some for low, high in pairs)}
            expected = expected - met if negated else expected & met
        flat, listed = [], []
        base = len(described) * conditions.CONDITION_WIDTH
        for head, own, tail in described:
            flat += [*head, base + len(listed), len(own), *tail]
            listed += own
        most = 2 * (count + len(pool) * len(terms_of)) + rows
        out = np.zeros(most + 1, np.uint32)
        given = np.array(flat + listed, np.int64), len(described), rows, most, out, out.copy()
        (n, one), (m, other) = both("conditions.rows_that_meet", *given)
        assert n == m
        looked_up = [head[0] == conditions.TERMS or tail[2] > 0 for head, _, tail in described if not head[1]]
        if n == conditions.MANY:
            assert not any(looked_up)
            continue
        np.testing.assert_array_equal(one[-2][:n], other[-2][:m])
        assert one[-2][:n].tolist() == sorted(expected)
        (few_rows, _), _ = both("conditions.rows_that_meet", *given[:3], 0, *given[4:])
        assert few_rows == conditions.MANY or few_rows == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "n"), [("float32", 20), ("float32", 200), ("float16", 200)])
def test_search_few(metric, dtype, n):
    indexed = made_segment(metric, dtype)
    searched, queries = indexed.segment, held_out(3, 20)
    scratch = DenseScratch(searched.rows, searched.clusters, searched.dim)
    wanted = np.arange(indexed.docids[0], indexed.docids[n] + 1, dtype=np.uint32)  # some of them are of no row
    heaps, sizes, held = np.zeros((3, 7), np.int64), np.zeros(3, np.int64), np.zeros(len(wanted), np.bool_)
    (touched, one), (also_touched, other) = both(
        "few.search_few", searched.description, scratch.work, searched.inverse, wanted, held, queries, 7, indexed.table,
        np.zeros(len(indexed.table), np.uint8), dtype == "float16", heaps, sizes,
    )  # fmt: skip
    assert touched == also_touched > 0
    assert one[-1].tolist() == other[-1].tolist() == [7, 7, 7]
    for ran in (one, other):
        np.testing.assert_array_equal(ran[4], np.isin(wanted, searched.docids))
    same_ranking(keys_of(one[-2], one[-1], 40), keys_of(other[-2], other[-1], 40))


def test_docids_are_sorted_and_come_once():
    rng = np.random.default_rng(1)
    for n in (0, 1, 2, 24, 25, 400):
        for high in (5, 300, 70_000, 2**32):
            docids = rng.integers(0, high, n).astype(np.uint32)
            (kept, one), (also, other) = both("conditions.sort_docids", docids, n, docids.copy())
            assert kept == also
            np.testing.assert_array_equal(one[0][:kept], np.unique(docids))
            np.testing.assert_array_equal(other[0][:kept], np.unique(docids))


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
def test_ranked_lists_are_merged_by_their_sums(seed):
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(40)[: rng.integers(0, 30)] * 1000 for _ in range(rng.integers(1, 5))]
    given = [rng.integers(0, 4, len(each)) / 4 for each in lists]  # many ties
    expected = {}
    for docids, parts in zip(lists, given, strict=True):
        for docid, part in zip(docids.tolist(), parts.tolist(), strict=True):
            expected[docid] = expected.get(docid, 0.0) + part
    ranking = sorted(expected, key=lambda docid: (-expected[docid], docid))
    limit = int(rng.integers(1, 50))
    shape, lengths = (limit, len(lists)), [len(each) for each in lists]
    out = np.zeros(limit, np.int64), np.zeros(limit), np.zeros(shape, np.int64), np.zeros((3, *shape))
    docids, parts, scores = np.concatenate(lists), np.concatenate(given), rng.random(sum(lengths), np.float32)
    weights = 2.0 ** rng.integers(-2, 3, len(lists))  # powers of two: products are exact
    for each, factors in ((False, weights), (True, np.repeat(weights, lengths))):
        normal = parts / np.repeat(weights, lengths)
        lists_given = docids, scores, normal, np.cumsum(lengths), factors, each
        for count, (*_, best, sums, places, facts) in both("fusion.merge_lists", *lists_given, *out):
            assert best[:count].tolist() == ranking[:limit] and count == min(limit, len(ranking))
            assert sums[:count].tolist() == [expected[docid] for docid in ranking[:limit]]
            for a, some in enumerate(lists):
                where = {docid: at for at, docid in enumerate(some.tolist())}
                assert places[:count, a].tolist() == [where.get(docid, -1) for docid in ranking[:limit]]
                listed = [sum(lengths[:a]) + where[docid] if docid in where else -1 for docid in ranking[:limit]]
                for fact, values in zip(facts, (scores, normal, parts), strict=True):
                    assert fact[:count, a].tolist() == [float(values[i]) if i >= 0 else 0.0 for i in listed]


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


@pytest.mark.parametrize("seed", SEEDS)
def test_sorted_keys(seed):
    rng = np.random.default_rng(seed)
    for n in (0, 1, 2, int(rng.integers(3, 200))):
        keys = rng.integers(-30, 30, n)
        for _, (found,) in both("topk.sort_keys", keys):
            np.testing.assert_array_equal(found, np.sort(keys))


# Codes


def flips_of(rng, dim):
    return rng.choice(np.array([-1, 1], np.float32), (codes.ROUNDS, dim))


@pytest.mark.parametrize("dim", [1, 2, 3, 16, 24, 64, 100, 129, 256, 300, 600, 1_024])
def test_a_rotation_keeps_inner_products(dim):
    rng = np.random.default_rng(dim)
    flips = flips_of(rng, dim)
    for _, (found, *_) in both("codes.rotate", np.ones(dim, np.float32), flips):
        assert np.linalg.norm(found) == pytest.approx(math.sqrt(dim), rel=1e-5)
    rows, mean = rng.standard_normal((9, dim)).astype(np.float32), rng.standard_normal(dim).astype(np.float32)
    for unit in (False, True):
        centred = (rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows) - mean
        turned = [given[-1] for _, given in both("codes.rotate_rows", rows, unit, mean, flips, np.empty_like(rows))]
        np.testing.assert_allclose(*turned, atol=1e-5)
        np.testing.assert_allclose(turned[0] @ turned[0].T, centred @ centred.T, rtol=1e-4, atol=1e-4)
    alone = mean.copy()
    codes.rotate(alone, flips)
    zero = both("codes.rotate_rows", np.zeros((1, dim), np.float32), True, mean, flips, np.empty((1, dim), np.float32))
    for _, given in zero:  # has no direction, and none is made up
        np.testing.assert_allclose(given[-1][0], -alone, atol=1e-5)


def hadamard_matrix(n: int) -> np.ndarray:
    """Sylvester's, float64."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize("n", [1, 2, 8, 16, 32, 128, 256, 512, 2_048])
def test_hadamard_transforms(n):
    """The matrix is that of earlier versions: rows of their files were rotated with it."""
    rng = np.random.default_rng(n)
    values = rng.standard_normal(n).astype(np.float32)
    (_, (one,)), (_, (other,)) = both("hadamard.transform", values)
    np.testing.assert_allclose(one, hadamard_matrix(n) @ values / math.sqrt(n), atol=3e-6)
    np.testing.assert_allclose(one, other, atol=1e-6)
    longer = np.full(n + 3, 7, np.float32)
    longer[1 : n + 1] = values
    hadamard.transform(longer[1 : n + 1])  # at any address, and nothing around it
    assert (longer[[0, n + 1, n + 2]] == 7).all()
    np.testing.assert_array_equal(longer[1 : n + 1], one)


def test_a_rotation_spreads_one_number_over_all():
    """Whichever it is: one step then serves all numbers."""
    for dim in (64, 100, 384):
        flips = flips_of(np.random.default_rng(0), dim)
        for j in range(dim):
            row = np.zeros(dim, np.float32)
            row[j] = 1
            codes.rotate(row, flips)
            assert np.abs(row).max() < 0.6


@pytest.mark.parametrize("dim", [1, 63, 64, 65, 200])
def test_codes_are_at_most_half_a_step_off(dim):
    rng = np.random.default_rng(dim)
    numbers, step = rng.standard_normal((20, dim)).astype(np.float32), np.float32(0.02)
    stride = codes.stride_of(dim)
    assert stride % 64 == 0 and dim <= stride < dim + 64
    (_, (*_, one)), (_, (*_, other)) = both("codes.encode_rows", numbers, step, np.zeros((20, stride), np.uint8))
    assert np.abs(one.astype(int) - other).max() <= 1 and (one != other).mean() < 0.001  # a number in the middle may go either way
    back = (one[:, :dim].astype(np.float32) - codes.ZERO) * step
    inside = np.abs(numbers) <= 127 * step
    assert inside.any() and np.abs(back - numbers)[inside].max() <= 0.5001 * step
    np.testing.assert_allclose(back[~inside], np.sign(numbers[~inside]) * 127 * step, rtol=1e-5)
    assert (one[:, dim:] == codes.ZERO).all()
    given = (numbers, step, np.zeros((20, stride), np.uint8), np.zeros(20), np.zeros(20, np.float32))
    for _, (*_, made, lengths, missing) in both("codes.encode_and_measure", *given):
        assert (made != one).mean() < 0.001
        np.testing.assert_allclose(lengths, np.linalg.norm(numbers.astype(np.float64), axis=1), rtol=1e-12)
        gaps = numbers - (made[:, :dim].astype(np.float32) - codes.ZERO) * step
        np.testing.assert_allclose(missing, np.linalg.norm(gaps.astype(np.float64), axis=1), rtol=1e-4, atol=1e-6)
    for found, _ in both("codes.rounding_error", numbers, 0.02, 3.0):
        assert found == pytest.approx(float(np.square((back - numbers) / 3.0, dtype=np.float64).mean()), rel=1e-4)
    for row in numbers:
        ((step, total), (_, found)), ((other_step, _), _) = both("codes.encode_query", row, np.ones(stride, np.int8))
        assert step == pytest.approx(other_step) and total == found.sum() and not found[dim:].any()
        assert np.abs(found[:dim] * step - row).max() <= 0.5001 * step and np.abs(found).max() == 127
    (((step, total), (_, found)), _) = both("codes.encode_query", np.zeros(dim, np.float32), np.ones(stride, np.int8))
    assert step > 0 and total == 0 and not found.any()


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_inner_products_of_codes(lines):
    rng = np.random.default_rng(lines)
    for _ in range(20):
        row, query = rng.integers(0, 256, 64 * lines, np.uint8), rng.integers(-127, 128, 64 * lines).astype(np.int8)
        expected = int(row.astype(int) @ query.astype(int))
        assert dots.code_dot(row.ctypes.data, query.ctypes.data, lines) == expected
        with interpreted():
            assert dots.code_dot(row.ctypes.data, query.ctypes.data, lines) == expected


@numba.njit
def call_dots(rows, query, lines, out):
    """Each way of multiplying, into the rows of ``out``."""
    dots.plain_four(rows[0], rows[1], rows[2], rows[3], query, lines, out[0].ctypes.data)
    dots.dot_four(rows[0], rows[1], rows[2], rows[3], query, lines, out[1].ctypes.data)
    for i in range(4):
        out[2, i] = dots.plain_one(rows[i], query, lines)
        out[3, i] = dots.dot_one(rows[i], query, lines)


@pytest.mark.parametrize("lines", [1, 2, 6, 9])
def test_inner_products_of_codes_of_four_rows(lines):
    """One row may stand for several; at the ends of what a byte holds too. Nothing beyond the room is written."""
    rng = np.random.default_rng(lines)
    stride = 64 * lines
    for low, high in ((0, 256), (255, 256)):
        rows, query = aligned((10, stride), np.uint8), aligned((stride,), np.int8)
        rows[:] = rng.integers(low, high, rows.shape)
        query[:] = rng.integers(-127, 128, stride) if low == 0 else -127
        expected = rows.astype(np.int64) @ query.astype(np.int64)
        for chosen in ([0, 1, 2, 3], [9, 0, 9, 9], [5, 5, 5, 5], [7, 3, 0, 1]):
            out = np.full((4, 5), 77, np.int32)
            call_dots(rows.ctypes.data + stride * np.array(chosen), query.ctypes.data, lines, out)
            np.testing.assert_array_equal(out, [[*expected[chosen], 77]] * 4)
        for n in (0, 1, 3, 4, 5, 8, 13):
            wanted = rng.integers(0, 10, n)
            for _, (*_, found) in both(
                "dots.dot_rows", rows.ctypes.data, stride, query.ctypes.data, wanted, n, np.full(n + 1, 77, np.int32)
            ):
                np.testing.assert_array_equal(found, [*expected[wanted], 77])


@numba.njit
def call_block_distances(block, query, words, threshold, out):
    return codes.block_distances(block.ctypes.data, query.ctypes.data, words, np.uint64(threshold), out.ctypes.data)


@numba.njit
def call_nearer(distances, threshold):
    return codes.nearer(distances.ctypes.data, np.uint64(threshold))


@pytest.mark.parametrize("dim", [1, 63, 64, 65, 384, 1_000])
def test_distances_of_signs(dim):
    rng = np.random.default_rng(dim)
    words = codes.u64s_of(dim)
    rows = rng.integers(1, 256, (150, codes.stride_of(dim)), np.uint8)
    blocks = aligned((3, words, 64), np.uint64)
    blocks[:] = 0
    (_, (*_, one)), (_, (*_, other)) = both("codes.pack_signs", rows, dim, blocks)
    np.testing.assert_array_equal(one, other)
    blocks[:] = one
    signs = rows[:, :dim] > codes.ZERO
    query = rng.standard_normal(dim).astype(np.float32)
    (_, (_, word)), (_, (_, other)) = both("codes.sign_bits", query, np.ones(words, np.uint64))
    np.testing.assert_array_equal(word, other)
    apart = (signs != (query > 0)).sum(axis=1)
    out, stand_in = np.empty(64, np.uint16), np.empty(64, np.uint16)
    for block in range(3):
        there = min(64, 150 - 64 * block)
        expected = apart[64 * block : 64 * block + there]
        for threshold in (0, int(np.median(apart)), dim):
            near = call_block_distances(blocks[block], word, words, threshold, out)
            np.testing.assert_array_equal(out[:there], expected)
            found = np.unpackbits(np.array([near], np.uint64).view(np.uint8), bitorder="little").astype(bool)
            np.testing.assert_array_equal(found[:there], expected <= threshold)
            assert near == distances_of_block(blocks[block].ctypes.data, word.ctypes.data, words, threshold, stand_in.ctypes.data)
            np.testing.assert_array_equal(out, stand_in)
            assert call_nearer(out, threshold) == near


# Bitmaps


def random_bits(rng, n):
    """(words, which rows)"""
    rows = rng.random(n) < rng.choice([0.02, 0.5, 0.95])
    return np.packbits(np.append(rows, np.zeros(-n % 64, bool)), bitorder="little").view(np.uint64), rows


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_of_rows_and_of_clusters(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    bits, rows = random_bits(rng, n)
    offsets = np.sort(rng.integers(0, n + 1, 7)).astype(np.int32)
    offsets[0], offsets[-1] = 0, n
    for total, (*_, counts) in both("bitset.passing_of_clusters", bits, offsets, np.ones(6, np.int32)):
        assert counts.tolist() == [int(rows[low:high].sum()) for low, high in itertools.pairwise(offsets)]
        assert total == rows.sum()
    for low, high in [(0, n), *itertools.pairwise(offsets.tolist())]:
        expected = low + np.flatnonzero(rows[low:high])
        for filtered, wanted in ((True, expected), (False, np.arange(low, high))):
            for found, (*_, out) in both("bitset.gather", filtered, bits, low, high, np.zeros(n, np.int32)):
                np.testing.assert_array_equal(out[:found], wanted)
        if low < high:
            for w in range(low >> 6, ((high - 1) >> 6) + 1):
                inside = (np.arange(64 * w, 64 * w + 64) >= low) & (np.arange(64 * w, 64 * w + 64) < high)
                own = np.append(rows, np.zeros(64, bool))[64 * w : 64 * w + 64]
                for filtered, wanted in ((True, inside & own), (False, inside)):
                    assert {result for result, _ in both("bitset.bits_between", filtered, bits, w, low, high)} == {mask_of(wanted)}
    for row in range(n):
        assert bitset.passes(bits, row) == rows[row]


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_of_docids(seed):
    """Docids before, between and behind a segment's; and places in a damaged file that don't exist."""
    rng = np.random.default_rng(seed)
    first, n = int(rng.integers(0, 50)), int(rng.integers(1, 200))
    docids = first + np.sort(rng.choice(2 * n, n, replace=False)).astype(np.uint32)
    first = int(docids[0])
    inverse = np.full(int(docids[-1]) - first + 1, -1, np.int32)
    inverse[docids - first] = rng.permutation(n)
    wanted = np.flatnonzero(rng.random(int(docids[-1]) + 30) < 0.5).astype(np.uint32)
    expected = np.zeros(-(-n // 64) * 64, bool)
    expected[inverse[np.intersect1d(wanted, docids) - first]] = True
    for _, (*_, bits) in both("bitset.local_bits", wanted, inverse, first, np.full(-(-n // 64), 7, np.uint64)):
        np.testing.assert_array_equal(np.unpackbits(bits.view(np.uint8), bitorder="little"), expected)
    for _, (*_, bits) in both("bitset.local_bits", wanted, np.full_like(inverse, 2**31 - 1), first, np.zeros(-(-n // 64), np.uint64)):
        assert not bits.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_filters_for_calibration(seed):
    rng = np.random.default_rng(seed)
    offsets, shares = np.array([0, 100, 100, 4_000], np.int32), np.array([1.0, 0.5, 0.3])
    noise = rng.integers(0, 65_536, 5_000, dtype=np.uint16)
    start = int(rng.integers(5_000))
    (_, (*_, one)), (_, (*_, other)) = both("bitset.random_filter", offsets, shares, noise, start, np.full(63, 9, np.uint64))
    np.testing.assert_array_equal(one, other)
    rows = np.unpackbits(one.view(np.uint8), bitorder="little")
    assert rows[:100].all() and rows[100:4_000].mean() == pytest.approx(0.3, abs=0.05) and not rows[4_000:].any()
    scores = rng.integers(-20, 20, 4_000).astype(np.float32)
    for blur, above, below in ((0.0, 1.0, 0.0), (0.0, 0.5, 0.1), (8.0, 1.0, 0.0)):
        given = (scores, np.float32(0), blur, above, below, noise, start, np.full(63, 9, np.uint64))
        (_, (*_, made)), (_, (*_, other)) = both("bitset.filter_by_score", *given)
        np.testing.assert_array_equal(made, other)
        passing = np.unpackbits(made.view(np.uint8), bitorder="little")[:4_000] != 0
        assert passing[scores >= blur].mean() == pytest.approx(above, abs=0.05)
        assert passing[scores < -blur].mean() == pytest.approx(below, abs=0.05)
        if blur:
            assert 0.2 < passing[np.abs(scores) < 4].mean() < 0.8
    for filtered, wanted in ((True, scores[rows[:4_000] != 0]), (False, scores)):
        for k in (1, 10, 5_000):
            expected = np.sort(wanted)[::-1][: min(k, len(wanted))][-1]
            assert [result for result, _ in both("planner.kth_score", scores, filtered, one, k)] == [expected, expected]
    assert [result for result, _ in both("planner.kth_score", scores, True, np.zeros_like(one), 3)] == [-np.inf, -np.inf]


# The planner


@pytest.mark.parametrize("seed", SEEDS)
def test_predictions_lie_between_what_was_measured(seed):
    rng = np.random.default_rng(seed)
    levels, locals_ = np.array([1.0, -0.5, -2.0, -5.0])[: 2 + seed % 3], np.array([-8.0, -1.0, 0.0, 3.0])[: 1 + seed % 4]
    table = rng.random((len(levels) * len(locals_), 3)).astype(np.float32)
    grid = table.reshape(len(levels), len(locals_), 3)

    def predicted(share, local):
        for _, (*_, cells, weights) in both("planner.weights_of", levels, locals_, share, local, np.zeros(4, np.int64), np.zeros(4)):
            assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
            (one, _), (other, _) = both("planner.predict", 1, cells, weights, table)
            assert one == pytest.approx(other)
        return one

    for i, share in enumerate(levels):
        for j, local in enumerate(locals_):
            assert predicted(share, local) == pytest.approx(grid[i, j, 1])
    assert predicted(levels[-1] - 4, 99.0) == pytest.approx(grid[-1, -1, 1])  # beyond the last: as there
    assert predicted(levels[0], -99.0) == pytest.approx(grid[0, 0, 1])
    between = predicted((levels[0] + levels[1]) / 2, locals_[0])
    assert between == pytest.approx((grid[0, 0, 1] + grid[1, 0, 1]) / 2)
    if len(locals_) > 1:
        assert predicted(levels[1], (locals_[0] + locals_[1]) / 2) == pytest.approx((grid[1, 0, 1] + grid[1, 1, 1]) / 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("graph_there", [False, True])
def test_the_cheapest_setting_that_reaches_the_target_is_chosen(seed, graph_there):
    rng = np.random.default_rng(seed)
    settings = settings_of(PLANS)
    plans = settings[:, planner.PLAN].astype(int)
    recalls, costs = rng.random((1, len(settings))).astype(np.float32), (rng.random((1, len(settings))) * 100).astype(np.float32)
    corrections = np.stack([-0.1 * rng.random(len(PLANS)), 1 + rng.random(len(PLANS))])
    cells, weights = np.zeros(4, np.int64), np.array([1.0, 0, 0, 0])
    exact, scan = plans == planner.EXACT, plans == planner.SCAN
    recalls[0, scan] = rng.choice([0.5, 0.98])
    for target, growth, extra in itertools.product((0.2, 0.8, 0.99, 1.0), (1.0, 4.0), (0.0, 0.003, 0.3)):
        arguments = (settings, recalls, costs, corrections, cells, weights, target, graph_there, growth, extra)
        (one, _), (other, _) = both("planner.choose", *arguments)
        assert one == other
        needed = target + min((1 - target) / 2, planner.MARGIN)
        expected = recalls[0] + corrections[0, plans]
        expected[scan & (expected >= planner.SEEN_TO_MISS)] = max(needed, float(expected[scan].max()))
        expected = np.where(exact, 1.0, np.minimum(expected, planner.NOT_EXACT))
        larger = costs[0].astype(np.float64)
        if growth > 1:
            whole = np.isin(plans, planner.FULL_COST_PLANS)
            full, again = larger[exact], planner.MORE * extra
            unsure = full if again * planner.FEW > 1 else larger[scan] + again * planner.SCATTERED * full
            larger = np.where(exact, larger, np.where(whole, larger + extra * planner.SCATTERED * full, larger * growth))
            larger[scan] += unsure
        made = [both("planner.cost_of", s, settings, cells, weights, costs, int(exact.argmax()), growth, extra) for s in range(len(plans))]
        np.testing.assert_allclose([[result for result, _ in pair] for pair in made], np.stack([larger, larger], axis=1), rtol=1e-6)
        usable = graph_there | ~np.isin(plans, planner.GRAPH_PLANS)
        cost, bare = (np.where((expected >= least) & usable, larger * corrections[1, plans], np.inf) for least in (needed, target))
        chosen, safe = one
        assert chosen == (bare if cost.min() > planner.MUCH_CHEAPER * bare.min() else cost).argmin()
        assert safe == np.where(np.isin(plans, planner.TERMINATING_PLANS), cost, np.inf).argmin()
        if target == 1:
            assert plans[chosen] == planner.EXACT
    others = ~exact
    given = (settings[others], recalls[:, others], costs[:, others], corrections, cells, weights, 2.0, True, 1.0, 0.0)
    without = both("planner.choose", *given)
    best = int(np.minimum(recalls[0] + corrections[0, plans], planner.NOT_EXACT)[others].argmax())
    assert [chosen for (chosen, _), _ in without] == [best, best]  # none reaches it


@pytest.mark.parametrize(("k", "expected"), [(3, (1.0, 0.0)), (10, (1.0, 0.0)), (25, (2.5, 0.6)), (1_000, (100.0, 1.0))])
def test_more_results_than_were_measured_cost_more(k, expected):
    assert [result for result, _ in both("planner.beyond", k, 10, 100)] == [pytest.approx(expected)] * 2


def test_a_plan_is_found_wherever_it_stands_in_a_table():
    table = np.array([[4.0, 0, 0], [0, 0, 0], [7, 0, 0], [0, 1, 0]])
    for plan, expected in ((0, 1), (7, 2), (5, -1)):
        assert [result for result, _ in both("planner.setting_of", table, plan)] == [expected] * 2


@pytest.mark.parametrize(("local", "share", "expected"), [(0.5, 0.5, 0.0), (0.0, 0.1, -8.0), (0.4, 0.1, 2.0), (1e-9, 0.5, -8.0)])
def test_rho(local, share, expected):
    assert [result for result, _ in both("planner.log_correlation", local, share)] == [pytest.approx(expected)] * 2


def test_a_scan_costs_in_proportion_to_what_matches():
    levels, locals_ = np.array([1.0, -2.0]), np.array([-8.0, 0.0, 4.0])
    costs = np.arange(12, dtype=np.float32).reshape(6, 2)  # a quarter of all rows costs 6
    assert [result for result, _ in both("planner.scan_cost", levels, locals_, costs, 0, 1 / 32)] == [pytest.approx(6 / 8)] * 2


# Graphs


@pytest.mark.parametrize("seed", SEEDS)
def test_a_heap_of_candidates_gives_the_best_first(seed):
    rng = np.random.default_rng(seed)
    for mode in (contextlib.nullcontext(), interpreted()):
        with mode:
            keys = rng.integers(-50, 50, 60)
            heap, n = np.empty(60, np.int64), 0
            for key in keys:
                n = topk.push_best(heap, n, key)
            made = keys.copy()
            assert topk.heap_of_best(made, len(made)) == len(made)
            for each in (heap, made):
                taken, n = [], len(keys)
                while n:
                    taken.append(each[0])
                    n = topk.pop_best(each, n)
                assert taken == sorted(keys, reverse=True)
            for score, row in ((-1.5, 3), (0.0, 0), (3e38, 2**32 - 1)):
                key = topk.make_key(np.float32(score), row)
                assert topk.score_of(key) == np.float32(score) and topk.row_of(key) == row


class Links:
    """A random graph over rows of random codes, whose scores are exact in float32."""

    def __init__(self, seed, biased):
        rng = self.rng = np.random.default_rng(seed)
        self.n, self.degree, self.stride = int(rng.integers(2, 300)), 8, 64
        self.codes = aligned((self.n, self.stride), np.uint8)
        self.codes[:] = rng.integers(96, 160, self.codes.shape)
        self.query = aligned((self.stride,), np.int8)
        self.query[:] = rng.integers(-9, 10, self.stride)
        self.offset = 128 * int(self.query.astype(int).sum())
        self.bias = rng.integers(-90, 90, self.n).astype(np.float32) if biased else np.empty(0, np.float32)
        self.biased = biased
        self.graph = np.ascontiguousarray(rng.integers(-1, self.n, (self.n, self.degree)), np.int32)
        self.graph.sort(axis=1)
        self.graph = np.ascontiguousarray(self.graph[:, ::-1])
        self.graph[rng.integers(self.n), 0] = self.n + 7  # as in a damaged file
        self.bits, self.passing = random_bits(rng, self.n)
        scores = (self.codes.astype(np.int64) @ self.query.astype(np.int64) - self.offset) * 0.5
        self.scores = (scores + (self.bias if biased else 0)).astype(np.float32)

    def scoring(self):
        return scoring.Scoring(
            self.codes.ctypes.data, self.stride, self.query.ctypes.data, np.float32(0.5), self.offset, self.bias, self.biased
        )

    def key(self, row):
        return topk.make_key(self.scores[row], row)

    @property
    def links(self):
        return beam.Links(self.n, self.graph.ctypes.data, self.degree)

    def reach(self):
        """The score at distance 0: a little more than any row's."""
        return float(self.scores.max()) + 3.0

    def visits(self, starts):
        """Marks of a search that begins at ``starts``, one more than rows."""
        visited = np.zeros(self.n + 1, np.uint8)
        visited[starts] = 4
        return visited

    def heaps(self, starts, count, passing):
        """(candidates, their number, results, their number) of a search that begins at ``starts``."""
        candidates, results, n, size = np.empty(self.n + 200, np.int64), np.empty(count, np.int64), 0, 0
        for row in starts:
            n = topk.push_best(candidates, n, self.key(row))
            if passing[row]:
                size = topk.offer(results, size, count, self.key(row))
        return candidates, n, results, size

    def best(self, rows, count):
        """The highest keys of some rows."""
        return sorted((self.key(row) for row in rows), reverse=True)[:count]


def scratch_of_links():
    return np.zeros(beam.MOST_LINKS + 4, np.int64), np.zeros(beam.MOST_LINKS + 4, np.int32)


# K, γ, the most rows scored. With a γ of 1e9 all that links lead to is near enough.
ENDINGS = ((1, 0.0, 1_000), (10, 0.0, 1_000), (10, 0.3, 1_000), (10, 1e9, 1_000), (400, 0.0, 1_000), (10, 0.3, 5))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_scores_of_several_rows(seed, biased):
    links = Links(seed, biased)
    keys = np.array([links.key(row) for row in range(links.n)])
    for n in {0, 1, 2, 3, 4, 5, 7, links.n // 2, links.n}:
        n = min(n, links.n)
        for _, (*_, found) in both("scoring.score_each", links.scoring(), n, np.full(links.n + 1, 77)):
            np.testing.assert_array_equal(found[:n], keys[:n])
            assert (found[n:] == 77).all()
        rows = links.rng.permutation(links.n)[:n].astype(np.int32)
        for r in (1, 9, links.n):
            for size, (*_, heap, _, _) in both("scoring.score_rows", links.scoring(), rows, n, np.zeros(links.n + 1, np.int64), 0, r):
                np.testing.assert_array_equal(np.sort(heap[:size])[::-1], np.sort(keys[rows])[::-1][:r])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_sorted_beam(seed, biased):
    links = Links(seed, biased)
    for row in range(min(links.n, 9)):
        for score, _ in both("scoring.code_score", links.scoring(), row):
            assert score == links.scores[row]
    product = int(links.codes[0].astype(np.int64) @ links.query.astype(np.int64))
    (first, _), (same, _) = both("beam.buffer_key", links.scoring(), np.int32(product), 0)
    assert first == same and first & 1 and beam.row_in(first) == 0
    assert all(key == links.key(0) for key, _ in both("beam.result_key", links.scoring(), first))
    for (count, gamma, cap), most in itertools.product(ENDINGS, (500, 40)):
        buffer = np.zeros(500, np.int64)
        buffer[0] = first
        ending = beam.Ending(count, gamma, links.reach(), cap)
        given = (links.scoring(), links.links, ending, 20, max(most, count), links.visits([0]), np.uint8(4), buffer, 1, *scratch_of_links())
        ((size, scored), one), ((others_size, others_scored), other) = both("beam.sorted_beam", *given)
        assert (size, scored) == (others_size, others_scored)
        np.testing.assert_array_equal(one[7][:size], other[7][:size])
        np.testing.assert_array_equal(one[5], other[5])
        visited = np.flatnonzero(one[5][: links.n] == 4)
        assert scored == len(visited) - 1 <= cap + links.degree
        keys = one[7][:size]
        rows = [beam.row_in(key) for key in keys]
        assert (keys[:-1] > keys[1:]).all() and len(set(rows)) == len(rows) and set(rows) <= set(visited.tolist())
        found = [beam.result_key(links.scoring(), key) for key in keys]
        assert found == [links.key(row) for row in rows]
        # Rows of equal score come in another order in the buffer.
        assert [topk.score_of(key) for key in found[:count]] == [topk.score_of(key) for key in links.best(visited, count)][: len(found)]
        assert len(found) >= min(count, len(visited))
        if gamma > 1 and most >= links.n:
            assert set(rows) == set(visited.tolist()) and not (keys & 1).any()
        if cap == 1_000 and most >= links.n:  # it ended where no row near enough is left to be expanded
            limit = beam.farthest(float(topk.score_of(found[count - 1])), ending) if len(found) >= count else -np.inf
            assert all(topk.score_of(each) <= limit + 1e-3 for key, each in zip(keys, found, strict=True) if key & 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_filtered_beam(seed, biased):
    links = Links(seed, biased)
    for count, gamma, cap in ENDINGS:
        ending = beam.Ending(count, gamma, links.reach(), cap)
        candidates, n, results, size = links.heaps([0], count, links.passing)
        given = (links.scoring(), links.links, ending, links.bits, links.visits([0]), np.uint8(4), candidates, n, results, size)
        ((size, scored), one), (other, copies) = both("beam.filtered_beam", *given, *scratch_of_links())
        assert (size, scored) == other
        np.testing.assert_array_equal(one[8][:size], copies[8][:size])
        np.testing.assert_array_equal(one[4], copies[4])
        visited = np.flatnonzero(one[4][: links.n] == 4)
        assert scored == len(visited) - 1 <= cap + links.degree
        best = links.best(visited[links.passing[visited]], count)
        assert sorted(one[8][:size].tolist(), reverse=True) == best


@pytest.mark.parametrize("biased", [False, True])
def test_a_beam_goes_farther_with_a_larger_gamma(biased):
    """Over all seeds, so that it holds whatever the graph of one is."""
    visited = []
    for gamma in (0.0, 0.2, 0.6, 1e9):
        total = 0
        for seed in SEEDS:
            links = Links(seed, biased)
            buffer = np.zeros(500, np.int64)
            buffer[0] = beam.buffer_key(links.scoring(), np.int32(links.codes[0].astype(np.int64) @ links.query.astype(np.int64)), 0)
            ending = beam.Ending(3, gamma, links.reach(), 1_000)
            marks = links.visits([0])
            total += beam.sorted_beam(
                links.scoring(), links.links, ending, 5, 500, marks, np.uint8(4), buffer, 1, *scratch_of_links()
            )[1]  # fmt: skip
        visited.append(total)
    assert visited == sorted(visited) and visited[0] < visited[1] < visited[2] < visited[3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_two_hop(seed, biased):
    links = Links(seed, biased)
    starts = np.flatnonzero(links.passing)[:3]
    for ef, cap in ((1, 1_000), (10, 1_000), (400, 1_000), (10, 5)):
        given = (
            links.scoring(),
            links.links,
            links.bits,
            ef,
            cap,
            links.visits(starts),
            np.uint8(4),
            *links.heaps(starts, ef, links.passing),
        )
        ((size, scored), one), (other, copies) = both("graph.acorn", *given)
        assert (size, scored) == other
        np.testing.assert_array_equal(one[9][:size], copies[9][:size])
        np.testing.assert_array_equal(one[5], copies[5])
        results, visited = np.sort(one[9][:size])[::-1], one[5][: links.n] == 4
        rows = [topk.row_of(key) for key in results]
        assert links.passing[rows].all() and len(set(rows)) == len(rows)
        assert scored == (visited & links.passing).sum() - len(starts) <= cap + 64 + links.degree
        np.testing.assert_array_equal(results, links.best(np.flatnonzero(visited & links.passing), ef))


@pytest.mark.parametrize("seed", SEEDS)
def test_descend(seed):
    links = Links(seed, bool(seed % 2))
    rng, degree = links.rng, 4
    count = min(links.n, 20)
    rows = rng.permutation(links.n)[:count].astype(np.int32)
    levels = rng.integers(1, 4, count)
    offsets = (np.cumsum(levels) - levels).astype(np.int32)
    upper = np.full((int(levels.sum()), degree), -1, np.int32)
    for slot in range(count):
        for level in range(1, levels[slot] + 1):
            others = np.flatnonzero(levels >= level)
            chosen = rng.choice(others, min(degree, len(others)), replace=False)
            upper[offsets[slot] + level - 1, : len(chosen)] = chosen
    top = int(levels.max())
    start = int(levels.argmax())
    given = (links.scoring(), rows, offsets, upper.reshape(-1), degree, start, top)
    (one, _), (other, _) = both("graph.descend", *given)
    assert one == other
    neighbours = [slot for slot in upper[offsets[one]] if slot >= 0]
    assert all(links.scores[rows[slot]] <= links.scores[rows[one]] for slot in neighbours)
    assert links.scores[rows[one]] >= links.scores[rows[start]]


# Segments


@functools.cache
def made_segment(metric, dtype):
    """320 rows of 20 numbers in some 15 clusters. Those of float16 have gaps between their docids."""
    docids = np.arange(320, dtype=np.uint32) if dtype == "float32" else np.flatnonzero(np.arange(500) % 3 < 2)[:320].astype(np.uint32)
    return Indexed(clustered(3, 320, 20), metric, dtype, docids, GRAPH_ROWS=50, ROWS_A_CLUSTER=20, SCANNED=50)


@pytest.mark.parametrize(("metric", "dtype"), list(itertools.product(METRICS, ["float32", "float16"])))
@pytest.mark.parametrize("plan", [-1, *PLANS], ids=["chosen", *(plan.name for plan in PLANS.values())])
def test_search_segment(metric, dtype, plan):
    indexed = made_segment(metric, dtype)
    searched = indexed.segment
    model = searched.models[0]
    table = model.settings
    settings = np.flatnonzero(table[:, planner.PLAN] == plan)
    if plan >= 0 and not len(settings):  # a plan of files of earlier versions
        table, settings = np.vstack([table, (plan, 4, 0)]), [len(table)]
    forced = -1 if plan < 0 else int(settings[min(1, len(settings) - 1)])
    queries = held_out(3, 20)
    rng = np.random.default_rng(plan + 1)
    scratch = DenseScratch(searched.rows, searched.clusters, searched.dim)
    for wanted, k in itertools.product((None, indexed.docids[rng.random(320) < 0.5], indexed.docids[200:230]), (3, 30)):
        if wanted is None and plan >= 0 and "filter" in PLANS[plan].needs:
            continue
        allowed = SegmentMask(searched, wanted)
        heaps, sizes, report = np.zeros((3, k), np.int64), np.zeros(3, np.int64), np.zeros((3, layout.REPORT_WIDTH))
        (touched, one), (also_touched, other) = both(
            "segment.search_segment", searched.description, scratch.work, table, model.levels, model.correlations, model.table,
            model.costs, searched.corrections.table, 0.95, forced, model.depth, allowed.filtered, allowed.bits, allowed.counts,
            allowed.matches, queries, k, indexed.table, np.zeros(len(indexed.table), np.uint8), dtype == "float16", heaps, sizes, report,
        )  # fmt: skip
        assert touched and also_touched and (one[-5] == 2).all() and (other[-5] == 2).all()
        np.testing.assert_array_equal(one[-2], other[-2])
        same_ranking(keys_of(one[-3], one[-2], 40), keys_of(other[-3], other[-2], 40))
        exact = [layout.R_SETTING, layout.R_SCORED, layout.R_FALLBACK]
        np.testing.assert_array_equal(one[-1][:, exact], other[-1][:, exact])
        np.testing.assert_allclose(one[-1], other[-1], rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_bounded_scores(metric):
    indexed = made_segment(metric, "float32")
    found = indexed.segment
    query = held_out(1, 20)[0]
    for wanted, floor in ((None, -np.inf), (indexed.docids[::3].copy(), -np.inf), (None, 0.0)):
        allowed = SegmentMask(found, wanted)
        arguments = (allowed.filtered, allowed.bits[0], 10, 300, found.residual_norms, found.max_norm, floor, np.zeros(30, np.int64))
        codes_of_query = aligned((found.description[layout.STRIDE],), np.int8)
        (one, given), (other, also) = both("bounded.bounded_topk", found.description, query, codes_of_query, *arguments)
        assert one[0] == other[0] and one[1:] == pytest.approx(other[1:], rel=1e-4)
        same_ranking(keys_of([given[-1]], [one[0]], 40), keys_of([also[-1]], [other[0]], 40))


@pytest.mark.parametrize("gap", [1, 3])
def test_ids_of_integer_points_are_read_out_of_their_records(gap):
    ids = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1]
    docids = 5 + gap * np.arange(len(ids) + 1)
    records = [format.pack_row(format.row_of(value, {"a": 1}, None)) for value in [*ids, "a string"]]
    offsets = np.concatenate([[0], np.cumsum([len(record) for record in records])])
    table = Table([chunks.ragged(docids, offsets, np.frombuffer(b"".join(records), np.uint8))])
    wanted = docids[:-1][::-1].copy()

    def ran(rows, verified=1):
        found = []
        for result, given in both("columns.integer_ids", table.rows, rows, np.full(1, verified, np.uint8), np.zeros(len(rows), np.uint64)):
            found.append((bool(result), given[-1].tolist() if result else None))
        assert found[0] == found[1]
        return found[0]

    assert ran(wanted) == (True, ids[::-1])
    assert ran(docids) == (False, None)  # a string among them
    assert ran(wanted, verified=0) == (False, None)
    assert ran(np.array([4])) == (False, None)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spread", ["hashes", "consecutive", "one"])
def test_locate_terms(seed, spread):
    rng = np.random.default_rng(seed)
    pools = {"hashes": rng.integers(0, 2**64, 40, dtype=np.uint64), "consecutive": np.arange(7, 50, dtype=np.uint64), "one": [2**64 - 1]}
    terms = np.unique(np.array(pools[spread], np.uint64))
    asked = np.concatenate([rng.permutation(terms), rng.integers(0, 2**64, 5, dtype=np.uint64), terms[:1] - np.uint64(1)])
    (_, one), (_, other) = both("impact_lists.locate_terms", terms, asked, np.zeros(len(asked), np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    at = np.searchsorted(terms, asked)
    known = (at < len(terms)) & (terms[np.minimum(at, len(terms) - 1)] == asked)
    np.testing.assert_array_equal(one[-1], np.where(known, at, -1))


@pytest.mark.parametrize("seed", SEEDS)
def test_impact_ordered_lists_hold_each_posting_once(seed):
    rng = np.random.default_rng(seed)
    rows, vocabulary, levels = int(rng.integers(1, 40)), int(rng.integers(1, 12)), int(rng.integers(1, 6))
    held = rng.random((rows, vocabulary)) < 0.4
    row_at = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    terms = np.nonzero(held)[1].astype(np.uint16)
    level = rng.integers(0, levels, len(terms)).astype(np.uint8)
    low, high = sorted(rng.integers(0, rows + 1, 2).tolist())
    (_, one), (_, other) = both("impact_build.count_postings", row_at, terms, low, high, np.ones(vocabulary, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    np.testing.assert_array_equal(one[-1], held[low:high].sum(axis=0))
    ends, size = np.cumsum(one[-1]), int(one[-1].sum())
    given = (row_at, terms, level, low, high, ends - one[-1], np.zeros(size, np.uint16), np.zeros(size, np.uint8))
    (_, one), (_, other) = both("impact_build.fill_lists", *given)
    docs, own = one[-2:]
    np.testing.assert_array_equal(docs, other[-2])
    np.testing.assert_array_equal(own, other[-1])
    runs = np.zeros(3 * size, np.uint16)
    (used, one), (also, other) = both("impact_build.write_runs", ends, docs, own, levels, np.zeros(vocabulary + 1, np.uint32), runs)
    assert used == also
    np.testing.assert_array_equal(one[-1], other[-1])
    begins, found = one[-2], set()
    assert begins[-1] == used
    for term in range(vocabulary):
        at, before = int(begins[term]), -1
        while at < begins[term + 1]:
            run_level, count = one[-1][at : at + 2].tolist()
            assert run_level > before and count
            found |= {(term, run_level, low + doc) for doc in one[-1][at + 2 : at + 2 + count].tolist()}
            at, before = at + 2 + count, run_level
    inside = np.arange(row_at[low], row_at[high])
    owners = np.repeat(np.arange(rows), np.diff(row_at))
    assert found == set(zip(terms[inside].tolist(), level[inside].tolist(), owners[inside].tolist(), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_terms_are_numbered_by_a_hash_table(seed):
    rng = np.random.default_rng(seed)
    terms = np.append(rng.choice(rng.integers(0, 2**64, 30, dtype=np.uint64), 80), np.uint64(0))
    vocabulary, slots = np.unique(terms), 32
    keys, held = np.zeros(slots, np.uint64), np.full(slots, impact_build.EMPTY)
    (stopped, one), (also, other) = both("impact_build.note_terms", terms, 3, keys, held, 0)
    assert tuple(stopped) == tuple(also) and stopped[0] < len(terms) and stopped[1] == slots // 2
    np.testing.assert_array_equal(one[3], other[3])
    keys, held = np.zeros(128, np.uint64), np.full(128, impact_build.EMPTY)
    (stopped, one), _ = both("impact_build.note_terms", terms, 0, keys, held, 0)
    assert tuple(stopped) == (len(terms), len(vocabulary))
    keys, held = one[2], one[3]
    np.testing.assert_array_equal(np.sort(keys[held != impact_build.EMPTY]), vocabulary)
    (_, one), (_, other) = both("impact_build.number_terms", vocabulary, keys, held)
    np.testing.assert_array_equal(one[-1], other[-1])
    (_, one), (_, other) = both("impact_build.places_of", terms, keys, one[-1], np.zeros(len(terms), np.uint16))
    np.testing.assert_array_equal(one[-1], np.searchsorted(vocabulary, terms))
    np.testing.assert_array_equal(one[-1], other[-1])


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_of_windows_are_joined_by_term(seed):
    """Each level of a term once, with a run of each window that has it."""
    rng = np.random.default_rng(seed)
    terms, levels, windows = 5, 4, 3
    starts, runs, expected = [], [], {}
    for window in range(windows):
        begins, own = [0], []
        for term in range(terms):
            for level in np.flatnonzero(rng.random(levels) < 0.4).tolist():
                docs = np.flatnonzero(rng.random(20) < 0.3).tolist() or [0]
                own += [level, len(docs), *docs]
                expected.setdefault((term, level), []).extend([window, len(docs), *docs])
            begins.append(len(own))
        starts.append(np.array(begins, np.uint32))
        runs.append(np.array(own, np.uint16))
    addresses = [np.array([array.ctypes.data for array in arrays], np.int64) for arrays in (starts, runs)]
    (_, one), (_, other) = both("impact_build.measure_lists", *addresses, levels, 0, terms, np.zeros(terms, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    list_at = np.append(0, np.cumsum(one[-1]))
    out = np.zeros(int(list_at[-1]), np.uint16)
    (_, one), (_, other) = both("impact_build.join_lists", *addresses, levels, 0, terms, list_at, out)
    np.testing.assert_array_equal(one[-1], other[-1])
    found = {}
    for term in range(terms):
        mine = one[-1][list_at[term] : list_at[term + 1]].tolist()
        at = 1 + 3 * mine[0] if mine else 0
        for level, low, high in zip(mine[1:at:3], mine[2:at:3], mine[3:at:3], strict=True):
            found[term, level] = mine[at : at + low + 65_536 * high]
            at += low + 65_536 * high
        assert at == len(mine)
    assert found == expected and list(found) == sorted(found)


def test_all_sums_are_above_scores():
    indexed = sparse_segment("valued")
    searched = indexed.segment
    space = ImpactScratch(searched.rows, searched.vocabulary)
    terms, weights = sparse_indexed.query_of(sparse_indexed.texts(4, 8, 60, 8), 0)
    out = np.ones(impact_layout.BLOCK_ROWS, np.uint16)
    (_, one), (_, other) = both("impact.all_sums", searched.description, space.work, terms, weights, out)
    np.testing.assert_array_equal(one[-1], other[-1])
    ((docids, scores),) = indexed.exact([(terms, weights)], searched.rows)
    sums = one[-1].astype(np.float64)
    assert not sums[searched.rows :].any() and np.count_nonzero(sums) == len(docids)
    assert (sums[docids] / sums[docids].max() >= 0.5 * scores / scores.max()).all()


@functools.cache
def sparse_segment(kind: str) -> sparse_indexed.Indexed:
    column = sparse_indexed.texts(2, 150, 60, 8)
    if kind == "wide":
        more = np.random.default_rng(0).integers(2**40, 2**64, 66_000, dtype=np.uint64)
        column = sparse_indexed.columns([column.terms[:8], np.unique(more)[:65_530]], [column.weights[:8], np.ones(65_530)])
    if kind == "binary":
        column = dataclasses.replace(column, weights=np.ones_like(column.weights))
    if kind == "signed":
        signs = np.where(np.random.default_rng(1).random(len(column.weights)) < 0.3, -1, 1)
        column = dataclasses.replace(column, weights=(column.weights * signs).astype(np.float32))
    if kind == "counted":
        column = dataclasses.replace(column, weights=np.ceil(4 * column.weights))
        return sparse_indexed.Indexed(column, saturation=sparse_indexed.saturation_of(column, 1.0))
    return sparse_indexed.Indexed(column, binary=kind == "binary")


@pytest.mark.parametrize("kind", ["valued", "binary", "wide", "counted", "signed"])
@pytest.mark.parametrize("setting", range(0, len(sparse_calibrate.SETTINGS), 3))
def test_search_impacts(kind, setting):
    if kind == "wide" and setting:
        pytest.skip("65,536 terms take long, and differ in how a row is read only")
    indexed = sparse_segment(kind)
    searched = indexed.segment
    plan, share, misses = sparse_calibrate.SETTINGS[setting].tolist()
    space = ImpactScratch(searched.rows, searched.vocabulary)
    for seed, k, filtered in itertools.product(range(2), (3, 20), (True, False)):
        rng = np.random.default_rng(seed)
        terms = np.unique(rng.choice(searched.sections["terms"][:60], 5))
        weights = (rng.random(len(terms)) + 0.1).astype(np.float32)
        weights[: kind == "signed"] *= -1
        bits = searched.every_bit & (rng.integers(0, 2**64, len(searched.every_bit), dtype=np.uint64) if filtered else ~np.uint64(0))
        heap, report = np.zeros(k, np.int64), np.zeros(impact_layout.REPORT_WIDTH, np.int64)
        given = (int(plan), share, misses, k, int(np.bitwise_count(bits).sum()), bits, terms, weights, heap, report)
        (size, one), (also, other) = both("impact.search_impacts", searched.description, space.work, searched.saturation, *given)
        assert size == also
        np.testing.assert_array_equal(one[-1], other[-1])
        same_ranking(keys_of([one[-2]], [size], 5.0), keys_of([other[-2]], [also], 5.0))
        assert not space._arrays[impact_layout.QUERY].any()  # left clean for the next query


def test_pack():
    docids, scores = np.array([3, 0, 2**32 - 1]), np.array([1.5, -2, 0], np.float32)
    (_, one), (_, other) = both("topk.pack", docids, scores, np.zeros(3, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    ((found, ranked, _),) = keys_of([one[-1]], [3], 1)
    assert found.tolist() == [3, 2**32 - 1, 0] and ranked.tolist() == [1.5, 0, -2]


def test_no_kernel_is_without_a_test():
    """A new kernel belongs into a test above, or is called by one that is there."""
    nested = {
        "beam.buffer_bound",
        "beam.farthest",
        "beam.insert",
        "beam.row_in",
        "beam.score_bound",
        "beam.score_links",
        "binary_scan.binary_scan",
        "binary_scan.keep_near",
        "binary_scan.near_blocks",
        "binary_scan.tighten",
        "clusters.nearest_cluster",
        "clusters.nearest_few",
        "clusters.search_clusters",
        "clusters.selectivity_near",
        "columns.holds_phrase",
        "columns.holds_words",
        "columns.integer_of",
        "columns.span_of",
        "dense.cosine_of",
        "dense.first_row",
        "dense.next_position",
        "dense.place_of",
        "dense.score_long_row",
        "dense.score_row",
        "dense.select",
        "dense.widest",
        "dense.within",
        "fusion.comes_before",
        "fusion.sink",
        "graph.enter",
        "graph.next_mark",
        "graph.search_graph",
        "graph.seed",
        "impact.add_window",
        "impact.by_bounds",
        "graph.top_row",
        "hadamard.add_and_subtract",
        "impact.by_impacts",
        "impact.kth_of",
        "impact.least_sum",
        "impact.rows_of_sums",
        "impact_build.measure_list",
        "impact_build.slot_of",
        "impact_lists.add_block",
        "impact_lists.contributions_of",
        "impact_lists.first_of_blocks",
        "impact_lists.least_contribution",
        "impact_lists.narrow_scale",
        "impact_lists.place_terms",
        "impact_lists.postings_of",
        "impact_rows.counted_score",
        "impact_rows.gaps_of",
        "impact_rows.in_order_of_terms",
        "impact_rows.learn_gap",
        "impact_rows.norm_of",
        "impact_rows.prefetch_row",
        "impact_rows.row_score",
        "impact_rows.score_rows",
        "impact_rows.weight_at",
        "impact_runs.add_runs",
        "impact_runs.first_of",
        "impact_runs.most_of_window",
        "impact_runs.open_lists",
        "impact_windows.bring_forward",
        "impact_windows.collect",
        "impact_windows.first_floor",
        "impact_windows.floor_of",
        "impact_windows.keep_other",
        "impact_windows.raise_floor",
        "query_codes.encode",
        "query_codes.encode_signs",
        "query_codes.normalise",
        "query_codes.reach_of",
        "rescore.docid_bits",
        "rescore.place_after",
        "rescore.rescore",
        "rescore.score_all",
        "scoring.prefetch_row",
        "scoring.score_of_product",
        "segment.plan_for",
        "sparse.finite",
        "sparse.saturated",
        "conditions.in_ranges",
        "conditions.keep_with_terms",
        "conditions.keep_with_values",
        "conditions.list_ranges",
        "conditions.list_terms",
        "conditions.most_that_meet",
        "conditions.ordered_key",
        "conditions.place_in_order",
        "conditions.sort_docids",
        "few.score_others",
        "few.score_places",
        "sparse.set_bits",
        "sparse.threshold",
    }
    assert set(KERNELS) == nested | {
        "beam.buffer_key",
        "beam.filtered_beam",
        "beam.result_key",
        "beam.sorted_beam",
        "bitset.bits_between",
        "bitset.filter_by_score",
        "bitset.gather",
        "bitset.local_bits",
        "bitset.passes",
        "bitset.passing_of_clusters",
        "bitset.random_filter",
        "bounded.bounded_topk",
        "codes.encode_and_measure",
        "codes.encode_query",
        "codes.encode_rows",
        "codes.pack_signs",
        "codes.rotate",
        "codes.rotate_rows",
        "codes.rounding_error",
        "codes.sign_bits",
        "columns.integer_ids",
        "columns.rows_in_area",
        "columns.rows_in_range",
        "columns.rows_in_set",
        "columns.rows_with_tokens",
        "conditions.column_keys",
        "conditions.rows_that_meet",
        "dense.dense_topk",
        "dense.half_to_float",
        "dense.hold",
        "dense.lower_bound",
        "dense.maxsim_add",
        "dense.of_unit_length",
        "dense.offer_rows",
        "dots.code_dot",
        "dots.dot_rows",
        "few.search_few",
        "fusion.merge_lists",
        "graph.acorn",
        "graph.descend",
        "impact.all_sums",
        "hadamard.transform",
        "impact.search_impacts",
        "impact_build.count_postings",
        "impact_build.fill_lists",
        "impact_build.join_lists",
        "impact_build.measure_lists",
        "impact_build.note_terms",
        "impact_build.number_terms",
        "impact_build.places_of",
        "impact_build.write_runs",
        "impact_lists.locate_terms",
        "planner.beyond",
        "planner.choose",
        "planner.cost_of",
        "planner.kth_score",
        "planner.log_correlation",
        "planner.predict",
        "planner.scan_cost",
        "planner.setting_of",
        "planner.weights_of",
        "scoring.code_score",
        "scoring.score_each",
        "scoring.score_rows",
        "segment.search_segment",
        "sparse.document_frequencies",
        "sparse.find_term",
        "sparse.norms_between",
        "sparse.postings_union",
        "sparse.present_rows",
        "sparse.sparse_scores",
        "sparse.sparse_topk",
        "topk.heap_of_best",
        "topk.make_key",
        "topk.offer",
        "topk.pack",
        "topk.pop_best",
        "topk.push_best",
        "topk.row_of",
        "topk.score_of",
        "topk.sift_best",
        "topk.sort_keys",
        "topk.unpack",
    }
