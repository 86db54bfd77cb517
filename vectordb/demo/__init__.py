"""``vectordb demo``: searches of the docstrings of Python's standard library, embedded, through an index, and served."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import AlreadyExistsError, EncoderError, VectorDBError

from ..encoders import load
from . import show
from .corpus import Entry, collect
from .queries import COLLECTION, DENSE, ENCODER, PLAN_FILTERS, QUERIES, QUESTIONS, SCHEMA, TERMS, TERMS_SCHEMA, Query

if TYPE_CHECKING:
    from rich.console import Console
    from vectordb_client.model.results import Hits

    from ..collection import Collection
    from ..database import Database

LIMIT = 10
RECALLS = (0.95, 0.99)  # asked of the index
BROKEN = 0.5  # a mean recall below it means that the index is broken: no choice of plan misses so much
_BATCH = 1000
_SHOWN = 3
_REPEATS = 7
_STILL_SECONDS = 20.0  # after which a log without a terminal says that the service is still starting


def run(data: Path | None = None, *, limit: int | None = None, port: int = 0) -> int:
    """The whole demo. Returns its exit code: 0, or 1 when an answer was wrong.

    An answer is wrong when an exact search gives other ids or scores through the service than embedded, or when the index finds less than
    half of the true best points. Nothing depends on how long something took.
    data: directory to keep the database in; None is a temporary one. limit: take only this many docstrings. port: of the service, 0 takes
    a free one. Raises AlreadyExistsError for a directory that has another collection of the demo's name, and UnavailableError when the
    port is in use or the service doesn't start.
    """
    from ..database import open as open_database
    from . import service

    service.check_port(port)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that can't show a bar still shows the rest
    out = show.console()
    started = time.perf_counter()
    kept = nullcontext(data) if data is not None else tempfile.TemporaryDirectory(prefix="vectordb-demo-")
    with _signals_end_it(), kept as folder:
        # Without background work, the index is made where the demo says so.
        with open_database(folder, maintenance=False) as database:
            show.heading(out, f"The docstrings of Python {sys.version.split()[0]}'s standard library, in {folder}")
            collection = _collection(out, database, folder)
            dense = DENSE in collection.schema.vectors
            queries = QUERIES if dense else tuple(query.with_terms_only() for query in QUERIES)
            _fill(out, collection, limit)
            for number, query in enumerate(queries, 1):
                _ask(out, number, query, collection)
            found = _indexed(out, collection, DENSE if dense else TERMS)
            same = _served(out, Path(folder), port, collection, queries)
        show.fact(out, "Done" if found and same else "Some answers are wrong: please report this", time.perf_counter() - started)
    return 0 if found and same else 1


def _collection(out: Console, database: Database, folder: Any) -> Collection:
    """The demo's collection: the existing one, or a new one, with the dense field where its encoder can be used."""
    schema = SCHEMA
    if COLLECTION in database.collections():
        schema = database.collection(COLLECTION).schema
        if schema not in (SCHEMA, TERMS_SCHEMA):
            raise AlreadyExistsError(
                f"{folder} has a collection {COLLECTION!r} that isn't the demo's; name another directory, "
                f"or delete the collection: vectordb drop {folder} {COLLECTION}",
                field="data",
                value=str(folder),
            )
        if schema == TERMS_SCHEMA:
            show.note(out, "Words only (BM25), as in the earlier run that made this directory.")
    else:
        try:
            load(ENCODER)
        except EncoderError as error:
            schema = TERMS_SCHEMA
            show.note(out, f"Words only (BM25); embeddings add search by meaning: {error.message}")
    return database.create_collection(COLLECTION, schema, exist_ok=True)


def _fill(out: Console, collection: Collection, limit: int | None) -> None:
    """Write the docstrings that the collection lacks or has with another text."""
    start = time.perf_counter()
    with out.status("  reading the standard library") if out.is_terminal else nullcontext():
        entries = list(collect(limit=limit))
    words = sum(entry.doc.count(" ") + 1 for entry in entries)
    show.fact(out, f"{len(entries):,} docstrings with {words:,} words, read from source files", time.perf_counter() - start)
    stored = {point.id: point.attributes["body"] for point in collection.iterate(page=_BATCH, with_attributes=["body"])}
    new = [entry for entry in entries if stored.get(entry.id) != entry.body]
    others = len(stored.keys() - {entry.id for entry in entries})
    if len(new) < len(entries):
        show.fact(out, f"{len(entries) - len(new):,} of them are in the database already")
    if others:
        show.fact(out, f"{others:,} more docstrings from an earlier run are in the database and are searched too")
    if not new:
        return
    start = time.perf_counter()
    with _progress(out, len(new)) as advance:
        for low in range(0, len(new), _BATCH):
            batch = new[low : low + _BATCH]
            collection.upsert([point(entry) for entry in batch])
            advance(len(batch))
    seconds = time.perf_counter() - start
    info = collection.info()
    show.fact(out, f"embedded and stored, {len(new) / seconds:,.0f} points a second, {info.bytes / 2**20:.1f} MiB", seconds)


def point(entry: Entry) -> dict:
    """A docstring as a point; the database makes its vectors from ``body``."""
    attributes = {key: getattr(entry, key) for key in ("module", "package", "kind", "name", "lines", "body")}
    attributes |= {"has_signature": bool(entry.signature), "parameters": list(entry.parameters)}
    return {"id": entry.id, "attributes": attributes, "payload": {"signature": entry.signature, "file": entry.file}}


