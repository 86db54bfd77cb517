"""Compile kernels ahead: all that a task needs at once, in several processes, and say how it goes.

The processes share a folder (``store.local``). One that finds a lock there waits for whoever holds it, and then compiles what is still
missing. Whatever goes wrong here, numba compiles a kernel when it is called.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..common import background
from . import internals, jit, store
from .progress import Progress, progress_for
from .signatures import Signature, recorded
from .worker import CODE

MOST_PROCESSES = 4  # the heaviest kernel takes a third of the time of all, so more would only wait
_START_SECONDS = 1.0  # of a process, until it compiles
_WAIT_SECONDS = 300.0  # for another process that compiles the same
_said: set[str] = set()


@dataclass(frozen=True)
class Job:
    """Signatures to be compiled into a folder. aim: a tier, None for this processor."""

    signatures: list[Signature]
    folder: Path
    aim: str | None = None

    def processes(self) -> int:
        return max(min(background.cores(), MOST_PROCESSES, len(self.signatures)), 1)

    def seconds(self) -> float:
        """About how long it takes on a machine as fast as the one where ``signatures.txt`` was recorded."""
        each = [signature.seconds for signature in self.signatures]
        return _START_SECONDS + max(max(each, default=0.0), sum(each) / self.processes())


@dataclass
class Outcome:
    """compiled: kernels; seconds: of processor time, by kernel; problems: what kept some from being compiled."""

    compiled: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def missing(signatures: Iterable[Signature]) -> list[Signature]:
    """Those that are neither in the archive of the package nor in the folder of this machine."""
    archive = store.shipped()[0]
    lacking = [each for each in signatures if archive is None or each.name() not in archive]
    folder = store.local() if lacking else None  # not looked for where the archive has all
    return [each for each in lacking if folder is None or each.name() not in folder]


def on_miss(name: str) -> bool:
    """Compile what the task needs that a missing kernel belongs to; returns whether some of it was."""
    one = recorded().get(name)
    if one is None:
        _say_once("vectordb: compiling a search kernel for argument types that weren't foreseen", "unforeseen")
        jit.log.info("not in signatures.txt: %s", name)
        return False
    return compile_missing([each for each in recorded().values() if each.task == one.task]) > 0


def compile_missing(signatures: Iterable[Signature]) -> int:
    """Compile those that are missing, in other processes, and keep them; returns how many. 0 as well where no process can do so: then
    numba compiles each in this process when it is called.
    """
    needed = missing(signatures)
    if not needed or not internals.supported():
        return 0
    folder = store.local()
    if folder is None or not _can_start():
        _say_once(f"vectordb: compiling {len(needed)} search kernels for this processor, for this process alone", "alone")
        return 0
    try:
        with _locked(folder.path):
            needed = missing(needed)  # another process may have made them meanwhile
            if not needed:
                return 1
            store.forget_old_pieces(recorded())
            job = Job(needed, folder.path)
            outcome = run(job, progress_for(len(needed), job.processes(), job.seconds(), folder.path))
    except OSError as error:
        _say_once(f"vectordb: compiled search kernels can't be kept in {folder.path}: {error.strerror or error}", "kept")
        return 0
    jit.watch.compiled += outcome.compiled
    if outcome.problems:
        _say_once(f"vectordb: some search kernels are compiled when they are called: {outcome.problems[0]}", "problems")
    return outcome.compiled


def run(job: Job, progress: Progress) -> Outcome:
    """Compile a job's signatures in processes, heaviest first. Raises OSError when none can be started."""
    outcome, left, lock = Outcome(), sorted(job.signatures, key=lambda each: each.seconds), threading.Lock()
    children: list[subprocess.Popen] = []

    def tend(child: subprocess.Popen) -> None:
        while True:
            with lock:
                if not left or len(outcome.problems) > 3:
                    return
                one = left.pop()
            try:
                child.stdin.write(json.dumps(asdict(one)) + "\n")
                child.stdin.flush()
                answer = json.loads(child.stdout.readline())
            except (OSError, ValueError):
                answer = {"seconds": 0.0, "problem": "a process that compiles ended early"}
            with lock:
                if answer["problem"]:
                    outcome.problems.append(answer["problem"])
                else:
                    outcome.compiled += 1
                    outcome.seconds[one.name()] = answer["seconds"]
                    progress.done(one.seconds)
                if child.poll() is not None:
                    return

    with progress:
        try:
            for number in range(job.processes()):
                children.append(_child(job, number))
            threads = [threading.Thread(target=tend, args=(child,), daemon=True) for child in children]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.1)
                progress.tick()
        finally:
            for child in children:
                child.kill()
            for child in children:
                child.wait()
                child.stdin.close()
                child.stdout.close()
    return outcome


def _child(job: Job, number: int) -> subprocess.Popen:
    child = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    first = None if job.aim is None else 1_000_000 * (1 + number)
    request = {"path": _absolute_path(), "aim": job.aim, "folder": str(job.folder), "first": first}
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
    return child


def _absolute_path() -> list[str]:
    return [os.path.abspath(each) for each in sys.path]


def _can_start() -> bool:
    """Whether ``sys.executable`` is Python: in a program that embeds it, it may be anything."""
    return bool(sys.executable) and os.path.basename(sys.executable).lower().startswith(("python", "pypy"))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made. After a while, or on a disk without locks, go on without it: kernels are compiled twice."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "a") as file:
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _say_once("vectordb: waiting for another process that compiles the search kernels", "waiting")
                if time.monotonic() - started > _WAIT_SECONDS:
                    break
                time.sleep(0.1)
            except OSError:
                break
        yield


def _say_once(text: str, about: Any) -> None:
    if about not in _said:
        _said.add(about)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(text, file=sys.stderr, flush=True)
