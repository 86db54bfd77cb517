"""Batches: the checked, columnar form of a write. Users give columns, points, dicts or tables.

The embedded database applies a Batch, the client sends it, and the server reads it back.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError, SchemaError, listing, shown
from .batch_ids import as_framed, check_ids, check_length, listed_values, versions_of
from .checks import check_flag
from .dynamic import changed_keys, undeclared, with_keys
from .fields import Column
from .foreign import Table, as_table, is_nan, is_null, is_number
from .info_text import many
from .results import Point
from .schema import Schema, VectorField
from .unset import UNSET
from .values import Id
from .vectors import opened
from .write_options import EVERY, check_options, increments, merges, wrapped


@dataclass(frozen=True)
class Batch:
    """``len(ids)`` points to upsert or update, checked against a schema.

    Attributes:
        kind: "upsert" or "update".
        ids: distinct ids.
        vectors: field → column. The ``rows`` of a column say which points it covers.
        attributes: name → one value in its stored form for each point; None is null, UNSET (updates only) leaves the value as it is.
        payload: one JSON value for each point; None is none, UNSET (updates only) leaves the value as it is.
        removed: field → int32 rows whose vector an update removes.
        if_version: the expected version of each point, or None.
        if_filter: a filter that each point must match, or None.
        filter: of an update by filter, which has no ids: its one row is for every point that matches.
        increments: name → for each point a number to add to an attribute, or None (updates only).
        payload_merge: for each point an object to merge into its payload, or None (updates only).
        if_absent: leave points that exist as they are (upserts only).
        keys: key of the payload → for each point a JSON value, None to remove the key, or UNSET (updates only, of attributes that aren't
            declared).
        tenant: write only points of this tenant, as a writer who sees no others; None: of all.
        schema: the schema that the batch was checked against; None if unknown.
    """

    kind: str
    ids: Sequence[Id]
    vectors: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    payload: Sequence[Any] | None = None
    removed: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    if_version: Sequence[int | None] | None = None
    if_filter: Any = None
    filter: Any = None
    increments: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    payload_merge: Sequence[Any] | None = None
    if_absent: bool = False
    keys: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict, kw_only=True)
    tenant: str | None = dataclasses.field(default=None, kw_only=True)
    schema: Schema | None = dataclasses.field(default=None, compare=False, repr=False)


class Columns(NamedTuple):
    """The keyword arguments of ``make_batch``."""

    ids: Any
    vectors: Any
    attributes: Any
    payload: Any
    if_version: Any
    if_filter: Any
    filter: Any = None
    increment: Any = None
    payload_merge: Any = None
    if_absent: Any = False


def make_batch(
    schema: Schema,
    kind: str,
    points: Sequence[Point | Mapping] | None = None,
    *,
    ids: Any = None,
    vectors: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    payload: Sequence[Any] | None = None,
    if_version: Any = None,
    if_filter: Any = None,
    filter: Any = None,
    increment: Any = None,
    payload_merge: Any = None,
    if_absent: bool = False,
) -> Batch:
    """Check the arguments of ``upsert`` or ``update``: columns (``ids=…``), a list of points or dicts, or a table.

    Raises InvalidArgumentError, SchemaError or LimitError, which name the field and the value.
    """
    check_flag("if_absent", if_absent)
    check_options(kind, points, ids, filter, if_version, {"increment": increment, "payload_merge": payload_merge}, if_absent)
    if if_absent and (if_version is not None or if_filter is not None):
        what = "if_absent leaves points that exist as they are; leave out if_version and if_filter"
        raise InvalidArgumentError(what, field="if_absent", value=if_absent)
    table = as_table(points)
    if filter is not None:
        vectors = wrapped(vectors, lambda value: isinstance(value, Column))
        attributes, payload = wrapped(attributes, lambda value: False), None if payload is None else [payload]
    elif table is not None:
        ids, vectors, attributes, payload = _of_table(table, schema, ids, vectors, attributes, payload)
    elif points is not None:
        if ids is not None or vectors is not None or attributes is not None or payload is not None:
            raise InvalidArgumentError("give either points or columns (ids, vectors, attributes, payload), not both", field="points")
        ids, vectors, attributes, payload = _columns_of(points, schema, kind)
    elif ids is None:
        hint = ", or update(filter=…, …)" if kind == "update" else ""
        raise InvalidArgumentError(f"ids are missing; write {kind}(ids=[…], …) or {kind}([{{'id': …}}]){hint}", field="ids")
    ids = check_ids(ids) if filter is None else [EVERY]
    n = len(ids)
    columns, removed = {}, {}
    for name, value in _mapping(vectors, "vectors").items():
        spec = schema.written(name)
        if value is None:
            if kind == "update":
                removed[name] = np.arange(n, dtype=np.int32)
            continue
        column, cleared = _vector_column(name, spec, value, n, ids)
        if column is not None:
            columns[name] = column
        if kind == "update" and len(cleared):
            removed[name] = cleared
    checked = {}
    attributes = dict(_mapping(attributes, "attributes"))
    keys: dict[str, Any] = {}
    if schema.dynamic and (names := undeclared(schema, attributes)):
        keys = {name: _key_column(name, attributes.pop(name), n) for name in names}
        if payload is not None:
            payload = _payload_column(payload, n)
        if kind == "upsert":
            payload, keys = with_keys(payload, keys, n), {}
    for name, values in attributes.items():
        spec = schema.attribute(name)
        if values is None:
            values = [None] * n
        elif type(values) is not list:
            framed = as_framed(name, values)
            values = (
                spec.read_frame(framed)
                if framed is not None
                else listed_values(name, values, f"attribute {name!r} must be a column of {many(n, 'value')}", one_value(name, values, n))
            )
        check_length(name, values, n, f"; write {{{name!r}: [{shown(values)}]}}" if spec.array and n == 1 else "")
        checked[name] = _each(values, ids, functools.partial(spec.coerce, name), kind == "update")
    if payload is not None:
        payload = _payload_column(payload, n)
        payload = _each(payload, ids, lambda value: None if value is None else _plain_json(value), kind == "update")
    added = increments(schema, increment, checked, n)
    merging = merges(payload_merge, payload, n, _plain_json)
    keys = changed_keys(keys, ids, payload, merging, _plain_json)
    if filter is not None and not (columns or checked or removed or added or merging or payload or keys):
        raise InvalidArgumentError(
            "an update by filter needs something to change: attributes, vectors, payload, …", field="filter", value=filter
        )
    return Batch(
        kind,
        ids if filter is None else (),
        columns,
        checked,
        payload,
        removed,
        versions_of(if_version, ids),
        if_filter,
        filter,
        added,
        merging,
        if_absent,
        schema,
        keys=keys,
    )


def _payload_column(payload: Any, n: int) -> Sequence:
    advice = f"; write payload=[{shown(payload)}{', …' * (n > 1)}]"
    payload = listed_values("payload", payload, f"payload must be a list of {many(n, 'JSON value')}", advice)
    check_length("payload", payload, n)
    return payload


def _key_column(name: str, values: Any, n: int) -> Sequence:
    """The values of an attribute that isn't declared."""
    if values is None:
        return [None] * n
    framed = None if type(values) is list else as_framed(name, values)
    if framed is None:
        framed = listed_values(name, values, f"attribute {name!r} must be a column of {many(n, 'value')}", one_value(name, values, n))
    check_length(name, framed, n)
    return framed


