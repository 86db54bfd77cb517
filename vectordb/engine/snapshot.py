"""The state of a collection that one query sees: a sequence, its live rows, chunk tables of fields, and open index segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import NotFoundError
from vectordb_client.model.fields import Column, VectorField
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id

from ..common import clock, deadline
from ..fields import FIELD_TYPES
from ..filters.bitmap import matching
from ..filters.cache import FilterCache
from ..index.tail import TailCodes
from ..kernels import columns
from ..storage import catalog, expiry, format, tables
from ..storage.attribute_forms import Ordinals
from ..storage.catalog import Meta
from ..storage.format import Txn
from ..storage.segments import Records
from ..storage.store import Store, Texts
from ..storage.tables import ChunkTable
from .directory import Directory
from .registry import OpenSegment, Registry


@dataclass(eq=False)
class Snapshot:
    """A collection at one sequence. Its tables contain addresses: use it only inside a read transaction at that sequence.

    known: field → committed term numbers, which never change, so all snapshots share them.
    compactions: their number; chunk tables of an earlier one must be compared with the chunks.
    indexable: field number → definition, of fields that can have index files. vectors: the numbers of all vector fields.
    tables_before: chunk tables of the previous snapshot, from which new ones are made.
    expired: live rows whose moment has come (``Schema.ttl``); they count as dead. ends: the moment from which the snapshot shows too many.
    stored_dead, stored_live: dead and live without regard to moments.
    prepared: cache of segment lists and tail ranges per (field, filter). direct: (request, field or fields) → what ``query/direct.py`` has
    worked out for such searches; None where one was seen, False where they can't be done directly. sources: attribute → where simple
    filters look its values up (``filters/docids.py``). texts: field → counters of a BM25 field, of an earlier state. codes: field →
    codes of its newest rows, which all snapshots share; None in an earlier state, which has other segments.
    """

    sequence: int
    rows: int
    live: int
    txn_id: int
    map_moves: int
    meta: Meta
    schema: Schema
    dead: BitMap
    known: dict[int, Ordinals]
    compactions: int
    registry: Registry
    indexable: dict[int, VectorField]
    vectors: frozenset[int]
    tables_before: dict[tuple[int, int], ChunkTable]
    expired: BitMap
    ends: int
    stored_dead: BitMap
    stored_live: int
    prepared: dict[Any, Any] = field(default_factory=dict)
    direct: dict[tuple[Any, Any], Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    texts: dict[int, Texts] = field(default_factory=dict)
    codes: dict[int, TailCodes] | None = field(default_factory=dict)
    _tails: dict[int, tuple[tuple[OpenSegment, ...], list[tuple[int, int]]]] = field(default_factory=dict)
    _tables: dict[tuple[int, int], ChunkTable] = field(default_factory=dict)
    _live_rows: np.ndarray | None = None
    _dead_words: np.ndarray | None = None

    @classmethod
    def read(cls, txn: Txn, collection: int, directory: Directory, previous: Snapshot | None = None, ages: bool = True) -> Snapshot:
        """The snapshot of a collection in a transaction. previous: another snapshot, which saves reading what did not change. ages: leave
        out rows whose moment has come.

        Raises NotFoundError if the collection was dropped.
        """
        store, map_moves = Store(txn, collection), directory.env.map_moves
        state = store.state()
        if state is None:
            raise NotFoundError("the collection was dropped", field="collection")
        sequence, rows, live = state
        meta, (compactions, replacements) = catalog.read_meta(txn, collection), store.derived()
        if previous is not None and previous.sequence > sequence:
            previous = None
        if previous is not None and meta.revision == previous.meta.revision:
            schema, indexable, vectors = previous.schema, previous.indexable, previous.vectors
        else:
            schema = catalog.schema_of(meta)
            indexable = {meta.fields[name]: spec for name, spec in schema.vectors.items() if spec.index_options}
            vectors = frozenset(meta.fields[name] for name in schema.vectors)
        if meta.migrating:  # maintenance builds the index before searches see the vectors
            ahead = catalog.migrated(meta, schema)
            indexable, vectors = indexable | ahead, vectors | ahead.keys()
        same = previous is not None and rows - live == previous.rows - previous.stored_live
        stored_dead = previous.stored_dead if previous is not None and same else store.tombstones()
        expired, ends = (BitMap(), expiry.NEVER) if schema.ttl is None or not ages else expiry.due(txn, collection, clock.now())
        stored_live, live = live, live - len(expired)
        registry = None if previous is None else previous.registry
        if registry is None or registry.replacements != replacements:
            registry = Registry(txn, collection, replacements, registry, directory)
        return cls(
            sequence,
            rows,
            live,
            txn.id(),
            map_moves,
            meta,
            schema,
            stored_dead | expired if expired else stored_dead,
            {} if previous is None else previous.known,
            compactions,
            registry,
            indexable,
            vectors,
            {} if previous is None or previous.map_moves != map_moves else {**previous.tables_before, **previous._tables},
            expired,
            ends,
            stored_dead,
            stored_live,
            codes={} if previous is None or previous.codes is None else previous.codes,
            _live_rows=previous._live_rows if previous is not None and (previous.sequence, previous.live) == (sequence, live) else None,
        )

    @cached_property
    def state(self) -> tuple[int, int, int, int]:
        """What tells this state of the collection: (sequence, rows, live rows, compactions)."""
        return self.sequence, self.rows, self.live, self.compactions

    def has_ended(self) -> bool:
        """Whether the moment of a row has come that the snapshot shows."""
        return self.ends != expiry.NEVER and self.ends <= clock.now()

    @property
    def records(self) -> Records:
        """The records of the registry by field number."""
        return self.registry.records

    @property
    def record_problems(self) -> list[str]:
        """A line for each damaged record of the registry."""
        return self.registry.problems

    def table(self, store: Store, field: int, part: int) -> ChunkTable:
        """The chunk table of a part, read on first use."""
        key = (field, part)
        table = self._tables.get(key)
        if table is None:
            # Two threads may load it at the same time: the tables are equal, and the last one is kept.
            large = field == format.ROWS_FIELD or field in self.vectors  # queries read a few chunks of them
            lazy = part == format.FORWARD and large
            table = tables.load(store, field, part, self.tables_before.get(key), lazy=lazy, generation=self.compactions)
            self._tables[key] = table
            self.tables_before.pop(key, None)
        return table

    def segments(self, field: int) -> tuple[OpenSegment, ...]:
        """The open segments of a field (by number), ordered by first docid. ``tail`` has the docids that no segment covers."""
        return self.registry.segments(field, self.indexable, self.txn_id)

    def tail(self, field: int) -> list[tuple[int, int]]:
        """Docid ranges [low, high) that no open segment of the field covers, ascending."""
        return self.cover(field)[1]

    def cover(self, field: int) -> tuple[tuple[OpenSegment, ...], list[tuple[int, int]]]:
        """(segments, tail) that fit together. Between two separate calls a file may turn out to be unusable."""
        opened = self.segments(field)
        cover = self._tails.get(field)
        if cover is None or cover[0] is not opened:
            cover = self._tails[field] = (opened, _gaps(opened, self.rows))
        return cover

    def tail_codes(self, field: int, spec: VectorField) -> TailCodes | None:
        """The codes of the rows behind the last open segment of a dense field (by number); None if there are none for this state."""
        tail = self.tail(field)
        if self.codes is None or not tail or tail[-1][1] != self.rows:
            return None
        codes, low = self.codes.get(field), tail[-1][0]
        if codes is None or codes.generation < self.compactions:
            codes = self.codes[field] = TailCodes(spec, self.compactions, low)
        elif codes.generation > self.compactions:
            return None
        codes.begin_at(low, self.rows)
        return codes

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
        dead = np.zeros(high - low, np.bool_)
        dead[np.asarray((self.dead & BitMap(range(low, high))).to_array(), dtype=np.int64) - low] = True
        return dead[docids.astype(np.int64) - low]

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
            bits = np.zeros(-(-self.rows // 64) * 64, np.bool_)
            bits[np.asarray(self.dead.to_array())] = True
            self._dead_words = np.packbits(bits, bitorder="little").view(np.uint64)
        return self._dead_words


def _gaps(opened: tuple[OpenSegment, ...], rows: int) -> list[tuple[int, int]]:
    """The ranges of docids below ``rows`` that no segment covers."""
    gaps, low = [], 0
    for part in opened:
        if low < part.first:
            gaps.append((low, part.first))
        low = part.end
    return [*gaps, (low, rows)] if low < rows else gaps


class Within(NamedTuple):
    """The rows that a reader may know of, whatever else its search asks for: those that match a canonical filter. cache: of filters."""

    node: Filter
    cache: FilterCache

    def rows(self, view: View) -> BitMap:
        """Their docids."""
        return matching(self.node, view, self.cache)

    def elsewhere(self, cache: FilterCache | None = None) -> Within:
        """The same of another state, whose rows are other ones."""
        return Within(self.node, FilterCache() if cache is None else cache)


class View:
    """A pinned snapshot: a snapshot with the read transaction that protects its pages, and methods to read. Use it as a context manager."""

    __slots__ = ("_began", "again", "directory", "snapshot", "store", "txn", "within")
    as_of: Any = None  # what a view of an earlier state was asked for

    def __init__(self, directory: Directory, txn: Txn, snapshot: Snapshot, collection: int, again: Callable[[], View] | None = None):
        self.again = again  # makes a new view of the same collection
        self.directory = directory
        self.txn = txn
        self.snapshot = snapshot
        self.store = Store(txn, collection)
        self.within: Within | None = None  # the rows that the reader may know of; None: all
        self._began = False

    def __enter__(self) -> View:
        self._began = deadline.begin(self.directory.env.deadline)
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._began:
            deadline.end()
        self.directory.env.end_read(self.txn, error)

    @property
    def told(self) -> Mapping[str, Any]:
        """What plans say about an earlier state; of the present nothing."""
        return {}

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

    @property
    def sources(self) -> dict[str, Any]:
        return self.snapshot.sources

    def table(self, field: int, part: int = format.FORWARD) -> np.ndarray:
        """The chunk table of a part as an array, after all checksums were verified."""
        table = self.snapshot.table(self.store, field, part)
        table.verify_all()
        return table.rows

    def chunks(self, field: int, part: int = format.FORWARD) -> ChunkTable:
        """The chunk table of a part. The caller has to verify the chunks that it reads."""
        return self.snapshot.table(self.store, field, part)

    def entries(self, ids: Iterable[Id]) -> list[tuple[int, int | None] | None]:
        """(docid, version) for each id; None for ids without a point, or without one that the reader may know of. The version of an earlier
        state is None where nothing tells it.
        """
        entries, expired = self.store.entries(ids), self.snapshot.expired
        entries = [None if entry is not None and entry[0] in expired else entry for entry in entries] if expired else entries
        return self.known_entries(entries)

    def ids_after(self, after: Id | None) -> Iterator[tuple[Id, int]]:
        """(id, docid) of live rows in the order of ids, starting after the id ``after``."""
        expired = self.snapshot.expired
        return (pair for pair in self.store.ids_after(after) if pair[1] not in expired) if expired else self.store.ids_after(after)

    def ids(self, docids: np.ndarray) -> np.ndarray | list[Id]:
        """The ids of rows (docids int64): a uint64 array if all are integers, else a list."""
        table = self.snapshot.table(self.store, format.ROWS_FIELD, format.FORWARD)
        ids = np.empty(len(docids), np.uint64)
        if columns.integer_ids(table.rows, docids, table.verified, ids):
            return ids
        return format.unpack_ids(table.records(docids.tolist()))

    def known_entries(self, entries: list[tuple[int, int | None] | None]) -> list[tuple[int, int | None] | None]:
        """These entries; None in the place of those that the reader may not know of."""
        if self.within is None or not any(entries):
            return entries
        rows = self.within.rows(self)
        return [entry if entry is not None and entry[0] in rows else None for entry in entries]

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

    def __init__(self, directory: Directory, collection: int, ages: bool = True):
        self.directory = directory
        self._ages = ages  # whether rows whose moment has come are left out
        self._env = directory.env
        self.collection = collection
        self._lock = threading.Lock()
        self.newest: Snapshot | None = None  # replaced by one assignment

    def pin(self) -> View:
        """A view of the collection's present state."""
        env = self._env
        while True:
            txn = env.begin_read()
            try:
                snapshot = self.newest
                txn_id = txn.id()
                if snapshot is None or snapshot.txn_id != txn_id or snapshot.map_moves != env.map_moves or snapshot.has_ended():
                    snapshot = self._refreshed(txn, txn_id)
                if snapshot is not None:
                    return View(self.directory, txn, snapshot, self.collection, self.pin)
            except BaseException as error:
                env.end_read(txn, error)
                raise
            env.end_read(txn)  # another thread has already stored a newer snapshot than this transaction sees: try again

    def _refreshed(self, txn: Txn, txn_id: int) -> Snapshot | None:
        with self._lock:
            newest = self.newest
            ended = newest is not None and newest.txn_id == txn_id and newest.has_ended()
            if newest is not None and newest.map_moves == self._env.map_moves and txn_id <= newest.txn_id and not ended:
                # An older transaction can't use it: chunks may have been compacted since.
                state = Store(txn, self.collection).state()
                return newest if state is not None and state[0] == newest.sequence and txn_id == newest.txn_id else None
            # Even if only other collections changed: small chunks share pages with them and may have moved.
            self.newest = Snapshot.read(txn, self.collection, self.directory, newest, self._ages)
            return self.newest
