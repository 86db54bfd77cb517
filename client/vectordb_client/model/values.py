"""Checks of ids and of small arguments, and the JSON form of any value."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, LimitError, shown
from .attributes import type_of
from .attributes.base import utf8
from .foreign import is_integer, is_nan, is_null, plain

Id = int | str | uuid.UUID
MAX_ID_BYTES = 480
_AN_ID = "an id is an unsigned integer, a string or a UUID"


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
        size = len(utf8(value, "id"))
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
    utf8(value, field)
    return value


def to_json(value: Any) -> Any:
    """``json.dumps(default=…)`` for values in the user's form: those of all types of attributes, numpy scalars and arrays."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    attribute = type_of(value)
    if attribute is not None:
        return attribute.to_json(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{shown(value)} ({type(value).__name__}) has no JSON form")
