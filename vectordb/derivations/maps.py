"""Maps from the vectors of one encoder to those of another, fitted to the vectors that both make of the same texts.

An orthogonal map (Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966) turns the space and changes no cosine.
A ridge regression can also weaken, mix and move dimensions, and fits encoders of different numbers of dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..common import deadline
from .base import Parts, comparable, lengths, product

LEAST = 20  # vectors that a map is fitted to
HELD_OUT = 500  # at most, with which maps are compared
HELD_SHARE = 4  # at most one of so many
NEIGHBOURS = 10
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of a ridge regression, relative to the mean variance of the old dimensions


class Fit(NamedTuple):
    """A map: its matrix, float32 ``(old dim, new dim)``, and shift, float32 ``(new dim,)``; what it is, and how good it is."""

    parts: dict[str, np.ndarray]
    facts: dict[str, Any]


def held_out(n: int) -> int:
    """How many of n vectors maps are compared with."""
    return min(HELD_OUT, n // HELD_SHARE)


def mapped(old: Any, parts: Parts, rows: np.ndarray) -> np.ndarray:
    """The vectors of the new encoder's space for old vectors, float32 ``(n, new dim)``. old: the definition of the old field."""
    return product(np.array(comparable(old, rows), np.float32, order="C"), parts["matrix"]) + parts["shift"]


def fit(old: Any, new: Any, before: np.ndarray, after: np.ndarray) -> Fit:
    """The best of the maps from ``before`` to ``after``, the vectors of equal texts. old, new: the definitions of the field.

    The last vectors are held out. The best map is the one with which most of the 10 nearest neighbours among them are found: those of each
    new vector among the other new vectors, searched among the mapped ones. The same vectors give the same bits on one machine.
    """
    before, after = (np.array(comparable(spec, rows), np.float64) for spec, rows in ((old, before), (new, after)))
    n = len(before) - held_out(len(before))
    best: Fit | None = None
    for name, matrix, shift in _maps(new, before[:n], after[:n]):
        deadline.check()
        parts = {"matrix": np.ascontiguousarray(matrix, np.float32), "shift": np.ascontiguousarray(shift, np.float32)}
        made = product(np.array(before[n:], np.float32), parts["matrix"]) + parts["shift"]
        facts = {"map": name, "recall_at_10": _recall(new, after[n:], made), "cosine": _cosine(after[n:], made)}
        if best is None or (facts["recall_at_10"], facts["cosine"]) > (best.facts["recall_at_10"], best.facts["cosine"]):
            best = Fit(parts, facts)
    assert best is not None
    return best


def _maps(new: Any, before: np.ndarray, after: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what it is, matrix, shift) of each map that is tried. Vectors of a cosine or an inner product are turned about the origin."""
    moved = new.metric == "l2"
    middle, target = before.mean(axis=0), after.mean(axis=0)
    if before.shape[1] == after.shape[1]:
        x, y = (before - middle, after - target) if moved else (before, after)
        left, sizes, right = np.linalg.svd(x.T @ y)
        squares = np.square(x).sum()
        scale = 1.0 if new.metric == "cosine" or not squares else sizes.sum() / squares
        matrix = scale * (left @ right)
        yield "orthogonal", matrix, target - middle @ matrix if moved else np.zeros(after.shape[1])
    x, y = before - middle, after - target
    moment, crossed = x.T @ x, x.T @ y
    spread = np.trace(moment) / len(moment)
    for penalty in PENALTIES:
        matrix = np.linalg.solve(moment + max(penalty * spread, np.finfo(float).tiny) * np.eye(len(moment)), crossed)
        shift = target - middle @ matrix
        if new.metric == "dot":  # a regression makes short vectors, which inner products would rank last
            made = before @ matrix + shift
            scale = lengths(after).mean() / max(lengths(made).mean(), np.finfo(float).tiny)
            matrix, shift = scale * matrix, scale * shift
        yield "ridge", matrix, shift


def _recall(new: Any, true: np.ndarray, made: np.ndarray) -> float:
    """The mean share of the nearest other vectors that are found among mapped ones.

    Of few vectors at most a quarter are looked for: if all others were, every map would find them.
    """
    k = max(1, min(NEIGHBOURS, (len(true) - 1) // 4))
    sides = [comparable(new, rows.astype(np.float32)) for rows in (true, made)]
    near = []
    for side in sides:
        scores = sides[0] @ side.T
        if new.metric == "l2":
            scores = 2 * scores - np.square(lengths(side)).astype(np.float32)
        np.fill_diagonal(scores, -np.inf)
        near.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    found = sum(len(np.intersect1d(one, other)) for one, other in zip(*near, strict=True))
    return round(found / (k * len(true)), 4)


def _cosine(true: np.ndarray, made: np.ndarray) -> float:
    """The mean cosine of mapped vectors and those that they stand for."""
    scale = np.maximum(lengths(true) * lengths(made), np.finfo(float).tiny)
    return round(float((np.einsum("ij,ij->i", true, made) / scale).mean()), 4)
