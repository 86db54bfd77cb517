"""Direct searches: the usual search of one dense field as one kernel call, with little of Python around it.

What such searches share (field, filter, limit, recall, selection of attributes) is worked out once for a snapshot and kept in it as a
``Block`` of addresses. It is void with the snapshot: after every commit, by whichever process, and when the memory map moves. Every search
that is unusual in any way returns None here, before anything was done, and goes the long way (``execute``). Only that raises errors, except
for damage that is found while the rows are read.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import Hit, Hits
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.vectors import query_vector

from ..common import deadline
from ..engine.snapshot import Snapshot, Snapshots, View
from ..fields import FIELD_TYPES
from ..filters.bitmap import matching_rows
from ..filters.cache import FilterCache
from ..index.base import Report, Run, SegmentTarget, TailRange
from ..index.exact import METRICS, on_one_thread
from ..index.mask import FEW_ROWS, SegmentMask
from ..index.model import MEASURED_EVERY
from ..kernels import direct as kernel
from ..kernels import entry
from ..kernels.layout import R_FALLBACK, R_MICROSECONDS, R_SETTING, REPORT_WIDTH
from ..storage import format
from ..storage.format import Txn
from ..storage.gate import Visitor
from . import segments, trace
from .paging import after_direct
from .read import attribute_reader
from .request import Search
from .row_filter import RowFilter

# Constants: unit and meaning. Chosen, not measured.
MAX_BLOCKS, MAX_BLOCK_BYTES = 512, 32 << 20  # blocks of a snapshot, and bytes of the masks that they keep
MAX_HITS = 2_000  # of a search without an index; more are charged to the memory of the call
ARENA_BYTES = 1 << 18  # bytes of records of one answer that a thread has room for; more are copied one by one
MAX_FITS = 1 << 12  # blocks that a thread remembers to have room for
CALL_MICROSECONDS = 1.0  # microseconds of a direct call beside the segment's search, subtracted from measured times
# Options that a direct search may have; with all others it goes the long way. Those of fusion don't matter to one arm.
_DIRECT = frozenset(("filter", "limit", "recall", "with_attributes", "candidates", "fusion"))
_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_LISTED = (list, tuple)
_hit, _new = tuple.__new__, object.__new__
_serial = itertools.count()


class Lane(Visitor):
    """One thread's arrays, and their addresses as the kernel reads them."""

    __slots__ = ("addresses", "arena", "at", "fits", "keys", "query", "reports", "scratch", "starts")

    def __init__(self) -> None:
        super().__init__()
        self.fits: set[int] = set()  # serial numbers of blocks that the arrays are large enough for
        self.addresses = np.zeros(kernel.LANE_WIDTH, np.int64)
        self.at = self.addresses.ctypes.data
        self.arena = np.empty(ARENA_BYTES, np.uint8)
        self.addresses[kernel.FEW_COUNT] = -1
        self.addresses[kernel.ARENA], self.addresses[kernel.ARENA_BYTES] = self.arena.ctypes.data, ARENA_BYTES
        self.keys = self.starts = np.empty(0, np.int64)
        self.query, self.reports, self.scratch = np.empty(0, np.float32), np.empty((0, REPORT_WIDTH)), None

    def fit(self, block: Block) -> None:
        """Grow the arrays for searches with a block."""
        if len(self.fits) >= MAX_FITS:
            self.fits.clear()
        if len(self.keys) < block.k:
            self.keys, self.starts = np.empty(block.k, np.int64), np.empty(block.k + 1, np.int64)
        if len(self.query) < block.shape[0]:
            self.query = np.empty(block.shape[0], np.float32)
        if len(self.reports) < len(block.targets):
            self.reports = np.empty((len(block.targets), REPORT_WIDTH))
        arrays = {kernel.KEYS: self.keys, kernel.STARTS: self.starts, kernel.QUERY: self.query, kernel.REPORTS: self.reports}
        if block.kind is not None:
            self.scratch = block.kind.direct_scratch(block.sizes)
            arrays[kernel.WORK] = self.scratch.work
        for column, array in arrays.items():
            self.addresses[column] = array.ctypes.data
        self.fits.add(block.serial)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.lane = Lane()


_thread = _Thread()


