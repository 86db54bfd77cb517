"""Filters for peers: from vectordb's JSON notation to a small tree, and from the tree to the language of each system.

The tree is made of nested tuples, so that the writer for a system is short:

    ("and" | "or", [tree, …])    ("not", tree)    ("null", field)
    ("in", field, [value, …])    ("range", field, low, high, low_open, high_open), None where a side has no bound
    ("all", field, [value, …])   the row's array contains every value

A predicate on an array holds if any element satisfies it, so "in" also means "contains any". A negation matches rows without a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Unsupported

Tree = tuple

_NEGATED = {"ne": "eq", "not_in": "in", "is_not_null": "is_null"}
_LISTS = {"in": "in", "contains_any": "in", "contains_all": "all"}
_BOUNDS = {"lt": (False, True), "le": (False, False), "gt": (True, True), "ge": (True, False)}  # (is it the lower bound, is it open)


def tree(expression: dict) -> Tree:
    """The tree of a JSON filter. Raises Unsupported for operators that the benchmark doesn't use with peers."""
    op, field = expression["op"], expression.get("field")
    if op in ("and", "or"):
        return op, [tree(child) for child in expression["filters"]]
    if op == "not":
        return "not", tree(expression["filter"])
    if op in _NEGATED:
        return "not", tree({**expression, "op": _NEGATED[op]})
    if op == "eq":
        return "in", field, [expression["value"]]
    if op in _LISTS:
        return _LISTS[op], field, list(expression["values"])
    if op == "between":
        return "range", field, expression["low"], expression["high"], False, False
    if op in _BOUNDS:
        is_low, is_open = _BOUNDS[op]
        value = expression["value"]
        return ("range", field, value, None, is_open, False) if is_low else ("range", field, None, value, False, is_open)
    if op == "is_null":
        return "null", field
    raise Unsupported(f"filter op {op!r} isn't translated for peers")


def negation(node: Tree) -> Tree:
    """The negation of a tree, pushed down to the leaves, for systems that can negate only leaves."""
    kind = node[0]
    if kind == "not":
        return node[1]
    if kind in ("and", "or"):
        return ("or" if kind == "and" else "and"), [negation(child) for child in node[1]]
    return "not", node


def outside(node: Tree) -> list[Tree]:
    """The one or two ranges outside of a range."""
    _, field, low, high, low_open, high_open = node
    below, above = ("range", field, None, low, False, not low_open), ("range", field, high, None, not high_open, False)
    return [*([below] if low is not None else []), *([above] if high is not None else [])]


def fields_of(node: Tree) -> set[str]:
    if node[0] in ("and", "or"):
        return set().union(*map(fields_of, node[1]))
    return fields_of(node[1]) if node[0] == "not" else {node[1]}


def quoted(value: Any) -> str:
    """An SQL literal."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def double_quoted(value: Any) -> str:
    """A literal in double quotes, as in Milvus's language."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(value, str) else str(value)


class Sql:
    """Writes a tree as a condition in an SQL-like language. Dialects override single methods.

    arrays, nullable: names of such fields. SQL's NOT excludes rows without a value and vectordb's includes them, so nullable fields need an
    extra condition.
    """

    equals = " = "
    literal: Callable[[Any], str] = staticmethod(quoted)

    def __init__(self, arrays: set[str] = frozenset(), nullable: set[str] = frozenset()):
        self.arrays, self.nullable = arrays, nullable

    def __call__(self, node: Tree) -> str:
        kind = node[0]
        if kind in ("and", "or"):
            return "(" + f" {kind} ".join(map(self, node[1])) + ")"
        if kind == "not":
            return self.negated(node[1])
        if kind == "null":
            return self.null(node[1])
        if kind == "range":
            return self.range(*node[1:])
        if kind == "all":
            return self.contains_all(node[1], node[2])
        return self.contains_any(node[1], node[2]) if node[1] in self.arrays else self.is_in(node[1], node[2])

    def values(self, values: list) -> str:
        return ", ".join(map(self.literal, values))

    def negated(self, node: Tree) -> str:
        if node[0] == "null":
            return self.not_null(node[1])
        # NOT of a closed range can't use an ordered index, but the two ranges outside of it can.
        if node[0] == "range" and None not in node[2:4] and node[1] not in self.nullable:
            return f"({' or '.join(map(self, outside(node)))})"
        if self.nullable & fields_of(node):
            return self.negated_or_null(node)
        return f"not ({self(node)})"

    def negated_or_null(self, node: Tree) -> str:
        return f"(({self(node)}) is not true)"

    def null(self, field: str) -> str:
        return f"{field} is null"

    def not_null(self, field: str) -> str:
        return f"{field} is not null"

    def is_in(self, field: str, values: list) -> str:
        return f"{field}{self.equals}{self.literal(values[0])}" if len(values) == 1 else f"{field} in ({self.values(values)})"

    def range(self, field: str, low: Any, high: Any, low_open: bool, high_open: bool) -> str:
        parts = []
        if low is not None:
            parts.append(f"{field} {'>' if low_open else '>='} {self.literal(low)}")
        if high is not None:
            parts.append(f"{field} {'<' if high_open else '<='} {self.literal(high)}")
        return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"

    def contains_any(self, field: str, values: list) -> str:
        raise Unsupported("it has no arrays")

    def contains_all(self, field: str, values: list) -> str:
        raise Unsupported("it has no arrays")
