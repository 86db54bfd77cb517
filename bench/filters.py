"""The filters of the benchmark: an evaluator in NumPy for the ground truth, and the grid of filter cells to measure.

Filters are in vectordb's JSON notation. The evaluator shares no code with vectordb, because vectordb's results are judged by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np


class Columns:
    """Attributes in a form that NumPy compares fast: strings as integer codes, lists flattened, and a mask of non-null rows."""

    def __init__(self, attributes: Mapping[str, Any], n: int):
        self.n = n
        self._raw = attributes
        self._made: dict[str, tuple] = {}

    def column(self, name: str) -> tuple[str, np.ndarray, np.ndarray, dict[Any, int] | None, np.ndarray | None]:
        """(kind, values or codes, present, value → code, row of each element for lists)."""
        if name not in self._made:
            self._made[name] = self._make(self._raw[name])
        return self._made[name]

    def _make(self, values):
        if isinstance(values, np.ndarray):
            return "number", values, np.ones(len(values), dtype=bool), None, None
        present = np.array([value is not None for value in values], dtype=bool)
        some = next((value for value in values if value is not None), 0)
        if isinstance(some, (list, tuple)):
            sizes = [0 if value is None else len(value) for value in values]
            flat = [element for value in values if value is not None for element in value]
            codes = {element: i for i, element in enumerate(dict.fromkeys(flat))}
            return "list", np.array([codes[e] for e in flat], dtype=np.int64), present, codes, np.repeat(np.arange(len(values)), sizes)
        if isinstance(some, str):
            codes = {value: i for i, value in enumerate(dict.fromkeys(values)) if value is not None}
            return "keyword", np.array([codes.get(value, -1) for value in values], dtype=np.int64), present, codes, None
        return "number", np.array([0 if value is None else value for value in values]), present, None, None

    def mask(self, expression: Mapping) -> np.ndarray:
        """The rows that match, (n,) bool. Null matches only ``is_null`` and the negation of a comparison."""
        op = expression["op"]
        if op in ("and", "or"):
            parts = [self.mask(part) for part in expression["filters"]]
            return (np.logical_and if op == "and" else np.logical_or).reduce(parts)
        if op == "not":
            return ~self.mask(expression["filter"])
        if op == "all":
            return np.ones(self.n, dtype=bool)
        kind, values, present, codes, rows = self.column(expression["field"])
        if op in ("is_null", "is_not_null"):
            return ~present if op == "is_null" else present.copy()
        if op in ("contains_any", "contains_all") or kind == "list":
            operands = expression["values"] if "values" in expression else [expression["value"]]
            return self._elements(values, rows, codes, operands, every=op == "contains_all")
        if op in ("eq", "ne", "in", "not_in"):
            operands = expression["values"] if op in ("in", "not_in") else [expression["value"]]
            accepted = [codes[w] for w in operands if w in codes] if codes is not None else list(operands)
            matches = np.isin(values, np.asarray(accepted, dtype=values.dtype)) & present if accepted else np.zeros(self.n, dtype=bool)
            return ~matches if op in ("ne", "not_in") else matches
        if kind != "number":
            raise ValueError(f"the benchmark's evaluator has no operator {op!r} for a {kind} attribute")
        if op == "between":
            return (values >= expression["low"]) & (values <= expression["high"]) & present
        compare = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}[op]
        return compare(values, expression["value"]) & present

    def _elements(self, codes_of, rows, codes, elements: Sequence, every: bool) -> np.ndarray:
        counts = np.zeros(self.n, dtype=np.int32)
        for value in set(elements):
            holds = np.zeros(self.n, dtype=bool)
            holds[rows[codes_of == codes.get(value, -1)]] = True
            counts += holds
        return counts == len(set(elements)) if every else counts > 0


@dataclass(eq=False)
class Filter:
    """One filter. Several queries may share it. expression: in vectordb's JSON notation. mask: the rows that match, (n,) bool."""

    expression: dict
    columns: Columns = field(repr=False)

    @cached_property
    def mask(self) -> np.ndarray:
        return self.columns.mask(self.expression)

    @cached_property
    def key(self) -> str:
        return json.dumps(self.expression, sort_keys=True)


