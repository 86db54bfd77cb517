"""A filter bound to a schema and brought to one form, so that equivalent filters share a bitmap, a plan and a cache entry.

Values are checked and turned into stored forms. Nodes of the result: In, Range, IsNull, CountRange, MatchWords, Prefix, Glob, HasId,
HasVector, GeoRadius, GeoBox, And, Or, Not, All, Nothing.

* NOT is pushed down to the leaves (De Morgan), so Not holds only leaves; And holds no And, Or no Or, and both at least two children,
  sorted and distinct. All and Nothing stand alone.
* Everything that one And or Or says of one scalar attribute (or count, or id) is computed as one set of values, with or without null.
  A set of one integer run is a Range (In if it is one value); in a set of several runs those of LISTED integers and more are Ranges
  and the others are listed in one In. A set that holds both ends of the domain, or null and one end, is told by what is left out.
* Of an array, only what is true of every array is used: OR of conditions on an element is one condition, AND is not.
* In an And, what its other members decide about a condition deeper down is used there; likewise in an Or (``boolean.py``).
* MATCH ANY, and MATCH ALL of a scalar, are one node a word.

Not every equivalence is found (that is as hard as satisfiability), but no inequivalent filters share a form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from vectordb_client.errors import FilterError, InvalidArgumentError, listing, shown
from vectordb_client.filter import (
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
)
from vectordb_client.schema import Attribute, Schema
from vectordb_client.values import MAX_KEYWORD_BYTES, coerce_element, first_moment

from .. import deadline
from ..words import RULE, words
from . import glob
from .boolean import Joined, flip, join
from .nodes import CountRange, MatchWords, Range, make
from .sets import COUNTS, DOMAINS, IDS, INTS, KEYWORDS, Elements, Scalar, elements

__all__ = ["CountRange", "MatchWords", "Range", "canonical"]


def canonical(node: Filter, schema: Schema) -> Filter:
    """The one form of a filter. Raises FilterError that names the field, its kind and the value."""
    return _emit(_bind(node, schema, False))


def _emit(part: Any) -> Filter:
    kind = type(part)
    if kind is bool:
        return All() if part else Nothing()
    if kind is Joined:
        joins, nodes = part.kind, [_emit(each) for each in part.parts]
    elif kind is Scalar or kind is Elements:
        joins, nodes = part.nodes()
    else:
        return part
    children: list[Filter] = []
    for node in nodes:
        children.extend(node.children if type(node) is joins else (node,))
    return children[0] if len(children) == 1 else make(joins, children=tuple(sorted(children, key=_order)))


_RANK = {
    kind: rank
    for rank, kind in enumerate(
        (HasId, IsNull, In, Range, CountRange, Prefix, Glob, MatchWords, HasVector, GeoBox, GeoRadius, Not, And, Or)
    )
}


def _order(node: Filter) -> tuple:
    """A total order that doesn't depend on hashes. Values of one attribute are of one type; the open end of a range comes first."""
    kind = type(node)
    rank = _RANK[kind]
    if kind is And or kind is Or:
        return (rank, *map(_order, node.children))
    if kind is Not:
        return (rank, _order(node.child))
    if kind is HasId:
        return (rank,)  # ids of one And or Or are one node
    if kind is Range or kind is CountRange:
        return (rank, node.field, node.low is not None, node.low or 0, node.high is not None, node.high or 0)
    return (rank, *node._parts())


# Binding: one function a node.


def _bind(node: Filter, schema: Schema, negate: bool) -> Any:
    kind = type(node)
    if kind is Not:
        return _bind(node.child, schema, not negate)
    if kind is And or kind is Or:
        joined = kind if not negate else Or if kind is And else And
        return join(joined, [_bind(child, schema, negate) for child in deadline.each(node.children)])
    bind = _BINDERS.get(kind)
    if bind is None:
        raise FilterError(f"{shown(node)} is not a filter", field="filter", value=node)
    part = bind(node, schema)
    return flip(part) if negate else part


_OFFERS = {
    "keyword": "=, IN, STARTSWITH and GLOB",
    "int": "comparisons, IN and BETWEEN",
    "float": "comparisons, IN and BETWEEN",
    "datetime": "comparisons, IN and BETWEEN",
    "bool": "= and IN",
    "uuid": "= and IN",
    "text": "MATCH (match_any, match_all, match_phrase)",
    "geo": "GEO_RADIUS and GEO_BOX (geo_radius, geo_box)",
}


def _spec(field: str, schema: Schema) -> Attribute:
    spec = schema.attributes.get(field)
    if spec is not None:
        return spec
    if field in schema.vectors:
        raise FilterError(f"{field!r} is a vector field; ask HAS_VECTOR({field}) (has_vector) whether a point has one", field=field)
    hint = "; for ids ask HAS_ID('…') (F.has_id)" if field == "id" else " (the payload isn't indexed and can't be filtered on)"
    raise FilterError(f"no attribute {shown(field)}; there are: {listing(schema.attributes)}{hint}", field=field)


