"""Search the segments of one arm, each by its kind of index, and the rows without an index by an exact scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vectordb_client.model.filter_nodes import Filter

from ..common import deadline
from ..engine import floors
from ..engine.audits import Audits, Paced, budget
from ..engine.snapshot import OpenSegment, View
from ..fields import FIELD_TYPES
from ..index.base import Bounds, IndexKind, Report, SegmentRequest, SegmentTarget, TailRange, joined
from ..index.exact import Found, nothing
from ..storage.tables import ChunkTable
from .audit import Grouped, learn
from .request import Arm, Search
from .row_filter import RowFilter
from .trace import ArmTrace, current

MAX_PREPARED = 64  # prepared arms and filters cached per snapshot [chosen, not measured]
_request = tuple.__new__  # a third of the cost of the named tuple's constructor
Tail = Sequence[tuple[int, int]]  # ranges of docids [low, high) that no segment covers
Kinds = tuple[tuple[type[IndexKind], list[IndexKind]], ...]  # the open files of each kind


@dataclass(frozen=True, slots=True)
class Prepared:
    """The segments, masks and tail of an arm under a filter. They are the same for every query on one snapshot.

    kinds: the segments by kind. groups: for each kind its segments with their masks, and the ranges to scan besides: the first kind has the
    whole tail, and the outliers of all segments. tail_rows: rows in these ranges, None if there is none. audits: of the directory.
    """

    node: Filter | None
    opened: tuple[OpenSegment, ...]
    kinds: Kinds
    groups: tuple[tuple[type[IndexKind], list[SegmentTarget], list[TailRange]], ...]
    table: ChunkTable
    matches: int
    tail_rows: int | None
    audits: Audits


def _kinds(opened: tuple[OpenSegment, ...]) -> Kinds:
    """The segments by kind."""
    groups: dict[type[IndexKind], list[IndexKind]] = {}
    for part in opened:
        groups.setdefault(type(part.segment), []).append(part.segment)
    return tuple(groups.items())


def _cached(view: View, arm: Arm, rows: RowFilter, opened: tuple[OpenSegment, ...]) -> Prepared | None:
    """The ``Prepared`` of an arm that an earlier search cached in the snapshot."""
    node = rows.node
    known = view.snapshot.prepared.get((arm.field, id(node)))
    return known if known is not None and known.node is node and known.opened is opened else None


def _prepare(view: View, arm: Arm, rows: RowFilter, opened: tuple[OpenSegment, ...], tail: Tail, kinds: Kinds) -> Prepared:
    """Make the ``Prepared`` of an arm, and cache it in the snapshot. Raises CorruptionError."""
    table = view.chunks(view.fields[arm.field], FIELD_TYPES[arm.spec.kind].search_part)
    codes = view.snapshot.tail_codes(view.fields[arm.field], arm.spec) if FIELD_TYPES[arm.spec.kind].direct else None
    ranges = [
        TailRange(*table.covering(low, high), rows.between(low, high), codes if high == view.rows else None, low) for low, high in tail
    ]
    for piece in ranges:
        table.verify(range(piece.low, piece.high))
    targets: dict[type[IndexKind], list[SegmentTarget]] = {}
    for part in opened:
        targets.setdefault(type(part.segment), []).append(SegmentTarget(part.segment, rows.allowed(part), rows.node is None))
        if len(docids := rows.those_of(part.segment.apart)):
            table.verify_rows(docids)
            ranges.append(TailRange(*table.covering(int(docids[0]), int(docids[-1]) + 1), docids))
    groups = tuple((kind, of_kind, [] if i else ranges) for i, (kind, of_kind) in enumerate(targets.items()))
    tail_rows = sum(len(piece.docids) for piece in ranges) if ranges else None
    cache = view.snapshot.prepared
    if len(cache) >= MAX_PREPARED:
        cache.clear()
    prepared = Prepared(rows.node, opened, kinds, groups, table, rows.matches, tail_rows, view.directory.audits)
    cache[arm.field, id(rows.node)] = prepared
    return prepared


def prepared(view: View, arm: Arm, rows: RowFilter) -> Prepared | None:
    """The ``Prepared`` of an arm; None if the field has no index. Raises CorruptionError."""
    opened, tail = view.snapshot.cover(view.fields[arm.field])
    if not opened:
        return None
    return _cached(view, arm, rows, opened) or _prepare(view, arm, rows, opened, tail, _kinds(opened))


def search_segments(
    view: View, search: Search, arm: Arm, k: int, rows: RowFilter, queries: Sequence
) -> tuple[list[Found], dict | None] | None:
    """Search an arm by its segments, and the tail by an exact scan. Returns what ``search_arm`` does; None if there is no index that can
    answer.
    """
    spec = arm.spec
    opened, tail = view.snapshot.cover(view.fields[arm.field])
    if not opened:
        return None
    floor, search = _lifted(view, search, arm)
    saturation = FIELD_TYPES[spec.kind].saturation(view, arm.field)
    ready = _cached(view, arm, rows, opened)
    kinds = _kinds(opened) if ready is None else ready.kinds
    for kind, files in kinds:
        if not kind.usable(files, queries, k, search.exact, saturation):
            return None
    if ready is None:
        ready = _prepare(view, arm, rows, opened, tail, kinds)
    k = min(k, ready.matches)
    if k == 0:
        hits = [nothing()] * len(queries)
        return hits, record_exact(search, arm, 0, hits)
    notes = current()
    audited = not search.explain and len(queries) == 1 and not search.exact and ready.audits.due()
    timed = search.explain or audited
    recorded = timed or notes is not None
    fixed = ready.table, queries, spec, k, search.recall, saturation, -1, recorded, timed
    if len(ready.groups) == 1:
        ((kind, targets, ranges),) = ready.groups
        hits, report = kind.search(_request(SegmentRequest, (targets, ranges, *fixed)))
    else:
        hits, report = _merged([kind.search(SegmentRequest(targets, ranges, *fixed)) for kind, targets, ranges in ready.groups], k)
    if view.directory.memory.watched:
        view.directory.memory.look()
    if report is None:
        return hits, None
    if audited:
        _audit(view, search, arm, k, rows, queries, report, hits[0], ready, floor)
    if notes is not None:
        record_report(search, arm, ready.matches, hits, report, ready.tail_rows)
    return hits, _explained(search, arm, report, ready.tail_rows) if search.explain else None


def _lifted(view: View, search: Search, arm: Arm) -> tuple[floors.Key | None, Search]:
    """The key of the groups of a search with recall_floor, and the search for the recall to which their audits have lifted it."""
    attribute = search.request.recall_floor
    if attribute is None or search.exact:
        return None, search
    key = (view.store.collection, arm.field, search.recall, attribute)
    target = view.directory.audits.floors.target(key)
    return key, search._replace(recall=target, exact=target == 1.0)


def record_report(search: Search, arm: Arm, matches: int, hits: Sequence[Found], report: Report, tail_rows: int | None) -> None:
    """Record how an arm was searched by its segments, in a thread whose searches are recorded."""
    notes = current()
    if notes is not None:
        notes.record_arm(search, arm.name, ArmTrace(report.plan_names, matches, hits, lambda: _explained(search, arm, report, tail_rows)))


def record_exact(search: Search, arm: Arm, matches: int, hits: Sequence[Found]) -> dict | None:
    """Record that an arm was searched without an index. Returns its entry of the plan; None if the search isn't explained."""
    notes = current()
    if notes is not None:
        notes.record_arm(search, arm.name, ArmTrace(lambda: ("exact",), matches, hits, lambda: exact_plan(arm, matches)))
    return exact_plan(arm, matches) if search.explain else None


