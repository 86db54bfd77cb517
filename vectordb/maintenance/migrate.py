"""Migrations: brings a dense field to another encoder while searches and writes go on with the one that it has.

The new vectors are written under a field number of their own, a batch of rows in each transaction: texts are encoded outside of it. Rows
without a text get mapped vectors. Then their index is built, and one transaction gives the number to the field's name. So a search sees
vectors of one encoder alone, and whatever is interrupted goes on where it ended (``Meta.migrating``, ``Record.done``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs
from pyroaring import BitMap
from vectordb_client.errors import InvalidArgumentError, PreconditionError, listing
from vectordb_client.model.fields import DenseColumn
from vectordb_client.model.filter import F
from vectordb_client.model.norms import COSINE_NORMS, MAX_NORM
from vectordb_client.model.schema import Schema

from .. import encoders, fields
from ..common import deadline
from ..common.failpoints import reach
from ..derivations import lengths, maps, sample
from ..encoders import Encoder
from ..engine import migrating
from ..engine.directory import Directory
from ..engine.encoding import load_encoder
from ..engine.migrating import Begun
from ..engine.snapshot import Snapshot, View
from ..filters.bitmap import matching
from ..filters.canonical import canonical
from ..index.base import Cancelled, kinds_of
from ..storage import catalog, change_log, derived, format, history, migrations, segments
from ..storage.catalog import Meta, Migrating
from ..storage.format import Txn
from ..storage.migrations import Record
from ..storage.schema_changes import described
from ..storage.store import Store
from . import policy
from .jobs import discard_unnamed
from .policy import Build
from .status import Progress

STEPS = (
    "migrate.begun",
    "migrate.encoded",
    "migrate.batch",
    "migrate.filled",
    "migrate.switched",
    "migrate.committed",
)
# Constants: unit and meaning. Chosen, not measured.
SLICE_SECONDS = 1.0  # of work, after which other jobs of maintenance get their turn
BATCH_ROWS = 1_024  # that one transaction writes, at most
TEXTS = 64  # encoded at a time
CATCH_UP_ROWS = migrating.FEW_ROWS  # written since the last batch, that are encoded while writers wait
CATCH_UP_MOST = 4_096  # the same after many attempts
ATTEMPTS = 8  # after which other jobs get their turn
BREATH_SECONDS = 0.005  # pause after each transaction, so that other writers get their turn


class Planned(NamedTuple):
    """A migration that can begin. number: of the field now. old: the identity of its encoder."""

    number: int
    old: str
    each: Migrating
    record: Record


class _Batch(NamedTuple):
    """Rows whose new vectors are to be made. docids (int64, ascending) have the old vectors ``values``. texts: position → text to encode.
    dead: of each row, bool. mapped: whether its old vector is a mapped one.
    """

    low: int
    high: int
    docids: np.ndarray
    values: np.ndarray
    texts: dict[int, str]
    dead: np.ndarray
    mapped: np.ndarray
    begun: Begun
    foreign: bool  # whether the old vectors are of another encoder


class _Made(NamedTuple):
    """New vectors of rows. high: docids below are done."""

    high: int
    docids: np.ndarray
    values: np.ndarray
    mapped: np.ndarray
    encoded: int


def due(view: View) -> list[str]:
    """The fields whose migration is under way."""
    meta = view.snapshot.meta
    return [name for name in view.schema.vectors if meta.fields[name] in meta.migrating]


# Planning


def check(view: View, name: Any, encoder: str) -> tuple[Any, Encoder]:
    """(the new definition of a field, its new encoder). Raises SchemaError, EncoderError or InvalidArgumentError if it can't be
    migrated.
    """
    spec: Any = view.schema.vector(name)
    where = f"vector field {name!r}"
    if spec.derived is not None:
        what = f"{where} is derived from {' and '.join(map(repr, spec.derived.sources))}"
        what += ", which are attributes; it has no encoder" if spec.derived.of_attributes else "; migrate that field"
        raise InvalidArgumentError(what, field="field", value=name)
    if spec.encoder is None or spec.source is None:
        lacks = "has no encoder" if spec.encoder is None else "has an encoder, but no source, so the texts of its points aren't known"
        what = f"{where} {lacks}; add a field with encoder= and source=, and write the vectors of your points into it"
        raise InvalidArgumentError(what, field="field", value=name)
    if spec.kind != DenseColumn.message:
        what = f"{where} is {spec.kind}; only dense fields can be migrated. Add a new field with the other encoder instead"
        raise InvalidArgumentError(what, field="field", value=name)
    _check_source_of_none(view.schema, name)
    made = encoders.load(encoder)
    if made.kind != spec.kind:
        what = f"encoder {encoder!r} makes {made.kind} vectors, but {where} is {spec.kind}; name an encoder of {spec.kind} vectors"
        raise InvalidArgumentError(what, field="encoder", value=encoder)
    if made.dim is None:
        raise InvalidArgumentError(f"encoder {encoder!r} doesn't say how many dimensions it makes", field="encoder", value=encoder)
    new = Migrating(0, made.dim, encoder, made.identity).definition(spec)
    made.check(new)
    return new, made


def _check_source_of_none(schema: Schema, name: str) -> None:
    below = [field for field, each in schema.vectors.items() if each.derived is not None and each.derived.source == name]
    if below:
        what = f"vector field {name!r} is the source of {listing(below)}, which would have to be derived anew"
        raise InvalidArgumentError(f"{what}; drop it, migrate, and add it again", field="field", value=name)


def going_on(view: View, name: str, encoder: str, encode: bool) -> Begun | None:
    """The migration of a field that is under way; None if there is none. Raises PreconditionError if it isn't the one that is asked for."""
    begun = migrating.begun(view, name)
    if begun is None:
        return None
    if begun.record.encoder != encoder or begun.record.encode != encode:
        what = f"vector field {name!r} is being migrated to {begun.record.encoder!r}"
        if begun.record.encoder == encoder:
            what += f" with encode={begun.record.encode}"
        raise PreconditionError(f"{what}; wait for it, or call cancel_migration({name!r}) first", field="field", value=name)
    return begun


