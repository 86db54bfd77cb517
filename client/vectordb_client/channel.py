"""What both clients need of gRPC: channel options, the methods by name, and failures as our errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from .errors import ClosedError, DeadlineError, InvalidArgumentError, UnavailableError, VectorDBError, shown
from .status import DETAIL_KEY, error_of
from .v1 import vectordb_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["VectorDB"]
METHODS = {
    method.name: (
        f"/{_SERVICE.full_name}/{method.name}",
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    for method in _SERVICE.methods
}
STREAMS = frozenset(method.name for method in _SERVICE.methods if method.server_streaming)

_OPTIONS = {
    # The service bounds what it sends; a request is split before it is sent.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # A service that restarts is found again within seconds; gRPC's own default grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 3000,
}


def channel_options(given: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> list[tuple[str, Any]]:
    """Ours, with the caller's on top."""
    return list((_OPTIONS | dict(given or ())).items())


def check_target(target: Any) -> str:
    if not isinstance(target, str) or not target:
        raise InvalidArgumentError(f"target must be 'host:port', not {shown(target)}", field="target", value=target)
    return target


def check_timeout(timeout: Any) -> float | None:
    """Seconds, more than 0; None or infinity waits for as long as it takes. Raises InvalidArgumentError."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise InvalidArgumentError(f"timeout must be a number of seconds above 0, not {shown(timeout)}", field="timeout", value=timeout)
    return None if timeout == float("inf") else timeout  # gRPC takes infinity for a deadline that has passed


def failure(error: grpc.RpcError, target: str, closed: bool) -> VectorDBError:
    """The error of a failed call: the service's own where it said one."""
    code, details = error.code(), error.details() or ""
    found = dict(_pairs(error.trailing_metadata())).get(DETAIL_KEY)
    if found is None:
        if closed and code is grpc.StatusCode.CANCELLED:
            return ClosedError("the client was closed")
        if code is grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(f"{target} can't be reached: {details}", field="target", value=target)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"{target} didn't answer in time", field="timeout")
    return error_of(code.name, details, found)


def _pairs(metadata: Any) -> Sequence[tuple[str, Any]]:
    return [(key, value) for key, value in metadata or ()]
