"""How deep each arm of a fusion is read, and at which recall, so that the fused list reaches the recall that was asked for.

The recall of a fused list is its overlap with the one that exact lists of ``candidates`` rows would give. How much of an arm it needs
depends on the data: on how much the arms agree. So it is measured. Some searches are repeated in the background, each arm at several points
(a depth and a recall), beside a reference whose lists are near exact. Every combination of points is fused and compared with the fused list
of the reference. A search takes the cheapest combination whose measured recall reaches its target.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...engine.audits import budget
from ...index.exact import Found

# Constants: unit and meaning, then the source in brackets. [H]: checked on SciFact, Debian's package descriptions and the data set
# "hybrid-20k" with held-out queries (tests/engine/test_fused_recall.py has the floors). [chosen]: chosen, not measured.
SHARES = ((1.0, (0.6, 0.8, 0.9, 0.95, 0.98)), (0.5, (0.8, 0.9)), (0.3, (0.9,)))  # of the candidates, recalls of a list [H]
SHALLOW = 0.9  # recall of a list of ``limit`` rows, where it is shorter than the others [chosen]
REFERENCE = 0.998  # recall of the reference's lists [chosen]
HIGHEST = 0.99  # targets above it hold every arm to the target, because the reference is no better [chosen]
LEAST = 24  # searches that are measured before a combination is chosen [chosen]
FIRST = 64  # searches that are measured as soon as there is time for it; until then the doubt is larger [H]
HURRY = 10.0  # factor by which the first LEAST of them rest less: some seconds, after which searches may take half the time [chosen]
EVERY = 2_000  # later searches for each one that is measured [chosen]
KEPT = 192  # measured searches that are remembered [chosen]
DOUBT = 0.5  # standard errors subtracted from a mean recall: the cheapest of many combinations is one that was lucky [H]
USUAL = 0.25  # quantile of the measured times of a point that is taken for its cost: other work disturbs the others [chosen]
SLOPE, SLOPES = 0.3, (0.2, 1.0)  # fused recall lost for each unit of a list's: where no list lost any; and its range [H]
LEAST_LOSS = 1e-3  # sum of squares of lost recalls from which a slope can be computed [chosen]
CROSSED = 3  # arms of which all combinations are measured; of more arms only those with the same point in each arm [chosen]
MOST_KINDS = 64  # kinds of searches that are remembered, for a directory [chosen]


class Point(NamedTuple):
    """How an arm is searched. depth: the rows of its list. recall: the predicted recall of the list."""

    depth: int
    recall: float


class Choice(NamedTuple):
    """How the arms of a search are searched. predicted: the recall of the fused list, None if nothing was measured; searches: that were."""

    points: tuple[Point, ...]
    predicted: float | None
    searches: int


def points_of(limit: int, candidates: int) -> list[Point]:
    """The points that are measured, for a search of ``limit`` results."""
    points = [Point(max(round(share * candidates), limit), recall) for share, recalls in SHARES for recall in recalls]
    if limit < min(point.depth for point in points):
        points.append(Point(limit, SHALLOW))
    return sorted(set(points))


class FusedRecall:
    """What was measured of one kind of search: its arms, fusion, limit, candidates and about the selectivity of its filter."""

    def __init__(self, indexed: Sequence[bool], limit: int, candidates: int, clock: Callable[[], float] = time.thread_time):
        """indexed: of each arm, whether it can be searched at different points; the others are exact at any. clock: seconds
        of this thread's processor time, because measuring pauses between its pieces.
        """
        points, whole = points_of(limit, candidates), [Point(candidates, 1.0)]
        self.points = [points if each else whole for each in indexed]
        self._candidates, self._clock = candidates, clock
        if sum(indexed) <= CROSSED:
            combinations = list(itertools.product(*(range(len(of_arm)) for of_arm in self.points)))
        else:
            combinations = [tuple(i * each for each in indexed) for i in range(len(points))]
        self.combinations = np.array(combinations, np.int64)
        self._recalls: deque[np.ndarray] = deque(maxlen=KEPT)  # of each measured search: float32 ``(combinations,)``
        self._costs: deque[np.ndarray] = deque(maxlen=KEPT)  # seconds, float64 ``(arms, points)``
        self._found: deque[np.ndarray] = deque(maxlen=KEPT)  # recalls of the arms' own lists, float64 ``(arms, points)``
        self._calls = 0
        self._choices: dict[float, Choice] = {}
        self._lock = threading.Lock()

    @property
    def hurry(self) -> float:
        """The factor by which the rest after measuring the next search is shorter."""
        return HURRY if len(self._recalls) < LEAST else 1.0

    def due(self) -> bool:
        """Whether to measure the current search."""
        self._calls += 1
        return len(self._recalls) < FIRST or self._calls % EVERY == 0

    def is_due(self) -> bool:
        """Whether the current search must go where it can be measured, and be counted there (``due``). If not, it is counted here."""
        if (len(self._recalls) < FIRST or (self._calls + 1) % EVERY == 0) and budget.rested:
            return True
        self._calls += 1
        return False

    def measure(self, search: Callable[[int, Point], Found], fused: Callable[[Sequence[Found]], np.ndarray]) -> None:
        """Run a search at every point, and remember what is found.

        search(arm, point): the list of an arm. fused(lists): the docids of the fused list.
        """
        # The reference comes first: the others then all find in the caches what this query reads.
        reference = [
            search(a, Point(self._candidates, REFERENCE) if len(points) > 1 else points[0]) for a, points in enumerate(self.points)
        ]
        shape = len(self.points), max(map(len, self.points))
        lists: list[list[Found]] = []
        costs, found_in = np.zeros(shape), np.ones(shape)
        for a, points in enumerate(self.points):
            lists.append([])
            for i, point in enumerate(points if len(points) > 1 else ()):
                started = self._clock()
                lists[a].append(search(a, point))
                costs[a, i] = self._clock() - started
                best = set(reference[a][0][: point.depth].tolist())
                found_in[a, i] = len(best.intersection(lists[a][i][0].tolist())) / max(len(best), 1)
            lists[a] = lists[a] or [reference[a]]
        truth = set(fused(reference).tolist())
        recalls = np.ones(len(self.combinations), np.float32)
        if truth:
            for c, chosen in enumerate(self.combinations.tolist()):
                found = fused([of_arm[i] for of_arm, i in zip(lists, chosen, strict=True)])
                recalls[c] = len(truth.intersection(found.tolist())) / len(truth)
        with self._lock:
            self._recalls.append(recalls)
            self._costs.append(costs)
            self._found.append(found_in)
            self._choices = {}

    def choose(self, recall: float) -> Choice:
        """The points of the arms for a target: the cheapest combination that reaches it, else the whole lists at the target."""
        choice = self._choices.get(recall)
        if choice is None:
            with self._lock:
                choice = self._choices[recall] = self._chosen(recall)
        return choice

    def _chosen(self, recall: float) -> Choice:
        measured, arms = len(self._recalls), len(self.points)
        plain = Choice((Point(self._candidates, recall),) * arms, None, measured)
        if measured < LEAST or recall > HIGHEST:
            return plain
        recalls, costs = np.array(self._recalls, np.float64), np.quantile(np.array(self._costs), USUAL, axis=0)
        means = recalls.mean(axis=0)
        promised = means - self._unpromised(means)
        doubt = DOUBT * max(FIRST / measured, 1.0)
        lowered = promised - doubt * recalls.std(axis=0) / np.sqrt(measured)
        total = costs[np.arange(arms), self.combinations].sum(axis=1)
        reaching = np.where(lowered >= recall, total, np.inf)
        best = int(np.argmin(reaching))
        if reaching[best] == np.inf:
            return plain
        chosen = zip(self.points, self.combinations[best].tolist(), strict=True)
        return Choice(tuple(points[i] for points, i in chosen), float(promised[best]), measured)

    def _unpromised(self, means: np.ndarray) -> np.ndarray:
        """What the recall of each combination owes to lists that were better than their points promise: float64 ``(combinations,)``. A plan
        that is better than it has to be may be replaced by one that isn't, when costs change. means: of the measured recalls.
        """
        found = np.mean(np.array(self._found), axis=0)
        owed = np.zeros(len(means))
        for a, points in enumerate(self.points):
            if len(points) > 1:
                excess = np.maximum(found[a] - [point.recall for point in points], 0.0)
                owed += self._slope(a, found[a], means) * excess[self.combinations[:, a]]
        return owed

    def _slope(self, a: int, found: np.ndarray, means: np.ndarray) -> float:
        """The recall of the fused list that is lost for each unit of recall that the list of an arm loses, the other arms' being whole."""
        last = np.array([len(points) - 1 for points in self.points])
        others = np.delete(np.arange(len(last)), a)
        rows = np.flatnonzero((self.combinations[:, others] == last[others]).all(axis=1))
        rows = [c for c in rows.tolist() if self.points[a][self.combinations[c, a]].depth == self._candidates]
        lost = found[last[a]] - found[self.combinations[rows, a]]
        if not rows or float(lost @ lost) < LEAST_LOSS:
            return SLOPE
        slope = float(lost @ (means.max() - means[rows]) / (lost @ lost))
        return min(max(slope, SLOPES[0]), SLOPES[1])


class FusedRecalls:
    """What was measured of the searches of a directory, by their kinds."""

    def __init__(self):
        self._kinds: dict[tuple, FusedRecall] = {}

    def of(self, key: tuple[Any, ...], indexed: Sequence[bool], limit: int, candidates: int) -> FusedRecall:
        """What was measured of a kind of search. The other arguments are parts of the key."""
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) >= MOST_KINDS:
                self._kinds.clear()
            known = self._kinds.setdefault(key, FusedRecall(indexed, limit, candidates))
        return known
