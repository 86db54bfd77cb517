"""Worker processes of the harness for tests, forked from a process that has imported what they need.

A new interpreter takes more than a second for that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from bench import systems
from bench.remote import start as in_new_interpreter
from tests.support import calibration, forked, nightly


class Forked:
    """What ``bench.remote`` uses of a ``subprocess.Popen``."""

    def __init__(self, job: str, environment: dict[str, str], log: Path):
        context = forked.context()
        asked, self.stdin = os.pipe()
        self.stdout, answers = os.pipe()
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        ready, leads = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(Streams(asked, answers, errors), leads, environment, job))
        self._process.start()
        for each in (asked, answers, errors):
            os.close(each)
        leads.close()
        ready.recv()  # it leads a process group from now on, by which it can be killed
        ready.close()
        self.stdin, self.stdout = os.fdopen(self.stdin, "wb"), os.fdopen(self.stdout, "rb")
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self._process.exitcode


class Streams:
    """Descriptors for stdin, stdout and stderr of the other process."""

    def __init__(self, *descriptors: int):
        self._descriptors = descriptors

    def __getstate__(self) -> list[Any]:
        return [DupFd(each) for each in self._descriptors]

    def __setstate__(self, sent: list[Any]) -> None:
        self._descriptors = [each.detach() for each in sent]

    def take(self) -> None:
        for stream, each in enumerate(self._descriptors):
            os.dup2(each, stream)
            os.close(each)


def _work(streams: Streams, leads: Any, environment: dict[str, str], job: str) -> None:
    from bench import worker

    os.setsid()
    streams.take()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    leads.send(None)
    leads.close()
    calibration.use(full=bool(nightly.FOLDER))
    worker.main(job)


def start(command: list[str], environment: dict[str, str], log: Path) -> Any:
    """As ``bench.remote.start``. A worker of another interpreter or checkout is started as ever."""
    python, _, job = command
    system = json.loads(Path(job).read_text(encoding="utf-8"))["system"]
    same = python == sys.executable and systems.checkout_of(system) is None
    return Forked(job, environment, log) if same else in_new_interpreter(command, environment, log)
