"""Predictions of plans: what a calibration measured when a file was built, and what searches learned since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..kernels import planner

if TYPE_CHECKING:
    from .base import Plan, Run, SegmentTarget

# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commits 5afc918 to
# e7bcf53 (bench/RESULTS.md, "Under filters"), which compares predicted with observed recall and cost. [chosen]: chosen, not measured.
DEPTHS = planner.DEPTHS  # results asked for; a request for another number uses the nearer model, with its efforts scaled
MOST_OF_FIRST = 3  # times the first depth: the most results for which the first model is used [chosen]
DOUBT = 0.5  # standard errors subtracted from a measured mean recall [P2]
MEASURED_EVERY = 16  # searches of a segment for each one that is timed; timing costs time itself [chosen]
LEARNING = 1 / 64  # weight of one measurement in the moving average of a plan [chosen]
CALIBRATED = 16  # measured recalls that the calibration counts for: the first ones move the average more than later ones [chosen]
LEARNING_SPEED = 1 / 8  # the same of the speed of the machine, which must follow before plans are blamed for it [chosen]
MOST_SURPRISING = 8.0  # ratio of measured to predicted cost at which one measurement is clipped [chosen]
COST_FACTORS = (0.25, 4.0)  # range of a plan's cost factor [chosen]
SPEEDS = (0.05, 20.0)  # range of the cost factor that all plans share [chosen]
RECALL_OFFSETS = (-0.2, 0.02)  # range of a plan's recall offset; it may fall far, but hardly rise [chosen]

STOPPED, AGAIN = 1, 2  # ``Run.fallback``: the plan before was stopped; it found rows so far away that it was followed by more effort
PLAN = 0  # column of a setting; the other two are the plan's parameters
NOTHING_MATCHES = "nothing matches"


@dataclass
class Corrections:
    """Corrections of a segment's predictions, learned while searching.

    table: float64 ``(3, plans)``: each plan's recall offset (measured − predicted recall) and cost factor, and what searches count of the
    distances of what they find (``kernels/planner.py``). speed: the part of measured ÷
    predicted cost that all plans share, because the processor is slower or its caches are colder than they were in the calibration. It
    doesn't change the choice: if the plans that run were blamed for it, others would be chosen that are no faster.
    """

    table: np.ndarray
    speed: float = 1.0
    calls: int = field(default=0)
    audited: dict[int, int] = field(default_factory=dict)  # plan → its measured recalls

    @classmethod
    def of(cls, plans: Mapping[int, Plan], speed: float = 1.0) -> Corrections:
        """Neutral corrections of a table of plans."""
        table = np.zeros((3, max(max(plans) + 1, planner.NOT_AGAIN + len(DEPTHS))))
        table[planner.COST_FACTOR] = 1
        return cls(table, speed)

    @property
    def factors(self) -> np.ndarray:
        """Measured ÷ predicted cost of each plan, float64 ``(plans,)``."""
        return self.table[1] * self.speed

    def learn_cost(self, plan: int, predicted: float, actual: float) -> None:
        """Move the cost factors towards a measurement of a plan (microseconds)."""
        if predicted > 0:
            factor, ratio = self.table[1], actual / predicted
            shared = min(ratio / factor[plan], MOST_SURPRISING * self.speed)
            self.speed = min(max(self.speed + LEARNING_SPEED * (shared - self.speed), SPEEDS[0]), SPEEDS[1])
            own, (least, most) = min(ratio / self.speed, MOST_SURPRISING), COST_FACTORS
            factor[plan] = min(max(factor[plan] + LEARNING * (own - factor[plan]), least), most)

    def learn_recall(self, plan: int, predicted: float, actual: float) -> None:
        """Move a plan's recall offset towards a measurement."""
        offset, (least, most) = self.table[0], RECALL_OFFSETS
        known = self.audited[plan] = self.audited.get(plan, 0) + 1
        weight = max(LEARNING, 1 / (CALIBRATED + known))
        offset[plan] = min(max(offset[plan] + weight * ((actual - predicted) - offset[plan]), least), most)


