"""Derivations that learn nothing: the first dimensions, and a random projection."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .base import Method, Parts, lengths, product


class PrefixMethod(Method):
    name = "prefix"

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> np.ndarray:
        cut = rows[:, : spec.dim]
        left = lengths(cut)
        scale = lengths(rows) / np.where(left > 0, left, 1.0)
        return (cut.astype(np.float64) * scale[:, None]).astype(np.float32)


class ProjectMethod(Method):
    name = "project"

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> np.ndarray:
        return product(rows, projection(rows.shape[1], spec.dim, given.s, given.seed))


@lru_cache(16)
def projection(dim: int, target: int, s: int, seed: int) -> np.ndarray:
    """The matrix of ``Project``, float32 ``(dim, target)``. It depends on the arguments alone, not on a version of a library."""
    numbers = mixed(np.arange(dim * target, dtype=np.uint64) + mixed(np.array([seed], np.uint64)))
    share = (numbers >> np.uint64(11)).astype(np.float64) / 2**53  # 0 … 1
    signs = np.where(share < 0.5 / s, 1.0, np.where(share < 1.0 / s, -1.0, 0.0))
    return (signs * np.sqrt(s / target)).reshape(dim, target).astype(np.float32)


def mixed(values: np.ndarray) -> np.ndarray:
    """Pseudo-random uint64 numbers of uint64 numbers, by the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
