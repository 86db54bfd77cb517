"""Values of attributes: postings and columns against the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.tokenize import words
from ...kernels.columns import ELEMENT_END
from .. import chunks, fields, format
from ..chunks import Chunk

if TYPE_CHECKING:
    from .rows import FieldRows


def attribute_parts(spec: Any) -> dict[int, tuple[int, int]]:
    """part → (kind of its chunks, bytes a value or item)."""
    parts = {format.COUNTS: (chunks.POSTINGS, 0)} if spec.array else {}
    if spec.kind in fields.NUMERIC:
        parts[format.FORWARD] = (chunks.RAGGED if spec.array else chunks.FIXED, 16 if spec.kind == "geo" else 8)
    else:
        parts[format.POSTINGS] = (chunks.POSTINGS, 0)
        if spec.kind == "text":
            parts[format.FORWARD] = (chunks.RAGGED, 4)
    return parts


def check_attribute(rows: FieldRows, spec: Any, values: Sequence, terms: Mapping[bytes, int], rule: int) -> None:
    """Check the parts of an attribute against the values of the records. terms: its dictionary. rule: version of the word rules."""
    first = rows.first
    having = np.array([first + i for i, value in enumerate(values) if value is not None], dtype=np.int64)
    for part in attribute_parts(spec):
        if rows.is_damaged(part):
            continue
        chunk = rows.part(part)
        present = np.empty(0, np.int64) if chunk is None else chunk.docids.astype(np.int64)
        docids = rows.common(present, having)
        if not rows.expect(docids is not None, f"part {part} covers {len(present)} rows, but {len(having)} records have the attribute"):
            continue
        if not len(docids):
            continue
        chunk = rows.kept(chunk, docids)
        lists = [values[docid - first] if spec.array else [values[docid - first]] for docid in docids.tolist()]
        sizes = np.array([len(row) for row in lists], dtype=np.int64)
        if part == format.COUNTS:
            same = _same_pairs(chunk, sizes, docids)
        elif part == format.POSTINGS:
            numbers = [_numbers(terms, spec.kind, row, rule) for row in lists]
            owners = np.repeat(docids, [len(row) for row in numbers])
            same = _same_pairs(chunk, np.array([n for row in numbers for n in row], np.int64), owners)
        elif spec.kind == "text":
            ordered = [_spoken(terms, row, rule) for row in lists]
            flat = np.array([n for row in ordered for n in row], np.uint32)
            same = np.array_equal(np.diff(chunk.offsets), [len(row) for row in ordered]) and np.array_equal(_as(chunk, np.uint32), flat)
        else:
            dtype = fields.NUMERIC[spec.kind]
            flat = np.array([element for row in lists for element in row], dtype=dtype).reshape(-1)
            same = np.array_equal(_as(chunk, dtype), flat) and (not spec.array or np.array_equal(np.diff(chunk.offsets), sizes))
        rows.expect(same, f"part {part} differs from the records")


def _numbers(terms: Mapping[bytes, int], kind: str, row: Sequence, rule: int) -> set[int]:
    """The term numbers of a row's value; −1 for a term that is not in the dictionary."""
    if kind == "bool":
        return {int(value) for value in row}
    if kind == "text":
        return {terms.get(word.encode(), -1) for text in row for word in words(text, rule)}
    return {terms.get(fields.term_bytes(kind, value), -1) for value in row}


def _spoken(terms: Mapping[bytes, int], row: Sequence[str], rule: int) -> list[int]:
    """The word numbers of texts, in order, with ``ELEMENT_END`` between texts."""
    ordered: list[int] = []
    for position, text in enumerate(row):
        ordered.extend([int(ELEMENT_END)] * (position > 0))
        ordered.extend(terms.get(word.encode(), int(ELEMENT_END)) for word in words(text, rule))
    return ordered


def _same_pairs(chunk: Chunk, terms: np.ndarray, owners: np.ndarray) -> bool:
    """Whether postings are exactly these (term, row) pairs."""
    order = np.lexsort((owners, terms))
    stored = np.repeat(chunk.terms.astype(np.int64), np.diff(chunk.indptr))
    return np.array_equal(stored, terms[order]) and np.array_equal(chunk.docs.astype(np.int64) + chunk.first, owners[order])


def _as(chunk: Chunk, dtype: Any) -> np.ndarray:
    return chunk.data.reshape(-1).view(dtype)
