"""``vectordb export DIR COLLECTION FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vectordb_client.errors import AlreadyExistsError, NotFoundError, StorageError

from .options import Command, add_collection, add_directory, add_order, add_state, add_word, console, counted, open_directory

_FORMS = ".jsonl, .csv (or these with .gz) or .parquet; - writes JSON lines to stdout"


def add_arguments(parser: Command) -> None:
    add_order(parser, ("directory", "data"), ("named", "collection"), ("file", "out"))
    add_directory(parser)
    add_collection(parser, required=True)
    add_word(parser, "file", "FILE", "out", _FORMS, required=True)
    parser.add_argument("--filter", metavar="EXPR", help="only points that match, such as \"lines > 20 AND module = 'json'\"")
    add_state(parser)
    parser.add_argument("--with-vectors", action="store_true", help="export vectors too; without them, an import encodes the texts again")
    parser.add_argument(
        "--schema", metavar="FILE", type=Path, help="also write the collection's schema and term words to this file, for import --schema"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> int:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..transfer import export_points, export_stream
    from ..transfer.terms import schema_file

    messages = console(stderr=True)
    target = Path(arguments.out)
    for path in ([target] if arguments.out != "-" else []) + ([arguments.schema] if arguments.schema else []):
        if not path.parent.is_dir():
            raise NotFoundError(f"no folder {path.parent} to write {path.name} in; create it first", field="out", value=str(path))
        if path.exists() and not arguments.force:
            raise AlreadyExistsError(f"{path} already exists; --force overwrites it", field="out", value=str(path))
    with open_directory(arguments.data, read_only=True) as database:
        collection = database.collection(arguments.collection)
        if arguments.schema:
            _write(arguments.schema, json.dumps(schema_file(collection, arguments.with_vectors), indent=1, ensure_ascii=False) + "\n")
        options: dict[str, Any] = {"filter": arguments.filter, "with_vectors": arguments.with_vectors, "as_of": arguments.as_of}
        if arguments.out == "-":
            export_stream(collection, sys.stdout.buffer, **options)
            return 0
        layout = (SpinnerColumn(), TextColumn("{task.completed:,} points"), TimeElapsedColumn())
        with Progress(*layout, console=messages, disable=not messages.is_terminal, transient=True) as bar:
            task = bar.add_task("", total=None)
            count = export_points(collection, target, progress=lambda done: bar.update(task, completed=done), **options)
    messages.print(f"exported {counted(count, 'point')} to {target}", markup=False)
    return 0


def _write(path: Path, text: str) -> None:
    from ..storage import modes

    try:
        with modes.create(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}", field="out", value=str(path)) from error
