"""The values of an attribute by row, as numbers that can be counted: for facets, aggregates and groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..common import deadline, memory
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..storage import format
from ..storage.attribute_forms import FORMS, is_hashed, keyword_term, main_part
from ..storage.tables import ChunkTable
from .row_filter import RowFilter

KEPT_SHARE = 2  # one in so many bytes of the filter cache is the most that the values of one attribute take
_FEW = 8  # with fewer than one dead row in so many, counts of all rows are kept and those of dead rows subtracted [chosen, not measured]
_ROW_BYTES = 24  # of memory for each value while a column is made [estimate]


class ValueColumn:
    """The values of an attribute that the rows below ``covered`` have. Rows are immutable, so newer rows are only added.

    A distinct value has a *code* from 1; 0 is null. codes: int32, of a scalar ``(covered,)``, by row; of an array ``(elements,)``, by
    element, in the order of ``owners`` (uint32, the docid of each element, ascending) and then of the codes. repeated: bool
    ``(elements,)``, whether an element equals the one before it in its row; None if no element does. present: bool ``(covered,)`` of an
    array, whether a row has one, also an empty one.
    order: int64, the codes in ascending order of their values; None if that is 1, 2, 3 …. values: the distinct values in ascending order,
    in stored form: an array, or for terms a list of bytes.
    """

    __slots__ = ("_by_code", "_kept", "_ranks", "codes", "covered", "distinct", "order", "owners", "present", "repeated", "values")

    def __init__(self, covered: int, codes: np.ndarray, values: Any, order: np.ndarray | None):
        self.covered, self.codes, self.values, self.order = covered, codes, values, order
        self.distinct = len(values)
        self._by_code: tuple[np.ndarray, np.ndarray] | None = None
        self._ranks: np.ndarray | None = None
        self._kept: tuple[tuple[int, bool], np.ndarray] | None = None
        self.owners: np.ndarray | None = None
        self.repeated: np.ndarray | None = None
        self.present: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        arrays = (self.codes, self.order, self.owners, self.repeated, self.present)
        held = sum(each.nbytes for each in arrays if each is not None)
        held += 4 * len(self.codes) + 24 * self.distinct  # of what is made later
        return held + (self.values.nbytes if isinstance(self.values, np.ndarray) else sum(map(len, self.values)) + 60 * len(self.values))

    def tally(self, rows: RowFilter, elements: bool = False) -> np.ndarray:
        """How many of the rows that a search may return have each distinct value, int64 ``(distinct,)`` in ascending order of the values.
        elements: count every element of an array, also those that are equal in one row.
        """
        view, dead = rows.view, rows.view.dead
        if rows.node is None and rows.given is None and len(dead) * _FEW < view.rows:
            counts = self._all(view.rows, elements)
            if dead:
                counts = counts - self._counts(np.array(dead.to_array(), np.uint32), view.rows, elements)
        else:
            counts = self._counts(rows.rows(), view.rows, elements)
        return counts[1:] if self.order is None else counts[self.order]

    def with_value(self, rows: RowFilter, counts: np.ndarray) -> int:
        """How many of the rows have the attribute. counts: their ``tally``."""
        if self.present is None:
            return int(counts.sum())
        among = rows.rows()
        return int(np.count_nonzero(self.present[: rows.view.rows] if among is None else self.present[among]))

    def within(self, rows: RowFilter, low: int, high: int) -> int:
        """How many of the rows have an element among the values at positions [low, high) of an array attribute without ``order``."""
        assert self.owners is not None
        inside = (self.codes > low) & (self.codes <= high)
        among, owners = rows.rows(), self.owners[inside]
        found = np.zeros(self.covered, np.bool_)
        found[owners] = True
        return int(np.count_nonzero(found[: rows.view.rows] if among is None else found[among]))

    def _all(self, end: int, elements: bool) -> np.ndarray:
        """``_counts`` of all rows below ``end``; the newest is kept."""
        kept = self._kept
        if kept is None or kept[0] != (end, elements):
            self._kept = kept = (end, elements), self._counts(None, end, elements)
        return kept[1]

    def _counts(self, docids: np.ndarray | None, end: int, elements: bool) -> np.ndarray:
        """How many rows have each code, int64 ``(1 + distinct,)``: of some docids, or of all below ``end``."""
        if self.owners is None:
            codes = self.codes[:end] if docids is None else self.codes[docids]
            return np.bincount(codes, minlength=self.distinct + 1)
        counted = np.zeros(self.covered, np.bool_)
        counted[slice(0, end) if docids is None else docids] = True
        counted = counted[self.owners]
        if self.repeated is not None and not elements:
            counted &= ~self.repeated
        return np.bincount(self.codes, counted, minlength=self.distinct + 1).astype(np.int64)

    def rows_of(self, codes: Sequence[int]) -> np.ndarray:
        """The rows that have some of the codes: docids, uint32 ascending."""
        if self._by_code is None:
            order = np.argsort(self.codes, kind="stable").astype(np.uint32)
            begins = np.searchsorted(self.codes[order], np.arange(self.distinct + 2))
            self._by_code = (order if self.owners is None else self.owners[order]), begins
        docids, begins = self._by_code
        rows = np.concatenate([docids[begins[code] : begins[code + 1]] for code in codes])
        rows.sort()
        if self.owners is None or len(rows) < 2:  # a row has one code
            return rows
        return rows[np.append(True, rows[1:] != rows[:-1])]

    def ranks(self) -> np.ndarray:
        """Code → position of its value in ``values``, int64; of null −1. It must not be changed."""
        if self._ranks is None:
            self._ranks = self._ranked()
        return self._ranks

    def _ranked(self) -> np.ndarray:
        ranks = np.full(self.distinct + 1, -1, np.int64)
        ranks[np.arange(1, self.distinct + 1) if self.order is None else self.order] = np.arange(self.distinct)
        return ranks


def column_of(name: str, view: View, cache: FilterCache) -> ValueColumn:
    """The values of an attribute other than Text. They are kept in the cache and extended by new rows. Raises CorruptionError."""
    key = ("values", view.fields[name])
    cached = cache.get(key)
    if cached is not None and cached[0] >= view.rows:
        return cached[1]
    with memory.held(_ROW_BYTES * view.rows, "the values of an attribute"):
        column = _extended(name, view, None if cached is None else cached[1])
    if column.nbytes * KEPT_SHARE <= cache.capacity:
        cache.put(key, view.rows, column, column.nbytes)
    return column


def _extended(name: str, view: View, old: ValueColumn | None) -> ValueColumn:
    """A column with the rows of a view, made of an older one."""
    spec, field = view.schema.attributes[name], view.fields[name]
    form, start = FORMS[spec.stored], 0 if old is None else old.covered
    if form.dtype is None:
        owners, codes = _posted(view, field, start)
        codes = codes + 1
        values, order = _dictionary(view, field, old) if form.has_terms else (np.array([False, True]), None)
        before = None if old is None else old.codes
    else:
        owners, items = _stored(view, field, form, spec.array, start)
        found, inverse = np.unique(items, return_inverse=True)
        values, order = (found if old is None else np.union1d(old.values, found)), None
        codes = (np.searchsorted(values, found) + 1)[inverse.reshape(-1)] if len(found) else np.empty(0, np.int64)
        before = None if old is None else np.append(0, np.searchsorted(values, old.values) + 1).astype(np.int32)[old.codes]
    column = ValueColumn(view.rows, np.empty(0, np.int32), values, order)
    if not spec.array:
        column.codes = np.zeros(view.rows, np.int32)
        if before is not None:
            column.codes[:start] = before
        column.codes[owners] = codes
        return _spelled_out(column, name, view)
    in_order = np.lexsort((codes, owners))
    owners, codes = owners[in_order].astype(np.uint32), codes[in_order].astype(np.int32)
    if old is not None and before is not None and old.owners is not None:
        owners, codes = np.concatenate([old.owners, owners]), np.concatenate([before, codes])
    repeated = np.zeros(len(codes), np.bool_)
    repeated[1:] = (owners[1:] == owners[:-1]) & (codes[1:] == codes[:-1])
    column.owners, column.codes, column.repeated = owners, codes, repeated if repeated.any() else None
    column.present = np.zeros(view.rows, np.bool_)
    if old is not None and old.present is not None:
        column.present[:start] = old.present
    for docids in _present(view, name, start):
        column.present[docids] = True
    return _spelled_out(column, name, view)


def _spelled_out(column: ValueColumn, name: str, view: View) -> ValueColumn:
    """The column with the whole strings in the place of terms that stand for long ones, as the records of rows have them."""
    if isinstance(column.values, np.ndarray) or column.order is None or not any(map(is_hashed, column.values)):
        return column
    values = list(column.values)
    for place, term in enumerate(values):
        if is_hashed(term):
            live = [docid for docid in column.rows_of([column.order[place]]).tolist() if docid not in view.dead]
            if live:  # else nobody sees it
                (row,) = view.store.rows(np.array(live[:1], np.int64))
                held = row.attributes[name]
                values[place] = next(value for value in (held if type(held) is list else [held]) if keyword_term(value) == term).encode()
    ascending = sorted(range(len(values)), key=values.__getitem__)
    column.values, column.order = [values[place] for place in ascending], column.order[ascending]
    return column


def rows_with(name: str, view: View) -> Iterator[np.ndarray]:
    """The docids of the rows that have an attribute, chunk by chunk, dead ones too."""
    return _present(view, name, 0)


def _present(view: View, name: str, start: int) -> Iterator[np.ndarray]:
    table = view.chunks(view.fields[name], main_part(view.schema.attributes[name]))
    table.verify_all()
    for c in _newer(table, start):
        docids = table.docids_of(c)
        yield docids[np.searchsorted(docids, start) :]


def _newer(table: ChunkTable, start: int) -> Iterator[int]:
    """The chunks that may hold rows from ``start`` on."""
    for c in range(table.covering(start, start + 1)[0] if len(table) else 0, len(table)):
        deadline.check()
        yield c


def _posted(view: View, field: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(docids, numbers of their terms) of the postings of rows from ``start`` on, int64."""
    table = view.chunks(field, format.POSTINGS)
    table.verify_all()
    docids, numbers = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for c in _newer(table, start):
        terms, begins, distances = table.postings_of(c)
        owners = distances.astype(np.int64) + table.firsts[c]
        terms = np.repeat(terms.astype(np.int64), np.diff(begins.astype(np.int64)))
        newer = owners >= start
        docids.append(owners if newer.all() else owners[newer])
        numbers.append(terms if newer.all() else terms[newer])
    return np.concatenate(docids), np.concatenate(numbers)


