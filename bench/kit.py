"""Shared parts of ``bench.foundation``: rows and targets, interleaved timing, seeded data, loaded databases, and the peer qdrant-edge."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

POINTS, DIM = 100_000, 384
VOCABULARY, DOCUMENT_DRAWS, QUERY_DRAWS = 30_522, 150, 39
SEED = 20_261_122
LOWER_IS_BETTER = ("µs", "ms", "s", "MB", "B")


class Skip(Exception):
    """Raised by a section that can't run here; the message is the reason."""


@dataclass
class Check:
    """A target: the value must be at least the limit, or at most the limit if ``most`` is true."""

    what: str
    value: float
    limit: float
    most: bool

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.most else self.value >= self.limit

    def __str__(self) -> str:
        text = f"{self.what} {figure(self.value)} {'≤' if self.most else '≥'} {figure(self.limit)}"
        return f"✓ {text}" if self.met else f"✗ MISSED {text}, by {abs(self.value / self.limit - 1):.0%}"


@dataclass
class Row:
    """One line of the table: the figures of vectordb and of the peer for each round, in one unit."""

    section: str
    what: str
    unit: str = ""
    ours: list[float] = field(default_factory=list)
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast (or as small) as the peer we were, in each round."""
        pairs = zip(self.ours, self.theirs, strict=True) if self.theirs else ()
        return [theirs / ours if self.unit in LOWER_IS_BETTER else ours / theirs for ours, theirs in pairs]

    def at_most(self, what: str, value: float, limit: float) -> Row:
        self.checks.append(Check(what, float(value), limit, True))
        return self

    def at_least(self, what: str, value: float, limit: float) -> Row:
        self.checks.append(Check(what, float(value), limit, False))
        return self


def figure(value: float) -> str:
    """A number with three significant digits and thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# Measuring


def interleaved(rounds: int, runs: dict[str, Callable[[], float]], warm: bool = True) -> dict[str, list[float]]:
    """The figures of each run, one per round. Every round reverses the order of the runs. warm: begin with an unmeasured round."""
    if warm:
        for run in runs.values():
            run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs) if turn % 2 == 0 else reversed(list(runs)):
            gc.collect()
            found[name].append(runs[name]())
    return found


def p50(call: Callable, values: list, unit: float = 1e6) -> float:
    """Median time of ``call(value)``, in µs (1e3: ms)."""
    return float(np.median(latencies(call, values))) * unit


def latencies(call: Callable, values: Sequence, budget: float = 60.0) -> np.ndarray:
    """Seconds of each ``call(value)``. Stops when ``budget`` seconds have passed and at least 20 calls were made."""
    clock, times = time.perf_counter, np.empty(len(values))
    began = clock()
    for i, value in enumerate(values):
        start = clock()
        call(value)
        end = clock()
        times[i] = end - start
        if end - began > budget and i >= 19:
            return times[: i + 1]
    return times


