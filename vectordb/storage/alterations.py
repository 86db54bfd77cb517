"""Changes of a collection's definitions in one transaction: integers become floats, and another attribute says when points end.

An attribute gets a new number with its new type, so that nothing that was made of its integers is taken for floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs
from pyroaring import BitMap
from vectordb_client.errors import SchemaError, shown
from vectordb_client.model.alterations import altered
from vectordb_client.model.schema import AttributeType

from . import catalog, chunks, compact, expiry, format
from .catalog import Meta
from .schema_changes import described, rewrite_rows
from .store import Store


def alter(txn: format.Txn, number: int, attributes: Mapping[str, AttributeType], ttl: Any) -> Meta | None:
    """Give attributes other types, and the collection another ``ttl``. Returns the new descriptor, None if it has all of it already.

    Points that have ended must be deleted before. Raises SchemaError before it writes anything.
    """
    meta, store = catalog.read_meta(txn, number), Store(txn, number)
    before = catalog.schema_of(meta)
    schema = altered(before, attributes, ttl)
    if schema == before:
        return None
    widened = [name for name in attributes if schema.attributes[name] != before.attributes[name]]
    dead, fields, following = store.tombstones(), dict(meta.fields), catalog.next_field(meta)
    for name in widened:
        _check_exact(store, name, fields[name], dead)
    for name in widened:
        _widen(store, fields[name], following)
        fields[name], following = following, following + 1
    if widened:
        rewrite_rows(store, lambda old: {name: _as_float(value) if name in widened else value for name, value in old.items()})
    if schema.ttl != before.ttl:
        store.remove(format.key(number, format.EXPIRY))
        if schema.ttl is not None:
            _add_moments(store, schema.ttl, dead)
    numbered = structs.replace(meta, next_field=following)
    return described(store, numbered, schema, fields, meta.encoders, meta.rules)


def _as_float(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, list) else float(value)


def _check_exact(store: Store, name: str, field: int, dead: BitMap) -> None:
    """Raise SchemaError if the integer of a live row has no float of the same value."""
    for first, value in store.chunk_values(field, format.FORWARD):
        chunk: Any = chunks.decode(value, store.chunk_name(field, format.FORWARD, first))
        integers = chunk.data.reshape(-1).view(np.int64)
        inexact = np.flatnonzero((np.abs(integers) >= 2**53) | (integers == np.iinfo(np.int64).min))
        if not len(inexact):
            continue
        rows = inexact if chunk.kind == chunks.FIXED else np.searchsorted(chunk.offsets, inexact, "right") - 1
        for docid, integer in zip(chunk.docids[rows].tolist(), integers[inexact].tolist(), strict=True):
            if int(float(integer)) != integer and docid not in dead:
                (row,) = store.rows(np.array([docid], np.int64))
                what = f"attribute {name!r} can't become a float: point {shown(row.id)} has {integer}, which no 64-bit float equals"
                raise SchemaError(f"{what}; change that value first, or keep the integers", field=name, value=integer)


def _widen(store: Store, old: int, new: int) -> None:
    """Write the values of a field of integers under a new number as floats, and remove the old ones."""
    for part in compact.PARTS:
        for first in [first for first, _ in store.chunk_values(old, part)]:
            value = store.chunk_value(old, part, first)
            assert value is not None
            written = bytes(value)
            if part == format.FORWARD:
                chunk: Any = chunks.decode(value, store.chunk_name(old, part, first))
                floats = chunk.data.reshape(-1).view(np.int64).astype(np.float64)
                written = chunks.encode(replace(chunk, data=floats.view(np.uint8).reshape(chunk.data.shape)))
            store.txn.put(format.chunk_key(store.collection, new, part, first), written)
    store.drop_chunks(old)


def _add_moments(store: Store, attribute: str, dead: BitMap) -> None:
    """Record when live rows end."""
    for docids in store.docids_of(format.ROWS_FIELD, format.FORWARD):
        live = [docid for docid in docids.tolist() if docid not in dead]
        for docid, row in zip(live, store.rows(np.array(live, np.int64)) if live else (), strict=True):
            expiry.add(store.txn, store.collection, attribute, docid, [row.attributes])
