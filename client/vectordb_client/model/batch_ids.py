"""The ids of a batch, and the versions expected of its points: checks of what users give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, LimitError, shown
from .filter_nodes import Filter
from .foreign import frame_column, is_integer, listed, read_with, whole
from .info_text import many
from .values import Id, check_id, is_single_id

MAX_BATCH = 100_000


def check_ids(ids: Any) -> list[Id]:
    """Check a list of distinct ids. Raises InvalidArgumentError, which names the wrong or repeated id."""
    ids = listed_ids(ids)
    if len(ids) > MAX_BATCH:
        raise LimitError(f"a batch has at most {MAX_BATCH} points, not {len(ids)}", field="ids", value=len(ids))
    checked = _each_checked(ids)
    if len(set(checked)) != len(checked):
        distinct = set()
        for value in checked:
            if value in distinct:
                raise InvalidArgumentError(f"id {shown(value)} appears twice in the batch", field="ids", value=value)
            distinct.add(value)
    return checked


def check_deleted_ids(ids: Any, if_version: Any = None) -> list[Id]:
    """Check the ids of a deletion: one id, a column, or a set. Raises InvalidArgumentError, which names the wrong or repeated id."""
    if isinstance(ids, Filter):
        raise InvalidArgumentError(f"{shown(ids)} is a filter, not ids; write delete(filter=…)", field="ids", value=ids)
    if is_single_id(ids):
        return check_ids([ids])
    _check_column(ids)
    if not isinstance(ids, (set, frozenset)):
        return check_ids(ids)
    if if_version is not None and not isinstance(if_version, Mapping) and not is_integer(if_version):
        what = "if_version is a list, but ids are a set, which has no order; pass ids as a list, or if_version as a mapping from id"
        raise InvalidArgumentError(what, field="if_version", value=if_version)
    return check_ids(list(ids))


_FILTER = re.compile(
    r"""[\s(]*(NOT\b[\s(]*)?(`[^`]+`|[A-Za-z_][\w.-]*)
    (?:(?:\s+==?\s+|\s*(?:!=|<=|>=|<|>)\s*)(?:'[^']*'|"[^"]*"|[+-]?\d[\d.eE+-]*|true\b|false\b)
      |\s+(?:NOT\s+)?(?:IN|CONTAINS|CONTAINS\s+(?:ANY|ALL))\s*[('"]
      |\s+BETWEEN\s+\S+\s+AND\s
      |\s+IS\s+(?:NOT\s+)?NULL\b
      |\s+(?:MATCH|MATCH\s+\w+|STARTSWITH|GLOB)\s+['"])""",
    re.IGNORECASE | re.VERBOSE,
)


def check_not_a_filter(ids: Any, count: int) -> None:
    """Raise InvalidArgumentError if a deletion by one id found no point, and the id reads like a filter. count: the points deleted."""
    if count == 0 and isinstance(ids, str) and (ids == "ALL" or _FILTER.match(ids)):
        what = f"no point has the id {shown(ids)}, which reads like a filter; write delete(filter={ids!r})"
        raise InvalidArgumentError(what, field="ids", value=ids)


def check_what(ids: Any, filter: Any) -> None:
    """Raise InvalidArgumentError unless a deletion has either ids or a filter."""
    if (ids is None) == (filter is None):
        what = 'delete needs either ids or a filter; filter="ALL" deletes all points'
        raise InvalidArgumentError(what, field="ids" if ids is None else "filter")


def check_each_id(ids: Any) -> list[Id]:
    """Check ids to read, which may repeat. Raises InvalidArgumentError, which names the wrong id."""
    _check_column(ids)
    return _each_checked(listed_ids(ids))


def listed_ids(ids: Any) -> Sequence:
    """Ids as a list, without a check of each. Raises InvalidArgumentError."""
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise InvalidArgumentError(f"ids must be one-dimensional, not of shape {ids.shape}", field="ids", value=ids.shape)
    framed = as_framed("ids", ids)
    return (
        whole(framed)
        if framed is not None
        else listed_values("ids", ids, "ids must be a list or array of ids", f"; write [{shown(ids)}]" if is_single_id(ids) else "")
    )


def _check_column(ids: Any) -> None:
    """Raise the error of ``check_id`` for what is neither an id nor a list of ids."""
    if ids is None or isinstance(ids, (float, bytes)):
        check_id(ids)


def _each_checked(ids: Sequence) -> list[Id]:
    try:
        return [check_id(value) for value in ids]
    except InvalidArgumentError as error:
        row = next(row for row, value in enumerate(ids) if not _good_id(value))
        raise type(error)(f"row {row}: {error.message}", field=error.field, value=error.value) from None


def _good_id(value: Any) -> bool:
    try:
        check_id(value)
    except InvalidArgumentError:
        return False
    return True


def as_framed(name: str, values: Any) -> list | None:
    return read_with(name, values, frame_column)


def listed_values(name: str, values: Any, requirement: str, hint: str = "") -> Sequence:
    """The values of a column. Raises InvalidArgumentError, which says what is expected, and ``hint``."""
    result = read_with(name, values, listed)
    if result is None:
        hint = "; a set has no order; pass a list" if isinstance(values, (set, frozenset)) else hint
        raise InvalidArgumentError(f"{requirement}, not {shown(values)}{hint}", field=name, value=values)
    return result


def versions_of(if_version: Any, ids: Sequence[Id]) -> list[int | None] | None:
    """``if_version=`` as one expected version for each point: from an int for all, a list, or a mapping from id. 0: must not exist."""
    if if_version is None:
        return None
    if isinstance(if_version, Mapping):
        unknown = set(if_version) - set(ids)
        if unknown:
            value = next(iter(unknown))
            raise InvalidArgumentError(f"if_version names {shown(value)}, which is not in the batch", field="if_version", value=value)
        versions = [if_version.get(i) for i in ids]
    elif is_integer(if_version):
        versions = [int(if_version)] * len(ids)
    else:
        framed = as_framed("if_version", if_version)
        versions = (
            framed if framed is not None else listed_values("if_version", if_version, "if_version must be an integer, a list or a mapping")
        )
        check_length("if_version", versions, len(ids))
        versions = [int(value) if is_integer(value) else value for value in versions]
    for value in versions:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63):
            raise InvalidArgumentError(f"if_version {shown(value)} is not a version number", field="if_version", value=value)
    return versions


def check_length(name: str, values: Sequence, n: int, hint: str = "") -> None:
    if len(values) != n:
        what = f"{name} has {many(len(values), 'value')} for {many(n, 'id')}{hint}"
        raise InvalidArgumentError(what, field=name, value=len(values))
