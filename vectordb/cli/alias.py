"""``vectordb alias DIR [COLLECTION ALIAS]``, or ``--target HOST:PORT [COLLECTION ALIAS]``."""

from __future__ import annotations

import argparse
import json

from .options import Command, add_place, console, opened


def add_arguments(parser: Command) -> None:
    parser.epilog = "Without COLLECTION it lists the aliases. An alias can be written wherever the name of a collection can."
    add_place(parser, required=False, rest=("alias", "ALIAS", "a new name for COLLECTION; one that exists is switched to it"))
    parser.add_argument("--drop", metavar="NAME", help="remove this alias; its collection stays")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")

    def check(arguments: argparse.Namespace) -> None:
        given = (arguments.collection is not None) + len(arguments.alias or ())
        if given not in (0, 2) or (given and arguments.drop is not None):
            raise argparse.ArgumentTypeError(
                f"write {parser.prog} DIR COLLECTION ALIAS, {parser.prog} DIR --drop ALIAS, or {parser.prog} DIR"
            )

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    with opened(arguments, read_only=arguments.collection is None and arguments.drop is None) as database:
        if arguments.drop is not None:
            database.drop_alias(arguments.drop)
            console(stderr=True).print(f"dropped alias {arguments.drop!r}", markup=False)
        elif arguments.collection is not None:
            (alias,) = arguments.alias
            database.alias(alias, arguments.collection)
            console(stderr=True).print(f"{alias!r} now means collection {database.aliases()[alias]!r}", markup=False)
        elif arguments.json:
            print(json.dumps(database.aliases(), indent=1))
        else:
            for alias, name in database.aliases().items():
                print(f"{alias}  {name}")
    return 0
