"""``vectordb inspect DIR COLLECTION``, or ``--target HOST:PORT COLLECTION``."""

from __future__ import annotations

import argparse

from .explore import add_field, dense_field, progress_bar
from .options import Command, console, opened, positive

_DETAILS = """\
Shows how many directions the vectors vary in, dimensions that are always the same, lengths, equal vectors, hubs (points that are among the
neighbours of very many) and outliers, and what to do about them.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_field(parser)
    parser.add_argument("--sample", metavar="N", type=positive, default=20_000, help="look at this many points (default: 20000)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from ..transfer.forms import dumps, write_id

    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        field = dense_field(collection.schema, arguments.field)
        with progress_bar(f"{collection.name}.{field}") as progress:
            health = collection.health(field, filter=arguments.filter, sample=arguments.sample, progress=progress)
    if arguments.json:
        facts, columns = health.parts()
        ids = {name: [*map(write_id, columns[name])] for name in ("hubs", "outliers")}
        print(dumps({"field": field, **facts, **ids, "hub_counts": health.hub_counts.tolist()}))
    else:
        console().print(f"{field}: {health}", markup=False)
    return 0
