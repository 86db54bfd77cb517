"""The records of migrations: how far a field is brought to another encoder, and which of its rows have mapped vectors.

The vectors of the new encoder are written under a field number of their own (``Meta.migrating``), which has a record until the name of the
field gets that number. After that the number keeps a record only while rows have vectors that no encoder made (``Meta.mapped``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from msgspec import structs
from pyroaring import BitMap

from . import catalog, format
from .format import Txn
from .store import Store


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A migration, or what is left of a finished one.

    encoder: as the user named it. encode: whether texts are encoded; False: all vectors are mapped. report: what ``Collection.migrate``
    returns. arrays: the map from old to new vectors, as in ``derived.Record``; empty if the old ones are of this encoder already. sample:
    docids of the rows that the map was fitted to, as a roaring bitmap. done: docids below have their new vectors. encoded: rows whose text
    was encoded. mapped: docids whose vectors are mapped, as a roaring bitmap.
    """

    encoder: str
    encode: bool = True
    report: dict[str, Any] = {}
    arrays: dict[str, tuple[str, list[int], bytes]] = {}
    sample: bytes = b""
    done: int = 0
    encoded: int = 0
    mapped: bytes = b""

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Copies of the arrays by name."""
        return {name: np.frombuffer(data, dtype).reshape(shape).copy() for name, (dtype, shape, data) in self.arrays.items()}

    @property
    def rows(self) -> BitMap:
        """The docids whose vectors are mapped, dead ones among them."""
        return BitMap.deserialize(self.mapped) if self.mapped else BitMap()


def key(collection: int, field: int) -> bytes:
    return format.field_key(collection, format.MIGRATION, field)


def unpack(value: format.Stored) -> Record:
    """Decode a record. Raises CorruptionError."""
    return msgspec.convert(format.unpack_record(value, "migration"), Record)


def read(txn: Txn, collection: int, field: int) -> Record | None:
    value = txn.get(key(collection, field))
    return None if value is None else unpack(value)


def write(txn: Txn, collection: int, field: int, record: Record) -> None:
    txn.put(key(collection, field), format.pack_record(record))


def remove(txn: Txn, collection: int, field: int) -> None:
    txn.delete(key(collection, field))


def mapped_rows(txn: Txn, collection: int, meta: catalog.Meta, field: int) -> BitMap:
    """The docids of a field number whose vectors are mapped."""
    record = read(txn, collection, field) if field in meta.mapped else None
    return BitMap() if record is None else record.rows


def carry(store: Store, meta: catalog.Meta, field: int, pairs: Iterable[tuple[int, int]]) -> None:
    """Rows of an update have taken over vectors: those of (old docid, new docid) whose old one was mapped are mapped, too."""
    record = read(store.txn, store.collection, field) if field in meta.mapped else None
    if record is None:
        return
    mapped = record.rows
    taken = [new for old, new in pairs if old in mapped]
    if taken:
        mapped.update(taken)
        write(store.txn, store.collection, field, structs.replace(record, mapped=mapped.serialize()))


def take_over(store: Store, field: int, docids: Iterable[int], other: Record) -> None:
    """Rows have taken over mapped vectors of a branch, whose field has the record ``other``: they are mapped here, too."""
    meta = catalog.read_meta(store.txn, store.collection)
    record = read(store.txn, store.collection, field) if field in meta.mapped else None
    if record is None:
        record = structs.replace(other, mapped=b"")
        catalog.write_meta(store.txn, store.collection, structs.replace(meta, mapped=[*meta.mapped, field]))
    mapped = record.rows
    mapped.update(docids)
    write(store.txn, store.collection, field, structs.replace(record, mapped=mapped.serialize()))


def abandon(store: Store, field: int) -> None:
    """Remove the vectors and the record of a number that no field has yet. Its index files are ``segments.remove_field``'s."""
    store.drop_chunks(field)
    remove(store.txn, store.collection, field)
