"""Compares a branch with its original, and merges it, in one transaction.

A merge writes whole points: those of the branch replace those of the original. Each piece is a batch of the original, with a sequence
number of its own; no snapshot lies between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from vectordb_client.errors import PreconditionError, SchemaError, listing, shown
from vectordb_client.model.batch import Batch
from vectordb_client.model.branches import BranchDiff, MergeResult
from vectordb_client.model.fields import SparseColumn, VectorField
from vectordb_client.model.schema import AttributeType
from vectordb_client.model.values import Id

from .. import fields
from ..common import deadline
from ..common.failpoints import reach
from ..storage import branches, catalog, derived, format, migrations, term_words
from ..storage.branches import Branch, Touched
from ..storage.format import Txn
from ..storage.store import Store
from .apply import Delete, Transaction, Write, apply, expire
from .directory import Directory

_ROWS = 5_000  # points of a batch of a merge
_NAMED = 5  # ids that an error names
T = TypeVar("T")


def diff(txn: Txn, name: str, limit: int) -> BranchDiff:
    """See ``Database.diff``."""
    number, branch = branches.of_branch(txn, name)
    kinds: dict[str, list[Id]] = {"added": [], "changed": [], "deleted": [], "conflicts": []}
    for point in deadline.each(branches.touched(txn, number, branch)):
        kind = _kind(point)
        if kind is not None:
            kinds[kind].append(point.id)
            if point.conflicts:
                kinds["conflicts"].append(point.id)
    some = {kind: tuple(_ordered(ids)[:limit]) for kind, ids in kinds.items()}
    return BranchDiff(**some, counts={kind: len(ids) for kind, ids in kinds.items()})


def merge(txn: Txn, name: str, on_conflict: str, at: int, directory: Directory) -> tuple[int, MergeResult]:
    """Merge a branch; returns the number of its original, too. See ``Database.merge``. at: Unix time in milliseconds."""
    number, branch = branches.of_branch(txn, name)
    for each in (number, branch.of):
        expire(Transaction(txn, each, directory, None), at)  # points that have ended are no changes
    missing = _missing_fields(txn, number, branch)
    touched = [point for point in deadline.each(branches.touched(txn, number, branch)) if _kind(point) is not None or not point.there]
    conflicts = [point for point in touched if _kind(point) is not None and point.conflicts]
    if conflicts and on_conflict == "error":
        raise _conflict(txn, name, branch, conflicts)
    kept = {point.id for point in conflicts} if on_conflict == "original" else set()
    taken = [point for point in touched if _kind(point) is not None and point.id not in kept]
    if any(missing):
        _add_fields(txn, number, branch.of, *missing, at=at, directory=directory)
    deleted = _ordered([point.id for point in taken if not point.now])
    moved = _moved(txn, number, branch.of, [point.id for point in taken if point.now and point.there])
    for ids in _pieces(_ordered([*deleted, *moved])):
        apply(txn, branch.of, Delete(ids, at=at), directory)
        reach("merge.deleted")
    written = [point for point in taken if point.now]
    for ids in _pieces([point.id for point in written]):
        deadline.check()
        _write(txn, number, branch.of, ids, at, directory)
        reach("merge.written")
    branches.settle(txn, number, branch, [point.id for point in touched])
    reach("merge.settled")
    added = sum(not point.there for point in written)
    sequence = Store(txn, branch.of).existing_state()[0]
    return branch.of, MergeResult(added, len(written) - added, len(deleted), len(conflicts), sequence)


def _moved(txn: Txn, number: int, of: int, ids: Sequence[Id]) -> list[Id]:
    """The points that have another tenant on the branch. A point keeps its tenant, so that of the original is deleted first."""
    tenant, moved = catalog.schema_of(catalog.read_meta(txn, number)).tenant, []
    for some in _pieces(list(ids)) if tenant is not None else ():
        sides: list[dict[Id, Any]] = []
        for store in (Store(txn, number), Store(txn, of)):
            docids = np.sort(np.array([entry[0] for entry in store.entries(some) if entry is not None], np.int64))
            sides.append({row.id: row.attributes.get(tenant) for row in store.rows(docids)})
        moved += [value for value in some if sides[0].get(value) != sides[1].get(value)]
    return moved


def _kind(point: Touched) -> str | None:
    """added, changed or deleted; None if both have no such point now, or the branch had and has none."""
    if point.now:
        return "changed" if point.was else "added"
    return "deleted" if point.was and point.there else None


def _ordered(ids: Sequence[Id]) -> list[Id]:
    return sorted(ids, key=lambda value: format.id_key(0, value))


def _pieces(values: list[T]) -> Iterator[list[T]]:
    for low in range(0, len(values), _ROWS):
        yield values[low : low + _ROWS]


def _conflict(txn: Txn, name: str, branch: Branch, conflicts: list[Touched]) -> PreconditionError:
    ids = _ordered([point.id for point in conflicts])
    named = ", ".join(shown(value) for value in ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
    points = f"{len(ids)} points were" if len(ids) > 1 else "1 point was"
    original = shown(branches.original_name(txn, branch))
    what = f"{points} changed on branch {shown(name)} and in its original {original}, too: {named}; nothing was written"
    advice = (
        f"on_conflict='branch' takes the branch's points, 'original' keeps those of {original}; diff({shown(name)}).conflicts lists them"
    )
    return PreconditionError(f"{what}. {advice}", field="on_conflict", value="error")


def _write(txn: Txn, number: int, of: int, ids: Sequence[Id], at: int, directory: Directory) -> None:
    """Write points of a branch into its original."""
    store, meta = Store(txn, number), catalog.read_meta(txn, number)
    schema = catalog.schema_of(meta)
    docids = np.sort(np.array([entry[0] for entry in store.entries(ids) if entry is not None], np.int64))
    rows = store.rows(docids)
    columns: dict[str, Any] = {}
    words: dict[str, dict[int, str]] = {}
    for name, spec in schema.vectors.items():
        column = fields.read(store, meta.fields[name], spec, docids)
        if column is None:
            continue
        columns[name] = column
        if spec.has_terms:
            terms = np.unique(cast(SparseColumn, column).terms).tolist()
            words[name] = term_words.read(txn, number, meta.fields[name], terms)
    attributes = {name: [row.attributes.get(name) for row in rows] for name in schema.attributes}
    batch = Batch("upsert", [row.id for row in rows], columns, attributes, [row.payload for row in rows])
    apply(txn, of, Write(batch, words=words, at=at), directory)
    _carry_mapped(txn, number, of, columns, docids, batch.ids)


def _carry_mapped(txn: Txn, number: int, of: int, columns: Mapping[str, Any], docids: np.ndarray, ids: Sequence[Id]) -> None:
    """Remember which written points have vectors that a migration of the branch has mapped, so that a later one encodes their texts.

    columns: the vectors that were written. docids: of the points on the branch. ids: the same points.
    """
    meta, its, original = catalog.read_meta(txn, number), catalog.read_meta(txn, of), Store(txn, of)
    for name in columns:
        record = migrations.read(txn, number, meta.fields[name]) if meta.fields[name] in meta.mapped else None
        if record is None:
            continue
        taken = [id for docid, id in zip(docids.tolist(), ids, strict=True) if docid in record.rows]
        if taken:
            written = [entry[0] for entry in original.entries(taken) if entry is not None]
            migrations.take_over(original, its.fields[name], written, record)


# Fields


def _missing_fields(txn: Txn, number: int, branch: Branch) -> tuple[dict[str, VectorField], dict[str, AttributeType]]:
    """The fields that were added on a branch, which the original needs. Raises SchemaError if the fields don't fit together otherwise."""
    mine, its = catalog.read_meta(txn, number), catalog.read_meta(txn, branch.of)
    schema, other = catalog.schema_of(mine), catalog.schema_of(its)
    where = f"branch {shown(mine.name)} and its original {shown(its.name)}"
    here, there = {**schema.vectors, **schema.attributes}, {**other.vectors, **other.attributes}
    for one, fields_of_one, others, side in ((mine, here, there, "in the original"), (its, there, here, "on the branch")):
        gone = [name for name in fields_of_one if name not in others and one.fields[name] < branch.next_field]
        if gone:
            what = f"{where} have different fields: {listing(gone)} isn't there {side}: it was dropped or renamed on one of the two sides"
            what += "; do that on the other side, too, then merge"
            raise SchemaError(what, field=gone[0])
    for name in here.keys() & there.keys():
        numbers = mine.fields[name], its.fields[name]
        renamed = max(numbers) < branch.next_field and numbers[0] != numbers[1]
        if here[name] != there[name] or mine.encoders.get(name) != its.encoders.get(name) or renamed:
            what = f"{where} define field {shown(name)} differently; "
            if here[name] != there[name] and name in schema.attributes:
                what += "make the same change on the other side, by alter, rename_fields or drop_fields, then merge"
            else:
                what += "rename or drop it on one side, then merge"
            raise SchemaError(what, field=name)
        if (name in schema.earlier) != (name in other.earlier):
            what = f"field {shown(name)} of {where} follows different rules for words; call optimize() on both, then merge"
            raise SchemaError(what, field=name)
    if schema.ttl != other.ttl:
        what = f"{where} have different settings of ttl, {shown(schema.ttl)} and {shown(other.ttl)}"
        raise SchemaError(f"{what}; make them equal by alter(ttl=…), then merge", field="ttl", value=schema.ttl)
    if schema.dynamic != other.dynamic:
        raise SchemaError(f"{where} have different settings of dynamic, so they can't be merged", field="schema")
    vectors = {name: spec for name, spec in schema.vectors.items() if name not in other.vectors}
    return vectors, {name: spec for name, spec in schema.attributes.items() if name not in other.attributes}


def _records(txn: Txn, number: int, vectors: Mapping[str, VectorField]) -> dict[str, derived.Record]:
    """The records of derived fields of a collection that learn nothing from points."""
    fields = catalog.read_meta(txn, number).fields
    read = {
        name: derived.read(txn, number, fields[name])
        for name, spec in vectors.items()
        if spec.derived is not None and not spec.derived.learned
    }
    return {name: record for name, record in read.items() if record is not None}


def _add_fields(
    txn: Txn, number: int, of: int, vectors: dict[str, VectorField], attributes: dict[str, AttributeType], *, at: int, directory: Directory
) -> None:
    encoders = catalog.read_meta(txn, number).encoders
    new = {name: encoder for name, encoder in encoders.items() if name in vectors or name in attributes}
    meta = catalog.add_fields(txn, of, vectors, attributes, new, records=_records(txn, number, vectors))
    if meta is not None:
        store = Store(txn, of)
        sequence = store.existing_state()[0] + 1
        store.touch(sequence, {"op": "schema", "at": at, "revision": meta.revision}, directory.change_log)
