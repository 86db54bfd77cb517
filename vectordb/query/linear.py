"""Linear fusion: the true best of Σ weight · score, by the threshold algorithm (Fagin, Lotem, Naor 2003) in bulk.

Each arm lists its best rows. A row that no list holds can't score more than the sum of what the ends of the lists allow. Rows that some
list holds are scored in the other arms, those first that may come highest. When the last of the best beats whatever is not listed, they
are proven; otherwise the lists are made longer, at last so long that they hold every match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..index.flat import Found

DEEPER = 8  # times as many rows in each list, when the ones before proved nothing
SCORED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Source:
    """An arm. best: its k best matches, best first; fewer when there are no more. scores: the matches among given docids (int64,
    ascending), in any order.

    needed: a row that doesn't match this arm is no hit at all; in other arms such a row scores 0.
    """

    weight: float
    needed: bool
    best: Callable[[int], Found]
    scores: Callable[[np.ndarray], Found]


@dataclass(frozen=True, slots=True)
class Ranking:
    """docids int64 ``(n,)`` and their sums float64 ``(n,)``, best first. scores: ``(arms, n)``, NaN where an arm has none; ranks: ``(arms,
    n)``, from 1, 0 where an arm's list doesn't hold the row. depth: how long the lists were; scored: rows looked up in some arm.
    """

    docids: np.ndarray
    sums: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    proven: bool
    depth: int
    scored: int


def top(sources: Sequence[Source], lists: Sequence[Found], limit: int, depth: int, exact: bool) -> Ranking:
    """The best ``limit`` rows. lists: ``best(depth)`` of each source.

    exact: the lists are true, so that longer ones can prove the result; otherwise all that they hold is scored, and nothing is proven.
    Equal sums go to the lower docid.
    """
    lists = list(lists)
    while True:
        pool = _Pool(sources, lists, depth)
        pool.score_best(limit, exact)
        best, proven = pool.best(limit)
        if proven or not exact:
            return pool.ranking(best, proven and exact, depth)
        ended = [len(found) < depth for found, _ in lists]
        depth *= DEEPER
        lists = [found if end else source.best(depth) for source, found, end in zip(sources, lists, ended, strict=True)]


class _Pool:
    """The rows that some list holds, and what is known of them."""

    def __init__(self, sources: Sequence[Source], lists: Sequence[Found], depth: int):
        self.sources, self.lists = sources, lists
        self.docids = np.unique(np.concatenate([docids for docids, _ in lists]))
        self.scores = np.full((len(sources), len(self.docids)), np.nan)
        self.known = np.zeros(self.scores.shape, np.bool_)
        self.scored = 0
        ended = [len(docids) < depth for docids, _ in lists]
        # The most that an arm can add for a row that its list doesn't hold.
        self.unlisted = np.array([_most(*arm) for arm in zip(sources, lists, ended, strict=True)])
        self.bound = -np.inf if all(ended) else sum(self.unlisted.tolist())
        for a, (docids, scores) in enumerate(lists):
            at = np.searchsorted(self.docids, docids)
            self.scores[a, at], self.known[a, at] = scores, True

    def sums(self) -> np.ndarray:
        """The most that each row's sum can be; where all is known, its sum. Added in the order of the arms."""
        total = np.zeros(len(self.docids))
        for a, source in enumerate(self.sources):
            missing = -np.inf if source.needed else 0.0
            has = ~np.isnan(self.scores[a])
            total += np.where(has, source.weight * np.where(has, self.scores[a], 0.0), np.where(self.known[a], missing, self.unlisted[a]))
        return total

    def score_best(self, limit: int, exact: bool) -> None:
        """Have rows scored in all arms: those that may be among the best, or every row where the ends of the lists mean nothing."""
        if not exact:
            return self._score(np.arange(len(self.docids)))
        most = self.sums()
        first = np.argsort(-most, kind="stable")[: max(2 * limit, SCORED_AT_ONCE)]
        self._score(first)
        most = self.sums()
        if len(first) == len(most):
            return None
        whole = most[self.known.all(axis=0)]
        floor = np.partition(whole, len(whole) - limit)[len(whole) - limit] if len(whole) >= limit else -np.inf
        return self._score(np.flatnonzero(most >= floor))

    def _score(self, at: np.ndarray) -> None:
        for a, source in enumerate(self.sources):
            unknown = np.sort(at[~self.known[a, at]])
            if len(unknown):
                self.known[a, unknown] = True
                docids, scores = source.scores(self.docids[unknown])
                self.scores[a, np.searchsorted(self.docids, docids)] = scores
                self.scored += len(unknown)

    def best(self, limit: int) -> tuple[np.ndarray, bool]:
        """Places of the best rows, best first, and whether no other row can be among them."""
        sums = np.where(self.known.all(axis=0), self.sums(), -np.inf)
        at = np.flatnonzero(sums > -np.inf)
        at = at[np.lexsort((self.docids[at], -sums[at]))[:limit]]
        # A row that isn't listed may have a lower docid, so an equal sum proves nothing.
        return at, bool(self.bound == -np.inf or (len(at) == limit and self.bound < sums[at[-1]]))

    def ranking(self, best: np.ndarray, proven: bool, depth: int) -> Ranking:
        ranks = np.zeros((len(self.sources), len(best)), np.int64)
        for a, (listed, _) in enumerate(self.lists):
            place = np.zeros(len(self.docids), np.int64)
            place[np.searchsorted(self.docids, listed)] = np.arange(1, len(listed) + 1)
            ranks[a] = place[best]
        return Ranking(self.docids[best], self.sums()[best], self.scores[:, best], ranks, proven, depth, self.scored)


def _most(source: Source, found: Found, ended: bool) -> float:
    """The most that an arm adds to the sum of a row that its list doesn't hold."""
    if ended:  # the row doesn't match
        return -np.inf if source.needed else 0.0
    last = float(found[1][-1])
    return source.weight * (last if source.needed else max(last, 0.0))