class RowReader:
    """Makes hits of what a direct search has found: (the array of docids, ids and scores, the number of hits, the number of places in it,
    whether all ids are integers, the pieces of msgpack or None).
    """

    __slots__ = ("bare", "read")

    def __init__(self, view: View, search: Search):
        self.read = attribute_reader(view.schema, search.attributes)
        self.bare = self.read is None

    def columns(self, found: tuple) -> tuple[np.ndarray | None, np.ndarray]:
        out, count, k, integers, _ = found
        return out[k : k + count].view(np.uint64) if integers else None, out[2 * k :].view(np.float32)[:count]

    def hits(self, found: tuple) -> tuple[Hit, ...]:
        ids, scores = self.columns(found)
        pieces, read = found[4], self.read
        if read is not None:
            rows = zip(format.unpack_rows(_cut(pieces)), scores.tolist(), strict=True)
            return tuple([_hit(Hit, (row.id, score, read(row.attributes), row.payload, {}, {}, {})) for row, score in rows])
        values = format.unpack_ids(_cut(pieces)) if ids is None else ids.tolist()
        return tuple([_hit(Hit, (value, score, {}, None, {}, {}, {})) for value, score in zip(values, scores.tolist(), strict=True)])


def _cut(pieces: Any) -> list[bytes]:
    """Pieces of msgpack as a list. They may be (all of them behind one another, where each begins, and the end)."""
    if type(pieces) is list:
        return pieces
    raw, starts = pieces[0], pieces[1].tolist()
    return [raw[low:high] for low, high in itertools.pairwise(starts)]


class Block:
    """Searches of one request and field in one snapshot.

    at: the address of what the kernel reads. k: hits at most. shape: of a query. targets: the segments. kind: their kind, None if there are
    none. sizes: of the scratch space. nbytes: of the masks that it keeps. Other attributes are those of the search.
    """

    __slots__ = (
        "_block", "_kept", "at", "audits", "call", "calls", "changes", "files", "k", "kind", "matches", "measured", "name", "narrow",
        "nbytes", "reader", "rows", "search", "serial", "shape", "size", "sizes", "spec", "table", "tail_rows", "targets",
    )  # fmt: skip

    def __init__(self, view: View, search: Search, place: _Place):
        (arm,) = search.arms
        spec: Any = arm.spec  # of a type with direct searches
        self.search, self.name, self.spec, self.shape = search, arm.name, spec, (spec.dim,)
        self.k, self.kind, self.targets, self.matches, self.tail_rows = place.k, place.kind, place.targets, place.matches, place.tail_rows
        self.size = 2 * self.k + (self.k + 1) // 2
        self.files = view.directory.index_files
        self.changes = place.changes
        self.table, self.rows = place.table, view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
        self.reader = RowReader(view, search)
        self.audits = view.directory.audits if place.targets else None
        self.calls, self.serial = 0, next(_serial)
        self.call, self.narrow = entry.search(), entry.narrow()
        # Only then is the time of a call that of the plan.
        self.measured = len(place.targets) == 1 and not place.ranges and place.targets[0].allowed.few is None
        self.sizes = place.sizes
        head = np.zeros(kernel.HEAD_WIDTH, np.int64)
        values = {
            kernel.TARGETS: len(place.targets),
            kernel.RANGES: len(place.ranges),
            kernel.K: self.k,
            kernel.DIM: spec.dim,
            kernel.METRIC: METRICS[spec.metric],
            kernel.HALF: spec.dtype == "float16",
            kernel.TABLE: self.table.rows.ctypes.data,
            kernel.CHUNKS: len(self.table.rows),
            kernel.VERIFIED: self.table.verified.ctypes.data,
            kernel.NEGATED: FIELD_TYPES[spec.kind].sign(spec) < 0,
            kernel.ROWS_TABLE: self.rows.rows.ctypes.data,
            kernel.ROWS_CHUNKS: len(self.rows.rows),
            kernel.ROWS_VERIFIED: self.rows.verified.ctypes.data,
            kernel.RECORDS: not self.reader.bare,
            kernel.SEARCH: entry.segment_search() if place.targets else 0,
        }
        for column, value in values.items():
            head[column] = value
        ranges = [(piece.low, piece.high, place.selected, piece.docids.ctypes.data, len(piece.docids)) for piece in place.ranges]
        self._block = np.concatenate([head, place.columns, np.array(ranges, np.int64).reshape(-1)])
        self.at = self._block.ctypes.data
        self._kept = place  # its arrays' addresses are in the block
        masks = sum(target.allowed.nbytes for target in self.targets)
        self.nbytes = masks + sum(piece.docids.nbytes for piece in place.ranges) + self._block.nbytes


