"""Kernels of multi-vector indexes, compared with numpy and run interpreted: MaxSim of byte codes, and lists of documents by centroids."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from tests.support.interpreted import both, interpreted, random_bits
from vectordb.index.exact import scores_of
from vectordb.index.multi.centroids import lists_of
from vectordb.index.multi.search import rows_of
from vectordb.kernels import maxsim, token_lists


class _Emulated(maxsim._ByInstruction):
    """The form with the instruction, where the instruction is written out: for processors that lack it."""

    @staticmethod
    def add(builder, total, codes, line):
        four, wide = ir.VectorType(maxsim._BYTE, 64), ir.VectorType(maxsim._I32, 64)
        product = builder.mul(builder.zext(builder.bitcast(codes, four), wide), builder.sext(builder.bitcast(line, four), wide))
        for part in range(4):
            total = builder.add(total, maxsim._picked(builder, product, list(range(part, 64, 4))))
        return total


def _caller(tile):
    @njit
    def call(codes, query, out):
        tile(codes.ctypes.data, codes.shape[0], codes.strides[0], query.ctypes.data, query.shape[0], out.ctypes.data)

    return call


@pytest.mark.parametrize(("groups", "whole"), [(1, True), (2, False)])
def test_both_forms_of_the_loop_give_the_same_integers(groups, whole):
    """At every number of rows around a tile, and at the ends of what bytes hold. Nothing is written behind the result."""
    rng, lanes = np.random.default_rng(groups), 16 * groups
    forms = [(way is _Emulated, _caller(maxsim._make(way, groups, whole))) for way in (maxsim._Plain, _Emulated)]
    for width in (4, 12, 128):
        query = rng.integers(-127, 128, (lanes, width)).astype(np.int8)
        query[0], query[-1] = 127, -127
        for rows in range(1, 10):
            codes = rng.integers(0, 256, (rows, width)).astype(np.uint8)
            codes[0] = 255
            products = codes.astype(np.int32) @ query.astype(np.int32).T
            wanted = products if whole else products.max(axis=0)
            for fast, multiply in forms:
                out = np.full(wanted.size + 1, 7, np.int32)
                multiply(codes, maxsim.lay_out(query, groups, fast)[0], out)
                np.testing.assert_array_equal(out[:-1].reshape(wanted.shape), wanted)
                assert out[-1] == 7


@pytest.mark.parametrize("vectors", [1, 16, 17, 70])
@pytest.mark.parametrize("best", [False, True])
def test_maxsim_of_byte_codes(vectors, best):
    rng, width = np.random.default_rng(vectors), 12
    sizes = rng.integers(1, 12, 20)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    codes = rng.integers(0, 256, (starts[-1], width)).astype(np.uint8)
    groups = 1 if vectors <= 16 else 2
    lanes = 16 * groups
    parts = -(-vectors // lanes)
    query = np.zeros((parts * lanes, width), np.int8)
    query[:vectors] = rng.integers(-127, 128, (vectors, width))
    scales = np.zeros(parts * lanes, np.float32)
    scales[:vectors] = rng.random(vectors) + 0.1
    zeros = 128 * query.sum(axis=1, dtype=np.int32)
    documents = rng.permutation(20)[:9].astype(np.int32)
    scores = np.full(9, -np.inf if best else 0, np.float32)
    given = maxsim.lay_out(query, groups), zeros.reshape(parts, lanes), scales.reshape(parts, lanes)
    ran = both("maxsim.add_maxsim", codes, starts, documents, *given, best, scores)
    for (_, arguments), document in [(one, d) for one in ran for d in range(9)]:
        rows = codes[starts[documents[document]] : starts[documents[document] + 1]].astype(np.int64) - 128
        highest = (rows @ query[:vectors].astype(np.int64).T).max(axis=0) * scales[:vectors].astype(np.float64)
        assert arguments[-1][document] == pytest.approx(highest.max() if best else highest.sum(), rel=1e-5, abs=1)


@pytest.mark.parametrize(
    ("count", "lanes", "probes", "depth"), [(1, 1, 1, 1), (40, 5, 8, 16), (700, 16, 3, 64), (700, 20, 64, 2), (3_000, 17, 5, 40)]
)
def test_the_best_centroids_of_each_query_row(count, lanes, probes, depth):
    given, check = _probed(count, lanes, probes, depth)
    for _, arguments in both("token_lists.probe", *given):
        check(*arguments[-3:])


def test_the_best_centroids_are_found_when_their_sample_is_wrong(monkeypatch):
    """One query row looks for a high first number, and those of the sample are the highest of all."""
    monkeypatch.setattr(token_lists, "SAMPLED", 30)  # of the interpreted kernel alone: a compiled one has its own number
    count = 240
    centroids = np.random.default_rng(0).integers(0, 256, (count, 8)).astype(np.uint8)
    centroids[:, 0] = np.concatenate([np.arange(200, 230).reshape(30, 1), np.arange(30 * 7).reshape(30, 7) % 199], axis=1).ravel()
    given, check = _probed(count, 16, 12, 9, centroids, straight=3)
    with interpreted():
        token_lists.probe(*given)
    check(*given[-3:])


def _probed(count: int, lanes: int, probes: int, depth: int, centroids: np.ndarray | None = None, straight: int | None = None):
    """(arguments of ``probe``, a check of what it wrote). straight: the query row that has only a first number."""
    rng, width, groups = np.random.default_rng(count), 8, 1 if lanes <= 16 else 2
    drawn = rng.integers(0, 256, (count, width)).astype(np.uint8)
    centroids = drawn if centroids is None else centroids
    query = np.zeros((16 * groups, width), np.int8)
    query[:lanes] = rng.integers(-127, 128, (lanes, width))
    if straight is not None:
        query[straight] = [127] + [0] * (width - 1)
    zeros, scales = 128 * query.sum(axis=1, dtype=np.int32), rng.random(16 * groups).astype(np.float32) + 1
    lists, gains, missing = np.empty((lanes, probes), np.int32), np.empty((lanes, probes), np.float32), np.empty(lanes, np.float32)
    products = (centroids.astype(np.int64) - 128) @ query[:lanes].astype(np.int64).T

    def check(lists: np.ndarray, gains: np.ndarray, missing: np.ndarray) -> None:
        for lane in range(lanes):
            scores = np.sort(products[:, lane])[::-1] * np.float64(scales[lane])
            np.testing.assert_allclose(gains[lane], scores[:probes], rtol=1e-5, atol=1e-3)
            np.testing.assert_allclose(products[lists[lane], lane] * scales[lane], gains[lane], rtol=1e-5, atol=1e-3)
            assert missing[lane] == pytest.approx(scores[depth - 1], rel=1e-5, abs=1e-3)

    return (centroids, maxsim.lay_out(query, groups)[0], zeros, scales, lanes, probes, depth, lists, gains, missing), check


@pytest.mark.parametrize("best", [False, True])
def test_lists_are_added_up(best):
    """A document counts once for a query row, with its best centroid. What an earlier search left in the arrays doesn't matter."""
    rng = np.random.default_rng(3)
    labels, starts = rng.integers(0, 12, 80).astype(np.int32), np.arange(0, 81, 4)
    list_at, entries = lists_of(starts, labels, 12)
    for label in range(12):
        assert entries[list_at[label] : list_at[label + 1]].tolist() == np.unique(np.flatnonzero(labels == label) // 4).tolist()
    lists = np.array([rng.permutation(12)[:4] for _ in range(3)], np.int32)
    gains = -np.sort(-rng.random((3, 4)).astype(np.float32), axis=1)
    missing = gains[:, -1] - np.float32(0.25)
    sums, stamps, touched = np.full(20, 9, np.float32), rng.integers(0, 50, 20), np.empty(20, np.int32)
    wanted = {}
    for document in range(20):
        held = labels[4 * document : 4 * document + 4]
        own = [[g for c, g in zip(*row, strict=True) if c in held] for row in zip(lists, gains, strict=True)]
        if any(own):
            parts = [max(each) - (0 if best else m) for each, m in zip(own, missing, strict=True) if each]
            wanted[document] = max(parts) if best else sum(parts)
    bits, passes = random_bits(rng, 20)
    passing = [document for document in wanted if passes[document]]
    for found, given in both("token_lists.gather", list_at, entries, lists, gains, missing, best, 50, 50, sums, stamps, touched, 0):
        assert sorted(given[-2][:found].tolist()) == sorted(wanted)
        np.testing.assert_allclose(given[8][list(wanted)], list(wanted.values()), rtol=1e-5)
        for filtered, allowed in ((False, list(wanted)), (True, passing)):
            for size, (*_, heap) in both("token_lists.best_found", given[8], given[-2], found, filtered, bits, np.empty(5, np.int64)):
                expected = sorted(allowed, key=lambda d: (-given[8][d], d))[:5]
                assert sorted(rows_of(heap[:size]).tolist()) == sorted(expected)
                np.testing.assert_allclose(np.sort(scores_of(heap[:size])), np.sort(given[8][expected]))


def test_rows_are_assigned_to_the_nearest_centroid():
    """Among all, if each cell has its own; an empty cell does no harm."""
    rng, width = np.random.default_rng(5), 12
    coarse, fine = (rng.integers(0, 256, (n, 64)).astype(np.uint8) for n in (3, 17))
    coarse[:, width:], fine[:, width:] = 128, 128
    rows, first = rng.integers(0, 256, (30, width)).astype(np.uint8), np.array([0, 9, 9, 17])
    lengths = [np.square(each.astype(np.int64) - 128).sum(axis=1) for each in (coarse, fine)]
    distances = np.square(rows[:, None].astype(np.int64) - fine[None, :, :width]).sum(axis=2)
    given = rows, coarse, lengths[0], fine, lengths[1], first, np.empty(30, np.int32)
    for _, (*_, labels) in both("token_lists.assign", *given):
        np.testing.assert_array_equal(np.take_along_axis(distances, labels[:, None].astype(int), 1)[:, 0], distances.min(axis=1))


def test_lists_are_counted_and_filled():
    labels, starts = np.array([1, 1, 0, 2, 1, 2], np.int32), np.array([0, 3, 6])
    nobody = np.full(3, -1, np.int32)
    for _, given in both("token_lists.count_entries", starts, labels, nobody, np.zeros(3, np.int64)):
        assert given[-1].tolist() == [1, 2, 1]
    for _, given in both("token_lists.fill_entries", starts, labels, nobody, np.array([0, 1, 3]), np.empty(4, np.int32)):
        assert given[-1].tolist() == [0, 0, 1, 1]
