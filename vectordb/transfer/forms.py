"""Convert points to records of a file and back, without loss.

A *full* record is ``{"id", "vectors", "attributes", "payload"}``. A *flat* record, as in CSV, Parquet and files of other programs, has a
column for the id, each attribute and each vector field. Its column ``payload`` is the payload; all other columns are added to it. An
attribute or vector field named ``id`` or ``payload`` has the column ``attributes.NAME`` or ``vectors.NAME``.

A *cell* is the text of a CSV cell. An empty cell is null; ``\\e`` is the empty string (and ``\\\\e`` is the text ``\\e``, and so on).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from vectordb_client.errors import InvalidArgumentError, SchemaError, VectorDBError, shown
from vectordb_client.model.attributes import AttributeType
from vectordb_client.model.attributes.base import read_json_cell, strict_json
from vectordb_client.model.results import Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import to_json

POINT_KEYS = {"id", "vectors", "attributes", "payload", "version"}
_RESERVED = {"id", "payload"}
_INTEGER = re.compile(r"0|[1-9]\d{0,19}")


@dataclass(frozen=True)
class Columns:
    """The meaning of the columns of flat records. id: the id's column, or ``#`` to number the rows from 0. vectors: field → column."""

    id: str = "id"
    vectors: Mapping[str, str] = field(default_factory=dict)


class Layout:
    """Maps the columns of flat records to the fields of a schema."""

    def __init__(self, schema: Schema, columns: Columns | None = None):
        columns = columns or Columns()
        self.schema, self.id, self.canonical = schema, columns.id, columns.id == "id" and not columns.vectors
        for name in columns.vectors:
            schema.vector(name)
        self.vectors = {columns.vectors.get(name) or _column(name, "vectors"): name for name in schema.vectors}
        self.attributes = {_column(name, "attributes"): name for name in schema.attributes}
        both = set(self.vectors) & set(self.attributes)
        if both:
            raise SchemaError(f"column {min(both)!r} can't be both an attribute and a vector field", field=min(both))

    def names(self, with_vectors: bool) -> list[str]:
        """The columns of a flat file, in order."""
        return ["id", *self.attributes, *(self.vectors if with_vectors else ()), "payload"]

    def point(self, record: Any, row: int, cells: bool = False) -> dict:
        """The point in a record, as a dict for ``upsert``. cells: values are text cells, parsed by the schema's types.

        Raises InvalidArgumentError naming what is wrong with the record.
        """
        if not isinstance(record, Mapping):
            raise InvalidArgumentError(f"a record must be an object, not {shown(record)}", field="record", value=record)
        if self.canonical and not cells and is_full(record):
            return {
                "id": read_id(_present(record.get("id"), "id")),
                "vectors": {
                    name: self.schema.vector(name).column.from_json(vector)
                    for name, vector in (record.get("vectors") or {}).items()
                    if self.schema.vector(name).derived is None  # the write makes those of derived fields
                },
                "attributes": {
                    name: read_attribute(self.schema.attribute(name), value)
                    for name, value in (record.get("attributes") or {}).items()
                    if value is not None or name in self.schema.attributes
                },
                "payload": record.get("payload"),
            }
        return self._flat(record, row, cells)

    def _flat(self, record: Mapping, row: int, cells: bool) -> dict:
        point: dict[str, Any] = {"vectors": {}, "attributes": {}}
        if self.id == "#":
            point["id"] = row
        else:
            _present(record.get(self.id), self.id)
        rest: dict[str, Any] = {}
        for column, value in record.items():
            if column == self.id and self.id != "#":
                point["id"] = cell_id(value) if cells else read_id(value)
            elif column in self.vectors:
                spec = self.schema.vectors[self.vectors[column]]
                value = _json_cell(column, value) if isinstance(value, str) else value
                if value is not None and spec.derived is None:
                    point["vectors"][self.vectors[column]] = spec.column.from_json(value)
            elif column in self.attributes:
                spec = self.schema.attributes[self.attributes[column]]
                point["attributes"][self.attributes[column]] = read_cell(column, spec, value) if cells else read_attribute(spec, value)
            elif column == "payload":
                point["payload"] = _json_cell(column, value) if cells else value
            else:
                rest[column] = plain(value)
        if rest:
            payload = point.get("payload")
            if not isinstance(payload, (dict, type(None))):
                what = f"columns {', '.join(rest)} can't be added to the payload, which is not an object"
                raise InvalidArgumentError(what, field="payload", value=payload)
            point["payload"] = {**(payload or {}), **rest}
        return point


