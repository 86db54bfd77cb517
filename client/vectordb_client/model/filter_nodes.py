"""The nodes of a filter: frozen, hashable, and checked when they are created. ``filter.py`` builds them.

A filter is a set of points. A comparison on an array holds when one element satisfies it, nothing compares with null, and
NOT is the complement: ``F("x") != 3`` holds for points where x is null.

Nodes are equal if their values *and the types of their values* are equal: ``F("x") == 1`` and ``F("x") == True`` differ, so that a
cache keyed by a filter can't confuse their answers.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from ..errors import FilterError, InvalidArgumentError, LimitError, shown
from .attributes import type_of
from .foreign import is_null, listed, plain
from .moments import microseconds, moment_at
from .values import check_id

MAX_DEPTH = 100
MAX_NODES = 10_000
MAX_VALUES = 1_000_000
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
MODES = ("any", "all", "phrase")
_DEPTH, _SIZE = attrgetter("depth"), attrgetter("size")
_EXACT = frozenset((str, bool, int, uuid.UUID))  # need no conversion
PARENTHESES = "put each comparison in parentheses: & and | bind tighter than comparisons"


class Filter:
    """A filter: the base class of all nodes. Combine filters with ``&``, ``|`` and ``~``.

    Attributes:
        depth: the levels of the tree, at most 100, so that a recursive walk can't overflow the stack.
        size: the nodes of the tree, at most 10,000.
    """

    __array_ufunc__ = None  # so that numpy doesn't take over & and |
    depth: ClassVar[int] = 1
    size: ClassVar[int] = 1
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __and__(self, other: Any) -> Filter:
        return _pair(And, self, operand(other))

    def __rand__(self, other: Any) -> Filter:
        return _pair(And, operand(other), self)

    def __or__(self, other: Any) -> Filter:
        return _pair(Or, self, operand(other))

    def __ror__(self, other: Any) -> Filter:
        return _pair(Or, operand(other), self)

    def __invert__(self) -> Filter:
        return Not(self)

    def __bool__(self) -> bool:
        raise FilterError("a filter has no truth value: combine filters with & | ~ (not and, or, not, nor a < F(x) < b: use between)")

    def _parts(self) -> tuple:
        cached = self.__dict__.get("_cached_parts")
        if cached is None:
            cached = self.__dict__["_cached_parts"] = tuple([getattr(self, name) for name in self.__match_args__])
        return cached

    def _types(self) -> Any:
        return None

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return hash(self) == hash(other) and self._parts() == other._parts() and self._types() == other._types()

    def __hash__(self) -> int:
        cached = self.__dict__.get("_hash")
        if cached is None:
            cached = self.__dict__["_hash"] = hash((type(self).__name__, *self._parts()))
        return cached

    def __getstate__(self) -> dict:
        # Strings hash differently in each process.
        return {name: value for name, value in self.__dict__.items() if name not in ("_hash", "_cached_parts")}

    def _set(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def join(kind: type[And] | type[Or], filters: Iterable[Filter]) -> Filter:
    """``And`` or ``Or`` of filters. Members of the same kind are merged; a single filter is returned as it is. Raises LimitError."""
    children: list[Filter] = []
    for child in filters:
        children.extend(child.children if type(child) is kind else (child,))
    return children[0] if len(children) == 1 else kind(tuple(children))


def _pair(kind: type[And] | type[Or], one: Filter, other: Filter) -> Filter:
    """``join`` of two filters in constant time, so that filters can be built in a loop."""
    children, depth, size = (), 0, 1
    for side in (one, other):
        same = type(side) is kind
        children += side.children if same else (side,)
        depth, size = max(depth, side.depth + (not same)), size + side.size - same
    if len(children) == 1:
        return children[0]
    node = object.__new__(kind)
    node._set(children=children)
    _limited(node, depth, size)
    return node


def operand(other: Any) -> Filter:
    """Check the operand of ``&``, ``|`` or ``~``. Raises FilterError."""
    if isinstance(other, Filter):
        return other
    raise FilterError(f"a filter can't be combined with {shown(other)} ({type(other).__name__}); {PARENTHESES}", value=other)


def check_field(name: Any) -> str:
    """Check the name of a field. Raises FilterError."""
    if type(name) is str and name:
        return name
    raise FilterError(f"a filter's field must be a non-empty string, not {shown(name)}", field="field", value=name)


def _choice(field: str, what: str, value: Any, choices: tuple) -> None:
    if not isinstance(value, str) or value not in choices:
        raise FilterError(f"{what} of {field!r} must be one of {', '.join(choices)}, not {shown(value)}", field=field, value=value)


def _value(field: str, value: Any) -> Any:
    """One value as str, bool, int, finite float, datetime in UTC, UUID, or a value of another type of attributes.

    Years that datetime can't represent are datetime64[us].

    Raises FilterError.
    """
    kind = type(value)
    if kind in _EXACT:
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        hint = "; for null use is_null or is_not_null" if value != value else ""
        raise FilterError(f"{field!r} can't be compared with {value}: numbers must be finite{hint}", field=field, value=value)
    if is_null(value):
        given = "null" if value is None else f"{shown(value)}, which is null"
        what = f"{field!r} can't be compared with {given}; use is_null or is_not_null (IS NULL, IS NOT NULL)"
        raise FilterError(what, field=field, value=value)
    value = plain(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime) or (isinstance(value, np.datetime64) and not np.isnat(value)):
        try:
            return moment_at(microseconds(value))
        except Exception as error:  # of a time zone or a kind of datetime that isn't Python's
            raise FilterError(f"{field!r} can't be compared with {shown(value)}: not a moment in time", field=field, value=value) from error
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        return _value(field, float(value) if isinstance(value, np.floating) else value.item())
    for base, convert in _SUBCLASSES:
        if isinstance(value, base):
            return _value(field, convert(value))
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        raise FilterError(
            f"{field!r} is compared with one value, not {shown(value)}; "
            "for several: isin, contains_any, contains_all; for places: geo_radius, geo_box",
            field=field,
            value=value,
        )
    if type_of(value) is not None:
        return value
    raise FilterError(
        f"{field!r} can't be compared with {shown(value)} ({type(value).__name__}): give a string, number, bool, date, datetime or UUID",
        field=field,
        value=value,
    )


# Subclasses of the plain types, such as an enum of strings, become the plain type.
_SUBCLASSES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (uuid.UUID, lambda given: uuid.UUID(int=given.int)),
)


def _column(field: str, values: Any) -> Any:
    if hasattr(values, "__next__"):
        return listed(values)  # errors of the caller's own iterator reach the caller unchanged
    try:
        return listed(values)
    except Exception as error:  # of an object of another library
        raise FilterError(f"the values for {field!r} can't be read: {error}", field=field, value=values) from error


def _values(field: str, values: Any, limit: int = MAX_VALUES) -> tuple:
    given = values if isinstance(values, (set, frozenset)) else _column(field, values)
    if given is None:
        what = f"{field!r} needs a list of values, not {shown(values)}; write [{shown(values)}]"
        raise FilterError(what, field=field, value=values)
    values = tuple(given)
    if len(values) > limit:
        raise LimitError(f"{field!r} is compared with {len(values)} values, at most {limit} are allowed", field=field, value=len(values))
    kinds = set(map(type, values))
    if kinds <= _EXACT or (kinds <= _EXACT | {float} and all(math.isfinite(v) for v in values if type(v) is float)):
        return values
    return tuple([_value(field, value) for value in values])


def _number(field: str, what: str, value: Any, low: float, high: float) -> float:
    value = _value(field, value)
    if type(value) not in (int, float) or not low <= value <= high:
        bounds = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number, at least {low:g}"
        raise FilterError(f"{what} of {field!r} must be {bounds}, not {shown(value)}", field=field, value=value)
    try:
        return float(value) + 0.0
    except OverflowError:
        raise FilterError(f"{what} of {field!r} doesn't fit a 64-bit float", field=field, value=value) from None


def text_value(field: str, value: Any) -> str:
    value = _value(field, value)
    if type(value) is not str:
        raise FilterError(f"{field!r} needs a string, not {shown(value)} ({type(value).__name__})", field=field, value=value)
    return value


@dataclass(frozen=True, eq=False)
class Compare(Filter):
    """A comparison with ``value``. op: eq, ne, lt, le, gt, ge. ``ne`` is the complement of ``eq``."""

    field: str
    op: str
    value: Any

    def __post_init__(self):
        _choice(check_field(self.field), "comparison", self.op, COMPARISONS)
        self._set(value=_value(self.field, self.value))

    def _types(self):
        return type(self.value)


@dataclass(frozen=True, eq=False)
class _Listed(Filter):
    field: str
    values: Iterable[Any]  # a tuple after the check
    limit: ClassVar[int] = MAX_VALUES

    def __post_init__(self):
        self._set(values=_values(check_field(self.field), self.values, self.limit))

    def _types(self):
        return [*map(type, self.values)]


class In(_Listed):
    """A value is one of ``values``."""


class _Contains(_Listed):
    def __post_init__(self):
        super().__post_init__()
        if not self.values:
            raise FilterError(f"the list of values that {self.field!r} contains must not be empty", field=self.field, value=self.values)


class ContainsAny(_Contains):
    """At least one of ``values`` is an element of the array."""


class ContainsAll(_Contains):
    """All of ``values`` are elements of the array."""

    limit = MAX_NODES  # each value becomes a node of its own


@dataclass(frozen=True, eq=False)
class Between(Filter):
    """``low <= value <= high``. For an array, one element lies in the range."""

    field: str
    low: Any
    high: Any

    def __post_init__(self):
        self._set(low=_value(check_field(self.field), self.low), high=_value(self.field, self.high))

    def _types(self):
        return type(self.low), type(self.high)


@dataclass(frozen=True, eq=False)
class IsNull(Filter):
    """The point has no value. An empty array is a value."""

    field: str

    def __post_init__(self):
        check_field(self.field)


@dataclass(frozen=True, eq=False)
class Count(Filter):
    """A comparison of the number of values with ``n``: the length of an array, 1 for a scalar, 0 for null."""

    field: str
    op: str
    n: int

    def __post_init__(self):
        _choice(check_field(self.field), "comparison", self.op, COMPARISONS)
        self._set(n=_value(self.field, self.n))
        if type(self.n) is not int:
            raise FilterError(
                f"the count of {self.field!r} is compared with an integer, not {shown(self.n)}", field=self.field, value=self.n
            )


@dataclass(frozen=True, eq=False)
class Match(Filter):
    """The text contains any of the words of ``text``, all of them, or the phrase. A ``text`` without words matches no point."""

    field: str
    mode: str
    text: str

    def __post_init__(self):
        _choice(check_field(self.field), "mode", self.mode, MODES)
        self._set(text=text_value(self.field, self.text))


@dataclass(frozen=True, eq=False)
class Prefix(Filter):
    """The keyword starts with ``value``."""

    field: str
    value: str

    def __post_init__(self):
        self._set(value=text_value(check_field(self.field), self.value))


@dataclass(frozen=True, eq=False)
class Glob(Filter):
    """The whole keyword matches ``pattern``: ``*``, ``?``, ``[abc]``, ``[!abc]``; ``[*]`` is a star. Upper and lower case differ."""

    field: str
    pattern: str

    def __post_init__(self):
        self._set(pattern=text_value(check_field(self.field), self.pattern))


@dataclass(frozen=True, eq=False)
class HasId(Filter):
    """The point's id is one of ``ids``."""

    ids: Iterable[Any]  # a tuple after the check

    def __post_init__(self):
        ids = _values("id", self.ids)
        if not (set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) < 2**64):
            try:
                ids = tuple(map(check_id, ids))
            except InvalidArgumentError as error:
                raise FilterError(f"has_id: {error.message}", field="id", value=error.value) from None
        self._set(ids=ids)

    def _types(self):
        return [*map(type, self.ids)]