@contextmanager
def _progress(out: Console, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

    layout = (TextColumn("  storing"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*layout, console=out, disable=not out.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _search(collection: Any, query: Query, **options: Any) -> Hits:
    return collection.search(text=query.text, filter=query.filter, fusion=query.fusion, limit=LIMIT, **options)


def _ask(out: Console, number: int, query: Query, collection: Collection) -> None:
    """Run a search and show it: the first with all details, the others in short."""
    hits = _search(collection, query, explain=True)
    seconds = _timed(lambda: _search(collection, query))
    show.query(out, number, query)
    show.hits(out, hits[:_SHOWN], detailed=number == 1)
    show.steps(out, hits.plan or {}, seconds)


def _timed(call: Callable[[], Any]) -> float:
    """Seconds a call takes, the median of a few."""
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _indexed(out: Console, collection: Collection, field: str) -> bool:
    """Build the index, show the planner's choices, and compare indexed answers with exact ones; False when the index is broken."""
    show.heading(out, "Through an index")
    show.code(out, "collection.optimize()")
    start = time.perf_counter()
    with out.status("  indexing") if out.is_terminal else nullcontext():
        built = collection.optimize()["segments_built"]
    seconds = time.perf_counter() - start
    segments = collection.info().statistics[field]["segments"]
    if not segments:
        show.fact(out, f"{collection.count():,} docstrings are too few for an index: every search scans them all, so it is exact")
        return True
    rows = sum(segment["rows"] for segment in segments)
    done = f"{rows:,} docstrings indexed; the searches above scanned them all" if built else "the index is up to date from an earlier run"
    show.fact(out, done, seconds)

    def ask(question: str, **options: Any) -> Hits:
        return collection.search(text={field: question}, limit=LIMIT, **options)

    def explained(filter: str | None = None) -> Mapping[str, Any]:
        ask(QUESTIONS[0], recall=RECALLS[0], filter=filter)  # the first call of a plan loads its code
        return ask(QUESTIONS[0], recall=RECALLS[0], filter=filter, explain=True).plan

    out.print()
    show.code(out, f'collection.search(text={{"{field}": "{QUESTIONS[0]}"}}, recall={RECALLS[0]})')
    show.choice(out, explained()["arms"][0])
    show.choices(out, {filter: explained(filter) for filter in PLAN_FILTERS})
    answers = [_compared(question, ask) for question in QUESTIONS]
    show.recalls(out, answers)
    return min(statistics.fmean(indexed[recall][1] for *_, indexed in answers) for recall in RECALLS) >= BROKEN


def _compared(question: str, ask: Callable[..., Hits]) -> tuple[str, float, dict[float, tuple[float, float]]]:
    """(the question, seconds of an exact search, recall asked for → (seconds, share of the exact answer found))."""
    truth = set(ask(question, exact=True).ids)
    indexed = {}
    for recall in RECALLS:
        recall_found = len(truth & set(ask(question, recall=recall).ids)) / len(truth) if truth else 1.0
        indexed[recall] = (_timed(lambda recall=recall: ask(question, recall=recall, with_attributes=False)), recall_found)
    return question, _timed(lambda: ask(question, exact=True, with_attributes=False)), indexed


def _served(out: Console, folder: Path, port: int, collection: Collection, queries: tuple[Query, ...]) -> bool:
    """Repeat the searches through the service, exactly; False when an id or a score differs."""
    try:
        from vectordb_client import Client

        from .service import served
    except ImportError as error:
        raise VectorDBError(f"the service can't be loaded: {error}; install vectordb again, with all it needs") from error
    show.heading(out, "The same directory as a service")
    show.code(out, f"vectordb serve {folder}")
    start = time.perf_counter()
    rows = []
    with _waiting(out) as waiting, served(folder, port, waiting) as address:
        waiting(0, "")
        show.fact(out, f"it answers on {address}", time.perf_counter() - start)
        out.print()
        with Client(address, api_key=os.environ.get("VECTORDB_API_KEY")) as client:
            remote = client.collection(COLLECTION)
            for query in queries:
                here, there = _search(collection, query, exact=True), _search(remote, query, exact=True)
                times = [_timed(lambda query=query, side=side: _search(side, query, exact=True)) for side in (collection, remote)]
                rows.append((query.text, *times, list(here.ids) == list(there.ids), here.scores.tolist() == there.scores.tolist()))
    show.comparison(out, rows)
    out.print()
    return all(ids and scores for *_, ids, scores in rows)


@contextmanager
def _waiting(out: Console) -> Iterator[Callable[[float, str], None]]:
    """A function that shows how long the service has been starting; called with 0 seconds it stops showing it."""
    announced = False
    status = out.status("  starting the service") if out.is_terminal else None

    def show_it(seconds: float, message: str) -> None:
        nonlocal announced
        if status is not None and seconds:
            status.update(f"  starting the service: {seconds:.0f} s  [dim]{show.escape(message)}[/]")
        elif status is not None:
            status.stop()
        elif seconds > _STILL_SECONDS and not announced:
            announced = True
            show.fact(out, "the service is still starting; the demo waits for it")

    with status if status is not None else nullcontext():
        yield show_it


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: the service is stopped and a temporary directory removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
