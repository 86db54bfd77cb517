"""The list of collections, and the descriptor of each: schema, field numbers, encoder identities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
from vectordb_client.errors import AlreadyExistsError, LimitError, NotFoundError, PreconditionError, SchemaError, shown
from vectordb_client.model.schema import AttributeType, Schema, VectorField, check_name
from vectordb_client.model.schema_diff import exists_already

from ..common.failpoints import reach
from ..common.tokenize import RULE
from . import attribute_forms, derived, format, sharing
from .format import Txn

MAX_COLLECTIONS = 10_000


class Migrating(msgspec.Struct, frozen=True, omit_defaults=True):
    """To which encoder a field is being brought. to: the number under which its new vectors are written. dim: of these. encoder: as the
    user named it. identity: of the encoder.
    """

    to: int
    dim: int
    encoder: str
    identity: str

    def definition(self, spec: Any) -> Any:
        """The definition that the field (``spec``) will have."""
        return dataclasses.replace(spec, dim=self.dim, encoder=self.encoder)


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A collection's descriptor. fields: name → field number, never reused. next_field: new numbers are at least this. revision: raised by
    every change of the schema.

    rules: for Text attributes and BM25 fields, field name → version of the word rules (``words.RULE``) that they are written and read with;
    1 if missing. From version 2 on BM25 fields store term frequencies, before that finished weights.

    history: seconds for which earlier states can be read; 0 keeps none. history_from: the earliest sequence whose state is whole: at it
    history began, or rows that were dead then were removed.

    deriving: number of a derived field → the number under which its vectors are being derived, see ``derived``.

    migrating: number of a field → to which encoder it is being brought. mapped: numbers of fields with vectors that a migration has mapped.
    See ``migrations``.
    """

    name: str
    schema: dict
    fields: dict[str, int]
    encoders: dict[str, str]
    revision: int
    rules: dict[str, int] = {}
    next_field: int = 0
    history: float = 0  # the same object as the default, or it would be stored
    history_from: int = 0
    deriving: dict[int, int] = {}
    migrating: dict[int, Migrating] = {}
    mapped: list[int] = []

    def writes(self, name: str, number: int) -> bool:
        """Whether vectors of a field are written under a number: its own, or that to which it is being migrated."""
        own = self.fields.get(name)
        return own is not None and (own == number or (own in self.migrating and self.migrating[own].to == number))

    @property
    def pending(self) -> list[int]:
        """The numbers under which vectors are written that no search sees yet."""
        return [*self.deriving.values(), *(each.to for each in self.migrating.values())]


def names(txn: Txn) -> dict[str, int]:
    """Collection names to numbers, in name order."""
    records = format.walk(txn, format.key(format.CATALOG, format.NAME))
    return {key[5:].decode(): format.unpack_record(value, "catalog") for key, value in records}


def number_of(txn: Txn, name: str) -> int:
    """The number of the collection with a name or an alias. Raises NotFoundError."""
    return find(txn, name)[1]


def find(txn: Txn, name: str) -> tuple[str, int]:
    """The collection with a name or an alias: (its own name, its number). Raises NotFoundError."""
    check_name(name, "collection")
    value = txn.get(format.key(format.CATALOG, format.NAME, name.encode()))
    if value is None:
        value = txn.get(format.key(format.CATALOG, format.ALIAS, name.encode()))
        if value is not None:
            number = format.unpack_record(value, "catalog")
            return read_meta(txn, number).name, number
        existing = ", ".join(names(txn)) or "none"
        raise NotFoundError(f"no collection {shown(name)}; existing collections: {existing}", field="collection", value=name)
    return name, format.unpack_record(value, "catalog")


