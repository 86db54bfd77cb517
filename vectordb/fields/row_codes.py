"""Rows of multi-vectors as bytes, for fields that keep nothing else (``MultiVector(keep="codes")``).

A number is (code − 128) · step; a row has one step, its largest number ÷ 127 with 17 significant bits. So each product is exact in float32,
and a row that was decoded gets the same codes and step again.
"""

from __future__ import annotations

import numpy as np

_MOST, _ZERO = 127, 128
_KEPT_BITS = np.int32(-128)  # mask of the bits of a float32 without the last 7
_LEAST = np.float32(np.finfo(np.float32).tiny)  # of a step; smaller float32 have fewer bits


def encoded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 ``(n, dim)`` to (codes, uint8 ``(n, dim)``; steps, float32 ``(n,)``)."""
    largest = np.abs(values).max(axis=1, initial=0).astype(np.float64)
    steps = ((largest / _MOST).astype(np.float32).view(np.int32) & _KEPT_BITS).view(np.float32)
    np.maximum(steps, _LEAST, out=steps)
    # A step was rounded down, so the largest number may be a little more than 127 steps.
    codes = np.clip(np.rint(values / steps[:, None]), -_MOST, _MOST).astype(np.int16) + _ZERO
    return codes.astype(np.uint8), steps


def decoded(codes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """float32 ``(n, dim)``."""
    return (codes.astype(np.int16) - _ZERO).astype(np.float32) * steps[:, None]


def score_errors(values: np.ndarray, unit: bool) -> np.ndarray:
    """The standard deviation of what rounding to codes changed the score of each row for a query row of length 1, float64 ``(n,)``.

    values: decoded rows. unit: scores are divided by the lengths of rows. Of a number rounded to steps it is step ÷ √12.
    """
    wide = values.astype(np.float64)
    errors = np.abs(wide).max(axis=1, initial=0) / _MOST / np.sqrt(12)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide)) if unit else np.ones(len(wide))
    return errors / np.where(lengths > 0, lengths, 1)
