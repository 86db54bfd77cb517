"""The runner's side of a worker process: starts it, sends commands, and detects hangs and crashes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import facts
from .systems import Unsupported, checkout_of, python_of

_GRACE = 20.0


class Failed(Exception):
    """A command raised an error; the worker still runs. details: the traceback."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details


class Died(Failed):
    """The worker process has ended: it crashed, or it was killed after a time-out."""


class Remote:
    """A system in a worker process. The worker leads a process group, so that its children can be ended with it."""

    def __init__(self, system: str, job: dict, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        label = "".join(c if c.isalnum() or c in "-." else "-" for c in system)[-60:]
        path = folder / f"{label}.job.json"
        path.write_text(json.dumps({"system": system, **job}), encoding="utf-8")
        self.system = system
        self.log = folder / f"{label}.log"
        python = python_of(system)
        command = [python, str(Path(__file__).with_name("worker.py")), str(path)]
        self.process = start(command, _environment(system, python), self.log)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)
        self._rest = b""

    def ask(self, op: str, limit: float = 900.0, **arguments: Any) -> dict:
        """Run a command and return its result. Raises Unsupported, Failed, or Died (after ``limit`` seconds, or if the process ended)."""
        line = json.dumps({"op": op, **arguments}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except OSError:
            raise self._dead(op) from None
        answer = json.loads(self._line(op, limit))
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise Failed(answer["error"], answer.get("details", ""))
        return answer["ok"]

    def _line(self, op: str, limit: float) -> bytes:
        end = time.monotonic() + limit
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                self.kill()
                raise Died(f"{op} took more than {limit:,.0f} s, so the process was killed")
            if self._selector.select(left):
                part = os.read(self.process.stdout.fileno(), 1 << 20)
                if not part:
                    raise self._dead(op)
                self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _dead(self, op: str) -> Died:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        code = self.process.poll()
        self.kill()
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        log = facts.tail(self.log)
        return Died(f"the process ended during {op} ({how})" + (f": {log}" if log else ""))

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """Tell the worker to stop, and kill it if it doesn't."""
        if self.alive:
            with contextlib.suppress(Failed, Unsupported):
                self.ask("close", limit=60.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.stdin.close()
                self.process.wait(_GRACE)
        self.kill()

    def kill(self) -> None:
        """Kill the process, its process group, and its descendants outside the group."""
        started = facts.tree([self.process.pid])[1:] if self.alive else []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self._selector.close()


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    """Start a worker: it leads a session of its own, and what it writes to stderr is added to the log."""
    with open(log, "ab") as errors:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, start_new_session=True
        )


def _environment(system: str, python: str) -> dict[str, str]:
    """Environment variables of a worker. With the current interpreter it imports the same vectordb, or that of the system's checkout;
    others get no PYTHONPATH. Compiled kernels are kept by their source, so checkouts share a folder."""
    environment, checkout = dict(os.environ, PYTHONUNBUFFERED="1"), checkout_of(system)
    if checkout is not None:
        return dict(environment, PYTHONPATH=os.pathsep.join(map(str, (checkout, checkout / "client"))))
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
        return environment
    places = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    for name in ("vectordb", "vectordb_client"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            places.append(str(Path(next(iter(spec.submodule_search_locations))).resolve().parent))
    return dict(environment, PYTHONPATH=os.pathsep.join(dict.fromkeys(places)))
