"""The node of a filter for how much a point has of a concept, a term of a derived sparse field."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import FilterError, shown
from .filter_nodes import COMPARISONS, Filter, _choice, _value, check_field

MOST = 3.4028234663852886e38  # the largest float32


@dataclass(frozen=True, eq=False)
class Concept(Filter):
    """A comparison of the weight that a point has of a concept with ``value``, as float32. op: eq, ne, lt, le, gt, ge.

    concept: its number; of ``Concepts`` also its word. The weight is 0 where a point has a vector in the field without the concept. A point
    without a vector there satisfies no comparison but ``ne``.
    """

    field: str
    concept: int | str
    op: str
    value: float

    def __post_init__(self):
        field = check_field(self.field)
        concept = _value(field, self.concept)
        if type(concept) not in (int, str) or (type(concept) is int and not 0 <= concept < 2**64):
            what = f"a concept of {field!r} is named by its number, such as F.concept({field!r}, 17), not {shown(self.concept)}"
            raise FilterError(what, field=field, value=self.concept)
        _choice(field, "comparison of a concept", self.op, COMPARISONS)
        value = _value(field, self.value)
        if type(value) not in (int, float) or not math.fabs(value) <= MOST:
            what = f"a concept of {field!r} is compared with a number, such as F.concept({field!r}, 17) >= 0.3, not {shown(self.value)}"
            raise FilterError(what, field=field, value=self.value)
        self._set(concept=concept, value=float(value))

    def _types(self):
        return type(self.concept)
