"""Run a search on a pinned snapshot: filter → rows → each stage: its arms → fusion → the final rows' records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat

import numpy as np
from pyroaring import BitMap
from vectordb_client.filter import Filter, HasVector

from ..filters.bitmap import FilterCache, matching
from ..index import ann, flat, sparse_ann
from ..index.segment import Allowed
from ..snapshot import OpenSegment, View
from ..storage import format
from ..storage.tables import ChunkTable
from ..types import Dense, Hit, Hits, Id, Linear, MultiVector, Sparse
from . import terms
from .audit import audits, learn
from .fusion import Ranked, ShownScore, explained_sums, fuse
from .linear import Listed, Source, top
from .read import attribute_reader, vectors_of
from .request import Arm, Search

MAX_PREPARED = 64


class _Clock:
    """Milliseconds of each stage, for explain."""

    def __init__(self):
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now

    @property
    def milliseconds(self) -> dict[str, float]:
        return {stage: round(value, 4) for stage, value in self.stages.items()}


class Wanted:
    """The rows that a search may return: those a filter matches, or all live ones; of these only the ``given`` ones (uint32, ascending)."""

    def __init__(self, view: View, node: Filter | None, cache: FilterCache | None, given: np.ndarray | None = None):
        self.view, self.node, self._cache, self.given = view, node, cache, given
        self._rows: np.ndarray | None = given

    def among(self, docids: list[int]) -> Wanted:
        """Nothing but these of them."""
        return Wanted(self.view, self.node, self._cache, np.sort(np.array(docids, np.uint32)))

    @cached_property
    def bitmap(self) -> BitMap | None:
        """The rows that the filter matches; None without a filter."""
        return None if self.node is None else matching(self.node, self.view, self._cache)

    @cached_property
    def matches(self) -> int:
        """How many they are."""
        if self.given is not None:
            return len(self.given)
        return self.view.snapshot.live if self.bitmap is None else len(self.bitmap)

    @property
    def everything(self) -> bool:
        """Whether no row is left out."""
        return self.matches == self.view.rows

    def rows(self) -> np.ndarray | None:
        """Their docids, uint32 ascending; None for all rows."""
        if self.everything:
            return None
        if self._rows is None:
            live = self.bitmap is None
            self._rows = self.view.snapshot.live_rows() if live else np.asarray(self.bitmap.to_array(), dtype=np.uint32)
        return self._rows

    def allowed(self, part: OpenSegment) -> Allowed:
        """The same for a segment, kept as long as nothing changes."""
        if self.everything:
            return part.segment.all_allowed
        key = ("allowed", self.node, part.file)
        # Of the rows of a segment nothing ever changes but that some die.
        dead = self.view.dead.range_cardinality(part.first, part.end)
        found = self._cache.get(key)
        if found is not None and found[0] == dead:
            return found[1]
        allowed = Allowed(part.segment, self.rows())
        self._cache.put(key, dead, allowed, allowed.nbytes)
        return allowed

    def between(self, low: int, high: int) -> np.ndarray:
        """Their docids of [low, high), uint32 ascending."""
        rows = self.rows()
        if rows is None:
            return np.arange(low, high, dtype=np.uint32)
        start, end = np.searchsorted(rows, [low, high])
        return rows[start:end].copy()  # may be kept: a view would keep all rows


def run(view: View, search: Search, cache: FilterCache) -> list[Hits]:
    """The hits of each query of the search. min(limit, matches) of them, always."""
    wanted = Wanted(view, search.filter, cache)
    if not search.explain and len(search.arms) == 1 and search.prefetch is None:
        return _of_one_arm(view, search, wanted, cache)
    clock = _Clock()
    if search.explain:
        _ = wanted.matches
        clock.lap("filter")
    ranked, plan = _stage(view, search, wanted, cache, clock)
    answers = [_fetch(view, search, result) for result in ranked]
    if search.explain:
        clock.lap("fetch")
        plan = _plan(view, search, wanted, plan, clock)
        answers = [Hits(list(hits), plan) for hits in answers]
    return answers


def _of_one_arm(view: View, search: Search, wanted: Wanted, cache: FilterCache) -> list[Hits]:
    """The short way of most searches."""
    (arm,) = search.arms
    found, _ = _search_arm(view, search, arm, search.limit, wanted, cache)
    if search.attributes is False and not search.vectors:
        bare = [_bare(view, search, each) for each in found]
        if None not in bare:
            return bare
    return [_fetch(view, search, _alone(arm, each)) for each in found]


def _stage(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: _Clock) -> tuple[list[Ranked], dict | None]:
    """What a stage ranks for each query, its candidates found first; and, where the search is explained, how."""
    if search.prefetch is None:
        return _fused_arms(view, search, wanted, cache, clock)
    inner = _Clock()
    candidates, before = _stage(view, search.prefetch, wanted, cache, inner)
    clock.lap("prefetch")
    ranked, plan = [], None
    for q, (docids, _, _) in enumerate(candidates):
        (result,), how = _fused_arms(view, search.of_query(q), wanted.among(docids), cache, clock)
        ranked.append(result)
        plan = how if plan is None else plan
    if plan is not None:
        before |= {"limit": search.prefetch.limit, "hits": len(candidates[0][0]), "milliseconds": inner.milliseconds}
        plan |= {"prefetch": before}
    return ranked, plan


def _fused_arms(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: _Clock) -> tuple[list[Ranked], dict | None]:
    """The arms of a stage, searched and fused, for each query."""
    if len(search.arms) > 1 and isinstance(search.fusion, Linear):
        return _summed_arms(view, search, wanted, cache, clock)
    fused = len(search.arms) > 1
    found, plans = {}, []
    for arm in search.arms:
        found[arm.name], plan = _search_arm(view, search, arm, search.candidates if fused else search.limit, wanted, cache)
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans.append(plan | {"candidates": max((len(docids) for docids, _ in found[arm.name]), default=0)})
    if fused:
        shown = _shown(search)
        lists = [{name: results[q] for name, results in found.items()} for q in range(search.queries)]
        ranked = [fuse(each, search.fusion, search.limit, shown) for each in lists]
    else:
        ranked = [_alone(search.arms[0], each) for each in found[search.arms[0].name]]
    clock.lap("fusion")
    if not search.explain:
        return ranked, None
    return ranked, _stage_plan(plans, {"method": search.fusion.name, "candidates": search.candidates} if fused else None)


def _summed_arms(view: View, search: Search, wanted: Wanted, cache: FilterCache, clock: _Clock) -> tuple[list[Ranked], dict | None]:
    """The arms of a stage in linear fusion, for each query. Arms are listed as deep as it takes, and rows looked up in them."""
    exact = search.proven or wanted.given is not None
    weights, shown = [_weight(search, arm) for arm in search.arms], _shown(search)
    ranked, plan = [], None
    for q in range(search.queries):
        one, plans = search.of_query(q), {}
        sources = [_source(view, one, arm, wanted, cache, clock, plans) for arm in one.arms]
        ranking = top(sources, search.limit, search.candidates, exact)
        clock.lap("fusion")
        ranked.append(explained_sums([arm.name for arm in search.arms], weights, ranking, shown))
        if search.explain and plan is None:
            facts = {"proven": ranking.proven, "depth": ranking.depth, "scored": ranking.scored}
            plan = _stage_plan(list(plans.values()), {"method": search.fusion.name, "candidates": search.candidates} | facts)
    return ranked, plan


def _source(view: View, search: Search, arm: Arm, wanted: Wanted, cache: FilterCache, clock: _Clock, plans: dict[str, dict]) -> Source:
    """An arm of one query as linear fusion reads it. plans: how it was listed last, where the search is explained."""

    certain = replace(search, exact=True, recall=1.0) if search.proven else search
    queries = _queries(view, arm, cache)

    def listed(k: int, found: flat.Found, plan: dict | None, below: np.ndarray | None, floor: float) -> Listed:
        clock.lap(f"arm {arm.name}")
        if plan is not None:
            plans[arm.name] = plan | {"candidates": len(found[0])}
        rest = floor if len(found[0]) < k else max(floor, float(found[1][-1]))
        return Listed(found, below, None if rest == -np.inf else rest)

    def best(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        lists, plan = _search_arm(view, certain, arm, k, wanted, cache)
        return listed(k, lists[0], plan, None, -np.inf)

    def best_bounds(k: int, floor: float) -> Listed:
        clock.lap("fusion")
        prepared = _prepared(view, arm, wanted, *cover)
        table = prepared.table.rows
        found, below = ann.search_bounded(prepared.parts, prepared.rest, table, queries[0], arm.spec.dtype, arm.spec.metric, k, floor)
        plan = _exact_plan(search, arm, wanted)
        return listed(k, found, plan and plan | {"plan": "scan of byte codes, within bounds"}, below, floor)

    def scores(docids: np.ndarray) -> flat.Found:
        return _score_rows(view, arm, queries, docids.astype(np.uint32))[0]

    def guess(k: int) -> flat.Found:
        return _search_arm(view, search, arm, k, wanted, cache)[0][0]

    unbounded = search.exact or not search.proven or wanted.given is not None or not isinstance(arm.spec, Dense)
    cover = ((), []) if unbounded else view.snapshot.cover(view.fields[arm.name])
    # Files that haven't been read through yet prove nothing, and those built before they said how far codes are off have no bounds.
    bounded = bool(cover[0]) and all(part.segment.verified and part.segment.lacking is not None for part in cover[0])
    return Source(_weight(search, arm), _sign(arm) < 0, best_bounds if bounded else best, scores, guess if bounded else None)


def _search_arm(view: View, search: Search, arm: Arm, k: int, wanted: Wanted, cache: FilterCache) -> tuple[list[flat.Found], dict | None]:
    """What an arm finds for each query and, where the search is explained, how."""
    queries = _queries(view, arm, cache)
    opened, tail = _cover(view, search, arm, k, queries) if wanted.given is None else ((), ())
    if opened:
        found, plan = _search_segments(view, search, arm, k, wanted, queries, opened, tail)
    elif wanted.given is not None:
        scored = _score_rows(view, arm, queries, wanted.given)
        found, plan = [(docids[:k], scores[:k]) for docids, scores in scored], _exact_plan(search, arm, wanted)
    else:
        found, plan = _exactly(view, arm, queries, k, wanted.rows()), _exact_plan(search, arm, wanted)
    if plan is not None and isinstance(arm.spec, Sparse):
        plan |= terms.told(view, arm, queries[0], found[0])
    return found, plan


def _queries(view: View, arm: Arm, cache: FilterCache) -> Sequence:
    """An arm's queries as kernels take them: a sparse arm's have the weights that scores are made of."""
    if isinstance(arm.spec, Dense):
        return np.array(arm.queries)  # a copy: kernels are compiled for arrays that are contiguous and can be written to
    if isinstance(arm.spec, MultiVector):
        return arm.queries
    table = view.table(view.fields[arm.name], format.POSTINGS)
    return [(asked, _weights(view, arm.name, arm.spec, table, asked, weights, cache)) for asked, weights in arm.queries]


def _cover(view: View, search: Search, arm: Arm, k: int, queries: Sequence) -> tuple[tuple[OpenSegment, ...], Sequence[tuple[int, int]]]:
    """The segments that may answer the search, and the ranges of docids that they leave out."""
    opened, tail = (), ()
    if isinstance(arm.spec, Dense):
        if not search.exact and k <= ann.MAX_DEPTH:
            opened, tail = view.snapshot.cover(view.fields[arm.name])
    elif isinstance(arm.spec, Sparse):
        there, rest = view.snapshot.cover(view.fields[arm.name])
        # An exact search takes the plans of the index that lose nothing, once its files are known to be whole.
        whole = not search.exact or all(part.segment.verified for part in there)
        if whole and sparse_ann.searchable([part.segment for part in there], queries, k):
            opened, tail = there, rest
    return opened, tail


def _exactly(view: View, arm: Arm, queries: Sequence, k: int, rows: np.ndarray | None) -> list[flat.Found]:
    """What an arm finds without an index."""
    spec, field = arm.spec, view.fields[arm.name]
    if isinstance(spec, Dense):
        return flat.search_dense(view.table(field), queries, spec.dtype, spec.metric, k, rows)
    if isinstance(spec, MultiVector):
        table = view.table(field)
        return [flat.search_multi(table, query, spec.dtype, spec.metric, spec.aggregation, k, rows) for query in queries]
    table = view.table(field, format.POSTINGS)
    if len(queries) == 1:
        return [flat.search_sparse(table, *queries[0], k, rows)]
    return list(flat.pool().map(lambda query: flat.search_sparse(table, *query, k, rows), queries))


def _score_rows(view: View, arm: Arm, queries: Sequence, rows: np.ndarray) -> list[flat.Found]:
    """What an arm makes of given rows (docids, uint32 ascending), for each query: exactly, those that match, best first."""
    spec, table = arm.spec, view.chunks(view.fields[arm.name])
    table.verify_rows(rows)
    if isinstance(spec, Dense):
        return flat.search_dense(table.rows, queries, spec.dtype, spec.metric, len(rows), rows)
    if isinstance(spec, MultiVector):
        return [flat.search_multi(table.rows, query, spec.dtype, spec.metric, spec.aggregation, len(rows), rows) for query in queries]
    return [flat.score_sparse(table.rows, *query, rows) for query in queries]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where an arm is searched under a filter: the same for every query while nothing changes."""

    node: Filter | None
    opened: tuple[OpenSegment, ...]
    parts: list[ann.Part]
    rest: list[ann.Rest]
    table: ChunkTable
    matches: int


