"""The number of cores that a thread's work may use: all, or fewer for background work that must not slow down searches."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CORES = os.cpu_count() or 1
ALL_BUT_ONE = max(CORES - 1, 1)  # for background builds, which leave one core to searches
_local = threading.local()


def cores() -> int:
    """The number of cores that this thread's work may use."""
    limit = _limit()
    return CORES if limit is None else min(limit, CORES)


def _limit() -> int | None:
    return getattr(_local, "limit", None)


@contextmanager
def using(cores: int) -> Iterator[None]:
    """Limit the cores of this thread's work inside the block."""
    before = _limit()
    _local.limit = cores if before is None else min(cores, before)
    try:
        yield
    finally:
        _local.limit = before
