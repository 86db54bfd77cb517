"""Several processes behind one port: a supervisor that starts, replaces and ends them, and what each of them does.

Each worker opens the directory and listens with SO_REUSEPORT: the kernel gives every new connection to one of them. The supervisor holds
the port, takes no calls and opens nothing. A worker gets its job as a line on its standard input, which then stays open: when it ends,
the supervisor is gone, and the worker drains and ends too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import InvalidArgumentError, UnavailableError, VectorDBError
from . import metrics
from .settings import Settings

SIGNAL_SECONDS = 0.25  # between two looks for a signal: the system may hand it to any thread, and the main one must wake up for it

COMMAND = (sys.executable, "-m", "vectordb.server.workers")
QUICK_SECONDS = 10.0  # a worker that ended sooner was of no use
MOST_QUICK = 6  # such ends in a row, of one worker
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker is started again
_LATE_SECONDS = 5.0  # beyond ``grace``, for closing
_READY = b"ready\n"


def supervise(path: str | os.PathLike[str], settings: Settings, new: bool = False) -> int:
    """Serves a directory by ``settings.workers`` processes until SIGINT or SIGTERM; returns the exit status. In the main thread only.

    The first worker compiles what there is to compile before the others start. new: there was no database in the directory.
    Raises UnavailableError when the port can't be had.
    """
    from .serve import address_of, announce

    if sys.platform != "linux":
        what = "several workers need Linux, whose SO_REUSEPORT spreads connections"
        raise InvalidArgumentError(what, field="workers", value=settings.workers)
    with _port_of(settings) as port, metrics.prepare():
        settings = dataclasses.replace(settings, port=port)
        job = json.dumps({"path": os.fspath(path), "settings": dataclasses.asdict(settings)}).encode() + b"\n"
        supervisor = Supervisor(COMMAND, job, settings.workers, settings.grace, metrics.forget)
        with _signals_to(supervisor):
            return supervisor.run(lambda: announce(path, address_of(settings.host, port), settings, new))


@contextmanager
def _port_of(settings: Settings) -> Iterator[int]:
    """A port that is ours for as long as this lasts. Raises UnavailableError.

    Workers share it with whoever else says SO_REUSEPORT, so a second service is kept out by a name that the kernel gives only once.
    """
    from .serve import address_of, check_free

    port = check_free(settings.host, settings.port)
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as held, socket.socket(socket.AF_UNIX) as name:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((settings.host, port))  # never listens: it keeps the port from others while no worker does
            name.bind(f"\0vectordb-serve-{port}")
        except OSError as error:
            what = f"can't listen on {address_of(settings.host, port)}: {error.strerror or error}"
            raise UnavailableError(what, field="port", value=port) from None
        yield port


@contextmanager
def _signals_to(supervisor: Supervisor) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: supervisor.tell("signal", number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Worker:
    """One place among the workers: the process that has it now, and how its last ones ended."""

    def __init__(self, number: int):
        self.number = number
        self.process: subprocess.Popen | None = None
        self.began = 0.0
        self.ready = False
        self.quick = 0  # ends in a row that came too soon


class Supervisor:
    """Starts ``count`` processes of a command, gives each the job, and keeps them running. All it does is done by ``run``'s thread,
    which is told what happens through a queue. forget: called with the id of each process that ended."""

    def __init__(self, command: Sequence[str], job: bytes, count: int, grace: float, forget: Callable[[int], None] = lambda pid: None):
        self._command = command
        self._job = job
        self._grace = grace
        self._forget = forget
        self._workers = [_Worker(i) for i in range(count)]
        self._told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._opened = False  # one of them once took calls
        self._status: int | None = None  # of the exit, once it is stopping

    def tell(self, what: str, about: Any) -> None:
        """Something happened. Safe in a signal handler and in any thread."""
        self._told.put((what, about))

    def run(self, announce: Any) -> int:
        """Until a signal was told and all workers have ended; returns the exit status. announce: called once when all take calls."""
        answers = {"signal": self._signalled, "ready": self._is_ready, "ended": self._ended, "start": self._start, "late": self._kill}
        self._start(self._workers[0])
        announced = False
        while self._status is None or any(worker.process is not None for worker in self._workers):
            try:
                what, about = self._told.get(timeout=SIGNAL_SECONDS)
            except queue.Empty:
                continue
            answers[what](about)
            if not announced and self._status is None and all(worker.ready for worker in self._workers):
                announced = True
                announce()
        return self._status

    def _start(self, worker: _Worker) -> None:
        if self._status is not None or worker.process is not None:
            return
        worker.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        worker.began, worker.ready = time.monotonic(), False
        threading.Thread(target=self._watch, args=(worker, worker.process), name=f"worker-{worker.number}", daemon=True).start()

    def _watch(self, worker: _Worker, process: subprocess.Popen) -> None:
        """In a thread of its own: give a process its job, and tell when it takes calls and when it ends."""
        try:
            process.stdin.write(self._job)
            for line in process.stdout:
                if line == _READY:
                    self.tell("ready", worker)
        except OSError:  # it ended before it read its job
            pass
        process.wait()
        self.tell("ended", worker)

    def _is_ready(self, worker: _Worker) -> None:
        worker.ready = self._opened = True
        for other in self._workers:  # the first one found that the directory opens, and compiled for all
            self._start(other)

    def _ended(self, worker: _Worker) -> None:
        process, worker.process = worker.process, None
        self._forget(process.pid)
        process.stdin.close()
        process.stdout.close()
        if self._status is not None:
            return
        if not self._opened:
            self._stop(1)  # it has said why
            return
        worker.ready = False
        worker.quick = worker.quick + 1 if time.monotonic() - worker.began < QUICK_SECONDS else 0
        how = _how(process.returncode)
        if worker.quick >= MOST_QUICK:
            self._say(f"worker {worker.number} {how}, {worker.quick} times in a row soon after it was started; giving up")
            self._stop(1)
            return
        pause = min(FIRST_PAUSE * 2**worker.quick, LONGEST_PAUSE) if worker.quick else 0.0
        self._say(f"worker {worker.number} (process {process.pid}) {how}; another one is started")
        self._later(pause, "start", worker)

    def _signalled(self, number: int) -> None:
        if self._status is None:
            self._stop(0)
            return
        self._kill()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, status: int) -> None:
        self._status = status
        for process in self._processes():
            process.terminate()
        self._later(self._grace + _LATE_SECONDS, "late", None)

    def _kill(self, _: Any = None) -> None:
        for process in self._processes():
            process.kill()

    def _processes(self) -> list[subprocess.Popen]:
        return [worker.process for worker in self._workers if worker.process is not None]

    def _later(self, seconds: float, what: str, about: Any) -> None:
        timer = threading.Timer(seconds, self.tell, (what, about))
        timer.daemon = True
        timer.start()

    @staticmethod
    def _say(what: str) -> None:
        print(f"vectordb: {what}", file=sys.stderr, flush=True)


def _how(code: int) -> str:
    try:
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    except ValueError:
        return f"was ended by signal {-code}"


def work() -> int:
    """What a worker does: read the job, serve until the supervisor or a SIGTERM says stop. Returns the exit status."""
    from .serve import run

    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the supervisor says what becomes of it
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    job = json.loads(_line())
    threading.Thread(target=_live_with_supervisor, args=(stop,), daemon=True).start()
    try:
        run(job["path"], Settings(**job["settings"]), stop, lambda _: os.write(1, _READY), shared=True)
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _line() -> bytes:
    # Not by sys.stdin: a thread that waits in it would hold its lock when the interpreter ends.
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            raise SystemExit(1)
        data += part
    return data


def _live_with_supervisor(stop: threading.Event) -> None:
    while os.read(0, 1):
        pass
    if stop.is_set():  # it was asked to end twice
        os._exit(1)
    stop.set()


if __name__ == "__main__":
    sys.exit(work())