def _prepared(view: View, arm: Arm, wanted: Wanted, opened: tuple[OpenSegment, ...], tail: Sequence[tuple[int, int]]) -> Prepared:
    known, key = view.snapshot.prepared, (arm.name, id(wanted.node))
    found = known.get(key)
    if found is not None and found.node is wanted.node and found.opened is opened:
        return found
    table = view.chunks(view.fields[arm.name], format.POSTINGS if isinstance(arm.spec, Sparse) else format.FORWARD)
    parts = [ann.Part(part.segment, wanted.allowed(part), wanted.node is None) for part in opened]
    rest = [ann.Rest(*table.covering(low, high), wanted.between(low, high)) for low, high in tail]
    for piece in rest:
        table.verify(range(piece.low, piece.high))
    if len(known) >= MAX_PREPARED:
        known.clear()
    found = known[key] = Prepared(wanted.node, opened, parts, rest, table, wanted.matches)
    return found


def _search_segments(
    view: View,
    search: Search,
    arm: Arm,
    k: int,
    wanted: Wanted,
    queries: Sequence,
    opened: tuple[OpenSegment, ...],
    tail: Sequence[tuple[int, int]],
) -> tuple[list[flat.Found], dict | None]:
    """A dense or sparse arm through its segments, and exactly where there are none."""
    spec: Dense | Sparse = arm.spec
    prepared = _prepared(view, arm, wanted, opened, tail)
    parts, rest, table = prepared.parts, prepared.rest, prepared.table
    k = min(k, prepared.matches)
    if k == 0:
        return [flat.nothing()] * len(queries), _exact_plan(search, arm, wanted)
    trace = ann.Trace() if search.explain or (len(queries) == 1 and not search.exact and audits.due()) else None
    if isinstance(spec, Sparse):
        found = sparse_ann.search(parts, rest, table.rows, queries, k, search.recall, trace=trace)
    else:
        found = ann.search(
            parts, rest, table.rows, table.verified, table.confirm, queries, spec.dtype, spec.metric, k, search.recall, trace=trace
        )
    if trace is not None and not search.explain:
        _audit(view, search, arm, k, queries, parts, opened, trace, found[0])
    return found, _segments_plan(search, arm, k, parts, rest, trace) if search.explain else None


