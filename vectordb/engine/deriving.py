"""Vectors of derived fields: made of those of their source inside the transaction that writes a row, and of queries.

A field is *ready* when its number has a record (``storage/derived.py``). Before that it has no vectors and can't be searched: it waits to
be fitted, or its vectors are being made in the background (``maintenance/derive.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import InvalidArgumentError, PreconditionError
from vectordb_client.model.fields import Column
from vectordb_client.model.norms import COSINE_NORMS, MAX_NORM
from vectordb_client.model.of_source import TopTerms
from vectordb_client.model.schema import Schema
from vectordb_client.model.vectors import query_vector

from ..derivations import DERIVATIONS, Parts, lengths
from ..fields.base import writable
from ..storage import derived, format, term_words
from ..storage.catalog import Meta
from ..storage.derived import Record
from ..storage.format import Txn

KEPT = 64  # records that are kept decoded in a process


class Made(NamedTuple):
    """A record, and its arrays."""

    record: Record
    parts: Parts


class _Kept:
    """The bytes of a record, equal to those with the same checksum."""

    def __init__(self, value: format.Stored):
        self.value = value
        self.checksum = bytes(value[:8])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


@lru_cache(KEPT)
def _decoded(kept: _Kept) -> Made:
    record = derived.unpack(kept.value)
    kept.value = b""  # the bytes belong to a transaction
    return Made(record, record.parts)


def made_of(txn: Txn, collection: int, field: int) -> Made | None:
    """By what the vectors of a field number are made; None: it isn't ready. Raises CorruptionError."""
    value = derived.stored(txn, collection, field)
    return None if value is None else _decoded(_Kept(value))


def column(spec: Any, made: Made, source: Any) -> Column | None:
    """The derived column of a source's column; None if no row has a vector. Rows whose derived vector the metric doesn't allow have
    none.
    """
    rows = writable(source.values.astype(np.float32, copy=False))
    method = DERIVATIONS[spec.derived.name]
    values = method.derive(spec.derived, spec, made.parts, rows)
    if method.sparse:
        return _with_terms(values, source)
    values = np.ascontiguousarray(values, spec.dtype)
    low, high = COSINE_NORMS if spec.metric == "cosine" else (0.0, MAX_NORM)
    norms = lengths(values)
    usable = np.isfinite(norms) & (norms >= low) & (norms <= high)
    if usable.all():
        return type(source)(values, source.rows)
    kept = np.flatnonzero(usable)
    return type(source)(values[kept], source.positions()[kept]) if len(kept) else None


def _with_terms(codes: Column, source: Any) -> Column | None:
    """The column of sparse vectors, one for each of the source's. Rows without a term have no vector."""
    kept = np.flatnonzero(np.diff(codes.indptr))  # type: ignore[attr-defined]
    if len(kept) == len(source):
        return codes.with_rows(source.rows)
    return codes.take(kept, source.positions()[kept]) if len(kept) else None


def attribute_column(spec: Any, rows: Sequence[Mapping[str, Any]]) -> Column | None:
    """The column of a field that is derived from attributes. rows: the stored attributes of each point. None if no row has a vector."""
    given: Any = rows
    values = DERIVATIONS[spec.derived.name].derive(spec.derived, spec, {}, given)
    kept = np.flatnonzero(values.any(axis=1))
    if not len(kept):
        return None
    values = np.ascontiguousarray(values[kept], spec.dtype)
    return spec.column(values, None if len(kept) == len(rows) else kept.astype(np.int32))


def with_derived(
    txn: Txn, collection: int, meta: Meta, schema: Schema, vectors: Mapping[str, Column], attributes: Sequence[Mapping[str, Any]]
) -> dict[str, Column]:
    """The vectors of the rows of a write, with those of derived fields. attributes: those of each row, as they are stored."""
    whole = {name: each for name, each in vectors.items() if schema.vectors[name].derived is None}
    for name, spec in schema.vectors.items():
        if spec.derived is not None and spec.derived.of_attributes:
            new = attribute_column(spec, attributes) if attributes and made_of(txn, collection, meta.fields[name]) is not None else None
            if new is not None:
                whole[name] = new
            continue
        source = None if spec.derived is None else whole.get(spec.derived.source)
        made = None if source is None or not len(source) else made_of(txn, collection, meta.fields[name])
        new = None if made is None else column(spec, made, source)
        if new is not None:
            whole[name] = new
    return whole


