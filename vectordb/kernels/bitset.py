"""Bitmaps over a segment's rows: one bit a row, 64 to a word, lowest bit first."""

from __future__ import annotations

import numpy as np

from .jit import count_ones, count_trailing_zeros, inner, kernel

ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)


@inner
def passes(bits, row):
    """Whether a row's bit is set."""
    return (bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1) != 0


@inner
def bits_between(filtered, bits, w, low, high):
    """Word w of a bitmap, of one with every bit set unless ``filtered``, with the bits outside rows [low, high) cleared."""
    word = bits[w] if filtered else ALL_BITS
    if w == low >> 6:
        word &= ALL_BITS << np.uint64(low & 63)
    if w == (high - 1) >> 6:
        word &= ALL_BITS >> np.uint64(63 - ((high - 1) & 63))
    return word


@kernel
def passing_of_clusters(bits, offsets, counts):
    """How many rows of each cluster pass, into ``counts`` (int32); returns how many in all."""
    total = np.int64(0)
    for c in range(len(counts)):
        low, high = np.int64(offsets[c]), np.int64(offsets[c + 1])
        passing = np.int64(0)
        if high > low:
            for w in range(low >> 6, ((high - 1) >> 6) + 1):
                passing += np.int64(count_ones(bits_between(True, bits, w, low, high)))
        counts[c] = passing
        total += passing
    return total


@kernel
def local_bits(docids, inverse, first, bits):
    """Sets the bits of a segment's rows whose docids are given (uint32). inverse: int32, row of docid ``first + i`` or −1."""
    bits[:] = 0
    for i in range(len(docids)):
        offset = np.int64(docids[i]) - first
        if 0 <= offset < len(inverse):
            row = np.int64(inverse[offset])
            if 0 <= row < 64 * len(bits):
                bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@inner
def gather(filtered, bits, low, high, rows):
    """The passing rows of [low, high), ascending, into ``rows`` (int32); returns how many."""
    n = 0
    if high <= low:
        return n
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(filtered, bits, w, low, high)
        while word != 0:
            rows[n] = 64 * w + count_trailing_zeros(word)
            n += 1
            word &= word - np.uint64(1)
    return n


@kernel
def filter_by_score(scores, bound, blur, above, below, noise, start, bits):
    """Sets a row's bit with probability ``above`` if its score (float32), give or take ``blur``, is at least ``bound``, else with
    ``below``. noise: as in ``random_filter``.
    """
    bits[:] = 0
    position = start
    high, low, wide = np.int64(above * 65536.0), np.int64(below * 65536.0), np.float32(blur / 32768.0)
    for row in range(len(scores)):
        before = np.float32(noise[position]) - np.float32(32768)
        position = position + 1 if position + 1 < len(noise) else 0
        if np.int64(noise[position]) < (high if scores[row] + wide * before >= bound else low):
            bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@kernel
def random_filter(offsets, shares, noise, start, bits):
    """Sets each row's bit with its cluster's probability. noise: uint16, used from ``start`` on, round and round."""
    bits[:] = 0
    position = start
    for c in range(len(shares)):
        bound = np.int64(shares[c] * 65536.0)
        for row in range(np.int64(offsets[c]), np.int64(offsets[c + 1])):
            position = position + 1 if position + 1 < len(noise) else 0
            if np.int64(noise[position]) < bound:
                bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)
