"""Moments in time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

from ...errors import FilterError, InvalidArgumentError, shown
from ..moments import microseconds, moment_at, read_moment
from .base import RANGES, AttributeType, wrong

_WANTED = "a datetime, a date, or a string such as '2021-05-01' or '2021-05-01T12:00:00+02:00'"
_PERIOD = re.compile(r"([1-9][0-9]{3})(?:-(0[1-9]|1[0-2]))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")


class Datetime(AttributeType):
    """Moments: a ``datetime``, a ``date`` (its midnight), or a string in ISO 8601, stored as microseconds in UTC.

    A value without a time zone is UTC. Nanoseconds of numpy, pandas and Arrow are cut off. ``array=True``: a list for each point.
    """

    kind = "datetime"
    stored = "int64"
    parts = ("number", "cyclic")
    moments = True
    operators = RANGES
    plain = False
    python = (datetime, np.datetime64)
    message_list = "datetimes"

    def coerce_one(self, name: str, value: Any) -> int:
        if isinstance(value, str):
            try:
                value = read_moment(value)
            except ValueError:
                raise wrong(name, value, _WANTED) from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime) and not (isinstance(value, np.datetime64) and not np.isnat(value)):
            raise wrong(name, value, _WANTED)
        try:
            return microseconds(value)
        except OverflowError:
            raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 bits of microseconds", field=name, value=value) from None
        except Exception as error:  # raised by a time zone, or by a datetime class of another library
            raise InvalidArgumentError(f"{name} {shown(value)} is not a moment in time: {error}", field=name, value=value) from error

    def restore_one(self, stored: int) -> datetime | np.datetime64:
        return moment_at(stored)

    def from_json(self, value: str) -> datetime | np.datetime64:
        return read_moment(value)

    def to_json(self, value: datetime | np.datetime64) -> str:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    def filter_value(self, name: str, value: Any) -> int:
        if isinstance(value, str) and _PERIOD.fullmatch(value):
            what = f"{name!r} is Datetime, and {value!r} is a whole period; write {name} >= {value!r} AND {name} < … or BETWEEN"
            raise FilterError(what, field=name, value=value)
        return self.coerce_one(name, value)

    def filter_bound(self, name: str, value: Any, lower: bool) -> tuple[int, int]:
        period = _PERIOD.fullmatch(value) if isinstance(value, str) else None
        if period is not None:  # a year or a month, such as "2021" or "2021-05": its first moment
            value = datetime(int(period[1]), int(period[2] or 1), 1, tzinfo=UTC)
        return super().filter_bound(name, value, lower)

    def from_file(self, value: Any) -> Any:
        if type(value) is date:  # a day, from a Parquet file
            return datetime(value.year, value.month, value.day)
        if isinstance(value, str) and len(value) > 5 and value[4] != "-" and not value[:8].isdecimal():
            try:
                return np.datetime64(value, "us")  # after the year 9999, where Python's datetimes end
            except ValueError:
                return value
        return value

    @staticmethod
    def is_in_text(text: str) -> bool:
        if not text[:1].isdecimal() or not _DATE.fullmatch(text):
            return False
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return False
        return True

    def arrow_type(self, pyarrow: Any) -> Any:
        return pyarrow.timestamp("us", tz="UTC")
