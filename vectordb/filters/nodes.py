"""Node types that occur only in canonical filters. Their values are in stored form (``vectordb_client.model.values``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectordb_client.model.filter_nodes import And, ContainsAll, ContainsAny, Filter, HasId, In, Match, Not, Or
from vectordb_client.model.filter_words import MatchNear

from ..common.tokenize import words


@dataclass(frozen=True, eq=False)
class Range(Filter):
    """The value (of an array: some element) is in [low, high]. A bound of None is open; at most one is."""

    field: str
    low: int | float | None
    high: int | float | None


@dataclass(frozen=True, eq=False)
class CountRange(Filter):
    """The length of an array is in [low, high]. A bound of None is open. A missing array has length 0."""

    field: str
    low: int | None
    high: int | None


@dataclass(frozen=True, eq=False)
class MatchWords(Filter):
    """A text contains ``words`` (at least one). mode "all": every word (of an array: all in the same element); ``words`` is sorted. mode
    "phrase": the words in this order, one after the other.

    A node of one word has mode "all". Several words with mode "all" occur for arrays only; for a scalar each word has a node of its own.
    """

    field: str
    mode: str
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Near(Filter):
    """A text contains a word near one of a query. words: the word and, if it differs, its stem; of a pattern, the pattern. distance: the
    largest edit distance.
    """

    field: str
    words: tuple[str, ...]
    distance: int
    pattern: bool


def make(kind: type[Filter], **fields: Any) -> Filter:
    """A node, made without the checks of its constructor: canonical values are in stored form, and may outnumber what users may give."""
    node = object.__new__(kind)
    node.__dict__.update(fields)
    return node


def weight(node: Filter) -> int:
    """The size of a filter: the number of its nodes, where a list counts once for each value and a match once for each word."""
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
        elif kind is MatchNear:
            total += max(len(one.text.split()), 1)
        elif kind is Match:
            total += max(len(words(one.text)), 1)
        elif kind is MatchWords:
            total += len(one.words)
        else:
            total += 1
    return total
