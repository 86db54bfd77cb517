"""Strings that are compared as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SchemaError
from ..arguments import named_class
from ..checks import check_flag
from .base import PATTERNS, AttributeType, utf8, wrong

MAX_KEYWORD_BYTES = 480  # longer strings are indexed by a hash, and a file's column of them is taken for text
_ESCAPED = re.compile(r"\\+e")


@named_class
@dataclass(frozen=True)
class Keyword(AttributeType):
    """Strings that are compared as a whole, by their order or by their beginning: =, <, IN, STARTSWITH, GLOB.

    ``array=True``: a list for each point. Strings of more than 480 UTF-8 bytes take longer to be compared by anything but = and IN.

    Attributes:
        tenant: the value says to which tenant a point belongs. Every point must have one, and it can't be changed. API keys of a service
            can be bound to a tenant. At most one attribute of a collection is the tenant.
    """

    tenant: bool = False
    kind = "keyword"
    stored = "string"
    parts = ("category",)
    operators = PATTERNS

    def __post_init__(self):
        super().__post_init__()
        check_flag("tenant", self.tenant, SchemaError)
        if self.tenant and self.array:
            raise SchemaError("a Keyword can't be both array and tenant, because a point belongs to one tenant", field="tenant", value=True)

    def coerce_one(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(name, value, "a string")
        utf8(value, name)
        return str(value)

    def filter_values(self, values: Sequence) -> Sequence | None:
        if set(map(type, values)) != {str}:
            return None
        try:
            "".join(values).encode()
        except UnicodeEncodeError:
            return None
        return values

    # The cell of an empty string is ``\e``, because an empty cell is null. A string such as ``\e`` has one backslash more.

    def from_cell(self, name: str, text: str) -> str:
        return ("" if text == "\\e" else text[1:]) if _ESCAPED.fullmatch(text) else text

    def to_cell(self, value: str) -> str:
        return "\\e" if value == "" else "\\" + value if _ESCAPED.fullmatch(value) else value
