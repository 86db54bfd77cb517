"""``vectordb info DIR [COLLECTION]``, or ``--target HOST:PORT``."""

from __future__ import annotations

import argparse
import json

from .options import Command, add_collection, add_directory, add_service, connect, console, open_directory


def add_arguments(parser: Command) -> None:
    add_directory(parser, required=False)
    add_collection(parser)
    add_service(parser, required=False)
    parser.add_argument("--json", action="store_true", help="as JSON")

    def check(arguments: argparse.Namespace) -> None:
        if (arguments.data is None) == (arguments.target is None):
            raise argparse.ArgumentTypeError(f"write {parser.prog} DIR, or {parser.prog} --target HOST:PORT")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from vectordb_client.values import to_json

    from .render import info_dict, print_info

    where = {"path": str(arguments.data)} if arguments.target is None else {"target": arguments.target}
    with open_directory(arguments.data, read_only=True) if arguments.target is None else connect(arguments) as database:
        names = [arguments.collection] if arguments.collection else sorted(database.collections())
        found = [database.collection(name).info() for name in names]
    if arguments.json:
        print(json.dumps({**where, "collections": [info_dict(info) for info in found]}, default=to_json, indent=1))
        return 0
    out = console()
    if not found:
        out.print(f"{arguments.data or arguments.target} has no collections", markup=False)
    for info in found:
        print_info(out, info)
    return 0
