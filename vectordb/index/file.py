"""The format of index files: a header (msgpack, with the offset and checksum of each section), then the sections, aligned to cache
lines.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Self

import msgspec
import numpy as np
from vectordb_client.errors import CorruptionError

from ..common.checksums import xxh3
from ..common.failpoints import reach
from ..kernels.codes import LINE

MAGIC = b"VDBINDEX"
VERSION = 1
NEWER = range(VERSION + 1, 256)  # versions that newer releases may write; any other number is damage
KINDS = ("dense", "sparse")
_head = struct.Struct("<8sIIQ")  # magic, version, length of the header's body in bytes, checksum of the body


class Stale(CorruptionError):
    """The file is intact, but another version of vectordb wrote it and this version can't read it. Like a damaged file it is not used and
    is rebuilt; unlike one, it is not reported as damage.
    """


def write(path: Path, meta: dict, sections: dict[str, np.ndarray]) -> None:
    """Write a new index file and sync it. meta: entries of the header. sections: name → array. Raises OSError."""
    places, at = {}, 0
    for name, array in sections.items():
        array = sections[name] = np.ascontiguousarray(array)
        places[name] = [at, array.dtype.str, list(array.shape), xxh3(array.reshape(-1).view(np.uint8))]
        at += -(-array.nbytes // LINE) * LINE
    body = msgspec.msgpack.encode({**meta, "sections": places})
    start = -(-(_head.size + len(body)) // LINE) * LINE
    with open(path, "wb") as file:
        file.write(_head.pack(MAGIC, VERSION, len(body), xxh3(body)) + body)
        reach("index.begun")
        for name, array in sections.items():
            file.seek(start + places[name][0])
            file.write(array.reshape(-1).view(np.uint8).data)
            reach("index.section")
        file.truncate(start + at)
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
        raise _stale(path, f"has a header of version {version}; this version of vectordb reads {VERSION}")
    if magic != MAGIC or version != VERSION:
        raise damaged(path, "has no valid header")
    return digest


class Mapped:
    """A memory-mapped index file.

    kind: of the field it indexes. names: the sections that this version understands. large: the sections whose checksums ``verify`` checks;
    those of all others are checked when the file is opened. Damage to a large section can only cost recall, because kernels check every
    link that they follow. plans: the ids of the plans that this version can run. needed: the plans that every file must be calibrated for.
    verified: whether the whole file has been checked.
    """

    verified = False
    apart = np.empty(0, np.uint32)  # docids of the outliers: rows that the file covers without a code; searches score them exactly
    kind: ClassVar[str]
    names: ClassVar[frozenset[str]]
    large: ClassVar[frozenset[str]]
    plans: ClassVar[Collection[int]]
    needed: ClassVar[frozenset[int]]
    depths: ClassVar[int]  # the number of models (numbers of results calibrated for) in a file

    def __init__(self, path: Path, meta: dict, sections: dict[str, np.ndarray], nbytes: int, map_: mmap.mmap):
        super().__init__(meta, sections)
        self.path = path
        self.nbytes = nbytes
        self._map = map_

    @property
    def covered(self) -> int:
        """The number of rows that the file covers, outliers included."""
        return self.rows + len(self.apart)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file and check everything but its large sections. Raises FileNotFoundError, Stale, and CorruptionError if it is damaged."""
        header_of(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A private copy-on-write mapping. Nothing writes to it, but kernels are compiled for writable arrays.
            map_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            return cls._read(path, size, map_)
        except CorruptionError:
            raise
        except Exception as error:  # the header's checksum is right, but an entry is missing or has a wrong type
            raise damaged(path, f"has an invalid header: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, path: Path, size: int, map_: mmap.mmap) -> Self:
        _, _, length, digest = _head.unpack_from(map_)
        body = map_[_head.size : _head.size + length] if length < size else b""
        if xxh3(body) != digest:
            raise damaged(path, "has no valid header")
        meta = msgspec.msgpack.decode(body)
        kind = meta.get("kind", "dense")
        if kind not in KINDS:
            raise _stale(path, f"is an index of kind {kind!r}, which this version of vectordb doesn't know")
        if kind != cls.kind:
            raise damaged(path, f"is not the index of a {cls.kind} field")
        places = meta.pop("sections")
        if unknown := sorted(places.keys() - cls.names):
            raise _stale(path, f"has a section {unknown[0]!r}, which this version of vectordb doesn't know")
        start = -(-(_head.size + length) // LINE) * LINE
        whole = np.frombuffer(map_, np.uint8)
        sections = {}
        for name, (at, dtype, shape, digest) in places.items():
            if at < 0 or min(shape, default=0) < 0:
                raise damaged(path, f"has an invalid offset or shape for section {name!r}")
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = whole[start + at : start + at + nbytes]
            if len(raw) != nbytes or (name not in cls.large and xxh3(raw) != digest):
                raise damaged(path, f"has a section {name!r} that is cut off or fails its checksum")
            sections[name] = raw.view(dtype).reshape(shape)
        cls._check_settings(path, sections)
        found = cls(path, meta, sections, size, map_)
        found._digests = {name: digest for name, (_, _, _, digest) in places.items()}
        return found

    @classmethod
    def _check_settings(cls, path: Path, sections: dict[str, np.ndarray]) -> None:
        """Check that this version can run every plan in the file's table of settings. A file is searched by its own settings, which may
        differ from those that this version would calibrate. Raises Stale.
        """
        settings = sections["settings"]
        if settings.dtype != np.float64 or settings.ndim != 2 or settings.shape[1] != 3 or len(sections["recalls"]) != cls.depths:
            raise _stale(path, "has a calibration in a form that this version of vectordb doesn't know")
        plans = set(settings[:, 0].tolist())
        if unknown := sorted(plans - set(cls.plans)):
            raise _stale(path, f"is calibrated for plan {unknown[0]:g}, which this version of vectordb doesn't know")
        if missing := sorted(cls.needed - plans):
            raise _stale(path, f"is not calibrated for plan {missing[0]}, which this version of vectordb needs")

    def verify(self) -> None:
        """Check the checksum of every section. Raises CorruptionError, which names the section that fails."""
        for name, array in self.sections.items():
            if xxh3(array.reshape(-1).view(np.uint8)) != self._digests[name]:
                raise damaged(self.path, f"has a section {name!r} that fails its checksum")


def damaged(path: Path, what: str) -> CorruptionError:
    """The error for a damaged index file. what: a predicate, such as "has no valid header"."""
    return CorruptionError(f"index file {path} {what}", field="index", value=str(path))


def _stale(path: Path, what: str) -> Stale:
    return Stale(f"index file {path} {what}", field="index", value=str(path))
