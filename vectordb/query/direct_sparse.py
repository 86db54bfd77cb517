"""Direct searches of one sparse field: a kernel call finds the best rows, and one reads their ids.

As in ``direct_arms``, of which this is the case of one arm whose scores aren't fused, every search that is unusual goes the long way, which
finds the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.results import Hits
from vectordb_client.model.search_request import SearchRequest

from ..common import deadline
from ..engine.snapshot import Snapshot, Snapshots, View
from ..filters.cache import FilterCache
from ..kernels import direct as kernel
from ..kernels import direct_arms, entry
from ..storage import format
from . import trace
from .direct_arm_blocks import SparseArm, serials
from .direct_arm_blocks import of_thread as lists_of_thread
from .direct_arms import record
from .direct_blocks import RowReader, of_thread
from .fusion.depths import Point
from .paging import after_direct
from .request import Search
from .row_filter import RowFilter

_READ_MORE = kernel.UNREAD | kernel.STORED
_new = object.__new__


class SparseBlock:
    """Searches of one request and a sparse field in one snapshot. limit: hits at most."""

    def __init__(self, view: View, search: Search, filters: FilterCache):
        """Raises Unusual."""
        (given,) = search.arms
        rows = RowFilter(view, search.filter, filters)
        self.search, self.name = search, given.name
        self.arm = SparseArm(view, search, given, Point(search.limit, search.recall), rows, filters)
        self.arms, self.limit, self.serial = [self.arm], self.arm.k, next(serials)
        self.files, self.changes = view.directory.index_files, self.arm.changes
        self.audits = view.directory.audits if self.arm.audited else None
        self.rows = view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
        self.reader, self.read = RowReader(view, search), entry.list_reader()
        self.size = 2 * self.limit + (self.limit + 1) // 2
        values = {
            direct_arms.LIMIT: self.limit,
            direct_arms.ARMS: 1,
            direct_arms.ROWS_TABLE: self.rows.rows.ctypes.data,
            direct_arms.ROWS_CHUNKS: len(self.rows.rows),
            direct_arms.ROWS_VERIFIED: self.rows.verified.ctypes.data,
            direct_arms.RECORDS: not self.reader.bare,
        }
        self._block = np.zeros(direct_arms.FUSION_WIDTH, np.int64)
        for column, value in values.items():
            self._block[column] = value
        self.at = self._block.ctypes.data
        self.nbytes = self._block.nbytes + 8 * self.size + self.arm.nbytes

    @property
    def stale(self) -> bool:
        """Whether its segments are to be searched otherwise now."""
        return self.arm.stale


class DirectSparse:
    """The direct searches of sparse fields of one collection."""

    def __init__(self, snapshots: Snapshots, filters: FilterCache):
        self._snapshots, self._filters = snapshots, filters
        self._env = snapshots.directory.env

    def search(self, block: SparseBlock, snapshot: Snapshot, request: SearchRequest, given: Any) -> Hits | None:
        """The hits of one query; None if the long way must be gone."""
        arm = block.arm
        query = arm.query(given)
        if query is None or block.stale:
            return None
        lane, own = of_thread.lane, lists_of_thread.lane
        if lane.inside is not None:  # a search inside of a search, by a signal handler: the arrays are in use
            return None
        if block.serial not in own.fits:
            own.fit(block, lane)
        env, gate = self._env, self._env.gate
        try:
            (deadline.current() or env.deadline).check()
        except VectorDBError:
            return None
        if block.audits is not None and block.audits.is_due():
            return None
        notes = trace.current()
        clock = None if notes is None else notes.start(block.search, snapshot.live, snapshot.sequence)
        out, pieces, runs = np.empty(block.size, np.int64), None, None
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
                view = View(self._snapshots.directory, txn, snapshot, self._snapshots.collection) if arm.wants_view else None
                own.lists[direct_arms.LISTS] = own.lists[direct_arms.TOTAL] = 0
                found = arm.run(own, lane, query, view)
                if found < 0:
                    return None
                if clock is not None:
                    runs = [(arm.runs(own, lane, query), found & kernel.COUNT_BITS)]
                told = block.read(block.at, own.lists_at, out)
                count = told & kernel.COUNT_BITS
                if told & kernel.UNREAD:
                    pieces = [bytes(each) for each in block.rows.records(out[:count].tolist())]
                elif told & kernel.STORED:
                    starts = own.starts[: count + 1].copy()
                    pieces = lane.arena[: starts[-1]].tobytes(), starts
            finally:
                txn.abort()
        finally:
            lane.inside = None
        hits = _new(Hits)
        hits._unread = block.reader, (out, count, block.limit, told & kernel.INTEGERS, pieces), count
        if count == request.limit:
            # The query is copied, because its owner may change it.
            kept = arm.kept(query)
            hits._next = after_direct, (self._snapshots.collection, snapshot.state, block.search, block.name, kept, out, count, block.limit)
        if clock is not None and runs is not None:
            record(block, runs)
            clock.lap(f"arm {block.name}")
        return hits