def exact_plan(arm: Arm, rows: int) -> dict:
    """The plan's entry of an arm that was searched without an index. rows: that were scored."""
    return {
        "field": arm.field,
        **arm.shown(),
        "kind": arm.spec.kind,
        "plan": FIELD_TYPES[arm.spec.kind].exact_plan_of(arm.spec),
        "exact": True,
        "rows": rows,
    }


def _merged(answers: Sequence[tuple[list[Found], Report | None]], k: int) -> tuple[list[Found], Report | None]:
    """The answers of several kinds as one. Ties go to the lower docid."""
    hits = []
    for parts in zip(*(found for found, _ in answers), strict=True):
        docids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((docids, -scores))[:k]
        hits.append((docids[order], scores[order]))
    reports = [report for _, report in answers if report is not None]
    return hits, joined(reports) if reports else None


def _audit(
    view: View,
    search: Search,
    arm: Arm,
    k: int,
    rows: RowFilter,
    queries: Any,
    report: Report,
    hits: Found,
    ready: Prepared,
    floor: floors.Key | None,
) -> None:
    """Start an audit: repeat the search exactly in the background, in pieces with pauses, and compare the results."""
    sequence, queries, env, again = view.sequence, queries.copy(), view.directory.env, view.again
    assert again is not None  # of every view that ``Snapshots.pin`` made

    def exact() -> Found | None:
        with deadline.scope(Paced(env.deadline, lambda: env.awaited)), again() as now:
            if now.sequence != sequence:
                return None
            found = FIELD_TYPES[arm.spec.kind].search(now, arm.field, queries, k, rows.of(now).rows())[0]
            if grouped is not None:
                grouped[2].extend(_groups(now, grouped[0][3], found[0]))
            return found

    grouped: Grouped | None = None if floor is None else (floor, search.recall, [])

    predictions = report.judged()
    ranges = {part.segment: (part.first, part.end) for part in ready.opened}
    key = (view.store.collection, arm.field, search.recall if floor is None else floor[2])
    segments = [target.segment for target in report.targets]
    budget.start(
        lambda: learn(ready.audits, key, segments, predictions, k, hits, exact, [ranges[segment] for segment in segments], grouped)
    )


