"""When a failed call is made again, and after which pause. Pure, no I/O.

Again: calls that failed with UNAVAILABLE, and those turned away by a rate limit, which says when to come back. Never: calls whose
deadline passed, and anything else a service says.

UNAVAILABLE comes in two kinds. Where the service itself says it (in an ErrorDetail), nothing was done; only a LockedError is raised at
once, because the service has waited for that lock already. Where the connection broke, a write may have happened. So it is only repeated
when a second time changes nothing: an upsert or update without a condition, and a delete without one (whose count then says what the last
try found). A write with ``if_version`` or ``if_filter`` could be refused because of its own first try, and a collection could exist
because this very call made it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from .errors import InvalidArgumentError, LockedError, shown
from .status import DETAIL_KEY, error_of

RETRY_AFTER_KEY = "retry-after"  # seconds, in the trailing metadata of a rate limit
MOST_RETRIES = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
# Twice does what once does.
_IDEMPOTENT = frozenset(
    {
        "ServerInfo",
        "ListCollections",
        "DescribeCollection",
        "Get",
        "Search",
        "Count",
        "Scroll",
        "Optimize",
        "SetTerms",
        "ListTerms",
        "Status",
    }
)


def check_retries(value: Any) -> int:
    """How often a call is made again: 0 to 100. Raises InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise InvalidArgumentError(f"retries must be an integer from 0 to {MOST_RETRIES}, not {shown(value)}", field="retries", value=value)
    return value


def pause_before_retry(
    code: str, metadata: Iterable[tuple[str, Any]], name: str, request: Any, attempt: int, left: float | None
) -> float | None:
    """Seconds to wait before a call is made again; None when it isn't.

    code, metadata: the status that the call ended with, by name, and its trailing metadata. name, request: the call. attempt: how often
    it was made again already. left: seconds until its deadline, None without one.
    """
    found = dict(metadata)
    pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
    if code == "RESOURCE_EXHAUSTED":
        after = _seconds(found.get(RETRY_AFTER_KEY))
        if after is None:  # a limit that stays as it is
            return None
        pause += after
    elif code not in ("UNAVAILABLE", "CANCELLED"):  # CANCELLED: by a service that ended
        return None
    elif DETAIL_KEY in found:
        if isinstance(error_of(code, "", found[DETAIL_KEY]), LockedError):
            return None
    elif not _repeatable(name, request):
        return None
    return None if left is not None and pause >= left else pause


def _repeatable(name: str, request: Any) -> bool:
    """Whether a call that may have been carried out can be made again without doing more."""
    if name == "Write":
        return not request.batch.if_version and not request.batch.HasField("if_filter")
    if name == "Delete":
        return not request.if_version and not request.HasField("if_filter")
    if name == "CreateCollection":
        return request.exist_ok
    return name in _IDEMPOTENT


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
