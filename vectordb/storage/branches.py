"""Branches: collections that begin as a copy of another one, and can be merged back.

A branch has records of its own, but shares the chunks (``sharing``) and the index files of the collection that it was made of. So making
one costs a copy of the id map and of other small records.

To merge, a branch must know which points changed there, and what the original had then. Rows from ``Branch.rows`` on were written on the
branch. For a point that was copied, the first write or deletion on the branch keeps its version (``format.TOUCHED``). A point of the
original has changed since if its version is another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PreconditionError, shown
from vectordb_client.model.schema import check_name
from vectordb_client.model.values import Id

from ..common import deadline
from ..common.failpoints import reach
from . import catalog, format, segments, sharing
from .format import Txn
from .store import Store

STEPS = (
    "branch.part",
    "branch.copied",
    "branch.described",
    "merge.deleted",
    "merge.written",
    "merge.settled",
    "share.copied",
    "share.given",
)
COPIED_BYTES = 4_096  # chunks up to this size are copied: a reference would save little
COPIED_AT_ONCE = 20_000  # records
_BYTES_AT_ONCE = 8 << 20
_IDS_AT_ONCE = 10_000
_KEPT_BY_OWNER = (format.META, format.LENT, format.TOUCHED)  # kinds of records that a branch doesn't copy


class Branch(msgspec.Struct, frozen=True):
    """Of which collection one is a branch, and what that was when the branch was made.

    of: its number. name: its name then. root: the number of the collection that has no original, of those from which this one descends.
    sequence, rows: of the collection. next_field: its fields have lower numbers. made: Unix time in milliseconds.
    """

    of: int
    name: str
    root: int
    sequence: int
    rows: int
    next_field: int
    made: int


class Touched(NamedTuple):
    """A point that differs on the branch. was: its version in the original when both had the same; 0: it was not there. now: its version on
    the branch; 0: it was deleted. there: its version in the original now, or 0.
    """

    id: Id
    was: int
    now: int
    there: int

    @property
    def conflicts(self) -> bool:
        """Whether the original has changed the point, too, and not deleted it like the branch."""
        return self.there != self.was and bool(self.there or self.now)


def read(txn: Txn, collection: int) -> Branch | None:
    """The record of a branch; None for a collection that isn't one."""
    stored = txn.get(format.branch_key(collection))
    return None if stored is None else unpack(stored)


def unpack(stored: format.Stored) -> Branch:
    return msgspec.convert(format.unpack_record(stored, "branch"), Branch)


def original_name(txn: Txn, branch: Branch) -> str | None:
    """The name of the collection that a branch was made of; None if it was dropped."""
    try:
        return catalog.read_meta(txn, branch.of).name
    except NotFoundError:
        return None


def facts(txn: Txn, collection: int) -> dict[str, Any] | None:
    """What ``info`` says of a branch; None for a collection that isn't one."""
    branch = read(txn, collection)
    if branch is None:
        return None
    shared = 0
    for key, value in format.walk(txn, format.key(collection, format.CHUNK)):
        if len(value) == format.REFERENCE_BYTES:
            shared += len(sharing.chunk(txn, key, value))
    name = original_name(txn, branch)
    return {
        "of": name or branch.name,
        "sequence": branch.sequence,
        "made": branch.made / 1000,
        "dropped": name is None,
        "shared_bytes": shared,
    }


def create(txn: Txn, source: str, name: str, milliseconds: int) -> int:
    """Make a branch and return its number. Raises NotFoundError, AlreadyExistsError, LimitError or SchemaError."""
    _, of = catalog.find(txn, source)
    check_free(txn, check_name(name, "collection"))
    number = catalog.claim(txn, name)
    meta, parent = catalog.read_meta(txn, of), read(txn, of)
    sequence, rows, _ = Store(txn, of).existing_state()
    root = of if parent is None else parent.root
    branch = Branch(of, meta.name, root, sequence, rows, catalog.next_field(meta), milliseconds)
    _copy(txn, of, number)
    reach("branch.copied")
    catalog.write_meta(txn, number, msgspec.structs.replace(meta, name=name))
    txn.put(format.branch_key(number), format.pack_record(msgspec.structs.asdict(branch)))
    reach("branch.described")
    catalog.put_name(txn, name, number)
    return number


def _copy(txn: Any, of: int, number: int) -> None:
    """Copy the records of a collection. Chunks with pages of their own become references."""
    source, target = format.collection_prefix(of), format.collection_prefix(number)
    cursor, start = txn.cursor(), source
    while cursor.set_range(start):
        deadline.check()
        items, lent, size = [], [], 0
        for stored, value in islice(cursor.iternext(), COPIED_AT_ONCE):
            key = bytes(stored)
            if key[:4] != source or size >= _BYTES_AT_ONCE:
                break
            start = key + b"\0"
            kind = key[4:5]
            if kind in _KEPT_BY_OWNER:
                continue
            if kind == format.CHUNK and (len(value) == format.REFERENCE_BYTES or len(value) > COPIED_BYTES):
                lent.append((key, bytes(value[: format.REFERENCE_BYTES]) if len(value) == format.REFERENCE_BYTES else b""))
            else:
                items.append((target + key[4:], bytes(value)))
                size += len(value)
        else:
            key = source
        items += [sharing.lend(txn, key_of_chunk, held, number) for key_of_chunk, held in lent]
        if items:
            txn.append(items)
            reach("branch.part")
        if key[:4] != source:
            return


