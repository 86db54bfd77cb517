"""``vectordb snapshot DIR TO``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Command, add_directory, console, open_directory


def add_arguments(parser: Command) -> None:
    parser.epilog = (
        "Others may read and write meanwhile. What is made appears under its name when it is whole and on disk; check verifies it."
    )
    add_directory(parser)
    parser.add_argument("to", metavar="TO", type=Path, help="what to make: a directory, or with --archive a file")
    parser.add_argument("--archive", action="store_true", help="one tar file")


def run(arguments: argparse.Namespace) -> int:
    with open_directory(arguments.data, read_only=True) as database:
        manifest = database.snapshot(arguments.to, archive=arguments.archive)
    console(stderr=True).print(f"{described(manifest)}, in {manifest['path']}", markup=False)
    return 0


def described(manifest: dict[str, Any]) -> str:
    """What a snapshot holds, in a few words."""
    collections, size = manifest["collections"].values(), sum(file["bytes"] for file in manifest["files"].values())
    points = sum(collection["points"] for collection in collections)
    return f"{len(collections)} collection{'s' * (len(collections) != 1)}, {points:,} points, {size:,} bytes"
