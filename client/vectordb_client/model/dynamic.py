"""Writes to collections with ``Schema(dynamic=True)``: attributes that aren't declared become keys of the payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InvalidArgumentError, listing, shown
from .foreign import is_nan, is_null
from .schema import Schema
from .unset import UNSET


def undeclared(schema: Schema, attributes: Mapping[str, Any]) -> list[str]:
    """The names of attributes that become keys of the payload. Raises InvalidArgumentError where that can't be."""
    if not schema.dynamic:
        return []
    names = [name for name in attributes if name not in schema.attributes]
    for name in names:
        if not isinstance(name, str) or not name or name in schema.vectors:
            what = "is a vector field" if name in schema.vectors else "is not a name: write a non-empty string"
            raise InvalidArgumentError(f"attribute {shown(name)} {what}", field="attributes", value=name)
    return names


def changed_keys(
    keys: Mapping[str, Sequence[Any]], ids: Sequence[Any], payload: Any, merging: Any, to_json: Callable[[Any], Any]
) -> dict[str, list[Any]]:
    """The keys of the payload that an update changes: name → for each point a JSON value, None to remove the key, UNSET to leave it.

    payload, merging: the payloads of the update and what it merges into them. Raises InvalidArgumentError.
    """
    changed: dict[str, list[Any]] = {}
    for name, values in keys.items():
        changed[name] = []
        for row, value in enumerate(values):
            if value is UNSET:
                changed[name].append(UNSET)
                continue
            for field, others in (("payload", payload), ("payload_merge", merging)):
                other = None if others is None else others[row]
                if isinstance(other, Mapping) and name in other:
                    raise InvalidArgumentError(f"{name!r} is given twice: as an attribute and in {field}", field=name, value=value)
            try:
                changed[name].append(None if is_null(value) or is_nan(value) else to_json(value))
            except InvalidArgumentError as error:
                what = f"attribute {name!r} of point {shown(ids[row])}: {error.message}"
                raise InvalidArgumentError(what, field=name, value=value) from error.__cause__
    return changed


def with_changed(payload: Any, keys: Mapping[str, Any], id: Any) -> Any:
    """The payload of a point after an update changed some of its keys. Raises InvalidArgumentError if it isn't an object."""
    if payload is not None and not isinstance(payload, Mapping):
        first = next(iter(keys))
        what = (
            f"attribute {first!r} isn't declared, so it is a key of the payload, but the payload of point {shown(id)} is {shown(payload)}"
        )
        raise InvalidArgumentError(f"{what}; replace it by an object: payload=[{{…}}]", field=first, value=payload)
    made = {**(payload or {}), **{name: value for name, value in keys.items() if value is not None}}
    made = {name: value for name, value in made.items() if name not in keys or keys[name] is not None}
    return made or (None if payload is None else {})


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
