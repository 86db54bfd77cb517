"""A collection: the writing half, on top of the reading half in ``reads``. ARCHITECTURE.md draws the path of each call."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import DeadlineError, InvalidArgumentError, PreconditionError
from vectordb_client.model.aliases import Durability, Span
from vectordb_client.model.alterations import altered
from vectordb_client.model.arguments import named
from vectordb_client.model.batch import Batch, Columns, make_batch
from vectordb_client.model.batch_ids import check_deleted_ids, check_not_a_filter, check_what, versions_of
from vectordb_client.model.checks import check_flag
from vectordb_client.model.history import check_history
from vectordb_client.model.migrations import check_migration
from vectordb_client.model.results import WriteResult
from vectordb_client.model.schema import AttributeType, VectorField, check_field_names, check_new_names
from vectordb_client.model.terms import check_derived_words, check_sparse, check_words
from vectordb_client.model.unset import UNSET
from vectordb_client.model.writing import Writing

from .engine import word_vectors
from .engine.apply import Applied, Delete, OvertakenError, Transaction, Write, apply, expire
from .engine.encoding import NO_TERMS, encoded, encoder_identities
from .filters import as_filter
from .index.base import check_options
from .maintenance import derive, migrate
from .maintenance.jobs import discard_unnamed
from .reads import Reads
from .storage import alterations, catalog, change_log, history, schema_changes, term_words
from .storage.format import Txn
from .storage.history import keep
from .storage.store import Store

MAX_KNOWN_TERMS = 1_000_000  # dictionary entries kept in memory for a field
MAX_WORDED_TERMS = 1 << 17  # for a field; the first terms that a process meets are the frequent ones


class Collection(Reads, Writing):
    """Points with named vectors, typed attributes and a JSON payload. Safe to share between threads.

    ``Database.collection`` and ``Database.create_collection`` return collections. A collection is also a container: ``len(docs)`` is the
    number of points, ``id in docs`` says whether a point exists, and ``for point in docs`` reads all points in the order of ids.

    Attributes:
        name: the name of the collection.
    """

    def _write(self, kind: str, points: Any, columns: Columns, durability: Durability | None) -> WriteResult:
        return self.apply_batch(make_batch(self.schema, kind, points, **columns._asdict()), durability)

    def _delete(self, ids: Any, filter: Any, if_version: Any, if_filter: Any, durability: Durability | None) -> WriteResult:
        result = self._commit(self._checked_delete(ids, filter, if_version, if_filter), durability)
        check_not_a_filter(ids, result.count)
        return result

    # The parts of a write, of which transactions are made, too

    def _checked_batch(self, kind: str, points: Any, columns: Columns) -> Batch:
        """The batch of an ``upsert`` or ``update``."""
        batch = make_batch(self.schema, kind, points, **columns._asdict())
        self._bind(batch)
        return batch

    def _bind(self, batch: Batch) -> None:
        """Raise FilterError if a filter of the batch doesn't fit the schema."""
        for condition in (batch.filter, batch.if_filter):
            self._filters.bind(condition, self.schema)

    def _checked_delete(self, ids: Any, filter: Any, if_version: Any, if_filter: Any) -> Delete:
        """The change that a ``delete`` makes."""
        check_what(ids, filter)
        schema = self.schema
        for condition in (filter, if_filter):
            self._filters.bind(condition, schema)
        checked = None
        if ids is not None:
            checked = check_deleted_ids(ids, if_version)
        elif if_version is not None:
            raise InvalidArgumentError("if_version needs ids", field="if_version", value=if_version)
        return Delete(checked, as_filter(filter), versions_of(if_version, checked or []), as_filter(if_filter), change_log.now())

    def apply_batch(self, batch: Batch, durability: Durability | None = None) -> WriteResult:
        """Encode the texts of a batch of ``make_batch`` and write it."""
        self._bind(batch)
        while True:
            try:
                return self._commit(self._change_of(batch), durability)
            except OvertakenError:  # at most once for each field, while it is converted
                continue

    def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, AttributeType] | None = None,
        exist_ok: bool = False,
    ) -> None:
        check_flag("exist_ok", exist_ok)
        whole = self.schema.with_fields(vectors, attributes, exist_ok=exist_ok)
        vectors, attributes = vectors or {}, attributes or {}
        identities = encoder_identities(whole, [*vectors, *attributes])
        check_options(vectors)
        new = [name for name in vectors if name not in self.schema.vectors]
        with self._snapshots.pin() as view:
            stored = view.snapshot.meta.encoders
        records = word_vectors.begun(whole, new, {**identities, **stored})
        time = change_log.now()

        def work(txn) -> None:
            store = Store(txn, self._number)
            meta = catalog.add_fields(txn, self._number, vectors, attributes, identities, exist_ok, records)
            if meta is not None:
                state = store.state()
                assert state is not None
                limits = history.limits(self._directory.change_log, meta)
                store.touch(state[0] + 1, {"op": "schema", "at": time, "revision": meta.revision}, limits)

        self._handle.write(work)
        if any(spec.derived is not None for spec in vectors.values()):
            self._maintainer.changed(self._number)

    def drop_fields(self, names: str | Sequence[str]) -> None:
        names = check_field_names(names)
        schema_changes.dropped(self.schema, names)

        def work(txn: Txn) -> list[str]:
            meta, files = schema_changes.drop_fields(txn, self._number, names)
            self._log_schema(txn, meta.revision)
            return files

        discard_unnamed(self._directory, self._number, self._handle.write(work))

    def rename_fields(self, names: Mapping[str, str]) -> None:
        names = check_new_names(names)
        schema_changes.renamed(self.schema, names)
        self._handle.write(lambda txn: self._log_schema(txn, schema_changes.rename_fields(txn, self._number, names).revision))

    def alter(self, *, attributes: Mapping[str, AttributeType] | None = None, ttl: Any = UNSET) -> None:
        altered(self.schema, attributes, ttl)
        time = change_log.now()

        def work(txn: Txn) -> None:
            expire(Transaction(txn, self._number, self._directory, self._snapshots.newest), time)  # or they might come back
            meta = alterations.alter(txn, self._number, attributes or {}, ttl)
            if meta is not None:
                self._log_schema(txn, meta.revision)

        self._handle.write(work)

    def _log_schema(self, txn: Txn, revision: int) -> None:
        store = Store(txn, self._number)
        state = store.state()
        assert state is not None
        limits = history.limits(self._directory.change_log, catalog.read_meta(txn, self._number))
        store.touch(state[0] + 1, {"op": "schema", "at": change_log.now(), "revision": revision}, limits)

    def keep_history(self, history: Span | None) -> None:
        seconds = check_history("history", history)
        self._handle.write(lambda txn: keep(txn, self._number, seconds))

    def set_terms(self, field: str, terms: Mapping[int, str | None], *, durability: Durability | None = None) -> int:
        words = check_words(terms)
        with self._snapshots.pin() as view:
            number = view.fields[check_sparse(view.schema, field)]
            check_derived_words(view.schema, field, words)
        work = functools.partial(term_words.change, collection=self._number, field=number, words=words)
        return self._handle.write(work, durability)

    def _commit(self, change: Write | Delete, durability: Durability | None) -> WriteResult:
        applied = self._handle.write(lambda txn: self._apply(txn, change), durability)
        self._committed(change, applied)
        return applied.result

    def _change_of(self, write: Batch | Delete) -> Write | Delete:
        """What ``apply`` takes: a batch with its texts encoded, or a deletion."""
        return write if isinstance(write, Delete) else encoded(write, self._snapshots, self._worded)

    def _apply(self, txn: Txn, change: Write | Delete) -> Applied:
        """Apply a change in a write transaction. Its errors leave the transaction to be undone."""
        return apply(txn, self._number, change, self._directory, self._snapshots.newest)

    def _committed(self, change: Write | Delete, applied: Applied) -> None:
        """Remember what a committed change has numbered and named, and tell maintenance of it."""
        worded, encoded_for = (change.words, change.encoded) if isinstance(change, Write) else ({}, {})
        for name, words in worded.items():
            place = name, encoded_for[name]
            stored = self._worded.get(place, NO_TERMS)
            if len(stored) < MAX_WORDED_TERMS:
                # If two threads add terms at the same time, some are lost here; those are looked up again.
                self._worded[place] = np.union1d(stored, np.fromiter(words, np.uint64, len(words)))
        newest = self._snapshots.newest
        if newest is not None:
            for field, numbered in applied.used.items():
                known = newest.known.setdefault(field, {})
                if len(known) < MAX_KNOWN_TERMS:
                    known.update(numbered)
        self._maintainer.wrote(self._number, applied.result.count)

    def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        self._handle.check_writable()
        return self._maintainer.optimize(self._number, wait, timeout)

    @named
    def fit(self, field: str, *, timeout: float | None = None) -> dict[str, Any]:
        derive.check_fitted(self.schema, field, learned=True)
        self._handle.check_writable()
        return self._maintainer.fit(self._number, field, timeout)

    @named
    def migrate(
        self,
        field: str,
        encoder: str,
        *,
        anchors: int = 2000,
        seed: int = 0,
        encode: bool = True,
        dry_run: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        check_migration(field, encoder, anchors, seed, encode, dry_run, wait, timeout)
        begun = time.monotonic()
        with self._snapshots.pin() as view:
            view.schema.vector(field)
            going_on = migrate.going_on(view, field, encoder, encode)
        if going_on is not None and not dry_run:
            self._handle.check_writable()
            report = dict(going_on.record.report)
        else:
            if not dry_run:
                self._handle.check_writable()
            planned = migrate.plan(self._snapshots.pin, field, encoder, anchors, seed, encode)
            if planned is None:
                return {**self.migration(field), "encoder": encoder}
            report = dict(planned.record.report)
            if dry_run:
                return report | {"state": "planned"}
            self._handle.write(lambda txn: migrate.begin(txn, self._number, field, planned))
        self._maintainer.changed(self._number)
        if wait:
            left = None if timeout is None else max(timeout - (time.monotonic() - begun), 0.0)
            try:
                self._maintainer.migrate(self._number, field, left)
            except DeadlineError as error:
                if error.field != "timeout":
                    raise
                what = f"the migration of vector field {field!r} isn't done after {timeout:g} s; it goes on in the background, "
                raise DeadlineError(f"{what}and the same call waits for it again", field="timeout", value=timeout) from None
        state = self.migration(field)
        if wait and state["answers"] != report["to"]:
            what = f"the migration of vector field {field!r} was cancelled"
            raise PreconditionError(what, field="field", value=field)
        return report | {"state": state["state"], **({"mapped": state["mapped"]} if wait else {})}

    @named
    def cancel_migration(self, field: str) -> bool:
        with self._snapshots.pin() as view:
            view.schema.vector(field)
        self._handle.check_writable()
        files = self._handle.write(lambda txn: migrate.cancel(txn, self._number, field))
        discard_unnamed(self._directory, self._number, files or ())
        return files is not None

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        self._handle.check_writable()
        return self._maintainer.purge((self._number,), timeout)
