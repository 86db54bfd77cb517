"""One arm of a search on a pinned snapshot: through its segments and its tail, exactly, or among given rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyroaring import BitMap
from vectordb_client.filter import Filter, HasVector

from .. import deadline, encoders
from ..encoders import bm25
from ..filters.bitmap import FilterCache, matching
from ..index import ann, flat, sparse_ann
from ..index.saturation import Saturation
from ..index.segment import Allowed
from ..snapshot import OpenSegment, View
from ..storage import format
from ..storage.tables import ChunkTable
from ..types import Dense, MultiVector, Sparse
from . import terms
from .audit import Audits, audits_of, budget, learn
from .notes import Ran, current
from .request import Arm, Search

MAX_PREPARED = 64


class Wanted:
    """The rows that a search may return: those a filter matches, or all live ones; of these only the ``given`` ones (uint32, ascending)."""

    def __init__(self, view: View, node: Filter | None, cache: FilterCache | None, given: np.ndarray | None = None):
        self.view, self.node, self._cache, self.given = view, node, cache, given
        self._rows: np.ndarray | None = given

    def among(self, docids: np.ndarray) -> Wanted:
        """Nothing but these of them."""
        return Wanted(self.view, self.node, self._cache, np.sort(docids))

    @cached_property
    def bitmap(self) -> BitMap | None:
        """The rows that the filter matches; None without a filter."""
        if self.node is None:
            return None
        started = time.perf_counter()
        found = matching(self.node, self.view, self._cache)
        notes = current()
        if notes is not None and notes.clock is not None:
            notes.clock.charge("filter", time.perf_counter() - started)
        return found

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
        key = ("allowed", self.node, part.file, self.view.snapshot.meta.revision)
        # Of the rows of a segment nothing ever changes but that some die.
        dead = self.view.dead.range_cardinality(part.first, part.end)
        found = self._cache.get(key)
        if found is not None and found[0] == dead:
            return found[1]
        allowed = Allowed(part.segment, self.rows())
        self._cache.put(key, dead, allowed, allowed.nbytes)
        return allowed

    def those_of(self, docids: np.ndarray) -> np.ndarray:
        """Which of some docids (uint32, ascending) are among them."""
        rows = self.rows() if len(docids) else None
        if rows is None:
            return docids
        at = np.searchsorted(rows, docids)
        return docids[np.append(rows, np.uint32(0xFFFFFFFF))[at] == docids]  # the last docid there can be is never given out

    def between(self, low: int, high: int) -> np.ndarray:
        """Their docids of [low, high), uint32 ascending."""
        rows = self.rows()
        if rows is None:
            return np.arange(low, high, dtype=np.uint32)
        start, end = np.searchsorted(rows, [low, high])
        return rows[start:end].copy()  # may be kept: a view would keep all rows


def search_arm(view: View, search: Search, arm: Arm, k: int, wanted: Wanted, cache: FilterCache) -> tuple[list[flat.Found], dict | None]:
    """What an arm finds for each query and, where the search is explained, how."""
    deadline.check()
    queries = queries_of(view, arm, cache)
    opened, tail = _cover(view, search, arm, k, queries) if wanted.given is None else ((), ())
    if opened:
        found, plan = _search_segments(view, search, arm, k, wanted, queries, opened, tail)
    else:
        if wanted.given is not None:
            found = [(docids[:k], scores[:k]) for docids, scores in score_rows(view, arm, queries, wanted.given)]
        else:
            found = _exactly(view, arm, queries, k, wanted.rows())
        _note_exact(search, arm, wanted.matches, found)
        plan = exact_plan(search, arm, wanted)
    if plan is not None and isinstance(arm.spec, Sparse):
        plan |= terms.told(view, arm, queries[0], found[0], saturation_of(view, arm.name))
    return found, plan


def queries_of(view: View, arm: Arm, cache: FilterCache) -> Sequence:
    """An arm's queries as kernels take them: a sparse arm's have the weights that scores are made of."""
    if isinstance(arm.spec, Dense):
        return np.array(arm.queries)  # a copy: kernels are compiled for arrays that are contiguous and can be written to
    if isinstance(arm.spec, MultiVector):
        return arm.queries
    table = view.table(view.fields[arm.name], format.POSTINGS)
    return [(asked, _weights(view, arm.name, arm.spec, table, asked, weights, cache)) for asked, weights in arm.queries]


def saturation_of(view: View, name: str) -> Saturation | None:
    """What BM25 makes of the term frequencies that a field holds, now; None where it holds weights that count as they are."""
    if not view.schema.is_bm25(name):
        return None
    known, key = view.snapshot.prepared, ("saturation", name)
    found = known.get(key)
    if found is None:
        field = view.fields[name]
        live = view.store.texts(field)
        options = encoders.options_of(view.schema.vectors[name].encoder)
        k1, b = options.get("k1", bm25.K1), options.get("b", bm25.B)
        found = known[key] = Saturation(k1, b, live.documents, live.words, view.table(field, format.LENGTHS))
    return found


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
        if whole and sparse_ann.searchable([part.segment for part in there], queries, k, saturation_of(view, arm.name)):
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
    table, saturation = view.table(field, format.POSTINGS), saturation_of(view, arm.name)
    if len(queries) == 1:
        return [flat.search_sparse(table, *queries[0], k, rows, saturation)]
    return deadline.spread(flat.pool(), lambda query: flat.search_sparse(table, *query, k, rows, saturation), queries)


def score_rows(view: View, arm: Arm, queries: Sequence, rows: np.ndarray) -> list[flat.Found]:
    """What an arm makes of given rows (docids, uint32 ascending), for each query: exactly, those that match, best first."""
    deadline.check()
    spec, table = arm.spec, view.chunks(view.fields[arm.name])
    table.verify_rows(rows)
    if isinstance(spec, Dense):
        return flat.search_dense(table.rows, queries, spec.dtype, spec.metric, len(rows), rows)
    if isinstance(spec, MultiVector):
        return [flat.search_multi(table.rows, query, spec.dtype, spec.metric, spec.aggregation, len(rows), rows) for query in queries]
    return [flat.score_sparse(table.rows, *query, rows, saturation_of(view, arm.name)) for query in queries]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where an arm is searched under a filter: the same for every query while nothing changes."""

    node: Filter | None
    opened: tuple[OpenSegment, ...]
    parts: list[ann.Part]
    rest: list[ann.Rest]
    table: ChunkTable
    matches: int
    audits: Audits


