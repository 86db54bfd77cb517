"""Searches all files for bytes of erased ids, records and vectors."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .format import Txn

PATTERN_BYTES = 64  # length of the part of a vector or record that is searched for
_ANCHOR = 8  # the last bytes of a pattern; only where they match is the whole pattern compared
_BLOCK = 8 << 20
_TABLE_BITS = 24
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SEPARATOR = bytes.fromhex("f4c1d2e78b3a5f90")  # between records that do not lie side by side on disk
_length = struct.Struct("<H")


class Patterns:
    """Byte strings to search for. Each has at least 8 bytes that are not all equal; others would be found by chance."""

    def __init__(self) -> None:
        self.ids = 0  # number of patterns by kind
        self.rows = 0
        self.vectors = 0
        self.vague = 0  # too short or too uniform to be searched for
        self.all: set[bytes] = set()

    def add(self, pattern: bytes) -> bool:
        """Add a byte string; False if it can't be searched for."""
        pattern = bytes(pattern[:PATTERN_BYTES])
        if len(pattern) < _ANCHOR or len(set(pattern)) < 3:
            self.vague += 1
            return False
        self.all.add(pattern)
        return True


def id_pattern(key: bytes) -> bytes:
    """An id as LMDB's pages store it, in keys and in separators of branch pages. The key's length in front excludes longer ids."""
    return _length.pack(len(key)) + key


class Search:
    """Searches blocks of bytes for all patterns at the same time."""

    def __init__(self, patterns: Iterable[bytes]):
        self.patterns = sorted(patterns, key=lambda pattern: pattern[-_ANCHOR:])
        self.longest = max(map(len, self.patterns), default=_ANCHOR)
        self._anchors = np.array([int.from_bytes(pattern[-_ANCHOR:], "little") for pattern in self.patterns], np.uint64)
        self._by_anchor: dict[int, list[bytes]] = {}
        for anchor, pattern in zip(self._anchors.tolist(), self.patterns, strict=True):
            self._by_anchor.setdefault(anchor, []).append(pattern)
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._table[_slots(self._anchors)] = True
        self._anchors = np.unique(self._anchors)

    def within(self, block: bytes | bytearray) -> set[bytes]:
        """The patterns that occur in the block."""
        hits: set[bytes] = set()
        if len(block) < _ANCHOR or not self.patterns:
            return hits
        whole = np.frombuffer(block, np.uint8)
        for shift in range(_ANCHOR):
            count = (len(block) - shift) // _ANCHOR
            u64s = np.frombuffer(block, "<u8", count, shift)
            likely = np.flatnonzero(self._table[_slots(u64s)])
            if not len(likely):
                continue
            anchors = u64s[likely]
            places = np.minimum(np.searchsorted(self._anchors, anchors), len(self._anchors) - 1)
            exact = self._anchors[places] == anchors
            likely, anchors = likely[exact], anchors[exact]
            for anchor in np.unique(anchors).tolist():
                ends = likely[anchors == np.uint64(anchor)] * _ANCHOR + shift + _ANCHOR
                hits.update(pattern for pattern in self._by_anchor[anchor] if pattern not in hits and _ends_at(whole, pattern, ends))
        return hits


def _slots(u64s: np.ndarray) -> np.ndarray:
    return (u64s * _MIX) >> np.uint64(64 - _TABLE_BITS)


def _ends_at(whole: np.ndarray, pattern: bytes, ends: np.ndarray) -> bool:
    """Whether the pattern ends at one of these offsets."""
    begins = ends - len(pattern)
    begins = begins[begins >= 0]
    for offset, byte in enumerate(pattern):
        begins = begins[whole[begins + offset] == byte]
        if not len(begins):
            return False
    return True


def in_files(search: Search, folder: Path) -> dict[bytes, set[str]]:
    """pattern → the files under a directory that contain it, as relative paths."""
    hits: dict[bytes, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with open(path, "rb") as file:
                for block in _overlapping(file, search.longest):
                    for pattern in search.within(block):
                        hits.setdefault(pattern, set()).add(str(path.relative_to(folder)))
        except FileNotFoundError:  # an index file that was replaced in the meantime
            continue
    return hits


def _overlapping(file, overlap: int) -> Iterator[bytes]:
    kept = b""
    while block := file.read(_BLOCK):
        yield kept + block
        kept = (kept + block)[-overlap:]


def in_records(search: Search, txn: Txn) -> set[bytes]:
    """The patterns that occur in existing records, that is, in those of live rows."""
    hits: set[bytes] = set()
    pending = bytearray()
    cursor = txn.cursor()
    more = cursor.first()
    while more:
        key = bytes(cursor.key())
        pending += id_pattern(key) + _SEPARATOR
        pending += cursor.value()
        pending += _SEPARATOR
        more = cursor.next()
        if len(pending) >= _BLOCK or not more:
            hits |= search.within(pending)
            pending = bytearray()
    return hits
