"""Filters: from any notation to one tree, and from that to one canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectordb_client.errors import FilterError, shown
from vectordb_client.filter import F, Filter, from_dict

from .parse import parse

__all__ = ["as_filter"]


def as_filter(value: Any) -> Filter | None:
    """A filter given as a node, in the string notation, in the JSON form, or not at all. Raises FilterError or LimitError."""
    if value is None or isinstance(value, Filter):
        return value
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, Mapping):
        return from_dict(value)
    hint = f"; write {value!r} == True, or another comparison" if isinstance(value, F) else ""
    what = f"a filter is a node (F(…) > 1), a string or a dict, not {shown(value)} ({type(value).__name__}){hint}"
    raise FilterError(what, field="filter", value=value)
