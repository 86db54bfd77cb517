"""Predictions of the plans of a dense segment, interpolated between the calibrated cells. ``search_segment`` does the same when it chooses
a plan (``kernels/planner.py``); this module does it in Python, for ``explain``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...kernels import planner
from ..base import Run, SegmentTarget
from ..model import DEPTHS, PlanModel, with_setting
from .plans import PLANS

# Constants: unit and meaning, then the source in brackets. [k400]: on wordnet and hybrid-100k of the harness, the graph finds up to 1 %
# less of 400 rows than of 100 with the same setting; other plans about as much. [w]: sentences searched in glosses, half of
# whose lower recall follows from the distances, 1 December 2026. [estimate]: a rounded time, twice that of the best case measured; machines
# differ.
NEVER = 1e7  # microseconds; the cost of a plan that can't be used
UNMEASURED_ROW, UNMEASURED_NUMBER = 0.008, 0.00025  # microseconds per row, per dimension of an unmeasured exact scan [estimate]
LOWEST = 11  # the power of a target that the queries with the lowest recalls have to reach [chosen]
UNLIKE = 2.0  # times the change of recall that follows from the distances: queries that are farther differ in other ways too [w]
BEYOND = 0.2  # share of (1 − target) added to the target for k > 2·depth, where predictions are optimistic [k400]


@dataclass(frozen=True)
class DenseModel(PlanModel):
    """levels: log2 selectivity, descending; the first is "no filter". correlations: log2 ρ, ascending; then, if there are as many cells of
    distances, these of each level (``planner.points_of``). recalls, costs: float32 ``(cells, settings)``, those of the correlations of each
    level, then those of its distances: of results in each of BINS, then beyond. lows: the mean recall of the queries with the lowest, as
    ``recalls``; None in files of earlier versions. table: the recalls as ``search_segment`` takes them: the mean ones, then the targets
    that settings reach (``held_by``); they are corrected while searching (``follow``).
    """

    levels: np.ndarray
    correlations: np.ndarray
    lows: np.ndarray | None
    table: np.ndarray = field(init=False)
    unusable = NEVER / 10

    def __post_init__(self) -> None:
        held = self.recalls if self.lows is None else held_by(self.recalls, self.lows)
        object.__setattr__(self, "table", np.concatenate([self.recalls, held]))

    def follow(self, shares: np.ndarray, chance: float) -> None:
        """Correct the predicted recalls for searches of which these shares, float64 ``(BINS,)``, find rows in each of BINS. They are only
        lowered, and not for what chance explains. chance: the standard error of a mean, relative to the standard deviation.
        """
        points, by_distance = planner.points_of(self.levels, self.correlations, self.costs)
        if by_distance:
            near = len(self.levels) * points
            bins = self.recalls[near:].reshape(len(self.levels), points, -1)[:, : planner.BINS]
            change = np.einsum("b,lbs->ls", shares - 1 / planner.BINS, bins.astype(np.float64)) + chance * bins.std(axis=1)
            lowered = UNLIKE * np.repeat(np.minimum(change, 0.0), points, axis=0)
            recalls = np.maximum(self.recalls[:near] + lowered, 0.0).astype(np.float32)
            self.table[:near] = recalls
            self.table[len(self.recalls) :][:near] = recalls if self.lows is None else held_by(recalls, self.lows[:near])

    def predictions(self, target: SegmentTarget, local: float, k: int) -> tuple[Sequence[float], Sequence[float]]:
        exact = planner.setting_of(self.settings, planner.EXACT)
        growth, extra = planner.beyond(k, self.depth, int(target.allowed.matches[0]))
        cells, weights = self._place(target, local)
        offsets, factors = target.segment.corrections.table[0], target.segment.corrections.factors
        costs, recalls = [], []
        for s, plan in enumerate(self.settings[:, planner.PLAN].astype(int).tolist()):
            costs.append(planner.cost_of(s, self.settings, cells, weights, self.costs, exact, growth, extra) * factors[plan])
            recall = min(planner.predict(s, cells, weights, self.table) + offsets[plan], 1.0)
            recalls.append(1.0 if self.plans[plan].exact else recall)
        return costs, recalls

    def lowest(self, target: SegmentTarget, local: float, setting: int) -> dict[str, float]:
        if self.lows is None:
            return {}
        plan = int(self.settings[setting, planner.PLAN])
        if not target.allowed.filtered:
            local = -1  # it was measured of the rows that serve as queries, whatever the distance
        return {"lowest_recall": 1.0 if self.plans[plan].exact else planner.predict(setting, *self._place(target, local), self.lows)}

    def _place(self, target: SegmentTarget, local: float) -> tuple[np.ndarray, np.ndarray]:
        """(cells, weights) of a request with at least one match. local: the selectivity near the query, −1 if it wasn't measured."""
        rows, matches = target.segment.rows, int(target.allowed.matches[0])
        cells, weights, filtered = np.zeros(4, np.int64), np.zeros(4), target.allowed.filtered
        points, by_distance = planner.points_of(self.levels, self.correlations, self.costs)
        level = min(np.log2(matches / rows), self.levels[1]) if filtered else self.levels[0]
        far = by_distance and not filtered and local >= 0
        distances = self.correlations[points:]
        if not far or planner.weights_of_distance(self.levels, distances, level, 0.0, local, cells, weights) < planner.BINS:
            rho = np.log2(max(local * rows / matches, 2.0**-8)) if filtered and local >= 0 else 0.0
            planner.weights_of(self.levels, self.correlations[:points], level, rho, cells, weights)
        return cells, weights

    def located(self, target: SegmentTarget, run: Run) -> dict[str, Any]:
        there, filtered = run.local >= 0, target.allowed.filtered
        return {
            "local_selectivity": float(run.local) if there and filtered else None,
            "distance": float(run.local) if there and not filtered else None,
        }


