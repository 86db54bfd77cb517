"""Probes of vectordb's own parts: filters, changes, encoded texts, start-up, compilation, proofs of linear fusion."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .. import timing
from ..data.synthetic import SEED
from .release import Figures


def filters(worker) -> Figures:
    """A filter of three clauses: parsing, canonical form and bitmap, with warm and cold caches; beside masks of NumPy."""
    from vectordb.filters import as_filter
    from vectordb.filters.bitmap import matching
    from vectordb.filters.cache import FilterCache

    words, ranges, sets = (
        [f"u{i}" for i in range(20)],
        [(i * 40_000, 300_000 + i * 30_000) for i in range(20)],
        [(i, i + 2) for i in range(8)],
    )
    leaves = [
        [f"u_20 = '{word}'" for word in words],
        [f"price BETWEEN {low} AND {high}" for low, high in ranges],
        [f"grade IN ({a}, {b})" for a, b in sets],
    ]
    # Each leaf is run alone first. So the whole texts below are new to the cache, but their leaves are cached.
    texts = [" AND ".join(three) for three in itertools.product(*leaves)]
    order = np.random.default_rng(SEED + 5 + worker.turn).permutation(len(texts)).tolist()
    fresh = iter([texts[i] for i in order])
    kinds = np.char.lstrip(np.array(worker.dataset.attributes["u_20"]), "u").astype(np.int16)
    prices, grades = (np.asarray(worker.dataset.attributes[name]) for name in ("price", "grade"))

    def by_numpy(_=None) -> int:
        return int(np.count_nonzero((kinds == 3) & (prices >= 40_000) & (prices <= 330_000) & np.isin(grades, (1, 3))))

    docs = worker.system.collection
    with docs._snapshots.pin() as view:
        cache = FilterCache()

        def compiled(text: str, cache: FilterCache = cache) -> int:
            return len(matching(cache.bind(text, view.schema), view, cache))

        for text in itertools.chain(*leaves):
            compiled(text)
        assert compiled("u_20 = 'u3' AND price BETWEEN 40000 AND 330000 AND grade IN (1, 3)") == by_numpy() > 0
        again = [texts[order[-1]]] * 500
        new = {"each cached, the whole new": (compiled, 300), "parsing alone": (as_filter, 100)}
        for what, (call, count) in new.items():
            taken = timing.calls(call, [next(fresh) for _ in range(count)], warm=0)
            yield f"filter of 3 clauses: {what}, p50", np.median(taken), "µs"
        yield "filter of 3 clauses: asked before, p50", timing.p50(compiled, again), "µs"
        yield "filter of 3 clauses: nothing cached, p50", timing.p50(lambda text: compiled(text, FilterCache()), again[:100]), "µs"
        yield "filter of 3 clauses: collection.count, asked before, p50", timing.p50(docs.count, again), "µs"
        yield "filter of 3 clauses: NumPy masks over integers, p50", timing.p50(by_numpy, again[:50]), "µs"


def changes(worker) -> Figures:
    """Updates of an attribute, upserts of whole points and a deletion by a filter, whose points are written again in the end."""
    system, dataset, rng = worker.system, worker.dataset, np.random.default_rng(SEED + 6 + worker.turn)
    docs, ids, others = system.collection, *rng.choice(len(dataset), (2, 1_000), replace=False)
    prices = {"price": rng.integers(0, 1_000_000, len(ids))}
    yield "update an attribute of 1,000 random points", 1e3 * timing.seconds(lambda: docs.update(ids=ids, attributes=prices)), "ms"
    yield "upsert of 1,000 random whole points", 1e3 * timing.seconds(system.insert, dataset, others), "ms"
    where = f"u_20 = 'u{worker.turn % 20}'"
    before = docs.count(where)
    taken = timing.seconds(lambda: docs.delete(filter=where))
    assert docs.count(where) == 0 < before
    yield "delete by filter, 5 % of the points", 1e3 * taken, "ms"
    system.insert(dataset, np.flatnonzero(np.array(dataset.attributes["u_20"]) == f"u{worker.turn % 20}"))


def text(worker, count: int = 4_000) -> Figures:
    """Upserts of texts that the database encodes (a dense field with wordllama and a BM25 field), and the two encoders alone."""
    import vectordb
    from vectordb import Dense, EncoderError, Schema, Sparse, Text, encoders

    from ..systems import Unsupported

    try:
        both = encoders.load("wordllama"), encoders.load("bm25")
    except EncoderError as error:
        raise Unsupported(str(error)) from None
    rng = np.random.default_rng(SEED + 7)
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "or")]
    vocabulary = ["".join(rng.choice(syllables, size)) for size in rng.integers(1, 5, 20_000)]
    ranks = np.minimum(20 * (1 + len(vocabulary) / 20) ** rng.random(count * 60) - 20, len(vocabulary) - 1).astype(int)
    texts = [" ".join(vocabulary[i] for i in ranks[low : low + 60]) for low in range(0, len(ranks), 60)]
    parts = [(low, texts[low : low + 500]) for low in range(0, count, 500)]
    fields = {"meaning": Dense(256, encoder="wordllama", source="body"), "words": Sparse(weighting="idf", encoder="bm25", source="body")}
    with tempfile.TemporaryDirectory(dir=worker.folder) as folder, vectordb.open(folder) as database:
        docs = database.create_collection("docs", Schema(vectors=fields, attributes={"body": Text()}))
        taken = timing.seconds(lambda: [docs.upsert(ids=range(low, low + len(part)), attributes={"body": part}) for low, part in parts])
    yield f"upsert of {count:,} texts of 60 words", count / taken, "texts/s"
    alone = timing.seconds(lambda: [encoder.encode_documents(part, None) for _, part in parts for encoder in both])
    yield "the two encoders alone", count / alone, "texts/s"


# Other processes


def start(worker) -> Figures:
    """A new process: interpreter, import, open, first answer. The page cache holds the files, the disk cache the kernels."""
    with tempfile.TemporaryDirectory(dir=worker.folder) as scratch:
        query, vectors = f"{scratch}/query.npy", f"{scratch}/vectors.npy"
        np.save(query, worker.dataset.query(0))
        np.save(vectors, worker.dataset.vectors)
        data = [str(worker.folder), query]
        worker.system.search(worker.first_queries(1)[0], 10, None)  # compiles the kernels into the disk cache
        seconds_of = child(_FIRST, *data)
        yield "new process to first answer", seconds_of.pop("wall"), "s"
        for part, seconds in seconds_of.items():
            yield f"new process: {part}", seconds, "s"
        yield "new process to first answer, without scipy", child(_FIRST, *data, "without scipy")["wall"], "s"
        yield "new process to first answer, NumPy over a mapped file", child(_NUMPY, vectors, query)["wall"], "s"


def compiling(worker) -> Figures:
    """Every kernel, with an empty cache and with that cache filled."""
    with tempfile.TemporaryDirectory(dir=worker.folder) as cache:
        walls = []
        for _ in range(4):
            with tempfile.TemporaryDirectory(dir=worker.folder) as folder:
                walls.append(child(_KERNELS, folder, VECTORDB_CACHE_DIR=cache)["wall"])
        yield "every kernel, empty cache, new process", walls[0], "s"
        yield "every kernel, warm cache, new process", min(walls[1:]), "s"
        yield "cache of compiled kernels", sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file()) / 2**20, "MiB"


def child(code: str, *arguments: str, **environment: str) -> dict[str, float]:
    """Run code in a new process, which calls ``done(part=seconds, …)`` at its answer. Returns that, with ``wall``: the seconds from before
    the interpreter's start until the answer; and ``exit``: those after it."""
    paths = os.pathsep.join(path for path in sys.path if path)
    start = time.time()
    command = [sys.executable, "-P", "-c", _DONE + code, *arguments]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths} | environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"a new process failed: {ended.stderr[-2000:]}")
    answer = json.loads(ended.stdout.splitlines()[-1])
    answered = answer.pop("at")
    return answer | {"wall": answered - start, "exit": time.time() - answered}


