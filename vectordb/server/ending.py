"""How a service ends: running calls get their grace time, are then told to end, and finally the process exits."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
from vectordb_client.errors import UnavailableError

from .access.guard import Guard

log = logging.getLogger("vectordb.server")
_NOTICE_SECONDS = 1.0  # for calls to end with their own error once told to
_CANCELLED_SECONDS = 0.5  # for calls that gRPC then cancels
_CLOSE_SECONDS = 4.0  # for closing the database
_LOOK_SECONDS = 0.01
SIGNAL_SECONDS = 0.25  # between two checks for a signal: it may reach any thread, and the main thread must wake up to handle it


class Stop(threading.Event):
    """Set when the service is to end. A signal handler calls ``request``: ``set`` takes a lock, which the interrupted thread may hold."""

    def __init__(self):
        super().__init__()
        self._requested = False

    def request(self, *_: Any) -> None:
        """Have ``wait_for_request`` end. Safe in a signal handler."""
        self._requested = True

    def wait_for_request(self) -> None:
        """Wait until ``request`` or ``set`` was called; the event is then set."""
        while not self._requested and not self.wait(SIGNAL_SECONDS):
            pass
        self.set()


def drain(server: grpc.Server, guard: Guard, grace: float) -> int:
    """Accept no more calls and give running ones ``grace`` seconds; after that they end with UnavailableError at their next deadline
    check. Returns the number of calls that still run.
    """
    ended = server.stop(grace + _NOTICE_SECONDS)

    def over() -> bool:
        return ended.is_set() and not guard.at_work

    if not _waited(over, grace):
        guard.open.leave(UnavailableError("the service is shutting down"))
        _waited(over, _NOTICE_SECONDS + _CANCELLED_SECONDS)
    return guard.at_work


def close(database: Any, left: int) -> None:
    """Close the database, unless ``left`` calls still read it. If it can't be closed in time, the process exits here: committed data is in
    the file, and LMDB needs no closing.
    """
    if left:
        log.warning("stopped; %d call%s cut off", left, "s were" if left > 1 else " was")
    else:
        closing = threading.Thread(target=database.close, name="vectordb-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if not closing.is_alive():
            log.info("stopped")
            return
        log.warning("stopped; background work was cut off")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _waited(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether ``holds()`` became true within so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= end:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
