"""Probes of searches beside other work: bulk writes and searches of the service, background work, and a flood by another client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from .. import timing
from .release import Figures

TOGETHER, BATCHES_A_SECOND, CONNECTIONS = 64, 10, 8
TAIL = (50, 99, 99.9)


def _latencies(what: str, taken: np.ndarray, alone: np.ndarray | None = None, percentiles: tuple[float, ...] = (50, 99)) -> Figures:
    """Percentiles of searches, and their ratios to those of searches alone."""
    for percentile in percentiles:
        value = np.percentile(taken, percentile)
        yield f"{what}: p{percentile:g}", value, "µs"
        if alone is not None:
            yield f"{what}: p{percentile:g} ÷ alone", value / np.percentile(alone, percentile), "× alone"


# Throughput of the service


def service(worker, seconds: float = 10.0, rates: tuple[int | None, ...] = (1_000, 10_000, None)) -> Figures:
    """Bulk writes, calls of one and of 64 queries, and searches while points are written. rates: points a second; None: no limit."""
    dataset, queries = worker.dataset, np.array([worker.dataset.query(i) for i in worker.queries], np.float32)
    with worker.fresh() as (system, folder):
        system.create(dataset, folder, worker.threads)
        ours, rows = system.collection, len(dataset)
        taken = timing.seconds(lambda: _bulk(ours, dataset))
        yield "bulk, durable", rows / taken, "points/s"
        system.finish()

        def search(query: np.ndarray) -> None:
            ours.search({"dense": query}, limit=10, with_attributes=False)

        timing.stream(search, queries, timing.lasting(seconds / 5))
        alone = timing.stream(search, queries, timing.lasting(seconds))
        yield "single searches", len(alone) / seconds, "searches/s"
        yield from _latencies("single searches", alone)
        call = lambda _: ours.search_batch({"dense": queries[:TOGETHER]}, limit=10, with_attributes=False)  # noqa: E731
        calls = timing.stream(call, [None], timing.lasting(seconds))
        yield f"{TOGETHER} queries a call", TOGETHER * len(calls) / seconds, "searches/s"
        for rate in rates:
            what = f"while writing {'as fast as possible' if rate is None else f'{rate:,} points/s'}"
            with _writing(ours, dataset.vectors, rate, rows) as written:
                times = timing.stream(search, queries, timing.lasting(seconds))
            yield f"{what}: written", written[0] / seconds, "points/s"
            yield f"{what}: searches", len(times) / seconds, "searches/s"
            yield from _latencies(what, times)
            rows += written[0]


def _bulk(collection, dataset) -> None:
    assert not collection.bulk(ids=np.arange(len(dataset)), vectors={"dense": dataset.vectors}).failed


@contextmanager
def _writing(collection, vectors: np.ndarray, rate: int | None, first: int) -> Iterator[list[int]]:
    """Write new points in another thread during the block. Yields a list with one element, the number of points written so far."""
    stop, written, size = threading.Event(), [0], 1_000 if rate is None else rate // BATCHES_A_SECOND

    def write() -> None:
        began = time.perf_counter()
        while not stop.is_set():
            collection.upsert(ids=np.arange(first + written[0], first + written[0] + size), vectors={"dense": vectors[:size]})
            written[0] += size
            if rate is not None:
                stop.wait(max(0.0, began + written[0] / rate - time.perf_counter()))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        stop.set()
        thread.join()


# Background work


def background(worker, searches: int = 20_000, indexing: float = 10.0) -> Figures:
    """Latency of single searches beside audits, the verification of files after opening, writes, index builds and ``optimize``."""
    import vectordb

    dataset, folder, queries = worker.dataset, worker.folder, worker.first_queries()
    rows, warm = len(dataset), searches // 10

    @contextmanager
    def opened(**options) -> Iterator[Callable]:
        with vectordb.open(folder, durability="batched", **{"maintenance": False, "recall_audit": 0.0} | options) as database:
            collection = database.collection("bench")
            yield collection, lambda go_on: timing.stream(lambda q: collection.search(q, limit=10, with_attributes=False), queries, go_on)

    def beside(stream: Callable, work: Callable[[], None]) -> np.ndarray:
        """Searches while another thread runs ``work`` once."""
        thread = threading.Thread(target=work)
        thread.start()
        times = stream(lambda done: thread.is_alive() or done < 100)
        thread.join()
        return times

    def write(collection) -> None:
        for low in range(0, rows // 10, 1_000):
            picked = slice(low, min(low + 1_000, rows // 10))
            collection.upsert(ids=range(rows + picked.start, rows + picked.stop), vectors={"dense": dataset.vectors[picked]})

    def some(done: int) -> bool:
        return done < warm

    worker.system.close()
    with opened() as (_, stream):
        stream(some)
        alone = stream(lambda done: done < searches)
        yield from _latencies("alone", alone, percentiles=TAIL)
    with opened() as (collection, stream):
        collection.search(queries[0])
        yield from _latencies("the first after opening, while files are verified", stream(some), alone, TAIL)
    with opened(recall_audit=1 / 64) as (_, stream):
        stream(some)
        yield from _latencies("with default audits", stream(lambda done: done < searches), alone, TAIL)
    with opened(maintenance=True) as (collection, stream):
        stream(some)
        yield from _latencies("during writes of 10 % more rows", beside(stream, lambda: write(collection)), alone, TAIL)
        passing = timing.lasting(indexing)
        yield from _latencies("while the rows are indexed", stream(lambda done: done < 100 or passing(done)), alone, TAIL)
        yield from _latencies("the first after indexing", stream(some), alone, TAIL)
    with opened() as (collection, stream):
        collection.delete(list(range(0, rows, 4)))
        stream(some)
        yield from _latencies("during optimize on all cores", beside(stream, collection.optimize), alone, TAIL)


# Fairness between keys


def fairness(worker, seconds: float = 10.0) -> Figures:
    """Searches of one key while another key floods the service, of one worker process, through eight connections."""
    import multiprocessing

    from vectordb_client import Client

    import vectordb
    from vectordb import Dense, Schema
    from vectordb.server.access import keys

    from ..systems.vectordb import started

    folder, vectors = worker.folder, worker.dataset.vectors
    dense = {"d": Dense(worker.dataset.dim)}
    with vectordb.open(folder, durability="batched") as database:
        database.create_collection("one", Schema(dense)).upsert(ids=[1], vectors={"d": vectors[:1]})
        many = database.create_collection("many", Schema(dense))
        for low in range(0, len(vectors), 10_000):
            many.upsert(ids=np.arange(len(vectors))[low : low + 10_000], vectors={"d": vectors[low : low + 10_000]})
    theirs, ours = (keys.create(folder / "keys.json", "read", collections=[name])[0] for name in ("many", "one"))
    server, target = started(folder, "--no-maintenance", "--slow-query-ms", "0")
    try:
        with Client(target, api_key=ours, timeout=120) as client:
            one = client.collection("one")

            def latencies(seconds: float) -> np.ndarray:
                return timing.stream(lambda query: one.search({"d": query}, limit=1), vectors[:100], timing.lasting(seconds))

            latencies(seconds / 5)
            alone = latencies(seconds)
            yield from _latencies("alone", alone)
            for kind, name in enumerate(("10,000 exact queries a call", "exact, limit 100,000")):
                flood = multiprocessing.get_context("spawn").Process(
                    target=_flood, args=(kind, theirs, target, vectors[:10_000]), daemon=True
                )
                flood.start()
                try:
                    time.sleep(seconds / 2)
                    yield from _latencies(f"beside {CONNECTIONS} × {name}", latencies(seconds), alone)
                finally:
                    flood.kill()
                    flood.join()
                time.sleep(seconds / 3)
    finally:
        server.stop()


def _flood(kind: int, key: str, target: str, queries: np.ndarray) -> None:
    """Send expensive requests through eight connections until the process is killed. kind: 0 batches of queries, 1 a high limit."""
    from vectordb_client import Client, RateLimitError

    def ask() -> None:
        with Client(target, api_key=key, timeout=300) as client:
            many = client.collection("many")
            while True:
                try:
                    if kind == 0:
                        many.search_batch({"d": queries}, limit=10, exact=True, with_attributes=False)
                    else:
                        many.search({"d": queries[0]}, limit=100_000, exact=True)
                except RateLimitError as error:
                    time.sleep(error.retry_after)

    threads = [threading.Thread(target=ask) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
