"""The argument types that the package calls its kernels with: what is compiled ahead. They are recorded by ``tools/kernels.py record``.

``signatures.txt`` has one line a kernel and types: the task that needs it first, the seconds that it took to compile when it was recorded
(they order the work, and make an estimate), the kernel, the types. A type is a number's, ``uint8``, or an array's: ``uint8[1C]`` has one
dimension and is contiguous, ``const`` says that it is read-only.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numba import types

from .jit import name_of

PATH = Path(__file__).with_name("signatures.txt")
# What a first search calls; what a first index and searches of it call besides; what builds a graph of many rows; what a first index of
# lists, and one of multi-vectors, call; the rest.
TASKS = ("search", "index", "graph", "lists", "multi", "tail", "more")
_ARRAY = re.compile(r"(const )?(\w+)\[(\d)([CFA])\]")
_HEAD = """\
# Kernels that Python calls, and the types it calls them with: what is compiled ahead. Made by: python tools/kernels.py record
# task; seconds to compile; kernel; types
"""


@dataclass(frozen=True)
class Signature:
    """kernel: ``module.function`` within this package; types: of its arguments, as text. task: one of TASKS."""

    task: str
    seconds: float
    kernel: str
    types: tuple[str, ...]

    def arguments(self) -> tuple[Any, ...]:
        """The types as numba's."""
        return tuple(map(type_of, self.types))

    def dispatcher(self) -> Any:
        """The kernel."""
        module, _, function = self.kernel.rpartition(".")
        return getattr(importlib.import_module(f".{module}", __package__), function)

    def name(self) -> str:
        """As ``jit.name_of`` has it."""
        return name_of(self.kernel, self.arguments())

    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.task}; {self.seconds:.1f}; {self.kernel}; {', '.join(self.types)}"


def type_of(text: str) -> Any:
    """numba's type of a text. Raises ValueError."""
    array = _ARRAY.fullmatch(text)
    if array:
        return types.Array(type_of(array[2]), int(array[3]), array[4], readonly=bool(array[1]))
    scalar = types.boolean if text == "bool" else getattr(types, text, None)
    if not isinstance(scalar, (types.Integer, types.Float, types.Boolean)):
        raise ValueError(f"no type of a kernel's argument: {text!r}")
    return scalar


def text_of(kind: Any) -> str:
    """The text of numba's type. Raises ValueError for one that can't be written down."""
    if isinstance(kind, types.Array):
        text = f"{'' if kind.mutable else 'const '}{text_of(kind.dtype)}[{kind.ndim}{kind.layout}]"
    else:
        text = "bool" if kind == types.boolean else str(kind)
    if type_of(text) != kind:
        raise ValueError(f"a kernel's argument of type {kind} can't be written down")
    return text


def read(path: Path = PATH) -> list[Signature]:
    """Those recorded. Raises ValueError for a line that is none."""
    entries = []
    for line in path.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            entries.append(parsed(line))
    return entries


def parsed(line: str) -> Signature:
    """A line of the file. Raises ValueError."""
    task, seconds, kernel, given = line.split("; ")
    return Signature(task, float(seconds), kernel, tuple(given.split(", ")))


def write(entries: Iterable[Signature], path: Path = PATH) -> None:
    """Write them down, by task and kernel."""
    ordered = sorted(entries, key=lambda each: (TASKS.index(each.task), each.kernel, each.types))
    path.write_text(_HEAD + "".join(each.line() + "\n" for each in ordered), encoding="ascii")


@functools.cache
def recorded() -> dict[str, Signature]:
    """Those of the package by their names."""
    return {each.name(): each for each in read()}
