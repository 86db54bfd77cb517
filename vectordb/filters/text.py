"""Format a canonical filter as one line for a log. Its values are included only on request, because they may be private."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from vectordb_client.model.filter import Filter
from vectordb_client.model.filter_extended import Fold, GeoPolygon
from vectordb_client.model.filter_nodes import All, And, GeoBox, GeoRadius, Glob, HasId, HasVector, In, IsNull, Not, Nothing, Or, Prefix

from .nodes import AtLeast, ConceptRange, CountRange, Leaf, MatchWords, Near, Part, PathAny, PathTest, Range, TermRange, TermsOutside

SHOWN_VALUES = 10  # of a list; the others become "…"
SHOWN_CHARACTERS = 2_000


_FOLDED = {"eq": "ieq", "prefix": "istartswith", "contains": "icontains"}


def to_string(node: Filter, values: bool = False) -> str:
    """The filter as text, close to the string notation; at most ``SHOWN_CHARACTERS`` long.

    values: include the values, in stored form (a datetime in microseconds since 1970, a UUID as bytes). Otherwise a value is shown as ``?``
    and a list as its length.
    """
    text = _text(node, values)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _text(node: Filter, values: bool) -> str:
    if isinstance(node, (And, Or)):
        word = " and " if isinstance(node, And) else " or "
        return word.join(f"({_text(child, values)})" if isinstance(child, (And, Or)) else _text(child, values) for child in node.children)
    if isinstance(node, Not):
        return f"not ({_text(node.child, values)})"
    if isinstance(node, AtLeast):
        return f"min_should({', '.join([str(node.n), *[_text(child, values) for child in node.children]])})"
    if isinstance(node, PathAny):
        return f"{_name(node.field)} any ({_text(node.child, values)})"
    if isinstance(node, All):
        return "all"
    if isinstance(node, Nothing):
        return "nothing"
    return _leaf(node, values)


_PLAIN = re.compile(r"[^\W\d][\w.\-]*")


def _name(field: str) -> str:
    """A name as the string notation writes it, on one line."""
    if _PLAIN.fullmatch(field):
        return field
    return "`" + "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in field.replace("`", "``")]) + "`"


def _leaf(node: Filter, values: bool) -> str:
    field = "" if isinstance(node, HasId) else _name(cast(Leaf, node).field)

    def one(value: Any) -> str:
        return repr(value) if values else "?"

    def many(given: Iterable[Any], what: str = "value") -> str:
        items = tuple(given)
        if values:
            shown = ", ".join(map(repr, items[:SHOWN_VALUES]))
            return f"({shown}{', …' if len(items) > SHOWN_VALUES else ''})"
        return f"({len(items):,} {what}{'s' * (len(items) != 1)})"

    match node:
        case In():
            return f"{field} in {many(node.values)}"
        case Range() | CountRange():
            name = field if isinstance(node, Range) else f"count({field})"
            if node.low is not None and node.high is not None:
                return f"{name} between {one(node.low)} and {one(node.high)}"
            return f"{name} >= {one(node.low)}" if node.high is None else f"{name} <= {one(node.high)}"
        case IsNull():
            return f"{field} is null"
        case TermRange():
            low = "" if node.low is None else f"{one(node.low)} {'<' if node.low_open else '<='} "
            return f"{low}{field}" + ("" if node.high is None else f" {'<' if node.high_open else '<='} {one(node.high)}")
        case TermsOutside():
            return f"{field} some not in {many(node.values)}"
        case Part():
            return f"{field} {'icontains' if node.fold else 'contains'} {one(node.value)}"
        case Fold():
            return f"{field} {_FOLDED[node.mode]} {one(node.value)}"
        case GeoPolygon():
            return f"{field} within polygon {many(node.points, 'corner')}"
        case PathTest():
            if node.test in ("null", "missing"):
                return f"{field} is {node.test} (payload)"
            return f"{field} {node.test} {many(node.values)} (payload)"
        case MatchWords():
            return f"{field} match {node.mode} {many(node.words, 'word')}"
        case Near():
            how = "wildcards" if node.pattern else f"fuzzy {node.distance}"
            return f"{field} match {how} {one(node.words[0])}"
        case Prefix():
            return f"{field} startswith {one(node.value)}"
        case Glob():
            return f"{field} glob {one(node.pattern)}"
        case HasId():
            return f"has_id {many(node.ids, 'id')}"
        case HasVector():
            return f"has_vector({field})"
        case ConceptRange():
            name = f"concept({field}, {node.term})"
            low, high = ("" if np.isinf(bound) else one(bound) for bound in (node.low, node.high))
            if low and high:
                return f"{name} between {low} and {high}"
            return f"{name} >= {low}" if low else f"{name} <= {high}"
        case GeoRadius():
            place = f"{node.lat}, {node.lon}, {node.meters}" if values else "?"
            return f"{field} within radius ({place})"
        case GeoBox():
            place = f"{node.south}, {node.west}, {node.north}, {node.east}" if values else "?"
            return f"{field} within box ({place})"
    raise AssertionError(type(node).__name__)
