"""Vectors of any field type: written columns and queries, checked by the column class of the field's type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, shown
from .fields import Column, VectorField
from .fields.base import cause, text_given, text_written, unreadable
from .foreign import listed, read_with, size_of
from .schema import Schema
from .values import text_of


def opened(name: str, spec: VectorField, value: Any) -> Any:
    """A column of vectors as an array, a sparse matrix, or a list with None for points without a vector. Raises InvalidArgumentError."""
    if isinstance(value, Column):
        return value
    if isinstance(value, str):
        raise text_written(name, spec, value)
    try:
        return spec.column.unwrapped(value)
    except Exception as error:
        raise unreadable(name, value, error) from cause(error)


def query_vector(name: str, spec: VectorField, value: Any) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Check one query: ``(dim,)`` float32, ``(rows, dim)`` float32, or (ascending uint64 terms, float32 weights).

    Raises InvalidArgumentError, also for a norm that isn't allowed (``norms``).
    """
    if isinstance(value, str):
        advice = None if spec.encoder is None else "write search(text=…)"
        if spec.derived is not None and spec.derived.words:  # its source has an encoder
            advice = f"write search(text={{{name!r}: …}})"
        raise text_given(name, value, advice)
    return spec.column.query(name, spec, value)


def query_vectors(name: str, spec: VectorField, value: Any) -> list:
    """Check n queries: an ``(n, dim)`` array, a sparse matrix of n rows, or a list of what ``query_vector`` accepts."""
    value = opened(name, spec, value)
    queries = spec.column.queries(name, spec, value)
    if queries is not None:
        return queries
    if isinstance(value, (str, bytes, Mapping)) or size_of(value) is None:
        raise InvalidArgumentError(f"query vectors {name!r} must be a list or array, not {shown(value)}", field=name, value=value)
    checked = [query_vector(name, spec, vector) for vector in value]
    if spec.source_dim is not None and len({getattr(query, "shape", None) for query in checked}) > 1:
        what = f"query vectors {name!r} must all be of the field or all of its source {spec.derived.source!r}, not of both"
        raise InvalidArgumentError(what, field=name, value=[getattr(query, "shape", None) for query in checked])
    return checked


def query_texts(value: Any, batch: bool) -> list[str]:
    """Check a text, or with ``batch`` a list of texts, one for each query. Raises InvalidArgumentError, which says what to write."""
    texts = read_with("text", value, listed)
    if batch:
        if texts is None or not all(isinstance(text, str) for text in texts):
            hint = "; for one query write search" if isinstance(value, str) else ""
            raise InvalidArgumentError(f"text must be a list of strings, not {shown(value)}{hint}", field="text", value=value)
        return [text_of(text, "text") for text in texts]
    if not isinstance(value, str):
        several = bool(texts) and all(isinstance(text, str) for text in texts or ())
        hint = "; for several queries write search_batch" if several else ""
        raise InvalidArgumentError(f"text must be a string, not {shown(value)}{hint}", field="text", value=value)
    return [text_of(value, "text")]


def query_fields(schema: Schema, vectors: Any) -> Mapping[str, Any]:
    """Check that ``vectors`` of a search maps fields to queries. Raises InvalidArgumentError, which says what to write."""
    if vectors is None:
        return {}
    if isinstance(vectors, Mapping):
        return vectors
    such = next(iter(schema.vectors), "field")
    advice = "for a text write search(text=…)" if isinstance(vectors, str) else f"write {{{such!r}: …}}"
    what = f"vectors must be a mapping of field names to queries, not {shown(vectors)}; {advice}"
    raise InvalidArgumentError(what, field="vectors", value=vectors)
