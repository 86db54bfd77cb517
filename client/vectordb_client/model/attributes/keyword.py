"""Strings that are compared as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import LimitError, shown
from .base import PATTERNS, AttributeType, utf8, wrong

MAX_KEYWORD_BYTES = 480
_ESCAPED = re.compile(r"\\+e")


class Keyword(AttributeType):
    """Strings of at most 480 UTF-8 bytes that are compared as a whole: =, IN, STARTSWITH, GLOB. ``array=True``: a list for each point."""

    kind = "keyword"
    stored = "string"
    operators = PATTERNS

    def coerce_one(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(name, value, "a string")
        size = len(utf8(value, name))
        if size > MAX_KEYWORD_BYTES:
            what = f"{name} {shown(value)} has {size} UTF-8 bytes"
            hint = f"a keyword has at most {MAX_KEYWORD_BYTES} (longer text: Text or payload)"
            raise LimitError(f"{what}; {hint}", field=name, value=value)
        return str(value)

    def filter_values(self, values: Sequence) -> Sequence | None:
        if set(map(type, values)) != {str} or max(map(len, values)) * 4 > MAX_KEYWORD_BYTES:
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
