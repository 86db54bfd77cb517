"""Search one arm (one vector field of a query) on a pinned snapshot: by its index and its tail, by an exact scan, or among given rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.filter import Filter
from vectordb_client.model.schema import Dense, Sparse

from ..common import deadline
from ..engine.audits import Audits, budget
from ..engine.snapshot import OpenSegment, View
from ..fields import FIELD_TYPES
from ..filters.bitmap import FilterCache, matching
from ..index import exact as flat
from ..index.dense import search as ann
from ..index.dense.segment import SegmentMask
from ..index.impact import search as sparse_ann
from ..index.saturation import Saturation
from ..storage.tables import ChunkTable
from . import terms
from .audit import learn
from .request import Arm, Search
from .trace import ArmTrace, current

MAX_PREPARED = 64  # prepared arms and filters cached per snapshot


class RowFilter:
    """The rows that a search may return: those that match its filter, or all live rows. With ``given`` (docids, uint32 ascending) only
    these, which the caller has filtered already: the candidates of a prefetch.
    """

    def __init__(self, view: View, node: Filter | None, cache: FilterCache | None, given: np.ndarray | None = None):
        self.view, self.node, self._cache, self.given = view, node, cache, given
        self._rows: np.ndarray | None = given

    def among(self, docids: np.ndarray) -> RowFilter:
        """The same restricted to these docids, which must be rows that the search may return."""
        return RowFilter(self.view, self.node, self._cache, np.sort(docids))

    @cached_property
    def bitmap(self) -> BitMap | None:
        """The live rows that match the filter; None without a filter."""
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
        """The number of rows that the search may return."""
        if self.given is not None:
            return len(self.given)
        return self.view.snapshot.live if self.bitmap is None else len(self.bitmap)

    @property
    def everything(self) -> bool:
        """Whether the search may return every row: there is no dead row, and the filter, if any, matches all."""
        return self.matches == self.view.rows

    def rows(self) -> np.ndarray | None:
        """Their docids, uint32 ascending; None for all rows."""
        if self.everything:
            return None
        if self._rows is None:
            bitmap = self.bitmap
            self._rows = self.view.snapshot.live_rows() if bitmap is None else np.asarray(bitmap.to_array(), dtype=np.uint32)
        return self._rows

    def allowed(self, part: OpenSegment) -> SegmentMask:
        """The mask of a segment. It is cached by the filter and valid until a row of the segment dies."""
        if self.everything:
            return part.segment.all_allowed
        key = ("allowed", self.node, part.file, self.view.snapshot.meta.revision)
        # Rows are immutable, so the mask changes only when one of them dies.
        dead = self.view.dead.range_cardinality(part.first, part.end)
        found = self._cache.get(key)
        if found is not None and found[0] == dead:
            return found[1]
        allowed = SegmentMask(part.segment, self.rows())
        self._cache.put(key, dead, allowed, allowed.nbytes)
        return allowed

    def those_of(self, docids: np.ndarray) -> np.ndarray:
        """Those of some docids (uint32, ascending) that the search may return."""
        rows = self.rows() if len(docids) else None
        if rows is None:
            return docids
        at = np.searchsorted(rows, docids)
        return docids[np.append(rows, np.uint32(0xFFFFFFFF))[at] == docids]  # the padding matches no row: this docid is never assigned

    def between(self, low: int, high: int) -> np.ndarray:
        """The docids in [low, high) that the search may return, uint32 ascending."""
        rows = self.rows()
        if rows is None:
            return np.arange(low, high, dtype=np.uint32)
        start, end = np.searchsorted(rows, [low, high])
        return rows[start:end].copy()  # a copy: it may be cached, and a view would keep the whole array alive


def search_arm(view: View, search: Search, arm: Arm, k: int, wanted: RowFilter, cache: FilterCache) -> tuple[list[flat.Found], dict | None]:
    """Search an arm. Returns the k best rows of each query, and the arm's entry of the plan if the search is explained, else None."""
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
        plan |= terms.explained(view, arm, queries[0], found[0], saturation_of(view, arm.name))
    return found, plan


