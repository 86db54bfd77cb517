"""``vectordb import DIR COLLECTION FILE``."""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, SchemaError, StorageError, VectorDBError
from vectordb_client.model.schema import Text, check_name

from . import options
from .options import Command, add_collection, add_directory, add_file_mode, open_directory, pair, positive, require_directory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from vectordb_client.model.schema import Schema

    from ..collection import Collection
    from ..database import Database
    from ..transfer import Columns, NewCollection, Source

_DETAILS = """\
A row is either a full point, {"id": …, "vectors": {…}, "attributes": {…}, "payload": …}, or flat: one column per attribute and vector
field; all other columns go into the payload. A dense vector is a list, a sparse vector is {"indices": […], "values": […]}, a UUID id is
{"uuid": "…"}; in a CSV cell they are written as JSON. Rows are upserted, so importing a file twice changes nothing.

--create creates the collection together with its first rows. Without --schema, the whole file is read first and the schema is inferred:
one line per column shows its types and the field it becomes. A column with mixed types stays in the payload unless --attribute sets its
type.

An import that was interrupted, or stopped at a bad row, resumes when you run the same command again; you may add --rejects. Its position
is kept in DIR/imports/. An import from standard input (FILE is -) starts over.
"""


def add_arguments(parser: Command) -> None:
    from ..transfer.infer import type_names
    from ..transfer.sources import FORMATS, MAX_ROW_BYTES

    parser.epilog = _DETAILS
    add_directory(parser)
    add_collection(parser, required=True)
    add = parser.add_argument
    file = ".jsonl, .json, .csv, .tsv (or these with .gz), .parquet or .arrow; - is standard input"
    add("file", metavar="FILE", type=Path, help=file)
    add("--create", action="store_true", help="create the collection if it does not exist, by --schema or an inferred one")
    add("--schema", metavar="FILE", type=Path, help="schema of the new collection, as JSON (as export --schema writes it)")
    add(
        "--attribute",
        metavar="COLUMN=TYPE",
        action="append",
        default=[],
        type=pair,
        help=f"with --create: set the type of a column: {', '.join(type_names())}, one of these with [] for an array, or payload",
    )
    add("--id-field", metavar="COLUMN", default="id", help="column that holds the id; # numbers the rows (default: id)")
    add("--vector-field", metavar="NAME=COLUMN", action="append", default=[], type=pair, help="read vector field NAME from COLUMN")
    add("--text", metavar="COLUMN", action="append", default=[], help="with --create: make this column searchable text")
    add("--encoder", metavar="SPEC", action="append", help="with --text: the encoder; repeat it for several (default: bm25)")
    add("--rejects", metavar="FILE", type=Path, help="write bad rows and their errors to this file and continue")
    add("--format", choices=FORMATS, help="file format (default: from the file name; jsonl for standard input)")
    add("--separator", metavar="CHAR", help="CSV separator: a character, or comma, semicolon, tab, pipe (default: detected)")
    add("--encoding", metavar="NAME", help="text encoding, such as latin-1 (default: UTF-8, or by the byte order mark)")
    add_file_mode(parser)
    add(
        "--max-row-bytes",
        metavar="N",
        type=positive,
        default=MAX_ROW_BYTES,
        help=f"reject larger rows of a text file (default: {MAX_ROW_BYTES})",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..transfer import Columns, attribute_type, import_points, state_file

    columns = Columns(arguments.id_field, dict(arguments.vector_field))
    arguments.attributes = {column: attribute_type(kind) for column, kind in arguments.attribute}
    _check(arguments)
    console = options.console(stderr=True)
    with _source(arguments) as source, _bar(console) as bar, ExitStack() as stack:

        @functools.cache
        def opened() -> Database:
            return stack.enter_context(
                open_directory(arguments.data, create=arguments.create, maintenance=True, file_mode=arguments.file_mode)
            )

        target = _target(opened, arguments, lambda: _planned(arguments, source, columns, console, bar))
        state = state_file(arguments.data, target.name, source.path) if source.stream is None else None
        task = bar.add_task("writing", total=1.0, points="0 rows")
        try:
            before = _fitted(target)
            result = import_points(
                target,
                source,
                columns=columns,
                rejects=arguments.rejects,
                state=state,
                progress=lambda done, rows, rejected: bar.update(task, completed=done, points=options.counted(rows, "row")),
            )
            if result.written:
                _fit(opened().collection(target.name), () if result.resumed else before)
            now = f"; it now has {options.counted(opened().collection(target.name).count(), 'point')}" if result.written else ""
        except KeyboardInterrupt:
            bar.stop()
            if state is not None:
                console.print("stopped; run the same command to resume")
            raise
    resumed = f" (resumed after the {options.counted(result.resumed, 'row')} of an earlier run)" if result.resumed else ""
    rejected = f", {result.rejected:,} rejected (see {arguments.rejects})" if result.rejected else ""
    rows = options.counted(result.written, "row")  # several rows may have the same id
    console.print(f"imported {rows} into {target.name!r}{resumed}{rejected}{now}", markup=False)
    return 0


def _fitted(target: Collection | NewCollection) -> list[str]:
    """The derived fields that have learned something before an import."""
    from ..transfer import NewCollection

    if isinstance(target, NewCollection):  # it is created by the first rows
        return []
    derived = {name: facts["derived"] for name, facts in target.info().statistics.items() if "derived" in facts}
    return [name for name, facts in derived.items() if facts["state"] == "ready"]


def _fit(collection: Collection, before: Sequence[str]) -> None:
    """Fit the derived fields that the background would fit, because it ends with this process. before: those that were fitted
    before the import; they stay as they are. Others are fitted again where the background has done so, to the first rows of the file.
    """
    vectors: Mapping[str, Any] = collection.schema.vectors
    derived = {name: spec for name, spec in vectors.items() if spec.derived is not None and spec.derived.learned and name not in before}
    if not derived:
        return
    from ..maintenance.derive import enough_rows

    facts = collection.info().statistics
    for name, spec in derived.items():
        if facts[spec.derived.source]["rows"] >= enough_rows(spec):
            collection.fit(name)


def _check(arguments: argparse.Namespace) -> None:
    """Check paths and the combination of arguments before anything is read."""
    file = arguments.file
    if file.is_dir():
        what = f"{file} is a directory; write vectordb import DIR COLLECTION FILE"
        raise InvalidArgumentError(what, field="file", value=str(file))
    if arguments.data.is_file():
        what = f"{arguments.data} is a file, but DIR must be a directory: write vectordb import DIR COLLECTION FILE"
        raise InvalidArgumentError(what, field="data", value=str(arguments.data))
    if str(file) != "-" and not file.exists():
        raise NotFoundError(f"file {file} does not exist", field="file", value=str(file))
    if not arguments.create:
        require_directory(arguments.data)
        for given, flags in ((arguments.text or arguments.encoder, "--text and --encoder"), (arguments.attributes, "--attribute options")):
            if given:
                raise InvalidArgumentError(f"{flags} need --create: they describe a new collection", field="create")
    if arguments.encoder and not arguments.text:
        raise InvalidArgumentError("--encoder needs --text, which names the column to encode", field="encoder")
    if arguments.schema and (arguments.text or arguments.attributes):
        what = "--text and --attribute are for an inferred schema; with --schema, leave them out"
        raise InvalidArgumentError(what, field="text" if arguments.text else "attribute")


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    layout = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[points]}"))
    with Progress(*layout, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        yield bar


@contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Source]:
    """The file. Standard input and pipes are copied to a temporary file first, because the import may read the data twice."""
    from ..transfer import Source

    path, how = arguments.file, {name: getattr(arguments, name) for name in ("format", "encoding", "separator", "max_row_bytes")}
    if str(path) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidArgumentError("standard input is a terminal: pipe data into it, or name a file", field="file", value="-")
        how["format"] = how["format"] or "jsonl"
        with _copied(sys.stdin.buffer) as stream:
            yield Source(Path("standard input"), stream=stream, **how)
    elif path.is_file():
        yield Source(path, **how)
    else:
        with path.open("rb") as pipe, _copied(pipe) as stream:
            yield Source(path, stream=stream, **how)


