"""MaxSim with stored rows of byte codes: each number of a row is (code − 128) · the row's step."""

from __future__ import annotations

import numpy as np
from numba import carray

from . import AUX, COUNT, DATA, DOCIDS, EXTRA, FIRST, ITEMS, NORMS
from .dense import DOT, TILED, add_tiled, cosine_of, first_row, laid_out, of_unit_length, score_row, select, widest
from .jit import inner, kernel, pointer
from .maxsim import LANES

ZERO = 128  # the code of a zero


@inner
def decode_row(codes, at, step, out):
    """The numbers of a row whose codes begin at ``codes[at]`` into ``out`` (float32)."""
    for j in range(len(out)):
        out[j] = np.float32(np.int32(codes[at + j]) - ZERO) * step


@kernel
def maxsim_codes(table, query, cosine, rows, filtered, low, high, totals, tops, docids):
    """As ``dense.maxsim_add``, with rows of byte codes: the result is that for the numbers that they stand for, to the last bit."""
    if cosine:
        query = of_unit_length(query)
    dim, tiled = query.shape[1], len(query) >= TILED
    lines = laid_out(query) if tiled else np.empty((0, dim, LANES), np.float32)
    products = np.empty(LANES if tiled else 0, np.float32)
    positions = np.empty(widest(table, low, high), np.int64)
    cursor = first_row(table, rows, filtered, low, high)
    decoded = np.empty((1, dim), np.float32)
    n = 0
    for c in range(low, high):
        selected, cursor = select(table, c, rows, filtered, cursor, positions)
        held = carray(pointer(table[c, DOCIDS]), table[c, COUNT], np.uint32)
        listed = table[c, DOCIDS] != 0
        offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
        codes = carray(pointer(table[c, AUX]), table[c, ITEMS] * dim, np.uint8)
        steps = carray(pointer(table[c, EXTRA]), table[c, ITEMS], np.float32)
        norms = carray(pointer(table[c, NORMS]), table[c, ITEMS], np.float32)
        for i in range(selected):
            p = positions[i]
            first, count = np.int64(offsets[p]), np.int64(offsets[p + 1]) - np.int64(offsets[p])
            if count > len(decoded):
                decoded = np.empty((2 * count, dim), np.float32)
            for t in range(count):
                decode_row(codes, (first + t) * dim, steps[first + t], decoded[t])
            total = totals[n]
            top = tops[n]
            if tiled:
                if LANES * count > len(products):
                    products = np.empty(2 * LANES * count, np.float32)
                total, top = add_tiled(query, lines, decoded.ctypes.data, count, norms, first, cosine, products, total, top)
            for m in range(0 if tiled else len(query)):
                best = np.float32(-np.inf)
                for t in range(count):
                    score = score_row(query[m], decoded[t].ctypes.data, False, DOT)
                    if cosine:
                        score = cosine_of(score, norms[first + t])
                    best = max(best, score)
                total += best
                top = max(top, best)
            totals[n] = total
            tops[n] = top
            docids[n] = np.int64(held[p]) if listed else table[c, FIRST] + p
            n += 1
    return n
