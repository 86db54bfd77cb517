"""Integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ...errors import InvalidArgumentError, shown
from ..foreign import is_integer, is_number, whole
from .base import RANGES, AttributeType

LOW, HIGH = -(2**63), 2**63 - 1


class Int(AttributeType):
    """Signed 64-bit integers. ``array=True``: a list for each point."""

    kind = "int"
    stored = "int64"
    parts = ("number", "cyclic", "category")
    operators = RANGES

    def coerce_one(self, name: str, value: Any) -> int:
        if not is_integer(value):
            hint = f"; alter(attributes={{{name!r}: Float(…)}}) lets it take floats" if is_number(value) else ""
            what = f"{name} must be an integer, not {shown(value)} ({type(value).__name__}){hint}"
            raise InvalidArgumentError(what, field=name, value=value)
        if not LOW <= value <= HIGH:
            raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit 64 signed bits", field=name, value=value)
        return int(value)

    def read_frame(self, values: list) -> list:
        return whole(values)

    def filter_values(self, values: Sequence) -> Sequence | None:
        classes = set(map(type, values))
        if not classes or not classes <= {int, float}:
            return None
        if float in classes:
            values = [int(value) for value in values if type(value) is int or value.is_integer()]
        if values and not (min(values) >= LOW and max(values) <= HIGH):
            values = [value for value in values if LOW <= value <= HIGH]
        return values

    def filter_bound(self, name: str, value: Any, lower: bool) -> tuple[int, Any]:
        if type(value) in (int, float):
            return (math.floor if lower else math.ceil)(value), value
        return super().filter_bound(name, value, lower)

    def from_file(self, value: Any) -> Any:
        return read_decimal(value)

    def from_cell(self, name: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise InvalidArgumentError(f"{name} must be an integer, not {shown(text)}", field=name, value=text) from None

    def arrow_type(self, pyarrow: Any) -> Any:
        return pyarrow.int64()


def read_decimal(value: Any) -> Any:
    """A decimal of a file as int or float. Anything else is returned unchanged."""
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    return value
