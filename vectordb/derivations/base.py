"""The contract of a derivation, and what several have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common import deadline
from ..kernels.projection import project_rows

_ROWS = 1_024  # rows that are widened at a time
Parts = Mapping[str, np.ndarray]  # what a derivation has learned, by name


class Method(ABC):
    """What a derivation does. Of every method, given: the definition (``model.derivations``). spec, source: the definitions of the derived
    field and of its source. Rows are float32 ``(n, source.dim)``.
    """

    name: str
    learned = False
    sparse = False  # whether the derived field is sparse; ``derive`` then returns a SparseColumn of n rows, some of which may be empty

    @abstractmethod
    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> Any:
        """The derived vectors, float32 ``(n, spec.dim)``. A row has the same bits whatever rows stand beside it."""

    def parts_of(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """What a derivation with words keeps of their vectors, float32 ``(n, source.dim)``, none of them all zeros."""
        raise NotImplementedError(self.name)

    def least(self, given: Any, spec: Any) -> int:
        """How many vectors a fit needs."""
        return spec.dim + 1

    def size(self, given: Any, spec: Any) -> int:
        """The number of dimensions, or of different terms, of the derived field."""
        return spec.dim

    def fit(self, given: Any, spec: Any, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(what is learned from a sample, facts for the report). Equal rows in equal order give equal bits."""
        raise NotImplementedError(self.name)


def product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``rows @ matrix``, float32. Both are writable and contiguous."""
    result = np.empty((len(rows), matrix.shape[1]), np.float32)
    step = max(deadline.work() // matrix.size, 1)
    for low in deadline.each(range(0, len(rows), step), 1):
        project_rows(rows[low : low + step], matrix, result[low : low + step])
    return result


def lengths(rows: np.ndarray) -> np.ndarray:
    """Euclidean lengths, float64 ``(n,)``."""
    sizes = np.empty(len(rows))
    for low in range(0, len(rows), _ROWS):
        wide = rows[low : low + _ROWS].astype(np.float64)
        sizes[low : low + _ROWS] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return sizes


def comparable(spec: Any, rows: np.ndarray) -> np.ndarray:
    """Rows as the metric sees them, float32: of length 1 for a cosine. Zeros stay zeros."""
    if spec.metric != "cosine":
        return rows.astype(np.float32, copy=False)
    sizes = lengths(rows)
    return (rows / np.where(sizes > 0, sizes, 1.0).astype(np.float32)[:, None]).astype(np.float32, copy=False)
