"""A search among few rows of a segment, given by docid: no plan is chosen, and no row is looked at that doesn't match.

Very few rows are scored at full precision. More are scored by their byte codes first. Of these, the best k by codes are scored at full
precision, and then all that may belong to the best k as far as their codes can tell.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from . import COUNT, DATA, NORMS
from .dense import COSINE, L2, cosine_of, place_of, score_row
from .dots import LINE, dot_four, room_for_four
from .jit import inner, kernel, pointer, prefetch_lines
from .layout import BIAS, CODES, DIM, DOCIDS_AT, FIRST_DOCID, METRIC, QUERY, QUERY_CODES, ROWS, SPARE, STRIDE
from .query_codes import encode, normalise
from .rescore import RESCORED_AT_ONCE
from .scoring import SCORED_AHEAD, Scoring, code_score, score_of_product
from .topk import make_key, offer, row_of, score_of

UNCODED = 80  # rows; so many or fewer are scored at full precision right away [estimate]


@inner
def score_places(metric, query, docids, n, table, verified, half, heap, hits):
    """docids[:n] (uint32) scored at full precision from the chunks, into ``heap`` (keys by docid); those that no chunk holds are left out.
    Returns (hits, chunks newly touched).
    """
    width, k = len(query) * (2 if half else 4), len(heap)
    chunks, places = np.empty(RESCORED_AT_ONCE, np.int64), np.empty(RESCORED_AT_ONCE, np.int64)
    touched = 0
    for start in range(0, n, RESCORED_AT_ONCE):
        some = min(RESCORED_AT_ONCE, n - start)
        for i in range(some):
            c, position = place_of(table, np.int64(docids[start + i]))
            chunks[i], places[i] = c, position
            if c >= 0:
                if verified[c] != 1:  # 2 is another thread's mark, which may not be confirmed yet
                    verified[c] = 2
                    touched += 1
                for line in range(0, (width + LINE - 1) // LINE, 8):
                    prefetch_lines(table[c, DATA] + position * width + line * LINE, (width + LINE - 1) // LINE - line)
        for i in range(some):
            c = chunks[i]
            if c >= 0:
                score = score_row(query, table[c, DATA] + places[i] * width, half, metric)
                if metric == COSINE:
                    score = cosine_of(score, carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)[places[i]])
                key = make_key(score, np.int64(docids[start + i]))
                if hits < k or key > heap[0]:
                    hits = offer(heap, hits, k, key)
    return hits, touched


@kernel
def search_few(segment, work, inverse, docids, held, queries, k, table, verified, half, heaps, sizes):
    """The best k of given rows of a segment for each query, merged into ``heaps`` ``(n, k)`` of docid keys with ``sizes`` filled; returns
    chunks newly touched.

    docids: uint32, ascending; those without a row in the segment are left out, the others set in ``held`` (bool, as long). inverse: int32,
    the row of docid ``first + i`` or −1. queries, table, verified, half, heaps, sizes: as in ``search_segment``.
    """
    rows, dim, stride, first, metric = segment[ROWS], segment[DIM], segment[STRIDE], segment[FIRST_DOCID], segment[METRIC]
    own, n = np.empty(len(docids), np.int32), 0
    for i in range(len(docids)):
        offset = np.int64(docids[i]) - first
        row = np.int64(inverse[offset]) if 0 <= offset < len(inverse) else np.int64(-1)
        if 0 <= row < rows:
            own[n] = row
            n += 1
            held[i] = True
    by_row = carray(pointer(segment[DOCIDS_AT]), rows, np.uint32)
    unit, found = np.empty(dim, np.float32), np.empty(n, np.uint32)
    biased = metric == L2
    bias = carray(pointer(segment[BIAS]), rows if biased else 0, np.float32)
    rotated, spare = carray(pointer(work[QUERY]), dim, np.float32), carray(pointer(work[SPARE]), dim, np.float32)
    codes = carray(pointer(work[QUERY_CODES]), stride, np.int8)
    coded = n > max(UNCODED, k)
    keys, best = np.empty(n if coded else 0, np.int64), np.empty(k if coded else 0, np.int64)
    room = room_for_four()
    products = carray(pointer(room), 4, np.int32)
    touched = 0
    for q in range(len(queries)):
        normalise(segment, queries[q], unit)
        if not coded:
            for i in range(n):
                found[i] = by_row[own[i]]
            sizes[q], fresh = score_places(metric, unit, found, n, table, verified, half, heaps[q], sizes[q])
            touched += fresh
            continue
        for i in range(min(SCORED_AHEAD, n)):
            prefetch_lines(segment[CODES] + np.int64(own[i]) * stride, stride // LINE)
        scale, offset, shift, bound = encode(segment, unit, rotated, spare, codes)
        scoring = Scoring(segment[CODES], stride, work[QUERY_CODES], scale, offset, bias, biased)
        for i in range(0, n - n % 4, 4):
            for j in range(min(4, n - i - SCORED_AHEAD)):
                ahead = segment[CODES] + np.int64(own[i + SCORED_AHEAD + j]) * stride
                for line in range(0, stride // LINE, 8):
                    prefetch_lines(ahead + line * LINE, stride // LINE - line)
            dot_four(
                segment[CODES] + np.int64(own[i]) * stride,
                segment[CODES] + np.int64(own[i + 1]) * stride,
                segment[CODES] + np.int64(own[i + 2]) * stride,
                segment[CODES] + np.int64(own[i + 3]) * stride,
                work[QUERY_CODES],
                stride // LINE,
                room,
            )
            for j in range(4):
                row = np.int64(own[i + j])
                keys[i + j] = make_key(score_of_product(scoring, products[j], row), row)
        for i in range(n - n % 4, n):
            row = np.int64(own[i])
            keys[i] = make_key(code_score(scoring, row), row)
        size = 0
        for i in range(n):
            if size < k or keys[i] > best[0]:
                size = offer(best, size, k, keys[i])
        for i in range(size):
            found[i] = by_row[row_of(best[i])]
        sizes[q], fresh = score_places(metric, unit, found, size, table, verified, half, heaps[q], sizes[q])
        touched += fresh
        # A score by codes, plus ``shift``, is at most ``bound`` off the true one.
        least = score_of(heaps[q][0]) - shift - bound if sizes[q] == k else np.float32(-np.inf)
        more = 0
        for i in range(n):
            if keys[i] < best[0] and score_of(keys[i]) >= least:
                found[more] = by_row[row_of(keys[i])]
                more += 1
        sizes[q], fresh = score_places(metric, unit, found, more, table, verified, half, heaps[q], sizes[q])
        touched += fresh
    return touched


@inner
def score_others(metric, docids, held, query, table, verified, half, heap, hits):
    """The docids not set in ``held`` scored at full precision, into ``heap``: rows that no segment holds. query: float32, as given. Returns
    (hits, chunks newly touched).
    """
    found, n = np.empty(len(docids), np.uint32), 0
    for i in range(len(docids)):
        if not held[i]:
            found[n] = docids[i]
            n += 1
    if n == 0:
        return hits, 0
    described, unit = np.zeros(METRIC + 1, np.int64), np.empty(len(query), np.float32)
    described[METRIC] = metric
    normalise(described, query, unit)
    return score_places(metric, unit, found, n, table, verified, half, heap, hits)
