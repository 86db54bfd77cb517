"""Turns the columns of a batch into chunks: vectors with their norms, attribute values as postings or numeric columns."""

from __future__ import annotations

from collections.abc import Sequence

import lmdb
import numpy as np
from vectordb_client.model.schema import Attribute, Dense, MultiVector, Sparse, VectorField
from vectordb_client.model.vectors import Column, DenseColumn, MultiColumn, SparseColumn

from ..common.tokenize import words
from ..kernels.columns import ELEMENT_END
from . import chunks, format
from .chunks import Chunk

NUMERIC = {"int": np.int64, "datetime": np.int64, "float": np.float64, "geo": np.float64}

Ordinals = dict[bytes, int]


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


def term_bytes(kind: str, value) -> bytes:
    """The dictionary key of a term: UTF-8 for keywords and words, the 16 bytes of a UUID."""
    return bytes(value) if kind == "uuid" else value.encode()


def ordinals(txn: lmdb.Transaction, collection: int, field: int, terms: Sequence[bytes], known: Ordinals) -> Ordinals:
    """term → number; unknown terms get new numbers. known: committed numbers, which save look-ups; not changed."""
    found: Ordinals = {}
    prefix = format.field_key(collection, format.TERMS, field)
    count_key = format.field_key(collection, format.TERM_COUNT, field)
    following = None
    added = []
    for term in terms:
        ordinal = known.get(term)
        if ordinal is None:
            stored = txn.get(prefix + term)
            if stored is None:
                if following is None:
                    count = txn.get(count_key)
                    following = int.from_bytes(count, "little") if count else 0
                ordinal = following
                following += 1
                added.append((prefix + term, ordinal.to_bytes(4, "little")))
            else:
                ordinal = int.from_bytes(stored, "little")
        found[term] = ordinal
    if added:
        txn.putmulti(added)
        txn.put(count_key, following.to_bytes(4, "little"))
    return found


def main_part(spec: Attribute | VectorField) -> int:
    """The part whose chunks list every row that has the field."""
    if getattr(spec, "array", False):
        return format.COUNTS
    return format.POSTINGS if spec.kind in ("keyword", "uuid", "bool") else format.FORWARD


def attribute_chunks(
    txn: lmdb.Transaction, collection: int, field: int, spec: Attribute, values: Sequence, docids: np.ndarray, known: Ordinals, rule: int
) -> tuple[dict[int, Chunk], Ordinals]:
    """(part → chunk, term → number used) for one attribute. docids: ascending, one per value. None values are left out.

    rule: version of the word rules, for Text.
    """
    present = [row for row, value in enumerate(values) if value is not None]
    if not present:
        return {}, {}
    docids = np.asarray(docids, np.int64)[present]
    values = [values[row] for row in present]
    parts: dict[int, Chunk] = {}
    numbered: Ordinals = {}
    if spec.array:
        sizes = np.array([len(value) for value in values], dtype=np.int64)
        parts[format.COUNTS] = chunks.postings(docids, sizes.astype(np.uint64), docids)
    if spec.kind in NUMERIC:
        dtype = NUMERIC[spec.kind]
        if spec.array:
            items = np.array([element for value in values for element in value], dtype=dtype)
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            parts[format.FORWARD] = chunks.ragged(docids, offsets, items)
        else:
            parts[format.FORWARD] = chunks.fixed(docids, np.array(values, dtype=dtype))
        return parts, numbered
    lists = values if spec.array else [[value] for value in values]
    if spec.kind == "bool":
        numbers = [sorted({int(value) for value in row}) for row in lists]
    else:
        if spec.kind == "text":
            spoken = [[[word.encode() for word in words(text, rule)] for text in row] for row in lists]
            numbered = ordinals(txn, collection, field, list(dict.fromkeys(w for row in spoken for text in row for w in text)), known)
            said = [[[numbered[word] for word in text] for text in row] for row in spoken]
            # Words in order, for phrases. A mark between elements prevents matches across them.
            ordered = [[n for text in row for n in (*text, ELEMENT_END)][:-1] for row in said]
            offsets = np.concatenate([[0], np.cumsum([len(row) for row in ordered])])
            parts[format.FORWARD] = chunks.ragged(docids, offsets, np.array([n for row in ordered for n in row], dtype=np.uint32))
            numbers = [list(dict.fromkeys(n for text in row for n in text)) for row in said]
        else:
            spoken = [[term_bytes(spec.kind, value) for value in row] for row in lists]
            numbered = ordinals(txn, collection, field, list(dict.fromkeys(term for row in spoken for term in row)), known)
            numbers = [list(dict.fromkeys([numbered[term] for term in row])) for row in spoken]
    owners = np.repeat(docids, [len(row) for row in numbers])
    parts[format.POSTINGS] = chunks.postings(docids, np.array([n for row in numbers for n in row], dtype=np.uint64), owners)
    return parts, numbered
