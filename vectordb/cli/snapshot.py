"""``vectordb snapshot DIR TO``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Command, add_directory, console, counted, open_directory


def add_arguments(parser: Command) -> None:
    parser.epilog = (
        "Other processes may read and write meanwhile. The snapshot appears under its name when it is complete and on disk.\n"
        "vectordb check verifies it."
    )
    add_directory(parser)
    parser.add_argument("to", metavar="TO", type=Path, help="the snapshot to create: a directory, or with --archive a file")
    parser.add_argument("--archive", action="store_true", help="write a single tar file")


def run(arguments: argparse.Namespace) -> int:
    with open_directory(arguments.data, read_only=True) as database:
        manifest = database.snapshot(arguments.to, archive=arguments.archive)
    console(stderr=True).print(f"snapshot {manifest['path']}: {described(manifest)}", markup=False)
    return 0


def described(manifest: dict[str, Any]) -> str:
    """A snapshot's size: collections, points, bytes."""
    collections, size = manifest["collections"].values(), sum(file["bytes"] for file in manifest["files"].values())
    points = sum(collection["points"] for collection in collections)
    return ", ".join(counted(number, noun) for number, noun in ((len(collections), "collection"), (points, "point"), (size, "byte")))
