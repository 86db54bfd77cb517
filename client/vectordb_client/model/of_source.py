"""Queries of a derived sparse field that are vectors of its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .arguments import named_class
from .options import check_integer

MAX_TOP_TERMS = 65_535


@named_class
@dataclass(frozen=True, eq=False)
class TopTerms:
    """A query of a derived sparse field: a vector of its source, of whose terms only the k heaviest are searched.

    Fewer terms make a search faster, and its recall lower.

    Attributes:
        vector: a vector of the source, ``(dim,)``; for ``search_batch`` several, ``(n, dim)``.
        k: how many terms to keep, 1 to 65,535; None: all that the derivation makes.
    """

    vector: Any
    k: int | None = None

    def __post_init__(self):
        if self.k is not None:
            check_integer("k", self.k, 1, MAX_TOP_TERMS)

    @property
    def shape(self) -> Any:
        return getattr(self.vector, "shape", ())
