"""Makes Ctrl-C end a command within two seconds, whatever it is computing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 2.0  # that an interrupted command has to end by itself
STATUS = 130


@contextmanager
def ends_soon(seconds: float = SECONDS) -> Iterator[None]:
    """Inside the block Ctrl-C raises KeyboardInterrupt as usual. If the block has not ended ``seconds`` later, because running code
    can't be interrupted, the process exits with status 130. Committed writes stay; an unfinished write is undone.

    Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(
        write_end, warn_on_full_buffer=False
    )  # the signal handler in C writes to it at once, even while Python code can't run
    over = threading.Event()
    threading.Thread(target=_end, args=(read_end, over, seconds), name="vectordb-interrupt", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(write_end)  # the thread then reads the end of the pipe and closes its own side


def exits_soon(seconds: float = SECONDS) -> None:
    """For a process that is about to exit: exit within ``seconds``, with status 130, even if threads are still running."""
    timer = threading.Timer(seconds, os._exit, (STATUS,))
    timer.daemon = True
    timer.start()


def _end(heard: int, over: threading.Event, seconds: float) -> None:
    while number := os.read(heard, 1):
        if number[0] == signal.SIGINT and not over.wait(seconds):
            print("\nvectordb: interrupted", file=sys.stderr, flush=True)
            os._exit(STATUS)
    os.close(heard)
