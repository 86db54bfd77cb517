"""Checks that data.mdb is complete: all pages of its trees are walked before LMDB reads any, and all records have a common digest.

LMDB's pages have no checksum: a flipped bit could hide points, or point outside the file and crash the process. So the file is surveyed
when a directory is opened (this reads pages of keys, not the vectors), and each write transaction updates the digest: the number of
records and the sum of their hashes. FORMAT.md says what a hash covers.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
from vectordb_client.errors import CorruptionError, FormatVersionError

from ..kernels import pages
from . import format

_META_AT = pages.HEADER
_meta = struct.Struct("<IIQQ")  # magic, version, address of the map, its size
_tree = struct.Struct("<IHHQQQQQ")  # page size (or 0), flags, depth, branch pages, leaf pages, overflow pages, entries, root
_end = struct.Struct("<QQ")  # last page, transaction
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META_FLAG = 8
_INTEGER_KEYS = 8
_NO_SUBDIR = 0x4000  # a flag in the file: a data.mdb written by a rewrite was created without a folder
_META_BYTES = _META_AT + _meta.size + 2 * _tree.size + _end.size
_TRIES = 5  # attempts, because others may commit meanwhile
_NAME = b"data"
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class PageReport:
    """The digest of all records as counted, and the stored digest; ``stored`` is None if a directory of an older format has none.

    leaked: pages that no tree uses, which is damage, though all records can be read. digested: whether the format requires a digest.
    """

    counted: int
    stored: int | None
    leaked: int = 0
    digested: bool = False

    @property
    def problem(self) -> str | None:
        """What is wrong, although all existing records can be read; None if nothing is."""
        if self.leaked:
            return f"{self.leaked} of its pages are used by no record"
        if self.digested and self.stored is None:
            return "the digest of its records is missing"
        return None if self.stored in (None, self.counted) else "its records differ from those that were written"


@dataclass(frozen=True)
class _Tree:
    """LMDB's description of a tree."""

    page_size: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


@dataclass(frozen=True)
class _Meta:
    """One of the two meta pages, which say where the trees are."""

    map_size: int
    free: _Tree
    main: _Tree
    last_page: int
    transaction: int


def check_header(path: Path) -> None:
    """Check the first two pages of a data file before LMDB reads them, because LMDB trusts some of their numbers.

    A shorter file is left to LMDB. Raises CorruptionError, FormatVersionError or OSError.
    """
    try:
        if not path.is_file() and path.exists():  # opening a pipe would block
            raise CorruptionError(f"{path} is not a regular file", **_where(path))
        with open(path, "rb") as file:
            _metas(path, file.read(2 * 65_536))
    except FileNotFoundError:
        return


def _metas(path: Path, data) -> list[_Meta]:
    """Both meta pages; an empty list if the file is too short. Raises CorruptionError."""
    if len(data) < _META_BYTES:
        return []
    size = struct.unpack_from("<I", data, _META_AT + _meta.size)[0]
    if not 256 <= size <= 65_536 or size & (size - 1):
        raise _damaged(path, 0, "is not the first page of an LMDB file")
    if len(data) < size + _META_BYTES:
        return []
    return [_read_meta(path, data, number, size) for number in (0, 1)]


def _read_meta(path: Path, data, number: int, size: int) -> _Meta:
    offset = number * size
    page, _, flags = struct.unpack_from("<QHH", data, offset)
    magic, version, address, map_size = _meta.unpack_from(data, offset + _META_AT)
    trees = [_Tree(*_tree.unpack_from(data, offset + _META_AT + _meta.size + i * _tree.size)) for i in (0, 1)]
    last_page, transaction = _end.unpack_from(data, offset + _META_AT + _meta.size + 2 * _tree.size)
    if version != _VERSION and magic == _MAGIC and flags == _META_FLAG:
        raise FormatVersionError(f"{path} was written by another version of LMDB: {version}", field="path", value=str(path.parent))
    good = (page, flags, magic, address, trees[0].page_size) == (number, _META_FLAG, _MAGIC, 0, size)
    good = good and (trees[0].flags & ~_NO_SUBDIR, trees[1].flags) == (_INTEGER_KEYS, 0) and 1 <= last_page < map_size // size <= 1 << 52
    good = good and (transaction & 1 == number or not transaction)
    if not good:
        raise _damaged(path, number, "has a damaged header")
    return _Meta(map_size, *trees, last_page, transaction)


