"""Index segments over chunk tables in memory. They are small and have graphs and clusters all the same; each is built once a process."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vectordb.index import ann, calibrate, flat
from vectordb.index import build as builder
from vectordb.index import file as index_file
from vectordb.index.build import Options
from vectordb.index.segment import Allowed, Segment
from vectordb.kernels import COUNT, FIRST, TABLE_WIDTH
from vectordb.storage import chunks, fields
from vectordb.types import Dense, DenseColumn

METRICS = ("cosine", "dot", "l2")
KINDS = ("uncorrelated", "positive", "negative")
ROWS, DIM = 6_000, 32


def grouped(seed: int, n: int, dim: int, groups: int = 40, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Rows around some middles, of different lengths: float32 ``(n, dim)``; and where each is on a line along which the middles lie."""
    middles = np.random.default_rng(7).standard_normal((groups, dim))
    middles = middles[np.argsort(middles[:, 0])]
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    rows = middles[group] + spread * rng.standard_normal((n, dim))
    return (rows * rng.lognormal(0, 0.2, (n, 1))).astype(np.float32), group + rng.random(n)


def clustered(seed: int, n: int, dim: int) -> np.ndarray:
    """The rows alone."""
    return grouped(seed, n, dim)[0]


class Indexed:
    """Rows in chunks, some or all of them in a segment.

    vectors: float32, as stored; docids: uint32, theirs; segment: of those in ``inside`` (docids, all by default); file: its bytes, built
    unless they are given.
    """

    def __init__(self, vectors, metric, dtype="float32", docids=None, inside=None, options=None, file: bytes | None = None, **constants):
        self.metric, self.dtype = metric, dtype
        self.docids = np.arange(len(vectors), dtype=np.uint32) if docids is None else docids
        stored = vectors.astype(dtype)
        self.vectors = stored.astype(np.float32)
        spec = Dense(vectors.shape[1], metric, dtype)
        pieces = [slice(low, low + 700) for low in range(0, len(vectors), 700)]
        made = [fields.forward_chunk(spec, DenseColumn(stored[piece]), self.docids[piece]) for piece in pieces]
        self._values = [np.frombuffer(bytes(chunks.encode(chunk)), np.uint8) for chunk in made]
        self.table = np.array([chunks.table_row(value, "test") for value in self._values], np.int64).reshape(-1, TABLE_WIDTH)
        self.verified = np.ones(len(self.table), np.uint8)
        inside = self.docids if inside is None else inside
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            if file is None:
                self.build(path, inside, options or Options(threads=1), **constants)
            else:
                path.write_bytes(file)
            self.file = path.read_bytes()
            self.segment = Segment.open(path)

    def build(self, path: Path, inside: np.ndarray, options: Options, **constants) -> None:
        """Write a segment of some of the rows. constants: of the modules that do so, to be others meanwhile."""
        rows = np.ascontiguousarray(self.vectors[np.isin(self.docids, inside)])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"GRAPH_ROWS": 100, "ROWS_A_CLUSTER": 60} | constants).items():
                patch.setattr(builder if hasattr(builder, name) else calibrate, name, value)
            builder.build(path, rows, np.sort(inside), self.metric, options)

    def exact(self, queries: np.ndarray, k: int, rows: np.ndarray | None = None) -> list[flat.Found]:
        """The oracle. rows: wanted docids, None for all."""
        return flat.search_dense(self.table, queries, self.dtype, self.metric, k, rows)

    def search(self, queries, k, rows=None, *, target=0.95, forced=-1, trace=None, parts=None, rest: Sequence[ann.Rest] = ()):
        """Through the segment (or others), for wanted docids, None for all."""
        if parts is None:
            parts = [ann.Part(self.segment, self.segment.all_allowed if rows is None else Allowed(self.segment, rows))]
            rest = [*rest, *self.apart(rows)]
        given = (parts, rest, self.table, self.verified, lambda: None, queries, self.dtype, self.metric, k, target, forced, trace)
        return ann.search(*given)

    def rest(self, wanted: np.ndarray) -> ann.Rest:
        """Rows outside of any segment, as a search takes them: in the chunks that can hold them."""
        if not len(wanted):
            return ann.Rest(0, 0, wanted)
        last = self.table[:, FIRST] <= wanted[-1]
        first = self.table[:, FIRST] <= wanted[0]
        return ann.Rest(max(int(first.sum()) - 1, 0), int(last.sum()), wanted)

    def apart(self, rows: np.ndarray | None = None) -> list[ann.Rest]:
        """The wanted rows that the segment keeps apart."""
        return [self.rest(self.segment.apart if rows is None else np.intersect1d(self.segment.apart, rows))]

    def every(self, n: int) -> np.ndarray:
        """Every n-th docid. (A copy: for another layout of memory all kernels would be compiled again.)"""
        return self.docids[::n].copy()

    @property
    def count(self) -> int:
        return int(self.table[:, COUNT].sum())


def small_rows(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and docids of ``small``."""
    docids = np.flatnonzero(np.random.default_rng(1).random(2_200) < 0.75)[:1_500].astype(np.uint32)
    return clustered(3, len(docids), dim), docids


@functools.cache
def small(metric: str, dtype: str = "float32", dim: int = 24) -> Indexed:
    """1,500 rows with gaps between their docids, all in the segment."""
    rows, docids = small_rows(dim)
    return Indexed(rows, metric, dtype, docids)


@functools.cache
def large(metric: str, builder: str = "faiss") -> Indexed:
    """6,000 rows, which are ``grouped(4, ROWS, DIM)``, with plans that are measured although a scan would do."""
    options = Options(builder, threads=1)
    return Indexed(clustered(4, ROWS, DIM), metric, options=options, SCANNED=100, SELECTIVITIES=(0.6, 0.3, 0.1, 0.04))


def held_out(n: int, dim: int = DIM) -> np.ndarray:
    """Queries that no segment holds, ``grouped(5, n, dim)``."""
    return clustered(5, n, dim)


def filtered(kind: str, share: float, where: np.ndarray, query_at: float, rng: np.random.Generator) -> np.ndarray:
    """bool: which rows a filter of a kind matches: any, those around the query's place on the line, or those half the line away."""
    if kind == "uncorrelated":
        return rng.random(len(where)) < share
    rank = np.argsort(np.argsort(where)) / len(where)
    middle = float(np.mean(where < query_at))
    middle = middle if kind == "positive" else (middle + 0.5) % 1.0
    low = min(max(0.0, middle - share / 2), 1 - share)
    return (rank >= low) & (rank < low + share)


def recall(found: flat.Found, oracle: flat.Found) -> float:
    """The share of the oracle's rows that was found; rows as good as its last count as well."""
    docids, scores = oracle
    return 1.0 if not len(docids) else min(int((found[1] >= scores[-1]).sum()), len(docids)) / len(docids)


def random_bytes(file: bytes, start: int, end: int, seed: int) -> bytes:
    """A file with other bytes in [start, end)."""
    return file[:start] + np.random.default_rng(seed).bytes(end - start) + file[end:]


def places(file: bytes) -> dict[str, tuple[int, int]]:
    """Where the sections of a segment's file are: name → [start, end)."""

    (length,) = np.frombuffer(file, np.uint32, 1, 12)
    meta = msgspec.msgpack.decode(file[index_file._head.size : index_file._head.size + int(length)])
    start = -(-(index_file._head.size + int(length)) // index_file.LINE) * index_file.LINE
    found = {}
    for name, (at, dtype, shape, _) in meta["sections"].items():
        found[name] = (start + at, start + at + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return found
