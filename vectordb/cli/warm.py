"""``vectordb warm``."""

from __future__ import annotations

import argparse

from .options import Command


def add_arguments(parser: Command) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace) -> int:
    from ..warm import warm

    found = warm()
    if found.compiled:
        print(f"compiled {found.compiled} of {found.kernels} search kernels in {found.seconds:.1f} s")
    else:
        print(f"nothing to compile: {found.kernels} search kernels loaded in {found.seconds:.1f} s")
    print(found.shipped)
    if found.folder is not None:
        print(f"kept in {found.folder}")
    elif found.compiled:
        print("they are kept nowhere: no folder can be written to; set VECTORDB_CACHE_DIR to one that can")
    return 0
