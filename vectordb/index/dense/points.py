"""The points of a model: averages of what single calibration queries measured, by correlation and by distance."""

from __future__ import annotations

import numpy as np

from ...kernels import planner
from ..model import DOUBT

# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commits 5afc918 to
# e7bcf53 (bench/RESULTS.md, "Under filters"). [far]: chosen with queries from other texts and random ones, on two data sets, 30 November
# 2026. [chosen]: chosen, not measured.
CORRELATIONS = (-8.0, -5.0, -3.5, -2.0, -1.0, -0.4, 0.0, 0.5, 1.0, 2.0, 4.0)  # log2 ρ at which a model has points [P2]
USUAL = 0.98  # quantile of the distances of rows: what is farther is searched by what made queries need [far]
ALIKE = 0.995  # quantile of them up to which a search finds what some rows find [chosen]
POINTS = (0.2, 0.4, 0.6, 0.8, 1.0)  # quantiles of the distances beyond, at which a model has points [far]
FEWEST, FEWEST_NOISE = 6.0, 3.0  # queries, summed weights, that a point needs; the second of those in random directions [chosen]
TAIL = 0.05  # share of the queries, those with the lowest recalls, that a model keeps the mean recall of [chosen]


def spread(rhos: np.ndarray, recalls: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the measurements of single queries at the points CORRELATIONS. Returns (recalls, the mean of the lowest recalls, costs),
    float32 ``(points, settings)``.

    rhos: log2 ρ ``(n,)``. recalls, costs (microseconds): ``(n, settings)``. Each query counts for the two points that it lies between, by
    linear weights. A point with too few takes the mean of the FEWEST queries nearest to it.
    """
    right = np.clip(np.searchsorted(CORRELATIONS, rhos), 1, len(CORRELATIONS) - 1)
    points = np.array(CORRELATIONS)
    part = np.clip((rhos - points[right - 1]) / (points[right] - points[right - 1]), 0, 1)
    weights = np.zeros((len(CORRELATIONS), len(rhos)))
    weights[right - 1, np.arange(len(rhos))] = 1 - part
    weights[right, np.arange(len(rhos))] = part
    for point in np.flatnonzero(weights.sum(axis=1) < FEWEST):
        distances = np.abs(rhos - points[point])
        weights[point] = distances <= np.sort(distances)[min(int(FEWEST), len(rhos)) - 1]
    sums = weights.sum(axis=1)
    means = [(weights @ values) / sums[:, None] for values in (recalls, costs)]
    # Subtract some standard errors from the mean recall, which is less certain where queries differ much or are few.
    squares = (weights @ np.square(recalls)) / sums[:, None] - np.square(means[0])
    means[0] = means[0] - DOUBT * np.sqrt(np.maximum(squares, 0) / sums[:, None])
    return means[0].astype(np.float32), lowest(recalls, weights, sums).astype(np.float32), means[1].astype(np.float32)


def lowest(recalls: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The mean of the lowest recalls ``(n, settings)`` at each point: of TAIL of its queries, or of the lowest alone where that is less
    than one. weights: ``(points, n)``; sums: theirs. Returns ``(points, settings)``.
    """
    order = np.argsort(recalls, axis=0)
    ordered = np.take_along_axis(recalls, order, axis=0)
    lows = np.empty((len(weights), recalls.shape[1]))
    for point, (own, total) in enumerate(zip(weights, sums, strict=True)):
        share = max(TAIL * total, min(1.0, total))
        before = np.cumsum(own[order], axis=0) - own[order]
        lows[point] = (np.clip(share - before, 0, own[order]) * ordered).sum(axis=0) / share
    return lows


def groups_of(rhos: np.ndarray) -> list[np.ndarray]:
    """Indexes of requests of similar ρ, by rising ρ: those nearest to one of CORRELATIONS; of neighbouring ones where they are few."""
    nearest = np.argmin(np.abs(rhos[:, None] - np.array(CORRELATIONS)), axis=1)
    groups: list[np.ndarray] = []
    for point in np.unique(nearest):
        own = np.flatnonzero(nearest == point)
        if groups and min(len(groups[-1]), len(own)) < FEWEST:
            groups[-1] = np.concatenate([groups[-1], own])
        else:
            groups.append(own)
    return groups


def slope_of(rhos: np.ndarray, distances: np.ndarray) -> float:
    """By how much less far results are for each unit of log ρ, at least 0: a filter that leaves out the rows near the query leaves those
    that are farther. rhos: log2 ρ; distances of results, both ``(n,)``.
    """
    centred = rhos - rhos.mean()
    square = float(centred @ centred)
    return max(-float(centred @ distances) / square, 0.0) if square > 0 else 0.0


def bins_of(limit: float, true: np.ndarray, found: np.ndarray, recalls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the measurements of rows that serve as queries by the distance of what they find. Returns (the upper ends of BINS, float64
    ``(BINS,)``; recalls, float32 ``(BINS, settings)``).

    limit: the largest usual distance. true: the distance of each query's true results ``(n,)``. found, recalls: of each setting, ``(n,
    settings)``. A bin in which a setting finds nothing has the mean of all.
    """
    usual = true[true <= limit]
    ends = np.append(np.quantile(usual, np.arange(1, planner.BINS) / planner.BINS), limit)
    counted = (true <= limit)[:, None] & (found <= limit)
    sums = counted.sum(axis=0)
    means = np.where(sums > 0, (recalls * counted).sum(axis=0) / np.maximum(sums, 1), recalls.mean(axis=0))
    own = np.searchsorted(ends[:-1], found)
    tables = np.empty((planner.BINS, recalls.shape[1]), np.float32)
    for each in range(planner.BINS):
        here = counted & (own == each)
        sums = here.sum(axis=0)
        tables[each] = np.where(sums > 0, (recalls * here).sum(axis=0) / np.maximum(sums, 1), means)
    return ends, tables


def points_by_distance(
    true: np.ndarray, usual: float, noise: np.ndarray, found: np.ndarray, recalls: np.ndarray, costs: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the measurements of single queries at distances beyond the usual ones. Returns (recalls, costs, the distances),
    float32 ``(count, settings)`` and float64 ``(count,)``.

    true: the distance of each query's true results ``(n,)``. usual: the first distance. noise: which queries are in random directions; the
    recall is the lower one of these and the others. found, recalls, costs (microseconds): of each setting, ``(n, settings)``. Each query
    counts, for each setting, for the two points that what it found lies between.
    """
    axis = np.unique([usual, *np.quantile(true[true >= usual], POINTS)])
    tables = np.ones((2, count, recalls.shape[1]), np.float32)
    found = found.astype(np.float64)
    weights = _weights(axis, found)
    tables[1, : len(axis)] = (weights * costs).sum(axis=1) / weights.sum(axis=1)
    for some in (~noise, noise):
        if some.any():
            weights = _weights(axis, found[some], some is noise)
            sums = weights.sum(axis=1)
            means = np.where(sums > 0, (weights * recalls[some]).sum(axis=1) / np.where(sums > 0, sums, 1), 1.0)
            tables[0, : len(axis)] = np.minimum(tables[0, : len(axis)], means)
    tables[:, len(axis) :] = tables[:, len(axis) - 1 : len(axis)]
    # Results that are farther are found no better: what the measurements say else is chance.
    tables[0] = np.minimum.accumulate(tables[0], axis=0)
    return tables[0], tables[1], np.concatenate([axis, axis[-1] + 1 + np.arange(count - len(axis))])


def _weights(axis: np.ndarray, found: np.ndarray, noise: bool = False) -> np.ndarray:
    """What each query counts for each of some points, ``(points, n, settings)``: linear weights of the two that it lies between. A point
    with too few takes those nearest to it, but none if they are ``noise`` and all farther, unless it is the last, which stands for all that
    is farther. Queries nearer than the first point count for none. found: ``(n, settings)``.
    """
    every, settings = np.arange(len(found))[:, None], np.arange(found.shape[1])
    right = np.clip(np.searchsorted(axis, found), min(1, len(axis) - 1), len(axis) - 1)
    left = np.maximum(right - 1, 0)
    span = axis[right] - axis[left]
    part = np.clip((found - axis[left]) / np.where(span > 0, span, 1), 0, 1)
    weights = np.zeros((len(axis), *found.shape))
    weights[left, every, settings] = 1 - part
    weights[right, every, settings] += part
    weights[:, found < axis[0]] = 0
    fewest = FEWEST_NOISE if noise else FEWEST
    for point, sums in enumerate(weights.sum(axis=1)):
        few = np.flatnonzero(sums < fewest)
        if len(few):
            distances = np.abs(found[:, few] - axis[point])
            nearest = distances <= np.sort(distances, axis=0)[min(int(fewest), len(found)) - 1]
            counted = not noise or point == len(axis) - 1 or found[:, few].min(axis=0) <= axis[point]
            weights[point, :, few] = (nearest & counted).T
    return weights
