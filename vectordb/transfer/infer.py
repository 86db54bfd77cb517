"""Infer a schema from the rows of a file, with a report of each column's types and the field it becomes.

The whole file is read, so every value counts. A column becomes an attribute if one type fits all its values; otherwise it stays in the
payload, without loss, and the report says so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, SchemaError, VectorDBError, shown
from vectordb_client.model.attributes import ATTRIBUTE_TYPES, AttributeType, type_of
from vectordb_client.model.attributes.keyword import MAX_KEYWORD_BYTES
from vectordb_client.model.schema import (
    MAX_FIELDS,
    Datetime,
    Dense,
    Float,
    Int,
    Keyword,
    MultiVector,
    Schema,
    Sparse,
    Text,
    VectorField,
    check_name,
)

from .arrow import kept_schema
from .forms import Columns, is_full, loads
from .sources import Row, Source, source_of

PAYLOAD = "payload"
_KEYWORD_BYTES = 120  # on average; longer strings are prose and become Text, which is matched by words rather than by equality
_LEAST_DIM = 8  # shorter lists of numbers become array attributes
_MOSTLY = 0.9  # share of lists with the same length from which a column is taken for vectors with some wrong values
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_MOST_COLUMNS = 2_000  # columns examined; a file that uses data as keys may have any number
_SHOWN = 40  # characters shown of a value
_NUMBERS = {"int", "float", "big int"}


@dataclass
class ColumnReport:
    """A column: the kinds of its values and the field it becomes. kinds: kind → [count, first row (from 0), first value]."""

    name: str
    kinds: dict[str, list] = field(default_factory=dict)
    elements: set[str] = field(default_factory=set)  # kinds of list elements
    lengths: Counter = field(default_factory=Counter)  # of lists of numbers, and of their rows
    bytes: int = 0  # of strings
    strings: int = 0
    longest: int = 0
    zero: bool = False  # at least one vector is all zeros
    becomes: str = PAYLOAD
    note: str = ""

    def __str__(self) -> str:
        """Such as ``price: 299 float, 1 text ("n/a", row 6) → payload``."""
        return f"{self.name}: {self.values_text()} → {self.becomes}{f' ({self.note})' if self.note else ''}"

    def values_text(self) -> str:
        """Such as ``299 float, 1 text ("n/a", row 6)``."""
        parts = []
        for i, (kind, (count, row, value)) in enumerate(sorted(self.kinds.items(), key=lambda pair: -pair[1][0])):
            parts.append(f"{count:,} {kind}{f' ({_example(value)}, row {row + 1:,})' if i else ''}")
        return ", ".join(parts) or "no value"

    def add(self, value: Any, row: int) -> None:
        kind = self._kind(value)
        seen = self.kinds.get(kind)
        if seen is None:
            self.kinds[kind] = [1, row, value]
        else:
            seen[0] += 1

    def _kind(self, value: Any) -> str:
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "fiu" or value.ndim != 1:
                return "list"
            self.elements.add("float" if value.dtype.kind == "f" else "int")
            return self._numbers(len(value), not value.any())
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, Mapping):
            return "sparse vector" if set(value) == {"indices", "values"} else "object"
        return self._scalar(value)

    def _scalar(self, value: Any) -> str:
        kind = _scalar(value)
        if isinstance(value, str):
            size = len(value.encode("utf-8", "replace"))
            self.bytes, self.strings, self.longest = self.bytes + size, self.strings + 1, max(self.longest, size)
        return kind

    def _list(self, value: list) -> str:
        if not value:
            return "empty list"
        if all(type(v) in (int, float) for v in value):
            self.elements |= {_scalar(v) for v in value}
            return self._numbers(len(value), not any(value))
        if all(isinstance(row, (list, np.ndarray)) for row in value):
            lengths = {len(row) for row in value}
            if len(lengths) == 1 and (dim := lengths.pop()) and all(_is_numbers(row) for row in value):
                self.lengths[dim] += 1
                return f"rows of {dim} numbers"
            return "list of lists"
        kinds = {self._scalar(v) for v in value}
        if len(kinds) > 1 and not all(map(_is_text, kinds)):
            return "mixed list"
        self.elements |= kinds
        return f"list of {'text' if len(kinds) > 1 else kinds.pop()}"

    def _numbers(self, length: int, zero: bool) -> str:
        self.lengths[length] += 1
        self.zero |= zero
        if length >= _LEAST_DIM:
            return f"vector of {length}"
        return "list of numbers" if length else "empty list"


@dataclass
class Inference:
    """schema: for a new collection. columns: the columns of the file in order; empty if the file contains its schema.

    more: the number of values in columns after the first 2,000; they stay in the payload.
    """

    schema: Schema
    columns: list[ColumnReport]
    more: int = 0


def infer_schema(
    file: Path | Source,
    columns: Columns | None = None,
    text: Iterable[str] = (),
    encoders: Iterable[str] = ("bm25",),
    attributes: Mapping[str, AttributeType | None] | None = None,
) -> Schema:
    """The schema of ``infer``."""
    return infer(file, columns, text, encoders, attributes).schema


def infer(
    file: Path | Source,
    columns: Columns | None = None,
    text: Iterable[str] = (),
    encoders: Iterable[str] = ("bm25",),
    attributes: Mapping[str, AttributeType | None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Inference:
    """The schema that fits all rows of a file, or the one stored in an exported Parquet file.

    text: columns of prose; each becomes a Text attribute with one vector field per encoder, named ``COLUMN_ENCODER``.
    attributes: column → its type, whatever it holds; None leaves it in the payload. progress: called with the share read, 0 … 1.
    Raises InvalidArgumentError if no row can be read or none has an id, SchemaError if a column can't be a field.
    """
    source, columns, wanted = source_of(file), columns or Columns(), dict(attributes or {})
    if source.format == "parquet" and not text and not wanted and not columns.vectors and (kept := kept_schema(source)):
        return Inference(kept, [])
    seen = _Seen(source, columns)
    for row in source.rows():
        seen.add(row)
        if progress and row.number % 1000 == 0:
            progress(row.done)
    seen.check()
    text, encoders = list(text), list(encoders)
    plan = _Plan(columns, seen, wanted, MAX_FIELDS - len(text) * (1 + len(encoders)))
    plan.choose()
    for column in text:
        plan.encode(column, encoders)
    if not plan.vectors and not plan.attributes:
        columns_text = "; ".join(f"column {report}" for report in list(seen.columns.values())[:5]) or "there are no columns besides the id"
        what = f"no column of {source.path} can become a field, and a collection needs at least one: {columns_text}"
        raise SchemaError(f"{what}; set a type with --attribute COLUMN=TYPE, or give a --schema", field="schema")
    return Inference(Schema(plan.vectors, plan.attributes), [*seen.vectors.values(), *seen.columns.values()], seen.more)


class _Seen:
    """The columns seen in a file. vectors: of full records. columns: of flat records, and the attributes of full records."""

    def __init__(self, source: Source, columns: Columns):
        self._source, self._columns = source, columns
        self._canonical = columns.id == "id" and not columns.vectors and not source.cells
        self.vectors: dict[str, ColumnReport] = {}
        self.columns: dict[str, ColumnReport] = {}
        self.more = 0  # values in columns that are not examined
        self.full: set[str] = set()  # columns that are attributes of a full record
        self._rows = self._ids = 0
        self._first_error: tuple[int, str] | None = None
        self._keys: dict[str, None] = {}

    def add(self, row: Row) -> None:
        if not isinstance(row.record, Mapping):
            if self._first_error is None:
                self._first_error = (row.number, row.error or f"a row must be an object, not {shown(row.record)}")
            return
        self._rows += 1
        self._ids += self._columns.id == "#" or row.record.get(self._columns.id) not in (None, "")
        if self._canonical and is_full(row.record):
            for section, known in ((row.record.get("vectors"), self.vectors), (row.record.get("attributes"), self.columns)):
                for name, value in (section or {}).items():
                    self._column(known, name, value, row.number)
            self.full.update(row.record.get("attributes") or ())
            return
        for name, value in row.record.items():
            if name in (self._columns.id, "payload"):
                self._keys[name] = None
            else:
                self._column(self.columns, name, _guess(value) if self._source.cells else value, row.number)

    def _column(self, known: dict[str, ColumnReport], name: Any, value: Any, row: int) -> None:
        report = known.get(name)
        if report is None:
            if len(known) >= _MOST_COLUMNS:
                self.more += 1
                return
            report = known[name] = ColumnReport(str(name))
        if value is not None:
            report.add(value, row)

    def check(self) -> None:
        """Raises InvalidArgumentError if no row can become a point."""
        path = self._source.path
        if not self._rows:
            what = f"{path} has no rows to infer a schema from"
            if self._first_error:
                what = f"no row of {path} can be read: row {self._first_error[0] + 1}: {self._first_error[1]}"
            raise InvalidArgumentError(what, field="file", value=str(path))
        if not self._ids:
            names = [*self._keys, *self.columns]
            there = f"columns: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
            other = "; --separator sets the column separator" if self._source.cells and len(names) == 1 else ""
            what = (
                f"no id: {path} has no column {self._columns.id!r}; {there} (--id-field names it, --id-field '#' numbers the rows{other})"
            )
            raise InvalidArgumentError(what, field="id", value=self._columns.id)


class _Plan:
    """Chooses the fields for the columns."""

    def __init__(self, columns: Columns, seen: _Seen, wanted: Mapping[str, AttributeType | None], room: int):
        self._columns, self._seen, self._wanted, self._room = columns, seen, wanted, room - len(wanted) - len(columns.vectors)
        self.vectors: dict[str, VectorField] = {}
        self.attributes: dict[str, AttributeType] = {}

    def choose(self) -> None:
        named = {column: name for name, column in self._columns.vectors.items()}
        for column, what in (*((c, "vector field") for c in named), *((c, "attribute") for c in self._wanted)):
            if column not in self._seen.columns:
                there = ", ".join(self._seen.columns) or "none"
                name = named.get(column, column)
                raise SchemaError(f"no column {column!r} for {what} {name!r}; columns: {there}", field=name, value=column)
        for name, report in self._seen.vectors.items():
            self._vector(name, report)
        for column, report in self._seen.columns.items():
            if column in named:
                self._vector(named[column], report)
            elif column in self._wanted:
                self._attribute(column, report, self._wanted[column], ", as requested")
            elif not _is_name(column):
                report.note = "not a valid attribute name: letters, digits, _ . and -, not starting with a digit"
            elif len(self.vectors) + len(self.attributes) >= self._room:
                report.note = f"a collection has at most {MAX_FIELDS} fields"
            elif (vector := _as_vector(report)) is not None:
                self.vectors[column] = vector
                report.becomes = type_text(vector)
            else:
                self._attribute(column, report, _as_attribute(report))
                report.note = _advice(column, report)
                if report.becomes == PAYLOAD and report.kinds and column in self._seen.full:
                    what = f"attribute {column!r} of the full records has mixed types: {report.values_text()}"
                    raise SchemaError(f"{what}; set its type with --attribute {column}=TYPE", field=column)

    def _vector(self, name: str, report: ColumnReport) -> None:
        self.vectors[name] = _vector(name, report)
        report.becomes = f"{name}: {type_text(self.vectors[name])}" if name != report.name else type_text(self.vectors[name])

    def _attribute(self, column: str, report: ColumnReport, spec: AttributeType | None, as_requested: str = "") -> None:
        if spec is not None:
            self.attributes[column] = spec
        report.becomes = (type_text(spec) if spec is not None else PAYLOAD) + as_requested

    def encode(self, column: str, encoders: list[str]) -> None:
        """Make a column a Text attribute with a vector field per encoder."""
        from ..encoders import load, parse

        report = self._seen.columns.get(column)
        if report is None:
            there = ", ".join(self._seen.columns)
            raise SchemaError(f"no column {column!r} for --text; columns: {there}", field="text", value=column)
        self.attributes[column], made = Text(), []
        self.vectors.pop(column, None)
        for spec in encoders:
            encoder = load(spec)
            name = f"{column}_{parse(spec)[0].replace('-', '_')}"
            dense = encoder.kind == "dense"
            self.vectors[name] = Dense(encoder.dim, encoder=spec, source=column) if dense else Sparse(encoder=spec, source=column)
            made.append(name)
        report.becomes, report.note = f"text, {', '.join(made)}", ""


def type_text(spec: AttributeType | VectorField) -> str:
    """A field's type in the report: ``float``, ``keyword[]``, ``dense of 256``."""
    dim = getattr(spec, "dim", None)
    return f"{spec.kind} of {dim}" if dim else spec.kind + ("[]" if getattr(spec, "array", False) else "")


