"""Which points a derivation is fitted to, and how well its vectors find the neighbours that the source's vectors find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from vectordb_client.model.values import Id

from ..common import deadline
from ..storage import format
from .base import comparable, lengths
from .fixed import mixed

HELD_OUT = 200  # vectors of a sample that are kept as queries, at most
HELD_SHARE = 10  # at most one of so many
NEIGHBOURS = 10  # of each query


def order_of(ids: Sequence[Id] | np.ndarray, seed: int) -> np.ndarray:
    """The places of ids in an order that looks random and depends on the ids and the seed alone, int64 ``(n,)``. So the sample of a
    collection is the same, whatever order its points were written in and whatever was deleted before.
    """
    start = mixed(np.array([seed], np.uint64))
    if isinstance(ids, np.ndarray):
        return np.argsort(mixed(ids.astype(np.uint64) ^ start), kind="stable")
    numbers = np.array([value if type(value) is int else xxhash.xxh3_64_intdigest(format.id_key(0, value)) for value in ids], np.uint64)
    return np.argsort(mixed(numbers ^ start), kind="stable")


def held_out(n: int) -> int:
    """How many of n vectors of a sample are queries."""
    return min(HELD_OUT, max(n // HELD_SHARE, 1))


def recall(spec: Any, source: Any, rows: np.ndarray, derived: np.ndarray, queries: int) -> float:
    """The mean share of the 10 nearest vectors that the derived ones find as well. The last ``queries`` vectors are the queries; they are
    searched among the others.
    """
    k = min(NEIGHBOURS, len(rows) - queries)
    found = 0
    for low in range(len(rows) - queries, len(rows), 50):
        deadline.check()
        asked = slice(low, min(low + 50, len(rows)))
        wanted, given = (
            _nearest(each, values[asked], values[: len(rows) - queries], k) for each, values in ((source, rows), (spec, derived))
        )
        found += sum(len(np.intersect1d(one, other)) for one, other in zip(wanted, given, strict=True))
    return round(found / (k * queries), 4)


def _nearest(spec: Any, asked: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The places of the k nearest rows of each query, in no order."""
    if spec.metric == "cosine":
        asked, rows = comparable(spec, asked).astype(np.float32), comparable(spec, rows).astype(np.float32)
    scores = asked @ rows.T
    if spec.metric == "l2":
        scores = 2 * scores - np.square(lengths(rows)).astype(np.float32)
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]
