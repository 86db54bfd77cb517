"""Now and then a search is done again exactly, in the background: what the planner predicts is held against what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import VectorDBError
from ..index import ann, flat

SHARE = 0.02  # of one core's time, at most
EVERY = 64  # searches between two looks at the clock
FEWEST = 3  # true results in a segment that say something about it


class Audits:
    """When to audit: seldom, one at a time, and only while there are searches."""

    def __init__(self):
        self._searches = 0
        self._next = 0.0
        self._busy = threading.Lock()

    def due(self) -> bool:
        """Whether this search is one to be done again."""
        self._searches += 1
        return self._searches % EVERY == 0 and time.monotonic() >= self._next

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread of its own (unless one is at it), and rest long enough after it."""
        if not self._busy.acquire(blocking=False):
            return

        def run() -> None:
            started = time.monotonic()
            try:
                work()
            except VectorDBError:
                pass  # closed, dropped or damaged meanwhile: whoever reads next is told
            finally:
                self._next = time.monotonic() + (time.monotonic() - started) / SHARE
                self._busy.release()

        threading.Thread(target=run, name="vectordb-audit", daemon=True).start()


audits = Audits()


def learn(
    parts: Sequence[ann.Part],
    judged: Sequence[tuple[int, float] | None],
    k: int,
    found: flat.Found,
    exact: Callable[[], flat.Found | None],
    ranges: Sequence[tuple[int, int]],
) -> None:
    """Compare what a search found with the exact answer, segment by segment. judged: the plan each was searched by and its predicted
    recall, None where that can't be judged. ``exact()`` is None when the rows changed meanwhile.
    """
    truth = exact()
    if truth is None:
        return
    there = np.isin(truth[0][:k], found[0])
    for part, known, (first, end) in zip(parts, judged, ranges, strict=True):
        own = (truth[0][:k] >= first) & (truth[0][:k] < end)
        if own.sum() >= FEWEST and known is not None:
            part.segment.corrections.learn_recall(*known, float(there[own].mean()))