_DONE = """
import json, sys, time
START = time.perf_counter()
def done(**parts):
    print(json.dumps(parts | {"at": time.time()}), flush=True)
"""
_FIRST = """
if len(sys.argv) > 3:
    sys.modules["scipy"] = None  # Numba imports it if it is installed
import vectordb
imported = time.perf_counter()
import numpy as np
query = np.load(sys.argv[2])
before = time.perf_counter()
with vectordb.open(sys.argv[1]) as database:
    collection = database.collection("bench")
    opened = time.perf_counter()
    hits = collection.search({"dense": query})
    assert len(hits)
    answered = time.perf_counter()
    done(**{"import": imported - START, "open": opened - before, "first search": answered - opened})
"""
_NUMPY = """
import numpy as np
query, vectors = np.load(sys.argv[2]), np.load(sys.argv[1], mmap_mode="r")
scores = vectors @ query
best = np.argpartition(scores, -10)[-10:]
done()
"""
_KERNELS = """
import numpy as np
import vectordb
from vectordb import Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text
n = 50
dense = np.random.default_rng(1).standard_normal((n, 8)).astype(np.float32)
fields = {"cosine": Dense(8), "l2": Dense(8, metric="l2", dtype="float16"), "sparse": Sparse(weighting="idf"), "multi": MultiVector(8)}
vectors = {"cosine": dense, "l2": dense, "sparse": [{i: 1.0, i + 1: -0.5} for i in range(n)], "multi": [dense[i : i + 2] for i in range(n)]}
columns = {
    "word": (Keyword(), [f"w{i % 5}" for i in range(n)]),
    "words": (Keyword(array=True), [["a", f"w{i % 5}"] for i in range(n)]),
    "number": (Int(), list(range(n))),
    "real": (Float(), [i / 2 for i in range(n)]),
    "reals": (Float(array=True), [[i / 2, 1.0] for i in range(n)]),
    "when": (Datetime(), ["2026-01-01"] * n),
    "place": (Geo(), [(10.0, float(i)) for i in range(n)]),
    "body": (Text(), [f"some words number {i}" for i in range(n)]),
    "bodies": (Text(array=True), [["some words", f"number {i}"] for i in range(n)]),
}
CONDITIONS = (
    None, "number < 30 AND word = 'w1'", "words CONTAINS 'w1'", "real > 3", "reals > 3", "number IN (1, 3, 5)", "reals IN (1.5, 1)",
    "when >= '2025-01-01'", "GEO_RADIUS(place, 10, 3, 120000)", "GEO_BOX(place, 0, 2.5, 20, 5.5)", "body MATCH PHRASE 'number 7'",
    "bodies MATCH 'number 7'", "word IS NULL", "COUNT(words) >= 2", "word IN ('w1', 'w2')", "HAS_VECTOR(multi)",
)
with vectordb.open(sys.argv[1]) as database:
    docs = database.create_collection("all", Schema(vectors=fields, attributes={name: kind for name, (kind, _) in columns.items()}))
    docs.upsert(ids=range(n), vectors=vectors, attributes={name: values for name, (_, values) in columns.items()})
    docs.delete([n - 1])
    queries = [{"cosine": dense[0]}, {"l2": dense[0]}, {"sparse": {1: 1.0, 2: -1.0}}, {"multi": dense[:2]}]
    for query in queries:
        for condition in CONDITIONS:
            docs.search(vectors=query, filter=condition)
    docs.search(vectors={name: value for query in queries for name, value in query.items()})
    docs.search_batch(vectors={"cosine": dense[:9]})
    done()
"""


# Fusion


def proofs(worker, weights: tuple[float, ...] = (1.0, 0.1, 0.03, 0.01)) -> Figures:
    """Linear fusion that is proven exact, by the weight of the sparse arm."""
    import vectordb

    docs, queries = worker.system.collection, worker.first_queries()
    for weight in weights:
        fusion = vectordb.Linear({"dense": 1.0, "sparse": weight})
        proven = [docs.search(query, fusion=fusion, explain=True).plan["fusion"]["proven"] for query in queries]
        taken = timing.calls(lambda query, fusion=fusion: docs.search(query, fusion=fusion, with_attributes=False), queries)
        yield f"linear fusion, sparse weight {weight:g}: a search", taken.mean() / 1e3, "ms"
        yield f"linear fusion, sparse weight {weight:g}: proven exact", np.mean(proven), "of all"
