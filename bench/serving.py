"""Throughput and latency of the service: bulk writes, calls of one and of many queries, and searches during writes.

``python -m bench.serving [DATA]`` starts ``vectordb serve`` on loopback with one worker per core, and prints one figure per line.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .data import load
from .systems.vectordb import Service

RATES = (1_000, 10_000, None)  # points written per second during the searches; None: as many as possible
SECONDS, TOGETHER, BATCHES_A_SECOND = 10.0, 64, 10


def latencies(collection, queries: np.ndarray, seconds: float = SECONDS) -> np.ndarray:
    """Latencies of single searches in milliseconds, one search after another for ``seconds``."""
    found, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        collection.search({"dense": queries[len(found) % len(queries)]}, limit=10, with_attributes=False)
        found.append(1e3 * (time.perf_counter() - began))
    return np.array(found)


def told(what: str, found: np.ndarray) -> None:
    qps, p50, p99 = len(found) / SECONDS, np.median(found), np.percentile(found, 99)
    print(f"{what:44} {qps:8,.0f} searches/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)


@contextmanager
def writing(collection, vectors: np.ndarray, rate: int | None, first: int):
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


def run(name: str) -> None:
    dataset = load(name)
    queries = np.array([dataset.query(i) for i in range(min(200, dataset.query_count))], np.float32)
    service = Service()
    with tempfile.TemporaryDirectory() as folder:
        service.create(dataset, Path(folder), 2)
        try:
            ours, rows = service.collection, len(dataset)
            began = time.perf_counter()
            assert not ours.bulk(ids=np.arange(rows), vectors={"dense": dataset.vectors}).failed
            print(f"{'bulk, durable':44} {rows / (time.perf_counter() - began):8,.0f} points/s", flush=True)
            service.finish()
            latencies(ours, queries, 2.0)
            told("single searches", latencies(ours, queries))
            asked, end = 0, time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                ours.search_batch({"dense": queries[:TOGETHER]}, limit=10, with_attributes=False)
                asked += TOGETHER
            print(f"{f'{TOGETHER} queries per call':44} {asked / SECONDS:8,.0f} searches/s", flush=True)
            for rate in RATES:
                with writing(ours, dataset.vectors, rate, rows) as written:
                    found = latencies(ours, queries)
                told(f"during writes of {written[0] / SECONDS:,.0f} points/s", found)
                rows += written[0]
        finally:
            service.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="clustered-100k", metavar="DATA", help="a dense data set (clustered-100k)")
    run(parser.parse_args().data)
