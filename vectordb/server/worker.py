"""One of several processes that serve one port; started by the supervisor in ``workers``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from vectordb_client.errors import VectorDBError

from .ending import Stop
from .main import run
from .settings import Settings
from .workers import READY


def work() -> int:
    """The worker: read the job, serve until the supervisor or SIGTERM stops it. Returns the exit status."""
    stop = Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor handles it
    signal.signal(signal.SIGTERM, stop.request)
    job = json.loads(_line())
    threading.Thread(target=_live_with_supervisor, args=(stop,), daemon=True).start()
    try:
        run(job["path"], Settings(**job["settings"]), stop, lambda _: os.write(1, READY), shared=True)
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _line() -> bytes:
    # Not by sys.stdin: a thread waiting in it would hold its lock when the interpreter exits.
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(0, 1 << 16)
        if not part:
            raise SystemExit(1)
        data += part
    return data


def _live_with_supervisor(stop: Stop) -> None:
    while os.read(0, 1):
        pass
    if stop.is_set():  # asked to end a second time
        os._exit(1)
    stop.set()


if __name__ == "__main__":
    sys.exit(work())
