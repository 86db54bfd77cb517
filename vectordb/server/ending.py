"""How a service ends: calls get their time, then they are told to end, then the process goes whatever is at work."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from ..errors import UnavailableError
from .guard import Guard

log = logging.getLogger("vectordb.server")
_TOLD_SECONDS = 1.0  # for calls to end with an error of their own once they are told to
_CANCELLED_SECONDS = 0.5  # for those that gRPC then ends
_CLOSE_SECONDS = 4.0  # for the database to be closed
_LOOK_SECONDS = 0.01


def drain(server: grpc.Server, guard: Guard, grace: float) -> int:
    """Takes no more calls and gives those under way ``grace`` seconds; the rest ends with UnavailableError at its next look at the
    deadline. Returns how many calls are at work even then.
    """
    ended = server.stop(grace + _TOLD_SECONDS)

    def over() -> bool:
        return ended.is_set() and not guard.at_work

    if not _waited(over, grace):
        guard.open.leave(UnavailableError("the service is shutting down"))
        _waited(over, _TOLD_SECONDS + _CANCELLED_SECONDS)
    return guard.at_work


def close(database: Any, left: int) -> None:
    """Closes the database, unless ``left`` calls still read it. Where that can't be done in time the process ends here: what was committed
    is in the file, and LMDB needs no closing.
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
        log.warning("stopped; work in the background was cut off")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _waited(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it held within so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= end:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
