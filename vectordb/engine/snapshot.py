"""The state of a collection that one query sees: a sequence, its live rows, chunk tables of fields, and open index segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lmdb
import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import NotFoundError
from vectordb_client.model.fields import Column, VectorField
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id

from ..common import deadline
from ..fields import FIELD_TYPES
from ..index.base import IndexKind
from ..kernels import columns
from ..storage import catalog, format, segments, tables
from ..storage.attribute_forms import Ordinals
from ..storage.catalog import Meta
from ..storage.env import Env
from ..storage.segments import Record, Records
from ..storage.store import Store
from ..storage.tables import ChunkTable
from .index_files import Files, files_of


@dataclass(frozen=True, eq=False)
class OpenSegment:
    """A mapped index file of docids [first, end)."""

    first: int
    end: int
    file: str
    segment: IndexKind
    record: Record


class Snapshot:
    """A collection at one sequence. Its tables contain addresses: use it only inside a read transaction at that sequence."""

    def __init__(self, sequence: int, rows: int, live: int, meta: Meta, schema: Schema, dead: BitMap, known: dict[int, Ordinals]):
        # ``load`` fills in the other attributes.
        self.sequence = sequence
        self.rows = rows
        self.live = live
        self.meta = meta
        self.schema = schema
        self.dead = dead
        self.known = known  # field → committed term numbers, which never change, so all snapshots share them
        self.txn_id = -1
        self.map_moves = -1
        self.derived = (0, 0)  # numbers of compactions and of replacements of index files
        self.records: Records = {}
        self.record_problems: list[str] = []
        self.indexable: dict[int, VectorField] = {}  # field number → definition, of fields that can have index files
        self.vectors: frozenset[int] = frozenset()  # the numbers of all vector fields
        self._files: Files | None = None
        self._files_changes = 0
        self._last_txn: Callable[[], int] = lambda: -1
        self._open: dict[int, tuple[OpenSegment, ...]] = {}
        self._open_before: dict[
            int, tuple[OpenSegment, ...]
        ] = {}  # segments of the previous registry, kept until those of the new one are open
        self._tails: dict[int, tuple[tuple[OpenSegment, ...], list[tuple[int, int]]]] = {}
        self._tables: dict[tuple[int, int], ChunkTable] = {}
        self._previous: dict[tuple[int, int], ChunkTable] = {}
        self._live_rows: np.ndarray | None = None
        self._dead_words: np.ndarray | None = None
        self.prepared: dict = {}  # cache of segment lists and tail ranges per (field, filter)

    def table(self, store: Store, field: int, part: int) -> ChunkTable:
        """The chunk table of a part, read on first use."""
        key = (field, part)
        found = self._tables.get(key)
        if found is None:
            # Two threads may load it at the same time: the tables are equal, and the last one is kept.
            lazy = part == format.FORWARD and (
                field == format.ROWS_FIELD or field in self.vectors
            )  # large parts, of which queries read a few chunks
            found = tables.load(store, field, part, self._previous.get(key), lazy=lazy, generation=self.derived[0])
            self._tables[key] = found
            self._previous.pop(key, None)
        return found

    def segments(self, field: int) -> tuple[OpenSegment, ...]:
        """The open segments of a field (by number), ordered by first docid. ``tail`` has the docids that no segment covers."""
        files = self._files
        if files is None:
            return ()
        if files.changes != self._files_changes:  # a file turned out to be unusable
            self._files_changes, self._open = files.changes, {}
        found = self._open.get(field)
        return self._opened(field, files) if found is None else found

    def _opened(self, field: int, files: Files) -> tuple[OpenSegment, ...]:
        found, whole = [], True
        for record in self.records.get(field, ()):
            try:
                segment = files.open(record, self.indexable[field])
            except FileNotFoundError:
                if self._last_txn() == self.txn_id:
                    files.missing(record)
                else:  # replaced meanwhile: the next snapshot has the new file
                    whole = False
                continue
            if segment is not None:
                found.append(OpenSegment(record.first, record.end, record.file, segment, record))
        opened = tuple(found)
        if whole:
            self._open[field] = opened
            self._open_before.pop(field, None)
        return opened

    def tail(self, field: int) -> list[tuple[int, int]]:
        """Docid ranges [low, high) that no open segment of the field covers, ascending."""
        return self.cover(field)[1]

    def cover(self, field: int) -> tuple[tuple[OpenSegment, ...], list[tuple[int, int]]]:
        """(segments, tail) that fit together. Between two separate calls a file may turn out to be unusable."""
        opened = self.segments(field)
        known = self._tails.get(field)
        if known is None or known[0] is not opened:
            known = self._tails[field] = (opened, _gaps(opened, self.rows))
        return known

    def stored_rows(self, store: Store) -> int:
        """Number of rows with a stored record: live ones, and dead ones that were not compacted yet."""
        return self.table(store, format.ROWS_FIELD, format.FORWARD).present

    def live_between(self, store: Store, field: int, low: int, high: int) -> np.ndarray:
        """Docids in [low, high) that are live and have the field, uint32 ascending."""
        table = self.table(store, field, format.FORWARD)
        present = [docids for _, _, docids in table.between(low, high)]
        if not present:
            return np.empty(0, np.uint32)
        docids = np.concatenate(present)
        return docids[~self.dead_among(docids, low, high)]

    def dead_among(self, docids: np.ndarray, low: int, high: int) -> np.ndarray:
        """Which of the docids are dead, bool. All docids are in [low, high)."""
        gone = np.zeros(high - low, np.bool_)
        gone[np.asarray((self.dead & BitMap(range(low, high))).to_array(), dtype=np.int64) - low] = True
        return gone[docids.astype(np.int64) - low]

    def dead_in(self, part: OpenSegment) -> int:
        """Number of rows of a segment that died since it was built."""
        if self.dead.range_cardinality(part.first, part.end) == part.record.dead:
            return 0
        return sum(int(self.dead_among(docids, part.first, part.end).sum()) for docids in (part.segment.docids, part.segment.apart))

    def live_rows(self) -> np.ndarray | None:
        """Docids of all live rows, uint32 ascending; None if no row is dead."""
        if not self.dead:
            return None
        if self._live_rows is None:
            self._live_rows = np.asarray(self.dead.flip(0, self.rows).to_array(), dtype=np.uint32)
        return self._live_rows

    def dead_words(self) -> np.ndarray:
        """One bit per row, set if the row is dead: uint64 ``(⌈rows/64⌉,)``."""
        if self._dead_words is None:
            self._dead_words = self._as_words(self.dead)
        return self._dead_words

    def _as_words(self, rows: BitMap) -> np.ndarray:
        bits = np.zeros(-(-self.rows // 64) * 64, np.bool_)
        bits[np.asarray(rows.to_array())] = True
        return np.packbits(bits, bitorder="little").view(np.uint64)


def _gaps(opened: tuple[OpenSegment, ...], rows: int) -> list[tuple[int, int]]:
    """The ranges of docids below ``rows`` that no segment covers."""
    found, low = [], 0
    for part in opened:
        if low < part.first:
            found.append((low, part.first))
        low = part.end
    return [*found, (low, rows)] if low < rows else found


def _indexable(meta: Meta, schema: Schema) -> dict[int, VectorField]:
    return {meta.fields[name]: spec for name, spec in schema.vectors.items() if spec.index_options is not None}


def load(txn: lmdb.Transaction, collection: int, previous: Snapshot | None, map_moves: int, env: Env | None = None) -> Snapshot:
    """The snapshot of a collection in a transaction. previous: an earlier snapshot, which saves reading what did not change. env: without
    it the snapshot has no segments.

    Raises NotFoundError if the collection was dropped.
    """
    store = Store(txn, collection)
    state = store.state()
    if state is None:
        raise NotFoundError("the collection was dropped", field="collection")
    sequence, rows, live = state
    if previous is not None and previous.sequence <= sequence:
        meta = catalog.read_meta(txn, collection)
        schema = previous.schema if meta.revision == previous.meta.revision else catalog.schema_of(meta)
        dead = previous.dead if rows - live == previous.rows - previous.live else store.dead()
        snapshot = Snapshot(sequence, rows, live, meta, schema, dead, previous.known)
        if previous.sequence == sequence:
            snapshot._live_rows = previous._live_rows
        if previous.map_moves == map_moves:
            snapshot._previous = {**previous._previous, **previous._tables}
    else:
        meta = catalog.read_meta(txn, collection)
        snapshot = Snapshot(sequence, rows, live, meta, catalog.schema_of(meta), store.dead(), {})
    snapshot.txn_id = txn.id()
    snapshot.derived = store.derived()
    same = previous is not None and previous.schema is snapshot.schema
    snapshot.indexable = previous.indexable if same else _indexable(snapshot.meta, snapshot.schema)
    snapshot.vectors = previous.vectors if same else frozenset(snapshot.meta.fields[name] for name in snapshot.schema.vectors)
    if env is not None:
        _register(snapshot, previous, env, txn, collection)
    snapshot.map_moves = map_moves
    return snapshot


def _register(snapshot: Snapshot, previous: Snapshot | None, env: Env, txn: lmdb.Transaction, collection: int) -> None:
    """Read the registry of index files into a snapshot, and take over open segments of a previous one."""
    snapshot._files, snapshot._last_txn = files_of(env), env.last_transaction
    snapshot._files_changes = snapshot._files.changes
    if previous is None or previous._files is None:
        snapshot.records, snapshot.record_problems = segments.records(txn, collection)
    elif previous.derived[1] == snapshot.derived[1]:
        snapshot.records, snapshot.record_problems = previous.records, previous.record_problems
        snapshot._open, snapshot._open_before = previous._open, previous._open_before
        snapshot._files_changes = previous._files_changes
    else:
        snapshot.records, snapshot.record_problems = segments.records(txn, collection)
        snapshot._open_before = {**previous._open_before, **previous._open}


class View:
    """A pinned snapshot: a snapshot with the read transaction that protects its pages, and methods to read. Use it as a context manager."""

    __slots__ = ("_began", "again", "env", "snapshot", "store", "txn")

    def __init__(self, env: Env, txn: lmdb.Transaction, snapshot: Snapshot, collection: int, again: Callable[[], View] | None = None):
        self.again = again  # makes a new view of the same collection
        self.env = env
        self.txn = txn
        self.snapshot = snapshot
        self.store = Store(txn, collection)
        self._began = False

    def __enter__(self) -> View:
        self._began = deadline.begin(self.env.patience)
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._began:
            deadline.end()
        self.env.end_read(self.txn)
        if isinstance(error, lmdb.Error):
            raise self.env.translated(error) from error

    # The interface that filters read (``filters.bitmap.Reader``).

    @property
    def sequence(self) -> int:
        return self.snapshot.sequence

    @property
    def rows(self) -> int:
        return self.snapshot.rows

    @property
    def schema(self) -> Schema:
        return self.snapshot.schema

    @property
    def fields(self) -> dict[str, int]:
        return self.snapshot.meta.fields

    @property
    def known(self) -> dict[int, Ordinals]:
        return self.snapshot.known

    @property
    def dead(self) -> BitMap:
        return self.snapshot.dead

    def table(self, field: int, part: int = format.FORWARD) -> np.ndarray:
        """The chunk table of a part as an array, after all checksums were verified."""
        table = self.snapshot.table(self.store, field, part)
        table.verify_all()
        return table.rows

    def chunks(self, field: int, part: int = format.FORWARD) -> ChunkTable:
        """The chunk table of a part. The caller has to verify the chunks that it reads."""
        return self.snapshot.table(self.store, field, part)

    def ids(self, docids: np.ndarray) -> np.ndarray | list[Id]:
        """The ids of rows (docids int64): a uint64 array if all are integers, else a list."""
        table = self.snapshot.table(self.store, format.ROWS_FIELD, format.FORWARD)
        ids = np.empty(len(docids), np.uint64)
        if columns.integer_ids(table.rows, docids, table.verified, ids):
            return ids
        return format.unpack_ids(table.records(docids.tolist()))

    def records(self, docids: Sequence[int]) -> list[format.Row]:
        """The records of rows."""
        return format.unpack_rows(self.stored(docids))

    def stored(self, docids: Sequence[int]) -> list[memoryview]:
        """The stored bytes of row records. Unpack them inside the transaction."""
        return self.snapshot.table(self.store, format.ROWS_FIELD, format.FORWARD).records(docids)

    def vectors(self, name: str, docids: np.ndarray) -> Column | None:
        """Copies of vectors. docids: int64, ascending; ``rows`` of the column are indexes into them. None if no row has the field."""
        spec = self.schema.vectors[name]
        field_type = FIELD_TYPES[spec.kind]
        return field_type.vectors(spec, self.chunks(self.fields[name]).chunks_with(docids, field_type.item_bytes(spec)))

    def vector_bytes(self, name: str, docids: np.ndarray) -> np.ndarray:
        """Size of each row's vector in bytes, int64; 0 for rows without one. docids: int64, ascending."""
        spec = self.schema.vectors[name]
        return FIELD_TYPES[spec.kind].sizes(spec, self.chunks(self.fields[name]), docids)


