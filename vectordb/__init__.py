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

import vectordb_client
from vectordb_client._version import __version__

if TYPE_CHECKING:
    # isort: off
    from vectordb_client import (
        DBSF, F, FDE, HNSW, IVF, RRF, AlreadyExistsError, Analyzer, Arm, ArmScore, AuthenticationError, Bool, Boost, BranchDiff, BulkResult,
        Change, ClosedError, CollectionInfo, CorruptionError, Datetime, DeadlineError, Decay, Dense, DenseVector, Diversity, EncoderError,
        Facet, FacetCount, FacetResult, FailedPoint, Filter, FilterError, FilterLike, Float, FormatVersionError, Fusion,
        FusionLike, FusionTuning, Geo, Group, Hit, Hits, Id, Ids, If, ImpactIndex, Index, Int, InvalidArgumentError, Keyword,
        Like, LimitError, Linear, LockedError, MergeResult, MultiVector, MultiVectors, NotFoundError, Page, PermissionDeniedError, Plan,
        Point, PointsLike, PreconditionError, Prefetch, PreparedSearch, Range, RateLimitError, Relative, Rerank, Schema, SchemaError,
        Sparse, SparseIndex, SparseVector, StorageError, Text, TokenLists, UnavailableError, Uuid, Value, Vector, VectorColumn,
        VectorDBError, WriteResult, read_synonyms,
        Axis, Classification, Clusters, Duplicates, Health, Neighbours, Probe, PseudoQueries,
        Attributes, CSR, Category, Concepts, Cyclic, Derivation, Number, PCA, Pick, Prefix, Project, SAE, Series, TopTerms,
    )  # fmt: skip

    from .collection import Collection
    from .database import Database
    from .database import open as open
    from .maintenance.backup import restore

# Where the names that the client doesn't define are.
_MODULES = {"Collection": ".collection", "Database": ".database", "open": ".database", "restore": ".maintenance.backup"}
_ELSEWHERE = {
    **dict.fromkeys(("Client", "AsyncClient"), "the client is a package of its own: from vectordb_client import {name}"),
    **dict.fromkeys(("connect", "PersistentClient", "EphemeralClient", "load"), "write vectordb.open(path)"),
}
__all__ = [
    "CSR",
    "DBSF",
    "FDE",
    "HNSW",
    "IVF",
    "PCA",
    "RRF",
    "SAE",
    "AlreadyExistsError",
    "Analyzer",
    "Arm",
    "ArmScore",
    "Attributes",
    "AuthenticationError",
    "Axis",
    "Bool",
    "Boost",
    "BranchDiff",
    "BulkResult",
    "Category",
    "Change",
    "Classification",
    "ClosedError",
    "Clusters",
    "Collection",
    "CollectionInfo",
    "Concepts",
    "CorruptionError",
    "Cyclic",
    "Database",
    "Datetime",
    "DeadlineError",
    "Decay",
    "Dense",
    "DenseVector",
    "Derivation",
    "Diversity",
    "Duplicates",
    "EncoderError",
    "F",
    "Facet",
    "FacetCount",
    "FacetResult",
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
    "Group",
    "Health",
    "Hit",
    "Hits",
    "Id",
    "Ids",
    "If",
    "ImpactIndex",
    "Index",
    "Int",
    "InvalidArgumentError",
    "Keyword",
    "Like",
    "LimitError",
    "Linear",
    "LockedError",
    "MergeResult",
    "MultiVector",
    "MultiVectors",
    "Neighbours",
    "NotFoundError",
    "Number",
    "Page",
    "PermissionDeniedError",
    "Pick",
    "Plan",
    "Point",
    "PointsLike",
    "PreconditionError",
    "Prefetch",
    "Prefix",
    "PreparedSearch",
    "Probe",
    "Project",
    "PseudoQueries",
    "Range",
    "RateLimitError",
    "Relative",
    "Rerank",
    "Schema",
    "SchemaError",
    "Series",
    "Sparse",
    "SparseIndex",
    "SparseVector",
    "StorageError",
    "Text",
    "TokenLists",
    "TopTerms",
    "UnavailableError",
    "Uuid",
    "Value",
    "Vector",
    "VectorColumn",
    "VectorDBError",
    "WriteResult",
    "__version__",
    "read_synonyms",
    "restore",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name], __name__), name)
    elif name in __all__:
        value = getattr(vectordb_client, name)
    else:
        hint = f"; {_ELSEWHERE[name].format(name=name)}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "open"})
