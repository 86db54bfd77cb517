"""Which part of the payload a read returns: ``with_payload``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Reader = Callable[[Any], Any]


def payload_reader(selection: bool | Sequence[str] | None, attributes: bool | Sequence[str]) -> Reader | None:
    """A function from a stored payload to what is returned of it; None where nothing is.

    selection: as ``with_payload``, checked; None follows the selection of attributes.
    """
    if selection is None:
        selection = attributes is not False
    if isinstance(selection, bool):
        return _whole if selection else None
    paths = tuple(selection)
    return (lambda payload: chosen(payload, paths)) if paths else None


def _whole(payload: Any) -> Any:
    return payload


def chosen(value: Any, paths: Sequence[str]) -> Any:
    """The part of a JSON value at some paths, in its own structure; None if it has none of them. Arrays keep the objects that have some."""
    if isinstance(value, list):
        return [part for part in (chosen(each, paths) for each in value) if part is not None] or None
    if not isinstance(value, dict):
        return None
    part = {}
    for key, inner in value.items():
        if key in paths:
            part[key] = inner
            continue
        below = [path[len(key) + 1 :] for path in paths if path.startswith(key + ".")]
        if below and (some := chosen(inner, below)) is not None:
            part[key] = some
    return part or None
