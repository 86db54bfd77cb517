"""Filters as data: the tree of nodes, the Python builder ``F``, and the JSON form (``to_dict``, ``from_dict``).

    (F("lines") > 20) & F("module").isin(["json", "asyncio"])
    {"op": "and", "filters": [{"op": "gt", "field": "lines", "value": 20}, {"op": "in", "field": "module", "values": ["json", "asyncio"]}]}

The string notation, ``lines > 20 AND module IN ('json', 'asyncio')``, is read by ``vectordb.filters.parse``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from .errors import FilterError, LimitError, shown
from .filter_nodes import (
    COMPARISONS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_VALUES,
    MODES,
    PARENTHESES,
    All,
    And,
    Between,
    Compare,
    ContainsAll,
    ContainsAny,
    Count,
    Filter,
    GeoBox,
    GeoRadius,
    Glob,
    HasId,
    HasVector,
    In,
    IsNull,
    Match,
    Not,
    Nothing,
    Or,
    Prefix,
    check_field,
    join,
)
from .moments import read_moment

__all__ = [
    "COMPARISONS",
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_VALUES",
    "MODES",
    "All",
    "And",
    "Between",
    "Compare",
    "ContainsAll",
    "ContainsAny",
    "Count",
    "F",
    "Filter",
    "GeoBox",
    "GeoRadius",
    "Glob",
    "HasId",
    "HasVector",
    "In",
    "IsNull",
    "Match",
    "Not",
    "Nothing",
    "Or",
    "Prefix",
    "from_dict",
    "join",
    "to_dict",
]


class _Comparable:
    """What can stand left of a comparison. Not a filter by itself."""

    __hash__ = None

    def _compare(self, op: str, value: Any) -> Filter:
        raise NotImplementedError

    def __eq__(self, value: Any) -> Filter:
        return self._compare("eq", value)

    def __ne__(self, value: Any) -> Filter:
        return self._compare("ne", value)

    def __lt__(self, value: Any) -> Filter:
        return self._compare("lt", value)

    def __le__(self, value: Any) -> Filter:
        return self._compare("le", value)

    def __gt__(self, value: Any) -> Filter:
        return self._compare("gt", value)

    def __ge__(self, value: Any) -> Filter:
        return self._compare("ge", value)

    def _alone(self, *_: Any) -> Any:
        raise FilterError(f"{self!r} alone is not a filter; compare it, and {PARENTHESES}")

    __bool__ = __and__ = __rand__ = __or__ = __ror__ = __invert__ = _alone


class _CountOf(_Comparable):
    def __init__(self, field: str):
        self._name = field

    def __repr__(self) -> str:
        return f"F({self._name!r}).count()"

    def _compare(self, op: str, value: Any) -> Filter:
        return Count(self._name, op, value)


class F(_Comparable):
    """Builds filters on an attribute: ``(F("lines") > 20) & F("tags").contains_any(["a", "b"])``. Raises FilterError."""

    def __init__(self, field: str):
        self._name = check_field(field)

    def __repr__(self) -> str:
        return f"F({self._name!r})"

    def _compare(self, op: str, value: Any) -> Filter:
        if value is None and op in ("eq", "ne"):
            return IsNull(self._name) if op == "eq" else Not(IsNull(self._name))
        if isinstance(value, _Comparable):
            raise FilterError(f"{self!r} is compared with a value, not with {value!r}", field=self._name)
        return Compare(self._name, op, value)

    def isin(self, values: Iterable) -> Filter:
        return In(self._name, values)

    def not_in(self, values: Iterable) -> Filter:
        return Not(In(self._name, values))

    def between(self, low: Any, high: Any) -> Filter:
        """Closed; of an array, one element lies in the range."""
        return Between(self._name, low, high)

    def is_null(self) -> Filter:
        return IsNull(self._name)

    def is_not_null(self) -> Filter:
        return Not(IsNull(self._name))

    def contains(self, value: Any) -> Filter:
        return Compare(self._name, "eq", value)

    def contains_any(self, values: Iterable) -> Filter:
        return ContainsAny(self._name, values)

    def contains_all(self, values: Iterable) -> Filter:
        return ContainsAll(self._name, values)

    def count(self) -> _CountOf:
        """The number of values, to be compared with an integer."""
        return _CountOf(self._name)

    def match_any(self, text: str) -> Filter:
        return Match(self._name, "any", text)

    def match_all(self, text: str) -> Filter:
        return Match(self._name, "all", text)

    def match_phrase(self, text: str) -> Filter:
        return Match(self._name, "phrase", text)

    def startswith(self, prefix: str) -> Filter:
        return Prefix(self._name, prefix)

    def glob(self, pattern: str) -> Filter:
        return Glob(self._name, pattern)

    def geo_radius(self, lat: float, lon: float, meters: float) -> Filter:
        return GeoRadius(self._name, lat, lon, meters)

    def geo_box(self, south: float, west: float, north: float, east: float) -> Filter:
        return GeoBox(self._name, south, west, north, east)

    @staticmethod
    def has_id(ids: Iterable) -> Filter:
        return HasId(ids)

    @staticmethod
    def has_vector(field: str) -> Filter:
        return HasVector(field)


def to_dict(node: Filter) -> dict:
    """The JSON form: plain dicts, lists, strings, numbers and bools. ``from_dict`` reads the equal filter back."""
    kind = type(node)
    if kind is And or kind is Or:
        return {"op": "and" if kind is And else "or", "filters": [to_dict(child) for child in node.children]}
    if kind is Not:
        child = node.child
        return {"op": "is_not_null", "field": child.field} if type(child) is IsNull else {"op": "not", "filter": to_dict(child)}
    if kind is Compare:
        return {"op": node.op, "field": node.field, "value": _to_json(node.value)}
    if kind is Count:
        return {"op": "count", "field": node.field, "compare": node.op, "value": node.n}
    for op, (made, keys) in _LEAVES.items():
        if kind is made:
            return {"op": op, **{key: _to_json(part) for key, part in zip(keys, node._parts(), strict=True)}}
    raise FilterError(f"{shown(node)} is not a filter", field="filter", value=node)


def _to_json(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        return list(map(_to_json, value)) if set(map(type, value)) & {datetime, np.datetime64, uuid.UUID} else list(value)
    if kind is datetime:
        return {"datetime": value.isoformat()}
    if kind is np.datetime64:
        return {"datetime": str(value)}
    return {"uuid": str(value)} if kind is uuid.UUID else value


# op → the node and, in its order of fields, the keys
_LEAVES: dict[str, tuple[type[Filter], tuple[str, ...]]] = {
    "in": (In, ("field", "values")),
    "between": (Between, ("field", "low", "high")),
    "is_null": (IsNull, ("field",)),
    "contains_any": (ContainsAny, ("field", "values")),
    "contains_all": (ContainsAll, ("field", "values")),
    "match": (Match, ("field", "mode", "value")),
    "prefix": (Prefix, ("field", "value")),
    "glob": (Glob, ("field", "value")),
    "has_id": (HasId, ("values",)),
    "has_vector": (HasVector, ("field",)),
    "geo_radius": (GeoRadius, ("field", "lat", "lon", "meters")),
    "geo_box": (GeoBox, ("field", "south", "west", "north", "east")),
    "all": (All, ()),
    "nothing": (Nothing, ()),
}
_FORMS: dict[str, tuple[Callable[..., Filter], tuple[str, ...]]] = {
    **_LEAVES,
    **{op: (lambda field, value, op=op: Compare(field, op, value), ("field", "value")) for op in COMPARISONS},
    "count": (Count, ("field", "compare", "value")),
    "not_in": (lambda field, values: Not(In(field, values)), ("field", "values")),
    "is_not_null": (lambda field: Not(IsNull(field)), ("field",)),
    "and": (And, ("filters",)),
    "or": (Or, ("filters",)),
    "not": (Not, ("filter",)),
}


def from_dict(data: Any) -> Filter:
    """The filter of a JSON form. Raises FilterError naming the unknown op or key, LimitError when it is too deep or too large."""
    return _from_dict(data, 1)


def _from_dict(data: Any, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise LimitError(f"a filter is at most {MAX_DEPTH} levels deep", field="filter", value=depth)
    if not isinstance(data, Mapping):
        raise FilterError(f"a filter is an object with an 'op', not {shown(data)}", field="filter", value=data)
    op = data.get("op")
    if not isinstance(op, str) or op not in _FORMS:
        raise FilterError(f"unknown filter op {shown(op)}; there are: {', '.join(_FORMS)}", field="op", value=op)
    make, keys = _FORMS[op]
    for key in data:
        if key != "op" and key not in keys:
            raise FilterError(
                f"filter op {op!r} has no key {shown(key)}; it has: {', '.join(keys) or 'none'}", field=shown(key), value=data[key]
            )
    parts = []
    for key in keys:
        if key not in data:
            raise FilterError(f"filter op {op!r} needs the key {key!r}", field=key, value=data)
        part = data[key]
        if key == "filter":
            part = _from_dict(part, depth + 1)
        elif key == "filters":
            part = tuple([_from_dict(child, depth + 1) for child in _list(op, key, part, MAX_NODES)])
        elif key == "values":
            part = _list(op, key, part, MAX_VALUES)
            if dict in set(map(type, part)):
                part = list(map(_typed, part))
        elif isinstance(part, Mapping):
            part = _typed(part)
        parts.append(part)
    return make(*parts)


def _list(op: str, key: str, part: Any, limit: int) -> Any:
    if not isinstance(part, (list, tuple)):
        raise FilterError(f"{key!r} of filter op {op!r} must be a list, not {shown(part)}", field=key, value=part)
    if len(part) > limit:
        raise LimitError(f"{key!r} of filter op {op!r} has {len(part)} elements, at most {limit} are allowed", field=key, value=len(part))
    return part


def _typed(value: Any) -> Any:
    """A datetime or UUID of its typed JSON form; other values stay."""
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((name, text),) = value.items()
        if isinstance(text, str) and name in ("datetime", "uuid"):
            try:
                return read_moment(text) if name == "datetime" else uuid.UUID(text)
            except ValueError:
                raise FilterError(f"{shown(text)} is not a {name}", field=name, value=text) from None
    raise FilterError(f'a typed value is {{"datetime": "…"}} or {{"uuid": "…"}}, not {shown(value)}', field="value", value=value)
