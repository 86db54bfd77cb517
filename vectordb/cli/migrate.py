"""``vectordb migrate DIR COLLECTION FIELD --encoder NAME``, or ``--target HOST:PORT COLLECTION FIELD --encoder NAME``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import DeadlineError
from vectordb_client.model.info_text import migration
from vectordb_client.model.migrations import USUAL_ANCHORS

from . import options
from .options import Command, add_place, opened, seconds

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console

_LOOK_SECONDS = 0.25  # between two updates of the progress line
_DETAILS = """\
The texts of the field are encoded anew, while searches and writes go on with the encoder that it has; then all vectors are exchanged at
once. Points without a text get vectors that are mapped from the old ones; the report says how well that works. The command can be
interrupted at any time: finished work is kept, and the same command goes on.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("fields", "FIELD", "the field"))
    parser.add_argument("--encoder", metavar="NAME", help="the new encoder, such as 'wordllama(dim=256)'")
    parser.add_argument(
        "--anchors", metavar="N", type=int, default=USUAL_ANCHORS, help="points that the map is fitted to (default: %(default)s)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="chooses them (default: %(default)s)")
    parser.add_argument("--map-only", action="store_true", help="encode no texts: all vectors are mapped")
    parser.add_argument("--dry-run", action="store_true", help="only fit the map, and report how good it is")
    parser.add_argument("--status", action="store_true", help="print how far the migration is, and do nothing")
    parser.add_argument("--cancel", action="store_true", help="end the migration; the field keeps its vectors and its encoder")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="stop waiting after this time (default: never)")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def check(arguments: argparse.Namespace) -> None:
        if len(arguments.fields or ()) != 1 or (arguments.encoder is None) != (arguments.status or arguments.cancel):
            what = f"write {parser.prog} DIR COLLECTION FIELD --encoder NAME, with one field, or --status or --cancel instead of --encoder"
            raise argparse.ArgumentTypeError(what)
        if arguments.status and arguments.cancel:
            raise argparse.ArgumentTypeError("--status and --cancel don't go together: write one of them")
        arguments.field = arguments.fields[0]

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    field, console = arguments.field, options.console(stderr=True)
    # The database is closed before the pool: closing ends the work that the thread waits for.
    with ThreadPoolExecutor(1) as pool, opened(arguments, read_only=arguments.status or arguments.dry_run) as database:
        collection: Any = database.collection(arguments.collection)
        if arguments.status:
            told = collection.migration(field)
            print(json.dumps(told) if arguments.json else f"{field}: {migration(told)}")
            return 0
        if arguments.cancel:
            cancelled = collection.cancel_migration(field)
            print(
                json.dumps({"cancelled": cancelled}) if arguments.json else f"{field}: {'cancelled' if cancelled else 'nothing to cancel'}"
            )
            return 0
        given = {"anchors": arguments.anchors, "seed": arguments.seed, "encode": not arguments.map_only, "dry_run": arguments.dry_run}
        work = pool.submit(collection.migrate, field, arguments.encoder, timeout=arguments.timeout, **given)
        try:
            report = _watched(console, collection, field, work)
        except DeadlineError:
            message = f"{field!r} is not done after {arguments.timeout:g} s; finished work is kept, run the same command to continue"
            raise DeadlineError(message, field="timeout", value=arguments.timeout) from None
    print(json.dumps(report) if arguments.json else _text(report))
    return 0


def _watched(console: Console, collection: Any, field: str, work: Future) -> dict[str, Any]:
    """Wait for a migration; on a terminal, with a progress line."""
    from concurrent.futures import wait

    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    layout = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*layout, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"{field}: fitting a map", total=1.0)
        while not wait([work], _LOOK_SECONDS).done:
            if console.is_terminal:
                told = collection.migration(field)
                if told["state"] != "none":
                    bar.update(task, description=f"{field}: {told['state']}", completed=told["share"])
    return work.result()


def _text(report: Mapping[str, Any]) -> str:
    field = report["field"]
    if "rows" not in report:
        return f"{field}: has vectors of {report['answers']} already"
    line = f"{field}: {report['dim']} dimensions of {report['to']}, {report['rows']:,} points"
    if report["state"] == "planned":
        line += f", {report['rows_with_text']:,} of them with a text"
    if report["map"] is not None:
        line += f"; {report['map']} map from {report['from']}: recall@10 {report['recall_at_10']:.3f}, cosine {report['cosine']:.3f}"
        line += f" of {report['held_out']:,} points, fitted to {report['anchors']:,}"
    if "mapped" in report:
        line += f"; {report['mapped']:,} vectors are mapped"
    return line if report["state"] != "planned" else f"{line}; nothing was changed"
