"""Requests to a service as messages and back: ids, vectors, attributes, filters and batches. Pure, no I/O.

``pack_*`` turns checked values into messages (the client). ``unpack_*`` reads messages that may contain anything: lengths, shapes and
ranges are checked before numpy reads them, and every fault raises InvalidArgumentError, which names the field.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from ..errors import FilterError, InvalidArgumentError
from ..model.batch import UNSET, Batch, make_batch
from ..model.checks import check_paths, check_selection
from ..model.fields import VECTOR_TYPES, Column
from ..model.fields.base import array_of
from ..model.schema import Schema, VectorField
from ..model.values import Id, text_of, to_json
from ..v1 import vectordb_pb2 as pb

_KINDS = {int: 0, str: 1, uuid.UUID: 2}
_CHUNK = 4096  # arguments of one struct call

# ---- Bytes and JSON ----

_json = json.JSONEncoder(default=to_json, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def pack_json(value: Any, field: str) -> bytes:
    """UTF-8 JSON. Raises InvalidArgumentError if the value has no JSON form."""
    try:
        return _json(value).encode()
    except Exception as error:  # RecursionError too, and errors of time zones
        raise InvalidArgumentError(f"{field} has no JSON form: {error}", field=field, value=value) from None


def unpack_json(data: bytes, field: str) -> Any:
    """Any JSON value. Raises InvalidArgumentError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{field} is not JSON: {error}", field=field) from None


def unpack_json_list(data: bytes, n: int, field: str) -> list:
    """A JSON array of n values."""
    values = unpack_json(data, field)
    if not isinstance(values, list) or len(values) != n:
        raise InvalidArgumentError(f"{field} must be a JSON array of {n} values", field=field)
    return values


def pack_doubles(values: Sequence[float]) -> bytes:
    """float64, little-endian. struct is faster than numpy for Python floats in the number of a result list."""
    return struct.pack(f"<{len(values)}d", *values)


def unpack_items(data: bytes, code: str, n: int, field: str) -> tuple:
    """n Python numbers of a struct code. Raises InvalidArgumentError if the length differs."""
    size = struct.calcsize("<" + code)
    if len(data) != n * size:
        raise InvalidArgumentError(f"{field} has {len(data)} bytes, not {n} × {size}", field=field, value=len(data))
    return struct.unpack(f"<{n}{code}", data)


def pack_bits(flags: Sequence[bool] | np.ndarray) -> bytes:
    """A bitmap, lowest bit first; empty if no bit is set."""
    flags = np.asarray(flags, dtype=bool)
    return np.packbits(flags, bitorder="little").tobytes() if flags.any() else b""


def unpack_bits(data: bytes, n: int, field: str) -> np.ndarray:
    """bool ``(n,)``; empty bytes are n unset bits."""
    if not data:
        return np.zeros(n, dtype=bool)
    if len(data) != (n + 7) // 8:
        raise InvalidArgumentError(f"{field} is a bitmap of {len(data)} bytes, not of {n} bits", field=field, value=len(data))
    return np.unpackbits(np.frombuffer(data, np.uint8), count=n, bitorder="little").astype(bool)


# ---- Ids ----


def pack_ids(ids: Sequence[Id]) -> pb.Ids:
    """A column of checked ids."""
    kinds = set(map(type, ids))
    if len(kinds) <= 1:
        kind, same = next(iter(kinds), int), cast(Any, ids)  # all of one type
        if kind is int:
            return pb.Ids(integers=_integers(same))
        return pb.Ids(strings=same) if kind is str else pb.Ids(uuids=b"".join([i.bytes for i in same]))
    return pb.Ids(
        kinds=bytes([_KINDS[type(i)] for i in ids]),
        integers=_integers([i for i in ids if type(i) is int]),
        strings=[i for i in ids if type(i) is str],
        uuids=b"".join([i.bytes for i in ids if type(i) is uuid.UUID]),
    )


def _integers(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}Q", *ids) if len(ids) <= _CHUNK else np.array(ids, dtype="<u8").tobytes()


