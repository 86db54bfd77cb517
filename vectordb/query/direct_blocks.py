"""What direct searches share: blocks of addresses, the arrays of a thread, and the reader of what was found. See ``direct``."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError
from vectordb_client.model.results import Hit
from vectordb_client.model.vectors import query_vector

from ..common import deadline
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..filters.cache import FilterCache
from ..index.base import Run, SegmentTarget, TailRange
from ..index.exact import METRICS, on_one_thread
from ..index.tail import DIRECT_NUMBERS
from ..kernels import direct as kernel
from ..kernels import entry
from ..kernels.layout import REPORT_WIDTH
from ..storage import format
from ..storage.gate import Visitor
from . import segments
from .read import attribute_reader
from .request import Arm, Search
from .row_filter import RowFilter

# Constants: unit and meaning. Chosen, not measured.
MAX_HITS = 2_000  # of a search without an index; more are charged to the memory of the call
ARENA_BYTES = 1 << 18  # bytes of records of one answer that a thread has room for; more are copied one by one
MAX_FITS = 1 << 12  # blocks that a thread remembers to have room for
_F32, _F64, _LISTED = np.dtype(np.float32), np.dtype(np.float64), (list, tuple)
_hit = tuple.__new__
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
        if block.scratch is not None:
            make, sizes = block.scratch
            self.scratch = make(sizes)
            arrays[kernel.WORK] = self.scratch.work
        for column, array in arrays.items():
            self.addresses[column] = array.ctypes.data
        self.fits.add(block.serial)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.lane = Lane()


of_thread = _Thread()


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
            rows = zip(format.unpack_rows(cut(pieces)), scores.tolist(), strict=True)
            return tuple([_hit(Hit, (row.id, score, read(row.attributes), row.payload, {}, {}, {})) for row, score in rows])
        values = format.unpack_ids(cut(pieces)) if ids is None else ids.tolist()
        return tuple([_hit(Hit, (value, score, {}, None, {}, {}, {})) for value, score in zip(values, scores.tolist(), strict=True)])


def cut(pieces: Any) -> list[bytes]:
    """Pieces of msgpack as a list. They may be (all of them behind one another, where each begins, and the end)."""
    if type(pieces) is list:
        return pieces
    raw, starts = pieces[0], pieces[1].tolist()
    return [raw[low:high] for low, high in itertools.pairwise(starts)]


def piece(pieces: Any, i: int) -> bytes:
    """The i-th of some pieces of msgpack."""
    if type(pieces) is list:
        return pieces[i]
    raw, starts = pieces
    return raw[starts[i] : starts[i + 1]]


class Block:
    """Searches of one request and field in one snapshot.

    at: the address of what the kernel reads. k: hits at most. shape: of a query. targets: the segments. indexed: whether there are any.
    scratch: what makes a thread's scratch space, and its sizes; None: none is needed. chosen_ahead: as of ``IndexKind``. nbytes: of the
    masks that it keeps. Other attributes are those of the search.
    """

    stale = False  # a block of a sparse field may be

    __slots__ = (
        "_block", "_kept", "at", "audits", "call", "calls", "changes", "chosen_ahead", "files", "indexed", "k", "matches", "measured",
        "name", "narrow", "nbytes", "reader", "rows", "scratch", "search", "serial", "shape", "size", "spec", "table", "tail_rows",
        "targets",
    )  # fmt: skip

    def __init__(self, view: View, search: Search, place: Place):
        (arm,) = search.arms
        spec: Any = arm.spec  # of a type with direct searches
        self.search, self.name, self.spec, self.shape = search, arm.name, spec, (spec.dim,)
        self.k, self.targets, self.matches, self.tail_rows = place.k, place.targets, place.matches, place.tail_rows
        self.indexed, self.chosen_ahead = bool(place.kinds), any(kind.chosen_ahead for kind in place.kinds)
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
        self.scratch = place.scratch
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
            kernel.SEARCH: entry.segment_search() if place.scratch is not None else 0,
        }
        for column, value in values.items():
            head[column] = value
        ranges = [(piece.low, piece.high, place.selected, piece.docids.ctypes.data, len(piece.docids)) for piece in place.ranges]
        self._block = np.concatenate([head, place.columns, np.array(ranges, np.int64).reshape(-1)])
        self.at = self._block.ctypes.data
        self._kept = place  # its arrays' addresses are in the block
        masks = sum(target.allowed.nbytes for target in self.targets)
        self.nbytes = masks + sum(piece.docids.nbytes for piece in place.ranges) + self._block.nbytes


class Place:
    """Where the rows of a block are. ranges: those without an index; selected: only some of their rows. columns: of the targets; kept: what
    must live as long as these. kinds: of the targets. scratch: as of a block.
    """

    __slots__ = (
        "changes", "columns", "k", "kept", "kinds", "matches", "ranges", "scratch", "selected", "table", "tail_rows", "targets",
    )  # fmt: skip


def placed(view: View, search: Search, filters: FilterCache) -> Place | None:
    """The place of a search that can be done directly, else None."""
    (arm,) = search.arms
    spec: Any = arm.spec
    field_type, place = FIELD_TYPES[spec.kind], Place()
    if not field_type.direct:
        return None
    rows = RowFilter(view, search.filter, filters)
    place.changes = view.directory.index_files.changes
    ready = segments.prepared(view, arm, rows) if spec.index_options else None
    if ready is not None:
        place.k = min(search.limit, ready.matches)
        if not place.k or not _describe(place, ready, arm, search.recall):
            return None
        targets = place.targets
        place.ranges, place.selected = [piece for _, _, ranges in ready.groups for piece in ranges if len(piece.docids)], True
        if any(piece.codes is not None and piece.codes.suits(piece.docids, place.k, DIRECT_NUMBERS) for piece in place.ranges):
            return None  # a direct search reads every row of the tail at full precision
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
    place.kinds, place.targets, place.columns, place.scratch, place.kept = (), (), np.empty(0, np.int64), None, None
    place.ranges = [TailRange(0, len(place.table.rows), np.empty(0, np.uint32) if docids is None else docids)]
    place.selected, place.matches, place.tail_rows = docids is not None, rows.matches, None
    return place


def _describe(place: Place, ready: segments.Prepared, arm: Arm, recall: float) -> bool:
    """Fill the part of a place that the kinds of its segments describe. Returns whether all of them can be searched directly."""
    columns, kept, all_targets = [], [], []
    place.scratch, place.kinds = None, tuple(kind for kind, _, _ in ready.groups)
    for kind, targets, _ in ready.groups:
        if kind.direct is None or not kind.usable([target.segment for target in targets], arm.queries, place.k, False, None):
            return False
        described = kind.direct(targets, place.k, recall)
        if described is None:
            return False
        columns.append(described[0])
        kept.append(described[2])
        all_targets += targets
        if kind.direct_scratch is not None:
            if place.scratch is not None or not entry.segment_search():  # a call has the scratch space of one kind
                return False
            place.scratch = kind.direct_scratch, described[1]
    place.columns, place.kept, place.targets = np.concatenate(columns), kept, tuple(all_targets)
    return True


def as_float32(block: Block, query: Any) -> np.ndarray | None:
    """A query of another form as a contiguous float32 array; None for what the long way must look at."""
    kind = type(query)
    if kind is np.ndarray:
        plain = query.shape == block.shape and query.flags.c_contiguous and query.flags.aligned
        if plain and query.dtype == _F32:  # as an array that was unpickled has it: equal, but another object
            return query
        if plain and query.dtype == _F64:
            narrow = np.empty(block.shape, np.float32)
            block.narrow(query, narrow)
            return narrow
    elif kind not in _LISTED:
        return None
    try:
        checked: Any = query_vector(block.name, block.spec, query)
    except (VectorDBError, TypeError, ValueError):
        return None
    return np.ascontiguousarray(checked) if checked.dtype == _F32 and checked.shape == block.shape else None


def run_of(block: Block, target: SegmentTarget, run: list) -> Run:
    """How a segment was searched. run: its part of the report."""
    if target.allowed.few is not None or not target.allowed.matches[0]:
        return type(target.segment).direct_few(target, block.k)
    return Run(*run)
