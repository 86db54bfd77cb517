"""The rows of largest sums: taken from the sums of one window of rows after the other, of which only the highest are kept."""

from __future__ import annotations

import numpy as np

from .impact_layout import BUCKETS, GROUP
from .jit import as_high, count_ones, count_trailing_zeros, inner

SAMPLED = 16  # rows that a filter excludes whose sums and scores are compared. Checked by the filtered sparse suite [S1]
FIRST_SUMS = 14  # sums for which the rows of the first window that reach them are counted, at most [chosen]
SPARE_ROWS = 256  # rows that may be held beyond those that are kept, before lower ones are dropped [chosen]


@inner
def collect(sums, address, least, bits, first, rows, near, heights, n, others, sampled):
    """Adds the rows of a window whose bit is set and whose sum is ``least`` or more to near[n:] (int32, row) and heights[n:] (uint16: the
    sum, of 8 bits · 256). Returns how many there are then.

    address: of sums, uint8 or uint16 as ``least``. first: the window's first row; rows: how many it has. sampled: rows whose bit isn't set
    are kept in ``others`` (int64, sum « 32 | row; 0: none), those of largest sums.
    """
    shift = 16 - 8 * sums.itemsize
    for g in range((rows + GROUP - 1) // GROUP):
        high = as_high(address + sums.itemsize * GROUP * g, least)
        if high == 0:
            continue
        word = bits[(first >> 6) + g]
        passing = high & word
        while passing != 0:
            i = GROUP * g + count_trailing_zeros(passing)
            near[n] = first + i
            heights[n] = np.int64(sums[i]) << shift
            n += 1
            passing &= passing - np.uint64(1)
        if sampled:
            excluded = high & ~word
            while excluded != 0:
                i = GROUP * g + count_trailing_zeros(excluded)
                if i < rows:
                    keep_other(others, (np.int64(sums[i]) << (32 + shift)) | (first + i))
                excluded &= excluded - np.uint64(1)
    return n


@inner
def first_floor(sums, address, bits, first, rows, aim, share, counts):
    """A sum that at least ``aim`` rows of a window reach whose bit is set; 1 if there aren't so many. Estimates ``counts`` as
    ``raise_floor`` does, from some sums that more and more rows reach. The others as in ``collect``.
    """
    shift = 16 - 8 * sums.itemsize
    total, upper, floor, after = np.int64(0), np.int64(BUCKETS), np.int64(0), 0
    for step in range(FIRST_SUMS):
        bucket = np.int64(BUCKETS) * (3 - (step & 1)) >> (2 + (step >> 1))  # 3/4, 1/2, 3/8, 1/4 … of all
        reach = np.int64(0)
        least = sums.dtype.type((bucket << 6) >> shift)
        for g in range((rows + GROUP - 1) // GROUP):
            reach += np.int64(count_ones(as_high(address + sums.itemsize * GROUP * g, least) & bits[(first >> 6) + g]))
        if floor > 0:
            counts[bucket + (upper - bucket) // 2] += np.int64((reach - total) / share)
            after += 1
        elif reach >= aim:
            floor = bucket << 6
        total, upper = reach, bucket
        if after == 2:
            break
    return max(floor, np.int64(1))


@inner
def keep_other(others, entry):
    """Puts an entry in the place of the least of ``others``, if it is larger. The least is the first."""
    if entry <= others[0]:
        return
    others[0] = entry
    least = 0
    for i in range(1, len(others)):
        if others[i] < others[least]:
            least = i
    entry = others[least]
    others[least] = others[0]
    others[0] = entry


@inner
def raise_floor(near, heights, n, floor, kept, share, counts):
    """Drops rows of low sums, so that about ``kept`` remain (all, if most have the same sum). Returns (rows, the new floor).

    counts: int64 (BUCKETS,), an estimate of how many rows of the segment have which sum, for sums below the floor: rows dropped by now,
    divided by the ``share`` of the segment that was read.
    """
    own = np.zeros(BUCKETS, np.int64)
    for i in range(n):
        own[heights[i] >> 6] += 1
    bucket = BUCKETS - 1
    total = own[bucket]
    while bucket > floor >> 6 and total < kept:
        bucket -= 1
        total += own[bucket]
    if bucket == floor >> 6:
        return n, floor
    for below in range(bucket):
        counts[below] += np.int64(own[below] / share)
    floor = bucket << 6
    remain = 0
    for i in range(n):
        if np.int64(heights[i]) >= floor:
            near[remain] = near[i]
            heights[remain] = heights[i]
            remain += 1
    return remain, floor


@inner
def floor_of(counts, needed):
    """A sum, at least 1, that so many rows reach (as all do, if there aren't so many)."""
    bucket = BUCKETS - 1
    total = counts[bucket]
    while bucket > 0 and total < needed:
        bucket -= 1
        total += counts[bucket]
    return max(np.int64(bucket) << 6, np.int64(1))


@inner
def bring_forward(near, heights, begin, n, floor):
    """Moves rows near[begin:n] with sums of ``floor`` or more before the others. Returns where those begin."""
    for i in range(begin, n):
        if np.int64(heights[i]) >= floor:
            row, height = near[i], heights[i]
            near[i], heights[i] = near[begin], heights[begin]
            near[begin], heights[begin] = row, height
            begin += 1
    return begin
