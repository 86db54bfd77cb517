"""The records of derived fields: by what their vectors are made. A field has no vectors until it has such a record.

The record belongs to the field's number. A derived field that is fitted again is written under a new number beside the old one, and its
name then gets the new number (``Meta.deriving`` has it until then). So vectors of one number are always of one fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from . import format, term_words
from .format import Txn


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """By what the vectors of a field number are made.

    by: the JSON form of the derivation. version: how often the field was fitted, this time included. sequence: of the state that it was
    fitted to. arrays: what it has learned, or the vectors of its words: name → (dtype, shape, bytes). report: facts about the fit, or
    ``encoder``, the identity of what encoded the words. sample: docids of the rows that it was fitted to, as a roaring bitmap; empty if
    it has learned nothing. done: docids below are derived; only while the field is not switched to this number. labels: what the fit called
    each of its terms, "" where it found nothing; empty where a derivation labels none. A word of a term goes before its label.
    """

    by: dict[str, Any]
    version: int = 1
    sequence: int = 0
    arrays: dict[str, tuple[str, list[int], bytes]] = {}
    report: dict[str, Any] = {}
    sample: bytes = b""
    done: int = 0
    labels: list[str] = []

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Copies of the arrays by name."""
        return {name: np.frombuffer(data, dtype).reshape(shape).copy() for name, (dtype, shape, data) in self.arrays.items()}


def packed(parts: Mapping[str, np.ndarray]) -> dict[str, tuple[str, list[int], bytes]]:
    """Arrays as a record holds them."""
    return {name: (array.dtype.str, list(array.shape), array.tobytes()) for name, array in parts.items()}


def key(collection: int, field: int) -> bytes:
    return format.field_key(collection, format.DERIVATION, field)


def stored(txn: Txn, collection: int, field: int) -> format.Stored | None:
    """The bytes of the record of a field number. The first eight are their checksum."""
    return txn.get(key(collection, field))


def is_made(txn: Txn, collection: int, field: int) -> bool:
    """Whether a field number has a record."""
    return stored(txn, collection, field) is not None


def unpack(value: format.Stored) -> Record:
    """Decode a record. Raises CorruptionError."""
    return msgspec.convert(format.unpack_record(value, "derivation"), Record)


def read(txn: Txn, collection: int, field: int) -> Record | None:
    value = stored(txn, collection, field)
    return None if value is None else unpack(value)


def write(txn: Txn, collection: int, field: int, record: Record) -> None:
    txn.put(key(collection, field), format.pack_record(record))


def remove(txn: Txn, collection: int, field: int) -> None:
    txn.delete(key(collection, field))


def begin(txn: Txn, number: int, fields: Mapping[str, int], records: Mapping[str, Record]) -> None:
    """Let new derived fields of a collection without rows begin: each write makes their vectors from now on.

    fields: name → number. records: name → record, of the new fields that learn nothing from points.
    """
    for name, record in records.items():
        write(txn, number, fields[name], record)
        add_words(txn, number, fields[name], record.by)


def add_words(txn: Txn, collection: int, field: int, by: Mapping[str, Any]) -> None:
    """Store the words of a derivation, in its JSON form, as those of the terms of a field number."""
    term_words.add(txn, collection, field, dict(enumerate(by.get("words", ()))))
