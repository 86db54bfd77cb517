"""Evaluate simple filters to lists of docids, where few rows match.

Simple are conditions on keywords, UUIDs and bools (one of some values), on numbers (ranges and single values) and AND of these, some of
them negated. They are evaluated by one kernel call (``kernels/conditions.py``), in a time that depends on the rows that match, not on all
rows. All others, and those that many rows match, are evaluated to bitmaps (``bitmap.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from vectordb_client.model.attributes import AttributeType
from vectordb_client.model.filter_nodes import And, Filter, In, Not

from ..common import deadline, memory
from ..kernels import COUNT, ITEMS, conditions
from ..kernels.conditions import RANGES, TERMS
from ..storage import format
from ..storage.attribute_forms import FORMS, Ordinals
from .cache import FilterCache, Reader
from .nodes import PathTest, Range, make
from .path_index import distinct, owners_in_column

# Constants: unit and meaning. Chosen, not measured.
MAX_CONDITIONS = 8  # of a filter; one with more is evaluated to bitmaps
MAX_LISTED = 64  # values of a condition
LEAST_MANY, SHARE = 4_096, 8  # rows, and one in so many of all rows: a list of no more than either is never too long
SCANS = 2  # ranges of an attribute that are looked for in all its values, before the values are put in order
NEWER, NEWER_SHARE = 2_048, 32  # rows, and one in so many: with more newer rows than either the values are put in order again
MAX_NUMBERS = 10_000  # numbers of terms that are kept of an attribute
ORDERED_SHARE = 4  # one in so many bytes of the cache is the most that one attribute in order takes

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_FLOAT, _INT = struct.Struct("<d"), struct.Struct("<q")


class Ordered(NamedTuple):
    """The values of a numeric attribute in order. keys: int64 ascending, as ``conditions.ordered_key``. owners: uint32, the docid of each.

    keys_at, owners_at: their addresses. covered: they are of the rows below it.
    """

    keys: np.ndarray
    owners: np.ndarray
    keys_at: int
    owners_at: int
    covered: int


class Source(NamedTuple):
    """Where the values of an attribute are looked up in one snapshot.

    form: of its values. rows: its chunk table, of postings for terms. at, chunks: the table's address and length. numbers: a value → the
    number of its term, or None where no row has it, as far as they were asked for.
    """

    field: int
    spec: AttributeType
    form: Any
    rows: np.ndarray
    at: int
    chunks: int
    numbers: dict[Any, int | None]


def docids_of(node: Filter, reader: Reader, cache: FilterCache) -> np.ndarray | None:
    """The docids that match a canonical filter, uint32 ascending, dead ones too; None if the filter isn't simple or many rows match."""
    nodes = node.children if type(node) is And else (node,)
    if len(nodes) > MAX_CONDITIONS:
        return None
    if any(type(each) is PathTest or (type(each) is Not and type(each.child) is PathTest) for each in nodes):
        return _with_paths(nodes, reader, cache)
    columns: list[int] = []
    listed: list[int] = []
    positive, kept = False, []  # kept: arrays whose addresses are in ``columns``
    for each in nodes:
        negated = type(each) is Not
        inner = each.child if negated else each
        if not isinstance(inner, (In, Range)):
            return None
        source = reader.sources.get(inner.field) or _source(inner.field, reader)
        if isinstance(inner, In) and len(tuple(inner.values)) > MAX_LISTED:
            return None
        if source.form.dtype is None:
            if isinstance(inner, Range):
                return None
            numbers = [number for value in inner.values if (number := _number(value, source, reader)) is not None]
            if not numbers:  # no row has any of the values
                if negated:
                    continue
                return np.empty(0, np.uint32)
            numbers.sort()
            columns += (TERMS, negated, source.at, source.chunks, len(listed), len(numbers), 0, 0, 0, 0, 0, 0)
        else:
            floats = source.form.dtype is np.float64
            numbers, ordered = _ranges(inner, floats), _ordered(source, reader, cache)
            columns += (RANGES, negated, source.at, source.chunks, len(listed), len(numbers))
            if ordered is None:
                columns += (0, 0, 0, 0, floats, source.spec.array)
            else:
                kept.append(ordered)
                columns += (ordered.keys_at, ordered.owners_at, len(ordered.keys), ordered.covered, floats, source.spec.array)
        listed += numbers
        positive = positive or not negated
    if not positive:
        return None
    base = len(columns)
    for i in range(conditions.LIST, base, conditions.CONDITION_WIDTH):
        columns[i] += base
    most = _most(reader)
    deadline.check()
    given = np.array(columns + listed, np.int64), base // conditions.CONDITION_WIDTH, reader.rows, most
    if 8 * most < memory.SMALL:
        return _met(*given)
    with memory.held(8 * most, "the rows that a filter matches"):
        return _met(*given)