def create(
    txn: Txn, name: str, schema: Schema, encoders: dict[str, str], history: float = 0.0, records: Mapping[str, derived.Record] | None = None
) -> int:
    """Create a collection and return its number. history: seconds, see ``Meta``. records: see ``derived.begin``.

    Raises AlreadyExistsError, LimitError or SchemaError.
    """
    check_name(name, "collection")
    if not schema.vectors and not schema.attributes:
        raise SchemaError("a schema needs at least one field", field="schema")
    key = format.key(format.CATALOG, format.NAME, name.encode())
    stored = txn.get(key)
    if stored is not None:
        existing = Schema.from_dict(read_meta(txn, format.unpack_record(stored, "catalog")).schema)
        raise exists_already(name, schema, existing, False)
    stored = txn.get(format.key(format.CATALOG, format.ALIAS, name.encode()))
    if stored is not None:
        other = read_meta(txn, format.unpack_record(stored, "catalog")).name
        raise AlreadyExistsError(f"{shown(name)} is an alias of collection {shown(other)}", field="collection", value=name)
    number = claim(txn, name)
    fields = {field: format.FIRST_FIELD + i for i, field in enumerate((*schema.vectors, *schema.attributes))}
    rules = _newest_rules(schema.vectors, schema.attributes)
    write_meta(txn, number, Meta(name, schema.to_dict(), fields, encoders, 1, rules, history=history or 0))
    txn.put(format.key(number, format.STATE), format.pack_state(0, 0, 0))
    derived.begin(txn, number, fields, records or {})
    reach("collection.described")
    put_name(txn, name, number)
    return number


def claim(txn: Txn, name: str) -> int:
    """The number of a collection that is about to be created under a name that is free. Raises LimitError."""
    if len(names(txn)) >= MAX_COLLECTIONS:
        raise LimitError(f"a database has at most {MAX_COLLECTIONS} collections", field="collection", value=name)
    stored = txn.get(format.key(format.CATALOG, format.NEXT))
    return format.unpack_record(stored, "catalog") if stored else 1


def put_name(txn: Txn, name: str, number: int) -> None:
    """Enter a new collection, whose number was the next one."""
    txn.put(format.key(format.CATALOG, format.NAME, name.encode()), format.pack_record(number))
    reach("collection.named")
    txn.put(format.key(format.CATALOG, format.NEXT), format.pack_record(number + 1))


def drop(txn: Txn, name: str) -> None:
    """Remove a collection and everything in it. name: its own, which no alias is. Raises NotFoundError."""
    number = number_of(txn, name)
    txn.delete(format.key(format.CATALOG, format.NAME, name.encode()))
    reach("drop.unnamed")
    txn.delete(format.branch_key(number))
    for key in [key for key, _ in format.walk(txn, format.key(number, format.CHUNK))]:
        sharing.abandon(txn, key)
        reach("drop.removed")
    prefix = start = format.collection_prefix(number)
    cursor = txn.cursor()
    while cursor.set_range(start) and (key := bytes(cursor.key())).startswith(prefix):
        start = key
        if key[4:5] in (format.CHUNK, format.LENT):  # chunks that branches still read, and who does
            start = key + b"\0"
            continue
        txn.delete(key)
        reach("drop.removed")


