"""Text that is searched by words."""

from __future__ import annotations

from typing import Any

from .base import WORDS, AttributeType, utf8, wrong
from .keyword import Keyword


class Text(AttributeType):
    """Text of any length, split into Unicode words without regard to case, for MATCH."""

    kind = "text"
    stored = "text"
    operators = WORDS

    def coerce_one(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(name, value, "a string")
        utf8(value, name)
        return str(value)

    from_cell = Keyword.from_cell
    to_cell = Keyword.to_cell