def queries_of(view: View, arm: Arm, cache: FilterCache) -> Sequence:
    """An arm's queries as kernels take them. The weights of a sparse query are multiplied by IDF where the field asks for it."""
    return FIELD_TYPES[arm.spec.kind].prepare(view, arm.name, arm.queries, cache)


def saturation_of(view: View, name: str) -> Saturation | None:
    """The BM25 formula for the field's term frequencies with the statistics of this snapshot; None if the field is not a BM25 field."""
    return FIELD_TYPES[view.schema.vectors[name].kind].saturation(view, name)


def _cover(view: View, search: Search, arm: Arm, k: int, queries: Sequence) -> tuple[tuple[OpenSegment, ...], Sequence[tuple[int, int]]]:
    """(the segments to search, the ranges of docids that they don't cover). Both are empty if the arm is to be searched without an
    index.
    """
    opened, tail = (), ()
    if isinstance(arm.spec, Dense):
        if not search.exact and k <= ann.MAX_DEPTH:
            opened, tail = view.snapshot.cover(view.fields[arm.name])
    elif isinstance(arm.spec, Sparse):
        segments, rest = view.snapshot.cover(view.fields[arm.name])
        # An exact search uses the lossless plans of the index, once all of its files have been verified.
        trusted = not search.exact or all(part.segment.verified for part in segments)
        if trusted and sparse_ann.searchable([part.segment for part in segments], queries, k, saturation_of(view, arm.name)):
            opened, tail = segments, rest
    return opened, tail


def _exactly(view: View, arm: Arm, queries: Sequence, k: int, rows: np.ndarray | None) -> list[flat.Found]:
    """Search an arm without an index. rows: the docids to consider (uint32, ascending); None: all."""
    return FIELD_TYPES[arm.spec.kind].search(view, arm.name, queries, k, rows)