@dataclass
class Where:
    """A cell of the grid: one filter for each query. Queries with equal expressions share a Filter object.

    shape: the kind of filter, such as "equality" or "range". selectivity: the intended share of matching rows; the results hold the
    measured one. correlation: "none", "positive" (rows near the query match) or "negative" (rows near the query don't match).
    """

    name: str
    shape: str
    selectivity: float
    correlation: str
    expressions: list[dict]

    def filters(self, columns: Columns) -> list[Filter]:
        """One Filter per query, in query order."""
        by_key: dict[str, Filter] = {}
        result = []
        for expression in self.expressions:
            key = json.dumps(expression, sort_keys=True)
            if key not in by_key:
                by_key[key] = Filter(expression, columns)
            result.append(by_key[key])
        return result

    def fields(self) -> set[str]:
        """The names of the attributes in the expressions."""
        return {name for expression in self.expressions for name in fields_of(expression)}


def fields_of(expression: Mapping) -> Iterator[str]:
    if "field" in expression:
        yield expression["field"]
    for part in [*expression.get("filters", ()), *([expression["filter"]] if "filter" in expression else [])]:
        yield from fields_of(part)


# The grid

SHAPES = (
    *("equality", "in-10", "in-1000", "in-100000", "range", "contains-any", "contains-all"),
    *("and-2", "and-3", "or", "not", "null", "equality-range"),
)
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)
CORRELATIONS = ("none", "positive", "negative")
_WINDOWS = 10  # different filters in an uncorrelated cell; so filters repeat, as users' filters do
_IN_10 = {0.5: 20, 0.1: 100, 0.01: 1000, 0.001: 10_000}
_IN_1000 = {0.5: 2000, 0.1: 10_000}
_COARSER = {0.5: (2, 0.9), 0.1: (2, 0.2), 0.01: (10, 0.1), 0.001: (100, 0.1)}  # equality ∧ range: buckets, share of prices
_OPTIONAL = {0.5: "opt50", 0.1: "opt10", 0.01: "opt1", 0.001: "opt01"}


def grid(
    n: int,
    own: Sequence[int],
    shapes: Sequence[str] = SHAPES,
    selectivities: Sequence[float] = SELECTIVITIES,
    correlations: Sequence[str] = CORRELATIONS,
) -> list[Where]:
    """The cells over the attributes of ``data.synthetic.attributes_of`` for n points. own: ``place`` of each query's nearest row.

    Correlation "none" filters by ``u``, which is random. "positive" selects a window of ``place`` around the query's own place. "negative"
    selects a window half of all places away, which excludes the query's clusters. Cells that need more than n points are left out.
    """
    cells = []
    for shape in shapes:
        for share in selectivities:
            if share * n < 1 or (shape == "in-100000" and share * n > 100_000):
                continue
            for correlation in correlations:
                line = _Line(n, correlation)
                expressions = [_shape(shape, share, line, line.start(i, place)) for i, place in enumerate(own)]
                cells.append(Where(f"{shape} {share * 100:g} % {correlation}", shape, share, correlation, expressions))
    return cells


