"""The runner of the suites: starts a worker for each system, fills one at a time, searches them in turn, and judges the answers.

Everything goes to the journal. Interleaving: within a cell, for each repeat, the systems take turns setting by setting (the first setting
of each, then the second of each, …), and each repeat begins with the next system; probes likewise. All workers are alive, but only one
works. So changes of the machine (other load, clock speed) affect all systems alike. The report shows the spread over the repeats. If memory
is too small for all systems, ``Plan.group`` of them are alive at a time, one group after the other.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import data, facts, judging, suites, systems, truth
from .clock import Clock, TimeUp
from .crew import Crew, short
from .data import store
from .filters import Columns, Filter
from .journal import Journal, key_of, results, write
from .progress import Progress
from .remote import Died, Failed
from .suites import Cell, Probe, Scale, Stage, Suite
from .systems import Unsupported

_LEAST = 0.1  # seconds that a pass may take, however little time is left
_TIMEOUT = 1.0  # seconds; the service suite counts a slower request as timed out


@dataclass
class Plan:
    """What to run. pairs: (suite, data set). of_suite: the systems of a suite, where they aren't ``systems``. limit: longest time of a
    build in seconds. group: systems alive at a time, 0 for all. minutes: when to stop measuring, None for never. memory: GiB that the
    systems alive may hold together, None for any."""

    pairs: list[tuple[str, str]]
    systems: list[str]
    scale: Scale = field(default_factory=Scale)
    cells: str | None = None
    threads: int = 0
    limit: float = 7200.0
    group: int = 0
    data_options: dict[str, Any] = field(default_factory=dict)
    of_suite: dict[str, list[str]] = field(default_factory=dict)
    minutes: float | None = None
    memory: float | None = None

    def to_dict(self) -> dict:
        return json.loads(json.dumps(asdict(self), default=str))


def run(plan: Plan, out: Path, progress: Progress | None = None, keep: bool = False) -> dict:
    """Run a plan in the folder ``out``, or continue it if the folder holds an unfinished run of it. Returns the results.

    The results are also in ``out/results.json``. keep: keep the systems' files. Raises ValueError if the folder holds a run of another plan
    or commit.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "plan.json"
    # One report must not mix figures of two versions of the code.
    this = {name: value for name, value in plan.to_dict().items() if name != "minutes"} | {"commit": facts.commit()}
    if path.exists() and json.loads(path.read_text()) != this:
        raise ValueError(f"{out} holds a run with other options or of another commit; choose another --out, or delete the folder")
    path.write_text(json.dumps(this, indent=1))
    journal = Journal(out)
    progress = progress or Progress(None)
    started = time.time()
    if "complete" in journal:
        progress.say(f"this run was completed at {journal.facts['complete']['at']}; nothing is measured again (to do so, delete {out})")
    environment = journal.facts.get("environment", {}).get("environment") or facts.environment()
    journal.add("environment", {"fact": "environment", "environment": environment, "started": started})
    clock = Clock(plan.minutes)
    try:
        groups = [(suite, dataset, names) for suite, dataset in plan.pairs for names in _groups(plan, suite)]
        for number, (suite, dataset, names) in enumerate(groups):
            with progress, clock.share(len(groups) - number):
                _Pair(plan, suite, dataset, names, out, journal, progress, clock).run(keep)
        if not clock.left:
            journal.add("complete", {"fact": "complete", "at": time.strftime("%Y-%m-%d %H:%M")})
    finally:
        about = {
            "environment": environment,
            "plan": plan.to_dict(),
            "started": journal.facts["environment"]["started"],
            "ended": time.time(),
            "left": clock.left,
        }
        whole = results(journal, about)
        write(whole, out / "results.json")
        journal.close()
    return whole


def _groups(plan: Plan, suite: str) -> list[list[str]]:
    """The systems in groups that are alive together. At least one group, so that missing data is reported even without systems."""
    names = plan.of_suite.get(suite, plan.systems)
    size = plan.group or len(names) or 1
    return [names[low : low + size] for low in range(0, len(names), size)] or [[]]