class _Place:
    """Where the rows of a block are. ranges: those without an index; selected: only some of their rows. columns: of the targets."""

    __slots__ = ("changes", "columns", "k", "kind", "matches", "ranges", "selected", "sizes", "table", "tail_rows", "targets")


def _placed(view: View, search: Search, filters: FilterCache) -> _Place | None:
    """The place of a search that can be done directly, else None."""
    (arm,) = search.arms
    spec: Any = arm.spec
    field_type, place = FIELD_TYPES[spec.kind], _Place()
    if not field_type.direct:
        return None
    rows = RowFilter(view, search.filter, filters)
    place.changes = view.directory.index_files.changes
    ready = segments.prepared(view, arm, rows) if spec.index_options is not None else None
    if ready is not None:
        if len(ready.groups) != 1:
            return None
        ((kind, targets, ranges),) = ready.groups
        place.k = min(search.limit, ready.matches)
        described = None
        if place.k and kind.direct is not None and kind.usable([target.segment for target in targets], arm.queries, place.k, False, None):
            described = kind.direct(targets, place.k, search.recall)
        if described is None or not entry.segment_search():
            return None
        place.kind, place.targets, (place.columns, place.sizes) = kind, tuple(targets), described
        place.ranges, place.selected = [piece for piece in ranges if len(piece.docids)], True
        place.table, place.matches, place.tail_rows = ready.table, ready.matches, ready.tail_rows
        work = sum(target.segment.rows for target in targets) // 8 if len(targets) > 1 else 0
        work = spec.dim * (work + sum(len(piece.docids) for piece in place.ranges))
        return place if work <= deadline.WORK else None
    place.table = view.chunks(view.fields[arm.name], field_type.search_part)
    place.table.verify_all()
    docids = rows.rows()
    total = place.table.present if docids is None else len(docids)
    place.k = min(search.limit, total)
    if not 0 < place.k <= MAX_HITS or not on_one_thread(total, spec):
        return None
    place.kind, place.targets, place.columns, place.sizes = None, (), np.empty(0, np.int64), ()
    place.ranges = [TailRange(0, len(place.table.rows), np.empty(0, np.uint32) if docids is None else docids)]
    place.selected, place.matches, place.tail_rows = docids is not None, rows.matches, None
    return place


def _may_be_direct(request: SearchRequest) -> bool:
    """Whether a request has no option but those of direct searches. Kept with it: most searches have a request that was seen before."""
    known = request.__dict__.get("_direct")
    if known is None:
        known = request.__dict__["_direct"] = _DIRECT.issuperset(request.changed())
    return known


