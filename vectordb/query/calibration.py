"""Calibrated scores: the score of an arm as the share of a sample of the field's points that scores lower for the same query.

The sample consists of the live rows whose docids have the lowest hashes. So every process has the same one, a write changes little of it,
and a filter doesn't change it. A threshold then means the same for every query and every field: 0.99 is "better than 99 % of all points".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.model.filter_nodes import HasVector
from vectordb_client.model.page_options import AUTO, AUTO_LIMIT
from vectordb_client.model.results import ArmScore

from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..filters.bitmap import matching
from ..filters.cache import FilterCache
from .arms import score_rows, sign
from .fusion.missing import arm_weights, has_vectors, rescaled
from .request import Arm, Search

SAMPLE = 1_024  # rows; the shares are multiples of 1 / 1,024 in larger collections [chosen, not measured]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio: Knuth's multiplicative hash


def background(view: View, name: str, cache: FilterCache) -> np.ndarray:
    """The docids of a field's sample, uint32 ascending."""
    key = ("background", name, view.within and view.within.node)
    known = view.snapshot.prepared.get(key)
    if known is None:
        having = matching(HasVector(name), view, cache)
        docids = np.asarray((having if view.within is None else having & view.within.rows(view)).to_array(), np.uint32)
        if len(docids) > SAMPLE:
            hashes = docids.astype(np.uint64) * _FACTOR  # no two docids have the same: the factor is odd
            docids = np.sort(docids[np.argpartition(hashes, SAMPLE)[:SAMPLE]])
        known = view.snapshot.prepared[key] = docids
    return known


class Scale:
    """The scores of an arm's sample for one query."""

    def __init__(self, view: View, arm: Arm, cache: FilterCache):
        self._view, self._arm = view, arm
        self._queries = FIELD_TYPES[arm.spec.kind].prepare(view, arm.field, arm.queries[:1], cache)
        sample = background(view, arm.field, cache)
        ((_, scores),) = score_rows(view, arm, self._queries, sample) if len(sample) else [(None, np.empty(0, np.float32))]
        self._size, self._scores = len(sample), np.sort(scores)

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """The share of the sample that scores lower than each score (float32, higher is better). Rows that don't match score lower."""
        higher = len(self._scores) - np.searchsorted(self._scores, scores, "left")
        return (self._size - higher) / max(self._size, 1)

    def of_rows(self, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(scores, shares) of rows (int64), float64: NaN and 0 for rows that don't match."""
        found = np.full(len(docids), np.nan)
        order = np.argsort(docids)
        ordered = docids[order]
        ((matched, scores),) = score_rows(self._view, self._arm, self._queries, ordered.astype(np.uint32))
        found[order[np.searchsorted(ordered, matched)]] = scores
        shares = np.zeros(len(docids))
        known = ~np.isnan(found)
        shares[known] = self.shares(found[known].astype(np.float32))
        return found, shares


def calibrated(view: View, search: Search, ranking: tuple) -> tuple:
    """A ranking with calibrated scores. Of several arms its rows are ordered by the weighted mean of their shares; equal ones stay in the
    order of the fusion.
    """
    docids, scores, arms_of = ranking
    cache = view.snapshot.prepared.setdefault(FilterCache, FilterCache())
    if not docids:
        return ranking
    if len(search.arms) == 1:
        (arm,) = search.arms
        shares = Scale(view, arm, cache).shares((sign(arm) * np.array(scores)).astype(np.float32))
        return docids, shares.tolist(), arms_of
    rows = np.array(docids, np.int64)
    weights = arm_weights(search)
    has = np.array([has_vectors(view, arm, rows) for arm in search.arms])
    by_row = rescaled(weights, has) if search.fusion.missing == "renormalise" else np.repeat(weights[:, None], len(rows), axis=1)
    found = [Scale(view, arm, cache).of_rows(rows) for arm in search.arms]
    parts = by_row * np.array([shares for _, shares in found]) / (weights.sum() or 1.0)
    means = parts.sum(axis=0)
    order = np.argsort(-means, kind="stable")
    if search.page is None or search.page.before is None:
        order = order[: AUTO_LIMIT if search.request.limit == AUTO else search.request.limit + search.request.offset]
    explained = [_explained(search, i, arms_of[i], found, by_row, parts, has) for i in order.tolist()]
    return rows[order].tolist(), means[order].tolist(), explained


def _explained(
    search: Search, i: int, before: dict[str, ArmScore], found: list[Any], weights: np.ndarray, parts: np.ndarray, has: np.ndarray
) -> dict[str, ArmScore]:
    """The scores by arm of a row. before: as the fusion has them, which knows the ranks."""
    explained = {}
    for a, arm in enumerate(search.arms):
        score, share = float(found[a][0][i]), float(found[a][1][i])
        matched = score == score
        explained[arm.name] = ArmScore(
            before[arm.name].rank,
            sign(arm) * score if matched else None,
            share if matched else None,
            float(weights[a, i]),
            float(parts[a, i]),
            not has[a, i],
        )
    return explained
