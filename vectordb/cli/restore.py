"""``vectordb restore FROM DIR``: the source first, as cp has it."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import Command, add_directory, add_file_mode, console
from .snapshot import described


def add_arguments(parser: Command) -> None:
    parser.add_argument("source", metavar="FROM", type=Path, help="the snapshot, a directory or a file")
    add_directory(parser, about="a new or empty directory")
    add_file_mode(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..backup import restore

    mode = {} if arguments.file_mode is None else {"file_mode": arguments.file_mode}
    manifest = restore(arguments.source, arguments.data, **mode)
    console(stderr=True).print(f"{described(manifest)}, of {manifest['created']}, restored to {manifest['path']}", markup=False)
    return 0