def _audit(
    view: View,
    search: Search,
    arm: Arm,
    k: int,
    queries: Sequence,
    parts: Sequence[ann.Part],
    opened: Sequence[OpenSegment],
    trace: ann.Trace,
    found: flat.Found,
) -> None:
    """Have a search done again exactly, in the background."""
    sequence, queries = view.sequence, queries.copy()
    ranges = [(part.first, part.end) for part in opened]

    def exact() -> flat.Found | None:
        with view.again() as now:
            if now.sequence != sequence:
                return None
            return _exactly(now, arm, queries, k, Wanted(now, search.filter, None).rows())[0]

    judged = (sparse_ann if isinstance(arm.spec, Sparse) else ann).judged
    known = [judged(part, reports[0], k) for part, reports in zip(parts, trace.reports, strict=True)]
    audits.start(lambda: learn(parts, known, k, found, exact, ranges))


def _weights(
    view: View, name: str, spec: Sparse, table: np.ndarray, terms: np.ndarray, weights: np.ndarray, cache: FilterCache
) -> np.ndarray:
    """Query weights, times the inverse document frequency among live rows where the field asks for it."""
    if spec.weighting is None or not len(terms):
        return weights
    dead = view.snapshot.dead_words() if view.dead else None
    frequency = flat.document_frequencies(table, terms, dead)
    total = len(matching(HasVector(name), view, cache))
    return (weights * np.log1p((total - frequency + 0.5) / (frequency + 0.5))).astype(np.float32)


