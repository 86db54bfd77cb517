"""Chunks: a range of rows of one field (or their postings) in one LMDB value, laid out so that kernels read it in place.

A chunk covers the docids first … last. It lists them if some rows of that range lack the field. A chunk never changes, except that the
newest small chunks of a field are joined by later writes (``Store.append``), and compaction writes chunks again without dead rows.
There are three kinds: fixed (one item a row), ragged (offsets and items), postings (sorted terms → rows, with optional weights).
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xxhash
from vectordb_client.errors import CorruptionError

from ..kernels import TABLE_WIDTH, TINY_WEIGHT

FIXED, RAGGED, POSTINGS = 1, 2, 3
NORMS_FLAG, WEIGHTS_FLAG, EXTRA_FLAG, LISTED_FLAG, SIGNED_FLAG = 1, 2, 4, 8, 16
_FLAGS = {"norms": NORMS_FLAG, "weights": WEIGHTS_FLAG, "extra": EXTRA_FLAG}  # of optional sections
MAGIC = 0x4356  # "VC"
CHUNK_VERSION = 1
# magic, version, kind, flags, first, last, count, width, items, postings, checksum. A large value starts 16 bytes into an LMDB page, so the
# data after these 48 bytes starts at a cache line.
_header = struct.Struct("<HBBIIIIIIIQQ")
HEADER = _header.size
assert HEADER == 48
BLOCK_ROWS = 65_536
_SMALL = 4_096  # bytes: values up to a page may move when their neighbours are written


@dataclass(frozen=True)
class Chunk(ABC):
    """A decoded chunk. Its arrays are views of the value, valid only inside the transaction that read it.

    docids: uint32 ``(count,)``, ascending. kind: the number in the header. names: of the other sections, in the order of the value.
    columns: the sections to which the columns DATA, AUX, EXTRA and NORMS of a chunk table point; "" for none.
    """

    docids: np.ndarray
    kind: ClassVar[int]
    names: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    @property
    def first(self) -> int:
        return int(self.docids[0])

    @property
    def last(self) -> int:
        return int(self.docids[-1])

    def __len__(self) -> int:
        return len(self.docids)

    @property
    def items(self) -> int:
        """The number of items; of postings, the number of terms."""
        return len(self)

    @property
    def width(self) -> int:
        """Bytes of an item; 0 for postings."""
        return self.data.shape[1] if "data" in self.names else 0  # type: ignore[attr-defined]

    def sections(self) -> list[np.ndarray]:
        """The arrays in the order of the value, but for the docids."""
        return [section for name in self.names if (section := getattr(self, name)) is not None]

    @property
    def nbytes(self) -> int:
        """Approximate bytes of the encoded chunk."""
        return HEADER + sum(section.nbytes for section in self.sections()) + self.docids.nbytes

    @abstractmethod
    def slice(self, low: int, high: int) -> Self:
        """The rows at positions [low, high), which are not docids."""

    @abstractmethod
    def keep(self, mask: np.ndarray) -> Self:
        """The rows where the mask is true, with their norms and weights. mask: bool, one per row, not all false."""

    @classmethod
    @abstractmethod
    def join(cls, chunks: Sequence[Any]) -> Self:
        """One chunk of consecutive chunks of one part."""


@dataclass(frozen=True)
class FixedChunk(Chunk):
    """One item a row. data: uint8 ``(count, width)``. norms: float32 ``(count,)`` or None."""

    data: np.ndarray
    norms: np.ndarray | None = None
    kind = FIXED
    names = "data", "norms"
    columns = "data", "data", "", "norms"

    def slice(self, low: int, high: int) -> Self:
        return type(self)(self.docids[low:high], self.data[low:high], None if self.norms is None else self.norms[low:high])

    def keep(self, mask: np.ndarray) -> Self:
        return type(self)(self.docids[mask], self.data[mask], None if self.norms is None else self.norms[mask])

    def pick(self, positions: np.ndarray) -> Self:
        """Copies of some rows, by position, without norms."""
        return type(self)(self.docids[positions], self.data[positions])

    @classmethod
    def join(cls, chunks: Sequence[Any]) -> Self:
        docids, data = np.concatenate([c.docids for c in chunks]), np.concatenate([c.data for c in chunks])
        return cls(docids, data, None if chunks[0].norms is None else np.concatenate([c.norms for c in chunks]))


@dataclass(frozen=True)
class RaggedChunk(Chunk):
    """Any number of items a row.

    offsets: uint32 ``(count + 1,)``, in items. data: uint8 ``(items, width)``. extra: uint8 ``(items, 4)`` or None. norms: float32
    ``(items,)`` or None.
    """

    offsets: np.ndarray
    data: np.ndarray
    extra: np.ndarray | None = None
    norms: np.ndarray | None = None
    kind = RAGGED
    names = columns = "offsets", "data", "extra", "norms"

    @property
    def items(self) -> int:
        return int(self.offsets[-1])

    def _of(self, docids: np.ndarray, offsets: np.ndarray, items: slice | np.ndarray, norms: bool = True) -> Self:
        """Some rows: their docids, their offsets, and their items."""
        extra = None if self.extra is None else self.extra[items]
        return type(self)(docids, offsets, self.data[items], extra, self.norms[items] if norms and self.norms is not None else None)

    def slice(self, low: int, high: int) -> Self:
        first, last = int(self.offsets[low]), int(self.offsets[high])
        return self._of(self.docids[low:high], self.offsets[low : high + 1] - self.offsets[low], np.s_[first:last])

    def keep(self, mask: np.ndarray) -> Self:
        sizes = np.diff(self.offsets)
        offsets = np.concatenate([[0], np.cumsum(sizes[mask], dtype=np.int64)]).astype(np.uint32)
        return self._of(self.docids[mask], offsets, np.repeat(mask, sizes))

    def pick(self, positions: np.ndarray) -> Self:
        """Copies of some rows, by position, without norms."""
        sizes = np.diff(self.offsets)[positions]
        starts = self.offsets[positions].astype(np.int64)
        ends = np.cumsum(sizes, dtype=np.int64)
        items = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
        return self._of(self.docids[positions], np.concatenate([[0], ends]).astype(np.uint32), items, norms=False)

    @classmethod
    def join(cls, chunks: Sequence[Any]) -> Self:
        head = chunks[0]
        return cls(
            np.concatenate([c.docids for c in chunks]),
            np.concatenate([[0], np.cumsum(np.concatenate([np.diff(c.offsets) for c in chunks]))]).astype(np.uint32),
            np.concatenate([c.data for c in chunks if len(c.data)] or [head.data]),
            None if head.extra is None else np.concatenate([c.extra for c in chunks]),
            None if head.norms is None else np.concatenate([c.norms for c in chunks]),
        )


@dataclass(frozen=True)
class PostingsChunk(Chunk):
    """For each term its rows. The docids are all rows that have the field, also those without terms.

    terms: uint64, ascending. indptr: uint32 ``(terms + 1,)``, into docs and weights. docs: uint16, docid − first. weights: float32 or None.
    """

    terms: np.ndarray
    indptr: np.ndarray
    docs: np.ndarray
    weights: np.ndarray | None = None
    kind = POSTINGS
    names = columns = "terms", "indptr", "docs", "weights"

    @property
    def items(self) -> int:
        return len(self.terms)

    def owners(self) -> np.ndarray:
        """The docid of each posting, int64."""
        return self.docs.astype(np.int64) + self.first

    def slice(self, low: int, high: int) -> Self:
        docids = self.docids[low:high]
        terms, owners = np.repeat(self.terms, np.diff(self.indptr)), self.owners()
        inside = (owners >= docids[0]) & (owners <= docids[-1])
        return self.of(docids, terms[inside], owners[inside], None if self.weights is None else self.weights[inside])

    def keep(self, mask: np.ndarray) -> Self:
        docids = self.docids[mask]
        span = np.zeros(self.last - self.first + 1, np.bool_)
        span[docids - np.uint32(self.first)] = True
        kept = span[self.docs]
        ends = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[self.indptr]
        some = np.diff(ends) > 0  # drop terms that no kept row has
        return type(self)(
            docids,
            self.terms[some],
            np.concatenate([[0], ends[1:][some]]).astype(np.uint32),
            (self.docs[kept].astype(np.int64) + self.first - int(docids[0])).astype(_doc_dtype(docids)),
            None if self.weights is None else self.weights[kept],
        )

    @classmethod
    def of(cls, docids: np.ndarray, terms: np.ndarray, owners: np.ndarray, weights: np.ndarray | None = None) -> Self:
        """The chunk of (term, docid) pairs."""
        order = np.argsort(terms, kind="stable")
        ordered = np.asarray(terms, np.uint64)[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.empty(0, np.int64)
        return cls(
            docids,
            ordered[starts],
            np.append(starts, len(ordered)).astype(np.uint32),
            (np.asarray(owners)[order] - int(docids[0])).astype(_doc_dtype(docids)),
            None if weights is None else np.asarray(weights, np.float32)[order],
        )

    @classmethod
    def join(cls, chunks: Sequence[Any]) -> Self:
        """The lists of each term are appended. Docids ascend from chunk to chunk, so only terms need sorting."""
        docids = np.concatenate([c.docids for c in chunks])
        terms = np.unique(np.concatenate([c.terms for c in chunks]))
        places = [np.searchsorted(terms, c.terms) for c in chunks]
        sizes = np.zeros(len(terms), np.int64)
        for c, place in zip(chunks, places, strict=True):
            sizes[place] += np.diff(c.indptr)
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        first = int(docids[0])
        docs = np.empty(int(indptr[-1]), _doc_dtype(docids))
        weights = None if chunks[0].weights is None else np.empty(len(docs), np.float32)
        filled = indptr[:-1].copy()
        for c, place in zip(chunks, places, strict=True):
            counts = np.diff(c.indptr)
            to = np.repeat(filled[place] - c.indptr[:-1], counts) + np.arange(len(c.docs))
            docs[to] = c.docs.astype(docs.dtype) + docs.dtype.type(c.first - first)
            if weights is not None:
                weights[to] = c.weights
            filled[place] += counts
        return cls(docids, terms, indptr.astype(np.uint32), docs, weights)


CLASSES: dict[int, type[Chunk]] = {cls.kind: cls for cls in (FixedChunk, RaggedChunk, PostingsChunk)}


def _doc_dtype(docids: np.ndarray) -> type:
    """The dtype of docids relative to the first. A chunk that needs more than 16 bits can't be stored; ``slice`` splits it first."""
    return np.uint16 if int(docids[-1]) - int(docids[0]) < BLOCK_ROWS else np.uint32


