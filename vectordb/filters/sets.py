"""Sets of values: any filter on one attribute is equivalent to one.

Int, float, datetime and bool values are ordered. A set of them is stored as its maximal runs of neighbouring values: a pair of sorted
tuples (lows, highs). Floats have neighbours too (``math.nextafter``), so ``x < 3 OR x >= 3`` is the full set. Keywords and UUIDs are
unordered: a set of them is stored as (values, inverted). Every set has exactly one representation, so equal sets compare equal.

A scalar attribute has one value or is null. Every combination of comparisons by AND, OR and NOT is a set of values, with or without null:
``Scalar``. An array has several values. "Some element is in A" OR "some element is in B" is "some element is in A ∪ B", but AND has no such
rule: ``Elements``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.filter_nodes import And, Filter, HasId, In, IsNull, Not, Or

from .nodes import CountRange, Joining, Range, make

LISTED = 64  # in a set of several runs, a run of fewer integers than this is written as a list of values, a longer one as a Range
_VECTORIZE = 64  # values from which on numpy is faster than Python's sets

Runs = tuple[tuple, tuple]


class Ordered:
    """Sets of runs over an ordered domain [low, high], in which each value has a successor and a predecessor, except at the ends."""

    never_null = False

    def __init__(self, name: str, low: Any, high: Any, dtype: Any):
        self.name, self.low, self.high, self.dtype = name, low, high, dtype
        self.empty: Runs = ((), ())
        self.full: Runs = ((low,), (high,))

    def after(self, value: Any) -> Any:
        return value + 1

    def before(self, value: Any) -> Any:
        return value - 1

    def of(self, values: Sequence) -> Runs:
        """The set of some values, given in any order, possibly repeated."""
        if len(values) == 1:
            return (values[0],), (values[0],)
        if len(values) < _VECTORIZE:
            return self._swept(zip(unique := sorted(set(values)), unique, strict=True))
        ordered = np.sort(np.array(values, self.dtype))
        unique = ordered[np.r_[True, ordered[1:] != ordered[:-1]]]
        cuts = np.flatnonzero(unique[1:] != self.after(unique[:-1])) + 1
        if len(cuts) == len(unique) - 1:
            points = tuple(unique.tolist())
            return points, points
        return tuple(unique[np.r_[0, cuts]].tolist()), tuple(unique[np.r_[cuts - 1, len(unique) - 1]].tolist())

    def between(self, low: Any, high: Any) -> Runs:
        low, high = max(low, self.low), min(high, self.high)
        return ((low,), (high,)) if low <= high else self.empty

    def _swept(self, pairs: Iterable[tuple]) -> Runs:
        lows, highs, edge = [], [], None
        for low, high in pairs:
            if lows and low <= edge:
                if high > highs[-1]:
                    highs[-1] = high
                    edge = self.after(high)
            else:
                lows.append(low)
                highs.append(high)
                edge = self.after(high)
        return tuple(lows), tuple(highs)

    def union(self, sets: Sequence[Runs]) -> Runs:
        return self._swept(sorted(pair for lows, highs in sets for pair in zip(lows, highs, strict=True)))

    def intersection(self, sets: Sequence[Runs]) -> Runs:
        if all(len(lows) == 1 for lows, _ in sets):
            return self.between(max(lows[0] for lows, _ in sets), min(highs[0] for _, highs in sets))
        if all(lows == highs for lows, highs in sets):
            points = tuple(sorted(set(sets[0][0]).intersection(*[lows for lows, _ in sets[1:]])))
            return points, points
        if len(sets) > 2:  # by De Morgan: one sort. Intersecting pair by pair takes quadratic time for thousands of "x != 1"
            return self.complement(self.union([self.complement(runs) for runs in sets]))
        (lows, highs), (other_lows, other_highs) = sets
        common_lows, common_highs = [], []
        i = j = 0
        while i < len(lows) and j < len(other_lows):
            low, high = max(lows[i], other_lows[j]), min(highs[i], other_highs[j])
            if low <= high:
                common_lows.append(low)
                common_highs.append(high)
            if highs[i] < other_highs[j]:
                i += 1
            else:
                j += 1
        return tuple(common_lows), tuple(common_highs)

    def complement(self, runs: Runs) -> Runs:
        lows = [self.low, *map(self.after, runs[1])]
        highs = [*map(self.before, runs[0]), self.high]
        first, last = bool(runs[0]) and runs[0][0] == self.low, bool(runs[1]) and runs[1][-1] == self.high
        return tuple(lows[first : len(lows) - last]), tuple(highs[first : len(highs) - last])

    def ends(self, runs: Runs) -> int:
        """How many ends of the domain are in the set. With 2, the complement is the shorter description."""
        return (runs[0][0] == self.low) + (runs[1][-1] == self.high) if runs[0] else 0

    def nodes(self, field: str, runs: Runs) -> list[Filter]:
        """The nodes whose union is the set. One run: a Range. Several runs: a Range for each long run and one In for all other values."""
        lows, highs = runs
        if lows == highs:
            return [make(In, field=field, values=lows)]
        if len(lows) == 1:
            return [self._range(field, lows[0], highs[0])]
        listed, ranges = [], []
        for low, high in zip(lows, highs, strict=True):
            if low == high:
                listed.append(low)
            elif self.is_short(low, high):
                listed.extend(range(low, high + 1))
            else:
                ranges.append(self._range(field, low, high))
        return [make(In, field=field, values=tuple(listed)), *ranges] if listed else ranges

    def is_short(self, low: Any, high: Any) -> bool:
        return high - low < LISTED - 1

    def _range(self, field: str, low: Any, high: Any) -> Filter:
        return make(Range, field=field, low=None if low == self.low else low, high=None if high == self.high else high)


class _Floats(Ordered):
    def after(self, value: Any) -> Any:
        return (math.nextafter(value, math.inf) if type(value) is float else np.nextafter(value, np.inf)) + 0.0  # never −0.0

    def before(self, value: float) -> float:
        return math.nextafter(value, -math.inf) + 0.0

    def is_short(self, low: float, high: float) -> bool:
        return False


class _Bools(Ordered):
    def nodes(self, field: str, runs: Runs) -> list[Filter]:
        return [make(In, field=field, values=(bool(runs[0][0]),))]


class _Counts(Ordered):
    never_null = True

    def nodes(self, field: str, runs: Runs) -> list[Filter]:
        return [
            make(CountRange, field=field, low=None if low == self.low else low, high=None if high == self.high else high)
            for low, high in zip(*runs, strict=True)
        ]


class Unordered:
    """Sets of an unordered domain as (values, inverted): these values, or (inverted) all values except these."""

    never_null = False

    def __init__(self, name: str):
        self.name = name
        self.empty = (frozenset(), False)
        self.full = (frozenset(), True)

    def of(self, values: Iterable) -> tuple:
        return frozenset(values), False

    def union(self, sets: Sequence[tuple]) -> tuple:
        some = [values for values, inverted in sets if not inverted]
        without = [values for values, inverted in sets if inverted]
        if not without:
            return frozenset().union(*some), False
        return frozenset.intersection(*without).difference(*some), True

    def intersection(self, sets: Sequence[tuple]) -> tuple:
        return self.complement(self.union([self.complement(each) for each in sets]))

    def complement(self, one: tuple) -> tuple:
        return one[0], not one[1]

    def ends(self, one: tuple) -> int:
        return 2 if one[1] else 0

    def nodes(self, field: str, one: tuple) -> list[Filter]:
        return [make(In, field=field, values=tuple(sorted(one[0])))]


class _Ids(Unordered):
    never_null = True

    def nodes(self, field: str, one: tuple) -> list[Filter]:
        kinds: dict[type, list] = {int: [], str: []}
        for value in one[0]:
            kinds.setdefault(type(value), []).append(value)
        return [make(HasId, ids=tuple(value for each in kinds.values() for value in sorted(each)))]


INTS = Ordered("int", -(2**63), 2**63 - 1, np.int64)
FLOATS = _Floats("float", -np.finfo(np.float64).max.item(), np.finfo(np.float64).max.item(), np.float64)
BOOLS = _Bools("bool", 0, 1, np.int64)
COUNTS = _Counts("count", 0, 2**63 - 1, np.int64)
KEYWORDS = Unordered("keyword")
IDS = _Ids("id")
# stored form (``AttributeType.stored``) → domain, of the forms that are compared as a whole
DOMAINS = {"int64": INTS, "float64": FLOATS, "flag": BOOLS, "string": KEYWORDS, "uuid": KEYWORDS}


class Scalar:
    """The rows whose value is in a set and, if ``null``, those without a value. Also used for the count of an array and for the id, which
    are never null.
    """

    __slots__ = ("_hash", "_outside", "domain", "field", "key", "null", "values")

    def __init__(self, field: str, domain: Any, values: Any, null: bool):
        self.field, self.domain, self.values = field, domain, values
        self.null = domain.ends(values) == 2 if domain.never_null else null
        self.key = (field, domain.name)
        self._hash = self._outside = None

    def __hash__(self):
        if self._hash is None:
            self._hash = hash((self.key, self.values, self.null))
        return self._hash

    def __eq__(self, other):
        return type(other) is Scalar and (self.key, self.null, self.values) == (other.key, other.null, other.values)

    def flip(self) -> Scalar:
        flipped = Scalar(self.field, self.domain, self.outside, not self.null)
        flipped._outside = self.values
        return flipped

    @property
    def outside(self) -> Any:
        """The complement of ``values``."""
        if self._outside is None:
            self._outside = self.domain.complement(self.values)
        return self._outside

    def reduced(self) -> Scalar | bool:
        """True if it matches all rows, False if none, else itself."""
        if self.values == (self.domain.full if self.null else self.domain.empty):
            return self.null
        return self

    @staticmethod
    def merged(kind: Joining, group: list[Scalar]) -> Scalar | bool:
        first, sets = group[0], [each.values for each in group]
        if kind is And:
            return Scalar(first.field, first.domain, first.domain.intersection(sets), all(each.null for each in group)).reduced()
        return Scalar(first.field, first.domain, first.domain.union(sets), any(each.null for each in group)).reduced()

    def nodes(self) -> tuple[Joining, list[Filter]]:
        """(And or Or, the nodes to join by it): the set, or the negation of its complement, whichever contains fewer ends of the domain."""
        domain, values = self.domain, self.values
        if values in (domain.empty, domain.full):
            node = IsNull(self.field)
            return Or, [node if self.null else Not(node)]
        if domain.ends(values) > (0 if self.null else 1):
            nodes: list[Filter] = [Not(node) for node in domain.nodes(self.field, self.outside)]
            return And, nodes if self.null else [*nodes, Not(IsNull(self.field))]
        nodes = domain.nodes(self.field, values)
        return Or, [*nodes, IsNull(self.field)] if self.null and not domain.never_null else nodes


class Elements:
    """The rows with some element in a set; negated: all other rows. The set is neither empty nor full: see ``elements``."""

    __slots__ = ("_hash", "domain", "field", "key", "negated", "values")

    def __init__(self, field: str, domain: Any, values: Any, negated: bool):
        self.field, self.domain, self.values, self.negated = field, domain, values, negated
        self.key = (field, "elements")
        self._hash = None

    def __hash__(self):
        if self._hash is None:
            self._hash = hash((self.key, self.values, self.negated))
        return self._hash

    def __eq__(self, other):
        return type(other) is Elements and (self.key, self.negated, self.values) == (other.key, other.negated, other.values)

    def flip(self) -> Elements:
        return Elements(self.field, self.domain, self.values, not self.negated)

    @staticmethod
    def merged(kind: Joining, group: list[Elements]) -> Elements | Scalar | bool:
        """The Or of conditions, or the And of negated ones: either is one condition on the union of their sets."""
        first = group[0]
        return elements(first.field, first.domain, first.domain.union([each.values for each in group]), first.negated)

    def nodes(self) -> tuple[Joining, list[Filter]]:
        nodes = self.domain.nodes(self.field, self.values)
        return (And, [Not(node) for node in nodes]) if self.negated else (Or, nodes)


def elements(field: str, domain: Any, values: Any, negated: bool = False) -> Elements | Scalar | bool:
    """An ``Elements``; of the empty set False, of the full set the condition that the array isn't empty. negated: the opposite of those."""
    if values == domain.empty:
        return negated
    if values == domain.full:
        return Scalar(field, COUNTS, COUNTS.between(0, 0) if negated else COUNTS.between(1, COUNTS.high), False)
    return Elements(field, domain, values, negated)
