"""Compaction writes chunks again without their dead rows. Docids stay the same, so nothing else has to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError

from ..common.failpoints import reach
from ..kernels import COUNT, DOCIDS, FIRST, LAST
from . import chunks, format
from .catalog import Meta
from .format import Txn
from .store import CHUNK_BYTES, POSTINGS_BYTES, Store, split
from .tables import ChunkTable

PARTS = (format.FORWARD, format.POSTINGS, format.COUNTS, format.LENGTHS)


@dataclass(frozen=True)
class CompactionUnit:
    """Neighbouring chunks of a part, by first docid, to be written again as one chunk. nbytes: their present size."""

    field: int
    part: int
    firsts: tuple[int, ...]
    nbytes: int


def parts(meta: Meta) -> list[tuple[int, int]]:
    """Every (field, part) that may have chunks. Row records come last: as long as they contain dead rows, other parts may too."""
    fields = [(field, part) for field in sorted([*meta.fields.values(), *meta.pending]) for part in PARTS]
    return [*fields, (format.ROWS_FIELD, format.FORWARD)]


def dead_counts(table: ChunkTable, dead: np.ndarray) -> np.ndarray:
    """Number of dead rows per chunk, int64. dead: docids, uint32 ascending."""
    rows = table.rows
    counts = np.searchsorted(dead, rows[:, LAST], side="right") - np.searchsorted(dead, rows[:, FIRST])
    for c in np.flatnonzero((rows[:, DOCIDS] != 0) & (counts > 0)).tolist():  # chunks that list their rows may have lost dead ones already
        docids = table.docids_of(c)
        among = dead[np.searchsorted(dead, docids[0]) : np.searchsorted(dead, docids[-1], side="right")]
        counts[c] = np.isin(among, docids, assume_unique=True).sum()
    return counts


def units(table: ChunkTable, dead: np.ndarray, share: float) -> Iterator[CompactionUnit]:
    """The chunks to write again: those with a share of dead rows above ``share``, joined with small neighbours up to ``CHUNK_BYTES``."""
    if not len(table) or not len(dead):
        return
    _, field, part = table.place
    by_row = part in (format.FORWARD, format.LENGTHS)
    limit = CHUNK_BYTES if by_row else POSTINGS_BYTES
    counts = dead_counts(table, dead)
    mostly_dead = counts > share * table.rows[:, COUNT]
    left = (table.sizes * (1 - counts / table.rows[:, COUNT])).astype(np.int64)  # approximate bytes without dead rows
    taken: list[int] = []

    def unit() -> Iterator[CompactionUnit]:
        if mostly_dead[taken].any():
            yield CompactionUnit(field, part, tuple(table.firsts[c] for c in taken), int(table.sizes[taken].sum()))

    for c in range(len(table)):
        joins = mostly_dead[c] or left[c] <= limit // 2
        wide = not by_row and taken and int(table.rows[c, LAST]) - table.firsts[taken[0]] >= chunks.BLOCK_ROWS
        if taken and (not joins or wide or left[taken].sum() + left[c] > limit):
            yield from unit()
            taken = []
        if joins:
            taken.append(c)
    yield from unit()


def rewrite(txn: Txn, collection: int, group: Sequence[CompactionUnit], dead: BitMap) -> tuple[int, list[CorruptionError]]:
    """Write the chunks of units again without the rows in ``dead``. Returns (number of row records dropped, errors of damaged chunks).

    Chunks that were removed or grew since the plan was made are used as they are now. Damaged ones stay unchanged.
    """
    store, dropped, records, damage = Store(txn, collection), 0, 0, []
    if store.state() is None:
        return 0, []
    for unit in group:
        try:
            rows = _rewrite_unit(store, unit, dead)
            dropped += rows
            records += rows * (unit.field == format.ROWS_FIELD)
        except CorruptionError as error:  # not copied, so that the damage stays visible; the other chunks of the unit stay too
            damage.append(error)
    if dropped:
        store.count_derived(compactions=1)
    return records, damage


def _rewrite_unit(store: Store, unit: CompactionUnit, dead: BitMap) -> int:
    """Write one unit again; returns how many rows were dropped."""
    whole, dropped, read = [], 0, []
    for first in unit.firsts:
        value = store.chunk_value(unit.field, unit.part, first)
        if value is None:
            continue
        chunk = chunks.decode(value, store.chunk_name(unit.field, unit.part, first))
        keep = _alive(chunk.docids, dead)
        dropped += len(keep) - int(keep.sum())
        read.append(first)
        if keep.any():
            whole.append(chunk if keep.all() else chunk.keep(keep))
    if not dropped:
        return 0
    pieces = []
    if whole:
        limit = POSTINGS_BYTES if whole[0].kind == chunks.POSTINGS else CHUNK_BYTES
        pieces = [(piece.first, chunks.encode(piece)) for piece in split(chunks.joined(whole), limit)]
    for first in read:
        store.delete_chunk(unit.field, unit.part, first)
        reach("compact.removed")
    for first, value in pieces:
        store.txn.put(format.chunk_key(store.collection, unit.field, unit.part, first), value)
        reach("compact.written")
    return dropped


def _alive(docids: np.ndarray, dead: BitMap) -> np.ndarray:
    """Which of the ascending docids are alive, bool."""
    first, last = int(docids[0]), int(docids[-1])
    tombstones = np.asarray((dead & BitMap(range(first, last + 1))).to_array())
    return ~np.isin(docids, tombstones, assume_unique=True)
