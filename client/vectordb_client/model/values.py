"""Ids and attribute values: checks of user input, the stored form of each value, and the way back.

Stored forms: keyword/text str · int, datetime (UTC microseconds) int · float float · bool bool · uuid 16 bytes · geo (lat, lon)
floats; an array attribute is a list of them. JSON forms: datetime ISO-8601, uuid its string, geo [lat, lon].
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, LimitError, VectorDBError, shown
from .foreign import is_integer, is_nan, is_null, is_number, listed, plain, read_with
from .moments import microseconds, moment_at, read_moment
from .schema import Attribute

Id = int | str | uuid.UUID
MAX_KEYWORD_BYTES = 480
MAX_ID_BYTES = 480
MAX_ARRAY = 65_535
MAX_LIMIT = 100_000  # hits of a query; also candidates of an arm
DEFAULT_RECALL = 0.95
_AN_ID = "an id is an unsigned integer, a string or a UUID"
_A_DATETIME = "a datetime, a date, or a string such as '2021-05-01' or '2021-05-01T12:00:00+02:00'"
_PARTIAL_DATE = re.compile(r"([1-9][0-9]{3})(?:-(0[1-9]|1[0-2]))?")
_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1


def check_id(value: Any) -> Id:
    """Check an id: an integer from 0 to 2^64 − 1, a non-empty string of at most 480 UTF-8 bytes, or a UUID.

    The JSON form of a UUID is accepted as well: ``{"uuid": "…"}``. Raises InvalidArgumentError or LimitError.
    """
    kind = type(value)
    if kind is int:
        if 0 <= value < 2**64:
            return value
        raise InvalidArgumentError(f"id {shown(value)} is not in 0 … 2^64−1", field="id", value=value)
    if kind is str:
        size = len(_utf8(value, "id"))
        if 0 < size <= MAX_ID_BYTES:
            return value
        if not size:
            raise InvalidArgumentError("id is an empty string", field="id", value=value)
        raise LimitError(f"id {shown(value)} has {size} UTF-8 bytes, at most {MAX_ID_BYTES} are allowed", field="id", value=value)
    if isinstance(value, uuid.UUID):
        return value
    if is_integer(value):
        return check_id(int(value))
    if isinstance(value, str):
        return check_id(str.__str__(value))
    if is_null(value) or is_nan(value):
        raise InvalidArgumentError(f"id is null ({shown(value)}); {_AN_ID}", field="id", value=value)
    if (python := plain(value)) is not value:
        return check_id(python)
    if isinstance(value, Mapping) and set(value) == {"uuid"} and isinstance(value["uuid"], str):
        try:
            return uuid.UUID(value["uuid"])
        except ValueError:
            pass
    raise InvalidArgumentError(f"id {shown(value)} is a {kind.__name__}; {_AN_ID}", field="id", value=value)


def is_single_id(value: Any) -> bool:
    """Whether this is one id (valid or not) rather than a list of ids."""
    return isinstance(value, (bool, str, uuid.UUID)) or is_integer(value) or (hasattr(value, "as_py") and not hasattr(value, "__len__"))


def text_of(value: Any, field: str) -> str:
    """Check a string that UTF-8 can represent. Raises InvalidArgumentError."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{field} must be a string, not {shown(value)}", field=field, value=value)
    _utf8(value, field)
    return value


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
    if not is_integer(value):
        raise _wrong(name, value, "an integer")
    if not _INT_LOW <= value <= _INT_HIGH:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 signed bits", field=name, value=value)
    return int(value)


def _float(name, value):
    if not is_number(value):
        raise _wrong(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit a 64-bit float", field=name, value=value) from None
    if not math.isfinite(number):
        hint = "; a missing value is None" if number != number else ""
        raise InvalidArgumentError(f"{name} is {number}; floats must be finite{hint}", field=name, value=value)
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
            raise _wrong(name, value, _A_DATETIME) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime) and not (isinstance(value, np.datetime64) and not np.isnat(value)):
        raise _wrong(name, value, _A_DATETIME)
    try:
        return microseconds(value)
    except OverflowError:
        raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 bits of microseconds", field=name, value=value) from None
    except Exception as error:  # raised by a time zone, or by a datetime class of another library
        raise InvalidArgumentError(f"{name} {shown(value)} is not a moment in time: {error}", field=name, value=value) from error


