"""Searching inverted lists: the nearest lists, their rows by one-bit codes, what may be among the best by longer codes, the best of these
at full precision.

Row numbers are the segment's own, in the order of the lists; docids appear only where rows are scored at full precision. A segment comes as
an array of addresses and sizes: the columns of ``layout`` and those below.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from . import COUNT, DATA, NORMS
from .bitset import bits_between
from .codes import positive_of_64
from .dense import COSINE, DOT, cosine_of, place_of, score_row
from .dots import LINE, code_dot
from .jit import count_trailing_zeros, inner, kernel, pointer, prefetch_lines
from .layout import (
    CENTROIDS,
    CLUSTERS,
    CODES,
    DIM,
    DOCIDS_AT,
    FLIP_ROUNDS,
    FLIPS,
    MEAN,
    METRIC,
    OFFSETS,
    ROWS,
    SEGMENT_WIDTH,
    SIGNS,
    STRIDE,
    U64S,
)
from .query_codes import normalise
from .rabitq import code_product, code_query, list_terms, to_frame, weigh_block
from .rescore import score_all
from .topk import heap_of_best, make_key, offer, pop_best, row_of, score_of, sort_keys

# Columns of a segment's description behind those of ``layout``. Addresses: factors of the one-bit codes and of the longer ones; byte codes
# of the centroids and half of their squared lengths. BITS: of the longer codes. SCALE, CENTROID_STEP, LOST, LONG_LOST (the mean of 1 − ρ²
# of the one-bit and the longer codes): the bits of float64.
ADD, FACTOR, ERROR, LONG_ADD, LONG_FACTOR, BITS, CENTROID_CODES, HALF_SQUARES, SCALE, CENTROID_STEP, LOST, LONG_LOST = range(
    SEGMENT_WIDTH, SEGMENT_WIDTH + 12
)
LISTS_WIDTH = SEGMENT_WIDTH + 12
# Columns of a report, float64.
R_SCORED, R_REFINED, R_LISTS, R_LOCAL, R_OPTION, R_KEPT, R_DISTANCE, R_AGAIN = range(8)  # R_DISTANCE: see ``distance_found``
R_WIDTH = 8

DEVIATIONS = np.float32(1.9)  # standard deviations of its error by which a one-bit score is taken to be too low [RaBitQ's ε₀]
KEPT, KEPT_LEAST = 64, 1_024  # rows scored at full precision, at most: times the results, and besides [chosen]
SCORED_AT_ONCE = 16  # rows that are asked for before they are scored at full precision [chosen]
NEAR_ROWS = 2_000  # rows of the nearest lists, at least, in which the selectivity near a query is measured [chosen]
FARTHEST = 2.0  # the largest distance that is told from others, as in ``dense.far`` [chosen]
SCAN, LISTS = 0, 1  # the plans: all matching rows at full precision; the rows of the nearest lists


@inner
def framed(segment, unit):
    """A query in the segment's frame, float32 ``(64·U64S,)``: as the rows, but for a dot product neither centred nor of their scale."""
    dim, size = segment[DIM], 64 * segment[U64S]
    scale = 1.0
    if segment[METRIC] == DOT:
        total = 0.0
        for j in range(dim):
            total += np.float64(unit[j]) * np.float64(unit[j])
        scale = 1.0 / np.sqrt(total) if total > 0 else 0.0
    elif segment[METRIC] != COSINE:
        scale = np.int64(segment[SCALE]).view(np.float64)
    flips = carray(pointer(segment[FLIPS]), (segment[FLIP_ROUNDS], size), np.float32)
    mean = carray(pointer(segment[MEAN]), dim, np.float32)
    given, out = np.empty((1, dim), np.float32), np.empty((1, size), np.float32)
    for j in range(dim):
        given[0, j] = np.float32(min(max(np.float64(unit[j]) * scale, -1e15), 1e15))
    to_frame(given, False, np.float32(1), mean, flips, out)
    return out[0]


