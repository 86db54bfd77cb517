"""Glob patterns in one spelling each. The language is that of ``fnmatch.fnmatchcase``."""

from __future__ import annotations

_SPECIAL = frozenset("*?[")


def normal(pattern: str) -> tuple[str, str]:
    """("exact", text), ("prefix", text) or ("glob", pattern): what a pattern comes down to.

    In a run of wildcards the ``?`` stand first and one ``*`` is enough; a class of one character is that character; characters that
    stand for themselves are written as they are unless they are special.
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
            # As fnmatch reads it: a "]" that comes first belongs to the class, and "[" without a closing "]" is a character
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