class Snapshots:
    """The newest snapshot of a collection in this process. Readers pin it; after a commit of any process it is replaced."""

    def __init__(self, env: Env, collection: int):
        self._env = env
        self._collection = collection
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None

    @property
    def newest(self) -> Snapshot | None:
        return self._newest

    def pin(self) -> View:
        """A view of the collection's present state."""
        env = self._env
        while True:
            txn = env.begin_read()
            try:
                snapshot = self._newest
                txn_id = txn.id()
                if snapshot is None or snapshot.txn_id != txn_id or snapshot.map_moves != env.map_moves:
                    snapshot = self._refreshed(txn, txn_id)
                if snapshot is not None:
                    return View(env, txn, snapshot, self._collection, self.pin)
            except BaseException as error:
                env.end_read(txn)
                if isinstance(error, lmdb.Error):
                    raise env.translated(error) from error
                raise
            env.end_read(txn)  # another thread has already stored a newer snapshot than this transaction sees: try again

    def _refreshed(self, txn: lmdb.Transaction, txn_id: int) -> Snapshot | None:
        with self._lock:
            newest = self._newest
            state = Store(txn, self._collection).state()
            if newest is not None and newest.map_moves == self._env.map_moves and txn_id <= newest.txn_id:
                # An older transaction can't use it: chunks may have been compacted since.
                return newest if state is not None and state[0] == newest.sequence and txn_id == newest.txn_id else None
            # Even if only other collections changed: small chunks share pages with them and may have moved.
            self._newest = load(txn, self._collection, newest, self._env.map_moves, self._env)
            return self._newest
