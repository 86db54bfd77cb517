"""Aggregates of the values of attributes: their names, what they need, and their JSON form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidArgumentError, SchemaError, listing, shown
from .attributes import ATTRIBUTE_TYPES, AttributeType
from .facets import attribute_of
from .schema import Schema

FUNCTIONS = ("count", "distinct", "min", "max", "sum", "mean")
MAX_FUNCTIONS = 1_000  # in one call
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)")
_NUMBERS = ("int64", "float64")  # stored forms whose values are numbers

Aggregates = dict[str, tuple[str, ...]]  # attribute → names of functions


def check_aggregates(value: Any) -> Aggregates:
    """Check the argument of ``aggregate``: attribute → the name of a function, or several. Raises InvalidArgumentError."""
    if not isinstance(value, Mapping) or not value:
        what = f'aggregate needs a dict such as {{"price": ["min", "max", "p95"]}}, not {shown(value)}'
        raise InvalidArgumentError(what, field="functions", value=value)
    checked: Aggregates = {}
    for name, given in value.items():
        if not isinstance(name, str):
            raise InvalidArgumentError(f"an attribute is a string, not {shown(name)}", field="functions", value=name)
        functions = (given,) if isinstance(given, str) else given
        if not isinstance(functions, Sequence) or isinstance(functions, (bytes, bytearray, memoryview)) or not functions:
            what = f'aggregate needs the functions of {name!r}, as in {{{name!r}: ["min", "max"]}}, not {shown(given)}'
            raise InvalidArgumentError(what, field=name, value=given)
        for function in functions:
            if not isinstance(function, str) or (function not in FUNCTIONS and percent_of(function) is None):
                there = f"{', '.join(FUNCTIONS)}, and percentiles such as 'p50', 'p99.9'"
                what = f"aggregate has no function {shown(function)}; there are: {there}"
                raise InvalidArgumentError(what, field=name, value=function)
        checked[name] = tuple(dict.fromkeys(functions))
    if sum(map(len, checked.values())) > MAX_FUNCTIONS:
        total = sum(map(len, checked.values()))
        raise InvalidArgumentError(f"aggregate takes at most {MAX_FUNCTIONS} functions, not {total}", field="functions", value=total)
    return checked


def percent_of(function: str) -> float | None:
    """The percentage of a percentile such as "p99.9"; None for other texts."""
    found = _PERCENTILE.fullmatch(function)
    return float(found[1]) if found and float(found[1]) <= 100 else None


def check_against(schema: Schema, aggregates: Aggregates) -> None:
    """Check that the attributes have the types that the functions need. Raises SchemaError."""
    for name, functions in aggregates.items():
        spec = attribute_of(schema, name, "aggregate")
        possible = possible_functions(spec)
        for function in functions:
            if function not in possible and not ("p50" in possible and percent_of(function) is not None):
                what = f"aggregate can't take {function!r} of {name!r}, which is {type(spec).__name__}; possible are: {listing(possible)}"
                raise SchemaError(what, field=name, value=function)


def possible_functions(spec: AttributeType) -> tuple[str, ...]:
    """The functions that a type has; "p50" stands for all percentiles."""
    if spec.stored == "text":
        return ("count",)
    if spec.stored == "place":
        return ("count", "distinct")
    if spec.stored not in _NUMBERS:
        return ("count", "distinct", "min", "max")
    return ("count", "distinct", "min", "max", *(("sum",) if spec.plain else ()), "mean", "p50")


def in_units_of_values(spec: AttributeType, function: str) -> bool:
    """Whether the result of a function is a value of the attribute's type: a moment and not a number."""
    return function not in ("count", "distinct") and not (spec.plain and function not in ("min", "max"))


def results_to_json(results: Mapping[str, Mapping[str, Any]], schema: Schema) -> dict[str, Any]:
    """Results as JSON data."""
    made = {}
    for name, values in results.items():
        spec = schema.attributes[name]
        json = {f: spec.to_json(v) if v is not None and in_units_of_values(spec, f) else v for f, v in values.items()}
        made[name] = {"kind": spec.kind, "values": json}
    return made


def results_from_json(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of their JSON data."""
    made = {}
    for name, each in data.items():
        spec = ATTRIBUTE_TYPES[each["kind"]]()
        made[name] = {f: spec.from_json(v) if v is not None and in_units_of_values(spec, f) else v for f, v in each["values"].items()}
    return made


def finite(value: float) -> float | None:
    """The value; None where it exceeds all floats."""
    return value if math.isfinite(value) else None
