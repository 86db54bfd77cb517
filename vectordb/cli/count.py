"""``vectordb count DIR COLLECTION``, or ``--target HOST:PORT COLLECTION``."""

from __future__ import annotations

import argparse
import json

from .options import Command, add_place, add_state, opened


def add_arguments(parser: Command) -> None:
    add_place(parser)
    parser.add_argument("--filter", metavar="EXPR", help="count only points that match, such as \"lines > 20 AND module = 'json'\"")
    add_state(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    with opened(arguments) as database:
        count = database.collection(arguments.collection).count(arguments.filter, as_of=arguments.as_of)
    facts = {"collection": arguments.collection, "filter": arguments.filter, "count": count}
    print(json.dumps(facts) if arguments.json else count)
    return 0
