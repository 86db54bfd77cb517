"""``vectordb fit DIR COLLECTION --field NAME``, or ``--target HOST:PORT COLLECTION --field NAME``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from .options import Command, add_place, opened, seconds

_DETAILS = """\
The field is a derived one, such as one of PCA. It is fitted to the points as they are now, and its vectors are derived anew. Searches and
writes go on meanwhile. --report only prints what is known of the field, of any derivation.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("fields", "FIELD", "the derived field, instead of --field"))
    parser.add_argument("--field", metavar="NAME", action="append", help="the derived field")
    parser.add_argument("--report", action="store_true", help="print what is known of the field, and fit nothing")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="stop waiting after this time (default: never)")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def check(arguments: argparse.Namespace) -> None:
        named = [*(arguments.fields or ()), *(arguments.field or ())]
        if len(named) != 1:
            raise argparse.ArgumentTypeError(f"write {parser.prog} DIR COLLECTION --field NAME, with one field")
        arguments.field = named[0]

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    field = arguments.field
    with opened(arguments, read_only=arguments.report) as database:
        collection = database.collection(arguments.collection)
        report = collection.report(field) if arguments.report else collection.fit(field, timeout=arguments.timeout)
    print(json.dumps(report) if arguments.json else _text(report))
    return 0


def _text(report: Mapping[str, Any]) -> str:
    if report["source_dim"] is None:
        return (
            f"{report['field']}: {report['dim']} dimensions by {report['by']}, {report['state']}; {report['rows']:,} points have a vector"
        )
    of = f"{report['source_dim']} dimensions of {report['source']} by {report['by']}"
    line = f"{report['field']}: {report['dim']} {'terms for' if 'dead' in report or 'words' in report else 'of'} {of}"
    line += f", {report['state']}"
    if "version" in report:
        line += f"; fit {report['version']}"
    if "recall_at_10" in report:
        line += f"; recall@10 {report['recall_at_10']:.3f} of {report['held_out']:,} points among {report['sample']:,}"
    if report.get("dead"):
        line += f"; {report['dead']:.1%} of the terms are in no point of the sample"
    if report.get("deleted_since"):
        line += f"; {report['deleted_since']:,} of these were deleted or replaced since"
    return line
