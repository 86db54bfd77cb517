"""Places on Earth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InvalidArgumentError, shown
from ..foreign import listed, read_with
from .base import PLACES, AttributeType, read_json_cell, wrong
from .float import Float

_DEGREES = Float()


class Geo(AttributeType):
    """Places on Earth: ``(lat, lon)`` in degrees, or ``{"lat": …, "lon": …}``. ``array=True``: a list for each point."""

    kind = "geo"
    stored = "place"
    operators = PLACES
    plain = False
    message_list = "geos"

    def coerce_one(self, name: str, value: Any) -> tuple[float, float]:
        if isinstance(value, Mapping):
            if set(value) != {"lat", "lon"}:
                raise wrong(name, value, "(lat, lon) in degrees")
            value = (value["lat"], value["lon"])
        pair = read_with(name, value, listed)
        if pair is None or len(pair) != 2:
            raise wrong(name, value, "(lat, lon) in degrees")
        lat, lon = (_DEGREES.coerce_one(name, number) for number in pair)
        if not -90 <= lat <= 90 or not -180 <= lon <= 180:
            raise InvalidArgumentError(f"{name} {shown(value)}: lat must be in −90 … 90 and lon in −180 … 180", field=name, value=value)
        return (lat, lon)

    def restore_one(self, stored: Sequence[float]) -> tuple[float, ...]:
        return tuple(stored)

    def from_answer(self, value: Any) -> Any:
        return tuple(value) if value and type(value[0]) is not list else [tuple(place) for place in value]

    def from_cell(self, name: str, text: str) -> Any:
        text = text.strip()
        return read_json_cell(name, text if text[:1] in "[{" else f"[{text}]")

    def to_cell(self, value: tuple[float, float]) -> str:
        return json.dumps(value, separators=(",", ":"))

    def arrow_type(self, pyarrow: Any) -> Any:
        return pyarrow.list_(pyarrow.float64(), 2)
