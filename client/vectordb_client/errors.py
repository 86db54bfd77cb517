"""The exceptions, shared by the embedded database and the client.

An error has the ``field`` that it is about and the wrong ``value``, where there is one, so that a program needn't parse the message. The
embedded database and the service raise the same classes.
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
    """``repr`` of a value, cut to 120 characters."""
    try:
        text = repr(value)
    except Exception as error:  # repr() of another library failed; an error message must not
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def listing(names: Iterable[Any], most: int = 30) -> str:
    """The first names of a list, separated by commas; "none" if the list is empty."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "") or "none"


class VectorDBError(Exception):
    """The base class of all errors.

    Attributes:
        message: the text.
        field: the argument or field that the error is about, or None.
        value: the value that was given, or None.
    """

    def __init__(self, message: str, *, field: str | None = None, value: Any = None):
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def __str__(self) -> str:
        return self.message


class InvalidArgumentError(VectorDBError, ValueError):
    """An argument is not valid: a wrong type, dimension or range, NaN, or a duplicate id. It is a ValueError, too."""


class SchemaError(InvalidArgumentError):
    """A schema is not valid, or a field is not in it."""


class FilterError(InvalidArgumentError):
    """A filter can't be parsed, names an unknown field, or compares a field with a value of another type."""


class LimitError(InvalidArgumentError):
    """Something exceeds a limit: a key, a batch, a message."""


class EncoderError(VectorDBError):
    """A text can't be encoded: the encoder is unknown, not installed, or not the one that the field was built with."""


class NotFoundError(VectorDBError, LookupError):
    """A collection or a point doesn't exist. It is a LookupError, too."""


class AlreadyExistsError(VectorDBError):
    """A collection, field or file with this name exists already."""


class PreconditionError(VectorDBError):
    """A condition doesn't hold, such as ``if_version`` or ``if_filter``; nothing was written. Or a cursor can't be continued any more."""


class StorageError(VectorDBError):
    """The operating system refused a read or a write: full disk, I/O error, no permission."""


class LockedError(StorageError):
    """Another process held the lock for longer than the timeout."""


class CorruptionError(StorageError):
    """Stored data is damaged: a checksum or an invariant doesn't hold. Nothing is deleted or repaired silently."""


class FormatVersionError(StorageError):
    """The directory has a format that this version of vectordb can't read. It was not changed."""


class ClosedError(VectorDBError):
    """The database, collection or client was closed, or belongs to the parent process of a fork."""


class UnavailableError(VectorDBError):
    """The service can't be reached or is shutting down."""


class DeadlineError(VectorDBError):
    """The timeout passed before the call was finished."""


class AuthenticationError(VectorDBError):
    """The service requires an API key, and none was given, or it is not valid or was revoked."""


class PermissionDeniedError(VectorDBError):
    """The API key is valid but doesn't permit the call. The message names the method, the collection and the missing right."""


class RateLimitError(VectorDBError):
    """There are too many calls. The service did nothing.

    Attributes:
        retry_after: seconds after which the same call may succeed, or None.
    """

    def __init__(self, message: str, *, field: str | None = None, value: Any = None, retry_after: float | None = None):
        super().__init__(message, field=field, value=value)
        self.retry_after = retry_after


def many(count: int, one: str, more: str | None = None) -> str:
    """A count with its noun, such as ``1 row`` or ``2,000 rows``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"
