"""``vectordb bench COMMAND …``: a package of its own, imported for this command alone."""

from __future__ import annotations

from .options import Command


def add_arguments(parser: Command) -> None:
    from vectordb_bench.cli import add_commands

    add_commands(parser)
