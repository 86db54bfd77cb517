"""Rows of a segment scored at full precision, out of the chunks: the best that codes found, or all of them in the order of the chunks."""

from __future__ import annotations

import numpy as np
from numba import carray

from . import COUNT, DATA, DOCIDS, FIRST, LAST, NORMS
from .bitset import bits_between
from .dense import COSINE, DOT, cosine_of, lower_bound, place_of, score_row
from .dots import LINE
from .jit import count_trailing_zeros, inner, pointer, prefetch_lines
from .layout import DIM, DOCIDS_AT, FIRST_DOCID, METRIC, PRESENT, ROWS, SPAN
from .topk import heap_of_best, make_key, offer, pop_best, row_of, score_of

RESCORED_AT_ONCE = 16  # rows that are asked for before they are scored, while fewer than k are there [chosen, not measured]
RESCORED_MORE = (
    4  # rows that are asked for at once after that, except for dot, as long as the error bound asks for more [chosen, not measured]
)
SPARE_SHARE = 5  # one row more for each so many results, at least two, is scored at first: codes hardly mistake more [prototype]


@inner
def rescore(segment, query, results, size, start, shift, bound, table, verified, half, heap, hits):
    """Rows of ``results`` from the ``start``-th on scored at full precision from the chunks, into ``heap`` (keys by docid), best codes
    first, until what is left can't be among the best: a score by codes, plus ``shift``, is at most ``bound`` off. Returns (hits, chunks
    newly touched, whether it ended so). ``results`` are reordered.
    """
    metric = segment[METRIC]
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    left = heap_of_best(results, size)
    for _ in range(start):
        left = pop_best(results, left)
    width = segment[DIM] * (2 if half else 4)
    found = np.empty((RESCORED_AT_ONCE, 3), np.int64)  # docid, chunk and position in it
    k = len(heap)
    touched = 0
    # The codes of the longest rows may be clipped, by more than the bound says. For dot these are often the best rows of a query.
    first, more = RESCORED_AT_ONCE, RESCORED_AT_ONCE
    if metric != DOT:
        first, more = min(first, k + max(2, k // SPARE_SHARE)), RESCORED_MORE
    at_once = first
    while left > 0:
        if hits == k and score_of(results[0]) + shift + bound < score_of(heap[0]):
            return hits, touched, True
        n = min(at_once, left)
        for i in range(n):
            docid = np.int64(docids[row_of(results[0])])
            left = pop_best(results, left)
            c, position = place_of(table, docid)
            found[i, 0], found[i, 1], found[i, 2] = docid, c, position
            if c >= 0:
                if verified[c] != 1:  # 2 is another thread's mark, which may not be confirmed yet
                    verified[c] = 2
                    touched += 1
                prefetch_lines(table[c, NORMS] + 4 * position, 1)
                for line in range(0, (width + LINE - 1) // LINE, 8):
                    prefetch_lines(table[c, DATA] + position * width + line * LINE, 8)
        for i in range(n):
            c, position = found[i, 1], found[i, 2]
            if c >= 0:
                score = score_row(query, table[c, DATA] + position * width, half, metric)
                if metric == COSINE:
                    score = cosine_of(score, carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)[position])
                hits = offer(heap, hits, k, make_key(score, found[i, 0]))
        at_once = more if hits == k else RESCORED_AT_ONCE
    return hits, touched, False


@inner
def docid_bits(segment, filtered, bits):
    """The docids that may be found, a bit each from the segment's first on: those of its rows, or of the rows with a bit in ``bits``."""
    u64s = (segment[SPAN] + 63) >> 6
    if not filtered:
        return carray(pointer(segment[PRESENT]), u64s, np.uint64)
    passing = np.zeros(u64s, np.uint64)
    rows, first = segment[ROWS], segment[FIRST_DOCID]
    docids = carray(pointer(segment[DOCIDS_AT]), rows, np.uint32)
    for w in range((rows + 63) >> 6):
        word = bits_between(True, bits, w, 0, rows)
        while word != 0:
            offset = np.int64(docids[64 * w + count_trailing_zeros(word)]) - first
            word &= word - np.uint64(1)
            if 0 <= offset < segment[SPAN]:
                passing[offset >> 6] |= np.uint64(1) << np.uint64(offset & 63)
    return passing


@inner
def place_after(docids, count, position, docid):
    """The first place from ``position`` on whose docid (ascending) is at least that one, by steps that double."""
    low, high, step = position, position, 1
    while high < count and np.int64(docids[high]) < docid:
        low = high + 1
        high += step
        step <<= 1
    return lower_bound(docids, low, min(high, count), docid)


@inner
def score_all(segment, query, filtered, bits, table, verified, half, heap, hits):
    """Every row that may be found scored at full precision, into ``heap`` (keys by docid). Returns (hits, chunks newly touched, rows
    scored).
    """
    metric, first, end = segment[METRIC], segment[FIRST_DOCID], segment[FIRST_DOCID] + segment[SPAN]
    passing = docid_bits(segment, filtered, bits)
    width = segment[DIM] * (2 if half else 4)
    k = len(heap)
    touched, scored = 0, np.int64(0)
    for c in range(len(table)):
        low, high = max(table[c, FIRST], first), min(table[c, LAST] + 1, end)
        if low >= high:
            continue
        count, data, start = table[c, COUNT], table[c, DATA], table[c, FIRST]
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        norms = carray(pointer(table[c, NORMS]), count, np.float32)
        listed = table[c, DOCIDS] != 0
        position, used = np.int64(0), False
        for w in range((low - first) >> 6, ((high - 1 - first) >> 6) + 1):
            word = bits_between(True, passing, w, low - first, high - first)
            while word != 0:
                docid = first + 64 * w + count_trailing_zeros(word)
                word &= word - np.uint64(1)
                place = docid - start
                if listed:
                    place = position = place_after(docids, count, position, docid)
                    if place >= count or np.int64(docids[place]) != docid:
                        continue
                used = True
                score = score_row(query, data + place * width, half, metric)
                if metric == COSINE:
                    score = cosine_of(score, norms[place])
                key = make_key(score, docid)
                if hits < k or key > heap[0]:
                    hits = offer(heap, hits, k, key)
                scored += 1
        if used and verified[c] != 1:  # as in ``rescore``
            verified[c] = 2
            touched += 1
    return hits, touched, scored