def prepared(view: View, arm: Arm, wanted: Wanted, opened: tuple[OpenSegment, ...], tail: Sequence[tuple[int, int]]) -> Prepared:
    """Where an arm is searched, made once as long as nothing changes. Raises CorruptionError."""
    known, key = view.snapshot.prepared, (arm.name, id(wanted.node))
    found = known.get(key)
    if found is not None and found.node is wanted.node and found.opened is opened:
        return found
    table = view.chunks(view.fields[arm.name], format.POSTINGS if isinstance(arm.spec, Sparse) else format.FORWARD)
    parts = [ann.Part(part.segment, wanted.allowed(part), wanted.node is None) for part in opened]
    rest = [ann.Rest(*table.covering(low, high), wanted.between(low, high)) for low, high in tail]
    for piece in rest:
        table.verify(range(piece.low, piece.high))
    for part in opened:
        if len(docids := wanted.those_of(part.segment.apart)):
            table.verify_rows(docids)
            rest.append(ann.Rest(*table.covering(int(docids[0]), int(docids[-1]) + 1), docids))
    if len(known) >= MAX_PREPARED:
        known.clear()
    found = known[key] = Prepared(wanted.node, opened, parts, rest, table, wanted.matches, audits_of(view.env))
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
    where = prepared(view, arm, wanted, opened, tail)
    parts, rest, table = where.parts, where.rest, where.table
    k = min(k, where.matches)
    if k == 0:
        _note_exact(search, arm, 0, ())
        return [flat.nothing()] * len(queries), exact_plan(search, arm, wanted)
    notes = current()
    audited = not search.explain and len(queries) == 1 and not search.exact and where.audits.due()
    measured = search.explain or audited
    trace = ann.Trace(measured=measured) if measured or notes is not None else None
    if isinstance(spec, Sparse):
        saturation = saturation_of(view, arm.name)
        found = sparse_ann.search(parts, rest, table.rows, queries, k, search.recall, trace=trace, saturation=saturation)
    else:
        found = ann.search(
            parts, rest, table.rows, table.verified, table.confirm, queries, spec.dtype, spec.metric, k, search.recall, trace=trace
        )
    if audited:
        _audit(view, search, arm, k, queries, parts, opened, trace, found[0], where.audits)
    if notes is not None:
        of = sparse_ann if isinstance(spec, Sparse) else ann
        ran = Ran(
            lambda: [of.plan_name(part, reports[0], k) for part, reports in zip(parts, trace.reports, strict=True)],
            where.matches,
            found,
            lambda: _segments_plan(search, arm, k, parts, rest, trace),
        )
        notes.ran(search, arm.name, ran)
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
    audits: Audits,
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
    key = (view.store.collection, arm.name, search.recall)
    budget.start(lambda: learn(audits, key, parts, known, k, found, exact, ranges))


