"""Floating-point numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import InvalidArgumentError, shown
from ..foreign import is_number
from .base import RANGES, AttributeType, wrong
from .int import read_decimal


class Float(AttributeType):
    """Finite 64-bit floats. ``array=True``: a list for each point."""

    kind = "float"
    stored = "float64"
    parts = ("number", "cyclic")
    operators = RANGES
    nan_is_null = False  # an error, which says how to write a missing value

    def coerce_one(self, name: str, value: Any) -> float:
        if not is_number(value):
            raise wrong(name, value, "a number")
        try:
            number = float(value)
        except OverflowError:
            raise InvalidArgumentError(f"{name} {shown(value)} doesn't fit a 64-bit float", field=name, value=value) from None
        if not math.isfinite(number):
            hint = "; a missing value is None" if number != number else ""
            raise InvalidArgumentError(f"{name} is {number}; floats must be finite{hint}", field=name, value=value)
        return number + 0.0  # −0.0 and 0.0 are one value

    def filter_values(self, values: Sequence) -> Sequence | None:
        classes = set(map(type, values))
        if not classes <= {int, float}:
            return None
        if int in classes:
            values = [value for value in values if type(value) is float or _nearest(value) == value]
        return [float(value) + 0.0 for value in values]

    def filter_bound(self, name: str, value: Any, lower: bool) -> tuple[float, Any]:
        return (_nearest(value), value) if type(value) is int else super().filter_bound(name, value, lower)

    def from_file(self, value: Any) -> Any:
        return read_decimal(value)

    def from_cell(self, name: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InvalidArgumentError(f"{name} must be a number, not {shown(text)}", field=name, value=text) from None

    def arrow_type(self, pyarrow: Any) -> Any:
        return pyarrow.float64()


def _nearest(value: int) -> float:
    """The float nearest to an integer; infinite where the integer is beyond all floats. (Python compares int and float exactly.)"""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
