"""Run a search on a pinned snapshot: evaluate the filter, search the arms of each stage, fuse them, fetch the records of the final rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
from vectordb_client.model.ranking import Linear
from vectordb_client.model.results import Hit, Hits

from ..common import deadline
from ..engine.snapshot import View
from ..filters.bitmap import FilterCache
from ..index import exact as flat
from ..storage import format
from . import segments
from .arms import queries_of, score_rows, search_arm, sign
from .fusion import HasVectors, Ranked, ShownScore, explained_sums, fuse, merged
from .linear import Listed, Source, top
from .missing import Group, groups, has_vectors, lacking, rescaled
from .read import attribute_reader, pieces
from .request import Arm, Search
from .row_filter import RowFilter
from .trace import Clock, all_exact, current


class Answers:
    """The answers of a search: iterating yields, for each query, either ``Hits`` (if only ids and scores are wanted) or an iterator over
    lists of hits, which must be read while the view is pinned. Each query gets min(limit, matches) hits, always.
    """

    def __init__(self, view: View, search: Search, cache: FilterCache):
        self._view, self._search, self._cache = view, search, cache
        self._explained: dict = {}
        self._wanted = RowFilter(view, search.filter, cache)
        self._clock: Clock | None = None

    def __iter__(self) -> Iterator[Hits | Iterator[list[Hit]]]:
        view, search = self._view, self._search
        if not search.queries:
            return
        notes = current()
        clock = self._clock = None if notes is None else notes.start(search, view.snapshot.live, view.sequence)
        if not search.explain and len(search.arms) == 1 and search.prefetch is None:  # the fast path: most searches are of this form
            (arm,) = search.arms
            found, _ = search_arm(view, search, arm, search.limit, self._wanted, self._cache)
            if clock is not None:
                clock.lap(f"arm {arm.name}")
            bare = search.attributes is False and not search.vectors
            for each in found:
                hits = _bare(view, search, each) if bare else None
                yield _fetched(view, search, _alone(arm, each)) if hits is None else hits
                if clock is not None:
                    clock.lap("fetch")
            return
        clock = self._clock = clock or Clock()
        if search.explain:
            _ = self._wanted.matches
            clock.lap("filter")
        for ranked in _stage(view, search, self._wanted, self._cache, clock, self._explained):
            yield _fetched(view, search, ranked)
            clock.lap("fetch")

    @property
    def plan(self) -> dict | None:
        """How the search was run (``Hits.plan``), after it has run; None unless the search is explained."""
        return (
            _plan(self._view, self._search, self._wanted, self._explained, self._clock)
            if self._search.explain and self._explained
            else None
        )


def whole(answers: Answers) -> list[Hits]:
    """Read all answers: the hits of each query."""
    found = [each if isinstance(each, Hits) else Hits(list(chain.from_iterable(each))) for each in answers]
    plan = answers.plan
    return found if plan is None else [Hits(list(hits), plan) for hits in found]


def _stage(view: View, search: Search, wanted: RowFilter, cache: FilterCache, clock: Clock, explained: dict) -> Iterator[Ranked]:
    """Run a stage, after the prefetch stage before it if there is one. Yields the ranking of each query. explained: is filled with
    the stage's plan if the search is explained.
    """
    if search.prefetch is None:
        yield from _fused_arms(view, search, wanted, cache, clock, explained)
        return
    inner, before = Clock(), {}
    candidates = [np.array(docids, np.uint32) for docids, _, _ in _stage(view, search.prefetch, wanted, cache, inner, before)]
    clock.lap("prefetch")
    notes = current()
    if notes is not None:
        notes.record_prefetch(search.prefetch, len(candidates[0]))
    for q, docids in enumerate(candidates):
        plan: dict = {}
        yield from _fused_arms(view, search.of_query(q), wanted.among(docids), cache, clock, plan)
        if plan and not explained:
            before |= {"limit": search.prefetch.limit, "hits": len(docids), "milliseconds": inner.milliseconds}
            explained |= plan | {"prefetch": before}


def _fused_arms(view: View, search: Search, wanted: RowFilter, cache: FilterCache, clock: Clock, explained: dict) -> Iterator[Ranked]:
    """Search the arms of a stage and fuse them. Yields the ranking of each query. explained: as in ``_stage``."""
    if len(search.arms) > 1 and isinstance(search.fusion, Linear):
        yield from _summed_arms(view, search, wanted, cache, clock, explained)
        return
    fused = len(search.arms) > 1
    found, plans = {}, []
    for arm in search.arms:
        found[arm.name], plan = search_arm(view, search, arm, search.candidates if fused else search.limit, wanted, cache)
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans.append(plan | {"candidates": max((len(docids) for docids, _ in found[arm.name]), default=0)})
    if search.explain:
        explained |= _stage_plan(plans, _fusion_plan(view, search, wanted, cache) if fused else None)
    shown, has = _shown(search), _has_vectors(view, search)
    for q in range(search.queries):
        deadline.check()
        if fused:
            ranked = fuse({name: results[q] for name, results in found.items()}, search.fusion, search.limit, shown, has)
        else:
            ranked = _alone(search.arms[0], found[search.arms[0].name][q])
        clock.lap("fusion")
        yield ranked


def _summed_arms(view: View, search: Search, wanted: RowFilter, cache: FilterCache, clock: Clock, explained: dict) -> Iterator[Ranked]:
    """Search the arms of a stage by linear fusion (the threshold algorithm of ``linear``). Yields the ranking of each query.

    With missing="renormalise", points that lack the same fields form a group with its own weights. Each group is searched by itself, so its
    result can be proven like any other.
    """
    names, weights = [arm.name for arm in search.arms], _weights(search)
    shown, has = _shown(search), _has_vectors(view, search)
    single = [Group((True,) * len(names), wanted)]
    parts = groups(view, wanted, search.arms, cache) if search.fusion.missing == "renormalise" else single
    scaled = [rescaled(weights, np.array([part.has]).T)[:, 0] if len(parts) > 1 or not all(part.has) else weights for part in parts]
    for q in range(search.queries):
        one, plans, found, facts = search.of_query(q), [], [], {"proven": True, "depth": 0, "scored": 0}
        for part, counts in zip(parts, scaled, strict=True):
            listed: dict[str, dict] = {}
            at = [a for a, present in enumerate(part.has) if present]
            sources = [_source(view, one, one.arms[a], float(counts[a]), part.wanted, cache, clock, listed) for a in at]
            ranking = top(sources, search.limit, search.candidates, search.proven or part.wanted.given is not None)
            clock.lap("fusion")
            found.append(explained_sums(names, counts.tolist(), ranking.among(at, len(names)), shown, has, len(parts) == 1))
            facts = {
                "proven": facts["proven"] and ranking.proven,
                "depth": max(facts["depth"], ranking.depth),
                "scored": facts["scored"] + ranking.scored,
            }
            plans += listed.values()
        if search.explain and not explained:
            explained |= _stage_plan(plans, _fusion_plan(view, search, wanted, cache) | facts)
            explained["exact"] |= facts["proven"]  # a proven result is exact even if some arm's list is not
        yield merged(found, search.limit) if found else ([], [], [])


def _source(
    view: View, search: Search, arm: Arm, weight: float, wanted: RowFilter, cache: FilterCache, clock: Clock, plans: dict[str, dict]
) -> Source:
    """An arm of one query as linear fusion reads it. plans: receives the plan of the arm's last list if the search is explained."""

    certain = replace(search, exact=True, recall=1.0) if search.proven else search
    queries = queries_of(view, arm, cache)

    def listed(k: int, found: flat.Found, plan: dict | None, slack: np.ndarray | None, floor: float) -> Listed:
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans[arm.name] = plan | {"candidates": len(found[0])}
        unseen = floor if len(found[0]) < k else max(floor, float(found[1][-1]))
        return Listed(found, slack, None if unseen == -np.inf else unseen)

    def best(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        lists, plan = search_arm(view, certain, arm, k, wanted, cache)
        return listed(k, lists[0], plan, None, -np.inf)

    def best_bounds(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        found, slack = search_bounds(k, floor)
        plan = segments.exact_plan(arm, wanted.matches) | {"plan": bounds.plan} if search.explain else None
        return listed(k, found, plan, slack, floor)

    def scores(docids: np.ndarray) -> flat.Found:
        return score_rows(view, arm, queries, docids.astype(np.uint32))[0]

    def guess(k: int) -> flat.Found:
        lists, plan = search_arm(view, search, arm, k, wanted, cache)
        return listed(k, lists[0], plan, None, -np.inf).found

    bounded = segments.bounded(view, search, arm, wanted, queries)
    if bounded is None:
        return Source(weight, sign(arm) < 0, best, scores)
    bounds, search_bounds = bounded
    return Source(weight, sign(arm) < 0, best_bounds, scores, guess, bounds.upper_bound)


def _weights(search: Search) -> np.ndarray:
    return np.array([float(search.fusion.weights.get(arm.name, 1.0)) for arm in search.arms])


def _has_vectors(view: View, search: Search) -> HasVectors:
    """A function that tells which of some rows have a vector in an arm's field."""
    arms = {arm.name: arm for arm in search.arms}
    return lambda name, docids: has_vectors(view, arms[name], docids)


def _fusion_plan(view: View, search: Search, wanted: RowFilter, cache: FilterCache) -> dict:
    """The fusion's entry of the plan. lacking: field → the number of rows that may be returned and have no vector there, if there are
    any.
    """
    without = lacking(view, wanted, search.arms, cache)
    return {
        "method": search.fusion.name,
        "candidates": search.candidates,
        "missing": search.fusion.missing,
        "lacking": {name: len(rows) for name, rows in without.items()},
    }


def _shown(search: Search) -> ShownScore:
    """A function from an arm's name and an internal score to the score that users see."""
    signs = {arm.name: sign(arm) for arm in search.arms}
    return lambda name, score: signs[name] * score


def _alone(arm: Arm, found: flat.Found) -> Ranked:
    """The ranking of a single arm."""
    docids, scores = found
    return docids.tolist(), (scores * sign(arm)).tolist(), [{} for _ in docids]


def _bare(view: View, search: Search, found: flat.Found) -> Hits | None:
    """The answer of a single arm if only ids and scores are wanted; None if some id is not an integer."""
    docids, scores = found
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    return Hits.bare(ids, -scores if sign(search.arms[0]) < 0 else scores)


_hit = tuple.__new__  # half the cost of the named tuple's constructor


def _fetched(view: View, search: Search, ranked: Ranked) -> Iterator[list[Hit]]:
    """Fetch the records and vectors of the final rows. Yields lists of hits."""
    docids, scores, arms = ranked
    read = attribute_reader(view.schema, search.attributes)
    at = 0
    for some, stored, vectors in pieces(view, docids, read is not None, search.vectors):
        end = at + len(some)
        beside = scores[at:end], arms[at:end], vectors
        if read is None:
            ids = view.ids(np.array(some, np.int64))
            ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
            yield [_hit(Hit, (value, score, {}, None, arm, vector)) for value, score, arm, vector in zip(ids, *beside, strict=True)]
        else:
            yield [
                _hit(Hit, (row.id, score, read(row.attributes), row.payload, arm, vector))
                for row, score, arm, vector in zip(format.unpack_rows(stored), *beside, strict=True)
            ]
        at = end


def _stage_plan(arms: list[dict], fusion: dict | None) -> dict:
    """A stage's entry of the plan. exact: the results of all arms are exact."""
    return {"exact": all(arm["exact"] for arm in arms), "arms": arms, "fusion": fusion, "prefetch": None}


def _plan(view: View, search: Search, wanted: RowFilter, stage: dict, clock: Clock) -> dict:
    """How the search was run, as plain data (``vectordb_client.model.plan.Plan``)."""
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
