"""Reads and writes one collection inside a transaction: rows, the id map, dead rows, the change log.

``Store`` is cheap to create and belongs to one transaction. It validates nothing: its callers have checked all arguments.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError, LimitError
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id

from ..common.failpoints import reach
from ..common.tokenize import RULE
from . import attribute_forms, catalog, change_log, chunks, expiry, format, sharing
from .attribute_forms import Ordinals
from .catalog import Meta
from .chunks import Chunk
from .format import Txn

# The newest chunks of a field are joined until they reach this size. Small writes stay cheap, and scans read long runs.
CHUNK_BYTES = 2 << 20
POSTINGS_BYTES = 32 << 20  # larger, because a query must find each term's list in each chunk


class Texts(NamedTuple):
    """Number of live texts of a BM25 field, and number of their words."""

    documents: int
    words: int


class Store:
    """Reads and writes of one collection in one LMDB transaction."""

    def __init__(self, txn: Txn, collection: int):
        self.txn = txn
        self.collection = collection

    # State

    def state(self) -> tuple[int, int, int] | None:
        """(sequence, rows, live rows); None if the collection was dropped."""
        value = self.txn.get(format.key(self.collection, format.STATE))
        return None if value is None else format.unpack_state(value)

    def existing_state(self) -> tuple[int, int, int]:
        """``state`` of a collection that was not dropped."""
        state = self.state()
        assert state is not None
        return state

    def entries(self, ids: Iterable[Id]) -> list[tuple[int, int] | None]:
        """(docid, version) for each id; None for ids without a point."""
        get, unpack, key, collection = self.txn.get, format.unpack_entry, format.id_key, self.collection
        values = [get(key(collection, i)) for i in ids]
        return [None if value is None else unpack(value) for value in values]

    def ids_after(self, after: Id | None) -> Iterator[tuple[Id, int]]:
        """(id, docid) in id order, starting after the id ``after``."""
        start = None if after is None else format.id_key(self.collection, after) + b"\0"
        for key, value in format.walk(self.txn, format.id_prefix(self.collection), start):
            yield format.id_of_key(key), format.unpack_entry(value)[0]

    def tombstones(self) -> BitMap:
        """The docids of all dead rows."""
        docids = BitMap()
        for _, value in format.walk(self.txn, format.key(self.collection, format.TOMBSTONES)):
            docids |= BitMap.deserialize(format.verify_checksum(value, "dead rows"))
        return docids

    # Chunks

    def chunk_values(self, field: int, part: int, after: int = -1) -> Iterator[tuple[int, format.Stored]]:
        """(first docid, bytes) of the chunks of a part whose first docid is above ``after``, ascending."""
        prefix = format.chunk_prefix(self.collection, field, part)
        for key, value in format.walk(self.txn, prefix, prefix + (after + 1).to_bytes(4, "big")):
            yield int.from_bytes(key[-4:], "big"), sharing.chunk(self.txn, key, value)

    def chunk_value(self, field: int, part: int, first: int) -> format.Stored | None:
        key = format.chunk_key(self.collection, field, part, first)
        value = self.txn.get(key)
        return None if value is None else sharing.chunk(self.txn, key, value)

    def delete_chunk(self, field: int, part: int, first: int) -> None:
        sharing.delete(self.txn, format.chunk_key(self.collection, field, part, first))

    def drop_chunks(self, field: int) -> None:
        """Delete all chunks of a field whose number isn't used again."""
        prefix = format.field_key(self.collection, format.CHUNK, field)
        for key in [key for key, _ in format.walk(self.txn, prefix)]:
            sharing.abandon(self.txn, key)

    def chunk_name(self, field: int, part: int, first: int) -> str:
        """The name of a chunk in error messages."""
        return chunks.name_of(self.collection, field, part, first)

    def chunks_with(self, field: int, part: int, docids: np.ndarray) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """For ascending docids: (chunk, indexes into docids, positions in the chunk) for each chunk that has some of them."""
        prefix = format.chunk_prefix(self.collection, field, part)
        cursor = self.txn.cursor()
        low, chunk = 0, None
        while low < len(docids):
            target = prefix + int(docids[low]).to_bytes(4, "big")
            more = cursor.set_range(target)
            if not more or bytes(cursor.key()) != target:  # no chunk starts at the row: use the one before
                more = cursor.prev() if more else cursor.last()
            end = low + 1
            if more and bytes(cursor.key()).startswith(prefix):
                first = int.from_bytes(bytes(cursor.key()[-4:]), "big")
                if chunk is None or chunk.first != first:
                    value = sharing.chunk(self.txn, bytes(cursor.key()), cursor.value())
                    chunk = chunks.decode(value, self.chunk_name(field, part, first))
                end = max(end, int(np.searchsorted(docids, chunk.last, side="right")))
                positions = np.searchsorted(chunk.docids, docids[low:end])
                stored = chunk.docids[np.minimum(positions, len(chunk) - 1)] == docids[low:end]
                if stored.any():
                    yield chunk, np.arange(low, end)[stored], positions[stored]
            low = end

    def docids_of(self, field: int, part: int) -> Iterator[np.ndarray]:
        """The docids of each chunk of a part, int64 ascending. The transaction may write to other parts meanwhile."""
        for first in [first for first, _ in self.chunk_values(field, part)]:
            value = self.chunk_value(field, part, first)
            yield chunks.decode(value, self.chunk_name(field, part, first)).docids.astype(np.int64)

    def remove(self, prefix: bytes) -> None:
        """Delete all records whose keys start with a prefix."""
        cursor = self.txn.cursor()
        while cursor.set_range(prefix) and (key := bytes(cursor.key())).startswith(prefix):
            self.txn.delete(key)

    def append(self, field: int, part: int, chunk: Chunk) -> None:
        """Append a chunk of rows to a part, joining it with the newest chunks as long as these are not larger."""
        prefix = format.chunk_prefix(self.collection, field, part)
        limit = POSTINGS_BYTES if chunk.kind == chunks.POSTINGS else CHUNK_BYTES
        pieces, size, count = [chunk], chunk.nbytes, len(chunk)
        stale = []
        cursor = self.txn.cursor()
        more = cursor.prev() if cursor.set_range(prefix + b"\xff" * 4) else cursor.last()
        while more and bytes(cursor.key()).startswith(prefix):
            key = bytes(cursor.key())
            value = sharing.chunk(self.txn, key, cursor.value())
            if len(value) + size > limit:
                break
            previous = chunks.decode(value, self.chunk_name(field, part, int.from_bytes(key[-4:], "big")))
            if len(previous) > count or (chunk.kind == chunks.POSTINGS and chunk.last - previous.first >= chunks.BLOCK_ROWS):
                break
            pieces.insert(0, previous)
            stale.append(key)
            size += len(value)
            count += len(previous)
            more = cursor.prev()
        whole = chunks.joined(pieces) if stale else chunk
        for key in stale:
            sharing.delete(self.txn, key)
            reach("chunk.removed")
        for piece in split(whole, limit):
            self.txn.put(prefix + piece.first.to_bytes(4, "big"), chunks.encode(piece))
            reach("chunk.written")

    # Counters of derived data

    def derived(self) -> tuple[int, int]:
        """(compactions, replacements): see ``format.unpack_derived``."""
        return format.unpack_derived(self.txn.get(format.key(self.collection, format.DERIVED)))

    def count_derived(self, compactions: int = 0, replacements: int = 0) -> None:
        """Add to the counters that tell snapshots that chunks were compacted or index files replaced."""
        before = self.derived()
        value = format.pack_derived(before[0] + compactions, before[1] + replacements)
        self.txn.put(format.key(self.collection, format.DERIVED), value)

    # Rows

    def write_rows(
        self,
        meta: Meta,
        schema: Schema,
        sequence: int,
        ids: Sequence[Id],
        attributes: Sequence[dict],
        payloads: Sequence,
        write_vectors: Callable[[np.ndarray], None],
        columns: Mapping[str, Sequence],
        replaced: Sequence[int],
        ordinals: dict[int, Ordinals],
        milliseconds: int,
        limits: change_log.Limits,
    ) -> tuple[dict[int, Ordinals], int]:
        """Append one row per point, map the ids to the rows, and mark replaced rows dead. Returns (term numbers used, first docid).

        write_vectors: called with the docids of the rows (int64) to append their vectors.
        attributes: stored forms by row, which ``get`` returns. columns: the same values by attribute, for filters.
        milliseconds: Unix time in milliseconds.
        """
        _, rows, live = self.existing_state()
        n = len(ids)
        if rows + n > format.MAX_ROWS:
            raise LimitError(
                f"a collection can have at most {format.MAX_ROWS} rows in its lifetime, updates included; copy it into a new collection",
                field="ids",
                value=n,
            )
        first = rows
        docids = np.arange(first, first + n, dtype=np.int64)
        self.txn.putmulti(
            [(format.id_key(self.collection, value), format.pack_entry(first + row, sequence)) for row, value in enumerate(ids)]
        )
        reach("write.ids")
        records = [format.pack_row(format.row_of(*row)) for row in zip(ids, attributes, payloads, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(record) for record in records])])
        self.append(format.ROWS_FIELD, format.FORWARD, chunks.ragged(docids, offsets, np.frombuffer(b"".join(records), np.uint8)))
        reach("write.records")
        write_vectors(docids)
        reach("write.vectors")
        used: dict[int, Ordinals] = {}
        for name, values in columns.items():
            field = meta.fields[name]
            parts, numbered = attribute_forms.write(
                self.txn, self.collection, field, schema.attributes[name], values, docids, ordinals.get(field, {}), rule_of(schema, name)
            )
            if numbered:
                used[field] = numbered
            for part, chunk in parts.items():
                self.append(field, part, chunk)
        reach("write.attributes")
        self._add_tombstones(replaced, catalog.bm25_fields(meta, schema), schema.ttl)
        if schema.ttl is not None:
            expiry.add(self.txn, self.collection, schema.ttl, first, attributes)
        entry = {"op": "write", "at": milliseconds, "first": first, "rows": n, "dead": sorted(replaced)}
        self._finish(sequence, rows + n, live + n - len(replaced), entry, limits)
        return used, first

    def delete_rows(
        self,
        sequence: int,
        ids: Sequence[Id],
        docids: Sequence[int],
        bm25: Iterable[int],
        milliseconds: int,
        limits: change_log.Limits,
        schema: Schema,
    ) -> None:
        """Remove ids from the map and mark their rows dead. bm25: numbers of the BM25 fields. milliseconds: Unix time in milliseconds."""
        _, rows, live = self.existing_state()
        for value in ids:
            self.txn.delete(format.id_key(self.collection, value))
        reach("delete.ids")
        self._add_tombstones(docids, bm25, schema.ttl)
        reach("delete.buried")
        named = [value.bytes if isinstance(value, uuid.UUID) else value for value in ids]
        entry = {"op": "delete", "at": milliseconds, "dead": sorted(docids), "ids": named}
        if schema.tenant is not None:
            entry["tenants"] = self._values(schema.tenant, docids)
        self._finish(sequence, rows, live - len(docids), entry, limits)

    def touch(self, sequence: int, entry: dict, limits: change_log.Limits) -> None:
        """Log a change without rows, such as a new schema, so that other processes notice it."""
        _, rows, live = self.existing_state()
        self._finish(sequence, rows, live, entry, limits)

    def _add_tombstones(self, docids: Sequence[int], bm25: Iterable[int], ttl: str | None) -> None:
        if ttl is not None and docids:
            ordered = sorted(docids)
            rows = self.rows(np.array(ordered, np.int64))
            expiry.remove(self.txn, self.collection, ttl, ordered, (row.attributes for row in rows))
        for field in bm25 if docids else ():
            lengths = self.lengths(field, np.sort(np.array(docids, np.int64)))
            if len(lengths):
                self.add_encoder_state(field, {"documents": -len(lengths), "words": -int(lengths.sum())})
        by_block: dict[int, list[int]] = {}
        for docid in docids:
            by_block.setdefault(docid >> format.BLOCK_BITS, []).append(docid)
        for block, dead in by_block.items():
            key = format.tombstone_key(self.collection, block)
            stored = self.txn.get(key)
            bitmap = BitMap(dead)
            if stored is not None:
                bitmap |= BitMap.deserialize(format.verify_checksum(stored, "dead rows"))
            self.txn.put(key, format.with_checksum(bitmap.serialize()))

    def _values(self, attribute: str, docids: Sequence[int]) -> list[Any]:
        """The values of rows in an attribute."""
        ordered = sorted(docids)
        values = {docid: row.attributes.get(attribute) for docid, row in zip(ordered, self.rows(np.array(ordered, np.int64)), strict=True)}
        return [values[docid] for docid in docids]

    def _finish(self, sequence: int, rows: int, live: int, entry: dict, limits: change_log.Limits) -> None:
        self.txn.put(format.key(self.collection, format.STATE), format.pack_state(sequence, rows, live))
        reach("write.state")
        change_log.append(self.txn, self.collection, sequence, entry, limits)
        reach("write.logged")

    def log(self, sequence: int) -> dict | None:
        """The log entry of a batch; None if it was dropped."""
        return change_log.read(self.txn, self.collection, sequence)

    def oldest_log(self) -> int | None:
        """The oldest sequence in the log; None if the log is empty."""
        return change_log.oldest(self.txn, self.collection)

    # Reading rows back

    def rows(self, docids: np.ndarray) -> list[format.Row]:
        """The records of ascending docids. Raises CorruptionError if one is missing."""
        records: list = [None] * len(docids)
        for chunk, indexes, positions in self.chunks_with(format.ROWS_FIELD, format.FORWARD, docids):
            data = chunk.data.reshape(-1).tobytes()
            offsets = chunk.offsets.tolist()
            rows = format.unpack_rows(data[offsets[position] : offsets[position + 1]] for position in positions.tolist())
            for index, row in zip(indexes.tolist(), rows, strict=True):
                records[index] = row
        if None in records:
            raise CorruptionError(f"row {int(docids[records.index(None)])} has no record", field="rows")
        return records

    def lengths(self, field: int, docids: np.ndarray) -> np.ndarray:
        """Words per text, int64, for those of the ascending docids that have the BM25 field."""
        lengths = [
            chunk.data[positions].reshape(-1).view(np.uint32) for chunk, _, positions in self.chunks_with(field, format.LENGTHS, docids)
        ]
        return np.concatenate(lengths).astype(np.int64) if lengths else np.empty(0, np.int64)

    def texts(self, field: int) -> Texts:
        """The counters of a BM25 field's live texts."""
        state = self.encoder_state(field) or {}
        return Texts(state.get("documents", 0), state.get("words", 0))

    # Encoder counters

    def encoder_state(self, field: int) -> dict | None:
        stored = self.txn.get(format.field_key(self.collection, format.ENCODER, field))
        return None if stored is None else format.unpack_record(stored, "encoder state")

    def add_encoder_state(self, field: int, delta: dict) -> None:
        state = self.encoder_state(field) or {}
        total = {name: state.get(name, 0) + delta.get(name, 0) for name in state | delta}
        self.txn.put(format.field_key(self.collection, format.ENCODER, field), format.pack_record(total))


def rule_of(schema: Schema, name: str) -> int:
    """The version of the word rules that a field is written with."""
    return 1 if name in schema.earlier else RULE


def split(chunk: Chunk, limit: int) -> Iterator[Chunk]:
    """Split a chunk into pieces of at most about ``limit`` bytes, or one row. Pieces of postings span at most ``BLOCK_ROWS`` rows."""
    pieces = -(-chunk.nbytes // limit)
    if chunk.kind == chunks.POSTINGS:
        pieces = max(pieces, -(-(chunk.last - chunk.first + 1) // chunks.BLOCK_ROWS))
    if pieces <= 1 or len(chunk) == 1:
        yield chunk
        return
    middle = len(chunk) // 2
    yield from split(chunk.slice(0, middle), limit)
    yield from split(chunk.slice(middle, len(chunk)), limit)