def add_fields(
    txn: Txn,
    number: int,
    vectors: Mapping[str, VectorField],
    attributes: Mapping[str, AttributeType],
    encoders: Mapping[str, str],
    exist_ok: bool = False,
    records: Mapping[str, derived.Record] | None = None,
) -> Meta | None:
    """Add fields to a collection; existing rows lack them. exist_ok: see ``Schema.with_fields``. records: see ``derived.begin``; the
    vectors of a derived field without one are made in the background. Returns None if all fields exist.
    """
    meta = read_meta(txn, number)
    schema = schema_of(meta).with_fields(vectors, attributes, exist_ok=exist_ok)
    new = [name for name in (*vectors, *attributes) if name not in meta.fields]
    if not new:
        return None
    for name in new:
        spec = schema.vectors.get(name)
        sources = spec.derived.sources if spec is not None and spec.derived is not None else ()
        source = next((each for each in sources if meta.fields.get(each) in meta.migrating), None)
        if source is not None:
            what = f"vector field {name!r} can't be derived from {source!r} while that is being migrated to another encoder"
            raise PreconditionError(f"{what}; wait for it, or call cancel_migration({source!r}) first", field=name, value=source)
    if schema.tenant in new and format.unpack_state(txn.get(format.key(number, format.STATE)))[2]:
        what = f"{schema.tenant!r} can't be added, because every point must have a tenant and there are points already"
        raise SchemaError(f"{what}; create a new collection with it", field=schema.tenant, value=schema.attributes[schema.tenant])
    following = next_field(meta)
    fields = meta.fields | {field: following + i for i, field in enumerate(new)}
    rules = meta.rules | {name: rule for name, rule in _newest_rules(vectors, attributes).items() if name in new}
    changed = msgspec.structs.replace(
        meta, schema=schema.to_dict(), fields=fields, encoders={**encoders, **meta.encoders}, revision=meta.revision + 1, rules=rules
    )
    write_meta(txn, number, changed)
    state = txn.get(format.key(number, format.STATE))
    if state is not None and not format.unpack_state(state)[1]:
        derived.begin(txn, number, fields, {name: record for name, record in (records or {}).items() if name in new})
    reach("schema.described")
    return changed


def next_field(meta: Meta) -> int:
    """A field number that no field of the collection has or had."""
    return max(meta.next_field, 1 + max(meta.fields.values(), default=format.FIRST_FIELD - 1))


def ruled(spec: VectorField | AttributeType) -> bool:
    """Whether ``Meta.rules`` has an entry for such a field."""
    if isinstance(spec, VectorField):
        return spec.counts_words
    return attribute_forms.FORMS[spec.stored].follows_rule


def _newest_rules(vectors: Mapping[str, VectorField], attributes: Mapping[str, AttributeType]) -> dict[str, int]:
    return {name: RULE for name, spec in (*vectors.items(), *attributes.items()) if ruled(spec)}


def schema_of(meta: Meta) -> Schema:
    """The schema of a collection. Its ``earlier`` names the fields that follow the rules of an earlier version."""
    data = meta.schema
    for name, spec in data.get("vectors", {}).items():
        if name not in meta.rules and spec.get("kind") == "sparse" and "encoder" in spec and "weighting" not in spec:
            data = data | {"vectors": data["vectors"] | {name: spec | {"weighting": "none"}}}
    schema = Schema.from_dict(data)
    fields = (*schema.vectors.items(), *schema.attributes.items())
    earlier = frozenset(name for name, spec in fields if ruled(spec) and meta.rules.get(name, 1) < RULE)
    object.__setattr__(schema, "earlier", earlier)
    for name, spec in schema.attributes.items():
        if spec.analyzer is not None:  # it was just made, so it belongs to this schema alone
            object.__setattr__(spec.analyzer, "built", (name, meta.encoders.get(name)))
    return schema


def migrated(meta: Meta, schema: Schema) -> dict[int, VectorField]:
    """Number → definition of the new vectors of fields that are being migrated."""
    names = {number: name for name, number in meta.fields.items()}
    return {each.to: each.definition(schema.vectors[names[field]]) for field, each in meta.migrating.items() if field in names}


def bm25_fields(meta: Meta, schema: Schema) -> dict[int, str]:
    """Number → name of the BM25 fields that store term frequencies, text lengths, and counters of live texts."""
    return {meta.fields[name]: name for name in schema.vectors if schema.is_bm25(name)}


def read_meta(txn: Txn, number: int) -> Meta:
    """The descriptor of a collection. Raises NotFoundError if it was dropped."""
    value = txn.get(format.key(number, format.META))
    if value is None:
        raise NotFoundError("the collection was dropped", field="collection")
    return msgspec.convert(format.unpack_record(value, "collection"), Meta)


def write_meta(txn: Txn, number: int, meta: Meta) -> None:
    txn.put(format.key(number, format.META), format.pack_record(meta))
