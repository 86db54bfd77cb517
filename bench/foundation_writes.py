"""The write sections: batches, single points, updates, deletes, encoded texts, and bytes on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.kit import (
    DIM,
    POINTS,
    SEED,
    Lab,
    QdrantShard,
    Row,
    Skip,
    attribute_schema,
    attributes_of,
    interleaved,
    latencies,
    median,
    seconds,
)

BATCH, UPSERTED = 1_000, 50_000


def upsert(lab: Lab) -> Iterator[Row]:
    """Durable columnar upserts from numpy arrays."""
    from vectordb import Dense, Int, Keyword, Schema

    vectors = lab.vectors[:UPSERTED]
    attributes = {
        name: values[:UPSERTED] for name, values in attributes_of(UPSERTED, np.random.default_rng(SEED + 4)).items() if name != "kind"
    }
    making: dict[str, float] = {}

    def ours(durability: str, n: int = UPSERTED) -> float:
        path = lab.scratch("upsert")
        database = lab.open(path)
        docs = database.create_collection("docs", Schema(vectors={"dense": Dense(DIM)}, attributes={"kw": Keyword(), "n": Int()}))
        start = time.perf_counter()
        for low in range(0, n, BATCH):
            rows = slice(low, low + BATCH)
            columns = {"vectors": {"dense": vectors[rows]}, "attributes": {name: values[rows] for name, values in attributes.items()}}
            docs.upsert(ids=range(low, low + BATCH), **columns, durability=durability)
        taken = time.perf_counter() - start
        assert docs.count() == n
        database.close()
        shutil.rmtree(path)
        return n / taken

    def theirs(flush: bool, n: int = UPSERTED) -> float:
        path = lab.scratch("qdrant")
        shard = QdrantShard(path, ("kw", "n"))
        building, start = 0.0, time.perf_counter()
        for low in range(0, n, BATCH):
            rows, before = slice(low, low + BATCH), time.perf_counter()
            points = shard.points(low, vectors[rows], {name: values[rows] for name, values in attributes.items()})
            building += time.perf_counter() - before
            shard.upsert(points)
            if flush:
                shard.shard.flush()
        taken = time.perf_counter() - start
        making[f"flush {flush}"] = n / (taken - building)
        shard.close()
        shutil.rmtree(path)
        return n / taken

    prepared: dict[bool, list[float]] = {True: [], False: []}

    def their_round(flush: bool) -> float:
        rate = theirs(flush)
        prepared[flush].append(making[f"flush {flush}"])
        return rate

    for durability, flush in (("commit", True), ("batched", False)):
        ours(durability, 5 * BATCH)
        theirs(flush, 5 * BATCH)
    runs = {
        "commit": lambda: ours("commit"),
        "flush": lambda: their_round(True),
        "batched": lambda: ours("batched"),
        "none": lambda: their_round(False),
    }
    found = interleaved(3, runs, warm=False)
    row = Row(
        "upsert",
        f"{UPSERTED:,} docs in batches of {BATCH:,}, each synced",
        "docs/s",
        found["commit"],
        "qdrant-edge, flush each",
        found["flush"],
    )
    yield row.at_least("docs/s", median(row.ours), 20_000).at_least("speed ratio", median(row.ratios), 1.0)
    yield Row("upsert", "the same; the peer's Points made beforehand", "docs/s", found["commit"], "qdrant-edge, flush each", prepared[True])
    yield Row("upsert", "durability=batched; the peer never syncs", "docs/s", found["batched"], "qdrant-edge, no flush", found["none"])


def rows(lab: Lab) -> Iterator[Row]:
    """Upserts of one point per call, into an empty collection."""
    from vectordb import Dense, Schema

    singles = 200
    attributes = {name: values[:singles] for name, values in lab.attributes.items()}

    def ours(durability: str) -> float:
        database = lab.open(lab.scratch("rows"))
        docs = database.create_collection("docs", Schema(vectors={"dense": Dense(DIM)}, attributes=attribute_schema()))

        def one(i: int) -> None:
            columns = {name: values[i : i + 1] for name, values in attributes.items()}
            docs.upsert(ids=[i], vectors={"dense": lab.vectors[i : i + 1]}, attributes=columns, durability=durability)

        taken = latencies(one, range(singles), 1.5)  # a slow disk must not make this run long
        database.close()
        return keep(durability, taken)

    def theirs(flush: bool) -> float:
        shard = QdrantShard(lab.scratch("qdrant"), tuple(attributes))

        def one(i: int) -> None:
            shard.upsert(shard.points(i, lab.vectors[i : i + 1], {name: values[i : i + 1] for name, values in attributes.items()}))
            if flush:
                shard.shard.flush()

        taken = latencies(one, range(singles), 1.5)  # a slow disk must not make this run long
        shard.close()
        return keep(str(flush), taken)

    tails: dict[str, list[float]] = {}

    def keep(name: str, taken: np.ndarray) -> float:
        tails.setdefault(name, []).append(float(np.percentile(taken, 99)) * 1e3)
        return median(taken) * 1e3

    runs: dict[str, Callable[[], float]] = {name: lambda name=name: ours(name) for name in ("commit", "batched")}
    try:
        import qdrant_edge  # noqa: F401

        runs |= {str(flush): lambda flush=flush: theirs(flush) for flush in (True, False)}
    except ImportError:
        pass
    found = interleaved(3, runs)
    for durability, flush, peer in (("commit", "True", "qdrant-edge, flush each"), ("batched", "False", "qdrant-edge, no flush")):
        note = f"p99 {median(tails[durability]):.2f} ms" + (f", peer {median(tails[flush]):.2f} ms" if flush in tails else "")
        note = f"{1e3 / median(found[durability]):,.0f} upserts/s; {note}"
        yield Row(
            "rows",
            f"upsert of one point, {durability}, p50",
            "ms",
            found[durability],
            peer if flush in found else "",
            found.get(flush, []),
            note=note,
        )


def changes(lab: Lab) -> Iterator[Row]:
    """Updates and deletes in a copy of the 100k points."""
    path = lab.scratch("changes")
    shutil.copy(Path(lab.dense_folder) / "data.mdb", path)
    docs = lab.open(path).collection("docs")
    rng = np.random.default_rng(SEED + 6)

    def update() -> float:
        return 1e3 * seconds(
            lambda: docs.update(ids=rng.choice(POINTS, 1_000, replace=False), attributes={"n": rng.integers(0, 1_000_000, 1_000)})
        )

    def write() -> float:
        ids = rng.choice(POINTS, 1_000, replace=False)
        attributes = {name: [values[i] for i in ids.tolist()] for name, values in lab.attributes.items()}
        return 1e3 * seconds(lambda: docs.upsert(ids=ids, vectors={"dense": lab.vectors[ids]}, attributes=attributes))

    found = interleaved(3, {"update": update, "upsert": write})
    yield Row(
        "changes", "update an attribute of 1,000 random points", "ms", found["update"], "upsert of 1,000 whole points", found["upsert"]
    )
    taken = []
    for i in range(40, 44):
        there = docs.count(f"kw = 'k{i}'")
        taken.append(1e3 * seconds(lambda i=i: docs.delete(filter=f"kw = 'k{i}'")))
        assert docs.count(f"kw = 'k{i}'") == 0 < there
    yield Row("changes", "delete by filter, 2 % of the points", "ms", taken[1:], note=f"{there:,} points, the last of them")


def disk(lab: Lab) -> Iterator[Row]:
    """Bytes per point on disk."""
    for what, path, raw in (
        ("dense, 3 attributes", lab.dense_folder, 4 * DIM),
        ("dense and sparse, 3 attributes", lab.hybrid_folder, 4 * DIM + 8 * lab.sparse[0].nnz / POINTS),
    ):
        size = (Path(path) / "data.mdb").stat().st_size / POINTS
        yield Row("disk", f"bytes a point: {what}", "B", [size], "vectors alone (f32; u32 + f32 a term)", [raw])


def text(lab: Lab) -> Iterator[Row]:
    """Upserts of texts that the database encodes: a dense field with wordllama and a BM25 field."""
    from vectordb import Dense, EncoderError, Schema, Sparse, Text, encoders

    try:
        wordllama, bm25 = encoders.load("wordllama"), encoders.load("bm25")
    except EncoderError as error:
        raise Skip(str(error)) from None
    rng = np.random.default_rng(SEED + 7)
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "or")]
    vocabulary = ["".join(rng.choice(syllables, size)) for size in rng.integers(1, 5, 20_000)]
    ranks = np.minimum(20 * (1 + len(vocabulary) / 20) ** rng.random(4_000 * 60) - 20, len(vocabulary) - 1).astype(int)
    texts = [" ".join(vocabulary[i] for i in ranks[low : low + 60]) for low in range(0, len(ranks), 60)]

    def ours() -> float:
        database = lab.open(lab.scratch("text"))
        vectors = {
            "meaning": Dense(256, encoder="wordllama", source="body"),
            "words": Sparse(weighting="idf", encoder="bm25", source="body"),
        }
        docs = database.create_collection("docs", Schema(vectors=vectors, attributes={"body": Text()}))
        taken = seconds(
            lambda: [docs.upsert(ids=range(i, i + 500), attributes={"body": texts[i : i + 500]}) for i in range(0, len(texts), 500)]
        )
        database.close()
        return len(texts) / taken

    def encoded() -> float:
        return len(texts) / seconds(
            lambda: [e.encode_documents(texts[i : i + 500], None) for i in range(0, len(texts), 500) for e in (wordllama, bm25)]
        )

    found = interleaved(3, {"ours": ours, "encoders": encoded})
    yield Row(
        "text",
        f"upsert of {len(texts):,} texts of 60 words, synced each 500",
        "docs/s",
        found["ours"],
        "the two encoders alone",
        found["encoders"],
    )
