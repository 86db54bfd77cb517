"""Read rows: get, count and scroll."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import CorruptionError, shown
from vectordb_client.model.checks import not_a_cursor
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id

from ..common import deadline
from ..engine.snapshot import View
from ..filters.bitmap import matching
from ..filters.cache import FilterCache
from ..storage import format
from .payload_paths import payload_reader

# Matches; up to this many, a page of scroll sorts them by id. With more, walking all ids in order fills a page sooner.
SORTED_MATCHES = 20_000
PIECE_ROWS, PIECE_BYTES = 1_024, 1 << 20  # rows, and bytes, read at a time


def attribute_reader(schema: Schema, names: bool | Sequence[str]) -> Callable[[dict], dict] | None:
    """A function from the stored attributes of a record to the selected ones, in the user's form; None when none are selected."""
    if names is False:
        return None
    special = {name: spec.restore for name, spec in schema.attributes.items() if not spec.plain}
    if names is True:
        if not special:
            return lambda stored: stored
        return lambda stored: {name: special[name](value) if name in special else value for name, value in stored.items()}
    chosen = tuple(names)
    return lambda stored: {name: special[name](stored[name]) if name in special else stored[name] for name in chosen if name in stored}


def pieces(
    view: View, docids: Sequence[int], records: bool, names: Sequence[str]
) -> Iterator[tuple[Sequence[int], list[memoryview] | None, list[dict[str, Any]]]]:
    """Read rows in pieces of bounded size. Checks the deadline before each piece.

    Yields (docids, their stored records if ``records`` else None, for each row a dict of its vectors in the fields ``names``).
    """
    low = 0
    while low < len(docids):
        deadline.check()
        some = docids[low : low + PIECE_ROWS]
        stored = view.stored(some) if records else None
        cut = _fitting(view, some, stored, names)
        yield some[:cut], stored and stored[:cut], vectors_of(view, some[:cut], names)
        low += cut


def _fitting(view: View, docids: Sequence[int], stored: list[memoryview] | None, names: Sequence[str]) -> int:
    """The number of these rows that fit one piece, at least 1."""
    if not names:
        if stored is None or sum(map(len, stored)) <= PIECE_BYTES:
            return len(docids)
        sizes = np.zeros(len(docids), np.int64)
    else:
        order = np.argsort(docids)
        ordered = np.array(docids, np.int64)[order]
        sizes = np.zeros(len(docids), np.int64)
        for name in names:
            sizes[order] += view.vector_bytes(name, ordered)
    if stored is not None:
        sizes += np.fromiter(map(len, stored), np.int64, len(stored))
    return max(int(np.searchsorted(np.cumsum(sizes), PIECE_BYTES, "right")), 1)


def vectors_of(view: View, docids: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """For each row, a dict from the name of a field to the row's vector there."""
    vectors: list[dict[str, Any]] = [{} for _ in docids]
    if names:
        order = np.argsort(docids)
        ordered = np.array(docids, np.int64)[order]
        for name in names:
            column = view.vectors(name, ordered)
            if column is not None:
                for position, row in enumerate(order[column.rows].tolist()):
                    vectors[row][name] = column.vector(position)
    return vectors


def points(
    view: View,
    ids: Sequence[Id],
    entries: Sequence[tuple[int, int | None]],
    attributes: bool | Sequence[str],
    vectors: Sequence[str],
    payload: bool | Sequence[str] | None = None,
) -> Iterator[list[Point]]:
    """Points by their entries in the id map, in the order given. payload: as ``with_payload``. Yields lists of points.

    Raises CorruptionError when an entry refers to the row of another id.
    """
    read, read_payload = attribute_reader(view.schema, attributes), payload_reader(payload, attributes)
    wanted = iter(zip(ids, entries, strict=True))
    for _, stored, vectors_of_rows in pieces(view, [docid for docid, _ in entries], True, vectors):
        assert stored is not None  # records are asked for
        made = []
        for row, held, (value, (docid, version)) in zip(format.unpack_rows(stored), vectors_of_rows, wanted):
            if row.id != value:
                what = f"the id map says that id {shown(value)} is in row {docid}, but that row has id {shown(row.id)}"
                raise CorruptionError(what, field="ids", value=value)
            part = None if read_payload is None else read_payload(row.payload)
            made.append(Point(row.id, held, {} if read is None else read(row.attributes), part, version))
        yield made


def get(
    view: View, ids: Sequence[Id], attributes: bool | Sequence[str], vectors: Sequence[str], payload: bool | Sequence[str] | None = None
) -> tuple[list[bool], Iterator[list[Point]]]:
    """(for each id, whether it exists; an iterator over lists of the points that exist)."""
    entries = view.entries(deadline.each(ids))
    existing = [(value, entry) for value, entry in zip(ids, entries, strict=True) if entry is not None]
    ids, entries_of_ids = [value for value, _ in existing], [entry for _, entry in existing]
    return [entry is not None for entry in entries], points(view, ids, entries_of_ids, attributes, vectors, payload)


def count(view: View, node: Filter | None, cache: FilterCache) -> int:
    """The number of live rows that match a canonical filter; of all live rows without one."""
    return view.snapshot.live if node is None else len(matching(node, view, cache))


def scroll(
    view: View,
    node: Filter | None,
    limit: int,
    cursor: str | None,
    attributes: bool | Sequence[str],
    vectors: Sequence[str],
    cache: FilterCache,
    payload: bool | Sequence[str] | None = None,
) -> tuple[Iterator[list[Point]], bool]:
    """(an iterator over lists of the next points after the cursor, in the order of ids; whether there are more).

    A cursor encodes the last id returned. So a point that exists during the whole scroll is returned exactly once, whatever is written
    meanwhile.
    """
    after = None if cursor is None else decode_cursor(cursor)
    bitmap = None if node is None else matching(node, view, cache)
    if bitmap is not None and len(bitmap) <= SORTED_MATCHES:
        docids = np.asarray(bitmap.to_array(), np.int64)
        ids = [value.item() if isinstance(value, np.generic) else value for value in view.ids(docids)]
        keys = sorted((format.id_key(0, value), value, docid) for value, docid in zip(ids, docids.tolist(), strict=True))
        bound = b"" if after is None else format.id_key(0, after)
        page = [(value, docid) for key, value, docid in keys if key > bound][: limit + 1]
    else:
        page = []
        for value, docid in deadline.each(view.ids_after(after)):
            if bitmap is None or docid in bitmap:
                page.append((value, docid))
                if len(page) > limit:
                    break
    more, page = len(page) > limit, page[:limit]
    ids = [value for value, _ in page]
    entries = []
    for value, entry in zip(ids, view.entries(ids), strict=True):
        if entry is None:
            raise CorruptionError(f"the id map has no entry for id {shown(value)} of a live row", field="ids")
        entries.append(entry)
    return points(view, ids, entries, attributes, vectors, payload), more


def encode_cursor(last: Id) -> str:
    """An opaque cursor: the sort key of the last id returned, in base64."""
    return base64.urlsafe_b64encode(format.id_key(0, last)[5:]).decode().rstrip("=")


def decode_cursor(cursor: Any) -> Id:
    """The id in a cursor. Raises InvalidArgumentError for a value that ``encode_cursor`` doesn't return."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        value = format.id_of_key(format.key(0, format.IDS) + raw)
    except Exception:  # of any type: the value comes from outside, and each of these steps may fail in its own way
        raise not_a_cursor(cursor) from None
    return value
