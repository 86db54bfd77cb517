"""Multi-vectors: any number of vectors a row, with their norms for cosines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.fields import MultiColumn, MultiVector

from ..index.exact import CODES, Found, search_multi
from ..kernels import FIRST, LAST
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.chunks import RaggedChunk
from .alignment import best_rows
from .base import FieldType, Part, check_norms, check_values, norms, values_of, writable
from .pooling import pooled
from .row_codes import decoded, encoded, score_errors

_SAMPLED = 1_000  # points by which ``info`` says how much rounding changes scores


class MultiType(FieldType):
    kind = "multi"
    aligns = True

    def parts(self, spec: MultiVector, bm25: bool = False) -> dict[int, Part]:
        return {format.FORWARD: (chunks.RAGGED, spec.dim * (1 if _coded(spec) else np.dtype(spec.dtype).itemsize))}

    def reduced(self, spec: MultiVector, column: MultiColumn) -> MultiColumn:
        if column.values.dtype != spec.dtype:  # encoders make float32
            column = MultiColumn(column.indptr, column.values.astype(spec.dtype), column.rows)
        if spec.tokens is not None:
            column = MultiColumn(*pooled(column.indptr, column.values, spec.tokens, spec.metric == "cosine"), column.rows)
        return MultiColumn(column.indptr, decoded(*encoded(column.values)), column.rows) if _coded(spec) else column

    def encode(self, spec: MultiVector, column: MultiColumn, docids: np.ndarray, bm25: bool = False) -> dict[int, Any]:
        values, steps = encoded(column.values) if _coded(spec) else (column.values, None)
        lengths = norms(column.values if steps is None else decoded(values, steps)) if spec.metric == "cosine" else None
        return {format.FORWARD: chunks.ragged(docids, column.indptr, values, steps, lengths)}

    def decode(self, spec: MultiVector, chunk: RaggedChunk, rows: np.ndarray | None) -> MultiColumn:
        return MultiColumn(chunk.offsets.astype(np.int64), _values(spec, chunk), rows)

    def stored_bytes(self, spec: MultiVector, column: MultiColumn, bm25: bool) -> Iterator[bytes]:
        return ((encoded(matrix)[0] if _coded(spec) else matrix).tobytes() for matrix in column.vectors())

    def check(self, rows: FieldRows, spec: MultiVector) -> None:
        chunk = rows.part(format.FORWARD)
        if chunk is not None:
            rows.expect((np.diff(chunk.offsets) > 0).all(), "has points without a vector row")
            if spec.tokens is not None:
                most = f"has points with more than {spec.tokens} vector rows"
                rows.expect((np.diff(chunk.offsets) <= spec.tokens).all(), most)
            if not _coded(spec):
                check_values(rows, spec, chunk)
            elif rows.expect(chunk.extra is not None, "lacks the steps of its codes"):
                steps = _steps(chunk)
                if rows.expect((np.isfinite(steps) & (steps > 0)).all() and (chunk.data > 0).all(), "has codes or steps that can't be"):
                    check_norms(rows, spec, chunk, _values(spec, chunk))

    def facts(self, view: Any, name: str) -> dict[str, Any]:
        spec = view.schema.vectors[name]
        if not _coded(spec):
            return {}
        table = view.chunks(view.fields[name])
        each = max(_SAMPLED // max(len(table.rows), 1), 2)
        picked = [np.linspace(first, last, each).astype(np.int64) for first, last in table.rows[:, [FIRST, LAST]].tolist()]
        docids = np.unique(np.concatenate([np.empty(0, np.int64), *picked]))
        column = self.vectors(spec, table.chunks_with(docids, self.item_bytes(spec)))
        errors = np.zeros(1) if column is None else score_errors(column.values, spec.metric == "cosine")
        return {"keep": spec.keep, "score_error": {"mean": float(errors.mean()), "highest": float(errors.max())}}

    def exact_plan_of(self, spec: MultiVector) -> str:
        return "exact scan of codes" if _coded(spec) else self.exact_plan

    def prepare(self, view: Any, name: str, queries: Sequence[Any], cache: Any) -> list[np.ndarray]:
        return [writable(query) for query in queries]

    def aligned(self, spec: MultiVector, query: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return best_rows(query, vector, spec.metric == "cosine", spec.aggregation == "max")

    def exact(self, view: Any, name: str, table: np.ndarray, queries: Any, k: int, rows: np.ndarray | None) -> list[Found]:
        spec = view.schema.vectors[name]
        return [search_multi(table, query, spec.stored, spec.metric, spec.aggregation, k, rows) for query in queries]


def _coded(spec: MultiVector) -> bool:
    return spec.stored == CODES


def _steps(chunk: RaggedChunk) -> np.ndarray:
    assert chunk.extra is not None
    return np.ascontiguousarray(chunk.extra).reshape(-1).view(np.float32)


def _values(spec: MultiVector, chunk: RaggedChunk) -> np.ndarray:
    """The rows of a chunk: a view; of codes, the numbers that they stand for."""
    return decoded(chunk.data.reshape(-1, spec.dim), _steps(chunk)) if _coded(spec) else values_of(spec, chunk)
