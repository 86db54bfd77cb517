"""``vectordb facets DIR COLLECTION ATTRIBUTE…``, or ``--target HOST:PORT COLLECTION ATTRIBUTE…``."""

from __future__ import annotations

import argparse

from .options import Command, add_place, add_state, check_columns, console, opened, positive


def add_arguments(parser: Command) -> None:
    add_place(parser, rest=("attributes", "ATTRIBUTE", "the attributes whose values are counted"))
    add = parser.add_argument
    add("--filter", metavar="EXPR", help="count only points that match, such as \"lines > 20 AND module = 'json'\"")
    add(
        "--limit",
        metavar="N",
        type=positive,
        default=10,
        help="the number of values of each attribute, the most frequent first (default: 10)",
    )
    add("--prefix", metavar="TEXT", help="count only keywords that start with this text")
    add_state(parser)
    add("--json", action="store_true", help="print JSON lines, one attribute per line")

    def check(arguments: argparse.Namespace) -> None:
        if not arguments.attributes:
            raise argparse.ArgumentTypeError(f"no ATTRIBUTE: write {parser.prog} DIR COLLECTION ATTRIBUTE")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from vectordb_client.model.facets import Facet

    from ..transfer.forms import dumps
    from .points import facet_record, facet_table

    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        check_columns(collection.schema, arguments.attributes, "ATTRIBUTE")
        facets = [Facet(name, arguments.limit, arguments.prefix) for name in dict.fromkeys(arguments.attributes)]
        results = collection.facets(facets, filter=arguments.filter, as_of=arguments.as_of)
    out = console()
    for name, result in results.items():
        if arguments.json:
            print(dumps(facet_record(name, result)))
        else:
            facet_table(out, name, result)
    return 0
