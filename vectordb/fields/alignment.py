"""Which row of a multi-vector each row of a query is compared with."""

from __future__ import annotations

import numpy as np

from ..common import deadline

_PAIRS = 1 << 20  # pairs of rows scored at a time


def best_rows(query: np.ndarray, vector: np.ndarray, cosine: bool, one_pair: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of a query the row of a multi-vector with the highest score, of equal ones the first.

    query, vector: ``(rows, dim)``. one_pair: only the best pair of all. Returns (rows of the query, rows of the vector, int64; their
    scores, float64).
    """
    wide = _unit(vector) if cosine else vector.astype(np.float64)
    best, scores = np.empty(len(query), np.int64), np.empty(len(query), np.float64)
    step = max(_PAIRS // len(vector), 1)
    for low in range(0, len(query), step):
        deadline.check()
        some = query[low : low + step]
        products = (_unit(some) if cosine else some.astype(np.float64)) @ wide.T
        best[low : low + step] = products.argmax(axis=1)
        scores[low : low + step] = products.max(axis=1)
    rows = np.arange(len(query))
    if one_pair:
        rows = rows[scores.argmax()][None]
    return rows, best[rows], scores[rows]


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length, float64."""
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return wide / np.where(lengths > 0, lengths, 1.0)[:, None]
