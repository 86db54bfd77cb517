"""``vectordb drop DIR COLLECTION``."""

from __future__ import annotations

import argparse

from .options import Command, add_collection, add_directory, console, open_directory


def add_arguments(parser: Command) -> None:
    parser.epilog = "It asks nothing. What was deleted can still be in the files; vectordb purge takes it out of them."
    add_directory(parser)
    add_collection(parser, required=True)


def run(arguments: argparse.Namespace) -> int:
    with open_directory(arguments.data) as database:
        points = database.collection(arguments.collection).count()
        database.drop_collection(arguments.collection)
    console(stderr=True).print(f"collection {arguments.collection!r} is gone, with {points:,} points", markup=False)
    return 0
