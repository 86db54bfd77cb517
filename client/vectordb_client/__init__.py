"""The client of a vectordb service, and the types that it shares with the embedded database.

    from vectordb_client import Client

    with Client("localhost:7070") as client:
        hits = client.collection("docs").search({"embedding": vector}, limit=5)

Names are imported on first use, so schemas and filters don't need gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .aio import AsyncClient, AsyncCollection
    from .aliases import DenseVector, FilterLike, FusionLike, Ids, MultiVectors, PointsLike, SparseVector, Vector, VectorColumn
    from .batch import UNSET, Batch, make_batch
    from .bulk import BulkResult, FailedPoint
    from .client import Client
    from .collection import Collection
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
    from .filter import F, Filter
    from .plan import Plan
    from .ranking import DBSF, RRF, Fusion, Linear, Prefetch, Relative
    from .results import ArmScore, Change, CollectionInfo, Hit, Hits, Page, Point, WriteResult
    from .schema import Bool, Datetime, Dense, Float, Geo, Index, Int, Keyword, MultiVector, Schema, Sparse, SparseIndex, Text, Uuid
    from .tuning import FusionTuning
    from .values import Id

# Module → the public names in it.
_EXPORTS = {
    "aio": "AsyncClient AsyncCollection",
    "aliases": "DenseVector FilterLike FusionLike Ids MultiVectors PointsLike SparseVector Vector VectorColumn",
    "batch": "Batch UNSET make_batch",
    "bulk": "BulkResult FailedPoint",
    "client": "Client",
    "collection": "Collection",
    "errors": (
        "AlreadyExistsError AuthenticationError ClosedError CorruptionError DeadlineError EncoderError FilterError "
        "FormatVersionError InvalidArgumentError LimitError LockedError NotFoundError PermissionDeniedError PreconditionError "
        "RateLimitError SchemaError StorageError UnavailableError VectorDBError"
    ),
    "filter": "F Filter",
    "plan": "Plan",
    "ranking": "DBSF Fusion Linear Prefetch RRF Relative",
    "results": "ArmScore Change CollectionInfo Hit Hits Page Point WriteResult",
    "schema": "Bool Datetime Dense Float Geo Index Int Keyword MultiVector Schema Sparse SparseIndex Text Uuid",
    "tuning": "FusionTuning",
    "values": "Id",
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}
__all__ = [
    "DBSF",
    "RRF",
    "UNSET",
    "AlreadyExistsError",
    "ArmScore",
    "AsyncClient",
    "AsyncCollection",
    "AuthenticationError",
    "Batch",
    "Bool",
    "BulkResult",
    "Change",
    "Client",
    "ClosedError",
    "Collection",
    "CollectionInfo",
    "CorruptionError",
    "Datetime",
    "DeadlineError",
    "Dense",
    "DenseVector",
    "EncoderError",
    "F",
    "FailedPoint",
    "Filter",
    "FilterError",
    "FilterLike",
    "Float",
    "FormatVersionError",
    "Fusion",
    "FusionLike",
    "FusionTuning",
    "Geo",
    "Hit",
    "Hits",
    "Id",
    "Ids",
    "Index",
    "Int",
    "InvalidArgumentError",
    "Keyword",
    "LimitError",
    "Linear",
    "LockedError",
    "MultiVector",
    "MultiVectors",
    "NotFoundError",
    "Page",
    "PermissionDeniedError",
    "Plan",
    "Point",
    "PointsLike",
    "PreconditionError",
    "Prefetch",
    "RateLimitError",
    "Relative",
    "Schema",
    "SchemaError",
    "Sparse",
    "SparseIndex",
    "SparseVector",
    "StorageError",
    "Text",
    "UnavailableError",
    "Uuid",
    "Vector",
    "VectorColumn",
    "VectorDBError",
    "WriteResult",
    "__version__",
    "make_batch",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
