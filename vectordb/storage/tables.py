"""Chunk tables: where the chunks of a field are in memory, kept up to date as the field grows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from ctypes import string_at

import numpy as np

from ..errors import CorruptionError
from ..kernels import AUX, COUNT, DATA, TABLE_WIDTH
from . import chunks
from .store import Store


class ChunkTable:
    """The chunks of one field's part, as kernels read them. Valid in any read transaction that shows the same sequence.

    rows: int64 ``(chunks, TABLE_WIDTH)``; see ``vectordb.kernels``. Every chunk's checksum was verified when it entered.
    """

    __slots__ = ("_offsets", "firsts", "heads", "rows")

    def __init__(self, firsts: list[int], rows: np.ndarray, heads: list[bytes]):
        self.firsts = firsts
        self.rows = rows
        self.heads = heads  # each chunk's header: it holds the checksum, so it tells whether the chunk changed
        self._offsets: dict[int, tuple[int, list[int]]] = {}

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def present(self) -> int:
        """Rows that have the field, dead ones included."""
        return int(self.rows[:, COUNT].sum())

    def records(self, docids: Sequence[int]) -> list[bytes]:
        """The bytes of rows of a RAGGED byte column without gaps (the row records)."""
        firsts, known = self.firsts, self._offsets
        found = []
        for docid in docids:
            c = bisect_right(firsts, docid) - 1
            if c not in known:
                count, where, data = (int(self.rows[c, column]) for column in (COUNT, DATA, AUX))
                known[c] = (data, np.frombuffer(string_at(where, 4 * (count + 1)), np.uint32).tolist())
            data, offsets = known[c]
            at = docid - firsts[c]
            try:
                start, end = offsets[at : at + 2]
            except ValueError:
                raise CorruptionError(f"row {docid} has no record", field="rows") from None
            found.append(string_at(data + start, end - start))
        return found


_HEAD = chunks.HEADER


def load(store: Store, field: int, part: int, previous: ChunkTable | None = None) -> ChunkTable:
    """The table of a field's part. ``previous`` (of an earlier sequence, under the same map) saves reading what didn't change."""
    firsts, rows, heads = [], [], []
    keep = 0
    if previous is not None:
        # Only the newest chunks are ever rewritten: what survives is a prefix, found from its end.
        keep = len(previous)
        while keep and not _same(store, field, part, previous, keep - 1):
            keep -= 1
        firsts, heads = previous.firsts[:keep], previous.heads[:keep]
        rows = list(map(tuple, previous.rows[:keep].tolist()))
        for i in range(keep):
            if chunks.moves(chunks.size_in(heads[i])):
                rows[i] = chunks.table_row(
                    store.chunk_value(field, part, firsts[i]), store.chunk_name(field, part, firsts[i]), verify=False
                )
    for first, value in store.chunk_values(field, part, firsts[-1] if firsts else -1):
        firsts.append(first)
        heads.append(bytes(value[:_HEAD]))
        rows.append(chunks.table_row(value, store.chunk_name(field, part, first)))
    array = np.array(rows, dtype=np.int64).reshape(-1, TABLE_WIDTH)
    table = ChunkTable(firsts, array, heads)
    if previous is not None:
        table._offsets = {c: known for c, known in previous._offsets.items() if c < keep and rows[c][AUX] == known[0]}
    return table


def _same(store: Store, field: int, part: int, table: ChunkTable, i: int) -> bool:
    """Whether chunk i is still the one the table knows, and where it was (unless it is small enough to move)."""
    value = store.chunk_value(field, part, table.firsts[i])
    if value is None or bytes(value[:_HEAD]) != table.heads[i]:
        return False
    return chunks.moves(len(value)) or chunks.address(value) + _HEAD == table.rows[i, DATA]
