"""Writes to collections with ``Schema(dynamic=True)``: attributes that aren't declared become keys of the payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InvalidArgumentError, listing, shown
from .foreign import is_nan, is_null
from .schema import Schema

Listed = Callable[[str, Any], Sequence[Any]]


def undeclared(schema: Schema, attributes: Mapping[str, Any], kind: str) -> list[str]:
    """The names of attributes that become keys of the payload. Raises InvalidArgumentError where that can't be."""
    if not schema.dynamic:
        return []
    names = [name for name in attributes if name not in schema.attributes]
    for name in names:
        if not isinstance(name, str) or not name or name in schema.vectors:
            what = "is a vector field" if name in schema.vectors else "is not a name: write a non-empty string"
            raise InvalidArgumentError(f"attribute {shown(name)} {what}", field="attributes", value=name)
    if names and kind == "update":
        what = f"{listing(names)} isn't declared, so it is a key of the payload, and an update can only replace the whole payload"
        raise InvalidArgumentError(f"{what}; write payload=[{{…}}], or upsert the point", field="attributes", value=names[0])
    return names


def with_keys(payload: Sequence[Any] | None, keys: Mapping[str, Sequence[Any]], n: int) -> list[Any]:
    """The payload of n points with more keys. A missing value (None, NaN) adds no key. Raises InvalidArgumentError."""
    made: list[Any] = [None] * n if payload is None else list(payload)
    for row in range(n):
        found = {name: values[row] for name, values in keys.items() if not (is_null(values[row]) or is_nan(values[row]))}
        if not found:
            continue
        given = {} if made[row] is None else made[row]
        if not isinstance(given, Mapping):
            what = f"the payload must be an object where undeclared attributes are added to it ({listing(found)}), not {shown(given)}"
            raise InvalidArgumentError(what, field="payload", value=given)
        both = [name for name in found if name in given]
        if both:
            raise InvalidArgumentError(
                f"{both[0]!r} is given twice: as an attribute and in the payload", field=both[0], value=found[both[0]]
            )
        made[row] = {**given, **found}
    return made
