"""What one query sees: a sequence, its live rows, and the chunk tables of the fields it touches."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import lmdb
import numpy as np
from pyroaring import BitMap

from .errors import NotFoundError
from .storage import catalog, fields, format, tables
from .storage.catalog import Meta
from .storage.env import Env
from .storage.store import Store
from .storage.tables import ChunkTable
from .types import Schema


class Snapshot:
    """A collection at one sequence. Its tables hold addresses: use it only inside a read transaction that shows that sequence."""

    def __init__(self, sequence: int, rows: int, live: int, meta: Meta, schema: Schema, dead: BitMap, known: dict[int, fields.Ordinals]):
        self.sequence = sequence
        self.rows = rows
        self.live = live
        self.meta = meta
        self.schema = schema
        self.dead = dead
        self.known = known  # committed term numbers of each field: they never change, so every snapshot shares them
        self.txn_id = -1
        self.map_moves = -1
        self._tables: dict[tuple[int, int], ChunkTable] = {}
        self._previous: dict[tuple[int, int], ChunkTable] = {}
        self._live_rows: np.ndarray | None = None

    def table(self, store: Store, field: int, part: int) -> ChunkTable:
        """The chunks of a field's part, read on first use."""
        key = (field, part)
        found = self._tables.get(key)
        if found is None:
            # Two threads may both load it; the tables are equal and the last one stays.
            found = self._tables[key] = tables.load(store, field, part, self._previous.get(key))
            self._previous.pop(key, None)
        return found

    def live_rows(self) -> np.ndarray | None:
        """Docids of all live rows, uint32 ascending; None when no row is dead."""
        if not self.dead:
            return None
        if self._live_rows is None:
            self._live_rows = np.asarray(self.dead.flip(0, self.rows).to_array(), dtype=np.uint32)
        return self._live_rows

    def dead_words(self) -> np.ndarray:
        """One bit a row, set where it is dead: uint64 ``(⌈rows/64⌉,)``."""
        bits = np.zeros(-(-self.rows // 64) * 64, np.bool_)
        bits[np.asarray(self.dead.to_array())] = True
        return np.packbits(bits, bitorder="little").view(np.uint64)


def load(txn: lmdb.Transaction, collection: int, previous: Snapshot | None, map_moves: int) -> Snapshot:
    """The collection as a transaction shows it. ``previous`` (an earlier one) saves reading what didn't change.

    Raises NotFoundError when the collection was dropped.
    """
    store = Store(txn, collection)
    state = store.state()
    if state is None:
        raise NotFoundError("the collection was dropped", field="collection")
    sequence, rows, live = state
    if previous is not None and previous.sequence <= sequence:
        meta = catalog.read_meta(txn, collection)
        schema = previous.schema if meta.revision == previous.meta.revision else Schema.from_dict(meta.schema)
        dead = previous.dead if rows - live == previous.rows - previous.live else store.dead()
        snapshot = Snapshot(sequence, rows, live, meta, schema, dead, previous.known)
        if previous.sequence == sequence:
            snapshot._live_rows = previous._live_rows
        if previous.map_moves == map_moves:
            snapshot._previous = {**previous._previous, **previous._tables}
    else:
        meta = catalog.read_meta(txn, collection)
        snapshot = Snapshot(sequence, rows, live, meta, Schema.from_dict(meta.schema), store.dead(), {})
    snapshot.txn_id = txn.id()
    snapshot.map_moves = map_moves
    return snapshot


class View:
    """A pinned snapshot: the read transaction that keeps its pages, and what reads from it. Use as a context manager."""

    __slots__ = ("env", "snapshot", "store", "txn")

    def __init__(self, env: Env, txn: lmdb.Transaction, snapshot: Snapshot, collection: int):
        self.env = env
        self.txn = txn
        self.snapshot = snapshot
        self.store = Store(txn, collection)

    def __enter__(self) -> View:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.env.end_read(self.txn)
        if isinstance(error, lmdb.Error):
            raise self.env.translated(error) from error

    # What filters read (``filters.bitmap.Reader``).

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
    def known(self) -> dict[int, fields.Ordinals]:
        return self.snapshot.known

    @property
    def dead(self) -> BitMap:
        return self.snapshot.dead

    def table(self, field: int, part: int = format.FORWARD) -> np.ndarray:
        """The chunk table of a field's part."""
        return self.snapshot.table(self.store, field, part).rows

    def records(self, docids: Sequence[int]) -> list[format.Row]:
        """The records of rows."""
        return format.unpack_rows(self.snapshot.table(self.store, format.ROWS_FIELD, format.FORWARD).records(docids))


class Snapshots:
    """The newest snapshot this process knows of a collection; readers pin it, a commit by anybody replaces it."""

    def __init__(self, env: Env, collection: int):
        self._env = env
        self._collection = collection
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None

    @property
    def newest(self) -> Snapshot | None:
        return self._newest

    def pin(self) -> View:
        """The collection as it is now."""
        env = self._env
        while True:
            txn = env.begin_read()
            try:
                snapshot = self._newest
                txn_id = txn.id()
                if snapshot is None or snapshot.txn_id != txn_id or snapshot.map_moves != env.map_moves:
                    snapshot = self._refreshed(txn, txn_id)
                if snapshot is not None:
                    return View(env, txn, snapshot, self._collection)
            except BaseException as error:
                env.end_read(txn)
                if isinstance(error, lmdb.Error):
                    raise env.translated(error) from error
                raise
            env.end_read(txn)  # another thread published a newer sequence than this transaction shows

    def _refreshed(self, txn: lmdb.Transaction, txn_id: int) -> Snapshot | None:
        with self._lock:
            newest = self._newest
            state = Store(txn, self._collection).state()
            if newest is not None and newest.map_moves == self._env.map_moves and txn_id <= newest.txn_id:
                return newest if state is not None and state[0] == newest.sequence else None
            # Even when only other collections changed, small chunks lie in pages that they may have rewritten.
            self._newest = load(txn, self._collection, newest, self._env.map_moves)
            return self._newest
