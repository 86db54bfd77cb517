"""Kernels that keep and order the best, compiled and interpreted: keys, heaps, and lists that are merged."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

from tests.support.interpreted import SEEDS, both, interpreted, keys_of
from vectordb.kernels import topk


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
def test_sorted_keys(seed):
    rng = np.random.default_rng(seed)
    for n in (0, 1, 2, int(rng.integers(3, 200))):
        keys = rng.integers(-30, 30, n)
        for _, (found,) in both("topk.sort_keys", keys):
            np.testing.assert_array_equal(found, np.sort(keys))


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


def test_pack():
    docids, scores = np.array([3, 0, 2**32 - 1]), np.array([1.5, -2, 0], np.float32)
    (_, one), (_, other) = both("topk.pack", docids, scores, np.zeros(3, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    ((found, ranked, _),) = keys_of([one[-1]], [3], 1)
    assert found.tolist() == [3, 2**32 - 1, 0] and ranked.tolist() == [1.5, 0, -2]
