"""Points that lack a field which a search has an arm for: which they are, and what the other arms then count for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.filter import And, Filter, HasVector, Not

from ..filters.bitmap import FilterCache, matching
from ..filters.nodes import make
from ..kernels.dense import hold
from ..snapshot import View
from .arms import Wanted
from .request import Arm

LISTED = 2_000  # groups of no more rows are scored row by row: less work than to look for their best


def has_vectors(view: View, arm: Arm, docids: np.ndarray) -> np.ndarray:
    """bool ``(n,)``: which of these rows (int64 docids) have a vector in the arm's field."""
    found = np.empty(len(docids), np.bool_)
    hold(view.table(view.fields[arm.name]), docids, found)
    return found


def rescaled(weights: np.ndarray, has: np.ndarray) -> np.ndarray:
    """What each arm counts for each point, float64 ``(arms, n)``: its weight, times the sum of all weights, over the sum of those of arms
    that the point has; 0 in arms that it lacks. A point whose arms all have weight 0 keeps it.

    weights: float64 ``(arms,)``; has: bool ``(arms, n)``.
    """
    weights = weights[:, None]
    own, every = np.zeros(has.shape[1]), np.zeros(has.shape[1])
    for weight, there in zip(weights, has, strict=True):
        own += np.where(there, weight, 0.0)
        every += weight
    # Divided first: a quotient of weights, however small both are, is no more than 1. Equal sums leave each weight the very number it is.
    scaled = np.where(own == every, weights, weights / np.where(own > 0, own, 1.0) * every)
    return np.where(has, scaled, 0.0)


def lacking(view: View, wanted: Wanted, arms: Sequence[Arm], cache: FilterCache) -> dict[str, BitMap]:
    """arm → the rows that a search may return (at least one) and that have no vector there."""
    found, rows = {}, None
    for arm in arms:
        has = matching(HasVector(arm.name), view, cache)
        if wanted.given is None and wanted.bitmap is None and len(has) == view.snapshot.live:
            continue
        if rows is None:
            rows = _rows(wanted)
        without = rows - has
        if without:
            found[arm.name] = without
    return found


def _rows(wanted: Wanted) -> BitMap:
    if wanted.given is not None:
        return BitMap(wanted.given)
    return wanted.bitmap if wanted.bitmap is not None else wanted.view.dead.flip(0, wanted.view.rows)


class Group(NamedTuple):
    """Rows that have and lack the same fields. has: a flag for each arm; wanted: the rows."""

    has: tuple[bool, ...]
    wanted: Wanted


def groups(view: View, wanted: Wanted, arms: Sequence[Arm], cache: FilterCache) -> list[Group]:
    """The rows that a search may return by what they lack. Those without a vector for any arm are left out."""
    without = lacking(view, wanted, arms, cache)
    if not without:
        return [Group((True,) * len(arms), wanted)]
    parts = [((), _rows(wanted))]
    for arm in arms:
        gone = without.get(arm.name, BitMap())
        parts = [((*has, there), rows) for has, whole in parts for there, rows in ((True, whole - gone), (False, whole & gone)) if rows]
    found = []
    for has, rows in parts:
        if wanted.given is not None or len(rows) <= LISTED:
            found.append(Group(has, wanted.among(np.asarray(rows.to_array(), np.uint32))))
        elif any(has):
            told = tuple([(arm.name, there) for arm, there in zip(arms, has, strict=True) if arm.name in without])
            found.append(Group(has, Wanted(view, _restricted(wanted.node, told), cache)))
    return [group for group in found if any(group.has)]


@lru_cache(maxsize=256)
def _restricted(node: Filter | None, told: tuple[tuple[str, bool], ...]) -> Filter:
    """A canonical filter, and what its rows have and lack: the same object for the same question, which what is prepared is known by."""
    fields = [HasVector(name) if there else make(Not, child=HasVector(name)) for name, there in told]
    whole = () if node is None else node.children if type(node) is And else (node,)
    children = (*whole, *fields)
    return children[0] if len(children) == 1 else make(And, children=children)
