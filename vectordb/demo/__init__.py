"""``vectordb demo``: hybrid, filtered search over the docstrings of Python's standard library, embedded and then served."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnavailableError, VectorDBError
from . import show
from .corpus import Entry, collect
from .queries import COLLECTION, QUERIES, SCHEMA, Query

if TYPE_CHECKING:
    from rich.console import Console

    from ..collection import Collection
    from ..types import Hits

_BATCH = 1000
_SHOWN = 3
_COMPARED = 10
_REPEATS = 7
_START_SECONDS = 60.0
_ADDRESS = re.compile(r" on (\S+:\d+)")


def run(data: Path | None = None, *, limit: int | None = None, port: int = 0) -> int:
    """The whole demo; returns 0 when the service answered exactly as the embedded database did, else 1.

    data: where the database is kept (None: a temporary directory). limit: take only so many docstrings. port: the service's.
    """
    from ..database import open as open_database

    sys.stdout.reconfigure(errors="replace")  # a terminal that can't show a bar still shows the rest
    out = show.console()
    started = time.perf_counter()
    kept = nullcontext(data) if data is not None else tempfile.TemporaryDirectory(prefix="vectordb-demo-")
    with kept as folder, open_database(folder) as database:
        show.heading(out, f"The docstrings of Python {sys.version.split()[0]}'s standard library, in {folder}")
        collection = database.create_collection(COLLECTION, SCHEMA, exist_ok=True)
        _fill(out, collection, limit)
        embedded = [_ask(out, number, query, collection) for number, query in enumerate(QUERIES, 1)]
        show.heading(out, "The same directory, served")
        same = _served(out, Path(folder), port, embedded)
    show.fact(out, "all done" if same else "the service answered otherwise than the embedded database", time.perf_counter() - started)
    return 0 if same else 1


def _fill(out: Console, collection: Collection, limit: int | None) -> None:
    start = time.perf_counter()
    with out.status("  reading the standard library") if out.is_terminal else nullcontext():
        entries = list(collect(limit=limit))
    words = sum(entry.doc.count(" ") + 1 for entry in entries)
    show.fact(out, f"{len(entries):,} docstrings, {words:,} words, parsed from source without importing it", time.perf_counter() - start)
    if collection.count() == len(entries):
        show.fact(out, "which are in the database already")
        return
    start = time.perf_counter()
    with _progress(out, len(entries)) as advance:
        for low in range(0, len(entries), _BATCH):
            batch = entries[low : low + _BATCH]
            collection.upsert([point(entry) for entry in batch])
            advance(len(batch))
    seconds = time.perf_counter() - start
    info = collection.info()
    show.fact(out, f"embedded, indexed and on disk: {info.points / seconds:,.0f} points/s, {info.bytes / 2**20:.1f} MiB", seconds)


def point(entry: Entry) -> dict:
    """A docstring as a point; both vectors are made from ``body`` by the database."""
    attributes = {key: getattr(entry, key) for key in ("module", "package", "kind", "name", "lines", "body")}
    attributes |= {"has_signature": bool(entry.signature), "parameters": list(entry.parameters)}
    return {"id": entry.id, "attributes": attributes, "payload": {"signature": entry.signature, "file": entry.file}}


@contextmanager
def _progress(out: Console, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

    layout = (TextColumn("  building"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*layout, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _search(collection: Any, query: Query, **options: Any) -> Hits:
    return collection.search(text=query.text, filter=query.filter, fusion=query.fusion, limit=_COMPARED, **options)


def _ask(out: Console, number: int, query: Query, collection: Collection) -> tuple[Hits, float]:
    """Runs and shows a search; returns its hits and how long it takes."""
    found = _search(collection, query, explain=True)
    seconds = _timed(lambda: _search(collection, query))
    show.query(out, number, query)
    show.hits(out, found[:_SHOWN])
    show.plan(out, found.plan, seconds)
    return found, seconds


def _timed(call: Callable[[], Any]) -> float:
    """The median of a few runs, in seconds."""
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _served(out: Console, folder: Path, port: int, embedded: list[tuple[Hits, float]]) -> bool:
    try:
        from vectordb_client.client import Client
    except ImportError as error:
        raise VectorDBError(f"the service can't be loaded: {error}; install vectordb again, with all it needs") from error
    start = time.perf_counter()
    rows = []
    with _service(folder, port) as address:
        show.fact(out, f"python -m vectordb serve answers on {address}", time.perf_counter() - start)
        out.print()
        with Client(address) as client:
            collection = client.collection(COLLECTION)
            for query, (expected, seconds) in zip(QUERIES, embedded, strict=True):
                found = _search(collection, query)
                ids, scores = list(found.ids) == list(expected.ids), found.scores.tolist() == expected.scores.tolist()
                rows.append((query.text, seconds, _timed(lambda query=query: _search(collection, query)), ids, scores))
    show.comparison(out, rows)
    out.print()
    return all(ids and scores for *_, ids, scores in rows)


@contextmanager
def _service(folder: Path, port: int) -> Iterator[str]:
    """The service in a process of its own; yields its address and stops it in the end."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        command = [sys.executable, "-m", "vectordb", "serve", "--data", str(folder), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        # A service that neither starts nor ends must not hold the demo forever.
        guard = threading.Timer(_START_SECONDS, process.kill)
        guard.start()
        try:
            line = process.stdout.readline()
            address = _ADDRESS.search(line)
            if not address:
                process.wait()
                complaints.seek(0)
                said = complaints.read().strip() or line.strip() or f"exit code {process.returncode}"
                raise UnavailableError(f"the service didn't start: {said}")
            guard.cancel()
            yield address.group(1)
        finally:
            guard.cancel()
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