def _weights(
    view: View, name: str, spec: Sparse, table: np.ndarray, terms: np.ndarray, weights: np.ndarray, cache: FilterCache
) -> np.ndarray:
    """Query weights, times the inverse document frequency among live rows where the field asks for it."""
    if spec.weighting != "idf" or not len(terms):
        return weights
    dead = view.snapshot.dead_words() if view.dead else None
    frequency = flat.document_frequencies(table, terms, dead)
    saturation = saturation_of(view, name)
    total = len(matching(HasVector(name), view, cache)) if saturation is None else saturation.documents
    return (weights * np.log1p((total - frequency + 0.5) / (frequency + 0.5))).astype(np.float32)


def sign(arm: Arm) -> float:
    """Inside, higher is better; a user sees a squared distance as what it is."""
    return -1.0 if isinstance(arm.spec, Dense) and arm.spec.metric == "l2" else 1.0


def exact_plan(search: Search, arm: Arm, wanted: Wanted) -> dict | None:
    """How an arm was searched that scores every row."""
    return _exact_plan(arm, wanted.matches) if search.explain else None


def _exact_plan(arm: Arm, rows: int) -> dict:
    plan = "exact term-at-a-time" if isinstance(arm.spec, Sparse) else "exact scan"
    return {"field": arm.name, "kind": arm.spec.kind, "plan": plan, "exact": True, "rows": rows}


def _note_exact(search: Search, arm: Arm, rows: int, found: Sequence[flat.Found]) -> None:
    notes = current()
    if notes is not None:
        notes.ran(search, arm.name, Ran(lambda: ("exact",), rows, found, lambda: _exact_plan(arm, rows)))


def _segments_plan(search: Search, arm: Arm, k: int, parts: Sequence[ann.Part], rest: Sequence[ann.Rest], trace: ann.Trace) -> dict:
    """How an arm was searched through segments. Of several queries the first is shown."""
    segments, worst = [], 1.0
    explained = (sparse_ann if isinstance(arm.spec, Sparse) else ann).explained
    scored = tail_rows = sum(len(piece.docids) for piece in rest)
    for part, reports, microseconds in zip(parts, trace.reports, trace.microseconds, strict=True):
        shown = explained(part, reports[0], k)
        segments.append(shown | ({} if microseconds is None else {"microseconds": round(microseconds, 1)}))
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
