"""Impact-ordered posting lists: which of them a query reads, how far, and what a posting adds to a sum."""

from __future__ import annotations

import numpy as np
from numba import carray

from .dense import lower_bound
from .impact_layout import (
    BLOCK_ROWS,
    BUCKETS,
    BY_TERM,
    FREQUENCIES,
    LAST_ROW,
    LEVEL_MEAN,
    LEVEL_MOST,
    LEVEL_SHARE,
    LEVELS,
    LIST_AT,
    LISTS,
    ROW_LENGTHS,
    ROW_WEIGHTS,
    ROWS,
    SIGNS,
    TERMS,
    VOCABULARY,
)
from .impact_runs import first_of
from .jit import inner, kernel, pointer, prefetch

MOST_NARROW = 48  # lists whose contributions are added up in 8 bits, at most; with more, rounding hides which rows are best [chosen]


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
def place_terms(segment, terms, weights, stretch, places, listed, begins, query):
    """Finds the query's terms, and spreads its weights over the vocabulary. Returns a score that no row exceeds: a term adds no more than
    the level says that its list begins with.

    places: int64, the position of each term, −1 where there is none. listed: int64, the list of the rows whose weight has the sign of the
    query's weight, −1 where there is none: the others only lower a score. begins: int64, the level that each of these begins with.
    """
    locate_terms(carray(pointer(segment[TERMS]), segment[VOCABULARY], np.uint64), terms, places)
    levels, vocabulary = segment[LEVELS], segment[VOCABULARY]
    most = carray(pointer(segment[LEVEL_MOST]), levels, np.float32)
    alike = np.float32(1)
    if segment[ROW_WEIGHTS] == 0 and segment[ROW_LENGTHS] == 0:
        alike = most[0]
    bound = 0.0
    for q in range(len(terms)):
        listed[q] = -1
        if places[q] < 0:
            continue
        query[places[q]] = weights[q] * alike
        if weights[q] > 0:
            listed[q] = places[q]
        elif segment[SIGNS] == 2:
            listed[q] = vocabulary + places[q]
        if listed[q] >= 0:
            first = first_of(segment, listed[q]) if segment[BY_TERM] else first_of_blocks(segment, listed[q])
            begins[q] = first
            if first == levels:
                listed[q] = -1
            else:
                bound += np.float64(abs(weights[q])) * np.float64(most[first] * stretch)
    return bound


@inner
def first_of_blocks(segment, place):
    """The first level of a term's lists by block; the number of levels if all are empty."""
    vocabulary, first = segment[VOCABULARY], segment[LEVELS]
    blocks = (segment[ROWS] + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    for b in range(blocks):
        offset = np.int64(list_at[b * vocabulary + place])
        if offset < np.int64(list_at[b * vocabulary + place + 1]):
            first = min(first, np.int64(lists[offset]))
    return first


@inner
def contributions_of(segment, listed, weights, stretch, scale, least, upward, contributions):
    """What a posting of each list and level adds to a sum, at ``scale``: int64 (terms · levels), at least 1. Those below ``least`` add
    nothing. upward: at least what it adds to a score.
    """
    levels = segment[LEVELS]
    most = carray(pointer(segment[LEVEL_MOST]), levels, np.float32)
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    for q in range(len(listed)):
        weight = abs(weights[q])
        for level in range(levels):
            if upward:
                contributions[q * levels + level] = np.int64(weight * (most[level] * stretch) * scale) + 1
            else:
                exact = weight * mean[level]
                contributions[q * levels + level] = max(np.int64(exact * scale + np.float32(0.5)), 1) if exact >= least else np.int64(0)


@inner
def narrow_scale(segment, listed, begins, weights, least):
    """The scale at which sums of contributions of ``least`` or more fit 8 bits; 0 where too many lists have any."""
    mean = carray(pointer(segment[LEVEL_MEAN]), segment[LEVELS], np.float32)
    total, count = 0.0, 0
    for q in range(len(listed)):
        if listed[q] >= 0:
            largest = abs(weights[q]) * mean[begins[q]]
            if largest >= least:
                total += np.float64(largest)
                count += 1
    return (255.0 - count) / total if 0 < count <= MOST_NARROW and total > 0 else 0.0


@inner
def add_block(segment, listed, contributions, b, sums):
    """Adds the postings of a block of lists by block to its rows' sums (uint8 or uint16, cleared here). Returns postings read."""
    rows, vocabulary, levels = segment[ROWS], segment[VOCABULARY], segment[LEVELS]
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    sums[:BLOCK_ROWS] = 0
    read = np.int64(0)
    for q in range(len(listed)):
        if listed[q] >= 0:
            start = segment[LISTS] + 2 * np.int64(list_at[b * vocabulary + listed[q]])
            prefetch(start)
            prefetch(start + 64)
    for q in range(len(listed)):
        if listed[q] < 0:
            continue
        offset = np.int64(list_at[b * vocabulary + listed[q]])
        end = np.int64(list_at[b * vocabulary + listed[q] + 1])
        while offset + 1 < end:
            contribution = contributions[q * levels + min(np.int64(lists[offset]), levels - 1)]
            if contribution == 0:
                break  # the rest of the list is lower still
            count = min(np.int64(lists[offset + 1]), end - offset - 2)
            read += count
            for p in range(offset + 2, offset + 2 + count):
                sums[lists[p] & LAST_ROW] += contribution
            offset += 2 + max(count, 0)
    return read


@inner
def postings_of(segment, listed, places):
    """How many postings the query's lists have, about: those of a term have both signs."""
    frequencies = carray(pointer(segment[FREQUENCIES]), segment[VOCABULARY], np.uint32)
    total = 0.0
    for q in range(len(listed)):
        if listed[q] >= 0:
            total += np.float64(frequencies[places[q]])
    return total


@inner
def least_contribution(segment, listed, places, weights, share, total, histogram):
    """The contribution below which postings are left out, so that about ``share`` of the query's postings remain: of ``total``."""
    levels = segment[LEVELS]
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    shares = carray(pointer(segment[LEVEL_SHARE]), levels, np.float32)
    frequencies = carray(pointer(segment[FREQUENCIES]), segment[VOCABULARY], np.uint32)
    largest = np.float32(0)
    for q in range(len(listed)):
        if listed[q] >= 0:
            largest = max(largest, abs(weights[q]))
    step = np.float32(BUCKETS - 1) / (largest * mean[0])
    histogram[:] = 0
    for q in range(len(listed)):
        if listed[q] >= 0:
            frequency = np.float32(frequencies[places[q]])
            for level in range(levels):
                histogram[np.int64(abs(weights[q]) * mean[level] * step)] += np.int64(frequency * shares[level])
    bucket = BUCKETS - 1
    read = np.float64(histogram[bucket])
    while bucket > 0 and read + histogram[bucket - 1] <= share * total:
        bucket -= 1
        read += histogram[bucket]
    return np.float32(bucket) / step