def held_by(recalls: np.ndarray, lows: np.ndarray) -> np.ndarray:
    """The target that a setting reaches: its mean recall, or less where some queries have much lower recalls. At a target t, the mean of
    the lowest TAIL must be t to the power of LOWEST: 0.57 at 0.95, 0.895 at 0.99. The margin that is required of the mean isn't required of
    these too.
    """
    reached = np.maximum(lows, 0.0) ** (1 / LOWEST)
    return np.minimum(recalls, reached + np.minimum((1.0 - reached) / 2.0, planner.MARGIN)).astype(np.float32)


def needed(recall: float, k: int, depth: int) -> float:
    """The recall to plan for. For k > 2·depth predictions are optimistic, so plan for recall + (1 − recall)·BEYOND."""
    return recall if k <= 2 * depth else recall + BEYOND * (1.0 - recall)


def models_of(sections: Mapping[str, np.ndarray], rows: int, dim: int) -> tuple[DenseModel, ...]:
    """The models of a file. A file that wasn't calibrated for the exact scan gets this plan added, at an estimated cost on the high
    side.
    """
    levels, correlations = sections["levels"], sections["locals"]
    if "distance_points" in sections and sections["far_recalls"].shape == sections["recalls"].shape:
        return _with_distances(sections)
    full = np.repeat(rows * (UNMEASURED_ROW + dim * UNMEASURED_NUMBER) * np.minimum(np.exp2(levels), 1.0), len(correlations))
    settings, recalls, costs = with_setting(sections, (planner.EXACT, 0, 0), full.astype(np.float32))
    lows = sections.get("lows")
    if lows is not None and lows.shape != recalls.shape:  # written for another table of settings
        lows = None
    models = []
    for i, depth in enumerate(DEPTHS):
        models.append(DenseModel(depth, PLANS, settings, recalls[i], costs[i], levels, correlations, None if lows is None else lows[i]))
    return tuple(models)


def _with_distances(sections: Mapping[str, np.ndarray]) -> tuple[DenseModel, ...]:
    """The models of a file that was calibrated for distances too."""
    levels, settings = sections["levels"], sections["settings"]
    far = {"recalls": "far_recalls", "lows": "far_recalls", "costs": "far_costs"}
    recalls, lows, costs = (np.concatenate([sections[name], sections[other]], axis=1) for name, other in far.items())
    models = []
    for i, depth in enumerate(DEPTHS):
        points = np.concatenate([sections["locals"], sections["distance_points"][i].reshape(-1)])
        models.append(DenseModel(depth, PLANS, settings, recalls[i], costs[i], levels, points, lows[i]))
    return tuple(models)
