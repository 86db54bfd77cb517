"""The worker process of one system: reads commands from stdin and writes answers to stdout, each a line of JSON.

    python bench/worker.py JOB.json

It is started by path, so a system's virtual environment needs only numpy (and scipy for sparse vectors), not this package. It doesn't know
the ground truth: it writes the system's answers to a file, and ``run`` judges them. Output of libraries goes to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if not __package__:  # started by path: import the package by the folder of this file
    _HERE = Path(__file__).resolve().parent
    _SPEC = importlib.util.spec_from_file_location("hybrid_vectordb_bench", _HERE / "__init__.py", submodule_search_locations=[str(_HERE)])
    _PACKAGE = importlib.util.module_from_spec(_SPEC)
    sys.modules["hybrid_vectordb_bench"] = _PACKAGE
    _SPEC.loader.exec_module(_PACKAGE)
    # The script's folder is first on sys.path, and its modules (filters, run, …) would shadow others of the same names.
    sys.path[:] = [place for place in sys.path if place and Path(place).resolve() != _HERE]
    __package__ = "hybrid_vectordb_bench"

import numpy as np

from . import facts, timing
from .data import store
from .filters import Columns, Filter, Where
from .systems import System, Unsupported, checkout_of, load

_SENTINEL_SECONDS = 60.0


class Worker:
    """The commands: each is a method, and its result is the answer."""

    def __init__(self, job: dict):
        self.job = job
        self.folder = Path(job["folder"]).resolve()  # absolute, because servers are started in other folders
        self.threads = job["threads"]
        self.system = self._empty()
        self.dataset = self._dataset(job["dataset"])
        self.columns = Columns(self.dataset.attributes, len(self.dataset))
        self.prepared: tuple[Any, ...] = ()

    def _empty(self) -> System:
        system = load(self.job["system"])()
        system.quiet = self.job.get("quiet", False)
        return system

    @contextmanager
    def fresh(self, synced: bool = True) -> Iterator[tuple[System, Path]]:
        """For probes: another system of the same kind, to be created in an empty folder that is removed in the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fresh-", dir=self.folder) as folder:
            system = self._empty()
            system.synced = synced
            try:
                yield system, Path(folder)
            finally:
                system.close()

    def _dataset(self, folder: str):
        whole = store.read(Path(folder), self.job["attributes"])
        return store.into_memory(whole.only(self.job["arm"]))

    def pids(self) -> list[int]:
        return facts.tree([os.getpid(), *self.system.pids()])

    def hello(self) -> dict:
        kind, checkout = self.system, checkout_of(self.job["system"])
        if checkout is not None:
            import vectordb

            if checkout not in Path(vectordb.__file__).resolve().parents:
                raise RuntimeError(f"{vectordb.__file__} was imported, which is not in {checkout}")
        about = {"kind": kind.kind, "does": sorted(kind.does), "metrics": sorted(kind.metrics), "notes": kind.notes}
        return about | {"version": kind.version(), "python": sys.version.split()[0]}

    def sweep(self, suite: str) -> dict:
        system = self.system
        exact = system.exact() if suite != "filtered" or system.exact_filters else None
        return {"sweep": system.sweep(self.dataset, suite), "exact": exact}

    # Filling

    def build(self, finish: bool = True) -> dict:
        """Fill an empty index. finish: also call the system's ``finish``. Kernels are compiled before, which is timed on its own."""
        rows, system = np.arange(len(self.dataset)), self.system
        self.folder.mkdir(parents=True, exist_ok=True)
        facts.forget_peak()
        before, cpu = facts.memory(self.pids()), facts.cpu_seconds(self.pids())
        self._import()
        start = time.perf_counter()
        system.warm()
        warmed = time.perf_counter() - start
        start = time.perf_counter()
        settings = system.create(self.dataset, self.folder, self.threads)
        created = time.perf_counter()
        step = min(system.batch(), len(rows))
        for low in range(0, len(rows), step):
            system.insert(self.dataset, rows[low : low + step])
        inserted = time.perf_counter()
        if finish:
            system.finish()
        finished = time.perf_counter()
        after, cpu = facts.memory(self.pids()), facts.cpu_seconds(self.pids()) - cpu
        system.save(self.folder)
        times = {
            "compile_s": warmed,
            "create_s": created - start,
            "insert_s": inserted - created,
            "finish_s": finished - inserted,
            "build_s": finished - start,
        }
        sizes = {"before": before["rss"], "after": after["rss"], "peak": after["peak"], "disk": system.disk(self.folder)}
        self.built = {"settings": settings, "points": len(rows), "batch": step, "finished": finish, "cpu_s": cpu, **times, **sizes}
        return self.built

    def _import(self) -> None:
        """Import the system's library before timing. Its memory counts as the system's, but the import isn't part of the build time."""
        for name in self.system.imports:
            importlib.import_module(name)

    def reopen(self) -> dict:
        """Open the files that another process wrote. The time includes the first answer, because many systems read files lazily."""
        before = facts.memory(self.pids())
        self._import()
        start = time.perf_counter()
        self.system.reopen(self.dataset, self.folder, self.threads)
        opened = time.perf_counter()
        queries, filters = self.system.prepare([self._query(0)], [None])
        ready = time.perf_counter()
        self.system.search(queries[0], 10, filters[0])
        answered = time.perf_counter() - ready
        after = facts.memory(self.pids())
        sizes = {"before": before["rss"], "after": after["rss"], "peak": after["peak"]}
        return {"open_s": opened - start, "first_answer_s": answered, **sizes}

    def ingest(self, batch: int, rows: int) -> dict:
        """Fill an empty index batch by batch and finish it. Then add one more point and search for it until it is found."""
        system = self.system
        self.folder.mkdir(parents=True, exist_ok=True)
        self._import()
        system.warm()
        settings = system.create(self.dataset, self.folder, self.threads)
        if system.batch() >= 2**62:
            raise Unsupported("it builds its index from the whole data set, not in batches")
        order, times = np.arange(rows - 1), []
        for low in range(0, rows - 1, batch):
            part = order[low : low + batch]
            start = time.perf_counter()
            system.insert(self.dataset, part)
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        system.finish()
        finish = time.perf_counter() - start
        return {
            "settings": settings,
            "batch": batch,
            "rows": rows,
            "batch_s": times,
            "finish_s": finish,
            "searchable_s": self._searchable(rows - 1),
            "durable": "durable" in system.does,
        }

    def _searchable(self, row: int) -> float | None:
        """Seconds from the call that adds a point until a search for its vector finds it. None: not within a minute."""
        system = self.system
        queries, filters = system.prepare([self.dataset.texts[row] if system.texts else self.dataset.point(row)], [None])
        start = time.perf_counter()
        system.insert(self.dataset, np.array([row]))
        while time.perf_counter() - start < _SENTINEL_SECONDS:
            if row in system.ids(system.search(queries[0], 10, filters[0])):
                return time.perf_counter() - start
        return None

    def change(self, dataset: str, rows: str, deleted: str) -> dict:
        """Replace some rows by those of another data set, delete others, and call ``finish``. rows, deleted: paths of .npy files."""
        changed, changed_rows, deleted_rows = self._dataset(dataset), np.load(rows), np.load(deleted)
        start, step = time.perf_counter(), min(self.system.batch(), 1000)
        for low in range(0, len(deleted_rows), step):
            self.system.delete(deleted_rows[low : low + step])
        deleted_at = time.perf_counter()
        for low in range(0, len(changed_rows), step):
            self.system.insert(changed, changed_rows[low : low + step])
        updated = time.perf_counter()
        self.system.finish()
        finished = time.perf_counter()
        self.dataset, self.prepared = changed, ()
        self.system.save(self.folder)
        times = {"delete_s": deleted_at - start, "update_s": updated - deleted_at, "finish_s": finished - updated}
        sizes = {"after": facts.memory(self.pids())["rss"], "disk": self.system.disk(self.folder)}
        return {"deleted": len(deleted_rows), "updated": len(changed_rows), **times, **sizes}

    # Searching

    def measure(self, cell: str, queries: list[int], filters: str | None, setting: dict, k: int, cap: float, out: str) -> dict:
        """One pass over the queries with a setting. Writes times and answers to the file ``out``."""
        prepared, wheres = self._prepared(cell, queries, filters)
        self.system.set(setting)
        pids = self.pids()
        cpu, wall = facts.cpu_seconds(pids), time.perf_counter()
        times, answers, seconds = timing.measure(self.system.search, prepared, k, wheres, cap)
        cpu, wall = facts.cpu_seconds(pids) - cpu, time.perf_counter() - wall
        ids = [np.asarray(self.system.ids(answer), dtype=np.int64).reshape(-1) for answer in answers]
        ends = np.cumsum([0] + [len(rows) for rows in ids])
        np.savez(out, times=np.array(times, dtype=np.int64), ids=np.concatenate(ids) if ids else np.zeros(0, np.int64), ends=ends)
        return {"requests": len(times), "seconds": seconds, "cores": cpu / wall if wall > 0.2 else None}

    def _prepared(self, cell: str, queries: list[int], filters: str | None) -> tuple[Any, Any]:
        """Queries and filters in the system's format. Those of the current cell are kept from one repeat to the next."""
        if not self.prepared or self.prepared[0] != cell:
            wheres = self._filters(filters, len(queries))
            self.prepared = ()
            self.prepared = (cell, *self.system.prepare([self._query(i) for i in queries], wheres))
        return self.prepared[1], self.prepared[2]

    def _filters(self, path: str | None, count: int) -> Sequence[Filter | None]:
        """The filter of each query, from the file of a cell's expressions."""
        if path is None:
            return [None] * count
        return Where("", "", 0.0, "", json.loads(Path(path).read_text())).filters(self.columns)

    # Probes

    def probe(self, name: str, turn: int, queries: list[int], filters: str | None, options: dict) -> dict:
        """Run a function of ``probes``, "module.function", which yields (what, value, unit). turn: the round, from 0 on. queries: indices
        in the data set."""
        module, _, function = name.partition(".")
        probe = getattr(importlib.import_module(f"{__package__}.probes.{module}"), function)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.turn, self.queries, self.filters = turn, queries, self._filters(filters, len(queries))
        return {"figures": [(what, float(value), unit) for what, value, unit in probe(self, **options)]}

    def first_queries(self, count: int | None = None) -> Sequence:
        """For probes: the first ``count`` queries in the system's format."""
        return self.system.prepare([self._query(i) for i in self.queries[:count]], [None] * len(self.queries[:count]))[0]

    def _query(self, i: int) -> Any:
        """Query i in the form that ``System.query`` takes."""
        return self.dataset.query_texts[i] if self.system.texts else self.dataset.query(i)

    # Serving

    def serve(self) -> dict:
        return {"address": self.system.address()}

    def attach(self, address: dict) -> dict:
        self.system.attach(self.dataset, address)
        return {}

    def load(
        self, mode: str, clients: int, rate: float, seconds: float, timeout: float, queries: list[int], setting: dict, address: dict
    ) -> dict:
        from .loads import drive

        def client():
            one = load(self.job["system"])()
            one.attach(self.dataset, address)
            one.set(setting)
            return one

        return drive(client, [self._query(i) for i in queries], mode, clients, rate, seconds, timeout)

    def close(self) -> dict:
        self.system.close()
        return {}


def main(path: str) -> None:
    """Answer commands until stdin ends or the command ``close`` comes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # output to stdout goes to stderr from now on
    worker: Worker | None = None
    try:
        for line in sys.stdin:
            command = json.loads(line)
            name = command.pop("op")
            try:
                if worker is None:
                    worker = Worker(json.loads(Path(path).read_text(encoding="utf-8")))
                answer = {"ok": getattr(worker, name)(**command)}
            except Unsupported as error:
                answer = {"unsupported": str(error) or "it can't do this"}
            except MemoryError:
                answer = {"error": "out of memory"}
            except Exception as error:
                message = str(error).strip().splitlines()
                text = f"{type(error).__name__}: {message[0][:300] if message else ''}"
                answer = {"error": text, "details": traceback.format_exc()[-4000:]}
            print(json.dumps(answer, default=_plain), file=answers)
            if name == "close":
                worker = None
                break
    finally:
        if worker is not None:  # the runner has ended; servers must not outlive it
            worker.system.close()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value.tolist() if isinstance(value, np.ndarray) else str(value)


if __name__ == "__main__":
    main(sys.argv[1])
