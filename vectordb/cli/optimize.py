"""``vectordb optimize DIR [COLLECTION]``."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from vectordb_client.errors import DeadlineError
from vectordb_client.model.info_text import indexes

from . import options
from .options import Command, add_collection, add_directory, open_directory, seconds

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console

    from ..collection import Collection

_LOOK_SECONDS = 0.25  # between two updates of the progress line


def add_arguments(parser: Command) -> None:
    parser.epilog = "Other processes may search and write meanwhile. It can be interrupted at any time; finished work is kept."
    add_directory(parser)
    add_collection(parser)
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="stop waiting after this time in total (default: never)")


def run(arguments: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    console = options.console(stderr=True)
    end = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    # The database is closed before the pool: closing ends the work that the thread waits for.
    with ThreadPoolExecutor(1) as pool, open_directory(arguments.data) as database:
        for name in [arguments.collection] if arguments.collection else sorted(database.collections()):
            collection = database.collection(name)
            left = None if end is None else max(end - time.monotonic(), 0.0)
            try:
                _watch(console, collection, pool.submit(collection.optimize, timeout=left))
            except DeadlineError:
                message = f"{name!r} is not done after {arguments.timeout:g} s; finished work is kept, run the same command to continue"
                raise DeadlineError(message, field="timeout", value=arguments.timeout) from None
            info = collection.info()
            console.print(f"{name}: {info.points:,} points, {info.deleted_rows:,} deleted rows left", markup=False)
            for line in indexes(info):
                console.print(f"  {line}", markup=False)
    return 0


def _watch(console: Console, collection: Collection, work: Future) -> None:
    """Wait for an ``optimize``; on a terminal, with a progress line."""
    from concurrent.futures import wait

    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    layout = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*layout, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(collection.name, total=1.0)
        while not wait([work], _LOOK_SECONDS).done:
            if console.is_terminal:
                facts = collection.info().maintenance
                doing = ", ".join(str(facts[key]) for key in ("task", "stage") if facts.get(key))
                bar.update(task, description=f"{collection.name}: {doing or 'waiting'}", completed=facts.get("share") or 0.0)
    work.result()
