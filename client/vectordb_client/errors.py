"""The exception tree, shared by the embedded database and the client.

Every error names the ``field`` it is about and the offending ``value`` where there is one, so that a caller
can react without reading the message. The same class is raised embedded and through the service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "AlreadyExistsError",
    "AuthenticationError",
    "ClosedError",
    "CorruptionError",
    "DeadlineError",
    "EncoderError",
    "FilterError",
    "FormatVersionError",
    "InvalidArgumentError",
    "LimitError",
    "LockedError",
    "NotFoundError",
    "PermissionDeniedError",
    "PreconditionError",
    "RateLimitError",
    "SchemaError",
    "StorageError",
    "UnavailableError",
    "VectorDBError",
]

_SHOWN = 120


def shown(value: Any) -> str:
    """``repr`` of a value, cut to one readable line."""
    try:
        text = repr(value)
    except Exception as error:  # too deep, or not ours: an error message must not fail
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def listing(names: Iterable[Any], most: int = 30) -> str:
    """Names one after another, as many as a message can hold; "none" where there are none."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "") or "none"


class VectorDBError(Exception):
    """Base of all errors. ``field`` names what was wrong, ``value`` is what was given (both may be None)."""

    def __init__(self, message: str, *, field: str | None = None, value: Any = None):
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(VectorDBError, ValueError):
    """An argument can't be accepted: wrong dimension, type, range, NaN, duplicate id."""


class SchemaError(InvalidArgumentError):
    """A schema is not valid, or a field named is not in it."""


class FilterError(InvalidArgumentError):
    """A filter doesn't parse, names an unknown field, or compares it with a value of another type."""


class LimitError(InvalidArgumentError):
    """Something is larger than allowed: a key, a batch, a message."""


class EncoderError(VectorDBError):
    """Text can't be encoded: the encoder is unknown, not installed, or not the one the field was built with."""


class NotFoundError(VectorDBError, LookupError):
    """A collection or a point that must exist doesn't."""


class AlreadyExistsError(VectorDBError):
    """A collection or field of that name exists already."""


class PreconditionError(VectorDBError):
    """``if_version`` or ``if_filter`` didn't hold; nothing of the batch was written."""


class StorageError(VectorDBError):
    """The operating system refused a read or a write: full disk, I/O error, no permission."""


class LockedError(StorageError):
    """Another process held the write lock for longer than the write timeout."""


class CorruptionError(StorageError):
    """Stored bytes fail their checksum or break an invariant. Nothing is deleted to make an open succeed."""


class FormatVersionError(StorageError):
    """The directory was written by another version of the format; it was left untouched."""


class ClosedError(VectorDBError):
    """The database, collection or client was closed (or belongs to the parent of a fork)."""


class UnavailableError(VectorDBError):
    """The service can't be reached or is shutting down."""


class DeadlineError(VectorDBError):
    """The deadline passed before the answer was ready."""


class AuthenticationError(VectorDBError):
    """The service wants an API key, and none was given, or one that is not valid (any more)."""


class PermissionDeniedError(VectorDBError):
    """The API key is valid and may not do this. The message names the method, the collection and the right that is missing."""


class RateLimitError(VectorDBError):
    """Too many calls, waiting or a second: the service did nothing, and the same call may succeed after ``retry_after`` seconds."""

    def __init__(self, message: str, *, field: str | None = None, value: Any = None, retry_after: float | None = None):
        super().__init__(message, field=field, value=value)
        self.retry_after = retry_after
