"""Dense vectors: a fixed number of values a row, with their norms for cosines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.fields import Dense, DenseColumn

from ..index.exact import METRICS, Found, score_dense, search_dense, unpacked
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.chunks import FixedChunk
from ..storage.tables import ChunkTable
from .base import FieldType, Part, check_values, norms, values_of

FEW_QUERIES = 16  # vectors that rows are multiplied with one by one. Chosen, not measured
FEW = 4_096  # rows times queries that are scored on one thread, without a limit of memory. Chosen, not measured


class DenseType(FieldType):
    kind = "dense"
    direct = True

    def parts(self, spec: Dense, bm25: bool = False) -> dict[int, Part]:
        return {format.FORWARD: (chunks.FIXED, spec.dim * np.dtype(spec.dtype).itemsize)}

    def reduced(self, spec: Dense, column: DenseColumn) -> DenseColumn:
        if column.values.dtype == spec.dtype:
            return column
        return DenseColumn(column.values.astype(spec.dtype), column.rows)  # encoders make float32

    def encode(self, spec: Dense, column: DenseColumn, docids: np.ndarray, bm25: bool = False) -> dict[int, Any]:
        return {format.FORWARD: chunks.fixed(docids, column.values, norms(column.values) if spec.metric == "cosine" else None)}

    def decode(self, spec: Dense, chunk: FixedChunk, rows: np.ndarray | None) -> DenseColumn:
        return DenseColumn(values_of(spec, chunk), rows)

    def sizes(self, spec: Dense, table: ChunkTable, docids: np.ndarray) -> np.ndarray:
        return np.full(len(docids), self.item_bytes(spec), np.int64)  # an upper bound: rows without a vector aren't looked for

    def stored_bytes(self, spec: Dense, column: DenseColumn, bm25: bool) -> Iterator[bytes]:
        return (row.tobytes() for row in column.values)

    def check(self, rows: FieldRows, spec: Dense) -> None:
        chunk = rows.part(format.FORWARD)
        if chunk is not None:
            check_values(rows, spec, chunk)

    def sign(self, spec: Dense) -> float:
        return -1.0 if spec.metric == "l2" else 1.0

    def prepare(self, view: Any, name: str, queries: Sequence[Any], cache: Any) -> np.ndarray:
        return np.array(queries)  # a copy: kernels are compiled for contiguous, writable arrays

    def score(self, view: Any, name: str, queries: Any, rows: np.ndarray) -> list[Found]:
        if len(rows) * len(queries) > FEW:
            return super().score(view, name, queries, rows)
        table, spec, k = view.chunks(view.fields[name]), view.schema.vectors[name], len(rows)
        heaps, sizes = np.empty((len(queries), k), np.int64), np.zeros(len(queries), np.int64)
        given = queries, spec.dtype == "float16", METRICS[spec.metric], rows, heaps, sizes
        if score_dense(table.rows, table.verified, *given):
            table.confirm()
        return [unpacked(heaps[q, : sizes[q]]) for q in range(len(queries))]

    def similarities(self, view: Any, name: str, queries: np.ndarray, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spec = view.schema.vectors[name]
        column = self.vectors(spec, view.chunks(view.fields[name]).chunks_with(docids, self.item_bytes(spec)))
        if column is None:
            return docids[:0], np.empty((0, len(queries)))
        rows, asked = column.values.astype(np.float32, copy=False), queries.astype(np.float64)
        if spec.metric == "l2":
            scores = np.empty((len(rows), len(asked)))
            for q, one in enumerate(asked):
                difference = rows - one
                scores[:, q] = -np.einsum("ij,ij->i", difference, difference)
        else:
            if spec.metric == "cosine":
                asked /= np.linalg.norm(asked, axis=1, keepdims=True)
            narrow = asked.astype(np.float32)
            if len(asked) <= FEW_QUERIES:  # threads of a matrix product cost more than they save
                products = np.stack([np.einsum("ij,j->i", rows, one) for one in narrow], axis=1)
            else:
                products = rows @ narrow.T
            scores = products.astype(np.float64)
            if spec.metric == "cosine":
                lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
                scores = np.clip(scores / lengths[:, None], -1.0, 1.0)
        return docids[column.rows], scores

    def exact(self, view: Any, name: str, table: np.ndarray, queries: Any, k: int, rows: np.ndarray | None) -> list[Found]:
        spec = view.schema.vectors[name]
        return search_dense(table, queries, spec.dtype, spec.metric, k, rows)
