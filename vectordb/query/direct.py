"""Direct searches: the usual search of one dense field as one kernel call, with little of Python around it. Those of several fields are in
``direct_arms``.

What such searches share (field, filter, limit, recall, selection of attributes) is worked out once for a snapshot and kept in it as a
``Block`` of addresses. It is void with the snapshot: after every commit, by whichever process, and when the memory map moves. Every search
that is unusual in any way returns None here, before anything was done, and goes the long way (``execute``). Only that raises errors, except
for damage that is found while the rows are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import Hits
from vectordb_client.model.search_request import SearchRequest

from ..common import deadline
from ..engine.snapshot import Snapshot, Snapshots, View
from ..filters.bitmap import matching_rows
from ..filters.cache import FilterCache
from ..index.base import Report, SegmentTarget
from ..index.mask import FEW_ROWS, SegmentMask
from ..index.model import MEASURED_EVERY
from ..kernels import direct as kernel
from ..kernels.layout import R_FALLBACK, R_MICROSECONDS, R_SETTING
from ..storage.format import Txn
from . import segments, trace
from .direct_arm_blocks import Unusual
from .direct_arms import DirectArms
from .direct_blocks import Block, Lane, as_float32, of_thread, placed, run_of
from .direct_sparse import DirectSparse, SparseBlock
from .groups import direct_requests
from .paging import after_direct
from .request import Search
from .row_filter import RowFilter

# Constants: unit and meaning. Chosen, not measured.
MAX_BLOCKS, MAX_BLOCK_BYTES = 512, 32 << 20  # blocks of a snapshot, and bytes of the masks that they keep
CHOSEN_ANEW = 256  # searches for which a block is kept whose plans were chosen when it was made
CALL_MICROSECONDS = 1.0  # microseconds of a direct call beside the segment's search, subtracted from measured times
# Options that a direct search may have; with all others it goes the long way. Those of fusion don't matter to one arm.
_DIRECT = frozenset(("filter", "limit", "recall", "with_attributes", "candidates", "fusion"))
SPARSE = "sparse"  # the kind of field of ``direct_sparse``
_F32 = np.dtype(np.float32)
_new = object.__new__


def _may_be_direct(request: SearchRequest) -> bool:
    """Whether a request has no option but those of direct searches. Kept with it: most searches have a request that was seen before."""
    known = request.__dict__.get("_alone")
    if known is None:
        known = request.__dict__["_alone"] = _DIRECT.issuperset(request.changed())
    return known


class DirectSearches:
    """The direct searches of one collection."""

    def __init__(self, snapshots: Snapshots, filters: FilterCache):
        self._snapshots = snapshots
        self._filters = filters
        self._env, self._memory = snapshots.directory.env, snapshots.directory.memory
        self._gate = self._env.gate
        self._arms, self._sparse = DirectArms(snapshots, filters), DirectSparse(snapshots, filters)

    def learn(self, view: View, search: Search) -> None:
        """Make the block of a search that went the long way, if it can be searched directly and was seen before in its snapshot."""
        request = search.request
        if request.group_by is not None:
            known = direct_requests(request) if search.queries == 1 else None
            for plain in known.all if known is not None else ():
                self.learn(view, search._replace(request=plain, limit=plain.limit))
            return
        if not request.reusable or search.exact or search.explain or search.vectors or search.changed:
            return
        if len(search.arms) != 1:
            if search.prefetch is None and search.queries == 1 and search.filters is None and _may_be_direct(request):
                self._arms.learn(view, search)
            return
        (arm,) = search.arms
        if search.prefetch is not None or arm.words is not None or search.queries != 1 or search.filters is not None or not arm.plain:
            return
        if not _may_be_direct(request):
            return
        few = search.filter is not None and arm.spec.kind != SPARSE and RowFilter(view, search.filter, self._filters).few is not None
        if few:
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
        if known is None or (known and (known.changes != known.files.changes or known.stale)):
            block = self._made(view, search)
            if block is None:
                blocks[key] = False
                return False
            if block.nbytes + sum([each.nbytes for each in blocks.copy().values() if each]) > MAX_BLOCK_BYTES:
                blocks.clear()
            blocks[key] = known = block
        return bool(known)

    def _made(self, view: View, search: Search) -> Block | SparseBlock | None:
        """The block of a search; None if it can't be done directly."""
        if search.arms[0].spec.kind == SPARSE:
            try:
                return SparseBlock(view, search, self._filters)
            except Unusual:
                return None
        place = placed(view, search, self._filters)
        return None if place is None else Block(view, search, place)

    def search(self, request: SearchRequest, vectors: Any, among: np.ndarray | None = None) -> Hits | None:
        """The hits of one query; None if the long way must be gone. among: search these live rows only (docids, uint32 ascending)."""
        if type(vectors) is not dict:
            return None
        if len(vectors) != 1:
            hits = self._arms.search(request, vectors)
            if self._memory.watched:
                self._memory.look()
            return hits
        snapshot = self._snapshots.newest
        if snapshot is None or snapshot.has_ended():
            return None
        ((name, query),) = vectors.items()
        block, node = snapshot.direct.get((request, name)), None
        if type(block) is SparseBlock:
            return None if among is not None else self._sparse.search(block, snapshot, request, query)
        if not block:
            # A filter that few rows match needs no block of its own: that of the same search without a filter is given these rows.
            if block is False or request.filter is None or not request.reusable:
                return None
            block = snapshot.direct.get((request.unfiltered, name))
            if not block or type(block) is SparseBlock:
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
            query = as_float32(block, query)
            if query is None:
                return None
        lane, env, gate = of_thread.lane, self._env, self._gate
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
                if block.chosen_ahead and not calls % CHOSEN_ANEW:
                    snapshot.direct[block.search.request, name] = None  # the next search goes the long way, and chooses anew
                if node is not None or among is not None:
                    docids = among if node is None else self._few(node, txn, snapshot)
                    if docids is None:
                        return None
                    told = _listed(block, lane, query, out, docids)
                elif calls % MEASURED_EVERY:
                    told = block.call(block.at, lane.at, query, out)
                else:
                    told = _measured(block, lane, query, out)
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
        if self._memory.watched:
            self._memory.look()
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


