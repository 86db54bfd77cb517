"""The principal components of a sample."""

from __future__ import annotations

import numpy as np

from ...common import deadline

MOST_ROWS = 2_048  # rows of which components are made where there are more dimensions than this. Chosen, not measured
_ROWS = 4_096  # rows of a product


def components(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(mean float64 ``(dim,)``, variances float64, falling, axes float64 ``(dim, variances)``, the number of rows that were used).

    matrix: float32 ``(n, dim)``. With many dimensions, rows at even distances are used.
    """
    n, dim = matrix.shape
    if dim > MOST_ROWS and n > MOST_ROWS:
        matrix = matrix[np.linspace(0, n - 1, MOST_ROWS).astype(np.int64)]
        n = MOST_ROWS
    mean = matrix.mean(axis=0, dtype=np.float64)
    if n <= dim:
        centred = matrix - mean
        variances, vectors = np.linalg.eigh(centred @ centred.T / max(n - 1, 1))
        axes = centred.T @ vectors
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-300)
    else:
        total = np.zeros((dim, dim))
        for low in range(0, n, _ROWS):
            deadline.check()
            centred = matrix[low : low + _ROWS] - mean
            total += centred.T @ centred
        variances, axes = np.linalg.eigh(total / (n - 1))
    return mean, np.maximum(variances[::-1], 0.0), axes[:, ::-1], n
