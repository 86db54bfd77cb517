"""``vectordb aggregate DIR COLLECTION ATTRIBUTE[=FUNCTION,…]…``, or ``--target HOST:PORT COLLECTION …``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vectordb_client.model.schema import Schema

from .options import Command, add_place, check_columns, console, opened

_DETAILS = """\
FUNCTION is count (points with a value), distinct, min, max, sum, mean, or a percentile such as p50 or p99.9. Without one, all that
the type of the attribute has are shown, with p50: vectordb aggregate DIR COLLECTION price=min,max,p95 stock
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("attributes", "ATTRIBUTE[=FUNCTION,…]", "the attributes, each with functions of its values"))
    parser.add_argument("--filter", metavar="EXPR", help="only points that match, such as \"lines > 20 AND module = 'json'\"")
    parser.add_argument("--json", action="store_true", help="print JSON lines, one attribute per line")

    def check(arguments: argparse.Namespace) -> None:
        if not arguments.attributes:
            raise argparse.ArgumentTypeError(f"no ATTRIBUTE: write {parser.prog} DIR COLLECTION ATTRIBUTE")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from vectordb_client.model.aggregates import results_to_json

    from ..transfer.forms import dumps
    from .points import aggregate_lines

    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        schema = collection.schema
        functions = _functions(arguments.attributes, schema)
        results = results_to_json(collection.aggregate(functions, filter=arguments.filter), schema)
    out = console()
    for name, result in results.items():
        if arguments.json:
            print(dumps({"attribute": name, **result["values"]}))
            continue
        for line in aggregate_lines(name, result["values"]):
            out.print(line, markup=False)
    return 0


def _functions(words: Sequence[str], schema: Schema) -> dict[str, list[str]]:
    """attribute → names of functions. A name may have a "=" of its own, so whole words are looked for first."""
    from vectordb_client.model.aggregates import possible_functions

    functions: dict[str, list[str]] = {}
    for word in words:
        name, equals, given = (word, "", "") if word in schema.attributes else word.rpartition("=")
        name = name if equals or word in schema.attributes else word
        check_columns(schema, [name], "ATTRIBUTE")
        chosen = given.split(",") if equals else possible_functions(schema.attributes[name])
        functions[name] = [*functions.get(name, []), *chosen]
    return functions