def survey(env: lmdb.Environment, path: Path) -> PageReport | None:
    """Walk all pages of the newest transaction. None if nothing was ever written.

    env: the open environment; none of its trees needs to have been read. path: its data file. Raises CorruptionError naming the first
    damaged page, and FormatVersionError if the trees are not those of a vectordb directory.
    """
    for attempt in range(_TRIES):
        with env.begin() as txn:  # protects the pages from reuse until it ends; nothing is read through it
            try:
                return _survey(path, txn.id())
            except CorruptionError:
                if attempt + 1 == _TRIES or env.info()["last_txnid"] == txn.id():
                    raise
            # otherwise others committed while the meta pages were being read: try again
    raise AssertionError


def _survey(path: Path, transaction: int) -> PageReport | None:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with the last array over it
    return _walk(path, np.frombuffer(mapped, np.uint8), _current(path, mapped, transaction))


def _current(path: Path, mapped: mmap.mmap, transaction: int) -> _Meta:
    metas = _metas(path, mapped)
    numbers = sorted(meta.transaction for meta in metas)
    if not metas or (numbers[1] - numbers[0] != 1 and numbers[1]):
        raise _damaged(path, 0, "and page 1 don't belong to consecutive transactions")
    for meta in metas:
        if meta.transaction == transaction:
            return meta
    raise _damaged(path, 0, f"is not of transaction {transaction} (was the file replaced while a process had the database open?)")


