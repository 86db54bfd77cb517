"""Each chunk by itself: its checksum, its kind, and the order of its rows, items and postings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from vectordb_client.errors import shown

from .. import chunks, format, sharing
from ..chunks import Chunk, FixedChunk, PostingsChunk, RaggedChunk

if TYPE_CHECKING:
    from .collection import CollectionCheck


def check_chunks(collection: CollectionCheck, layout: Mapping[tuple[int, int], tuple[int, int]]) -> set[tuple[int, int]]:
    """Check every chunk by itself, and the order of the chunks of a part. Returns the (field, part) with damaged chunks.

    layout: (field, part) → (kind of its chunks, bytes of an item).
    """
    walker = collection.walker
    damaged: set[tuple[int, int]] = set()
    last: dict[tuple[int, int], int] = {}
    for key, value in walker.walk(format.key(collection.number, format.CHUNK)):
        if not collection.expect(len(key) == 12, f"key {shown(key)}", "is not a valid key of a chunk"):
            continue
        field, part, first = int.from_bytes(key[5:7], "big"), key[7], int.from_bytes(key[8:], "big")
        what, place = f"field {field} part {part} rows {first}…", (field, part)
        if place not in layout and not sharing.readers_of(walker.txn, collection.number, key)[0]:
            continue  # of a field that was dropped here; branches still read it, and are checked by themselves
        if not collection.expect(place in layout, what, "belongs to no field of the schema"):
            continue
        walker.chunks += 1
        before = len(walker.problems)
        with walker.guard(collection.where()):
            chunk = chunks.decode(sharing.chunk(walker.txn, key, value), collection.store.chunk_name(field, part, first))
            _check(collection, chunk, what, first, *layout[place])
            collection.expect(first > last.get(place, -1), what, f"overlaps the chunk before it, which ends at {last.get(place)}")
            last[place] = chunk.last
        if len(walker.problems) > before:
            damaged.add(place)
    return damaged


def _check(collection: CollectionCheck, chunk: Chunk, what: str, first: int, kind: int, width: int) -> None:
    collection.expect(chunk.kind == kind, what, f"has kind {chunk.kind}, not {kind}")
    collection.expect(chunk.first == first, what, f"begins at row {chunk.first}, unlike its key")
    collection.expect(len(chunk) and _ascending(chunk.docids), what, "has no rows, or rows out of order")
    collection.expect(chunk.last < collection.rows, what, f"ends at row {chunk.last}, but there are only {collection.rows} rows")
    if isinstance(chunk, FixedChunk):
        collection.expect(chunk.width == width, what, f"has values of {chunk.width} bytes, not {width}")
    elif isinstance(chunk, RaggedChunk):
        collection.expect(
            _offsets(chunk.offsets, len(chunk.data)), what, "has offsets that don't ascend, or don't end at its number of items"
        )
        right = not len(chunk.data) or chunk.width == width
        collection.expect(right, what, f"has items of {chunk.width} bytes, not {width}")
    elif isinstance(chunk, PostingsChunk):
        collection.expect(_ascending(chunk.terms), what, "has terms out of order")
        collection.expect(
            _offsets(chunk.indptr, len(chunk.docs)), what, "has list offsets that don't ascend, or don't end at its number of postings"
        )
        owners = chunk.owners()
        collection.expect(np.isin(owners, chunk.docids).all(), what, "has postings of rows that it does not list")
        falls = np.flatnonzero(np.diff(owners) <= 0) + 1
        collection.expect(np.isin(falls, chunk.indptr).all(), what, "has a posting list out of order")


def _ascending(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _offsets(offsets: np.ndarray, items: int) -> bool:
    return int(offsets[0]) == 0 and bool((offsets[1:] >= offsets[:-1]).all()) and int(offsets[-1]) == items
