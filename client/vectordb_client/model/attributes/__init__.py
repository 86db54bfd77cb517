"""The types of attributes: a file each, and a line in ``ATTRIBUTE_TYPES``."""

from __future__ import annotations

from typing import Any

from .base import AttributeType
from .bool import Bool
from .datetime import Datetime
from .float import Float
from .geo import Geo
from .int import Int
from .keyword import Keyword
from .text import Text
from .uuid import Uuid

# kind → class. Code of other projects adds its own types here, before it opens a database or connects to a service.
ATTRIBUTE_TYPES: dict[str, type[AttributeType]] = {
    "keyword": Keyword,
    "int": Int,
    "float": Float,
    "bool": Bool,
    "datetime": Datetime,
    "text": Text,
    "uuid": Uuid,
    "geo": Geo,
}


def type_of(value: Any) -> AttributeType | None:
    """The type whose values are of this Python class (``AttributeType.python``); None for the classes that JSON has."""
    return next((cls() for cls in ATTRIBUTE_TYPES.values() if isinstance(value, cls.python)), None)