@dataclass(frozen=True, eq=False)
class HasVector(Filter):
    """The point has a vector in the vector field."""

    field: str

    def __post_init__(self):
        check_field(self.field)


@dataclass(frozen=True, eq=False)
class GeoRadius(Filter):
    """The place is at most ``meters`` away from (lat, lon), which are in degrees."""

    field: str
    lat: float
    lon: float
    meters: float

    def __post_init__(self):
        lat, lon = _number(check_field(self.field), "lat", self.lat, -90, 90), _number(self.field, "lon", self.lon, -180, 180)
        self._set(lat=lat, lon=lon, meters=_number(self.field, "meters", self.meters, 0, math.inf))


@dataclass(frozen=True, eq=False)
class GeoBox(Filter):
    """The place is inside the box, borders included. In degrees; west > east crosses the antimeridian."""

    field: str
    south: float
    west: float
    north: float
    east: float

    def __post_init__(self):
        south, north = (_number(check_field(self.field), side, getattr(self, side), -90, 90) for side in ("south", "north"))
        west, east = (_number(self.field, side, getattr(self, side), -180, 180) for side in ("west", "east"))
        if south > north:
            raise FilterError(f"south {south:g} of {self.field!r} must not exceed north {north:g}", field=self.field, value=south)
        self._set(south=south, west=west, north=north, east=east)


