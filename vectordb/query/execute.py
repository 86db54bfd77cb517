"""Run a search on a pinned snapshot: filter → rows → each stage: its arms → fusion → the final rows' records."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import numpy as np

from ..filters.bitmap import FilterCache
from ..index import ann, flat
from ..snapshot import View
from ..types import Dense, Hit, Hits, Id, Linear
from .arms import Wanted, exact_plan, prepared, queries_of, score_rows, search_arm, sign
from .fusion import HasVectors, Ranked, ShownScore, explained_sums, fuse, merged
from .linear import Listed, Source, top
from .missing import Group, groups, has_vectors, lacking, rescaled
from .notes import Clock, all_exact, current
from .read import attribute_reader, vectors_of
from .request import Arm, Search

CEILING_ROUNDING = 1e-4  # float32 sums stay far below


def run(view: View, search: Search, cache: FilterCache) -> list[Hits]:
    """The hits of each query of the search. min(limit, matches) of them, always."""
    wanted = Wanted(view, search.filter, cache)
    notes = current()
    clock = None if notes is None else notes.began(search, view.snapshot.live, view.sequence)
    if not search.explain and len(search.arms) == 1 and search.prefetch is None:
        return _of_one_arm(view, search, wanted, cache, clock)
    clock = clock or Clock()
    if search.explain:
        _ = wanted.matches
        clock.lap("filter")
    ranked, plan = _stage(view, search, wanted, cache, clock)
    answers = [_fetch(view, search, result) for result in ranked]
    clock.lap("fetch")
    if search.explain:
        plan = _plan(view, search, wanted, plan, clock)
        answers = [Hits(list(hits), plan) for hits in answers]
    return answers


def _of_one_arm(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: Clock | None) -> list[Hits]:
    """The short way of most searches."""
    (arm,) = search.arms
    found, _ = search_arm(view, search, arm, search.limit, wanted, cache)
    if clock is not None:
        clock.lap(f"arm {arm.name}")
    answers = [_bare(view, search, each) for each in found] if search.attributes is False and not search.vectors else [None]
    if None in answers:
        answers = [_fetch(view, search, _alone(arm, each)) for each in found]
    if clock is not None:
        clock.lap("fetch")
    return answers


def _stage(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: Clock) -> tuple[list[Ranked], dict | None]:
    """What a stage ranks for each query, its candidates found first; and, where the search is explained, how."""
    if search.prefetch is None:
        return _fused_arms(view, search, wanted, cache, clock)
    inner = Clock()
    candidates, before = _stage(view, search.prefetch, wanted, cache, inner)
    clock.lap("prefetch")
    notes = current()
    if notes is not None:
        notes.gave(search.prefetch, len(candidates[0][0]))
    ranked, plan = [], None
    for q, (docids, _, _) in enumerate(candidates):
        (result,), how = _fused_arms(view, search.of_query(q), wanted.among(docids), cache, clock)
        ranked.append(result)
        plan = how if plan is None else plan
    if plan is not None:
        before |= {"limit": search.prefetch.limit, "hits": len(candidates[0][0]), "milliseconds": inner.milliseconds}
        plan |= {"prefetch": before}
    return ranked, plan


def _fused_arms(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: Clock) -> tuple[list[Ranked], dict | None]:
    """The arms of a stage, searched and fused, for each query."""
    if len(search.arms) > 1 and isinstance(search.fusion, Linear):
        return _summed_arms(view, search, wanted, cache, clock)
    fused = len(search.arms) > 1
    found, plans = {}, []
    for arm in search.arms:
        found[arm.name], plan = search_arm(view, search, arm, search.candidates if fused else search.limit, wanted, cache)
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans.append(plan | {"candidates": max((len(docids) for docids, _ in found[arm.name]), default=0)})
    if fused:
        shown = _shown(search)
        lists = [{name: results[q] for name, results in found.items()} for q in range(search.queries)]
        has = _has_vectors(view, search)
        ranked = [fuse(each, search.fusion, search.limit, shown, has) for each in lists]
    else:
        ranked = [_alone(search.arms[0], each) for each in found[search.arms[0].name]]
    clock.lap("fusion")
    if not search.explain:
        return ranked, None
    return ranked, _stage_plan(plans, _fusion_plan(view, search, wanted, cache) if fused else None)


def _summed_arms(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: Clock) -> tuple[list[Ranked], dict | None]:
    """The arms of a stage in linear fusion, for each query. Arms are listed as deep as it takes, and rows looked up in them.

    Where weights are rescaled, the points that lack the same fields are a search of their own: of one factor, it is proven like any other.
    """
    names, weights = [arm.name for arm in search.arms], _weights(search)
    shown, has = _shown(search), _has_vectors(view, search)
    whole = [Group((True,) * len(names), wanted)]
    parts = groups(view, wanted, search.arms, cache) if search.fusion.missing == "renormalise" else whole
    scaled = [rescaled(weights, np.array([part.has]).T)[:, 0] if len(parts) > 1 or not all(part.has) else weights for part in parts]
    ranked, plan = [], None
    for q in range(search.queries):
        one, plans, found, facts = search.of_query(q), [], [], {"proven": True, "depth": 0, "scored": 0}
        for part, counts in zip(parts, scaled, strict=True):
            told: dict[str, dict] = {}
            at = [a for a, there in enumerate(part.has) if there]
            sources = [_source(view, one, one.arms[a], float(counts[a]), part.wanted, cache, clock, told) for a in at]
            ranking = top(sources, search.limit, search.candidates, search.proven or part.wanted.given is not None)
            clock.lap("fusion")
            found.append(explained_sums(names, counts.tolist(), ranking.among(at, len(names)), shown, has, len(parts) == 1))
            facts = {
                "proven": facts["proven"] and ranking.proven,
                "depth": max(facts["depth"], ranking.depth),
                "scored": facts["scored"] + ranking.scored,
            }
            plans += told.values()
        ranked.append(merged(found, search.limit) if found else ([], [], []))
        if search.explain and plan is None:
            plan = _stage_plan(plans, _fusion_plan(view, search, wanted, cache) | facts)
            plan["exact"] |= facts["proven"]  # whatever an arm was sure of
    return ranked, plan


def _source(
    view: View, search: Search, arm: Arm, weight: float, wanted: Wanted, cache: FilterCache, clock: Clock, plans: dict[str, dict]
) -> Source:
    """An arm of one query as linear fusion reads it. plans: how it was listed last, where the search is explained."""

    certain = replace(search, exact=True, recall=1.0) if search.proven else search
    queries = queries_of(view, arm, cache)

    def listed(k: int, found: flat.Found, plan: dict | None, below: np.ndarray | None, floor: float) -> Listed:
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans[arm.name] = plan | {"candidates": len(found[0])}
        rest = floor if len(found[0]) < k else max(floor, float(found[1][-1]))
        return Listed(found, below, None if rest == -np.inf else rest)

    def best(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        lists, plan = search_arm(view, certain, arm, k, wanted, cache)
        return listed(k, lists[0], plan, None, -np.inf)

    def best_bounds(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        where = prepared(view, arm, wanted, *cover)
        found, below = ann.search_bounded(where.parts, where.rest, where.table.rows, queries[0], arm.spec.dtype, arm.spec.metric, k, floor)
        plan = exact_plan(search, arm, wanted)
        return listed(k, found, plan and plan | {"plan": "scan of byte codes, within bounds"}, below, floor)

    def scores(docids: np.ndarray) -> flat.Found:
        return score_rows(view, arm, queries, docids.astype(np.uint32))[0]

    def guess(k: int) -> flat.Found:
        lists, plan = search_arm(view, search, arm, k, wanted, cache)
        return listed(k, lists[0], plan, None, -np.inf).found

    unbounded = search.exact or not search.proven or wanted.given is not None or not isinstance(arm.spec, Dense)
    cover = ((), []) if unbounded else view.snapshot.cover(view.fields[arm.name])
    # Files that haven't been read through yet prove nothing, and those built before they said how far codes are off have no bounds.
    bounded = bool(cover[0]) and all(part.segment.verified and part.segment.lacking is not None for part in cover[0])
    if not bounded:
        return Source(weight, sign(arm) < 0, best, scores)
    return Source(weight, sign(arm) < 0, best_bounds, scores, guess, _ceiling(arm.spec, queries[0], cover))


def _ceiling(spec: Dense, query: np.ndarray, cover: tuple) -> float:
    """What the score of no row exceeds, rounding included."""
    opened, tail = cover
    if spec.metric == "cosine":
        return 1.0 + CEILING_ROUNDING
    if spec.metric == "dot" and not tail:
        return max(part.segment.ceiling(query) for part in opened) * (1.0 + CEILING_ROUNDING)
    return np.inf


def _weights(search: Search) -> np.ndarray:
    return np.array([float(search.fusion.weights.get(arm.name, 1.0)) for arm in search.arms])


def _has_vectors(view: View, search: Search) -> HasVectors:
    """Which of given rows have a vector in an arm's field."""
    arms = {arm.name: arm for arm in search.arms}
    return lambda name, docids: has_vectors(view, arms[name], docids)


