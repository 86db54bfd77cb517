"""The catalog of collections, and the kinds of all keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectordb_client.errors import shown
from vectordb_client.model.schema import check_name

from .. import format, sharing
from . import walker as walkers
from .branches import check_branches
from .collection import CollectionCheck
from .walker import Full, IntegrityReport, Walker

_SINGLE = (format.META, format.STATE, format.DERIVED, format.LOG_KEPT)  # kinds of keys that a collection has only once
_KINDS = (
    *_SINGLE,
    *(format.IDS, format.TOMBSTONES, format.LOG, format.CHUNK, format.TERMS, format.TERM_COUNT, format.ENCODER, format.TERM_WORD),
    *(format.DERIVATION, format.MIGRATION, format.SEGMENT, format.EXPIRY, format.LENT, format.TOUCHED),
)


def check_directory(walker: Walker, path: str, damage: str | None, types: Mapping[str, Any]) -> IntegrityReport:
    """Check everything. damage: what is wrong with the trees of the data file. types: kind → type, of vector fields."""
    collections: dict[str, int] = {}
    try:
        walker.expect(damage is None, "data.mdb", damage or "")
        collections = _catalog(walker)
        _keys(walker, collections)
        with walker.guard("branches"):
            check_branches(walker, collections.values())
        for name, number in collections.items():
            with walker.guard(f"collection {name!r}"):
                CollectionCheck(walker, name, number, types).run()
    except Full:
        walker.problems.append(f"… and more: only the first {walkers.MAX_PROBLEMS} are listed")
    return walker.report(path, len(collections))


def _catalog(walker: Walker) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for key, value in walker.walk(format.key(format.CATALOG, format.NAME)):
        with walker.guard(f"catalog entry {key[5:]!r}"):
            name = check_name(key[5:].decode(), "collection")
            numbers[name] = format.unpack_record(value, "catalog")
    stored = walker.txn.get(format.key(format.CATALOG, format.NEXT))
    with walker.guard("catalog"):
        following = format.unpack_record(stored, "catalog") if stored is not None else 1
        for name, number in numbers.items():
            walker.expect(
                1 <= number < following, f"collection {name!r}", f"has the number {number}, but the next free number is {following}"
            )
        walker.expect(len(set(numbers.values())) == len(numbers), "catalog", "two collections share a number")
    for key, value in walker.walk(format.key(format.CATALOG, format.ALIAS)):
        with walker.guard(f"alias {key[5:]!r}"):
            alias = check_name(key[5:].decode(), "alias")
            walker.expect(alias not in numbers, f"alias {alias!r}", "has the name of a collection")
            walker.expect(
                format.unpack_record(value, "catalog") in numbers.values(), f"alias {alias!r}", "means a collection that doesn't exist"
            )
    return numbers


def _keys(walker: Walker, collections: dict[str, int]) -> None:
    """Check that every key belongs to a collection, and has a existing kind."""
    existing = set(collections.values())
    strangers: set[int] = set()
    cursor = walker.txn.cursor()
    more = cursor.first()
    while more:
        key = bytes(cursor.key())
        walker.bytes += len(key) + len(cursor.value())
        number, kind = int.from_bytes(key[:4], "big"), key[4:5]
        if number == format.CATALOG:
            single = (format.FORMAT_KEY, format.DIGEST_KEY, format.REQUEST_KEY, format.key(format.CATALOG, format.NEXT))
            fits = kind in (format.NAME, format.ALIAS, format.BRANCH) or key in single
        elif number not in existing and kind in (format.CHUNK, format.LENT) and _left(walker, number, key):
            fits = True  # of a dropped collection: branches of it still read the chunk
        elif number not in existing:
            fits = number in strangers
            strangers.add(number)
        else:
            fits = kind in _KINDS and (kind not in _SINGLE or len(key) == 5)
        walker.expect(fits, f"key {shown(key)}", "belongs to no collection or has an unknown kind")
        more = cursor.next()


def _left(walker: Walker, number: int, key: bytes) -> bool:
    """Whether a chunk, or the record of its readers, was left for the branches of a dropped collection."""
    with walker.guard(f"key {shown(key)}"):
        used, readers = sharing.readers_of(walker.txn, number, key)
        return bool(readers) and not used
    return False
