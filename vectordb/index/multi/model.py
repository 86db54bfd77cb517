"""Predictions of the plans of a segment of a multi-vector field, and the choice of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import Run, SegmentTarget
from ..dense.model import held_by
from ..model import DEPTHS, PLAN, PlanModel
from .plans import EXACT, LISTS, PLANS, SCAN, exact_rows

# Constants: unit and meaning. Chosen, not measured.
NOT_EXACT = 0.9999  # highest recall that is predicted of a plan that may miss rows
MARGIN = 0.01  # predicted recall that is required above the target, at most: predictions are measured on few queries
ALIKE = 1.1  # ratio of two costs below which the setting of higher recall is taken; measured times vary as much
FIXED = 40.0  # microseconds of a search beside what is measured for each row
BYTE_ROW, EXACT_ROW = range(2)  # of ``units``


@dataclass(frozen=True)
class Choice:
    """A chosen setting (an index into the model's settings), and its predicted cost (microseconds) and recall before corrections."""

    setting: int
    microseconds: float
    recall: float


@dataclass(frozen=True)
class MultiModel(PlanModel):
    """levels: log2 selectivity, descending from 0. recalls, costs: float32 ``(levels, settings)``; the costs of lists only, infinite where
    a file has none. units: microseconds of a row scored by byte codes, and exactly, for a query of as many vectors as those of the
    calibration. exact: rows that the plan LISTS scores exactly, times the results. distances: float64, rising, how far what is found may be
    (``far.distance_of``), or None in files of earlier versions; far_recalls: float32 ``(distances, settings)``, what is found there;
    shifts: float64 ``(levels,)``, how much farther filters make it.
    lows: the mean recall of the queries with the lowest, as ``recalls``, or None in files of earlier versions.
    """

    levels: np.ndarray
    units: np.ndarray
    exact: float
    distances: np.ndarray | None = None
    far_recalls: np.ndarray | None = None
    shifts: np.ndarray | None = None
    lows: np.ndarray | None = None
    unusable = 1e12

    def predictions(self, target: SegmentTarget, local: float, k: int) -> tuple[Any, Any]:
        """(costs in microseconds, recalls) of every setting, float64, interpolated between levels of selectivity, with corrections.

        A filter is never predicted by the first level, that of "no filter", however many rows it matches: it may exclude just the best
        rows. local: the distance of what a search found, −1 if there was none.
        """
        rows, matches = target.segment.rows, int(target.allowed.matches[0])
        level, plans = self._level(target), self.settings[:, PLAN].astype(int)
        recalls = np.array([np.interp(-level, -self.levels, column) for column in self.recalls.T])
        if local >= 0 and self.distances is not None and self.far_recalls is not None and self.shifts is not None:
            near = local - (np.interp(-level, -self.levels, self.shifts) if matches < rows else 0.0)
            if near > self.distances[0]:
                recalls = np.minimum(recalls, [np.interp(near, self.distances, column) for column in self.far_recalls.T])
        costs = np.full(len(plans), np.inf)
        listed = np.flatnonzero((plans == LISTS) & np.isfinite(self.costs[0]))
        for setting in listed.tolist():
            costs[setting] = FIXED + np.interp(-level, -self.levels, self.costs[:, setting]) * max(k / self.depth, 1.0) ** 0.5
        for setting in np.flatnonzero(plans == SCAN).tolist():
            scored = min(exact_rows(float(self.settings[setting, 1]), k, self.depth), matches)
            costs[setting] = FIXED + matches * self.units[BYTE_ROW] + scored * self.units[EXACT_ROW]
        costs[plans == EXACT] = FIXED + matches * self.units[EXACT_ROW]
        offsets, factors = target.segment.corrections.table[0], target.segment.corrections.factors
        found = np.clip(recalls + offsets[plans], 0, NOT_EXACT)
        return costs * factors[plans], np.where(plans == EXACT, 1.0, found)

    def choose(self, target: SegmentTarget, k: int, recall: float, lists: bool = True, local: float = -1.0) -> Choice:
        """The cheapest setting whose predicted recall reaches ``recall`` plus a margin; the exact scan always does. Among settings whose
        costs are within a factor of ALIKE of it, the one of the highest recall. lists: whether the plan LISTS may be chosen. local: as
        ``predictions`` takes it.
        """
        costs, recalls = self.predictions(target, local, k)
        if not lists:
            costs = np.where(self.settings[:, PLAN] == LISTS, np.inf, costs)
        needed = recall + min((1.0 - recall) / 2, MARGIN)
        reaching = np.where(self._held(target, recalls) >= needed, costs, np.inf)
        setting = int(np.argmax(np.where(reaching <= ALIKE * reaching.min(), recalls, -np.inf)))
        plan = self.plans[int(self.settings[setting, PLAN])]
        offset, factor = target.segment.corrections.table[0, plan.id], target.segment.corrections.factors[plan.id]
        return Choice(setting, float(costs[setting] / factor), 1.0 if plan.exact else float(recalls[setting] - offset))

    def _level(self, target: SegmentTarget) -> float:
        """The log2 selectivity by which a request is predicted."""
        rows, matches = target.segment.rows, int(target.allowed.matches[0])
        level = float(np.log2(max(matches, 1) / rows))
        filtered = matches < rows and not target.free and len(self.levels) > 1
        return min(level, float(self.levels[1])) if filtered else level

    def _held(self, target: SegmentTarget, recalls: np.ndarray) -> np.ndarray:
        """The targets that settings with these predicted recalls reach: less where some queries have much lower recalls."""
        if self.lows is None:
            return recalls
        level = self._level(target)
        lows = np.array([np.interp(-level, -self.levels, column) for column in self.lows.T])
        return np.where(self.settings[:, PLAN] == EXACT, 1.0, held_by(recalls, lows))

    def lowest(self, target: SegmentTarget, local: float, setting: int) -> dict[str, float]:
        if self.lows is None:
            return {}
        return {"lowest_recall": float(np.interp(-self._level(target), -self.levels, self.lows[:, setting]))}

    @property
    def usual(self) -> float:
        """The distance beyond which what is found may lack more than was predicted."""
        return np.inf if self.distances is None else float(self.distances[0])

    def at_distance(self, target: SegmentTarget, k: int, choice: Choice, distance: float) -> Choice:
        """A choice with the recall that is predicted where what it found is so far."""
        plan = self.plans[int(self.settings[choice.setting, PLAN])]
        recall = float(self.predictions(target, distance, k)[1][choice.setting])
        return Choice(choice.setting, choice.microseconds, recall - float(target.segment.corrections.table[0, plan.id]))

    def located(self, target: SegmentTarget, run: Run) -> dict[str, Any]:
        return {"distance": float(run.local) if run.local >= 0 else None}

    def parameters(self, setting: int, k: int) -> dict[str, float]:
        shown = super().parameters(setting, k)
        return shown | {"exact": exact_rows(self.exact, k, self.depth)} if int(self.settings[setting, PLAN]) == LISTS else shown


def models_of(meta: Mapping[str, Any], sections: Mapping[str, np.ndarray]) -> tuple[MultiModel, ...]:
    """The models of a file."""
    settings, levels, units = sections["settings"], sections["levels"], sections["units"]
    recalls, costs = sections["recalls"], sections["costs"]
    far: list[tuple[Any, ...]] = [(None, None, None)] * len(DEPTHS)
    lows = sections.get("lows")
    if lows is None or lows.shape != recalls.shape:  # of an earlier version, or written for another table of settings
        lows = [None] * len(DEPTHS)
    if "distances" in sections and sections["far_recalls"].shape[-1] == len(settings):
        far = list(zip(sections["distances"], sections["far_recalls"], sections["shifts"], strict=True))
    return tuple(
        MultiModel(depth, PLANS, settings, recalls[i], costs[i], levels, units, meta["exact"][i], *far[i], lows=lows[i])
        for i, depth in enumerate(DEPTHS)
    )
