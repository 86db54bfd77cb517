"""The file of an index: a header (msgpack, with the sections' places and checksums) and sections that start on cache lines."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Self

import msgspec
import numpy as np

from ..checksums import xxh3
from ..errors import CorruptionError
from ..failpoints import reach
from ..kernels.codes import LINE

MAGIC = b"VDBINDEX"
VERSION = 1
NEWER = range(VERSION + 1, 256)  # versions that later code may write; another number is damage
KINDS = ("dense", "sparse")
_head = struct.Struct("<8sIIQ")  # magic, version, bytes of the header's body, its checksum


class Stale(CorruptionError):
    """The file is sound, but another version of vectordb made it for something that this one doesn't know. To those who only ask whether it
    can be used that is the same as damage; nobody needs to be told of it, though.
    """


def write(path: Path, meta: dict, sections: dict[str, np.ndarray]) -> None:
    """A new file, synced."""
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
    """The checksum of a file's header, which holds the checksums of all sections: it tells a file from every other one.

    Raises Stale for a newer version's, FileNotFoundError, OSError, and CorruptionError for what is no index file.
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
    """An index file in memory.

    kind: of the field. names: of the sections that are understood. large: sections checked by ``verify``, all others when the file is
    opened; a damaged one of these costs recall, and nothing else: kernels don't trust links. plans: the plans that searches know, by id;
    needed: those of them that every file was calibrated for. verified: whether all of the file has been checked.
    """

    verified = False
    apart = np.empty(0, np.uint32)  # docids of rows that the file covers but doesn't hold
    kind: ClassVar[str]
    names: ClassVar[frozenset[str]]
    large: ClassVar[frozenset[str]]
    plans: ClassVar[Collection[int]]
    needed: ClassVar[frozenset[int]]
    depths: ClassVar[int]  # how many models a file has

    def __init__(self, path: Path, meta: dict, sections: dict[str, np.ndarray], nbytes: int, map_: mmap.mmap):
        super().__init__(meta, sections)
        self.path = path
        self.nbytes = nbytes
        self._map = map_

    @property
    def covered(self) -> int:
        """How many rows the file covers."""
        return self.rows + len(self.apart)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file. Raises FileNotFoundError, Stale, and CorruptionError when what is checked now (all but the large sections) is
        damaged.
        """
        header_of(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A private mapping: nothing writes to it, but kernels are compiled for arrays that could be written to.
            map_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            return cls._read(path, size, map_)
        except CorruptionError:
            raise
        except Exception as error:  # a header with the right checksum that doesn't say what headers say
            raise damaged(path, f"has a header that can't be used: {type(error).__name__}: {error}") from error

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
        if strange := sorted(places.keys() - cls.names):
            raise _stale(path, f"has a section {strange[0]!r}, which this version of vectordb doesn't know")
        start = -(-(_head.size + length) // LINE) * LINE
        whole = np.frombuffer(map_, np.uint8)
        sections = {}
        for name, (at, dtype, shape, digest) in places.items():
            if at < 0 or min(shape, default=0) < 0:
                raise damaged(path, f"section {name!r} has no place in it")
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = whole[start + at : start + at + nbytes]
            if len(raw) != nbytes or (name not in cls.large and xxh3(raw) != digest):
                raise damaged(path, f"section {name!r} is cut off or fails its checksum")
            sections[name] = raw.view(dtype).reshape(shape)
        cls._check_settings(path, sections)
        found = cls(path, meta, sections, size, map_)
        found._digests = {name: digest for name, (_, _, _, digest) in places.items()}
        return found

    @classmethod
    def _check_settings(cls, path: Path, sections: dict[str, np.ndarray]) -> None:
        """A file is searched by its own table of settings, whatever this version would measure today, if it knows every plan of it."""
        settings = sections["settings"]
        if settings.dtype != np.float64 or settings.ndim != 2 or settings.shape[1] != 3 or len(sections["recalls"]) != cls.depths:
            raise _stale(path, "was calibrated in a way that this version of vectordb doesn't know")
        plans = set(settings[:, 0].tolist())
        if strange := sorted(plans - set(cls.plans)):
            raise _stale(path, f"was calibrated for plan {strange[0]:g}, which this version of vectordb doesn't know")
        if missing := sorted(cls.needed - plans):
            raise _stale(path, f"was not calibrated for plan {missing[0]}, which this version of vectordb needs")

    def verify(self) -> None:
        """Read everything. Raises CorruptionError naming the section that fails its checksum."""
        for name, array in self.sections.items():
            if xxh3(array.reshape(-1).view(np.uint8)) != self._digests[name]:
                raise damaged(self.path, f"section {name!r} fails its checksum")


def damaged(path: Path, what: str) -> CorruptionError:
    """What is wrong with an index file."""
    return CorruptionError(f"index file {path} {what}", field="index", value=str(path))


def _stale(path: Path, what: str) -> Stale:
    return Stale(f"index file {path} {what}", field="index", value=str(path))
