"""Filters: parse any notation into one tree of nodes, normalise it to a canonical form, and evaluate that to a bitmap of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectordb_client.errors import FilterError, shown
from vectordb_client.filter import F, Filter, from_dict

from .parse import parse

__all__ = ["as_filter"]


def as_filter(value: Any) -> Filter | None:
    """The tree of nodes of a filter given as such a tree, as a string, as a dict (the JSON form) or as None.

    Raises FilterError, and LimitError where it is too large.
    """
    if value is None or isinstance(value, Filter):
        return value
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, Mapping):
        return from_dict(value)
    hint = ""
    if isinstance(value, F):
        hint = f"; write a comparison, such as {value!r} == True"
    elif isinstance(value, (list, tuple)):
        hint = "; combine several filters with & or |"
    forms = """F('n') > 1, "n > 1" or {"op": "gt", "field": "n", "value": 1}"""
    what = f"filter must be a comparison of F, a string or a dict, such as {forms}, not {shown(value)} ({type(value).__name__}){hint}"
    raise FilterError(what, field="filter", value=value)