def _each(values: Sequence[Any], ids: Sequence[Id], convert: Callable[[Any], Any], unset: bool) -> list:
    """Convert one value for each point. unset: keep UNSET. An error of ``convert`` is raised with the point and its row."""
    converted: list = []
    try:
        for value in values:
            converted.append(value if unset and value is UNSET else convert(value))
    except InvalidArgumentError as error:
        row = len(converted)
        place = f"point {shown(ids[row])}" if len(values) == 1 else f"point {shown(ids[row])}, row {row}"
        raise type(error)(f"{error.message} ({place})", field=error.field, value=error.value) from error.__cause__
    return converted


def _mapping(value: Any, field: str) -> Mapping:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{field} must be a mapping of field names to columns, not {shown(value)}", field=field, value=value)
    return value


def one_value(name: str, value: Any, n: int) -> str:
    """What to write instead of a single value in place of a column."""
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
        return ""
    return f"; write {{{name!r}: [{shown(value)}{', …' * (n > 1)}]}}"


def _vector_column(name: str, spec: VectorField, value: Any, n: int, ids: Sequence[Id]) -> tuple[Column | None, np.ndarray]:
    """The column of a field, and the rows with None."""
    rows, cleared = None, np.empty(0, np.int32)
    if isinstance(value, Column):
        rows = value.rows
        if rows is not None and (
            len(rows) != len(value) or (rows[1:] <= rows[:-1]).any() or (len(rows) and not 0 <= rows[0] <= rows[-1] < n)
        ):
            raise InvalidArgumentError(f"rows of vectors {name!r} are not ascending rows of the batch", field=name, value=len(rows))
    else:
        value = opened(name, spec, value)
    if isinstance(value, (list, tuple)) and len(value) == n and any(v is UNSET or is_null(v) or is_nan(v) for v in value):
        value = [None if v is not UNSET and (is_null(v) or is_nan(v)) else v for v in value]
        rows = np.array([row for row, v in enumerate(value) if v is not None and v is not UNSET], dtype=np.int32)
        cleared = np.array([row for row, v in enumerate(value) if v is None], dtype=np.int32)
        value = [value[row] for row in rows]
    count = n if rows is None else len(rows)
    named = ids if rows is None else [ids[r] for r in rows]
    if count == 0:
        return None, cleared
    return spec.column.read(name, spec, value, count, rows, named), cleared


def _plain_json(value: Any) -> Any:
    """The payload after a round trip through JSON: keys are strings, tuples are lists. Raises InvalidArgumentError."""
    try:
        text = _ENCODER.encode(value)
        text.encode()
        return _DECODER.decode(text)
    except (TypeError, ValueError, RecursionError) as error:
        hint = "; a missing value is None" if "float" in str(error) else ""
        raise InvalidArgumentError(f"payload {shown(value)} has no JSON form: {error}{hint}", field="payload", value=value) from None


