"""More nodes of a filter: elements of arrays, letters without regard to case, areas, and how many of several conditions hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import FilterError, LimitError, shown
from .filter_nodes import Filter, _choice, _column, _Joined, _Listed, _measure, _number, _value, check_field, operand, text_value

FOLDED = ("eq", "prefix", "contains")
MAX_CORNERS = 10_000


@dataclass(frozen=True, eq=False)
class IsMissing(Filter):
    """The point's payload doesn't have the key at all, so that there isn't a null either. Of an attribute the same as ``IsNull``."""

    field: str

    def __post_init__(self):
        check_field(self.field)


@dataclass(frozen=True, eq=False)
class Fold(Filter):
    """A comparison of strings without regard to case (Unicode's case folding). mode: eq, prefix, contains."""

    field: str
    mode: str
    value: str

    def __post_init__(self):
        _choice(check_field(self.field), "mode", self.mode, FOLDED)
        self._set(value=text_value(self.field, self.value))


class SomeNotIn(_Listed):
    """At least one element is none of ``values``."""


@dataclass(frozen=True, eq=False)
class GeoPolygon(Filter):
    """The place is inside the polygon, borders included.

    points: the corners in order, three or more, as (lat, lon) in degrees. Sides are straight in degrees and take the shorter way around the
    Earth; they may cross the antimeridian. The polygon may be concave. It is closed by itself.
    """

    field: str
    points: Iterable[Any]  # a tuple of (lat, lon) after the check

    def __post_init__(self):
        field = check_field(self.field)
        given = _column(field, self.points)
        pairs = None if given is None else [_column(field, pair) for pair in given]
        if pairs is None or any(pair is None or len(pair) != 2 for pair in pairs):
            what = f"the polygon of {field!r} must be a list of corners such as [(52.5, 13.3), (52.6, 13.5), (52.4, 13.5)]"
            raise FilterError(f"{what}, not {shown(self.points)}", field=field, value=self.points)
        if len(pairs) > MAX_CORNERS:
            what = f"the polygon of {field!r} has {len(pairs)} corners, at most {MAX_CORNERS} are allowed"
            raise LimitError(what, field=field, value=len(pairs))
        corners = [(_number(field, "lat", lat, -90, 90), _number(field, "lon", lon, -180, 180)) for lat, lon in pairs]
        if len(corners) > 1 and corners[0] == corners[-1]:
            corners.pop()
        if len(set(corners)) < 3:
            what = f"the polygon of {field!r} needs three different corners or more, not {shown(self.points)}"
            raise FilterError(what, field=field, value=self.points)
        self._set(points=tuple(corners))


@dataclass(frozen=True, eq=False)
class MinShould(_Joined):
    """At least ``n`` of the children match. A child that is given twice counts twice."""

    n: int

    def __post_init__(self):
        n = _value("min_should", self.n)
        if type(n) is not int or n < 0:
            what = (
                f"min_should needs how many conditions must hold, an integer from 0 on, not {shown(self.n)}; write min_should(2, a, b, c)"
            )
            raise FilterError(what, field="n", value=self.n)
        super().__post_init__()
        self._set(n=n)


@dataclass(frozen=True, eq=False)
class AnyElement(Filter):
    """One element of an array of objects in the payload matches ``child``, whose fields are paths inside the element."""

    field: str
    child: Filter

    def __post_init__(self):
        check_field(self.field)
        _measure(self, (operand(self.child),))


__all__ = ["AnyElement", "Fold", "GeoPolygon", "IsMissing", "MinShould", "SomeNotIn"]