def plan(pin: Callable[[], View], name: str, encoder: str, anchors: int, seed: int, encode: bool) -> Planned | None:
    """How a field will be migrated, with a map that is fitted to ``anchors`` points; None if it has the encoder, and no mapped vector whose
    text could be encoded. Nothing is written. Raises as ``check`` does, and InvalidArgumentError if too few points can be anchors.
    """
    with pin() as view:
        new, made = check(view, name, encoder)
        spec: Any = view.schema.vectors[name]
        number, meta = view.fields[name], view.snapshot.meta
        old = meta.encoders[name]
        there = BitMap(view.snapshot.live_between(view.store, number, 0, view.rows))
        texts = there & matching(canonical(F(spec.source).is_not_null(), view.schema), view, None)
        mapped = there & migrations.mapped_rows(view.txn, view.store.collection, meta, number)
        told = {"field": name, "encoder": encoder, "from": old, "to": made.identity, "dim": new.dim, "encode": encode}
        told |= {"rows": len(there), "rows_with_text": len(texts)}
        each = Migrating(0, new.dim, encoder, made.identity)
        if old == made.identity:
            if not (encode and mapped & texts):
                return None
            return Planned(number, old, each, Record(encoder, encode, told | {"anchors": 0, "held_out": 0, "map": None}))
        docids, rows, words = _anchors(view, name, texts - mapped, anchors, seed)
    after, present = _encoded(made, words)
    kept = np.flatnonzero(present)
    if len(kept) < maps.LEAST and not (encode and len(texts) == len(there)):
        what = f"vector field {name!r} has {len(kept)} points with a text that was encoded; a map to another encoder needs {maps.LEAST}"
        raise InvalidArgumentError(f"{what}: write more of them, or give the vectors in a new field", field=name, value=len(kept))
    if len(kept) < maps.LEAST:  # every row has a text, so nothing needs to be mapped
        return Planned(number, old, each, Record(encoder, encode, told | {"anchors": 0, "held_out": 0, "map": None}))
    fit = maps.fit(spec, new, rows[kept], after[kept])
    held = maps.held_out(len(kept))
    told |= {"anchors": len(kept) - held, "held_out": held, **fit.facts}
    used = BitMap(docids[kept[: len(kept) - held]].tolist())
    return Planned(number, old, each, Record(encoder, encode, told, derived.packed(fit.parts), used.serialize()))


