"""A segment: the index of one field over a range of rows, in one file that is mapped and searched in place (here: of a dense field).

The file is derived from the rows' vectors and can be thrown away. It holds a header (msgpack, with the sections' places and checksums) and
sections that start on cache lines; FORMAT.md describes them. Rows lie in cluster order: ``docids`` says whose they are.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import xxhash

from ..errors import CorruptionError
from ..failpoints import reach
from ..kernels import bitset
from ..kernels import segment as kernel
from ..kernels.codes import LINE, rotate, stride_of, words_of
from . import calibrate
from .flat import METRICS

MAGIC = b"VDBINDEX"
VERSION = 1
_NO_BITS = np.zeros((1, 1), np.uint64)
_NO_COUNTS = np.zeros((1, 1), np.int32)
_head = struct.Struct("<8sIIQ")  # magic, version, bytes of the header's body, its checksum


def write(path: Path, meta: dict, sections: dict[str, np.ndarray]) -> None:
    """A new file, synced."""
    places, at = {}, 0
    for name, array in sections.items():
        array = sections[name] = np.ascontiguousarray(array)
        places[name] = [at, array.dtype.str, list(array.shape), xxhash.xxh3_64_intdigest(array.reshape(-1).view(np.uint8))]
        at += -(-array.nbytes // LINE) * LINE
    body = msgspec.msgpack.encode({**meta, "sections": places})
    start = -(-(_head.size + len(body)) // LINE) * LINE
    with open(path, "wb") as file:
        file.write(_head.pack(MAGIC, VERSION, len(body), xxhash.xxh3_64_intdigest(body)) + body)
        reach("index.begun")
        for name, array in sections.items():
            file.seek(start + places[name][0])
            file.write(array.reshape(-1).view(np.uint8).data)
            reach("index.section")
        file.truncate(start + at)
        file.flush()
        reach("index.unsynced")
        os.fsync(file.fileno())


class Layout:
    """Sections as kernels see them. Keeps the arrays alive whose addresses it holds."""

    def __init__(self, meta: dict, sections: dict[str, np.ndarray]):
        self.meta = meta
        self.sections = sections
        self.rows, self.dim, self.metric = meta["rows"], meta["dim"], meta["metric"]
        self.has_graph = "graph" in sections
        self.docids = sections["docids"]
        self.clusters = len(sections["centroids"])
        self.first = meta["first"]
        # What bounds the error of codes; a file built before that was written down has none.
        self.lacking, self.longest = sections.get("lacking"), meta.get("longest")
        at = {name: array.ctypes.data for name, array in sections.items()}
        self._rotated_mean = sections["mean"].copy()
        rotate(self._rotated_mean, sections["flips"], np.empty_like(self._rotated_mean))
        self.description = np.zeros(kernel.SEGMENT_WIDTH, np.int64)
        values = {
            kernel.ROWS: self.rows,
            kernel.DIM: self.dim,
            kernel.STRIDE: stride_of(self.dim),
            kernel.CODES: at["codes"],
            kernel.BIAS: at.get("bias", 0),
            kernel.SIGNS: at["signs"],
            kernel.WORDS: words_of(self.dim),
            kernel.CLUSTERS: self.clusters,
            kernel.CENTROIDS: at["centroids"],
            kernel.CENTROID_BIAS: at.get("centroid_bias", 0),
            kernel.OFFSETS: at["offsets"],
            kernel.DOCIDS_AT: at["docids"],
            kernel.MEAN: at["mean"],
            kernel.ROTATED_MEAN: self._rotated_mean.ctypes.data,
            kernel.FLIPS: at["flips"],
            kernel.FLIP_ROUNDS: len(sections["flips"]),
            kernel.METRIC: METRICS[self.metric],
            kernel.STEP: _bits(meta["step"]),
            kernel.CODE_ERROR: _bits(meta["code_error"]),
            kernel.REACH: _bits(meta["reach"]),
        }
        if self.has_graph:
            values |= {
                kernel.GRAPH: at["graph"],
                kernel.DEGREE: sections["graph"].shape[1],
                kernel.UPPER_COUNT: len(sections["upper_rows"]),
                kernel.UPPER_ROWS: at["upper_rows"],
                kernel.UPPER_OFFSETS: at["upper_offsets"],
                kernel.UPPER_LINKS: at["upper_links"],
                kernel.UPPER_SIZE: sections["upper_links"].size,
                kernel.ENTRY_ROW: meta["entry_row"],
                kernel.ENTRY_SLOT: meta["entry_slot"],
                kernel.TOP_LEVEL: meta["top_level"],
            }
        for column, value in values.items():
            self.description[column] = value


def _bits(number: float) -> int:
    """A float64's bits as an integer."""
    return int(np.array(number, np.float64).view(np.int64))


