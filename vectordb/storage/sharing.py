"""Chunks that several collections read. One collection stores a chunk; a branch of it has a reference under the same field, part and docid.

Whoever changes a shared chunk copies it first: a collection that rewrites or deletes a chunk that others read gives its bytes to the first
of them. A collection or field that is dropped leaves such chunks where they are, until the last reader is gone.

The record ``format.LENT`` of a chunk names its readers. The first number says whether the collection that stores it still reads it.
"""

from __future__ import annotations

from typing import Any

from vectordb_client.errors import CorruptionError

from ..common.failpoints import reach
from . import chunks, format
from .format import Stored, Txn


def chunk(txn: Txn, key: bytes, value: Stored) -> Stored:
    """The bytes of a chunk, from the value of its key. Raises CorruptionError if another collection should have them and doesn't."""
    collection = format.reference(value)
    if collection is None:
        return value
    found = txn.get(format.collection_prefix(collection) + key[4:])
    if found is None or len(found) == format.REFERENCE_BYTES:
        name = chunks.name_of(*chunks.place_of(key))
        raise CorruptionError(f"chunk {name} is missing in collection {collection}, which should store it", field=name)
    return found


def lend(txn: Txn, key: bytes, value: Stored, reader: int) -> tuple[bytes, bytes]:
    """Let another collection read a chunk. Returns (key, value) of its reference, for the caller to write. value: that of the key."""
    owner = format.reference(value)
    if owner is None:
        owner = int.from_bytes(key[:4], "big")
    used, readers = readers_of(txn, owner, key)
    _write(txn, owner, key, used, [*readers, reader])
    return format.collection_prefix(reader) + key[4:], format.pack_reference(owner)


def delete(txn: Txn, key: bytes) -> None:
    """Delete a chunk of a collection. If others read it, the first of them gets its bytes."""
    value = txn.get(key)
    owner = None if value is None else format.reference(value)
    if owner is not None:
        txn.delete(key)
        _release(txn, owner, key)
        return
    number = int.from_bytes(key[:4], "big")
    _, readers = readers_of(txn, number, key)
    if readers and value is not None:
        first, *others = readers
        txn.put(format.collection_prefix(first) + key[4:], bytes(value))
        reach("share.copied")
        for other in others:
            txn.put(format.collection_prefix(other) + key[4:], format.pack_reference(first))
        if others:
            _write(txn, first, key, True, others)
        txn.delete(_lent_key(number, key))
        for reader in readers:
            _count_move(txn, reader)
        reach("share.given")
    txn.delete(key)


def abandon(txn: Txn, key: bytes) -> None:
    """Delete a chunk of a collection or field that is dropped, or leave it to those that still read it."""
    _, readers = readers_of(txn, int.from_bytes(key[:4], "big"), key)
    if readers:
        _write(txn, int.from_bytes(key[:4], "big"), key, False, readers)
    else:
        delete(txn, key)


def readers_of(txn: Txn, owner: int, key: bytes) -> tuple[bool, list[int]]:
    """(whether the collection that stores a chunk reads it itself, the others that do)."""
    stored = txn.get(_lent_key(owner, key))
    if stored is None:
        return True, []
    used, *readers = format.unpack_record(stored, "readers of a chunk")
    return bool(used), readers


def _release(txn: Txn, owner: int, key: bytes) -> None:
    """A collection no longer reads a chunk of another one."""
    used, readers = readers_of(txn, owner, key)
    left = [reader for reader in readers if reader != int.from_bytes(key[:4], "big")]
    if left:
        _write(txn, owner, key, used, left)
        return
    txn.delete(_lent_key(owner, key))
    if not used:
        txn.delete(format.collection_prefix(owner) + key[4:])


def _write(txn: Txn, owner: int, key: bytes, used: bool, readers: list[int]) -> None:
    record: list[Any] = [used, *readers]
    txn.put(_lent_key(owner, key), format.pack_record(record))


def _lent_key(owner: int, key: bytes) -> bytes:
    return format.key(owner, format.LENT, key[5:])


def _count_move(txn: Txn, collection: int) -> None:
    """Tell the processes that an older chunk of a collection is elsewhere now, as compaction does."""
    key = format.key(collection, format.DERIVED)
    compactions, replacements = format.unpack_derived(txn.get(key))
    txn.put(key, format.pack_derived(compactions + 1, replacements))
