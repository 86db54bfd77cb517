"""``vectordb purge DIR [COLLECTION]``."""

from __future__ import annotations

import argparse
import json

from .options import Command, add_collection, add_directory, open_directory, seconds


def add_arguments(parser: Command) -> None:
    parser.epilog = (
        "Exit code 1 if deleted data is left. It needs disk space for a second data.mdb.\n"
        "Other processes may read meanwhile; their writes wait for some time."
    )
    add_directory(parser)
    add_collection(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="stop after this time (default: never)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    with open_directory(arguments.data) as database:
        target = database if arguments.collection is None else database.collection(arguments.collection)
        result = target.purge(timeout=arguments.timeout)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        searched = f"{result['ids']:,} ids, {result['rows']:,} rows and {result['vectors']:,} vectors"
        print(f"{result['rows_dropped']:,} rows dropped, {result['bytes_reclaimed']:,} bytes reclaimed; scanned the files for {searched}")
        for file in result["residue"]:
            print(f"leftovers in {arguments.data / file}")
        if result["proven"]:
            print("no deleted data is left in any file")
    return 0 if result["proven"] else 1
