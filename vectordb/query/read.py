"""Rows as users see them: get, count, scroll."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from vectordb_client.filter import Filter

from .. import deadline
from ..errors import CorruptionError, InvalidArgumentError, shown
from ..filters.bitmap import FilterCache, matching
from ..snapshot import View
from ..storage import format
from ..types import Id, Page, Point, Schema, point_vector, restore

PLAIN = ("keyword", "text", "int", "float", "bool")
# Up to this many matches are sorted by id; beyond, walking the ids in order finds a page sooner.
SORTED_MATCHES = 20_000
WALKED_BETWEEN_CHECKS = 1_024  # ids


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


def vectors_of(view: View, docids: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, Any]]:
    """docid → field → vector, for the rows that have it."""
    found: dict[int, dict[str, Any]] = {docid: {} for docid in docids}
    if not names:
        return found
    ordered = np.array(sorted(docids), dtype=np.int64)
    for name in names:
        column = view.store.vectors(view.fields[name], view.schema.vectors[name], ordered)
        if column is not None:
            for position, row in enumerate(column.rows.tolist()):
                found[int(ordered[row])][name] = point_vector(column, position)
    return found


def points(
    view: View, ids: Sequence[Id], entries: Sequence[tuple[int, int]], attributes: bool | Sequence[str], vectors: Sequence[str]
) -> list[Point]:
    """Points by their entries in the id map, in the order given. Raises CorruptionError when an entry points at another's row."""
    docids = [docid for docid, _ in entries]
    read = attribute_reader(view.schema, attributes)
    found = vectors_of(view, docids, vectors)
    made = []
    for value, (docid, version), row in zip(ids, entries, view.records(docids), strict=True):
        if row.id != value:
            raise CorruptionError(f"id {shown(value)} points at row {docid}, which is that of {shown(row.id)}", field="ids", value=value)
        payload = row.payload if read is not None else None
        made.append(Point(row.id, found[docid], {} if read is None else read(row.attributes), payload, version))
    return made


def get(view: View, ids: Sequence[Id], attributes: bool | Sequence[str], vectors: Sequence[str]) -> list[Point | None]:
    """The points of ids, None where there is no such point."""
    entries = view.store.entries(ids)
    there = [(value, entry) for value, entry in zip(ids, entries, strict=True) if entry is not None]
    found = iter(points(view, [value for value, _ in there], [entry for _, entry in there], attributes, vectors))
    return [None if entry is None else next(found) for entry in entries]


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
) -> Page:
    """The next points in id order after the cursor.

    A cursor is the last id seen, so a point that exists all the while is returned exactly once however many writes happen between.
    """
    after = None if cursor is None else decode_cursor(cursor)
    bitmap = None if node is None else matching(node, view, cache)
    if bitmap is not None and len(bitmap) <= SORTED_MATCHES:
        docids = bitmap.to_array().tolist()
        keys = sorted((format.id_key(0, row.id), row.id, docid) for row, docid in zip(view.records(docids), docids, strict=True))
        bound = b"" if after is None else format.id_key(0, after)
        page = [(value, docid) for key, value, docid in keys if key > bound][: limit + 1]
    else:
        page = []
        for walked, (value, docid) in enumerate(view.store.ids_after(after)):
            if not walked % WALKED_BETWEEN_CHECKS:
                deadline.check()
            if bitmap is None or docid in bitmap:
                page.append((value, docid))
                if len(page) > limit:
                    break
    more, page = len(page) > limit, page[:limit]
    ids = [value for value, _ in page]
    entries = view.store.entries(ids)
    if None in entries:
        raise CorruptionError(f"id {shown(ids[entries.index(None)])} of a live row isn't in the id map", field="ids")
    made = points(view, ids, entries, attributes, vectors)
    return Page(tuple(made), encode_cursor(page[-1][0]) if more else None)


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
