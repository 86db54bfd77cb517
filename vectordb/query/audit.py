"""Now and then a search is done again exactly, in the background: what the planner predicts is held against what it finds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import background
from ..errors import InvalidArgumentError, VectorDBError, shown
from ..index import ann, flat
from ..storage.env import Env

DEFAULT_SHARE = 1 / 64  # of the searches
SHARE_OF_CORE = 0.02  # of one core's time, at most, of all databases of the process
FEWEST = 3  # true results in a segment that say something about it
KEPT = 1_000  # newest audits of a field and a recall that ``told`` looks at
MOST_KINDS = 100  # recalls asked for that are told apart, of a field

Key = tuple[int, str, float]  # collection, field, recall asked for
# What is told of an audit: its key, the recall that was predicted (None where a plan was given up for another), that which was found.
Listener = Callable[[Key, float | None, float], None]


class Budget:
    """When there is time for an audit: one at a time, and a long rest after each."""

    def __init__(self):
        self._next = 0.0
        self._busy = threading.Lock()

    @property
    def rested(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._next

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._busy.locked()

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread of its own (unless one is at it), and rest long enough after it."""
        if not self._busy.acquire(blocking=False):
            return

        def run() -> None:
            started = time.monotonic()
            try:
                with background.using(1):
                    work()
            except VectorDBError:
                pass  # closed, dropped or damaged meanwhile: whoever reads next is told
            finally:
                self._next = time.monotonic() + (time.monotonic() - started) / SHARE_OF_CORE
                self._busy.release()

        threading.Thread(target=run, name="vectordb-audit", daemon=True).start()


budget = Budget()


class Audits:
    """The audits of one directory: which searches are done again, and what they found. ``share`` of the searches, 0 … 1."""

    def __init__(self, share: float = DEFAULT_SHARE):
        self.share = share
        self.listener: Listener | None = None
        self._owed = 0.0
        self._lock = threading.Lock()
        self._found: dict[Key, tuple[list[int], deque[tuple[float | None, float]]]] = {}  # key → ([how many], the newest)

    def due(self) -> bool:
        """Whether this search is one to be done again."""
        self._owed += self.share
        if self._owed < 1.0:
            return False
        self._owed = min(self._owed - 1.0, 1.0)  # what there was no time for is not made up for
        return budget.rested

    def learned(self, key: Key, predicted: float | None, found: float) -> None:
        """An audit's result."""
        collection, field, asked = key
        key = (collection, field, rounded(asked))
        with self._lock:
            if key not in self._found and sum(known[:2] == key[:2] for known in self._found) >= MOST_KINDS:
                return
            count, newest = self._found.setdefault(key, ([0], deque(maxlen=KEPT)))
            count[0] += 1
            newest.append((predicted, found))
        if self.listener is not None:
            self.listener(key, predicted, found)

    def told(self, collection: int, field: str) -> list[dict[str, Any]]:
        """What was found of a field since this process opened the directory, for each recall asked for: asked, audited (searches), and of
        the newest 1,000 of them mean and p5 (one in twenty found less), and the mean that was predicted.
        """
        with self._lock:
            kinds = [(key[2], count[0], list(newest)) for key, (count, newest) in self._found.items() if key[:2] == (collection, field)]
        facts = []
        for asked, count, newest in sorted(kinds):
            found = np.array([actual for _, actual in newest])
            predicted = [said for said, _ in newest if said is not None]
            facts.append(
                {
                    "asked": asked,
                    "audited": count,
                    "mean": round(float(found.mean()), 4),
                    "p5": round(float(np.quantile(found, 0.05)), 4),
                    "predicted": round(float(np.mean(predicted)), 4) if predicted else None,
                }
            )
        return facts


def rounded(recall: float) -> float:
    """A recall as it is told apart from others: two digits, three above 0.99."""
    return round(recall, 3 if recall > 0.99 else 2)


_of_env: WeakKeyDictionary[Env, Audits] = WeakKeyDictionary()
_of_env_lock = threading.Lock()


def audits_of(env: Env) -> Audits:
    """The audits of an environment."""
    with _of_env_lock:
        found = _of_env.get(env)
        if found is None:
            found = _of_env[env] = Audits()
        return found


def check_share(share: Any) -> float:
    """Raises InvalidArgumentError unless it is a number from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise InvalidArgumentError(f"recall_audit must be from 0 to 1, not {shown(share)}", field="recall_audit", value=share)
    return float(share)


def learn(
    audits: Audits,
    key: Key,
    parts: Sequence[ann.Part],
    judged: Sequence[tuple[int, float] | None],
    k: int,
    found: flat.Found,
    exact: Callable[[], flat.Found | None],
    ranges: Sequence[tuple[int, int]],
) -> None:
    """Compare what a search found with the exact answer, as a whole and segment by segment. judged: the plan each was searched by and its
    predicted recall, None where that can't be judged. ``exact()`` is None when the rows changed meanwhile.
    """
    truth = exact()
    if truth is None or not len(truth[0]):
        return
    there = np.isin(truth[0][:k], found[0])
    predicted = None
    if None not in judged:
        moved = [float(part.segment.corrections.table[0, plan]) for part, (plan, _) in zip(parts, judged, strict=True)]
        predicted = min(1.0, *(recall + offset for (_, recall), offset in zip(judged, moved, strict=True)))
    audits.learned(key, predicted, float(there.mean()))
    for part, known, (first, end) in zip(parts, judged, ranges, strict=True):
        own = (truth[0][:k] >= first) & (truth[0][:k] < end)
        if own.sum() >= FEWEST and known is not None:
            part.segment.corrections.learn_recall(*known, float(there[own].mean()))
