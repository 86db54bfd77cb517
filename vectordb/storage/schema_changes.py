"""Drops and renames fields of a collection, in one transaction each. Vectors, postings and dictionaries belong to field numbers, so a new
name touches only the descriptor; records of rows hold attributes by name and are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from vectordb_client.errors import SchemaError, listing, shown
from vectordb_client.model.schema import Schema, check_attribute_name, check_name

from ..common.failpoints import reach
from . import catalog, chunks, format, segments
from .catalog import Meta
from .format import Txn
from .store import CHUNK_BYTES, Store, split


def dropped(schema: Schema, names: Collection[str]) -> Schema:
    """The schema without some fields. Raises SchemaError if one doesn't exist, is still needed, or none would be left."""
    _check_names(schema, names)
    for name, spec in schema.vectors.items():
        for source in () if name in names else spec.reads:
            if source in names:
                what = f"attribute {source!r} is the source of vector field {name!r}; drop both, or {name!r} first"
                raise SchemaError(what, field=source, value=name)
        for source in () if spec.derived is None or name in names else spec.derived.sources:
            if source in names:
                what = f"vector field {name!r} is derived from {source!r}; drop both, or {name!r} first"
                raise SchemaError(what, field=source, value=name)
    if schema.ttl in names:
        raise SchemaError(f"attribute {schema.ttl!r} says when points end; call alter(ttl=None) before you drop it", field=schema.ttl)
    vectors = {name: spec for name, spec in schema.vectors.items() if name not in names}
    attributes = {name: spec for name, spec in schema.attributes.items() if name not in names}
    if not vectors and not attributes:
        raise SchemaError("a schema needs at least one field; drop_collection(name) drops everything", field="schema")
    return Schema(vectors, attributes, dynamic=schema.dynamic, ttl=schema.ttl)


def renamed(schema: Schema, names: Mapping[str, str]) -> Schema:
    """The schema with new names (old → new). Raises SchemaError if a field doesn't exist, or a new name is taken or not valid."""
    _check_names(schema, names)
    for old, new in names.items():
        if old in schema.attributes:
            check_attribute_name(new)
        else:
            check_name(new, "field")
        if (new in schema.vectors or new in schema.attributes) and new not in names:
            raise SchemaError(f"field {old!r} can't be renamed: there is a field {new!r} already", field=old, value=new)
    if len(set(names.values())) != len(names):
        raise SchemaError(f"two fields can't have one name: {shown(dict(names))}", field="schema", value=dict(names))
    vectors = {names.get(name, name): spec.reading(names) for name, spec in schema.vectors.items()}
    attributes = {names.get(name, name): spec for name, spec in schema.attributes.items()}
    return Schema(vectors, attributes, dynamic=schema.dynamic, ttl=names.get(schema.ttl, schema.ttl) if schema.ttl else None)


def _check_names(schema: Schema, names: Collection[str]) -> None:
    for name in names:
        if name not in schema.vectors and name not in schema.attributes:
            existing = listing([*schema.vectors, *schema.attributes])
            raise SchemaError(f"no field {shown(name)}; the fields: {existing}", field="schema", value=name)


def drop_fields(txn: Txn, number: int, names: Collection[str]) -> tuple[Meta, list[str]]:
    """Drop fields with all their values. Returns the new descriptor, and the index files that no record names now. Raises SchemaError."""
    meta, store = catalog.read_meta(txn, number), Store(txn, number)
    before = catalog.schema_of(meta)
    schema, files = dropped(before, names), []
    for name in names:
        field = meta.fields[name]
        files += segments.remove_field(txn, number, field)
        migrating = [meta.migrating[field].to] if field in meta.migrating else []
        for pending in migrating:
            files += segments.remove_field(txn, number, pending)
        for each in (field, *((meta.deriving[field],) if field in meta.deriving else ()), *migrating):
            store.drop_chunks(each)
            for kind in (format.TERMS, format.TERM_COUNT, format.ENCODER, format.TERM_WORD, format.DERIVATION, format.MIGRATION):
                store.remove(format.field_key(number, kind, each))
        reach("field.removed")
    gone = {name for name in names if name in before.attributes}
    rewrite_rows(store, lambda old: {name: value for name, value in old.items() if name not in gone} if gone & old.keys() else old)
    kept = [{name: value for name, value in part.items() if name not in names} for part in (meta.fields, meta.encoders, meta.rules)]
    deriving = {field: pending for field, pending in meta.deriving.items() if field in kept[0].values()}
    migrating = {field: each for field, each in meta.migrating.items() if field in kept[0].values()}
    mapped = [field for field in meta.mapped if field in kept[0].values()]
    changed = msgspec.structs.replace(meta, deriving=deriving, migrating=migrating, mapped=mapped)
    return described(store, changed, schema, *kept), files


def rename_fields(txn: Txn, number: int, names: Mapping[str, str]) -> Meta:
    """Give fields new names (old → new), all at once. Returns the new descriptor. Raises SchemaError."""
    meta, store = catalog.read_meta(txn, number), Store(txn, number)
    before = catalog.schema_of(meta)
    schema, changed = renamed(before, names), {name for name in names if name in before.attributes}
    rewrite_rows(store, lambda old: {names.get(name, name): value for name, value in old.items()} if changed & old.keys() else old)
    parts = [{names.get(name, name): value for name, value in part.items()} for part in (meta.fields, meta.encoders, meta.rules)]
    return described(store, meta, schema, *parts)


def described(store: Store, meta: Meta, schema: Schema, fields: dict, encoders: dict, rules: dict) -> Meta:
    """Write the descriptor with a new schema, and return it."""
    data = schema.to_dict()
    for name, spec in data["vectors"].items():  # what ``catalog.schema_of`` adds for fields of earlier versions is not stored
        if name not in rules and spec.get("weighting") == "none":
            del spec["weighting"]
    following = catalog.next_field(meta)
    changed = msgspec.structs.replace(
        meta, schema=data, fields=fields, encoders=encoders, rules=rules, revision=meta.revision + 1, next_field=following
    )
    catalog.write_meta(store.txn, store.collection, changed)
    store.count_derived(compactions=1)
    return changed


def rewrite_rows(store: Store, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write the records of rows again whose attributes ``change`` changes; it returns the same object if there is nothing to do."""
    field, part = format.ROWS_FIELD, format.FORWARD
    for first in [first for first, _ in store.chunk_values(field, part)]:
        chunk: Any = chunks.decode(store.chunk_value(field, part, first), store.chunk_name(field, part, first))
        data, offsets = chunk.data.reshape(-1).tobytes(), chunk.offsets.tolist()
        rows = format.unpack_rows(data[low:high] for low, high in pairwise(offsets))
        new = [change(row.attributes) for row in rows]
        if all(after is row.attributes for after, row in zip(new, rows, strict=True)):
            continue
        records = [format.pack_row(format.row_of(row.id, after, row.payload)) for after, row in zip(new, rows, strict=True)]
        offsets = np.concatenate([[0], np.cumsum([len(record) for record in records])])
        written = split(chunks.ragged(chunk.docids, offsets, np.frombuffer(b"".join(records), np.uint8)), CHUNK_BYTES)
        pieces = [(piece.first, chunks.encode(piece)) for piece in written]  # before a change, which makes views of the chunk invalid
        store.delete_chunk(field, part, first)
        for low, value in pieces:
            store.txn.put(format.chunk_key(store.collection, field, part, low), value)
        reach("field.rewritten")
