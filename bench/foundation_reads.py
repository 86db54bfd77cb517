"""The read sections: dense, sparse and hybrid search, small searches embedded and served, filters, start-up and compilation."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench import foundation_service as service
from bench.kit import DIM, POINTS, SEED, Lab, QdrantShard, Row, Skip, agree, figure, interleaved, median, p50, seconds


def best_of(scores: np.ndarray, k: int = 10) -> np.ndarray:
    """Indices of the k highest scores, best first, by argpartition, as a NumPy user would write it."""
    best = np.argpartition(scores, -k)[-k:]
    return best[np.argsort(scores[best])[::-1]]


def dense(lab: Lab) -> Iterator[Row]:
    """One exact query over 100k × 384."""
    docs, vectors, queries = lab.docs, lab.vectors, list(lab.queries[:40])
    for query in queries[:5]:
        agree(docs.search(vectors={"dense": query}), vectors @ query, "dense")
    runs = {
        "ours": lambda: p50(lambda query: docs.search(vectors={"dense": query}), queries, 1e3),
        "numpy": lambda: p50(lambda query: best_of(vectors @ query), queries, 1e3),
    }
    found = interleaved(5, runs)
    row = Row("dense", f"exact search, {POINTS:,} × {DIM}, p50", "ms", found["ours"], "numpy X @ q, argpartition", found["numpy"])
    yield row.at_most("time ratio", 1 / median(row.ratios), 1.3)
    shared = interleaved(3, {"one by one": lambda: one_by_one(docs, lab.queries[:64]), "batch": lambda: in_batch(docs, lab.queries[:64])})
    yield Row("dense", "search_batch of 64", "queries/s", shared["batch"], "64 single searches", shared["one by one"])
    gemm = interleaved(3, {"numpy": lambda: 64 / seconds(lambda: [best_of(s) for s in (vectors @ lab.queries[:64].T).T.copy()])})
    yield Row("dense", "search_batch of 64", "queries/s", shared["batch"], "numpy X @ Q.T, argpartition", gemm["numpy"])
    threads = interleaved(3, {str(n): lambda n=n: in_threads(docs, queries, n) for n in (1, 2)})
    yield Row("dense", "single searches from 2 threads", "queries/s", threads["2"], "from 1 thread", threads["1"])


def one_by_one(docs, queries: np.ndarray) -> float:
    return len(queries) / seconds(lambda: [docs.search(vectors={"dense": query}) for query in queries])


def in_batch(docs, queries: np.ndarray) -> float:
    return len(queries) / seconds(lambda: docs.search_batch(vectors={"dense": queries}))


def in_threads(docs, queries: list, threads: int) -> float:
    workers = [threading.Thread(target=lambda: [docs.search(vectors={"dense": query}) for query in queries]) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * len(queries) / (time.perf_counter() - start)


def sparse(lab: Lab) -> Iterator[Row]:
    """One exact sparse query over 100k SPLADE-like documents."""
    docs, (documents, questions) = lab.hybrid, lab.sparse
    transposed = documents.T.tocsr()
    ways: dict[str, Callable] = {
        "CSR × dense": lambda q: documents @ q.toarray()[0],
        "CSR × sparse": lambda q: (documents @ q.T).toarray()[:, 0],
        "sparse × transposed CSR": lambda q: (q @ transposed).toarray()[0],
    }
    rows = [questions[i] for i in range(questions.shape[0])]
    pairs = [(row.indices, row.data) for row in rows]
    for row, pair in zip(rows[:5], pairs, strict=False):
        agree(docs.search(vectors={"sparse": pair}), ways["CSR × dense"](row), "sparse")
    fastest = min(ways, key=lambda way: median([seconds(ways[way], row) for row in rows[:5]]))
    runs = {
        "ours": lambda: p50(lambda pair: docs.search(vectors={"sparse": pair}), pairs, 1e3),
        "scipy": lambda: p50(lambda row: best_of(ways[fastest](row)), rows, 1e3),
    }
    found = interleaved(5, runs)
    postings = median([np.diff(transposed.indptr)[row.indices].sum() for row in rows])
    note = (
        f"{documents.nnz / POINTS:.0f} terms a document, {questions.nnz / len(rows):.0f} a query, which reach {figure(postings)} postings"
    )
    row = Row(
        "sparse",
        f"exact search, {POINTS:,} documents, p50",
        "ms",
        found["ours"],
        f"scipy {fastest}, argpartition",
        found["scipy"],
        note=note,
    )
    yield row.at_least("speed ratio", median(row.ratios), 3.0)


def hybrid(lab: Lab) -> Iterator[Row]:
    """Dense and sparse arms, fused by RRF."""
    docs, vectors, (documents, questions) = lab.hybrid, lab.vectors, lab.sparse
    transposed = documents.T.tocsr()
    pairs = [(lab.queries[i], questions[i]) for i in range(40)]

    def ours(pair) -> None:
        docs.search(vectors={"dense": pair[0], "sparse": (pair[1].indices, pair[1].data)})

    def theirs(pair) -> None:
        fused: dict[int, float] = {}
        for scores in (vectors @ pair[0], (pair[1] @ transposed).toarray()[0]):
            for rank, i in enumerate(best_of(scores, 100).tolist(), 1):
                fused[i] = fused.get(i, 0.0) + 1 / (60 + rank)
        sorted(fused, key=fused.get, reverse=True)[:10]

    found = interleaved(3, {"ours": lambda: p50(ours, pairs, 1e3), "theirs": lambda: p50(theirs, pairs, 1e3)})
    yield Row("hybrid", "dense + sparse, RRF, p50", "ms", found["ours"], "numpy + scipy, RRF in Python", found["theirs"])


def small(lab: Lab) -> Iterator[Row]:
    """The fixed cost of a search: 10 points."""
    ten, queries = lab.ten, [lab.queries[i % 256] for i in range(2_000)]
    agree(ten.search(vectors={"dense": queries[0]}), lab.vectors[:10] @ queries[0], "small")
    runs = {"ours": lambda: p50(lambda query: ten.search(vectors={"dense": query}), queries)}
    try:
        shard = QdrantShard(lab.scratch("qdrant"), ("kw", "n", "kind"))
        shard.upsert(shard.points(0, lab.vectors[:10], {name: values[:10] for name, values in lab.attributes.items()}))
        runs["theirs"] = lambda: p50(shard.search, queries)
    except Skip:
        pass
    found = interleaved(5, runs)
    row = Row(
        "small", "search over 10 points, p50", "µs", found["ours"], "qdrant-edge" if "theirs" in found else "", found.get("theirs", [])
    )
    yield row.at_most("µs", median(row.ours), 60)


def served(lab: Lab) -> Iterator[Row]:
    """The same searches through the service on loopback. The server is another process."""
    try:
        import grpc
        from vectordb_client import Client
    except ImportError as error:
        raise Skip(f"the client can't be imported: {error}") from None
    ten, docs, queries = lab.ten, lab.docs, [lab.queries[i % 256] for i in range(500)]
    with (
        service.vectordb_server(lab.dense_folder) as (process, address),
        Client(address) as client,
        service.echo_server(1_500) as (_, echo),
    ):
        remote, far = client.collection("ten"), client.collection("docs")
        assert [hit.id for hit in remote.search(vectors={"dense": queries[0]})] == [
            hit.id for hit in ten.search(vectors={"dense": queries[0]})
        ]
        started = service.memory_of(process.pid)
        with grpc.insecure_channel(echo) as channel:
            call, request = channel.unary_unary("/bench/Echo"), bytes(4 * DIM + 100)
            runs = {
                "embedded": lambda: p50(lambda query: ten.search(vectors={"dense": query}), queries, 1e3),
                "service": lambda: p50(lambda query: remote.search(vectors={"dense": query}), queries, 1e3),
                "bare": lambda: p50(lambda _: call(request), queries, 1e3),
            }
            found = interleaved(5, runs)
        more = [service_time - embedded for service_time, embedded in zip(found["service"], found["embedded"], strict=True)]
        row = Row("service", "search over 10 points, p50", "ms", found["service"], "gRPC server that does nothing", found["bare"])
        yield row.at_most("ms more than embedded", median(more), 0.5)
        large = {
            "embedded": lambda: p50(lambda query: docs.search(vectors={"dense": query}), queries[:40], 1e3),
            "service": lambda: p50(lambda query: far.search(vectors={"dense": query}), queries[:40], 1e3),
        }
        found = interleaved(3, large)
        yield Row("service", f"search over {POINTS:,} × {DIM}, p50", "ms", found["service"], "embedded", found["embedded"])
        memory = service.memory_of(process.pid)
    raw = POINTS * DIM * 4 / 2**20
    note = f"own {memory['RssAnon']:.0f} MB, mapped files {memory['RssFile']:.0f} MB; before searching them {started['VmRSS']:.0f} MB"
    yield Row("memory", f"server, resident, {POINTS:,} × {DIM}", "MB", [memory["VmRSS"]], "the raw vectors", [raw], note=note)


def filters(lab: Lab) -> Iterator[Row]:
    """A filter of three clauses over 100k points: parsing, canonical form and bitmap, with warm and cold caches."""
    from vectordb.filters import as_filter
    from vectordb.filters.bitmap import FilterCache, matching

    docs = lab.docs
    words, ranges, sets = (
        [f"k{i}" for i in range(20)],
        [(i * 40_000, 300_000 + i * 30_000) for i in range(20)],
        [(i, (i + 3) % 8) for i in range(8)],
    )
    # Each leaf is run alone first. So the whole texts below are new to the cache, but their leaves are cached.
    texts = [
        f"kw = '{word}' AND n BETWEEN {low} AND {high} AND kind IN ('t{a}', 't{b}')"
        for word in words
        for low, high in ranges
        for a, b in sets
    ]
    leaves = [f"kw = '{word}'" for word in words] + [f"n BETWEEN {low} AND {high}" for low, high in ranges]
    leaves += [f"kind IN ('t{a}', 't{b}')" for a, b in sets]
    order = np.random.default_rng(SEED + 5).permutation(len(texts)).tolist()
    fresh = iter([texts[i] for i in order])
    kw, n, kind = (np.array(lab.attributes[name]) for name in ("kw", "n", "kind"))
    codes, kinds = np.char.lstrip(kw, "k").astype(np.int16), np.char.lstrip(kind, "t").astype(np.int16)

    def by_numpy(_) -> int:
        return int(np.count_nonzero((codes == 3) & (n >= 40_000) & (n <= 330_000) & np.isin(kinds, (1, 4))))

    with docs._snapshots.pin() as view:
        cache = FilterCache()

        def compiled(text: str, cache: FilterCache = cache) -> int:
            return len(matching(cache.bind(text, view.schema), view, cache))

        for text in leaves:
            compiled(text)
        assert compiled("kw = 'k3' AND n BETWEEN 40000 AND 330000 AND kind IN ('t1', 't4')") == by_numpy(None) > 0
        again = [texts[order[-1]]] * 500
        runs = {
            "leaves": lambda: p50(compiled, [next(fresh) for _ in range(300)]),
            "whole": lambda: p50(compiled, again),
            "cold": lambda: p50(lambda text: compiled(text, FilterCache()), again[:100]),
            "parse": lambda: p50(as_filter, [next(fresh) for _ in range(100)]),
            "count": lambda: p50(docs.count, again),
            "numpy": lambda: p50(by_numpy, again[:50]),
        }
        found = interleaved(5, runs)
    what, peer = "kw = a AND n BETWEEN b AND c AND kind IN (d, e):", ("numpy masks over integer codes", found["numpy"])
    row = Row("filters", f"{what} leaves cached, whole new, p50", "µs", found["leaves"], *peer)
    yield row.at_most("µs", median(row.ours), 100)
    row = Row("filters", "the same filter again", "µs", found["whole"], *peer)
    yield row.at_most("µs", median(row.ours), 10)
    yield Row("filters", "nothing cached", "µs", found["cold"], *peer)
    yield Row("filters", "parsing a new text alone", "µs", found["parse"])
    yield Row("filters", "collection.count(filter), asked before", "µs", found["count"], *peer)


def start(lab: Lab) -> Iterator[Row]:
    """A new process: interpreter, import, open, first answer. The page cache holds the data file; the disk cache holds the kernels."""
    folder, query_file, vectors_file = lab.dense_folder, str(lab.folder / "query.npy"), str(lab.folder / "vectors.npy")
    np.save(query_file, lab.queries[0])
    np.save(vectors_file, lab.vectors)
    list(lab.docs.search(vectors={"dense": lab.queries[0]}))  # compiles the kernels into the disk cache
    parts: list[dict] = []

    def ours(*options: str) -> float:
        parts.append(service.child("first", folder, query_file, *options))
        return parts[-1]["wall"]

    runs = {
        "numpy": lambda: service.child("numpy", vectors_file, query_file)["wall"],
        "no scipy": lambda: ours("without scipy"),
        "ours": ours,
    }
    found = interleaved(3, runs)
    last = parts[-1]
    note = ", ".join(f"{name} {last[name]:.3f} s" for name in ("import", "open", "query", "exit")) + " (one run; exit is not counted)"
    row = Row(
        "start", f"new process to first answer, {POINTS:,} × {DIM}", "s", found["ours"], "numpy, mapped file", found["numpy"], note=note
    )
    yield row.at_most("s", median(row.ours), 1.0)
    yield Row("start", "the same where scipy isn't installed", "s", found["no scipy"], "numpy, mapped file", found["numpy"])
    os.remove(vectors_file)


def compiling(lab: Lab) -> Iterator[Row]:
    """Every kernel, once with an empty kernel cache and then with that cache filled."""
    cache = lab.scratch("kernels")
    cold = service.child("kernels", lab.scratch("kernels-a"), VECTORDB_CACHE_DIR=cache)
    warm = [service.child("kernels", lab.scratch("kernels-b"), VECTORDB_CACHE_DIR=cache)["wall"] for _ in range(3)]
    kept = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file()) / 2**20
    row = Row(
        "compiling",
        "every kernel, empty cache, new process",
        "s",
        [cold["wall"]] * 3,
        "the same, warm cache",
        warm,
        note=f"cache {kept:.1f} MB; cold once",
    )
    yield row.at_most("s", cold["wall"], 30)
