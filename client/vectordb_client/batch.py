"""A write as columns: what users give (columns, points, dicts) brought to one checked form.

The embedded database applies it, the client puts it on the wire, the server reads it back: all three speak ``Batch``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidArgumentError, LimitError, shown
from .results import Point
from .schema import Dense, Schema, Sparse
from .values import Id, check_id, coerce
from .vectors import Column, dense_column, multi_column, sparse_column

MAX_BATCH = 100_000
NO_COLUMN = (str, bytes, Mapping, set, frozenset)  # they have a length, but a set has no order to line values up by


class _Unset:
    """The value of an attribute that an update doesn't name for this point."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self):
        return "UNSET"


UNSET = _Unset()


@dataclass(frozen=True)
class Batch:
    """``len(ids)`` points to upsert or update, checked against a schema.

    vectors: field → column; a column's ``rows`` says which points it covers. removed: field → rows of an update whose vector is taken
    away.
    attributes: name → one stored-form value a point; None is null, UNSET (updates only) leaves what is there.
    payload: one JSON value a point, None for none, UNSET (updates only) leaves what is there.
    """

    kind: str
    ids: Sequence[Id]
    vectors: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    payload: Sequence[Any] | None = None
    removed: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    if_version: Sequence[int | None] | None = None
    if_filter: Any = None


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
) -> Batch:
    """The checked Batch of ``upsert``/``update`` arguments: columns (``ids=…``) or a list of points or dicts.

    Raises InvalidArgumentError, SchemaError or LimitError naming the field and the value; nothing has been written then.
    """
    if points is not None:
        if ids is not None or vectors is not None or attributes is not None or payload is not None:
            raise InvalidArgumentError("give either points or columns (ids, vectors, attributes, payload), not both", field="points")
        ids, vectors, attributes, payload = _columns_of(points, schema, kind)
    elif ids is None:
        raise InvalidArgumentError("ids are missing", field="ids")
    ids = check_ids(ids)
    n = len(ids)
    columns, removed = {}, {}
    for name, value in _mapping(vectors, "vectors").items():
        spec = schema.vector(name)
        if value is None:
            if kind == "update":
                removed[name] = np.arange(n, dtype=np.int32)
            continue
        column, gone = _vector_column(name, spec, value, n, ids)
        if column is not None:
            columns[name] = column
        if kind == "update" and len(gone):
            removed[name] = gone
    checked = {}
    for name, values in _mapping(attributes, "attributes").items():
        spec = schema.attribute(name)
        if values is None:
            values = [None] * n
        elif isinstance(values, np.ndarray):
            values = list(values) if values.dtype.kind in "Mm" or values.ndim != 1 else values.tolist()
        elif isinstance(values, NO_COLUMN) or not hasattr(values, "__len__"):
            raise InvalidArgumentError(f"attribute {name!r} must be a column of {n} values, not {shown(values)}", field=name, value=values)
        _check_length(name, values, n)
        checked[name] = [value if value is UNSET and kind == "update" else coerce(name, spec, value) for value in values]
    if payload is not None:
        if isinstance(payload, NO_COLUMN) or not hasattr(payload, "__len__"):
            raise InvalidArgumentError(f"payload must be a list of {n} JSON values, not {shown(payload)}", field="payload", value=payload)
        _check_length("payload", payload, n)
        payload = [value if value is None or (value is UNSET and kind == "update") else _plain_json(value) for value in payload]
    return Batch(kind, ids, columns, checked, payload, removed, versions_of(if_version, ids), if_filter)


def check_ids(ids: Any) -> list[Id]:
    """A list of distinct ids. Raises InvalidArgumentError naming a wrong or repeated one."""
    if isinstance(ids, NO_COLUMN) or not hasattr(ids, "__len__"):
        raise InvalidArgumentError(f"ids must be a list or array of ids, not {shown(ids)}", field="ids", value=ids)
    if len(ids) > MAX_BATCH:
        raise LimitError(f"a batch has at most {MAX_BATCH} points, not {len(ids)}", field="ids", value=len(ids))
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise InvalidArgumentError(f"ids must be one-dimensional, not of shape {ids.shape}", field="ids", value=ids.shape)
        ids = ids.tolist()
    checked = [check_id(value) for value in ids]
    if len(set(checked)) != len(checked):
        seen = set()
        for value in checked:
            if value in seen:
                raise InvalidArgumentError(f"id {shown(value)} appears twice in the batch", field="ids", value=value)
            seen.add(value)
    return checked


