"""The nodes that only canonical filters have. Values in them are stored forms (``vectordb_client.values``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectordb_client.filter import And, ContainsAll, ContainsAny, Filter, HasId, In, Match, Not, Or

from ..words import words


@dataclass(frozen=True, eq=False)
class Range(Filter):
    """A value (of an array: one element) lies in ``low … high``, both included; None is open. Never open on both sides."""

    field: str
    low: int | float | None
    high: int | float | None


@dataclass(frozen=True, eq=False)
class CountRange(Filter):
    """An array's length lies in ``low … high``, both included; None is open. An absent array has length 0."""

    field: str
    low: int | None
    high: int | None


@dataclass(frozen=True, eq=False)
class MatchWords(Filter):
    """A text holds ``words`` (at least one). mode "all": each of them, sorted; of an array, all in one element. "phrase": in sequence.

    One word always has mode "all". Several words with mode "all" stand for arrays only: elsewhere they become one node each.
    """

    field: str
    mode: str
    words: tuple[str, ...]


def make(kind: type[Filter], **fields: Any) -> Filter:
    """A node without the checks and limits of what users give: canonical values are stored forms, and may be more."""
    node = object.__new__(kind)
    node.__dict__.update(fields)
    return node


def weight(node: Filter) -> int:
    """How much a filter says: its nodes, a list counted by its values and a match by its words."""
    total, waiting = 0, [node]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is And or kind is Or:
            total += 1
            waiting.extend(one.children)
        elif kind is Not:
            total += 1
            waiting.append(one.child)
        elif kind is In or kind is ContainsAny or kind is ContainsAll:
            total += max(len(one.values), 1)
        elif kind is HasId:
            total += max(len(one.ids), 1)
        elif kind is Match:
            total += max(len(words(one.text)), 1)
        elif kind is MatchWords:
            total += len(one.words)
        else:
            total += 1
    return total
