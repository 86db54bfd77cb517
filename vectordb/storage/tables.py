"""Chunk tables: the addresses of a field's chunks, kept up to date as the field grows and is compacted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ctypes import c_uint8, string_at
from typing import Any

import numpy as np
from vectordb_client.errors import CorruptionError

from ..kernels import AUX, COUNT, DATA, DOCIDS, EXTRA, FIRST, ITEMS, TABLE_WIDTH
from . import chunks
from .chunks import FixedChunk, RaggedChunk
from .store import Store

_HEAD = chunks.HEADER
_FEW_ROWS = 32  # rows a chunk, below which they are copied one by one rather than chunk by chunk [estimate]


class ChunkTable:
    """The chunks of one part of a field, as kernels read them. Valid in any read transaction at the same sequence.

    rows: int64 ``(chunks, TABLE_WIDTH)``; see ``vectordb.kernels``. sizes: bytes of each chunk, int64. verified: uint8 ``(chunks,)``, 1
    if the chunk's checksum was verified in this process, 2 if a kernel read it before that (see ``confirm``). Large parts are verified when
    they are first read, not when the table is made.
    """

    __slots__ = ("_offsets", "_unverified", "firsts", "generation", "heads", "place", "rows", "sizes", "small", "verified")

    def __init__(
        self, firsts: list[int], rows: np.ndarray, heads: list[bytes], verified: np.ndarray, place: tuple[int, int, int], generation: int
    ):
        self.firsts = firsts
        self.rows = rows
        self.heads = heads  # the header of each chunk; it contains the checksum, so it shows whether the chunk changed
        self.verified = verified
        self.place = place  # (collection, field, part), for messages
        self.generation = generation  # number of compactions of the collection
        self.sizes = chunks.sizes_in(heads)
        self.small = np.flatnonzero(chunks.moves(self.sizes)).tolist()  # chunks that may move when a neighbour is written
        self._unverified = bool((verified != 1).any())
        # chunk → (address, bytes at the address, offsets, docids if the chunk lists them)
        self._offsets: dict[int, tuple[int, memoryview, list[int], list[int] | None]] = {}

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def present(self) -> int:
        """Number of rows that have the field, including dead ones that were not compacted yet."""
        return int(self.rows[:, COUNT].sum())

    def verify(self, indexes: Iterable[int]) -> None:
        """Verify the checksums of some chunks, each once. Call it inside a transaction. Raises CorruptionError naming the chunk."""
        for c in indexes:
            if self.verified[c] != 1:
                chunks.check_digest(self.bytes_of(c), chunks.name_of(*self.place, self.firsts[c]))
                self.verified[c] = 1

    def verify_all(self) -> None:
        """Verify the checksum of every chunk, each once. Raises CorruptionError naming the chunk."""
        if self._unverified:
            self.verify(np.flatnonzero(self.verified != 1).tolist())
            self._unverified = False

    def confirm(self) -> None:
        """Verify the chunks that a kernel has read and marked with 2 in ``verified``. Raises CorruptionError naming the chunk."""
        self.verify(np.flatnonzero(self.verified == 2).tolist())

    def verify_rows(self, docids: np.ndarray) -> None:
        """Verify the chunks that contain given docids, each once. Raises CorruptionError naming the chunk."""
        if self._unverified and len(docids):
            self.verify(np.unique(np.maximum(np.searchsorted(self.rows[:, FIRST], docids, "right") - 1, 0)).tolist())

    def covering(self, low: int, high: int) -> tuple[int, int]:
        """The range of chunks that contain docids of [low, high)."""
        return max(bisect_right(self.firsts, low) - 1, 0), bisect_left(self.firsts, high)

    def bytes_of(self, c: int) -> np.ndarray:
        """The stored bytes of chunk c, uint8; a view of the memory map."""
        start = int(self.rows[c, DATA]) - _HEAD  # the first section of every kind follows the header
        return _mapped(start, int(self.sizes[c]))

    def docids_of(self, c: int) -> np.ndarray:
        """The docids of chunk c, uint32 ascending; a view of the memory map if the chunk lists them."""
        first, count, listed = (int(self.rows[c, column]) for column in (FIRST, COUNT, DOCIDS))
        if not listed:
            return np.arange(first, first + count, dtype=np.uint32)
        return _mapped(listed, count, np.uint32)

    def data_of(self, c: int, width: int) -> np.ndarray:
        """The items of a FIXED chunk, uint8 ``(count, width)``; a view of the memory map."""
        count, start = int(self.rows[c, COUNT]), int(self.rows[c, DATA])
        return _mapped(start, count * width).reshape(count, width)

    def items_of(self, c: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(offsets uint32 ``(count + 1,)``, items uint8 ``(items, width)``, second item array uint8 ``(items, 4)`` or None) of a RAGGED
        chunk; views of the memory map.
        """
        count, offsets_at, data_at, extra_at = (int(self.rows[c, column]) for column in (COUNT, DATA, AUX, EXTRA))
        offsets = _mapped(offsets_at, count + 1, np.uint32)
        items = int(offsets[-1])
        data = _mapped(data_at, items * width).reshape(items, width)
        extra = _mapped(extra_at, 4 * items).reshape(items, 4) if extra_at else None
        return offsets, data, extra

    def chunks_with(self, docids: np.ndarray, width: int) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """(chunk, indexes into docids, positions in the chunk) for each chunk that contains some of the docids (int64, ascending).

        For FIXED and RAGGED parts with items of ``width`` bytes. Chunks are views of the memory map; a few rows of many FIXED chunks come
        as one chunk, which is a copy. Verifies each chunk once; raises CorruptionError.
        """
        places = np.searchsorted(self.rows[:, FIRST], docids, "right") - 1
        covering = np.unique(places[places >= 0])
        self.verify(covering[self.verified[covering] != 1].tolist())
        known = self.rows[covering]
        plain = (known[:, DATA] == known[:, AUX]) & (known[:, DOCIDS] == 0)
        if len(covering) > 1 and len(docids) < _FEW_ROWS * len(covering) and plain.all():
            indexes, data = self._gathered(docids, places, width)
            if len(indexes):
                yield FixedChunk(docids[indexes].astype(np.uint32), data), indexes, np.arange(len(indexes))
            return
        for c in covering.tolist():
            held = self.docids_of(c)
            low, high = np.searchsorted(places, [c, c + 1])
            positions = np.searchsorted(held, docids[low:high])
            present = held[np.minimum(positions, len(held) - 1)] == docids[low:high]
            if present.any():
                if self.rows[c, DATA] == self.rows[c, AUX]:
                    chunk: FixedChunk | RaggedChunk = FixedChunk(held, self.data_of(c, width))
                else:
                    chunk = RaggedChunk(held, *self.items_of(c, width))
                yield chunk, np.arange(low, high)[present], positions[present]

    def _gathered(self, docids: np.ndarray, places: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(indexes into docids of the rows that are there, copies of their items: uint8 ``(n, width)``) of FIXED chunks that hold all
        docids of a range. places: the chunk of each docid, or −1.
        """
        rows = self.rows[places]
        positions = docids - rows[:, FIRST]
        indexes = np.flatnonzero((places >= 0) & (positions < rows[:, COUNT]))
        starts = (rows[:, DATA] + positions * width)[indexes].tolist()
        return indexes, np.frombuffer(b"".join([string_at(start, width) for start in starts]), np.uint8).reshape(-1, width)

    def lists_of(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        """(terms uint64 ascending, number of rows per term uint32) of a POSTINGS chunk; terms are a view of the memory map."""
        count, terms_at, offsets_at = (int(self.rows[c, column]) for column in (ITEMS, DATA, AUX))
        terms = _mapped(terms_at, count, np.uint64)
        return terms, np.diff(_mapped(offsets_at, count + 1, np.uint32))

    def postings_of(self, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(terms uint64 ``(n,)`` ascending, uint32 ``(n + 1,)`` where the postings of each begin, uint16 distances of their rows from the
        chunk's first) of a POSTINGS chunk; views of the memory map.
        """
        count, terms_at, begins_at, rows_at = (int(self.rows[c, column]) for column in (ITEMS, DATA, AUX, EXTRA))
        begins = _mapped(begins_at, count + 1, np.uint32)
        return _mapped(terms_at, count, np.uint64), begins, _mapped(rows_at, int(begins[-1]), np.uint16)

    def between(self, low: int, high: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(chunk, position of its first row, docids) for the rows in [low, high) that have the field, chunk by chunk."""
        for c in range(*self.covering(low, high)):
            docids = self.docids_of(c)
            begin, end = np.searchsorted(docids, [low, high])
            if begin < end:
                yield c, int(begin), docids[begin:end]

    def records(self, docids: Sequence[int]) -> list[memoryview]:
        """The bytes of rows of a RAGGED part of bytes (row records), as views of the memory map: use them only inside the transaction.

        Raises CorruptionError if a row is missing or its chunk is damaged.
        """
        firsts, cache = self.firsts, self._offsets
        records = []
        for docid in docids:
            c = bisect_right(firsts, docid) - 1
            _, data, offsets, listed = cache[c] if c in cache else self._known(c)
            place = docid - firsts[c] if listed is None else _place(listed, docid)
            try:
                start, end = offsets[place : place + 2]
            except ValueError:
                raise CorruptionError(f"row {docid} has no record", field="rows") from None
            records.append(data[start:end])
        return records

    def _known(self, c: int) -> tuple[int, memoryview, list[int], list[int] | None]:
        """The cached values of a chunk that ``records`` uses; see ``_offsets``."""
        if c < 0:
            raise CorruptionError("a row before the first chunk has no record", field="rows")
        self.verify((c,))
        count, where, address = (int(self.rows[c, column]) for column in (COUNT, DATA, AUX))
        offsets = np.frombuffer(string_at(where, 4 * (count + 1)), np.uint32).tolist()
        data = memoryview((c_uint8 * offsets[-1]).from_address(address)).cast("B")
        self._offsets[c] = entry = (address, data, offsets, self.docids_of(c).tolist() if self.rows[c, DOCIDS] else None)
        return entry


def _mapped(address: int, count: int, dtype: Any = np.uint8) -> np.ndarray:
    """``count`` values at a memory address, as a view."""
    memory: Any = (c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(memory, dtype)


def _place(listed: list[int], docid: int) -> int:
    """The position of a docid in a list; the list's length if it is missing."""
    place = bisect_left(listed, docid)
    return place if place < len(listed) and listed[place] == docid else len(listed) + 1


class _Builder:
    """Builds a table from a prefix of an older table and the chunks after it."""

    def __init__(self, store: Store, field: int, part: int, lazy: bool):
        self.store, self.place, self.lazy = store, (store.collection, field, part), lazy
        self.firsts: list[int] = []
        self.heads: list[bytes] = []
        self.kept = np.empty((0, TABLE_WIDTH), np.int64), np.empty(0, np.uint8)  # ``rows`` and ``verified`` of the prefix
        self.rows: list[tuple[int, ...]] = []
        self.verified: list[bool] = []
        self.offsets: dict[int, tuple] = {}

    def keep_prefix(self, old: ChunkTable) -> None:
        """Keep the unchanged prefix of an older table. Writes change only the newest chunks, so its end is searched backwards."""
        value = self.store.chunk_value
        _, field, part = self.place
        n = len(old)
        while n and not _same(value(field, part, old.firsts[n - 1]), old, n - 1):
            n -= 1
        self.firsts, self.heads = old.firsts[:n], old.heads[:n]  # copied, because more is appended
        rows = old.rows[:n].copy()
        for i in old.small:
            if i < n:
                rows[i] = self._moved(old.firsts[i], value(field, part, old.firsts[i]))
        self.kept = rows, old.verified[:n].copy()
        self.offsets = {c: entry for c, entry in old._offsets.items() if c < n and rows[c, AUX] == entry[0]}

    def is_whole(self, old: ChunkTable) -> bool:
        """Whether the kept prefix is the whole table, at unchanged addresses."""
        rows = self.kept[0]
        return len(self.firsts) == len(rows) == len(old) and all(np.array_equal(rows[i], old.rows[i]) for i in old.small)

    def keep(self, old: ChunkTable, i: int, value) -> None:
        """Add chunk i of an older table, which is unchanged."""
        row = self._moved(old.firsts[i], value) if chunks.moves(len(value)) else tuple(old.rows[i].tolist())
        if i in old._offsets and old._offsets[i][0] == row[AUX]:
            self.offsets[len(self.firsts)] = old._offsets[i]
        self._add(old.firsts[i], old.heads[i], row, bool(old.verified[i] == 1))

    def read(self, first: int, value) -> None:
        """Add a new chunk."""
        name = chunks.name_of(*self.place, first)
        row = chunks.table_row(value, name, verify=not self.lazy)
        if row[FIRST] != first:
            raise CorruptionError(f"chunk {name} has a header that begins at row {row[FIRST]}", field=name)
        self._add(first, bytes(value[:_HEAD]), row, not self.lazy)

    def _moved(self, first: int, value) -> tuple[int, ...]:
        """The table row of a known small chunk, whose address may have changed."""
        return chunks.table_row(value, chunks.name_of(*self.place, first), verify=False)

    def _add(self, first: int, head: bytes, row: tuple[int, ...], verified: bool) -> None:
        self.firsts.append(first)
        self.heads.append(head)
        self.rows.append(row)
        self.verified.append(verified)

    def table(self, generation: int) -> ChunkTable:
        rows = np.array(self.rows, dtype=np.int64).reshape(-1, TABLE_WIDTH)
        verified = np.array(self.verified, dtype=np.uint8)
        rows, verified = np.concatenate([self.kept[0], rows]), np.concatenate([self.kept[1], verified])
        table = ChunkTable(self.firsts, rows, self.heads, verified, self.place, generation)
        table._offsets = self.offsets
        return table


def load(store: Store, field: int, part: int, previous: ChunkTable | None = None, *, lazy: bool = False, generation: int = 0) -> ChunkTable:
    """The table of a part. previous: an earlier table under the same map, which saves reading what did not change.

    lazy: don't verify checksums now. generation: number of compactions of the collection.
    """
    builder = _Builder(store, field, part, lazy)
    if previous is not None and previous.generation == generation:
        builder.keep_prefix(previous)
        for first, value in store.chunk_values(field, part, builder.firsts[-1] if builder.firsts else -1):
            builder.read(first, value)
        return previous if builder.is_whole(previous) else builder.table(generation)
    places = {} if previous is None else {first: i for i, first in enumerate(previous.firsts)}
    for first, value in store.chunk_values(field, part):
        i = places.get(first)
        if i is not None and previous is not None and _same(value, previous, i):
            builder.keep(previous, i, value)
        else:
            builder.read(first, value)
    return builder.table(generation)


def _same(value, table: ChunkTable, i: int) -> bool:
    """Whether a value is the same as chunk i of a table, at the same address unless it is small enough to move."""
    if value is None or bytes(value[:_HEAD]) != table.heads[i]:
        return False
    return chunks.moves(len(value)) or bool(chunks.address(value) + _HEAD == table.rows[i, DATA])
