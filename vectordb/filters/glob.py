"""Normalise glob patterns, so that equivalent spellings become one. The syntax is that of ``fnmatch.fnmatchcase``."""

from __future__ import annotations

_SPECIAL = frozenset("*?[")


def normal(pattern: str) -> tuple[str, str]:
    """The simplest equivalent of a pattern: ("exact", text), ("prefix", text) or ("glob", pattern).

    In a run of wildcards, the ``?`` come first and a single ``*`` last. A class of one character, such as ``[a]``, becomes the character.
    Only special characters are escaped.
    """
    parts: list[str] = []  # "*", "?", a class "[…]" of two and more characters, or one literal character with a leading space
    i = 0
    while i < len(pattern):
        c = pattern[i]
        i += 1
        if c in "*?":
            _wildcard(parts, c)
            continue
        if c == "[":
            # As in fnmatch: a "]" right after the "[" belongs to the class, and a "[" without a closing "]" is a literal character.
            start = i + 1 if pattern[i : i + 1] == "!" else i
            end = pattern.find("]", start + 1 if pattern[start : start + 1] == "]" else start)
            if end >= 0:
                inside = pattern[i:end]
                parts.append(" " + inside if len(inside) == 1 else f"[{inside}]")
                i = end + 1
                continue
        parts.append(" " + c)
    literal = [part[1] for part in parts if part[0] == " "]
    if len(literal) == len(parts):
        return "exact", "".join(literal)
    if len(literal) == len(parts) - 1 and parts[-1] == "*":
        return "prefix", "".join(literal)
    return "glob", "".join([part if part[0] != " " else f"[{part[1]}]" if part[1] in _SPECIAL else part[1] for part in parts])


def _wildcard(parts: list[str], c: str) -> None:
    if c == "?" and parts and parts[-1] == "*":
        parts.insert(len(parts) - 1, "?")
    elif not (c == "*" and parts and parts[-1] == "*"):
        parts.append(c)
