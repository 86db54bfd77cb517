"""What direct searches of several arms share: a block of addresses for each arm and for their fusion, the arrays of a thread, and the
reader of what was found. See ``direct_arms``.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.ranking import RRF
from vectordb_client.model.results import Hit
from vectordb_client.model.vectors import query_vector

from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..fields.base import writable
from ..filters.cache import FilterCache
from ..index import exact
from ..index.base import Run
from ..index.impact import direct as impact
from ..index.impact.search import by_postings, keys_of
from ..index.model import MEASURED_EVERY
from ..kernels import direct_arms as kernel
from ..kernels import entry
from ..kernels.direct import REFUSED, TOUCHED
from ..kernels.impact_layout import REPORT_WIDTH
from ..kernels.layout import R_FALLBACK, R_MICROSECONDS, R_SETTING
from ..storage import format
from . import segments
from .direct_blocks import Block, Lane, as_float32, cut, placed, run_of
from .fusion.depths import Choice, FusedRecall, Point
from .fusion.lists import planned
from .fusion.missing import arm_weights, everywhere
from .fusion.ranks import ArmScores, Merged
from .read import attribute_reader
from .request import Arm, Search
from .row_filter import RowFilter

# Constants: unit and meaning. Chosen, not measured.
MAX_TAIL = 20_000  # rows of a sparse arm without an index; with more a search takes so long that nothing else matters
MAX_SPARSE_ROWS = 4_000_000  # rows of the segments of a sparse arm, because the deadline isn't checked between segments
CALL_MICROSECONDS = 1.0  # microseconds of a call beside the segment's search, subtracted from measured times
CHOSEN_ANEW = 256  # searches for which a dense arm is kept whose plans were chosen when it was made
MAX_FITS = 1 << 12  # blocks that a thread remembers to have room for
_hit = tuple.__new__
serials = itertools.count()  # a thread knows the blocks that it has room for by their numbers
_F32, _U64 = np.dtype(np.float32), np.dtype(np.uint64)
_INTEGERS = frozenset(map(np.dtype, (np.uint64, np.int64, np.int32, np.uint32)))
_NO_KEYS = np.empty(0, np.int64)


class ArmLane:
    """One thread's arrays for the lists of arms, and their addresses as the kernels read them."""

    def __init__(self) -> None:
        self.fits: set[int] = set()
        self.lists, self.sparse = np.zeros(kernel.LISTS_WIDTH, np.int64), np.zeros(kernel.SPARSE_LANE_WIDTH, np.int64)
        self.lists_at, self.sparse_at = self.lists.ctypes.data, self.sparse.ctypes.data
        self.docids, self.scores, self.normal = np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0)
        self.ends, self.starts = np.empty(0, np.int64), np.empty(0, np.int64)
        self.reports = np.empty((0, REPORT_WIDTH), np.int64)
        self._sparse_arrays: dict[int, np.ndarray] = {}
        self._scratch: Any = None

    def fit(self, block: Any, lane: Lane) -> None:
        """Grow the arrays of this lane and of that for dense arms for searches with a block."""
        if len(self.fits) >= MAX_FITS:
            self.fits.clear()
        total = sum(arm.k for arm in block.arms)
        if len(self.docids) < total:
            self.docids, self.scores, self.normal = np.empty(total, np.int64), np.empty(total, np.float32), np.empty(total)
        if len(self.ends) < len(block.arms):
            self.ends = np.empty(len(block.arms), np.int64)
        if len(self.starts) <= block.limit:
            self.starts = np.empty(block.limit + 1, np.int64)
        arrays = {
            kernel.DOCIDS: self.docids,
            kernel.SCORES: self.scores,
            kernel.NORMAL: self.normal,
            kernel.ENDS: self.ends,
            kernel.STARTS: self.starts,
            kernel.ARENA: lane.arena,
        }
        for column, array in arrays.items():
            self.lists[column] = array.ctypes.data
        self.lists[kernel.ARENA_BYTES] = len(lane.arena)
        for arm in block.arms:
            arm.fit(self, lane)
        self.fits.add(block.serial)

    def fit_sparse(self, columns: impact.ImpactColumns) -> None:
        """Grow the arrays of sparse arms."""
        if len(self.reports) < len(columns.searched):
            self.reports = np.empty((len(columns.searched), REPORT_WIDTH), np.int64)
        held = self._sparse_arrays
        wanted = {
            kernel.BEST: (columns.k, np.int64),
            kernel.HEAP: (columns.k, np.int64),
            kernel.TERMS: (impact.MAX_QUERY_TERMS, np.uint64),
            kernel.WEIGHTS: (impact.MAX_QUERY_TERMS, np.float32),
        }
        for column, (size, dtype) in wanted.items():
            if column not in held or len(held[column]) < size:
                held[column] = np.empty(size, dtype)
            self.sparse[column] = held[column].ctypes.data
        self._scratch = impact.scratch(columns.sizes)
        self.sparse[kernel.WORK], self.sparse[kernel.REPORTS] = self._scratch.work.ctypes.data, self.reports.ctypes.data


