"""Errors as gRPC status codes, with an ErrorDetail for class, field and value; and back. Pure, no grpc."""

from __future__ import annotations

import json
import math
from typing import Any

from google.protobuf.message import DecodeError

from .. import errors
from ..errors import VectorDBError, shown
from ..v1 import vectordb_pb2 as pb

DETAIL_KEY = "vectordb-error-bin"

# If a status has no ErrorDetail (it comes from gRPC itself or a proxy), the first class with this status is raised.
STATUS: dict[type[VectorDBError], str] = {
    errors.InvalidArgumentError: "INVALID_ARGUMENT",
    errors.SchemaError: "INVALID_ARGUMENT",
    errors.FilterError: "INVALID_ARGUMENT",
    errors.LimitError: "RESOURCE_EXHAUSTED",
    errors.RateLimitError: "RESOURCE_EXHAUSTED",
    errors.AuthenticationError: "UNAUTHENTICATED",
    errors.PermissionDeniedError: "PERMISSION_DENIED",
    errors.NotFoundError: "NOT_FOUND",
    errors.AlreadyExistsError: "ALREADY_EXISTS",
    errors.PreconditionError: "FAILED_PRECONDITION",
    errors.EncoderError: "FAILED_PRECONDITION",
    errors.FormatVersionError: "FAILED_PRECONDITION",
    errors.UnavailableError: "UNAVAILABLE",
    errors.LockedError: "UNAVAILABLE",
    errors.ClosedError: "UNAVAILABLE",
    errors.DeadlineError: "DEADLINE_EXCEEDED",
    errors.CorruptionError: "DATA_LOSS",
    errors.VectorDBError: "INTERNAL",
    errors.StorageError: "INTERNAL",
}
_CLASSES = {cls.__name__: cls for cls in STATUS}
_MEANING = {status: cls for cls, status in reversed(STATUS.items())} | {"CANCELLED": errors.UnavailableError}

# Metadata is limited to 8 KiB for all keys, in base64.
_MESSAGE_BYTES = 3000
_DETAILS_CHARS = 300
_FIELD_BYTES = 200
_VALUE_CHARS = 200


def status_of(error: VectorDBError) -> tuple[str, str, bytes]:
    """(name of the status, text of the status line, bytes of the ErrorDetail)."""
    cls = next(cls for cls in type(error).__mro__ if cls in STATUS)
    detail = pb.ErrorDetail(class_name=cls.__name__, message=_cut(error.message, _MESSAGE_BYTES))
    if error.field is not None:
        detail.field = _cut(str(error.field), _FIELD_BYTES)
    if error.value is not None:
        detail.value = _value(error.value)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        detail.retry_after = retry_after
    return STATUS[cls], _cut(error.message, _MESSAGE_BYTES)[:_DETAILS_CHARS], detail.SerializeToString()


def error_of(status: str, details: str, detail: bytes | None) -> VectorDBError:
    """The error of a failed call, with the class, message, field and value that the service raised."""
    if detail is not None:
        try:
            message = pb.ErrorDetail.FromString(detail)
            cls = _CLASSES[message.class_name]
            value = json.loads(message.value) if message.HasField("value") else None
        except (DecodeError, KeyError, ValueError):
            pass  # sent by a newer service; the status still gives the kind
        else:
            more = {"retry_after": message.retry_after} if message.HasField("retry_after") and cls is errors.RateLimitError else {}
            return cls(message.message, field=message.field if message.HasField("field") else None, value=value, **more)
    cls = _MEANING.get(status, VectorDBError)
    return cls(details or status if cls is not VectorDBError else f"the service failed with {status}: {details}")


def _cut(text: str, size: int) -> str:
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= size else data[: size - 3].decode("utf-8", "ignore") + "…"


def _value(value: Any) -> str:
    """The JSON of a short scalar; of anything else the JSON of its ``shown`` text."""
    scalar = isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)) or isinstance(value, str)
    text = json.dumps(value) if scalar and (not isinstance(value, int) or abs(value) < 2**64) else ""
    return text if 0 < len(text) <= _VALUE_CHARS else json.dumps(shown(value))
