"""``vectordb duplicates DIR COLLECTION --min-score S``, or ``--target HOST:PORT COLLECTION``."""

from __future__ import annotations

import argparse

from .explore import add_field, dense_field, progress_bar
from .options import Command, console, counted, opened, positive

_DETAILS = """\
Prints a pair a line, separated by tabs: the older point, the newer one, and their score. Ids are written as in vectordb get. With --groups
a line has all points that are alike, directly or through others.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_field(parser)
    add = parser.add_argument
    add("--min-score", metavar="S", type=float, help="the lowest score of a pair, such as 0.98, for cosine and dot")
    add("--radius", metavar="R", type=float, help="the highest squared distance of a pair, for l2")
    add("--limit", metavar="N", type=positive, default=10_000, help="the most pairs, the most alike first (default: 10000)")
    add("--exact", action="store_true", help="compare all pairs, which takes longer")
    add("--groups", action="store_true", help="print groups instead of pairs")
    add("--json", action="store_true", help="print JSON lines")

    def check(arguments: argparse.Namespace) -> None:
        if (arguments.min_score is None) == (arguments.radius is None):
            raise argparse.ArgumentTypeError("write --min-score S for cosine and dot, or --radius R for l2")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from ..transfer.forms import dumps, write_id
    from .points import id_word

    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        field = dense_field(collection.schema, arguments.field)
        bounds = {"min_score": arguments.min_score, "radius": arguments.radius, "limit": arguments.limit, "exact": arguments.exact}
        with progress_bar(f"{collection.name}.{field}") as progress:
            found = collection.duplicates(field, **bounds, filter=arguments.filter, progress=progress)
    if arguments.groups:
        for group in found.groups():
            print(dumps([*map(write_id, group)]) if arguments.json else "\t".join(map(id_word, group)))
    else:
        for one, other, score in found:
            line = f"{id_word(one)}\t{id_word(other)}\t{score:.6g}"
            print(dumps({"ids": [write_id(one), write_id(other)], "score": score}) if arguments.json else line)
    if found.more:
        console(stderr=True).print(f"there are more than {counted(arguments.limit, 'pair')}: raise --limit, or ask for a higher score")
    return 0
