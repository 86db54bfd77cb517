"""The byte layout: keys, small records, checksums. FORMAT.md describes it; change both together.

All records are in one LMDB tree, named "data". A key is: collection number (u32, big-endian), kind (one byte), rest. Integers in keys are
big-endian, so that they sort by value; integers in values are little-endian.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import xxhash
from vectordb_client.errors import CorruptionError, FormatVersionError
from vectordb_client.model.values import Id

Stored = bytes | memoryview  # a value as LMDB returns it
Txn = lmdb.Transaction
VERSION = 5  # written by this code; the first write to a directory of an older format raises it
FIRST_VERSION = 1  # the oldest format that this code reads
DIGEST_VERSION = 4  # the first format with a digest of all records
CATALOG = 0  # the collection number that holds the catalog

FORMAT_KEY = struct.pack(">I", CATALOG) + b"f"
REQUEST_KEY = struct.pack(">I", CATALOG) + b"w"  # exists only while data.mdb is being replaced
DIGEST_KEY = struct.pack(">I", CATALOG) + b"h"

# Kinds of a collection's keys.
META = b"m"  # schema, field numbers, encoder identities
STATE = b"s"  # sequence, rows, live rows
IDS = b"i"  # id → docid, version
TOMBSTONES = b"x"  # docids >> 16 → roaring bitmap of dead rows
LOG = b"l"  # sequence → what the batch did
LOG_KEPT = b"o"  # the oldest sequence in the log, bytes of all entries, time of the oldest
CHUNK = b"c"  # field, part, first docid → a chunk of rows
TERMS = b"d"  # field, value → ordinal
TERM_COUNT = b"n"  # field → next ordinal
ENCODER = b"e"  # field → counters of a BM25 field's live texts; of earlier versions, of all texts ever written
TERM_WORD = b"w"  # field, sparse term → its word
DERIVATION = b"p"  # field → by what its vectors are made, of a derived field
MIGRATION = b"y"  # field → how far it is brought to another encoder, and which rows have mapped vectors
EXPIRY = b"t"  # moment, docid of a live row that ends then
SEGMENT = b"g"  # field, first docid → an index file
DERIVED = b"v"  # numbers of compactions and of replacements of index files
LENT = b"r"  # field, part, first docid of a chunk → the collections that read it, too
TOUCHED = b"u"  # id → versions of a point that changed on a branch
NAME = b"k"  # (catalog) collection name → collection number
ALIAS = b"a"  # (catalog) alias → collection number
BRANCH = b"b"  # (catalog) collection number of a branch → of which collection it is one
NEXT = b"#"  # (catalog) the next collection number

# Field numbers below FIRST_FIELD are reserved.
ROWS_FIELD = 0  # records: (id, attributes, payload)
FIRST_FIELD = 16

# Parts of a field.
FORWARD = 0  # the values, by row
POSTINGS = 1  # term → rows
COUNTS = 2  # number of elements of an array → rows
LENGTHS = 3  # words per text of a BM25 field

BLOCK_BITS = 16
MAX_ROWS = 2**32 - 2**17
REFERENCE_BYTES = 12  # less than the header of a chunk

_prefix = struct.Struct(">IcHB")
_chunk = struct.Struct(">IcHBI")
_log = struct.Struct(">IcQ")
_segment = struct.Struct(">IcHI")
_term_word = struct.Struct(">IcHQ")
_expiry = struct.Struct(">IcQI")
_derived = struct.Struct("<QQ")
_state = struct.Struct("<QQQ")
_log_kept = struct.Struct("<QQQ")
_entry = struct.Struct("<IQ")
_touched = struct.Struct("<QQ")
_reference = struct.Struct("<I")
_checksum = struct.Struct("<Q")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


def key(collection: int, kind: bytes, rest: bytes = b"") -> bytes:
    return struct.pack(">I", collection) + kind + rest


def collection_prefix(collection: int) -> bytes:
    return struct.pack(">I", collection)


def field_key(collection: int, kind: bytes, field: int) -> bytes:
    return struct.pack(">IcH", collection, kind, field)


def chunk_prefix(collection: int, field: int, part: int) -> bytes:
    return _prefix.pack(collection, CHUNK, field, part)


def chunk_key(collection: int, field: int, part: int, first: int) -> bytes:
    return _chunk.pack(collection, CHUNK, field, part, first)


def tombstone_key(collection: int, block: int) -> bytes:
    return struct.pack(">IcH", collection, TOMBSTONES, block)


def log_key(collection: int, sequence: int) -> bytes:
    return _log.pack(collection, LOG, sequence)


def segment_key(collection: int, field: int, first: int) -> bytes:
    return _segment.pack(collection, SEGMENT, field, first)


def term_word_key(collection: int, field: int, term: int) -> bytes:
    return _term_word.pack(collection, TERM_WORD, field, term)


def expiry_key(collection: int, moment: int, docid: int) -> bytes:
    """moment: Unix time in microseconds, int64. Keys sort by it."""
    return _expiry.pack(collection, EXPIRY, moment + (1 << 63), docid)


def expiry_of_key(key: bytes) -> tuple[int, int]:
    """(moment, docid)."""
    if len(key) != _expiry.size:
        raise CorruptionError(f"expiry key {key!r} is damaged", field="ttl")
    _, _, moment, docid = _expiry.unpack(key)
    return moment - (1 << 63), docid


_ID_PREFIX = struct.Struct(">Icc")
_UINT_KEY = struct.Struct(">IccQ")


def id_prefix(collection: int) -> bytes:
    return key(collection, IDS)


def id_key(collection: int, value: Id) -> bytes:
    """The key of an id. Keys sort as: integers ascending, then strings by UTF-8 bytes, then UUIDs."""
    if type(value) is int:
        return _UINT_KEY.pack(collection, IDS, b"\x01", value)
    if isinstance(value, str):
        return _ID_PREFIX.pack(collection, IDS, b"\x02") + value.encode()
    return _ID_PREFIX.pack(collection, IDS, b"\x03") + value.bytes


def touched_key(collection: int, value: Id) -> bytes:
    """The key of what a branch knows about a point that changed there. Keys sort like ids."""
    return key(collection, TOUCHED) + id_key(collection, value)[5:]


def branch_key(collection: int) -> bytes:
    return key(CATALOG, BRANCH, struct.pack(">I", collection))


def pack_reference(collection: int) -> bytes:
    """What stands for a chunk that another collection stores under a key like this one."""
    return with_checksum(_reference.pack(collection))


def reference(value: Stored) -> int | None:
    """The collection that stores a chunk; None if the value is a chunk itself. Raises CorruptionError."""
    return _fixed(_reference, value, "reference to a chunk")[0] if len(value) == REFERENCE_BYTES else None


def pack_touched(original: int, branch: int) -> bytes:
    """Versions of a point when both collections last had the same, or were merged; 0 where there was none."""
    return _touched.pack(original, branch)


def unpack_touched(value: Stored) -> tuple[int, int]:
    try:
        return _touched.unpack(value)
    except struct.error:
        raise CorruptionError(f"the record of a point that changed on a branch has {len(value)} bytes, not 16", field="ids") from None


def id_of_key(stored: Stored) -> Id:
    tag, rest = stored[5], bytes(stored[6:])
    if tag == 1 and len(rest) == 8:
        return int.from_bytes(rest, "big")
    if tag == 2:
        return rest.decode()
    if tag == 3 and len(rest) == 16:
        return uuid.UUID(bytes=rest)
    raise CorruptionError(f"id key {bytes(stored)!r} is damaged", field="ids")


def walk(txn: Txn, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, Stored]]:
    """(key, value) of all records whose keys begin with a prefix, in order. start: the key to begin at; a prefix of it is ``prefix``.

    A value is valid until the transaction writes, which also ends the walk.
    """
    cursor = txn.cursor()
    more = cursor.set_range(prefix if start is None else start)
    while more and (key := bytes(cursor.key())).startswith(prefix):
        yield key, cursor.value()
        more = cursor.next()


def pack_entry(docid: int, version: int) -> bytes:
    """The value of an id: docid of its live row, and sequence of the batch that wrote it."""
    return _entry.pack(docid, version)


def unpack_entry(value: Stored) -> tuple[int, int]:
    try:
        return _entry.unpack(value)
    except struct.error:
        raise CorruptionError(f"the entry of an id has {len(value)} bytes, not 12", field="ids") from None


def pack_log_kept(first: int, size: int, written: int) -> bytes:
    """first: the oldest sequence in the change log. size: bytes of all entries. written: Unix time of the oldest entry, milliseconds."""
    return with_checksum(_log_kept.pack(first, size, written))


def unpack_log_kept(value: Stored) -> tuple[int, int, int]:
    return _fixed(_log_kept, value, "change log")


def pack_state(sequence: int, rows: int, live: int) -> bytes:
    return with_checksum(_state.pack(sequence, rows, live))


def unpack_state(value: Stored) -> tuple[int, int, int]:
    """(sequence of the last batch, rows ever written = next docid, live rows)."""
    return _fixed(_state, value, "state")


def pack_derived(compactions: int, replacements: int) -> bytes:
    return with_checksum(_derived.pack(compactions, replacements))


def unpack_derived(value: Stored | None) -> tuple[int, int]:
    """(transactions that compacted chunks, transactions that replaced index files); zeros if there is no record."""
    return (0, 0) if value is None else _fixed(_derived, value, "derived")


def pack_digest(total: int) -> bytes:
    """The sum of the hashes of all other records."""
    return with_checksum(_checksum.pack(total))


def unpack_digest(value: Stored) -> int:
    return _fixed(_checksum, value, "digest")[0]


def _fixed(layout: struct.Struct, value: Stored, what: str) -> tuple:
    """The numbers of a record of fixed size. Raises CorruptionError naming the record."""
    body = verify_checksum(value, what)
    if len(body) != layout.size:
        raise CorruptionError(f"{what} record has {len(body)} bytes", field=what)
    return layout.unpack(body)


def with_checksum(body: bytes) -> bytes:
    """A small record with its checksum (xxh3-64) in front."""
    return _checksum.pack(xxhash.xxh3_64_intdigest(body)) + body


def verify_checksum(value: Stored, what: str) -> bytes:
    """The body of a record with a checksum. Raises CorruptionError naming the record if the checksum fails."""
    value = bytes(value)
    if len(value) < 8 or _checksum.unpack_from(value)[0] != xxhash.xxh3_64_intdigest(value[8:]):
        raise CorruptionError(f"{what} record fails its checksum", field=what)
    return value[8:]


def pack_record(record) -> bytes:
    """A msgpack record with its checksum in front."""
    return with_checksum(_pack(record))


def unpack_record(value: Stored, what: str):
    try:
        return _unpack(verify_checksum(value, what))
    except msgspec.DecodeError as error:
        raise CorruptionError(f"{what} record can't be decoded: {error}", field=what) from None


CURRENT = pack_record({"format": VERSION})


def check_version(path: Path, record: Stored | None) -> int:
    """The format of a directory, from its record. Raises FormatVersionError if this code can't read it."""
    if record is None:
        raise FormatVersionError(f"{path} holds an LMDB environment that isn't a vectordb directory", field="path", value=str(path))
    version = unpack_record(record, "format").get("format")
    if version not in range(FIRST_VERSION, VERSION + 1):
        readable = f"formats {FIRST_VERSION} to {VERSION}"
        raise FormatVersionError(f"{path} has format {version}; this version of vectordb reads {readable}", field="format", value=version)
    return version