@dataclass(frozen=True, eq=False)
class _Joined(Filter):
    children: tuple

    def __post_init__(self):
        children = tuple(self.children)
        for kind in set(map(type, children)):
            if not issubclass(kind, Filter):
                operand(next(child for child in children if type(child) is kind))
        _measure(self, children)
        self._set(children=children)


class And(_Joined):
    """Every child matches. Without children: all points."""


class Or(_Joined):
    """At least one child matches. Without children: no point."""


@dataclass(frozen=True, eq=False)
class Not(Filter):
    """The complement of the child."""

    child: Filter

    def __post_init__(self):
        _measure(self, (operand(self.child),))


def _measure(node: Filter, children: tuple) -> None:
    _limited(node, 1 + max(map(_DEPTH, children), default=0), 1 + sum(map(_SIZE, children)))


def _limited(node: Filter, depth: int, size: int) -> None:
    if depth > MAX_DEPTH:
        raise LimitError(f"a filter is at most {MAX_DEPTH} levels deep", field="filter", value=depth)
    if size > MAX_NODES:
        raise LimitError(
            f"a filter has at most {MAX_NODES} conditions; for many values of one field use isin (IN)", field="filter", value=size
        )
    node._set(depth=depth, size=size)


@dataclass(frozen=True, eq=False)
class All(Filter):
    """All points."""


@dataclass(frozen=True, eq=False)
class Nothing(Filter):
    """No point."""