def _stored(view: View, field: int, form: Any, array: bool, start: int) -> tuple[np.ndarray, np.ndarray]:
    """(docids int64, values) of the rows from ``start`` on; of arrays of each element. A place is a complex number: lat + lon·i."""
    dtype = form.dtype if form.width == 1 else np.complex128
    width = np.dtype(form.dtype).itemsize * form.width
    table = view.chunks(field, format.FORWARD)
    table.verify_all()
    docids, values = [np.empty(0, np.int64)], [np.empty(0, dtype)]
    for c in _newer(table, start):
        owners = table.docids_of(c).astype(np.int64)
        begin = int(np.searchsorted(owners, start))
        if array:
            offsets, data, _ = table.items_of(c, width)
            items, low = data.reshape(-1).view(dtype), int(offsets[begin]) if begin < len(offsets) else 0
            docids.append(np.repeat(owners[begin:], np.diff(offsets[begin:].astype(np.int64))))
            values.append(items[low:])
        else:
            docids.append(owners[begin:])
            values.append(table.data_of(c, width).reshape(-1).view(dtype)[begin:])
    return np.concatenate(docids), np.concatenate(values)


def _dictionary(view: View, field: int, old: ValueColumn | None) -> tuple[Sequence[bytes], np.ndarray]:
    """(the terms in ascending order, the code of each) of a field's dictionary."""
    stored = view.txn.get(format.field_key(view.store.collection, format.TERM_COUNT, field))
    if old is not None and old.order is not None and len(old.values) == (int.from_bytes(stored, "little") if stored else 0):
        return old.values, old.order
    prefix = format.field_key(view.store.collection, format.TERMS, field)
    terms, numbers = [], []
    for key, value in deadline.each(format.walk(view.txn, prefix)):
        terms.append(bytes(key[len(prefix) :]))
        numbers.append(int.from_bytes(value, "little"))
    return terms, np.array(numbers, np.int64) + 1
