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
Listed = tuple[Found, np.ndarray | None]  # rows by upper bounds of their scores, and how far below these may be; None: they are the scores


@dataclass(frozen=True, slots=True)
class Source:
    """An arm.

    best: the k matches that may be the best, highest upper bound first, fewer when there are no more; no other row has a higher score than
    the last bound. scores: the matches among given docids (int64, ascending), with true scores, in any order. needed: a row that doesn't
    match this arm is no hit at all; in other arms such a row scores 0.
    """

    weight: float
    needed: bool
    best: Callable[[int], Listed]
    scores: Callable[[np.ndarray], Found]


@dataclass(frozen=True, slots=True)
class Ranking:
    """docids int64 ``(n,)`` and their sums float64 ``(n,)``, best first. scores: ``(arms, n)``, NaN where an arm has none; ranks: ``(arms,
    n)``, from 1, 0 where an arm's list doesn't tell. depth: how long the lists were; scored: scores looked up.
    """

    docids: np.ndarray
    sums: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    proven: bool
    depth: int
    scored: int


def top(sources: Sequence[Source], limit: int, depth: int, exact: bool) -> Ranking:
    """The best ``limit`` rows. depth: how long the first lists are.

    exact: the lists are true, so that longer ones can prove the result; otherwise all that they hold is scored, and nothing is proven.
    Equal sums go to the lower docid.
    """
    lists = [source.best(depth) for source in sources]
    while True:
        pool = _Pool(sources, lists, depth)
        pool.score_best(limit, exact)
        best, proven = pool.best(limit)
        if proven or not exact:
            return pool.ranking(best, proven and exact)
        ended = [len(docids) < depth for (docids, _), _ in lists]
        depth *= DEEPER
        lists = [listed if end else source.best(depth) for source, listed, end in zip(sources, lists, ended, strict=True)]


class _Pool:
    """The rows that some list holds, and what is known of them.

    known, scores: ``(arms, rows)``, whether a row was looked at in an arm, and its true score (NaN: no match). most: the most that an arm
    can add to a row's sum.
    """

    def __init__(self, sources: Sequence[Source], lists: Sequence[Listed], depth: int):
        self.sources, self.lists, self.depth = sources, lists, depth
        self.docids = np.unique(np.concatenate([docids for (docids, _), _ in lists]))
        shape = len(sources), len(self.docids)
        self.scores, self.known, self.most = np.full(shape, np.nan), np.zeros(shape, np.bool_), np.empty(shape)
        self.scored = 0
        self.ended = [len(docids) < depth for (docids, _), _ in lists]
        beyond = [_beyond(*arm) for arm in zip(sources, lists, self.ended, strict=True)]
        self.bound = -np.inf if all(self.ended) else sum(beyond)  # of the sum of a row that isn't listed at all
        for a, ((docids, scores), below) in enumerate(lists):
            at = np.searchsorted(self.docids, docids)
            self.most[a] = beyond[a]
            if below is None:
                self._learn(a, at, scores)
            else:
                self.most[a, at] = sources[a].weight * scores.astype(np.float64)

    def _learn(self, a: int, at: np.ndarray, scores: np.ndarray) -> None:
        self.known[a, at] = True
        self.scores[a, at] = scores
        self.most[a, at] = self.sources[a].weight * self.scores[a, at]

    def score_best(self, limit: int, exact: bool) -> None:
        """Have rows scored in all arms: those that may be among the best, or every row where the ends of the lists mean nothing."""
        rows = len(self.docids)
        if not exact or rows <= max(2 * limit, SCORED_AT_ONCE):
            return self._score(np.arange(rows))
        first = max(2 * limit, SCORED_AT_ONCE)
        self._score(np.argpartition(-self.sums(), first)[:first])
        sums = self.sums()
        whole = sums[self.known.all(axis=0)]
        floor = np.partition(whole, len(whole) - limit)[len(whole) - limit]
        return self._score(np.flatnonzero(sums >= floor))

    def _score(self, at: np.ndarray) -> None:
        """Look these rows up in the arms that haven't looked at them."""
        for a in range(len(self.sources)):
            self._look_up(a, at)

    def _look_up(self, a: int, at: np.ndarray) -> None:
        unknown = np.sort(at[~self.known[a, at]])
        if len(unknown):
            source = self.sources[a]
            self.known[a, unknown], self.most[a, unknown] = True, -np.inf if source.needed else 0.0
            docids, scores = source.scores(self.docids[unknown])
            self._learn(a, np.searchsorted(self.docids, docids), scores)
            self.scored += len(unknown)

    def sums(self) -> np.ndarray:
        """The most that each row's sum can be; where all is known, the sum. Added in the order of the arms."""
        total = np.zeros(len(self.docids))
        for most in self.most:
            total += most
        return total

    def best(self, limit: int) -> tuple[np.ndarray, bool]:
        """Places of the best rows, best first, and whether no other row can be among them."""
        sums = np.where(self.known.all(axis=0), self.sums(), -np.inf)
        at = np.flatnonzero(sums > -np.inf)
        at = at[np.lexsort((self.docids[at], -sums[at]))[:limit]]
        # A row that isn't listed may have a lower docid, so an equal sum proves nothing.
        return at, bool(self.bound == -np.inf or (len(at) == limit and self.bound < sums[at[-1]]))

    def ranking(self, best: np.ndarray, proven: bool) -> Ranking:
        ranks = np.array([self._ranks(a, best) for a in range(len(self.sources))])
        return Ranking(self.docids[best], self.sums()[best], self.scores[:, best], ranks, proven, self.depth, self.scored)

    def _ranks(self, a: int, best: np.ndarray) -> np.ndarray:
        """Places of hits in an arm's list, from 1; 0 where they aren't there, or others beyond its end may come before them."""
        (docids, scores), below = self.lists[a]
        at = np.searchsorted(self.docids, docids)
        if below is not None:
            # Only rows whose scores may be on either side of a hit's have to be looked up to know which side that is.
            bounds = scores.astype(np.float64)
            hits = np.sort(self.scores[a, best])
            hits = hits[~np.isnan(hits)]
            self._look_up(a, at[np.searchsorted(hits, bounds - below) < np.searchsorted(hits, bounds, "right")])
            true = np.where(self.known[a, at], self.scores[a, at], bounds)
            order = np.lexsort((docids, -true))
            at = at[order] if self.ended[a] else at[order][true[order] > bounds[-1]]
        places = np.zeros(len(self.docids), np.int64)
        places[at] = np.arange(1, len(at) + 1)
        return np.where(np.isnan(self.scores[a, best]), 0, places[best])


def _beyond(source: Source, listed: Listed, ended: bool) -> float:
    """The most that an arm adds to the sum of a row that its list doesn't hold."""
    if ended:  # the row doesn't match
        return -np.inf if source.needed else 0.0
    (_, bounds), _ = listed
    last = float(bounds[-1])
    return source.weight * (last if source.needed else max(last, 0.0))
