"""The types of vector fields. A new type is one file here and one line in ``VECTOR_TYPES``, and the same in ``vectordb/fields``."""

from .base import MAX_DIM, Column, VectorField
from .dense import HNSW, IVF, Dense, DenseColumn
from .multi import MultiColumn, MultiVector, TokenLists
from .sparse import ImpactIndex, Sparse, SparseColumn

VECTOR_TYPES: dict[str, type[VectorField]] = {field_type.kind: field_type for field_type in (Dense, Sparse, MultiVector)}

__all__ = [
    "HNSW",
    "IVF",
    "MAX_DIM",
    "VECTOR_TYPES",
    "Column",
    "Dense",
    "DenseColumn",
    "ImpactIndex",
    "MultiColumn",
    "MultiVector",
    "Sparse",
    "SparseColumn",
    "TokenLists",
    "VectorField",
]
