"""Evaluate canonical filters to roaring bitmaps of docids.

Rows are immutable, so the cached bitmap of a leaf stays valid for the rows that it covers and is only extended by newer rows. Tombstoned
(dead) rows are subtracted once, from the bitmap of the whole filter.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.filter import Filter
from vectordb_client.model.filter_extended import Fold, GeoPolygon
from vectordb_client.model.filter_nodes import All, And, GeoBox, GeoRadius, Glob, HasId, HasVector, In, IsNull, Not, Nothing, Or, Prefix

from ..common import deadline, memory
from ..common.near import NearWord
from ..kernels import COUNT, FIRST, ITEMS, LAST, columns, sparse
from ..storage import format
from ..storage.attribute_forms import FORMS, main_part
from . import scans
from .bitmaps import bitmap_of
from .cache import FilterCache, Reader
from .concepts import weighted
from .docids import LEAST_MANY, docids_of, numbers_of
from .nodes import AtLeast, ConceptRange, CountRange, Leaf, MatchWords, Near, Part, PathAny, PathTest, Range, TermRange, TermsOutside
from .path_index import matching_path
from .vocabulary import expanded, vocabulary

MAX_COUNT = 65_535  # elements of an array, at most
# Cost estimates, in multiplications: to look up a term in a block; to test whether a place lies in an area. And the assumed number of terms
# in a row.
_LOOK_UP, _PLACE, _VALUES_OF_A_ROW = 16, 64, 16


def matching(node: Filter, reader: Reader, cache: FilterCache | None) -> BitMap:
    """The live rows that match a canonical filter. The bitmap is shared: callers must not modify it."""
    if cache is None:
        return _evaluate(node, reader, None) - reader.dead
    rows = matching_rows(node, reader, cache)
    return rows if isinstance(rows, BitMap) else bitmap_of(rows)


def matching_rows(node: Filter, reader: Reader, cache: FilterCache) -> BitMap | np.ndarray:
    """``matching`` as a bitmap or, where few rows match, as docids (uint32, ascending). Both are shared: callers must not modify them."""
    cached = cache.get(("filter", node))
    mark = reader.sequence, len(reader.dead)  # rows also die when their moment comes, without a write
    if cached is not None and cached[0] == mark:
        return cached[1]
    rows: BitMap | np.ndarray | None = docids_of(node, reader, cache)
    if rows is None or (reader.dead and len(rows)):
        bitmap = _evaluate(node, reader, cache) if rows is None else bitmap_of(rows)
        if reader.dead:
            bitmap = bitmap - reader.dead
        rows = np.asarray(bitmap.to_array(), dtype=np.uint32) if len(bitmap) <= LEAST_MANY else bitmap
    cache.put(("filter", node), mark, rows, rows.nbytes + 256 if isinstance(rows, np.ndarray) else None)
    return rows


def _evaluate(node: Filter, reader: Reader, cache: FilterCache | None) -> BitMap:
    if type(node) is And:
        # Subtracting the child of a Not is cheaper than building its complement.
        negative = [child.child for child in node.children if type(child) is Not]
        positive = [_evaluate(child, reader, cache) for child in node.children if type(child) is not Not]
        positive.sort(key=len)
        result = positive[0] if positive else _all(reader)
        for bitmap in positive[1:]:
            result = result & bitmap
        for child in negative:
            result = result - _evaluate(child, reader, cache)
        return result
    if type(node) is Or:
        return BitMap.union(*[_evaluate(child, reader, cache) for child in node.children])
    if type(node) is Not:
        return _all(reader) - _evaluate(node.child, reader, cache)
    if type(node) is AtLeast:
        return _at_least(node.n, [_evaluate(child, reader, cache) for child in node.children])
    if type(node) is All:
        return _all(reader)
    if type(node) is Nothing:
        return BitMap()
    if type(node) is HasId:  # not cached: an update moves an id to a new row
        return BitMap([entry[0] for entry in reader.entries(tuple(node.ids)) if entry is not None])
    # The key holds the field's number: converting a field gives it a new number, and its texts other words.
    key = ("leaf", node, reader.fields.get(cast(Leaf, node).field))
    cached = cache.get(key) if cache is not None else None
    covered, bitmap = cached if cached is not None else (0, BitMap())
    if covered < reader.rows:
        deadline.check()
        if type(node) is PathTest or type(node) is PathAny:
            newer = matching_path(node, reader, covered, cache)
        elif type(node) is Near:
            newer = _near(node, reader, covered, cache)
        else:
            newer = _LEAVES[type(node)](node, reader, covered)
        bitmap = bitmap | newer if covered else newer
        if cache is not None:
            cache.put(key, reader.rows, bitmap)
    elif covered > reader.rows:  # cached by a newer snapshot: cut off the rows that this one doesn't see
        bitmap = bitmap & _all(reader)
    return bitmap


def _at_least(n: int, bitmaps: list[BitMap]) -> BitMap:
    """The rows that are in at least n of the bitmaps."""
    reached = [BitMap() for _ in range(n)]  # the rows in at least 1, 2, … n of those seen so far
    for seen, bitmap in enumerate(bitmaps):
        deadline.check()
        for i in range(min(seen, n - 1), 0, -1):
            reached[i] |= reached[i - 1] & bitmap
        reached[0] |= bitmap
    return reached[-1]


def _all(reader: Reader) -> BitMap:
    return BitMap(range(reader.rows))


def _kernel_rows(reader: Reader, table: np.ndarray, costs: np.ndarray, run: Callable[[np.ndarray, np.ndarray], int]) -> BitMap:
    """The docids that a kernel finds in the chunks of a table. ``run(chunks, out)`` writes docids to ``out`` and returns their number.

    costs: int64, the cost of each chunk in multiplications. The buffer has one element more than the collection has rows, because a kernel
    may write one element behind the last docid.
    """
    with memory.held(2 * 4 * reader.rows, "the rows that a filter matches"):
        out, n = np.empty(reader.rows + 1, np.uint32), 0
        for low, high in deadline.stretches(costs):
            n += run(table[low:high], out[n:])
        return bitmap_of(out[:n])


def _values(table: np.ndarray) -> np.ndarray:
    """The number of values in each chunk of a column, int64."""
    return np.maximum(table[:, COUNT], table[:, ITEMS])


def _present(reader: Reader, name: str, start: int) -> BitMap:
    """Rows ≥ start that have a value of an attribute: its chunks list them."""
    spec = reader.schema.attributes[name]
    table = reader.table(reader.fields[name], main_part(spec))
    return _kernel_rows(reader, table, table[:, COUNT], lambda some, out: sparse.present_rows(some, start, out))


def _is_null(node: IsNull, reader: Reader, start: int) -> BitMap:
    return BitMap(range(start, reader.rows)) - _present(reader, node.field, start)


def _union(reader: Reader, field: int, part: int, terms: np.ndarray, start: int) -> BitMap:
    """Rows ≥ start that have at least one of the terms (uint64)."""
    if not len(terms):
        return BitMap()
    table = reader.table(field, part)
    words, terms = np.zeros(1024, np.uint64), np.sort(terms)
    costs = _LOOK_UP * len(terms) + table[:, COUNT] * min(len(terms), _VALUES_OF_A_ROW)
    return _kernel_rows(reader, table, costs, lambda some, out: sparse.postings_union(some, terms, start, words, out))


def _in(node: In, reader: Reader, start: int) -> BitMap:
    spec, field = reader.schema.attributes[node.field], reader.fields[node.field]
    form = FORMS[spec.stored]
    if form.dtype is not None:
        wanted = np.unique(np.array(node.values, dtype=form.dtype))
        table = reader.table(field, format.FORWARD)
        costs = _values(table) * (2 + 4 * len(wanted).bit_length())
        return _kernel_rows(reader, table, costs, lambda some, out: columns.rows_in_set(some, wanted, spec.array, start, out))
    numbers = form.numbers(node.values, lambda terms: numbers_of(reader, field, terms))
    return _union(reader, field, format.POSTINGS, np.array(numbers, dtype=np.uint64), start)


def _range(node: Range, reader: Reader, start: int) -> BitMap:
    spec = reader.schema.attributes[node.field]
    dtype = FORMS[spec.stored].dtype
    widest = (-np.inf, np.inf) if dtype is np.float64 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low = np.array([widest[0] if node.low is None else node.low], dtype=dtype)
    high = np.array([widest[1] if node.high is None else node.high], dtype=dtype)
    table = reader.table(reader.fields[node.field], format.FORWARD)
    return _kernel_rows(reader, table, _values(table), lambda some, out: columns.rows_in_range(some, low, high, spec.array, start, out))


def _count(node: CountRange, reader: Reader, start: int) -> BitMap:
    spec = reader.schema.attributes[node.field]
    low = 0 if node.low is None else max(node.low, 0)
    high = MAX_COUNT if node.high is None else min(node.high, MAX_COUNT)
    if low > high:
        return BitMap()
    result = BitMap()
    if low == 0:
        result |= _is_null(IsNull(node.field), reader, start)
    if spec.array:
        result |= _union(reader, reader.fields[node.field], format.COUNTS, np.arange(low, high + 1, dtype=np.uint64), start)
    elif low <= 1 <= high:
        result |= _present(reader, node.field, start)
    return result


def _match(node: MatchWords, reader: Reader, start: int) -> BitMap:
    spec, field = reader.schema.attributes[node.field], reader.fields[node.field]
    numbers = FORMS[spec.stored].numbers(node.words, lambda terms: numbers_of(reader, field, terms))
    if len(numbers) < len(node.words):
        return BitMap()
    first, *others = dict.fromkeys(numbers)
    result = _united(reader, node.field, [first], start)
    for number in others:
        result = result & _united(reader, node.field, [number], start)
    phrase = node.mode == "phrase"
    if len(numbers) == 1 or not result or not (phrase or spec.array):
        return result
    table = reader.table(field, format.FORWARD)
    tokens = np.array(numbers, dtype=np.uint32)
    candidates = np.asarray(result.to_array(), dtype=np.uint32)
    ends = np.searchsorted(candidates, table[:, LAST], "right")  # where each chunk's candidates end
    costs = _values(table) * len(tokens)

    def run(some: np.ndarray, out: np.ndarray) -> int:
        low, high = np.searchsorted(candidates, [some[0, FIRST], some[-1, LAST] + 1])
        return columns.rows_with_tokens(some, tokens, phrase, candidates[low:high], out)

    return _kernel_rows(reader, table, np.where(np.diff(ends, prepend=0) > 0, costs, 1), run)


def _united(reader: Reader, name: str, numbers: list[int], start: int) -> BitMap:
    """Rows ≥ start that have one of the terms of an attribute."""
    return _union(reader, reader.fields[name], format.POSTINGS, np.array(numbers, dtype=np.uint64), start)


def _near(node: Near, reader: Reader, start: int, cache: FilterCache | None) -> BitMap:
    spec, field = reader.schema.attributes[node.field], reader.fields[node.field]
    word = NearWord(node.words, node.distance, node.pattern)
    words = [each for each, _ in expanded(vocabulary(reader, node.field, cache), word, node.field)]
    numbers = FORMS[spec.stored].numbers(words, lambda terms: numbers_of(reader, field, terms))
    return _union(reader, field, format.POSTINGS, np.array(numbers, dtype=np.uint64), start)


def _glob(node: Glob, reader: Reader, start: int) -> BitMap:
    fixed = re.split(r"[*?\[]", node.pattern, maxsplit=1)[0]
    pattern = re.compile(fnmatch.translate(node.pattern))
    return scans.pattern(reader, node.field, fixed, lambda value: pattern.match(value) is not None, start, _united)


def _has_vector(node: HasVector, reader: Reader, start: int) -> BitMap:
    table = reader.table(reader.fields[node.field], format.FORWARD)
    return _kernel_rows(reader, table, table[:, COUNT], lambda some, out: sparse.present_rows(some, start, out))


def _area(reader: Reader, name: str, radial: bool, numbers: tuple, start: int) -> BitMap:
    table = reader.table(reader.fields[name], format.FORWARD)
    spec = reader.schema.attributes[name]
    numbers = tuple(map(float, numbers))
    costs = _values(table) * _PLACE
    return _kernel_rows(reader, table, costs, lambda some, out: columns.rows_in_area(some, radial, *numbers, spec.array, start, out))


# Each function takes a node of its own class.
_LEAVES: dict[type[Filter], Callable[[Any, Reader, int], BitMap]] = {
    In: _in,
    Range: _range,
    IsNull: _is_null,
    CountRange: _count,
    MatchWords: _match,
    Prefix: lambda node, reader, start: scans.pattern(reader, node.field, node.value, lambda value: True, start, _united),
    Glob: _glob,
    TermRange: lambda node, reader, start: scans.term_range(node, reader, start, _united),
    TermsOutside: lambda node, reader, start: scans.terms_outside(node, reader, start, _united),
    Fold: lambda node, reader, start: scans.fold(node, reader, start, _united),
    Part: scans.part,
    GeoPolygon: lambda node, reader, start: scans.polygon(node, reader, start, lambda box: _area(reader, node.field, False, box, start)),
    HasVector: _has_vector,
    ConceptRange: lambda node, reader, start: weighted(node, reader, start, _kernel_rows),
    GeoRadius: lambda node, reader, start: _area(reader, node.field, True, (node.lat, node.lon, 0.0, 0.0, node.meters), start),
    GeoBox: lambda node, reader, start: _area(reader, node.field, False, (node.south, node.west, node.north, node.east, 0.0), start),
}
