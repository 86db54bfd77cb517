"""The two-stage binary-code scan: Hamming distances of rows first, then byte codes of the nearest."""

from __future__ import annotations

import numpy as np

from .bitset import bits_between
from .codes import block_distances, nearer
from .jit import count_trailing_zeros, inner
from .layout import DIM, ROWS, SIGNS
from .scoring import score_rows
from .topk import row_of, sort_keys

# Checked by the suite "planner" of 22 November 2026, commit e7bcf53 (bench/RESULTS.md, "Under filters").
FIRST_PASS = 10  # rows that the first pass scores by codes, times the results asked for


@inner
def tighten(histogram, total, threshold, needed):
    """Lowers the threshold while enough rows stay; returns (rows at or under it, threshold)."""
    while threshold > 0 and total - histogram[threshold] >= needed:
        total -= histogram[threshold]
        threshold -= 1
    return total, threshold


@inner
def near_blocks(signs, signs_of_query, allowed, low, high, needed, space, threshold, total, n):
    """Hamming distances of the blocks of rows [low, high) that hold a passing row, into ``space.distances``; the passing rows within the
    threshold are listed in ``space.near``, and it falls so that ``needed`` rows stay. Returns (threshold, total, n).
    """
    distances_at, u64s = space.distances.ctypes.data, len(signs_of_query)
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(allowed.filtered, allowed.bits, w, low, high)
        if word == 0:
            continue
        word &= block_distances(signs + w * u64s * 512, signs_of_query.ctypes.data, u64s, np.uint64(threshold), distances_at + 128 * w)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            space.near[n] = row
            n += 1
            space.histogram[space.distances[row]] += 1
            total += 1
        if total > needed:
            total, threshold = tighten(space.histogram, total, threshold, needed)
    return threshold, total, n


@inner
def keep_near(space, n, threshold):
    """Drops the rows beyond the threshold from ``space.near``; returns how many stay."""
    near, kept = space.near, 0
    for i in range(n):
        if np.int64(space.distances[near[i]]) <= threshold:
            near[kept] = near[i]
            kept += 1
    return kept


@inner
def binary_scan(segment, scoring, signs_of_query, allowed, spread, most, k, r, space):
    """Two-stage binary-code scan of all passing rows. First the best FIRST_PASS·k by Hamming distance are scored by codes. Then all rows
    are scored whose distance is at most that of the best of those plus ``spread`` standard deviations (of a binomial with their mean
    distance), but no more than ``most``. Returns (results, rows scored).
    """
    rows, dim = segment[ROWS], segment[DIM]
    distances, histogram, near, results = space.distances, space.histogram, space.near, space.results
    histogram[:] = 0
    needed = max(np.int64(FIRST_PASS * k), r)
    threshold, _, n = near_blocks(segment[SIGNS], signs_of_query, allowed, 0, rows, needed, space, np.int64(dim), np.int64(0), 0)
    n = keep_near(space, n, threshold)
    size = score_rows(scoring, near, n, results, 0, r)
    if n >= allowed.matches:
        return size, n
    # How far, in signs, the k best of these are: the median half of them says where the true ones may still be.
    order = results[:size].copy()
    sort_keys(order)
    best = min(k, size)
    mean = 0.0
    for i in range(best // 2, best):
        mean += np.float64(distances[row_of(order[size - 1 - i])])
    mean /= best - best // 2
    share = mean / dim
    bound = min(np.int64(mean + spread * np.sqrt(dim * share * (1.0 - share))), dim)
    if bound <= threshold:
        return size, n
    again, m = np.int64(0), 0
    histogram[:] = 0
    for w in range((rows + 63) >> 6):
        word = bits_between(allowed.filtered, allowed.bits, w, 0, rows)
        if word == 0:
            continue
        word &= nearer(distances.ctypes.data + 128 * w, np.uint64(bound))
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            if np.int64(distances[row]) > threshold:
                near[m] = row
                m += 1
                histogram[distances[row]] += 1
                again += 1
        while again > most and bound > threshold and again - histogram[bound] >= most:
            again -= histogram[bound]
            bound -= 1
    m = keep_near(space, m, bound)
    return score_rows(scoring, near, m, results, size, r), n + m
