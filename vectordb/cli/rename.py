"""``vectordb rename DIR COLLECTION NEW``, or ``--target HOST:PORT COLLECTION NEW``."""

from __future__ import annotations

import argparse

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "Aliases of the collection stay. API keys for the old name no longer give access to it."
    add_place(parser, rest=("new", "NEW", "the new name"))

    def check(arguments: argparse.Namespace) -> None:
        if len(arguments.new or ()) != 1:
            raise argparse.ArgumentTypeError(f"write {parser.prog} DIR COLLECTION NEW, with one new name")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    (new,) = arguments.new
    with opened(arguments, read_only=False) as database:
        database.rename_collection(arguments.collection, new)
    console(stderr=True).print(f"renamed collection {arguments.collection!r} to {new!r}", markup=False)
    return 0
