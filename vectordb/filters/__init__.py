"""Filters: parse any notation into one tree of nodes, normalise it to a canonical form, and evaluate that to a bitmap of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectordb_client.model.filter import from_dict, not_a_filter
from vectordb_client.model.filter_nodes import Filter

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
    raise not_a_filter(value)
