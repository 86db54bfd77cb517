"""``vectordb merge DIR BRANCH``, or ``--target HOST:PORT BRANCH``."""

from __future__ import annotations

from typing import get_args

from vectordb_client.model.branches import OnConflict

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "All of it is written in one transaction, or nothing. The branch stays; vectordb drop DIR BRANCH removes it."
    add_place(parser)
    parser.add_argument(
        "--on-conflict",
        choices=get_args(OnConflict),
        default="error",
        help="which points to take if the original has changed them, too: those of the branch or of the original (default: error)",
    )


def run(arguments) -> int:
    with opened(arguments, read_only=False) as database:
        merged = database.merge(arguments.collection, on_conflict=arguments.on_conflict)
    conflicts = f", {merged.conflicts} of them in conflict" if merged.conflicts and arguments.on_conflict == "branch" else ""
    kept = f"; the original's points were kept at {merged.conflicts} conflicts" if merged.conflicts and not conflicts else ""
    what = f"{merged.added} points added, {merged.changed} changed, {merged.deleted} deleted{conflicts}{kept}"
    console(stderr=True).print(f"merged branch {arguments.collection!r}: {what}", markup=False)
    return 0
