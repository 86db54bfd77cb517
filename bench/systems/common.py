"""Helpers for adapters: attributes and sparse vectors as Python values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np


def sparse_rows(matrix) -> Iterator[tuple[list[int], list[float]]]:
    """Yield (terms, weights) of every row of a CSR matrix."""
    terms, weights = matrix.indices.tolist(), matrix.data.tolist()
    for low, high in pairwise(matrix.indptr.tolist()):
        yield terms[low:high], weights[low:high]


def weights_of(query: tuple) -> dict[int, float]:
    """A sparse query as a dict of term → weight."""
    terms, weights = query
    return dict(zip(terms.tolist(), weights.tolist(), strict=True))


class Attributes:
    """The kinds of a data set's attributes, and their columns as Python values.

    kinds: name → "keyword", "int", "float" or "bool"; for arrays the kind of the elements. arrays, nullable: names of such attributes.
    """

    def __init__(self, dataset):
        self.kinds: dict[str, str] = {}
        self.arrays: set[str] = set()
        self.nullable: set[str] = set()
        for name, values in dataset.attributes.items():
            self.kinds[name], array, nulls = _kind(values)
            self.arrays |= {name} if array else set()
            self.nullable |= {name} if nulls else set()
        self._made: tuple[Any, dict[str, list]] | None = None

    @property
    def scalars(self) -> list[str]:
        return [name for name in self.kinds if name not in self.arrays]

    def without(self, names: set[str]) -> Attributes:
        """The attributes without these names, for systems that don't support them."""
        for name in names:
            del self.kinds[name]
        self.arrays -= names
        self.nullable -= names
        return self

    def columns(self, dataset) -> dict[str, list]:
        """name → values of this data set, which may be another than that of the constructor (churn suite)."""
        if self._made is None or self._made[0] is not dataset:
            self._made = dataset, {name: _plain(dataset.attributes[name]) for name in self.kinds}
        return self._made[1]

    def records(self, dataset, rows: list[int]) -> Iterator[dict[str, Any]]:
        """Yield name → value for each row, without nulls."""
        columns = self.columns(dataset)
        for row in rows:
            yield {name: values[row] for name, values in columns.items() if values[row] is not None}


def _kind(values: Iterable) -> tuple[str, bool, bool]:
    """(kind, whether it is an array, whether it has nulls)."""
    if hasattr(values, "dtype") and values.dtype.kind in "iufb":
        return {"i": "int", "u": "int", "f": "float", "b": "bool"}[values.dtype.kind], False, False
    values = list(values)
    nulls = any(value is None for value in values)
    array = any(isinstance(value, (list, tuple)) for value in values)
    elements = (element for value in values if value for element in value) if array else (value for value in values if value is not None)
    some = next(iter(elements), "")
    return {bool: "bool", int: "int", float: "float"}.get(type(some), "keyword"), array, nulls


def _plain(values: Any) -> list:
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return [list(value) if isinstance(value, tuple) else value for value in values]


def padded(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(n, dim) float32, contiguous: the vectors with zeros appended, which change no inner product and no distance."""
    wide = np.zeros((len(vectors), dim), dtype=np.float32)
    wide[:, : vectors.shape[1]] = vectors
    return wide
