"""Canonical form: bind a filter to a schema and normalise it, so that equivalent filters share a bitmap, a plan and a cache entry.

Binding checks every value and converts it to its stored form. A canonical filter consists of these nodes: In, Range, IsNull, CountRange,
TermRange, TermsOutside, MatchWords, Near, Part, Prefix, Glob, Fold, HasId, HasVector, ConceptRange, GeoRadius, GeoBox, GeoPolygon,
PathTest, PathAny, AtLeast, And, Or, Not, All, Nothing. Of a name that the schema doesn't have, PathTest and PathAny test the payload
(``paths.py``).

* NOT is pushed down to the leaves (De Morgan), so the child of a Not is a leaf. An And has no And child, an Or no Or child. Both have at
  least two children, sorted and distinct. All and Nothing occur only as the whole filter.
* All conditions on one scalar attribute (or on one count, or on the id) within one And or Or become one set of values, with or without
  null. A set of one run of integers becomes a Range, or an In if the run is one value. In a set of several runs, each run of LISTED or more
  integers becomes a Range; the values of the shorter runs become one In. A set that contains both ends of the domain, or null and one end,
  is written as the negation of its complement.
* On an array, "some element is in A" or "some element is in B" becomes one condition. The conjunction of the two can't: the elements may
  differ.
* Inside an And, a nested condition that the other children decide is replaced by true or false; likewise in an Or (``boolean.py``).
* MATCH ANY, and MATCH ALL of a scalar, become one node for each word.

Some equivalent filters keep different forms (finding them all is as hard as satisfiability). Filters that share a form are always
equivalent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vectordb_client.errors import FilterError, InvalidArgumentError, listing, shown
from vectordb_client.model.filter_concepts import Concept
from vectordb_client.model.filter_extended import AnyElement, Fold, GeoPolygon, IsMissing, MinShould, SomeNotIn
from vectordb_client.model.filter_nodes import (
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
from vectordb_client.model.filter_words import MatchNear
from vectordb_client.model.schema import AttributeType, Schema

from ..common import deadline
from ..common.analyze import analysis
from ..common.near import near_words
from ..common.tokenize import RULE
from . import glob
from .boolean import Joined, flip, join
from .concepts import bind_concept
from .nodes import (
    AtLeast,
    ConceptRange,
    CountRange,
    Joining,
    MatchWords,
    Near,
    Part,
    PathAny,
    PathTest,
    Range,
    TermRange,
    TermsOutside,
    make,
)
from .paths import bind_path, is_path
from .sets import COUNTS, DOMAINS, IDS, KEYWORDS, Elements, Scalar, elements


def canonical(node: Filter, schema: Schema) -> Filter:
    """The canonical form of a filter. Raises FilterError, which names the field, its type and the value."""
    return _emit(_bind(node, schema, False))


def _emit(part: Any) -> Filter:
    if type(part) is bool:
        return All() if part else Nothing()
    joins: Joining
    if type(part) is Joined:
        joins, nodes = part.kind, [_emit(each) for each in part.parts]
    elif type(part) is Scalar or type(part) is Elements:
        joins, nodes = part.nodes()
    else:
        return part
    children: list[Filter] = []
    for node in nodes:
        children.extend(node.children if type(node) is joins else (node,))
    return children[0] if len(children) == 1 else make(joins, children=tuple(sorted(children, key=_order)))


_KINDS: tuple[type, ...] = (HasId, IsNull, In, Range, CountRange, TermRange, TermsOutside, Prefix, Glob, Fold, MatchWords, Near, Part)
_KINDS += (HasVector, ConceptRange, GeoBox, GeoRadius, GeoPolygon, PathTest, PathAny, AtLeast, Not, And, Or)
_RANK: dict[type, int] = {kind: rank for rank, kind in enumerate(_KINDS)}


def _order(node: Filter) -> tuple:
    """Sort key: a total order of nodes, independent of hashes. The values of one attribute have one type. An open bound sorts first."""
    rank = _RANK[type(node)]
    if type(node) is And or type(node) is Or:
        return (rank, *map(_order, node.children))
    if type(node) is Not:
        return (rank, _order(node.child))
    if type(node) is AtLeast:
        return (rank, node.n, *map(_order, node.children))
    if type(node) is PathAny:
        return (rank, node.field, repr(node.child))
    if type(node) is PathTest:
        return (rank, node.field, node.test, repr(node.values))
    if type(node) is TermRange:
        return (rank, node.field, node.low or "", node.high or "", node.low is None, node.high is None, node.low_open, node.high_open)
    if type(node) is HasId:
        return (rank,)  # an And or Or has at most one HasId: its ids are merged into one set
    if type(node) is Range or type(node) is CountRange:
        return (rank, node.field, node.low is not None, node.low or 0, node.high is not None, node.high or 0)
    return (rank, *node._parts())


# Binding: one function for each type of node.


def _bind(node: Filter, schema: Schema, negate: bool) -> Any:
    if type(node) is Not:
        return _bind(node.child, schema, not negate)
    if type(node) is And or type(node) is Or:
        joined: Joining = type(node) if not negate else Or if type(node) is And else And
        parts = [_bind(child, schema, negate) for child in deadline.each(node.children)]
        alike = len(parts) > 1 and all(type(part) is Scalar or type(part) is Elements for part in parts)
        if alike and len({part.field for part in parts}) == len(parts):
            return Joined(joined, frozenset(parts))  # conditions on different attributes: there is nothing to simplify
        return join(joined, parts)
    if type(node) is MinShould:
        part = _min_should(node, schema)
        return flip(part) if negate else part
    bind = _BINDERS.get(type(node))
    if (
        bind is not None
        and type(node) not in (HasVector, Concept)
        and (field := getattr(node, "field", None)) is not None
        and is_path(field, schema)
    ):
        part = bind_path(node, _inside)
        return flip(part) if negate else part
    if bind is None:
        raise FilterError(f"{shown(node)} is not a filter; build one with F, such as F('n') > 1", field="filter", value=node)
    part = bind(node, schema)
    return flip(part) if negate else part


class _Element(Schema):
    """The schema of the objects in a payload: all of their names are paths."""


_ELEMENT = _Element()


def _inside(node: Filter) -> Filter:
    """The canonical form of a filter of the objects at a path. Raises FilterError."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (HasId, HasVector, Concept)):
            what = "HAS_ID, HAS_VECTOR and CONCEPT are about points; inside ANY (…) write conditions on the keys of an element"
            raise FilterError(what, field="filter", value=one)
        waiting.extend(getattr(one, "children", ()))
        if isinstance(one, (Not, AnyElement)):
            waiting.append(one.child)
    return canonical(node, _ELEMENT)


