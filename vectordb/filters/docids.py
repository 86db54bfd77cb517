"""Evaluate simple filters to lists of docids, where few rows match.

Simple are conditions on keywords, UUIDs and bools (one of some values), on numbers (ranges and single values) and AND of these, some of
them negated. They are evaluated by one kernel call (``kernels/conditions.py``), in a time that depends on the rows that match, not on all
rows. All others, and those that many rows match, are evaluated to bitmaps (``bitmap.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from vectordb_client.model.attributes import AttributeType
from vectordb_client.model.filter_nodes import And, Filter, In, Not

from ..common import deadline, memory
from ..kernels import COUNT, ITEMS, conditions
from ..kernels.conditions import RANGES, TERMS
from ..storage import format
from ..storage.attribute_forms import FORMS, Ordinals
from .cache import FilterCache, Reader
from .nodes import Range

# Constants: unit and meaning. Chosen, not measured.
MAX_CONDITIONS = 8  # of a filter; one with more is evaluated to bitmaps
MAX_LISTED = 64  # values of a condition
LEAST_MANY, SHARE = 4_096, 8  # rows, and one in so many of all rows: a list of no more than either is never too long
SCANS = 2  # ranges of an attribute that are looked for in all its values, before the values are put in order
NEWER, NEWER_SHARE = 2_048, 32  # rows, and one in so many: with more newer rows than either the values are put in order again
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


def docids_of(node: Filter, reader: Reader, cache: FilterCache) -> np.ndarray | None:
    """The docids that match a canonical filter, uint32 ascending, dead ones too; None if the filter isn't simple or many rows match."""
    nodes = node.children if type(node) is And else (node,)
    if len(nodes) > MAX_CONDITIONS:
        return None
    columns: list[int] = []
    listed: list[int] = []
    count, positive, kept = 0, False, []  # kept: arrays whose addresses are in ``columns``
    for each in nodes:
        negated = type(each) is Not
        inner = each.child if negated else each
        kind = type(inner)
        if kind is not In and kind is not Range:
            return None
        numbers = _terms(inner, reader) if kind is In else None
        if numbers is None:
            described = _ranges(inner, reader, cache)
            if described is None:
                return None
            numbers, source, ordered = described
            kept.append(ordered)
        else:
            if not numbers:  # no row has any of the values
                if negated:
                    continue
                return np.empty(0, np.uint32)
            source = (TERMS, *cache.table(reader, reader.fields[inner.field], format.POSTINGS), 0, 0, 0, 0, 0, 0)
        if len(numbers) > 2 * MAX_LISTED:
            return None
        columns += (source[0], negated, source[1], source[2], len(listed), len(numbers), *source[3:])
        listed += numbers
        count += 1
        positive = positive or not negated
    if not positive:
        return None
    base = count * conditions.CONDITION_WIDTH
    for i in range(conditions.LIST, base, conditions.CONDITION_WIDTH):
        columns[i] += base
    most = min(max(LEAST_MANY, reader.rows // SHARE), reader.rows)
    deadline.check()
    with memory.held(8 * most, "the rows that a filter matches"):
        out, spare = np.empty(most + 1, np.uint32), np.empty(most + 1, np.uint32)
        n = conditions.rows_that_meet(np.array(columns + listed, np.int64), count, reader.rows, most, out, spare)
        del kept
        return None if n == conditions.MANY else out[:n].copy()


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


def _terms(node: In, reader: Reader) -> list[int] | None:
    """The numbers of a condition's values, ascending; None if they are values of a column."""
    form = FORMS[reader.schema.attributes[node.field].stored]
    if form.dtype is not None:
        return None
    if len(node.values) > MAX_LISTED:
        return [0] * (2 * MAX_LISTED + 1)  # more than may be listed
    field = reader.fields[node.field]
    return sorted(form.numbers(node.values, lambda terms: numbers_of(reader, field, terms)))


def _ranges(node: In | Range, reader: Reader, cache: FilterCache) -> tuple[list[int], tuple, Ordered | None] | None:
    """(ranges of keys, one after another, columns of the condition without the list, what they have addresses of) of a condition on
    numbers. None if it lists too many values.
    """
    spec, field = reader.schema.attributes[node.field], reader.fields[node.field]
    floats = FORMS[spec.stored].dtype is np.float64
    if type(node) is In:
        if len(node.values) > MAX_LISTED:
            return None
        keys = sorted(map(_float_key, node.values)) if floats else sorted(node.values)
        numbers = [key for key in keys for _ in range(2)]
    else:
        low, high = node.low, node.high
        if floats:
            low, high = _float_key(-np.inf if low is None else low), _float_key(np.inf if high is None else high)
        numbers = [_LOWEST if low is None else low, _HIGHEST if high is None else high]
    ordered = _ordered(field, spec, reader, cache)
    table = cache.table(reader, field, format.FORWARD)
    if ordered is None:
        return numbers, (RANGES, *table, 0, 0, 0, 0, floats, spec.array), None
    columns = (RANGES, *table, ordered.keys_at, ordered.owners_at, len(ordered.keys), ordered.covered, floats, spec.array)
    return numbers, columns, ordered


def _float_key(value: float) -> int:
    """``conditions.ordered_key`` of a float."""
    (bits,) = _INT.unpack(_FLOAT.pack(value + 0.0))
    return bits if bits >= 0 else bits ^ _HIGHEST


def _ordered(field: int, spec: AttributeType, reader: Reader, cache: FilterCache) -> Ordered | None:
    """The values of an attribute in order, from the cache or put in order now; None if that isn't worth it yet or takes too much memory."""
    key = ("ordered", field)
    cached = cache.get(key)
    ordered = None if cached is None else cached[1]
    if ordered is not None and reader.rows - ordered.covered <= max(NEWER, ordered.covered // NEWER_SHARE):
        return ordered
    scans = cache.scans[field] = cache.scans.get(field, 0) + 1
    if scans < SCANS:
        return ordered
    cache.scans[field] = 0
    table = reader.table(field, format.FORWARD)
    values = int(np.maximum(table[:, COUNT], table[:, ITEMS]).sum())
    nbytes = 12 * values + 512
    if nbytes * ORDERED_SHARE > cache.capacity or not values:
        return None
    with memory.held(40 * values, "the values of an attribute in order"):
        keys, owners = np.empty(values, np.int64), np.empty(values, np.uint32)
        n = conditions.column_keys(table, FORMS[spec.stored].dtype is np.float64, spec.array, keys, owners)
        order = np.argsort(keys[:n])
        keys, owners = keys[:n][order], owners[:n][order]
    ordered = Ordered(keys, owners, keys.ctypes.data, owners.ctypes.data, reader.rows)
    cache.put(key, reader.rows, ordered, nbytes)
    return ordered