def _weight(search: Search, arm: Arm) -> float:
    return float(search.fusion.weights.get(arm.name, 1.0))


def _sign(arm: Arm) -> float:
    """Inside, higher is better; a user sees a squared distance as what it is."""
    return -1.0 if isinstance(arm.spec, Dense) and arm.spec.metric == "l2" else 1.0


def _shown(search: Search) -> ShownScore:
    """From an arm's name and a score to what a user sees."""
    signs = {arm.name: _sign(arm) for arm in search.arms}
    return lambda name, score: signs[name] * score


def _alone(arm: Arm, found: flat.Found) -> Ranked:
    """The ranking of a single arm."""
    docids, scores = found
    return docids.tolist(), (scores * _sign(arm)).tolist(), [{} for _ in docids]


def _bare(view: View, search: Search, found: flat.Found) -> Hits | None:
    """The answer of a single arm of which only ids and scores are wanted; None where ids are not all integers."""
    docids, scores = found
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    return Hits.bare(ids, -scores if _sign(search.arms[0]) < 0 else scores)


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


def _exact_plan(search: Search, arm: Arm, wanted: Wanted) -> dict | None:
    """How an arm was searched that scores every row."""
    if not search.explain:
        return None
    return {
        "field": arm.name,
        "kind": arm.spec.kind,
        "plan": "exact term-at-a-time" if isinstance(arm.spec, Sparse) else "exact scan",
        "exact": True,
        "rows": wanted.matches,
    }


