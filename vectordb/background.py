"""How many cores a thread's work may take: all of them, or fewer for what nobody waits for and searches shouldn't notice."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CORES = os.cpu_count() or 1
ALL_BUT_ONE = max(CORES - 1, 1)  # of index builds in the background: one is left to searches
_local = threading.local()


def cores() -> int:
    """What this thread's work may be spread over."""
    return CORES if _limit() is None else min(_limit(), CORES)


def _limit() -> int | None:
    return getattr(_local, "limit", None)


@contextmanager
def using(cores: int) -> Iterator[None]:
    """Within, this thread's work takes no more cores than that."""
    before = _limit()
    _local.limit = cores if before is None else min(cores, before)
    try:
        yield
    finally:
        _local.limit = before
