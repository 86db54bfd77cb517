"""The deadline of a gRPC call, which its caller chose."""

from __future__ import annotations

import grpc
from vectordb_client.errors import DeadlineError
from vectordb_client.model.checks import LONGEST_WAIT

_ANSWER_SECONDS = 0.1  # kept for the answer, when work waits as long as the caller does


def time_left(context: grpc.ServicerContext) -> float | None:
    """Seconds until the deadline of the call; None if it has none."""
    left = context.time_remaining()
    return None if left is None or left >= LONGEST_WAIT else left


def check_deadline(context: grpc.ServicerContext) -> None:
    """Raises DeadlineError if the deadline has passed or the call was cancelled."""
    left = context.time_remaining()
    if (left is not None and left <= 0) or not context.is_active():
        raise DeadlineError("the deadline passed, or the call was cancelled, before the work was done", field="timeout")


def longest_wait(context: grpc.ServicerContext, timeout: float | None = None) -> float | None:
    """Seconds to wait for work: ``timeout``, but short enough to answer before the deadline. None has no limit.

    An invalid ``timeout`` is returned unchanged, for the database to refuse.
    """
    left = time_left(context)
    if left is None or (timeout is not None and not left <= timeout < LONGEST_WAIT):
        return timeout
    return max(left - _ANSWER_SECONDS, 0.0)
