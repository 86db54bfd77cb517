"""Branches: their records, the chunks that they share, and what they know of points that changed."""

from __future__ import annotations

from collections.abc import Collection

from vectordb_client.errors import shown
from vectordb_client.model.values import check_id

from .. import branches, catalog, chunks, format, sharing
from ..store import Store
from .walker import Walker


def check_branches(walker: Walker, numbers: Collection[int]) -> None:
    """Check everything about branches. numbers: of the existing collections."""
    for key, value in walker.walk(format.key(format.CATALOG, format.BRANCH)):
        where = f"branch record {shown(key[5:])}"
        with walker.guard(where):
            number = int.from_bytes(key[5:], "big")
            branch = branches.unpack(value)
            if walker.expect(len(key) == 9 and number in numbers, where, "belongs to no collection"):
                sequence, rows, _ = Store(walker.txn, number).existing_state()
                older = branch.root <= branch.of < number and branch.sequence <= sequence and branch.rows <= rows
                walker.expect(older, where, "says that the branch is older than its original")
                _touched(walker, number, sequence)
    _chunks(walker, numbers)


def _touched(walker: Walker, number: int, sequence: int) -> None:
    for key, value in walker.walk(format.key(number, format.TOUCHED)):
        where = f"collection {number}: changed point {shown(key[5:])}"
        with walker.guard(where):
            check_id(format.id_of_key(key))
            _, version = format.unpack_touched(value)
            walker.expect(version <= sequence, where, f"has version {version}, but the newest sequence is {sequence}")


def _chunks(walker: Walker, numbers: Collection[int]) -> None:
    """Check that each reference leads to a chunk that knows its reader, and the other way round."""
    owners = set(numbers)
    for number in numbers:
        for key, value in walker.walk(format.key(number, format.CHUNK)):
            if len(value) == format.REFERENCE_BYTES:
                where = f"chunk {chunks.name_of(*chunks.place_of(key))}"
                with walker.guard(where):
                    owner = format.reference(value)
                    assert owner is not None
                    sharing.chunk(walker.txn, key, value)
                    owners.add(owner)
                    known = number in sharing.readers_of(walker.txn, owner, key)[1]
                    walker.expect(known, where, f"is read in collection {owner}, which doesn't know of it")
    for owner in sorted(owners):
        fields = _fields(walker, owner) if owner in numbers else set()
        for key, _ in walker.walk(format.key(owner, format.LENT)):
            where = f"shared chunk {shown(key)}"
            with walker.guard(where):
                place = format.key(owner, format.CHUNK, key[5:])
                value = walker.txn.get(place)
                stored = value is not None and len(value) != format.REFERENCE_BYTES
                walker.expect(stored, where, "is not stored where its record says")
                used, readers = sharing.readers_of(walker.txn, owner, place)
                for reader in readers:
                    found = walker.txn.get(format.collection_prefix(reader) + place[4:])
                    read = reader in numbers and found is not None and format.reference(found) == owner
                    walker.expect(read, where, f"says that collection {reader} reads it, which doesn't")
                walker.expect(readers, where, "is read by no other collection")
                held = int.from_bytes(key[5:7], "big") in fields
                walker.expect(used == held, where, "says wrongly whether its own collection reads it")


def _fields(walker: Walker, number: int) -> set[int]:
    meta = catalog.read_meta(walker.txn, number)
    return {format.ROWS_FIELD, *meta.fields.values(), *meta.pending}