def _unsupported(field: str, spec: Attribute, what: str, value: Any) -> FilterError:
    return FilterError(
        f"{what} can't be asked of {field!r}, which is {spec.kind}; it offers {_OFFERS[spec.kind]}", field=field, value=value
    )


def _stored(field: str, spec: Attribute, value: Any) -> Any:
    try:
        if spec.kind == "datetime" and isinstance(value, str) and first_moment(value) is not value:
            what = f"{value!r} is a span of time: write >= and <, or BETWEEN"
            raise FilterError(f"attribute {field!r} is datetime: {what}", field=field, value=value)
        return coerce_element(field, spec.kind, value)
    except FilterError:
        raise
    except InvalidArgumentError as error:
        raise FilterError(f"attribute {field!r} is {spec.kind}: {error.message}", field=field, value=value) from None


def _all_stored(field: str, spec: Attribute, values: Sequence) -> Sequence:
    """Stored forms of values; numbers that no value of the attribute's kind equals are left out."""
    types = set(map(type, values))
    if types == {str} and spec.kind == "keyword" and max(map(len, values)) * 4 <= MAX_KEYWORD_BYTES:
        try:
            "".join(values).encode()
            return values
        except UnicodeEncodeError:
            pass
    elif spec.kind == "int" and types and types <= {int, float}:
        if types == {float}:
            values = [int(value) for value in values if value.is_integer()]
        elif float in types:
            values = [int(value) for value in values if type(value) is int or value.is_integer()]
        if values and not (INTS.low <= min(values) and max(values) <= INTS.high):
            values = [value for value in values if INTS.low <= value <= INTS.high]
        return values
    elif spec.kind == "float" and types <= {int, float}:
        if int in types:
            values = [value for value in values if type(value) is float or _nearest_float(value) == value]
        return [float(value) + 0.0 for value in values]
    return [_stored(field, spec, value) for value in deadline.each(values)]


