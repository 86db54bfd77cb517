"""Ctrl-C ends a command soon, whatever it is computing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 2.0  # for a command to end in its own way once it is interrupted
STATUS = 130


@contextmanager
def ends_soon(seconds: float = SECONDS) -> Iterator[None]:
    """KeyboardInterrupt is raised as ever; when the block hasn't ended ``seconds`` after Ctrl-C, since what runs can't be interrupted or
    others must be waited for, the process ends with status 130. What a database has committed stays, what it was writing is undone.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)  # written to at once, also while a thread computes outside Python
    over = threading.Event()
    threading.Thread(target=_end, args=(heard, over, seconds), name="vectordb-interrupt", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(told)  # the thread reads to the end and closes its own


def exits_soon(seconds: float = SECONDS) -> None:
    """The process, which is about to exit, does so within ``seconds``, with status 130: Python would wait for threads that still work."""
    timer = threading.Timer(seconds, os._exit, (STATUS,))
    timer.daemon = True
    timer.start()


def _end(heard: int, over: threading.Event, seconds: float) -> None:
    while number := os.read(heard, 1):
        if number[0] == signal.SIGINT and not over.wait(seconds):
            print("\nvectordb: interrupted", file=sys.stderr, flush=True)
            os._exit(STATUS)
    os.close(heard)
