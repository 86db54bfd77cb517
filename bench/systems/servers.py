"""Servers of peers: an adapter's base class, and processes, started on a free port of 127.0.0.1 and stopped by their pid."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import facts
from .base import System, Unsupported

if TYPE_CHECKING:
    from ..data import Dataset

START_SECONDS, STOP_SECONDS = 60.0, 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ServerSystem(System):
    """An adapter that starts a server and connects clients to its port."""

    kind = "server"
    server: Any = None  # set only in the process that started the server
    client: Any = None

    def start(self, folder: Path, threads: int) -> None:
        """Start the server on the files of the folder. Sets ``server`` and ``port``."""
        raise NotImplementedError

    def connect(self, dataset: Dataset, port: int) -> None:
        """Connect a client. Sets ``client``."""
        raise NotImplementedError

    def launch(self, dataset, folder, threads):
        """Start the server and connect to it."""
        self.start(Path(folder), threads)
        self.connect(dataset, self.port)

    def address(self):
        return {"port": self.port}

    def attach(self, dataset, address):
        self.connect(dataset, address["port"])

    def pids(self):
        return [self.server.pid] if self.server else []

    def close(self):
        if self.client is not None:
            self.client.close()
        if self.server:
            self.server.stop()


class Server:
    """A server as a child process. The constructor raises Unsupported, with the end of the log, if the server doesn't become ready."""

    def __init__(self, command: Sequence[str], log: Path, ready: Callable[[], bool], env: dict | None = None, stop: int = signal.SIGTERM):
        self._stop = stop
        with open(log, "ab") as out:
            try:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=os.environ | (env or {}), cwd=log.parent
                )
            except OSError as error:
                raise Unsupported(f"{command[0]} can't be started: {error}") from None
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unsupported(f"{Path(command[0]).name} did not become ready: {facts.tail(log, 600)}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """Ask the server to stop, and kill it if it doesn't."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.send_signal(self._stop)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
