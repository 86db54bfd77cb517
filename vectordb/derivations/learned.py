"""Derivations that are fitted to a sample: principal components, and the dimensions of most variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..common import deadline
from .base import Method, Parts, comparable, product

_ROWS = 1_024  # rows added up at a time


class PCAMethod(Method):
    name = "pca"
    learned = True

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> np.ndarray:
        return product(rows, parts["basis"])

    def fit(self, given: Any, spec: Any, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        dim = rows.shape[1]
        moment, total = np.zeros((dim, dim)), np.zeros(dim)
        for low in range(0, len(rows), _ROWS):
            deadline.check()
            block = comparable(spec, rows[low : low + _ROWS]).astype(np.float64)
            moment += block.T @ block
            total += block.sum(axis=0)
        moment /= len(rows)
        if spec.metric == "l2":
            moment -= np.outer(total, total) / len(rows) ** 2
        values, vectors = np.linalg.eigh(moment)
        basis = vectors[:, ::-1][:, : spec.dim]
        largest = basis[np.abs(basis).argmax(axis=0), np.arange(spec.dim)]
        basis = basis * np.where(largest < 0, -1.0, 1.0)  # the sign is arbitrary: the largest number of each direction is positive
        return {"basis": np.ascontiguousarray(basis, np.float32)}, {"variance": _share(values[::-1], spec.dim)}


class PickMethod(Method):
    name = "pick"
    learned = True

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rows[:, parts["dimensions"]])

    def fit(self, given: Any, spec: Any, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        squares, total = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        for low in range(0, len(rows), _ROWS):
            deadline.check()
            block = comparable(spec, rows[low : low + _ROWS]).astype(np.float64)
            squares += np.square(block).sum(axis=0)
            total += block.sum(axis=0)
        variance = squares / len(rows)
        if spec.metric == "l2":
            variance -= np.square(total / len(rows))
        order = np.argsort(-variance, kind="stable")
        return {"dimensions": np.sort(order[: spec.dim]).astype(np.uint32)}, {"variance": _share(variance[order], spec.dim)}


def _share(descending: np.ndarray, kept: int) -> float:
    """The share of the variance in the first of its parts."""
    whole = np.maximum(descending, 0.0)
    return round(float(whole[:kept].sum() / whole.sum()), 4) if whole.sum() > 0 else 1.0
