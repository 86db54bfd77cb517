"""Turns the attribute values of a batch into chunks: postings or numeric columns."""

from __future__ import annotations

from collections.abc import Sequence

import lmdb
import numpy as np
from vectordb_client.model.schema import Attribute, VectorField

from ..common.tokenize import words
from ..kernels.columns import ELEMENT_END
from . import chunks, format
from .chunks import Chunk

NUMERIC = {"int": np.int64, "datetime": np.int64, "float": np.float64, "geo": np.float64}

Ordinals = dict[bytes, int]


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
