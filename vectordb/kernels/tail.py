"""Byte codes of rows that no index file has yet, and a scan of them that loses no row. Each code comes with the norm of what it leaves out,
so every score has bounds that hold (Cauchy–Schwarz).
"""

from __future__ import annotations

import numpy as np
from numba import carray

from . import COUNT, DATA, DOCIDS, FIRST, LAST, NORMS
from .dense import COSINE, L2, half_to_float
from .dots import dot_rows
from .jit import inner, kernel, pointer
from .topk import make_key, offer, score_of

# Facts of a row: the step of its code, the norm of what the code leaves out, that of the row less the mean, and of cosines the row's norm.
STEP, ERROR, NORM, LENGTH = range(4)
FACTS = 4
ABSENT, CODED, PLAIN = 0, 1, 2  # states of a row: without a vector; with a code; too long for a code, so that it is always scored
MOST_SQUARE = 1e29  # squared norm; longer rows are PLAIN. Writes take no longer ones
UNIT = 6.1e-8  # a little above the relative rounding error of float32
FAR = 1e300


@inner
def code_row(address, half, mean, length, code, facts):
    """Codes one row. code: uint8 ``(dim,)``; facts: float32 ``(FACTS,)``. Returns its state."""
    dim = len(mean)
    row16, row = carray(pointer(address), dim, np.uint16), carray(pointer(address), dim, np.float32)
    most, square = 0.0, 0.0
    for j in range(dim):
        value = np.float64(half_to_float(row16[j]) if half else row[j]) - np.float64(mean[j])
        most = max(most, abs(value))
        square += value * value
    if not square < MOST_SQUARE:
        return PLAIN
    step = np.float32(most / 127.0)
    inverse = 1.0 / np.float64(step) if step > 0 else 0.0
    missing = 0.0
    for j in range(dim):
        value = np.float64(half_to_float(row16[j]) if half else row[j]) - np.float64(mean[j])
        number = min(max(np.floor(value * inverse + 0.5), -127.0), 127.0)
        gap = value - number * np.float64(step)
        missing += gap * gap
        code[j] = np.uint8(np.int64(number) + 128)
    facts[STEP], facts[ERROR], facts[NORM], facts[LENGTH] = step, np.sqrt(missing), np.sqrt(square), length
    return CODED


@kernel
def code_tail(table, half, cosine, low, high, base, mean, codes, facts, states):
    """Codes the rows of docids [low, high) that a chunk table has.

    mean: float32 ``(dim,)``, subtracted from each row. Row i of codes (uint8 ``(rows, stride)``), facts (float32 ``(rows, FACTS)``) and
    states (uint8, ABSENT before the call) is of docid ``base + i``.
    """
    width = len(mean) * (2 if half else 4)
    for c in range(len(table)):
        if table[c, LAST] < low or table[c, FIRST] >= high:
            continue
        docids = carray(pointer(table[c, DOCIDS]), table[c, COUNT], np.uint32)
        listed = table[c, DOCIDS] != 0
        norms = carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)
        for p in range(table[c, COUNT]):
            docid = np.int64(docids[p]) if listed else table[c, FIRST] + p
            if docid >= low and docid < high:
                length = norms[p] if cosine else np.float32(1)
                i = docid - base
                states[i] = code_row(table[c, DATA] + p * width, half, mean, length, codes[i], facts[i])


@kernel
def tail_candidates(codes, facts, states, base, docids, query, mean, metric, k, threshold, out):
    """The docids (uint32 ascending, all ≥ base) that may be among the best k of these, and may reach a threshold, into ``out`` (uint32);
    returns how many.

    codes, facts, states, base, mean: as in ``code_tail``. query: float32 ``(dim,)``. A row is left out only where it is certain that
    ``dense.dense_topk`` scores it below the threshold, or below k others.
    """
    dim, stride, n = len(query), codes.shape[1], len(docids)
    cosine, l2 = metric == COSINE, metric == L2
    square = 0.0
    for j in range(dim):
        square += np.float64(query[j]) * np.float64(query[j])
    scale = 1.0 / np.sqrt(square) if cosine else 1.0
    most, shift, middle, own = 0.0, 0.0, 0.0, 0.0
    for j in range(dim):
        value = np.float64(query[j]) * scale
        shift += value * np.float64(mean[j])
        middle += np.float64(mean[j]) * np.float64(mean[j])
        value -= np.float64(mean[j]) if l2 else 0.0
        most = max(most, abs(value))
        own += value * value
    own, middle, length = np.sqrt(own), np.sqrt(middle), np.sqrt(square) * scale
    step = most / 127.0
    inverse = 1.0 / step if step > 0 else 0.0
    asked = np.empty(stride, np.int8)
    lost, total = 0.0, np.int64(0)
    for j in range(stride):
        asked[j] = 0
    for j in range(dim):
        value = np.float64(query[j]) * scale - (np.float64(mean[j]) if l2 else 0.0)
        number = min(max(np.floor(value * inverse + 0.5), -127.0), 127.0)
        gap = value - number * step
        lost += gap * gap
        asked[j] = np.int8(number)
        total += np.int64(number)
    lost = np.sqrt(lost)
    rows, products, upper = np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.float64)
    for i in range(n):
        rows[i] = np.int64(docids[i]) - base
    dot_rows(np.int64(codes.ctypes.data), stride, np.int64(asked.ctypes.data), rows, n, products)
    heap, size = np.empty(k, np.int64), 0
    rounding = 2.0 * (dim + 64) * UNIT
    for i in range(n):
        row = rows[i]
        if states[row] != CODED:
            upper[i] = FAR if states[row] == PLAIN else -FAR
            continue
        norm, error = np.float64(facts[row, NORM]), np.float64(facts[row, ERROR])
        product = step * np.float64(facts[row, STEP]) * np.float64(np.int64(products[i]) - 128 * total)
        slack = (lost * (norm + error) + own * error) * (1.0 + 4.0 * UNIT)
        if l2:
            score = 2.0 * product - own * own - norm * norm
            slack = 2.0 * slack + rounding * (own + norm) * (own + norm)
        else:
            score = product + shift
            slack += rounding * length * (norm + middle)
            if cosine:
                score, slack = score / np.float64(facts[row, LENGTH]), slack / np.float64(facts[row, LENGTH]) + rounding
        upper[i] = score + slack
        key = make_key(np.float32(score - slack), np.int64(i))
        if size < k or key > heap[0]:
            size = offer(heap, size, k, key)
    if size == k:
        least = np.float64(score_of(heap[0]))
        threshold = max(threshold, least - abs(least) * 2.0 * UNIT)
    kept = 0
    for i in range(n):
        if upper[i] >= threshold and upper[i] > -FAR:
            out[kept] = docids[i]
            kept += 1
    return kept
