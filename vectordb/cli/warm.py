"""``vectordb warm``."""

from __future__ import annotations

import argparse

from .options import Command


def add_arguments(parser: Command) -> None:
    """It takes none."""


def run(arguments: argparse.Namespace) -> int:
    from ..warm import warm

    outcome = warm()
    if outcome.compiled:
        print(f"compiled {outcome.compiled} of {outcome.kernels} search kernels in {outcome.seconds:.1f} s")
    else:
        print(f"nothing to compile: {outcome.kernels} search kernels loaded in {outcome.seconds:.1f} s")
    print(outcome.shipped)
    if outcome.folder is not None:
        print(f"kept in {outcome.folder}")
    elif outcome.compiled:
        print("they are kept nowhere: no folder can be written to; set VECTORDB_CACHE_DIR to one that can")
    return 0
