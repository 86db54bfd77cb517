"""Direct searches of several arms: the usual fused search of dense and sparse fields, as a kernel call for each arm and one to merge them.

As in ``direct``, what is worked out once is kept in a snapshot and void with it, and every search that is unusual goes the long way, which
finds the same. Unusual are, beside what is unusual for one arm: linear fusion and fusions of other people, which need more than lists; arms
with options of their own, and texts; a sparse field with many rows that have no index; missing="renormalise" where rows lack vectors; and
searches that are due to be measured or audited.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.ranking import DBSF, RRF, Relative
from vectordb_client.model.results import Hits
from vectordb_client.model.search_request import SearchRequest

from ..common import deadline
from ..engine.snapshot import Snapshot, Snapshots, View
from ..filters.cache import FilterCache
from ..index.base import Report, Run
from ..kernels import direct as kernel
from ..kernels import direct_arms
from ..storage.format import Txn
from . import segments, trace
from .direct_arm_blocks import ARMS, ArmLane, FusedBlock, Unusual
from .direct_arm_blocks import of_thread as lists_of_thread
from .direct_blocks import of_thread
from .fusion.ranks import present_in
from .paging import after_direct_arms
from .request import Search

# Constants: unit and meaning. Chosen, not measured.
MAX_ARMS = 4
MAX_BLOCKS, MAX_BLOCK_BYTES = 512, 32 << 20  # blocks of a snapshot, and bytes of the masks that they keep
_FUSIONS = frozenset((RRF, Relative, DBSF))
_READ_MORE = kernel.UNREAD | kernel.STORED
_UNSEEN = object()
_new = object.__new__


class DirectArms:
    """The direct searches of several arms of one collection."""

    def __init__(self, snapshots: Snapshots, filters: FilterCache):
        self._snapshots, self._filters = snapshots, filters
        self._env = snapshots.directory.env
        self._gate = self._env.gate

    def learn(self, view: View, search: Search) -> None:
        """Make the block of a search that went the long way, if it can be searched directly and was seen before in its snapshot. The caller
        has checked its options.
        """
        arms = search.arms
        if not 2 <= len(arms) <= MAX_ARMS or type(search.fusion) not in _FUSIONS:
            return
        if not all(arm.plain and arm.words is None and arm.weight is None and arm.spec.kind in ARMS for arm in arms):
            return
        key, blocks = (search.request, tuple([arm.name for arm in arms])), view.snapshot.direct
        known = blocks.get(key, _UNSEEN)
        if known is _UNSEEN:
            if len(blocks) >= MAX_BLOCKS:
                blocks.clear()
            blocks[key] = None
            return
        if known is False or (known is not None and known.changes == known.files.changes and not known.planned_anew()):
            return
        try:
            block = FusedBlock(view, search, self._filters)
        except Unusual:
            blocks[key] = False
            return
        if block.nbytes + sum([each.nbytes for each in blocks.copy().values() if each]) > MAX_BLOCK_BYTES:
            blocks.clear()
        blocks[key] = block

    def search(self, request: SearchRequest, vectors: dict[str, Any]) -> Hits | None:
        """The hits of one query; None if the long way must be gone."""
        snapshot = self._snapshots.newest
        if snapshot is None or snapshot.has_ended():
            return None
        block = snapshot.direct.get((request, tuple(vectors)))
        if not block:
            return None
        queries = []
        for convert, given in zip(block.queries, vectors.values(), strict=True):
            query = convert(given)
            if query is None:
                return None
            queries.append(query)
        lane, own = of_thread.lane, lists_of_thread.lane
        if lane.inside is not None:  # a search inside of a search, by a signal handler: the arrays are in use
            return None
        if block.serial not in own.fits:
            own.fit(block, lane)
        env, gate = self._env, self._gate
        try:
            (deadline.current() or env.deadline).check()
        except VectorDBError:
            return None
        if block.planned_anew() or block.is_due():
            return None
        notes = trace.current()
        clock = None if notes is None else notes.start(block.search, snapshot.live, snapshot.sequence)
        out, runs, pieces, present = np.empty(block.size, np.int64), [], None, None
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
                view = self._view(txn, snapshot) if block.wants_view else None
                own.lists[direct_arms.LISTS] = own.lists[direct_arms.TOTAL] = 0
                for arm, query in zip(block.arms, queries, strict=True):
                    found = arm.run(own, lane, query, view)
                    if found < 0:
                        return None
                    if clock is not None:
                        runs.append((arm.runs(own, lane, query), found & kernel.COUNT_BITS))
                        clock.lap(f"arm {arm.arm.name}")
                if block.ranks is None and not _normalise(block, own):
                    return None
                told = block.merge(block.at, own.lists_at, out)
                count = told & kernel.COUNT_BITS
                if told & _READ_MORE:
                    if told & kernel.UNREAD:
                        pieces = [bytes(each) for each in block.rows.records(out[:count].tolist())]
                    else:
                        starts = own.starts[: count + 1].copy()
                        pieces = lane.arena[: starts[-1]].tobytes(), starts
                if view is not None and not block.everywhere:
                    present = present_in(view, block.search.arms, block.reader.merged(out, count))
            finally:
                txn.abort()
        finally:
            lane.inside = None
        hits = _new(Hits)
        hits._unread = block.reader, (out, count, told & kernel.INTEGERS, pieces, present), count
        if count == request.limit:
            # The queries are copied, because their owner may change them.
            kept = [arm.kept(query) for arm, query in zip(block.arms, queries, strict=True)]
            hits._next = after_direct_arms, (self._snapshots.collection, snapshot.state, block.search, tuple(vectors), kept, out, count)
        if clock is not None:
            record(block, runs)
            clock.lap("fusion")
        return hits

    def _view(self, txn: Txn, snapshot: Snapshot) -> View:
        return View(self._snapshots.directory, txn, snapshot, self._snapshots.collection)


def _normalise(block: FusedBlock, own: ArmLane) -> bool:
    """Normalise the scores of the lists as the fusion does. Returns whether they are finite."""
    begin, normalise = 0, block.search.fusion.normalise
    for end in own.ends[: len(block.arms)].tolist():
        own.normal[begin:end] = normalise(own.scores[begin:end])
        begin = end
    return bool(np.isfinite(own.normal[:begin]).all())


def record(block: Any, runs: list[tuple[list[Run] | None, int]]) -> None:
    """Tell the record of this thread's search how the arms of a block were run."""
    for arm, (told, count) in zip(block.arms, runs, strict=True):
        hits: Any = [(range(count), range(count))]
        if told is None:
            segments.record_exact(arm.search, arm.arm, arm.matches, hits)
        else:
            segments.record_report(arm.search, arm.arm, arm.matches, hits, Report(arm.targets, arm.k, told), arm.tail_rows)
