"""Options of writes: increments of numbers, merges into payloads, updates by filter, insert-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgumentError, shown
from .foreign import is_null, is_number, listed, plain, read_with
from .info_text import many

if TYPE_CHECKING:
    from .schema import Schema


class EveryPoint:
    """Stands for the ids of an update by filter: its one row is the new values of every point that matches."""

    def __repr__(self) -> str:
        return "that matches the filter"


EVERY = EveryPoint()


def check_options(kind: str, points: Any, ids: Any, filter: Any, if_version: Any, others: Mapping[str, Any], if_absent: Any) -> None:
    """Raise InvalidArgumentError for options of a write that make no sense together. others: increment and payload_merge, by name."""
    if kind == "upsert":
        for name, value in (("filter", filter), *others.items()):
            if value is not None:
                raise InvalidArgumentError(f"{name} belongs to update(…), because an upsert replaces whole points", field=name, value=value)
    elif if_absent:
        raise InvalidArgumentError("if_absent belongs to upsert(…), because an update changes points that exist", field="if_absent")
    if filter is not None:
        if points is not None or ids is not None:
            what = "an update has either ids (or points) or a filter; with a filter, give one value for each field"
            raise InvalidArgumentError(what, field="filter", value=filter)
        if if_version is not None:
            raise InvalidArgumentError("if_version needs ids; an update by filter has none", field="if_version", value=if_version)


def increments(schema: Schema, given: Any, attributes: Mapping[str, Any], n: int) -> dict[str, list[Any]]:
    """``increment=`` as one number or None for each of n points. Raises InvalidArgumentError or SchemaError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        what = f"increment must be a mapping of attribute names to numbers, not {shown(given)}; write increment={{'views': 1}}"
        raise InvalidArgumentError(what, field="increment", value=given)
    checked = {}
    for name, value in given.items():
        spec = schema.attribute(name)
        if spec.array or not spec.plain or spec.stored not in ("int64", "float64"):
            kind = f"{spec.kind} array" if spec.array else spec.kind
            raise InvalidArgumentError(f"increment needs an Int or Float attribute; {name!r} is {kind}", field=name, value=value)
        if name in attributes:
            what = f"{name!r} is both set and incremented; write it in attributes or in increment"
            raise InvalidArgumentError(what, field=name, value=value)
        values = [value] * n if is_number(value) or is_null(value) or value is None else read_with(name, value, listed)
        if values is None:
            what = f"increment of {name!r} must be a number or {many(n, 'number')}, not {shown(value)}"
            raise InvalidArgumentError(what, field=name, value=value)
        if len(values) != n:
            raise InvalidArgumentError(f"increment of {name!r} has {many(len(values), 'value')} for {many(n, 'id')}", field=name)
        checked[name] = [None if each is None or is_null(each) else spec.coerce_one(name, plain(each)) for each in values]
    return checked


def merges(given: Any, replaced: Any, n: int, to_json: Callable[[Any], Any]) -> list[Any] | None:
    """``payload_merge=`` as one object or None for each of n points. replaced: the argument ``payload``. Raises InvalidArgumentError."""
    if given is None:
        return None
    if replaced is not None:
        raise InvalidArgumentError("payload is both replaced and merged; give payload or payload_merge", field="payload_merge", value=given)
    values = [given] * n if isinstance(given, Mapping) else read_with("payload_merge", given, listed)
    if values is None:
        what = f"payload_merge must be an object for all points or a list of {many(n, 'object')}, not {shown(given)}"
        raise InvalidArgumentError(what, field="payload_merge", value=given)
    if len(values) != n:
        what = f"payload_merge has {many(len(values), 'value')} for {many(n, 'id')}"
        raise InvalidArgumentError(what, field="payload_merge", value=len(values))
    for value in values:
        if value is not None and not isinstance(value, Mapping):
            what = f"payload_merge must be objects, not {shown(value)}; payload=… replaces a payload by any value"
            raise InvalidArgumentError(what, field="payload_merge", value=value)
    return [None if value is None else to_json(value) for value in values]


def merged(old: Any, patch: Mapping[str, Any]) -> Any:
    """A JSON value with a merge patch (RFC 7396): objects are merged, None removes a key, any other value replaces the old one."""
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = merged(result.get(key), value)
        else:
            result[key] = value
    return result


def wrapped(values: Mapping[str, Any] | None, is_column: Callable[[Any], bool]) -> Mapping[str, Any] | None:
    """The values of an update by filter as columns of one row."""
    if not isinstance(values, Mapping):
        return values  # None, or wrong, and then refused later
    return {name: value if value is None or is_column(value) else [value] for name, value in values.items()}