def _min_should(node: MinShould, schema: Schema) -> Any:
    parts = [_bind(child, schema, False) for child in deadline.each(node.children)]
    n = node.n - sum(part is True for part in parts)
    parts = [part for part in parts if type(part) is not bool]
    if n <= 0 or n > len(parts):
        return n <= 0
    if n == 1 or n == len(parts):
        return join(Or if n == 1 else And, parts)
    return make(AtLeast, n=n, children=tuple(sorted(map(_emit, parts), key=_order)))


_OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# Operator → the type of attribute to declare for it.
_TYPE_FOR = {
    **dict.fromkeys(("=", "!=", "IN", "STARTSWITH", "GLOB", "IEQ", "ISTARTSWITH", "SOME NOT IN"), "a Keyword attribute"),
    **dict.fromkeys(("<", "<=", ">", ">=", "BETWEEN"), "an Int, Float, Datetime or Keyword attribute"),
    "MATCH": "a Text attribute",
    "ICONTAINS": "a Text or Keyword attribute",
    **dict.fromkeys(("GEO_RADIUS", "GEO_BOX", "GEO_POLYGON"), "a Geo attribute"),
}


def _spec(field: str, schema: Schema, *values: Any) -> AttributeType:
    """The definition of an attribute. Raises FilterError. values: those it is compared with, for the text of the error."""
    spec = schema.attributes.get(field)
    if spec is not None:
        return spec
    if field in schema.vectors:
        what = f"{field!r} is a vector field, not an attribute; write HAS_VECTOR({field}) (F.has_vector) for the points that have a vector"
        raise FilterError(what, field=field)
    if field == "id":
        such = next((shown(value) for value in values if type(value) in (int, str)), "'…'")
        raise FilterError(f"no attribute 'id'; write HAS_ID({such}) (F.has_id) to filter by id", field=field)
    raise FilterError(f"no attribute {shown(field)}; the attributes are: {listing(schema.attributes)}", field=field)


