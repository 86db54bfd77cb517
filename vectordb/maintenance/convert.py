"""Converts fields of earlier versions: they are written again, under a new field number, from the texts of live rows.

Chunks, dictionary, words of terms and index files belong to a field number. So old and new ones can't be confused, and one transaction
that gives the new number to the field's name replaces everything at once. Texts are encoded before that transaction, except those that
were written meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from msgspec.structs import replace
from pyroaring import BitMap
from vectordb_client.errors import EncoderError
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.schema import Schema, Sparse

from .. import encoders, fields
from ..common.failpoints import reach
from ..common.tokenize import RULE, words
from ..encoders.bm25 import FrozenBM25
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..storage import attribute_forms, catalog, change_log, format, history, segments, term_words
from ..storage.catalog import Meta
from ..storage.change_log import Limits
from ..storage.store import Store
from .jobs import discard_unnamed

STEPS = (
    "convert.written",
    "convert.removed",
    "convert.committed",
)
log = logging.getLogger("vectordb.maintenance")
_ROWS = 2_000  # rows encoded at a time
_TOLERANCE = 1e-3  # largest relative difference between a stored weight and the formula's


class KeptError(Exception):
    """Says why a field is not converted."""


@dataclass(frozen=True)
class _Made:
    """The encoded texts of rows ``docids``: term frequencies, and the words of the terms."""

    docids: np.ndarray
    column: SparseColumn
    words: dict[int, str]


def wanted(schema: Schema) -> list[str]:
    """Names of the fields whose definition allows a conversion."""
    specs = {**schema.vectors, **schema.attributes}
    return [name for name in specs if name in schema.earlier and (name in schema.attributes or _convertible(specs[name]))]


def _convertible(spec: Sparse) -> bool:
    return spec.weighting == "idf" and spec.source is not None and not spec.binary


def convert(directory: Directory, number: int, pin: Callable[[int], View], stopped: Callable[[], bool]) -> list[str]:
    """Convert all fields of a collection for which it is possible; returns their names. The reasons for others are logged.

    Raises CorruptionError or StorageError; fields that were converted before stay converted.
    """
    with pin(number) as view:
        names = wanted(view.schema)
    done = []
    for name in names:
        if stopped():
            break
        try:
            with pin(number) as view:
                work = _prepared(view, name)
            files = directory.write(work)
        except (KeptError, EncoderError) as error:
            log.info("field %r of collection %d keeps the format of an earlier version: %s", name, number, error)
            continue
        reach("convert.committed")
        discard_unnamed(directory, number, files)
        done.append(name)
    return done


def _prepared(view: View, name: str) -> Callable[[Any], list[str]]:
    """The work of the transaction that converts a field. Raises KeptError or EncoderError."""
    number = view.store.collection
    if name in view.schema.attributes:
        differs = _differ(view.store, name, view.dead, 0)
        return lambda txn: _convert_text(txn, number, name, differs, view.rows, view.directory.change_log)
    spec, meta = cast(Sparse, view.schema.vectors[name]), view.snapshot.meta
    before = encoders.load_as(cast(str, spec.encoder), meta.encoders[name])
    if not isinstance(before, FrozenBM25):
        raise KeptError(f"it was written by the encoder {meta.encoders[name]}, which is not installed")
    encoded = list(_encoded(view.store, meta.fields[name], spec, before, view.dead, 0))
    return lambda txn: _convert_bm25(txn, number, name, before, encoded, view.rows, view.directory.change_log)


def _differ(store: Store, name: str, dead: BitMap, first: int) -> bool:
    """Whether the current rules give other words for the text of any live row from ``first`` on."""
    for _, values in _values(store, name, dead, first):
        for value in values:
            for text in [value] if isinstance(value, str) else value or ():
                if not text.isascii() and words(text) != words(text, 1):
                    return True
    return False


def _values(store: Store, name: str, dead: BitMap, first: int = 0) -> Iterator[tuple[np.ndarray, list]]:
    """(docids, stored values of an attribute) of live rows from ``first`` on, in batches."""
    for docids in _live(store, format.ROWS_FIELD, dead, first):
        yield docids, [row.attributes.get(name) for row in store.rows(docids)]


def _live(store: Store, field: int, dead: BitMap, first: int) -> Iterator[np.ndarray]:
    """Docids of a field's live rows from ``first`` on, ascending, in batches."""
    tombstones = np.asarray(dead.to_array(), np.int64)
    for docids in store.docids_of(field, format.FORWARD):
        docids = docids[docids >= first]
        docids = docids[~np.isin(docids, tombstones, assume_unique=True)]
        for low in range(0, len(docids), _ROWS):
            yield docids[low : low + _ROWS]


def _encoded(store: Store, field: int, spec: Sparse, before: FrozenBM25, dead: BitMap, first: int) -> Iterator[_Made]:
    """Encode the texts of a field's live rows from ``first`` on. Raises KeptError if a vector was not made from its text."""
    encoder = encoders.load(cast(str, spec.encoder))
    for docids in _live(store, field, dead, first):
        records = store.rows(docids)
        texts: list[Any] = [row.attributes.get(spec.source) for row in records]
        old = cast(SparseColumn, fields.read(store, field, spec, docids))
        for row in _made_by_hand(before, texts, old)[:1].tolist():
            raise KeptError(f"the vector of point {records[row].id!r} wasn't made from {spec.source!r}")
        encoded = encoder.encode_documents(texts)
        assert encoded.words is not None
        yield _Made(docids, cast(SparseColumn, encoded.column), encoded.words(np.empty(0, np.uint64)))