def unpack_ids(message: pb.Ids) -> list[Any]:
    """The ids in order. Strings are not checked here; ``check_id`` does that."""
    data, strings, uuids = message.integers, message.strings, message.uuids
    integers = unpack_items(data, "Q", len(data) // 8, "ids")
    if not message.kinds:
        if bool(integers) + bool(strings) + bool(uuids) > 1:
            raise InvalidArgumentError("ids of several kinds need 'kinds'", field="ids")
        if strings:
            return list(strings)
        return _uuids(uuids) if uuids else list(integers)
    sources = (integers, strings, _uuids(uuids))
    kinds = message.kinds
    if max(kinds) > 2 or any(kinds.count(kind) != len(source) for kind, source in enumerate(sources)):
        raise InvalidArgumentError("'kinds' of ids doesn't agree with the ids given", field="ids", value=len(kinds))
    nexts = [iter(source).__next__ for source in sources]
    return [nexts[kind]() for kind in kinds]


def _uuids(data: bytes) -> list[uuid.UUID]:
    if len(data) % 16:
        raise InvalidArgumentError(f"UUIDs of ids have {len(data)} bytes, not a multiple of 16", field="ids", value=len(data))
    return [uuid.UUID(bytes=data[at : at + 16]) for at in range(0, len(data), 16)]


# ---- Vectors ----


def pack_column(message: pb.VectorColumn, field: str, column: Column | None, removed: np.ndarray | None = None) -> None:
    """Fill a message with a checked column. None with ``removed``: the vectors of these rows are only removed."""
    message.field = field
    if column is not None:
        column.pack(getattr(message, column.message))
    if column is not None and column.rows is not None:
        message.rows = np.ascontiguousarray(column.rows, "<i4").tobytes()
    if removed is not None:
        message.removed = np.ascontiguousarray(removed, "<i4").tobytes()


def unpack_column(message: pb.VectorColumn, n: int, column: type[Column] | None = None) -> Column | None:
    """The column of n points, or of their ``rows``. None if the message has no vectors. column: its class, if the field is known."""
    kind, field = message.WhichOneof("vectors"), message.field
    if kind is None:
        return None
    rows = unpack_rows(message.rows, n, field) if message.HasField("rows") else None
    return (column or VECTOR_TYPES[kind].column).unpack(getattr(message, kind), n if rows is None else len(rows), field, rows)


def unpack_rows(data: bytes, n: int, field: str) -> np.ndarray:
    """int32 positions, ascending, from 0 to n − 1."""
    rows = array_of(data, "<i4", field)
    # The bounds are checked first, so that differences can't overflow.
    if len(rows) and (rows.min() < 0 or rows.max() >= n or (np.diff(rows) <= 0).any()):
        raise InvalidArgumentError(f"rows of vectors {field!r} are not ascending positions below {n}", field=field)
    return rows


def _unpack_columns(messages: Sequence[pb.VectorColumn], n: int, schema: Schema, queries: bool = False) -> dict[str, Column | None]:
    columns = {}
    for message in messages:
        spec = schema.vector(message.field)
        if message.field in columns:
            raise InvalidArgumentError(f"vector field {message.field!r} appears twice", field=message.field)
        kind = message.WhichOneof("vectors")
        column = spec.source_column if queries else None
        if column is None or kind != column.message:
            column = spec.column
        if kind not in (None, column.message):
            raise InvalidArgumentError(
                f"vector field {message.field!r} is {spec.kind}, the vectors are {kind}", field=message.field, value=kind
            )
        columns[message.field] = unpack_column(message, n, column)
    return columns


# ---- Filters, selections ----


def pack_filter(value: Any, field: str = "filter") -> pb.Filter | None:
    """A filter as a string, a dict or a tree. Raises FilterError for anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        return pb.Filter(text=text_of(value, field))
    if not isinstance(value, Mapping):
        from ..model.filter import not_a_filter, to_dict
        from ..model.filter_nodes import Filter

        if not isinstance(value, Filter):
            raise not_a_filter(value)
        value = to_dict(value)
    try:
        return pb.Filter(json=pack_json(value, field))
    except InvalidArgumentError as error:
        raise FilterError(error.message, field=field, value=value) from None


def unpack_filter(holder: Any, field: str = "filter") -> Any:
    """The filter of a request: a string, a JSON value, or None."""
    if not holder.HasField(field):
        return None
    message = getattr(holder, field)
    if message.WhichOneof("form") is None:
        raise FilterError("the filter is empty", field=field)
    return form_of(message, field)


def form_of(message: pb.Filter, field: str = "filter") -> Any:
    """What a filter's message holds: a string, a JSON value, or None."""
    form = message.WhichOneof("form")
    return None if form is None else message.text if form == "text" else unpack_json(message.json, field)


def pack_selection(value: Any, field: str) -> pb.Selection | None:
    """``with_vectors=`` / ``with_attributes=``: True, False or names."""
    names = value if value is True or value is False else check_selection(field, value)
    if isinstance(names, bool):
        return pb.Selection(all=True) if names else None
    return pb.Selection(names=[text_of(name, field) for name in names])


def unpack_selection(request: Any, field: str) -> bool | list[str]:
    """True, False or a list of names. An empty list differs from False: it still selects the payload."""
    if not request.HasField(field):
        return False
    message = getattr(request, field)
    return True if message.all else list(message.names)


def pack_paths(value: Any) -> pb.Selection | None:
    """``with_payload=``: True, False, paths, or None, which has no message. Raises InvalidArgumentError."""
    paths = check_paths("with_payload", value)
    if paths is None:
        return None
    return pb.Selection(all=paths) if isinstance(paths, bool) else pb.Selection(names=[text_of(path, "with_payload") for path in paths])


def unpack_paths(request: Any) -> bool | list[str] | None:
    """None, True, False or a list of paths."""
    if not request.HasField("with_payload"):
        return None
    message = request.with_payload
    return True if message.all else list(message.names) or False


# ---- Batches ----


def pack_versions(versions: Sequence[int | None] | None) -> bytes:
    """``if_version`` as int64, −1 for any."""
    return b"" if versions is None else np.array([-1 if v is None else v for v in versions], dtype="<i8").tobytes()


def unpack_versions(data: bytes, n: int) -> list[int | None] | None:
    return [None if v == -1 else v for v in unpack_items(data, "q", n, "if_version")] if data else None


def pack_batch(message: pb.Batch, batch: Batch, schema: Schema) -> None:
    """Fill a message with a checked batch."""
    update = batch.kind == "update"
    message.kind = pb.WRITE_KIND_UPDATE if update else pb.WRITE_KIND_UPSERT
    message.ids.CopyFrom(pack_ids(batch.ids))
    for name in dict.fromkeys((*batch.vectors, *batch.removed)):
        pack_column(message.vectors.add(), name, batch.vectors.get(name), batch.removed.get(name))
    for name, values in batch.attributes.items():
        spec, known = schema.attribute(name), [None if value is UNSET else value for value in values]
        column = message.attributes.add(name=name, json=pack_json(known if spec.plain else [*map(spec.restore, known)], name))
        if update:
            column.unset = pack_bits([value is UNSET for value in values])
    for name, values in batch.keys.items():  # the server finds that they aren't declared
        known = [None if value is UNSET else value for value in values]
        message.attributes.add(name=name, json=pack_json(known, name), unset=pack_bits([value is UNSET for value in values]))
    if batch.payload is not None:
        message.payload.json = pack_json([None if value is UNSET else value for value in batch.payload], "payload")
        message.payload.unset = pack_bits([value is UNSET for value in batch.payload])
    message.if_version = pack_versions(batch.if_version)
    for name, values in batch.increments.items():
        message.increments.add(name=name, json=pack_json(values, name))
    if batch.payload_merge is not None:
        message.payload_merge.json = pack_json(batch.payload_merge, "payload_merge")
    message.if_absent = batch.if_absent
    if batch.filter is not None:
        message.filter.CopyFrom(cast(pb.Filter, pack_filter(batch.filter)))
    if batch.if_filter is not None:
        message.if_filter.CopyFrom(cast(pb.Filter, pack_filter(batch.if_filter)))


def unpack_batch(message: pb.Batch, schema: Schema) -> Batch:
    """The batch, checked against the schema like the input of a user. Raises InvalidArgumentError, SchemaError or LimitError."""
    kind = {pb.WRITE_KIND_UPSERT: "upsert", pb.WRITE_KIND_UPDATE: "update"}.get(message.kind)
    if kind is None:
        raise InvalidArgumentError(f"a batch must be an upsert or an update, not kind {message.kind}", field="kind", value=message.kind)
    given, by_filter = unpack_ids(message.ids), message.HasField("filter")
    if by_filter and given:
        raise InvalidArgumentError("a batch has either ids or a filter", field="filter")
    ids, n = (None, 1) if by_filter else (given, len(given))
    columns = _unpack_columns(message.vectors, n, schema)
    attributes: dict[str, list[Any]] = {}
    for column in message.attributes:
        if column.name in attributes:
            raise InvalidArgumentError(f"attribute {column.name!r} appears twice", field=column.name)
        attributes[column.name] = _unpack_values(column, n, kind, column.name)
    payload = _unpack_values(message.payload, n, kind, "payload") if message.HasField("payload") else None
    merging = unpack_json_list(message.payload_merge.json, n, "payload_merge") if message.HasField("payload_merge") else None
    vectors: dict[str, Any] = {name: column for name, column in columns.items() if column is not None}
    if by_filter:  # one value for each field
        attributes = {name: value for name, (value,) in attributes.items()}
        payload = None if payload is None else payload[0]
        vectors |= {column.field: None for column in message.vectors if column.removed and columns[column.field] is None}
    batch = make_batch(
        schema,
        kind,
        ids=ids,
        vectors=vectors,
        attributes=attributes,
        payload=payload,
        if_version=unpack_versions(message.if_version, n),
        if_filter=unpack_filter(message, "if_filter"),
        filter=unpack_filter(message),
        increment={column.name: unpack_json_list(column.json, n, column.name) for column in message.increments} or None,
        payload_merge=merging,
        if_absent=message.if_absent,
    )
    for column in message.vectors:
        if column.removed:
            batch.removed[column.field] = _removed(column, batch, n)
    return batch


def _unpack_values(column: pb.JsonColumn, n: int, kind: str, field: str) -> list:
    values = unpack_json_list(column.json, n, field)
    if column.unset:
        if kind != "update":
            raise InvalidArgumentError(f"{field}: only an update may leave values unset", field=field)
        for row in np.flatnonzero(unpack_bits(column.unset, n, field)):
            values[row] = UNSET
    return values


def _removed(message: pb.VectorColumn, batch: Batch, n: int) -> np.ndarray:
    field, rows = message.field, unpack_rows(message.removed, n, message.field)
    if batch.kind != "update":
        raise InvalidArgumentError(f"vectors {field!r}: only an update may remove vectors", field=field)
    column = batch.vectors.get(field)
    if column is not None and (column.rows is None or np.intersect1d(column.rows, rows).size):
        raise InvalidArgumentError(f"vectors {field!r} are set and removed for the same point", field=field)
    return rows


# ---- Queries ----


def query_columns(requests: Sequence[pb.VectorColumn], n: int, schema: Schema) -> dict[str, Column]:
    """The query vectors of a request: field → column with one vector for each query."""
    columns = _unpack_columns(requests, n, schema, queries=True)
    for message in requests:
        if columns[message.field] is None or message.HasField("rows") or message.removed:
            raise InvalidArgumentError(f"query vectors {message.field!r} need one vector for each of {n} queries", field=message.field)
    return columns  # type: ignore[return-value]


def pack_queries(message: pb.VectorColumn, field: str, spec: VectorField, queries: Sequence[Any]) -> None:
    """Fill a message with checked query vectors of ``query_vector``."""
    column = spec.source_column if queries and hasattr(queries[0], "shape") else None
    pack_column(message, field, (column or spec.column).of(spec, queries))