def note(txn: Any, collection: int, ids: Sequence[Id], entries: Sequence[tuple[int, int] | None]) -> None:
    """Remember the versions of points that a branch is about to change for the first time. entries: their (docid, version) or None."""
    branch = read(txn, collection)
    if branch is None:
        return
    items = [
        (format.touched_key(collection, value), format.pack_touched(entry[1], entry[1]))
        for value, entry in zip(ids, entries, strict=True)
        if entry is not None and entry[0] < branch.rows
    ]
    txn.putmulti(items, overwrite=False)


def touched(txn: Txn, collection: int, branch: Branch) -> Iterator[Touched]:
    """The points that changed on a branch since it was made or merged, in no particular order."""
    store, original = Store(txn, collection), Store(txn, branch.of)
    prefix = format.key(collection, format.TOUCHED)
    start = prefix
    while found := _some(txn, prefix, start):
        start = found[-1][0] + b"\0"
        ids = [format.id_of_key(key) for key, _ in found]
        now, there = store.entries(ids), original.entries(ids)
        for value, (_, stored), mine, its in zip(ids, found, now, there, strict=True):
            was, merged = format.unpack_touched(stored)
            if _version(mine) != merged:
                yield Touched(value, was, _version(mine), _version(its))
    _, rows, _ = store.existing_state()
    written = np.asarray((BitMap(range(branch.rows, rows)) - store.tombstones()).to_array(), np.int64)
    for low in range(0, len(written), _IDS_AT_ONCE):
        ids = [row.id for row in store.rows(written[low : low + _IDS_AT_ONCE])]
        for value, mine, its in zip(ids, store.entries(ids), original.entries(ids), strict=True):
            if txn.get(format.touched_key(collection, value)) is None:
                there = _version(its)
                yield Touched(value, there if there <= branch.sequence else 0, _version(mine), there)


def _some(txn: Txn, prefix: bytes, start: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    for key, value in format.walk(txn, prefix, start):
        found.append((key, bytes(value)))
        if len(found) >= _IDS_AT_ONCE:
            break
    return found


def _version(entry: tuple[int, int] | None) -> int:
    return 0 if entry is None else entry[1]


def settle(txn: Txn, collection: int, branch: Branch, ids: Sequence[Id]) -> None:
    """Note that these points were merged: from now on only later changes count."""
    now, there = Store(txn, collection).entries(ids), Store(txn, branch.of).entries(ids)
    for value, mine, its in zip(ids, now, there, strict=True):
        key = format.touched_key(collection, value)
        if mine is None and its is None:
            txn.delete(key)
        else:
            txn.put(key, format.pack_touched(_version(its), _version(mine)))


def forget(txn: Txn, collection: int) -> None:
    """Remove what a branch knows of points that are in neither collection any more: their ids must not be left after a purge."""
    branch = read(txn, collection)
    if branch is None:
        return
    prefix = format.key(collection, format.TOUCHED)
    start = prefix
    while found := _some(txn, prefix, start):
        start = found[-1][0] + b"\0"
        ids = [format.id_of_key(key) for key, _ in found]
        now, there = Store(txn, collection).entries(ids), Store(txn, branch.of).entries(ids)
        for (key, _), mine, its in zip(found, now, there, strict=True):
            if mine is None and its is None:
                txn.delete(key)


def of_branch(txn: Txn, name: str) -> tuple[int, Branch]:
    """(the number of a branch, its record). Raises NotFoundError, InvalidArgumentError for a collection that isn't one, or
    PreconditionError if its original was dropped.
    """
    own, number = catalog.find(txn, check_name(name, "collection"))
    branch = read(txn, number)
    if branch is None:
        made = ", ".join(each for each, other in catalog.names(txn).items() if read(txn, other) is not None) or "none"
        what = f"collection {shown(own)} isn't a branch, so it can't be compared or merged; branches: {made}"
        raise InvalidArgumentError(what, field="branch", value=name)
    if original_name(txn, branch) is None:
        what = f"the original of branch {shown(own)}, collection {shown(branch.name)}, was dropped, so it can't be merged"
        advice = "go on with the branch, which has all its points, or give it the name with rename_collection"
        raise PreconditionError(f"{what}; {advice}", field="branch", value=name)
    return number, branch


# Families: collections that may share chunks and index files


def family(txn: Txn, number: int) -> list[int]:
    """The numbers of the collections that descend from the same one, this one included, ascending."""
    mine = read(txn, number)
    root = number if mine is None else mine.root
    made = format.walk(txn, format.key(format.CATALOG, format.BRANCH))
    branches = [int.from_bytes(key[5:], "big") for key, value in made if unpack(value).root == root]
    return sorted({number, root, *branches})


def with_families(txn: Txn, numbers: Collection[int]) -> list[int]:
    """These collections and those that may share chunks with them, of those that exist."""
    whole = {each for number in numbers for each in family(txn, number)}
    return sorted(each for each in whole if Store(txn, each).state() is not None)


def unnamed_files(txn: Txn, number: int, files: Collection[str]) -> list[str]:
    """Those index files, which a collection doesn't need any more, that no other collection needs."""
    if Store(txn, number).state() is None:  # dropped meanwhile, so it can't be told who else needs them; ``jobs.tidy`` removes them
        return []
    named = segments.named_files(txn, family(txn, number))
    return [file for file in files if file not in named]


def check_free(txn: Txn, name: str) -> None:
    """Raise AlreadyExistsError if a collection or an alias has this name."""
    for kind, what in ((format.NAME, "a collection"), (format.ALIAS, "an alias")):
        if txn.get(format.key(format.CATALOG, kind, name.encode())) is not None:
            raise AlreadyExistsError(f"there is {what} {shown(name)} already; choose another name for the branch", field="name", value=name)
