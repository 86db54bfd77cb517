"""Several processes that serve one port: the supervisor that starts, restarts and ends the workers (``worker``).

Each worker opens the directory and listens with SO_REUSEPORT: the kernel assigns every new connection to one of them. The supervisor
reserves the port, accepts no calls and opens nothing. A worker reads its job as one line from standard input, which then stays open; when
it closes, the supervisor is gone, and the worker drains and ends too.
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

from vectordb_client.errors import InvalidArgumentError, UnavailableError

from .address import address_of, announce, check_free, reason
from .ending import SIGNAL_SECONDS
from .settings import Settings
from .telemetry import metrics

COMMAND = (sys.executable, "-m", "vectordb.server.worker")
QUICK_SECONDS = 10.0  # a worker that ends sooner counts as failed at the start
MOST_QUICK = 6  # such failures of one worker in a row before giving up
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker is started again
_LATE_SECONDS = 5.0  # beyond ``grace``, for closing
READY = b"ready\n"  # what a worker prints once it accepts calls


def supervise(path: str | os.PathLike[str], settings: Settings, new: bool = False) -> int:
    """Serve a directory with ``settings.workers`` processes until SIGINT or SIGTERM; returns the exit status. In the main thread only.

    The first worker compiles the kernels before the others start. new: the directory had no database before.
    Raises UnavailableError if the port can't be used.
    """
    if sys.platform != "linux":
        what = "several workers need Linux, whose SO_REUSEPORT distributes connections"
        raise InvalidArgumentError(what, field="workers", value=settings.workers)
    with _port_of(settings) as port, metrics.prepare():
        settings = dataclasses.replace(settings, port=port)
        job = json.dumps({"path": os.fspath(path), "settings": dataclasses.asdict(settings)}).encode() + b"\n"
        supervisor = Supervisor(COMMAND, job, settings.workers, settings.grace, metrics.forget)
        with _signals_to(supervisor):
            return supervisor.run(lambda: announce(path, address_of(settings.host, port), settings, new))


@contextmanager
def _port_of(settings: Settings) -> Iterator[int]:
    """Reserve a port for the duration of the block. Raises UnavailableError.

    Any process could share it by SO_REUSEPORT, so an abstract socket name, which the kernel gives only once, keeps a second service out.
    """
    port = check_free(settings.host, settings.port)
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as held, socket.socket(socket.AF_UNIX) as name:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((settings.host, port))  # never listens: it reserves the port while no worker does
            name.bind(f"\0vectordb-serve-{port}")
        except OSError as error:
            what = f"can't listen on {address_of(settings.host, port)}: {reason(error)}"
            raise UnavailableError(what, field="port", value=port) from None
        yield port


@contextmanager
def _signals_to(supervisor: Supervisor) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: supervisor.report("signal", number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Worker:
    """A worker slot: its current process, and how often its processes failed at the start."""

    def __init__(self, number: int):
        self.number = number
        self.process: subprocess.Popen | None = None
        self.began = 0.0
        self.ready = False
        self.quick = 0  # failures at the start in a row


class Supervisor:
    """Starts ``count`` processes of a command, gives each the job, and keeps them running. All work is done by ``run``'s thread, which
    receives events through a queue. forget: called with the id of each process that ended."""

    def __init__(self, command: Sequence[str], job: bytes, count: int, grace: float, forget: Callable[[int], None] = lambda pid: None):
        self._command = command
        self._job = job
        self._grace = grace
        self._forget = forget
        self._workers = [_Worker(i) for i in range(count)]
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._opened = False  # whether a worker has ever accepted calls
        self._status: int | None = None  # the exit status, once stopping

    def report(self, event: str, subject: Any) -> None:
        """Report an event. Safe in a signal handler and in any thread."""
        self._events.put((event, subject))

    def run(self, announce: Any) -> int:
        """Run until a signal and the end of all workers; returns the exit status. announce: called once, when all accept calls."""
        handlers = {"signal": self._signalled, "ready": self._is_ready, "ended": self._ended, "start": self._start, "late": self._kill}
        self._start(self._workers[0])
        announced = False
        while self._status is None or any(worker.process is not None for worker in self._workers):
            try:
                event, subject = self._events.get(timeout=SIGNAL_SECONDS)
            except queue.Empty:
                continue
            handlers[event](subject)
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
        """In its own thread: give a process its job, and report when it accepts calls and when it ends."""
        try:
            process.stdin.write(self._job)
            for line in process.stdout:
                if line == READY:
                    self.report("ready", worker)
        except OSError:  # it ended before it read its job
            pass
        process.wait()
        self.report("ended", worker)

    def _is_ready(self, worker: _Worker) -> None:
        worker.ready = self._opened = True
        for other in self._workers:  # the first worker has opened the directory and compiled the kernels
            self._start(other)

    def _ended(self, worker: _Worker) -> None:
        process, worker.process = worker.process, None
        self._forget(process.pid)
        process.stdin.close()
        process.stdout.close()
        if self._status is not None:
            return
        if not self._opened:
            self._stop(1)  # the worker printed the error
            return
        worker.ready = False
        worker.quick = worker.quick + 1 if time.monotonic() - worker.began < QUICK_SECONDS else 0
        how = _describe_end(process.returncode)
        if worker.quick >= MOST_QUICK:
            self._print(f"worker {worker.number} {how}, {worker.quick} times in a row shortly after its start; giving up")
            self._stop(1)
            return
        pause = min(FIRST_PAUSE * 2**worker.quick, LONGEST_PAUSE) if worker.quick else 0.0
        self._print(f"worker {worker.number} (process {process.pid}) {how}; restarting it")
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

    def _later(self, seconds: float, event: str, subject: Any) -> None:
        timer = threading.Timer(seconds, self.report, (event, subject))
        timer.daemon = True
        timer.start()

    @staticmethod
    def _print(text: str) -> None:
        print(f"vectordb: {text}", file=sys.stderr, flush=True)


def _describe_end(code: int) -> str:
    try:
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    except ValueError:
        return f"was ended by signal {-code}"