class _Pair:
    """One suite on one data set, with a group of systems."""

    def __init__(
        self, plan: Plan, suite: str, dataset: str, names: list[str], out: Path, journal: Journal, progress: Progress, clock: Clock
    ):
        self.clock, self.left = clock, len(clock.left)
        self.plan, self.name, self.dataset_name, self.names, self.out = plan, suite, dataset, names, out
        self.journal, self.progress = journal, progress
        self.place = {"suite": suite, "dataset": dataset}
        self.does: dict[str, set[str]] = {}

    def key(self, *parts: Any) -> str:
        return key_of(self.name, self.dataset_name, *parts)

    def problem(self, system: str, where: str, error: Exception, kind: str = "failed") -> None:
        what = "unsupported" if isinstance(error, Unsupported) else kind
        place = {**self.place, "system": system, "where": where}
        fact = {"fact": "problem", **place, "kind": what, "message": str(error), "details": getattr(error, "details", "")}
        self.journal.add(self.key("problem", system, where), fact)
        self.progress.say(f"{system}: {what} ({where}): {error}")

    def stage(self, text: str) -> None:
        self.progress.stage(f"{self.name} · {self.dataset_name}: {text}")

    def run(self, keep: bool) -> None:
        self.stage("data and truth")
        try:
            self._load()
        except data.DataError as error:
            self.problem("-", "data", error, "no data")
            return
        try:
            for name in self.names:
                self._start(name)
            for stage in self.suite.stages:
                self._stage(stage)
        except TimeUp:
            self.clock.leave(f"{self.name} · {self.dataset_name}: {', '.join(self.crew.workers)}")
        finally:
            self.crew.close(keep)

    def _load(self) -> None:
        options = self.plan.data_options if Path(self.dataset_name).exists() else {}
        whole = data.load(self.dataset_name, **options)
        self.folder = data.folder_of(self.dataset_name, **options)
        scale = self.plan.scale
        rng = np.random.default_rng(0)
        count = min(scale.queries, whole.query_count)
        self.queries = np.sort(rng.choice(whole.query_count, count, replace=False)).tolist()
        own = None
        if self.name in ("filtered", "planner") and "place" in whole.attributes:
            arm = "dense" if whole.vectors is not None else "sparse"
            # Also used to measure the correlation of each filter.
            self.near = truth.exact(whole.only(arm), self.queries, min(1000, max(10, len(whole) // 1000)))
            own = np.asarray(whole.attributes["place"])[np.maximum(self.near.ids[:, 0], 0)].tolist()
        self.suite: Suite = suites.make(self.name, whole, scale, own, self.plan.cells)
        self.dataset = self.original = store.into_memory(whole.only(self.suite.arm).keep(self.suite.attributes))
        self.columns = Columns(self.dataset.attributes, len(self.dataset))
        self.alive: np.ndarray | None = None
        facts_of = {"fact": "dataset", **self.place, **self.dataset.describe(), "name": self.dataset_name, "asked": len(self.queries)}
        self.journal.add(self.key("dataset"), facts_of)
        self.scratch = self.out / "work" / f"{self.name}-{short(self.dataset_name)}"
        job = {"dataset": str(self.folder), "attributes": self.suite.attributes, "arm": self.suite.arm, "quiet": self.suite.quiet}
        threads = self.plan.threads or facts.machine()["cores"]
        limit = min(self.plan.limit, max(1.0, self.clock.seconds()))
        self.crew = Crew(job | {"threads": threads}, self.scratch, limit, self.progress)

    def _start(self, name: str) -> None:
        """Start the system's worker, unless the journal says that the system has finished this suite."""
        self.stage(f"{name} starts")
        try:
            reason = systems.available(name)
            if reason is not None:
                raise Unsupported(reason)
            kind = systems.load(name)
            if not self.suite.needs <= kind.does:
                raise Unsupported(f"it doesn't support: {', '.join(sorted(self.suite.needs - kind.does))}")
            if self.dataset.vectors is not None and self.dataset.metric not in kind.metrics:
                raise Unsupported(f"it doesn't support the metric {self.dataset.metric}")
            if self.key("finished", name) in self.journal:
                return
            about = self.crew.start(name)
        except (Unsupported, Failed) as error:
            self._failed(name, "start", error)
            return
        self.does[name] = set(about["does"])
        self.journal.add(key_of("system", name), {"fact": "system", "name": name, **about})

    def _failed(self, name: str, where: str, error: Exception) -> None:
        """The system takes no further part."""
        self.problem(name, where, error)
        self.crew.drop(name)

    # Stages

    def _stage(self, stage: Stage) -> None:
        workers = self.crew.workers
        if stage.changed and self.dataset is self.original:
            self.dataset, self.alive, self.crew.change = judging.changed(self.original, suites.CHANGED, self.scratch)
        for op, arguments in stage.ops:
            with self.clock.share(1.5):  # a third of the time is left for searches
                for name in list(workers):
                    self._operate(stage, name, op, arguments)
        sweeps = {name: self._sweep(name) for name in list(workers)} if stage.cells else {}
        for number, cell in enumerate(stage.cells):
            with self.clock.share(len(stage.cells) - number):
                self._cell(stage, cell, sweeps, f"{number + 1}/{len(stage.cells)}")
        for number, probe in enumerate(stage.probes):
            self.clock.check()
            self._probe(stage, probe, f"{number + 1}/{len(stage.probes)}")
        if stage.loads:
            for name in list(workers):
                self.clock.check()
                self._loads(stage, name)
        if stage is self.suite.stages[-1] and len(self.clock.left) == self.left:
            for name in workers:
                self.journal.add(self.key("finished", name), {"fact": "finished", "system": name})

    def _operate(self, stage: Stage, name: str, op: str, arguments: dict) -> None:
        self.stage(f"{name}: {op}")
        if self.clock.up():
            self.clock.leave(f"{self.name} · {self.dataset_name} · {stage.name}: {name} ({op})")
            self.crew.drop(name)
            return
        try:
            answer = self.crew.operate(name, op, arguments)
            held = self.crew.memory()
            if self.plan.memory is not None and held > self.plan.memory * 2**30:
                raise Unsupported(f"with it the systems hold {held / 2**30:.1f} GiB, above the bound of {self.plan.memory:g}; see --group")
        except (Unsupported, Failed) as error:
            self.problem(name, f"{stage.name}: {op}", error)
            if op != "ingest" or isinstance(error, (Died, Unsupported)):
                self.crew.drop(name)
            return
        fact = {"fact": "operation", **self.place, "stage": stage.name, "system": name, "op": op}
        self.journal.add(self.key(stage.name, op, arguments, name), {**fact, **answer})

    def _sweep(self, name: str) -> list[tuple[dict, bool, bool]]:
        """(setting, whether it is the exact mode, whether it runs only once) in order of rising effort. A suite without sweeps uses one
        setting, at two thirds of the list."""
        try:
            answer = self.crew.workers[name].ask("sweep", suite=self.name)
        except (Unsupported, Failed) as error:
            self._failed(name, "sweep", error)
            return []
        if self.suite.sweeps:
            fact = {"fact": "exact mode", **self.place, "system": name, "setting": answer["exact"]}
            self.journal.add(self.key("exact mode", name), fact)
        chosen = answer["sweep"] if self.suite.sweeps else answer["sweep"][len(answer["sweep"]) * 2 // 3 :][:1]
        turns = [(setting, setting == answer["exact"], False) for setting in chosen]
        if answer["exact"] is not None and self.suite.sweeps and not any(exact for _, exact, _ in turns):
            turns.append((answer["exact"], True, True))
        return turns

    # Cells

    def _cell(self, stage: Stage, cell: Cell, sweeps: dict[str, list], count: str) -> None:
        turns = list(self._turns(sweeps))
        keys = [self.key(stage.name, cell.name, *turn) for turn in turns]
        if all(key in self.journal or self._skipped(key) for key in keys):
            return
        filters = cell.where.filters(self.columns) if cell.where else None
        expected = truth.exact(self.dataset, self.queries[: len(filters) if filters else None], cell.k, filters, self.alive)
        path = self._describe(stage, cell, filters, expected)
        if self.clock.up():
            self.clock.leave(f"{self.name} · {self.dataset_name} · {stage.name} · {cell.name}")
            return
        for i, (turn, key) in enumerate(zip(turns, keys, strict=True)):
            name, setting, exact, repeat = turn
            self.progress.step(f"{self.name} · {self.dataset_name} · {cell.name} ({count}): {name} {_words(setting)}", i, len(turns))
            if key in self.journal or self._skipped(key) or name not in self.crew.workers:
                continue
            # The first repeat is always finished, so that no system is judged by a part of its settings; its passes share the time.
            first = sum(1 for other in turns[i:] if other[3] == 0)
            if not first and self.clock.up():
                self.clock.leave(f"{self.name} · {self.dataset_name} · {stage.name} · {cell.name}: {len(turns) - i} of {len(turns)} passes")
                return
            cap = min(self.plan.scale.cap, max(_LEAST, self.clock.seconds() / max(1, first)))
            try:
                fact = self._pass(name, cell, setting, exact, path, expected, filters, cap)
            except (Unsupported, Failed) as error:
                where = f"{stage.name}: {cell.name}"
                # What a system doesn't support in one setting it supports in none, so the whole cell is skipped.
                self._recover(name, stage, where if isinstance(error, Unsupported) else f"{where}: {key_of(setting)}", error)
                continue
            place = {**self.place, "stage": stage.name, "cell": cell.name}
            self.journal.add(key, {"fact": "pass", **place, "system": name, "setting": setting, "exact": exact, "repeat": repeat, **fact})

    def _turns(self, sweeps: dict[str, list]) -> Iterator[tuple[str, dict, bool, int]]:
        """(system, setting, exact, repeat) in the order of the runs. An exact mode that is not in the sweep runs only once."""
        names = list(sweeps)
        for repeat in range(self.plan.scale.repeats):
            order = _rotated(names, repeat)
            for i in range(max((len(sweep) for sweep in sweeps.values()), default=0)):
                for name in order:
                    if i < len(sweeps[name]):
                        setting, exact, once = sweeps[name][i]
                        if not (once and repeat):
                            yield name, setting, exact, repeat

    def _skipped(self, key: str) -> bool:
        """Whether an earlier repeat of this setting, or the whole cell, failed for the system."""
        suite, dataset, stage, cell, name, setting, *_ = key.split("|")
        marks = (f"{stage}: {cell}", f"{stage}: {cell}: {setting}")
        return any(key_of(suite, dataset, "problem", name, mark) in self.journal for mark in marks)

    def _recover(self, name: str, stage: Stage, where: str, error: Exception) -> None:
        """Report a problem. If the worker has died, start another and repeat the operations up to this stage."""
        self.problem(name, where, error)
        if isinstance(error, Died):
            stages = self.suite.stages[: self.suite.stages.index(stage) + 1]
            try:
                self.crew.revive(name, [op for one in stages for op in one.ops])
            except (Unsupported, Failed) as again:
                self._failed(name, f"{where}: start again", again)

    def _describe(self, stage: Stage, cell: Cell, filters: Sequence[Filter] | None, expected: truth.Truth) -> str | None:
        """Add the cell to the journal. Returns the path of a file with its filters, or None if it has none."""
        place = {**self.place, "stage": stage.name, "cell": cell.name}
        fact = {"fact": "cell", **place, "k": cell.k, "queries": len(expected.ids), "fewest_matches": int(expected.matches.min())}
        if cell.where is None:
            self.journal.add(self.key("cell", stage.name, cell.name), fact)
            return None
        near = getattr(self, "near", None)
        share, correlation = (
            truth.reach(self.dataset, near, filters) if near is not None else (float(np.mean([f.mask.mean() for f in filters])), None)
        )
        about = {"shape": cell.where.shape, "selectivity": cell.where.selectivity, "correlation": cell.where.correlation}
        about |= {"measured_selectivity": share, "measured_correlation": correlation, "example": _brief(cell.where.expressions[0])}
        self.journal.add(self.key("cell", stage.name, cell.name), {**fact, "where": about})
        path = self.scratch / "cells" / f"{hashlib.sha256(cell.name.encode()).hexdigest()[:16]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cell.where.expressions))
        return str(path)

    def _pass(
        self, name: str, cell: Cell, setting: dict, exact: bool, path: str | None, expected: truth.Truth, filters, cap: float
    ) -> dict:
        """One pass over the queries with one setting: run it in the worker and judge the answers. Returns the fact for the journal."""
        queries = self.queries[: len(expected.ids)]
        out = self.scratch / f"{short(name)}.answers.npz"
        arguments = {"cell": cell.name, "queries": queries, "filters": path, "setting": setting, "k": cell.k, "cap": cap, "out": str(out)}
        answer = self.crew.workers[name].ask("measure", limit=6 * cap + 600, **arguments)
        judged = judging.passed(out, self.dataset, queries, cell.k, expected, filters, self.alive, cell.quality)
        return judged | {"cores": answer["cores"]}

    # Probes

    def _probe(self, stage: Stage, probe: Probe, count: str) -> None:
        """Run a probe in each round in all systems that can, in turns."""
        names = [name for name in self.crew.workers if probe.needs <= self.does[name]]
        rounds = range(probe.rounds or self.plan.scale.repeats)
        label = probe.cell.name if probe.cell else probe.name
        keys = {(turn, name): self.key(stage.name, "probe", probe.name, label, name, turn) for turn in rounds for name in names}
        if all(key in self.journal for key in keys.values()):
            return
        path = None
        if probe.cell and probe.cell.where:
            filters = probe.cell.where.filters(self.columns)
            path = self._describe(
                stage, probe.cell, filters, truth.exact(self.dataset, self.queries[: len(filters)], probe.cell.k, filters)
            )
        arguments = {"name": probe.name, "queries": self.queries, "filters": path}
        for turn in rounds if probe.warm is None else (-1, *rounds):
            for name in _rotated(names, turn):
                key = keys.get((turn, name))
                if name not in self.crew.workers or key in self.journal:
                    continue
                self.stage(f"{label} ({count}): {name}, {'warm-up' if turn < 0 else f'round {turn + 1}'}")
                try:
                    if probe.fresh:
                        self.crew.renew(name)
                    options = probe.options | (probe.warm or {} if turn < 0 else {})
                    answer = self.crew.workers[name].ask("probe", limit=self.plan.limit, turn=max(turn, 0), options=options, **arguments)
                except (Unsupported, Failed) as error:
                    names = [other for other in names if other != name]
                    self._recover(name, stage, label, error)
                    continue
                if turn >= 0:
                    fact = {"fact": "probe", **self.place, "cell": probe.cell.name if probe.cell else "", "system": name, "round": turn}
                    self.journal.add(key, fact | answer)

    # Loads

    def _loads(self, stage: Stage, name: str) -> None:
        """Run each load ``repeats`` times. The clients are in another process than the service."""
        sweep = self._sweep(name)
        if not sweep:
            return
        client = None
        try:
            address = self.crew.workers[name].ask("serve")["address"]
            client = self.crew.client(name)
            best = 0.0
            for load in stage.loads:
                for repeat in range(self.plan.scale.repeats):
                    self.stage(f"{name}: {load.name}")
                    key = self.key(stage.name, "load", load.name, name, repeat)
                    if key not in self.journal:
                        seconds = self.plan.scale.load_seconds
                        arguments = {"mode": load.mode, "clients": load.clients, "rate": load.share * best, "seconds": seconds}
                        arguments |= {"timeout": _TIMEOUT, "queries": self.queries, "setting": sweep[0][0], "address": address}
                        answer = client.ask("load", limit=120 + 10 * seconds, **arguments)
                        place = {**self.place, "stage": stage.name, "system": name, "load": load.name, "setting": sweep[0][0]}
                        figures = judging.loaded(answer, self.dataset, self.queries)
                        self.journal.add(key, {"fact": "load", **place, "repeat": repeat, **figures})
                    if load.mode == "closed":
                        best = max(best, self.journal.facts[key]["qps"])
        except (Unsupported, Failed) as error:
            self.problem(name, f"{stage.name}: load", error)
        finally:
            if client is not None:
                client.close()


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % max(1, len(names))
    return names[first:] + names[:first]


def _words(setting: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in setting.items())


def _brief(expression: dict) -> str:
    text = json.dumps(expression)
    return text if len(text) <= 160 else f"{text[:157]}…"
