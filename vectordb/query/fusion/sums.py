"""Fusion over all points: the arms of a search as sources of the threshold algorithm of ``linear``."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.results import ArmScore

from ...engine.snapshot import View
from ...filters.cache import FilterCache
from ...index.exact import Found
from .. import segments
from ..arms import queries_of, score_rows, search_arm, sign
from ..boosts import Bound
from ..request import Arm, Search
from ..row_filter import RowFilter
from ..trace import Clock
from .linear import Listed, Ranking, Source, top
from .missing import Group, arm_weights, groups, has_vectors, rescaled
from .ranks import Ranked, Rows


def sum_arms(
    view: View, search: Search, rows: RowFilter, filters: FilterCache, clock: Clock, arrays: bool = False
) -> Iterator[tuple[Any, list[dict], dict]]:
    """Rank the points of highest Σ weight · score. Yields, for each query, its ranking, the plans of its arms if the search is explained,
    and what was done: proven, depth, scored.

    With missing="renormalise", points that lack the same fields form a group with its own weights. Each group is searched by itself, so its
    result can be proven like any other.

    arrays: rankings are ``Rows`` and not ``Ranked``.
    """
    weights = arm_weights(search)
    single = [Group((True,) * len(search.arms), rows)]
    parts = groups(view, rows, search.arms, filters) if search.fusion.missing == "renormalise" else single
    scaled = [rescaled(weights, np.array([part.has]).T)[:, 0] if len(parts) > 1 or not all(part.has) else weights for part in parts]
    attributes = [(arm, _weight(search, name)) for name, arm in search.attribute_arms.items()]
    for q in range(search.queries):
        one, plans, rankings, done = search.of_query(q) if search.queries > 1 else search, [], [], {"proven": True, "depth": 0, "scored": 0}
        for part, own_weights in zip(parts, scaled, strict=True):
            own_plans: dict[str, dict] = {}
            present = [a for a, has in enumerate(part.has) if has]
            sources = [_source(view, one, one.arms[a], float(own_weights[a]), part.rows, filters, clock, own_plans) for a in present]
            sources += [_attribute_source(view, *each, part.rows) for each in attributes]
            present += range(len(part.has), len(part.has) + len(attributes))
            ranking = top(sources, search.limit, search.candidates, search.proven or part.rows.given is not None)
            clock.lap("fusion")
            ranking = ranking.among(present, len(part.has) + len(attributes))
            explain = functools.partial(_explained, view, search, own_weights.tolist(), ranked=len(parts) == 1)
            rankings.append(_lazily(ranking, explain) if arrays else explain(ranking))
            done = {
                "proven": done["proven"] and ranking.proven,
                "depth": max(done["depth"], ranking.depth),
                "scored": done["scored"] + ranking.scored,
            }
            plans += own_plans.values()
        yield (_merged_rows if arrays else _merged)(rankings, search.limit), plans, done


def _source(
    view: View, search: Search, arm: Arm, weight: float, rows: RowFilter, filters: FilterCache, clock: Clock, plans: dict[str, dict]
) -> Source:
    """An arm of one query as linear fusion reads it. plans: receives the plan of the arm's last list if the search is explained."""

    own = rows if arm.filter is None else rows.narrowed(arm.filter)
    certain = search._replace(exact=True, recall=1.0) if search.proven else search
    queries = queries_of(view, arm, filters)

    def listed(k: int, best: Found, plan: dict | None, slack: np.ndarray | None, floor: float) -> Listed:
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans[arm.name] = plan | {"candidates": len(best[0])}
        unseen = floor if len(best[0]) < k else max(floor, float(best[1][-1]))
        return Listed(best, slack, None if unseen == -np.inf else unseen)

    def best(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        lists, plan = search_arm(view, certain, arm, k, rows, filters)
        return listed(k, lists[0], plan, None, -np.inf)

    def best_bounds(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        hits, slack = search_bounds(k, floor)
        plan = segments.exact_plan(arm, own.matches) | {"plan": bounds.plan} if search.explain else None
        return listed(k, hits, plan, slack, floor)

    def scores(docids: np.ndarray) -> Found:
        found = docids.astype(np.uint32)
        return score_rows(view, arm, queries, found if arm.filter is None else own.those_of(found))[0]

    def guess(k: int) -> Found:
        lists, plan = search_arm(view, search, arm, k, rows, filters)
        return listed(k, lists[0], plan, None, -np.inf).hits

    needed = arm.pooled or sign(arm) < 0  # a point without a vector would score 0, which may be more than others
    bounded = None if arm.pooled else segments.bounded(view, search, arm, own, queries)
    if bounded is None:
        return Source(weight, needed, best, scores)
    bounds, search_bounds = bounded
    return Source(weight, needed, best_bounds, scores, guess, bounds.upper_bound)


def _weight(search: Search, name: str) -> float:
    """The weight of an attribute arm."""
    return float(search.fusion.weights.get(name, 1.0))


def _attribute_source(view: View, arm: Bound, weight: float, rows: RowFilter) -> Source:
    """An attribute arm as linear fusion reads it."""
    now = time.time() * 1e6
    known: list[Found] = []

    def scores(docids: np.ndarray) -> Found:
        scored = arm.scores(view, docids, now)
        has = ~np.isnan(scored)
        return docids[has], scored[has].astype(np.float32)

    def best(k: int, floor: float) -> Listed:
        if not known:
            given = rows.given if rows.given is not None else rows.rows()
            docids, scored = scores(np.arange(view.rows) if given is None else given.astype(np.int64))
            order = np.lexsort((docids, -scored))
            known.append((docids[order], scored[order]))
        docids, scored = known[0]
        return Listed((docids[:k], scored[:k]), None, float(scored[k - 1]) if k < len(docids) else None)

    return Source(weight, False, best, scores)


def _explained(view: View, search: Search, weights: Sequence[float], ranking: Ranking, ranked: bool) -> Ranked:
    """The ranking with each hit's scores by arm. ranked: False if ranks in the lists are not ranks among all rows."""
    explained: list[dict[str, ArmScore]] = [{} for _ in ranking.docids]
    for name, scores in zip(search.attribute_arms, ranking.scores[len(search.arms) :], strict=True):
        weight = _weight(search, name)
        for arms_of_hit, score in zip(explained, scores.tolist(), strict=True):
            lack = score != score
            arms_of_hit[name] = (
                ArmScore(None, None, None, weight, 0.0, True) if lack else ArmScore(None, score, score, weight, weight * score)
            )
    for arm, weight, scores, ranks in zip(search.arms, weights, ranking.scores, ranking.ranks.tolist(), strict=False):
        unmatched, shown = np.isnan(scores), sign(arm)
        lacks = unmatched.copy()
        if unmatched.any():
            lacks[unmatched] = ~has_vectors(view, arm, ranking.docids[unmatched])
        for arms_of_hit, score, rank, lack in zip(explained, scores.tolist(), ranks, lacks.tolist(), strict=True):
            if score != score:  # no match
                arms_of_hit[arm.name] = ArmScore(None, None, None, weight, 0.0, lack)
            else:
                arms_of_hit[arm.name] = ArmScore(rank if ranked and rank else None, shown * score, score, weight, weight * score)
    return ranking.docids.tolist(), ranking.sums.tolist(), explained


def _merged(rankings: Sequence[Ranked], limit: int) -> Ranked:
    """The best ``limit`` rows of rankings that have no row in common. Ties go to the lower docid."""
    if len(rankings) == 1:
        return rankings[0]
    rows = [row for ranking in rankings for row in zip(*ranking, strict=True)]
    rows = sorted(rows, key=lambda row: (-row[1], row[0]))[:limit]
    return [docid for docid, _, _ in rows], [score for _, score, _ in rows], [arms for _, _, arms in rows]


def _lazily(ranking: Ranking, explain: Callable[[Ranking], Ranked]) -> Rows:
    """A ranking whose scores by arm are put together for the rows that are asked for."""

    def parts(i: int) -> dict[str, ArmScore]:
        return explain(ranking.at(i))[2][0]

    return Rows(ranking.docids, ranking.sums, parts)


def _merged_rows(rankings: Sequence[Rows], limit: int) -> Rows:
    """``_merged`` of arrays."""
    if len(rankings) == 1:
        return rankings[0]
    docids, sums = (np.concatenate(columns) for columns in ([each.docids for each in rankings], [each.scores for each in rankings]))
    order, starts = np.lexsort((docids, -sums))[:limit], np.cumsum([0, *(len(each.docids) for each in rankings)])

    def parts(i: int) -> dict[str, ArmScore]:
        group = int(np.searchsorted(starts, order[i], "right")) - 1
        return rankings[group].parts(int(order[i] - starts[group]))

    return Rows(docids[order], sums[order], parts)
