"""``vectordb history DIR COLLECTION [TIME]``, or ``--target HOST:PORT COLLECTION [TIME]``."""

from __future__ import annotations

import argparse
import json

from vectordb_client.model.history import check_history
from vectordb_client.model.info_text import history_text

from .options import Command, add_place, opened

_DETAILS = """\
TIME is a time such as 7d, 12h or 30m, or off. While history is kept, --as-of of search, get, count, facets and export reads earlier states.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("time", "TIME", "keep the history for this time from now on"))
    parser.add_argument("--json", action="store_true", help="print JSON")

    def check(arguments: argparse.Namespace) -> None:
        if len(arguments.time or ()) > 1:
            raise argparse.ArgumentTypeError(f"write {parser.prog} DIR COLLECTION TIME, with one time")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    given = arguments.time[0] if arguments.time else None
    with opened(arguments, read_only=given is None) as database:
        collection = database.collection(arguments.collection)
        if given is not None:
            collection.keep_history(0 if given == "off" else check_history("history", given))
        history = dict(collection.info().history)
    if arguments.json:
        print(json.dumps({"collection": arguments.collection, "history": history}))
    elif not history:
        print("no history is kept")
    else:
        print(history_text(history))
    return 0
