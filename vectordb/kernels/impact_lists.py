"""Impact-ordered posting lists: sums of a query's largest contributions, and the rows with the largest sums."""

from __future__ import annotations

import numpy as np
from numba import carray

from .bitset import passes
from .dense import lower_bound
from .impact_layout import (
    BLOCK_ROWS,
    BUCKETS,
    FREQUENCIES,
    GROUP,
    LAST_ROW,
    LEVEL_MEAN,
    LEVEL_MOST,
    LEVEL_SHARE,
    LEVELS,
    LIST_AT,
    LISTS,
    ROWS,
    TERMS,
    VOCABULARY,
)
from .jit import inner, kernel, pointer, prefetch

# Rows whose sums and scores are compared if a filter may exclude those whose scores lie far above their sums. Checked by the filtered
# sparse suite of 22 November 2026, commit 16627f3 (bench/RESULTS.md).
SAMPLED = 16


@kernel
def locate_terms(terms, query, places):
    """The position in ``terms`` (uint64, ascending) of each query term (uint64), or −1, into places (int64)."""
    count = len(terms)
    first = terms[0]
    span = np.float64(terms[count - 1] - first) + 1.0
    for q in range(len(query)):
        term = query[q]
        places[q] = -1
        if term < first or term > terms[count - 1]:
            continue
        # Ids are hashes or nearly consecutive: where a term would be if they were evenly spread is close to where it is.
        low = min(np.int64(np.float64(term - first) / span * count), count - 1)
        high, step = low, 1
        while low > 0 and terms[low] > term:
            high = low
            low = max(low - step, 0)
            step <<= 1
        step = 1
        while high < count and terms[high] < term:
            low = high
            high += step
            step <<= 1
        low = lower_bound(terms, low, min(high, count - 1), term)
        if terms[low] == term:
            places[q] = low


