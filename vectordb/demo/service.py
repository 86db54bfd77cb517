"""The demo's service: ``vectordb serve`` in a process of its own."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vectordb_client.errors import InvalidArgumentError, UnavailableError

from ..server.main import check_free
from ..server.settings import PREFIX

HOST = "127.0.0.1"
START_SECONDS = 1800.0  # compiling all kernels takes minutes on a small, busy machine; a service that hangs must still end the demo
_LOOK_SECONDS = 0.5
_STOP_SECONDS = 15.0
_READY = re.compile(rb" on (\S+:\d+)[^\n]*\n")


def check_port(port: int) -> None:
    """Raises InvalidArgumentError for what is not a port, and UnavailableError when another program listens there. 0 is always right."""
    if not 0 <= port <= 65_535:
        raise InvalidArgumentError(f"port must be 0 (any free port) to 65535, not {port}", field="port", value=port)
    if port:
        try:
            check_free(HOST, port)
        except UnavailableError as error:
            raise UnavailableError(f"{error}; leave --port out to take a free port", field="port", value=port) from None


@contextmanager
def served(folder: Path, port: int, waiting: Callable[[float, str], None]) -> Iterator[str]:
    """The service of a directory; yields its address, and stops it in the end.

    waiting: called twice a second until the service is ready, with the seconds so far and the last line the service wrote to stderr.
    Raises UnavailableError with the service's own message when its process ends, or isn't ready after START_SECONDS.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}  # settings of another service
    with tempfile.TemporaryFile() as messages:
        command = [sys.executable, "-m", "vectordb", "serve", str(folder), "--host", HOST, "--port", str(port)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": messages, "env": environment}
        with ThreadPoolExecutor(1) as pool:  # Ctrl-C can't interrupt a thread: no process is started and then forgotten
            starting = pool.submit(subprocess.Popen, command, **options)
            try:
                yield _address(starting.result(), messages, waiting)
            finally:
                _stop(starting.result())


def _address(process: subprocess.Popen, messages: IO[bytes], waiting: Callable[[float, str], None]) -> str:
    """Waits for the line that names the address: as long as the process runs, up to START_SECONDS."""
    start, written = time.monotonic(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not (ready := _READY.search(written)):
            if selector.select(_LOOK_SECONDS):
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    process.wait()
                    problem = _last_line(messages) or f"exit code {process.returncode}"
                    raise UnavailableError(f"the service didn't start: {problem.removeprefix('vectordb: ')}")
                written += part
            elif time.monotonic() - start > START_SECONDS:
                raise UnavailableError(
                    f"the service isn't ready after {START_SECONDS / 60:.0f} minutes: {_last_line(messages) or 'no message'}"
                )
            else:
                waiting(time.monotonic() - start, _last_line(messages))
    return ready.group(1).decode()


def _last_line(messages: IO[bytes]) -> str:
    """What the service wrote last, read without moving the file position that it writes at."""
    text = os.pread(messages.fileno(), 1 << 20, 0).decode(errors="replace")
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _stop(process: subprocess.Popen) -> None:
    try:
        process.terminate()
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also when Ctrl-C interrupts the wait
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
