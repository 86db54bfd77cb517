"""The records of migrations against the descriptor, and the form of the vectors that no search sees yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectordb_client.errors import shown

from .. import format, migrations

if TYPE_CHECKING:
    from .collection import CollectionCheck


def check_migrations(collection: CollectionCheck) -> dict[tuple[int, int], tuple[int, int]]:
    """Check the records. Returns (field, part) → (kind of its chunks, bytes of an item) of the numbers that are being written."""
    meta, layout = collection.meta, dict[tuple[int, int], tuple[int, int]]()
    names = {number: name for name, number in meta.fields.items()}
    for field, each in meta.migrating.items():
        what = f"migrates field {field} to {each.to}, which is not a new number of a vector field"
        holds = names.get(field) in collection.schema.vectors and each.to not in names
        if collection.expect(holds, "descriptor", what):
            spec = each.definition(collection.schema.vectors[names[field]])
            parts = collection.types[spec.kind].parts(spec, False)
            layout |= {(each.to, part): form for part, form in parts.items()}
    named = {*meta.mapped, *(each.to for each in meta.migrating.values())}
    for key, value in collection.walker.walk(format.key(collection.number, format.MIGRATION)):
        field = int.from_bytes(key[5:], "big")
        if collection.expect(len(key) == 7 and field in named, f"key {shown(key)}", f"is of field {field}, which has no such record"):
            named.discard(field)
            with collection.walker.guard(collection.where(f"migration of field {field}")):
                record = migrations.unpack(value)
                rows = record.rows
                holds = record.done <= collection.rows and (not rows or rows.max() < collection.rows)
                collection.expect(holds, f"migration of field {field}", f"names rows past the last one, {collection.rows - 1}")
    collection.expect(not named, "descriptor", f"names migrations of the fields {sorted(named)}, which have no record")
    return layout