def _fusion_plan(view: View, search: Search, wanted: Wanted, cache: FilterCache) -> dict:
    """What explain tells of a fusion. lacking: how many of the rows that may be found have no vector in an arm's field, if any."""
    without = lacking(view, wanted, search.arms, cache)
    return {
        "method": search.fusion.name,
        "candidates": search.candidates,
        "missing": search.fusion.missing,
        "lacking": {name: len(rows) for name, rows in without.items()},
    }


def _shown(search: Search) -> ShownScore:
    """From an arm's name and a score to what a user sees."""
    signs = {arm.name: sign(arm) for arm in search.arms}
    return lambda name, score: signs[name] * score


def _alone(arm: Arm, found: flat.Found) -> Ranked:
    """The ranking of a single arm."""
    docids, scores = found
    return docids.tolist(), (scores * sign(arm)).tolist(), [{} for _ in docids]


def _bare(view: View, search: Search, found: flat.Found) -> Hits | None:
    """The answer of a single arm of which only ids and scores are wanted; None where ids are not all integers."""
    docids, scores = found
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    return Hits.bare(ids, -scores if sign(search.arms[0]) < 0 else scores)


def _plain_ids(view: View, docids: list[int]) -> list[Id]:
    ids = view.ids(np.array(docids, np.int64))
    return ids.tolist() if isinstance(ids, np.ndarray) else ids