def _anchors(view: View, name: str, rows: BitMap, most: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(docids, their old vectors, their texts) of the sample, in the order of ``sample.order_of``: equal points give an equal sample."""
    docids = np.asarray(rows.to_array(), np.int64)
    spec: Any = view.schema.vectors[name]
    chosen = docids[sample.order_of(view.ids(docids), seed)[:most]] if len(docids) else docids
    if not len(chosen):
        return chosen, np.empty((0, spec.dim), np.float32), []
    ascending = np.argsort(chosen)
    column: Any = view.vectors(name, chosen[ascending])
    values = np.empty((len(chosen), spec.dim), np.float32)
    values[ascending] = column.values
    return chosen, values, [record.attributes[spec.source] for record in view.records(chosen.tolist())]


def _encoded(encoder: Encoder, texts: Sequence[str], wanted: Callable[[], bool] = lambda: True) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, float32 ``(m, dim)``; whether each text has one, bool) of the first m texts. wanted: whether to encode more."""
    dim: Any = encoder.dim
    values, present = np.zeros((len(texts), dim), np.float32), np.zeros(len(texts), np.bool_)
    for low in range(0, len(texts), TEXTS):
        deadline.check()
        if low and not wanted():
            return values[:low], present[:low]
        column: Any = encoder.encode_documents(texts[low : low + TEXTS]).column
        places = low + column.positions()
        values[places], present[places] = column.values, True
    return values, present


# Beginning and cancelling


def begin(txn: Txn, number: int, name: str, planned: Planned) -> None:
    """Write the records of a migration. Raises PreconditionError if the field has changed since it was planned, InvalidArgumentError if
    another field is derived from it now.
    """
    meta = catalog.read_meta(txn, number)
    field = meta.fields.get(name)
    if field != planned.number or meta.encoders.get(name) != planned.old or field in meta.migrating:
        what = f"vector field {name!r} was changed by another call meanwhile; call migrate again"
        raise PreconditionError(what, field="field", value=name)
    _check_source_of_none(catalog.schema_of(meta), name)  # one may have been added since it was planned
    pending = catalog.next_field(meta)
    migrations.write(txn, number, pending, planned.record)
    under_way = meta.migrating | {field: structs.replace(planned.each, to=pending)}
    catalog.write_meta(txn, number, structs.replace(meta, migrating=under_way, next_field=pending + 1))
    reach("migrate.begun")


def cancel(txn: Txn, number: int, name: str) -> list[str] | None:
    """Remove everything of a migration; the field stays as it is. Returns index files that no record names now; None: none is under way."""
    meta = catalog.read_meta(txn, number)
    field = meta.fields.get(name, 0)
    each = meta.migrating.get(field)
    if each is None:
        return None
    files = segments.remove_field(txn, number, each.to)
    migrations.abandon(Store(txn, number), each.to)
    catalog.write_meta(txn, number, structs.replace(meta, migrating=_without(meta, field)))
    return files


def _without(meta: Meta, field: int) -> dict[int, Migrating]:
    return {number: each for number, each in meta.migrating.items() if number != field}


# The work


class Migrate:
    """Works on the migrations of a collection. pin: makes a view. build: builds an index file. stop: says whether to end early."""

    def __init__(
        self,
        directory: Directory,
        number: int,
        pin: Callable[[], View],
        build: Callable[[Build], Any],
        progress: Progress,
        stop: Callable[[], bool],
    ):
        self._directory, self._number, self._pin, self._build = directory, number, pin, build
        self._progress, self._stop = progress, stop
        self._end = 0.0
        self._attempts = 0  # how often all rows that there were had their vectors

    def run(self, name: str, seconds: float = SLICE_SECONDS) -> bool:
        """Go on with the migration of a field for about so many seconds, or until an index file is built. Returns whether it is finished,
        or was cancelled.

        Raises Cancelled, EncoderError, PreconditionError or StorageError.
        """
        self._end = time.monotonic() + seconds
        while not self._advance(name):
            if self._stop():
                raise Cancelled("migrate")
            if time.monotonic() >= self._end and not 0 < self._attempts <= ATTEMPTS:
                return False
            time.sleep(BREATH_SECONDS)
        return True

    def _advance(self, name: str) -> bool:
        """Do the next piece of work. Returns whether there is nothing left to do."""
        batch = task = None
        with self._pin() as view:
            begun = migrating.begun(view, name)
            if begun is None:
                return True
            if view.rows - begun.record.done > self._few:
                batch = _batch(view, name, begun, BATCH_ROWS)
            elif kinds_of(begun.new):
                due_build = policy.next_build(name, begun.each.to, begun.new, policy.survey(view, begun.each.to), True)
                task = None if due_build is None else due_build[1]
            rows, share = view.rows, begun.record.done / max(view.rows, 1)
        self._progress("rows", share)
        if batch is not None:
            made = self._made(name, batch)
            reach("migrate.encoded")
            self._directory.write(lambda txn: self._write(txn, name, batch, made))
            self._attempts += made.high == rows
            return False
        if task is not None:
            reach("migrate.filled")
            try:
                self._build(task)
            except Cancelled:  # the migration was cancelled, or its new rows have changed: look again
                if self._stop():
                    raise
            return False
        files = self._directory.write(lambda txn: self._finished(txn, name))
        if files is None:
            self._attempts += 1
            return False
        reach("migrate.committed")
        discard_unnamed(self._directory, self._number, files)
        return True

    @property
    def _few(self) -> int:
        """Rows that may be left when the field is switched: more after each attempt, so that writers can't keep it from ending."""
        return min(CATCH_UP_ROWS << self._attempts, CATCH_UP_MOST)

    def _made(self, name: str, batch: _Batch, hurry: bool = False) -> _Made:
        """The new vectors of a batch, of which the end may be left for later. hurry: make all."""
        spec, new, each, record = batch.begun.spec, batch.begun.new, batch.begun.each, batch.begun.record
        encoder, places = load_encoder(name, new, each.identity), np.array([*batch.texts], np.int64)
        texts = list(batch.texts.values())
        wanted = (lambda: True) if hurry else (lambda: time.monotonic() < self._end and not self._stop())
        values, present = _encoded(encoder, texts, wanted) if texts else (np.empty((0, new.dim), np.float32), np.empty(0, np.bool_))
        n, high = len(batch.docids), batch.high
        if len(present) < len(texts):  # the first row that is left for later
            n = int(places[len(present)])
            high = int(batch.docids[n])
        given, parts = batch.values[:n], record.parts
        encoded = np.zeros(n, np.bool_)
        encoded[places[: len(present)][present]] = True
        usable = np.ones(n, np.bool_)
        if not batch.foreign:
            whole = given.astype(np.float32)
        elif parts:
            whole = maps.mapped(spec, parts, given)
        else:
            whole, usable = np.zeros((n, new.dim), np.float32), encoded.copy()
            lost = np.flatnonzero(~encoded & ~batch.dead[:n])
            if len(lost):
                what = f"vector field {name!r} can't be migrated: a point that was written meanwhile has no text, and there is no map"
                raise PreconditionError(f"{what}; cancel_migration({name!r}), then call migrate again", field="field", value=name)
        whole[encoded] = values[present]
        whole = np.ascontiguousarray(whole, new.dtype)
        sizes = lengths(whole)
        low, most = COSINE_NORMS if new.metric == "cosine" else (0.0, MAX_NORM)
        usable &= np.isfinite(sizes) & (sizes >= low) & (sizes <= most)
        mapped = usable & ~encoded & (batch.mapped[:n] | batch.foreign)
        return _Made(high, batch.docids[:n][usable], whole[usable], batch.docids[:n][mapped], int(encoded.sum()))

    def _write(self, txn: Txn, name: str, batch: _Batch, made: _Made) -> Record | None:
        """Write the vectors of a batch, unless another process has done it, or the migration was cancelled. Returns the new record."""
        store, each, new = Store(txn, self._number), batch.begun.each, batch.begun.new
        meta = catalog.read_meta(txn, self._number)
        record = migrations.read(txn, self._number, each.to)
        if meta.migrating.get(meta.fields.get(name, 0)) != each or record is None or record.done != batch.low:
            return None
        if len(made.docids):
            fields.write(store, each.to, new, DenseColumn(made.values, None), made.docids, False)
        rows = record.rows
        rows.update(made.mapped.tolist())
        record = structs.replace(record, done=made.high, encoded=record.encoded + made.encoded, mapped=rows.serialize() if rows else b"")
        migrations.write(txn, self._number, each.to, record)
        reach("migrate.batch")
        return record

    def _finished(self, txn: Txn, name: str) -> list[str] | None:
        """Write the rows that are left, and switch. Returns index files that no record names now; None: too many rows are left."""
        view = View(self._directory, txn, Snapshot.read(txn, self._number, self._directory, None, ages=False), self._number)
        begun = migrating.begun(view, name)
        if begun is None:
            return []
        left, record = view.rows - begun.record.done, begun.record
        if left > self._few:
            return None
        if left:
            batch = _batch(view, name, begun, left)
            made = self._made(name, batch, hurry=True)
            written = self._write(txn, name, batch, made)
            assert written is not None
            record = written
        return self._switched(view, name, begun, record)

    def _switched(self, view: View, name: str, begun: Begun, record: Record) -> list[str]:
        """Give a field its new number, definition and encoder, and remove everything of the old number."""
        txn, meta, store, old, new = view.txn, view.snapshot.meta, view.store, begun.number, begun.each.to
        files = segments.remove_field(txn, self._number, old)
        store.drop_chunks(old)
        for kind in (format.ENCODER, format.TERM_WORD, format.MIGRATION):
            store.remove(format.field_key(self._number, kind, old))
        mapped = record.rows - view.dead
        if mapped:
            left = structs.replace(record, arrays={}, sample=b"", done=0, encoded=0, mapped=mapped.serialize())
            migrations.write(txn, self._number, new, left)
        else:
            migrations.remove(txn, self._number, new)
        reach("migrate.switched")
        numbers = [field for field in meta.mapped if field != old] + ([new] if mapped else [])
        meta = structs.replace(meta, migrating=_without(meta, old), mapped=numbers)
        schema = migrating.with_definition(view.schema, name, begun.new)
        encoders_now = meta.encoders | {name: begun.each.identity}
        changed = described(store, meta, schema, meta.fields | {name: new}, encoders_now, meta.rules)
        entry = {"op": "schema", "at": change_log.now(), "revision": changed.revision}
        store.touch(store.existing_state()[0] + 1, entry, history.limits(self._directory.change_log, meta))
        return files


def _batch(view: View, name: str, begun: Begun, most: int) -> _Batch:
    """The next rows whose new vectors are to be made."""
    number, spec, record, meta = begun.number, begun.spec, begun.record, view.snapshot.meta
    low, high = record.done, min(view.rows, record.done + most)
    docids = np.arange(low, high, dtype=np.int64)
    column: Any = view.vectors(name, docids)
    foreign = meta.encoders[name] != begun.each.identity
    if column is None:
        none = np.empty(0, np.bool_)
        return _Batch(low, high, docids[:0], np.empty((0, spec.dim), np.float32), {}, none, none, begun, foreign)
    docids = docids[column.positions()]
    known = migrations.mapped_rows(view.txn, view.store.collection, meta, number)
    dead = np.fromiter((docid in view.dead for docid in docids.tolist()), np.bool_, len(docids))
    mapped = np.fromiter((docid in known for docid in docids.tolist()), np.bool_, len(docids))
    texts = {}
    if record.encode:
        rows = np.flatnonzero(~dead & (mapped | foreign))
        for place, row in zip(rows.tolist(), view.records(docids[rows].tolist()), strict=True):
            text = row.attributes.get(spec.source)
            if isinstance(text, str):
                texts[place] = text
    return _Batch(low, high, docids, column.values.astype(np.float32), texts, dead, mapped, begun, foreign)
