"""Kernels that score chunks exactly, compiled and interpreted: dense vectors, multi-vectors, postings and forward rows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from vectordb_client.model.fields import DenseColumn, MultiColumn, SparseColumn
from vectordb_client.model.schema import Dense as DenseField
from vectordb_client.model.schema import MultiVector
from vectordb_client.model.schema import Sparse as SparseField

from tests.support.interpreted import (
    SEEDS,
    Table,
    both,
    forward_chunk,
    interpreted,
    keys_of,
    same_ranking,
    spans,
    sparse_table,
    table_of,
    wanted_of,
)
from vectordb.fields import FIELD_TYPES
from vectordb.fields.row_codes import decoded, encoded
from vectordb.kernels import COUNT, dense, sparse
from vectordb.storage import chunks, format


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
    least = int(rng.choice([1, dense.TILED]))  # rows of a stretch of the query
    query = rng.standard_normal((int(rng.integers(1, 4)) if least == 1 else int(rng.integers(4, 40)), spec.dim)).astype(np.float32)
    n = int(table.rows[:, COUNT].sum())
    arguments = (table.rows, query, dtype == "float16", metric, wanted_of(rng, table.docids), filtered, 0, len(table.rows))
    out = np.zeros(n, np.float32), np.full(n, -np.inf, np.float32), np.zeros(n, np.int64)
    (n, one), (m, other) = both("dense.maxsim_add", *arguments, *out)
    assert n == m
    np.testing.assert_array_equal(one[-1][:n], other[-1][:n])
    scores = one[-3 + aggregation][:n]
    np.testing.assert_allclose(scores, other[-3 + aggregation][:n], rtol=1e-4, atol=1e-4)
    parts = [each.copy() for each in out]
    for row in range(0, len(query), least):  # one stretch of the query after another adds up to the same, to the last bit
        if len(query) - row >= least:
            stretch = query[row : row + least if len(query) - row >= 2 * least else len(query)]
            dense.maxsim_add(*arguments[:1], stretch, *arguments[2:], *parts)
    for part, whole in zip(parts, one[-3:], strict=True):
        np.testing.assert_array_equal(part[:n], whole[:n])
    heap, docids = np.zeros(int(rng.integers(1, 9)), np.int64), one[-1][:n]
    (n, one), (m, other) = both("dense.offer_rows", docids, scores, heap, 0)
    assert n == m
    same_ranking(keys_of([one[-2]], [n], 12 * spec.dim), keys_of([other[-2]], [m], 12 * spec.dim))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(("filtered", "vectors"), [(False, 3), (True, 3), (True, 4), (False, 17)])
def test_maxsim_of_stored_codes_is_that_of_their_numbers(metric, filtered, vectors):
    rng = np.random.default_rng(3)
    seed, dim = int(rng.integers(99)), 5

    def table(keep):
        rng, spec = np.random.default_rng(seed), MultiVector(dim, metric, keep=keep)

        def make(docids):
            indptr = np.concatenate([[0], np.cumsum(rng.integers(1, 6, len(docids)))])
            values = rng.standard_normal((int(indptr[-1]), dim)).astype(np.float32)
            return forward_chunk(spec, MultiColumn(indptr, decoded(*encoded(values))), docids)

        return table_of(rng, make)

    raw, coded = table("raw"), table("codes")
    query, wanted, n = rng.standard_normal((vectors, dim)).astype(np.float32), wanted_of(rng, raw.docids), int(raw.rows[:, COUNT].sum())
    out = [np.zeros(n, np.float32), np.full(n, -np.inf, np.float32), np.zeros(n, np.int64)]
    given, some = (metric == "cosine", wanted, filtered, 0, len(raw.rows)), [each.copy() for each in out]
    count = dense.maxsim_add(raw.rows, query, False, *given, *some)
    (n, one), (m, other) = both("coded_rows.maxsim_codes", coded.rows, query, *given, *out)
    assert n == m == count
    for mine, plain, theirs in zip(one[-3:], other[-3:], some, strict=True):
        np.testing.assert_array_equal(mine, theirs)  # to the last bit
        np.testing.assert_allclose(plain, theirs, rtol=1e-4, atol=1e-4)


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


def test_half_precision_is_read_exactly():
    """All 65,536 of them; NaN and infinity can't be stored."""
    bits = np.arange(65_536, dtype=np.uint16)
    values = bits.view(np.float16)
    for at in np.flatnonzero(np.isfinite(values)).tolist():
        assert dense.half_to_float(bits[at]) == np.float32(values[at])
    with interpreted():
        for at in (0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x8000, 0x8001, 0xFBFF):
            assert dense.half_to_float(bits[at]) == np.float32(values[at])


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
