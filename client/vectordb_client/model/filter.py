"""Filters: the Python builder ``F``, and the JSON form (``to_dict``, ``from_dict``). ``filter_nodes`` has the nodes of the tree.

    (F("lines") > 20) & F("module").isin(["json", "asyncio"])
    {"op": "and", "filters": [{"op": "gt", "field": "lines", "value": 20}, {"op": "in", "field": "module", "values": ["json", "asyncio"]}]}

``vectordb.filters.parse`` reads the string notation, ``lines > 20 AND module IN ('json', 'asyncio')``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import FilterError, LimitError, shown
from . import filter_extended as extended
from . import filter_nodes as nodes
from .attributes import ATTRIBUTE_TYPES, type_of
from .filter_concepts import Concept
from .filter_nodes import Filter
from .filter_words import MatchNear


class _Comparable:
    """The left side of a comparison. It is not a filter by itself."""

    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # so that numpy doesn't take over comparisons

    def _compare(self, op: str, value: Any) -> Filter:
        raise NotImplementedError

    def __eq__(self, value: Any) -> Filter:  # type: ignore[override]
        return self._compare("eq", value)

    def __ne__(self, value: Any) -> Filter:  # type: ignore[override]
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
        raise FilterError(f"{self!r} alone is not a filter; write {self!r} == True, or another comparison, and {nodes.PARENTHESES}")

    __bool__ = __and__ = __rand__ = __or__ = __ror__ = __invert__ = _alone


class _CountOf(_Comparable):
    def __init__(self, field: str):
        self._name = field

    def __repr__(self) -> str:
        return f"F({self._name!r}).count()"

    def _compare(self, op: str, value: Any) -> Filter:
        return nodes.Count(self._name, op, value)


class _ConceptOf(_Comparable):
    def __init__(self, field: str, concept: int | str):
        self._name, self._concept = field, concept

    def __repr__(self) -> str:
        return f"F.concept({self._name!r}, {self._concept!r})"

    def _compare(self, op: str, value: Any) -> Filter:
        return Concept(self._name, self._concept, op, value)


class NoSuchTestError(FilterError, AttributeError):
    """``F`` has no method of this name. The message says what to write instead."""


def _no_such_test(field: str, name: str) -> AttributeError:
    if name.startswith("_"):
        return AttributeError(name)
    meant = _MEANT.get(name.rstrip("_").lower())
    methods = ", ".join(method for method in vars(F) if not method.startswith("_"))
    advice = f"write {meant}" if meant else f"its methods: {methods}"
    return NoSuchTestError(f"{field} has no {name!r}; {advice}", field="filter", value=name)


_MEANT = {
    **dict.fromkeys(("in", "any_of", "is_in", "one_of"), ".isin([…])"),
    **dict.fromkeys(("notin", "not_in", "nin", "is_not_in"), ".not_in([…])"),
    **dict.fromkeys(("like", "regex", "matches"), ".glob('*…*') for a Keyword, or .match_all('…') for a Text"),
    **dict.fromkeys(("ilike", "iexact", "equals_ignore_case"), ".ieq('…'), .istartswith('…') or .icontains('…')"),
    **dict.fromkeys(("isnull_or_missing", "not_exists", "is_absent"), ".is_missing()"),
    **dict.fromkeys(("nested", "elem_match", "any_element"), ".any(F('…') == …)"),
    **dict.fromkeys(("polygon", "within"), ".geo_polygon([(lat, lon), …])"),
    **dict.fromkeys(("match", "search", "match_text"), ".match_all('…'), .match_any('…') or .match_phrase('…')"),
    **dict.fromkeys(("isnull", "isna", "is_na", "is_none", "is_missing", "is_empty"), ".is_null()"),
    **dict.fromkeys(("notnull", "notna", "is_not_none", "exists", "isnotnull"), ".is_not_null()"),
    **dict.fromkeys(("starts_with", "prefix"), ".startswith('…')"),
    **dict.fromkeys(("eq", "equals"), "== …"),
    **dict.fromkeys(("ne", "neq"), "!= …"),
    **dict.fromkeys(("gt", "lt", "gte", "lte", "ge", "le", "range"), "> … or .between(low, high)"),
    **dict.fromkeys(("len", "size", "length"), ".count()"),
}


class _Builder(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NoSuchTestError(f"F has no {name!r}; write F({name!r}) for a field", field="filter", value=name)


class F(_Comparable, metaclass=_Builder):
    """Builds filters on an attribute: ``(F("lines") > 20) & F("tags").contains_any(["a", "b"])``.

    ``== != < <= > >=`` compare with a value; ``== None`` is ``is_null()``. Combine filters with ``&``, ``|`` and ``~``, each comparison in
    parentheses. On an array attribute a condition holds if one element satisfies it. Null satisfies no comparison but ``!=``.

    Args:
        field: the name of an attribute.

    Raises:
        FilterError: (any method) a value can't be compared, or two conditions are combined with ``and`` or ``or``.

    Example:
        ```python
        docs.search({"v": query}, filter=(F("year") >= 2020) & F("lang").isin(["en", "de"]))
        docs.count(F("tags").contains("draft") | F("title").is_null())
        ```
    """

    def __init__(self, field: str):
        self._name = nodes.check_field(field)

    def __repr__(self) -> str:
        return f"F({self._name!r})"

    def _compare(self, op: str, value: Any) -> Filter:
        if value is None and op in ("eq", "ne"):
            return nodes.IsNull(self._name) if op == "eq" else nodes.Not(nodes.IsNull(self._name))
        if isinstance(value, _Comparable):
            raise FilterError(f"{self!r} can be compared with a value, not with another field: {value!r}", field=self._name)
        return nodes.Compare(self._name, op, value)

    def __getattr__(self, name: str) -> Any:
        raise _no_such_test(f"F({self.__dict__.get('_name')!r})", name)

    def isin(self, values: Iterable) -> Filter:
        """The value (or one element of an array) is one of ``values``. An empty list matches no point."""
        return nodes.In(self._name, values)

    def not_in(self, values: Iterable) -> Filter:
        """The complement of ``isin``. It includes points whose value is null."""
        return nodes.Not(nodes.In(self._name, values))

    def between(self, low: Any, high: Any) -> Filter:
        """``low <= value <= high``. For an array, one element lies in the range."""
        return nodes.Between(self._name, low, high)

    def is_null(self) -> Filter:
        """The point has no value."""
        return nodes.IsNull(self._name)

    def is_not_null(self) -> Filter:
        """The point has a value. An empty array is a value."""
        return nodes.Not(nodes.IsNull(self._name))

    def is_missing(self) -> Filter:
        """The payload doesn't have the key. ``is_null`` also holds where the key has the value null. Of an attribute both are the same."""
        return extended.IsMissing(self._name)

    def some_not_in(self, values: Iterable) -> Filter:
        """At least one element of the array is none of ``values``. A single value counts as one element."""
        return extended.SomeNotIn(self._name, values)

    def any(self, condition: Filter) -> Filter:
        """One element of an array of objects in the payload satisfies the whole condition.

        Args:
            condition: a filter whose fields are paths inside the element: ``F("items").any((F("size") == 1) & (F("color") == "red"))``.
        """
        return extended.AnyElement(self._name, condition)

    def contains(self, value: Any) -> Filter:
        """``value`` is an element of the array. Of a Text or a single Keyword: it is a part of the text; upper and lower case differ."""
        return nodes.ContainsAny(self._name, [value])

    def icontains(self, part: str) -> Filter:
        """``part`` is a part of the text or keyword, in upper or lower case."""
        return extended.Fold(self._name, "contains", part)

    def ieq(self, value: str) -> Filter:
        """The keyword is ``value``, in upper or lower case."""
        return extended.Fold(self._name, "eq", value)

    def istartswith(self, prefix: str) -> Filter:
        """The keyword starts with ``prefix``, in upper or lower case."""
        return extended.Fold(self._name, "prefix", prefix)

    def contains_any(self, values: Iterable) -> Filter:
        """At least one of ``values`` is an element of the array. The list must not be empty."""
        return nodes.ContainsAny(self._name, values)

    def contains_all(self, values: Iterable) -> Filter:
        """All of ``values`` are elements of the array. The list must not be empty."""
        return nodes.ContainsAll(self._name, values)

    def count(self) -> _CountOf:
        """The number of values, to compare with an integer: ``F("tags").count() >= 2``. 0 for null, 1 for a value that is not an array."""
        return _CountOf(self._name)

    def match_any(self, text: str, *, fuzzy: int = 0, wildcards: bool = False) -> Filter:
        """The text contains at least one of these words, in upper or lower case.

        fuzzy: 1 or 2 letters of a word may differ: left out, added, replaced, or swapped with the next. Words of less than 3 characters
        never differ, those of less than 6 by one. wildcards: ``*`` stands for any characters of a word, ``?`` for one.
        """
        return _match(self._name, "any", text, fuzzy, wildcards)

    def match_all(self, text: str, *, fuzzy: int = 0, wildcards: bool = False) -> Filter:
        """The text contains all of these words, in any order, in upper or lower case. fuzzy, wildcards: as in ``match_any``."""
        return _match(self._name, "all", text, fuzzy, wildcards)

    def match_phrase(self, text: str) -> Filter:
        """The text contains these words one after another, in upper or lower case."""
        return nodes.Match(self._name, "phrase", text)

    def startswith(self, prefix: str) -> Filter:
        """The keyword starts with ``prefix``. Upper and lower case differ."""
        return nodes.Prefix(self._name, prefix)

    def glob(self, pattern: str) -> Filter:
        """The whole keyword matches a pattern of ``*``, ``?``, ``[abc]``, ``[!abc]``; ``[*]`` is a star. Upper and lower case differ."""
        return nodes.Glob(self._name, pattern)

    def geo_radius(self, lat: float, lon: float, meters: float) -> Filter:
        """The place is at most ``meters`` away from (lat, lon), which are in degrees."""
        return nodes.GeoRadius(self._name, lat, lon, meters)

    def geo_box(self, south: float, west: float, north: float, east: float) -> Filter:
        """The place is inside the box, borders included. All are in degrees; west > east crosses the antimeridian."""
        return nodes.GeoBox(self._name, south, west, north, east)

    def geo_polygon(self, points: Iterable) -> Filter:
        """The place is inside a polygon, borders included.

        Args:
            points: the corners in order, at least three, as (lat, lon) in degrees. Sides are straight in degrees and take the shorter way
                around the Earth.
        """
        return extended.GeoPolygon(self._name, points)

    @staticmethod
    def min_should(n: int, *conditions: Filter) -> Filter:
        """At least ``n`` of the conditions hold. In the string notation: ``MIN_SHOULD(2, a = 1, b = 2, c = 3)``."""
        return extended.MinShould(conditions, n)

    @staticmethod
    def all() -> Filter:
        """Every point. In the string notation: ``ALL``."""
        return nodes.All()

    @staticmethod
    def has_id(ids: Iterable) -> Filter:
        """The point's id is one of ``ids``."""
        return nodes.HasId(ids)

    @staticmethod
    def has_vector(field: str) -> Filter:
        """The point has a vector in the vector field."""
        return nodes.HasVector(field)

    @staticmethod
    def concept(field: str, concept: int | str) -> _ConceptOf:
        """The weight that the point has of a concept, to compare with a number: ``F.concept("codes", 17) >= 0.3``.

        In the string notation: ``CONCEPT(codes, 17) >= 0.3``. Weights are float32, so the number is rounded to float32. A point that has a
        vector in the field without the concept has 0. A point without a vector there satisfies no comparison but ``!=``.

        Args:
            field: a derived sparse field (``SAE``, ``CSR``, ``Concepts``).
            concept: the number of the concept; of ``Concepts`` also its word.
        """
        return _ConceptOf(field, concept)


