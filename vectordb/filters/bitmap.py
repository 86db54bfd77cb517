"""Canonical filters → roaring bitmaps over docids.

Rows never change, so the bitmap of a leaf stays right for the rows it covers: it is kept and only extended by newer rows. Dead rows
are taken out once, at the end.
"""

from __future__ import annotations

import fnmatch
import re
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from pyroaring import BitMap
from vectordb_client.filter import All, And, Filter, GeoBox, GeoRadius, Glob, HasId, HasVector, In, IsNull, Not, Nothing, Or, Prefix

from .. import deadline, memory
from ..kernels import COUNT, FIRST, ITEMS, LAST, columns, sparse
from ..storage import fields, format
from ..storage.store import Store
from ..types import Schema
from . import as_filter
from .canonical import canonical
from .nodes import CountRange, MatchWords, Range, weight

CACHE_BYTES = 64 << 20
CACHE_FILTERS = 1024
LONG_TEXT, LONG_FILTER = 1 << 14, 1_000  # characters, and values: what is longer is not worth keeping in another form
VALUE_BYTES = 80  # of a filter, about, as long as it is kept
MAX_COUNT = 65_535  # elements of an array
# What filters cost, in multiplications: to look a term up in a block, to tell whether a place lies within; terms of a row, as estimated.
_LOOK_UP, _PLACE, _VALUES_OF_A_ROW = 16, 64, 16


class Reader(Protocol):
    """What compiling needs of a pinned snapshot."""

    store: Store
    rows: int
    schema: Schema
    fields: dict[str, int]
    known: dict[int, fields.Ordinals]
    dead: BitMap
    sequence: int

    def table(self, field: int, part: int) -> np.ndarray: ...


class FilterCache:
    """What compiling a collection's filters need not do twice.

    Canonical forms by the filter given; bitmaps of leaves (with the rows they cover) and of whole filters (with their sequence), least
    recently used out first.
    """

    def __init__(self, capacity: int = CACHE_BYTES):
        self._capacity = capacity
        self._lock = threading.Lock()
        self._bytes = 0
        self._entries: OrderedDict[tuple, tuple[int, Any, int]] = OrderedDict()
        self._bound: dict[str | Filter, tuple[Schema, Filter]] = {}

    def bind(self, given: Any, schema: Schema) -> Filter | None:
        """The canonical form of a filter as a user gives it. Raises FilterError or LimitError."""
        if given is None:
            return None
        known = isinstance(given, Filter) or (isinstance(given, str) and len(given) <= LONG_TEXT)
        if known:
            found = self._bound.get(given)
            if found is not None and found[0] is schema:
                return found[1]
        node = canonical(as_filter(given), schema)
        if known and weight(node) <= LONG_FILTER:
            if len(self._bound) >= CACHE_FILTERS:
                self._bound.clear()
            self._bound[given] = (schema, node)
        return node

    def get(self, key: tuple) -> tuple[int, Any] | None:
        """(mark, bitmap or what it was turned into) as they were put."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0], entry[1]

    def put(self, key: tuple, mark: int, value: Any, size: int | None = None) -> None:
        """Keep a bitmap, or something made of one with its size in bytes."""
        if size is None:
            size = value.get_statistics()["n_bytes_array_containers"] + value.get_statistics()["n_bytes_bitset_containers"] + 512
        if isinstance(key[1], Filter):  # the key is kept too
            size += VALUE_BYTES * weight(key[1])
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[2]
            self._entries[key] = (mark, value, size)
            self._bytes += size
            while self._bytes > self._capacity and self._entries:
                self._bytes -= self._entries.popitem(last=False)[1][2]


def matching(node: Filter, reader: Reader, cache: FilterCache | None) -> BitMap:
    """The live rows that satisfy a canonical filter. The bitmap is shared: don't change it."""
    if cache is None:
        return _evaluate(node, reader, None) - reader.dead
    found = cache.get(("filter", node))
    if found is not None and found[0] == reader.sequence:
        return found[1]
    bitmap = _evaluate(node, reader, cache)
    if reader.dead:
        bitmap = bitmap - reader.dead
    cache.put(("filter", node), reader.sequence, bitmap)
    return bitmap


