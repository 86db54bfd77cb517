"""Predictions of the plans of a file of lists, and the choice of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...kernels import lists as kernel
from ...kernels.layout import R_MICROSECONDS, R_RECALL, R_SETTING, REPORT_WIDTH
from ..base import Run, SegmentTarget
from ..model import DEPTHS, PLAN, PlanModel
from .far import NO_STOPS, Far, far_of
from .plans import PLANS, effort_of

# Unit and meaning. Chosen, not measured.
# Selectivity near a query, relative to that of all rows, below which it belongs to the next bin of a calibration.
LIMITS = np.array([0.6, 0.2, 0.05])
BINS = len(LIMITS) + 1
NO_LIMITS = np.empty(0)
NOT_EXACT = 0.9999  # highest recall that is predicted of a plan that may miss rows
MARGIN = 0.005  # predicted recall that is required above the target, at most: predictions are measured on few queries


class Choice(NamedTuple):
    """A chosen setting (an index into the model's settings), and its predicted cost (microseconds) and recall before corrections."""

    setting: int
    microseconds: float
    recall: float


class Choices(NamedTuple):
    """A choice for each of BINS, or one for all queries. options, limits, stops: as ``search_lists`` takes them. known: float64 ``(options,
    REPORT_WIDTH)``, what reports say of each, as ``kernels/layout.py`` has them.
    """

    each: tuple[Choice, ...]
    options: np.ndarray
    limits: np.ndarray
    stops: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class ListsModel(PlanModel):
    """levels: log2 selectivity, descending from 0, which is that of no filter. recalls, costs: float32 ``(levels, BINS, settings)``. scan:
    microseconds to score one row at full precision. far: of queries that are unlike the rows; None of a file that doesn't know them.
    """

    levels: np.ndarray
    scan: float
    far: Far | None = None

    def predictions(self, target: SegmentTarget, local: float, k: int) -> tuple[Any, Any]:
        """(costs in microseconds, recalls) of every setting, interpolated between levels of selectivity, with corrections. A filter is
        never predicted by the level of no filter: it may exclude just the best rows.
        """
        measured = local >= 0 and target.allowed.filtered  # else it is a distance
        return self._predicted(target, bin_of(local * target.segment.rows / max(int(target.allowed.matches[0]), 1)) if measured else 0, k)

    def _predicted(self, target: SegmentTarget, own: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The predictions for queries of a bin."""
        rows, matches = target.segment.rows, int(target.allowed.matches[0])
        level = np.log2(max(matches, 1) / rows)
        if matches < rows and not target.free and len(self.levels) > 1:
            level = min(level, self.levels[1])
        costs = np.array([np.interp(-level, -self.levels, column) for column in self.costs[:, own].T]) * max(k / self.depth, 1.0)
        recalls = np.array([np.interp(-level, -self.levels, column) for column in self.recalls[:, own].T])
        plans = self.settings[:, PLAN].astype(int)
        costs[plans == kernel.SCAN] = self.scan * matches
        offsets, factors = target.segment.corrections.table[0], target.segment.corrections.factors
        return costs * factors[plans], np.where(plans == kernel.SCAN, 1.0, np.clip(recalls + offsets[plans], 0, NOT_EXACT))

    def choose(self, target: SegmentTarget, k: int, recall: float) -> Choices:
        """The cheapest setting whose predicted recall reaches ``recall`` plus a margin; the exact scan always does. For each bin, where
        there is a filter.
        """
        bins = BINS if target.allowed.filtered and not target.free else 1
        each = tuple(self._choice(target, own, k, recall) for own in range(bins))
        planned = self.settings[[choice.setting for choice in each]]
        planned = planned[planned[:, PLAN] == kernel.LISTS]
        stops = self._stops(target, k, recall, planned[:, 2].min()) if len(planned) and self.far is not None else NO_STOPS
        return self.choices(each, LIMITS if bins > 1 else NO_LIMITS, k, stops)

    def choices(self, each: tuple[Choice, ...], limits: np.ndarray, k: int, stops: np.ndarray = NO_STOPS) -> Choices:
        """Some choices as ``search_lists`` takes them."""
        options = self.settings[[choice.setting for choice in each]]
        for option in options:
            option[1] = effort_of((option[1], option[2]), k, self.depth)
        known = np.zeros((len(each), REPORT_WIDTH))
        for row, choice in zip(known, each, strict=True):
            row[R_SETTING], row[R_MICROSECONDS], row[R_RECALL] = choice
        return Choices(each, options, limits, stops, known)

    def _stops(self, target: SegmentTarget, k: int, recall: float, deviations: float) -> np.ndarray:
        """Where a search by settings with these ``deviations`` may end."""
        assert self.far is not None
        usual = self.far.usual[0]
        if target.allowed.filtered and not target.free and len(self.levels) > 1:
            level = min(np.log2(max(int(target.allowed.matches[0]), 1) / target.segment.rows), self.levels[1])
            usual = np.interp(-level, -self.levels, self.far.usual)
        offset = target.segment.corrections.table[0, kernel.LISTS]
        stops = self.far.stops(self.settings, deviations, float(usual), needed_of(recall), float(offset))
        stops[:, 0] = [effort_of((rows, 0.0), k, self.depth) for rows in stops[:, 0]]
        return stops

    def located(self, target: SegmentTarget, run: Run) -> dict[str, Any]:
        """The selectivity near the query or, without a filter, how far what was found is (``far``)."""
        filtered, known = target.allowed.filtered, run.local >= 0
        return {
            "local_selectivity": float(run.local) if filtered and known else None,
            "distance": float(run.local) if known and not filtered else None,
        }

    def _choice(self, target: SegmentTarget, own: int, k: int, recall: float) -> Choice:
        costs, recalls = self._predicted(target, own, k)
        needed = needed_of(recall)
        setting = int(np.argmin(np.where(recalls >= needed, costs, np.inf)))
        plan = self.plans[int(self.settings[setting, PLAN])]
        offset, factor = target.segment.corrections.table[0, plan.id], target.segment.corrections.factors[plan.id]
        return Choice(setting, float(costs[setting] / factor), 1.0 if plan.exact else float(recalls[setting] - offset))


def needed_of(recall: float) -> float:
    """The predicted recall that is required for a target."""
    return recall + min((1.0 - recall) / 2, MARGIN)


def bin_of(relative: float) -> int:
    """The bin of a query near which the selectivity, relative to that of all rows, is this."""
    return int((relative < LIMITS).sum())


def models_of(sections: Mapping[str, np.ndarray]) -> tuple[ListsModel, ...]:
    """The models of a file, one for each of DEPTHS."""
    settings, levels, scan = sections["settings"], sections["levels"], float(sections["scan"][0])
    return tuple(
        ListsModel(depth, PLANS, settings, sections["recalls"][i], sections["costs"][i], levels, scan, far_of(sections, i))
        for i, depth in enumerate(DEPTHS)
    )
