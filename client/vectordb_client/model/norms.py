"""Limits of vector norms, so that every score is a finite float32.

Dot, l2 and sparse: the norm of rows and queries is at most ``MAX_NORM`` = 1e16. By Cauchy–Schwarz an inner product, and each partial sum of
it, is at most MAX_NORM² = 1e32, or 3e33 with an inverse document frequency (below 30). A squared distance is at most (2·MAX_NORM)² = 4e32.
A rotation preserves norms; its partial sums are at most √65,536 · 2·MAX_NORM = 6e18. MaxSim sums at most 65,535 inner products: 7e36. The
largest float32 is 3.4e38. Every float16 vector is within the limit. There is no lower limit: zero is a valid vector, and products below
1e-38 may be rounded to 0.

Cosine: the norm of a row is from 1e-30 to 1e38. A cosine divides by the norm, so only the norm and the partial sums must be in the range of
float32. A query may have any norm except 0, because it is normalized first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_NORM = 1e16
COSINE_NORMS = (1e-30, 1e38)
# Squared norms between these, computed in float32, are allowed for every metric in spite of rounding.
_PLAIN_LOW, _PLAIN_HIGH = 1e-28, 1e30
Refuse = Callable[[int, str, float], Exception]


def surely_allowed(squared: float) -> bool:
    """Whether a squared norm, computed in float32, is certainly allowed for every metric. False: it needs the exact check."""
    return _PLAIN_LOW < squared < _PLAIN_HIGH


def check_norms(spec: Any, values: np.ndarray, refuse: Refuse) -> None:
    """Raise ``refuse(row, what, norm)`` for the first row of ``(n, dim)`` finite numbers whose norm isn't allowed."""
    cosine = spec.metric == "cosine"
    if values.dtype == np.float16 and not cosine:
        return
    single = values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        squared = np.einsum("ij,ij->i", single, single)
    low, high = COSINE_NORMS if cosine else (0.0, MAX_NORM)
    for row in np.flatnonzero(~((squared > (_PLAIN_LOW if cosine else -1.0)) & (squared < _PLAIN_HIGH))).tolist():
        wide = single[row].astype(np.float64)
        norm = float(np.sqrt(wide @ wide))
        if norm == 0 and cosine:
            raise refuse(row, "is all zeros, which has no cosine", norm)
        if not low <= norm <= high * (1 + 1e-6):  # a bound rounded to float32 may exceed the bound
            bounds = f"in {low:g} … {high:g} for a cosine" if cosine else f"at most {high:g} for {spec.metric}"
            raise refuse(row, _message(norm, bounds), norm)


def check_sparse_norms(indptr: np.ndarray, weights: np.ndarray, refuse: Refuse) -> None:
    """``check_norms`` for sparse rows: int64 indptr ``(n + 1,)`` into finite float32 weights."""
    if not len(weights):
        return
    with np.errstate(over="ignore"):
        if weights.dot(weights) < _PLAIN_HIGH:  # the squared norm of all rows together
            return
    wide = weights.astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(np.square(wide, out=wide))])
    for row in np.flatnonzero(~(sums[indptr[1:]] - sums[indptr[:-1]] <= MAX_NORM**2)).tolist():
        norm = float(np.linalg.norm(weights[indptr[row] : indptr[row + 1]].astype(np.float64)))
        if norm > MAX_NORM * (1 + 1e-6):
            raise refuse(row, _message(norm, f"at most {MAX_NORM:g}"), norm)


def _message(norm: float, bounds: str) -> str:
    return f"has the norm {norm:.6g}; it must be {bounds}: scale all vectors of the field, and its queries, by one factor"
