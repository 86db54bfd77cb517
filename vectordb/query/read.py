"""Rows as users see them: get, count, scroll."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.filter import Filter

from .. import deadline
from ..errors import CorruptionError, InvalidArgumentError, shown
from ..filters.bitmap import FilterCache, matching
from ..snapshot import View
from ..storage import format
from ..types import Id, Point, Schema, point_vector, restore

PLAIN = ("keyword", "text", "int", "float", "bool")
# Up to this many matches are sorted by id; beyond, walking the ids in order finds a page sooner.
SORTED_MATCHES = 20_000
# Of rows, this much is read at once.
PIECE_ROWS, PIECE_BYTES = 1_024, 1 << 20


def attribute_reader(schema: Schema, names: bool | Sequence[str]) -> Callable[[dict], dict] | None:
    """From a record's attributes to the chosen ones in the user's form; None when none are asked for."""
    if names is False:
        return None
    special = {name: spec for name, spec in schema.attributes.items() if spec.kind not in PLAIN}
    if names is True:
        if not special:
            return lambda stored: stored
        return lambda stored: {name: restore(special[name], value) if name in special else value for name, value in stored.items()}
    chosen = tuple(names)
    return lambda stored: {
        name: restore(special[name], stored[name]) if name in special else stored[name] for name in chosen if name in stored
    }


def pieces(
    view: View, docids: Sequence[int], records: bool, names: Sequence[str]
) -> Iterator[tuple[Sequence[int], list[memoryview] | None, list[dict[str, Any]]]]:
    """Rows, some at a time, so that what is read of them at once takes little memory, with a look at the deadline before each piece.

    Yields (docids, their records as they are stored if ``records``, and for each row the vectors of ``names`` that it has).
    """
    at = 0
    while at < len(docids):
        deadline.check()
        some = docids[at : at + PIECE_ROWS]
        stored = view.stored(some) if records else None
        cut = _fitting(view, some, stored, names)
        yield some[:cut], stored and stored[:cut], vectors_of(view, some[:cut], names)
        at += cut


def _fitting(view: View, docids: Sequence[int], stored: list[memoryview] | None, names: Sequence[str]) -> int:
    """How many of these rows are read at once: one at least."""
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
    """Field → vector, of each row."""
    found: list[dict[str, Any]] = [{} for _ in docids]
    if names:
        order = np.argsort(docids)
        ordered = np.array(docids, np.int64)[order]
        for name in names:
            column = view.vectors(name, ordered)
            if column is not None:
                for position, row in enumerate(order[column.rows].tolist()):
                    found[row][name] = point_vector(column, position)
    return found


def points(
    view: View, ids: Sequence[Id], entries: Sequence[tuple[int, int]], attributes: bool | Sequence[str], vectors: Sequence[str]
) -> Iterator[list[Point]]:
    """Points by their entries in the id map, in the order given, some at a time. Raises CorruptionError when an entry points at another's
    row.
    """
    read = attribute_reader(view.schema, attributes)
    wanted = iter(zip(ids, entries, strict=True))
    for _, stored, found in pieces(view, [docid for docid, _ in entries], True, vectors):
        made = []
        for row, held, (value, (docid, version)) in zip(format.unpack_rows(stored), found, wanted):
            if row.id != value:
                what = f"id {shown(value)} points at row {docid}, which is that of {shown(row.id)}"
                raise CorruptionError(what, field="ids", value=value)
            payload = row.payload if read is not None else None
            made.append(Point(row.id, held, {} if read is None else read(row.attributes), payload, version))
        yield made


def get(
    view: View, ids: Sequence[Id], attributes: bool | Sequence[str], vectors: Sequence[str]
) -> tuple[list[bool], Iterator[list[Point]]]:
    """Which of the ids are there, and their points, some at a time."""
    entries = view.store.entries(deadline.each(ids))
    there = [(value, entry) for value, entry in zip(ids, entries, strict=True) if entry is not None]
    found = points(view, [value for value, _ in there], [entry for _, entry in there], attributes, vectors)
    return [entry is not None for entry in entries], found


def count(view: View, node: Filter | None, cache: FilterCache) -> int:
    return view.snapshot.live if node is None else len(matching(node, view, cache))


def scroll(
    view: View,
    node: Filter | None,
    limit: int,
    cursor: str | None,
    attributes: bool | Sequence[str],
    vectors: Sequence[str],
    cache: FilterCache,
) -> tuple[Iterator[list[Point]], bool]:
    """The next points in id order after the cursor, some at a time, and whether there are more after all of them.

    A cursor is the last id seen, so a point that exists all the while is returned exactly once however many writes happen between.
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
        for value, docid in deadline.each(view.store.ids_after(after)):
            if bitmap is None or docid in bitmap:
                page.append((value, docid))
                if len(page) > limit:
                    break
    more, page = len(page) > limit, page[:limit]
    ids = [value for value, _ in page]
    entries = view.store.entries(ids)
    if None in entries:
        raise CorruptionError(f"id {shown(ids[entries.index(None)])} of a live row isn't in the id map", field="ids")
    return points(view, ids, entries, attributes, vectors), more


def encode_cursor(last: Id) -> str:
    """An opaque cursor: where the id sorts."""
    return base64.urlsafe_b64encode(format.id_key(0, last)[5:]).decode().rstrip("=")


def decode_cursor(cursor: Any) -> Id:
    """Raises InvalidArgumentError for what isn't a cursor of ours."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        value = format.id_of_key(format.key(0, format.IDS) + raw)
    except Exception:  # whatever is wrong with it, it is not ours
        raise InvalidArgumentError(f"cursor {shown(cursor)} didn't come from scroll", field="cursor", value=cursor) from None
    return value