def not_a_filter(value: Any) -> FilterError:
    """The error for a value that is not a filter in any notation. It says what to write."""
    hint = ""
    if isinstance(value, F):
        hint = f"; write a comparison, such as {value!r} == True"
    elif isinstance(value, (list, tuple)):
        hint = "; combine several filters with & or |"
    forms = """F('n') > 1, "n > 1" or {"op": "gt", "field": "n", "value": 1}"""
    what = f"filter must be a comparison of F, a string or a dict, such as {forms}, not {shown(value)} ({type(value).__name__}){hint}"
    return FilterError(what, field="filter", value=value)


def _match(field: str, mode: str, text: str, fuzzy: int, wildcards: bool) -> Filter:
    plain = type(fuzzy) is int and fuzzy == 0 and wildcards is False
    return nodes.Match(field, mode, text) if plain else MatchNear(field, mode, text, fuzzy, wildcards)


def to_dict(node: Filter) -> dict:
    """The JSON form of a filter: dicts, lists, strings, numbers and bools. ``from_dict`` reads it back as an equal filter."""
    if isinstance(node, (nodes.And, nodes.Or)):
        return {"op": "and" if isinstance(node, nodes.And) else "or", "filters": [to_dict(child) for child in node.children]}
    if isinstance(node, nodes.Not):
        child = node.child
        return {"op": "is_not_null", "field": child.field} if isinstance(child, nodes.IsNull) else {"op": "not", "filter": to_dict(child)}
    if isinstance(node, nodes.Compare):
        return {"op": node.op, "field": node.field, "value": _to_json(node.value)}
    if isinstance(node, extended.MinShould):
        return {"op": "min_should", "n": node.n, "filters": [to_dict(child) for child in node.children]}
    if isinstance(node, extended.AnyElement):
        return {"op": "any", "field": node.field, "filter": to_dict(node.child)}
    if isinstance(node, extended.GeoPolygon):
        return {"op": "geo_polygon", "field": node.field, "points": [list(corner) for corner in node.points]}
    if isinstance(node, extended.Fold):
        return {"op": _FOLDED[node.mode], "field": node.field, "value": node.value}
    if isinstance(node, nodes.Count):
        return {"op": "count", "field": node.field, "compare": node.op, "value": node.n}
    for op, (leaf, keys) in _LEAVES.items():
        if type(node) is leaf:
            return {"op": op, **{key: _to_json(part) for key, part in zip(keys, node._parts(), strict=True)}}
    raise FilterError(f"{shown(node)} is not a filter", field="filter", value=node)