class Row(msgspec.Struct, array_like=True):
    """The record of a row: id (UUIDs as 16 bytes), attributes in stored form, JSON payload."""

    id: Any
    attributes: dict
    payload: object = None


_row_decode = msgspec.msgpack.Decoder(Row).decode
pack_row = msgspec.msgpack.Encoder().encode


def unpack_rows(records: Iterable[Stored]) -> list[Row]:
    """Decode row records. Raises CorruptionError if one is invalid."""
    try:
        rows = [_row_decode(record) for record in records]
    except msgspec.DecodeError as error:
        raise CorruptionError(f"a row doesn't decode: {error}", field="rows") from None
    for row in rows:
        if type(row.id) is bytes:
            row.id = uuid.UUID(bytes=row.id)
    return rows


class _IdOfRow(msgspec.Struct, array_like=True):
    """The first value of a row record; the rest is skipped."""

    id: Any


_id_decode = msgspec.msgpack.Decoder(_IdOfRow).decode


def unpack_ids(records: Iterable[Stored]) -> list[Id]:
    """The ids of row records. Raises CorruptionError if one is invalid."""
    try:
        ids = [_id_decode(record).id for record in records]
    except msgspec.DecodeError as error:
        raise CorruptionError(f"a row doesn't decode: {error}", field="rows") from None
    return [uuid.UUID(bytes=value) if type(value) is bytes else value for value in ids]


def row_of(value: Id, attributes: dict, payload) -> Row:
    return Row(value.bytes if isinstance(value, uuid.UUID) else value, attributes, payload)
