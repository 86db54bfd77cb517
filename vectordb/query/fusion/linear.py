"""Linear fusion: the rows of the highest Σ weight · score, by the threshold algorithm (Fagin, Lotem, Naor 2003) in bulk.

Each arm lists its best rows. The sum of an unseen row, one that no list contains, is bounded by the scores at the ends of the lists (the
threshold). Listed rows are scored in the other arms, in the order of their upper bounds. If the k-th best sum exceeds the threshold, the
result is proven. Otherwise all lists are made longer, until at last they contain every match. An arm that can list rows only by a scan is
listed last, with a floor: the lowest score with which a row can still be among the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ...index.exact import Found, nothing
from ...kernels.fusion import merge_lists

# Constants: unit and meaning, then the source in brackets. [float]: from the rounding of the type. [by hand]: a round value, no benchmark
# of it is recorded.
DEEPER = 8  # factor by which lists grow when they prove nothing [by hand]
MOST = 64  # factor by which a list with a floor may be longer than the others [by hand]
SCORED_AT_ONCE = 128  # rows scored in all arms before the first estimate of the k-th best sum, at least [by hand]
ROUNDING = 1e-6  # relative margin by which a floor is lowered, so that rounding can't exclude a row [float]
LEAST_WEIGHT = 1e-100  # smallest weight for which a floor is computed; with smaller ones rounding would exceed the margin [float]


class Listed(NamedTuple):
    """A list of an arm's best rows with their scores, or upper bounds of these, highest first.

    slack: the true score of row i is in [bound[i] − slack[i], bound[i]]; None if the values are exact scores. unseen_bound: an upper bound
    of the score of every row that isn't listed; None if every match is listed. ranked: False if unlisted rows may rank between the listed
    ones.
    """

    hits: Found
    slack: np.ndarray | None
    unseen_bound: float | None
    ranked: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """An arm of a linear fusion.

    needed: a row that doesn't match this arm is not a hit (l2); in other arms such a row scores 0. best(k, floor): the list of the k best
    rows; rows that score less than ``floor`` may be left out. scores(docids): the matches among some docids (int64, ascending) with exact
    scores, in any order. guess(k): k good rows with exact scores, found quickly; given where ``best`` needs a scan, which a floor makes
    cheaper. ceiling: an upper bound of all scores.
    """

    weight: float
    needed: bool
    best: Callable[[int, float], Listed]
    scores: Callable[[np.ndarray], Found]
    guess: Callable[[int], Found] | None = None
    ceiling: float = np.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """A result. docids: int64 ``(n,)``, best first. sums: float64 ``(n,)``. scores: float64 ``(arms, n)``, NaN where a row doesn't match an
    arm. ranks: int64 ``(arms, n)``, the row's rank in an arm, from 1; 0 if unknown. proven: no other row can be among the best. depth: the
    length of the longest list. scored: the number of scores that were looked up.
    """

    docids: np.ndarray
    sums: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    proven: bool
    depth: int
    scored: int

    def among(self, present: Sequence[int], arms: int) -> Ranking:
        """The same ranking with lines for ``arms`` arms in all; ``present``: which of them the present lines belong to."""
        scores, ranks = np.full((arms, len(self.docids)), np.nan), np.zeros((arms, len(self.docids)), np.int64)
        scores[present], ranks[present] = self.scores, self.ranks
        return replace(self, scores=scores, ranks=ranks)

    def at(self, i: int) -> Ranking:
        """The ranking of the row at a position alone."""
        one = slice(i, i + 1)
        return replace(self, docids=self.docids[one], sums=self.sums[one], scores=self.scores[:, one], ranks=self.ranks[:, one])


def top(sources: Sequence[Source], limit: int, depth: int, exact: bool) -> Ranking:
    """The best ``limit`` rows. Ties go to the lower docid. depth: the length of the first lists.

    exact: the arms' lists are exact, so longer lists can prove the result. Otherwise every listed row is scored and nothing is proven.
    """
    lists = [source.best(depth, -np.inf) if source.guess is None else _guessed(source.guess(limit)) for source in sources]
    looked_up: LookedUp | None = None
    plain = not any(source.needed for source in sources) and all(listed.slack is None for listed in lists)
    if exact and plain and sum(len(listed.hits[0]) for listed in lists) <= max(2 * limit, SCORED_AT_ONCE):
        looked_up = _looked_up(sources, lists)
        ranking = _proven_at_once(sources, lists, looked_up, limit)
        if ranking is not None:
            return ranking
    pool = _first_pool(sources, lists, looked_up, limit, depth)
    while True:
        pool.score_best(limit, exact)
        best, proven = pool.best(limit)
        if proven or not exact:
            return pool.ranking(best, proven and exact)
        depth *= DEEPER
        pool = _Pool(
            sources,
            [
                listed if listed.unseen_bound is None else source.best(max(depth, DEEPER * len(listed.hits[0])), -np.inf)
                for source, listed in zip(sources, pool.lists, strict=True)
            ],
            pool,
        )


class LookedUp(NamedTuple):
    """Rows that only other arms list. found: of each arm, those that match, with scores. rows: that were looked up, in all."""

    found: list[Found]
    rows: int


def _looked_up(sources: Sequence[Source], lists: Sequence[Listed]) -> LookedUp:
    docids = np.unique(np.concatenate([listed.hits[0] for listed in lists]))
    found, count = [], 0
    for source, listed in zip(sources, lists, strict=True):
        unknown = np.ones(len(docids), np.bool_)
        unknown[np.searchsorted(docids, listed.hits[0])] = False
        rows = docids[unknown]
        found.append(source.scores(rows) if len(rows) else nothing())
        count += len(rows)
    return LookedUp(found, count)


def _proven_at_once(sources: Sequence[Source], lists: Sequence[Listed], looked_up: LookedUp, limit: int) -> Ranking | None:
    """The ranking, if it is proven by the first lists, the looked-up scores and the ceilings of arms that only guessed; else None."""
    ends = [
        listed if source.guess is None else listed._replace(unseen_bound=source.ceiling)
        for source, listed in zip(sources, lists, strict=True)
    ]
    complete = all(listed.unseen_bound is None for listed in ends)
    threshold = -np.inf if complete else sum(_unseen_part(source, listed) for source, listed in zip(sources, ends, strict=True))
    if threshold == np.inf:
        return None
    pairs = [(listed.hits, more) for listed, more in zip(lists, looked_up.found, strict=True)]
    docids, scores = (np.concatenate([part[i] for pair in pairs for part in pair]) for i in range(2))
    lengths = [len(hits[0]) + len(more[0]) for hits, more in pairs]
    arms, most = len(sources), min(limit, len(docids))
    best, sums, places, facts = np.empty(most, np.int64), np.empty(most), np.empty((most, arms), np.int64), np.empty((3, most, arms))
    weights = np.array([source.weight for source in sources])
    ends_at = np.array(list(accumulate(lengths)), np.int64)
    count = merge_lists(docids, scores, scores.astype(np.float64), ends_at, weights, False, best, sums, places, facts)
    if not complete and (count < limit or not threshold < sums[count - 1]):
        return None
    places, scores = places[:count].T, facts[0, :count].T
    scores[places < 0] = np.nan
    ranks = places + 1
    for a, (source, listed) in enumerate(zip(sources, lists, strict=True)):
        ranks[a, (places[a] >= len(listed.hits[0])) | (source.guess is not None)] = 0
    return Ranking(best[:count], sums[:count], scores, ranks, True, max(len(listed.hits[0]) for listed in lists), looked_up.rows)


def _first_pool(sources: Sequence[Source], lists: list[Listed], looked_up: LookedUp | None, limit: int, depth: int) -> _Pool:
    """The first lists of all arms. The last arm that can guess is listed with a floor, computed from the sums of the guessed rows.

    lists: of the arms, guesses where an arm can guess. looked_up: scores of rows that only other arms list, if they are known.
    """
    guessing = [a for a, source in enumerate(sources) if source.guess is not None]
    pool = _Pool(sources, lists)
    if looked_up is not None:
        pool.know(looked_up.found)
    if not guessing:
        return pool
    pool.score_best(limit, True)
    for a in guessing[:-1]:
        lists[a] = sources[a].best(depth, -np.inf)
    a, floor = guessing[-1], -np.inf
    weight, (_, guessed) = sources[a].weight, lists[a].hits
    others = sum(_unseen_part(sources[i], lists[i]) for i in range(len(sources)) if i != a)
    if weight >= LEAST_WEIGHT and len(guessed) == limit and others > -np.inf:
        # A row that no other arm lists and that scores less than this can't be among the best.
        floor = (pool.kth_sum(limit) - others) / weight
        floor -= ROUNDING * (abs(floor) + 1.0)
        if floor > sources[a].ceiling:  # no unlisted row can score that much, so the arm needs no scan
            lists[a] = lists[a]._replace(unseen_bound=sources[a].ceiling, ranked=False)
            return _Pool(sources, lists, pool)
        floor = min(floor, float(guessed[-1]))  # list the arm's own best rows in any case
    lists[a] = sources[a].best(MOST * depth if floor > -np.inf else depth, floor)
    return _Pool(sources, lists, pool)


def _guessed(hits: Found) -> Listed:
    """A list of guessed rows. Its unseen_bound may be wrong, but it serves to find rows of high sums."""
    return Listed(hits, None, float(hits[1][-1]) if len(hits[1]) else None)


class _Pool:
    """The listed rows (docids, int64 ascending) and what is known about them.

    known: bool ``(arms, rows)``, whether a row's score in an arm is known. scores: float64, that score; NaN: no match, or not known.
    upper_bound: float64, the most that an arm can add to a row's sum. threshold: the most that the sum of an unseen row can be.
    """

    def __init__(self, sources: Sequence[Source], lists: Sequence[Listed], before: _Pool | None = None):
        """before: a pool of the same sources, whose known scores are taken over."""
        self.sources, self.lists = sources, list(lists)
        self.scored = 0 if before is None else before.scored
        unseen = [_unseen_part(source, listed) for source, listed in zip(sources, lists, strict=True)]
        self.threshold = -np.inf if all(listed.unseen_bound is None for listed in lists) else sum(unseen)
        joined = np.concatenate([listed.hits[0] for listed in lists])
        if before is not None and all(new.hits is old.hits for new, old in zip(lists, before.lists, strict=True)):
            self.docids, self._positions = before.docids, before._positions
        else:
            self.docids, inverse = np.unique(joined, return_inverse=True)
            self._positions = np.split(inverse, np.cumsum([len(listed.hits[0]) for listed in lists])[:-1])
        shape = len(sources), len(self.docids)
        self.scores, self.known, self.upper_bound = np.full(shape, np.nan), np.zeros(shape, np.bool_), np.empty(shape)
        self.upper_bound[:] = np.array(unseen)[:, None]
        self._sums: np.ndarray | None = None
        for a, listed in enumerate(lists):
            if listed.slack is None:
                self._learn(a, self._positions[a], listed.hits[1])
            else:
                self.upper_bound[a, self._positions[a]] = sources[a].weight * listed.hits[1].astype(np.float64)
        if before is not None:
            self._take_over(before)

    def know(self, looked_up: Sequence[Found]) -> None:
        """Take the scores of all rows that were looked up, one ``Found`` for each arm. A row without one doesn't match the arm."""
        for a, (docids, scores) in enumerate(looked_up):
            unknown = ~self.known[a]
            self.known[a, unknown], self.upper_bound[a, unknown] = True, -np.inf if self.sources[a].needed else 0.0
            self._learn(a, np.searchsorted(self.docids, docids), scores)
            self.scored += int(unknown.sum())

    def _take_over(self, before: _Pool) -> None:
        """Know the scores that an earlier pool knows."""
        if self.docids is before.docids:
            places = rows = slice(None)
        else:
            places = np.minimum(np.searchsorted(before.docids, self.docids), len(before.docids) - 1)
            rows = np.flatnonzero(before.docids[places] == self.docids) if len(before.docids) else np.empty(0, np.int64)
            places = places[rows]
        known = before.known[:, places]
        self.known[:, rows] |= known
        for mine, other in ((self.scores, before.scores), (self.upper_bound, before.upper_bound)):
            mine[:, rows] = np.where(known, other[:, places], mine[:, rows])

    def _learn(self, a: int, positions: np.ndarray, scores: np.ndarray) -> None:
        """Record the exact scores of rows in an arm. positions: their places in ``docids``."""
        wide = scores.astype(np.float64)
        self.known[a, positions] = True
        self.scores[a, positions] = wide
        self.upper_bound[a, positions] = self.sources[a].weight * wide
        self._sums = None

    def score_best(self, limit: int, exact: bool) -> None:
        """Look up the scores, in all arms, of the rows that may be among the best; of every row if the lists aren't exact."""
        rows, first = len(self.docids), max(2 * limit, SCORED_AT_ONCE)
        if not exact or rows <= first:
            return self._score(np.ones(rows, np.bool_))
        chosen = np.zeros(rows, np.bool_)
        chosen[np.argpartition(-self.sums(), first)[:first]] = True
        self._score(chosen)
        return self._score(self.sums() >= self.kth_sum(limit))

    def kth_sum(self, limit: int) -> float:
        """The ``limit``-th highest sum of the rows that are scored in all arms: a lower bound of what a row needs to be among the best."""
        complete = self.sums()[self.known.all(axis=0)]
        return float(np.partition(complete, len(complete) - limit)[len(complete) - limit]) if len(complete) >= limit else -np.inf

    def _score(self, chosen: np.ndarray) -> None:
        """Look up rows (bool ``(rows,)``) in all arms in which their scores aren't known."""
        for a in range(len(self.sources)):
            self._look_up(a, chosen)

    def _look_up(self, a: int, chosen: np.ndarray) -> None:
        unknown = np.flatnonzero(chosen & ~self.known[a])
        if len(unknown):
            source = self.sources[a]
            self.known[a, unknown], self.upper_bound[a, unknown] = True, -np.inf if source.needed else 0.0  # until it is seen to match
            docids, scores = source.scores(self.docids[unknown])
            self._learn(a, np.searchsorted(self.docids, docids), scores)
            self.scored += len(unknown)

    def sums(self) -> np.ndarray:
        """An upper bound of each row's sum; the sum itself where all scores are known. Added in the order of the arms."""
        sums = self._sums
        if sums is None:
            sums = self._sums = np.add.reduce(self.upper_bound, axis=0, initial=0.0)
        return sums

    def best(self, limit: int) -> tuple[np.ndarray, bool]:
        """(places of the best rows in ``docids``, best first; whether it is proven that no other row can be among them)."""
        sums = np.where(self.known.all(axis=0), self.sums(), -np.inf)
        positions = np.flatnonzero(sums > -np.inf)
        positions = positions[np.lexsort((self.docids[positions], -sums[positions]))[:limit]]
        # Strictly less: an unseen row of an equal sum may have a lower docid, and would then come first.
        return positions, bool(self.threshold == -np.inf or (len(positions) == limit and self.threshold < sums[positions[-1]]))

    def ranking(self, best: np.ndarray, proven: bool) -> Ranking:
        ranks = np.array([self._ranks(a, best) for a in range(len(self.sources))])
        return Ranking(
            self.docids[best],
            self.sums()[best],
            self.scores[:, best],
            ranks,
            proven,
            max(len(listed.hits[0]) for listed in self.lists),
            self.scored,
        )

    def _ranks(self, a: int, best: np.ndarray) -> np.ndarray:
        """The ranks of hits in an arm's list, from 1; 0 for a hit that isn't listed, or that unlisted rows may precede."""
        (docids, scores), slack, unseen_bound, ranked = self.lists[a]
        if not ranked:
            return np.zeros(len(best), np.int64)
        positions = self._positions[a]
        if slack is not None:
            # To rank the hits, look up the rows whose true score may be either above or below that of a hit.
            bounds = scores.astype(np.float64)
            hits = np.sort(self.scores[a, best])
            hits = hits[~np.isnan(hits)]
            unsure = np.zeros(len(self.docids), np.bool_)
            unsure[positions[np.searchsorted(hits, bounds - slack) < np.searchsorted(hits, bounds, "right")]] = True
            self._look_up(a, unsure)
            true = np.where(self.known[a, positions], self.scores[a, positions], bounds)
            order = np.lexsort((docids, -true))
            positions = positions[order] if unseen_bound is None else positions[order][true[order] > unseen_bound]
        places = np.zeros(len(self.docids), np.int64)
        places[positions] = np.arange(1, len(positions) + 1)
        return np.where(np.isnan(self.scores[a, best]), 0, places[best])


def _unseen_part(source: Source, listed: Listed) -> float:
    """The most that an arm can add to the sum of a row that it doesn't list."""
    if listed.unseen_bound is None:  # every match is listed, so the row doesn't match
        return -np.inf if source.needed else 0.0
    if source.weight == 0:
        return 0.0
    return source.weight * (listed.unseen_bound if source.needed else max(listed.unseen_bound, 0.0))
