"""Format a canonical filter as one line for a log. Its values are included only on request, because they may be private."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectordb_client.model.filter import Filter
from vectordb_client.model.filter_nodes import All, And, GeoBox, GeoRadius, Glob, HasId, HasVector, In, IsNull, Not, Nothing, Or, Prefix

from .nodes import CountRange, MatchWords, Near, Range

SHOWN_VALUES = 10  # of a list; the others become "…"
SHOWN_CHARACTERS = 2_000


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
    if isinstance(node, All):
        return "all"
    if isinstance(node, Nothing):
        return "nothing"
    return _leaf(node, values)


def _leaf(node: Filter, values: bool) -> str:
    def one(value: Any) -> str:
        return repr(value) if values else "?"

    def many(items: Sequence[Any], what: str = "value") -> str:
        if values:
            shown = ", ".join(map(repr, items[:SHOWN_VALUES]))
            return f"({shown}{', …' if len(items) > SHOWN_VALUES else ''})"
        return f"({len(items):,} {what}{'s' * (len(items) != 1)})"

    match node:
        case In():
            return f"{node.field} in {many(node.values)}"
        case Range() | CountRange():
            name = node.field if isinstance(node, Range) else f"count({node.field})"
            if node.low is not None and node.high is not None:
                return f"{name} between {one(node.low)} and {one(node.high)}"
            return f"{name} >= {one(node.low)}" if node.high is None else f"{name} <= {one(node.high)}"
        case IsNull():
            return f"{node.field} is null"
        case MatchWords():
            return f"{node.field} match {node.mode} {many(node.words, 'word')}"
        case Near():
            how = "wildcards" if node.pattern else f"fuzzy {node.distance}"
            return f"{node.field} match {how} {one(node.words[0])}"
        case Prefix():
            return f"{node.field} startswith {one(node.value)}"
        case Glob():
            return f"{node.field} glob {one(node.pattern)}"
        case HasId():
            return f"has_id {many(node.ids, 'id')}"
        case HasVector():
            return f"has_vector({node.field})"
        case GeoRadius():
            place = f"{node.lat}, {node.lon}, {node.meters}" if values else "?"
            return f"{node.field} within radius ({place})"
        case GeoBox():
            place = f"{node.south}, {node.west}, {node.north}, {node.east}" if values else "?"
            return f"{node.field} within box ({place})"
    raise AssertionError(type(node).__name__)
