"""The types of vector fields: how each is stored, checked and searched. A new type is one file here and one line in ``FIELD_TYPES``."""

from __future__ import annotations

import numpy as np
from vectordb_client.model.fields import Column, VectorField

from ..storage import format
from ..storage.store import Store
from .base import FieldType, RowSource
from .dense import DenseType
from .multi import MultiType
from .sparse import SparseType

FIELD_TYPES: dict[str, FieldType] = {field_type.kind: field_type for field_type in (DenseType(), SparseType(), MultiType())}

__all__ = ["FIELD_TYPES", "FieldType", "RowSource", "read", "write"]


def write(store: Store, field: int, spec: VectorField, column: Column, docids: np.ndarray, bm25: bool) -> None:
    """Append the vectors of rows ``docids`` to a field. For a BM25 field also count the live texts and their words."""
    parts = FIELD_TYPES[spec.kind].encode(spec, column, docids, bm25)
    for part, chunk in parts.items():
        store.append(field, part, chunk)
    if bm25:
        words = int(parts[format.LENGTHS].data.reshape(-1).view(np.uint32).sum(dtype=np.int64))
        store.add_encoder_state(field, {"documents": len(docids), "words": words})


def read(store: Store, field: int, spec: VectorField, docids: np.ndarray) -> Column | None:
    """Copies of the vectors of rows (int64, ascending). ``rows`` of the column are indexes into docids. None if no row has the field."""
    return FIELD_TYPES[spec.kind].vectors(spec, store.chunks_with(field, format.FORWARD, docids))