class DirectSearches:
    """The direct searches of one collection."""

    def __init__(self, snapshots: Snapshots, filters: FilterCache):
        self._snapshots = snapshots
        self._filters = filters
        self._env = snapshots.directory.env
        self._gate = self._env.gate

    def learn(self, view: View, search: Search) -> None:
        """Make the block of a search that went the long way, if it can be searched directly and was seen before in its snapshot."""
        request = search.request
        if not request.reusable or len(search.arms) != 1 or search.exact or search.explain or search.vectors or search.changed:
            return
        if request.facets is not None or request.group_by is not None:
            return
        (arm,) = search.arms
        if search.prefetch is not None or arm.words is not None or search.queries != 1 or search.filters is not None or not arm.plain:
            return
        if not _may_be_direct(request):
            return
        if search.filter is not None and RowFilter(view, search.filter, self._filters).few is not None:
            plain = search._replace(request=request.unfiltered, filter=None)
            if self._learn(view, plain, at_once=True):
                return
        self._learn(view, search)

    def _learn(self, view: View, search: Search, at_once: bool = False) -> bool:
        """``learn`` for a search that may have a block. at_once: the first time that it is seen. Returns whether it has one now."""
        (arm,) = search.arms
        key, blocks = (search.request, arm.name), view.snapshot.direct
        known = blocks.get(key, _UNSEEN)
        if known is _UNSEEN:
            if len(blocks) >= MAX_BLOCKS:
                blocks.clear()
            blocks[key] = known = None
            if not at_once:
                return False
        if known is None or (known and known.changes != known.files.changes):
            place = _placed(view, search, self._filters)
            if place is None:
                blocks[key] = False
                return False
            block = Block(view, search, place)
            if block.nbytes + sum([each.nbytes for each in blocks.copy().values() if each]) > MAX_BLOCK_BYTES:
                blocks.clear()
            blocks[key] = known = block
        return bool(known)

    def search(self, request: SearchRequest, vectors: Any) -> Hits | None:
        """The hits of one query; None if the long way must be gone."""
        if type(vectors) is not dict or len(vectors) != 1:
            return None
        snapshot = self._snapshots.newest
        if snapshot is None:
            return None
        ((name, query),) = vectors.items()
        block, node = snapshot.direct.get((request, name)), None
        if not block:
            # A filter that few rows match needs no block of its own: that of the same search without a filter is given these rows.
            if block is False or request.filter is None or not request.reusable:
                return None
            block = snapshot.direct.get((request.unfiltered, name))
            if not block:
                return None
            try:
                node = self._filters.bind(request.filter, snapshot.schema)
            except VectorDBError:
                return None
        if (
            type(query) is not np.ndarray
            or query.dtype is not _F32
            or query.shape != block.shape
            or not (flags := query.flags).c_contiguous
            or not flags.aligned
        ):
            query = _as_float32(block, query)
            if query is None:
                return None
        lane, env, gate = _thread.lane, self._env, self._gate
        if lane.inside is not None:  # a search inside of a search, by a signal handler: the arrays are in use
            return None
        if block.serial not in lane.fits:
            lane.fit(block)
        limit = deadline.current() or env.deadline
        try:
            limit.check()
        except VectorDBError:
            return None
        audits = block.audits
        if audits is not None and audits.is_due():
            return None
        notes = trace.current()
        clock, docids, asked = None, None, block.search
        if notes is not None:
            if node is not None:
                asked = asked._replace(request=request, filter=node)
            clock = notes.start(asked, snapshot.live, snapshot.sequence)
        out = np.empty(block.size, np.int64)
        try:
            lane.inside = gate
            if gate.shut:
                return None
            txn = env.begin_direct(snapshot.txn_id)
            if txn is None:
                return None
            try:
                if snapshot.map_moves != gate.moves or block.files.changes != block.changes:
                    return None
                block.calls = calls = block.calls + 1
                if node is not None:
                    docids = self._few(node, txn, snapshot)
                    if docids is None:
                        return None
                    told = _listed(block, lane, query, out, docids)
                elif block.measured and not calls % MEASURED_EVERY:
                    told = _measured(block, lane, query, out)
                else:
                    told = block.call(block.at, lane.at, query, out)
                if told < 0:
                    return None
                count, pieces = told & kernel.COUNT_BITS, None
                if told & _READ_MORE:
                    if told & kernel.TOUCHED:
                        block.table.confirm()
                    if told & kernel.UNREAD:
                        pieces = [bytes(each) for each in block.rows.records(out[:count].tolist())]
                if told & kernel.STORED:
                    starts = lane.starts[: count + 1].copy()
                    pieces = lane.arena[: starts[-1]].tobytes(), starts
                runs = lane.reports[: len(block.targets)].tolist() if notes is not None else None
            finally:
                txn.abort()
        finally:
            lane.inside = None
        hits = _new(Hits)
        hits._unread = block.reader, (out, count, block.k, told & kernel.INTEGERS, pieces), count
        if count == request.limit:
            if node is not None and notes is None:
                asked = asked._replace(request=request, filter=node)
            # The query is copied, because its owner may change it.
            hits._next = after_direct, (self._snapshots.collection, snapshot.state, asked, name, query.tobytes(), out, count, block.k)
        if notes is not None and clock is not None and runs is not None:
            if docids is None:
                _record(notes, clock, block, runs, out[:count])
            else:
                _record_few(notes, clock, block, asked, docids, out[:count])
        return hits

    def _few(self, node: Filter, txn: Txn, snapshot: Snapshot) -> np.ndarray | None:
        """The docids that match a canonical filter, if they are few; None if they aren't, or can't be found."""
        view = View(self._snapshots.directory, txn, snapshot, self._snapshots.collection)
        try:
            rows = matching_rows(node, view, self._filters)
        except VectorDBError:
            return None
        return rows if isinstance(rows, np.ndarray) and len(rows) <= FEW_ROWS else None


