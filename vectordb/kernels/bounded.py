"""A scan of a segment's byte codes by upper bounds that hold for every row, not for most of them."""

from __future__ import annotations

import numpy as np
from numba import carray

from .bitset import bits_between
from .dense import L2
from .jit import count_trailing_zeros, kernel, pointer
from .layout import BIAS, CODES, DIM, DOCIDS_AT, MEAN, METRIC, ROWS, STEP, STRIDE
from .query_codes import encode, normalise
from .scoring import Scoring, code_score
from .topk import make_key, offer

ROUNDING = 1e-5  # share of the norms involved; float32 sums and rotations stay far below [rounding of float32]


@kernel
def bounded_topk(segment, query, codes, filtered, bits, low, high, residual_norms, max_norm, threshold, heap):
    """The passing rows of [low, high) whose scores may be the highest, as keys of docids and upper bounds, into ``heap``; returns (how
    many, slope, base): a score is the upper bound less at most 2·(slope·residual_norms[row] + base), by Cauchy–Schwarz.

    query: float32 ``(dim,)``, as given. codes: int8 ``(stride,)`` on a cache line, for the query's. bits: as in ``Mask``.
    residual_norms: float32, of each rotated row less its codes; max_norm: the largest norm of a rotated row. Rows whose bound is below
    ``threshold`` are passed over.
    """
    dim, stride, biased = segment[DIM], segment[STRIDE], segment[METRIC] == L2
    unit, rotated, spare = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    normalise(segment, query, unit)
    scale, offset, shift, _ = encode(segment, unit, rotated, spare, codes)
    doubled = 2.0 if biased else 1.0
    step = np.float64(scale) / (np.int64(segment[STEP]).view(np.float64) * doubled)
    mean = carray(pointer(segment[MEAN]), dim, np.float32)
    length, missing, centre, given = 0.0, 0.0, 0.0, 0.0
    for j in range(dim):
        number = np.float64(unit[j]) - np.float64(mean[j]) if biased else np.float64(unit[j])
        given += number * number
        length += np.float64(rotated[j]) * np.float64(rotated[j])
        gap = np.float64(rotated[j]) - step * np.float64(codes[j])
        missing += gap * gap
        centre += np.float64(mean[j]) * np.float64(mean[j])
    length, missing, given, whole = np.sqrt(length), np.sqrt(missing), np.sqrt(given), max_norm + np.sqrt(centre)
    slope = doubled * (length + missing)
    base = doubled * max_norm * missing + ROUNDING * ((given + whole) * (given + whole) if biased else given * whole)
    bias = carray(pointer(segment[BIAS]), segment[ROWS] if biased else 0, np.float32)
    scoring = Scoring(segment[CODES], stride, np.int64(codes.ctypes.data), scale, offset, bias, biased)
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    n, k = 0, len(heap)
    for w in range(low >> 6, ((high - 1) >> 6) + 1 if high > low else low >> 6):
        word = bits_between(filtered, bits, w, low, high)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            upper_bound = np.float64(code_score(scoring, row)) + np.float64(shift) + slope * np.float64(residual_norms[row]) + base
            if upper_bound >= threshold:
                key = make_key(np.float32(upper_bound), np.int64(docids[row]))
                if n < k or key > heap[0]:
                    n = offer(heap, n, k, key)
    return n, slope, base
