"""Chunks: a range of rows of one field (or their postings) in one LMDB value, laid out so that kernels read it in place.

A chunk covers the docids first … last. It lists them if some rows of that range lack the field. A chunk never changes, except that the
newest small chunks of a field are joined by later writes (``Store.append``), and compaction writes chunks again without dead rows.
There are three kinds: FIXED (one item per row), RAGGED (offsets and items), POSTINGS (sorted terms → rows, with optional weights).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from vectordb_client.errors import CorruptionError

from ..kernels import TABLE_WIDTH, TINY_WEIGHT

FIXED, RAGGED, POSTINGS = 1, 2, 3
NORMS_FLAG, WEIGHTS_FLAG, EXTRA_FLAG, LISTED_FLAG, SIGNED_FLAG = 1, 2, 4, 8, 16
MAGIC = 0x4356  # "VC"
CHUNK_VERSION = 1
# magic, version, kind, flags, first, last, count, width, items, postings, checksum. A large value starts 16 bytes into an LMDB page, so the
# data after these 48 bytes starts at a cache line.
_header = struct.Struct("<HBBIIIIIIIQQ")
HEADER = _header.size
assert HEADER == 48
BLOCK_ROWS = 65_536
_SMALL = 4_096  # bytes: values up to a page may move when their neighbours are written


# The value of arrays that a kind of chunk lacks. Typed as Any, because code that reads an array knows the kind.
_ABSENT: Any = None


@dataclass(frozen=True)
class Chunk:
    """A decoded chunk. Its arrays are views of the value, valid only inside the transaction that read it.

    docids: uint32 ``(count,)``. FIXED: data uint8 ``(count, width)``. RAGGED: offsets uint32 ``(count+1,)`` in items, data uint8
    ``(items, width)``, extra uint8 ``(items, 4)`` or None. POSTINGS: terms uint64, indptr uint32, docs uint16 (docid − first),
    weights float32 or None. norms: float32, one per item, or None.
    """

    kind: int
    docids: np.ndarray
    data: np.ndarray = _ABSENT
    norms: np.ndarray | None = None
    offsets: np.ndarray = _ABSENT
    extra: np.ndarray | None = None
    terms: np.ndarray = _ABSENT
    indptr: np.ndarray = _ABSENT
    docs: np.ndarray = _ABSENT
    weights: np.ndarray | None = None

    @property
    def first(self) -> int:
        return int(self.docids[0])

    @property
    def last(self) -> int:
        return int(self.docids[-1])

    def __len__(self) -> int:
        return len(self.docids)


def fixed(docids, data, norms=None) -> Chunk:
    """A FIXED chunk. data: any dtype, one row per docid."""
    return Chunk(FIXED, np.asarray(docids, np.uint32), data=_bytes(data, len(docids)), norms=norms)


def ragged(docids, offsets, data, extra=None, norms=None) -> Chunk:
    """A RAGGED chunk. offsets: ``(n+1,)``, in items. data, extra, norms: one row per item."""
    items = int(offsets[-1])
    extra = None if extra is None else np.ascontiguousarray(extra).view(np.uint8).reshape(items, 4)
    return Chunk(
        RAGGED, np.asarray(docids, np.uint32), data=_bytes(data, items), offsets=np.asarray(offsets, np.uint32), extra=extra, norms=norms
    )


def postings(docids, terms, owners, weights=None) -> Chunk:
    """A POSTINGS chunk from (term, docid) pairs. docids: all rows that have the field, also rows without terms."""
    docids = np.asarray(docids, np.uint32)
    order = np.argsort(terms, kind="stable")
    sorted_terms = np.asarray(terms, np.uint64)[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_terms[1:] != sorted_terms[:-1]])) if len(sorted_terms) else np.empty(0, np.int64)
    return Chunk(
        POSTINGS,
        docids,
        terms=sorted_terms[starts],
        indptr=np.append(starts, len(sorted_terms)).astype(np.uint32),
        docs=(np.asarray(owners)[order] - int(docids[0])).astype(_doc_dtype(int(docids[0]), int(docids[-1]))),
        weights=None if weights is None else np.asarray(weights, np.float32)[order],
    )


def _bytes(array, rows: int) -> np.ndarray:
    array = np.ascontiguousarray(array)
    width = array.nbytes // rows if rows else 0
    return array.view(np.uint8).reshape(rows, width) if array.nbytes else np.empty((rows, width), np.uint8)


def width_of(chunk: Chunk) -> int:
    return 0 if chunk.data is None else chunk.data.shape[1]


def size_of(chunk: Chunk) -> int:
    """Approximate bytes of the encoded chunk."""
    return HEADER + sum(a.nbytes for a in _sections(chunk)) + chunk.docids.nbytes


def _sections(chunk: Chunk) -> list[np.ndarray]:
    if chunk.kind == FIXED:
        sections = [chunk.data]
    elif chunk.kind == RAGGED:
        sections = [chunk.offsets, chunk.data, chunk.extra]
    else:
        sections = [chunk.terms, chunk.indptr, chunk.docs, chunk.weights]
    return [a for a in (*sections, chunk.norms) if a is not None]


def encode(chunk: Chunk) -> memoryview:
    """The bytes of a chunk: the header, then its sections, each aligned to 8 bytes."""
    listed = chunk.last - chunk.first + 1 != len(chunk)
    flags = (
        (NORMS_FLAG if chunk.norms is not None else 0)
        | (WEIGHTS_FLAG if chunk.weights is not None else 0)
        | (EXTRA_FLAG if chunk.extra is not None else 0)
        | (LISTED_FLAG if listed else 0)
        | (SIGNED_FLAG if chunk.weights is not None and len(chunk.weights) and chunk.weights.min() < TINY_WEIGHT else 0)
    )
    sections = _sections(chunk) + ([chunk.docids] if listed else [])
    size = HEADER
    for section in sections:
        size += -(-section.nbytes // 8) * 8
    value = np.zeros(size, np.uint8)
    at = HEADER
    for section in sections:
        value[at : at + section.nbytes] = section.reshape(-1).view(np.uint8)
        at += -(-section.nbytes // 8) * 8
    items = len(chunk.terms) if chunk.kind == POSTINGS else (int(chunk.offsets[-1]) if chunk.kind == RAGGED else len(chunk))
    count = len(chunk.docs) if chunk.kind == POSTINGS else 0
    width = width_of(chunk)
    fields = (MAGIC, CHUNK_VERSION, chunk.kind, flags, chunk.first, chunk.last, len(chunk), width, items, count, size)
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
    if magic != MAGIC or version != CHUNK_VERSION or kind not in (FIXED, RAGGED, POSTINGS):
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
    at, places = HEADER, {}
    for name, nbytes in sections.items():
        places[name] = (at, nbytes)
        at += -(-nbytes // 8) * 8
    if at != size:
        raise CorruptionError(f"chunk {where} has sections of {at} bytes, but a value of {size} bytes", field=where)
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
    arrays = {name: value[at : at + nbytes] for name, (at, nbytes) in places.items()}
    for name, dtype in _DTYPES.items():
        if name in arrays:
            arrays[name] = arrays[name].view(dtype)
    if "data" in arrays:
        arrays["data"] = arrays["data"].reshape(-1, header[7]) if header[7] else np.empty((header[8], 0), np.uint8)
    if "extra" in arrays:
        arrays["extra"] = arrays["extra"].reshape(-1, 4)
    if "docids" not in arrays:
        arrays["docids"] = np.arange(header[4], header[5] + 1, dtype=np.uint32)
    return Chunk(header[2], **arrays)


def table_row(value, where: str, verify: bool = True) -> tuple[int, ...]:
    """The row of a chunk table for a chunk: the addresses of its sections, for kernels."""
    base = address(value)
    value = np.frombuffer(value, np.uint8)
    header, places = _layout(value, where, verify)

    def at(name: str) -> int:
        return base + places[name][0] if name in places else 0

    _, _, kind, flags, first, last, count, _, items, _, _, _ = header
    if kind == FIXED:
        data, aux, extra, norms = at("data"), at("data"), 0, at("norms")
    elif kind == RAGGED:
        data, aux, extra, norms = at("offsets"), at("data"), at("extra"), at("norms")
    else:
        data, aux, extra, norms = at("terms"), at("indptr"), at("docs"), at("weights")
    row = (first, last, count, data, aux, extra, norms, at("docids"), items, flags)
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


def moves(nbytes: int | np.ndarray) -> bool | np.ndarray:
    """Whether a value of this size shares its page with others, so that its address may change when they are written."""
    return nbytes <= _SMALL


def joined(chunks: list[Chunk]) -> Chunk:
    """Join consecutive chunks of one part into one."""
    head = chunks[0]
    docids = np.concatenate([c.docids for c in chunks])
    norms = None if head.norms is None else np.concatenate([c.norms for c in chunks])
    if head.kind == FIXED:
        return Chunk(FIXED, docids, data=np.concatenate([c.data for c in chunks]), norms=norms)
    if head.kind == RAGGED:
        return Chunk(
            RAGGED,
            docids,
            data=np.concatenate([c.data for c in chunks if len(c.data)] or [head.data]),
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([np.diff(c.offsets) for c in chunks]))]).astype(np.uint32),
            extra=None if head.extra is None else np.concatenate([c.extra for c in chunks]),
            norms=norms,
        )
    return _joined_postings(chunks, docids)


def _joined_postings(chunks: list[Chunk], docids: np.ndarray) -> Chunk:
    """Join POSTINGS chunks: the lists of each term are appended. Docids ascend from chunk to chunk, so only terms need sorting."""
    terms = np.unique(np.concatenate([c.terms for c in chunks]))
    places = [np.searchsorted(terms, c.terms) for c in chunks]
    sizes = np.zeros(len(terms), np.int64)
    for c, place in zip(chunks, places, strict=True):
        sizes[place] += np.diff(c.indptr)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    first, last = int(docids[0]), int(docids[-1])
    docs = np.empty(int(indptr[-1]), _doc_dtype(first, last))
    weights = None if chunks[0].weights is None else np.empty(len(docs), np.float32)
    filled = indptr[:-1].copy()
    for c, place in zip(chunks, places, strict=True):
        counts = np.diff(c.indptr)
        to = np.repeat(filled[place] - c.indptr[:-1], counts) + np.arange(len(c.docs))
        docs[to] = c.docs.astype(docs.dtype) + docs.dtype.type(c.first - first)
        if weights is not None:
            weights[to] = c.weights
        filled[place] += counts
    return Chunk(POSTINGS, docids, terms=terms, indptr=indptr.astype(np.uint32), docs=docs, weights=weights)


def _doc_dtype(first: int, last: int) -> type:
    """The dtype for docids relative to ``first``. A chunk that needs more than 16 bits can't be stored; ``sliced`` splits it first."""
    return np.uint16 if last - first < BLOCK_ROWS else np.uint32


