"""The format of index files: a header (msgpack, with the offset and checksum of each section), then the sections, aligned to cache
lines.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Collection
from pathlib import Path

import msgspec
import numpy as np
from vectordb_client.errors import CorruptionError

from ..common import mapping
from ..common.checksums import xxh3
from ..common.failpoints import reach
from ..kernels.codes import LINE

MAGIC = b"VDBINDEX"
VERSION = 1
NEWER = range(VERSION + 1, 256)  # versions that newer releases may write; any other number is damage
_head = struct.Struct("<8sIIQ")  # magic, version, length of the header's body in bytes, checksum of the body


class Stale(CorruptionError):
    """The file is intact, but another version of vectordb wrote it and this version can't read it. Like a damaged file it is not used and
    is rebuilt; unlike one, it is not reported as damage.
    """


def write(path: Path, meta: dict, sections: dict[str, np.ndarray]) -> None:
    """Write a new index file and sync it. meta: entries of the header. sections: name → array. Raises OSError."""
    places, offset = {}, 0
    for name, array in sections.items():
        array = sections[name] = np.ascontiguousarray(array)
        places[name] = [offset, array.dtype.str, list(array.shape), xxh3(array.reshape(-1).view(np.uint8))]
        offset += -(-array.nbytes // LINE) * LINE
    body = msgspec.msgpack.encode({**meta, "sections": places})
    start = -(-(_head.size + len(body)) // LINE) * LINE
    with open(path, "wb") as file:
        file.write(_head.pack(MAGIC, VERSION, len(body), xxh3(body)) + body)
        reach("index.begun")
        for name, array in sections.items():
            file.seek(start + places[name][0])
            file.write(array.reshape(-1).view(np.uint8).data)
            reach("index.section")
        file.truncate(start + offset)
        file.flush()
        reach("index.unsynced")
        os.fsync(file.fileno())


def header_of(path: Path) -> int:
    """The checksum of a file's header. The header contains the checksums of all sections, so this identifies the file's contents.

    Raises Stale for a newer version's file, CorruptionError for what is not an index file, FileNotFoundError and OSError.
    """
    with open(path, "rb") as file:
        head = file.read(_head.size)
    if len(head) < _head.size:
        raise damaged(path, f"has {len(head)} bytes")
    magic, version, _, digest = _head.unpack(head)
    if magic == MAGIC and version in NEWER:
        raise stale(path, f"has a header of version {version}; this version of vectordb reads {VERSION}")
    if magic != MAGIC or version != VERSION:
        raise damaged(path, "has no valid header")
    return digest


class IndexFile:
    """A memory-mapped index file.

    meta: the entries of its header, but for the places of its sections. sections: those that ``read`` returned. nbytes: its size.
    """

    def __init__(self, path: Path):
        """Map a file and read its header. Raises FileNotFoundError, Stale, and CorruptionError if it is damaged."""
        header_of(path)
        with open(path, "rb") as file:
            self.nbytes = os.fstat(file.fileno()).st_size
            # A private copy-on-write mapping. Nothing writes to it, but kernels are compiled for writable arrays.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.path = path
        self.sections: dict[str, np.ndarray] = {}
        _, _, length, digest = _head.unpack_from(self._map)
        body = self._map[_head.size : _head.size + length] if length < self.nbytes else b""
        if xxh3(body) != digest:
            raise damaged(path, "has no valid header")
        try:
            self.meta = msgspec.msgpack.decode(body)
            self._places = self.meta.pop("sections")
        except (msgspec.DecodeError, KeyError, AttributeError) as error:
            raise damaged(path, f"has an invalid header: {type(error).__name__}: {error}") from error
        self._start = -(-(_head.size + length) // LINE) * LINE

    def read(self, names: Collection[str], large: Collection[str]) -> dict[str, np.ndarray]:
        """Views of all sections. names: those that this version understands. large: those whose checksums only ``verify`` checks. Raises
        Stale, and CorruptionError.
        """
        if unknown := sorted(self._places.keys() - set(names)):
            raise stale(self.path, f"has a section {unknown[0]!r}, which this version of vectordb doesn't know")
        whole = np.frombuffer(self._map, np.uint8)
        for name, (offset, dtype, shape, digest) in self._places.items():
            if offset < 0 or min(shape, default=0) < 0:
                raise damaged(self.path, f"has an invalid offset or shape for section {name!r}")
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = whole[self._start + offset : self._start + offset + nbytes]
            if len(raw) != nbytes or (name not in large and xxh3(raw) != digest):
                raise damaged(self.path, f"has a section {name!r} that is cut off or fails its checksum")
            self.sections[name] = raw.view(dtype).reshape(shape)
        return self.sections

    def verify(self, released: Collection[str] = ()) -> None:
        """Check the checksum of every section. released: those whose pages leave this process as soon as they have been checked. Raises
        CorruptionError, which names the section that fails.
        """
        for name, array in self.sections.items():
            raw = array.reshape(-1).view(np.uint8)
            done = functools.partial(mapping.release, raw.ctypes.data) if name in released else None
            if xxh3(raw, done) != self._places[name][3]:
                raise damaged(self.path, f"has a section {name!r} that fails its checksum")


def damaged(path: Path, what: str) -> CorruptionError:
    """The error for a damaged index file. what: a predicate, such as "has no valid header"."""
    return CorruptionError(f"index file {path} {what}", field="index", value=str(path))


def stale(path: Path, what: str) -> Stale:
    """The error for a file of another version. what: a predicate, as for ``damaged``."""
    return Stale(f"index file {path} {what}", field="index", value=str(path))
