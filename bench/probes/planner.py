"""Probe of the query planner: predicted beside observed recall, and regret, in one cell of filters.

Regret is the planner's time ÷ the time of the fastest fixed setting that reaches the target in the cell. All settings run on the same
requests. The collection has one segment, so the planner's internals are called for it.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .. import metrics, timing, truth
from .release import Figures

TARGETS = (0.90, 0.95, 0.99)
K = 10
_EVERY_ROW = 20_000  # matching rows; exact plans over more are measured on 20 queries


def cell(worker) -> Figures:
    """Run the held-out queries with the planner at each target, and with every fixed setting."""
    from vectordb.index.base import SegmentMask, SegmentRequest, SegmentTarget
    from vectordb.kernels import planner

    dataset, filters = worker.dataset, worker.filters
    queries = np.ascontiguousarray(dataset.queries[worker.queries], np.float32)
    with worker.system.collection._snapshots.pin() as view:
        table, [opened] = view.chunks(view.fields["dense"]), view.snapshot.segments(view.fields["dense"])
        segment, masks = opened.segment, {}
        for where in filters:
            if where not in masks:
                masks[where] = SegmentMask(segment, None if where is None else np.flatnonzero(where.mask).astype(np.uint32))
        allowed = [masks[where] for where in filters]
        settings, spec = segment.model(K).settings, view.schema.vectors["dense"]
        expected = truth.exact(dataset, worker.queries, K, filters)

        def run(count: int, forced: int, target: float) -> tuple[float, np.ndarray, list]:
            """(mean microseconds of a query, recall of each, how each was run)."""

            def search(i: int, timed: bool):
                targets = [SegmentTarget(segment, allowed[i])]
                return segment.search(SegmentRequest(targets, [], table, queries[i : i + 1], spec, K, target, None, forced, timed, timed))

            reports = [search(i, True)[1].runs[0] for i in range(count)]
            # The second pass is measured, so that the processor's caches are in the state that a stream of different queries leaves.
            taken = timing.calls(lambda i: search(i, False), range(count), warm=0)
            return float(taken.mean()), np.array([_recall(worker, expected, i, search(i, False)[0][0][0]) for i in range(count)]), reports

        def name(setting: int) -> str:
            return segment.plans[int(settings[setting, planner.PLAN])].name

        measured = []  # (microseconds, recall, setting)
        for setting in range(len(settings)):
            plan = int(settings[setting, planner.PLAN])
            needs = segment.plans[plan].needs
            if ("filter" in needs and not allowed[0].filtered) or ("graph" in needs and not segment.has_graph):
                continue
            slow = plan in (planner.SCAN, planner.EXACT) and allowed[0].matches[0] > _EVERY_ROW
            cost, recalls, _ = run(20 if slow else len(queries), setting, 1.0)
            measured.append((cost, recalls.mean(), setting))
        yield "matching rows", np.median([one.matches[0] for one in allowed]), ""
        for target in TARGETS:
            cost, recalls, reports = run(len(queries), -1, target)
            predicted = np.mean([min(report.recall, 1.0) for report in reports])
            chosen = Counter(name(int(report.setting)) for report in reports if report.setting >= 0)
            label = f"target {target:.2f}"
            yield f"{label}: recall", recalls.mean(), ""
            yield f"{label}: recall, 5 % of the queries below", np.percentile(recalls, 5), ""
            yield f"{label}: predicted recall", predicted, ""
            yield f"{label}: error of the prediction", abs(predicted - recalls.mean()), ""
            yield f"{label}: short of the target", max(0.0, target - recalls.mean()), ""
            yield f"{label}: a search", cost, "µs"
            for plan, count in chosen.most_common(3):
                yield f"{label}: searches by {plan}", count, ""
            reached = [(best, setting) for best, recall, setting in measured if recall >= target]
            if reached:
                best, setting = min(reached)
                yield f"{label}: best fixed setting, {name(setting)} {settings[setting, planner.EFFORT]:g}", best, "µs"
                yield f"{label}: regret", cost / best, "×"


def _recall(worker, expected: truth.Truth, i: int, hits: np.ndarray) -> float:
    where = worker.filters[i]
    judged = truth.judge(expected, worker.dataset, i, worker.queries[i], hits, K, None if where is None else where.mask)
    return metrics.recall(judged.good, K, int(expected.matches[i]))