def first_moment(text: str) -> str | datetime:
    """The first moment, in UTC, of a year or a month such as "2021" or "2021-05". Any other text is returned unchanged."""
    found = _PARTIAL_DATE.fullmatch(text)
    return text if found is None else datetime(int(found[1]), int(found[2] or 1), 1, tzinfo=UTC)


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
    pair = read_with(name, value, listed)
    if pair is None or len(pair) != 2:
        raise _wrong(name, value, "(lat, lon) in degrees")
    lat, lon = _float(name, pair[0]), _float(name, pair[1])
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
_PYTHON = frozenset((str, int, bool, list, tuple, datetime, uuid.UUID))  # never null
_PLAIN = {"keyword": str, "int": int, "bool": bool, "text": str}


def coerce_element(name: str, kind: str, value: Any) -> Any:
    """The stored form of one value. Raises InvalidArgumentError or LimitError."""
    return _COERCE[kind](name, value)


def coerce(name: str, spec: Attribute, value: Any) -> Any:
    """The stored form of the value of an attribute, or None if it is null. Raises InvalidArgumentError or LimitError.

    Null are None, NaT, ``pandas.NA``, a masked value, and NaN of an attribute that is not a float. An array can't have null elements.
    """
    if value is None:
        return None
    convert = _COERCE[spec.kind]
    if type(value) not in _PYTHON and not (type(value) is float and value == value):
        if is_null(value):
            return None
        value = plain(value)
        if is_nan(value) and (spec.array or spec.kind != "float"):
            return None
    if not spec.array:
        return convert(name, value)
    elements = list(value) if isinstance(value, (set, frozenset)) else read_with(name, value, listed)
    if elements is None:
        raise _wrong(name, value, f"a list of {spec.kind} values")
    for element in elements:
        if element is None or (type(element) not in _PYTHON and type(element) is not float and is_null(element)):
            raise InvalidArgumentError(f"{name} {shown(value)} has a null element; leave it out", field=name, value=value)
    elements = [convert(name, element if type(element) in _PYTHON or type(element) is float else plain(element)) for element in elements]
    if len(elements) > MAX_ARRAY:
        raise LimitError(f"{name} has {len(elements)} elements, at most {MAX_ARRAY} are allowed", field=name, value=len(elements))
    return elements


def restore(spec: Attribute, stored: Any) -> Any:
    """The user's form of a stored value: datetimes in UTC, UUIDs, (lat, lon) tuples."""
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
    """Check the recall of a search: a number above 0 and at most 1. Raises InvalidArgumentError."""
    if not is_number(value) or not 0 < value <= 1:  # a comparison with NaN is false
        raise InvalidArgumentError(f"recall must be a number above 0 and at most 1, not {shown(value)}", field="recall", value=value)
    return float(value)


def check_count(name: str, value: Any) -> int:
    """Check a limit, or a number of candidates: an integer from 1 to 100,000. Raises InvalidArgumentError."""
    if not is_integer(value) or not 1 <= value <= MAX_LIMIT:
        raise InvalidArgumentError(f"{name} must be an integer from 1 to {MAX_LIMIT}, not {shown(value)}", field=name, value=value)
    return int(value)


def check_durability(value: Any) -> str:
    """Check the durability of a write: "commit" or "batched". Raises InvalidArgumentError."""
    if not isinstance(value, str) or value not in ("commit", "batched"):
        raise InvalidArgumentError(f"durability must be 'commit' or 'batched', not {shown(value)}", field="durability", value=value)
    return value


def check_wait(timeout: Any) -> float | None:
    """Check how long ``optimize`` or ``purge`` waits: seconds from 0 to 1e9, or None. Raises InvalidArgumentError."""
    if timeout is None or (isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and 0 <= timeout < 1e9):
        return timeout
    what = f"timeout must be a number of seconds, at least 0, or None, not {shown(timeout)}"
    raise InvalidArgumentError(what, field="timeout", value=timeout)


def check_since(since: Any) -> int:
    """Check the sequence number after which changes are read. Raises InvalidArgumentError."""
    if not is_integer(since) or not 0 <= since < 2**64:
        what = f"since must be a sequence number, an integer of at least 0, not {shown(since)}"
        raise InvalidArgumentError(what, field="since", value=since)
    return int(since)


def not_a_cursor(value: Any) -> InvalidArgumentError:
    """The error for a value that is not the cursor of a page."""
    what = f"cursor must be the cursor of an earlier page of scroll, or None, not {shown(value)}"
    return InvalidArgumentError(what, field="cursor", value=value)


def to_json(value: Any) -> Any:
    """``json.dumps(default=…)`` for values in the user's form: datetimes, UUIDs, numpy scalars and arrays."""
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
    raise TypeError(f"{shown(value)} ({type(value).__name__}) has no JSON form")
