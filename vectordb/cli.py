"""The command line: ``vectordb COMMAND``; ``vectordb --help`` lists the commands.

Exit codes: 0 well, 1 an error (one line on stderr) or problems found by check, 2 a wrong command line, 130 interrupted.
Answers go to stdout, progress and messages to stderr. The database is imported when a command needs it: ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client._version import __version__
from vectordb_client.values import to_json

from .errors import AlreadyExistsError, DeadlineError, InvalidArgumentError, NotFoundError, SchemaError, StorageError, VectorDBError
from .interrupt import ends_soon
from .server import key_commands, settings
from .show import fields, indexes, info_dict, print_info

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console
    from vectordb_client import Client

    from .collection import Collection
    from .database import Database
    from .transfer import Columns
    from .types import Schema


_KEY_VARIABLE = "VECTORDB_API_KEY"  # not a flag: command lines are seen by all users of a machine
_LOOK_SECONDS = 0.25  # how often a progress line is looked after


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with nullcontext() if arguments.run in (_serve, _demo) else ends_soon():  # those two end in their own ways
            return arguments.run(arguments)
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\nvectordb: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vectordb", description="A vector database in a directory: dense, sparse and text search with filters."
    )
    parser.add_argument("--version", action="version", version=f"vectordb {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str, details: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=details,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    def data(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", metavar="DIR", type=Path, required=True, help="the database's directory")

    def service(sub: argparse.ArgumentParser, where: Any = None) -> None:
        """Which service, and how it is reached."""
        where = where or sub
        where.add_argument(
            "--target", metavar="HOST:PORT", required=where is sub, help=f"the service; its API key is taken from ${_KEY_VARIABLE}"
        )
        sub.add_argument("--tls", action="store_true", help="it speaks TLS, with a certificate of a known authority")
        sub.add_argument("--tls-ca", metavar="FILE", type=Path, help="it speaks TLS; PEM file of the authority to trust")
        sub.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM file of our own certificate, where the service wants one")
        sub.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM file of its key")

    serve = command("serve", _serve, "serve a directory over gRPC until Ctrl-C")
    data(serve)
    settings.add_arguments(serve)

    demo = command("demo", _demo, "search the docstrings of Python's standard library, embedded and served")
    demo.add_argument("--data", metavar="DIR", type=Path, help="keep the database here (a temporary directory unless given)")
    demo.add_argument("--limit-points", metavar="N", type=_positive, help="take only the first N docstrings")
    demo.add_argument("--port", type=int, default=0, help="port of the service; 0 takes a free one (default)")

    load = command("import", _import, "import a JSON-lines, CSV or Parquet file into a collection", _IMPORT_DETAILS)
    load.add_argument("file", metavar="FILE", type=Path, help=".jsonl, .csv (or these with .gz) or .parquet")
    data(load)
    load.add_argument("--collection", metavar="NAME", required=True)
    load.add_argument("--create", action="store_true", help="make the collection if it isn't there, by --schema or by what the file holds")
    load.add_argument("--schema", metavar="FILE", type=Path, help="schema of the new collection, as JSON (see: info --json)")
    load.add_argument("--id-field", metavar="COLUMN", default="id", help="column of the id; # numbers the rows (id)")
    load.add_argument(
        "--vector-field", metavar="NAME=COLUMN", action="append", default=[], type=_pair, help="vector field NAME is in COLUMN"
    )
    load.add_argument("--text", metavar="COLUMN", action="append", default=[], help="with --create: make this column searchable text")
    load.add_argument("--encoder", metavar="SPEC", action="append", help="with --text: what encodes it; may be repeated (bm25)")
    load.add_argument("--rejects", metavar="FILE", type=Path, help="set bad rows aside in this file, with the reason, instead of stopping")

    export = command("export", _export, "export a collection to a JSON-lines, CSV or Parquet file")
    data(export)
    export.add_argument("--collection", metavar="NAME", required=True)
    export.add_argument(
        "--out", metavar="FILE", required=True, help=".jsonl, .csv (or these with .gz) or .parquet; - writes JSON lines to stdout"
    )
    export.add_argument("--filter", metavar="EXPR", help="only points that match, such as \"lines > 20 AND module = 'json'\"")
    export.add_argument("--with-vectors", action="store_true", help="vectors too; without them encoded fields are made again by an import")
    export.add_argument(
        "--schema", metavar="FILE", type=Path, help="write the collection's schema here, and words of terms, for an import with --schema"
    )
    export.add_argument("--force", action="store_true", help="write over a file that exists")

    terms = command(
        "terms",
        _terms,
        "say what terms of a sparse field stand for, or export it",
        'FILE is .tsv (a term, a tab and its word a line) or .json ({"17": "word", …}; null takes a word away).',
    )
    data(terms)
    terms.add_argument("--collection", metavar="NAME", required=True)
    terms.add_argument("--field", metavar="NAME", required=True, help="a sparse vector field")
    ways = terms.add_mutually_exclusive_group(required=True)
    ways.add_argument("--import", metavar="FILE", type=Path, dest="source", help="set the words of the terms that are in this file")
    ways.add_argument("--export", metavar="FILE", dest="out", help="write all words to this file; - writes .tsv to stdout")
    terms.add_argument("--force", action="store_true", help="write over a file that exists")

    info = command("info", _info, "show the collections of a directory, or of a running service")
    where = info.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", metavar="DIR", type=Path, help="the database's directory")
    service(info, where)
    info.add_argument("--collection", metavar="NAME", help="only this one")
    info.add_argument("--json", action="store_true", help="as JSON")

    optimize = command(
        "optimize",
        _optimize,
        "bring the indexes of a directory up to date and take deleted rows out, and wait for it",
        "Other processes may search and write meanwhile. It can be interrupted at any time; what is finished stays.",
    )
    optimize.add_argument("data", metavar="DIR", type=Path, help="the database's directory")
    optimize.add_argument("collection", metavar="COLLECTION", nargs="?", help="only this one (all)")
    optimize.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="give up waiting after this long, in all (never)")

    check = command("check", _check, "verify checksums and invariants of a directory; exit code 1 when something is wrong")
    data(check)
    check.add_argument("--json", action="store_true", help="as JSON")

    top = command("top", _top, "show what a running service does, until Ctrl-C")
    service(top)
    top.add_argument("--interval", metavar="SECONDS", type=_seconds, default=1.0, help="between two looks (1)")
    top.add_argument("--once", action="store_true", help="one look, at what was since the service started")
    top.add_argument("--json", action="store_true", help="as JSON, an object a look")

    health = command("health", _health, "ask a running service whether it takes calls; exit code 1 when it doesn't")
    service(health)
    health.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=3.0, help="for an answer (3)")

    snapshot = command(
        "snapshot",
        _snapshot,
        "copy a directory that is in use, as it is now",
        "Others may read and write meanwhile. What is made appears under its name when it is whole and on disk; check verifies it.",
    )
    data(snapshot)
    snapshot.add_argument("to", metavar="TO", type=Path, help="what to make: a directory, or with --archive a file")
    snapshot.add_argument("--archive", action="store_true", help="one tar file")

    restore = command("restore", _restore, "bring a snapshot back as a directory, every checksum and invariant verified")
    restore.add_argument("source", metavar="FROM", type=Path, help="the snapshot, a directory or a file")
    restore.add_argument("directory", metavar="DIR", type=Path, help="a new or empty directory")

    purge = command(
        "purge",
        _purge,
        "take what was deleted or replaced out of every file, and search all files for it; exit code 1 when something is left",
        "Needs room for a second data.mdb. Others may read meanwhile, and write but for a while.",
    )
    data(purge)
    purge.add_argument("--collection", metavar="NAME", help="only this one (all)")
    purge.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="give up waiting after this long (never)")
    purge.add_argument("--json", action="store_true", help="as JSON")

    command("version", _version, "show the versions of what is installed")

    from vectordb_bench.cli import add_parser

    add_parser(commands)
    key_commands.add_parser(commands)
    return parser


_IMPORT_DETAILS = """\
A row is a point in full, {"id": …, "vectors": {…}, "attributes": {…}, "payload": …}, or flat: a column an attribute, a column a
vector field, the rest goes into the payload. Dense vectors are lists, sparse ones {"indices": […], "values": […]}, UUIDs as ids
{"uuid": "…"}; a CSV cell holds them as JSON. Rows are upserts: a second import of a file changes nothing.

