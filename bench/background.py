"""Latency of single searches while background work runs: audits, the verification of files after opening, writes, index builds.

``python -m bench.background [ROWS]`` prints p50, p99 and p99.9 for each kind of work, and the ratio of p99.9 to that of searches alone.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np

import vectordb
from vectordb import Dense, Schema

DIM, SEARCHES, INDEXING_SECONDS = 128, 20_000, 10.0


def clustered(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, DIM)).astype(np.float32)
    return centres[rng.integers(0, 200, n)] + 0.6 * rng.standard_normal((n, DIM)).astype(np.float32)


def percentiles(collection: vectordb.Collection, queries: np.ndarray, go_on: Callable[[int], bool]) -> np.ndarray:
    """p50, p99 and p99.9 in microseconds of searches one after another, as long as ``go_on(number of searches so far)`` is true."""
    times = []
    while go_on(len(times)):
        query = {"v": queries[len(times) % len(queries)]}
        start = time.perf_counter()
        collection.search(query, limit=10, with_attributes=False)
        times.append(1e6 * (time.perf_counter() - start))
    return np.percentile(times, [50, 99, 99.9])


def beside(collection: vectordb.Collection, queries: np.ndarray, work: Callable[[], None]) -> np.ndarray:
    """Percentiles of searches while another thread runs ``work`` once."""
    thread = threading.Thread(target=work)
    thread.start()
    found = percentiles(collection, queries, lambda done: thread.is_alive() or done < 100)
    thread.join()
    return found


def main(rows: int) -> None:
    queries = clustered(1_000, 1)
    with tempfile.TemporaryDirectory() as folder:
        with vectordb.open(folder, durability="batched", maintenance=False, recall_audit=0.0) as database:
            collection = database.create_collection("c", Schema({"v": Dense(DIM)}))
            for low in range(0, rows, 10_000):
                ids = range(low, min(low + 10_000, rows))
                collection.upsert(ids=list(ids), vectors={"v": clustered(len(ids), 2 + low)})
            collection.optimize()
            percentiles(collection, queries, lambda done: done < 2_000)
            alone = percentiles(collection, queries, lambda done: done < SEARCHES)
            say("alone", alone, alone)
        with vectordb.open(folder, maintenance=False, recall_audit=0.0) as database:
            collection = database.collection("c")
            collection.search({"v": queries[0]})
            say("first 2,000 after opening, while the file is verified", percentiles(collection, queries, lambda done: done < 2_000), alone)
        with vectordb.open(folder, maintenance=False, recall_audit=1 / 64) as database:
            collection = database.collection("c")
            percentiles(collection, queries, lambda done: done < 2_000)
            say("with default audits", percentiles(collection, queries, lambda done: done < SEARCHES), alone)
        with vectordb.open(folder, durability="batched", recall_audit=0.0) as database:
            collection = database.collection("c")
            percentiles(collection, queries, lambda done: done < 2_000)
            say("during writes of 10 % more rows", beside(collection, queries, lambda: write(collection, rows)), alone)
            end = time.monotonic() + INDEXING_SECONDS
            found = percentiles(collection, queries, lambda done: done < 100 or time.monotonic() < end)
            say(f"the next {INDEXING_SECONDS:g} s, while the rows are indexed", found, alone)
            say("first 2,000 searches after indexing", percentiles(collection, queries, lambda done: done < 2_000), alone)
        with vectordb.open(folder, durability="batched", maintenance=False, recall_audit=0.0) as database:
            collection = database.collection("c")
            collection.delete(list(range(0, rows, 4)))
            percentiles(collection, queries, lambda done: done < 2_000)
            say("during optimize (compaction and merges on all cores)", beside(collection, queries, lambda: collection.optimize()), alone)


def write(collection: vectordb.Collection, rows: int) -> None:
    for low in range(rows, rows + rows // 10, 1_000):
        collection.upsert(ids=list(range(low, low + 1_000)), vectors={"v": clustered(1_000, low)})


def say(what: str, found: np.ndarray, alone: np.ndarray) -> None:
    p50, p99, p999 = found
    print(f"{what}: p50 {p50:.0f} µs, p99 {p99:.0f}, p99.9 {p999:.0f} = {p999 / alone[2]:.2f} × alone", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the latency of searches while background work runs.")
    parser.add_argument("rows", type=int, nargs="?", default=50_000, metavar="ROWS", help="number of points (50000)")
    main(parser.parse_args().rows)