def _evaluate(node: Filter, reader: Reader, cache: FilterCache | None) -> BitMap:
    kind = type(node)
    if kind is And:
        # A complement is cheaper to subtract than to build.
        negative = [child.child for child in node.children if type(child) is Not]
        positive = [_evaluate(child, reader, cache) for child in node.children if type(child) is not Not]
        positive.sort(key=len)
        result = positive[0] if positive else _all(reader)
        for bitmap in positive[1:]:
            result = result & bitmap
        for child in negative:
            result = result - _evaluate(child, reader, cache)
        return result
    if kind is Or:
        return BitMap.union(*[_evaluate(child, reader, cache) for child in node.children])
    if kind is Not:
        return _all(reader) - _evaluate(node.child, reader, cache)
    if kind is All:
        return _all(reader)
    if kind is Nothing:
        return BitMap()
    if kind is HasId:  # ids move to new rows when they are written again: never kept
        return BitMap([entry[0] for entry in reader.store.entries(node.ids) if entry is not None])
    # A field that was converted has another number, and other words in its texts.
    key = ("leaf", node, reader.fields.get(node.field))
    found = cache.get(key) if cache is not None else None
    covered, bitmap = found if found is not None else (0, BitMap())
    if covered < reader.rows:
        deadline.check()
        newer = _LEAVES[kind](node, reader, covered)
        bitmap = bitmap | newer if covered else newer
        if cache is not None:
            cache.put(key, reader.rows, bitmap)
    elif covered > reader.rows:  # left by a newer snapshot
        bitmap = bitmap & _all(reader)
    return bitmap


def _all(reader: Reader) -> BitMap:
    return BitMap(range(reader.rows))


def _kernel_rows(reader: Reader, table: np.ndarray, costs: np.ndarray, run: Callable[[np.ndarray, np.ndarray], int]) -> BitMap:
    """The docids that a kernel finds in the chunks of a table: ``run(chunks, out)`` writes them into a buffer as long as the collection
    (kernels may write one past what they keep). costs: int64, of each chunk.
    """
    with memory.held(2 * 4 * reader.rows, "the rows that a filter matches"):
        out, n = np.empty(reader.rows + 1, np.uint32), 0
        for low, high in deadline.stretches(costs):
            n += run(table[low:high], out[n:])
        docids = array("I")  # an ndarray would be taken one Python integer at a time
        docids.frombytes(out[:n].view(np.uint8))
        return BitMap(docids)


def _values(table: np.ndarray) -> np.ndarray:
    """How many values each chunk of a column has, int64."""
    return np.maximum(table[:, COUNT], table[:, ITEMS])


def _present(reader: Reader, name: str, start: int) -> BitMap:
    """Rows ≥ start that have an attribute: its chunks list them."""
    spec = reader.schema.attributes[name]
    table = reader.table(reader.fields[name], fields.main_part(spec))
    return _kernel_rows(reader, table, table[:, COUNT], lambda some, out: sparse.present_rows(some, start, out))


def _is_null(node: IsNull, reader: Reader, start: int) -> BitMap:
    return BitMap(range(start, reader.rows)) - _present(reader, node.field, start)


def _union(reader: Reader, field: int, part: int, terms: np.ndarray, start: int) -> BitMap:
    """Rows ≥ start with any of the terms (uint64)."""
    if not len(terms):
        return BitMap()
    table = reader.table(field, part)
    words, terms = np.zeros(1024, np.uint64), np.sort(terms)
    costs = _LOOK_UP * len(terms) + table[:, COUNT] * min(len(terms), _VALUES_OF_A_ROW)
    return _kernel_rows(reader, table, costs, lambda some, out: sparse.postings_union(some, terms, start, words, out))


def _numbers(reader: Reader, field: int, terms: list[bytes]) -> list[int | None]:
    """The dictionary's numbers of terms, None where it doesn't hold one."""
    known = reader.known.get(field, {})
    prefix = format.field_key(reader.store.collection, format.TERMS, field)
    found = []
    for term in deadline.each(terms):
        number = known.get(term)
        if number is None:
            stored = reader.store.txn.get(prefix + term)
            number = None if stored is None else int.from_bytes(stored, "little")
        found.append(number)
    return found


def _in(node: In, reader: Reader, start: int) -> BitMap:
    spec, field = reader.schema.attributes[node.field], reader.fields[node.field]
    if spec.kind in fields.NUMERIC:
        wanted = np.unique(np.array(node.values, dtype=fields.NUMERIC[spec.kind]))
        table = reader.table(field, format.FORWARD)
        costs = _values(table) * (2 + 4 * len(wanted).bit_length())
        return _kernel_rows(reader, table, costs, lambda some, out: columns.rows_in_set(some, wanted, spec.array, start, out))
    if spec.kind == "bool":
        numbers = [int(value) for value in node.values]
    else:
        numbers = [n for n in _numbers(reader, field, [fields.term_bytes(spec.kind, value) for value in node.values]) if n is not None]
    return _union(reader, field, format.POSTINGS, np.array(numbers, dtype=np.uint64), start)