An import that was interrupted goes on where it was when the same command is run again; its place is kept in DIR/imports/.
"""


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals or not name or not column:
        raise argparse.ArgumentTypeError(f"{text!r} must read NAME=COLUMN")
    return name, column


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def _open(path: Path, create: bool = False, maintenance: bool = False) -> Database:
    """A command that only looks, or is over in a moment, begins no work in the background."""
    from .database import open as open_database

    if not create and not path.is_dir():
        raise NotFoundError(f"no database at {path}", field="data", value=str(path))
    return open_database(path, create=create, maintenance=maintenance)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from .server.serve import serve
    except ImportError as error:
        raise VectorDBError(f"the service needs gRPC ({error}): pip install 'vectordb[server]'") from error
    flags = {name: value for name, value in vars(arguments).items() if name in settings.NAMES}
    return serve(arguments.data, settings.gather(flags, os.environ, vars(arguments).get("config")))


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import run

    return run(arguments.data, limit=arguments.limit_points, port=arguments.port)


def _import(arguments: argparse.Namespace) -> int:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from .transfer import Columns, import_points, state_file

    if not arguments.file.is_file():
        raise NotFoundError(f"no file {arguments.file}", field="file", value=str(arguments.file))
    columns = Columns(arguments.id_field, dict(arguments.vector_field))
    console = _console(stderr=True)
    with _open(arguments.data, create=arguments.create, maintenance=True) as database:
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
        from .transfer import infer_schema

        given = infer_schema(arguments.file, columns, arguments.text, arguments.encoder or ("bm25",))
        console.print("The schema, by what the first rows hold:")
        console.print(fields(given), markup=False)
    elif arguments.text:
        raise InvalidArgumentError("--text is for a schema made from the file; --schema says it all", field="text")
    return _named(database.create_collection(name, given), words)


def _named(collection: Collection, words: Mapping[str, Mapping[int, str | None]]) -> Collection:
    """The collection, with these words of its terms."""
    from .transfer.terms import set_all

    for field, named in words.items():
        set_all(collection, field, named)
    return collection


def _read_schema(path: Path) -> tuple[Schema, dict[str, dict[int, str | None]]]:
    """The schema, and words of terms: field → term → word."""
    from .transfer.terms import read_schema_file

    try:
        return read_schema_file(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}", field="schema", value=str(path)) from error
    except ValueError as error:
        if isinstance(error, VectorDBError):
            raise
        raise SchemaError(f"{path} is not JSON: {error}", field="schema", value=str(path)) from error


def _export(arguments: argparse.Namespace) -> int:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from .transfer import export_points, export_stream
    from .transfer.terms import schema_file

    console = _console(stderr=True)
    target = Path(arguments.out)
    for path in ([target] if arguments.out != "-" else []) + ([arguments.schema] if arguments.schema else []):
        if path.exists() and not arguments.force:
            raise AlreadyExistsError(f"{path} is there already; --force writes over it", field="out", value=str(path))
    with _open(arguments.data) as database:
        collection = database.collection(arguments.collection)
        if arguments.schema:
            _write(arguments.schema, json.dumps(schema_file(collection, arguments.with_vectors), indent=1, ensure_ascii=False) + "\n")
        options: dict[str, Any] = {"filter": arguments.filter, "with_vectors": arguments.with_vectors}
        if arguments.out == "-":
            export_stream(collection, sys.stdout.buffer, **options)
            return 0
        layout = (SpinnerColumn(), TextColumn("{task.completed:,} points"), TimeElapsedColumn())
        with Progress(*layout, console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task("", total=None)
            count = export_points(collection, target, progress=lambda done: bar.update(task, completed=done), **options)
    console.print(f"{count:,} points to {target}", markup=False)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}", field="out", value=str(path)) from error


def _terms(arguments: argparse.Namespace) -> int:
    from .transfer.terms import all_terms, read_terms, set_all, tsv, write_terms

    console = _console(stderr=True)
    if arguments.source is not None:
        words = read_terms(arguments.source)
        with _open(arguments.data) as database:
            changed = set_all(database.collection(arguments.collection), arguments.field, words)
        console.print(f"{len(words):,} terms read, {changed:,} changed", markup=False)
        return 0
    if arguments.out != "-" and Path(arguments.out).exists() and not arguments.force:
        raise AlreadyExistsError(f"{arguments.out} is there already; --force writes over it", field="out", value=arguments.out)
    with _open(arguments.data) as database:
        words = all_terms(database.collection(arguments.collection), arguments.field)
        if arguments.out == "-":
            sys.stdout.writelines(tsv(words))
            return 0
        count = write_terms(Path(arguments.out), words)
    console.print(f"{count:,} terms to {arguments.out}", markup=False)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    where = {"path": str(arguments.data)} if arguments.target is None else {"target": arguments.target}
    with _open(arguments.data) if arguments.target is None else _client(arguments) as database:
        names = [arguments.collection] if arguments.collection else sorted(database.collections())
        found = [database.collection(name).info() for name in names]
    if arguments.json:
        print(json.dumps({**where, "collections": [info_dict(info) for info in found]}, default=to_json, indent=1))
        return 0
    console = _console()
    if not found:
        console.print(f"{arguments.data or arguments.target} has no collections", markup=False)
    for info in found:
        print_info(console, info)
    return 0


def _optimize(arguments: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    console = _console(stderr=True)
    end = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    # Closing the database ends what the thread waits for, so it is closed first.
    with ThreadPoolExecutor(1) as pool, _open(arguments.data) as database:
        for name in [arguments.collection] if arguments.collection else sorted(database.collections()):
            collection = database.collection(name)
            left = None if end is None else max(end - time.monotonic(), 0.0)
            try:
                _watch(console, collection, pool.submit(collection.optimize, timeout=left))
            except DeadlineError:
                message = f"{name!r} isn't done after {arguments.timeout:g} s; what is finished stays, the same command goes on from there"
                raise DeadlineError(message, field="timeout", value=arguments.timeout) from None
            info = collection.info()
            console.print(f"{name}: {info.points:,} points, {info.deleted_rows:,} deleted rows left", markup=False)
            for line in indexes(info):
                console.print(f"  {line}", markup=False)
    return 0


def _watch(console: Console, collection: Collection, work: Future) -> None:
    """Wait for an ``optimize``, on a terminal with a line that says how far it is."""
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


def _check(arguments: argparse.Namespace) -> int:
    if not arguments.data.exists():
        raise NotFoundError(f"no database at {arguments.data}", field="data", value=str(arguments.data))
    from .backup import check

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
            _console().print(f"{arguments.data}: no problems", markup=False)
    return 1 if problems else 0


def _client(arguments: argparse.Namespace) -> Client:
    """A connection to the service that a command names."""
    from vectordb_client import Client

    return Client(arguments.target, api_key=os.environ.get(_KEY_VARIABLE), **_tls(arguments))


def _tls(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a ``Client`` that say how to encrypt."""
    return {"tls": arguments.tls_ca or arguments.tls, "tls_cert": arguments.tls_cert, "tls_key": arguments.tls_key}