def _groups(view: View, attribute: str, docids: np.ndarray) -> list[list[Any]]:
    """The values that each of some rows has of an attribute."""
    order = np.argsort(docids)
    rows = dict(zip(docids[order].tolist(), view.store.rows(docids[order].astype(np.int64)), strict=True))
    values = [rows[docid].attributes.get(attribute) for docid in docids.tolist()]
    return [[] if value is None else [*dict.fromkeys(value)] if isinstance(value, list) else [value] for value in values]


def _explained(search: Search, arm: Arm, report: Report, tail_rows: int | None) -> dict:
    """The plan's entry of an arm that was searched by its segments. It describes the first of several queries."""
    segments, read = report.explained(), tail_rows if report.tail_read is None else report.tail_read
    return {
        "field": arm.field,
        **arm.shown(),
        "kind": arm.spec.kind,
        "plan": "segments",
        "exact": search.exact,
        **({} if search.request.recall_floor is None else {"recall_floor": search.request.recall_floor}),
        "recall": {"target": search.recall, "predicted": min([1.0, *(segment["predicted"]["recall"] for segment in segments)])},
        "rows": (tail_rows or 0) + sum(segment["rows_scored"] for segment in segments),
        "segments": segments,
        "tail": {"rows": tail_rows, "read": read, "microseconds": round(report.tail_microseconds, 1)} if tail_rows is not None else None,
    }


def bounded(
    view: View, search: Search, arm: Arm, rows: RowFilter, queries: Sequence
) -> tuple[Bounds, Callable[[int, float], tuple[Found, np.ndarray]]] | None:
    """(upper bounds of an arm's scores, a function from k and a threshold to its best rows by upper bounds: see ``Bounds.search``). None if
    the index has none.
    """
    if search.exact or not search.proven or rows.given is not None or not arm.spec.index_options:
        return None
    opened, tail = view.snapshot.cover(view.fields[arm.field])
    kinds = _kinds(opened)
    if len(kinds) != 1:
        return None
    ((kind, files),) = kinds
    bounds = kind.bounds(files, tail, arm.spec, queries[0])
    if bounds is None:
        return None

    def best(k: int, threshold: float) -> tuple[Found, np.ndarray]:
        ready = _cached(view, arm, rows, opened) or _prepare(view, arm, rows, opened, tail, kinds)
        ((_, targets, ranges),) = ready.groups
        return bounds.search(SegmentRequest(targets, ranges, ready.table, queries, arm.spec, k, search.recall), threshold)

    return bounds, best