@inner
def ranked(segment, query):
    """The lists by their distance from a query, as a heap of keys with the nearest on top."""
    lists, size = segment[CLUSTERS], 64 * segment[U64S]
    halves = carray(pointer(segment[HALF_SQUARES]), lists, np.float32)
    step = np.float32(np.int64(segment[CENTROID_STEP]).view(np.float64)) * query.byte_step
    keys, shift, at = np.empty(lists, np.int64), 128 * query.byte_total, query.codes.ctypes.data
    for c in range(lists):
        product = np.int64(code_dot(segment[CENTROID_CODES] + c * size, at, size // LINE)) - shift
        score = np.float32(product) * step
        keys[c] = make_key(score if segment[METRIC] == DOT else score - halves[c], c)
    heap_of_best(keys, lists)
    return keys


@inner
def compacted(kept, n, bound):
    """Drops the keys whose score is below a bound; where most would stay, the worse half. Returns how many stay."""
    least = make_key(bound, 0xFFFFFFFF)
    stay = 0
    for i in range(n):
        if kept[i] >= least:
            kept[stay] = kept[i]
            stay += 1
    if 4 * stay > 3 * len(kept):
        sort_keys(kept[:stay])
        half = stay // 2
        for i in range(half):
            kept[i] = kept[stay - half + i]
        stay = half
    return stay


@inner
def scan_list(segment, query, low, high, base, along, spreads, filtered, bits, best, n, kept, many):
    """Rows [low, high), a list: those that may be among the best into ``kept``, as keys by their longer codes, of which ``many`` are there;
    ``best``: a heap of the best keys, n of them. Longer codes are looked at of rows whose one-bit score, raised by its error, reaches the
    worst of a full heap less its own error. spreads: what ``error`` of a row is multiplied with for the error of its one-bit score, and for
    that of the score by its longer code. Returns (n, many, rows looked at by longer codes).
    """
    u64s, rows, stride, code_bits = segment[U64S], segment[ROWS], segment[STRIDE], segment[BITS]
    size = (rows + 63) // 64 * 64
    add, factor = carray(pointer(segment[ADD]), size, np.float32), carray(pointer(segment[FACTOR]), size, np.float32)
    error = carray(pointer(segment[ERROR]), size, np.float32)
    long_add, long_factor = (
        carray(pointer(segment[LONG_ADD]), size, np.float32),
        carray(pointer(segment[LONG_FACTOR]), size, np.float32),
    )
    sums, above = np.empty(64, np.int32), np.empty(64, np.float32)
    table_at, query_at = query.table.ctypes.data, query.codes.ctypes.data
    most, refined = len(best), 0
    rest = -0.5 * np.float64((1 << code_bits) - 1) * np.float64(query.fine_total)
    both = spreads[0] + spreads[1]
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(filtered, bits, w, low, high)
        if word == 0:
            continue
        if n == most:
            weigh_block(segment[SIGNS] + w * u64s * 512, table_at, 8 * u64s, sums)
            offset = base - score_of(best[0])
            for lane in range(64):
                row = 64 * w + lane
                product = query.step * np.float32(sums[lane]) + query.middle
                above[lane] = offset + along * add[row] + factor[row] * product + error[row] * both
            word &= positive_of_64(above.ctypes.data)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            product = np.float32(np.float64(code_product(segment[CODES] + row * stride, stride, code_bits, query_at)) + rest)
            score = base + along * long_add[row] + long_factor[row] * (query.fine_step * product)
            refined += 1
            key = make_key(score, row)
            if n < most or key > best[0]:
                n = offer(best, n, most, key)
            score += error[row] * spreads[1]
            if n < most or score >= score_of(best[0]):
                if many == len(kept):
                    many = compacted(kept, many, score_of(best[0]))
                kept[many] = make_key(score, row)  # as good as it may be
                many += 1
    return n, many, refined


@inner
def score_kept(segment, unit, results, n, table, verified, half, heap, hits):
    """The rows of ``results`` scored at full precision from the chunks, in the order of their docids, which is that of their addresses,
    into ``heap`` (keys by docid). Returns (hits, chunks newly touched).
    """
    metric = segment[METRIC]
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    width = segment[DIM] * (2 if half else 4)
    for i in range(n):
        results[i] = np.int64(docids[row_of(results[i])])
    sort_keys(results[:n])
    found = np.empty((SCORED_AT_ONCE, 2), np.int64)
    k, touched = len(heap), 0
    for begin in range(0, n, SCORED_AT_ONCE):
        end = min(begin + SCORED_AT_ONCE, n)
        for i in range(begin, end):
            c, position = place_of(table, results[i])
            found[i - begin, 0], found[i - begin, 1] = c, position
            if c >= 0:
                if verified[c] != 1:  # as in ``rescore``
                    verified[c] = 2
                    touched += 1
                prefetch_lines(table[c, NORMS] + 4 * position, 1)
                for line in range(0, (width + LINE - 1) // LINE, 8):
                    prefetch_lines(table[c, DATA] + position * width + line * LINE, min(8, (width + LINE - 1) // LINE - line))
        for i in range(begin, end):
            c, position = found[i - begin, 0], found[i - begin, 1]
            if c >= 0:
                score = score_row(unit, table[c, DATA] + position * width, half, metric)
                if metric == COSINE:
                    score = cosine_of(score, carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)[position])
                hits = offer(heap, hits, k, make_key(score, results[i]))
    return hits, touched


@inner
def whole_distance(segment, rotated):
    """(score of a row at a query, by how much less the mean of all rows scores), of a query in the frame."""
    metric, square = segment[METRIC], 0.0
    if metric == DOT:
        return 1.0, 1.0
    for j in range(len(rotated)):
        square += np.float64(rotated[j]) * np.float64(rotated[j])
    if metric != COSINE:
        return 0.0, square
    mean, own = carray(pointer(segment[MEAN]), segment[DIM], np.float32), 0.0
    for j in range(len(mean)):
        own += np.float64(mean[j]) * np.float64(mean[j])
    return 1.0, (square + 1.0 - own) / 2


@inner
def distance_found(best, n, depth, reach, whole):
    """How far the ``depth``-th best of a heap of n keys is from a query, relative to the mean of all rows (``dense.far``): 0 for a row at
    the query. reach, whole: as from ``whole_distance``.
    """
    if n == 0 or whole <= 0:
        return FARTHEST
    key = best[0]
    if n > depth:
        nearest, held = np.empty(depth, np.int64), 0
        for i in range(n):
            if held < depth or best[i] > nearest[0]:
                held = offer(nearest, held, depth, best[i])
        key = nearest[0]
    return min(max((reach - np.float64(score_of(key))) / whole, 0.0), FARTHEST)


@kernel
def search_lists(
    segment, options, limits, stops, depth, filtered, bits, counts, matches, queries, table, verified, half, heaps, sizes, reports
):
    """The best rows of a segment for each query, merged into ``heaps`` ``(n, k)`` of docid keys with ``sizes`` filled; returns chunks newly
    touched.

    options: float64 ``(m, 3)``, each a plan (SCAN or LISTS), the matching rows of the nearest lists to look at, at least min(k, matches);
    and the standard deviations of its error by which a score by longer codes is taken to be too low. limits: float64 ``(m − 1,)``,
    descending: option i is for queries near which the selectivity, relative to that of all rows, is below i of them. stops: float64 ``(s,
    2)``, ascending matching rows, and the largest distance of the ``depth``-th best row with which a search ends that has looked at so
    many; with a larger one it goes on to the next. Without any, none goes on. bits: uint64, a bit a
    row, where ``filtered``; counts: int32, passing rows of each list; matches: of all, at least 1. queries: float32 ``(n, dim)``. reports:
    float64 ``(n, R_WIDTH)``, overwritten. An option with a negative plan only fills the report.
    """
    dim, lists, size, k = segment[DIM], segment[CLUSTERS], 64 * segment[U64S], heaps.shape[1]
    offsets = carray(pointer(segment[OFFSETS]), lists + 1, np.int32)
    centroids = carray(pointer(segment[CENTROIDS]), (lists, size), np.float32)
    noise = np.float32((size - 1) / max(np.int64(segment[LOST]).view(np.float64), 1e-9))  # error of a rounded query
    width = max(segment[STRIDE] * (8 // segment[BITS]), size)
    needed = min(np.int64(k), np.int64(matches))
    best = np.empty(needed, np.int64)
    kept = np.empty(min(KEPT * needed + KEPT_LEAST, np.int64(matches)), np.int64)
    lost, long_lost = np.int64(segment[LOST]).view(np.float64), np.int64(segment[LONG_LOST]).view(np.float64)
    finer = np.float32(np.sqrt(long_lost / max(1.0 - long_lost, 1e-9) / max(lost / max(1.0 - lost, 1e-9), 1e-9)))
    long_noise = np.float32((size - 1) / max(long_lost, 1e-9))
    unit, order = np.empty(dim, np.float32), np.empty(lists, np.int64)
    touched = 0
    for q in range(len(queries)):
        report = reports[q]
        report[R_SCORED] = report[R_REFINED] = report[R_LISTS] = report[R_OPTION] = report[R_KEPT] = 0
        report[R_LOCAL] = report[R_DISTANCE] = -1
        report[R_AGAIN] = 0
        normalise(segment, queries[q], unit)
        if len(limits) == 0 and options[0, 0] == SCAN:
            sizes[q], fresh, scored = score_all(segment, unit, filtered, bits, table, verified, half, heaps[q], sizes[q])
            report[R_SCORED], report[R_LISTS] = scored, lists
            touched += fresh
            continue
        choosing, ahead, left, option = filtered and (len(limits) > 0 or options[0, 0] < 0), 0, lists, 0
        query = code_query(framed(segment, unit), width, segment[BITS] == 8)
        heap = ranked(segment, query)
        if choosing:
            near, passing = np.int64(0), np.int64(0)
            while left > 0 and near < NEAR_ROWS:
                c = row_of(heap[0])
                left = pop_best(heap, left)
                order[ahead] = c
                ahead += 1
                near += np.int64(offsets[c + 1]) - np.int64(offsets[c])
                passing += np.int64(counts[c])
            report[R_LOCAL] = passing / near
            relative = report[R_LOCAL] * segment[ROWS] / matches
            while option < len(limits) and relative < limits[option]:
                option += 1
        report[R_OPTION] = option
        plan, effort = np.int64(options[option, 0]), max(np.int64(options[option, 1]), needed)
        if plan < 0:
            continue
        if plan == SCAN:
            sizes[q], fresh, scored = score_all(segment, unit, filtered, bits, table, verified, half, heaps[q], sizes[q])
            report[R_SCORED], report[R_LISTS] = scored, lists
            touched += fresh
            continue
        deviations = np.float32(options[option, 2])
        n, many, seen, refined, probed, taken = 0, 0, np.int64(0), 0, 0, 0
        reach, whole = whole_distance(segment, query.rotated)
        distance, stop = -1.0, 0
        while True:
            while (left > 0 or taken < ahead) and seen < effort:
                if taken < ahead:
                    c = order[taken]
                    taken += 1
                else:
                    c = row_of(heap[0])
                    left = pop_best(heap, left)
                low, high = np.int64(offsets[c]), np.int64(offsets[c + 1])
                passing = np.int64(counts[c]) if filtered else high - low
                if passing == 0:
                    continue
                base, along, square = list_terms(segment[METRIC], query.rotated, centroids[c])
                spreads = (
                    DEVIATIONS * np.sqrt(square + query.noise * noise),
                    deviations * finer * np.sqrt(square + query.fine_noise * long_noise),
                )
                n, many, more = scan_list(segment, query, low, high, base, along, spreads, filtered, bits, best, n, kept, many)
                seen += passing
                refined += more
                probed += 1
            distance = distance_found(best, n, depth, reach, whole)
            while stop < len(stops) and stops[stop, 0] < effort:
                stop += 1
            if stop + 1 >= len(stops) or distance <= stops[stop, 1] or (left == 0 and taken == ahead):
                break
            stop += 1
            effort = np.int64(stops[stop, 0])
            report[R_AGAIN] = 1
        report[R_DISTANCE] = distance
        if many > needed:
            many = compacted(kept, many, score_of(best[0]))
        sizes[q], fresh = score_kept(segment, unit, kept, many, table, verified, half, heaps[q], sizes[q])
        touched += fresh
        report[R_SCORED], report[R_REFINED], report[R_LISTS], report[R_KEPT] = seen, refined, probed, many
    return touched