def _top(arguments: argparse.Namespace) -> int:
    from . import top

    top.main(arguments.interval, arguments.once, arguments.json, lambda: _client(arguments), _console())
    return 0


def _health(arguments: argparse.Namespace) -> int:
    from .server.health import check

    check(arguments.target, arguments.timeout, **_tls(arguments))
    print("serving")
    return 0


def _snapshot(arguments: argparse.Namespace) -> int:
    with _open(arguments.data) as database:
        manifest = database.snapshot(arguments.to, archive=arguments.archive)
    _console(stderr=True).print(f"{_described(manifest)}, in {manifest['path']}", markup=False)
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from .backup import restore

    manifest = restore(arguments.source, arguments.directory)
    _console(stderr=True).print(f"{_described(manifest)}, of {manifest['created']}, restored to {manifest['path']}", markup=False)
    return 0


def _described(manifest: dict[str, Any]) -> str:
    collections, size = manifest["collections"].values(), sum(file["bytes"] for file in manifest["files"].values())
    points = sum(collection["points"] for collection in collections)
    return f"{len(collections)} collection{'s' * (len(collections) != 1)}, {points:,} points, {size:,} bytes"


def _purge(arguments: argparse.Namespace) -> int:
    with _open(arguments.data) as database:
        target = database if arguments.collection is None else database.collection(arguments.collection)
        result = target.purge(timeout=arguments.timeout)
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        searched = f"{result['ids']:,} ids, {result['rows']:,} rows and {result['vectors']:,} vectors"
        print(f"{result['rows_dropped']:,} rows dropped, {result['bytes_reclaimed']:,} bytes reclaimed; searched for {searched}")
        for file in result["residue"]:
            print(f"still in {arguments.data / file}")
        if result["proven"]:
            print("nothing of it is in any file")
    return 0 if result["proven"] else 1


def _version(arguments: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError, version

    print(f"vectordb {__version__}")
    print(f"python {platform.python_version()} on {platform.machine()}")
    for package in (
        "numpy",
        "numba",
        "lmdb",
        "pyroaring",
        "faiss-cpu",
        "hnswlib",
        "grpcio",
        "pyarrow",
        "wordllama",
        "PyStemmer",
        "sentence-transformers",
    ):
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    return 0
