"""Scores of rows by their byte codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import LINE, code_dot
from .jit import inner, prefetch_lines
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
def code_score(scoring, row):
    """The score of a row by its codes."""
    product = code_dot(scoring.codes + row * scoring.stride, scoring.query, scoring.stride // LINE)
    score = np.float32(np.int64(product) - scoring.offset) * scoring.scale
    return score + scoring.bias[row] if scoring.biased else score


@inner
def prefetch_row(scoring, row):
    """Ask for a row's codes, to be scored soon."""
    prefetch_lines(scoring.codes + row * scoring.stride, scoring.stride // LINE)


@inner
def score_rows(scoring, rows, n, results, size, r):
    """Scores rows[:n] by their codes into the heap of the best r; returns its size."""
    for i in range(n):
        if i + SCORED_AHEAD < n:
            prefetch_row(scoring, np.int64(rows[i + SCORED_AHEAD]))
        row = np.int64(rows[i])
        key = make_key(code_score(scoring, row), row)
        if size < r or key > results[0]:
            size = offer(results, size, r, key)
    return size
