"""``vectordb check DIR``."""

from __future__ import annotations

import argparse
import json
import sys

from .options import Command, add_directory, console, no_database


def add_arguments(parser: Command) -> None:
    add_directory(parser, about="the database's directory, or a snapshot (a directory or an archive file)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.data.exists():
        raise no_database(arguments.data)
    from ..maintenance.backup import check

    report = check(arguments.data)
    problems, notes = [str(problem) for problem in report.problems], list(report.notes)
    if arguments.json:
        print(json.dumps({"path": str(arguments.data), "problems": problems, "notes": notes}, indent=1))
    else:
        for line in [*problems, *(f"note: {note}" for note in notes)]:
            print(line)
        if problems:
            print(f"vectordb: {arguments.data}: {len(problems)} problem{'s' * (len(problems) > 1)}", file=sys.stderr)
        else:
            console().print(f"{arguments.data}: no problems", markup=False)
    return 1 if problems else 0
