"""Diverse hits: maximal marginal relevance over the candidates of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidArgumentError, SchemaError, shown
from .arguments import named_class
from .checks import check_count
from .foreign import is_number
from .schema import Schema

MIN_OVER = 50  # candidates by default, at least


@named_class
@dataclass(frozen=True)
class Diversity:
    """Maximal marginal relevance (Carbonell, Goldstein 1998): each next hit is the candidate of highest ``(1 − weight) · relevance −
    weight · similarity``. Relevance is the score, scaled to 0 … 1 over the candidates; similarity is the highest cosine to a hit that was
    taken before. Ties go to the candidate of the better rank. ``diversity=0.3`` is ``Diversity(0.3)``.

    Attributes:
        weight: from 0 (the order of the search) to 1 (as different as possible).
        field: the dense field whose vectors are compared; None: the field of the search, if it searches one. A point that has no vector in
            it is not similar to any other.
        over: how many of the best hits are candidates; None is ``max(50, 4 * limit)``.
    """

    weight: float
    field: str | None = None
    over: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form, which ``check_diversity`` reads."""
        return {"weight": self.weight} | {name: value for name, value in (("field", self.field), ("over", self.over)) if value is not None}

    def candidates(self, limit: int) -> int:
        """The number of candidates of a search."""
        return max(MIN_OVER, 4 * limit) if self.over is None else max(self.over, limit)


DiversityLike = float | Diversity


def check_diversity(name: str, value: Any) -> Diversity:
    """Check a weight, a ``Diversity`` or its JSON form. Raises InvalidArgumentError."""
    if isinstance(value, Mapping) and "weight" in value and value.keys() <= {"weight", "field", "over"}:
        value = Diversity(**value)
    weight: Any = value
    given = value if isinstance(value, Diversity) else Diversity(weight)
    if not is_number(given.weight) or not 0 <= given.weight <= 1:
        what = f"{name} must be a number from 0 (the best hits) to 1 (the most different ones), or Diversity(…), not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    if given.field is not None and not isinstance(given.field, str):
        raise InvalidArgumentError(f"field of Diversity must be a name, not {shown(given.field)}", field=name, value=given.field)
    over = None if given.over is None else check_count("over of Diversity", given.over)
    return Diversity(float(given.weight), given.field, over)


def check_field(diversity: Diversity, schema: Schema) -> None:
    """Check that the field, if it is named, is a dense one. Raises SchemaError."""
    if diversity.field is not None and schema.vector(diversity.field).kind != "dense":
        kind = type(schema.vector(diversity.field)).__name__
        what = f"diversity compares the vectors of a dense field, and {diversity.field!r} is {kind}; name another: Diversity(…, field='…')"
        raise SchemaError(what, field=diversity.field, value=diversity.field)
