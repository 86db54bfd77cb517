"""Predictions of the plans of a sparse segment, and the choice of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...kernels import impact as kernel
from ..base import SegmentTarget
from ..model import DEPTHS, PLAN, PlanModel, with_setting
from .plans import PLANS

# Constants: unit and meaning, then the source in brackets. [S2]: checked by the sparse suites of 22 November 2026, commit 062f29e
# (bench/RESULTS.md). [estimate]: a rounded time; machines differ. [chosen]: chosen, not measured.
NOT_EXACT = 0.9999  # highest recall that is predicted of a plan that may miss rows [S2]
MARGIN = 0.005  # predicted recall that is required above the target, at most [S2]
ALIKE = 1.2  # ratio of two costs below which the setting of higher recall is taken; measured times vary as much [S2]
FAR_LESS = 0.005  # what queries that are unlike the rows may find less than was asked for [chosen]
FAR_DEARER = 1.5  # ratio of costs up to which a setting is taken for them [chosen]
FULL_SHARE = 0.5  # share of a row's terms that a query has, averaged over the three forms of calibration queries [chosen]
FULL_CALL, FULL_POSTING, FULL_ROW = 20.0, 0.003, 0.002  # microseconds of the plan POSTINGS: per call, per posting, per row [estimate]


@dataclass(frozen=True)
class Choice:
    """A chosen setting (an index into the model's settings), and its predicted cost (microseconds) and recall before corrections."""

    setting: int
    microseconds: float
    recall: float


@dataclass(frozen=True)
class ImpactModel(PlanModel):
    """levels: log2 selectivity, descending from 0. recalls, costs: float32 ``(levels, settings)``. scan: microseconds to score one row.
    far: float32 ``(settings,)``, recalls for queries that are unlike the rows; None: the file has none.
    """

    levels: np.ndarray
    scan: float
    far: np.ndarray | None = None

    def predictions(self, target: SegmentTarget, local: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(costs in microseconds, recalls) of every setting, interpolated between levels of selectivity, with corrections.

        A filter is never predicted by the first level, that of "no filter", however many rows it matches: it may exclude just the best
        rows.
        """
        rows, matches = target.segment.rows, int(target.allowed.matches[0])
        level = np.log2(max(matches, 1) / rows)
        if matches < rows and not target.free and len(self.levels) > 1:
            level = min(level, self.levels[1])
        costs = np.array([np.interp(-level, -self.levels, column) for column in self.costs.T])
        recalls = np.array([np.interp(-level, -self.levels, column) for column in self.recalls.T])
        plans = self.settings[:, PLAN].astype(int)
        exact = np.array([self.plans[plan].exact for plan in plans.tolist()])
        costs[plans == kernel.SCAN] = self.scan * matches
        if matches < rows and not target.free and (level < self.levels[-1] or len(self.levels) == 1):
            recalls[:] = 0  # filters that match so few were tried with exact plans only
        offsets, factors = target.segment.corrections.table[0], target.segment.corrections.factors
        return costs * factors[plans], np.where(exact, 1.0, np.clip(recalls + offsets[plans], 0, NOT_EXACT))

    def choose(self, target: SegmentTarget, k: int, recall: float) -> Choice:
        """The cheapest setting whose predicted recall reaches ``recall`` plus a margin; exact settings always do. Among settings whose
        costs are within a factor of ALIKE of it, the one of the highest recall.
        """
        costs, recalls = self.predictions(target, -1, k)
        if int(target.allowed.matches[0]) <= k:
            setting = int(np.argmax(self.settings[:, PLAN] == kernel.SCAN))
        else:
            needed = recall + min((1.0 - recall) / 2, MARGIN)
            reaching = np.where(recalls >= needed, costs, np.inf)
            setting = self._for_far(int(np.argmax(np.where(reaching <= ALIKE * reaching.min(), recalls, -np.inf))), recall, costs)
        plan = self.plans[int(self.settings[setting, PLAN])]
        offset, factor = target.segment.corrections.table[0, plan.id], target.segment.corrections.factors[plan.id]
        return Choice(setting, float(costs[setting] / factor), 1.0 if plan.exact else float(recalls[setting] - offset))

    def _for_far(self, setting: int, recall: float, costs: np.ndarray) -> int:
        """The setting, or one that reads as many postings and misses less, if queries that are unlike the rows need it: the cheapest that
        finds enough for them, or the one that finds most.
        """
        if self.far is None or int(self.settings[setting, PLAN]) != kernel.IMPACTS or self.far[setting] >= recall - FAR_LESS:
            return setting
        plan, share, misses = self.settings[setting].tolist()
        own = (self.settings[:, PLAN] == plan) & (self.settings[:, 1] == share) & (self.settings[:, 2] <= misses)
        own &= costs <= FAR_DEARER * costs[setting]
        enough = own & (self.far >= recall - FAR_LESS)
        return int(np.argmin(np.where(enough, costs, np.inf))) if enough.any() else int(np.argmax(np.where(own, self.far, -1)))


def models_of(sections: Mapping[str, np.ndarray], rows: int) -> tuple[ImpactModel, ...]:
    """The models of a file. A file that wasn't calibrated for the plan POSTINGS gets it added, at an estimated cost."""
    settings, recalls, costs = with_setting(sections, (kernel.POSTINGS, 1, 0), full_cost(sections["frequencies"], rows))
    levels, scan = sections["levels"], float(sections["scan"][0])
    far = [None] * len(DEPTHS)
    if "far_recalls" in sections:
        far = list(np.pad(sections["far_recalls"], ((0, 0), (0, len(settings) - sections["far_recalls"].shape[1])), constant_values=1))
    return tuple(ImpactModel(depth, PLANS, settings, recalls[i], costs[i], levels, scan, far[i]) for i, depth in enumerate(DEPTHS))


def full_cost(frequencies: np.ndarray, rows: int) -> float:
    """The estimated cost of the plan POSTINGS, in microseconds. It can't be measured while the file is built, because it reads the chunks;
    ``Corrections`` correct it at run time.
    """
    postings = np.square(frequencies.astype(np.float64)).sum() / max(rows, 1)  # of all terms of a row
    return FULL_CALL + FULL_SHARE * postings * FULL_POSTING + rows * FULL_ROW


def first_pass(k: int) -> int:
    """The number of rows that a search for k results scores first; from their scores it sees how many more it has to score [chosen]."""
    return k + k // 4 + 12
