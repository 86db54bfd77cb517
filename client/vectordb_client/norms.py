"""How long vectors may be, so that every score is a finite float32.

Dot, l2 and sparse: at most ``MAX_NORM`` = 1e16, rows and queries alike. By Cauchy–Schwarz an inner product, and each part of its sum, is
at most MAX_NORM² = 1e32, also times an inverse document frequency (below 30). A squared distance is at most (2·MAX_NORM)² = 4e32. A
rotation keeps lengths; while it adds up, its numbers are at most √65,536 · 2·MAX_NORM = 6e18. MaxSim adds up at most 65,535 inner
products: 7e36. The largest float32 is 3.4e38. A float16 vector can't be that long. There is no least norm: zero is a vector, and products
below 1e-38 are so near to 0 that float32 may take them for it.

Cosine: rows from 1e-30 to 1e38. A cosine divides by the norm, so only the norm itself and the parts of the sum need to be in float32's
range. A query of any length but 0 will do: it is brought to length 1 first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .schema import Dense, MultiVector

MAX_NORM = 1e16
COSINE_NORMS = (1e-30, 1e38)
# Squares of norms that float32 tells without doubt to be allowed, for every metric.
_PLAIN_LOW, _PLAIN_HIGH = 1e-28, 1e30
Refuse = Callable[[int, str, float], Exception]


def surely_allowed(squared: float) -> bool:
    """Whether a vector of this squared norm (as float32 has it) is allowed whatever the metric. False: it must be looked at."""
    return _PLAIN_LOW < squared < _PLAIN_HIGH


def check_norms(spec: Dense | MultiVector, values: np.ndarray, refuse: Refuse) -> None:
    """Raises ``refuse(row, what, norm)`` for the first row of ``(n, dim)`` finite numbers whose norm isn't allowed."""
    cosine = spec.metric == "cosine"
    if values.dtype == np.float16 and not cosine:
        return
    single = values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        squared = np.einsum("ij,ij->i", single, single)
    low, high = COSINE_NORMS if cosine else (0.0, MAX_NORM)
    for at in np.flatnonzero(~((squared > (_PLAIN_LOW if cosine else -1.0)) & (squared < _PLAIN_HIGH))).tolist():
        wide = single[at].astype(np.float64)
        norm = float(np.sqrt(wide @ wide))
        if norm == 0 and cosine:
            raise refuse(at, "is all zeros, which has no cosine", norm)
        if not low <= norm <= high * (1 + 1e-6):  # float32 of a bound may lie just above it
            bounds = f"in {low:g} … {high:g} for a cosine" if cosine else f"at most {high:g} for {spec.metric}"
            raise refuse(at, _told(norm, bounds), norm)


def check_sparse_norms(indptr: np.ndarray, weights: np.ndarray, refuse: Refuse) -> None:
    """The same for sparse rows: indptr int64 ``(n + 1,)`` into finite float32 weights."""
    if not len(weights):
        return
    with np.errstate(over="ignore"):
        if weights.dot(weights) < _PLAIN_HIGH:  # of all together
            return
    wide = weights.astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(np.square(wide, out=wide))])
    for at in np.flatnonzero(~(sums[indptr[1:]] - sums[indptr[:-1]] <= MAX_NORM**2)).tolist():
        norm = float(np.linalg.norm(weights[indptr[at] : indptr[at + 1]].astype(np.float64)))
        if norm > MAX_NORM * (1 + 1e-6):
            raise refuse(at, _told(norm, f"at most {MAX_NORM:g}"), norm)


def _told(norm: float, bounds: str) -> str:
    return f"has the norm {norm:.6g}; it must be {bounds}: multiply the field's vectors, and its queries, by one number"
