"""Probes of a release, for every system: searches, batches, writes, bytes. ``parts`` has those of vectordb alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np

from .. import facts, timing, truth

Figures = Iterator[tuple[str, float, str]]
UPSERTED, SINGLES, BATCH = 50_000, 200, 1_000


def search(worker) -> Figures:
    """One exact search at a time. The answers are compared with the ground truth first."""
    _verify(worker)
    yield "exact search, p50", timing.p50(lambda query: worker.system.search(query, 10, None), worker.first_queries(), 10.0), "µs"
    if "ours" in worker.system.does:
        yield "search with all defaults, p50", timing.p50(worker.system.collection.search, worker.first_queries(), 10.0), "µs"


def _verify(worker) -> None:
    """Set the system's exact mode, and compare five of its answers with exact ones. Raises AssertionError where they differ."""
    system, dataset, queries = worker.system, worker.dataset, worker.queries[:5]
    system.set(system.exact())
    expected = truth.exact(dataset, queries, 10)
    for i, query in enumerate(worker.first_queries(5)):
        hits = system.ids(system.search(query, 10, None))
        judged = truth.judge(expected, dataset, i, queries[i], hits, 10)
        assert judged.good == min(10, expected.matches[i]), f"query {queries[i]}: exact search returned {hits.tolist()}"


def batch(worker) -> Figures:
    """64 queries one by one and in one call."""
    system, queries = worker.system, worker.first_queries(64)
    system.set(system.exact())
    alone = len(queries) / timing.seconds(lambda: [system.search(query, 10, None) for query in queries])
    together = len(queries) / timing.seconds(system.search_batch, queries, 10)
    yield "64 single searches", alone, "queries/s"
    yield "search_batch of 64", together, "queries/s"
    yield "search_batch of 64 ÷ single searches", together / alone, "×"


def threads(worker, exact: bool = True, seconds: float = 1.0) -> Figures:
    """Single searches from one and from two threads."""
    system, queries = worker.system, worker.first_queries()
    system.set(system.exact() if exact else {})

    def rate(count: int) -> float:
        taken: list[np.ndarray] = []

        def ask() -> None:
            taken.append(timing.stream(lambda query: system.search(query, 10, None), queries, timing.lasting(seconds)))

        asking = [threading.Thread(target=ask) for _ in range(count)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        return sum(map(len, taken)) / seconds

    one, two = rate(1), rate(2)
    yield "single searches from 1 thread", one, "queries/s"
    yield "single searches from 2 threads ÷ from 1", two / one, "×"


def _durabilities(worker) -> tuple[tuple[bool, str], ...]:
    both = (True, "each synced"), (False, "not synced")
    return both[:1] if "serve" in worker.system.does else both  # a server was told when it started


def upsert(worker) -> Figures:
    """Batches of points with two attributes into an empty index, with and without a sync of each."""
    rows = np.arange(min(UPSERTED, len(worker.dataset)))
    for synced, word in _durabilities(worker):
        with worker.fresh(synced) as (system, folder):
            system.create(worker.dataset, folder, worker.threads)
            parts = [rows[low : low + BATCH] for low in range(0, len(rows), BATCH)]
            taken = timing.calls(lambda part, put=system.insert: put(worker.dataset, part), parts, warm=0).sum() / 1e6
        yield f"upsert, batches of {BATCH:,}, {word}", len(rows) / taken, "points/s"
        if system.converting:
            yield f"upsert, batches of {BATCH:,}, {word}, without conversion", len(rows) / (taken - system.converting), "points/s"


def rows(worker) -> Figures:
    """One point a call into an empty index."""
    singles = [np.array([row]) for row in range(min(SINGLES, len(worker.dataset)))]
    for synced, word in _durabilities(worker):
        with worker.fresh(synced) as (system, folder):
            system.create(worker.dataset, folder, worker.threads)
            # A slow disk must not make this run long.
            taken = timing.calls(lambda row, put=system.insert: put(worker.dataset, row), singles, cap=1.5, warm=0)
        yield f"upsert of one point, {word}, p50", np.median(taken), "µs"
        yield f"upsert of one point, {word}, p99", np.percentile(taken, 99), "µs"


def space(worker) -> Figures:
    """The rate of loading, and bytes on disk beside those of the raw vectors: float32, and uint32 + float32 a term."""
    dataset = worker.dataset
    raw = (0 if dataset.vectors is None else 4 * dataset.dim) + (0 if dataset.sparse is None else 8 * dataset.sparse.nnz / len(dataset))
    size = worker.system.disk(worker.folder) / len(dataset)
    yield "points loaded and indexed" if worker.built["finished"] else "points loaded", len(dataset) / worker.built["build_s"], "points/s"
    yield "bytes on disk, a point", size, "B"
    yield "bytes on disk ÷ raw vectors", size / raw, "× raw"


def server(worker) -> Figures:
    """Memory of the server's processes after searches, and the time of a gRPC call that does nothing, beside which to read a search."""
    memory = facts.memory(facts.tree([os.getpid()])[1:])
    for part, what in (("rss", "resident memory"), ("anon", "resident memory, its own"), ("file", "resident memory, mapped files")):
        yield f"server: {what}", memory[part] / 2**20, "MiB"
    yield "empty gRPC call, p50", _empty_call(4 * worker.dataset.dim + 100), "µs"


def _empty_call(size: int) -> float:
    """Median microseconds of a call of a Python server whose handler does nothing: a lower bound for the service."""
    import multiprocessing

    import grpc

    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    process = context.Process(target=_echo, args=(child_end, 1_500), daemon=True)
    process.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{parent_end.recv()}") as channel:
            return timing.p50(channel.unary_unary("/bench/Echo"), [bytes(size)] * 500)
    finally:
        process.terminate()
        process.join()


def _echo(pipe, size: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    answer = bytes(size)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", {"Echo": handler}),))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()