class _Thread(threading.local):
    def __init__(self) -> None:
        self.lane = ArmLane()


of_thread = _Thread()


class DenseArm:
    """A dense arm of a block: that of a direct search of this arm alone."""

    wants_view = False

    def __init__(self, view: View, search: Search, arm: Arm, point: Point, rows: RowFilter, filters: FilterCache):
        """Raises Unusual."""
        self.arm, self.stale, self.search = arm, False, search if point.recall == search.recall else search.with_recall(point.recall)
        alone = search._replace(arms=(arm,), limit=point.depth, recall=point.recall, attributes=False)
        place = placed(view, alone, filters)
        if place is None:
            raise Unusual
        self.block = Block(view, alone, place)
        self.k, self.nbytes, self.changes = self.block.k, self.block.nbytes, self.block.changes
        self.audited = self.block.audits is not None
        self._call, self._at = entry.dense_list(), self.block.at

    def fit(self, own: ArmLane, lane: Lane) -> None:
        lane.fit(self.block)

    def query(self, given: Any) -> np.ndarray | None:
        """A query as the kernel takes it; None for what the long way must look at."""
        block = self.block
        if type(given) is np.ndarray and given.dtype is _F32 and given.shape == block.shape:
            flags = given.flags
            if flags.c_contiguous and flags.aligned:
                return given
        return as_float32(block, given)

    def kept(self, query: np.ndarray) -> bytes:
        """The bytes of a query, for the cursor of the next page."""
        return query.tobytes()

    def run(self, own: ArmLane, lane: Lane, query: np.ndarray, view: View | None) -> int:
        """Add the arm's list. Returns what ``list_dense`` does."""
        block = self.block
        block.calls = calls = block.calls + 1
        self.stale = self.stale or (block.chosen_ahead and not calls % CHOSEN_ANEW)
        if calls % MEASURED_EVERY == 0:
            for target in block.targets:
                target.segment.follow()
        if calls % MEASURED_EVERY or not block.measured:
            told = self._call(self._at, lane.at, own.lists_at, query)
        else:
            started = time.perf_counter()
            told = self._call(self._at, lane.at, own.lists_at, query)
            elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
            segment, report = block.targets[0].segment, lane.reports[0]
            setting = int(report[R_SETTING])
            if told >= 0 and setting >= 0 and not report[R_FALLBACK]:
                plan = int(segment.model(block.k).settings[setting, 0])
                segment.corrections.learn_cost(plan, float(report[R_MICROSECONDS]), elapsed)
        if told >= TOUCHED:
            block.table.confirm()
        return told

    def runs(self, own: ArmLane, lane: Lane, query: np.ndarray) -> list[Run] | None:
        """How the segments were searched by the last call; None without an index."""
        block = self.block
        if not block.indexed:
            return None
        reports = lane.reports[: len(block.targets)].tolist()
        return [run_of(block, *each) for each in zip(block.targets, reports, strict=True)]

    @property
    def targets(self) -> Sequence[Any]:
        return self.block.targets

    @property
    def matches(self) -> int:
        return self.block.matches

    @property
    def tail_rows(self) -> int | None:
        return self.block.tail_rows


