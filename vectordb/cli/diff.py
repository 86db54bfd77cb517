"""``vectordb diff DIR BRANCH``, or ``--target HOST:PORT BRANCH``."""

from __future__ import annotations

import argparse
import json

from vectordb_client.errors import many
from vectordb_client.model.branches import KINDS

from .options import Command, add_place, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "conflicts: points that the original has changed since, too."
    add_place(parser)
    parser.add_argument("--limit", metavar="N", type=int, default=10, help="the most ids to print of each kind (default 10)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        diff = database.diff(arguments.collection, limit=arguments.limit)
    if arguments.json:
        print(json.dumps(diff.to_dict(), indent=1, default=str))
        return 0
    for kind in KINDS:
        ids, count = getattr(diff, kind), diff.counts[kind]
        named = ", ".join(str(value) for value in ids) + (" …" if ids and len(ids) < count else "")
        print(f"{kind}: {many(count, 'point')}" + (f": {named}" if named else ""))
    return 0
