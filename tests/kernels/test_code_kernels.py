"""Kernels of codes and bitmaps, compiled and interpreted: rotations, rounding, inner products, distances of signs, bits of rows."""

from __future__ import annotations

import itertools
import math

import numba
import numpy as np
import pytest

from tests.support.interpreted import SEEDS, both, distances_of_block, interpreted, mask_of, random_bits
from vectordb.index.scratch import aligned
from vectordb.kernels import bitset, codes, dots, hadamard


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
