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
NEIGHBOURS, FEWEST = 10, 4  # of each query; at most one in FEWEST of the others, because derived vectors would find all of few
_QUERIES = 50  # scored at a time


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


def _neighbours(n: int) -> int:
    """How many of n others are looked for."""
    return max(1, min(NEIGHBOURS, n // FEWEST))


def recall_of_terms(source: Any, rows: np.ndarray, codes: Any, queries: int, k: int) -> dict[int, float]:
    """``recall`` of sparse vectors, with queries of their heaviest k, k/2 and k/4 terms. codes: a SparseColumn, one vector for each row."""
    n = len(rows) - queries
    near, values = _neighbours(n), comparable(source, rows)
    ends = codes.indptr[n]
    owners = np.repeat(np.arange(n), np.diff(codes.indptr[: n + 1]))
    terms, weights = codes.terms[:ends].astype(np.int64), codes.weights[:ends]
    asked = np.zeros(int(codes.terms.max()) + 1 if len(codes.terms) else 1, np.float32)
    cuts = sorted({max(k // 4, 1), max(k // 2, 1), k})
    found = dict.fromkeys(cuts, 0)
    for q in range(n, len(rows)):
        deadline.check()
        true = np.argpartition(-(values[:n] @ values[q]), near - 1)[:near]
        own, strength = codes.vector(q)
        heaviest = np.argsort(-np.abs(strength), kind="stable")
        for cut in cuts:
            asked[:] = 0
            asked[own[heaviest[:cut]].astype(np.int64)] = strength[heaviest[:cut]]
            scores = np.bincount(owners, weights=asked[terms] * weights, minlength=n)
            best = np.argsort(-scores, kind="stable")[:near]
            found[cut] += len(np.intersect1d(best[scores[best] > 0], true))
    return {cut: round(hits / (near * queries), 4) for cut, hits in found.items()}


def recall(spec: Any, source: Any, rows: np.ndarray, derived: np.ndarray, queries: int) -> float:
    """The mean share of the 10 nearest vectors that the derived ones find as well. The last ``queries`` vectors are the queries; they are
    searched among the others.
    """
    n = len(rows) - queries
    k, found = _neighbours(n), 0
    sides = [(each.metric == "l2", comparable(each, values)) for each, values in ((source, rows), (spec, derived))]
    squares = [np.square(lengths(values[:n])).astype(np.float32) if far else np.float32(0) for far, values in sides]
    for low in range(n, len(rows), _QUERIES):
        deadline.check()
        near = []
        for (far, values), square in zip(sides, squares, strict=True):
            scores = values[low : low + _QUERIES] @ values[:n].T
            near.append(np.argpartition(-(2 * scores - square if far else scores), k - 1, axis=1)[:, :k])
        found += sum(len(np.intersect1d(one, other)) for one, other in zip(*near, strict=True))
    return round(found / (k * queries), 4)
