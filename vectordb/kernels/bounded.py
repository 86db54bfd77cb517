"""A scan of a segment's byte codes whose scores are off by no more than a bound that holds for every row, not for most of them."""

from __future__ import annotations

import numpy as np
from numba import carray

from .bitset import bits_between
from .dense import L2
from .graph import Scoring, code_score
from .jit import count_trailing_zeros, kernel, pointer
from .segment import BIAS, CODES, DIM, DOCIDS_AT, MEAN, METRIC, ROWS, STEP, STRIDE, encode
from .topk import make_key, offer

ROUNDING = 1e-5  # of the lengths involved: float32 sums and rotations stay far below


@kernel
def bounded_topk(segment, query, codes, filtered, bits, low, high, error, reach, heap):
    """The best passing rows of [low, high) by their codes, as keys of docids, into ``heap``; returns (how many, bound).

    A true score is at most ``bound`` from the key's (Cauchy–Schwarz): error is the length of what the codes of a row lack, reach the length
    of a rotated row, each the largest of all rows. query: float32 ``(dim,)``, as given. codes: int8 ``(stride,)`` on a cache line, for the
    query's. bits: as in ``Passing``.
    """
    dim, stride, biased = segment[DIM], segment[STRIDE], segment[METRIC] == L2
    unit, rotated, spare = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    scale, offset, shift, _ = encode(segment, query, unit, rotated, spare, codes)
    doubled = 2.0 if biased else 1.0
    step = np.float64(scale) / (np.int64(segment[STEP]).view(np.float64) * doubled)
    mean = carray(pointer(segment[MEAN]), dim, np.float32)
    length, lacking, centre = 0.0, 0.0, 0.0
    for j in range(dim):
        length += np.float64(rotated[j]) * np.float64(rotated[j])
        gap = np.float64(rotated[j]) - step * np.float64(codes[j])
        lacking += gap * gap
        centre += np.float64(mean[j]) * np.float64(mean[j])
    length, lacking, centre = np.sqrt(length), np.sqrt(lacking), np.sqrt(centre)
    bound = doubled * (error * length + (reach + error) * lacking)
    whole = reach + centre
    bound += ROUNDING * ((length + whole) * (length + whole) if biased else length * whole)
    bias = carray(pointer(segment[BIAS]), segment[ROWS] if biased else 0, np.float32)
    scoring = Scoring(segment[CODES], stride, codes.ctypes.data, scale, offset, bias, biased)
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    n, k = 0, len(heap)
    for w in range(low >> 6, ((high - 1) >> 6) + 1 if high > low else low >> 6):
        word = bits_between(filtered, bits, w, low, high)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            key = make_key(code_score(scoring, row) + shift, np.int64(docids[row]))
            if n < k or key > heap[0]:
                n = offer(heap, n, k, key)
    return n, bound
