"""Bind filters on the payload: conditions on names that the schema doesn't have become tests of the values at a path.

JSON has no declared types, so values are compared by their own: a number with numbers of any kind, a string with strings, True with True.
A comparison with a value of another type doesn't hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from vectordb_client.errors import FilterError, shown
from vectordb_client.model.filter_extended import AnyElement, Fold, GeoPolygon, IsMissing, SomeNotIn
from vectordb_client.model.filter_nodes import (
    And,
    Between,
    Compare,
    ContainsAll,
    ContainsAny,
    Count,
    GeoBox,
    GeoRadius,
    Glob,
    In,
    IsNull,
    Match,
    Or,
    Prefix,
)
from vectordb_client.model.filter_words import MatchNear
from vectordb_client.model.schema import Schema

from ..common import deadline
from ..common.tokenize import RULE, words
from . import glob
from .boolean import flip, join
from .nodes import PathAny, PathTest, make


def is_path(field: str, schema: Schema) -> bool:
    """Whether a filter's field is a path of the payload: it is neither a name of the schema nor "id"."""
    return field not in schema.attributes and field not in schema.vectors and field != "id"


def bind_path(node: Any, canonical: Callable[[Any], Any]) -> Any:
    """The bound form of a condition on the payload. canonical: brings a filter of an element's paths to canonical form.

    Raises FilterError.
    """
    bind = _BINDERS.get(type(node))
    if bind is None:
        raise FilterError(f"{shown(node)} can't be a condition on the payload", field=node.field, value=node)
    return bind(node, canonical)


def _test(field: str, test: str, *values: Any) -> PathTest:
    return make(PathTest, field=field, test=test, values=values)


def json_value(field: str, value: Any) -> Any:
    """A value as JSON holds it; an integral float becomes an integer, so that equal numbers are equal. Raises FilterError."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is str or kind is bool or kind is int:
        return value
    if kind is UUID:
        return str(value)
    what = f"{field!r} is a path of the payload, which is JSON and has no {kind.__name__}; compare it with a string as the payload holds it"
    raise FilterError(f"{what}, or declare an attribute", field=field, value=value)


def _sorted(field: str, values: Any) -> tuple:
    distinct = {(type(value), value): value for value in (json_value(field, value) for value in deadline.each(values))}
    return tuple(sorted(distinct.values(), key=lambda value: (type(value).__name__, value)))


def _members(field: str, values: Any) -> Any:
    return make(PathTest, field=field, test="in", values=_sorted(field, values)) if len(values) else False


def _compare(node: Compare, canonical: Any) -> Any:
    field, value = node.field, node.value
    if node.op in ("eq", "ne"):
        equal = _members(field, (value,))
        return equal if node.op == "eq" else flip(equal)
    bound = _bound(field, value)
    if node.op in ("lt", "le"):
        return _test(field, "range", None, bound, False, node.op == "lt")
    return _test(field, "range", bound, None, node.op == "gt", False)


def _bound(field: str, value: Any) -> Any:
    value = json_value(field, value)
    if type(value) is bool:
        raise FilterError(f"{field!r} can't be ordered against {value}; write = or !=", field=field, value=value)
    return value


def _between(node: Between, canonical: Any) -> Any:
    low, high = _bound(node.field, node.low), _bound(node.field, node.high)
    if (type(low) is str) is not (type(high) is str):
        what = f"the bounds of {node.field!r} must both be numbers or both be strings, not {shown(low)} and {shown(high)}"
        raise FilterError(what, field=node.field, value=high)
    return _test(node.field, "range", low, high, False, False) if low <= high else False


def _count(node: Count, canonical: Any) -> Any:
    n = node.n
    low, high = {"eq": (n, n), "ne": (n, n), "lt": (0, n - 1), "le": (0, n), "gt": (n + 1, None), "ge": (n, None)}[node.op]
    low = max(low, 0)
    if high is not None and high < low:
        part: Any = False
    elif low == 0 and high is None:
        part = True
    else:
        part = _test(node.field, "count", low, high)
    return flip(part) if node.op == "ne" else part


def _match(node: Match, canonical: Any) -> Any:
    tokens = tuple(words(node.text, RULE))
    if not tokens:
        return False
    if node.mode == "any":
        return join(Or, [_test(node.field, "match", "all", token) for token in tokens])
    if node.mode == "all" or len(tokens) == 1:
        return _test(node.field, "match", "all", *sorted(set(tokens)))
    return _test(node.field, "match", "phrase", *tokens)


def _match_near(node: MatchNear, canonical: Any) -> Any:
    what = f"{node.field!r} is a path of the payload, whose words are in no index; declare it as Text() for fuzzy words and wildcards"
    raise FilterError(f"{what}, or write match_any (MATCH ANY) with the exact words", field=node.field, value=node.text)


def _glob(node: Glob, canonical: Any) -> Any:
    form, text = glob.normal(node.pattern)
    return _members(node.field, (text,)) if form == "exact" else _test(node.field, form, text)


_BINDERS: dict[type, Callable[[Any, Any], Any]] = {
    Compare: _compare,
    In: lambda node, canonical: _members(node.field, node.values),
    ContainsAny: lambda node, canonical: _members(node.field, node.values),
    ContainsAll: lambda node, canonical: join(And, [_members(node.field, (value,)) for value in deadline.each(node.values)]),
    SomeNotIn: lambda node, canonical: make(PathTest, field=node.field, test="outside", values=_sorted(node.field, node.values)),
    Between: _between,
    IsNull: lambda node, canonical: _test(node.field, "null"),
    IsMissing: lambda node, canonical: _test(node.field, "missing"),
    Count: _count,
    Match: _match,
    MatchNear: _match_near,
    Prefix: lambda node, canonical: _test(node.field, "prefix", node.value),
    Glob: _glob,
    Fold: lambda node, canonical: _test(node.field, "fold", node.mode, node.value.casefold()),
    GeoRadius: lambda node, canonical: _test(node.field, "radius", node.lat, node.lon, node.meters),
    GeoBox: lambda node, canonical: _test(node.field, "box", node.south, node.west, node.north, node.east),
    GeoPolygon: lambda node, canonical: make(PathTest, field=node.field, test="polygon", values=node.points),
    AnyElement: lambda node, canonical: make(PathAny, field=node.field, child=canonical(node.child)),
}
