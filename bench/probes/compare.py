"""Probe that compares two checkouts of vectordb: what a call costs beside the work that it asks for. It uses only public names.

Each round runs it in a new process of each checkout, on the same small data. Every figure is a median over calls that follow a warm-up.
Kernels are compiled before: in the unmeasured first round, into a cache folder of the checkout's own.
"""

from __future__ import annotations

import gc
from itertools import count
from pathlib import Path

import numpy as np

from .. import timing
from ..data.synthetic import SEED
from .release import Figures

SMALL, DIM, WIDE = (1_000, 8), 64, 128


def checkout(worker, calls: int = 600, rows: int = 20_000, batched: int = 10_000, processes: int = 2) -> Figures:
    """calls: those of a figure. rows: of the large collection; from 20,000 on its index has a graph. batched: points of an upsert in
    batches. processes: new processes that are started."""
    import vectordb_client

    import vectordb
    from vectordb import RRF, Dense, Int, Keyword, Schema, Sparse

    from ..systems.vectordb import started

    rng, folder = np.random.default_rng(SEED), worker.folder
    some, few, large_size, size = range(calls), max(20, calls // 5), (rows, DIM), f"{rows:,} × {DIM}"

    def p50(call, values: range = some) -> float:
        gc.collect()
        return timing.p50(call, values)

    with vectordb.open(folder, maintenance=False, recall_audit=0.0) as database:
        attributes = {"n": Int(), "word": Keyword()}

        def create(name: str, size: tuple[int, int], sparse: bool = False):
            """(collection, its columns), without points."""
            n, dim = size
            vectors = {"dense": Dense(dim)} | ({"sparse": Sparse()} if sparse else {})
            columns = {"dense": _clustered(rng, n, dim)} | ({"sparse": _terms(rng, n)} if sparse else {})
            values = {"n": np.arange(n), "word": [f"w{i % 50}" for i in range(n)]}
            return database.create_collection(name, Schema(vectors=vectors, attributes=attributes)), columns, values

        def upsert(collection, columns: dict, values: dict, low: int, high: int) -> None:
            vectors = {name: column[low:high] for name, column in columns.items()}
            collection.upsert(
                ids=np.arange(low, high), vectors=vectors, attributes={name: column[low:high] for name, column in values.items()}
            )

        # Writes
        rates = []
        for i in range(3):
            into = create(f"batched{i}", (batched, WIDE))
            taken = timing.seconds(lambda into=into: [upsert(*into, low, low + 1_000) for low in range(0, batched, 1_000)])
            rates.append(batched / taken)
            database.drop_collection(f"batched{i}")
        yield f"upsert, {batched:,} × {WIDE} in batches of 1,000", np.median(rates), "points/s"
        singles = create("singles", (few, 64))
        yield "upsert of one point", np.median(timing.calls(lambda i: upsert(*singles, i, i + 1), range(few), warm=0)), "µs"
        point = singles[0].get([1])
        assert point[0] is not None
        yield "get of one point", p50(lambda i: singles[0].get([i % few])), "µs"

        # Searches without an index
        small, large = create("small", SMALL), create("large", large_size, sparse=True)
        upsert(*small, 0, SMALL[0])
        for low in range(0, rows, 1_000):
            upsert(*large, low, low + 1_000)
        tiny, docs = small[0], large[0]
        near, near_small = (_queries(rng, one[1]["dense"]) for one in (large, small))
        terms = _terms(rng, 256, 8)

        def dense(i: int, **options) -> None:
            docs.search({"dense": near[i % 256]}, **options)

        def sparse(i: int) -> None:
            docs.search({"sparse": terms[i % 256]})

        def both(i: int) -> None:
            docs.search({"dense": near[i % 256], "sparse": terms[i % 256]}, fusion=RRF())

        yield "search, 1,000 × 8", p50(lambda i: tiny.search({"dense": near_small[i % 256]})), "µs"
        yield f"search, {size} without index", p50(dense), "µs"
        yield f"search, sparse, {rows:,} without index", p50(sparse), "µs"

        # Searches with an index
        yield f"index of {size} and sparse", timing.seconds(docs.optimize), "s"
        yield f"search, {size}", p50(dense), "µs"
        yield f"search, {size}, ids only", p50(lambda i: dense(i, with_attributes=False)), "µs"
        yield f"search, {size}, exact", p50(lambda i: dense(i, exact=True), range(few)), "µs"
        new = count(8_000)
        yield "search, filter new by value", p50(lambda i: dense(i, filter=f"n < {next(new)} AND word = 'w7'")), "µs"
        yield "search, filter asked before", p50(lambda i: dense(i, filter="n < 15000 AND word = 'w7'")), "µs"
        yield "search, sparse", p50(sparse), "µs"
        yield "search, dense + sparse, RRF", p50(both), "µs"
        yield "search_batch of 64, a query", p50(lambda i: docs.search_batch({"dense": near[:64]}), range(few)) / 64, "µs"
        yield "search_batch of 64 sparse, a query", p50(lambda i: docs.search_batch({"sparse": terms[:64]}), range(few)) / 64, "µs"

    # The service, and a new process
    server, target = started(folder, "--workers", "1", "--no-maintenance")
    try:
        with vectordb_client.Client(target) as client:
            far, docs = client.collection("small"), client.collection("large")
            yield "service: search, 1,000 × 8", p50(lambda i: far.search({"dense": near_small[i % 256]})), "µs"
            yield "service: search, dense + sparse, RRF", p50(both), "µs"
            taken = timing.calls(lambda i: far.get([i]), range(few))
            yield "service: get of one point", np.median(taken), "µs"
    finally:
        server.stop()
    yield from _new_process(folder, processes)


def _new_process(folder: Path, processes: int) -> Figures:
    from .parts import child

    first = [child(_FIRST, str(folder)) for _ in range(processes)]
    for part in ("import", "open", "first search"):
        yield f"new process: {part}", np.median([one[part] for one in first]) * 1e3, "ms"


_FIRST = """
import vectordb
imported = time.perf_counter()
with vectordb.open(sys.argv[1]) as database:
    docs = database.collection("large")
    opened = time.perf_counter()
    assert len(docs.search({"dense": [1.0] * 64}))
    answered = time.perf_counter()
    done(**{"import": imported - START, "open": opened - imported, "first search": answered - opened})
"""


def _clustered(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    centres = rng.standard_normal((100, dim), dtype=np.float32)
    return centres[rng.integers(0, 100, n)] + 0.7 * rng.standard_normal((n, dim), dtype=np.float32)


def _queries(rng: np.random.Generator, vectors: np.ndarray) -> np.ndarray:
    return vectors[rng.integers(0, len(vectors), 256)] + 0.3 * rng.standard_normal((256, vectors.shape[1]), dtype=np.float32)


def _terms(rng: np.random.Generator, n: int, terms: int = 30) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sparse vectors as (uint32 terms, float32 weights), of 5,000 terms with Zipf's frequencies."""
    drawn = [np.unique((5_000 ** rng.random(terms)).astype(np.uint32)) for _ in range(n)]
    return [(terms, rng.random(len(terms), dtype=np.float32) + np.float32(0.1)) for terms in drawn]
