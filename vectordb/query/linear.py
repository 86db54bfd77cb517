"""Linear fusion: the true best of Σ weight · score, by the threshold algorithm (Fagin, Lotem, Naor 2003) in bulk.

Each arm lists its best rows. A row that no list holds can't score more than the sum of what the ends of the lists allow. Rows that some
list holds are scored in the other arms, those first that may come highest. When the last of the best beats whatever is not listed, they
are proven; otherwise the lists are made longer, at last so long that they hold every match. An arm that is listed by a scan is listed last,
and told from which score on a row matters at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..index.flat import Found

DEEPER = 8  # times as many rows in each list, when the ones before proved nothing
MOST = 64  # times as many rows are listed at most, where there is a floor
SCORED_AT_ONCE = 64
ROUNDING = 1e-6  # by which a floor is set lower, so that the sum with it stays below
LEAST_WEIGHT = 1e-100  # of a smaller one products with scores may be rounded by more than that


class Listed(NamedTuple):
    """Rows that may be an arm's best: their scores, or upper bounds of them, highest first.

    below: how far below its bound each score may be; None: these are the scores. rest: the most that a row not listed may score; None: all
    matches are listed. ranked: False where rows that aren't listed may come between.
    """

    found: Found
    below: np.ndarray | None
    rest: float | None
    ranked: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """An arm.

    best: lists k rows, or fewer: only those that may score ``floor`` or more. scores: the matches among given docids (int64, ascending),
    with true scores, in any order. needed: a row that doesn't match this arm is no hit at all; in other arms such a row scores 0.
    guess: quickly k good rows with true scores, where ``best`` takes long and so should know a floor. ceiling: what no row's score exceeds.
    """

    weight: float
    needed: bool
    best: Callable[[int, float], Listed]
    scores: Callable[[np.ndarray], Found]
    guess: Callable[[int], Found] | None = None
    ceiling: float = np.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """docids int64 ``(n,)`` and their sums float64 ``(n,)``, best first. scores: ``(arms, n)``, NaN where an arm has none; ranks: ``(arms,
    n)``, from 1, 0 where an arm's list doesn't tell. depth: how long the longest list was; scored: scores looked up.
    """

    docids: np.ndarray
    sums: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    proven: bool
    depth: int
    scored: int

    def among(self, at: Sequence[int], arms: int) -> Ranking:
        """The same as a ranking of so many arms, of which those at ``at`` were asked."""
        scores, ranks = np.full((arms, len(self.docids)), np.nan), np.zeros((arms, len(self.docids)), np.int64)
        scores[at], ranks[at] = self.scores, self.ranks
        return replace(self, scores=scores, ranks=ranks)


def top(sources: Sequence[Source], limit: int, depth: int, exact: bool) -> Ranking:
    """The best ``limit`` rows. depth: how long the first lists are.

    exact: the lists are true, so that longer ones can prove the result; otherwise all that they hold is scored, and nothing is proven.
    Equal sums go to the lower docid.
    """
    lists = _first_lists(sources, limit, depth)
    while True:
        pool = _Pool(sources, lists)
        pool.score_best(limit, exact)
        best, proven = pool.best(limit)
        if proven or not exact:
            return pool.ranking(best, proven and exact)
        depth *= DEEPER
        lists = [
            listed if listed.rest is None else source.best(max(depth, DEEPER * len(listed.found[0])), -np.inf)
            for source, listed in zip(sources, lists, strict=True)
        ]


def _first_lists(sources: Sequence[Source], limit: int, depth: int) -> list[Listed]:
    """Lists of all arms. The last that guesses gets a floor: what is guessed tells how high a sum must be."""
    lists = [source.best(depth, -np.inf) if source.guess is None else _guessed(source.guess(limit)) for source in sources]
    guessing = [a for a, source in enumerate(sources) if source.guess is not None]
    if not guessing:
        return lists
    pool = _Pool(sources, lists)
    pool.score_best(limit, True)
    for a in guessing[:-1]:
        lists[a] = sources[a].best(depth, -np.inf)
    a, floor = guessing[-1], -np.inf
    weight, (_, guessed) = sources[a].weight, lists[a].found
    others = sum(_beyond(sources[i], lists[i]) for i in range(len(sources)) if i != a)
    if weight >= LEAST_WEIGHT and len(guessed) == limit and others > -np.inf:
        # Below it a row that no other arm lists can't be among the best.
        floor = (pool.least(limit) - others) / weight
        floor -= ROUNDING * (abs(floor) + 1.0)
        if floor > sources[a].ceiling:  # what isn't listed can't matter: no need to look
            lists[a] = lists[a]._replace(rest=sources[a].ceiling, ranked=False)
            return lists
        floor = min(floor, float(guessed[-1]))  # the arm's own best are listed anyway
    lists[a] = sources[a].best(MOST * depth if floor > -np.inf else depth, floor)
    return lists


def _guessed(found: Found) -> Listed:
    """A list that isn't true: good enough to find rows of high sums."""
    return Listed(found, None, float(found[1][-1]) if len(found[1]) else None)


