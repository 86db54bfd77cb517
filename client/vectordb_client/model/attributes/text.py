"""Text that is searched by words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..analyzer import Analyzer
from ..arguments import named_class
from .base import WORDS, AttributeType, utf8, wrong
from .keyword import Keyword


@named_class
@dataclass(frozen=True)
class Text(AttributeType):
    """Text of any length, split into Unicode words without regard to case, for MATCH.

    Attributes:
        analyzer: how its words are made: an ``Analyzer``, or the name of a language. None: words as they are, without stemming.
    """

    analyzer: Analyzer | str | None = None
    kind = "text"
    stored = "text"
    operators = WORDS

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "analyzer", Analyzer.of(self.analyzer))

    def coerce_one(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(name, value, "a string")
        utf8(value, name)
        return str(value)

    from_cell = Keyword.from_cell
    to_cell = Keyword.to_cell
