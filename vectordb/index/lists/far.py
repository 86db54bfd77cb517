"""Queries that are unlike the rows: what searches find for them, by how far that is (``dense/far.py``, ``dense/points.py``).

A search of lists that finds rows farther away than usual goes on to more lists, until what it has found is as near as such a search must
find to reach the target, or all lists were looked at. Nothing is looked at twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ...kernels import lists as kernel
from ..dense.far import FARTHEST, NOISE, kinds_of, made_queries
from ..dense.points import POINTS, USUAL, points_by_distance
from ..model import DEPTHS, PLAN
from .frame import Frame

# Unit and meaning. Chosen, not measured.
MADE = 56  # made queries
LEAST_MADE = 28  # of a large file
FAR_RANK = DEPTHS[0]  # how far the result of this rank is tells how far a query is, whatever the number of results
DISTANCES = 1 + len(POINTS)  # at which a model has recalls
NO_STOPS = np.empty((0, 2))


class Far(NamedTuple):
    """What a calibration measured of queries that are unlike the rows, for one depth.

    usual: float64 ``(levels,)``, the distance that few of the usual queries' results exceed, at each level of selectivity. distances:
    float64 ``(DISTANCES,)``, ascending; recalls: float32 ``(DISTANCES, settings)``, of searches that found rows at these.
    """

    usual: np.ndarray
    distances: np.ndarray
    recalls: np.ndarray

    def stops(self, settings: np.ndarray, deviations: float, usual: float, needed: float, offset: float) -> np.ndarray:
        """For the settings with these ``deviations``: (matching rows, the largest distance found with which they reach a recall), float64
        ``(n, 2)``, ascending; the last one always does. usual: of the request's selectivity, by which all distances are shifted, as a
        filter leaves out near rows. offset: what is added to recalls.
        """
        family = np.flatnonzero((settings[:, PLAN] == kernel.LISTS) & (settings[:, 2] == deviations))
        reached = self.recalls[:, family].astype(np.float64) + offset
        stops = np.array([_last(self.distances, column, needed) for column in reached.T])
        stops = np.maximum.accumulate(stops) + usual - self.usual[0]
        stops[-1] = np.inf
        return np.column_stack([settings[family, 1], stops])


def _last(distances: np.ndarray, recalls: np.ndarray, needed: float) -> float:
    """The largest distance at which recalls, which fall with it, are as high as needed; at least the first."""
    short = np.flatnonzero(recalls < needed)
    if not len(short):
        return np.inf
    i = int(short[0])
    if i == 0:
        return float(distances[0])
    gap = recalls[i - 1] - recalls[i]
    return float(distances[i - 1] + (distances[i] - distances[i - 1]) * (recalls[i - 1] - needed) / gap)


def made_for(frame: Frame, vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Made queries, float32 ``(count, dim)``. vectors: those of the file."""
    mean = frame.mean.astype(np.float64) / (frame.scale if frame.metric == "l2" else 1.0)
    return made_queries(vectors, mean, frame.metric, count, rng)


def noise_of(count: int) -> np.ndarray:
    """bool: which of ``count`` made queries are in random directions."""
    return kinds_of(count) == NOISE


def measured(usual: float, noise: np.ndarray, found: np.ndarray, recalls: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recalls, distances) as ``Far`` has them. noise: which queries are in random directions. found, recalls, costs: of each query and
    setting, ``(n, settings)``.
    """
    true = found[:, -1].astype(np.float64)
    if not (true >= usual).any():  # no query is far
        return np.ones((DISTANCES, recalls.shape[1]), np.float32), usual + np.arange(DISTANCES)
    table, _, distances = points_by_distance(true, usual, noise, found, recalls, costs, DISTANCES)
    return table, distances


def usual_of(found: np.ndarray) -> float:
    """The distance that few of the usual queries' results exceed."""
    return float(min(np.quantile(found, USUAL), FARTHEST)) if len(found) else FARTHEST


def far_of(sections: Mapping[str, np.ndarray], depth: int) -> Far | None:
    """The measurements of a file for one of its depths; None of a file that has none."""
    if "far_recalls" not in sections:
        return None
    return Far(sections["far_usual"][depth], sections["far_distances"][depth], sections["far_recalls"][depth])
