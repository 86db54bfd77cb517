"""The option ``steer`` of a search: concepts, with the weights that they are to have in the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgumentError, shown
from .foreign import is_integer, is_number

Targets = Mapping[int, float]
SteerLike = Mapping[int, float] | Mapping[str, Targets]
MOST = 100.0  # times the length of the query: a direction that far away is that of the concept
_SUCH = "steer={17: 0.8}, or steer={'concepts': {17: 0.8}} with the name of the field"


def check_steer(name: str, value: Any) -> dict[str, dict[int, float]]:
    """The check of the option: field → concept → weight. The field is "" where none is named. A text is of the command line:
    ``17=0.8,40=0`` or ``FIELD:17=0.8``. Raises InvalidArgumentError.
    """
    if isinstance(value, str):
        value = _parsed(name, value)
    if not isinstance(value, Mapping) or not value:
        raise InvalidArgumentError(
            f"{name} must say which concept is to have which weight: {_SUCH}, not {shown(value)}", field=name, value=value
        )
    named = [isinstance(each, Mapping) for each in value.values()]
    if not any(named):
        return {"": _targets(name, value)}
    for field, each in value.items():
        if not isinstance(each, Mapping) or not each or not isinstance(field, str):
            what = f"{name} must have concepts with weights for each field: {_SUCH}, not {shown(field)}: {shown(each)}"
            raise InvalidArgumentError(what, field=name, value=each)
    return {field: _targets(name, each) for field, each in value.items()}


def _targets(name: str, value: Mapping[Any, Any]) -> dict[int, float]:
    targets = {}
    for concept, weight in value.items():
        number: Any = int(concept) if isinstance(concept, str) and concept.isdecimal() else concept  # keys of JSON are texts
        if not is_integer(number) or number < 0:
            what = f"{name} names concepts by their numbers: {_SUCH}, not {shown(concept)}"
            raise InvalidArgumentError(what, field=name, value=concept)
        if not is_number(weight) or not abs(weight) <= MOST:
            what = f"{name}: the weight of concept {number} must be a number from -{MOST:g} to {MOST:g}, not {shown(weight)}"
            raise InvalidArgumentError(what, field=name, value=weight)
        targets[int(number)] = float(weight)
    return targets


def _parsed(name: str, text: str) -> dict[str, dict[str, float]] | dict[str, float]:
    """The option as the command line has it."""
    field, colon, pairs = text.rpartition(":")
    try:
        parts = [pair.split("=") for pair in pairs.split(",")]
        targets = {concept.strip(): float(weight) for concept, weight in parts}
    except ValueError:
        what = f"{name} must be concepts with weights, such as 17=0.8,40=0 or FIELD:17=0.8, not {shown(text)}"
        raise InvalidArgumentError(what, field=name, value=text) from None
    return {field: targets} if colon else targets


def steer_as_json(value: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """The checked option as JSON, which ``check_steer`` takes back."""
    fields = {field: {str(concept): weight for concept, weight in targets.items()} for field, targets in value.items()}
    return fields.get("", fields)
