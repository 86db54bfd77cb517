"""Every point against all others: nearest neighbours, and pairs that are alike. Many points are searched for at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.explored import Duplicates, Neighbours

from ...common import memory
from ...index.exact import Found
from .space import Space, Steps

# Chosen, not measured.
BATCH = 1_024  # points that are searched for at a time
FIRST_K = 16  # hits of a point at first, where all above a score are wanted; then GROWTH times as many
GROWTH = 4
HITS = 1 << 20  # hits of a call


def neighbours(space: Space) -> Steps[Neighbours]:
    docids, k = space.docids, space.options["k"]
    n = len(docids)
    memory.hold(8 * n * k, "the neighbours")
    index, scores = np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32)
    for low in range(0, n, BATCH):
        yield low, n
        space.give_way()
        there, vectors = space.present(docids[low : low + BATCH])
        rows, some = low + there, docids[low + there]
        found, found_scores = _table(space.search(vectors, k + 1), k + 1)
        own = found == some[:, None]
        # A point is not its own neighbour: it goes to the end, and the last column is cut off. So is the last hit of a point that isn't
        # among its own hits, because others are as near.
        order = np.argsort(own, axis=1, kind="stable")[:, :k]
        found, found_scores = np.take_along_axis(found, order, axis=1), np.take_along_axis(found_scores, order, axis=1)
        there = (found >= 0) & (found != some[:, None])
        index[rows] = np.where(there, np.searchsorted(docids, found), -1)
        scores[rows] = np.where(there, found_scores * np.float32(space.sign), np.nan)
    yield n, n
    return Neighbours(space.all_ids, index, scores)


def _table(hits: Sequence[Found], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits as ``(n, k)`` arrays of docids and scores; −1 and −inf where there are fewer."""
    docids, scores = np.full((len(hits), k), -1, np.int64), np.full((len(hits), k), -np.inf, np.float32)
    for row, (found, found_scores) in enumerate(hits):
        docids[row, : len(found)] = found
        scores[row, : len(found)] = found_scores
    return docids, scores


def duplicates(space: Space) -> Steps[Duplicates]:
    docids, pairs = space.docids, Pairs(_least(space), space.options["limit"])
    n = len(docids)
    for low in range(0, n, BATCH):
        yield low, n
        pending, k = np.arange(low, min(low + BATCH, n)), min(FIRST_K, n)
        while len(pending):
            wanting = []
            for begin in range(0, len(pending), max(1, HITS // k)):
                space.give_way()
                rows = pending[begin : begin + max(1, HITS // k)]
                there, vectors = space.present(docids[rows])
                rows = rows[there]
                found, scores = _table(space.search(vectors, k), k)
                pairs.add(np.repeat(rows, k), np.searchsorted(docids, found.ravel()), scores.ravel())
                last = scores[:, -1]
                # The next hit can be wanted as long as the last one is, or a full result would change.
                wanting.append(rows[(last > pairs.least) if pairs.more else (last >= pairs.least)] if k < n else rows[:0])
            pending, k = np.concatenate(wanting), min(GROWTH * k, n)
    yield n, n
    first, second, scores = pairs.best()
    older, newer = space.ids_at(first), space.ids_at(second)
    return Duplicates(older, newer, scores * np.float32(space.sign), pairs.more, n)


def _least(space: Space) -> float:
    """The lowest internal score of a pair. Raises InvalidArgumentError."""
    asked = {name: space.options[name] for name in ("min_score", "radius") if name in space.options}
    right, wrong = ("radius", "min_score") if space.sign < 0 else ("min_score", "radius")
    if set(asked) != {right}:
        kind = "squared distances, lower is better" if space.sign < 0 else "scores, higher is better"
        what = f"duplicates of {space.field!r} needs {right}=…{f', not {wrong}' if wrong in asked else ''}: {space.metric} has {kind}"
        raise InvalidArgumentError(what, field=right, value=asked.get(wrong))
    return space.sign * asked[right]


class Pairs:
    """The best pairs so far. least: the lowest score that is wanted; it rises when there are more than ``limit`` pairs. more: whether
    there were.
    """

    def __init__(self, least: float, limit: int):
        self.least, self.more = least, False
        self._limit = limit
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._held = 0

    def add(self, rows: np.ndarray, others: np.ndarray, scores: np.ndarray) -> None:
        """Add pairs of positions, in any order, also repeatedly."""
        wanted = (scores >= self.least) & (rows != others)
        low, high = np.minimum(rows, others)[wanted], np.maximum(rows, others)[wanted]
        self._parts.append((low, high, scores[wanted]))
        self._held += len(low)
        if self._held > 2 * self._limit:
            self._join()

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(positions of the older points, of the newer ones, scores), best first."""
        return self._join()

    def _join(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low, high, scores = (np.concatenate(column) for column in zip(*self._parts, strict=True)) if self._parts else _none()
        order = np.lexsort((-scores, high, low))
        low, high, scores = low[order], high[order], scores[order]
        new = np.ones(len(low), np.bool_)
        new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        low, high, scores = low[new], high[new], scores[new]
        order = np.lexsort((high, low, -scores))
        if len(order) > self._limit:
            order, self.more = order[: self._limit], True
        if self.more and len(order):
            self.least = max(self.least, float(scores[order[-1]]))
        kept = low[order], high[order], scores[order]
        self._parts, self._held = [kept], len(order)
        return kept


def _none() -> tuple[Any, ...]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