def _listed(block: Block, lane: Lane, query: np.ndarray, out: np.ndarray, docids: np.ndarray) -> int:
    """A call for some rows, given by docid."""
    addresses = lane.addresses
    addresses[kernel.FEW], addresses[kernel.FEW_COUNT] = docids.__array_interface__["data"][0], len(docids)
    try:
        return block.call(block.at, lane.at, query, out)
    finally:
        addresses[kernel.FEW_COUNT] = -1


def _measured(block: Block, lane: Lane, query: np.ndarray, out: np.ndarray) -> int:
    """A call after which predictions are corrected; by its time too where one segment is searched."""
    for target in block.targets:
        target.segment.follow()
    if not block.measured:
        return block.call(block.at, lane.at, query, out)
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
    if not block.indexed:
        segments.record_exact(block.search, arm, block.matches, hits)
    else:
        report = Report(block.targets, block.k, [run_of(block, *each) for each in zip(block.targets, runs, strict=True)])
        segments.record_report(block.search, arm, block.matches, hits, report, block.tail_rows)
    clock.lap(f"arm {arm.name}")


def _record_few(notes: trace.SearchTrace, clock: trace.Clock, block: Block, search: Search, docids: np.ndarray, found: np.ndarray) -> None:
    """``_record`` of a search among few rows."""
    (arm,) = search.arms
    hits = [(found, found)]
    if not block.indexed or not len(docids):
        segments.record_exact(search, arm, len(docids), hits)
    else:
        targets = [SegmentTarget(target.segment, SegmentMask(target.segment, docids)) for target in block.targets]
        report = Report(targets, block.k, [type(target.segment).direct_few(target, block.k) for target in targets])
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
