"""Retries: which failed calls are repeated, and after which pause. Pure, no I/O.

Repeated are calls that failed with UNAVAILABLE, and calls refused by a rate limit, which says when to try again. Calls whose deadline
passed and all other errors are not repeated.

There are two kinds of UNAVAILABLE. If the service itself sent it (with an ErrorDetail), it did nothing, and the call is repeated; only
LockedError is raised at once, because the service has already waited for the lock. If the connection broke, a write may have been
executed. Then only calls that can be executed twice are repeated: an upsert, update or delete without a condition. (The count of a repeated
delete is that of the last try.) A write with ``if_version`` or ``if_filter`` could fail because its first try succeeded, and
``create_collection`` without ``exist_ok`` could find the collection that its first try created.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from ..errors import InvalidArgumentError, LockedError, shown
from .methods import METHODS
from .status import DETAIL_KEY, error_of

RETRY_AFTER_KEY = "retry-after"  # seconds, in the trailing metadata of a rate limit
MOST_RETRIES = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


def check_retries(value: Any) -> int:
    """Check the number of retries: 0 to 100. Raises InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise InvalidArgumentError(f"retries must be an integer from 0 to {MOST_RETRIES}, not {shown(value)}", field="retries", value=value)
    return value


def pause_before_retry(
    code: str, metadata: Iterable[tuple[str, Any]], name: str, request: Any, attempt: int, left: float | None
) -> float | None:
    """Seconds to wait before a call is repeated; None if it must not be repeated.

    code: the name of the status of the failed call. metadata: its trailing metadata. name, request: the call. attempt: how often it was
    repeated already. left: seconds until its deadline, or None.
    """
    trailing = dict(metadata)
    pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
    if code == "RESOURCE_EXHAUSTED":
        after = _seconds(trailing.get(RETRY_AFTER_KEY))
        if after is None:  # a limit that waiting doesn't lift, such as a size
            return None
        pause += after
    elif code not in ("UNAVAILABLE", "CANCELLED"):  # CANCELLED: the service shut down
        return None
    elif DETAIL_KEY in trailing:
        if isinstance(error_of(code, "", trailing[DETAIL_KEY]), LockedError):
            return None
    elif not METHODS[name].repeatable(request):
        return None
    return None if left is not None and pause >= left else pause


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
