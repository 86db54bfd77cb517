"""The workers of the systems that a suite measures on one data set: started, stopped, restarted after a crash."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from . import facts
from .progress import Progress
from .remote import Failed, Remote

_CRASHES = 3


class Crew:
    """The living workers by system. job: what every worker is told. scratch: the folder of their files. limit: seconds of a build."""

    def __init__(self, job: dict, scratch: Path, limit: float, progress: Progress):
        self.job, self.scratch, self.limit, self.progress = job, scratch, limit, progress
        self.workers: dict[str, Remote] = {}
        self.change: dict[str, str] = {}  # arguments of the operation "change"
        self._crashes: dict[str, int] = {}

    def folder(self, name: str) -> Path:
        return self.scratch / short(name)

    def start(self, name: str) -> dict:
        """Start the system's worker, in place of one that lives. Returns what it says of itself. Raises Failed or Unsupported."""
        self.drop(name)
        self.workers[name] = Remote(name, self.job | {"folder": str(self.folder(name))}, self.scratch)
        return self.workers[name].ask("hello")

    def renew(self, name: str) -> None:
        """Start the worker anew, with an empty folder."""
        self.drop(name)
        shutil.rmtree(self.folder(name), ignore_errors=True)
        self.start(name)

    def client(self, name: str) -> Remote:
        """Another worker of the system, whose clients ask the first."""
        return Remote(name, self.job | {"attributes": [], "folder": f"{self.folder(name)}-client"}, self.scratch / "clients")

    def drop(self, name: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.close()

    def memory(self) -> int:
        """Bytes that all living workers and their servers hold (resident)."""
        return facts.memory(facts.tree(worker.process.pid for worker in self.workers.values()))["rss"]

    def close(self, keep: bool) -> None:
        for name in list(self.workers):
            self.drop(name)
        if not keep:
            for place in self.scratch.glob("*/"):
                shutil.rmtree(place, ignore_errors=True)

    def revive(self, name: str, ops: Iterable[tuple[str, dict]]) -> None:
        """After a crash: start a new worker and repeat these operations. Raises Failed or Unsupported if that fails."""
        self.drop(name)
        self._crashes[name] = self._crashes.get(name, 0) + 1
        if self._crashes[name] >= _CRASHES:
            raise Failed(f"given up after {_CRASHES} crashes")
        self.progress.say(f"{name}: restarting after a crash")
        self.renew(name)
        for op, arguments in ops:
            self.operate(name, op, arguments)

    def operate(self, name: str, op: str, arguments: dict) -> dict:
        if op == "restart":
            cold = arguments.get("cold", False)
            self.drop(name)
            if cold:
                facts.drop_cache(self.folder(name))
            self.start(name)
            return self.workers[name].ask("reopen", limit=self.limit) | {"cold": cold}
        if op in ("build", "ingest") and any(self.folder(name).glob("*")):
            # The folder may hold files of an earlier run or stage; the process that has them open must end first.
            self.renew(name)
        return self.workers[name].ask(op, limit=self.limit, **(self.change if op == "change" else arguments))


def short(name: str) -> str:
    """A name as a file's name."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)[-60:]
