"""``vectordb terms DIR COLLECTION FIELD --import FILE | --export FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vectordb_client.errors import AlreadyExistsError

from .options import Command, add_collection, add_directory, add_order, add_word, console, counted, open_directory


def add_arguments(parser: Command) -> None:
    parser.epilog = 'FILE is .tsv (one line per term: term, tab, word) or .json ({"17": "word", …}; null removes a word).'
    add_order(parser, ("directory", "data"), ("named", "collection"), ("of", "field"))
    add_directory(parser)
    add_collection(parser, required=True)
    add_word(parser, "of", "FIELD", "field", "a sparse vector field", required=True, metavar="NAME")
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--import", metavar="FILE", type=Path, dest="source", help="set the words of the terms in this file")
    ways.add_argument("--export", metavar="FILE", dest="out", help="write all terms and words to this file; - writes .tsv to stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> int:
    from ..transfer.terms import all_terms, read_terms, set_all, tsv, write_terms

    messages = console(stderr=True)
    if arguments.source is not None:
        words = read_terms(arguments.source)
        with open_directory(arguments.data) as database:
            changed = set_all(database.collection(arguments.collection), arguments.field, words)
        messages.print(f"{counted(len(words), 'term')} read, {changed:,} changed", markup=False)
        return 0
    if arguments.out != "-" and Path(arguments.out).exists() and not arguments.force:
        raise AlreadyExistsError(f"{arguments.out} already exists; --force overwrites it", field="out", value=arguments.out)
    with open_directory(arguments.data, read_only=True) as database:
        words = all_terms(database.collection(arguments.collection), arguments.field)
        if arguments.out == "-":
            sys.stdout.writelines(tsv(words))
            return 0
        count = write_terms(Path(arguments.out), words)
    messages.print(f"exported {counted(count, 'term')} to {arguments.out}", markup=False)
    return 0
