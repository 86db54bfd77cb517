"""Derives the vectors of a derived field anew: of a field that was added, and of one that is fitted.

They are written under a new field number, a batch of rows in each transaction, while searches and writes go on under the old one. The
transaction that reaches the last row gives the number to the field's name. So a search sees vectors of one fit alone, and work that was
interrupted goes on where it ended (``Meta.deriving``, ``Record.done``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import structs
from pyroaring import BitMap
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.schema import Schema

from .. import fields
from ..common.failpoints import reach
from ..derivations import DERIVATIONS, sample
from ..engine import deriving, word_vectors
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..index.base import Cancelled
from ..storage import catalog, change_log, derived, format, history, segments
from ..storage.catalog import Meta
from ..storage.derived import Record
from ..storage.format import Txn
from ..storage.store import Store
from . import concepts
from .jobs import discard_unnamed
from .status import Progress

STEPS = (
    "derive.planned",
    "derive.batch",
    "derive.switched",
    "derive.committed",
)
# Constants: unit and meaning. Chosen, not measured.
ENOUGH_ROWS = 1_024  # with vectors of the source before a field is fitted in the background, at least
ENOUGH_FACTOR = 2  # times the dimensions of the source, likewise
LEAST_ROWS = 20  # of a fit that is asked for
BATCH_BYTES = 4 << 20  # of the source's vectors that one transaction derives
SAMPLE_NUMBERS = 1 << 26  # in the vectors of a sample, at most: 256 MiB
REPORT_ROWS = 5_000  # of the sample that shows how good a derivation is that learns nothing
REPORT_NUMBERS = 1 << 22  # in the vectors of it, at most
BREATH_SECONDS = 0.005  # pause after each transaction, so that other writers get their turn


def due(view: View) -> list[str]:
    """The derived fields that have work: vectors that are being derived, or none yet and enough rows to begin."""
    meta, names = view.snapshot.meta, []
    for name, spec in view.schema.vectors.items():
        if spec.derived is None:
            continue
        number = meta.fields[name]
        made = derived.is_made(view.txn, view.store.collection, number)
        if number in meta.deriving or not (made or (spec.derived.learned and not _enough(view, spec))):
            names.append(name)
    return names


def enough_rows(spec: Any) -> int:
    """The rows with vectors of its source that a field is fitted to without being asked, at least."""
    return max(ENOUGH_ROWS, ENOUGH_FACTOR * spec.source_dim, DERIVATIONS[spec.derived.name].least(spec.derived, spec))


def _enough(view: View, spec: Any) -> bool:
    least, source = enough_rows(spec), view.fields[spec.derived.source]
    if view.snapshot.table(view.store, source, format.FORWARD).present < least:
        return False
    return len(view.snapshot.live_between(view.store, source, 0, view.rows)) >= least


def holding(view: View) -> list[str]:
    """The learned fields that were fitted, or are being fitted, to rows that are dead now."""
    meta, names = view.snapshot.meta, []
    for name, spec in view.schema.vectors.items():
        if spec.derived is None or not spec.derived.learned:
            continue
        for number in (meta.fields[name], meta.deriving.get(meta.fields[name])):
            made = None if number is None else deriving.made_of(view.txn, view.store.collection, number)
            if made is not None and made.record.sample and view.dead.intersect(BitMap.deserialize(made.record.sample)):
                names.append(name)
                break
    return names


class Derive:
    """Works on one derived field of a collection. pin: makes a view. stop: says whether to end early."""

    def __init__(self, directory: Directory, number: int, pin: Callable[[], View], progress: Progress, stop: Callable[[], bool]):
        self._directory, self._number, self._pin = directory, number, pin
        self._progress, self._stop = progress, stop

    def run(self, name: str, anew: bool = False) -> None:
        """Derive all vectors of a field. anew: fit it to the points as they are now; otherwise go on with what was begun, if anything was.

        Raises Cancelled, InvalidArgumentError if there are too few points, or StorageError.
        """
        record = self._planned(name, anew)
        if record is not None:
            self._directory.write(lambda txn: self._begin(txn, name, record))
            reach("derive.planned")
        while True:
            if self._stop():
                raise Cancelled("derive")
            share, files = self._directory.write(lambda txn: self._batch(txn, name))
            if files is not None:
                reach("derive.committed")
                return discard_unnamed(self._directory, self._number, files)
            self._progress("rows", share)
            time.sleep(BREATH_SECONDS)

    def forget(self, name: str) -> None:
        """Take away what a field has learned, and its vectors. It is fitted again when there are enough points."""

        def work(txn: Txn) -> list[str]:
            store, meta, _ = self._opened(txn, name)
            self._abandon(store, meta, name)
            return self._switched(store, structs.replace(meta, deriving=_without(meta, name)), name, catalog.next_field(meta))

        discard_unnamed(self._directory, self._number, self._directory.write(work))

    def _planned(self, name: str, anew: bool) -> Record | None:
        """The record of a field that is derived anew, fitted to the points as they are now; None: go on with what was begun."""
        with self._pin() as view:
            if name not in view.fields or (view.fields[name] in view.snapshot.meta.deriving and not anew):
                return None
            spec: Any = view.schema.vectors[name]
            made, sequence = deriving.made_of(view.txn, self._number, view.fields[name]), view.sequence
            version = 1 if made is None else made.record.version + 1
            if not spec.derived.learned:
                return word_vectors.record(view.schema, name, view.snapshot.meta.encoders, version)
            source = view.schema.vectors[spec.derived.source]
            self._progress("sample", 0.0)
            docids, rows = sampled(view, name, spec.derived.sample)
            words = concepts.words_in(view, docids, spec.derived.seed) if spec.derived.steers else []
            names = concepts.named(view.txn, self._number, view.fields[name]) if spec.derived.steers else {}
        record = self._fitted(name, spec, source, docids, rows, version, sequence)
        return concepts.finished(record, spec, rows, words, made, names) if spec.derived.steers else record

    def _fitted(self, name: str, spec: Any, source: Any, docids: np.ndarray, rows: np.ndarray, version: int, sequence: int) -> Record:
        """The record of a fit to the vectors ``rows`` of the rows ``docids``."""
        method = DERIVATIONS[spec.derived.name]
        least = max(LEAST_ROWS, method.least(spec.derived, spec))
        if len(rows) < least:
            what = f"vector field {name!r} can't be fitted to {len(rows)} points with a vector of {spec.derived.source!r}"
            raise InvalidArgumentError(f"{what}; it needs {least}: write more points", field=name, value=len(rows))
        self._progress("fit", 0.0)
        queries = sample.held_out(len(rows))
        parts, facts = method.fit(spec.derived, spec, rows[: len(rows) - queries])
        vectors = method.derive(spec.derived, spec, parts, rows)
        facts = {"sample": len(rows) - queries, "held_out": queries, **_found(spec, source, rows, vectors, queries), **facts}
        used = BitMap(docids.tolist())
        return Record(spec.derived.to_dict(), version, sequence, derived.packed(parts), facts, used.serialize())

    def _opened(self, txn: Txn, name: str) -> tuple[Store, Meta, Schema]:
        """Raises NotFoundError or Cancelled if the collection or the field was dropped."""
        store, meta = Store(txn, self._number), catalog.read_meta(txn, self._number)
        schema = catalog.schema_of(meta)
        spec = schema.vectors.get(name)
        if spec is None or spec.derived is None:
            raise Cancelled("the field was removed")
        return store, meta, schema

    def _abandon(self, store: Store, meta: Meta, name: str) -> None:
        """Remove what was derived under a number that the field doesn't have yet."""
        pending = meta.deriving.get(meta.fields[name])
        if pending is not None:
            store.drop_chunks(pending)
            derived.remove(store.txn, self._number, pending)

    def _begin(self, txn: Txn, name: str, record: Record) -> None:
        store, meta, schema = self._opened(txn, name)
        if schema.vectors[name].derived.to_dict() != record.by:
            raise Cancelled("the field was replaced")
        self._abandon(store, meta, name)
        pending = catalog.next_field(meta)
        deriving_now = _without(meta, name) | {meta.fields[name]: pending}
        derived.write(txn, self._number, pending, record)
        catalog.write_meta(txn, self._number, structs.replace(meta, deriving=deriving_now, next_field=pending + 1))

    def _batch(self, txn: Txn, name: str) -> tuple[float, list[str] | None]:
        """Derive a batch of rows. Returns (the share of rows that is done, files that are no longer needed once the field is switched)."""
        store, meta, schema = self._opened(txn, name)
        pending = meta.deriving.get(meta.fields[name])
        made = None if pending is None else deriving.made_of(txn, self._number, pending)
        if pending is None or made is None:
            raise Cancelled("another process has done it")
        spec: Any = schema.vectors[name]
        rows, low = store.existing_state()[1], made.record.done
        high = min(rows, low + max(256, BATCH_BYTES // (4 * (spec.source_dim or spec.dim))))
        docids = np.arange(low, high, dtype=np.int64)
        column = None
        if spec.derived.of_attributes:
            held = [indexes for _, indexes, _ in store.chunks_with(format.ROWS_FIELD, format.FORWARD, docids)]  # not those compacted away
            docids = docids[np.sort(np.concatenate([*held, docids[:0]]))]
            column = deriving.attribute_column(spec, [row.attributes for row in store.rows(docids)]) if len(docids) else None
        elif len(docids):
            given = fields.read(store, meta.fields[spec.derived.source], schema.vectors[spec.derived.source], docids)
            column = None if given is None else deriving.column(spec, made, given)
        if column is not None:
            fields.write(store, pending, spec, column, docids[column.positions()], False)
        reach("derive.batch")
        if high < rows:
            derived.write(txn, self._number, pending, structs.replace(made.record, done=high))
            return high / rows, None
        derived.write(txn, self._number, pending, structs.replace(made.record, done=0))
        return 1.0, self._switched(store, structs.replace(meta, deriving=_without(meta, name)), name, pending)

    def _switched(self, store: Store, meta: Meta, name: str, new: int) -> list[str]:
        """Give a field its new number, and remove everything of the old one. Returns index files that no record names now."""
        txn, old = store.txn, meta.fields[name]
        files = segments.remove_field(txn, self._number, old)
        store.drop_chunks(old)
        words, before = concepts.named(txn, self._number, old), derived.read(txn, self._number, old)
        store.remove(format.field_key(self._number, format.TERM_WORD, old))  # words of terms that mean something else now
        derived.remove(txn, self._number, old)
        concepts.carry(txn, self._number, new, words, before)
        derived.add_words(txn, self._number, new, catalog.schema_of(meta).vectors[name].derived.to_dict())
        reach("derive.switched")
        fields_now = meta.fields | {name: new}
        changed = structs.replace(meta, fields=fields_now, revision=meta.revision + 1, next_field=max(catalog.next_field(meta), new + 1))
        catalog.write_meta(txn, self._number, changed)
        entry = {"op": "schema", "at": change_log.now(), "revision": changed.revision, "derived": new}
        store.touch(store.existing_state()[0] + 1, entry, history.limits(self._directory.change_log, meta))
        return files


def _without(meta: Meta, name: str) -> dict[int, int]:
    return {field: pending for field, pending in meta.deriving.items() if field != meta.fields[name]}


def sampled(view: View, name: str, most: int, numbers: int = SAMPLE_NUMBERS) -> tuple[np.ndarray, np.ndarray]:
    """(docids, int64 ascending; the vectors of the source, float32) of the sample that a field is fitted to. The vectors are in the order
    of ``sample.order_of``, so equal points give equal samples in equal order, in whatever order they were written.
    """
    spec: Any = view.schema.vectors[name]
    source, seed = spec.derived.source, getattr(spec.derived, "seed", 0)
    docids = view.snapshot.live_between(view.store, view.fields[source], 0, view.rows).astype(np.int64)
    most = max(min(most, numbers // spec.source_dim), 1)
    order = sample.order_of(view.ids(docids), seed)[:most] if len(docids) else np.empty(0, np.int64)
    chosen = docids[order]
    ascending = np.argsort(chosen)
    column: Any = view.vectors(source, chosen[ascending]) if len(chosen) else None
    if column is None:
        return chosen, np.empty((0, spec.source_dim), np.float32)
    rows = np.empty((len(chosen), spec.source_dim), np.float32)
    rows[ascending] = column.values
    return np.sort(chosen), rows


def _found(spec: Any, source: Any, rows: np.ndarray, vectors: Any, queries: int) -> dict[str, Any]:
    """How well derived vectors find the neighbours of the last ``queries`` rows, for the report."""
    if not DERIVATIONS[spec.derived.name].sparse:
        return {"recall_at_10": sample.recall(spec, source, rows, vectors, queries)}
    found = sample.recall_of_terms(source, rows, vectors, queries, spec.derived.k)
    return {"recall_at_10": found[spec.derived.k], "recall_by_terms": {str(k): each for k, each in found.items()}}


def report(view: View, name: str) -> dict[str, Any]:
    """What ``Collection.report`` returns."""
    spec: Any = view.schema.vectors[name]
    size = DERIVATIONS[spec.derived.name].size(spec.derived, spec)
    facts = {"field": name, **spec.derived.to_dict(), "dim": size, "source_dim": spec.source_dim, **deriving.facts(view, name)}
    if spec.derived.of_attributes:
        return {**facts, "rows": len(view.snapshot.live_between(view.store, view.fields[name], 0, view.rows))}
    made = deriving.made_of(view.txn, view.store.collection, view.fields[name])
    if made is not None and spec.derived.steers:
        facts |= concepts.told(view, name, made)
    if made is None or spec.derived.learned:
        return facts
    _, rows = sampled(view, name, REPORT_ROWS, REPORT_NUMBERS)
    if len(rows) >= LEAST_ROWS:
        queries = sample.held_out(len(rows))
        vectors = DERIVATIONS[spec.derived.name].derive(spec.derived, spec, made.parts, rows)
        source = view.schema.vectors[spec.derived.source]
        facts |= {"sample": len(rows) - queries, "held_out": queries, **_found(spec, source, rows, vectors, queries)}
    return facts


def check_fitted(schema: Schema, name: Any, learned: bool) -> None:
    """Raise SchemaError or InvalidArgumentError unless a field is derived, and with ``learned`` is fitted to points."""
    spec = schema.vector(name)
    if spec.derived is None:
        dense = [field for field, each in schema.vectors.items() if each.derived is not None]
        what = f"vector field {name!r} is not derived; the derived fields: {', '.join(dense) or 'none'}"
        raise InvalidArgumentError(what, field="field", value=name)
    if learned and not spec.derived.learned:
        what = f"vector field {name!r} is derived by {spec.derived.name!r}, which learns nothing from points; there is nothing to fit"
        raise InvalidArgumentError(what, field="field", value=name)
