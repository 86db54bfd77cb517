"""Derivations of attributes: ``Attributes`` and ``Series``. Their vectors are those of ``attribute_vectors``, in writes and in queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np

from ..errors import InvalidArgumentError, SchemaError, VectorDBError, listing, shown
from .arguments import named_class
from .attribute_vectors import angles, categories, decades, series
from .derivation import Derivation
from .foreign import is_number
from .options import check_integer, choice

MAX_WEIGHT = 1_000.0
MAX_WINDOW = 65_536
WIDEST, LEAST_CATEGORY = 32, 8  # dimensions of a number beside categories, at most; of a category, at least
PERIODS = {"day": 86_400_000_000, "week": 7 * 86_400_000_000, "year": 31_556_952_000_000}  # microseconds


@dataclass(frozen=True)
class Part:
    """How an attribute goes into the vectors of ``Attributes``. kind: its name in JSON."""

    attribute: str
    kind: ClassVar[str] = ""

    def __post_init__(self):
        called = type(self).__name__
        if not isinstance(self.attribute, str) or not self.attribute:
            what = f"{called} needs the name of an attribute, as in {called}('price'), not {shown(self.attribute)}"
            raise SchemaError(what, field="derived", value=self.attribute)
        check_weight(f"weight of {called}({self.attribute!r})", self.counts, 1e-6)

    @property
    def counts(self) -> float:
        """The option ``weight``."""
        return getattr(self, "weight")  # noqa: B009 - the subclasses have it as their last option

    def to_dict(self) -> dict[str, Any]:
        options = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {"as": self.kind, **{name: value for name, (value, usual) in options.items() if value != usual}}

    def check(self, field: str, type_of: Any) -> None:
        """Check it against the type of its attribute. Raises SchemaError."""

    def places(self, values: Sequence[Any], type_of: Any) -> np.ndarray:
        """Where stored values are, in half turns, float64 ``(n,)``."""
        raise NotImplementedError(self.kind)


def check_weight(name: str, value: Any, least: float) -> None:
    """Check how much a part counts. Raises SchemaError."""
    if not is_number(value) or not least <= value <= MAX_WEIGHT:
        what = f"{name} must be a number from {least:g} to {MAX_WEIGHT:,.0f}, not {shown(value)}"
        raise SchemaError(what, field="weight", value=value)


@named_class
@dataclass(frozen=True)
class Number(Part):
    """A number or a moment in ``Attributes``: points are the nearer, the nearer their numbers.

    Attributes:
        attribute: an Int, Float or Datetime attribute.
        low, high: the range in which numbers are told apart; those outside count as its ends. A moment needs it. None: numbers of any sign
            from a thousandth to 10⁹, by their number of digits.
        scale: "log": the ratio of two numbers counts, so 10 is as far from 100 as 100 from 1,000; "linear": their difference does, and low
            and high are needed. None: "linear" for moments, else "log".
        weight: how much it counts, beside the others.
    """

    attribute: str
    low: Any = None
    high: Any = None
    scale: str | None = None
    weight: float = 1.0
    kind = "number"

    def __post_init__(self):
        super().__post_init__()
        if self.scale is not None:
            choice("scale", self.scale, ("log", "linear"))

    def to_dict(self) -> dict[str, Any]:
        return {name: value if is_number(value) or isinstance(value, str) else str(value) for name, value in super().to_dict().items()}

    def check(self, field: str, type_of: Any) -> None:
        moment, called = type_of.moments, f"vector field {field!r}: Number({self.attribute!r})"
        if (self.low is None) != (self.high is None) or (self.low is None and (moment or self.scale == "linear")):
            such = "low='2020-01-01', high='2030-01-01'" if moment else "low=0, high=100"
            why = "of moments" if moment else "with scale='linear'" if self.scale == "linear" else "with one end of a range"
            raise SchemaError(f"{called} {why} needs low and high, such as {such}", field=field, value=self.low)
        if moment and self.scale == "log":
            raise SchemaError(f"{called} is of moments, whose differences count; leave scale out", field=field, value=self.scale)
        if self.low is None:
            return
        low, high = self._range(type_of)
        if not low < high:
            what = f"{called} needs low below high, not {shown(self.low)} and {shown(self.high)}"
            raise SchemaError(what, field=field, value=self.low)
        if low <= 0 and not moment and self.scale != "linear":
            raise SchemaError(f"{called} needs low above 0, or scale='linear'", field=field, value=self.low)

    def _range(self, type_of: Any) -> tuple[float, float]:
        if not type_of.moments:
            for name, value in (("low", self.low), ("high", self.high)):
                if not is_number(value) or not np.isfinite(float(value)):
                    what = f"{name} of Number({self.attribute!r}) must be a finite number, not {shown(value)}"
                    raise SchemaError(what, field=name, value=value)
            return float(self.low), float(self.high)
        try:
            return float(type_of.coerce_one("low", self.low)), float(type_of.coerce_one("high", self.high))
        except VectorDBError as error:
            raise SchemaError(f"Number({self.attribute!r}): {error.message}", field=error.field, value=error.value) from None

    def places(self, values: Sequence[Any], type_of: Any) -> np.ndarray:
        numbers = np.asarray(values, np.float64)
        if self.low is None:
            return decades(numbers)
        low, high = self._range(type_of)
        numbers = np.clip(numbers, low, high)
        if self.scale == "linear" or type_of.moments:
            return (numbers - low) / (high - low)
        return np.log(numbers / low) / np.log(high / low)


@named_class
@dataclass(frozen=True)
class Cyclic(Part):
    """A number that goes round in ``Attributes``: with ``Cyclic("weekday", 7)`` day 6 is as near to day 0 as day 1 is.

    Attributes:
        attribute: an Int, Float or Datetime attribute.
        period: after how much the cycle begins again; of a Datetime "day", "week" or "year".
        weight: how much it counts, beside the others.
    """

    attribute: str
    period: Any
    weight: float = 1.0
    kind = "cyclic"

    def check(self, field: str, type_of: Any) -> None:
        moment = type_of.moments
        usable = self.period in PERIODS if isinstance(self.period, str) else is_number(self.period) and 0 < self.period <= 1e300
        if not usable or moment != isinstance(self.period, str):
            such = "'day', 'week' or 'year'" if moment else "a number above 0, such as 7"
            what = f"vector field {field!r}: period of Cyclic({self.attribute!r}) must be {such}, not {shown(self.period)}"
            raise SchemaError(what, field="period", value=self.period)

    def places(self, values: Sequence[Any], type_of: Any) -> np.ndarray:
        period = PERIODS[self.period] if isinstance(self.period, str) else self.period
        # Of integers exactly: microseconds since 1970 and their remainder have more digits than a float.
        return np.asarray([2.0 * float((value % period) / period) for value in values], np.float64)


@named_class
@dataclass(frozen=True)
class Category(Part):
    """A category in ``Attributes``: equal ones are near, and any two others equally far, up to chance. Of an array the more elements two
    points share, the nearer they are.

    Attributes:
        attribute: a Keyword, Bool, Uuid or Int attribute.
        weight: how much it counts, beside the others.
    """

    attribute: str
    weight: float = 1.0
    kind = "category"


PARTS: dict[str, type[Part]] = {each.kind: each for each in (Number, Cyclic, Category)}


@named_class
@dataclass(frozen=True, init=False, repr=False)
class Attributes(Derivation):
    """Attributes of a point as a vector: ``Dense(64, derived=Attributes("price", Cyclic("weekday", 7), "brand"))``.

    A query is a mapping of some of these attributes to values: ``search({"profile": {"price": 20, "brand": "acme"}})``; or a point
    (``like={"profile": [id]}``); or a vector of the field. An attribute that a point or a query lacks adds nothing to its score: it is
    neither near nor far. A point with none of them has no vector.

    The dimensions are shared out among the attributes; all categories share theirs. More dimensions tell near numbers, and categories,
    apart more clearly. Nothing is fitted to points.

    Attributes:
        attributes: what the vector is made of: ``Number``, ``Cyclic``, ``Category``, or the name of an attribute, which is a ``Number``
            for an Int or Float and a ``Category`` for a Keyword, Bool or Uuid.
    """

    attributes: tuple[Any, ...]
    name = "attributes"
    of_attributes = True

    def __init__(self, *attributes: Any):
        object.__setattr__(self, "attributes", attributes)
        if not attributes:
            raise SchemaError("Attributes needs attributes, such as Attributes('price', Cyclic('weekday', 7))", field="derived", value=())
        for each in attributes:
            if not isinstance(each, Part) and not (isinstance(each, str) and each):
                what = f"Attributes takes names of attributes, Number(…), Cyclic(…) and Category(…), not {shown(each)}"
                raise SchemaError(what, field="derived", value=each)
        named = [(type(each), _name_of(each)) for each in attributes]
        for at, each in enumerate(named):
            if each in named[:at]:
                raise SchemaError(f"Attributes has {each[1]!r} twice; write it once", field="derived", value=each[1])

    def __repr__(self) -> str:
        return f"Attributes({', '.join(map(repr, self.attributes))})"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(_name_of, self.attributes)))

    def reading(self, names: Mapping[str, str]) -> Derivation:
        def renamed(each: Any) -> Any:
            if isinstance(each, str):
                return names.get(each, each)
            return replace(each, attribute=names.get(each.attribute, each.attribute))

        return Attributes(*map(renamed, self.attributes))

    def options(self) -> dict[str, Any]:
        return {"attributes": [each if isinstance(each, str) else each.to_dict() for each in self.attributes]}

    def to_dict(self) -> dict[str, Any]:
        return {"by": self.name, **self.options()}

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Derivation:
        given = options.get("attributes")
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise SchemaError(f"attributes of a derivation must be a list, not {shown(given)}", field="derived", value=given)
        return cls(*[_part_of(each) if isinstance(each, Mapping) else each for each in given])

    def _typed(self, types: Mapping[str, Any]) -> list[Any]:
        """The parts, a bare name as what its type says."""
        return [PARTS[types[each].parts[0]](each) if isinstance(each, str) else each for each in self.attributes]

    def check_attributes(self, field: str, dim: int, types: Mapping[str, Any]) -> None:
        given: Any
        for given in self.attributes:
            attribute = _name_of(given)
            spec = attribute_of(field, attribute, types)
            called = repr(given) if isinstance(given, str) else f"{type(given).__name__}({attribute!r})"
            bare, usable = isinstance(given, str), spec.parts
            if not usable or (bare and spec.moments) or (isinstance(given, Part) and given.kind not in usable):
                such = [f"{PARTS[part].__name__}({attribute!r}{', …' if spec.moments or part == 'cyclic' else ''})" for part in usable]
                hint = f"write {' or '.join(such)}" if such else "leave it out"
                what = f"vector field {field!r} can't be derived from {called}, which is {spec.kind}; {hint}"
                raise SchemaError(what, field=field, value=attribute)
        for part in self._typed(types):
            spec = types[part.attribute]
            if spec.array and part.kind != "category":
                what = f"vector field {field!r}: {part.attribute!r} is an array; write derived=Series({part.attribute!r}), or Category(…)"
                raise SchemaError(what, field=field, value=part.attribute)
            part.check(field, spec)
        least = sum(LEAST_CATEGORY if part.kind == "category" else 2 for part in self._typed(types))
        if dim < least:
            what = f"vector field {field!r} has {dim} dimensions, and its {len(self.attributes)} attributes need {least} or more"
            raise SchemaError(f"{what}; write Dense({8 * least}, …)", field=field, value=dim)

    def layout(self, dim: int, types: Mapping[str, Any]) -> list[tuple[Any, int, int]]:
        """(part, its first dimension, its width). All categories have the same."""
        parts = self._typed(types)
        plain, named = [p for p in parts if p.kind != "category"], [p for p in parts if p.kind == "category"]
        width = dim // len(parts) // 2 * 2
        if named and plain:
            width = min(width, (dim - LEAST_CATEGORY * len(named)) // len(plain) // 2 * 2, WIDEST)
        width = max(width, 2)
        first = {part: width * at for at, part in enumerate(plain)}
        rest = width * len(plain)
        return [(p, first[p], width) if p in first else (p, rest, dim - rest) for p in parts]

    def vectors(self, dim: int, rows: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> np.ndarray:
        made, parts = np.zeros((len(rows), dim)), self.layout(dim, types)
        total = sum(part.counts for part, _, _ in parts)
        for position, (part, first, width) in enumerate(parts):
            known = [at for at, row in enumerate(rows) if row.get(part.attribute) is not None]
            if not known:
                continue
            spec, values = types[part.attribute], [rows[at][part.attribute] for at in known]
            if part.kind == "category":
                vectors = np.stack([categories(position, each if spec.array else (each,), width) for each in values])
            else:
                vectors = angles(part.places(values, spec), width)
            made[known, first : first + width] += vectors * np.sqrt(part.counts / total)
        return made.astype(np.float32)


def _name_of(given: Any) -> str:
    return given.attribute if isinstance(given, Part) else given


def _part_of(data: Mapping[str, Any]) -> Part:
    options = dict(data)
    kind = options.pop("as", None)
    if not isinstance(kind, str) or kind not in PARTS:
        what = f"an attribute of a derivation is used as {shown(kind)}, which this version doesn't know; it knows {listing(PARTS)}"
        raise SchemaError(what, field="derived", value=kind)
    return PARTS[kind](**options)


def attribute_of(field: str, name: str, types: Mapping[str, Any]) -> Any:
    """The type of an attribute that a derived field reads. Raises SchemaError."""
    if name not in types:
        what = f"vector field {field!r} is derived from {name!r}, which is not an attribute; the attributes: {listing(types)}"
        raise SchemaError(what, field=field, value=name)
    return types[name]


@named_class
@dataclass(frozen=True)
class Series(Derivation):
    """A time series as a vector: ``Dense(64, derived=Series("readings", window=64))``.

    The newest ``window`` values become a shape (the values less their mean, in units of their deviation, as slow waves first), their mean
    and their deviation. So series are near that rise and fall alike at about the same size; with ``mean=0, deviation=0`` only the shape
    counts. Mean and deviation are compared by their number of digits, as ``Number`` does.

    A series with fewer values than ``window`` is stretched to it. A query is ``search({"profile": {"readings": [3.1, 3.4, …]}})``, a point
    (``like={"profile": [id]}``) or a vector of the field. A point whose array is empty or missing has no vector.

    Attributes:
        source: a Float or Int attribute with ``array=True``, the oldest value first.
        window: how many values count, 2 to 65,536.
        mean, deviation: how much they count, beside the shape, which counts 1; 0 leaves one out.
    """

    source: str
    window: int = 64
    mean: float = 0.25
    deviation: float = 0.25
    name = "series"
    of_attributes = True

    def __post_init__(self):
        if not isinstance(self.source, str) or not self.source:
            what = f"Series needs the name of an attribute, as in Series('readings'), not {shown(self.source)}"
            raise SchemaError(what, field="derived", value=self.source)
        check_integer("window", self.window, 2, MAX_WINDOW)
        check_weight("mean of Series", self.mean, 0.0)
        check_weight("deviation of Series", self.deviation, 0.0)

    def _sizes(self) -> list[float]:
        return [each for each in (self.mean, self.deviation) if each]

    def check_attributes(self, field: str, dim: int, types: Mapping[str, Any]) -> None:
        spec = attribute_of(field, self.source, types)
        if "number" not in spec.parts or spec.moments or not spec.array:
            what = f"vector field {field!r} is derived from {self.source!r}, which must be Float(array=True) or Int(array=True)"
            raise SchemaError(what, field=field, value=self.source)
        least = 4 + 2 * len(self._sizes())
        if dim < least:
            raise SchemaError(f"vector field {field!r} of Series needs {least} dimensions or more, not {dim}", field=field, value=dim)

    def vectors(self, dim: int, rows: Sequence[Mapping[str, Any]], types: Mapping[str, Any]) -> np.ndarray:
        sizes = self._sizes()
        width = max(dim // 16 * 2, 2) if sizes else 0
        shapes, made = dim - width * len(sizes), np.zeros((len(rows), dim))
        total = 1.0 + sum(sizes)
        for at, row in enumerate(rows):
            values = row.get(self.source)
            if not values:
                continue
            shape, mean, deviation = series(values, self.window, shapes)
            made[at, :shapes] = shape / np.sqrt(total)
            used = [number for number, weight in ((mean, self.mean), (deviation, self.deviation)) if weight]
            if used:
                blocks = angles(decades(np.asarray(used)), width) * np.sqrt(np.asarray(sizes) / total)[:, None]
                made[at, shapes:] = blocks.reshape(-1)
        return made.astype(np.float32)


def query_of(field: str, spec: Any, given: Mapping[str, Any]) -> np.ndarray:
    """The vector of a query that is a mapping of attributes to values, float32 ``(dim,)``. Raises InvalidArgumentError or LimitError."""
    derived, types = spec.derived, cast(Any, spec.attribute_types)
    unknown = [name for name in given if name not in derived.sources]
    if unknown or not given:
        what = f"{shown(unknown[0])} is none of them" if unknown else "it is empty"
        such = f"query of {field!r} must map attributes that it is derived from to values ({listing(derived.sources)})"
        raise InvalidArgumentError(f"{such}; {what}", field=field, value=dict(given))
    stored = {name: types[name].coerce(name, value) for name, value in given.items()}
    vector = derived.vectors(spec.dim, [stored], types)[0]
    if not vector.any():
        raise InvalidArgumentError(f"query of {field!r} has no value of {listing(derived.sources)}", field=field, value=dict(given))
    return vector