@dataclass
class _Line:
    """The attribute (``u`` or ``place``) that a cell filters by windows, and the position of each query's window."""

    n: int
    correlation: str

    @property
    def name(self) -> str:
        return "u" if self.correlation == "none" else "place"

    def start(self, i: int, place: int) -> int:
        """The middle of the window of query i."""
        if self.correlation == "none":
            return int((i % _WINDOWS + 0.5) * self.n / _WINDOWS)
        return int(place) if self.correlation == "positive" else (int(place) + self.n // 2) % self.n

    def window(self, middle: int, share: float, count: int | None = None) -> tuple[int, int]:
        """(first, last) place of a window that holds this share of the rows; in buckets if ``count``, the number of buckets, is given."""
        n = self.n if count is None else count
        if self.correlation == "negative":
            share = min(share, 0.5)  # a larger window would include the query's own place
        size = max(1, min(n, round(share * n)))
        middle = middle if count is None else middle * count // self.n
        low = min(max(0, middle - size // 2), n - size)
        return low, low + size - 1

    def values(self, middle: int, share: float, count: int) -> list[str]:
        low, high = self.window(middle, share, count)
        return [f"{self.name[0]}{bucket}" for bucket in range(low, high + 1)]

    def bucket(self, middle: int, count: int) -> str:
        return f"{self.name[0]}{middle * count // self.n}"


def _between(field_name: str, ends: tuple[int, int]) -> dict:
    return {"op": "between", "field": field_name, "low": ends[0], "high": ends[1]}


def _and(*parts: dict) -> dict:
    return {"op": "and", "filters": list(parts)}


def _equal(field_name: str, value: Any) -> dict:
    return {"op": "eq", "field": field_name, "value": value}


def _shape(shape: str, share: float, line: _Line, middle: int) -> dict:
    buckets, name = round(1 / share), line.name
    if shape == "equality":
        return _equal(f"{name}_{buckets}", line.bucket(middle, buckets))
    if shape == "range":
        return _between(name, line.window(middle, share))
    if shape == "in-10":
        count = _IN_10[share]
        return {"op": "in", "field": f"{name}_{count}", "values": line.values(middle, 10 / count, count)}
    if shape == "in-1000" and share in _IN_1000:
        count = _IN_1000[share]
        return {"op": "in", "field": f"{name}_{count}", "values": line.values(middle, 1000 / count, count)}
    if shape in ("in-1000", "in-100000"):
        return {"op": "in", "field": name, "values": _padded(line, middle, share, int(shape[3:]))}
    if shape in ("contains-any", "contains-all"):
        tag = f"{name[0]}{buckets}:{middle * buckets // line.n}"
        op, other = ("contains_any", "rare") if shape == "contains-any" else ("contains_all", "most")
        return {"op": op, "field": "tags", "values": [tag, other]}
    if shape == "and-2":
        return _and(_between(name, line.window(middle, share / 0.8)), {"op": "lt", "field": "grade", "value": 8})
    if shape == "and-3":
        window = _between(name, line.window(middle, share / 0.72))
        return _and(window, {"op": "lt", "field": "grade", "value": 8}, _equal("flag", "yes"))
    if shape == "or":
        return _two_windows(line, middle, share)
    if shape == "not":
        mine = line.bucket(middle, buckets)
        others = [f"{name[0]}{bucket}" for bucket in range(buckets) if f"{name[0]}{bucket}" != mine]
        return {"op": "not", "filter": {"op": "in", "field": f"{name}_{buckets}", "values": others}}
    if shape == "null":
        if line.correlation == "none":
            return {"op": "is_null", "field": _OPTIONAL[share]}
        return _and({"op": "is_null", "field": "opt90"}, _between(name, line.window(middle, share / 0.9)))
    if shape == "equality-range":
        count, prices = _COARSER[share]
        return _and(_equal(f"{name}_{count}", line.bucket(middle, count)), _between("price", (0, round(prices * 1_000_000) - 1)))
    raise ValueError(f"unknown filter shape {shape!r}; known: {', '.join(SHAPES)}")


def _padded(line: _Line, middle: int, share: float, count: int) -> list[int]:
    """Exactly ``count`` integers for an IN list: the window's places, thinned if there are more, then padded with values of no row."""
    low, high = line.window(middle, share)
    places = np.unique(np.linspace(low, high, min(count, high - low + 1)).astype(np.int64)).tolist()
    return places + list(range(line.n, line.n + count - len(places)))


def _two_windows(line: _Line, middle: int, share: float) -> dict:
    """An OR of two ranges that together select the share. The gap between them is an eighth as long as both together."""
    low, high = line.window(middle, 1.125 * share)
    size, gap = high - low + 1, max(1, round((high - low + 1) / 9))
    left = max(1, 3 * (size - gap) // 4)  # so the first range contains the middle of the window
    return {"op": "or", "filters": [_between(line.name, (low, low + left - 1)), _between(line.name, (min(low + left + gap, high), high))]}


def natural(attributes: Mapping[str, Any], n: int, queries: int, selectivities: Sequence[float] = SELECTIVITIES) -> list[Where]:
    """Cells over the data set's own attributes: for each, the equality, range or list element that comes closest to each selectivity."""
    cells = []
    for name, values in attributes.items():
        for share in selectivities:
            cell = _natural(name, values, share, n)
            if cell is not None:
                shape, expression = cell
                cells.append(Where(f"{name} {shape} {share * 100:g} %", f"{name} {shape}", share, "natural", [expression] * queries))
    return cells


def _natural(name: str, values: Any, share: float, n: int) -> tuple[str, dict] | None:
    some = next((value for value in values if value is not None), None)
    if isinstance(some, (int, np.integer)):
        ordered = np.sort(np.array([value for value in values if value is not None]))
        edge = ordered[min(len(ordered) - 1, int(len(ordered) * (1 - share)))]
        matching = int((ordered >= edge).sum())
        return ("range", {"op": "ge", "field": name, "value": int(edge)}) if _close(matching / n, share) else None
    flat = [element for value in values if value for element in value] if isinstance(some, (list, tuple)) else values
    counts: dict[str, int] = {}
    for element in flat:
        if element is not None:
            counts[element] = counts.get(element, 0) + 1
    if not counts:
        return None
    value = min(counts, key=lambda element: (abs(np.log(counts[element] / n / share)), element))
    if not _close(counts[value] / n, share):
        return None
    if flat is values:
        return "equality", _equal(name, value)
    return "contains", {"op": "contains_any", "field": name, "values": [value]}


def _close(share: float, target: float) -> bool:
    return target / 2 <= share <= target * 2
