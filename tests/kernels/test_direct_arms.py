"""The kernels of direct searches of several arms. tests/engine/test_direct_arms.py compares whole searches."""

from __future__ import annotations

import numpy as np
import pytest
from numba import types

from vectordb.kernels import direct, direct_arms, entry, signatures, topk
from vectordb.kernels.fusion import merge_lists
from vectordb.kernels.impact import search_impacts


def test_numba_has_entry_points():
    """When it fails, numba has changed: direct searches then go through dispatchers, which take a microsecond more."""
    for kernel, found in (
        (direct_arms.list_dense, entry.dense_list()),
        (direct_arms.list_sparse, entry.sparse_list()),
        (direct_arms.merge_arms, entry.merge_arms()),
    ):
        (compiled,) = kernel.overloads.values()
        assert found is compiled.entry_point


def test_the_search_of_a_sparse_segment_is_called_as_it_is_compiled():
    assert entry.impact_search()
    compiled = search_impacts.overloads[direct_arms.IMPACT_ARGUMENTS]
    assert compiled.signature.return_type == types.int64
    assert f"impact.search_impacts({'; '.join(map(str, direct_arms.IMPACT_ARGUMENTS))})" in signatures.recorded()


class Lists:
    """Arrays for lists, and their addresses."""

    def __init__(self, rows: int, arms: int, limit: int):
        self.docids, self.scores, self.normal = np.zeros(rows, np.int64), np.zeros(rows, np.float32), np.zeros(rows)
        self.ends, self.starts, self.arena = np.zeros(arms, np.int64), np.zeros(limit + 1, np.int64), np.zeros(64, np.uint8)
        self.columns = np.zeros(direct_arms.LISTS_WIDTH, np.int64)
        for column, array in (
            (direct_arms.DOCIDS, self.docids), (direct_arms.SCORES, self.scores), (direct_arms.NORMAL, self.normal),
            (direct_arms.ENDS, self.ends), (direct_arms.STARTS, self.starts), (direct_arms.ARENA, self.arena),
        ):  # fmt: skip
            self.columns[column] = array.ctypes.data
        self.columns[direct_arms.ARENA_BYTES] = len(self.arena)

    @property
    def at(self) -> int:
        return self.columns.ctypes.data


def sparse_block(k: int, most: float = 2.0, signed: bool = False):
    head = np.zeros(direct_arms.HEAD_WIDTH, np.int64)
    head[direct_arms.K], head[direct_arms.SIGNED], head[direct_arms.MAX_TERMS] = k, signed, 6
    head[direct_arms.MOST : direct_arms.MOST_BOUND + 1] = np.array([most, 1e-25, 1e30]).view(np.int64)
    arrays = [np.zeros(16, np.int64), np.zeros(k, np.int64), np.zeros(6, np.uint64), np.zeros(6, np.float32)]
    lane = np.zeros(direct_arms.SPARSE_LANE_WIDTH, np.int64)
    for column, array in zip((direct_arms.WORK, direct_arms.BEST, direct_arms.TERMS, direct_arms.WEIGHTS), arrays, strict=True):
        lane[column] = array.ctypes.data
    return head, lane, arrays


def key_of(docid: int, score: float) -> int:
    keys = np.empty(1, np.int64)
    topk.pack(np.array([docid]), np.array([score], np.float32), keys)
    return int(keys[0])


@pytest.mark.parametrize(
    "terms, weights",
    [
        ([], []), ([1], [1, 1]), ([1, 2, 3, 4, 5, 6, 7], [1] * 7), ([2, 1], [1, 1]), ([1, 1], [1, 1]), ([1], [0]), ([1], [np.nan]),
        ([1], [np.inf]), ([1], [1e16]), ([1], [1e-15]), ([2**63], [1]), ([1, 2], [-1, -2]),
    ],
    ids=str,
)  # fmt: skip
def test_a_query_that_needs_another_check_is_refused(terms, weights):
    head, lane, _ = sparse_block(3)
    lists = Lists(3, 1, 1)
    given = np.array(terms, np.uint64), np.array(weights, np.float32), np.array([key_of(4, 1.0)])
    assert entry.sparse_list()(head.ctypes.data, lane.ctypes.data, lists.at, *given) == direct.REFUSED
    assert lists.columns[direct_arms.LISTS] == 0


def test_lists_stand_one_behind_another():
    head, lane, arrays = sparse_block(3, signed=True)
    lists, found = Lists(6, 3, 1), []
    for scores in ([0.5, 3.0, -1.0, 2.0], [], [2.0, 2.0]):
        more = np.array([key_of(10 + i, score) for i, score in enumerate(scores)], np.int64)
        count = entry.sparse_list()(
            head.ctypes.data, lane.ctypes.data, lists.at, np.array([3, 9], np.uint64), np.array([-1, -2], np.float32), more
        )
        found.append(count)
    assert found == [3, 0, 2] and lists.ends.tolist() == [3, 3, 5] and lists.columns[direct_arms.TOTAL] == 5
    assert lists.docids[:5].tolist() == [11, 13, 10, 10, 11] and lists.scores[:5].tolist() == [3.0, 2.0, 0.5, 2.0, 2.0]
    assert arrays[2][:2].tolist() == [3, 9]  # the copy of the query


@pytest.mark.parametrize("ranked", [True, False])
def test_lists_are_merged_as_by_the_kernel_that_merges(ranked):
    rng = np.random.default_rng(0)
    limit, sizes = 7, (9, 0, 6)
    lists = Lists(sum(sizes), 3, limit)
    lists.docids[:] = np.concatenate([rng.permutation(20)[:size] for size in sizes])
    lists.scores[:], lists.normal[:] = rng.random(sum(sizes)), rng.random(sum(sizes))
    lists.ends[:] = np.cumsum(sizes)
    lists.columns[direct_arms.LISTS], lists.columns[direct_arms.TOTAL] = 3, sum(sizes)
    factors, ranks = np.array([1.0, 2.0, 0.5]), 1 / (60.0 + np.arange(9))
    block = np.zeros(direct_arms.FUSION_WIDTH, np.int64)
    block[direct_arms.LIMIT], block[direct_arms.ARMS], block[direct_arms.FACTORS] = limit, 3, factors.ctypes.data
    if ranked:
        block[direct_arms.RANKS] = ranks.ctypes.data
    out = np.zeros(limit * 15, np.int64)
    told = entry.merge_arms()(block.ctypes.data, lists.at, out)
    assert told & direct.UNREAD  # there are no chunks of records
    normal = np.concatenate([ranks[:size] for size in sizes]) if ranked else lists.normal
    best, sums, places, facts = np.zeros(limit, np.int64), np.zeros(limit), np.zeros((limit, 3), np.int64), np.zeros((3, limit, 3))
    count = merge_lists(lists.docids, lists.scores, normal, lists.ends, factors, False, best, sums, places, facts)
    assert told & direct.COUNT_BITS == count == limit
    assert out[:limit].tolist() == best.tolist() and out[2 * limit : 3 * limit].view(np.float64).tolist() == sums.tolist()
    assert out[3 * limit : 6 * limit].tolist() == places.reshape(-1).tolist()
    assert out[6 * limit :].view(np.float64).tolist() == facts.reshape(-1).tolist()