def _type(spec: AttributeType) -> str:
    """An attribute's type as error texts name it, such as "Keyword" or "an array of Keyword"."""
    return f"an array of {type(spec).__name__}" if spec.array else type(spec).__name__


def _unsupported(field: str, spec: AttributeType, operator: str, value: Any) -> FilterError:
    what = f"{field!r} is {_type(spec)}, which supports only {spec.operators.text}; use {_TYPE_FOR[operator]} for {operator}"
    return FilterError(what, field=field, value=value)


def _refused(field: str, spec: AttributeType, value: Any, error: InvalidArgumentError) -> FilterError:
    """The error for a value that the attribute's type doesn't have. error: of the type."""
    if isinstance(error, FilterError):
        return error
    return FilterError(f"{field!r} is {_type(spec)}: {error.message}", field=field, value=value)


def _stored(field: str, spec: AttributeType, value: Any) -> Any:
    """The stored form of a value. Raises FilterError where the attribute's type doesn't have the value."""
    try:
        return spec.filter_value(field, value)
    except InvalidArgumentError as error:
        raise _refused(field, spec, value, error) from None


def _set(field: str, spec: AttributeType, values: Any) -> Any:
    """The rows whose value is in a set; of an array: one of whose elements is."""
    domain = DOMAINS[spec.stored]
    return elements(field, domain, values) if spec.array else Scalar(field, domain, values, False).reduced()


def _members(field: str, spec: AttributeType, values: Sequence, operator: str) -> Any:
    """The rows whose value is one of some values. operator: as the user wrote it."""
    if operator not in spec.operators.names:
        raise _unsupported(field, spec, operator, values[0] if values else None)
    stored = spec.filter_values(values)
    if stored is None:
        stored = [_stored(field, spec, value) for value in deadline.each(values)]
    return _set(field, spec, DOMAINS[spec.stored].of(stored))


def _bounds(field: str, spec: AttributeType, low: Any, high: Any, operator: str) -> Any:
    """The rows with a value from low to high; None is unbounded. The operators > and < exclude the bound itself."""
    if operator not in spec.operators.names:
        raise _unsupported(field, spec, operator, low if low is not None else high)
    domain = DOMAINS[spec.stored]
    if domain is KEYWORDS:
        return _term_range(field, spec, low, high, operator)
    low = domain.low if low is None else _bound(field, spec, low, operator == ">", True, domain.after)
    high = domain.high if high is None else _bound(field, spec, high, operator == "<", False, domain.before)
    return _set(field, spec, domain.between(low, high))


def _term_range(field: str, spec: AttributeType, low: Any, high: Any, operator: str) -> Any:
    """The rows with a keyword from low to high."""
    low, high = (None if bound is None else _stored(field, spec, bound) for bound in (low, high))
    if low is not None and high is not None and low > high:
        return False
    if low == "" and high is None and operator == ">=":
        return _present(field, spec)
    return make(TermRange, field=field, low=low, high=high, low_open=operator == ">", high_open=operator == "<")


def _bound(field: str, spec: AttributeType, value: Any, exclusive: bool, lower: bool, step_in: Callable) -> Any:
    """The outermost value of the attribute's type that lies in a range. step_in: the neighbour of a value, towards the range. exclusive:
    the bound itself is not in the range.
    """
    try:
        nearest, bound = spec.filter_bound(field, value, lower)
    except InvalidArgumentError as error:
        raise _refused(field, spec, value, error) from None
    # A value outside of the range, or an exclusive bound, is not in the range. Its neighbour is.
    outside = nearest < bound if lower else nearest > bound
    return step_in(nearest) if outside or (exclusive and nearest == bound) else nearest


def _compare(node: Compare, schema: Schema) -> Any:
    field, operator, value = node.field, _OPERATORS[node.op], node.value
    spec = _spec(field, schema, value)
    if operator == "=":
        return _members(field, spec, (value,), operator)
    if operator == "!=":
        return flip(_members(field, spec, (value,), operator))
    if operator == "<" or operator == "<=":
        return _bounds(field, spec, None, value, operator)
    return _bounds(field, spec, value, None, operator)