def queries(view: Any, field: str, given: Iterable[Any]) -> list[Any]:
    """Checked queries of a derived field, those given as vectors of its source derived. view: an ``engine.snapshot.View``.

    Raises PreconditionError if the field isn't ready, InvalidArgumentError for a derived query that the metric doesn't allow.
    """
    spec = view.schema.vectors[field]
    made = ready(view, field)
    asked = list(given)
    method = DERIVATIONS[spec.derived.name]
    for q, query in enumerate(asked):
        if method.sparse:
            asked[q] = _terms_of(spec, made, query)
            continue
        if isinstance(query, np.ndarray) and query.shape == (spec.source_dim,):
            (vector,) = method.derive(spec.derived, spec, made.parts, writable(query.reshape(1, -1)))
            try:
                asked[q] = query_vector(field, spec, vector)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{error.message} (as it is derived)", field=field, value=error.value) from None
    return asked


def _terms_of(spec: Any, made: Made, query: Any) -> Any:
    """The terms and weights of a checked query of a sparse field; one that has them already is returned as it is."""
    if isinstance(query, tuple):
        return query
    vector, most = (query.vector, query.k) if isinstance(query, TopTerms) else (query, None)
    rows = writable(np.asarray(vector, np.float32).reshape(1, -1))
    terms, weights = DERIVATIONS[spec.derived.name].derive(spec.derived, spec, made.parts, rows).vector(0)
    if most is not None and most < len(terms):
        kept = np.sort(np.argsort(-np.abs(weights), kind="stable")[:most])
        terms, weights = terms[kept], weights[kept]
    return terms, weights


def ready(view: Any, field: str) -> Made:
    """By what the vectors of a derived field are made. Raises PreconditionError if it isn't ready."""
    made = made_of(view.txn, view.store.collection, view.fields[field])
    if made is None:
        spec = view.schema.vectors[field]
        what = f"vector field {field!r} has no vectors yet: "
        if view.fields[field] in view.snapshot.meta.deriving or not spec.derived.learned:
            read = " and ".join(map(repr, spec.derived.sources))
            what += f"they are being derived from {read}; info() shows the progress, optimize() waits for them"
        else:
            what += f"it is not fitted to the vectors of {spec.derived.source!r}; call fit({field!r}), or write more points"
        raise PreconditionError(what, field=field)
    return made


def words_of(txn: Txn, collection: int, field: int, terms: Iterable[int]) -> dict[int, str]:
    """term → word, for those of the terms of a field number that have one; else the label that a fit gave."""
    asked = list(terms)
    labels = labels_of(txn, collection, field)
    found = {term: labels[term] for term in asked if term < len(labels) and labels[term]}
    return found | term_words.read(txn, collection, field, asked)


def labels_of(txn: Txn, collection: int, field: int) -> list[str]:
    """The labels that the fit of a field number gave to its terms; empty where there are none."""
    made = made_of(txn, collection, field)
    return [] if made is None else made.record.labels


def page_of_words(txn: Txn, collection: int, field: int, after: int | None, limit: int) -> dict[int, str]:
    """``term_words.page`` with the labels of terms that have no word."""
    words = term_words.page(txn, collection, field, after, limit)
    labels = labels_of(txn, collection, field)
    if not labels:
        return words
    first = 0 if after is None else after + 1
    both = {term: label for term, label in enumerate(labels[first:], first) if label} | words
    return {term: both[term] for term in sorted(both)[:limit]}


def facts(view: Any, field: str) -> dict[str, Any]:
    """state of a derived field: "ready"; "deriving": its first vectors are being made; "refitting": new ones are, and the old ones are
    searched meanwhile; "waiting": for points, or for ``fit``. Of work under way share, of the rows. Of a fit version, sequence, the facts
    of ``Record.report``, and deleted_since, how many rows of its sample are dead now. Of words encoder, the identity of what encoded them.
    """
    number, learned = view.fields[field], view.schema.vectors[field].derived.learned
    made, pending = made_of(view.txn, view.store.collection, number), view.snapshot.meta.deriving.get(number)
    told: dict[str, Any] = {"state": "ready" if made is not None else "waiting" if learned else "deriving"}
    if pending is not None:
        begun = made_of(view.txn, view.store.collection, pending)
        told["state"] = "deriving" if made is None else "refitting"
        told["share"] = round(begun.record.done / max(view.rows, 1), 4) if begun is not None else 0.0
    if made is not None and learned:
        record = made.record
        told |= {"version": record.version, "sequence": record.sequence, **record.report}
        told["deleted_since"] = len(view.dead & BitMap.deserialize(record.sample))
    elif made is not None:
        told |= made.record.report
    return told