class _Pool:
    """The rows that some list holds, and what is known of them.

    known, scores: ``(arms, rows)``, whether a row was looked at in an arm, and its true score (NaN: no match). most: the most that an arm
    can add to a row's sum.
    """

    def __init__(self, sources: Sequence[Source], lists: Sequence[Listed]):
        self.sources, self.lists = sources, lists
        self.docids = np.unique(np.concatenate([listed.found[0] for listed in lists]))
        shape = len(sources), len(self.docids)
        self.scores, self.known, self.most = np.full(shape, np.nan), np.zeros(shape, np.bool_), np.empty(shape)
        self.scored = 0
        beyond = [_beyond(source, listed) for source, listed in zip(sources, lists, strict=True)]
        whole = all(listed.rest is None for listed in lists)
        self.bound = -np.inf if whole else sum(beyond)  # of the sum of a row that isn't listed at all
        for a, listed in enumerate(lists):
            docids, scores = listed.found
            at = np.searchsorted(self.docids, docids)
            self.most[a] = beyond[a]
            if listed.below is None:
                self._learn(a, at, scores)
            else:
                self.most[a, at] = sources[a].weight * scores.astype(np.float64)

    def _learn(self, a: int, at: np.ndarray, scores: np.ndarray) -> None:
        self.known[a, at] = True
        self.scores[a, at] = scores
        self.most[a, at] = self.sources[a].weight * self.scores[a, at]

    def score_best(self, limit: int, exact: bool) -> None:
        """Have rows scored in all arms: those that may be among the best, or every row where the ends of the lists mean nothing."""
        rows, first = len(self.docids), max(2 * limit, SCORED_AT_ONCE)
        if not exact or rows <= first:
            return self._score(np.arange(rows))
        self._score(np.argpartition(-self.sums(), first)[:first])
        return self._score(np.flatnonzero(self.sums() >= self.least(limit)))

    def least(self, limit: int) -> float:
        """The sum that a row must have to be among the best, as far as is known."""
        whole = self.sums()[self.known.all(axis=0)]
        return float(np.partition(whole, len(whole) - limit)[len(whole) - limit]) if len(whole) >= limit else -np.inf

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
        return Ranking(
            self.docids[best],
            self.sums()[best],
            self.scores[:, best],
            ranks,
            proven,
            max(len(listed.found[0]) for listed in self.lists),
            self.scored,
        )

    def _ranks(self, a: int, best: np.ndarray) -> np.ndarray:
        """Places of hits in an arm's list, from 1; 0 where they aren't there, or others beyond its end may come before them."""
        (docids, scores), below, rest, ranked = self.lists[a]
        if not ranked:
            return np.zeros(len(best), np.int64)
        at = np.searchsorted(self.docids, docids)
        if below is not None:
            # Only rows whose scores may be on either side of a hit's have to be looked up to know which side that is.
            bounds = scores.astype(np.float64)
            hits = np.sort(self.scores[a, best])
            hits = hits[~np.isnan(hits)]
            self._look_up(a, at[np.searchsorted(hits, bounds - below) < np.searchsorted(hits, bounds, "right")])
            true = np.where(self.known[a, at], self.scores[a, at], bounds)
            order = np.lexsort((docids, -true))
            at = at[order] if rest is None else at[order][true[order] > rest]
        places = np.zeros(len(self.docids), np.int64)
        places[at] = np.arange(1, len(at) + 1)
        return np.where(np.isnan(self.scores[a, best]), 0, places[best])


def _beyond(source: Source, listed: Listed) -> float:
    """The most that an arm adds to the sum of a row that its list doesn't hold."""
    if listed.rest is None:  # the row doesn't match
        return -np.inf if source.needed else 0.0
    if source.weight == 0:
        return 0.0
    return source.weight * (listed.rest if source.needed else max(listed.rest, 0.0))