def type_names() -> list[str]:
    """The kinds of attributes, those of strings first."""
    return [*dict.fromkeys((Keyword.kind, Text.kind, *ATTRIBUTE_TYPES))]


def attribute_type(text: str) -> AttributeType | None:
    """``float``, ``keyword[]`` for an array, or ``payload`` (None). Raises InvalidArgumentError."""
    if text == PAYLOAD:
        return None
    kind = ATTRIBUTE_TYPES.get(text.removesuffix("[]"))
    if kind is None:
        what = f"a type must be one of {', '.join(type_names())} (with [] for an array) or payload, not {shown(text)}"
        raise InvalidArgumentError(what, field="attribute", value=text)
    return kind(array=text.endswith("[]"))


def _as_vector(report: ColumnReport) -> VectorField | None:
    """The vector field that fits all values, or None."""
    kinds = set(report.kinds)
    if kinds == {"sparse vector"}:
        return Sparse()
    if len(kinds) == 1 and len(report.lengths) == 1:
        dim, kind = next(iter(report.lengths)), next(iter(kinds))
        if kind == f"vector of {dim}":
            return Dense(dim, metric="dot" if report.zero else "cosine")
        if kind == f"rows of {dim} numbers" and dim >= _LEAST_DIM:
            return MultiVector(dim)
    return None