def sliced(chunk: Chunk, low: int, high: int) -> Chunk:
    """The rows of a chunk at positions [low, high), which are not docids."""
    docids = chunk.docids[low:high]
    if chunk.kind == FIXED:
        return Chunk(FIXED, docids, data=chunk.data[low:high], norms=None if chunk.norms is None else chunk.norms[low:high])
    if chunk.kind == RAGGED:
        a, b = int(chunk.offsets[low]), int(chunk.offsets[high])
        return Chunk(
            RAGGED,
            docids,
            data=chunk.data[a:b],
            offsets=chunk.offsets[low : high + 1] - chunk.offsets[low],
            extra=None if chunk.extra is None else chunk.extra[a:b],
            norms=None if chunk.norms is None else chunk.norms[a:b],
        )
    terms = np.repeat(chunk.terms, np.diff(chunk.indptr))
    owners = chunk.docs.astype(np.int64) + chunk.first
    keep = (owners >= docids[0]) & (owners <= docids[-1])
    return postings(docids, terms[keep], owners[keep], None if chunk.weights is None else chunk.weights[keep])


def kept(chunk: Chunk, keep: np.ndarray) -> Chunk:
    """The rows of a chunk of any kind where ``keep`` is true, with their norms and weights. keep: bool, one per row, not all false."""
    docids = chunk.docids[keep]
    if chunk.kind == FIXED:
        return Chunk(FIXED, docids, data=chunk.data[keep], norms=None if chunk.norms is None else chunk.norms[keep])
    if chunk.kind == RAGGED:
        sizes = np.diff(chunk.offsets)
        items = np.repeat(keep, sizes)
        return Chunk(
            RAGGED,
            docids,
            data=chunk.data[items],
            offsets=np.concatenate([[0], np.cumsum(sizes[keep], dtype=np.int64)]).astype(np.uint32),
            extra=None if chunk.extra is None else chunk.extra[items],
            norms=None if chunk.norms is None else chunk.norms[items],
        )
    span = np.zeros(chunk.last - chunk.first + 1, np.bool_)
    span[docids - np.uint32(chunk.first)] = True
    held = span[chunk.docs]
    ends = np.concatenate([[0], np.cumsum(held, dtype=np.int64)])[chunk.indptr]
    some = np.diff(ends) > 0  # drop terms that no kept row has
    docs = chunk.docs[held].astype(np.int64) + chunk.first - int(docids[0])
    return Chunk(
        POSTINGS,
        docids,
        terms=chunk.terms[some],
        indptr=np.concatenate([[0], ends[1:][some]]).astype(np.uint32),
        docs=docs.astype(_doc_dtype(int(docids[0]), int(docids[-1]))),
        weights=None if chunk.weights is None else chunk.weights[held],
    )


def picked(chunk: Chunk, positions: np.ndarray) -> Chunk:
    """Copies of some rows of a FIXED or RAGGED chunk, by position, without norms."""
    docids = chunk.docids[positions]
    if chunk.kind == FIXED:
        return Chunk(FIXED, docids, data=chunk.data[positions])
    sizes = np.diff(chunk.offsets)[positions]
    starts = chunk.offsets[positions].astype(np.int64)
    ends = np.cumsum(sizes, dtype=np.int64)
    items = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
    return Chunk(
        RAGGED,
        docids,
        data=chunk.data[items],
        offsets=np.concatenate([[0], ends]).astype(np.uint32),
        extra=None if chunk.extra is None else chunk.extra[items],
    )