def seconds(call: Callable, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def median(values) -> float:
    return float(np.median(values))


def agree(hits, scores: np.ndarray, what: str) -> None:
    """Check that the hits have the highest of all scores. Ties may be in any order. Raises AssertionError."""
    best = np.sort(scores)[::-1][: len(hits)]
    if not np.allclose(hits.scores, best, rtol=1e-4, atol=1e-5):
        raise AssertionError(f"{what}: hits {hits.scores} differ from the peer's {best}")


# Data: generated with a seed, so that the benchmark needs no download


def dense_vectors(n: int, rng: np.random.Generator) -> np.ndarray:
    """Clustered unit vectors, float32."""
    centres = rng.standard_normal((256, DIM), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), n)] + 0.8 * rng.standard_normal((n, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class SparseSource:
    """SPLADE-like vectors. Half of a vector's terms come from all terms and half from its topic, both with Zipf–Mandelbrot frequencies."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.orders = np.stack([rng.permutation(VOCABULARY) for _ in range(64)]).astype(np.int32)

    def rows(self, n: int, draws: int):
        """A float32 CSR matrix of n rows. A row has slightly fewer terms than ``draws``, because some draws repeat a term."""
        import scipy.sparse

        rng = self.rng
        sizes = rng.poisson(draws, n)
        total, shift = int(sizes.sum()), 20.0
        rank = np.minimum(shift * ((VOCABULARY + shift) / shift) ** rng.random(total, np.float32) - shift, VOCABULARY - 1).astype(np.int32)
        topic = np.repeat(rng.integers(0, len(self.orders), n), sizes)
        terms = np.where(rng.random(total, np.float32) < 0.5, rank, self.orders[topic, rank])
        weights = 0.05 + 0.6 * rng.standard_exponential(total, np.float32)
        matrix = scipy.sparse.csr_matrix((weights, terms, np.concatenate([[0], np.cumsum(sizes)])), shape=(n, VOCABULARY))
        matrix.sum_duplicates()
        return matrix


def attributes_of(n: int, rng: np.random.Generator) -> dict[str, list]:
    """Attributes of n points. kw: 50 different keywords. n: integers below 1,000,000. kind: 8 different keywords."""
    codes, kinds = rng.integers(0, 50, n), rng.integers(0, 8, n)
    return {"kw": [f"k{i}" for i in codes.tolist()], "n": rng.integers(0, 1_000_000, n).tolist(), "kind": [f"t{i}" for i in kinds.tolist()]}


class Lab:
    """A temporary folder, and the data that sections share. Each data set is made on first use."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._open: list = []

    def scratch(self, name: str) -> str:
        return tempfile.mkdtemp(prefix=name, dir=self.folder)

    def open(self, path: str, **options):
        import vectordb

        database = vectordb.open(path, **options)
        self._open.append(database)
        return database

    def close(self) -> None:
        for database in self._open:
            database.close()

    @cached_property
    def vectors(self) -> np.ndarray:
        return dense_vectors(POINTS, np.random.default_rng(SEED))

    @cached_property
    def queries(self) -> np.ndarray:
        rng = np.random.default_rng(SEED + 1)
        near = self.vectors[rng.integers(0, POINTS, 256)] + 0.04 * rng.standard_normal((256, DIM), dtype=np.float32)
        return near / np.linalg.norm(near, axis=1, keepdims=True)

    @cached_property
    def attributes(self) -> dict[str, list]:
        return attributes_of(POINTS, np.random.default_rng(SEED + 2))

    @cached_property
    def sparse(self):
        """(documents, queries) as CSR matrices."""
        source = SparseSource(np.random.default_rng(SEED + 3))
        return source.rows(POINTS, DOCUMENT_DRAWS), source.rows(64, QUERY_DRAWS)

    @cached_property
    def dense_folder(self) -> str:
        """A database with "docs" (100k × 384, three attributes) and "ten" (10 points)."""
        return self._loaded("dense", sparse=False)

    @cached_property
    def hybrid_folder(self) -> str:
        """A database with "docs": dense and sparse vectors."""
        return self._loaded("hybrid", sparse=True)

    @cached_property
    def docs(self):
        return self.open(self.dense_folder).collection("docs")

    @cached_property
    def ten(self):
        return self.open(self.dense_folder).collection("ten")

    @cached_property
    def hybrid(self):
        return self.open(self.hybrid_folder).collection("docs")

    def _loaded(self, name: str, sparse: bool) -> str:
        import vectordb
        from vectordb import Dense, Schema, Sparse

        path = self.scratch(name)
        with vectordb.open(path, durability="batched") as database:
            schema = Schema(vectors={"dense": Dense(DIM)} | ({"sparse": Sparse()} if sparse else {}), attributes=attribute_schema())
            docs = database.create_collection("docs", schema)
            for low in range(0, POINTS, 10_000):
                rows = slice(low, low + 10_000)
                vectors = {"dense": self.vectors[rows]} | ({"sparse": self.sparse[0][rows]} if sparse else {})
                attributes = {key: values[rows] for key, values in self.attributes.items()}
                docs.upsert(ids=range(low, low + 10_000), vectors=vectors, attributes=attributes)
            ten = database.create_collection("ten", Schema(vectors={"dense": Dense(DIM)}, attributes=attribute_schema()))
            ten.upsert(ids=range(10), vectors={"dense": self.vectors[:10]}, attributes={key: v[:10] for key, v in self.attributes.items()})
        return path


def attribute_schema() -> dict:
    from vectordb import Int, Keyword

    return {"kw": Keyword(), "n": Int(), "kind": Keyword()}


class QdrantShard:
    """qdrant-edge with a payload index on each attribute, as vectordb has. It has no graph, because only its ``optimize`` builds one.

    ``update`` writes the log and the segments through memory maps without a sync (strace shows no fsync or msync). ``flush`` syncs all.
    """

    def __init__(self, path: str, attributes: tuple[str, ...]):
        try:
            import qdrant_edge
        except ImportError:
            raise Skip("qdrant-edge-py is not installed; run: pip install qdrant-edge-py") from None
        self.api = q = qdrant_edge
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        self.shard = q.EdgeShard.create(path, q.EdgeConfig(vectors=q.EdgeVectorParams(DIM, q.Distance.Cosine)))
        for name in attributes:
            kind = q.PayloadSchemaType.Integer if name == "n" else q.PayloadSchemaType.Keyword
            self.shard.update(q.UpdateOperation.create_field_index(name, kind))

    def points(self, low: int, vectors: np.ndarray, attributes: dict[str, list]) -> list:
        """Rows low, low + 1, … as qdrant-edge's Point objects. Vectors are lists of floats, which it converts fastest."""
        make, names = self.api.Point, list(attributes)
        rows = zip(vectors.tolist(), zip(*attributes.values(), strict=True), strict=True)
        return [make(i, vector, dict(zip(names, values, strict=True))) for i, (vector, values) in enumerate(rows, low)]

    def upsert(self, points: list) -> None:
        self.shard.update(self.api.UpdateOperation.upsert_points(points))

    def search(self, query: np.ndarray, limit: int = 10):
        nearest = self.api.Query.Nearest(query)
        return self.shard.query(
            self.api.QueryRequest(limit=limit, query=nearest, with_payload=True, params=self.api.SearchParams(exact=True))
        )

    def close(self) -> None:
        self.shard.close()
