"""Conditions on attributes that look at each value: at the terms of a dictionary, at stored texts, or at places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError
from vectordb_client.model.filter_extended import Fold, GeoPolygon

from ..common import deadline, memory
from ..storage import format
from ..storage.attribute_forms import FORMS, beginning, is_hashed
from .areas import in_polygon, unrolled
from .bitmaps import bitmap_of
from .cache import Reader
from .nodes import Part, TermRange, TermsOutside
from .path_tests import folded

READ_ROWS = 1_024  # records read at a time
_PLACE_BYTES = 16

Union = Callable[[Reader, str, list[int], int], BitMap]  # (reader, attribute, numbers of terms, first docid) → rows


def terms_of(reader: Reader, field: int, start: bytes = b"") -> Iterator[tuple[bytes, int]]:
    """(term, its number) of a dictionary in the order of bytes, from a term on."""
    root = format.field_key(reader.store.collection, format.TERMS, field)
    for key, value in format.walk(reader.store.txn, root, root + start):
        yield key[len(root) :], int.from_bytes(value, "little")


def keywords(
    reader: Reader, name: str, holds: Callable[[str], bool], start: int, union: Union, low: bytes = b"", high: bytes | None = None
) -> BitMap:
    """Rows from ``start`` on with a keyword that passes a test: looks at the dictionary, and at the rows of longer strings that are hashed.

    low, high: only strings from these on, and up to these, can pass; None: all up to the last.
    """
    numbers, hashed = [], []
    last = None if high is None else beginning(high)
    for term, number in deadline.each(terms_of(reader, reader.fields[name], beginning(low))):
        if last is not None and beginning(term) > last and not term.startswith(last):
            break
        if is_hashed(term):
            hashed.append(number)
        elif holds(term.decode()):
            numbers.append(number)
    rows = union(reader, name, numbers, start)
    if hashed:
        candidates = _recorded(reader, np.asarray(union(reader, name, hashed, start).to_array(), np.int64))
        array = reader.schema.attributes[name].array
        found = [docid for docid, value in _stored(reader, name, candidates) if any(map(holds, value if array else (value,)))]
        rows = rows | BitMap(found)
    return rows


def pattern(reader: Reader, name: str, fixed: str, holds: Callable[[str], bool], start: int, union: Union) -> BitMap:
    """``keywords`` that begin with a fixed string. No keyword begins with a lone surrogate, so then nothing passes."""
    bytes_of = fixed.encode(errors="surrogatepass")
    return keywords(reader, name, lambda value: value.startswith(fixed) and holds(value), start, union, bytes_of, bytes_of)


def term_range(node: TermRange, reader: Reader, start: int, union: Union) -> BitMap:
    low, high = node.low, node.high

    def holds(value: str) -> bool:
        above = low is None or (low < value if node.low_open else low <= value)
        return above and (high is None or (value < high if node.high_open else value <= high))

    bounds = (b"" if low is None else low.encode(), None if high is None else high.encode())
    return keywords(reader, node.field, holds, start, union, *bounds)


def terms_outside(node: TermsOutside, reader: Reader, start: int, union: Union) -> BitMap:
    to_bytes = FORMS[reader.schema.attributes[node.field].stored].to_bytes
    without = {to_bytes(value) for value in node.values}
    numbers = [number for term, number in deadline.each(terms_of(reader, reader.fields[node.field])) if term not in without]
    return union(reader, node.field, numbers, start)


def fold(node: Fold, reader: Reader, start: int, union: Union) -> BitMap:
    return keywords(reader, node.field, folded(node.mode, node.value), start, union)


class _AttributesOfRow(msgspec.Struct, array_like=True):
    """The attributes of a row record; the other values are skipped."""

    id: msgspec.Raw
    attributes: dict
    payload: msgspec.Raw = msgspec.Raw(b"\xc0")


_decode = msgspec.msgpack.Decoder(_AttributesOfRow).decode


def _recorded(reader: Reader, docids: np.ndarray) -> np.ndarray:
    """Those of the rows (int64, ascending) that have a record. Compaction removes records of dead rows before or after their terms."""
    if not len(docids):
        return docids
    table = reader.chunks(format.ROWS_FIELD, format.FORWARD)
    present = [held[np.isin(held, docids)] for _, _, held in table.between(int(docids[0]), int(docids[-1]) + 1)]
    return np.concatenate(present).astype(np.int64) if present else docids[:0]


def _stored(reader: Reader, name: str, docids: np.ndarray) -> Iterator[tuple[int, Any]]:
    """(docid, stored value) of an attribute, of those of the rows (int64, ascending) that have it. Raises CorruptionError."""
    with memory.held(64 * len(docids), "the texts that a filter reads"):
        for low in range(0, len(docids), READ_ROWS):
            deadline.check()
            some = docids[low : low + READ_ROWS].tolist()
            try:
                for docid, record in zip(some, reader.stored(some), strict=True):
                    value = _decode(record).attributes.get(name)
                    if value is not None:
                        yield docid, value
            except msgspec.DecodeError as error:
                raise CorruptionError(f"a row doesn't decode: {error}", field="rows") from None


def part(node: Part, reader: Reader, start: int) -> BitMap:
    """Rows from ``start`` on with a text that contains a string: reads the texts."""
    value, array, matches = node.value, reader.schema.attributes[node.field].array, []
    for _, _, docids in reader.chunks(format.ROWS_FIELD, format.FORWARD).between(start, reader.rows):
        for docid, text in _stored(reader, node.field, docids.astype(np.int64)):
            if any(value in (one.casefold() if node.fold else one) for one in (text if array else (text,))):
                matches.append(docid)
    return BitMap(matches)


def polygon(node: GeoPolygon, reader: Reader, start: int, run: Callable[..., BitMap]) -> BitMap:
    """Rows from ``start`` on with a place in a polygon. run: as ``bitmap._area``, which finds the rows in the box around it."""
    corners = tuple(node.points)
    lats, lons = unrolled(corners)
    west, east = min(lons), max(lons)
    if west <= -180 or east >= 180:  # −180 and 180 are one meridian
        west, east = -180.0, 180.0
    candidates = np.asarray(run((min(lats), west, max(lats), east, 0.0)).to_array(), np.int64)
    found = []
    table = reader.chunks(reader.fields[node.field], format.FORWARD)
    array = reader.schema.attributes[node.field].array
    for low in range(0, len(candidates), 65_536):
        for chunk, indexes, positions in table.chunks_with(candidates[low : low + 65_536], _PLACE_BYTES):
            deadline.check()
            data = np.ascontiguousarray(chunk.data).reshape(-1).view(np.float64).reshape(-1, 2)
            docids = candidates[low + indexes]
            if array:
                begins, ends = chunk.offsets[positions].astype(np.int64), chunk.offsets[positions + 1].astype(np.int64)
                docids = np.repeat(docids, ends - begins)
                positions = np.concatenate([np.arange(a, b) for a, b in zip(begins, ends, strict=True)] or [np.empty(0, np.int64)])
            found.append(docids[in_polygon(data[positions], corners)])
    return bitmap_of(np.concatenate(found).astype(np.uint32)) if found else BitMap()