def _most(reader: Reader) -> int:
    return min(max(LEAST_MANY, reader.rows // SHARE), reader.rows)


def _with_paths(nodes: Sequence[Filter], reader: Reader, cache: FilterCache) -> np.ndarray | None:
    """``docids_of`` an And of which some conditions are on the payload. The condition with the fewest rows is held against the others."""
    paths, others = [], []
    for each in nodes:
        negated = type(each) is Not
        inner = each.child if type(each) is Not else each
        if type(inner) is not PathTest:
            others.append(each)
            continue
        owners = owners_in_column(inner, reader, cache)
        if owners is None:
            return None
        paths.append((negated, owners))
    found = None
    if others:
        found = docids_of(others[0] if len(others) == 1 else make(And, children=tuple(others)), reader, cache)
        if found is None:
            return None
    fewest = min((i for i, (negated, _) in enumerate(paths) if not negated), key=lambda i: len(paths[i][1]), default=None)
    if fewest is not None and (found is None or len(paths[fewest][1]) < len(found)):
        if len(paths[fewest][1]) > _most(reader):
            return None
        rows = distinct(paths.pop(fewest)[1])
        found = rows if found is None else np.intersect1d(rows, found, assume_unique=True)
    if found is None:
        return None
    for negated, owners in paths:
        met = np.zeros(reader.rows, np.bool_)
        met[owners] = True
        found = found[met[found] != negated]
    return found


def _met(described: np.ndarray, count: int, rows: int, most: int) -> np.ndarray | None:
    """What ``conditions.rows_that_meet`` finds; None if these are many."""
    out = np.empty(most + 1, np.uint32)
    n = conditions.rows_that_meet(described, count, rows, most, out, np.empty(most + 1, np.uint32))
    return None if n == conditions.MANY else out[:n].copy()


def _source(name: str, reader: Reader) -> Source:
    """The source of an attribute, which is kept in the snapshot. Raises CorruptionError."""
    spec, field = reader.schema.attributes[name], reader.fields[name]
    form = FORMS[spec.stored]
    rows = reader.table(field, format.POSTINGS if form.dtype is None else format.FORWARD)
    source = reader.sources[name] = Source(field, spec, form, rows, rows.ctypes.data, len(rows), {})
    return source


def _number(value: Any, source: Source, reader: Reader) -> int | None:
    """The number of a value's term; None if no row has it."""
    numbers = source.numbers
    try:
        return numbers[value]
    except KeyError:
        if len(numbers) >= MAX_NUMBERS:
            numbers.clear()
    found = source.form.numbers((value,), lambda terms: numbers_of(reader, source.field, terms))
    number = numbers[value] = found[0] if found else None
    return number


def numbers_of(reader: Reader, field: int, terms: Iterable[bytes]) -> Ordinals:
    """The number of each term in the field's dictionary, without terms that are not in it."""
    cached = reader.known.get(field, {})
    prefix = format.field_key(reader.store.collection, format.TERMS, field)
    numbers = {}
    for term in deadline.each(terms):
        number = cached.get(term)
        if number is not None:
            numbers[term] = number
        elif (stored := reader.store.txn.get(prefix + term)) is not None:
            numbers[term] = int.from_bytes(stored, "little")
    return numbers


def _ranges(node: In | Range, floats: bool) -> list[int]:
    """The ranges of keys of a condition on numbers, one after another."""
    if isinstance(node, In):
        keys = sorted(map(_float_key, node.values)) if floats else sorted(node.values)
        return [key for key in keys for _ in range(2)]
    low: Any = node.low
    high: Any = node.high
    if floats:
        low, high = _float_key(-np.inf if low is None else low), _float_key(np.inf if high is None else high)
    return [_LOWEST if low is None else low, _HIGHEST if high is None else high]


def _float_key(value: float) -> int:
    """``conditions.ordered_key`` of a float."""
    (bits,) = _INT.unpack(_FLOAT.pack(value + 0.0))
    return bits if bits >= 0 else bits ^ _HIGHEST


def _ordered(source: Source, reader: Reader, cache: FilterCache) -> Ordered | None:
    """The values of an attribute in order, from the cache or put in order now; None if that isn't worth it yet or takes too much memory."""
    field, table = source.field, source.rows
    key = ("ordered", field)
    cached = cache.get(key)
    ordered = None if cached is None else cached[1]
    if ordered is not None and reader.rows - ordered.covered <= max(NEWER, ordered.covered // NEWER_SHARE):
        return ordered
    scans = cache.scans[field] = cache.scans.get(field, 0) + 1
    if scans < SCANS:
        return ordered
    cache.scans[field] = 0
    values = int(np.maximum(table[:, COUNT], table[:, ITEMS]).sum())
    nbytes = 12 * values + 512
    if nbytes * ORDERED_SHARE > cache.capacity or not values:
        return None
    with memory.held(40 * values, "the values of an attribute in order"):
        keys, owners = np.empty(values, np.int64), np.empty(values, np.uint32)
        n = conditions.column_keys(table, source.form.dtype is np.float64, source.spec.array, keys, owners)
        order = np.argsort(keys[:n])
        keys, owners = keys[:n][order], owners[:n][order]
    ordered = Ordered(keys, owners, keys.ctypes.data, owners.ctypes.data, reader.rows)
    cache.put(key, reader.rows, ordered, nbytes)
    return ordered