def _segments_plan(search: Search, arm: Arm, k: int, parts: Sequence[ann.Part], rest: Sequence[ann.Rest], trace: ann.Trace) -> dict:
    """How an arm was searched through segments. Of several queries the first is shown."""
    segments, worst = [], 1.0
    explained = (sparse_ann if isinstance(arm.spec, Sparse) else ann).explained
    scored = tail_rows = sum(len(piece.docids) for piece in rest)
    for part, reports, microseconds in zip(parts, trace.reports, trace.microseconds, strict=True):
        shown = explained(part, reports[0], k)
        segments.append(shown | {"microseconds": round(microseconds, 1)})
        scored += shown["rows_scored"]
        worst = min(worst, shown["predicted"]["recall"])
    return {
        "field": arm.name,
        "kind": arm.spec.kind,
        "plan": "segments",
        "exact": search.exact,
        "recall": {"target": search.recall, "predicted": worst},
        "rows": scored,
        "segments": segments,
        "tail": {"rows": tail_rows, "microseconds": round(trace.rest_microseconds, 1)} if rest else None,
    }


def _stage_plan(arms: list[dict], fusion: dict | None) -> dict:
    """How a stage was run. exact: its arms are sure of what they found."""
    return {"exact": all(arm["exact"] for arm in arms), "arms": arms, "fusion": fusion, "prefetch": None}


def _plan(view: View, search: Search, wanted: Wanted, stage: dict, clock: _Clock) -> dict:
    """How the search was run, as plain data."""
    live = view.snapshot.live
    return {
        "sequence": view.sequence,
        "queries": search.queries,
        "live_rows": live,
        "filter": None if wanted.bitmap is None else {"matches": wanted.matches, "selectivity": wanted.matches / max(live, 1)},
        **stage,
        "exact": _all_exact(stage),
        "milliseconds": clock.milliseconds,
    }


def _all_exact(stage: dict) -> bool:
    """Whether every stage is sure of what it found."""
    return stage["exact"] and (stage["prefetch"] is None or _all_exact(stage["prefetch"]))