def _to_json(value: Any) -> Any:
    if type(value) is tuple:
        return list(value) if set(map(type, value)) <= _JSON else list(map(_to_json, value))
    attribute = None if type(value) in _JSON else type_of(value)
    return value if attribute is None else {attribute.kind: attribute.to_json(value)}


_JSON = {str, int, float, bool}  # JSON has these
_FOLDED = {"eq": "ieq", "prefix": "iprefix", "contains": "icontains"}  # mode of a comparison without regard to case → op


# op → the class of the node, and the keys of its fields in order
_LEAVES: dict[str, tuple[type[Filter], tuple[str, ...]]] = {
    "in": (nodes.In, ("field", "values")),
    "between": (nodes.Between, ("field", "low", "high")),
    "is_null": (nodes.IsNull, ("field",)),
    "contains_any": (nodes.ContainsAny, ("field", "values")),
    "contains_all": (nodes.ContainsAll, ("field", "values")),
    "match": (nodes.Match, ("field", "mode", "value")),
    "match_near": (MatchNear, ("field", "mode", "value", "fuzzy", "wildcards")),
    "prefix": (nodes.Prefix, ("field", "value")),
    "glob": (nodes.Glob, ("field", "value")),
    "has_id": (nodes.HasId, ("values",)),
    "has_vector": (nodes.HasVector, ("field",)),
    "concept": (Concept, ("field", "concept", "compare", "value")),
    "geo_radius": (nodes.GeoRadius, ("field", "lat", "lon", "meters")),
    "geo_box": (nodes.GeoBox, ("field", "south", "west", "north", "east")),
    "is_missing": (extended.IsMissing, ("field",)),
    "some_not_in": (extended.SomeNotIn, ("field", "values")),
    "all": (nodes.All, ()),
    "nothing": (nodes.Nothing, ()),
}
_FORMS: dict[str, tuple[Callable[..., Filter], tuple[str, ...]]] = {
    **_LEAVES,
    **{op: (lambda field, value, op=op: nodes.Compare(field, op, value), ("field", "value")) for op in nodes.COMPARISONS},
    "count": (nodes.Count, ("field", "compare", "value")),
    **{op: (lambda field, value, mode=mode: extended.Fold(field, mode, value), ("field", "value")) for mode, op in _FOLDED.items()},
    "geo_polygon": (extended.GeoPolygon, ("field", "points")),
    "any": (extended.AnyElement, ("field", "filter")),
    "min_should": (lambda n, filters: extended.MinShould(filters, n), ("n", "filters")),
    "contains": (lambda field, value: nodes.ContainsAny(field, [value]), ("field", "value")),
    "not_in": (lambda field, values: nodes.Not(nodes.In(field, values)), ("field", "values")),
    "is_not_null": (lambda field: nodes.Not(nodes.IsNull(field)), ("field",)),
    "and": (nodes.And, ("filters",)),
    "or": (nodes.Or, ("filters",)),
    "not": (nodes.Not, ("filter",)),
}


