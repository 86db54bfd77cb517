"""Scores of rows by their byte codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray

from .dots import LINE, code_dot, dot_four, room_for_four
from .jit import inner, pointer, prefetch, prefetch_lines
from .topk import make_key, offer

SCORED_AHEAD = 8  # rows whose codes are asked for before they are scored [chosen, not measured]


class Scoring(NamedTuple):
    """How rows are scored for one query by their codes.

    codes, query: addresses of the rows' codes (``stride`` bytes each) and of the query's. A score is (Σ row·query − offset)·scale, plus
    the row's ``bias`` (float32) where ``biased``.
    """

    codes: int
    stride: int
    query: int
    scale: np.float32
    offset: int
    bias: np.ndarray
    biased: bool


@inner
def score_of_product(scoring, product, row):
    """The score of a row whose codes have that inner product (int32) with the query's."""
    score = np.float32(np.int64(product) - scoring.offset) * scoring.scale
    return score + scoring.bias[row] if scoring.biased else score


@inner
def code_score(scoring, row):
    """The score of a row by its codes."""
    return score_of_product(scoring, code_dot(scoring.codes + row * scoring.stride, scoring.query, scoring.stride // LINE), row)


@inner
def prefetch_row(scoring, row):
    """Ask for a row's codes and bias, to be scored soon."""
    prefetch_lines(scoring.codes + row * scoring.stride, scoring.stride // LINE)
    if scoring.biased:
        prefetch(scoring.bias.ctypes.data + 4 * row)


@inner
def score_rows(scoring, rows, n, results, size, r):
    """Scores rows[:n] by their codes into the heap of the best r; returns its size."""
    codes, stride, lines = scoring.codes, scoring.stride, scoring.stride // LINE
    room = room_for_four()
    products = carray(pointer(room), 4, np.int32)
    fours = n - n % 4
    for i in range(0, fours, 4):
        if i + SCORED_AHEAD + 4 <= n:
            for j in range(4):
                ahead = codes + np.int64(rows[i + SCORED_AHEAD + j]) * stride
                for line in range(lines):
                    prefetch(ahead + line * LINE)
        dot_four(
            codes + np.int64(rows[i]) * stride,
            codes + np.int64(rows[i + 1]) * stride,
            codes + np.int64(rows[i + 2]) * stride,
            codes + np.int64(rows[i + 3]) * stride,
            scoring.query,
            lines,
            room,
        )
        for j in range(4):
            row = np.int64(rows[i + j])
            key = make_key(score_of_product(scoring, products[j], row), row)
            if size < r or key > results[0]:
                size = offer(results, size, r, key)
    for i in range(fours, n):
        row = np.int64(rows[i])
        key = make_key(code_score(scoring, row), row)
        if size < r or key > results[0]:
            size = offer(results, size, r, key)
    return size


@inner
def score_each(scoring, count, keys):
    """Keys of the rows 0 … count − 1 by their codes into keys[:count]."""
    stride = scoring.stride
    room = room_for_four()
    products = carray(pointer(room), 4, np.int32)
    fours = count - count % 4
    for row in range(0, fours, 4):
        at = scoring.codes + row * stride
        dot_four(at, at + stride, at + 2 * stride, at + 3 * stride, scoring.query, stride // LINE, room)
        for j in range(4):
            keys[row + j] = make_key(score_of_product(scoring, products[j], row + j), row + j)
    for row in range(fours, count):
        keys[row] = make_key(code_score(scoring, row), row)
