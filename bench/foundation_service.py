"""The child processes of ``bench.foundation``: a first query after start-up, a cold compilation, the service, an empty gRPC server.

``python -m bench.foundation_service MODE …`` prints one line of JSON. Imports are inside the functions, because some modes measure
start-up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager


def child(*arguments: str, **environment: str) -> dict:
    """Run a mode and return its JSON, with ``wall``: seconds from before the interpreter's start until the answer."""
    start = time.time()
    done = subprocess.run(_command(*arguments), env=_environment(**environment), capture_output=True, text=True)
    ended = time.time()
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer | {"wall": answer["at"] - start, "exit": ended - answer["at"]}


@contextmanager
def serving(command: list[str]):
    """Start a server that prints ``… on host:port`` once it accepts calls; yield (process, address)."""
    process = subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.search(r" on (\S+:\d+)", line)
        if not found:
            raise RuntimeError(f"{' '.join(command)} didn't start: {line!r}")
        yield process, found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def vectordb_server(folder: str):
    return serving([sys.executable, "-m", "vectordb", "serve", "--data", folder, "--port", "0"])


def echo_server(answer_bytes: int):
    return serving(_command("echo", str(answer_bytes)))


def memory_of(pid: int) -> dict[str, float]:
    """Resident memory of a process in MB: VmRSS (all), RssAnon (anonymous) and RssFile (mapped files, shared page cache)."""
    with open(f"/proc/{pid}/status") as status:
        lines = dict(line.split(":", 1) for line in status if line.startswith(("VmRSS", "RssAnon", "RssFile")))
    return {name: int(value.split()[0]) / 1024 for name, value in lines.items()}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.foundation_service", *arguments]


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | more


# Modes


def first_query(folder: str, query_file: str, without_scipy: str = "") -> dict:
    """Seconds of import, open and one dense query. With ``without_scipy`` scipy is hidden, because Numba imports it if it is installed."""
    if without_scipy:
        sys.modules["scipy"] = None
    import vectordb

    imported = time.perf_counter()
    import numpy as np

    query = np.load(query_file)
    before = time.perf_counter()
    database = vectordb.open(folder)
    collection = database.collection("docs")
    opened = time.perf_counter()
    hits = collection.search(vectors={"dense": query})
    answered, at = time.perf_counter(), time.time()
    database.close()
    return {"import": imported - START, "open": opened - before, "query": answered - opened, "hits": len(hits), "at": at}


def first_query_numpy(vectors_file: str, query_file: str) -> dict:
    """The same with NumPy over a mapped file: a lower bound for any database."""
    import numpy as np

    imported = time.perf_counter()
    query, vectors = np.load(query_file), np.load(vectors_file, mmap_mode="r")
    scores = vectors @ query
    best = np.argpartition(scores, -10)[-10:]
    return {"query": time.perf_counter() - imported, "hits": len(best), "at": time.time()}


def every_kernel(folder: str) -> dict:
    """Run every kind of search and filter on a small collection, so that every kernel is compiled; returns the seconds."""
    import numpy as np

    import vectordb
    from vectordb import Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text

    rng = np.random.default_rng(1)
    n = 50
    vectors = {"cosine": Dense(8), "l2": Dense(8, metric="l2", dtype="float16"), "sparse": Sparse(weighting="idf"), "multi": MultiVector(8)}
    attributes = {
        "word": Keyword(),
        "words": Keyword(array=True),
        "number": Int(),
        "real": Float(),
        "reals": Float(array=True),
        "when": Datetime(),
        "place": Geo(),
        "body": Text(),
        "bodies": Text(array=True),
    }
    start = time.perf_counter()
    with vectordb.open(folder) as database:
        docs = database.create_collection("all", Schema(vectors=vectors, attributes=attributes))
        dense = rng.standard_normal((n, 8)).astype(np.float32)
        docs.upsert(
            ids=range(n),
            vectors={
                "cosine": dense,
                "l2": dense,
                "sparse": [{i: 1.0, i + 1: -0.5} for i in range(n)],
                "multi": [dense[i : i + 2] for i in range(n)],
            },
            attributes={
                "word": [f"w{i % 5}" for i in range(n)],
                "words": [["a", f"w{i % 5}"] for i in range(n)],
                "number": list(range(n)),
                "real": [i / 2 for i in range(n)],
                "reals": [[i / 2, 1.0] for i in range(n)],
                "when": ["2026-01-01"] * n,
                "place": [(10.0, float(i)) for i in range(n)],
                "body": [f"some words number {i}" for i in range(n)],
                "bodies": [["some words", f"number {i}"] for i in range(n)],
            },
        )
        docs.delete([n - 1])
        queries = [{"cosine": dense[0]}, {"l2": dense[0]}, {"sparse": {1: 1.0, 2: -1.0}}, {"multi": dense[:2]}]
        conditions = [
            None,
            "number < 30 AND word = 'w1'",
            "words CONTAINS 'w1'",
            "real > 3",
            "reals > 3",
            "number IN (1, 3, 5)",
            "reals IN (1.5, 1)",
        ]
        conditions += [
            "when >= '2025-01-01'",
            "GEO_RADIUS(place, 10, 3, 120000)",
            "GEO_BOX(place, 0, 2.5, 20, 5.5)",
            "body MATCH PHRASE 'number 7'",
        ]
        conditions += ["bodies MATCH 'number 7'", "word IS NULL", "COUNT(words) >= 2", "word IN ('w1', 'w2')", "HAS_VECTOR(multi)"]
        for query in queries:
            for condition in conditions:
                docs.search(vectors=query, filter=condition)
        docs.search(vectors={name: value for query in queries for name, value in query.items()})
        docs.search_batch(vectors={"cosine": dense[:9]})
    return {"seconds": time.perf_counter() - start, "at": time.time()}


def echo(answer_bytes: str) -> dict:
    """A gRPC server whose handler does nothing: a lower bound for the latency of the service."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    answer = bytes(int(answer_bytes))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.start()
    print(f"echo on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()
    return {}


MODES = {"first": first_query, "numpy": first_query_numpy, "kernels": every_kernel, "echo": echo}

if __name__ == "__main__":
    START = time.perf_counter()
    print(json.dumps(MODES[sys.argv[1]](*sys.argv[2:])))
