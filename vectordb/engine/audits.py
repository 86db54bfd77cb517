"""Audits: a sample of the searches is repeated exactly in the background. This is the choice of the sample, and the statistics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, VectorDBError, shown

from ..common import background

DEFAULT_SHARE = 1 / 64  # share of the searches that are audited
SHARE_OF_CORE = 0.02  # share of one core's time that audits take, at most, for all databases of the process together
KEPT = 1_000  # newest audits of a field and recall target that the statistics cover
MOST_KINDS = 100  # distinct recall targets recorded for a field, at most

Key = tuple[int, str, float]  # collection, field, recall target
# Called after an audit with its key, the predicted recall (None if a segment's plan fell back to another) and the measured recall.
Listener = Callable[[Key, float | None, float], None]


class Budget:
    """Limits the time of audits: one runs at a time, and after each there is a pause in proportion to its duration."""

    def __init__(self):
        self._next = 0.0
        self._busy = threading.Lock()

    @property
    def rested(self) -> bool:
        """Whether the pause after the last audit is over."""
        return time.monotonic() >= self._next

    @property
    def busy(self) -> bool:
        """Whether an audit is running."""
        return self._busy.locked()

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a new thread, then pause. Does nothing while another audit is running."""
        if not self._busy.acquire(blocking=False):
            return

        def run() -> None:
            started = time.monotonic()
            try:
                with background.using(1):
                    work()
            except VectorDBError:
                pass  # the collection was closed, dropped or damaged meanwhile; the next read reports it
            finally:
                self._next = time.monotonic() + (time.monotonic() - started) / SHARE_OF_CORE
                self._busy.release()

        threading.Thread(target=run, name="vectordb-audit", daemon=True).start()


budget = Budget()


class Audits:
    """The audits of one directory: which searches are audited, and the results. share: of the searches, 0 … 1."""

    def __init__(self, share: float = DEFAULT_SHARE):
        self.share = share
        self.listener: Listener | None = None
        self._owed = 0.0
        self._lock = threading.Lock()
        # Key → ([number of audits], the newest (predicted, measured) recalls).
        self._recalls: dict[Key, tuple[list[int], deque[tuple[float | None, float]]]] = {}

    def due(self) -> bool:
        """Whether to audit the current search."""
        self._owed += self.share
        if self._owed < 1.0:
            return False
        self._owed = min(self._owed - 1.0, 1.0)  # skipped audits are not caught up
        return budget.rested

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
        recall, and predicted: the mean of the predicted recall, None if there is none.
        """
        with self._lock:
            kinds = [(key[2], count[0], list(newest)) for key, (count, newest) in self._recalls.items() if key[:2] == (collection, field)]
        statistics = []
        for target, count, newest in sorted(kinds):
            measured = np.array([actual for _, actual in newest])
            predicted = [prediction for prediction, _ in newest if prediction is not None]
            statistics.append(
                {
                    "asked": target,
                    "audited": count,
                    "mean": round(float(measured.mean()), 4),
                    "p5": round(float(np.quantile(measured, 0.05)), 4),
                    "predicted": round(float(np.mean(predicted)), 4) if predicted else None,
                }
            )
        return statistics


def rounded(recall: float) -> float:
    """A recall target, rounded for statistics: to two digits, above 0.99 to three."""
    return round(recall, 3 if recall > 0.99 else 2)


def check_share(share: Any) -> float:
    """Check the share of searches to audit. Raises InvalidArgumentError unless it is a number from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise InvalidArgumentError(f"recall_audit must be a number from 0 to 1, not {shown(share)}", field="recall_audit", value=share)
    return float(share)
