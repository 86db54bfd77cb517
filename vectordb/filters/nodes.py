"""Node types that occur only in canonical filters. Their values are in stored form (``vectordb_client.model.values``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from vectordb_client.model.filter_extended import AnyElement, Fold, GeoPolygon, MinShould, SomeNotIn
from vectordb_client.model.filter_nodes import (
    And,
    ContainsAll,
    ContainsAny,
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
    Or,
    Prefix,
)
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
class TermRange(Filter):
    """The keyword (of an array: some element) is in the range, by code points. A bound of None is open; at most one is.

    low_open, high_open: the bound itself is not in the range.
    """

    field: str
    low: str | None
    high: str | None
    low_open: bool
    high_open: bool


@dataclass(frozen=True, eq=False)
class TermsOutside(Filter):
    """Some element of an array of keywords or UUIDs is none of ``values`` (sorted)."""

    field: str
    values: tuple


@dataclass(frozen=True, eq=False)
class ConceptRange(Filter):
    """The weight of a term of a derived sparse field is in [low, high], both float32 values. A row with a vector without the term has 0."""

    field: str
    term: int
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Part(Filter):
    """A text contains ``value``. fold: without regard to case; then ``value`` is case-folded."""

    field: str
    value: str
    fold: bool


@dataclass(frozen=True, eq=False)
class PathTest(Filter):
    """A test of the values at a path of the payload. field: keys joined by dots. Arrays are looked into at any depth.

    test, values:
        in: a value equals one of ``values``. outside: a value of a type that JSON has beside null, objects and arrays equals none of them.
        range: (low, high, low_open, high_open), both numbers or both strings; a bound of None is open.
        null: there is no value but null. missing: there is not even a null.
        count: (low, high): so many values, counting the elements of an array; a bound of None is open.
        prefix, glob: (text,). fold: (mode, case-folded text). match: (mode, word, …).
        radius: (lat, lon, meters). box: (south, west, north, east). polygon: corners, each (lat, lon). Of objects with "lat" and "lon".
    """

    field: str
    test: str
    values: tuple

    def _types(self):
        return [*map(type, self.values)]


@dataclass(frozen=True, eq=False)
class PathAny(Filter):
    """One object at a path of the payload matches ``child``, a canonical filter of paths inside of it."""

    field: str
    child: Filter


@dataclass(frozen=True, eq=False)
class AtLeast(Filter):
    """At least ``n`` of the children, which are canonical, match. 1 < n < number of children. Equal children count each."""

    n: int
    children: tuple


@dataclass(frozen=True, eq=False)
class Near(Filter):
    """A text contains a word near one of a query. words: the word and, if it differs, its stem; of a pattern, the pattern. distance: the
    largest edit distance.
    """

    field: str
    words: tuple[str, ...]
    distance: int
    pattern: bool


# The leaves of a canonical filter that test a field: all but HasId.
Leaf = (
    In
    | Range
    | IsNull
    | CountRange
    | TermRange
    | TermsOutside
    | Prefix
    | Glob
    | Fold
    | MatchWords
    | Near
    | Part
    | HasVector
    | ConceptRange
    | GeoBox
    | GeoRadius
    | GeoPolygon
    | PathTest
    | PathAny
)
Joining = type[And] | type[Or]
Node = TypeVar("Node", bound=Filter)


def make(kind: type[Node], **fields: Any) -> Node:
    """A node, made without the checks of its constructor: canonical values are in stored form, and may outnumber what users may give."""
    node = object.__new__(kind)
    node.__dict__.update(fields)
    return node


def weight(node: Filter) -> int:
    """The size of a filter: the number of its nodes, where a list counts once for each value and a match once for each word."""
    total, waiting = 0, [node]
    while waiting:
        one = waiting.pop()
        if type(one) is And or type(one) is Or or type(one) is MinShould or type(one) is AtLeast:
            total += 1
            waiting.extend(one.children)
        elif type(one) is Not or type(one) is AnyElement or type(one) is PathAny:
            total += 1
            waiting.append(one.child)
        elif isinstance(one, (In, ContainsAny, ContainsAll, SomeNotIn, TermsOutside, PathTest)):
            # Declared as an iterable, for users; after the check a tuple, which tuple() returns as it is.
            total += max(len(tuple(one.values)), 1)
        elif type(one) is HasId:
            total += max(len(tuple(one.ids)), 1)
        elif type(one) is MatchNear:
            total += max(len(one.text.split()), 1)
        elif type(one) is Match:
            total += max(len(words(one.text)), 1)
        elif type(one) is MatchWords:
            total += len(one.words)
        else:
            total += 1
    return total


@lru_cache(maxsize=256)
def both(node: Filter | None, other: Filter) -> Filter:
    """The canonical filter of rows that match both. Equal arguments give the same object, by whose identity prepared arms are cached."""
    if node is None:
        return other
    parts = [each for part in (node, other) for each in (part.children if type(part) is And else (part,))]
    return make(And, children=tuple(dict.fromkeys(parts)))
