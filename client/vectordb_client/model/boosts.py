"""Boosts: factors that multiply the scores of points by what their attributes say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InvalidArgumentError, shown
from .arguments import named_class
from .checks import MAX_NUMBER, check_flag, checked_number
from .filter import to_dict
from .filter_nodes import Filter
from .values import to_json

if TYPE_CHECKING:
    from datetime import datetime

    from .aliases import FilterLike

MAX_BOOSTS = 32
_SPAN = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|h|d|w|y)\s*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365.25 * 86_400}


class Boost:
    """Base class of boosts, which are frozen dataclasses. The factors of all boosts are multiplied, and the score with them: where higher
    is better, a score of 0 and more is multiplied by the factor and a negative one divided by it; an l2 distance is divided by it. So a
    factor above 1 always moves a point up.

    kind: its name in messages.
    """

    kind: ClassVar[str]

    def check(self) -> None:
        """Raises InvalidArgumentError, which says what to write."""
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """The JSON form, for messages and plans."""
        values = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING or value != field.default:
                values[field.name] = to_dict(value) if isinstance(value, Filter) else _plain(value)
        return {"boost": self.kind, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, (bool, int, float, str, Mapping)) or value is None else to_json(value)


def _check_factor(name: str, value: Any, least: float = 0.0) -> None:
    if not least < checked_number(value) <= MAX_NUMBER:
        what = f"{name} must be a number above {least:g} and at most {MAX_NUMBER:g}, not {shown(value)}"
        raise InvalidArgumentError(what, field="boost", value=value)


def _check_attribute(kind: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(f"{kind} needs the name of an attribute, not {shown(value)}", field="boost", value=value)


def seconds(span: Any) -> float:
    """A span as seconds: a number, a timedelta, or a text such as "30d" (s, m, h, d, w, y). NaN for anything else."""
    if isinstance(span, timedelta):
        return span.total_seconds()
    match = _SPAN.fullmatch(span) if isinstance(span, str) else None
    return float(match[1]) * _SECONDS[match[2]] if match else checked_number(span)


@named_class
@dataclass(frozen=True)
class Decay(Boost):
    """The nearer an attribute is to an origin, the higher: floor + (1 − floor) · 2^(−|value − origin| ÷ half_life), from ``floor`` to 1.

    Attributes:
        attribute: a Datetime, Int or Float; not an array.
        half_life: the distance at which the factor is halfway to ``floor``. Of a Datetime seconds, a timedelta, or a text: "90s", "15m",
            "12h", "30d", "2w", "1y" (365.25 days). Above 0.
        origin: a value of the attribute. None is the moment of the search; a number must be given.
        floor: the least factor, from 1e-6 and below 1.
        missing: the factor of points without a value.
    """

    attribute: str
    half_life: str | float | timedelta
    origin: datetime | float | str | None = None
    floor: float = 1e-6
    missing: float = 1.0
    kind: ClassVar[str] = "decay"

    def check(self) -> None:
        _check_attribute("Decay", self.attribute)
        if not 0.0 < seconds(self.half_life) < float("inf"):
            what = f"half_life of Decay must be a number above 0 or a text such as '30d', not {shown(self.half_life)}"
            raise InvalidArgumentError(what, field="boost", value=self.half_life)
        if not 1e-6 <= checked_number(self.floor) < 1.0:
            what = f"floor of Decay must be from 1e-6 and below 1, not {shown(self.floor)}"
            raise InvalidArgumentError(what, field="boost", value=self.floor)
        _check_factor("missing of Decay", self.missing)


@named_class
@dataclass(frozen=True)
class Value(Boost):
    """The higher an attribute, the higher: 1 + weight · value, or with ``log`` 1 + weight · ln(1 + value). Values below 0 count as 0.

    Attributes:
        attribute: an Int or Float; not an array.
        log: take the logarithm, for counts that range over magnitudes.
        weight: above 0 and at most 1e6.
        missing: the factor of points without a value.
    """

    attribute: str
    log: bool = False
    weight: float = 1.0
    missing: float = 1.0
    kind: ClassVar[str] = "value"

    def check(self) -> None:
        _check_attribute("Value", self.attribute)
        check_flag("log of Value", self.log)
        _check_factor("weight of Value", self.weight)
        _check_factor("missing of Value", self.missing)


@named_class
@dataclass(frozen=True)
class If(Boost):
    """``factor`` for points that match a filter, 1 for others.

    Attributes:
        filter: as in ``search``.
        factor: above 0 and at most 1e6; below 1 it moves points down.
    """

    filter: FilterLike
    factor: float
    kind: ClassVar[str] = "if"

    def check(self) -> None:
        if self.filter is None or isinstance(self.filter, (list, tuple)):
            raise InvalidArgumentError(f"If needs a filter, not {shown(self.filter)}", field="boost", value=self.filter)
        _check_factor("factor of If", self.factor)


BOOSTS: dict[str, type[Boost]] = {kind.kind: kind for kind in (Decay, Value, If)}


def check_boosts(name: str, value: Any) -> tuple[Boost, ...]:
    """The check of the option ``boost``: a boost or a list of boosts, also in the JSON form. Raises InvalidArgumentError."""
    given: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    if len(given) > MAX_BOOSTS:
        raise InvalidArgumentError(f"a search has at most {MAX_BOOSTS} boosts, not {len(given)}", field=name, value=len(given))
    boosts = [_read(name, each) for each in given]
    for each in boosts:
        each.check()
    return tuple(boosts)


def _read(name: str, value: Any) -> Boost:
    if isinstance(value, Boost):
        return value
    kind = BOOSTS.get(value.get("boost", "")) if isinstance(value, dict) else None
    if kind is not None and value.keys() - {"boost"} <= {field.name for field in dataclasses.fields(kind)}:  # type: ignore[arg-type]
        return kind(**{option: each for option, each in value.items() if option != "boost"})
    calls = ", ".join(f"{each.__name__}(…)" for each in BOOSTS.values())
    raise InvalidArgumentError(f"{name} must be a list of {calls}, not {shown(value)}", field=name, value=value)


def boosts_as_json(value: Any) -> Any:
    """The JSON form of the option ``boost``."""
    return [each.to_json() for each in value]
