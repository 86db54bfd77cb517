"""A service that is watched: a database to ask, clients of a service with such settings, and what Prometheus reads."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from vectordb_client import Client
from vectordb_client.model.schema import Dense, Int, Keyword, Schema, Sparse

from vectordb.server.main import start

ROWS, DIM = 600, 8
SCHEMA = Schema({"v": Dense(DIM), "s": Sparse()}, {"n": Int(), "word": Keyword()})


def filled(database):
    docs = database.create_collection("docs", SCHEMA)
    vectors = np.random.default_rng(7).standard_normal((ROWS, DIM)).astype(np.float32)
    terms = [{i % 50: 1.0, 50 + i % 7: 0.5} for i in range(ROWS)]
    words = {"n": list(range(ROWS)), "word": [f"marker{i % 3}" for i in range(ROWS)]}
    docs.upsert(ids=list(range(ROWS)), vectors={"v": vectors, "s": terms}, attributes=words)
    docs.optimize()
    return docs


@contextlib.contextmanager
def serving(database) -> Iterator[Callable[..., Client]]:
    """Makes a client of a service with such settings."""
    running = []

    def serve(**settings):
        server, port = start(database, port=0, **settings)
        client = Client(f"127.0.0.1:{port}")
        running.append((server, client))
        return client

    yield serve
    for server, client in running:
        client.close()
        server.stop(0).wait()


def query(seed=1, n=None):
    return np.random.default_rng(seed).standard_normal(DIM if n is None else (n, DIM))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def scraped(port):
    """{(sample, labels): value} of what Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