def _walk(path: Path, data: np.ndarray, meta: _Meta) -> PageReport | None:
    owned = np.zeros(meta.last_page // 8 + 1, np.uint8)
    for page in (0, 1):
        pages.take(owned, page)
    _walk_tree(path, data, meta, meta.free, pages.BIG, _NAME, owned)
    main = _walk_tree(path, data, meta, meta.main, pages.BIG | pages.SUBTREE, _NAME, owned)
    counted = None
    if meta.main.entries:
        position, size = int(main[pages.SPECIAL_AT]), int(main[pages.SPECIAL_SIZE])
        if (meta.main.entries, size) != (1, _tree.size):
            raise FormatVersionError(f"{path.parent} holds an LMDB environment that isn't a vectordb directory", **_where(path))
        counted = _walk_tree(path, data, meta, _Tree(*_tree.unpack_from(data, position)), pages.BIG, format.DIGEST_KEY, owned)
    leaked = meta.last_page + 1 - int(np.unpackbits(owned).sum())
    if counted is None:
        if leaked:
            raise CorruptionError(f"{path} is damaged: {leaked} of its pages are used by no record", **_where(path))
        return None
    position, size = int(counted[pages.SPECIAL_AT]), int(counted[pages.SPECIAL_SIZE])
    return PageReport(int(counted[pages.DIGEST]), format.unpack_digest(data[position : position + size]) if position else None, leaked)


def _walk_tree(path: Path, data: np.ndarray, meta: _Meta, tree: _Tree, kinds: int, special: bytes, owned: np.ndarray) -> np.ndarray:
    """The counts of ``pages.walk``. Raises CorruptionError if they differ from the tree's own description."""
    counted = np.zeros(pages.WIDTH, np.uint64)
    if tree.root != pages.NO_PAGE:
        size, end = meta.free.page_size, meta.last_page + 1
        key = np.frombuffer(special, np.uint8)
        problem, page = pages.walk(data, size, end, min(tree.root, end), tree.depth, kinds, tree is meta.free, key, owned, counted)
        if problem:
            raise _damaged(path, page, pages.PROBLEMS[problem])
    stated = (tree.depth, tree.branches, tree.leaves, tree.overflows, tree.entries)
    if stated != tuple(counted[: len(stated)].tolist()):
        raise CorruptionError(f"{path} is damaged: a tree should have {stated[-1]} records and has {int(counted[4])}", **_where(path))
    return counted


def _damaged(path: Path, page: int, what: str) -> CorruptionError:
    return CorruptionError(f"{path} is damaged or not an LMDB file: page {page} {what}", **_where(path))


def _where(path: Path) -> dict:
    return {"field": "path", "value": str(path.parent)}


class WriteTransaction:
    """A write transaction that collects changes for the digest. Write only through its methods; its cursors are for reading."""

    def __init__(self, txn: lmdb.Transaction):
        self._txn = txn
        self.get, self.cursor, self.id = txn.get, txn.cursor, txn.id
        self._added = _Hashed()
        self._removed = _Hashed()
        self._appended = 0  # the sum of the hashes of records that ``append`` wrote

    def put(self, key: bytes, value) -> bool:
        """Write a record; returns True."""
        self._note(key, value)
        return self._txn.put(key, value)

    def putmulti(self, items: Sequence[tuple[bytes, bytes]], overwrite: bool = True) -> None:
        """Write records. overwrite: False keeps existing records of the same key."""
        if not overwrite:
            items = [item for item in items if self._txn.get(item[0]) is None]
        for key, value in items:
            self._note(key, value)
        self._txn.cursor().putmulti(items)

    def append(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Write many records of new keys, ascending. They are hashed at once."""
        heads = b"".join([part for key, value in items for part in (key, value[: pages.HEAD])])
        sizes = np.array([(len(key), len(value)) for key, value in items], np.int64)
        self._appended = (self._appended + int(pages.sum_of_hashes(np.frombuffer(heads, np.uint8), sizes))) & _MASK
        self._txn.cursor().putmulti(items)

    def delete(self, key: bytes) -> bool:
        """Delete a record; False if there was none."""
        self._note(key, None)
        return self._txn.delete(key)

    def _note(self, key: bytes, value) -> None:
        before = self._txn.get(key)
        if before is not None:
            self._removed.add(key, before)
        if value is not None:
            self._added.add(key, value)

    def seal(self, count: Callable[[], int]) -> None:
        """Write the new digest if a record changed. The first write to a directory of an older format raises it to the newest version.

        count: computes the digest of all committed records, for a directory that has none yet.
        """
        if not self._added.sizes and not self._removed.sizes:
            return
        stored = self._txn.get(format.DIGEST_KEY)
        before = count() if stored is None else format.unpack_digest(stored)
        written = bytes(self._txn.get(format.FORMAT_KEY))
        if written != format.CURRENT and format.unpack_record(written, "format")["format"] < format.VERSION:
            self.put(format.FORMAT_KEY, format.CURRENT)
        total = (before + self._appended + self._added.sum() - self._removed.sum()) & _MASK
        self._txn.put(format.DIGEST_KEY, format.pack_digest(total))


def digest_of(records: Sequence[tuple[bytes, bytes]]) -> int:
    """The digest of these (key, value) records."""
    hashed = _Hashed()
    for record in records:
        hashed.add(*record)
    return hashed.sum()


class _Hashed:
    """Records that are to be hashed: their keys and the beginnings of their values, concatenated, and the sizes."""

    __slots__ = ("pieces", "sizes")

    def __init__(self) -> None:
        self.pieces: list = []
        self.sizes: list[tuple[int, int]] = []

    def add(self, key: bytes, value) -> None:
        self.pieces += (key, bytes(value[: pages.HEAD]))
        self.sizes.append((len(key), len(value)))

    def sum(self) -> int:
        if not self.sizes:
            return 0
        return int(pages.sum_of_hashes(np.frombuffer(b"".join(self.pieces), np.uint8), np.array(self.sizes, np.int64)))
