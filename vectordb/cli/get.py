"""``vectordb get DIR COLLECTION ID…``, or ``--target HOST:PORT COLLECTION ID…``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .options import Command, add_place, add_state, check_columns, console, names, opened

_DETAILS = """\
How to write an ID: digits are an integer (17); uuid:6f9619ff-8b86-d011-b42d-00c04fc964ff is a UUID; anything else is a string. Put a
string that looks like one of these in double quotes, and quote those for the shell: '"17"'.
Exit code 1 when a point is missing.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("ids", "ID", "ids of the points"))
    parser.add_argument("--columns", metavar="NAME[,NAME…]", type=names, help="show only these attributes (default: all)")
    about = "show only these parts of the payload, such as title,meta.page"
    parser.add_argument("--with-payload", metavar="PATH[,PATH…]", type=names, help=about)
    parser.add_argument("--with-vectors", action="store_true", help="also show the vectors")
    add_state(parser)
    parser.add_argument("--json", action="store_true", help="print JSON lines, one point per line, in the format that import reads")

    def check(arguments: argparse.Namespace) -> None:
        if not arguments.ids:
            raise argparse.ArgumentTypeError(f"no ID: write {parser.prog} DIR COLLECTION ID")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from ..transfer.forms import dumps, full_record
    from .points import id_word, point_lines, read_id_word

    ids = [read_id_word(word) for word in arguments.ids]
    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        schema = collection.schema
        check_columns(schema, arguments.columns)
        selected = {"with_attributes": arguments.columns or True, "with_payload": arguments.with_payload}
        points = collection.get(ids, with_vectors=arguments.with_vectors, **selected, as_of=arguments.as_of)
        missing = list(dict.fromkeys(point_id for point_id, point in zip(ids, points, strict=True) if point is None))
        numbers = [point_id for point_id in missing if isinstance(point_id, int)]
        texts = collection.get([str(number) for number in numbers], with_attributes=False, as_of=arguments.as_of) if numbers else []
    out = console()
    for point in points:
        if point is None:
            continue
        if arguments.json:
            print(dumps(full_record(schema, point, arguments.with_vectors)))
        else:
            for line in point_lines(schema, point, arguments.columns, arguments.with_vectors):
                out.print(line, markup=False)
            out.print()
    if missing:
        print(f"vectordb: {_missing(arguments.collection, [id_word(point_id) for point_id in missing], texts)}", file=sys.stderr)
    return 1 if missing else 0


def _missing(collection: str, words: list[str], texts: list[Any]) -> str:
    present = next((point.id for point in texts if point is not None), None)
    advice = "" if present is None else f"; the string {present!r} exists: write '\"{present}\"'"
    return f"collection {collection!r} has no {'point' if len(words) == 1 else 'points'} {', '.join(words)}{advice}"
