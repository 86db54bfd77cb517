"""The nodes that only canonical filters have. Values in them are stored forms (``vectordb_client.values``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectordb_client.filter import Filter


@dataclass(frozen=True, eq=False)
class Range(Filter):
    """A value (of an array: one element) lies in ``low … high``, both included; None is open. Never open on both sides."""

    field: str
    low: int | float | None
    high: int | float | None


@dataclass(frozen=True, eq=False)
class CountRange(Filter):
    """An array's length lies in ``low … high``, both included; None is open. An absent array has length 0."""

    field: str
    low: int | None
    high: int | None


@dataclass(frozen=True, eq=False)
class MatchWords(Filter):
    """A text holds ``words`` (at least one). mode "all": each of them, sorted; of an array, all in one element. "phrase": in sequence.

    One word always has mode "all". Several words with mode "all" stand for arrays only: elsewhere they become one node each.
    """

    field: str
    mode: str
    words: tuple[str, ...]


def make(kind: type[Filter], **fields: Any) -> Filter:
    """A node without the checks and limits of what users give: canonical values are stored forms, and may be more."""
    node = object.__new__(kind)
    node.__dict__.update(fields)
    return node
