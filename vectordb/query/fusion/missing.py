"""Points that have no vector in the field of some arm: find them, and rescale the weights of their other arms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.filter_nodes import And, Filter, HasVector, Not

from ...engine.snapshot import View
from ...filters.bitmap import matching
from ...filters.cache import FilterCache
from ...filters.nodes import make
from ...kernels.dense import hold
from ..request import Arm, Search
from ..row_filter import RowFilter

LISTED = 2_000  # rows; smaller groups are scored row by row, which costs less than a search


def arm_weights(search: Search) -> np.ndarray:
    """The weight of each arm in the fusion, float64 ``(arms,)``."""
    return np.array([_weight(search, arm) for arm in search.arms])


def _weight(search: Search, arm: Arm) -> float:
    return float(search.fusion.weights.get(arm.name, 1.0) if arm.weight is None else arm.weight)


def everywhere(view: View, arm: Arm) -> bool:
    """Whether every row has a vector in the arm's field. False may also mean that nobody knows: rows were compacted."""
    key = ("everywhere", arm.field)
    known = view.snapshot.prepared.get(key)
    if known is None:
        known = view.snapshot.prepared[key] = view.chunks(view.fields[arm.field]).present == view.rows
    return known


def has_vectors(view: View, arm: Arm, docids: np.ndarray) -> np.ndarray:
    """bool ``(n,)``: which of these rows (int64 docids) have a vector in the arm's field."""
    if everywhere(view, arm):
        return np.ones(len(docids), np.bool_)
    present = np.empty(len(docids), np.bool_)
    hold(view.table(view.fields[arm.field]), docids, present)
    return present


def rescaled(weights: np.ndarray, has: np.ndarray) -> np.ndarray:
    """The weights of the arms for each point, float64 ``(arms, n)``: weight · (sum of all weights) ÷ (sum of the weights of the arms that
    the point has), and 0 for arms that it lacks. If all arms of a point have weight 0, they keep it.

    weights: float64 ``(arms,)``. has: bool ``(arms, n)``, whether a point has a vector for an arm.
    """
    weights = weights[:, None]
    own, every = np.zeros(has.shape[1]), np.zeros(has.shape[1])
    for weight, present in zip(weights, has, strict=True):
        own += np.where(present, weight, 0.0)
        every += weight
    # Divide first: the quotient is at most 1, so nothing overflows. If the sums are equal, the weights stay bit for bit the same.
    scaled = np.where(own == every, weights, weights / np.where(own > 0, own, 1.0) * every)
    return np.where(has, scaled, 0.0)


def lacking(view: View, rows: RowFilter, arms: Sequence[Arm], filters: FilterCache) -> dict[str, BitMap]:
    """Arm → the docids that a search may return and that have no vector there; only arms for which there are such rows."""
    without, docids = {}, None
    for arm in arms:
        has = matching(HasVector(arm.field), view, filters)
        if rows.given is None and rows.bitmap is None and len(has) == view.snapshot.live:
            continue
        if docids is None:
            docids = _docids(rows)
        if absent := docids - has:
            without[arm.name] = absent
    return without


def _docids(rows: RowFilter) -> BitMap:
    if rows.given is not None:
        return BitMap(rows.given)
    return rows.bitmap if rows.bitmap is not None else rows.view.dead.flip(0, rows.view.rows)


class Group(NamedTuple):
    """The rows that have vectors for the same arms. has: a flag for each arm."""

    has: tuple[bool, ...]
    rows: RowFilter


def groups(view: View, rows: RowFilter, arms: Sequence[Arm], filters: FilterCache) -> list[Group]:
    """Group the rows that a search may return by the arms for which they have a vector. Rows without any are left out."""
    without = lacking(view, rows, arms, filters)
    if not without:
        return [Group((True,) * len(arms), rows)]
    parts: list[tuple[tuple[bool, ...], BitMap]] = [((), _docids(rows))]
    for arm in arms:
        absent = without.get(arm.name, BitMap())
        halves = [(has, (True, docids - absent), (False, docids & absent)) for has, docids in parts]
        parts = [((*has, flag), docids) for has, *both in halves for flag, docids in both if docids]
    made = []
    for has, docids in parts:
        if rows.given is not None or len(docids) <= LISTED:
            made.append(Group(has, rows.among(np.asarray(docids.to_array(), np.uint32))))
        elif any(has):
            conditions = tuple(dict.fromkeys([(arm.field, present) for arm, present in zip(arms, has, strict=True) if arm.name in without]))
            made.append(Group(has, RowFilter(view, _restricted(rows.node, conditions), filters)))
    return [group for group in made if any(group.has)]


@lru_cache(maxsize=256)
def _restricted(node: Filter | None, conditions: tuple[tuple[str, bool], ...]) -> Filter:
    """A canonical filter, restricted to rows that have (True) or lack (False) vectors in some fields. Cached, so that equal arguments give
    the same object: prepared arms are cached by the identity of the filter.
    """
    fields = [HasVector(name) if present else make(Not, child=HasVector(name)) for name, present in conditions]
    given = () if node is None else node.children if type(node) is And else (node,)
    children = (*given, *fields)
    return children[0] if len(children) == 1 else make(And, children=children)
