"""The runner of the suites: starts a worker for each system, fills one at a time, searches them in turn, and judges the answers.

Everything goes to the journal. Interleaving: within a cell, for each repeat, the systems take turns setting by setting (the first setting
of each, then the second of each, …), and each repeat begins with the next system. All workers are alive, but only one works. So changes of
the machine (other load, clock speed) affect all systems alike. The report shows the spread over the repeats. If memory is too small for all
systems, ``Plan.group`` of them are alive at a time, one group after the other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import data, facts, loads, metrics, suites, systems, truth
from .data import Dataset, store
from .filters import Columns, Filter
from .journal import Journal, key_of, results, write
from .progress import Progress
from .remote import Died, Failed, Remote
from .suites import Cell, Scale, Stage, Suite
from .systems import Unsupported

_CRASHES = 3
_TIMEOUT = 1.0  # seconds; the service suite counts a slower request as timed out


@dataclass
class Plan:
    """What to run. pairs: (suite, data set). limit: longest time of a build in seconds. group: systems alive at a time, 0 for all."""

    pairs: list[tuple[str, str]]
    systems: list[str]
    scale: Scale = field(default_factory=Scale)
    cells: str | None = None
    threads: int = 0
    limit: float = 7200.0
    group: int = 0
    data_options: dict[str, Any] = field(default_factory=dict)

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
    this = {**plan.to_dict(), "commit": facts.commit()}
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
    try:
        for suite, dataset in plan.pairs:
            with progress:
                for names in _groups(plan):
                    _Pair(plan, suite, dataset, names, out, journal, progress).run(keep)
        journal.add("complete", {"fact": "complete", "at": time.strftime("%Y-%m-%d %H:%M")})
    finally:
        about = {
            "environment": environment,
            "plan": plan.to_dict(),
            "started": journal.facts["environment"]["started"],
            "ended": time.time(),
        }
        found = results(journal, about)
        write(found, out / "results.json")
        journal.close()
    return found


def _groups(plan: Plan) -> list[list[str]]:
    """The systems in groups that are alive together. At least one group, so that missing data is reported even without systems."""
    size = plan.group or len(plan.systems) or 1
    return [plan.systems[low : low + size] for low in range(0, len(plan.systems), size)] or [[]]


class _Pair:
    """One suite on one data set, with a group of systems."""

    def __init__(self, plan: Plan, suite: str, dataset: str, names: list[str], out: Path, journal: Journal, progress: Progress):
        self.plan, self.name, self.dataset_name, self.names, self.out = plan, suite, dataset, names, out
        self.journal, self.progress = journal, progress
        self.threads = plan.threads or facts.machine()["cores"]
        self.workers: dict[str, Remote] = {}
        self.about: dict[str, dict] = {}
        self.crashes: dict[str, int] = {}

    def key(self, *parts: Any) -> str:
        return key_of(self.name, self.dataset_name, *parts)

    def problem(self, system: str, where: str, error: Exception, kind: str = "failed") -> None:
        what = "unsupported" if isinstance(error, Unsupported) else kind
        place = {"suite": self.name, "dataset": self.dataset_name, "system": system, "where": where}
        fact = {"fact": "problem", **place, "kind": what, "message": str(error), "details": getattr(error, "details", "")}
        self.journal.add(self.key("problem", system, where), fact)
        self.progress.say(f"{system}: {what} ({where}): {error}")

    def run(self, keep: bool) -> None:
        self.progress.stage(f"{self.name} · {self.dataset_name}: data and truth")
        try:
            self._load()
        except data.DataError as error:
            self.problem("-", "data", error, "no data")
            return
        self.scratch = self.out / "work" / f"{self.name}-{_short(self.dataset_name)}"
        try:
            for name in self.names:
                self._start(name)
            for stage in self.suite.stages:
                self._stage(stage)
        finally:
            for worker in self.workers.values():
                worker.close()
            if not keep:
                for place in self.scratch.glob("*/"):
                    shutil.rmtree(place, ignore_errors=True)

    def _load(self) -> None:
        options = self.plan.data_options if Path(self.dataset_name).exists() else {}
        whole = data.load(self.dataset_name, **options)
        self.folder = data.folder_of(self.dataset_name, **options)
        scale = self.plan.scale
        rng = np.random.default_rng(0)
        count = min(scale.queries, whole.query_count)
        self.queries = np.sort(rng.choice(whole.query_count, count, replace=False)).tolist()
        own = None
        if self.name == "filtered" and "place" in whole.attributes:
            arm = "dense" if whole.vectors is not None else "sparse"
            # Also used to measure the correlation of each filter.
            self.near = truth.exact(whole.only(arm), self.queries, min(1000, max(10, len(whole) // 1000)))
            own = np.asarray(whole.attributes["place"])[np.maximum(self.near.ids[:, 0], 0)].tolist()
        self.suite: Suite = suites.make(self.name, whole, scale, own, self.plan.cells)
        self.dataset = self.original = store.into_memory(whole.only(self.suite.arm).keep(self.suite.attributes))
        self.columns = Columns(self.dataset.attributes, len(self.dataset))
        self.alive: np.ndarray | None = None
        facts_of = {"fact": "dataset", "suite": self.name, **self.dataset.describe(), "name": self.dataset_name, "asked": len(self.queries)}
        self.journal.add(self.key("dataset"), facts_of)

    # Workers

    def _start(self, name: str) -> None:
        """Start the system's worker, unless the journal says that the system has finished this suite."""
        self.progress.stage(f"{self.name} · {self.dataset_name}: {name} starts")
        try:
            reason = systems.available(name)
            if reason is not None:
                raise Unsupported(reason)
            kind = systems.load(name)
            if not self.suite.needs <= kind.does:
                raise Unsupported(f"it doesn't support: {', '.join(sorted(self.suite.needs - kind.does))}")
            if self.dataset.vectors is not None and self.dataset.metric not in kind.metrics:
                raise Unsupported(f"it doesn't support the metric {self.dataset.metric}")
            if self._finished(name):
                return
            self.workers[name] = self._worker(name)
            self.about[name] = self.workers[name].ask("hello")
        except (Unsupported, Failed) as error:
            self.problem(name, "start", error)
            self._drop(name)
            return
        self.journal.add(key_of("system", name), {"fact": "system", "name": name, **self.about[name]})

    def _worker(self, name: str) -> Remote:
        job = {"dataset": str(self.folder), "attributes": self.suite.attributes, "arm": self.suite.arm, "threads": self.threads}
        place = self.scratch / _short(name)
        return Remote(name, job | {"folder": str(place)}, self.scratch)

    def _drop(self, name: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.close()

    def _finished(self, name: str) -> bool:
        return self.key("finished", name) in self.journal

    def _revive(self, name: str, stage: Stage) -> None:
        """After a crash: start a new worker and repeat the operations up to this stage. Raises Failed or Unsupported if that fails."""
        self._drop(name)
        self.crashes[name] = self.crashes.get(name, 0) + 1
        if self.crashes[name] >= _CRASHES:
            raise Failed(f"given up after {_CRASHES} crashes")
        self.progress.say(f"{name}: restarting after a crash")
        shutil.rmtree(self.scratch / _short(name), ignore_errors=True)
        self.workers[name] = self._worker(name)
        self.workers[name].ask("hello")
        for earlier in self.suite.stages[: self.suite.stages.index(stage) + 1]:
            for op, arguments in earlier.ops:
                self._operate(name, op, arguments)

    # Stages

    def _stage(self, stage: Stage) -> None:
        if stage.changed:
            self._changed(0.15)
        for op, arguments in stage.ops:
            for name in list(self.workers):
                self.progress.stage(f"{self.name} · {self.dataset_name}: {name}: {op}")
                try:
                    made = self._operate(name, op, arguments)
                except (Unsupported, Failed) as error:
                    self.problem(name, f"{stage.name}: {op}", error)
                    if op != "ingest" or isinstance(error, Died):
                        self._drop(name)
                    continue
                fact = {
                    "fact": "operation",
                    "suite": self.name,
                    "dataset": self.dataset_name,
                    "stage": stage.name,
                    "system": name,
                    "op": op,
                }
                self.journal.add(self.key(stage.name, op, arguments, name), {**fact, **made})
        sweeps = {name: self._sweep(name) for name in list(self.workers)} if stage.cells else {}
        for number, cell in enumerate(stage.cells):
            self._cell(stage, cell, sweeps, f"{number + 1}/{len(stage.cells)}")
        if stage.loads:
            for name in list(self.workers):
                self._loads(stage, name)
        if stage is self.suite.stages[-1]:
            for name in self.workers:
                self.journal.add(self.key("finished", name), {"fact": "finished", "system": name})

    def _operate(self, name: str, op: str, arguments: dict) -> dict:
        worker, limit = self.workers[name], self.plan.limit
        if op == "restart":
            with_cold = arguments.get("cold", False)
            self._drop(name)
            if with_cold:
                facts.drop_cache(self.scratch / _short(name))
            self.workers[name] = self._worker(name)
            self.workers[name].ask("hello")
            return self.workers[name].ask("reopen", limit=limit) | {"cold": with_cold}
        if op in ("build", "ingest"):
            if any((self.scratch / _short(name)).glob("*")):
                # The folder may hold files of an earlier run or stage; the process that has them open must end first.
                self._drop(name)
                shutil.rmtree(self.scratch / _short(name))
                worker = self.workers[name] = self._worker(name)
            return worker.ask(op, limit=limit, **arguments)
        self._changed(arguments["share"])
        paths = {"dataset": str(self.changed_folder), "rows": str(self.changed_rows), "deleted": str(self.deleted_rows)}
        return worker.ask("change", limit=limit, **paths)

    def _changed(self, share: float) -> None:
        """Apply the change to the data: this share of the rows gets other vectors, and as many other rows are deleted."""
        if self.dataset is not self.original:
            return
        rng = np.random.default_rng(1)
        n = len(self.original)
        chosen = rng.permutation(n)[: 2 * round(share * n)]
        updated, gone = np.sort(chosen[: len(chosen) // 2]), np.sort(chosen[len(chosen) // 2 :])
        vectors = np.array(self.original.vectors)
        other = vectors[rng.permutation(n)[: len(updated)]]
        spread = np.linalg.norm(other, axis=1, keepdims=True) * 0.3 / np.sqrt(vectors.shape[1])
        vectors[updated] = other + spread * rng.standard_normal(other.shape, dtype=np.float32)
        if self.original.metric == "cosine":
            vectors[updated] = data.unit(vectors[updated])
        changed = Dataset(**{**vars(self.original), "vectors": vectors, "hash": ""})
        self.changed_folder = self.scratch / "changed.data"
        store.write(changed, self.changed_folder)
        self.changed_rows, self.deleted_rows = self.scratch / "rows.npy", self.scratch / "gone.npy"
        np.save(self.changed_rows, updated)
        np.save(self.deleted_rows, gone)
        self.dataset, self.alive = changed, np.ones(n, dtype=bool)
        self.alive[gone] = False

    def _sweep(self, name: str) -> list[tuple[dict, bool, bool]]:
        """(setting, whether it is the exact mode, whether it runs only once) in order of rising effort. A suite without sweeps uses one
        setting, at two thirds of the list."""
        try:
            found = self.workers[name].ask("sweep", suite=self.name)
        except (Unsupported, Failed) as error:
            self.problem(name, "sweep", error)
            self._drop(name)
            return []
        if self.suite.sweeps:
            fact = {"fact": "exact mode", "suite": self.name, "dataset": self.dataset_name, "system": name, "setting": found["exact"]}
            self.journal.add(self.key("exact mode", name), fact)
        chosen = found["sweep"] if self.suite.sweeps else found["sweep"][len(found["sweep"]) * 2 // 3 :][:1]
        turns = [(setting, setting == found["exact"], False) for setting in chosen]
        if found["exact"] is not None and self.suite.sweeps and not any(exact for _, exact, _ in turns):
            turns.append((found["exact"], True, True))
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
        for i, (turn, key) in enumerate(zip(turns, keys, strict=True)):
            name, setting, exact, repeat = turn
            self.progress.step(f"{self.name} · {self.dataset_name} · {cell.name} ({count}): {name} {_words(setting)}", i, len(turns))
            if key in self.journal or self._skipped(key) or name not in self.workers:
                continue
            try:
                fact = self._pass(name, cell, setting, exact, path, expected, filters)
            except (Unsupported, Failed) as error:
                self._failed(name, stage, cell, setting, error)
                continue
            place = {"suite": self.name, "dataset": self.dataset_name, "stage": stage.name, "cell": cell.name}
            self.journal.add(key, {"fact": "pass", **place, "system": name, "setting": setting, "exact": exact, "repeat": repeat, **fact})

    def _turns(self, sweeps: dict[str, list]) -> Iterator[tuple[str, dict, bool, int]]:
        """(system, setting, exact, repeat) in the order of the runs. An exact mode that is not in the sweep runs only once."""
        names = list(sweeps)
        for repeat in range(self.plan.scale.repeats):
            order = names[repeat % len(names) :] + names[: repeat % len(names)] if names else []
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

    def _failed(self, name: str, stage: Stage, cell: Cell, setting: dict, error: Exception) -> None:
        where = f"{stage.name}: {cell.name}"
        # What a system doesn't support in one setting it supports in none, so the whole cell is skipped.
        self.problem(name, where if isinstance(error, Unsupported) else f"{where}: {key_of(setting)}", error)
        if isinstance(error, Died):
            try:
                self._revive(name, stage)
            except (Unsupported, Failed) as again:
                self.problem(name, f"{where}: start again", again)
                self._drop(name)

    def _describe(self, stage: Stage, cell: Cell, filters: Sequence[Filter] | None, expected: truth.Truth) -> str | None:
        """Add the cell to the journal. Returns the path of a file with its filters, or None if it has none."""
        place = {"suite": self.name, "dataset": self.dataset_name, "stage": stage.name, "cell": cell.name}
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

    def _pass(self, name: str, cell: Cell, setting: dict, exact: bool, path: str | None, expected: truth.Truth, filters) -> dict:
        """One pass over the queries with one setting: run it in the worker and judge the answers. Returns the fact for the journal."""
        queries, cap = self.queries[: len(expected.ids)], self.plan.scale.cap
        out = self.scratch / f"{_short(name)}.answers.npz"
        arguments = {"cell": cell.name, "queries": queries, "filters": path, "setting": setting, "k": cell.k, "cap": cap, "out": str(out)}
        said = self.workers[name].ask("measure", limit=6 * cap + 600, **arguments)
        with np.load(out) as answers:
            times, ids, ends = answers["times"].tolist(), answers["ids"], answers["ends"]
        recall, returned, wrong, under, answered = [], [], 0, 0, {}
        for i in range(said["requests"]):
            found = ids[ends[i] : ends[i + 1]]
            allowed = self.alive if filters is None else filters[i].mask if self.alive is None else filters[i].mask & self.alive
            judged = truth.judge(expected, self.dataset, i, queries[i], found, cell.k, allowed)
            matches = int(expected.matches[i])
            recall.append(round(metrics.recall(judged.good, cell.k, matches), 5))
            returned.append(judged.returned)
            wrong += judged.wrong
            under += judged.returned < min(cell.k, matches)
            answered[queries[i]] = found.tolist()
        fact = {"times_ns": times, "recall": recall, "returned": returned, "wrong": wrong, "under": under, "cores": said["cores"]}
        if cell.quality and self.dataset.qrels:
            quality = metrics.rankings(self.dataset.qrels, answered, cell.k)
            fact["quality"] = {
                measure: {part: value for part, value in one.items() if part != "queries"} for measure, one in quality.items()
            }
        return fact

    # Loads

    def _loads(self, stage: Stage, name: str) -> None:
        """Run each load ``repeats`` times. The clients are in another process than the service."""
        sweep = self._sweep(name)
        if not sweep:
            return
        client = None
        try:
            address = self.workers[name].ask("serve")["address"]
            job = {"dataset": str(self.folder), "attributes": [], "arm": self.suite.arm, "threads": self.threads}
            client = Remote(name, job | {"folder": str(self.scratch / f"{_short(name)}-client")}, self.scratch / "clients")
            best = 0.0
            for load in stage.loads:
                for repeat in range(self.plan.scale.repeats):
                    self.progress.stage(f"{self.name} · {self.dataset_name}: {name}: {load.name}")
                    key = self.key(stage.name, "load", load.name, name, repeat)
                    if key not in self.journal:
                        seconds = self.plan.scale.load_seconds
                        arguments = {"mode": load.mode, "clients": load.clients, "rate": load.share * best, "seconds": seconds}
                        arguments |= {"timeout": _TIMEOUT, "queries": self.queries, "setting": sweep[0][0], "address": address}
                        made = client.ask("load", limit=120 + 10 * seconds, **arguments)
                        place = {"suite": self.name, "dataset": self.dataset_name, "stage": stage.name, "system": name, "load": load.name}
                        self.journal.add(key, {"fact": "load", **place, "setting": sweep[0][0], "repeat": repeat, **self._summed(made)})
                    if load.mode == "closed":
                        best = max(best, self.journal.facts[key]["qps"])
        except (Unsupported, Failed) as error:
            self.problem(name, f"{stage.name}: load", error)
        finally:
            if client is not None:
                client.close()

    def _summed(self, made: dict) -> dict:
        """The figures of a load. Its answers are judged like those of searches; each distinct answer is weighted by its count."""
        every = np.array(made["milliseconds"])
        expected = truth.exact(self.dataset, self.queries, loads.K)
        total, right, under = 0, 0.0, 0
        for i, count, rows in made["answers"]:
            judged = truth.judge(expected, self.dataset, i, self.queries[i], np.array(rows), loads.K)
            matches = int(expected.matches[i])
            right += count * metrics.recall(judged.good, loads.K, matches)
            under += count * (judged.returned < min(loads.K, matches))
            total += count
        rest = {name: made[name] for name in ("failed", "reason", "timed_out", "asked_rate", "seconds", "milliseconds")}
        figures = metrics.percentiles(every) if len(every) else {}
        return {"qps": len(every) / made["seconds"], "recall": right / total if total else None, "under": under, **figures, **rest}


def _words(setting: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in setting.items())


def _short(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)[-60:]


def _brief(expression: dict) -> str:
    text = json.dumps(expression)
    return text if len(text) <= 160 else f"{text[:157]}…"
