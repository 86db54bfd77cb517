"""Accuracy of the query planner: predicted against observed recall, and regret. ``python -m bench.planner [DATA …]``.

Builds a collection and runs held-out queries in each cell of the filter grid. For each recall target it prints the observed and the
predicted recall, the time, and the regret. Regret is the planner's time ÷ the time of the fastest fixed setting that reaches the target
in that cell; all settings run on the same requests. It also prints the build time, memory, disk, and the speed-up by a second thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import vectordb
from vectordb import Dense, Int, Schema
from vectordb.index.base import Run, SegmentMask, SegmentRequest, SegmentTarget
from vectordb.index.dense.plans import PLANS
from vectordb.kernels import planner

from . import data, facts
from .filters import Columns, grid
from .truth import score

TARGETS = (0.90, 0.95, 0.99)
K = 10


@dataclass
class Outcome:
    """One cell at one recall target.

    microseconds, best_microseconds: mean time per query of the planner and of the best fixed setting. best: that setting. plans: how often
    the planner chose each plan.
    """

    cell: str
    matches: int
    target: float
    recall: float
    p5: float
    predicted: float
    microseconds: float
    best_microseconds: float | None
    best: str
    plans: dict[str, int]

    @property
    def regret(self) -> float:
        return self.microseconds / self.best_microseconds if self.best_microseconds else float("nan")


class Bench:
    """A collection of one segment, and held-out queries that can be run with any plan and setting."""

    def __init__(self, dataset: data.Dataset, folder: Path, queries: int):
        self.dataset = dataset
        self.queries = np.ascontiguousarray(dataset.queries[:queries], np.float32)
        self.database = vectordb.open(folder, maintenance=False)
        schema = Schema({"v": Dense(dataset.dim, dataset.metric)}, {"row": Int()})
        self.collection = self.database.create_collection("planner", schema)
        started = time.perf_counter()
        for low in range(0, len(dataset), 1000):
            rows = list(range(low, min(low + 1000, len(dataset))))
            self.collection.upsert(ids=rows, vectors={"v": dataset.vectors[rows]}, attributes={"row": rows})
        self.upserted = time.perf_counter() - started
        self.collection.optimize()
        self.built = time.perf_counter() - started

    def run(self, view, allowed: Sequence[SegmentMask], forced: int, target: float) -> tuple[float, list[np.ndarray], list[Run]]:
        """(microseconds per query, docids found by each query, how each was run)."""
        table, opened = view.chunks(view.fields["v"]), view.snapshot.segments(view.fields["v"])
        segment, spec = opened[0].segment, view.schema.vectors["v"]

        def search(i: int, timed: bool):
            part = SegmentTarget(segment, allowed[i])
            request = SegmentRequest([part], [], table, self.queries[i : i + 1], spec, K, target, None, forced, timed, timed)
            return segment.search(request)

        reports = [search(i, True)[1].runs[0] for i in range(len(allowed))]
        # The second pass is measured, so that the processor's caches are in the state that a stream of different queries leaves.
        started = time.perf_counter_ns()
        found = [search(i, False)[0][0][0] for i in range(len(allowed))]
        return (time.perf_counter_ns() - started) / len(allowed) / 1e3, found, reports

    def cell(self, name: str, masks: Sequence[np.ndarray | None]) -> list[Outcome]:
        """Measure one cell: the planner at each target, and every fixed setting."""
        with self.collection._snapshots.pin() as view:
            segment = view.snapshot.segments(view.fields["v"])[0].segment
            made: dict[int, SegmentMask] = {}
            for mask in masks:
                if id(mask) not in made:
                    made[id(mask)] = SegmentMask(segment, None if mask is None else np.flatnonzero(mask).astype(np.uint32))
            allowed = [made[id(mask)] for mask in masks]
            truths = [self._truth(i, mask) for i, mask in enumerate(masks)]
            settings = segment.model(K).settings
            ran = {}
            for setting in range(len(settings)):
                plan = int(settings[setting, planner.PLAN])
                needs = PLANS[plan].needs
                if ("filter" in needs and not allowed[0].filtered) or ("graph" in needs and not segment.has_graph):
                    continue
                slow = plan in (planner.SCAN, planner.EXACT) and allowed[0].matches[0] > 20_000  # exact: 20 queries suffice
                some = slice(0, 20) if slow else slice(None)
                microseconds, found, _ = self.run(view, allowed[some], setting, 1.0)
                ran[setting] = (microseconds, float(np.mean([self._recall(truths[i], f) for i, f in enumerate(found)])))
            outcomes = []
            for target in TARGETS:
                microseconds, found, reports = self.run(view, allowed, -1, target)
                recalls = np.array([self._recall(truths[i], f) for i, f in enumerate(found)])
                good = [(cost, setting) for setting, (cost, recall) in ran.items() if recall >= target]
                cost, setting = min(good) if good else (None, -1)
                best = (
                    "none" if setting < 0 else f"{PLANS[int(settings[setting, planner.PLAN])].name} {settings[setting, planner.EFFORT]:g}"
                )
                chosen = Counter(PLANS[int(settings[int(r.setting), planner.PLAN])].name for r in reports if r.setting >= 0)
                outcomes.append(
                    Outcome(
                        cell=name,
                        matches=int(np.median([a.matches[0] for a in allowed])),
                        target=target,
                        recall=float(recalls.mean()),
                        p5=float(np.percentile(recalls, 5)),
                        predicted=float(np.mean([min(r.recall, 1.0) for r in reports])),
                        microseconds=microseconds,
                        best_microseconds=cost,
                        best=best,
                        plans=dict(chosen.most_common(3)),
                    )
                )
        return outcomes

    def _truth(self, query: int, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, int]:
        """(scores of all rows, lowest score of a correct hit, number of correct hits)."""
        rows = np.arange(len(self.dataset)) if mask is None else np.flatnonzero(mask)
        scores = np.full(len(self.dataset), -np.inf)
        scores[rows] = score(self.dataset, query, rows)
        wanted = min(K, len(rows))
        least = np.partition(scores, -wanted)[-wanted] if wanted else np.inf
        return scores, least - 1e-6 * max(abs(least), 1e-3), wanted

    @staticmethod
    def _recall(truth: tuple[np.ndarray, np.ndarray, int], found: np.ndarray) -> float:
        scores, least, wanted = truth
        return 1.0 if wanted == 0 else min(int((scores[found] >= least).sum()), wanted) / wanted

    def threads(self, seconds: float = 2.0) -> tuple[float, float]:
        """(searches per second of one thread, of two threads together)."""

        def rate(count: int) -> float:
            done = [0] * count
            end = time.perf_counter() + seconds

            def work(slot: int) -> None:
                i = slot
                while time.perf_counter() < end:
                    self.collection.search({"v": self.queries[i % len(self.queries)]})
                    i += 1
                    done[slot] += 1

            workers = [threading.Thread(target=work, args=(slot,)) for slot in range(count)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return sum(done) / seconds

        rate(1)
        return rate(1), rate(2)


def measure(name: str, queries: int, cells: str) -> dict:
    """Measure and print all figures of one data set; returns them."""
    dataset = data.load(name)
    if "place" not in dataset.attributes:
        dataset = data.with_grid(dataset)
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        bench = Bench(dataset, Path(folder), queries)
        n = len(dataset)
        disk = sum(path.stat().st_blocks for path in Path(folder).rglob("*")) * 512 / 1e6
        print(
            f"\n{name}: {n:,} × {dataset.dim}, {dataset.metric}; upserts {bench.upserted:.1f} s, upserts and index {bench.built:.1f} s: ",
            end="",
        )
        print(
            f"{n / bench.built:,.0f} docs/s; on disk {disk:.0f} MB",
            flush=True,
        )
        columns = Columns(dataset.attributes, n)
        place = np.asarray(dataset.attributes["place"])
        own = [int(place[np.argmax(score(dataset, i, np.arange(n)))]) for i in range(queries)]
        outcomes = bench.cell("no filter", [None] * len(bench.queries))
        _show(outcomes)
        for where in grid(n, own):
            if cells in where.name:
                masks = [f.mask for f in where.filters(columns)]
                found = bench.cell(where.name, masks)
                _show(found)
                outcomes += found
        one, two = bench.threads()
        print(f"threads: {one:,.0f} searches/s from one thread, {two:,.0f} from two: {two / one:.2f}×")
        bench.database.close()
    summary = summarize(outcomes) | {"docs_per_second": n / bench.built, "one_thread": one, "two_threads": two}
    return {"data": name, "summary": summary, "cells": [asdict(outcome) | {"regret": outcome.regret} for outcome in outcomes]}


def summarize(outcomes: Sequence[Outcome]) -> dict:
    """Summarize all cells: regret, prediction error, and the share of cells that met each target. Prints and returns the figures."""
    regrets = np.array([o.regret for o in outcomes if o.best_microseconds])
    summary: dict = {"regret_mean": float(np.exp(np.log(regrets).mean())), "regret_max": float(regrets.max())}
    summary["prediction_error"] = float(np.mean([abs(o.recall - o.predicted) for o in outcomes]))
    print(f"regret: geometric mean {summary['regret_mean']:.2f}, largest {summary['regret_max']:.2f}; ", end="")
    print(f"mean |predicted − observed recall| {summary['prediction_error']:.3f}")
    for target in TARGETS:
        own = [o for o in outcomes if o.target == target]
        met = float(np.mean([o.recall >= target - 0.01 for o in own]))
        lowest = min(own, key=lambda o: o.recall)
        p5 = min(o.p5 for o in own)
        summary[f"met_{target:g}"] = met
        print(f"target {target:.2f}: met (−.01) in {met:.0%} of {len(own)} cells; lowest {lowest.recall:.3f} ({lowest.cell}), p5 {p5:.2f}")
    return summary


def _show(outcomes: Sequence[Outcome]) -> None:
    for o in outcomes:
        best = "–" if o.best_microseconds is None else f"{o.best_microseconds:6.1f} µs by {o.best}"
        plans = ", ".join(f"{name} {count}" for name, count in o.plans.items())
        print(
            f"{o.cell:34} {o.matches:7,} target {o.target:.2f} observed {o.recall:.3f} (p5 {o.p5:.2f}) predicted {o.predicted:.3f} "
            f"{o.microseconds:6.1f} µs; best {best}; regret {o.regret:.2f}; {plans}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="*", default=["clustered-100k"], metavar="DATA", help="data sets (clustered-100k)")
    parser.add_argument("--queries", type=int, default=200, metavar="N", help="number of held-out queries (200)")
    parser.add_argument("--cells", default="", help="run only the cells whose name contains this text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE, as JSON")
    options = parser.parse_args()
    print({**facts.machine(), **facts.software()})
    results = [measure(name, options.queries, options.cells) for name in options.data]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
