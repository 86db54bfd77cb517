"""A schema from the first rows of a file, for those who don't want to write one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, SchemaError, VectorDBError
from ..types import Attribute, Bool, Datetime, Dense, Float, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid, VectorField, check_name
from .files import format_of, parquet_schema, read_rows
from .forms import Columns, is_full, loads

_ROWS = 1000
_KEYWORD_BYTES = 120  # on average; longer strings are prose, whose words are worth more than its equality
_LEAST_DIM = 8  # a shorter list of numbers is an array attribute
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")


def infer_schema(path: Path, columns: Columns | None = None, text: Iterable[str] = (), encoders: Iterable[str] = ("bm25",)) -> Schema:
    """The schema that fits the first 1,000 rows, or the one an exported Parquet file carries.

    text: columns of prose; each becomes a Text attribute with a vector field for each encoder, called ``COLUMN_ENCODER``.
    Raises InvalidArgumentError when no row can be read, and SchemaError when a column can't be a field.
    """
    from ..encoders import load, parse

    columns = columns or Columns()
    if format_of(path) == "parquet" and not text and (kept := parquet_schema(path)):
        return kept
    records = [row.record for row in islice(read_rows(path), _ROWS) if isinstance(row.record, Mapping)]
    if not records:
        raise InvalidArgumentError(f"{path} has no row to infer a schema from", field="file", value=str(path))
    if format_of(path) == "csv":
        records = [{name: _guess(cell) for name, cell in record.items()} for record in records]
    vector_columns, attribute_columns = _collected(records, columns)
    vectors: dict[str, VectorField] = {name: _vector(name, values) for name, values in vector_columns.items()}
    attributes: dict[str, Attribute] = {}
    named = {column: field for field, column in columns.vectors.items()}
    for name, values in attribute_columns.items():
        if name in named:
            vectors[named[name]] = _vector(name, values)
        elif (found := _maybe_vector(values)) is not None:
            vectors[name] = found
        elif (kind := _attribute(values)) is not None and _is_name(name):
            attributes[name] = kind
    for column in text:
        if column not in attribute_columns:
            raise SchemaError(
                f"no column {column!r} to take text from; there are: {', '.join(attribute_columns)}", field="text", value=column
            )
        attributes[column] = Text()
        for spec in encoders:
            encoder = load(spec)
            name = f"{column}_{parse(spec)[0].replace('-', '_')}"
            field = Dense(encoder.dim, encoder=spec, source=column) if encoder.kind == "dense" else None
            vectors[name] = field or Sparse(encoder=spec, source=column)
    missing = set(columns.vectors) - set(vectors)
    if missing:
        field = min(missing)
        raise SchemaError(f"no column {columns.vectors[field]!r} for vector field {field!r}", field=field, value=columns.vectors[field])
    return Schema(vectors, attributes)


def _collected(records: list[Mapping], columns: Columns) -> tuple[dict[str, list], dict[str, list]]:
    """(values of what full records call vectors, values of attributes or columns); nulls are left out."""
    vectors: dict[str, list] = {}
    attributes: dict[str, list] = {}
    full = columns.id == "id" and not columns.vectors and all(is_full(record) for record in records)
    for record in records:
        sections = ((vectors, record.get("vectors")), (attributes, record.get("attributes"))) if full else ((attributes, record),)
        for section, values in sections:
            for name, value in (values or {}).items():
                if value is not None and (full or name not in (columns.id, "payload")):
                    section.setdefault(name, []).append(value)
    return vectors, attributes


def _is_name(name: str) -> bool:
    try:
        check_name(name, "attribute")
    except SchemaError:
        return False  # a column like "unit price" stays in the payload
    return True


def _guess(cell: str) -> Any:
    """A CSV cell as the value it looks like."""
    if cell == "":
        return None
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if _NUMBER.fullmatch(cell):
        return int(cell) if cell.lstrip("-").isdecimal() else float(cell)
    if cell[0] in "[{":
        try:
            return loads(cell)
        except (ValueError, VectorDBError):
            return cell
    return cell


def _numbers(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiu"
    return isinstance(value, list) and bool(value) and all(type(v) in (int, float) for v in value)


def _maybe_vector(values: list) -> VectorField | None:
    """The vector field that all values look like, if they do."""
    first = values[0]
    if isinstance(first, Mapping) and set(first) == {"indices", "values"}:
        return Sparse()
    if _numbers(first) and len(first) >= _LEAST_DIM and all(_numbers(v) and len(v) == len(first) for v in values):
        return Dense(len(first), metric="cosine" if all(np.any(v) for v in values) else "dot")
    if isinstance(first, list) and first and all(_numbers(row) and len(row) == len(first[0]) >= _LEAST_DIM for row in first):
        return MultiVector(len(first[0]))
    return None


def _vector(name: str, values: list) -> VectorField:
    found = _maybe_vector(values)
    if found is None and _numbers(values[0]):
        found = Dense(len(values[0]))
    if found is None and isinstance(values[0], Mapping):
        found = Sparse()
    if found is None:
        raise SchemaError(f"column {name!r} doesn't hold vectors", field=name, value=values[0])
    return found


def _attribute(values: list) -> Attribute | None:
    """The attribute that holds all values; None when none does, and the column stays in the payload."""
    array = all(isinstance(v, (list, np.ndarray)) for v in values)
    flat = [element for value in values for element in value] if array else values
    if array and not flat:
        return None
    kinds = {bool if isinstance(v, (bool, np.bool_)) else type(v) for v in flat}
    if kinds == {bool}:
        return Bool(array)
    if all(issubclass(k, (int, np.integer)) for k in kinds - {bool}) and bool not in kinds:
        return Int(array) if all(-(2**63) <= v < 2**63 for v in flat) else None
    if all(issubclass(k, (int, float, np.number)) for k in kinds) and bool not in kinds:
        return Float(array)
    if all(issubclass(k, (datetime, date, np.datetime64)) for k in kinds):
        return Datetime(array)
    if kinds != {str}:
        return None
    if all(_is_date(v) for v in flat):
        return Datetime(array)
    if all(_is_uuid(v) for v in flat):
        return Uuid(array)
    sizes = [len(v.encode("utf-8", "replace")) for v in flat]
    return Text(array) if sum(sizes) / len(sizes) > _KEYWORD_BYTES or max(sizes) > 480 else Keyword(array)


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
