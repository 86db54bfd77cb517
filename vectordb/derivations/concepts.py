"""Concepts: the cosines of dense vectors with the vectors of words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from vectordb_client.model.fields import SparseColumn

from ..common import deadline
from .base import Method, Parts, lengths, product
from .sparse import column_of, strongest

_ROWS = 1_024  # compared at a time


class ConceptsMethod(Method):
    name = "concepts"
    sparse = True

    def size(self, given: Any, spec: Any) -> int:
        return len(given.words)

    def parts_of(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        sizes = lengths(vectors)
        return {"words": np.ascontiguousarray((vectors / sizes[:, None]).T, np.float32)}

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> SparseColumn:
        return column_of(self._weights(given, parts, rows))

    def _weights(self, given: Any, parts: Parts, rows: np.ndarray) -> Iterator[np.ndarray]:
        sizes = lengths(rows)
        for low in deadline.each(range(0, len(rows), _ROWS), 1):
            size = sizes[low : low + _ROWS]
            unit = np.ascontiguousarray(rows[low : low + _ROWS] / np.where(size > 0, size, 1.0)[:, None], np.float32)
            yield strongest(product(unit, parts["words"]), given.k)
