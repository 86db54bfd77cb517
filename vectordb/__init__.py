"""vectordb: dense, sparse and multi-vector search with any filter, in a directory of yours or behind a gRPC service."""

from vectordb_client._version import __version__
from vectordb_client.filter import F

from .errors import *  # noqa: F403
from .errors import __all__ as _errors
from .types import (
    DBSF,
    RRF,
    ArmScore,
    Bool,
    CollectionInfo,
    Datetime,
    Dense,
    Float,
    Geo,
    Hit,
    Hits,
    Int,
    Keyword,
    MultiVector,
    Page,
    Point,
    Relative,
    Schema,
    Sparse,
    Text,
    Uuid,
    WriteResult,
)

__all__ = [
    "DBSF",
    "RRF",
    "ArmScore",
    "Bool",
    "Collection",
    "CollectionInfo",
    "Database",
    "Datetime",
    "Dense",
    "F",
    "Float",
    "Geo",
    "Hit",
    "Hits",
    "Int",
    "Keyword",
    "MultiVector",
    "Page",
    "Point",
    "Relative",
    "Schema",
    "Sparse",
    "Text",
    "Uuid",
    "WriteResult",
    "__version__",
    "open",
    *_errors,
]

# The engine (LMDB, Numba) is imported when it is asked for: `vectordb --help` and a script that only builds schemas don't wait for it.
_ENGINE = {"Collection": "collection", "Database": "database", "open": "database"}


def __getattr__(name: str):
    if name in _ENGINE:
        from importlib import import_module

        return getattr(import_module(f".{_ENGINE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
