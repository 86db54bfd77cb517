"""``vectordb restore FROM DIR``: the source comes first, as in cp."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import Command, add_directory, add_file_mode, console
from .snapshot import described


def add_arguments(parser: Command) -> None:
    parser.add_argument("source", metavar="FROM", type=Path, help="the snapshot: a directory or an archive file")
    add_directory(parser, about="a new or empty directory")
    add_file_mode(parser)


def run(arguments: argparse.Namespace) -> int:
    from ..maintenance.backup import restore

    mode = {} if arguments.file_mode is None else {"file_mode": arguments.file_mode}
    manifest = restore(arguments.source, arguments.data, **mode)
    console(stderr=True).print(f"restored to {manifest['path']}: {described(manifest)}, taken {manifest['created']}", markup=False)
    return 0