def _present(value: Any, column: str) -> Any:
    if value is None or (isinstance(value, str) and not value):
        raise InvalidArgumentError(f"no id: {column!r} is missing or empty (--id-field COLUMN names another)", field="id", value=value)
    return value


def _column(name: str, section: str) -> str:
    return f"{section}.{name}" if name in _RESERVED else name


def is_full(record: Mapping) -> bool:
    """Whether a record is full (has the sections of a point) rather than flat."""
    return set(record) <= POINT_KEYS and all(isinstance(record.get(key), (Mapping, type(None))) for key in ("vectors", "attributes"))


def read_id(value: Any) -> Any:
    """An id from its JSON form: a number, a string, or ``{"uuid": "…"}``."""
    if isinstance(value, Mapping):
        if set(value) == {"uuid"}:
            try:
                return uuid.UUID(value["uuid"])
            except (ValueError, AttributeError, TypeError):
                pass
        raise InvalidArgumentError(f"id {shown(value)} is not a number, a string or {{'uuid': '…'}}", field="id", value=value)
    return value


def write_id(value: Any) -> Any:
    return {"uuid": str(value)} if isinstance(value, uuid.UUID) else value


def cell_id(text: Any) -> Any:
    """An id from a cell: digits are an integer, ``{"uuid": "…"}`` is a UUID, ``"…"`` is a JSON string, anything else is a string."""
    if not isinstance(text, str):
        return text
    if _INTEGER.fullmatch(text) and int(text) < 2**64:
        return int(text)
    if text[:1] in ('"', "{"):
        try:
            return read_id(loads(text))
        except (ValueError, VectorDBError):
            return text
    return text


def id_cell(value: Any) -> str:
    """The cell from which ``cell_id`` reads this id."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value if cell_id(value) == value and type(cell_id(value)) is str and value.strip() == value else dumps(value)
    return dumps(write_id(value))


def read_attribute(spec: AttributeType, value: Any) -> Any:
    """An attribute from its JSON or Arrow form, as ``upsert`` takes it."""
    return [*map(spec.from_file, value)] if spec.array and isinstance(value, list) else spec.from_file(value)


def plain(value: Any) -> Any:
    """A value as JSON data, for the payload; a value without a JSON form becomes its text."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return to_json(value)
    except TypeError:
        return str(value)


def read_cell(column: str, spec: AttributeType, value: Any) -> Any:
    """An attribute's value from a cell. Raises InvalidArgumentError naming the column."""
    if not isinstance(value, str):
        return value
    if value == "":
        return None
    return read_attribute(spec, _json_cell(column, value)) if spec.array else spec.from_cell(column, value)


def attribute_cell(spec: AttributeType, value: Any) -> str:
    """The cell from which ``read_cell`` reads this value."""
    if value is None:
        return ""
    return dumps(value) if spec.array else spec.to_cell(value)


def _json_cell(column: str, text: Any) -> Any:
    return read_json_cell(column, text, loads) if isinstance(text, str) else text


def full_record(schema: Schema, point: Point, with_vectors: bool) -> dict:
    """The full JSON record of a point. Null attributes and an empty payload are left out."""
    record: dict[str, Any] = {"id": write_id(point.id)}
    if with_vectors:
        record["vectors"] = {name: schema.vectors[name].column.to_json(vector) for name, vector in point.vectors.items()}
    record["attributes"] = {name: value for name, value in point.attributes.items() if value is not None}
    if point.payload is not None:
        record["payload"] = point.payload
    return record


def flat_cells(layout: Layout, point: Point, with_vectors: bool) -> list[str]:
    """A point as the cells of a CSV row, in the order of ``layout.names``."""
    cells = [id_cell(point.id)]
    cells += [attribute_cell(layout.schema.attributes[name], point.attributes.get(name)) for name in layout.attributes.values()]
    if with_vectors:
        for name in layout.vectors.values():
            vector = point.vectors.get(name)
            cells.append("" if vector is None else dumps(layout.schema.vectors[name].column.to_json(vector)))
    return [*cells, "" if point.payload is None else dumps(point.payload)]


def loads(text: str | bytes) -> Any:
    """JSON as the standard defines it; raises ValueError, also on NaN."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        # Python's module knows lone surrogates, and says where a mistake is. From bytes it would guess at UTF-16.
        return strict_json(text.decode() if isinstance(text, bytes) else text)


def dumps(value: Any) -> str:
    """One line of JSON that is valid UTF-8."""
    text = json.dumps(value, default=to_json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate in a payload
        return json.dumps(value, default=to_json, separators=(",", ":"), allow_nan=False)
    return text