def versions_of(if_version: Any, ids: Sequence[Id]) -> list[int | None] | None:
    """``if_version=`` as one expected version a point: an int for all, a list, or a mapping from id; 0 is "must not exist"."""
    if if_version is None:
        return None
    if isinstance(if_version, Mapping):
        unknown = set(if_version) - set(ids)
        if unknown:
            value = next(iter(unknown))
            raise InvalidArgumentError(f"if_version names {shown(value)}, which is not in the batch", field="if_version", value=value)
        versions = [if_version.get(i) for i in ids]
    elif isinstance(if_version, (int, np.integer)) and not isinstance(if_version, bool):
        versions = [int(if_version)] * len(ids)
    elif isinstance(if_version, (list, tuple, np.ndarray)):
        versions = if_version.tolist() if isinstance(if_version, np.ndarray) else list(if_version)
        _check_length("if_version", versions, len(ids))
    else:
        raise InvalidArgumentError(
            f"if_version must be an integer, a list or a mapping, not {shown(if_version)}", field="if_version", value=if_version
        )
    for value in versions:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63):
            raise InvalidArgumentError(f"if_version {shown(value)} is not a version number", field="if_version", value=value)
    return versions


def _mapping(value: Any, field: str) -> Mapping:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(f"{field} must be a mapping of field names to columns, not {shown(value)}", field=field, value=value)
    return value


def _check_length(name: str, values: Sequence, n: int) -> None:
    if len(values) != n:
        raise InvalidArgumentError(f"{name} has {len(values)} values for {n} ids", field=name, value=len(values))


def _vector_column(name: str, spec, value: Any, n: int, ids: Sequence[Id]) -> tuple[Column | None, np.ndarray]:
    """The column of a field, and the rows given as None."""
    rows, gone = None, np.empty(0, np.int32)
    if isinstance(value, Column):
        rows = value.rows
        if rows is not None and (
            len(rows) != len(value) or (rows[1:] <= rows[:-1]).any() or (len(rows) and not 0 <= rows[0] <= rows[-1] < n)
        ):
            raise InvalidArgumentError(f"rows of vectors {name!r} are not ascending rows of the batch", field=name, value=len(rows))
    elif isinstance(value, (list, tuple)) and len(value) == n and any(v is None or v is UNSET for v in value):
        rows = np.array([row for row, v in enumerate(value) if v is not None and v is not UNSET], dtype=np.int32)
        gone = np.array([row for row, v in enumerate(value) if v is None], dtype=np.int32)
        value = [value[row] for row in rows]
    count = n if rows is None else len(rows)
    named = ids if rows is None else [ids[r] for r in rows]
    if count == 0:
        return None, gone
    if isinstance(spec, Dense):
        return dense_column(name, spec, value, count, rows, named), gone
    if isinstance(spec, Sparse):
        return sparse_column(name, spec, value, count, rows, named), gone
    return multi_column(name, spec, value, count, rows, named), gone


def _plain_json(value: Any) -> Any:
    """A payload as JSON would give it back (keys are strings, tuples are lists); what JSON can't say is refused here."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        return json.loads(text, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"payload {shown(value)} is not JSON: {error}", field="payload", value=value) from None


def _integer(digits: str) -> int:
    number = int(digits)
    if -(2**63) <= number < 2**64:
        return number
    raise ValueError(f"{digits} doesn't fit 64 bits")


_POINT_KEYS = {"id", "vectors", "attributes", "payload", "version"}


def _columns_of(points: Any, schema: Schema, kind: str) -> tuple[list, dict, dict, list | None]:
    """Rows to columns. What a point doesn't name is None in an upsert and UNSET in an update."""
    if isinstance(points, (str, bytes, Mapping, Point)) or not hasattr(points, "__iter__"):
        raise InvalidArgumentError(f"points must be a list of points or dicts, not {shown(points)}", field="points", value=points)
    points = list(points)
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
            if key not in _POINT_KEYS:
                raise InvalidArgumentError(
                    f"point {shown(point['id'])} has an unknown key {shown(key)}; there are: {', '.join(sorted(_POINT_KEYS))}",
                    field="points",
                    value=key,
                )
        ids.append(point["id"])
        for name, value in _mapping(point.get("vectors"), "vectors").items():
            vectors.setdefault(name, {})[row] = value
        for name, value in _mapping(point.get("attributes"), "attributes").items():
            attributes.setdefault(name, [missing] * len(points))[row] = value
        payload.append(point.get("payload", missing))
    columns = {name: [by_row.get(row, missing) for row in range(len(points))] for name, by_row in vectors.items()}
    if all(value is missing for value in payload):
        payload = None
    return ids, columns, attributes, payload