def _vector(name: str, report: ColumnReport) -> VectorField:
    """The vector field for a column that the user named as one; its dimension is the most frequent length."""
    most = max(report.kinds, key=lambda kind: report.kinds[kind][0], default="")
    if most.startswith("rows of"):
        return MultiVector(report.lengths.most_common(1)[0][0])
    if most.startswith("vector of") or most == "list of numbers":
        return Dense(report.lengths.most_common(1)[0][0], metric="dot" if report.zero else "cosine")
    if most in ("sparse vector", "object"):
        return Sparse()
    value = report.kinds[most][2] if most else None
    raise SchemaError(f"column {report.name!r} does not hold vectors: {report.values_text()}", field=name, value=value)


def _as_attribute(report: ColumnReport) -> AttributeType | None:
    """The attribute type that fits all values, or None."""
    kinds = set(report.kinds) - {"empty list"}
    if not kinds:
        return None
    array = all(kind.startswith(("list of", "vector of")) for kind in kinds) and "list of lists" not in kinds
    if array and _mostly_vectors(report):
        return None
    kinds = report.elements if array else kinds
    if kinds == {"int"}:
        return Int(array)
    if "float" in kinds and kinds <= _NUMBERS:
        return Float(array)
    if len(kinds) == 1 and (kind := ATTRIBUTE_TYPES.get(next(iter(kinds)))) not in (None, Text):
        return kind(array)
    if all(map(_is_text, kinds)) and report.strings:
        prose = report.bytes / report.strings > _KEYWORD_BYTES or report.longest > MAX_KEYWORD_BYTES
        return Text(array) if prose else Keyword(array)
    return None


