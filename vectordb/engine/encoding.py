"""Encoding the texts of a batch into vectors before it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from vectordb_client.errors import EncoderError, InvalidArgumentError, SchemaError, shown
from vectordb_client.model.batch import Batch
from vectordb_client.model.schema import Schema, stored_alike
from vectordb_client.model.terms import is_word
from vectordb_client.model.write_options import EVERY

from .. import encoders
from ..common import analyze, deadline
from ..fields import FIELD_TYPES
from ..storage import change_log
from .apply import Write
from .many_sources import ManySources
from .snapshot import Snapshots, View

MAX_FREQUENCY = 1 << 24  # of a term in a text: float32 represents every whole number up to it
MAX_LENGTH = (1 << 32) - 1  # words of a text
NO_TERMS = np.empty(0, np.uint64)


def encoded(batch: Batch, snapshots: Snapshots, worded: Mapping[tuple[str, int], np.ndarray]) -> Write:
    """The batch with its texts encoded, for every field with an encoder and a source.

    worded: (field, its number) → terms (ascending) whose words are known to be stored; ``words`` of the result holds those of other
    terms.
    """
    with snapshots.pin() as view:
        schema, made = view.schema, {}
        _check_fields(batch, schema)
        used = (*batch.vectors, *batch.removed, *batch.attributes, *batch.increments)
        encoded = {name: view.fields[name] for name in used if name in view.fields}
        encoded |= {name: view.fields[name] for name, spec in view.schema.vectors.items() if spec.encoder is not None}
        for name in batch.vectors:
            if view.schema.is_bm25(name):
                _check_frequencies(name, batch)
        several = _several(view, batch, worded)
        for name, spec in view.schema.vectors.items():
            if spec.source is None or spec.source not in batch.attributes:
                continue
            rows = _rows_to_encode(batch, name, batch.attributes[spec.source])
            if rows:
                made[name] = (spec, rows, view.store.encoder_state(view.fields[name]), view.snapshot.meta.encoders[name])
    vectors, removed, counted, words = dict(batch.vectors), dict(batch.removed), {}, {}
    for name, (spec, rows, state, identity) in made.items():
        deadline.check()
        texts = [batch.attributes[spec.source][row] for row in rows]
        column, counters, words_but = load_encoder(name, spec, identity).encode_documents(texts, state)
        if counters:
            counted[name] = counters
        new = words_but(worded.get((name, encoded[name]), NO_TERMS)) if words_but is not None else None
        if new:
            words[name] = {term: word for term, word in new.items() if is_word(word)}
        places = np.array(rows, dtype=np.int32)
        covered = places if column.rows is None else places[column.rows]
        column = column.with_rows(covered)
        given = vectors.get(name)
        vectors[name] = column if given is None else given.overlaid(column)
        if batch.kind == "update":  # a text without terms removes the vector of the old text
            silent = np.setdiff1d(places, covered).astype(np.int32)
            removed[name] = np.union1d(removed.get(name, silent), silent).astype(np.int32)
    if batch.kind == "update":
        for name, spec in schema.vectors.items():
            if spec.source in batch.attributes and spec.source is not None:
                gone = [row for row, text in enumerate(batch.attributes[spec.source]) if text is None]
                given = set() if name not in batch.vectors else set(batch.vectors[name].positions().tolist())
                gone = np.array([row for row in gone if row not in given], dtype=np.int32)
                removed[name] = np.union1d(removed.get(name, gone), gone).astype(np.int32)
    reduced = {name: FIELD_TYPES[schema.vectors[name].kind].reduced(schema.vectors[name], column) for name, column in vectors.items()}
    batch = replace(batch, vectors=reduced, removed=removed)
    if batch.kind == "update":
        return Write(batch, counted, words, change_log.now(), encoded, several)
    for field in several:
        given = {source: batch.attributes[source] for source in field.sources if source in batch.attributes}
        rows = [{source: values[row] for source, values in given.items()} for row in range(len(batch.ids))]
        batch, words[field.name] = field.encode(batch, rows)
    return Write(batch, counted, words, change_log.now(), encoded)


def _several(view: View, batch: Batch, worded: Mapping[tuple[str, int], np.ndarray]) -> list[ManySources]:
    """The encodings of fields that read several attributes, of which the batch gives some."""
    fields = []
    for name, spec in view.schema.vectors.items():
        if len(spec.reads) and spec.source is None:
            encoder = load_encoder(name, spec, view.snapshot.meta.encoders[name])
            field = ManySources(name, cast(Any, spec).sources, encoder, worded.get((name, view.fields[name]), NO_TERMS))
            fields += [field] if field.touched(batch) else []
    return fields


def _check_fields(batch: Batch, schema: Schema) -> None:
    """Raise SchemaError if a field of the batch was dropped, renamed or replaced since the batch was checked."""
    if batch.schema is None or batch.schema is schema:
        return
    for name in (*batch.vectors, *batch.removed, *batch.attributes, *batch.increments):
        before, now = (each.vectors.get(name) or each.attributes.get(name) for each in (batch.schema, schema))
        if before is None or now is None or not stored_alike(before, now):
            raise SchemaError(f"field {name!r} was dropped, renamed or replaced meanwhile", field=name)


def _check_frequencies(name: str, batch: Batch) -> None:
    """Raise InvalidArgumentError if the vectors of a BM25 field are not term frequencies."""
    column: Any = batch.vectors[name]
    weights = column.weights
    bad = np.flatnonzero(~((weights >= 1) & (weights <= MAX_FREQUENCY) & (weights == np.floor(weights))))
    rule = "the vector of a BM25 field holds the frequency of each term"
    if len(bad):
        row, term, value = np.searchsorted(column.indptr, bad[0], side="right") - 1, int(column.terms[bad[0]]), float(weights[bad[0]])
        wrong = f"has {value:g} for term {term}; {rule}: whole numbers from 1 to {MAX_FREQUENCY}. Leave the vector out to encode the text"
    else:
        lengths = column.sums()
        if lengths.max(initial=0) <= MAX_LENGTH:
            return
        row, value = lengths.argmax(), int(lengths.max())
        wrong = f"adds up to {value} words; {rule}, and they add up to at most {MAX_LENGTH}"
    point = EVERY if batch.filter is not None else batch.ids[int(column.positions()[row])]
    raise InvalidArgumentError(f"vector {name!r} of point {shown(point)} {wrong}", field=name, value=value)


def _rows_to_encode(batch: Batch, name: str, texts: Sequence) -> list[int]:
    """Rows that have a text and no vector."""
    given = set() if name not in batch.vectors else set(batch.vectors[name].positions().tolist())
    return [row for row, text in enumerate(texts) if isinstance(text, str) and row not in given]


def encoder_identities(schema: Schema, names: Iterable[str] | None = None) -> dict[str, str]:
    """Field → identity of its encoder, or of its analyzer. names: the fields to look at; None: all.

    Raises EncoderError if an encoder is unknown or doesn't fit its field, and SchemaError for an analyzer that can't be made.
    """
    identities, chosen = {}, None if names is None else frozenset(names)
    for name, spec in schema.attributes.items():
        if spec.analyzer is not None and (chosen is None or name in chosen):
            try:
                identities[name] = analyze.analysis(spec.analyzer).identity
            except SchemaError as error:
                raise SchemaError(f"attribute {name!r}: {error.message}", field=name, value=error.value) from None
    for name, spec in schema.vectors.items():
        if chosen is not None and name not in chosen:
            continue
        if spec.encoder is not None:
            encoder = encoders.of_field(spec)
            encoder.check(spec)
            identities[name] = encoder.identity
    return identities


def load_encoder(name: str, spec, identity: str) -> encoders.Encoder:
    """The encoder of a field. Raises EncoderError if it isn't the one the field was built with, because their vectors can't be compared."""
    function = encoders.functions.called(identity)
    if function is not None and encoders.functions.find(function) is None:
        what = f"vector field {name!r} is encoded by the Python function {function!r}, which isn't given here; give vectors in place of "
        what += f"texts, or open the database with vectordb.open(path, encoders={{{function!r}: function}}). A service can't call it"
        raise EncoderError(what, field=name, value=function)
    if spec.analyzer is None:
        encoder = encoders.load_as(spec.encoder, identity)
    else:
        encoder = encoders.of_field(spec)
        encoder = encoder if encoder.identity == identity else None
    if encoder is None:
        installed = encoders.of_field(spec).identity
        raise EncoderError(
            f"vector field {name!r} was built with encoder {identity}, but {installed} is installed: their vectors can't be compared",
            field=name,
            value=installed,
        )
    return encoder
