"""The time by which points end. Tests set it, so that nothing in them depends on real time."""

from __future__ import annotations

import time
from collections.abc import Callable

_clock: Callable[[], int] | None = None


def now() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1_000 if _clock is None else _clock()


def set_clock(clock: Callable[[], int] | None) -> None:
    """Let ``now`` return what a function returns; None: the time of the system again. It holds for this process."""
    global _clock
    _clock = clock