def _to_json(value: Any) -> Any:
    if is_null(value):
        return None
    if isinstance(value, np.bool_) or is_number(value):
        return value.item()
    raise TypeError(f"{shown(value)} is a {type(value).__name__}")


def _integer(digits: str) -> int:
    number = int(digits)
    if -(2**63) <= number < 2**64:
        return number
    raise ValueError(f"{digits} doesn't fit 64 bits")


# Made once: json.dumps and json.loads with options make new ones for each payload, which takes most of their time.
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=_to_json)
_DECODER = json.JSONDecoder(parse_int=_integer)


_POINT_KEYS = {"id", "vectors", "attributes", "payload", "version"}


def _columns_of(points: Any, schema: Schema, kind: str) -> tuple[list, dict, dict, list | None]:
    """Points as columns. A field that a point doesn't have is None in an upsert and UNSET in an update."""
    if isinstance(points, (str, bytes, Mapping, Point)) or not hasattr(points, "__iter__"):
        hint = ""
        if isinstance(points, Mapping):
            hint = "; write [{'id': …}] for one point, or upsert(ids=…, vectors={…}, attributes={…}) for columns"
        raise InvalidArgumentError(f"points must be a list of points or dicts, not {shown(points)}{hint}", field="points", value=points)
    points = listed_values("points", points, "points must be a list of points or dicts")
    ids, vectors, attributes, payload = [], {}, {}, []
    missing = UNSET if kind == "update" else None
    for row, point in enumerate(points):
        if isinstance(point, Point):
            point = {"id": point.id, "vectors": point.vectors, "attributes": point.attributes, "payload": point.payload}
            if point["payload"] is None:
                del point["payload"]
        if not isinstance(point, Mapping) or "id" not in point:
            raise InvalidArgumentError(
                f"point {row} must be a Point or a dict with an 'id', not {shown(point)}", field="points", value=point
            )
        for key in point:
            if key not in _POINT_KEYS and schema.dynamic:
                part = vectors if key in schema.vectors else attributes
                part.setdefault(key, {})[row] = point[key]
            elif key not in _POINT_KEYS:
                advice = f"there are: {', '.join(sorted(_POINT_KEYS))}"
                part = "vectors" if key in schema.vectors else "attributes" if key in schema.attributes else None
                if part is not None:
                    advice = f"write {{{part!r}: {{{key!r}: …}}}}, or pass a table"
                what = f"point {shown(point['id'])} has an unknown key {shown(key)}; {advice}"
                raise InvalidArgumentError(what, field="points", value=key)
        ids.append(point["id"])
        for name, value in _mapping(point.get("vectors"), "vectors").items():
            vectors.setdefault(name, {})[row] = value
        for name, value in _mapping(point.get("attributes"), "attributes").items():
            attributes.setdefault(name, {})[row] = value
        payload.append(point.get("payload", missing))
    columns, attributes = (
        {name: [by_row.get(row, missing) for row in range(len(points))] for name, by_row in part.items()} for part in (vectors, attributes)
    )
    if all(value is missing for value in payload):
        payload = None
    return ids, columns, attributes, payload


def _of_table(table: Table, schema: Schema, ids: Any, vectors: Any, attributes: Any, payload: Any) -> tuple[Any, dict, dict, Any]:
    """The columns of a table by name: ``id`` (unless ids are given as an argument), the fields of the schema, and ``payload``.

    Columns given as arguments are added. Raises SchemaError for any other column, and InvalidArgumentError.
    """
    columns = dict(table.columns)
    if ids is None:
        if "id" not in columns:
            what = f"the table has no column 'id'; rename a column, or pass ids=…. Its columns: {listing(columns)}"
            raise InvalidArgumentError(what, field="columns")
        ids = columns.pop("id")
    taken = {"vectors": {**_mapping(vectors, "vectors")}, "attributes": {**_mapping(attributes, "attributes")}}
    unknown = []
    for name, column in columns.items():
        part = "vectors" if name in schema.vectors else "attributes" if name in schema.attributes else None
        if part is not None and name not in taken[part]:
            taken[part][name] = column
        elif part is None and name == "payload" and payload is None:
            payload = column
        elif part is not None or name == "payload":
            raise InvalidArgumentError(f"{name!r} is given twice: in the table and as an argument", field="columns", value=name)
        elif schema.dynamic:
            taken["attributes"].setdefault(name, column)
        else:
            unknown.append(name)
    if unknown:
        fields = listing([*schema.vectors, *schema.attributes])
        what = f"these columns are not fields of the collection: {listing(map(shown, unknown), 10)}"
        advice = "leave them out, add the fields with add_fields(…), or put them into a column 'payload'"
        raise SchemaError(f"{what}; {advice}. The fields: {fields}", field="columns", value=unknown)
    return ids, taken["vectors"], taken["attributes"], payload