@contextmanager
def _copied(pipe: Any) -> Iterator[Any]:
    try:
        with tempfile.TemporaryFile() as stream:
            shutil.copyfileobj(pipe, stream, 1 << 20)
            stream.flush()
            yield stream
    except OSError as error:
        raise StorageError(f"can't copy the input to {tempfile.gettempdir()}: {error.strerror}", field="file") from error


def _planned(
    arguments: argparse.Namespace, source: Source, columns: Columns, console: Console, bar: Progress
) -> tuple[Schema, Mapping[str, Any]]:
    """The schema of a new collection and its term words: from the schema file, or inferred from the data and printed."""
    if arguments.schema:
        return _read_schema(arguments.schema)
    from vectordb_client.model.info_text import schema_text

    from ..transfer import infer

    task = bar.add_task("reading", total=1.0, points="")
    inferred = infer(
        source,
        columns,
        arguments.text,
        arguments.encoder or ("bm25",),
        arguments.attributes,
        lambda done: bar.update(task, completed=done),
    )
    bar.remove_task(task)
    if inferred.columns:
        console.print("Columns of the file, and what they become:")
        for column in inferred.columns:
            console.print(f"  {column}", markup=False)
        if inferred.more:
            console.print(f"  {inferred.more:,} values in more columns → payload")
    console.print("Schema:")
    console.print(schema_text(inferred.schema), markup=False)
    return inferred.schema, {}