def score_rows(view: View, arm: Arm, queries: Sequence, rows: np.ndarray) -> list[flat.Found]:
    """The exact scores of given rows (docids, uint32 ascending) for each query, best first. Rows that don't match the arm are left out."""
    deadline.check()
    return FIELD_TYPES[arm.spec.kind].score(view, arm.name, queries, rows)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The segments, masks and tail of an arm under a filter. They are the same for every query on one snapshot.

    parts: the segments with their masks. rest: the tail, and the outliers of the segments. audits: of the directory.
    """

    node: Filter | None
    opened: tuple[OpenSegment, ...]
    parts: list[ann.SegmentTarget]
    rest: list[ann.TailRange]
    table: ChunkTable
    matches: int
    audits: Audits


def prepared(view: View, arm: Arm, wanted: RowFilter, opened: tuple[OpenSegment, ...], tail: Sequence[tuple[int, int]]) -> Prepared:
    """The ``Prepared`` of an arm, cached in the snapshot. Raises CorruptionError."""
    cache, key = view.snapshot.prepared, (arm.name, id(wanted.node))
    found = cache.get(key)
    if found is not None and found.node is wanted.node and found.opened is opened:
        return found
    table = view.chunks(view.fields[arm.name], FIELD_TYPES[arm.spec.kind].search_part)
    parts = [ann.SegmentTarget(part.segment, wanted.allowed(part), wanted.node is None) for part in opened]
    rest = [ann.TailRange(*table.covering(low, high), wanted.between(low, high)) for low, high in tail]
    for piece in rest:
        table.verify(range(piece.low, piece.high))
    for part in opened:
        if len(docids := wanted.those_of(part.segment.apart)):
            table.verify_rows(docids)
            rest.append(ann.TailRange(*table.covering(int(docids[0]), int(docids[-1]) + 1), docids))
    if len(cache) >= MAX_PREPARED:
        cache.clear()
    found = cache[key] = Prepared(wanted.node, opened, parts, rest, table, wanted.matches, view.directory.audits)
    return found


def _search_segments(
    view: View,
    search: Search,
    arm: Arm,
    k: int,
    wanted: RowFilter,
    queries: Sequence,
    opened: tuple[OpenSegment, ...],
    tail: Sequence[tuple[int, int]],
) -> tuple[list[flat.Found], dict | None]:
    """Search a dense or sparse arm by its segments, and the tail by an exact scan."""
    spec: Dense | Sparse = arm.spec
    ready = prepared(view, arm, wanted, opened, tail)
    parts, rest, table = ready.parts, ready.rest, ready.table
    k = min(k, ready.matches)
    if k == 0:
        _note_exact(search, arm, 0, ())
        return [flat.nothing()] * len(queries), exact_plan(search, arm, wanted)
    notes = current()
    audited = not search.explain and len(queries) == 1 and not search.exact and ready.audits.due()
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
        _audit(view, search, arm, k, queries, parts, opened, trace, found[0], ready.audits)
    if notes is not None:
        of = sparse_ann if isinstance(spec, Sparse) else ann
        ran = ArmTrace(
            lambda: [of.plan_name(part, reports[0], k) for part, reports in zip(parts, trace.reports, strict=True)],
            ready.matches,
            found,
            lambda: _segments_plan(search, arm, k, parts, rest, trace),
        )
        notes.record_arm(search, arm.name, ran)
    return found, _segments_plan(search, arm, k, parts, rest, trace) if search.explain else None


def _audit(
    view: View,
    search: Search,
    arm: Arm,
    k: int,
    queries: Sequence,
    parts: Sequence[ann.SegmentTarget],
    opened: Sequence[OpenSegment],
    trace: ann.Trace,
    found: flat.Found,
    audits: Audits,
) -> None:
    """Start an audit: repeat the search exactly in the background and compare the results."""
    sequence, queries = view.sequence, queries.copy()
    ranges = [(part.first, part.end) for part in opened]

    def exact() -> flat.Found | None:
        with view.again() as now:
            if now.sequence != sequence:
                return None
            return _exactly(now, arm, queries, k, RowFilter(now, search.filter, None).rows())[0]

    judged = (sparse_ann if isinstance(arm.spec, Sparse) else ann).judged
    predictions = [judged(part, reports[0], k) for part, reports in zip(parts, trace.reports, strict=True)]
    key = (view.store.collection, arm.name, search.recall)
    budget.start(lambda: learn(audits, key, parts, predictions, k, found, exact, ranges))


def sign(arm: Arm) -> float:
    """1, or −1 for l2: internal scores are negated squared distances (higher is better), and users see squared distances."""
    return FIELD_TYPES[arm.spec.kind].sign(arm.spec)


def exact_plan(search: Search, arm: Arm, wanted: RowFilter) -> dict | None:
    """The plan's entry of an arm that was searched without an index; None if the search isn't explained."""
    return _exact_plan(arm, wanted.matches) if search.explain else None


def _exact_plan(arm: Arm, rows: int) -> dict:
    return {"field": arm.name, "kind": arm.spec.kind, "plan": FIELD_TYPES[arm.spec.kind].exact_plan, "exact": True, "rows": rows}


def _note_exact(search: Search, arm: Arm, rows: int, found: Sequence[flat.Found]) -> None:
    notes = current()
    if notes is not None:
        notes.record_arm(search, arm.name, ArmTrace(lambda: ("exact",), rows, found, lambda: _exact_plan(arm, rows)))


def _segments_plan(
    search: Search, arm: Arm, k: int, parts: Sequence[ann.SegmentTarget], rest: Sequence[ann.TailRange], trace: ann.Trace
) -> dict:
    """The plan's entry of an arm that was searched by its segments. It describes the first of several queries."""
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
