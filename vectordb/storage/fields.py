"""Turns the vector columns of a batch into chunks, and back."""

from __future__ import annotations

import numpy as np
from vectordb_client.model.schema import Dense, MultiVector, Sparse, VectorField
from vectordb_client.model.vectors import Column, DenseColumn, MultiColumn, SparseColumn

from . import chunks, format
from .chunks import Chunk


def norms(values: np.ndarray) -> np.ndarray:
    """Euclidean norms of rows, float32. Computed in float64, so that they do not overflow."""
    wide = values.astype(np.float64)
    return np.sqrt(np.einsum("ij,ij->i", wide, wide)).astype(np.float32)


def forward_chunk(spec: VectorField, column: Column, docids: np.ndarray) -> Chunk:
    """The FORWARD chunk of a vector column whose rows belong to ``docids``."""
    if isinstance(spec, Dense):
        return chunks.fixed(docids, column.values, norms(column.values) if spec.metric == "cosine" else None)
    if isinstance(spec, MultiVector):
        return chunks.ragged(docids, column.indptr, column.values, norms=norms(column.values) if spec.metric == "cosine" else None)
    return chunks.ragged(docids, column.indptr, column.terms, extra=None if spec.binary else column.weights)


def vector_chunks(spec: VectorField, column: Column, docids: np.ndarray, lengths: np.ndarray | None = None) -> dict[int, Chunk]:
    """part → chunk, for a vector column whose rows belong to ``docids``. lengths: words per text, for a BM25 field."""
    parts = {format.FORWARD: forward_chunk(spec, column, docids)}
    if lengths is not None:
        parts[format.LENGTHS] = chunks.fixed(docids, lengths.astype(np.uint32))
    if isinstance(spec, Sparse):
        owners = np.repeat(docids, np.diff(column.indptr))
        parts[format.POSTINGS] = chunks.postings(docids, column.terms, owners, None if spec.binary else column.weights)
    return parts


def item_bytes(spec: VectorField) -> int:
    """Bytes of an item in a field's FORWARD chunks: a dense vector, a row of a multi-vector, or a term of a sparse vector."""
    return 8 if isinstance(spec, Sparse) else spec.dim * np.dtype(spec.dtype).itemsize


def lengths_of(column: SparseColumn) -> np.ndarray:
    """Words per text of a BM25 field, int64: the sums of term frequencies."""
    ends = np.concatenate([[0], np.cumsum(column.weights, dtype=np.int64)])
    return ends[column.indptr[1:]] - ends[column.indptr[:-1]]


def column_of(spec: VectorField, chunk: Chunk, rows: np.ndarray) -> Column:
    """The vector column that a FORWARD chunk contains, copied."""
    if isinstance(spec, Dense):
        return DenseColumn(chunk.data.reshape(-1).view(spec.dtype).reshape(-1, spec.dim).copy(), rows)
    indptr = chunk.offsets.astype(np.int64)
    if isinstance(spec, MultiVector):
        return MultiColumn(indptr, chunk.data.reshape(-1).view(spec.dtype).reshape(-1, spec.dim).copy(), rows)
    terms = chunk.data.reshape(-1).view(np.uint64).copy()
    weights = np.ones(len(terms), np.float32) if spec.binary else chunk.extra.reshape(-1).view(np.float32).copy()
    return SparseColumn(indptr, terms, weights, rows)


def overlaid(spec: VectorField, old: Column | None, new: Column | None) -> Column | None:
    """Merge two columns over different rows; rows ascend."""
    if old is None or new is None:
        return old if new is None else new
    both = chunks.joined([forward_chunk(spec, column, column.rows) for column in (old, new)])
    return column_of(spec, chunks.picked(both, np.argsort(both.docids)), np.sort(both.docids).astype(np.int32))


def reordered(spec: VectorField, column: Column, rows: np.ndarray) -> Column:
    """The column with its row numbers replaced by ``rows``, sorted again."""
    order = np.argsort(rows)
    chunk = forward_chunk(spec, column, column.rows)
    return column_of(spec, chunks.picked(chunk, order), rows[order].astype(np.int32))


def without(spec: VectorField, column: Column | None, rows: np.ndarray) -> Column | None:
    """The column without some rows; None if none is left."""
    if column is None:
        return None
    keep = np.flatnonzero(~np.isin(column.rows, rows))
    if len(keep) == len(column):
        return column
    chunk = forward_chunk(spec, column, column.rows)
    return column_of(spec, chunks.picked(chunk, keep), column.rows[keep]) if len(keep) else None
