"""Queries that are unlike the rows: how they are made for a calibration, and how far a query is from what it finds.

The distance of a result is what its score lacks to the highest possible one, relative to that: 0 if each vector of the query found itself.
As in ``dense.far``, queries of different origin find about the same share of the best rows where what they find is equally far.
"""

from __future__ import annotations

import numpy as np

# Constants: unit and meaning, then the source in brackets. [far]: chosen with queries from texts of another subject, random ones and
# combinations, on token vectors of 4,000 texts, 1 December 2026. [chosen]: chosen, not measured.
MADE = 24  # queries, at most [chosen]
MIXED = 16  # vectors that are combined with random weights [far]
BLENDED = (0.2, 0.8)  # share of a combination in a vector that is otherwise one of the rows' [far]
NOISE = 2  # the kind of queries in random directions
KINDS = (0, 1, 1, NOISE)  # made queries by turns: blends, combinations, random directions [far]
VECTORS = (8, 32)  # of a made query: the fewest and the most [far]
FARTHEST = 2.0  # the largest distance that is told from others [chosen]
UNFOUND = -1e30  # scores below stand for no result [chosen]


def kinds_of(count: int) -> np.ndarray:
    """The kinds of ``count`` made queries, int ``(count,)``."""
    return np.resize(KINDS, count)


def made_queries(vectors: np.ndarray, unit: bool, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Queries of several vectors each, float32 ``(vectors, dim)``. vectors: float32 ``(n, dim)``, a sample of those of the rows. unit: they
    count as of length 1.
    """
    queries = []
    for kind in kinds_of(count).tolist():
        size = int(rng.integers(VECTORS[0], VECTORS[1] + 1))
        parts = vectors[rng.integers(0, len(vectors), (size, MIXED))].astype(np.float64)
        if unit:
            parts /= np.maximum(np.linalg.norm(parts, axis=2, keepdims=True), 1e-30)
        lengths = np.linalg.norm(parts[:, 0], axis=1, keepdims=True)
        directions = _of_length_1(np.einsum("ijk,ij->ik", parts, rng.standard_normal((size, MIXED))))
        if kind == 0:
            share = BLENDED[0] + (BLENDED[1] - BLENDED[0]) * rng.random()
            directions = _of_length_1((1 - share) * _of_length_1(parts[:, 0]) + share * directions)
        elif kind == NOISE:
            directions = _of_length_1(rng.standard_normal(directions.shape))
        queries.append((lengths * directions).astype(np.float32))
    return queries


def reach_of(query: np.ndarray, unit: bool, longest: float, best: bool) -> float:
    """The highest score that a query (float32 ``(vectors, dim)``) can have. unit: vectors count as of length 1. longest: length of the
    longest vector of the rows. best: scores are those of the best pair of vectors, not sums.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", query, query, dtype=np.float64))
    lengths = (lengths > 0).astype(np.float64) if unit else lengths * longest
    return float(lengths.max() if best else lengths.sum())


def distance_of(score: float, reach: float) -> float:
    """How far a result with a score is from its query."""
    if score <= UNFOUND:
        return FARTHEST
    return min(max((reach - score) / reach, 0.0), FARTHEST) if reach > 0 else 0.0


def _of_length_1(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
