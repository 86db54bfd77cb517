"""What views tell of migrations: which encoder answers, how far the new vectors are, and which vectors are mapped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from msgspec import structs
from vectordb_client.model.schema import Schema

from ..storage import format, migrations
from ..storage.catalog import Migrating
from ..storage.migrations import Record
from .snapshot import View

FEW_ROWS = 64  # that are left when the index of the new vectors is built: those written meanwhile


class Begun(NamedTuple):
    """A migration that is under way: the field's number and definition, its new definition, and the records."""

    number: int
    spec: Any
    new: Any
    each: Migrating
    record: Record


def begun(view: View, name: str) -> Begun | None:
    """The migration of a field; None if none is under way."""
    number = view.fields.get(name)
    each = None if number is None else view.snapshot.meta.migrating.get(number)
    record = None if each is None else migrations.read(view.txn, view.store.collection, each.to)
    if number is None or each is None or record is None:
        return None
    spec = view.schema.vectors[name]
    return Begun(number, spec, each.definition(spec), each, record)


def with_definition(schema: Schema, name: str, spec: Any) -> Schema:
    """The schema with another definition of a vector field."""
    vectors = {field: spec if field == name else each for field, each in schema.vectors.items()}
    return Schema(vectors, schema.attributes, dynamic=schema.dynamic, ttl=schema.ttl)


def ahead(view: View, name: str) -> View:
    """A view in which a field has its new vectors already, to build their index. It is valid as long as ``view``."""
    migration = begun(view, name)
    assert migration is not None
    meta = structs.replace(view.snapshot.meta, fields=view.fields | {name: migration.each.to})
    schema = with_definition(view.schema, name, migration.new)
    return View(view.directory, view.txn, replace(view.snapshot, meta=meta, schema=schema), view.store.collection)


def mapped(view: View, name: str) -> int:
    """How many live points have a vector of the field that a migration has mapped."""
    rows = migrations.mapped_rows(view.txn, view.store.collection, view.snapshot.meta, view.fields[name])
    return len(rows - view.dead)


def facts(view: View, name: str) -> dict[str, Any]:
    """What ``Collection.migration`` returns."""
    migration, meta = begun(view, name), view.snapshot.meta
    told: dict[str, Any] = {"field": name, "state": "none", "answers": meta.encoders.get(name), "mapped": mapped(view, name)}
    if migration is None:
        if told["mapped"]:
            record = migrations.read(view.txn, view.store.collection, view.fields[name])
            told |= {} if record is None else {key: record.report[key] for key in ("map", "recall_at_10", "cosine") if key in record.report}
        return told
    record = migration.record
    filled = view.rows - record.done <= FEW_ROWS
    told["state"] = "indexing" if filled else "encoding" if record.encode else "mapping"
    rows = view.snapshot.table(view.store, migration.number, format.FORWARD).present
    return told | {
        "encoder": record.encoder,
        "identity": migration.each.identity,
        "dim": migration.new.dim,
        "rows": rows,
        "share": round(record.done / max(view.rows, 1), 4),
        "rows_encoded": record.encoded,
        "rows_mapped": len(record.rows - view.dead),
        "report": record.report,
    }


def explained(view: View, name: str) -> dict[str, Any]:
    """The entry of an arm's plan: of a field that is being migrated, or has mapped vectors, encoder (whose vectors answered), mapped, and
    while a migration is under way migrating (to which encoder) and share (of the rows that have their new vector).
    """
    meta = view.snapshot.meta
    number = view.fields.get(name)
    if number is None or (number not in meta.migrating and number not in meta.mapped):
        return {}
    migration = begun(view, name)
    told: dict[str, Any] = {"encoder": meta.encoders[name], "mapped": mapped(view, name)}
    if migration is not None:
        told |= {"migrating": migration.each.identity, "share": round(migration.record.done / max(view.rows, 1), 4)}
    return {"migration": told}
