"""The values of an attribute by row, as numbers that have the order of the values: what ``order_by`` compares.

Rows are never changed, so a column that was read once stays valid and is only extended by newer rows. It is kept in the filter cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from vectordb_client.errors import SchemaError, listing

from ..common import deadline, memory
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..kernels import COUNT, FIRST, LAST, conditions
from ..storage import chunks, format
from ..storage.attribute_forms import FORMS

_INFINITY = int(np.float64(np.inf).view(np.int64))  # keys of floats above it are NaN, in one direction or the other
# Stored forms that have an order. Words and places have none.
ORDERED = ("int64", "float64", "flag", "string", "uuid")


class Values(NamedTuple):
    """keys: int64 ``(rows,)``, in the order of the values. has: bool ``(rows,)``, whether a row has a value. NaN counts as none."""

    keys: np.ndarray
    has: np.ndarray


def check_ordered(view: View, names: tuple[str, ...]) -> None:
    """Check that attributes exist and have an order. Raises SchemaError."""
    attributes = view.schema.attributes
    for name in names:
        spec = attributes.get(name)
        if spec is None:
            what = f"order_by: no attribute {name!r}; the attributes are: {listing(attributes)}"
            raise SchemaError(what, field="order_by", value=name)
        if spec.array or spec.stored not in ORDERED:
            kind = f"an array of {spec.kind} values" if spec.array else f"{spec.kind}"
            sortable = [each for each, one in attributes.items() if not one.array and one.stored in ORDERED]
            what = f"order_by: attribute {name!r} is {kind}, which has no order; attributes with one are: {listing(sortable)}"
            raise SchemaError(what, field="order_by", value=name)


def values_of(view: View, name: str, cache: FilterCache) -> Values:
    """The values of an attribute that ``check_ordered`` accepts."""
    spec, field = view.schema.attributes[name], view.fields[name]
    form, rows = FORMS[spec.stored], view.rows
    key = ("values by row", field, spec.stored)
    cached = cache.get(key)
    known, covered = (cached[1], cached[0]) if cached is not None else (Values(np.empty(0, np.int64), np.empty(0, np.bool_)), 0)
    if covered < rows:
        with memory.held(9 * (rows - covered) + 512, "the values of an attribute by row"):
            keys = np.concatenate([known.keys, np.zeros(rows - covered, np.int64)])
            has = np.concatenate([known.has, np.zeros(rows - covered, np.bool_)])
            part = format.POSTINGS if form.dtype is None else format.FORWARD
            table = view.table(field, part)
            newer = table[table[:, LAST] >= covered]
            if form.dtype is None:
                _read_numbers(view, field, newer, keys, has)
            else:
                _read_column(newer, form.dtype is np.float64, keys, has)
        known = Values(keys, has)
        cache.put(key, rows, known, keys.nbytes + has.nbytes)
    known = Values(known.keys[:rows], known.has[:rows])
    return Values(_ranks(view, field, cache)[known.keys], known.has) if form.has_terms else known


def _read_column(table: np.ndarray, floats: bool, keys: np.ndarray, has: np.ndarray) -> None:
    """Read a column of numbers into ``keys`` and ``has``."""
    count = int(table[:, COUNT].sum())
    values, owners = np.empty(count, np.int64), np.empty(count, np.uint32)
    n = conditions.column_keys(table, floats, False, values, owners)
    values, owners = values[:n], owners[:n]
    keys[owners] = values
    has[owners] = np.abs(values) <= _INFINITY if floats else True


def _read_numbers(view: View, field: int, table: np.ndarray, keys: np.ndarray, has: np.ndarray) -> None:
    """Read the numbers of terms from postings into ``keys`` and ``has``."""
    for first in deadline.each(table[:, FIRST].tolist(), 1):
        chunk: Any = chunks.decode(
            view.store.chunk_value(field, format.POSTINGS, first), view.store.chunk_name(field, format.POSTINGS, first)
        )
        owners = chunk.owners()
        keys[owners] = np.repeat(chunk.terms, np.diff(chunk.indptr)).astype(np.int64)
        has[owners] = True


def _ranks(view: View, field: int, cache: FilterCache) -> np.ndarray:
    """The place of each term of a dictionary in the order of its bytes, by number: int64."""
    stored = view.store.txn.get(format.field_key(view.store.collection, format.TERM_COUNT, field))
    count = 0 if stored is None else int.from_bytes(stored, "little")
    cached = cache.get(("ranks of terms", field))
    if cached is not None and cached[0] == count:
        return cached[1]
    prefix = format.field_key(view.store.collection, format.TERMS, field)
    numbers = np.fromiter((int.from_bytes(number, "little") for _, number in deadline.each(format.walk(view.store.txn, prefix))), np.int64)
    ranks = np.zeros(max(count, 1), np.int64)
    ranks[numbers] = np.arange(len(numbers))
    cache.put(("ranks of terms", field), count, ranks, ranks.nbytes)
    return ranks