# The op of another language, in lower case and without "$" → the op here.
_OPS_ELSEWHERE = {
    **dict.fromkeys(("gte", ">=", "=>"), "ge"),
    **dict.fromkeys(("lte", "<=", "=<"), "le"),
    **dict.fromkeys(("=", "==", "equals", "is"), "eq"),
    **dict.fromkeys(("!=", "<>", "neq", "not_equals"), "ne"),
    ">": "gt",
    "<": "lt",
    **dict.fromkeys(("nin", "notin", "not in"), "not_in"),
    **dict.fromkeys(("isin", "any_of"), "in"),
    **dict.fromkeys(("isnull", "is_none", "is_empty"), "is_null"),
    **dict.fromkeys(("notnull", "not_null", "exists"), "is_not_null"),
    "startswith": "prefix",
    **dict.fromkeys(("like", "regex"), "glob"),
    **dict.fromkeys(("nested", "elemmatch", "elem_match"), "any"),
    **{op: op for op in _FORMS},
}
# "n" of "min_should" is left out: it may be the name of a field.
_KEYS = {"op", "should", "must", "must_not", *(key for _, keys in _FORMS.values() for key in keys if key != "n")}


def from_dict(data: Any) -> Filter:
    """Read the JSON form of a filter. Raises FilterError, and LimitError if the filter is too deep or too large."""
    return _from_dict(data, 1)


