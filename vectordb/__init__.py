"""vectordb: dense, sparse and multi-vector search with any filter, in a directory of yours or behind a gRPC service."""

from vectordb_client._version import __version__
from vectordb_client.filter import F

from .collection import Collection
from .database import Database, open
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
