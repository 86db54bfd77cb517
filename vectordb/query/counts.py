"""Facets and aggregates: exact counts over all rows that match a filter."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model import aggregates as names
from vectordb_client.model import facets as model
from vectordb_client.model.attributes import AttributeType
from vectordb_client.model.facets import Facet, FacetCount, FacetResult, Range

from ..common import deadline
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..storage.attribute_forms import FORMS
from .row_filter import RowFilter
from .values import ValueColumn, column_of, rows_with

_SCALE = 64  # sums that exceed a float are made of values divided by 2 to the power of it
_BLOCK = 1 << 16  # values that are added up between two looks at the deadline


def facets_of(view: View, rows: RowFilter, facets: Sequence[model.AnyFacet], cache: FilterCache) -> dict[str, FacetResult]:
    """The results of facets by name, over the rows that a search may return. The caller has checked the facets against the schema."""
    results = {}
    for facet in facets:
        deadline.check()
        spec, column = view.schema.attributes[facet.attribute], column_of(facet.attribute, view, cache)
        tally = column.tally(rows)
        if isinstance(facet, Range):
            counts = _ranges(facet, spec, column, tally, rows)
            distinct = len(counts)
        else:
            counts, distinct = _frequent(facet, spec, column, tally)
        results[facet.key] = FacetResult(counts, rows.matches, rows.matches - column.with_value(rows, tally), distinct)
    return results


def _frequent(facet: Facet, spec: AttributeType, column: ValueColumn, counts: np.ndarray) -> tuple[tuple[FacetCount, ...], int]:
    """(the most frequent values, the number of distinct values). counts: by value, ascending."""
    low, high = 0, len(counts)
    if facet.prefix is not None:
        prefix = facet.prefix.encode()
        low = bisect_left(column.values, prefix)
        high = bisect_left(column.values, 1, low, key=lambda term: not term.startswith(prefix))
    present = np.flatnonzero(counts[low:high]) + low
    found, best = len(present), counts[present]
    if found > facet.limit:
        least = np.partition(best, found - facet.limit)[found - facet.limit]
        certain = np.flatnonzero(best > least)
        kept = np.concatenate([certain, np.flatnonzero(best == least)[: facet.limit - len(certain)]])
        present, best = present[kept], best[kept]
    order = np.lexsort((present, -best))
    listed = zip(values_at(spec, column, present[order]), best[order].tolist(), strict=True)
    return tuple([FacetCount(value, count) for value, count in listed]), found


def values_at(spec: AttributeType, column: ValueColumn, positions: np.ndarray) -> list[Any]:
    """Values in the user's form, by their positions in ascending order."""
    if isinstance(column.values, np.ndarray):
        stored = column.values[positions].tolist()
        if column.values.dtype == np.complex128:
            stored = [(place.real, place.imag) for place in stored]
    else:
        size = FORMS[spec.stored].size
        stored = [column.values[p] if size is not None else column.values[p].decode(errors="replace") for p in positions.tolist()]
    return stored if spec.plain else [spec.restore_one(value) for value in stored]


def _ranges(facet: Range, spec: AttributeType, column: ValueColumn, tally: np.ndarray, rows: RowFilter) -> tuple[FacetCount, ...]:
    """The number of rows with a value in each range."""
    edges, kind = model.ordered_edges(facet, spec), float if column.values.dtype == np.float64 else int
    # Python compares integers and floats exactly.
    ends = [bisect_left(column.values, edge, key=kind) if edge is not None else None for edge in edges]
    bounds = [0 if ends[0] is None else ends[0], *ends[1:-1], column.distinct if ends[-1] is None else ends[-1]]
    if column.owners is None:
        counts = np.diff(np.append(0, np.cumsum(tally))[np.array(bounds)]).tolist()
    else:
        counts = [column.within(rows, low, high) for low, high in itertools.pairwise(bounds)]
    shown = model.user_edges(facet, spec)
    return tuple([FacetCount(pair, count) for pair, count in zip(itertools.pairwise(shown), counts, strict=True)])


