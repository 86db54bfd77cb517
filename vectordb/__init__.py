"""vectordb: dense, sparse and multi-vector search with any filter, embedded in a Python program or as a gRPC service.

    import vectordb
    from vectordb import Dense, Schema

    with vectordb.open("data") as db:
        docs = db.create_collection("docs", Schema(vectors={"v": Dense(3)}), exist_ok=True)
        docs.upsert(ids=[1, 2], vectors={"v": [[1, 0, 0], [0, 1, 0]]})
        print(docs.search({"v": [1, 0.5, 0]}, limit=1))

Names are imported on first use, so ``import vectordb`` loads neither numpy nor the engine. ``from vectordb import *`` leaves out ``open``,
which would replace the function of Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vectordb_client._version import __version__

if TYPE_CHECKING:
    from vectordb_client.errors import (
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
    from vectordb_client.model.aliases import (
        DenseVector,
        FilterLike,
        FusionLike,
        Ids,
        MultiVectors,
        PointsLike,
        SparseVector,
        Vector,
        VectorColumn,
    )
    from vectordb_client.model.filter import F, Filter
    from vectordb_client.model.plan import Plan
    from vectordb_client.model.ranking import DBSF, RRF, Fusion, Linear, Prefetch, Relative
    from vectordb_client.model.results import ArmScore, Change, CollectionInfo, Hit, Hits, Page, Point, WriteResult
    from vectordb_client.model.schema import (
        HNSW,
        Bool,
        Datetime,
        Dense,
        Float,
        Geo,
        ImpactIndex,
        Index,
        Int,
        Keyword,
        MultiVector,
        Schema,
        Sparse,
        SparseIndex,
        Text,
        Uuid,
    )
    from vectordb_client.model.searching import PreparedSearch
    from vectordb_client.model.tuning import FusionTuning
    from vectordb_client.model.values import Id
    from vectordb_client.rpc.bulk import BulkResult, FailedPoint

    from .collection import Collection
    from .database import Database
    from .database import open as open
    from .maintenance.backup import restore

# Module → the public names in it.
_EXPORTS = {
    "vectordb_client.model.aliases": "DenseVector FilterLike FusionLike Ids MultiVectors PointsLike SparseVector Vector VectorColumn",
    ".maintenance.backup": "restore",
    "vectordb_client.rpc.bulk": "BulkResult FailedPoint",
    ".collection": "Collection",
    ".database": "Database open",
    "vectordb_client.errors": (
        "AlreadyExistsError AuthenticationError ClosedError CorruptionError DeadlineError EncoderError FilterError "
        "FormatVersionError InvalidArgumentError LimitError LockedError NotFoundError PermissionDeniedError PreconditionError "
        "RateLimitError SchemaError StorageError UnavailableError VectorDBError"
    ),
    "vectordb_client.model.fields": "Dense HNSW ImpactIndex MultiVector Sparse",
    "vectordb_client.model.filter": "F Filter",
    "vectordb_client.model.plan": "Plan",
    "vectordb_client.model.ranking": "DBSF Fusion Linear Prefetch RRF Relative",
    "vectordb_client.model.results": "ArmScore Change CollectionInfo Hit Hits Page Point WriteResult",
    "vectordb_client.model.schema": "Bool Datetime Float Geo Index Int Keyword Schema SparseIndex Text Uuid",
    "vectordb_client.model.searching": "PreparedSearch",
    "vectordb_client.model.tuning": "FusionTuning",
    "vectordb_client.model.values": "Id",
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}
_ELSEWHERE = {
    **dict.fromkeys(("Client", "AsyncClient"), "the client is a package of its own: from vectordb_client import {name}"),
    **dict.fromkeys(("connect", "PersistentClient", "EphemeralClient", "load"), "write vectordb.open(path)"),
}
__all__ = [
    "DBSF",
    "HNSW",
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
    "ImpactIndex",
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
    "PreparedSearch",
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
    "restore",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        hint = f"; {_ELSEWHERE[name].format(name=name)}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = getattr(importlib.import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "open"})