class Mapped:
    """An index file in memory. kind: of the field. large: sections checked by ``verify``, all others when the file is opened; a damaged one
    of these costs recall, and nothing else: kernels don't trust links. known: the settings that the code calibrates now; a file measured
    for others is built again. verified: whether all of it has been.
    """

    verified = False
    kind: ClassVar[str]
    large: ClassVar[frozenset[str]]
    known: ClassVar[np.ndarray]

    def __init__(self, path: Path, meta: dict, sections: dict[str, np.ndarray], nbytes: int, map_: mmap.mmap):
        super().__init__(meta, sections)
        self.path = path
        self.nbytes = nbytes
        self._map = map_
        self.all_allowed = Allowed(self, None)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file. Raises FileNotFoundError, and CorruptionError when what is checked now (all but the large sections) is damaged."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _head.size:
                raise _damaged(path, f"has {size} bytes")
            # A private mapping: nothing writes to it, but kernels are compiled for arrays that could be written to.
            map_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            return cls._read(path, size, map_)
        except CorruptionError:
            raise
        except Exception as error:  # a header with the right checksum that doesn't say what headers say
            raise _damaged(path, f"has a header that can't be used: {type(error).__name__}: {error}") from error

    @classmethod
    def _read(cls, path: Path, size: int, map_: mmap.mmap) -> Self:
        magic, version, length, digest = _head.unpack_from(map_)
        body = map_[_head.size : _head.size + length] if length < size else b""
        if magic == MAGIC and version != VERSION:
            raise _damaged(path, f"has a header of version {version}; this version of vectordb reads {VERSION}")
        if magic != MAGIC or xxhash.xxh3_64_intdigest(body) != digest:
            raise _damaged(path, "has no valid header")
        meta = msgspec.msgpack.decode(body)
        if meta.get("kind", "dense") != cls.kind:
            raise _damaged(path, f"is not the index of a {cls.kind} field")
        places = meta.pop("sections")
        start = -(-(_head.size + length) // LINE) * LINE
        whole = np.frombuffer(map_, np.uint8)
        sections = {}
        for name, (at, dtype, shape, digest) in places.items():
            if at < 0 or min(shape, default=0) < 0:
                raise _damaged(path, f"section {name!r} has no place in it")
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = whole[start + at : start + at + nbytes]
            if len(raw) != nbytes or (name not in cls.large and xxhash.xxh3_64_intdigest(raw) != digest):
                raise _damaged(path, f"section {name!r} is cut off or fails its checksum")
            sections[name] = raw.view(dtype).reshape(shape)
        if not np.array_equal(sections["settings"], cls.known):
            raise _damaged(path, "was calibrated for other settings than this version of vectordb has")
        found = cls(path, meta, sections, size, map_)
        found._digests = {name: digest for name, (_, _, _, digest) in places.items()}
        return found

    def verify(self) -> None:
        """Read everything. Raises CorruptionError naming the section that fails its checksum."""
        for name, array in self.sections.items():
            if xxhash.xxh3_64_intdigest(array.reshape(-1).view(np.uint8)) != self._digests[name]:
                raise _damaged(self.path, f"section {name!r} fails its checksum")


class Segment(Mapped, Layout):
    """A segment's mapped file.

    rows, dim, metric, nbytes, has_graph; docids: uint32 ``(rows,)`` in the segment's own order.
    """

    kind = "dense"
    large = frozenset({"codes", "signs", "graph", "bias", "lacking"})
    known = calibrate.SETTINGS

    def __init__(self, *mapped: Any):
        super().__init__(*mapped)
        self.models = calibrate.models_of(self.sections)
        self.offsets, self.inverse = self.sections["offsets"], self.sections["inverse"]
        self.corrections = calibrate.Corrections()

    def fits(self, spec: Any) -> bool:
        """Whether this is an index of such a dense field."""
        return (self.dim, self.metric) == (spec.dim, spec.metric)

    def ceiling(self, query: np.ndarray) -> float:
        """The highest dot product that a row could have with a query, float32 ``(dim,)``: the longest row may point its way."""
        return float(np.linalg.norm(query)) * (self.longest + float(np.linalg.norm(self.sections["mean"])))


class Allowed:
    """The rows of a segment that may be found: all of them, or those with a bit set in ``bits`` (uint64 ``(1, words)``).

    counts: int32 ``(1, clusters)``, how many of each cluster; matches: int64 ``(1,)``, of all.
    """

    __slots__ = ("bits", "counts", "filtered", "matches", "nbytes")

    def __init__(self, segment: Segment, docids: np.ndarray | None):
        """docids: uint32, ascending; those of other segments are passed over. None allows every row."""
        self.filtered = docids is not None
        if docids is None:
            self.bits, self.counts = _NO_BITS, _NO_COUNTS
            self.matches = np.array([segment.rows], np.int64)
        else:
            low, high = np.searchsorted(docids, [segment.first, segment.first + len(segment.inverse)])
            self.bits = np.zeros((1, -(-segment.rows // 64)), np.uint64)
            self.counts = np.zeros((1, segment.clusters), np.int32)
            bitset.local_bits(docids[low:high], segment.inverse, segment.first, self.bits[0])
            total = bitset.passing_of_clusters(self.bits[0], segment.offsets, self.counts[0])
            self.matches = np.array([total], np.int64)
            if total == segment.rows:
                self.filtered = False
        self.nbytes = self.bits.nbytes + self.counts.nbytes + 256


def _damaged(path: Path, what: str) -> CorruptionError:
    return CorruptionError(f"index file {path} {what}", field="index", value=str(path))
