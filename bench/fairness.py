"""Fairness between API keys: the latency of one client's searches while another key floods the service through eight connections.

``python -m bench.fairness [ROWS]`` starts ``vectordb serve`` with one worker on loopback. It prints one line without a flood and one for
each kind of flood. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from vectordb_client import Client, Dense, RateLimitError, Schema

import vectordb
from vectordb.server.access import keys

DIM, CONNECTIONS, SECONDS = 128, 8, 10.0
FLOODS = ("10,000 exact queries a call", "exact, limit 100,000")


def main(rows: int, port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with vectordb.open(data, durability="batched") as database:
            database.create_collection("one", Schema({"d": Dense(DIM)})).upsert(ids=[1], vectors={"d": np.ones((1, DIM))})
            many = database.create_collection("many", Schema({"d": Dense(DIM)}))
            rng = np.random.default_rng(0)
            for first in range(0, rows, 10_000):
                ids = np.arange(first, min(first + 10_000, rows))
                many.upsert(ids=ids, vectors={"d": rng.standard_normal((len(ids), DIM), np.float32)})
        theirs = keys.create(data / "keys.json", "read", collections=["many"])[0]
        ours = keys.create(data / "keys.json", "read", collections=["one"])[0]
        command = [
            sys.executable,
            "-m",
            "vectordb",
            "serve",
            "--data",
            str(data),
            "--port",
            str(port),
            "--no-maintenance",
            "--slow-query-ms",
            "0",
        ]
        service = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            service.stdout.readline()
            with Client(f"127.0.0.1:{port}", api_key=ours, timeout=120) as client:
                one = client.collection("one")
                latencies(one, 2.0)
                alone = latencies(one)
                told("alone", alone, alone)
                for kind in range(len(FLOODS)):
                    flood = subprocess.Popen(
                        [sys.executable, "-m", "bench.fairness", "--flood", str(kind), "--key", theirs, "--port", str(port)]
                    )
                    try:
                        time.sleep(5.0)
                        told(f"beside {CONNECTIONS} × {FLOODS[kind]}", latencies(one), alone)
                    finally:
                        flood.kill()
                        flood.wait()
                    time.sleep(3.0)
        finally:
            service.terminate()
            service.wait()


def latencies(collection, seconds: float = SECONDS) -> np.ndarray:
    """Latencies of single searches in milliseconds, one search after another for ``seconds``."""
    found, end, query = [], time.perf_counter() + seconds, np.ones(DIM, np.float32)
    while (began := time.perf_counter()) < end:
        collection.search({"d": query}, limit=1)
        found.append(1e3 * (time.perf_counter() - began))
    return np.array(found)


def told(what: str, found: np.ndarray, alone: np.ndarray) -> None:
    p50, p99 = np.median(found), np.percentile(found, 99)
    times = p50 / np.median(alone), p99 / np.percentile(alone, 99)
    print(f"{what:42} p50 {p50:8.2f} ms ({times[0]:.1f} ×), p99 {p99:8.2f} ms ({times[1]:.1f} ×), {len(found)} searches", flush=True)


def flood(kind: int, key: str, port: int) -> None:
    """Send expensive requests through eight connections until the process is killed. kind: index into FLOODS."""
    import threading

    rng = np.random.default_rng(1)

    def ask() -> None:
        queries = rng.standard_normal((10_000, DIM), np.float32)
        with Client(f"127.0.0.1:{port}", api_key=key, timeout=300) as client:
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("--port", type=int, default=17_171)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood is None:
        main(given.rows, given.port)
    else:
        flood(given.flood, given.key, given.port)
