"""``vectordb info DIR [COLLECTION]``, or ``--target HOST:PORT``."""

from __future__ import annotations

import argparse
import json

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    add_place(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from vectordb_client.model.values import to_json

    from .render import print_info

    where = {"path": str(arguments.data)} if arguments.target is None else {"target": arguments.target}
    with opened(arguments) as database:
        names = [arguments.collection] if arguments.collection else sorted(database.collections())
        infos = [database.collection(name).info() for name in names]
    if arguments.json:
        print(json.dumps({**where, "collections": [info.to_dict() for info in infos]}, default=to_json, indent=1))
        return 0
    out = console()
    if not infos:
        out.print(f"{arguments.data or arguments.target} has no collections", markup=False)
    for info in infos:
        print_info(out, info)
    return 0
