"""An extension of griffe, which reads the docstrings for the site: lines that begin with names of arguments become a list.

Docstrings here describe an argument on a line of its own, ``name: what it is``. Markdown would join these lines into one paragraph.
"""

from __future__ import annotations

import re

import griffe

_ITEM = re.compile(r"^(\w+(?:, \w+)*): ")
_ENDS = re.compile(r"^(Raises|Returns|Always|Everything else|The same)\b")


def as_list(text: str, names: set[str]) -> str:
    """A docstring whose lines ``name: …`` about one of the names are items of a list."""
    lines, inside = [], False
    for line in text.splitlines():
        found = _ITEM.match(line)
        if found and set(found[1].split(", ")) & names:
            if not inside:
                lines.append("")
            shown = ", ".join(f"**`{name}`**" for name in found[1].split(", "))
            lines.append(f"- {shown}: {line[found.end() :]}")
            inside = True
            continue
        if not line.strip() or _ENDS.match(line):
            if inside and line.strip():
                lines.append("")
            inside = False
        lines.append(f"  {line}" if inside else line)
    return "\n".join(lines)


class Arguments(griffe.Extension):
    """Applies ``as_list`` to every function and class."""

    def on_function(self, *, func: griffe.Function, **_: object) -> None:
        if func.docstring is not None:
            func.docstring.value = as_list(func.docstring.value, {parameter.name for parameter in func.parameters})

    def on_class(self, *, cls: griffe.Class, **_: object) -> None:
        if cls.docstring is not None:
            names = set(cls.members)
            if "__init__" in cls.members:
                names |= {parameter.name for parameter in cls.members["__init__"].parameters}
            cls.docstring.value = as_list(cls.docstring.value, names)
