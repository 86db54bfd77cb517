"""The client of a vectordb service, and the words it shares with the embedded database.

    from vectordb_client import Client

    with Client("localhost:7070") as client:
        hits = client.collection("docs").search({"embedding": vector}, limit=5)

Names are imported when first used: the shared words need no gRPC.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._version import __version__

_EXPORTS = {
    "aio": ("AsyncClient", "AsyncCollection"),
    "batch": ("Batch", "UNSET", "make_batch"),
    "bulk": ("BulkResult", "FailedPoint"),
    "client": ("Client", "Collection"),
    "errors": (
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
    ),
    "filter": ("F", "Filter"),
    "plan": ("Plan",),
    "ranking": ("DBSF", "Fusion", "Linear", "Prefetch", "RRF", "Relative"),
    "results": ("ArmScore", "Change", "CollectionInfo", "Hit", "Hits", "Page", "Point", "WriteResult"),
    "schema": (
        "Bool",
        "Datetime",
        "Dense",
        "Float",
        "Geo",
        "Index",
        "Int",
        "Keyword",
        "MultiVector",
        "Schema",
        "Sparse",
        "SparseIndex",
        "Text",
        "Uuid",
    ),
    "tuning": ("FusionTuning",),
    "values": ("Id",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