_UNSEEN = object()
_READ_MORE = kernel.TOUCHED | kernel.UNREAD


def _as_float32(block: Block, query: Any) -> np.ndarray | None:
    """A query of another form as a contiguous float32 array; None for what the long way must look at."""
    kind = type(query)
    if kind is np.ndarray:
        if query.dtype is _F64 and query.shape == block.shape and query.flags.c_contiguous and query.flags.aligned:
            narrow = np.empty(block.shape, np.float32)
            block.narrow(query, narrow)
            return narrow
    elif kind not in _LISTED:
        return None
    try:
        checked: Any = query_vector(block.name, block.spec, query)
    except (VectorDBError, TypeError, ValueError):
        return None
    return np.ascontiguousarray(checked) if checked.dtype is _F32 and checked.shape == block.shape else None


def _listed(block: Block, lane: Lane, query: np.ndarray, out: np.ndarray, docids: np.ndarray) -> int:
    """A call for some rows, given by docid."""
    addresses = lane.addresses
    addresses[kernel.FEW], addresses[kernel.FEW_COUNT] = docids.__array_interface__["data"][0], len(docids)
    try:
        return block.call(block.at, lane.at, query, out)
    finally:
        addresses[kernel.FEW_COUNT] = -1


def _measured(block: Block, lane: Lane, query: np.ndarray, out: np.ndarray) -> int:
    """A call whose time corrects the predicted cost of its plan."""
    started = time.perf_counter()
    told = block.call(block.at, lane.at, query, out)
    elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
    segment, report = block.targets[0].segment, lane.reports[0]
    setting = int(report[R_SETTING])
    if told >= 0 and setting >= 0 and not report[R_FALLBACK]:
        plan = int(segment.model(block.k).settings[setting, 0])
        segment.corrections.learn_cost(plan, float(report[R_MICROSECONDS]), elapsed)
    return told


def _record(notes: trace.SearchTrace, clock: trace.Clock, block: Block, runs: list, docids: np.ndarray) -> None:
    """Tell the record of this thread's search how it was run."""
    (arm,) = block.search.arms
    hits = [(docids, docids)]
    if block.kind is None:
        segments.record_exact(block.search, arm, block.matches, hits)
    else:
        report = Report(block.targets, block.k, [_run(block, *each) for each in zip(block.targets, runs, strict=True)])
        segments.record_report(block.search, arm, block.matches, hits, report, block.tail_rows)
    clock.lap(f"arm {arm.name}")


def _run(block: Block, target: SegmentTarget, run: list) -> Run:
    """How a segment was searched. run: its part of the report."""
    if target.allowed.few is not None and block.kind is not None and block.kind.direct_few is not None:
        return block.kind.direct_few(target, block.k)
    return Run(*run)


def _record_few(notes: trace.SearchTrace, clock: trace.Clock, block: Block, search: Search, docids: np.ndarray, found: np.ndarray) -> None:
    """``_record`` of a search among few rows."""
    (arm,) = search.arms
    hits = [(found, found)]
    if block.kind is None or block.kind.direct_few is None or not len(docids):
        segments.record_exact(search, arm, len(docids), hits)
    else:
        targets = [SegmentTarget(target.segment, SegmentMask(target.segment, docids)) for target in block.targets]
        report = Report(targets, block.k, [block.kind.direct_few(target, block.k) for target in targets])
        others = len(docids) - sum(int(target.allowed.matches[0]) for target in targets)
        segments.record_report(search, arm, len(docids), hits, report, others or None)
    clock.lap(f"arm {arm.name}")


class Whole:
    """The answer of a direct search in the form of ``execute.Answers``."""

    __slots__ = ("_hits",)
    plan = None
    facets: Mapping[str, Any] = MappingProxyType({})
    groups = ()

    def __init__(self, hits: Hits):
        self._hits = hits

    @property
    def next(self) -> bytes | None:
        return self._hits.next_bytes

    def __iter__(self) -> Iterator[Hits]:
        yield self._hits