def _range(node: Range, reader: Reader, start: int) -> BitMap:
    spec = reader.schema.attributes[node.field]
    dtype = fields.NUMERIC[spec.kind]
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
    numbers = _numbers(reader, field, [word.encode() for word in node.words])
    if None in numbers:
        return BitMap()
    result = None
    for number in dict.fromkeys(numbers):
        rows = _union(reader, field, format.POSTINGS, np.array([number], dtype=np.uint64), start)
        result = rows if result is None else result & rows
    phrase = node.mode == "phrase"
    if len(numbers) == 1 or not result or not (phrase or spec.array):
        return result
    table = reader.table(field, format.FORWARD)
    tokens = np.array(numbers, dtype=np.uint32)
    candidates = np.asarray(result.to_array(), dtype=np.uint32)
    ends = np.searchsorted(candidates, table[:, LAST], "right")  # of what each chunk may hold
    costs = _values(table) * len(tokens)

    def run(some: np.ndarray, out: np.ndarray) -> int:
        low, high = np.searchsorted(candidates, [some[0, FIRST], some[-1, LAST] + 1])
        return columns.rows_with_tokens(some, tokens, phrase, candidates[low:high], out)

    return _kernel_rows(reader, table, np.where(np.diff(ends, prepend=0) > 0, costs, 1), run)


def _prefix(node: Prefix, reader: Reader, start: int) -> BitMap:
    return _spelled(reader, node.field, node.value, None, start)


def _glob(node: Glob, reader: Reader, start: int) -> BitMap:
    fixed = re.match(r"[^*?\[]*", node.pattern)[0]
    return _spelled(reader, node.field, fixed, re.compile(fnmatch.translate(node.pattern)), start)


def _spelled(reader: Reader, name: str, start_of_value: str, pattern: re.Pattern | None, start: int) -> BitMap:
    """Rows whose keyword begins so and fits the pattern: a walk over that stretch of the dictionary, then one union."""
    field = reader.fields[name]
    root = format.field_key(reader.store.collection, format.TERMS, field)
    prefix = root + start_of_value.encode(errors="surrogatepass")  # what isn't text is no keyword's beginning
    cursor = reader.store.txn.cursor()
    numbers = []
    for key in deadline.each(_keys_from(cursor, prefix)):
        if pattern is None or pattern.match(key[len(root) :].decode()):
            numbers.append(int.from_bytes(cursor.value(), "little"))
    return _union(reader, field, format.POSTINGS, np.array(numbers, dtype=np.uint64), start)


def _keys_from(cursor: Any, prefix: bytes) -> Iterator[bytes]:
    """The keys that begin so, the cursor at each in turn."""
    more = cursor.set_range(prefix)
    while more and (key := bytes(cursor.key())).startswith(prefix):
        yield key
        more = cursor.next()


def _has_vector(node: HasVector, reader: Reader, start: int) -> BitMap:
    table = reader.table(reader.fields[node.field], format.FORWARD)
    return _kernel_rows(reader, table, table[:, COUNT], lambda some, out: sparse.present_rows(some, start, out))


def _geo_radius(node: GeoRadius, reader: Reader, start: int) -> BitMap:
    return _area(reader, node.field, True, (node.lat, node.lon, 0.0, 0.0, node.meters), start)


def _geo_box(node: GeoBox, reader: Reader, start: int) -> BitMap:
    return _area(reader, node.field, False, (node.south, node.west, node.north, node.east, 0.0), start)


def _area(reader: Reader, name: str, radial: bool, numbers: tuple, start: int) -> BitMap:
    table = reader.table(reader.fields[name], format.FORWARD)
    spec = reader.schema.attributes[name]
    numbers = tuple(map(float, numbers))
    costs = _values(table) * _PLACE
    return _kernel_rows(reader, table, costs, lambda some, out: columns.rows_in_area(some, radial, *numbers, spec.array, start, out))


_LEAVES = {
    In: _in,
    Range: _range,
    IsNull: _is_null,
    CountRange: _count,
    MatchWords: _match,
    Prefix: _prefix,
    Glob: _glob,
    HasVector: _has_vector,
    GeoRadius: _geo_radius,
    GeoBox: _geo_box,
}
