"""True or False."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InvalidArgumentError, shown
from .base import AttributeType, wrong

_TRUE, _FALSE = {"true", "t", "yes", "1"}, {"false", "f", "no", "0"}


class Bool(AttributeType):
    """True or False. ``array=True``: a list for each point."""

    kind = "bool"
    stored = "flag"
    parts = ("category",)

    def coerce_one(self, name: str, value: Any) -> bool:
        if not isinstance(value, (bool, np.bool_)):
            raise wrong(name, value, "True or False")
        return bool(value)

    def from_cell(self, name: str, text: str) -> bool:
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise InvalidArgumentError(f"{name} must be true or false, not {shown(text)}", field=name, value=text)
        return word in _TRUE

    def to_cell(self, value: bool) -> str:
        return "true" if value else "false"

    def arrow_type(self, pyarrow: Any) -> Any:
        return pyarrow.bool_()
