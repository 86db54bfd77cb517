"""The client of a vectordb service, and the types that it shares with the embedded database.

    from vectordb_client import Client

    with Client("localhost:7070") as client:
        hits = client.collection("docs").search({"embedding": vector}, limit=5)

Names are imported on first use, so schemas and filters don't need gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    # isort: off
    from .errors import (
        AlreadyExistsError, AuthenticationError, ClosedError, CorruptionError, DeadlineError, EncoderError, FilterError,
        FormatVersionError, InvalidArgumentError, LimitError, LockedError, NotFoundError, PermissionDeniedError,
        PreconditionError, RateLimitError, SchemaError, StorageError, UnavailableError, VectorDBError,
    )  # fmt: skip
    from .model.arms import Arm
    from .model.aliases import DenseVector, FilterLike, FusionLike, Ids, MultiVectors, PointsLike, SparseVector, Vector, VectorColumn
    from .model.analyzer import Analyzer, read_synonyms
    from .model.batch import UNSET, Batch, make_batch
    from .model.branches import BranchDiff, MergeResult
    from .model.boosts import Boost, Decay, If, Value
    from .model.attribute_derivations import Attributes, Category, Cyclic, Number, Series
    from .model.derivation import Derivation
    from .model.pseudo import PseudoQueries
    from .model.derivations import CSR, PCA, SAE, Concepts, Pick, Prefix, Project
    from .model.examples import Like
    from .model.of_source import TopTerms
    from .model.diversity import Diversity
    from .model.explored import Clusters, Duplicates, Health, Neighbours
    from .model.explored_labels import Axis, Classification, Probe
    from .model.facets import Facet, FacetCount, FacetResult, Range
    from .model.fde import FDE
    from .model.filter import F, Filter
    from .model.groups import Group
    from .model.plan import Plan
    from .model.ranking import DBSF, RRF, Fusion, Linear, Prefetch, Relative
    from .model.collection_info import CollectionInfo
    from .model.rerank import Rerank
    from .model.results import ArmScore, Change, Hit, Hits, Page, Point, WriteResult
    from .model.schema import (
        HNSW, IVF, Bool, Datetime, Dense, Float, Geo, ImpactIndex, Index, Int, Keyword, MultiVector, Schema, Sparse, SparseIndex, Text,
        TokenLists, Uuid,
    )  # fmt: skip
    from .model.searching import PreparedSearch
    from .model.tuning import FusionTuning
    from .model.values import Id
    from .rpc.aio import AsyncClient, AsyncCollection
    from .model.bulk import BulkResult, FailedPoint
    from .rpc.client import Client
    from .rpc.collection import Collection

# Module → the public names in it.
_EXPORTS = {
    "rpc.aio": "AsyncClient AsyncCollection",
    "model.aliases": "DenseVector FilterLike FusionLike Ids MultiVectors PointsLike SparseVector Vector VectorColumn",
    "model.analyzer": "Analyzer read_synonyms",
    "model.arms": "Arm",
    "model.batch": "Batch UNSET make_batch",
    "model.bulk": "BulkResult FailedPoint",
    "rpc.client": "Client",
    "rpc.collection": "Collection",
    "errors": (
        "AlreadyExistsError AuthenticationError ClosedError CorruptionError DeadlineError EncoderError FilterError "
        "FormatVersionError InvalidArgumentError LimitError LockedError NotFoundError PermissionDeniedError PreconditionError "
        "RateLimitError SchemaError StorageError UnavailableError VectorDBError"
    ),
    "model.branches": "BranchDiff MergeResult",
    "model.boosts": "Boost Decay If Value",
    "model.attribute_derivations": "Attributes Category Cyclic Number Series",
    "model.derivation": "Derivation",
    "model.derivations": "CSR Concepts PCA Pick Prefix Project SAE",
    "model.examples": "Like",
    "model.of_source": "TopTerms",
    "model.diversity": "Diversity",
    "model.explored": "Clusters Duplicates Health Neighbours",
    "model.explored_labels": "Axis Classification Probe",
    "model.facets": "Facet FacetCount FacetResult Range",
    "model.fde": "FDE",
    "model.groups": "Group",
    "model.fields": "Dense HNSW IVF ImpactIndex MultiVector Sparse TokenLists",
    "model.filter": "F Filter",
    "model.plan": "Plan",
    "model.pseudo": "PseudoQueries",
    "model.ranking": "DBSF Fusion Linear Prefetch RRF Relative",
    "model.collection_info": "CollectionInfo",
    "model.rerank": "Rerank",
    "model.results": "ArmScore Change Hit Hits Page Point WriteResult",
    "model.schema": "Bool Datetime Float Geo Index Int Keyword Schema SparseIndex Text Uuid",
    "model.searching": "PreparedSearch",
    "model.tuning": "FusionTuning",
    "model.values": "Id",
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}
__all__ = [
    "CSR",
    "DBSF",
    "FDE",
    "HNSW",
    "IVF",
    "PCA",
    "RRF",
    "SAE",
    "UNSET",
    "AlreadyExistsError",
    "Analyzer",
    "Arm",
    "ArmScore",
    "AsyncClient",
    "AsyncCollection",
    "Attributes",
    "AuthenticationError",
    "Axis",
    "Batch",
    "Bool",
    "Boost",
    "BranchDiff",
    "BulkResult",
    "Category",
    "Change",
    "Classification",
    "Client",
    "ClosedError",
    "Clusters",
    "Collection",
    "CollectionInfo",
    "Concepts",
    "CorruptionError",
    "Cyclic",
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
    "make_batch",
    "read_synonyms",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
