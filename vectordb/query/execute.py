"""Run a search on a pinned snapshot: filter → rows → each arm → fusion → the final rows' records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from ..types import Dense, Hit, Hits, Id, MultiVector, Sparse
from . import terms
from .audit import audits, learn
from .fusion import fuse
from .read import attribute_reader, vectors_of
from .request import Arm, Search

Ranked = tuple[list[int], list[float], list[dict]]  # docids, scores as shown, what each arm said

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


class Wanted:
    """The rows that a search may return: those a filter matches, or all live ones."""

    def __init__(self, view: View, node: Filter | None, cache: FilterCache | None):
        self.view, self.node, self._cache = view, node, cache
        self._rows: np.ndarray | None = None

    @cached_property
    def bitmap(self) -> BitMap | None:
        """The rows that the filter matches; None without a filter."""
        return None if self.node is None else matching(self.node, self.view, self._cache)

    @cached_property
    def matches(self) -> int:
        """How many they are."""
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
    clock = _Clock() if search.explain else None
    wanted = Wanted(view, search.filter, cache)
    if clock:
        _ = wanted.matches
        clock.lap("filter")
    fused = len(search.arms) > 1
    depth = search.candidates if fused else search.limit
    found, plans = {}, []
    for arm in search.arms:
        found[arm.name], plan = _search_arm(view, search, arm, depth, wanted, cache)
        if clock:
            clock.lap(f"arm {arm.name}")
            plans.append(plan)
    if not fused and not clock and search.attributes is False and not search.vectors:
        bare = [_bare(view, search, each) for each in found[search.arms[0].name]]
        if None not in bare:
            return bare
    ranked = [_rank(search, {name: results[q] for name, results in found.items()}) for q in range(search.queries)]
    if clock:
        clock.lap("fusion")
    answers = [_fetch(view, search, result) for result in ranked]
    if clock:
        clock.lap("fetch")
        plan = _plan(view, search, wanted, found, plans, clock)
        answers = [Hits(list(hits), plan) for hits in answers]
    return answers


def _search_arm(view: View, search: Search, arm: Arm, k: int, wanted: Wanted, cache: FilterCache) -> tuple[list[flat.Found], dict | None]:
    """What an arm finds for each query and, where the search is explained, how."""
    spec, field, queries = arm.spec, view.fields[arm.name], arm.queries
    opened, tail = (), ()
    if isinstance(spec, Dense):
        queries = np.array(queries)  # a copy: kernels are compiled for arrays that are contiguous and can be written to
        if not search.exact and k <= ann.MAX_DEPTH:
            opened, tail = view.snapshot.cover(field)
    elif isinstance(spec, Sparse):
        table = view.table(field, format.POSTINGS)
        queries = [(asked, _weights(view, arm.name, spec, table, asked, weights, cache)) for asked, weights in queries]
        there, rest = view.snapshot.cover(field)
        # An exact search takes the plans of the index that lose nothing, once its files are known to be whole.
        if sparse_ann.searchable([part.segment for part in there], queries, k) and not (
            search.exact and any(not part.segment.verified for part in there)
        ):
            opened, tail = there, rest
    if opened:
        found, plan = _search_segments(view, search, arm, k, wanted, queries, opened, tail)
    else:
        found, plan = _exactly(view, arm, queries, k, wanted.rows()), _exact_plan(search, arm, wanted)
    if plan is not None and isinstance(spec, Sparse):
        plan |= terms.told(view, arm, queries[0], found[0])
    return found, plan


def _exactly(view: View, arm: Arm, queries: Sequence, k: int, rows: np.ndarray | None) -> list[flat.Found]:
    """What an arm finds without an index. A sparse arm's queries have their weights."""
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


def _shown(arms: dict[str, Arm], name: str, score: float) -> float:
    """Inside, higher is better; a user sees a squared distance as what it is."""
    spec = arms[name].spec
    return -score if isinstance(spec, Dense) and spec.metric == "l2" else score


def _rank(search: Search, found: dict[str, flat.Found]) -> Ranked:
    arms = {arm.name: arm for arm in search.arms}
    if len(arms) > 1:
        return fuse(found, search.fusion, search.limit, lambda name, score: _shown(arms, name, score))
    ((name, (docids, scores)),) = found.items()
    docids = docids.tolist()
    return docids, (scores * _shown(arms, name, 1.0)).tolist(), [{} for _ in docids]


def _bare(view: View, search: Search, found: flat.Found) -> Hits | None:
    """The answer of a single arm of which only ids and scores are wanted; None where ids are not all integers."""
    docids, scores = found
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    spec = search.arms[0].spec
    return Hits.bare(ids, -scores if isinstance(spec, Dense) and spec.metric == "l2" else scores)


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


def _plan(view: View, search: Search, wanted: Wanted, found: dict, plans: list[dict], clock: _Clock) -> dict:
    """How the search was run, as plain data."""
    live = view.snapshot.live
    arms = [plan | {"candidates": max((len(docids) for docids, _ in found[plan["field"]]), default=0)} for plan in plans]
    return {
        "sequence": view.sequence,
        "queries": search.queries,
        "exact": all(plan["exact"] for plan in plans),
        "live_rows": live,
        "filter": None if wanted.bitmap is None else {"matches": wanted.matches, "selectivity": wanted.matches / max(live, 1)},
        "arms": arms,
        "fusion": None if len(search.arms) == 1 else {"method": search.fusion.name, "candidates": search.candidates},
        "milliseconds": {stage: round(value, 4) for stage, value in clock.stages.items()},
    }
