"""Applies one checked change inside a write transaction. Deterministic: the same changes in the same order give the same bytes.

Everything that can fail (a missing id, a precondition) is checked before the first write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import NotFoundError, PreconditionError, shown
from vectordb_client.model.batch import UNSET, Batch
from vectordb_client.model.fields import Column
from vectordb_client.model.results import WriteResult
from vectordb_client.model.values import Id

from .. import fields
from ..common import clock
from ..filters import as_filter
from ..filters.bitmap import matching
from ..filters.canonical import canonical
from ..storage import branches, catalog, expiry, history, migrations, term_words
from ..storage.attribute_forms import Ordinals
from ..storage.catalog import Meta
from ..storage.format import Txn
from ..storage.store import Store
from . import deriving, tenants
from .batches import change_values, changed_payloads, repeated, taken
from .directory import Directory
from .many_sources import ManySources
from .snapshot import Snapshot, View


@dataclass(frozen=True)
class Delete:
    """Points to delete, by id or by filter. tenant: only points of this tenant; None: of all."""

    ids: Sequence[Id] | None = None
    filter: Any = None
    if_version: Sequence[int | None] | None = None
    if_filter: Any = None
    at: int = 0  # time of the call, Unix time in milliseconds
    tenant: str | None = None


@dataclass(frozen=True)
class Write:
    """A batch, the counters of its encoders (field name → counters to add), and the words of its terms (field name → term → word).

    at: time of the call, Unix time in milliseconds.
    encoded: field name → the field number that the batch was made for, of fields that it uses or that have an encoder.
    late: fields to encode when the whole attributes of the rows of an update are known.
    """

    batch: Batch
    counted: Mapping[str, dict] = field(default_factory=dict)
    words: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    at: int = 0
    encoded: Mapping[str, int] = field(default_factory=dict)
    late: Sequence[ManySources] = ()


class OvertakenError(Exception):
    """A field was converted after the batch was encoded for it. The batch must be encoded again."""


@dataclass(frozen=True)
class Applied:
    """The result of a change: its receipt, and the term numbers it used, which may be cached once it is committed."""

    result: WriteResult
    used: Mapping[int, Ordinals] = field(default_factory=dict)


class Transaction:
    """A collection inside a write transaction. newest: a snapshot of this process, which saves reading what did not change."""

    def __init__(self, txn: Txn, collection: int, directory: Directory, newest: Snapshot | None):
        self.txn = txn
        self.directory = directory
        self.collection = collection
        self.newest = newest
        self.store = Store(txn, collection)
        self.meta: Meta = catalog.read_meta(txn, collection)
        self.limits = history.limits(directory.change_log, self.meta)
        self.schema = catalog.schema_of(self.meta) if newest is None or newest.meta.revision != self.meta.revision else newest.schema
        self.sequence = self.store.existing_state()[0] + 1

    def matching(self, condition: Any) -> BitMap:
        """Live rows that match a filter, including earlier changes of this transaction."""
        snapshot = Snapshot.read(self.txn, self.collection, self.directory, self.newest)
        view = View(self.directory, self.txn, snapshot, self.collection)
        return matching(canonical(as_filter(condition), self.schema), view, None)


def apply(txn: Txn, collection: int, change: Write | Delete, directory: Directory, newest: Snapshot | None = None) -> Applied:
    """Apply one change. newest: a snapshot of this process, which only saves work.

    Raises NotFoundError, PreconditionError or OvertakenError before it writes anything.
    """
    inside = Transaction(txn, collection, directory, newest)
    expire(inside, change.at)
    return _delete(inside, change) if isinstance(change, Delete) else _write(inside, change)


def expire(inside: Transaction, at: int) -> int:
    """Delete the points whose moment has come, as one batch; returns how many. at: Unix time in milliseconds, for the change log."""
    if inside.schema.ttl is None:
        return 0
    docids, _ = expiry.due(inside.txn, inside.collection, clock.now())
    if docids:
        listed = np.asarray(docids.to_array(), np.int64)
        ids = [row.id for row in inside.store.rows(listed)]
        bm25 = catalog.bm25_fields(inside.meta, inside.schema)
        inside.store.delete_rows(inside.sequence, ids, listed.tolist(), bm25, at, inside.limits, inside.schema)
        inside.sequence += 1
    return len(docids)


def _check(inside: Transaction, ids: Sequence[Id], entries: Sequence, if_version: Sequence | None, if_filter: Any) -> None:
    if if_version is not None:
        for value, entry, wanted in zip(ids, entries, if_version, strict=True):
            version = 0 if entry is None else entry[1]
            if wanted is not None and wanted != version:
                if not version:
                    state = f"doesn't exist (expected version {wanted})"
                else:
                    state = f"is at version {version}, not at version {wanted}" if wanted else f"exists already (version {version})"
                raise PreconditionError(f"if_version: point {shown(value)} {state}", field="if_version", value=value)
    if if_filter is not None:
        allowed = inside.matching(if_filter)
        for value, entry in zip(ids, entries, strict=True):
            if entry is None or entry[0] not in allowed:
                raise PreconditionError(f"if_filter: point {shown(value)} doesn't match the filter", field="if_filter", value=value)


def _write(inside: Transaction, change: Write) -> Applied:
    batch, store, schema = change.batch, inside.store, inside.schema
    if any(inside.meta.fields.get(name) != number for name, number in change.encoded.items()):
        raise OvertakenError
    if batch.filter is not None:
        return _update_matching(inside, change)
    entries: Sequence = store.entries(batch.ids)
    if schema.tenant is not None:
        entries = tenants.check(store, schema.tenant, batch, entries)
    if batch.if_absent and any(entries):
        missing = [row for row, entry in enumerate(entries) if entry is None]
        batch, entries = taken(batch, missing), [None] * len(missing)
    if batch.kind == "update":
        for value, entry in zip(batch.ids, entries, strict=True):
            if entry is None:
                raise NotFoundError(f"there is no point {shown(value)} to update", field="ids", value=value)
    _check(inside, batch.ids, entries, batch.if_version, batch.if_filter)
    if not batch.ids:
        return Applied(WriteResult(inside.sequence - 1, 0))
    branches.note(inside.txn, inside.collection, batch.ids, entries)
    replaced = [entry[0] for entry in entries if entry is not None]
    words = dict(change.words)
    if batch.kind == "update":
        vectors, attributes, payloads = _updated(inside, batch, np.array(replaced, dtype=np.int64), change.late, words)
    else:
        vectors, attributes, payloads = batch.vectors, _by_row(batch), batch.payload or [None] * len(batch.ids)
    vectors = deriving.with_derived(inside.txn, inside.collection, inside.meta, schema, vectors, attributes)
    columns = batch.attributes if batch.kind == "upsert" else {name: [row.get(name) for row in attributes] for name in schema.attributes}
    known = {} if inside.newest is None else inside.newest.known

    def write_vectors(docids: np.ndarray) -> None:
        for name, column in vectors.items():
            if len(column):
                covered = docids if column.rows is None else docids[column.rows]
                fields.write(store, inside.meta.fields[name], schema.vectors[name], column, covered, schema.is_bm25(name))
        if batch.kind == "update" and inside.meta.mapped:
            _carry_mapped(inside, batch, zip(replaced, docids.tolist(), strict=True))

    used, _ = store.write_rows(
        inside.meta,
        schema,
        inside.sequence,
        batch.ids,
        attributes,
        payloads,
        write_vectors,
        columns,
        replaced,
        known,
        change.at,
        inside.limits,
    )
    for name, counted in change.counted.items():
        store.add_encoder_state(inside.meta.fields[name], counted)
    for name, new in words.items():
        term_words.add(inside.txn, inside.collection, inside.meta.fields[name], new)
    return Applied(WriteResult(inside.sequence, len(batch.ids)), used)


def _carry_mapped(inside: Transaction, batch: Batch, pairs: Iterable[tuple[int, int]]) -> None:
    """Remember which rows of an update have taken over vectors that a migration has mapped. pairs: (old docid, new docid)."""
    rows = list(pairs)
    for name, number in inside.meta.fields.items():
        if number in inside.meta.mapped:
            given = set() if name not in batch.vectors else set(batch.vectors[name].positions().tolist())
            migrations.carry(inside.store, inside.meta, number, [pair for row, pair in enumerate(rows) if row not in given])


def _update_matching(inside: Transaction, change: Write) -> Applied:
    docids = np.asarray(inside.matching(change.batch.filter).to_array(), dtype=np.int64)
    ids = [row.id for row in inside.store.rows(docids)]
    count, applied = 0, Applied(WriteResult(inside.sequence - 1, 0))
    for batch in repeated(change.batch, ids):
        counted = {name: {key: value * len(batch.ids) for key, value in each.items()} for name, each in change.counted.items()}
        applied = _write(inside, replace(change, batch=batch, counted=counted))
        inside.sequence += 1
        count += applied.result.count
    return Applied(WriteResult(applied.result.sequence, count), applied.used)


def _by_row(batch: Batch) -> list[dict]:
    """The attributes as one dict per point, without nulls."""
    rows: list[dict] = [{} for _ in batch.ids]
    for name, values in batch.attributes.items():
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[name] = value
    return rows


def _updated(
    inside: Transaction, batch: Batch, docids: np.ndarray, late: Sequence[ManySources], words: dict[str, Mapping[int, str]]
) -> tuple[dict[str, Column], list[dict], list]:
    """Complete rows for an update: the stored values, replaced where the batch has new ones. late: fields to encode from the complete
    attributes; the words of their terms are added to ``words``.
    """
    order = np.argsort(docids)
    rows: list = [None] * len(docids)
    for row, record in zip(order.tolist(), inside.store.rows(docids[order]), strict=True):
        rows[row] = record
    for name, values in batch.attributes.items():
        for row, value in zip(rows, values, strict=True):
            if value is None:
                row.attributes.pop(name, None)
            elif value is not UNSET:
                row.attributes[name] = value
    change_values(batch, inside.schema, rows)
    for field_of_many in late:
        batch, words[field_of_many.name] = field_of_many.encode(batch, [row.attributes for row in rows])
    payloads = [row.payload for row in rows]
    if batch.payload is not None:
        payloads = [old if new is UNSET else new for old, new in zip(payloads, batch.payload, strict=True)]
    if batch.keys:
        payloads = changed_payloads(batch, payloads)
    vectors: dict[str, Column] = {}
    everything = np.arange(len(docids), dtype=np.int32)
    for name, spec in inside.schema.vectors.items():
        if spec.derived is not None:
            continue
        new = batch.vectors.get(name)
        if new is not None and new.rows is None:
            vectors[name] = new
            continue
        old = fields.read(inside.store, inside.meta.fields[name], spec, docids[order])
        if old is not None:  # its row numbers refer to the sorted docids: translate them to the batch's order
            rows_of_old = order[old.rows]
            old = old.take(np.argsort(rows_of_old), np.sort(rows_of_old).astype(np.int32))
            named = np.concatenate([batch.removed.get(name, everything[:0]), everything[:0] if new is None else new.positions()])
            old = old.without(named)
        column = new if old is None else old.overlaid(new)
        if column is not None:
            vectors[name] = column
    return vectors, [row.attributes for row in rows], payloads


def _delete(inside: Transaction, change: Delete) -> Applied:
    store, tenant = inside.store, inside.schema.tenant
    ids: Sequence[Id]
    entries: Sequence
    if change.ids is not None:
        ids, entries = change.ids, store.entries(change.ids)
        if tenant is not None:
            entries = tenants.seen(store, tenant, change.tenant, entries)
    else:
        docids = np.asarray(inside.matching(change.filter).to_array(), dtype=np.int64)
        ids = [row.id for row in store.rows(docids)]
        entries = store.entries(ids)
    _check(inside, ids, entries, change.if_version, change.if_filter)
    existing = [(value, entry[0]) for value, entry in zip(ids, entries, strict=True) if entry is not None]
    if not existing:
        return Applied(WriteResult(inside.sequence - 1, 0))
    branches.note(inside.txn, inside.collection, ids, entries)
    bm25 = catalog.bm25_fields(inside.meta, inside.schema)
    store.delete_rows(
        inside.sequence,
        [value for value, _ in existing],
        [docid for _, docid in existing],
        bm25,
        change.at,
        inside.limits,
        inside.schema,
    )
    return Applied(WriteResult(inside.sequence, len(existing)))
