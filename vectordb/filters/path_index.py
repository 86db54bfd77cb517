"""Filters on the payload, of the rows of a collection: by a scan of the payloads, or by columns of the paths that are asked for repeatedly.

A path is scanned when a filter asks for it first. At the second question its values are put into a column (``payload.py``), which stays in
the filter cache and is extended by newer rows. Rows are immutable, so a column stays valid; dead rows are subtracted from what it finds. A
column belongs to one process and is made of the rows in the database, so it can't differ from them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import FilterError

from ..common import deadline, memory
from ..storage import format
from .bitmaps import bitmap_of
from .cache import FilterCache, Reader
from .nodes import PathAny, PathTest
from .path_tests import Objects, joined_columns, joined_objects, objects_of, owners_of, payloads
from .payload import PathColumn, column_of

# Constants, chosen and not measured.
ALIKE = 0.75  # similarity of two names (difflib's ratio) from which on one may be a misspelling of the other
USES = 2  # questions for a path after which it has a column
PIECE_ROWS, READ_ROWS = 1 << 16, 1_024  # rows of a column that is made at a time; records read at a time
LARGEST_SHARE = 4  # one in so many bytes of the cache is the most that one path takes; larger ones are scanned
MAX_COUNTED = 4_096  # paths whose questions are counted
SCAN_BYTES = 96  # of a row, while a column is made

Values = PathColumn | Objects


class Piece(NamedTuple):
    """The values at a path in the rows from ``first`` up to ``end``."""

    first: int
    end: int
    values: Any


def documents(reader: Reader, first: int, end: int) -> Iterator[tuple[int, Any]]:
    """(docid, payload) of the stored rows from ``first`` up to ``end`` that have one."""
    for _, _, docids in reader.chunks(format.ROWS_FIELD, format.FORWARD).between(first, end):
        for low in range(0, len(docids), READ_ROWS):
            deadline.check()
            some = docids[low : low + READ_ROWS].tolist()
            yield from payloads(reader.stored(some), some)


def _piece(node: PathTest | PathAny, reader: Reader, first: int, end: int) -> Piece:
    with memory.held(SCAN_BYTES * (end - first), "the payloads that a filter reads"):
        read = column_of if type(node) is PathTest else objects_of
        return Piece(first, end, read(documents(reader, first, end), node.field))


def _pieces(node: PathTest | PathAny, reader: Reader, first: int) -> Iterator[Piece]:
    """The values of all rows from ``first`` on."""
    for low in range(first, reader.rows, PIECE_ROWS):
        yield _piece(node, reader, low, min(low + PIECE_ROWS, reader.rows))


def _joined(some: list[Piece]) -> Piece:
    if len(some) == 1:
        return some[0]
    join: Any = joined_objects if isinstance(some[0].values, Objects) else joined_columns
    return Piece(some[0].first, some[-1].end, join([each.values for each in some]))


def _key(node: PathTest | PathAny) -> tuple:
    return ("path", type(node).__name__, node.field)


def kept(node: PathTest | PathAny, reader: Reader, cache: FilterCache, ask: bool) -> tuple[Piece, ...] | None:
    """The column of a path, in pieces of decreasing size that cover at least all rows of the reader; None where there is none.

    ask: count this question, and make the column if it is the second.
    """
    key = _key(node)
    cached = cache.get(key)
    if cached is None:
        if not ask:
            return None
        if len(cache.scans) >= MAX_COUNTED:
            cache.scans.clear()
        uses = cache.scans[key] = cache.scans.get(key, 0) + 1
        if uses < USES:
            return None
        pieces = (_joined([*_pieces(node, reader, 0)]),) if reader.rows else ()
    elif cached[0] >= reader.rows:
        return cached[1]
    else:
        newer = [*cached[1], *_pieces(node, reader, cached[0])]
        while len(newer) > 1 and newer[-2].end - newer[-2].first <= 2 * (newer[-1].end - newer[-1].first):
            newer[-2:] = [_joined(newer[-2:])]
        pieces = tuple(newer)
    _keep(key, reader.rows, pieces, cache)
    return pieces


def _keep(key: tuple, rows: int, pieces: tuple[Piece, ...], cache: FilterCache) -> None:
    nbytes = sum(each.values.nbytes for each in pieces)
    if nbytes * LARGEST_SHARE <= cache.capacity:
        cache.put(key, rows, pieces, nbytes)
    else:
        cache.scans[key] = -(2**62)  # it doesn't fit: don't make it again
        cache.forget(key)


def _owners(node: PathTest | PathAny, piece: Piece, rows: int) -> np.ndarray:
    """The docids of a piece that match, uint32 in any order, some repeatedly."""
    if isinstance(node, PathTest):
        return owners_of(node, piece.values, lambda: np.arange(piece.first, min(piece.end, rows), dtype=np.uint32))
    return piece.values.matching(node.child)


def matching_path(node: PathTest | PathAny, reader: Reader, start: int, cache: FilterCache | None) -> BitMap:
    """The rows from ``start`` on, dead ones too, whose payload matches a PathTest or PathAny."""
    pieces = None if cache is None else kept(node, reader, cache, start == 0)
    found, held = BitMap(), start > 0
    for piece in pieces if pieces is not None else _pieces(node, reader, start):
        held = held or piece.values.any
        if piece.end > start:
            found |= bitmap_of(_owners(node, piece, reader.rows))
    if not held and reader.rows:
        _check_spelling(node.field, reader)
    if pieces:
        if cache is not None and type(node) is not PathTest:  # its objects have columns of their own now
            _keep(_key(node), pieces[-1].end, pieces, cache)
        if start:
            found -= BitMap(range(start))
        if pieces[-1].end > reader.rows:
            found &= BitMap(range(reader.rows))
    return found


def _check_spelling(path: str, reader: Reader) -> None:
    """Raise FilterError for a path that no payload has, if it is spelt nearly as an attribute: a filter must not silently find nothing, or
    with NOT everything.
    """
    schema = reader.schema
    if schema.dynamic:
        return
    for name in difflib.get_close_matches(path, schema.attributes, 1, ALIKE):
        what = f"no point has {path!r} in its payload, and there is no attribute of this name; did you mean {name!r}?"
        raise FilterError(what, field=path, value=name)


def owners_in_column(node: PathTest, reader: Reader, cache: FilterCache) -> np.ndarray | None:
    """The docids that match, dead ones too, uint32 in any order, some repeatedly. None: there is no column, or the test isn't simple."""
    if node.test not in ("in", "range"):
        return None
    pieces = kept(node, reader, cache, False)
    if pieces is None:
        return None
    if pieces and not any(piece.values.any for piece in pieces):
        _check_spelling(node.field, reader)
    found = [_owners(node, piece, reader.rows) for piece in pieces]
    owners = found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty(0, np.uint32)
    return owners[owners < reader.rows] if pieces and pieces[-1].end > reader.rows else owners


def distinct(owners: np.ndarray) -> np.ndarray:
    """Ascending and without repetitions."""
    owners = np.sort(owners)
    if len(owners) > 1 and (repeated := owners[1:] == owners[:-1]).any():
        return owners[np.append(True, ~repeated)]
    return owners
