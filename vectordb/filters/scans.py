"""Conditions on attributes that look at each value: at the terms of a dictionary, at stored texts, or at places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError
from vectordb_client.model.filter_extended import Fold, GeoPolygon

from ..common import deadline, memory
from ..storage import format
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


def term_range(node: TermRange, reader: Reader, start: int, union: Union) -> BitMap:
    low = b"" if node.low is None else node.low.encode()
    high = None if node.high is None else node.high.encode()
    numbers = []
    for term, number in deadline.each(terms_of(reader, reader.fields[node.field], low)):
        if high is not None and (term > high or (node.high_open and term == high)):
            break
        if not (node.low_open and term == low):
            numbers.append(number)
    return union(reader, node.field, numbers, start)


def terms_outside(node: TermsOutside, reader: Reader, start: int, union: Union) -> BitMap:
    spec = reader.schema.attributes[node.field]
    to_bytes = str.encode if spec.stored == "string" else bytes
    without = {to_bytes(value) for value in node.values}
    numbers = [number for term, number in deadline.each(terms_of(reader, reader.fields[node.field])) if term not in without]
    return union(reader, node.field, numbers, start)


def fold(node: Fold, reader: Reader, start: int, union: Union) -> BitMap:
    holds = folded(node.mode, node.value)
    numbers = [number for term, number in deadline.each(terms_of(reader, reader.fields[node.field])) if holds(term.decode())]
    return union(reader, node.field, numbers, start)


class _AttributesOfRow(msgspec.Struct, array_like=True):
    """The attributes of a row record; the other values are skipped."""

    id: msgspec.Raw
    attributes: dict
    payload: msgspec.Raw = msgspec.Raw(b"\xc0")


_decode = msgspec.msgpack.Decoder(_AttributesOfRow).decode


def part(node: Part, reader: Reader, start: int) -> BitMap:
    """Rows from ``start`` on with a text that contains a string: reads the texts."""
    name, value, array = node.field, node.value, reader.schema.attributes[node.field].array
    matches: list[int] = []
    with memory.held(64 * (reader.rows - start), "the texts that a filter reads"):
        for _, _, docids in reader.chunks(format.ROWS_FIELD, format.FORWARD).between(start, reader.rows):
            for low in range(0, len(docids), READ_ROWS):
                deadline.check()
                some = docids[low : low + READ_ROWS].tolist()
                try:
                    stored = [_decode(record).attributes.get(name) for record in reader.stored(some)]
                except msgspec.DecodeError as error:
                    raise CorruptionError(f"a row doesn't decode: {error}", field="rows") from None
                for docid, text in zip(some, stored, strict=True):
                    if text is None:
                        continue
                    texts = text if array else (text,)
                    if any(value in (one.casefold() if node.fold else one) for one in texts):
                        matches.append(docid)
        return BitMap(matches)


def polygon(node: GeoPolygon, reader: Reader, start: int, run: Callable[..., BitMap]) -> BitMap:
    """Rows from ``start`` on with a place in a polygon. run: as ``bitmap._area``, which finds the rows in the box around it."""
    corners: tuple = node.points
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
