"""The clusters of a segment: ranked for a query as far as somebody asks, searched, and used to look at rows near the query."""

from __future__ import annotations

import numpy as np
from numba import carray

from .beam import buffer_key, row_in
from .binary_scan import keep_near, near_blocks
from .bitset import gather, passes
from .codes import block_distances
from .dots import LINE, dot_four
from .jit import inner, pointer
from .layout import DIM, SIGNS
from .scoring import score_each, score_rows
from .topk import pop_best, row_of, sift_best

# Rows. The selectivity near a query is that of the nearest rows by binary codes, among the rows of the nearest clusters. Checked by the
# suite "planner" of 22 November 2026, commit e7bcf53 (bench/RESULTS.md, "Under filters").
NEAREST_ROWS, NEAR_ROWS = 64, 512


@inner
def nearest_cluster(clusters, i):
    """The i-th nearest cluster, −1 when there are no more. All are scored the first time; the order is made as it is asked for."""
    count = len(clusters.offsets) - 1
    heap, taken = clusters.heap, clusters.taken
    if i >= count:
        return np.int64(-1)
    if taken[0] < 0:
        score_each(clusters.scoring, count, heap)
        for c in range(count // 2 - 1, -1, -1):
            sift_best(heap, count, c)
        taken[0] = 0
    while taken[0] <= i:
        clusters.order[taken[0]] = row_of(heap[0])
        pop_best(heap, count - taken[0])
        taken[0] += 1
    return clusters.order[i]


@inner
def nearest_few(clusters, nearest, few):
    """The ``few`` nearest clusters, of those with the best first, into ``nearest``; returns how many there are."""
    scoring, count, size = clusters.scoring, len(clusters.offsets) - 1, 0
    if clusters.taken[0] >= 0:  # ranked before
        while size < min(few, count):
            nearest[size] = nearest_cluster(clusters, size)
            size += 1
        return size
    keys, room = clusters.heap, clusters.order.ctypes.data  # both are free until somebody ranks all of them
    products = carray(pointer(room), count + 3, np.int32)
    at, stride, last = scoring.codes, scoring.stride, count - 1
    for c in range(0, count, 4):
        dot_four(
            at + c * stride,
            at + min(c + 1, last) * stride,
            at + min(c + 2, last) * stride,
            at + min(c + 3, last) * stride,
            scoring.query,
            stride // LINE,
            room + 4 * c,
        )
    for c in range(count):
        keys[c] = buffer_key(scoring, products[c], np.int64(c))
    # A pass over all for each of the few has no branches that depend on the query, unlike a list that is kept in order.
    best = np.int64(2**63 - 1)
    while size < min(few, count):
        following = np.int64(-(2**63))
        for c in range(count):
            following = max(following, keys[c] if keys[c] < best else np.int64(-(2**63)))
        best = following
        nearest[size] = row_in(best)
        size += 1
    return size


@inner
def selectivity_near(segment, signs_of_query, clusters, allowed, space):
    """The share that passes of the rows nearest to the query, as far as sign bits tell. Rows of a cluster alone wouldn't do: a filter may
    leave out just those of them that are near.
    """
    distances, histogram, u64s = space.distances, space.histogram, len(signs_of_query)
    histogram[:] = 0
    rows, looked = np.int64(0), 0
    while rows < NEAR_ROWS:
        c = nearest_cluster(clusters, looked)
        if c < 0:
            break
        looked += 1
        low, high = np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])
        for w in range(low >> 6, ((high + 63) >> 6)):
            block = segment[SIGNS] + w * u64s * 512
            block_distances(block, signs_of_query.ctypes.data, u64s, np.uint64(0), distances.ctypes.data + 128 * w)
        for row in range(low, high):
            histogram[distances[row]] += 1
        rows += high - low
    threshold, total = 0, histogram[0]
    while total < min(NEAREST_ROWS, rows):
        threshold += 1
        total += histogram[threshold]
    passing = 0
    for i in range(looked):
        c = nearest_cluster(clusters, i)
        for row in range(np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])):
            if np.int64(distances[row]) <= threshold and passes(allowed.bits, row):
                passing += 1
    return passing / max(total, 1)


@inner
def search_clusters(segment, scoring, signs_of_query, clusters, allowed, by_signs, budget, first_pass, r, space):
    """The nearest clusters until they hold ``budget`` passing rows: each of these scored by codes, or only the best ``first_pass`` of them
    by Hamming distance. Returns (results, rows scored).
    """
    size, n, passed, i = 0, 0, np.int64(0), 0
    threshold, total = segment[DIM], np.int64(0)
    space.histogram[:] = 0
    while passed < budget:
        c = nearest_cluster(clusters, i)
        i += 1
        if c < 0:
            break
        low, high = np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])
        here = np.int64(allowed.counts[c]) if allowed.filtered else high - low
        if here == 0:
            continue
        passed += here
        if by_signs:
            threshold, total, n = near_blocks(segment[SIGNS], signs_of_query, allowed, low, high, first_pass, space, threshold, total, n)
        else:
            n = gather(allowed.filtered, allowed.bits, low, high, space.near)
            size = score_rows(scoring, space.near, n, space.results, size, r)
    if by_signs:
        passed = keep_near(space, n, threshold)
        size = score_rows(scoring, space.near, passed, space.results, 0, r)
    return size, passed