def _nearest_float(value: int) -> float:
    """Python compares the two exactly. Infinite where no float is near."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _set(field: str, spec: Attribute, values: Any) -> Any:
    """The rows with a value (an element) in a set."""
    domain = DOMAINS[spec.kind]
    return elements(field, domain, values) if spec.array else Scalar(field, domain, values, False).reduced()


def _members(field: str, spec: Attribute, values: Sequence) -> Any:
    if spec.kind in ("text", "geo"):
        raise _unsupported(field, spec, "equality", values[0] if values else None)
    return _set(field, spec, DOMAINS[spec.kind].of(_all_stored(field, spec, values)))


def _bounds(field: str, spec: Attribute, low: Any, high: Any, open_low: bool = False, open_high: bool = False) -> Any:
    """The rows with a value from low to high; None is unbounded, open_low and open_high leave the bound itself out."""
    domain = DOMAINS.get(spec.kind)
    if spec.kind not in ("int", "float", "datetime"):
        raise _unsupported(field, spec, "a range", low if low is not None else high)
    if spec.kind == "datetime":
        low, high = (first_moment(bound) if isinstance(bound, str) else bound for bound in (low, high))
    low = domain.low if low is None else _bound(field, spec, low, open_low, math.floor, domain.after)
    high = domain.high if high is None else _bound(field, spec, high, open_high, math.ceil, domain.before)
    return _set(field, spec, domain.between(low, high))


def _bound(field: str, spec: Attribute, value: Any, left_out: bool, outside: Callable, inside: Callable) -> Any:
    """The first value of the attribute's kind that a range holds. outside: rounds an integer's bound away from the range; inside: the next
    value into it.
    """
    if spec.kind == "int" and type(value) in (int, float):
        nearest = outside(value)
    elif spec.kind == "float" and type(value) is int:
        nearest = _nearest_float(value)
    else:
        nearest = value = _stored(field, spec, value)
    # What was rounded away from the range, or is left out of it, isn't in it; the next value is.
    beyond = nearest < value if outside is math.floor else nearest > value
    return inside(nearest) if beyond or (left_out and nearest == value) else nearest


def _compare(node: Compare, schema: Schema) -> Any:
    field, op, value = node.field, node.op, node.value
    spec = _spec(field, schema)
    if op == "eq":
        return _members(field, spec, (value,))
    if op == "ne":
        return flip(_members(field, spec, (value,)))
    if op == "lt" or op == "le":
        return _bounds(field, spec, None, value, open_high=op == "lt")
    return _bounds(field, spec, value, None, open_low=op == "gt")


def _among(node: In, schema: Schema) -> Any:
    return _members(node.field, _spec(node.field, schema), node.values)


def _array(node: ContainsAny | ContainsAll, schema: Schema) -> Attribute:
    """The attribute, which must be an array: of a string, "contains" would be taken for a search within it."""
    field, spec = node.field, _spec(node.field, schema)
    if spec.array and spec.kind not in ("text", "geo"):
        return spec
    value = node.values[0]
    instead = f"it offers {_OFFERS[spec.kind]}"
    if spec.kind == "keyword":
        instead = f"write = or IN, or for a part of it GLOB '*{value}*' (glob)"
    elif spec.kind == "text":
        instead = f"write MATCH {shown(value)} (match_all)"
    what = f"CONTAINS asks for elements of an array, and {field!r} is {spec.kind}{' array' if spec.array else ''}; {instead}"
    raise FilterError(what, field=field, value=value)


def _contains_any(node: ContainsAny, schema: Schema) -> Any:
    return _members(node.field, _array(node, schema), node.values)


def _contains_all(node: ContainsAll, schema: Schema) -> Any:
    spec = _array(node, schema)
    return join(And, [_members(node.field, spec, (value,)) for value in deadline.each(node.values)])


def _between(node: Between, schema: Schema) -> Any:
    return _bounds(node.field, _spec(node.field, schema), node.low, node.high)


def _is_null(node: IsNull, schema: Schema) -> Any:
    spec = _spec(node.field, schema)
    return make(IsNull, field=node.field) if spec.array else _null(node.field, spec, True)


def _null(field: str, spec: Attribute, null: bool) -> Scalar:
    domain = DOMAINS.get(spec.kind, KEYWORDS)  # of text and geo only null and not null are told apart
    return Scalar(field, domain, domain.empty if null else domain.full, null)


def _present(field: str, spec: Attribute) -> Any:
    return Scalar(field, COUNTS, COUNTS.between(1, COUNTS.high), False) if spec.array else _null(field, spec, False)


def _count(node: Count, schema: Schema) -> Any:
    spec, n = _spec(node.field, schema), node.n
    low, high = {"eq": (n, n), "ne": (n, n), "lt": (0, n - 1), "le": (0, n), "gt": (n + 1, COUNTS.high), "ge": (n, COUNTS.high)}[node.op]
    counts = COUNTS.between(low, high)
    if spec.array:
        part = Scalar(node.field, COUNTS, counts, False).reduced()
    else:
        zero, one = low <= 0 <= high, low <= 1 <= high
        part = zero if zero is one else _null(node.field, spec, zero)
    return flip(part) if node.op == "ne" else part


def _match(node: Match, schema: Schema) -> Any:
    field, mode = node.field, node.mode
    spec = _spec(field, schema)
    if spec.kind != "text":
        raise _unsupported(field, spec, "MATCH", node.text)
    found = tuple(words(node.text, 1 if field in schema.earlier else RULE))
    if not found:
        return False
    if mode == "any" or (mode == "all" and not spec.array):
        return join(Or if mode == "any" else And, [make(MatchWords, field=field, mode="all", words=(word,)) for word in found])
    if mode == "all" or len(found) == 1:
        return make(MatchWords, field=field, mode="all", words=tuple(sorted(set(found))))
    return make(MatchWords, field=field, mode="phrase", words=found)


def _prefix(node: Prefix, schema: Schema) -> Any:
    return _patterned(node.field, schema, "STARTSWITH", node.value, "prefix", node.value)


def _glob(node: Glob, schema: Schema) -> Any:
    return _patterned(node.field, schema, "GLOB", node.pattern, *glob.normal(node.pattern))


def _patterned(field: str, schema: Schema, what: str, value: str, form: str, text: str) -> Any:
    spec = _spec(field, schema)
    if spec.kind != "keyword":
        raise _unsupported(field, spec, what, value)
    if form == "exact":
        return _members(field, spec, (text,))
    if form == "prefix":
        return make(Prefix, field=field, value=_stored(field, spec, text)) if text else _present(field, spec)
    return make(Glob, field=field, pattern=text)


def _has_id(node: HasId, schema: Schema) -> Any:
    return Scalar("", IDS, IDS.of(node.ids), False).reduced()


def _has_vector(node: HasVector, schema: Schema) -> Any:
    if node.field in schema.vectors:
        return node
    if node.field in schema.attributes:
        raise FilterError(f"{node.field!r} is an attribute, not a vector field; ask IS NOT NULL (is_not_null)", field=node.field)
    raise FilterError(f"no vector field {shown(node.field)}; there are: {listing(schema.vectors)}", field=node.field)


def _geo(node: GeoRadius | GeoBox, schema: Schema) -> Any:
    spec = _spec(node.field, schema)
    if spec.kind != "geo":
        raise _unsupported(node.field, spec, "a place", None)
    return node if node._parts()[1:] != (-90.0, -180.0, 90.0, 180.0) else _present(node.field, spec)


_BINDERS = {
    All: lambda node, schema: True,
    Nothing: lambda node, schema: False,
    Compare: _compare,
    In: _among,
    ContainsAny: _contains_any,
    ContainsAll: _contains_all,
    Between: _between,
    IsNull: _is_null,
    Count: _count,
    Match: _match,
    Prefix: _prefix,
    Glob: _glob,
    HasId: _has_id,
    HasVector: _has_vector,
    GeoRadius: _geo,
    GeoBox: _geo,
}