def _from_dict(data: Any, depth: int) -> Filter:
    if depth > nodes.MAX_DEPTH:
        raise LimitError(f"a filter is at most {nodes.MAX_DEPTH} levels deep", field="filter", value=depth)
    if not isinstance(data, Mapping):
        raise FilterError(
            f'a filter is an object with an \'op\', not {shown(data)}; for example {{"op": "all"}}', field="filter", value=data
        )
    op = data.get("op")
    if not isinstance(op, str) or op not in _FORMS:
        if isinstance(op, str) and (meant := _OPS_ELSEWHERE.get(op.lstrip("$").lower())):
            raise FilterError(f"unknown filter op {shown(op)}; write {meant!r}", field="op", value=op)
        if "op" in data:
            what = f"unknown filter op {shown(op)}; the ops: {', '.join(_FORMS)}"
        else:
            what = f"a filter needs an 'op', and {shown(dict(data))} has none"
        raise FilterError(f"{what}. {_example(data)}", field="op", value=op)
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
            part = tuple([_from_dict(child, depth + 1) for child in _list(op, key, part, nodes.MAX_NODES)])
        elif key == "values":
            part = _list(op, key, part, nodes.MAX_VALUES)
            if dict in set(map(type, part)):
                part = list(map(_typed, part))
        elif isinstance(part, Mapping):
            part = _typed(part)
        parts.append(part)
    return make(*parts)


def _example(data: Mapping) -> str:
    """How to write a dict that is not a filter here, for example one in the notation of another database."""
    if not data:
        return 'All points are {"op": "all"}'
    field, value = next(iter(data.items()))
    if len(data) == 1 and isinstance(field, str) and not field.startswith("$") and field not in _KEYS:
        op, value = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("eq", value)
        op = str(op).lstrip("$").lower()
        op = _OPS_ELSEWHERE.get(op, op)
        if op in ("in", "not_in") and isinstance(value, (list, tuple)) and len(value) <= 5:
            return f"Write {_as_json({'op': op, 'field': field, 'values': list(value)})}"
        if op in nodes.COMPARISONS and isinstance(value, (str, int, float)):
            return f"Write {_as_json({'op': op, 'field': field, 'value': value})}"
    return 'One is {"op": "eq", "field": "package", "value": "numpy"}; they are joined by {"op": "and", "filters": […]}'


def _as_json(data: dict) -> str:
    return json.dumps(data, ensure_ascii=False)


def _list(op: str, key: str, part: Any, limit: int) -> Any:
    if not isinstance(part, (list, tuple)):
        raise FilterError(f"{key!r} of filter op {op!r} must be a list, not {shown(part)}", field=key, value=part)
    if len(part) > limit:
        raise LimitError(f"{key!r} of filter op {op!r} has {len(part)} elements, at most {limit} are allowed", field=key, value=len(part))
    return part


def _typed(value: Any) -> Any:
    """The value of a typed JSON form, such as ``{"datetime": "2021-05-01"}``. Any other value is returned unchanged."""
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((name, text),) = value.items()
        if isinstance(text, str) and name in ATTRIBUTE_TYPES and ATTRIBUTE_TYPES[name].python:
            try:
                return ATTRIBUTE_TYPES[name]().from_json(text)
            except ValueError:
                raise FilterError(f"{shown(text)} is not a {name}", field=name, value=text) from None
    raise FilterError(f'a typed value is {{"datetime": "…"}} or {{"uuid": "…"}}, not {shown(value)}', field="value", value=value)
