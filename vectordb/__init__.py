"""vectordb: dense, sparse and multi-vector search with any filter, in a directory of yours or behind a gRPC service."""

from typing import TYPE_CHECKING

from vectordb_client._version import __version__
from vectordb_client.filter import F

from .errors import (
    AlreadyExistsError,
    AuthenticationError,
    ClosedError,
    CorruptionError,
    DeadlineError,
    EncoderError,
    FilterError,
    FormatVersionError,
    InvalidArgumentError,
    LimitError,
    LockedError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    RateLimitError,
    SchemaError,
    StorageError,
    UnavailableError,
    VectorDBError,
)
from .types import (
    DBSF,
    RRF,
    ArmScore,
    Bool,
    BulkResult,
    Change,
    CollectionInfo,
    Datetime,
    Dense,
    FailedPoint,
    Float,
    FusionTuning,
    Geo,
    Hit,
    Hits,
    Index,
    Int,
    Keyword,
    Linear,
    MultiVector,
    Page,
    Plan,
    Point,
    Prefetch,
    Relative,
    Schema,
    Sparse,
    SparseIndex,
    Text,
    Uuid,
    WriteResult,
)

__all__ = [
    "DBSF",
    "RRF",
    "AlreadyExistsError",
    "ArmScore",
    "AuthenticationError",
    "Bool",
    "BulkResult",
    "Change",
    "ClosedError",
    "Collection",
    "CollectionInfo",
    "CorruptionError",
    "Database",
    "Datetime",
    "DeadlineError",
    "Dense",
    "EncoderError",
    "F",
    "FailedPoint",
    "FilterError",
    "Float",
    "FormatVersionError",
    "FusionTuning",
    "Geo",
    "Hit",
    "Hits",
    "Index",
    "Int",
    "InvalidArgumentError",
    "Keyword",
    "LimitError",
    "Linear",
    "LockedError",
    "MultiVector",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "Plan",
    "Point",
    "PreconditionError",
    "Prefetch",
    "RateLimitError",
    "Relative",
    "Schema",
    "SchemaError",
    "Sparse",
    "SparseIndex",
    "StorageError",
    "Text",
    "UnavailableError",
    "Uuid",
    "VectorDBError",
    "WriteResult",
    "__version__",
    "restore",
]

if TYPE_CHECKING:
    from .backup import restore
    from .collection import Collection
    from .database import Database
    from .database import open as open

# The engine (LMDB, Numba) is imported when it is asked for: `vectordb --help` and a script that only builds schemas don't wait for it.
_ENGINE = {"Collection": "collection", "Database": "database", "open": "database", "restore": "backup"}


def __getattr__(name: str):
    if name in _ENGINE:
        from importlib import import_module

        return getattr(import_module(f".{_ENGINE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
