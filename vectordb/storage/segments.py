"""The registry of index files: which file covers which docids of a field. The files are derived data and can be built again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import xxhash
from vectordb_client.errors import CorruptionError

from ..common.checksums import AT_ONCE
from . import format
from .format import Txn
from .store import Store

FOLDER = "indexes"
TEMPORARY = "tmp-"  # prefix of the name of a file that is still being written
_NAME = re.compile(r"c(\d+)-f\d+-\d+-\d+-[0-9a-f]{16}\.index")


class Record(msgspec.Struct, frozen=True):
    """An index file of docids [first, end) of a field.

    rows: number of rows in the file: those with the field that were live when it was built. dead: docids of the range that were dead then.
    checksum: xxh3-64 of the whole file. options: build options. sequence: of the collection at that time. header: xxh3-64 of the file's
    header, which identifies the file; missing in records of earlier versions.
    """

    field: int
    first: int
    end: int
    rows: int
    dead: int
    file: str
    bytes: int
    checksum: int
    options: dict
    sequence: int
    header: int | None = None


Records = dict[int, tuple[Record, ...]]  # field → records by first docid


def folder(path: Path) -> Path:
    """The folder of a directory's index files."""
    return path / FOLDER


def new_name(collection: int, field: int, first: int, end: int) -> str:
    """A new file name, unique by its random part."""
    return f"c{collection}-f{field}-{first}-{end}-{os.urandom(8).hex()}.index"


def is_ours(name: str) -> bool:
    """Whether a file of the folder is an index file, complete or not."""
    return bool(_NAME.fullmatch(name.removeprefix(TEMPORARY)))


def collection_of(name: str) -> int | None:
    """The number of the collection that a file belongs to, from its name; None if it is not an index file."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])


def records(txn: Txn, collection: int) -> tuple[Records, list[str]]:
    """(the readable records of a collection, a line of text for each damaged one)."""
    readable: Records = {}
    problems = []
    for key, value in _walk(txn, collection):
        try:
            record = _read(key, value)
        except CorruptionError as error:
            problems.append(error.message)
            continue
        readable[record.field] = (*readable.get(record.field, ()), record)
    return readable, problems


def _walk(txn: Txn, collection: int) -> Iterator[tuple[bytes, format.Stored]]:
    return format.walk(txn, format.key(collection, format.SEGMENT))


def _read(key: bytes, value) -> Record:
    what = f"index record of field {int.from_bytes(key[5:7], 'big')} rows {int.from_bytes(key[7:11], 'big')}…"
    try:
        record = msgspec.convert(format.unpack_record(value, what), Record)
    except msgspec.ValidationError as error:
        raise CorruptionError(f"{what} is damaged: {error}", field="index") from None
    good = key == format.segment_key(int.from_bytes(key[:4], "big"), record.field, record.first)
    if not good or not record.first < record.end or not _NAME.fullmatch(record.file):
        raise CorruptionError(f"{what} is damaged", field="index")
    return record


def replace(txn: Txn, collection: int, old: tuple[Record, ...], new: Record | None) -> bool:
    """Replace ``old`` records by ``new``. Returns False and changes nothing if the old records no longer exist as given."""
    store = Store(txn, collection)
    if store.state() is None:
        return False
    stored = dict(_walk(txn, collection))
    keys = [format.segment_key(collection, record.field, record.first) for record in old]
    if any(key not in stored or _unless_damaged(key, stored[key]) != record for key, record in zip(keys, old, strict=True)):
        return False
    for key in keys:
        txn.delete(key)
    if new is not None:
        rest = [_unless_damaged(key, value) for key, value in stored.items() if key not in keys]
        if any(r is not None and r.field == new.field and r.first < new.end and new.first < r.end for r in rest):
            raise ValueError(f"index of rows {new.first} … {new.end - 1} overlaps another")
        txn.put(format.segment_key(collection, new.field, new.first), format.pack_record(msgspec.structs.asdict(new)))
    store.count_derived(replacements=1)
    return True


def _unless_damaged(key: bytes, value) -> Record | None:
    try:
        return _read(key, value)
    except CorruptionError:
        return None


def remove_field(txn: Txn, collection: int, field: int) -> list[str]:
    """Delete the records of a field; returns the names of their files."""
    records = [(key, _unless_damaged(key, value)) for key, value in _walk(txn, collection) if int.from_bytes(key[5:7], "big") == field]
    for key, _ in records:
        txn.delete(key)
    if records:
        Store(txn, collection).count_derived(replacements=1)
    return [record.file for _, record in records if record is not None]


def remove_damaged(txn: Txn, collection: int) -> int:
    """Delete damaged records, so that their rows are indexed again. Returns how many."""
    bad = [key for key, value in _walk(txn, collection) if _unless_damaged(key, value) is None]
    for key in bad:
        txn.delete(key)
    if bad:
        Store(txn, collection).count_derived(replacements=1)
    return len(bad)


def named_files(txn: Txn, collections: list[int]) -> set[str]:
    """The names of all files in the records of these collections."""
    return {record.file for number in collections for group in records(txn, number)[0].values() for record in group}


def checksum(path: Path) -> int:
    """xxh3-64 of a file."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while block := file.read(AT_ONCE):  # each read releases the GIL, so other threads can run
            digest.update(block)
    return digest.intdigest()
