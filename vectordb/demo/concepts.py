"""``vectordb demo --concepts``: concepts found in the docstrings, a search that is steered by one, and another encoder meanwhile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import AlreadyExistsError
from vectordb_client.model.derivations import SAE
from vectordb_client.model.filter import F
from vectordb_client.model.schema import Dense, Keyword, Schema, Sparse, Text

from ..encoders import load
from . import show
from .corpus import collect

if TYPE_CHECKING:
    from rich.console import Console

    from ..collection import Collection

COLLECTION, FIELD, CONCEPTS = "concepts", "text", "concepts"
BEFORE, AFTER = "wordllama(dim=64)", "wordllama(dim=256)"
POINTS = 4_000  # docstrings, unless another number is asked for
LEAST = 400  # docstrings that a fit of so many concepts needs, with some to spare
HIDDEN, K = 96, 6
QUESTION = "open a file and read it"
TOWARDS = "a connection to an sqlite database"  # its strongest concept is what the question is steered by
STEERED = 0.6  # of the concept in the query
SHOWN = 8  # concepts
_BATCH = 1_000
_PAUSE = 0.01  # seconds between two looks at the migration


def run(data: Path | None = None, *, limit: int | None = None) -> int:
    """The demo of concepts. Returns its exit code: 1 if a search failed to answer, or the migration didn't end; else 0.

    data: directory to keep the database in; None is a temporary one. limit: take only this many docstrings, at least 400. Nothing depends
    on how long something took. Raises EncoderError where wordllama isn't installed, and AlreadyExistsError for a directory that has a
    collection of the name already.
    """
    from ..database import open as open_database

    load(BEFORE)
    out, started = show.console(), time.perf_counter()
    with nullcontext(data) if data is not None else tempfile.TemporaryDirectory(prefix="vectordb-demo-") as folder:
        with open_database(folder) as database:
            if COLLECTION in database.collections():
                what = f"{folder} has a collection {COLLECTION!r} already; name another directory"
                raise AlreadyExistsError(f"{what}, or delete it: vectordb drop {folder} {COLLECTION}", field="data", value=str(folder))
            show.heading(out, f"Concepts in the docstrings of Python's standard library, in {folder}")
            fields = {FIELD: Dense(64, encoder=BEFORE, source="body"), CONCEPTS: Sparse(derived=SAE(FIELD, hidden=HIDDEN, k=K))}
            docs = database.create_collection(COLLECTION, Schema(fields, {"body": Text(), "package": Keyword()}))
            _fill(out, docs, max(limit or POINTS, LEAST))
            concept = _found(out, docs)
            _steered(out, docs, concept)
            answered = _migrated(out, docs)
        show.fact(out, "Done" if answered else "The migration did not end: please report this", time.perf_counter() - started)
    return 0 if answered else 1


def _fill(out: Console, docs: Collection, limit: int) -> None:
    start = time.perf_counter()
    entries = list(collect(limit=limit))
    for low in range(0, len(entries), _BATCH):
        some = entries[low : low + _BATCH]
        columns = {"body": [entry.body for entry in some], "package": [entry.package for entry in some]}
        docs.upsert(ids=[entry.id for entry in some], attributes=columns)
    show.fact(out, f"{len(entries):,} docstrings embedded and stored", time.perf_counter() - start)


def _found(out: Console, docs: Collection) -> int:
    """Fit the concepts and show those that most points have. Returns the strongest one of ``TOWARDS``."""
    show.heading(out, "Concepts that an autoencoder finds in the vectors")
    show.code(out, f'collection.fit("{CONCEPTS}")')
    start = time.perf_counter()
    report = docs.fit(CONCEPTS)
    show.fact(out, f"{HIDDEN} concepts fitted to {report['sample']:,} vectors, {K} in each", time.perf_counter() - start)
    known: dict[int, Mapping[str, Any]] = {int(number): each for number, each in report["concepts"].items()}
    labelled = {number: each for number, each in known.items() if each.get("label")} or known
    usual = sorted(labelled, key=lambda number: (-labelled[number].get("frequency", 0.0), number))
    out.print()
    for number in usual[:SHOWN]:
        best = docs.search({CONCEPTS: {number: 1.0}}, limit=3, exact=True)
        show.concept(out, number, labelled[number].get("label", ""), [str(hit.id) for hit in best])
    plan: Any = docs.search(text={CONCEPTS: TOWARDS}, limit=1, exact=True, explain=True).plan
    arm = plan["arms"][0]
    return max(arm["terms"], key=lambda part: part["weight"])["term"] if arm.get("terms") else usual[0]


def _steered(out: Console, docs: Collection, concept: int) -> None:
    """Search with and without a concept in the query."""
    label = docs.terms(CONCEPTS).get(concept, "")
    show.heading(out, f"A search steered by concept {concept}{f' ({label})' * bool(label)}")
    options: tuple[dict[str, Any], ...] = ({}, {"steer": {concept: STEERED}})
    for option in options:
        written = "".join(f", {name}={value}" for name, value in option.items())
        show.code(out, f'collection.search(text={{"{FIELD}": "{QUESTION}"}}{written})')
        hits = docs.search(text={FIELD: QUESTION}, limit=4, exact=True, **option)
        show.names(out, [str(hit.id) for hit in hits])
    having = docs.count(F.concept(CONCEPTS, concept) > 0)
    show.code(out, f'collection.count(F.concept("{CONCEPTS}", {concept}) > 0)')
    show.fact(out, f"{having:,} of {docs.count():,} docstrings have the concept")


def _migrated(out: Console, docs: Collection) -> bool:
    """Bring the field to another encoder while searching. False if it is not there in the end."""
    show.heading(out, "Another encoder, while searches go on")
    docs.drop_fields([CONCEPTS])  # they were of the old vectors
    show.code(out, f'collection.migrate("{FIELD}", "{AFTER}", wait=False)')
    start, answered = time.perf_counter(), {64: 0, 256: 0}
    docs.migrate(FIELD, AFTER, wait=False)
    while docs.migration(FIELD)["state"] != "none":
        answered[_dim(docs)] += len(docs.search(text={FIELD: QUESTION}, limit=4)) == 4
        time.sleep(_PAUSE)
    docs.migrate(FIELD, AFTER)  # waits, and raises what went wrong
    hits = docs.search(text={FIELD: QUESTION}, limit=4, exact=True)
    answered[_dim(docs)] += len(hits) == 4
    seconds = time.perf_counter() - start
    show.fact(out, f"{answered[64]:,} searches answered by vectors of {BEFORE} meanwhile", seconds)
    show.fact(out, f"now vectors of {AFTER} answer:")
    show.names(out, [str(hit.id) for hit in hits])
    out.print()
    return _dim(docs) == 256 and answered[256] > 0


def _dim(docs: Collection) -> int:
    """The dimensions of the field now."""
    spec: Any = docs.schema.vectors[FIELD]
    return spec.dim