@dataclass(frozen=True)
class PlanModel:
    """The measurements of one file for one depth (number of results).

    plans: id → plan. settings: float64 ``(settings, 3)``, (plan, parameter, parameter). recalls, costs (microseconds): float32 ``(…,
    settings)``. This class has one recall and cost for a setting; a subclass predicts them for a request.
    """

    depth: int
    plans: Mapping[int, Plan]
    settings: np.ndarray
    recalls: np.ndarray
    costs: np.ndarray
    unusable: ClassVar[float] = np.inf  # microseconds; settings of a higher predicted cost can't be used and aren't shown

    def predictions(self, target: SegmentTarget, local: float, k: int) -> tuple[Sequence[float], Sequence[float]]:
        """(costs in microseconds, recalls) of all settings for a request with at least one match, with the corrections of the segment.
        local: the selectivity near the query; −1 if it wasn't measured.
        """
        plans, corrections = self.settings[:, PLAN].astype(int), target.segment.corrections
        return self.costs * corrections.factors[plans], np.minimum(self.recalls + corrections.table[0, plans], 1.0)

    def plan_of(self, run: Run) -> Plan:
        """The plan of the setting that ran."""
        return self.plans[int(self.settings[int(run.setting), PLAN])]

    def plan_name(self, run: Run) -> str:
        """The name of the plan that ran."""
        return NOTHING_MATCHES if run.setting < 0 else self.plan_of(run).name

    def parameters(self, setting: int, k: int) -> dict[str, float]:
        """The parameters of a setting, by the names that ``explain`` shows."""
        plan, first, second = self.settings[setting].tolist()
        return self.plans[int(plan)].describe((first, second), k, self.depth)

    def considered(self, target: SegmentTarget, local: float, k: int) -> list[dict[str, Any]]:
        """Every setting with its predicted cost and recall for a request, cheapest first."""
        costs, recalls = self.predictions(target, local, k)
        rows = [
            {
                "plan": self.plans[int(self.settings[s, PLAN])].name,
                "parameters": self.parameters(s, k),
                "microseconds": float(costs[s]),
                "recall": float(recalls[s]),
                **self.lowest(target, local, s),
            }
            for s in range(len(self.settings))
            if costs[s] < self.unusable
        ]
        return sorted(rows, key=lambda row: row["microseconds"])

    def explained(self, target: SegmentTarget, run: Run, k: int) -> dict[str, Any]:
        """How a segment was searched, as plain data (``Report.explained``)."""
        segment, matches, ran = target.segment, int(target.allowed.matches[0]), run.setting >= 0
        plan = self.plan_of(run) if ran else self.plans[min(self.plans)]
        offset, factor = segment.corrections.table[0, plan.id], segment.corrections.factors[plan.id]
        return {
            "rows": segment.rows,
            **({"healed": segment.healed["times"]} if segment.healed else {}),
            "matches": matches,
            "selectivity": matches / segment.rows,
            **self.located(target, run),
            "plan": self.plan_name(run),
            "parameters": self.parameters(int(run.setting), k) if ran else {},
            "predicted": {
                "microseconds": float(run.microseconds * factor),
                "recall": 1.0 if plan.exact else min(float(run.recall + offset), 1.0),
                **(self.lowest(target, run.local, int(run.setting)) if ran else {}),
            },
            "fallback": run.fallback == STOPPED,
            "searched_again": run.fallback == AGAIN,
            "considered": self.considered(target, run.local, k) if ran else [],
            "rows_scored": int(run.scored),
            **segment.placement(),
            **({} if run.postings is None else {"postings": run.postings}),
            **({} if run.elapsed is None else {"microseconds": round(run.elapsed, 1)}),
        }

    def lowest(self, target: SegmentTarget, local: float, setting: int) -> dict[str, float]:
        """What a model predicts of the queries for which a setting finds least."""
        return {}

    def located(self, target: SegmentTarget, run: Run) -> dict[str, Any]:
        """What a plan says of how the filter or the results lie to the query."""
        return {}


def which_model(k: int) -> int:
    """The index of the model of a file (one for each of DEPTHS) to use for k results."""
    return 0 if k <= MOST_OF_FIRST * DEPTHS[0] else 1


def settings_of(plans: Mapping[int, Plan]) -> np.ndarray:
    """The table of settings that a file built now is calibrated for: float64 ``(settings, 3)``, (plan, parameter, parameter)."""
    return np.array([(plan.id, *setting) for plan in plans.values() for setting in plan.settings], np.float64)


def with_setting(sections: Mapping[str, np.ndarray], setting: tuple[float, float, float], cost: Any) -> tuple[np.ndarray, ...]:
    """(settings, recalls, costs) of a file, to which an exact setting is added if the file wasn't calibrated for its plan. cost:
    microseconds, for each model and cell.
    """
    settings, recalls, costs = sections["settings"], sections["recalls"], sections["costs"]
    if (settings[:, PLAN] == setting[PLAN]).any():
        return settings, recalls, costs
    columns = (np.broadcast_to(np.asarray(value, np.float32), recalls.shape[:-1])[..., None] for value in (1, cost))
    added = (np.concatenate([table, column], axis=-1) for table, column in zip((recalls, costs), columns, strict=True))
    return np.vstack([settings, setting]), *added


def measure_grid(
    levels: int, lane: Callable[[int], Callable[[int], Sequence]], threads: int, progress: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Measure all settings at every depth and level of selectivity. Returns (recalls, costs in microseconds), float32 ``(depths, levels,
    …)``.

    lane: from the index of a depth to a function that measures a level: its (recalls, costs). Depths are measured in parallel, with a lane
    each, if there are several threads. progress: called with the share that is done, 0 … 1.
    """
    done = [0] * len(DEPTHS)

    def measure(d: int) -> list[Sequence]:
        cell, cells = lane(d), []
        for level in range(levels):
            cells.append(cell(level))
            done[d] = level + 1
            progress(sum(done) / levels / len(DEPTHS))
        return cells

    if threads > 1:
        with ThreadPoolExecutor(len(DEPTHS)) as pool:
            measured = list(pool.map(measure, range(len(DEPTHS))))
    else:
        measured = [measure(d) for d in range(len(DEPTHS))]
    recalls, costs = (np.array([[cell[part] for cell in cells] for cells in measured], np.float32) for part in range(2))
    return recalls, costs


def lowered(recalls: np.ndarray | Sequence[float]) -> float:
    """The mean of some measured recalls, less DOUBT standard errors."""
    return float(np.mean(recalls) - DOUBT * np.std(recalls) / np.sqrt(len(recalls)))
