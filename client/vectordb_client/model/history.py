"""Earlier states of a collection: how long they are kept (``history=``), and which one a call reads (``as_of=``)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, shown
from .boosts import seconds
from .foreign import is_integer
from .moments import microseconds, read_moment

MAX_SECONDS = 1e9  # about 31 years
_FORMS = "a sequence number, a datetime with a time zone, or ISO text such as '2026-11-30T18:00:00Z'"


def check_history(name: str, value: Any) -> float:
    """Check a time for which history is kept: seconds, a timedelta or a text such as "7d"; None and 0 keep none. Returns seconds."""
    span = 0.0 if value is None else math.nan if isinstance(value, (bool, np.bool_)) else seconds(value)
    if not 0 <= span <= MAX_SECONDS:
        what = f"{name} must be a time such as '7d' or '12h', a timedelta or seconds up to 1e9, or None, not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return span


def check_as_of(name: str, value: Any) -> int | str | None:
    """Check which state to read. Returns a sequence number, or a moment as ISO text in UTC; None is the present."""
    if value is None:
        return None
    if is_integer(value) and not isinstance(value, (bool, np.bool_, np.timedelta64)):
        if not 0 <= value < 2**63:
            raise InvalidArgumentError(f"{name} must be {_FORMS}, not {shown(value)}", field=name, value=value)
        return int(value)
    moment = value
    if isinstance(value, str):
        try:
            moment = read_moment(value)
        except ValueError:
            moment = None
    if isinstance(moment, np.datetime64) and not isinstance(value, str) and not np.isnat(moment):
        raise _no_zone(name, value)
    if not isinstance(moment, datetime):
        raise InvalidArgumentError(f"{name} must be {_FORMS}, not {shown(value)}", field=name, value=value)
    try:
        zoned = moment.tzinfo is not None and moment.utcoffset() is not None
        text = as_text(microseconds(moment)) if zoned else None
    except Exception as error:  # a time zone is anybody's code, and the year may be 0 or 10000 in UTC
        raise InvalidArgumentError(f"{name} must be {_FORMS}, not {shown(value)}", field=name, value=value) from error
    if text is None:
        raise _no_zone(name, value)
    return text


def _no_zone(name: str, value: Any) -> InvalidArgumentError:
    what = (
        f"{name} needs a time zone, or it would mean another moment elsewhere: write datetime(…, tzinfo=UTC) or text that ends in 'Z', not"
    )
    return InvalidArgumentError(f"{what} {shown(value)}", field=name, value=value)


def as_text(moment: int) -> str:
    """A moment, in microseconds since 1970, as ``check_as_of`` returns it."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).isoformat(timespec="microseconds")


def moment_of(text: str) -> int:
    """Microseconds since 1970 of a text that ``check_as_of`` returned."""
    return microseconds(datetime.fromisoformat(text))


def pack_as_of(value: Any) -> str:
    """``as_of`` as it stands in a message: digits, ISO text, or nothing for the present."""
    checked = check_as_of("as_of", value)
    return "" if checked is None else str(checked)


def unpack_as_of(text: str) -> int | str | None:
    """``as_of`` of a message."""
    if text.isascii() and text.isdigit() and len(text) <= 19:
        return check_as_of("as_of", int(text))
    return check_as_of("as_of", text or None)
