"""``vectordb import DIR COLLECTION FILE``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, SchemaError, StorageError, VectorDBError
from . import options
from .options import Command, add_collection, add_directory, open_directory, pair
from .render import fields

if TYPE_CHECKING:
    from rich.console import Console

    from ..collection import Collection
    from ..database import Database
    from ..transfer import Columns
    from ..types import Schema

_DETAILS = """\
A row is a point in full, {"id": …, "vectors": {…}, "attributes": {…}, "payload": …}, or flat: a column an attribute, a column a
vector field, the rest goes into the payload. Dense vectors are lists, sparse ones {"indices": […], "values": […]}, UUIDs as ids
{"uuid": "…"}; a CSV cell holds them as JSON. Rows are upserts: a second import of a file changes nothing.

An import that was interrupted goes on where it was when the same command is run again; its place is kept in DIR/imports/.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_directory(parser)
    add_collection(parser, required=True)
    parser.add_argument("file", metavar="FILE", type=Path, help=".jsonl, .csv (or these with .gz) or .parquet")
    parser.add_argument(
        "--create", action="store_true", help="make the collection if it isn't there, by --schema or by what the file holds"
    )
    parser.add_argument("--schema", metavar="FILE", type=Path, help="schema of the new collection, as JSON (see: info --json)")
    parser.add_argument("--id-field", metavar="COLUMN", default="id", help="column of the id; # numbers the rows (id)")
    parser.add_argument(
        "--vector-field", metavar="NAME=COLUMN", action="append", default=[], type=pair, help="vector field NAME is in COLUMN"
    )
    parser.add_argument("--text", metavar="COLUMN", action="append", default=[], help="with --create: make this column searchable text")
    parser.add_argument("--encoder", metavar="SPEC", action="append", help="with --text: what encodes it; may be repeated (bm25)")
    parser.add_argument(
        "--rejects", metavar="FILE", type=Path, help="set bad rows aside in this file, with the reason, instead of stopping"
    )


def run(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from ..transfer import Columns, import_points, state_file

    if not arguments.file.is_file():
        raise NotFoundError(f"no file {arguments.file}", field="file", value=str(arguments.file))
    columns = Columns(arguments.id_field, dict(arguments.vector_field))
    console = options.console(stderr=True)
    with open_directory(arguments.data, create=arguments.create, maintenance=True) as database:
        collection = _target(database, arguments, columns, console)
        state = state_file(arguments.data, collection.name, arguments.file)
        layout = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[points]:,} points"))
        with Progress(*layout, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(arguments.file.name, total=1.0, points=0)
            try:
                result = import_points(
                    collection,
                    arguments.file,
                    columns=columns,
                    rejects=arguments.rejects,
                    state=state,
                    progress=lambda done, points, rejected: bar.update(task, completed=done, points=points),
                )
            except KeyboardInterrupt:
                bar.stop()
                console.print("stopped; the same command goes on from here")
                raise
    resumed = f", after the first {result.resumed:,} rows, which an earlier run had done" if result.resumed else ""
    rejected = f", {result.rejected:,} rejected (see {arguments.rejects})" if result.rejected else ""
    console.print(f"{result.written:,} points into {collection.name!r}{resumed}{rejected}", markup=False)
    return 0


def _target(database: Database, arguments: argparse.Namespace, columns: Columns, console: Console) -> Collection:
    """The collection to import into, made if that was asked for."""
    name = arguments.collection
    given, words = _read_schema(arguments.schema) if arguments.schema else (None, {})
    if name in database.collections():
        collection = database.collection(name)
        if given is not None and given != collection.schema:
            raise AlreadyExistsError(f"collection {name!r} is there with another schema than {arguments.schema}", field="schema")
        if arguments.text or arguments.encoder:
            raise InvalidArgumentError(f"collection {name!r} is there already: --text and --encoder are for a new one", field="text")
        return _named(collection, words)
    if not arguments.create:
        there = ", ".join(database.collections()) or "none"
        raise NotFoundError(f"no collection {name!r} (there are: {there}); --create makes it", field="collection", value=name)
    if arguments.encoder and not arguments.text:
        raise InvalidArgumentError("--encoder needs --text, the column it reads", field="encoder")
    if given is None:
        from ..transfer import infer_schema

        given = infer_schema(arguments.file, columns, arguments.text, arguments.encoder or ("bm25",))
        console.print("The schema, by what the first rows hold:")
        console.print(fields(given), markup=False)
    elif arguments.text:
        raise InvalidArgumentError("--text is for a schema made from the file; --schema says it all", field="text")
    return _named(database.create_collection(name, given), words)


def _named(collection: Collection, words: Mapping[str, Mapping[int, str | None]]) -> Collection:
    """The collection, with these words of its terms."""
    from ..transfer.terms import set_all

    for field, named in words.items():
        set_all(collection, field, named)
    return collection


def _read_schema(path: Path) -> tuple[Schema, dict[str, dict[int, str | None]]]:
    """The schema, and words of terms: field → term → word."""
    from ..transfer.terms import read_schema_file

    try:
        return read_schema_file(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}", field="schema", value=str(path)) from error
    except ValueError as error:
        if isinstance(error, VectorDBError):
            raise
        raise SchemaError(f"{path} is not JSON: {error}", field="schema", value=str(path)) from error
