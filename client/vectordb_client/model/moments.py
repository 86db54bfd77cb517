"""Moments in time. They are stored as 64-bit microseconds since 1970 in UTC.

Users get a datetime in UTC, or numpy's datetime64[us] for years that datetime can't represent (before 1 and after 9999).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEARS = 290_000  # before and after 1970 that 64 bits of microseconds can represent
_FAR = re.compile(r"(?:-\d{1,6}|0000|\+?\d{5,6})-\d\d-\d\d(?:[T ][\d:.]+)?(?=(?:Z|\+00:00)?$)", re.ASCII)


def microseconds(moment: datetime | np.datetime64) -> int:
    """Microseconds since 1970; a datetime without a time zone is UTC. Raises OverflowError beyond about 290,000 years, and for NaT."""
    if isinstance(moment, np.datetime64):
        if abs(int(moment.astype("datetime64[Y]").astype(np.int64))) > _YEARS:  # numpy would silently overflow
            raise OverflowError
        return int(moment.astype("datetime64[us]").astype(np.int64))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int((moment - _EPOCH) // _MICROSECOND)  # a difference, because in UTC the year may be 0 or 10000


def moment_at(microseconds: int) -> datetime | np.datetime64:
    """The moment at this number of microseconds since 1970."""
    try:
        return _EPOCH + microseconds * _MICROSECOND
    except OverflowError:
        return np.datetime64(microseconds, "us")


def read_moment(text: str) -> datetime | np.datetime64:
    """The moment of an ISO 8601 text. Years that datetime can't represent are read in UTC only. Raises ValueError."""
    far = _FAR.match(text)
    if far is None:
        return datetime.fromisoformat(text)
    moment = np.datetime64(far[0], "us")
    if moment.astype("datetime64[s]") != np.datetime64(far[0], "s"):  # numpy overflowed
        raise ValueError(text)
    return moment