def _made_by_hand(before: FrozenBM25, texts: list, old: SparseColumn) -> np.ndarray:
    """Which rows hold vectors that the encoder did not make from their texts: other terms, or weights that no mean length explains."""
    counted = before.frequencies([text or "" for text in texts])
    sizes = np.diff(old.indptr)
    silent = np.array([not isinstance(text, str) for text in texts])
    wrong = silent | (sizes != np.diff(counted.indptr))
    rows = np.repeat(np.arange(len(sizes)), sizes)
    if wrong.any() or not np.array_equal(old.terms, counted.terms):
        if not wrong.any():
            wrong[rows[old.terms != counted.terms]] = True
        return np.flatnonzero(wrong)
    frequencies = counted.weights.astype(np.float64)
    norms = frequencies * ((before.k1 + 1) / old.weights.astype(np.float64) - 1)  # equal for all terms of a row that the encoder wrote
    mean = np.bincount(rows, norms, len(sizes)) / np.maximum(sizes, 1)
    expected = frequencies * (before.k1 + 1) / (frequencies + mean[rows])
    wrong[rows[np.abs(expected - old.weights) > _TOLERANCE * expected]] = True
    return np.flatnonzero(wrong)


def _convert_bm25(txn, number: int, name: str, before: FrozenBM25, encoded: list[_Made], rows: int, limits: Limits) -> list[str]:
    """Convert a BM25 field. encoded: encoded texts of rows below ``rows``. Returns files that are no longer needed. Raises KeptError before
    it writes anything.
    """
    store, meta, schema, dead = _opened(txn, number, name)
    spec, old = cast(Sparse, schema.vectors[name]), meta.fields[name]
    encoded = [*encoded, *_encoded(store, old, spec, before, dead, rows)]
    new = catalog.next_field(meta)
    for part in encoded:
        alive = ~np.isin(part.docids, np.asarray(dead.to_array(), np.int64))
        if alive.any():
            column = part.column if alive.all() else part.column.take(np.flatnonzero(alive))
            fields.write(store, new, spec, column, part.docids[alive], bm25=True)
    reach("convert.written")
    term_words.copy(txn, number, old, new)
    for part in encoded:
        term_words.add(txn, number, new, part.words)
    encoder = encoders.load(cast(str, spec.encoder))
    return _finished(store, replace(meta, encoders=meta.encoders | {name: encoder.identity}), name, new, limits)


def _convert_text(txn, number: int, name: str, differs: bool, rows: int, limits: Limits) -> list[str]:
    """Convert a Text attribute. differs: some text of rows below ``rows`` has other words now; if none has, only the rule is written.
    Returns no files.
    """
    store, meta, schema, dead = _opened(txn, number, name)
    if not differs and not _differ(store, name, dead, rows):
        return _finished(store, meta, name, meta.fields[name], limits)
    new, numbers = catalog.next_field(meta), {}
    for docids, values in _values(store, name, dead):
        parts, used = attribute_forms.write(txn, number, new, schema.attributes[name], values, docids, numbers, RULE)
        numbers |= used
        for part, chunk in parts.items():
            store.append(new, part, chunk)
    reach("convert.written")
    return _finished(store, meta, name, new, limits)


def _opened(txn, number: int, name: str) -> tuple[Store, Meta, Schema, BitMap]:
    meta = catalog.read_meta(txn, number)
    schema = catalog.schema_of(meta)
    if name not in schema.earlier:
        raise KeptError("it was converted by another process")
    store = Store(txn, number)
    return store, meta, schema, store.tombstones()


def _finished(store: Store, meta: Meta, name: str, new: int, limits: Limits) -> list[str]:
    """Give a field its new number and rule, and remove everything of the old number. Returns index files that no record names now."""
    txn, old, files = store.txn, meta.fields[name], []
    rewritten = new != old
    if rewritten:
        files = segments.remove_field(txn, store.collection, old)
        store.drop_chunks(old)
        for kind in (format.TERMS, format.TERM_COUNT, format.ENCODER, format.TERM_WORD):
            store.remove(format.field_key(store.collection, kind, old))
        reach("convert.removed")
    changed = replace(meta, fields=meta.fields | {name: new}, rules=meta.rules | {name: RULE}, revision=meta.revision + 1)
    if rewritten:  # without the rows that are dead now
        changed = history.ended(changed, store.existing_state()[0] + 1)
    catalog.write_meta(txn, store.collection, changed)
    if rewritten:  # results may change
        entry = {"op": "schema", "at": change_log.now(), "revision": changed.revision}
        store.touch(store.existing_state()[0] + 1, entry, history.limits(limits, meta))
    return files


def recount(txn, number: int) -> None:
    """Count the texts of fields that were not converted again, so that their counters contain nothing of deleted texts."""
    store, meta = Store(txn, number), catalog.read_meta(txn, number)
    schema, dead = catalog.schema_of(meta), store.tombstones()
    for name, spec in schema.vectors.items():
        if name not in schema.earlier:
            continue
        field, total = meta.fields[name], {"documents": 0, "words": 0}
        store.remove(format.field_key(number, format.ENCODER, field))
        try:
            before = encoders.load_as(cast(str, spec.encoder), meta.encoders[name])
        except EncoderError:
            before = None
        if not isinstance(before, FrozenBM25) or spec.source is None:
            continue
        for docids in _live(store, field, dead, 0):
            texts = [row.attributes.get(spec.source) or "" for row in store.rows(docids)]
            counted = before.counters(before.frequencies(texts).sums())
            total = {key: total[key] + counted[key] for key in total}
        if total["documents"]:
            store.add_encoder_state(field, total)