class SparseArm:
    """A sparse arm of a block: its segments, and an exact search of the rows without an index. stale: other segments than before are to be
    searched by their postings, which needs a new block.
    """

    stale = False

    def __init__(self, view: View, search: Search, arm: Arm, point: Point, rows: RowFilter, filters: FilterCache):
        """Raises Unusual."""
        self.arm, self.search, self._filters = arm, search if point.recall == search.recall else search.with_recall(point.recall), filters
        self._spec: Any = arm.spec  # of a sparse field
        self._type, self.changes = FIELD_TYPES[arm.spec.kind], view.directory.index_files.changes
        ready = segments.prepared(view, arm, rows) if arm.spec.index_options else None
        self.targets: Sequence[Any] = ()
        self._indexed = self.audited = ready is not None
        if ready is None:
            table = view.chunks(view.fields[arm.field], self._type.search_part)
            table.verify_all()
            self.matches, self.tail_rows, docids = rows.matches, None, rows.rows()
            tail_rows = rows.matches
            self._tail: list[tuple[int, int, np.ndarray | None]] = [(0, len(table.rows), docids)]
        else:
            if len(ready.groups) != 1:
                raise Unusual
            table, self.matches, self.tail_rows = ready.table, ready.matches, ready.tail_rows
            ((_, self.targets, ranges),) = ready.groups
            self._tail = [(piece.low, piece.high, piece.docids) for piece in ranges if len(piece.docids)]
            tail_rows = sum(len(piece.docids) for piece in ranges)
        self.k = min(point.depth, self.matches)
        if not self.k or tail_rows > MAX_TAIL:
            raise Unusual
        self._saturation = self._type.saturation(view, arm.field)
        self.columns = impact.ImpactColumns(self.targets, self.k, point.recall, self._saturation)
        self.columns.head[kernel.SEARCH] = entry.impact_search()
        rows_held = sum(target.segment.rows for target in self.columns.searched)
        if not self.columns.usable or not self.columns.head[kernel.SEARCH] or rows_held > MAX_SPARSE_ROWS:
            raise Unusual
        self._table = table.rows
        self.wants_view = self._spec.weighting == "idf"
        self._block = np.concatenate([self.columns.head, self.columns.rows.reshape(-1)])
        self._rows = self._block[kernel.HEAD_WIDTH :].reshape(-1, kernel.TARGET_WIDTH)
        self._at, self._call = self._block.ctypes.data, entry.sparse_list()
        self._left_out, self._calls = self.columns.choose(self._rows), 0  # segments whose plan isn't a part of the call
        self._timed = len(self.targets) == 1 and not self._tail
        self.nbytes = self._block.nbytes + sum(target.allowed.nbytes for target in self.targets)

    def fit(self, own: ArmLane, lane: Lane) -> None:
        own.fit_sparse(self.columns)

    def query(self, given: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """A query as the kernel takes it, which checks arrays itself; None for what the long way must look at."""
        if type(given) is tuple and len(given) == 2 and not self._checked():
            terms, weights = given
            both = type(terms) is type(weights) is np.ndarray and terms.ndim == weights.ndim == 1
            if both and weights.dtype == _F32 and terms.dtype in _INTEGERS and weights.flags.carray:
                return (terms if terms.dtype == _U64 and terms.flags.carray else terms.astype(np.uint64)), weights
        try:
            checked: Any = query_vector(self.arm.name, self._spec, given)
        except (VectorDBError, TypeError, ValueError):
            return None
        if type(checked) is not tuple:  # of a derived field: a vector of its source
            return None
        return writable(checked[0]), writable(checked[1])

    def _checked(self) -> bool:
        """Whether queries must be checked before the call."""
        return bool(self._spec.binary or self.wants_view or self._tail or self._left_out)

    def kept(self, query: tuple[np.ndarray, np.ndarray]) -> tuple[bytes, bytes]:
        return query[0].tobytes(), query[1].tobytes()

    def run(self, own: ArmLane, lane: Lane, query: tuple[np.ndarray, np.ndarray], view: View | None) -> int:
        """Add the arm's list. Returns what ``list_sparse`` does."""
        self._calls = calls = self._calls + 1
        measured = not calls % MEASURED_EVERY
        if measured:
            for target in self.columns.searched:
                target.segment.corrections.calls += MEASURED_EVERY
            if self.columns.choose(self._rows, self._left_out) != self._left_out:
                self.stale = True
                return REFUSED
        if view is not None and self.wants_view:
            (query,) = self._type.prepare(view, self.arm.field, [query], self._filters)
        terms, weights = query
        if not measured or not self._timed:
            more = self._more(terms, weights) if self._tail or self._left_out else _NO_KEYS
            return self._call(self._at, own.sparse_at, own.lists_at, terms, weights, more)
        started = time.perf_counter()
        more = self._more(terms, weights)
        told = self._call(self._at, own.sparse_at, own.lists_at, terms, weights, more)
        elapsed = max(1e6 * (time.perf_counter() - started) - CALL_MICROSECONDS, 0.1)
        if told >= 0 and self.columns.searched:
            segment, choice = self.columns.searched[0].segment, self.columns.choices[0]
            segment.corrections.learn_cost(int(self._rows[0, kernel.PLAN]), choice.microseconds, elapsed)
        return told

    def _more(self, terms: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The keys of the best rows without an index, and of those of segments that are searched by their postings."""
        found, query, k = [_NO_KEYS], (terms, weights), self.k
        for target in self._left_out:
            found.append(by_postings(self._table, self._saturation, target, query, min(k, int(target.allowed.matches[0]))))
        for low, high, docids in self._tail:
            found.append(keys_of(exact.search_sparse(self._table[low:high], terms, weights, k, docids, self._saturation)))
        return np.concatenate(found)

    def runs(self, own: ArmLane, lane: Lane, query: tuple[np.ndarray, np.ndarray]) -> list[Run] | None:
        if not self._indexed:
            return None
        return self.columns.runs(own.reports[: len(self.columns.searched)], self._left_out, query[0])


ARMS: dict[str, type[DenseArm] | type[SparseArm]] = {"dense": DenseArm, "sparse": SparseArm}  # by the kind of the field


class Unusual(Exception):
    """A search can't be done directly."""


class FusedBlock:
    """Searches of one request and some fields in one snapshot. limit: hits at most. everywhere: every row has a vector for each arm.
    recalls, choice: what was measured of such searches, and the points that follow from it; None if nothing is.
    """

    def __init__(self, view: View, search: Search, filters: FilterCache):
        """Raises Unusual."""
        rows = RowFilter(view, search.filter, filters)
        self.search, self.recall, self.limit = search, search.recall, search.limit
        self.recalls: FusedRecall | None
        self.choice: Choice | None
        self.recalls, self.choice, points = planned(view, search, rows)
        self.everywhere = all(everywhere(view, arm) for arm in search.arms)
        if search.fusion.missing != "zero" and not self.everywhere:
            raise Unusual
        self.arms = [ARMS[arm.spec.kind](view, search, arm, point, rows, filters) for arm, point in zip(search.arms, points, strict=True)]
        self.queries = [arm.query for arm in self.arms]
        self.files, self.changes = view.directory.index_files, self.arms[0].changes
        if any(arm.changes != self.changes for arm in self.arms):
            raise Unusual
        self.wants_view = not self.everywhere or any(arm.wants_view for arm in self.arms)
        self.audits, self.audited = view.directory.audits, sum(arm.audited for arm in self.arms)
        self.weights = arm_weights(search)
        self.ranks = search.fusion.normalise(np.empty(max(arm.k for arm in self.arms))).copy() if type(search.fusion) is RRF else None
        self.rows = view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
        self.reader = FusedRows(view, search, self.limit, self.weights)
        self.merge, self.serial = entry.merge_arms(), next(serials)
        self.size = self.limit * (3 + 4 * len(self.arms))
        values = {
            kernel.LIMIT: self.limit,
            kernel.ARMS: len(self.arms),
            kernel.FACTORS: self.weights.ctypes.data,
            kernel.RANKS: 0 if self.ranks is None else self.ranks.ctypes.data,
            kernel.ROWS_TABLE: self.rows.rows.ctypes.data,
            kernel.ROWS_CHUNKS: len(self.rows.rows),
            kernel.ROWS_VERIFIED: self.rows.verified.ctypes.data,
            kernel.RECORDS: self.reader.read is not None,
        }
        self._block = np.zeros(kernel.FUSION_WIDTH, np.int64)
        for column, value in values.items():
            self._block[column] = value
        self.at = self._block.ctypes.data
        self.nbytes = self._block.nbytes + 8 * self.size + sum(arm.nbytes for arm in self.arms)

    def planned_anew(self) -> bool:
        """Whether the arms are to be read otherwise now."""
        for arm in self.arms:
            if arm.stale:
                return True
        if self.recalls is None or self.choice is None:
            return False
        choice = self.recalls.choose(self.recall)
        return choice is not self.choice and choice.points != self.choice.points

    def is_due(self) -> bool:
        """Whether the current search must go where it can be measured and audited, and be counted there. If not, it is counted here."""
        if self.recalls is not None and self.audits.share and self.recalls.is_due():
            return True
        return bool(self.audited) and self.audits.is_due(self.audited)


class FusedRows:
    """Makes hits of what a direct search of several arms has found: (what ``merge_arms`` writes, the number of hits, whether all ids are
    integers, the pieces of msgpack or None, which arms hits have vectors for or None).
    """

    __slots__ = ("_arms", "_limit", "_search", "_weights", "bare", "read")

    def __init__(self, view: View, search: Search, limit: int, weights: np.ndarray):
        self.read, self.bare = attribute_reader(view.schema, search.attributes), False
        self._search, self._limit, self._weights, self._arms = search, limit, weights, len(search.arms)

    def columns(self, found: tuple) -> tuple[np.ndarray | None, np.ndarray]:
        out, count, integers = found[:3]
        limit, most = self._limit, np.finfo(np.float32).max  # a sum of float32 scores may exceed their range
        sums = out[2 * limit : 2 * limit + count].view(np.float64)
        ids = out[limit : limit + count].view(np.uint64) if integers else None
        return ids, np.clip(sums, -most, most).astype(np.float32)

    def merged(self, out: np.ndarray, count: int) -> Merged:
        """The rows as a fusion makes them."""
        limit, arms = self._limit, self._arms
        places = out[3 * limit : (3 + arms) * limit].reshape(limit, arms)[:count]
        facts = out[(3 + arms) * limit :].view(np.float64).reshape(3, limit, arms)[:, :count]
        return Merged(out[:count], out[2 * limit : 2 * limit + count].view(np.float64), places, facts)

    def hits(self, found: tuple) -> tuple[Hit, ...]:
        out, count, integers, pieces, present = found
        merged = self.merged(out, count)
        sums, arms = merged.sums.tolist(), ArmScores(merged, self._weights, present, self._search)
        read = self.read
        if read is not None:
            rows = zip(format.unpack_rows(cut(pieces)), sums, arms, strict=True)
            return tuple([_hit(Hit, (row.id, score, read(row.attributes), row.payload, arm, {}, {})) for row, score, arm in rows])
        ids = out[self._limit : self._limit + count].view(np.uint64).tolist() if integers else format.unpack_ids(cut(pieces))
        return tuple([_hit(Hit, (value, score, {}, None, arm, {}, {})) for value, score, arm in zip(ids, sums, arms, strict=True)])