def fixed(docids, data, norms=None) -> FixedChunk:
    """A fixed chunk. data: any dtype, one row per docid."""
    return FixedChunk(np.asarray(docids, np.uint32), _bytes(data, len(docids)), norms)


def ragged(docids, offsets, data, extra=None, norms=None) -> RaggedChunk:
    """A ragged chunk. offsets: ``(n+1,)``, in items. data, extra, norms: one row per item."""
    items = int(offsets[-1])
    extra = None if extra is None else np.ascontiguousarray(extra).view(np.uint8).reshape(items, 4)
    return RaggedChunk(np.asarray(docids, np.uint32), np.asarray(offsets, np.uint32), _bytes(data, items), extra, norms)


def postings(docids, terms, owners, weights=None) -> PostingsChunk:
    """A postings chunk from (term, docid) pairs. docids: all rows that have the field, also rows without terms."""
    return PostingsChunk.of(np.asarray(docids, np.uint32), terms, owners, weights)


def _bytes(array, rows: int) -> np.ndarray:
    array = np.ascontiguousarray(array)
    width = array.nbytes // rows if rows else 0
    return array.view(np.uint8).reshape(rows, width) if array.nbytes else np.empty((rows, width), np.uint8)


def encode(chunk: Chunk) -> memoryview:
    """The bytes of a chunk: the header, then its sections, each aligned to 8 bytes."""
    listed = chunk.last - chunk.first + 1 != len(chunk)
    sections = chunk.sections() + ([chunk.docids] if listed else [])
    size = HEADER
    for section in sections:
        size += -(-section.nbytes // 8) * 8
    value = np.zeros(size, np.uint8)
    position = HEADER
    for section in sections:
        value[position : position + section.nbytes] = section.reshape(-1).view(np.uint8)
        position += -(-section.nbytes // 8) * 8
    flags = (LISTED_FLAG if listed else 0) | sum(flag for name, flag in _FLAGS.items() if getattr(chunk, name, None) is not None)
    count = 0
    if isinstance(chunk, PostingsChunk):
        count = len(chunk.docs)
        if chunk.weights is not None and len(chunk.weights) and chunk.weights.min() < TINY_WEIGHT:
            flags |= SIGNED_FLAG
    fields = (MAGIC, CHUNK_VERSION, chunk.kind, flags, chunk.first, chunk.last, len(chunk), chunk.width, chunk.items, count, size)
    _header.pack_into(value, 0, *fields, 0)
    _header.pack_into(value, 0, *fields, _digest(value))
    return value.data


def _digest(value: np.ndarray) -> int:
    digest = xxhash.xxh3_64(value[: HEADER - 8])
    digest.update(value[HEADER:])
    return digest.intdigest()


def check_digest(value: np.ndarray, where: str) -> None:
    """Raises CorruptionError naming ``where`` if the bytes of a chunk fail their checksum."""
    if _header.unpack_from(value)[-1] != _digest(value):
        raise CorruptionError(f"chunk {where} fails its checksum", field=where)


def _layout(value: np.ndarray, where: str, verify: bool) -> tuple[tuple, dict[str, tuple[int, int]]]:
    """The header and, for each section, its (offset, bytes). Raises CorruptionError naming the chunk."""
    if len(value) < HEADER:
        raise CorruptionError(f"chunk {where} has {len(value)} bytes, fewer than its header needs", field=where)
    header = _header.unpack_from(value)
    magic, version, kind, flags, first, last, count, width, items, n_postings, size, digest = header
    if magic != MAGIC or version != CHUNK_VERSION or kind not in CLASSES:
        raise CorruptionError(f"chunk {where} has no valid header", field=where)
    if size != len(value) or count == 0 or last < first or (verify and digest != _digest(value)):
        raise CorruptionError(f"chunk {where} fails its checksum", field=where)
    listed = bool(flags & LISTED_FLAG)
    if not listed and last - first + 1 != count:
        raise CorruptionError(f"chunk {where} has a header of {count} rows in {first} … {last}, which is impossible", field=where)
    sections: dict[str, int] = {}
    if kind == FIXED:
        sections["data"] = count * width
    elif kind == RAGGED:
        sections["offsets"] = 4 * (count + 1)
        sections["data"] = items * width
        if flags & EXTRA_FLAG:
            sections["extra"] = 4 * items
    else:
        sections.update(terms=8 * items, indptr=4 * (items + 1), docs=2 * n_postings)
        if flags & WEIGHTS_FLAG:
            sections["weights"] = 4 * n_postings
    if flags & NORMS_FLAG:
        sections["norms"] = 4 * items
    if listed:
        sections["docids"] = 4 * count
    position, places = HEADER, {}
    for name, nbytes in sections.items():
        places[name] = (position, nbytes)
        position += -(-nbytes // 8) * 8
    if position != size:
        raise CorruptionError(f"chunk {where} has sections of {position} bytes, but a value of {size} bytes", field=where)
    return header, places


_DTYPES = {
    "offsets": np.uint32,
    "terms": np.uint64,
    "indptr": np.uint32,
    "docs": np.uint16,
    "weights": np.float32,
    "norms": np.float32,
    "docids": np.uint32,
}


def decode(value, where: str, verify: bool = True) -> Chunk:
    """Decode a chunk. Raises CorruptionError naming ``where`` if the bytes are invalid or, with ``verify``, fail their checksum."""
    value = np.frombuffer(value, np.uint8)
    header, places = _layout(value, where, verify)
    arrays = {name: value[start : start + nbytes] for name, (start, nbytes) in places.items()}
    for name, dtype in _DTYPES.items():
        if name in arrays:
            arrays[name] = arrays[name].view(dtype)
    if "data" in arrays:
        arrays["data"] = arrays["data"].reshape(-1, header[7]) if header[7] else np.empty((header[8], 0), np.uint8)
    if "extra" in arrays:
        arrays["extra"] = arrays["extra"].reshape(-1, 4)
    if "docids" not in arrays:
        arrays["docids"] = np.arange(header[4], header[5] + 1, dtype=np.uint32)
    return CLASSES[header[2]](**arrays)


def table_row(value, where: str, verify: bool = True) -> tuple[int, ...]:
    """The row of a chunk table for a chunk: the addresses of its sections, for kernels."""
    base = address(value)
    value = np.frombuffer(value, np.uint8)
    header, places = _layout(value, where, verify)

    def at(name: str) -> int:
        return base + places[name][0] if name in places else 0

    _, _, kind, flags, first, last, count, _, items, _, _, _ = header
    row = (first, last, count, *map(at, CLASSES[kind].columns), at("docids"), items, flags)
    assert len(row) == TABLE_WIDTH
    return row


def name_of(collection: int, field: int, part: int, first: int) -> str:
    """The name of a chunk in error messages."""
    return f"collection {collection} field {field} part {part} rows {first}…"


def address(value) -> int:
    """The memory address of a value."""
    return np.frombuffer(value, np.uint8).__array_interface__["data"][0]


def size_in(header: bytes) -> int:
    """Bytes of the whole value, computed from its header."""
    return int.from_bytes(header[32:40], "little")


def sizes_in(headers: list[bytes]) -> np.ndarray:
    """``size_in`` of many headers, int64."""
    return np.frombuffer(b"".join(headers), np.int64).reshape(-1, HEADER // 8)[:, 4].copy()


def place_of(key: bytes) -> tuple[int, int, int, int]:
    """(collection, field, part, first docid) of the key of a chunk."""
    return int.from_bytes(key[:4], "big"), int.from_bytes(key[5:7], "big"), key[7], int.from_bytes(key[8:12], "big")


def moves(nbytes: int | np.ndarray) -> bool | np.ndarray:
    """Whether a value of this size shares its page with others, so that its address may change when they are written."""
    return nbytes <= _SMALL


def joined(pieces: Sequence[Chunk]) -> Chunk:
    """One chunk of consecutive chunks of one part."""
    return type(pieces[0]).join(pieces)
