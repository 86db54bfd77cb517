"""The lists that a fusion merges: search each arm as deep, and at the recall, that the recall of the fused list needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from ...common import deadline
from ...engine.audits import Paced, budget
from ...engine.snapshot import View
from ...filters.bitmap import FilterCache
from ...index.exact import Found
from ..arms import search_arm
from ..request import Search
from ..row_filter import RowFilter
from ..trace import Clock
from .depths import HIGHEST, Choice, FusedRecall, FusedRecalls, Point
from .missing import arm_weights
from .ranks import merge

# Filters whose selectivities differ by less than this factor are searches of one kind. Chosen, not measured.
MATCHES_OF_A_KIND = 4.0
MOST_KEPT = 32  # kinds of searches of a snapshot that are found without being described. Chosen, not measured.


def search_lists(
    view: View, search: Search, rows: RowFilter, filters: FilterCache, clock: Clock
) -> tuple[list[list[Found]], list[dict], dict[str, Any]]:
    """The list of each arm for each query, ``lists[arm][query]``; the plans of the arms if the search is explained; and how deep they were
    read and why: entries of the fusion's plan.
    """
    recalls, choice, points = planned(view, search, rows)
    if recalls is None or choice is None:
        lists, plans = _at(view, search, points, rows, filters, clock)
        return lists, plans, {}
    if not search.explain and view.directory.audits.share and recalls.due() and budget.rested:
        _measure_later(view, search, recalls, rows, filters)
    lists, plans = _at(view, search, choice.points, rows, filters, clock)
    return lists, plans, _described(search, choice) if search.explain else {}


def planned(view: View, search: Search, rows: RowFilter) -> tuple[FusedRecall | None, Choice | None, Sequence[Point]]:
    """(what was measured of such searches, the choice that follows from it, the points at which the arms are searched). The first two are
    None if the lists are exact whatever the recall, or their depth was given.
    """
    recalls = _measured(view, search, rows)
    if recalls is None:
        return None, None, [Point(search.candidates if arm.limit is None else arm.limit, search.recall) for arm in search.arms]
    choice = recalls.choose(search.recall)
    return recalls, choice, choice.points


def _measured(view: View, search: Search, rows: RowFilter) -> FusedRecall | None:
    """What was measured of such searches; None if the lists are exact whatever the recall, or their depth was given."""
    if (
        search.fixed
        or search.exact
        or search.recall > HIGHEST
        or rows.given is not None
        or search.limit > search.candidates
        or not all(arm.measured for arm in search.arms)
    ):
        return None
    kept = view.snapshot.prepared.setdefault(FusedRecalls, {})
    key = (id(search.fusion), id(rows.node), search.limit, search.candidates, *[arm.key for arm in search.arms])
    known = kept.get(key)
    if known is None or known[0] is not search.fusion or known[1] is not rows.node:
        if len(kept) >= MOST_KEPT:
            kept.clear()
        known = kept[key] = (search.fusion, rows.node, _of_kind(view, search, rows))
    return known[2]


def _of_kind(view: View, search: Search, rows: RowFilter) -> FusedRecall | None:
    indexed = tuple([bool(arm.spec.index_options) and bool(view.snapshot.cover(view.fields[arm.field])[0]) for arm in search.arms])
    if not any(indexed) or rows.matches <= search.candidates:
        return None
    names = tuple([arm.key for arm in search.arms])
    kind = round(math.log(rows.matches / view.snapshot.live, MATCHES_OF_A_KIND))
    key = (view.store.collection, names, indexed, repr(search.fusion), search.limit, search.candidates, kind)
    known = view.directory.learned.setdefault(FusedRecalls, FusedRecalls())
    return known.of(key, indexed, search.limit, search.candidates)


def _at(
    view: View, search: Search, points: Sequence[Point], rows: RowFilter, filters: FilterCache, clock: Clock
) -> tuple[list[list[Found]], list[dict]]:
    """The lists of the arms at given points, and their plans."""
    lists, plans = [], []
    for arm, point in zip(search.arms, points, strict=True):
        asked = search if point.recall == search.recall else search.with_recall(point.recall)
        results, plan = search_arm(view, asked, arm, point.depth, rows, filters)
        clock.lap(f"arm {arm.name}")
        lists.append(results)
        if plan is not None:
            plans.append(plan | {"candidates": max((len(docids) for docids, _ in results), default=0)})
    return lists, plans


def _measure_later(view: View, search: Search, recalls: FusedRecall, rows: RowFilter, filters: FilterCache) -> None:
    """Measure the recalls of the first query's search where audits run: in the background, in pieces with pauses."""
    sequence, env, search, again = view.sequence, view.directory.env, search.of_query(0), view.again
    assert again is not None  # of every view that ``Snapshots.pin`` made
    # The caller may change its arrays after the call.
    search = search._replace(arms=tuple([arm.with_queries(deepcopy(arm.queries)) for arm in search.arms]))

    def work() -> None:
        with deadline.scope(Paced(env.deadline, lambda: env.awaited)), again() as now:
            if now.sequence == sequence:
                _measure(now, search, recalls, rows.of(now), filters)

    budget.start(work, recalls.hurry)


def _measure(view: View, search: Search, recalls: FusedRecall, rows: RowFilter, filters: FilterCache) -> None:
    """Measure the recalls of the search of one query."""
    weights = arm_weights(search)

    def one(a: int, point: Point) -> Found:
        return search_arm(view, search.with_recall(point.recall), search.arms[a], point.depth, rows, filters)[0][0]

    def fused(lists: Sequence[Found]) -> np.ndarray:
        return merge(view, search, lists, weights, search.limit).docids

    recalls.measure(one, fused)


def _described(search: Search, choice: Choice) -> dict[str, Any]:
    """The entries of the fusion's plan that say how deep its arms were read: depth and recall of each arm's list; of the fused list the
    recall that was asked for and the predicted one (None: nothing is known), and the number of searches that the prediction is from.
    """
    return {
        "recall": {"target": search.recall, "predicted": choice.predicted, "searches": choice.searches},
        "lists": {arm.name: point._asdict() for arm, point in zip(search.arms, choice.points, strict=True)},
    }