def _contains(node: ContainsAny | ContainsAll, schema: Schema) -> Any:
    """CONTAINS: of an array, elements; of a text or a single keyword, parts of it."""
    field, spec, values = node.field, _spec(node.field, schema), tuple(node.values)
    supported = spec.operators.names
    joined = Or if type(node) is ContainsAny else And
    if "CONTAINS" in supported and not (spec.array and "=" in supported):
        return join(joined, [_part(field, spec, value, False) for value in deadline.each(values)])
    if spec.array and "=" in supported:
        if joined is Or:
            return _members(field, spec, values, "IN")
        return join(And, [_members(field, spec, (value,), "=") for value in deadline.each(values)])
    instead = "write = or IN" if "=" in supported else f"write {spec.operators.text}"
    array = "an array of Keyword, Int, Float, Datetime, Bool or Uuid" if spec.array else "an array"
    what = f"CONTAINS tests the elements of {array}, and {field!r} is {_type(spec)}{'' if spec.array else ', not an array'}; {instead}"
    raise FilterError(what, field=field, value=values[0])


def _part(field: str, spec: AttributeType, value: Any, fold: bool) -> Any:
    """The rows whose text or keyword contains a string."""
    if type(value) is not str:
        what = f"{field!r} is {_type(spec)}: CONTAINS looks for a part of it, a string, not {shown(value)}"
        raise FilterError(what, field=field, value=value)
    if not value:
        return _present(field, spec)
    if fold:
        value = value.casefold()
    elif "GLOB" in spec.operators.names:
        return make(Glob, field=field, pattern="*" + "".join([f"[{c}]" if c in "*?[" else c for c in value]) + "*")
    return make(Part, field=field, value=value, fold=fold)


def _folded(node: Fold, schema: Schema) -> Any:
    field, spec = node.field, _spec(node.field, schema)
    operator = {"eq": "IEQ", "prefix": "ISTARTSWITH", "contains": "ICONTAINS"}[node.mode]
    if operator not in spec.operators.names:
        raise _unsupported(field, spec, operator, node.value)
    if "GLOB" not in spec.operators.names:
        return _part(field, spec, node.value, True)
    if not node.value and node.mode != "eq":
        return _present(field, spec)
    return make(Fold, field=field, mode=node.mode, value=node.value.casefold())


def _some_not_in(node: SomeNotIn, schema: Schema) -> Any:
    """The rows with an element (of a scalar: with the value) that is none of some values."""
    field, values = node.field, tuple(node.values)
    spec = _spec(field, schema, *values[:1])
    inside = _members(field, spec, values, "IN") if "=" in spec.operators.names else None
    if inside is None:
        raise _unsupported(field, spec, "SOME NOT IN", values[0] if values else None)
    if not spec.array:
        return join(And, [flip(inside), _null(field, spec, False)])
    if inside is False:
        return _present_elements(field)
    if type(inside) is not Elements:  # all values of the domain are in the list
        return False
    if inside.domain is KEYWORDS:
        return make(TermsOutside, field=field, values=tuple(sorted(inside.values[0])))
    return elements(field, inside.domain, inside.domain.complement(inside.values))


def _present_elements(field: str) -> Scalar:
    """The rows whose array isn't empty."""
    return Scalar(field, COUNTS, COUNTS.between(1, COUNTS.high), False)


def _any_element(node: AnyElement, schema: Schema) -> Any:
    what = f"{node.field!r} is {_type(_spec(node.field, schema))}; ANY (…) is for arrays of objects in the payload"
    raise FilterError(f"{what}, write a condition on {node.field!r} itself, which holds if one element satisfies it", field=node.field)


def _is_null(node: IsNull, schema: Schema) -> Any:
    spec = _spec(node.field, schema)
    return make(IsNull, field=node.field) if spec.array else _null(node.field, spec, True)


def _null(field: str, spec: AttributeType, null: bool) -> Scalar:
    domain = DOMAINS.get(spec.stored, KEYWORDS)  # where values have no domain, only null and not null matter: any domain will do
    return Scalar(field, domain, domain.empty if null else domain.full, null)