def _target(
    opened: Callable[[], Database], arguments: argparse.Namespace, planned: Callable[[], tuple[Schema, Mapping[str, Any]]]
) -> Collection | NewCollection:
    """The collection to import into, or a plan for a new one from the schema and words of ``planned``. Creates nothing."""
    from ..transfer import NewCollection
    from ..transfer.terms import set_all

    name = arguments.collection
    existing = opened().collections() if arguments.data.exists() else []
    if name in existing:
        collection = opened().collection(name)
        words: Mapping[str, Any] = {}
        if arguments.schema:
            given, words = _read_schema(arguments.schema)
            _same(collection, given, arguments.schema)
        _fits(collection, arguments)
        for field, named in words.items():
            set_all(collection, field, named)
        return collection
    if not arguments.create:
        names = ", ".join(existing) or "none"
        raise NotFoundError(f"no collection {name!r} (existing: {names}); add --create to create it", field="collection", value=name)
    check_name(name, "collection")
    schema, words = planned()
    return NewCollection(opened, name, schema, words)


def _same(collection: Collection, given: Schema, path: Path) -> None:
    if given == collection.schema:
        return
    ours, theirs = ({**s.vectors, **s.attributes} for s in (collection.schema, given))
    differ = [field for field in {**ours, **theirs} if ours.get(field) != theirs.get(field)]
    what = f"collection {collection.name!r} already exists with a schema other than {path}: they differ in {', '.join(differ)}"
    raise AlreadyExistsError(f"{what}; leave --schema out, or drop the collection first", field="schema")


def _fits(collection: Collection, arguments: argparse.Namespace) -> None:
    """Check that an existing collection, perhaps created by an earlier run of this command, matches --text and --attribute."""
    schema = collection.schema

    def differs(flag: str, column: str, is_now: Any) -> AlreadyExistsError:
        now = "the collection has no such field" if is_now is None else f"there it is {is_now}"
        way = f"leave {flag} out, or run vectordb drop {arguments.data} {collection.name} first"
        what = f"collection {collection.name!r} already exists, and its {column!r} does not match {flag}"
        return AlreadyExistsError(f"{what}: {now}; {way}", field=flag)

    from ..transfer.infer import type_text

    def now(column: str) -> str | None:
        return type_text(schema.attributes[column]) if column in schema.attributes else None

    for column in arguments.text:
        encoded = {field.encoder for field in schema.vectors.values() if column in field.reads}
        if schema.attributes.get(column) != Text() or not set(arguments.encoder or ["bm25"]) <= encoded:
            raise differs("--text", column, f"{now(column)}, encoded by {', '.join(sorted(map(str, encoded))) or 'nothing'}")
    for column, spec in arguments.attributes.items():
        if schema.attributes.get(column) != spec:
            raise differs("--attribute", column, now(column))


def _read_schema(path: Path) -> tuple[Schema, dict[str, dict[int, str | None]]]:
    """The schema, and words of terms: field → term → word."""
    from ..transfer.terms import read_schema_file

    try:
        return read_schema_file(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}", field="schema", value=str(path)) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, VectorDBError):
            raise
        raise SchemaError(
            f"{path} is not JSON ({error}); vectordb export --schema writes such a file", field="schema", value=str(path)
        ) from error