_hit = tuple.__new__  # a named tuple's own constructor costs twice as much


def _fetch(view: View, search: Search, ranked: Ranked) -> Hits:
    """Records of the final rows only."""
    docids, scores, arms = ranked
    read = attribute_reader(view.schema, search.attributes)
    found = vectors_of(view, docids, search.vectors) if search.vectors else {}
    vectors = [found.get(docid, {}) for docid in docids] if found else [{} for _ in docids]
    if read is None:
        return Hits([_hit(Hit, hit) for hit in zip(_plain_ids(view, docids), scores, [{} for _ in docids], repeat(None), arms, vectors)])
    records = view.records(docids)
    return Hits(
        [
            _hit(Hit, (row.id, score, read(row.attributes), row.payload, arm, vector))
            for row, score, arm, vector in zip(records, scores, arms, vectors, strict=True)
        ]
    )


def _stage_plan(arms: list[dict], fusion: dict | None) -> dict:
    """How a stage was run. exact: its arms are sure of what they found."""
    return {"exact": all(arm["exact"] for arm in arms), "arms": arms, "fusion": fusion, "prefetch": None}


def _plan(view: View, search: Search, wanted: Wanted, stage: dict, clock: Clock) -> dict:
    """How the search was run, as plain data."""
    live = view.snapshot.live
    return {
        "sequence": view.sequence,
        "queries": search.queries,
        "live_rows": live,
        "filter": None if wanted.bitmap is None else {"matches": wanted.matches, "selectivity": wanted.matches / max(live, 1)},
        **stage,
        "exact": all_exact(stage),
        "milliseconds": clock.milliseconds,
    }