@inner
def place_terms(segment, terms, weights, stretch, places, query):
    """Finds the query's terms, and spreads its weights over the vocabulary. Returns a score that no row exceeds: a term adds no more than
    the level says that its lists begin with.
    """
    locate_terms(carray(pointer(segment[TERMS]), segment[VOCABULARY], np.uint64), terms, places)
    most = carray(pointer(segment[LEVEL_MOST]), segment[LEVELS], np.float32)
    vocabulary, levels, blocks = segment[VOCABULARY], segment[LEVELS], (segment[ROWS] + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    bound = 0.0
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = weights[q]
            first = levels - 1
            for b in range(blocks):
                offset = np.int64(list_at[b * vocabulary + places[q]])
                if offset < np.int64(list_at[b * vocabulary + places[q] + 1]):
                    first = min(first, np.int64(lists[offset]))
            bound += np.float64(weights[q]) * np.float64(most[first] * stretch)
    return bound


@inner
def contributions_of(segment, places, weights, stretch, scale, least, upward, contributions):
    """What a posting of each term and level adds to a sum, at ``scale``: int64 (terms · levels). Those below ``least`` add nothing. upward:
    at least what it adds to a score.
    """
    levels = segment[LEVELS]
    most = carray(pointer(segment[LEVEL_MOST]), levels, np.float32)
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    for q in range(len(places)):
        for level in range(levels):
            if upward:
                contributions[q * levels + level] = np.int64(weights[q] * (most[level] * stretch) * scale) + 1
            else:
                exact = weights[q] * mean[level]
                contributions[q * levels + level] = np.int64(exact * scale + np.float32(0.5)) if exact >= least else np.int64(0)


@inner
def add_lists(segment, places, contributions, sums):
    """Adds the postings of the query's terms to the rows' sums (uint16, cleared here). Returns postings read."""
    rows, vocabulary, levels = segment[ROWS], segment[VOCABULARY], segment[LEVELS]
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    read = np.int64(0)
    for b in range(blocks):
        low = b * BLOCK_ROWS
        block = sums[low : low + BLOCK_ROWS]
        block[:] = 0
        for q in range(len(places)):
            if places[q] >= 0:
                start = segment[LISTS] + 2 * np.int64(list_at[b * vocabulary + places[q]])
                prefetch(start)
                prefetch(start + 64)
        for q in range(len(places)):
            if places[q] < 0:
                continue
            offset = np.int64(list_at[b * vocabulary + places[q]])
            end = np.int64(list_at[b * vocabulary + places[q] + 1])
            while offset + 1 < end:
                contribution = np.uint16(contributions[q * levels + min(np.int64(lists[offset]), levels - 1)])
                if contribution == 0:
                    break  # the rest of the list is lower still
                count = min(np.int64(lists[offset + 1]), end - offset - 2)
                read += count
                for p in range(offset + 2, offset + 2 + count):
                    block[lists[p] & LAST_ROW] += contribution
                offset += 2 + max(count, 0)
    return read


@inner
def least_contribution(segment, places, weights, share, histogram):
    """The contribution below which postings are left out, so that about ``share`` of the query's postings remain."""
    levels = segment[LEVELS]
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    shares = carray(pointer(segment[LEVEL_SHARE]), levels, np.float32)
    frequencies = carray(pointer(segment[FREQUENCIES]), segment[VOCABULARY], np.uint32)
    largest = np.float32(0)
    for q in range(len(places)):
        if places[q] >= 0:
            largest = max(largest, weights[q])
    step = np.float32(BUCKETS - 1) / (largest * mean[0])
    histogram[:] = 0
    total = 0.0
    for q in range(len(places)):
        if places[q] >= 0:
            frequency = np.float32(frequencies[places[q]])
            total += frequency
            for level in range(levels):
                histogram[np.int64(weights[q] * mean[level] * step)] += np.int64(frequency * shares[level])
    bucket = BUCKETS - 1
    read = np.float64(histogram[bucket])
    while bucket > 0 and read + histogram[bucket - 1] <= share * total:
        bucket -= 1
        read += histogram[bucket]
    return np.float32(bucket) / step


@inner
def group_maxima(sums, bits, maxima):
    """The largest sum of each 64 rows, of rows whose bit is set only."""
    for g in range(len(maxima)):
        word = bits[g]
        best = np.int32(0)
        for i in range(GROUP):  # without a branch, and with a product even where all pass: so it is vectorized
            best = max(best, np.int32(sums[GROUP * g + i]) * np.int32((word >> np.uint64(i)) & np.uint64(1)))
        maxima[g] = best


@inner
def floor_of(maxima, needed, histogram):
    """A sum, at least 1, that so many of the maxima reach (as all do, if there aren't so many)."""
    histogram[:] = 0
    for g in range(len(maxima)):
        histogram[maxima[g] >> 6] += 1
    bucket = BUCKETS - 1
    total = np.int64(histogram[bucket])
    while bucket > 0 and total < needed:
        bucket -= 1
        total += histogram[bucket]
    return max(bucket << 6, 1)


@inner
def rows_between(sums, maxima, bits, low, high, near):
    """Passing rows with low ≤ sum < high into ``near`` (int32). Returns how many."""
    n = 0
    for g in range(len(maxima)):
        if np.int64(maxima[g]) < low:
            continue
        for i in range(GROUP):
            total = np.int64(sums[GROUP * g + i])
            if low <= total < high and passes(bits, GROUP * g + i):
                near[n] = GROUP * g + i
                n += 1
    return n


@inner
def rows_as_high(sums, groups, low, near):
    """Some rows with low ≤ sum, whether they pass or not, into ``near`` (int32). Returns how many."""
    n = 0
    least = np.uint16(low)
    for g in range(groups):
        high = np.int32(0)
        for i in range(GROUP):  # counted first: that is vectorized
            high += np.int32(sums[GROUP * g + i] >= least)
        if high > 0:
            for i in range(GROUP):
                if np.int64(sums[GROUP * g + i]) >= low:
                    near[n] = GROUP * g + i
                    n += 1
            if n >= SAMPLED:
                break
    return min(n, SAMPLED)
