"""Rows, block by block, against everything that is derived from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import shown
from vectordb_client.model.values import check_id

from .. import chunks, format
from ..store import Store, Texts, rule_of
from .attributes import check_attribute

if TYPE_CHECKING:
    from .collection import CollectionCheck


class FieldRows:
    """Rows [first, end) of one field, for the checks of its type.

    field: its number. dead: the docids of all dead rows. bm25: whether the field counts words.
    """

    def __init__(self, collection: CollectionCheck, name: str, what: str, first: int, end: int):
        self._collection, self.what, self.first, self.end = collection, what, first, end
        self.field, self.dead = collection.meta.fields[name], collection.dead
        self.bm25 = self.field in collection.bm25

    def expect(self, holds: Any, text: str) -> bool:
        """Add a problem of these rows if a condition doesn't hold; returns whether it holds."""
        return self._collection.expect(holds, self.what, text)

    def is_damaged(self, part: int) -> bool:
        """Whether a part has chunks that can't be read."""
        return (self.field, part) in self._collection.damaged

    def part(self, part: int) -> Any:
        """The rows of a part as one chunk; None if the part has none of them."""
        return part_of(self._collection.store, self.field, part, self.first, self.end)

    def common(self, docids: np.ndarray, others: np.ndarray) -> Any:
        """The docids that both ascending arrays have; None if a live docid is in only one of them. Dead ones may be, because compaction
        treats the parts one after another.
        """
        if not self.dead.issuperset(BitMap(np.setxor1d(docids, others).astype(np.uint32))):
            return None
        return np.intersect1d(docids, others, assume_unique=True)

    @staticmethod
    def kept(chunk: Any, docids: np.ndarray) -> Any:
        """The rows of a chunk that are among ``docids``; None if there are none."""
        mask = np.isin(chunk.docids, docids, assume_unique=True)
        return chunk.keep(mask) if mask.any() else None

    def count_texts(self, documents: int, words: int) -> None:
        """Count live texts of a BM25 field and their words."""
        before = self._collection.texts[self.field]
        self._collection.texts[self.field] = Texts(before.documents + documents, before.words + words)


def part_of(store: Store, field: int, part: int, first: int, end: int) -> Any:
    """Rows [first, end) of a part as one chunk; None if the part has none of them."""
    pieces = []
    for chunk, _, _ in store.chunks_with(field, part, np.arange(first, end)):
        low, high = np.searchsorted(chunk.docids, [first, end])
        pieces.append(chunk.slice(int(low), int(high)))
    return chunks.joined(pieces) if pieces else None


def check_block(collection: CollectionCheck, first: int, end: int) -> list:
    """Check rows [first, end); returns their ids, None where a record is missing or damaged.

    Dead rows may be missing, from all parts or from some.
    """
    walker, what = collection.walker, f"rows {first} … {end - 1}"
    records: list = [None] * (end - first)
    with walker.guard(collection.where(what)):
        chunk = part_of(collection.store, format.ROWS_FIELD, format.FORWARD, first, end)
        docids, ends, data = ([], [], b"") if chunk is None else (chunk.docids.tolist(), chunk.offsets.tolist(), chunk.data.tobytes())
        for docid, low, high in zip(docids, ends, ends[1:], strict=False):
            with walker.guard(collection.where(f"row {docid}")):
                (row,) = format.unpack_rows([data[low:high]])
                check_id(row.id)
                unknown = set(row.attributes) - set(collection.schema.attributes)
                collection.expect(not unknown, f"row {docid}", f"has attributes {sorted(unknown)}, which are not in the schema")
                records[docid - first] = row
    dead = set((collection.dead & BitMap(range(first, end))).to_array().tolist())
    missing = [first + i for i, row in enumerate(records) if row is None and first + i not in dead]
    if collection.expect(not missing, what, f"lack a readable record for {len(missing)} rows, the first of them {shown(missing[:3])}"):
        for field, spec in collection.schema.attributes.items():
            values = [None if row is None else row.attributes.get(field) for row in records]
            rows = FieldRows(collection, field, f"attribute {field!r} {what}", first, end)
            if field in collection.unmade:
                continue
            with walker.guard(collection.where(rows.what)):
                check_attribute(rows, spec, values, collection.terms.get(rows.field, {}), rule_of(collection.schema, field))
    for field, spec in collection.schema.vectors.items():
        rows = FieldRows(collection, field, f"vector {field!r} {what}", first, end)
        with walker.guard(collection.where(rows.what)):
            if not any((rows.field, part) in collection.damaged for part in collection.parts(field, spec)):
                collection.types[spec.kind].check(rows, spec)
    return [None if row is None else row.id for row in records]
