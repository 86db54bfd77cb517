"""Multi-vectors: any number of vectors a row, with their norms for cosines. They have no index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.fields import MultiColumn, MultiVector

from ..index import exact
from ..index.exact import Found
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.chunks import Chunk, RaggedChunk
from .base import FieldType, Part, View, check_values, norms, values_of, writable


class MultiType(FieldType):
    kind = "multi"

    def parts(self, spec: MultiVector, bm25: bool = False) -> dict[int, Part]:
        return {format.FORWARD: (chunks.RAGGED, spec.dim * np.dtype(spec.dtype).itemsize)}

    def encode(self, spec: MultiVector, column: MultiColumn, docids: np.ndarray, bm25: bool = False) -> dict[int, Chunk]:
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
            check_values(rows, spec, chunk)

    def prepare(self, view: View, name: str, queries: Sequence[Any], cache: Any) -> list[np.ndarray]:
        return [writable(query) for query in queries]

    def search(self, view: View, name: str, queries: Sequence[Any], k: int, rows: np.ndarray | None) -> list[Found]:
        return self._search(view, name, view.table(view.fields[name]), queries, k, rows)

    def score(self, view: View, name: str, queries: Sequence[Any], rows: np.ndarray) -> list[Found]:
        table = view.chunks(view.fields[name])
        table.verify_rows(rows)
        return self._search(view, name, table.rows, queries, len(rows), rows)

    def _search(self, view: View, name: str, table: np.ndarray, queries: Sequence[Any], k: int, rows: np.ndarray | None) -> list[Found]:
        spec = view.schema.vectors[name]
        return [exact.search_multi(table, query, spec.dtype, spec.metric, spec.aggregation, k, rows) for query in queries]
