"""A memory budget as users write it: "2GiB", "500MB", a number of bytes, or None."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from ..errors import InvalidArgumentError, shown
from .foreign import is_integer

Memory: TypeAlias = int | str | None
LEAST_MEMORY, MOST_MEMORY = 16 << 20, 1 << 50  # bytes
_UNITS = {unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb"))}
_UNITS |= {unit: 1024**power for power, unit in enumerate(("", "kib", "mib", "gib", "tib")) if unit}
_TEXT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([a-zA-Z]{1,3})\s*", re.ASCII)


def check_memory(value: Any, name: str = "memory") -> int | None:
    """The bytes of a memory budget, None for no budget. Raises InvalidArgumentError."""
    if value is None:
        return None
    nbytes: Any = None
    if isinstance(value, str):
        match = _TEXT.fullmatch(value)
        unit = None if match is None else _UNITS.get(match[2].lower())
        nbytes = None if match is None or unit is None else int(float(match[1]) * unit)
    elif is_integer(value) and not isinstance(value, bool):
        nbytes = int(value)
    if nbytes is None:
        what = f'{name} must be a size such as "2GiB" or "500MB", an integer of bytes, or None for no limit, not {shown(value)}'
        raise InvalidArgumentError(what, field=name, value=value)
    if not LEAST_MEMORY <= nbytes <= MOST_MEMORY:
        what = f'{name} must be from "16MiB" to "1024TiB", not {shown(value)} ({nbytes:,} bytes); write "2GiB" for 2 gibibytes'
        raise InvalidArgumentError(what, field=name, value=value)
    return nbytes
