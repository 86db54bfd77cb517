"""``vectordb drop DIR COLLECTION``, or ``--target HOST:PORT COLLECTION``."""

from __future__ import annotations

import argparse

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "There is no confirmation prompt. The files may still contain the deleted data; vectordb purge removes it."
    add_place(parser)


def run(arguments: argparse.Namespace) -> int:
    with opened(arguments, read_only=False) as database:
        points = database.collection(arguments.collection).count()
        database.drop_collection(arguments.collection)
    console(stderr=True).print(f"dropped collection {arguments.collection!r} with {points:,} points", markup=False)
    return 0
