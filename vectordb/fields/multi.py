"""Multi-vectors: any number of vectors a row, with their norms for cosines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.fields import MultiColumn, MultiVector

from ..index.exact import Found, search_multi
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.chunks import RaggedChunk
from .alignment import best_rows
from .base import FieldType, Part, check_values, norms, values_of, writable
from .pooling import pooled


class MultiType(FieldType):
    kind = "multi"
    aligns = True

    def parts(self, spec: MultiVector, bm25: bool = False) -> dict[int, Part]:
        return {format.FORWARD: (chunks.RAGGED, spec.dim * np.dtype(spec.dtype).itemsize)}

    def reduced(self, spec: MultiVector, column: MultiColumn) -> MultiColumn:
        if column.values.dtype != spec.dtype:  # encoders make float32
            column = MultiColumn(column.indptr, column.values.astype(spec.dtype), column.rows)
        if spec.tokens is None:
            return column
        return MultiColumn(*pooled(column.indptr, column.values, spec.tokens, spec.metric == "cosine"), column.rows)

    def encode(self, spec: MultiVector, column: MultiColumn, docids: np.ndarray, bm25: bool = False) -> dict[int, Any]:
        lengths = norms(column.values) if spec.metric == "cosine" else None
        return {format.FORWARD: chunks.ragged(docids, column.indptr, column.values, norms=lengths)}

    def decode(self, spec: MultiVector, chunk: RaggedChunk, rows: np.ndarray | None) -> MultiColumn:
        return MultiColumn(chunk.offsets.astype(np.int64), values_of(spec, chunk), rows)

    def stored_bytes(self, column: MultiColumn, bm25: bool) -> Iterator[bytes]:
        return (matrix.tobytes() for matrix in column.vectors())

    def check(self, rows: FieldRows, spec: MultiVector) -> None:
        chunk = rows.part(format.FORWARD)
        if chunk is not None:
            rows.expect((np.diff(chunk.offsets) > 0).all(), "has points without a vector row")
            if spec.tokens is not None:
                most = f"has points with more than {spec.tokens} vector rows"
                rows.expect((np.diff(chunk.offsets) <= spec.tokens).all(), most)
            check_values(rows, spec, chunk)

    def prepare(self, view: Any, name: str, queries: Sequence[Any], cache: Any) -> list[np.ndarray]:
        return [writable(query) for query in queries]

    def aligned(self, spec: MultiVector, query: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return best_rows(query, vector, spec.metric == "cosine", spec.aggregation == "max")

    def exact(self, view: Any, name: str, table: np.ndarray, queries: Any, k: int, rows: np.ndarray | None) -> list[Found]:
        spec = view.schema.vectors[name]
        return [search_multi(table, query, spec.dtype, spec.metric, spec.aggregation, k, rows) for query in queries]
