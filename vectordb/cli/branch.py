"""``vectordb branch DIR COLLECTION NAME``, or ``--target HOST:PORT COLLECTION NAME``."""

from __future__ import annotations

import argparse

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "vectordb diff DIR NAME shows what changed on it, vectordb merge DIR NAME writes that into COLLECTION."
    add_place(parser, rest=("name", "NAME", "the name of the branch, a new collection"))

    def check(arguments: argparse.Namespace) -> None:
        if len(arguments.name or ()) != 1:
            raise argparse.ArgumentTypeError(f"write {parser.prog} DIR COLLECTION NAME, with one name for the branch")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    (name,) = arguments.name
    with opened(arguments, read_only=False) as database:
        database.branch(arguments.collection, name)
    console(stderr=True).print(f"{name!r} is a branch of collection {arguments.collection!r}", markup=False)
    return 0