def _mostly_vectors(report: ColumnReport) -> bool:
    (length, count), *others = report.lengths.most_common() or [(0, 0)]
    return bool(others) and length >= _LEAST_DIM and count >= _MOSTLY * sum(report.lengths.values())


def _advice(column: str, report: ColumnReport) -> str:
    """Advice for a column with several types: the flag that sets its type."""
    kinds = set(report.kinds) - {"empty list"}
    if len(kinds) < 2 or kinds <= _NUMBERS:
        return ""
    if _mostly_vectors(report):
        return f"--vector-field {column}={column} makes it vectors of {report.lengths.most_common(1)[0][0]} and rejects the other rows"
    most = max((kind for kind in report.kinds if kind in kinds), key=lambda kind: report.kinds[kind][0])
    array, kind = most.startswith("list of "), most.removeprefix("list of ")
    if kind not in ATTRIBUTE_TYPES:
        return ""
    other = f"{Keyword.kind if kind == Text.kind else kind}{'[]' * array}"
    return f"--attribute {column}={other} sets the type" if other != report.becomes else ""


def _is_name(name: str) -> bool:
    try:
        check_name(name, "attribute")
    except SchemaError:
        return False
    return True


def _guess(cell: Any) -> Any:
    """The value that a CSV cell most likely means."""
    if not isinstance(cell, str):
        return cell
    if cell == "":
        return None
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if _NUMBER.fullmatch(cell):
        return int(cell) if cell.lstrip("-").isdecimal() and len(cell) < 100 else float(cell)
    if cell[0] in "[{":
        try:
            return loads(cell)
        except (ValueError, VectorDBError):
            return cell
    return cell


def _is_numbers(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiu"
    return all(type(v) in (int, float) for v in value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        for kind, attribute in ATTRIBUTE_TYPES.items():
            if attribute.is_in_text(value):
                return kind
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        return "int" if -(2**63) <= value < 2**63 else "big int"
    if isinstance(value, (float, np.floating, Decimal)):
        return "float"
    attribute = Datetime() if isinstance(value, date) else type_of(value)
    if attribute is not None:
        return attribute.kind
    return (
        "null"
        if value is None
        else "list"
        if isinstance(value, (list, tuple))
        else "object"
        if isinstance(value, Mapping)
        else type(value).__name__
    )


def _is_text(kind: str) -> bool:
    """Whether values of a kind may be strings in a file."""
    return kind == Text.kind or (kind in ATTRIBUTE_TYPES and ATTRIBUTE_TYPES[kind].is_in_text is not AttributeType.is_in_text)


def _example(value: Any) -> str:
    """A value as JSON, truncated."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
