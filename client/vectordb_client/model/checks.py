"""Checks of arguments that many methods have: flags, counts, timeouts, selections. Each returns the checked value.

All raise InvalidArgumentError, which names the argument and shows its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, VectorDBError, listing, shown
from .foreign import is_integer, is_number

MAX_NUMBER = 1e6  # limit of a weight and of k; weighted scores of the longest vectors then stay within float32
MAX_LIMIT = 100_000  # hits of a query; also candidates of an arm
DEFAULT_RECALL = 0.95
LONGEST_WAIT = 1e9  # seconds; longer timeouts are none (gRPC says 9e18 where a call has no deadline)


def check_flag(name: str, value: Any, error: type[VectorDBError] = InvalidArgumentError) -> bool:
    """Check a flag: True or False, also of numpy."""
    if value is not True and value is not False and not isinstance(value, np.bool_):
        raise error(f"{name} must be True or False, not {shown(value)}", field=name, value=value)
    return bool(value)


def check_count(name: str, value: Any) -> int:
    """Check a limit, or a number of candidates: an integer from 1 to 100,000."""
    if type(value) is int and 1 <= value <= MAX_LIMIT:
        return value
    if not is_integer(value) or not 1 <= value <= MAX_LIMIT:
        raise InvalidArgumentError(f"{name} must be an integer from 1 to {MAX_LIMIT}, not {shown(value)}", field=name, value=value)
    return int(value)


def check_recall(name: str, value: Any) -> float:
    """Check a share of results: a number above 0 and at most 1."""
    if not is_number(value) or not 0 < value <= 1:  # a comparison with NaN is false
        raise InvalidArgumentError(f"{name} must be a number above 0 and at most 1, not {shown(value)}", field=name, value=value)
    return float(value)


def check_selection(name: str, value: Any, fields: Mapping[str, Any] | None = None) -> bool | tuple[str, ...]:
    """Check a selection: True, False or a list of names. fields: the names that exist; None: any name will do."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence):
        raise InvalidArgumentError(f"{name} must be True, False or a list of names, not {shown(value)}", field=name, value=value)
    if not all(isinstance(field, str) for field in value):
        raise InvalidArgumentError(f"{name} must be True, False or a list of names, not {shown(value)}", field=name, value=value)
    for field in value:
        if fields is not None and field not in fields:
            raise InvalidArgumentError(f"{name}: no field {shown(field)}; the fields are: {listing(fields)}", field=name, value=field)
    return tuple(value)


def check_paths(name: str, value: Any) -> bool | tuple[str, ...] | None:
    """Check a selection of the payload: True, False, a list of paths, or None. Raises InvalidArgumentError."""
    if value is None:
        return None
    try:
        paths = check_selection(name, value)
    except InvalidArgumentError:
        wanted = "True, False, None or a list of paths such as ['title', 'meta.page']"
        raise InvalidArgumentError(f"{name} must be {wanted}, not {shown(value)}", field=name, value=value) from None
    if paths is not True and paths is not False and not all(paths):
        raise InvalidArgumentError(f"{name} has an empty path; for the whole payload write True", field=name, value=value)
    return paths


def check_name_list(name: str, value: Any) -> tuple[str, ...]:
    """Check a list of names; a single one may stand alone."""
    names = (value,) if isinstance(value, str) else value
    if (
        isinstance(names, (bytes, bytearray, memoryview))
        or not isinstance(names, Sequence)
        or not all(isinstance(each, str) and each for each in names)
    ):
        raise InvalidArgumentError(f"{name} must be a list of names, such as ['body'], not {shown(value)}", field=name, value=value)
    return tuple(dict.fromkeys(names))


def check_fuzzy(name: str, value: Any, error: type[VectorDBError] = InvalidArgumentError) -> int:
    """Check how many letters of a word may differ: 0, 1 or 2."""
    if not is_integer(value) or not 0 <= value <= 2:
        raise error(f"{name} must be 0, 1 or 2 letters, not {shown(value)}", field=name, value=value)
    return int(value)


def check_names(name: str, value: Any, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fields that a selection selects."""
    chosen = check_selection(name, value, fields)
    return (tuple(fields) if chosen else ()) if isinstance(chosen, bool) else chosen


def check_timeout(value: Any) -> float | None:
    """Check the timeout of a call: seconds above 0; None and infinity have no limit."""
    if value is not None and (not _is_seconds(value) or not value > 0):
        raise InvalidArgumentError(f"timeout must be a number of seconds above 0, not {shown(value)}", field="timeout", value=value)
    return None if value == float("inf") else value  # gRPC treats infinity as a deadline that has passed


def check_wait(value: Any) -> float | None:
    """Check how long ``optimize`` or ``purge`` waits: seconds from 0 to 1e9, or None."""
    if value is None or (_is_seconds(value) and 0 <= value < LONGEST_WAIT):
        return value
    what = f"timeout must be a number of seconds, at least 0, or None, not {shown(value)}"
    raise InvalidArgumentError(what, field="timeout", value=value)


def check_write_timeout(value: Any) -> float:
    """Check how long a write waits for another process: seconds above 0 and below 1e9."""
    if not _is_seconds(value) or not 0 < value < LONGEST_WAIT:
        raise InvalidArgumentError(f"write_timeout must be seconds > 0, not {shown(value)}", field="write_timeout", value=value)
    return value


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_durability(value: Any) -> str:
    """Check the durability of a write: "commit" or "batched"."""
    if not isinstance(value, str) or value not in ("commit", "batched"):
        raise InvalidArgumentError(f"durability must be 'commit' or 'batched', not {shown(value)}", field="durability", value=value)
    return value


def check_since(value: Any) -> int:
    """Check the sequence number after which changes are read."""
    if not is_integer(value) or not 0 <= value < 2**64:
        what = f"since must be a sequence number, an integer of at least 0, not {shown(value)}"
        raise InvalidArgumentError(what, field="since", value=value)
    return int(value)


def not_a_cursor(value: Any) -> InvalidArgumentError:
    """The error for a value that is not the cursor of a page."""
    what = f"cursor must be the cursor of an earlier page of scroll, or None, not {shown(value)}"
    return InvalidArgumentError(what, field="cursor", value=value)


def checked_number(value: Any) -> float:
    """The value as float; NaN, which fails every comparison, if it isn't a number."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
