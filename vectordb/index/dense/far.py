"""Queries that are unlike the rows: how they are made for a calibration, and how far they are from what they find.

The distance of a result is taken relative to that of the mean of the rows: 0 for a row at the query, about 1 where the query has no near
rows at all. It needs nothing that a search doesn't compute anyway, and at the same distance queries of different origin find about the same
share of the best rows: sentences in texts of another subject, means of some rows, random directions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...kernels.layout import MAX_NORM
from .segment import DenseSegment

# Constants: unit and meaning, then the source in brackets. [far]: chosen with queries from other texts and random ones, on two data sets,
# 30 November 2026. [chosen]: chosen, not measured.
MEANS = (2, 3)  # rows of which a made query is the mean [far]
MIXED = 16  # rows that are combined with random weights [far]
NOISE = 3  # the kind of queries in random directions, which sign bits tell little of
KINDS = (0, 1, 2, 2, 2, NOISE, NOISE)  # made queries by turns: means of MEANS[0], of MEANS[1], combinations, random directions [far]
SHORTEST = 0.3  # length of the shortest random direction, relative to the distance of rows from their mean [far]
FARTHEST = 2.0  # the largest distance that is told from others; beyond the mean, searches are hopeless or all rows are alike [chosen]
UNFOUND = -1e30  # scores below stand for no result [chosen]


def kinds_of(count: int) -> np.ndarray:
    """The kinds of ``count`` made queries, int ``(count,)``."""
    return np.resize(KINDS, count)


def made_queries(vectors: np.ndarray, mean: np.ndarray, metric: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Queries, float32 ``(count, dim)``: means of some rows, combinations of many with random weights, and random directions. vectors:
    float32 ``(n, dim)``; mean: of them, as the metric has them.
    """

    def some() -> np.ndarray:
        rows = vectors[rng.integers(0, len(vectors), count)].astype(np.float64)
        if metric == "cosine":
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        return rows

    made = [np.mean([some() for _ in range(rows)], axis=0) for rows in MEANS]
    combined = np.sum([rng.standard_normal((count, 1)) * (some() - mean) for _ in range(MIXED)], axis=0) / np.sqrt(MIXED)
    away = rng.standard_normal(combined.shape)
    away *= np.linalg.norm(some() - mean, axis=1, keepdims=True) / np.linalg.norm(away, axis=1, keepdims=True)
    away *= SHORTEST + (1 - SHORTEST) * rng.random((count, 1))
    for moved, least in ((combined, -1.0), (away, 0.0)):  # directions may lie on any side of the mean, places only where rows are
        made.append(moved + (1.0 if metric == "l2" else least + (1 - least) * rng.random((count, 1))) * mean)
    queries, kinds = np.empty((count, vectors.shape[1]), np.float32), kinds_of(count)
    for kind, each in enumerate(made):
        queries[kinds == kind] = each[kinds == kind]
    return queries


def distances_of(segment: DenseSegment, queries: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from (indexes of queries, scores) to the distances of rows with these scores, float64 ``(n,)``, as ``search_segment``
    takes them (``reach_of``).
    """
    own, mean = queries.astype(np.float64), segment.sections["mean"].astype(np.float64)
    if segment.metric == "l2":
        reach, middle = np.zeros(len(own)), -np.square(own - mean).sum(axis=1)
    else:
        longest = float(segment.description[MAX_NORM : MAX_NORM + 1].view(np.float64)[0])
        reach, middle = np.linalg.norm(own, axis=1) * (1.0 if segment.metric == "cosine" else longest), own @ mean

    def distances(which: np.ndarray, scores: np.ndarray) -> np.ndarray:
        whole = reach[which] - middle[which]
        found = np.where(whole > 0, (reach[which] - scores) / np.where(whole > 0, whole, 1), 0)
        return np.where(scores > UNFOUND, np.clip(found, 0, FARTHEST), FARTHEST)

    return distances
