"""Exact scores of rows of a sparse segment, out of its forward index."""

from __future__ import annotations

import numpy as np
from numba import carray

from .impact_layout import BYTES, DOCIDS_AT, FIXED, GAIN, ROW_AT, ROW_LENGTHS, ROW_TERMS, ROW_WEIGHTS, ROWS, SLOPE, WIDE
from .jit import inner, pointer, prefetch
from .sparse import saturated
from .topk import make_key, offer, row_of

ROWS_AHEAD = 4  # rows that are asked for before they are scored [chosen, not measured]
PLACES_AHEAD = 16  # rows whose places in the forward index are asked for [chosen, not measured]


@inner
def row_score(segment, saturation, query, row, start, end):
    """A row's score, items [start, end) of the forward index, for the query: float32, one a term, 65,536 of them at least. About: its last
    digits depend on the order of additions, see ``in_order_of_terms``.
    """
    total = np.float32(0)
    count = end - start
    last = np.int64(len(query) - 1)  # a damaged file may name terms that there aren't
    if segment[ROW_LENGTHS] != 0:
        return counted_score(segment, saturation, query, row, start, end)
    if segment[ROW_WEIGHTS] == 0:
        if segment[WIDE]:
            wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
            for i in range(count):
                total += query[min(np.int64(wide[i]), last)]
        else:
            narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
            for i in range(count):
                total += query[narrow[i]]
        return total
    weights = carray(pointer(segment[ROW_WEIGHTS] + 4 * start), count, np.float32)
    if segment[WIDE]:
        wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
        for i in range(count):
            total += query[min(np.int64(wide[i]), last)] * weights[i]
    else:
        narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
        for i in range(count):
            total += query[narrow[i]] * weights[i]
    return total


@inner(ordered=True)
def counted_score(segment, saturation, query, row, start, end):
    """``row_score`` where rows are term frequencies, in the order of terms: texts that say the same have the same score, so that ties go to
    the lower docid. Few terms are the query's, so this takes no longer.
    """
    total = np.float32(0)
    count = end - start
    last = np.int64(len(query) - 1)
    norm = norm_of(segment, saturation, row)
    if segment[WIDE]:
        wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
        for i in range(count):
            weight = query[min(np.int64(wide[i]), last)]
            if weight != 0:
                total += weight * saturated(weight_at(segment, start + i), saturation[GAIN], norm)
    else:
        narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
        for i in range(count):
            weight = query[narrow[i]]
            if weight != 0:
                total += weight * saturated(weight_at(segment, start + i), saturation[GAIN], norm)
    return total


@inner
def weight_at(segment, i):
    """The weight, or term frequency, of an item of the forward index that isn't multiplied into the query."""
    if segment[ROW_WEIGHTS] == 0:
        return np.float32(1)
    if segment[BYTES]:
        return np.float32(carray(pointer(segment[ROW_WEIGHTS] + i), 1, np.uint8)[0])
    return carray(pointer(segment[ROW_WEIGHTS] + 4 * i), 1, np.float32)[0]


@inner(ordered=True)
def norm_of(segment, saturation, row):
    """What a row's length adds to the frequency of each of its terms, as ``sparse.norms_between`` has it."""
    return saturation[FIXED] + saturation[SLOPE] * carray(pointer(segment[ROW_LENGTHS] + 4 * row), 1, np.float32)[0]


@inner
def prefetch_row(segment, start, end):
    """Ask for a row of the forward index."""
    width = 4 if segment[WIDE] else 2
    for line in range(0, width * (end - start) + 63, 64):
        prefetch(segment[ROW_TERMS] + width * start + line)
    if segment[ROW_WEIGHTS] != 0:
        width = 1 if segment[BYTES] else 4
        for line in range(0, width * (end - start) + 63, 64):
            prefetch(segment[ROW_WEIGHTS] + width * start + line)


@inner
def score_rows(segment, saturation, query, near, heights, begin, end, scale, least, heap, size, statistics):
    """Scores rows near[begin:end] and offers those that score above 0.

    statistics: of score · scale − sum, see ``learn_gap``, added to for rows with sums (``heights``) of ``least`` or more; not where scale
    is 0.
    """
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    k = len(heap)
    for i in range(begin, min(begin + PLACES_AHEAD, end)):
        prefetch(segment[ROW_AT] + 8 * np.int64(near[i]))
    for i in range(begin, min(begin + ROWS_AHEAD, end)):
        prefetch_row(segment, row_at[near[i]], row_at[near[i] + 1])
    for i in range(begin, end):
        if i + PLACES_AHEAD < end:
            prefetch(segment[ROW_AT] + 8 * np.int64(near[i + PLACES_AHEAD]))
        if i + ROWS_AHEAD < end:
            after = near[i + ROWS_AHEAD]
            prefetch_row(segment, row_at[after], row_at[after + 1])
        row = np.int64(near[i])
        score = row_score(segment, saturation, query, row, row_at[row], row_at[row + 1])
        if score > 0:
            key = make_key(score, row)
            if size < k or key > heap[0]:
                size = offer(heap, size, k, key)
        if scale > 0 and np.int64(heights[i]) >= least:
            learn_gap(np.float64(score) * scale, np.float64(heights[i]), statistics)
    return size


@inner
def gaps_of(segment, saturation, query, others, most, scale, statistics):
    """How far the sums of other rows (int64 ascending, sum « 32 | row; 0: none) lie below their scores, added to ``statistics``: of the
    first ``most`` of them. Returns how many.
    """
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    begin = 0
    while begin < len(others) and others[begin] <= 0:
        begin += 1
    end = min(begin + most, len(others))
    for i in range(begin, end):
        row = others[i] & np.int64(0xFFFFFFFF)
        prefetch_row(segment, row_at[row], row_at[row + 1])
    for i in range(begin, end):
        row = others[i] & np.int64(0xFFFFFFFF)
        score = row_score(segment, saturation, query, row, row_at[row], row_at[row + 1])
        learn_gap(np.float64(score) * scale, np.float64(others[i] >> 32), statistics)
    return end - begin


@inner
def learn_gap(score, height, statistics):
    """Adds to (count, sum of gaps, sum of their squares, sum of heights)."""
    gap = score - height
    statistics[0] += 1
    statistics[1] += gap
    statistics[2] += gap * gap
    statistics[3] += height


@inner(ordered=True)
def in_order_of_terms(segment, saturation, query, best, size, heap):
    """Scores the rows best[:size] again, adding up in the order of terms as an exact search does, into ``heap`` under their docids."""
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    last = np.int64(len(query) - 1)
    n = 0
    for i in range(size):
        row = row_of(best[i])
        total = np.float32(0)
        norm = norm_of(segment, saturation, row) if segment[ROW_LENGTHS] != 0 else np.float32(0)
        for j in range(row_at[row], row_at[row + 1]):
            if segment[WIDE]:
                term = min(np.int64(carray(pointer(segment[ROW_TERMS] + 4 * j), 1, np.uint32)[0]), last)
            else:
                term = np.int64(carray(pointer(segment[ROW_TERMS] + 2 * j), 1, np.uint16)[0])
            if query[term] != 0:
                weight = weight_at(segment, j)
                if segment[ROW_LENGTHS] != 0:
                    weight = saturated(weight, saturation[GAIN], norm)
                total += query[term] * weight
        n = offer(heap, n, len(heap), make_key(total, docids[row]))
    return n