def aggregates_of(view: View, rows: RowFilter, asked: names.Aggregates, cache: FilterCache) -> dict[str, dict[str, Any]]:
    """attribute → function → result, over the rows that match. Raises SchemaError."""
    names.check_against(view.schema, asked)
    among, results = rows.rows(), {}
    for name, functions in asked.items():
        deadline.check()
        spec = view.schema.attributes[name]
        if spec.stored == "text":  # only counted
            present = np.zeros(view.rows, np.bool_)
            for docids in rows_with(name, view):
                present[docids[: np.searchsorted(docids, view.rows)]] = True
            results[name] = {"count": int(np.count_nonzero(present if among is None else present[among]))}
            continue
        column = column_of(name, view, cache)
        counts = column.tally(rows, elements=True)
        held = np.flatnonzero(counts)
        made: dict[str, Any] = {}
        for function in functions:
            if function == "count":
                made[function] = column.with_value(rows, counts)
            elif function == "distinct":
                made[function] = len(held)
            elif function in ("min", "max"):
                made[function] = values_at(spec, column, held[[0 if function == "min" else -1]])[0] if len(held) else None
            else:
                made[function] = _number(spec, function, column.values[held], counts[held])
        results[name] = made
    return results


def _number(spec: AttributeType, function: str, values: np.ndarray, counts: np.ndarray) -> Any:
    """A sum, a mean or a percentile. values: int64 or float64, ascending; each occurs ``counts`` times."""
    n, whole = int(counts.sum()), values.dtype == np.int64
    if function == "sum":
        return (_whole_sum(values, counts) if whole else names.finite(_sum(values, counts, 0))) if n else 0 if whole else 0.0
    if not n:
        return None
    if function == "mean":
        if whole:
            total = _whole_sum(values, counts)
            return total / n if spec.plain else spec.restore_one(total // n)
        return _sum(values, counts, 0) / n if math.isfinite(_sum(values, counts, 0)) else _sum(values, counts, n)
    percent = names.percent_of(function)
    assert percent is not None
    at = percent / 100 * (n - 1)
    ends = np.cumsum(counts)
    low, high = (values[np.searchsorted(ends, place, "right")].item() for place in (math.floor(at), math.ceil(at)))
    share = at - math.floor(at)
    if not spec.plain:
        return spec.restore_one(low + round((high - low) * share))
    return float(low) if low == high else low * (1 - share) + high * share


def _whole_sum(values: np.ndarray, counts: np.ndarray) -> int:
    """Σ value · count as an integer of any size."""
    return (_split_sum(values >> 32, counts) << 32) + _split_sum(values & 0xFFFFFFFF, counts)


def _split_sum(part: np.ndarray, counts: np.ndarray) -> int:
    """Σ part · count of numbers of 32 bits. A count is smaller than 2³¹, so a product fits 64 bits."""
    products = part * counts
    return (int((products >> 32).sum()) << 32) + int((products & 0xFFFFFFFF).sum())


def _sum(values: np.ndarray, counts: np.ndarray, divided: int) -> float:
    """Σ value · count, rounded once, so that it doesn't depend on the order of rows; infinite if it exceeds all floats. divided: the mean
    instead, of so many values.
    """

    def each(scale: int) -> Iterator[list[float]]:
        for low in range(0, len(values), _BLOCK):
            deadline.check()
            yield np.repeat(np.ldexp(values[low : low + _BLOCK], -scale), counts[low : low + _BLOCK]).tolist()

    try:
        total = math.fsum(itertools.chain.from_iterable(each(0)))
        return total / divided if divided else total
    except OverflowError:
        total = math.fsum(itertools.chain.from_iterable(each(_SCALE)))
        try:
            return math.ldexp(total / (divided or 1), _SCALE)
        except OverflowError:
            return math.inf
