"""Audits: a sample of the searches is repeated exactly in the background. This is the choice of the sample, and the statistics."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, VectorDBError, shown

from ..common import background
from ..common.deadline import Deadline
from .floors import Floors, rounded

# Constants: unit and meaning. Chosen, not measured, but for those marked [tail]: by the slowest searches in a stream (see ARCHITECTURE.md).
DEFAULT_SHARE = 1 / 64  # share of the searches that are audited
SHARE_OF_CORE = 0.005  # share of one core's time that audits take, at most, for all databases of the process together [tail]
FIRST_SECONDS = 5.0  # of a process, without audits [tail]
PIECE_WORK = 1 << 22  # multiplications of one kernel call of an audit: about a millisecond [tail]
PIECE_SECONDS = 0.001  # of work between two pauses, at least [tail]
PAUSES = 9.0  # length of a pause, relative to the work before it [tail]
LONGEST_PAUSE = 0.05  # seconds
IDLE_SECONDS = 30.0  # after which the thread of audits ends
KEPT = 1_000  # newest audits of a field and recall target that the statistics cover
MOST_KINDS = 100  # distinct recall targets recorded for a field, at most

Key = tuple[int, str, float]  # collection, field, recall target
# Called after an audit with its key, the predicted recall (None if a segment's plan fell back to another) and the measured recall.
Listener = Callable[[Key, float | None, float], None]


class Paced(Deadline):
    """The deadline of an audit. Its checks pause, so that others get the processor and the memory between its pieces.

    hurried: whether somebody waits for its transaction to end; it doesn't pause then.
    """

    __slots__ = ("_hurried", "_since")
    work = PIECE_WORK

    def __init__(self, within: Deadline, hurried: Callable[[], bool]):
        super().__init__(within=within)
        self._hurried = hurried
        self._since = time.thread_time()

    def check(self) -> None:
        super().check()
        worked = time.thread_time() - self._since
        if worked >= PIECE_SECONDS and not self._hurried():
            time.sleep(min(PAUSES * worked, LONGEST_PAUSE))
            super().check()
            self._since = time.thread_time()


class Budget:
    """Runs audits, in one thread, and limits their time: one runs at a time, and after each there is a rest in proportion to the time of
    the processor that it took. first: seconds before the first one.
    """

    def __init__(self, first: float = 0.0):
        self._next = time.monotonic() + first
        self._busy = threading.Lock()
        self._lock = threading.Lock()
        self._work: tuple[Callable[[], None], float] | None = None
        self._wake = threading.Event()
        self._process: int | None = None  # that has the thread; None: there is no thread

    @property
    def rested(self) -> bool:
        """Whether the rest after the last audit is over."""
        return time.monotonic() >= self._next

    @property
    def busy(self) -> bool:
        """Whether an audit is running."""
        return self._busy.locked()

    def start(self, work: Callable[[], None], hurry: float = 1.0) -> None:
        """Run ``work`` in the thread of audits, then rest. Does nothing while another audit is running. hurry: the factor by which the rest
        is shorter.
        """
        if not self._busy.acquire(blocking=False):
            return
        with self._lock:
            self._work = work, hurry
            self._wake.set()
            if self._process == os.getpid():
                return
            self._process = os.getpid()
        try:
            threading.Thread(target=self._run, name="vectordb-audit", daemon=True).start()
        except RuntimeError:  # no thread can be started: that must not fail a search
            self._process = self._work = None
            self._busy.release()

    def _run(self) -> None:
        while True:
            self._wake.wait(IDLE_SECONDS)
            with self._lock:
                given, self._work = self._work, None
                self._wake.clear()
                if given is None:
                    self._process = None
                    return
            work, hurry = given
            began = time.thread_time()
            try:
                with background.using(1):
                    work()
            except VectorDBError:
                pass  # the collection was closed, dropped or damaged meanwhile; the next read reports it
            finally:
                del work, given
                self._next = time.monotonic() + (time.thread_time() - began) / (SHARE_OF_CORE * hurry)
                self._busy.release()


budget = Budget(FIRST_SECONDS)


class Audits:
    """The audits of one directory: which searches are audited, and the results. share: of the searches, 0 … 1."""

    def __init__(self, share: float = DEFAULT_SHARE):
        self.share = share
        self.listener: Listener | None = None
        self._owed, self._early = 0.0, False
        self._lock = threading.Lock()
        self.floors = Floors()
        # Key → ([number of audits], the newest (predicted, measured) recalls).
        self._recalls: dict[Key, tuple[list[int], deque[tuple[float | None, float]]]] = {}

    def due(self) -> bool:
        """Whether to audit the current search."""
        self._owed += self.share
        if self._owed < 1.0:
            return False
        # One audit is a search early, the next as much late. Otherwise the same arm of all searches of two arms could be audited.
        shift = self.share if self.share <= 0.5 else 0.0
        self._early = not self._early
        self._owed = min(self._owed - 1.0, 1.0) + (shift if self._early else -shift)  # skipped audits are not caught up
        return budget.rested

    def is_due(self, arms: int = 1) -> bool:
        """Whether the current search must go where it can be audited, and be counted there (``due``). If not, it is counted here. arms: of
        the search that count.
        """
        owed = self._owed + arms * self.share
        if owed >= 1.0:
            if budget.rested:
                return True
            owed = min(owed - 1.0, 1.0)
        self._owed = owed
        return False

    def learned(self, key: Key, predicted: float | None, measured: float) -> None:
        """Record the result of an audit: the predicted recall (or None) and the measured one."""
        collection, field, target = key
        key = (collection, field, rounded(target))
        with self._lock:
            if key not in self._recalls and sum(other[:2] == key[:2] for other in self._recalls) >= MOST_KINDS:
                return
            count, newest = self._recalls.setdefault(key, ([0], deque(maxlen=KEPT)))
            count[0] += 1
            newest.append((predicted, measured))
        if self.listener is not None:
            self.listener(key, predicted, measured)

    def statistics(self, collection: int, field: str) -> list[dict[str, Any]]:
        """Statistics of a field's audits since this process opened the directory, one dict for each recall target.

        asked: the target. audited: the number of audited searches. Of the newest 1,000: mean and p5 (the 5th percentile) of the measured
        recall, and predicted: the mean of the predicted recall, None if there is none. Of searches with recall_floor floors: attribute →
        what is known of its groups (``Floor.facts``).
        """
        with self._lock:
            kinds = [(key[2], count[0], list(newest)) for key, (count, newest) in self._recalls.items() if key[:2] == (collection, field)]
        statistics = []
        for target, count, newest in sorted(kinds):
            measured = np.array([actual for _, actual in newest])
            predicted = [prediction for prediction, _ in newest if prediction is not None]
            floors = self.floors.facts(collection, field, target)
            statistics.append(
                {
                    "asked": target,
                    "audited": count,
                    "mean": round(float(measured.mean()), 4),
                    "p5": round(float(np.quantile(measured, 0.05)), 4),
                    "predicted": round(float(np.mean(predicted)), 4) if predicted else None,
                    **({"floors": floors} if floors else {}),
                }
            )
        return statistics


def check_share(share: Any) -> float:
    """Check the share of searches to audit. Raises InvalidArgumentError unless it is a number from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise InvalidArgumentError(f"recall_audit must be a number from 0 to 1, not {shown(share)}", field="recall_audit", value=share)
    return float(share)