def _present(field: str, spec: AttributeType) -> Any:
    return _present_elements(field) if spec.array else _null(field, spec, False)


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
    if "MATCH" not in spec.operators.names:
        raise _unsupported(field, spec, "MATCH", node.text)
    tokens = tuple(analysis(spec.analyzer, 1 if field in schema.earlier else RULE).words(node.text))
    if not tokens:
        return False
    if mode == "any" or (mode == "all" and not spec.array):
        return join(Or if mode == "any" else And, [make(MatchWords, field=field, mode="all", words=(token,)) for token in tokens])
    if mode == "all" or len(tokens) == 1:
        return make(MatchWords, field=field, mode="all", words=tuple(sorted(set(tokens))))
    return make(MatchWords, field=field, mode="phrase", words=tokens)


def _match_near(node: MatchNear, schema: Schema) -> Any:
    field = node.field
    spec = _spec(field, schema)
    if "MATCH" not in spec.operators.names:
        raise _unsupported(field, spec, "MATCH", node.text)
    found = near_words(analysis(spec.analyzer, 1 if field in schema.earlier else RULE), node.text, node.fuzzy, node.wildcards)
    if not found:
        return False
    if node.mode == "all" and spec.array and len(found) > 1:
        what = f"{field!r} is an array, where fuzzy words and wildcards are looked for one by one; write match_any (MATCH ANY), or one word"
        raise FilterError(what, field=field, value=node.text)
    return join(Or if node.mode == "any" else And, [make(Near, field=field, **word._asdict()) for word in found])


def _pattern(field: str, schema: Schema, operator: str, value: str, form: str, text: str) -> Any:
    """form, text: of the pattern, as ``glob.normal`` returns them."""
    spec = _spec(field, schema)
    if operator not in spec.operators.names:
        raise _unsupported(field, spec, operator, value)
    if form == "exact":
        return _members(field, spec, (text,), operator)
    if form == "prefix":
        return make(Prefix, field=field, value=_stored(field, spec, text)) if text else _present(field, spec)
    return make(Glob, field=field, pattern=text)


def _has_vector(node: HasVector, schema: Schema) -> Any:
    if node.field in schema.vectors:
        return node
    if node.field in schema.attributes:
        raise FilterError(f"{node.field!r} is an attribute, not a vector field; write IS NOT NULL (is_not_null)", field=node.field)
    raise FilterError(f"no vector field {shown(node.field)}; the vector fields are: {listing(schema.vectors)}", field=node.field)


def _geo(node: GeoRadius | GeoBox | GeoPolygon, schema: Schema) -> Any:
    spec = _spec(node.field, schema)
    operator = {GeoRadius: "GEO_RADIUS", GeoBox: "GEO_BOX"}.get(type(node), "GEO_POLYGON")
    if operator not in spec.operators.names:
        raise _unsupported(node.field, spec, operator, None)
    return node if node._parts()[1:] != (-90.0, -180.0, 90.0, 180.0) else _present(node.field, spec)


_BINDERS = {
    All: lambda node, schema: True,
    Nothing: lambda node, schema: False,
    Compare: _compare,
    In: lambda node, schema: _members(node.field, _spec(node.field, schema, *node.values[:1]), node.values, "IN"),
    ContainsAny: _contains,
    ContainsAll: _contains,
    SomeNotIn: _some_not_in,
    Fold: _folded,
    AnyElement: _any_element,
    IsMissing: _is_null,
    Between: lambda node, schema: _bounds(node.field, _spec(node.field, schema), node.low, node.high, "BETWEEN"),
    IsNull: _is_null,
    Count: _count,
    Match: _match,
    MatchNear: _match_near,
    Prefix: lambda node, schema: _pattern(node.field, schema, "STARTSWITH", node.value, "prefix", node.value),
    Glob: lambda node, schema: _pattern(node.field, schema, "GLOB", node.pattern, *glob.normal(node.pattern)),
    HasId: lambda node, schema: Scalar("", IDS, IDS.of(node.ids), False).reduced(),
    HasVector: _has_vector,
    Concept: bind_concept,
    GeoRadius: _geo,
    GeoBox: _geo,
    GeoPolygon: _geo,
}
