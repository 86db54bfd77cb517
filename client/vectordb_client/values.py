"""Ids and attribute values: from what a user gives to one stored form each, and back.

Stored forms: keyword/text str · int, datetime (UTC microseconds) int · float float · bool bool · uuid 16 bytes · geo (lat, lon)
floats; an array attribute is a list of them. JSON forms: datetime ISO-8601, uuid its string, geo [lat, lon].
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from .errors import InvalidArgumentError, LimitError, VectorDBError, shown
from .moments import microseconds, moment_at, read_moment
from .schema import Attribute

Id = int | str | uuid.UUID
MAX_KEYWORD_BYTES = 480
MAX_ID_BYTES = 480
MAX_ARRAY = 65_535
DEFAULT_RECALL = 0.95
_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1


def check_id(value: Any) -> Id:
    """An id: an integer from 0 to 2^64 − 1, a non-empty string of at most 480 UTF-8 bytes, or a UUID."""
    kind = type(value)
    if kind is int:
        if 0 <= value < 2**64:
            return value
        raise InvalidArgumentError(f"id {value} is not in 0 … 2^64−1", field="id", value=value)
    if kind is str:
        size = len(_utf8(value, "id"))
        if 0 < size <= MAX_ID_BYTES:
            return value
        if not size:
            raise InvalidArgumentError("id is an empty string", field="id", value=value)
        raise LimitError(f"id {shown(value)} has {size} UTF-8 bytes, at most {MAX_ID_BYTES} are allowed", field="id", value=value)
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, np.integer):
        return check_id(int(value))
    if isinstance(value, np.str_):
        return check_id(str(value))
    raise InvalidArgumentError(
        f"id {shown(value)} is a {kind.__name__}; an id is an unsigned integer, a string or a UUID", field="id", value=value
    )


def _utf8(value: str, name: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{name} {shown(value)} has a lone surrogate and isn't valid text", field=name, value=value) from None


def _wrong(name: str, value: Any, wanted: str) -> VectorDBError:
    return InvalidArgumentError(f"{name} must be {wanted}, not {shown(value)} ({type(value).__name__})", field=name, value=value)


def _keyword(name, value):
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    size = len(_utf8(value, name))
    if size > MAX_KEYWORD_BYTES:
        raise LimitError(
            f"{name} {shown(value)} has {size} UTF-8 bytes; a keyword has at most {MAX_KEYWORD_BYTES} (longer text: Text or payload)",
            field=name,
            value=value,
        )
    return str(value)


def _text(name, value):
    if not isinstance(value, str):
        raise _wrong(name, value, "a string")
    _utf8(value, name)
    return str(value)


def _int(name, value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise _wrong(name, value, "an integer")
    if not _INT_LOW <= value <= _INT_HIGH:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 signed bits", field=name, value=value)
    return int(value)


def _float(name, value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _wrong(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit a 64-bit float", field=name, value=value) from None
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} is {number}; floats must be finite", field=name, value=value)
    return number + 0.0  # −0.0 and 0.0 are one value


def _bool(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong(name, value, "True or False")
    return bool(value)


def _datetime(name, value):
    if isinstance(value, str):
        try:
            value = read_moment(value)
        except ValueError:
            raise _wrong(name, value, "a datetime or an ISO-8601 string") from None
    if not isinstance(value, datetime) and not (isinstance(value, np.datetime64) and not np.isnat(value)):
        raise _wrong(name, value, "a datetime or an ISO-8601 string")
    try:
        return microseconds(value)
    except OverflowError:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 bits of microseconds", field=name, value=value) from None


def _uuid(name, value):
    if isinstance(value, str):
        try:
            value = uuid.UUID(value)
        except ValueError:
            raise _wrong(name, value, "a UUID") from None
    if isinstance(value, bytes) and len(value) == 16:
        return value
    if not isinstance(value, uuid.UUID):
        raise _wrong(name, value, "a UUID")
    return value.bytes


def _geo(name, value):
    if isinstance(value, Mapping):
        if set(value) != {"lat", "lon"}:
            raise _wrong(name, value, "(lat, lon) in degrees")
        value = (value["lat"], value["lon"])
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
        raise _wrong(name, value, "(lat, lon) in degrees")
    lat, lon = _float(name, value[0]), _float(name, value[1])
    if not -90 <= lat <= 90 or not -180 <= lon <= 180:
        raise InvalidArgumentError(f"{name} {shown(value)}: lat must be in −90 … 90 and lon in −180 … 180", field=name, value=value)
    return (lat, lon)


_COERCE = {
    "keyword": _keyword,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "datetime": _datetime,
    "text": _text,
    "uuid": _uuid,
    "geo": _geo,
}
_PLAIN = {"keyword": str, "int": int, "bool": bool, "text": str}


def coerce_element(name: str, kind: str, value: Any) -> Any:
    """The stored form of one value of an attribute kind. Raises InvalidArgumentError naming the attribute and the value."""
    return _COERCE[kind](name, value)


def coerce(name: str, spec: Attribute, value: Any) -> Any:
    """The stored form of an attribute's value; None (and NaT) stay None. Raises InvalidArgumentError or LimitError."""
    if value is None:
        return None
    convert = _COERCE[spec.kind]
    if not spec.array:
        if isinstance(value, np.datetime64) and np.isnat(value):
            return None
        return convert(name, value)
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise _wrong(name, value, f"a list of {spec.kind} values")
    elements = [convert(name, element) for element in value]
    if len(elements) > MAX_ARRAY:
        raise LimitError(f"{name} has {len(elements)} elements, at most {MAX_ARRAY} are allowed", field=name, value=len(elements))
    return elements


def restore(spec: Attribute, stored: Any) -> Any:
    """The user's form of a stored value: aware UTC datetimes, UUIDs, (lat, lon) tuples."""
    if stored is None or spec.kind in _PLAIN or spec.kind == "float":
        return stored
    return [_restore(spec.kind, element) for element in stored] if spec.array else _restore(spec.kind, stored)


def _restore(kind: str, stored: Any) -> Any:
    if kind == "datetime":
        return moment_at(stored)
    if kind == "uuid":
        return uuid.UUID(bytes=bytes(stored))
    return tuple(stored)


def check_recall(value: Any) -> float:
    """The recall that a search asks for: a number above 0, at most 1. Raises InvalidArgumentError."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:  # a comparison with NaN is false
        raise InvalidArgumentError(f"recall must be a number above 0 and at most 1, not {shown(value)}", field="recall", value=value)
    return float(value)


def to_json(value: Any) -> Any:
    """``json.dumps(default=…)`` for user-form values: datetimes, UUIDs, numpy scalars and arrays."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON: {shown(value)}")
