"""Small index segments over chunk tables in memory, with graphs and clusters. Each is built once per process."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from vectordb_client.model.fields import DenseColumn
from vectordb_client.model.schema import Dense

from tests.support import calibration
from vectordb.fields import FIELD_TYPES
from vectordb.index import exact as flat
from vectordb.index import file as index_file
from vectordb.index.base import Report, SegmentMask, SegmentRequest, SegmentTarget, TailRange, open_file
from vectordb.index.dense import build as builder
from vectordb.index.dense import calibrate
from vectordb.index.dense.build import Options
from vectordb.index.dense.kind import HNSWFile
from vectordb.kernels import COUNT, FIRST, TABLE_WIDTH
from vectordb.storage import chunks, format

METRICS = ("cosine", "dot", "l2")
KINDS = ("uncorrelated", "positive", "negative")
ROWS, DIM = 6_000, 32


def grouped(seed: int, n: int, dim: int, groups: int = 40, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """(rows, positions). Rows: float32 ``(n, dim)``, in clusters, of different lengths. The cluster centres lie along a line; a row's
    position is its place on it.
    """
    middles = np.random.default_rng(7).standard_normal((groups, dim))
    middles = middles[np.argsort(middles[:, 0])]
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    rows = middles[group] + spread * rng.standard_normal((n, dim))
    return (rows * rng.lognormal(0, 0.2, (n, 1))).astype(np.float32), group + rng.random(n)


def clustered(seed: int, n: int, dim: int) -> np.ndarray:
    """The rows of ``grouped``."""
    return grouped(seed, n, dim)[0]


class Chunks:
    """A chunk table in memory, as searches take it."""

    def __init__(self, rows: np.ndarray):
        self.rows, self.verified = rows, np.ones(len(rows), np.uint8)

    def confirm(self) -> None:
        """Chunks in memory are never damaged."""


class Trace:
    """Takes the report of a search."""

    report: Report


def ask(kind, request: SegmentRequest, trace: Trace | None) -> list[flat.Found]:
    """Search, and put the report into ``trace``."""
    hits, report = kind.search(request._replace(recorded=trace is not None, timed=trace is not None))
    if trace is not None:
        trace.report = report
    return hits


class Indexed:
    """Rows in chunks, and an index segment with some or all of them.

    vectors: float32, as stored. docids: uint32, of the vectors. segment: contains the docids ``inside``, by default all. file: the bytes of
    the segment; it is built unless they are given.
    """

    def __init__(self, vectors, metric, dtype="float32", docids=None, inside=None, options=None, file: bytes | None = None, **constants):
        self.metric, self.dtype = metric, dtype
        self.docids = np.arange(len(vectors), dtype=np.uint32) if docids is None else docids
        stored = vectors.astype(dtype)
        self.vectors = stored.astype(np.float32)
        spec = self.spec = Dense(vectors.shape[1], metric, dtype)
        pieces = [slice(low, low + 700) for low in range(0, len(vectors), 700)]
        made = [FIELD_TYPES["dense"].encode(spec, DenseColumn(stored[piece]), self.docids[piece])[format.FORWARD] for piece in pieces]
        self._values = [np.frombuffer(bytes(chunks.encode(chunk)), np.uint8) for chunk in made]
        self.table = np.array([chunks.table_row(value, "test") for value in self._values], np.int64).reshape(-1, TABLE_WIDTH)
        self.chunks = Chunks(self.table)
        inside = self.docids if inside is None else inside
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            if file is None:
                self.build(path, inside, options or Options(threads=1), **constants)
            else:
                path.write_bytes(file)
            self.file = path.read_bytes()
            self.segment = open_file(path)

    def build(self, path: Path, inside: np.ndarray, options: Options, **constants) -> None:
        """Write a segment of some of the rows. constants: constants of the building modules that are replaced during the build."""
        rows = np.ascontiguousarray(self.vectors[np.isin(self.docids, inside)])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"GRAPH_ROWS": 100, "ROWS_A_CLUSTER": 60} | constants).items():
                patch.setattr(builder if hasattr(builder, name) else calibrate, name, value)
            builder.build(path, rows, np.sort(inside), self.metric, options)

    def exact(self, queries: np.ndarray, k: int, rows: np.ndarray | None = None) -> list[flat.Found]:
        """Exact search, for comparison. rows: docids that may be found, None for all."""
        return flat.search_dense(self.table, queries, self.dtype, self.metric, k, rows)

    def search(self, queries, k, rows=None, *, target=0.95, forced=-1, trace=None, parts=None, rest: Sequence[TailRange] = ()):
        """Search through the segment, or through ``parts``. rows: docids that may be found, None for all. trace: gets the report."""
        if parts is None:
            parts = [SegmentTarget(self.segment, self.segment.all_allowed if rows is None else SegmentMask(self.segment, rows))]
            rest = [*rest, *self.apart(rows)]
        return ask(HNSWFile, SegmentRequest(parts, rest, self.chunks, queries, self.spec, k, target, forced=forced), trace)

    def rest(self, wanted: np.ndarray) -> TailRange:
        """Rows outside of any segment as an argument of a search, with the chunks that can contain them."""
        if not len(wanted):
            return TailRange(0, 0, wanted)
        last = self.table[:, FIRST] <= wanted[-1]
        first = self.table[:, FIRST] <= wanted[0]
        return TailRange(max(int(first.sum()) - 1, 0), int(last.sum()), wanted)

    def apart(self, rows: np.ndarray | None = None) -> list[TailRange]:
        """Those of the rows that are outliers of the segment."""
        return [self.rest(self.segment.apart if rows is None else np.intersect1d(self.segment.apart, rows))]

    def every(self, n: int) -> np.ndarray:
        """Every n-th docid, as a contiguous copy, because kernels would be compiled again for another memory layout."""
        return self.docids[::n].copy()

    @property
    def count(self) -> int:
        return int(self.table[:, COUNT].sum())


def small_rows(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and docids of ``small``."""
    docids = np.flatnonzero(np.random.default_rng(1).random(2_200) < 0.75)[:1_500].astype(np.uint32)
    return clustered(3, len(docids), dim), docids


def of_low_rank(seed: int, n: int, dim: int = 160) -> np.ndarray:
    """Rows in clusters that differ in 20 directions, and a little in all others."""
    directions = np.linalg.qr(np.random.default_rng(5).standard_normal((dim, 20)))[0].T
    rows = clustered(seed, n, 20) @ directions + 0.02 * np.random.default_rng(seed + 1).standard_normal((n, dim))
    return (rows + 0.5).astype(np.float32)


@functools.cache
def low_rank(metric: str) -> Indexed:
    """1,500 rows of 160 numbers, whose segment has principal codes."""
    return Indexed(of_low_rank(3, 1_500), metric)


@functools.cache
def small(metric: str, dtype: str = "float32", dim: int = 24) -> Indexed:
    """1,500 rows with gaps between their docids, all in the segment."""
    rows, docids = small_rows(dim)
    with calibration.queries(full=True):
        return Indexed(rows, metric, dtype, docids)


@functools.cache
def large(metric: str, builder: str = "faiss") -> Indexed:
    """6,000 rows, ``grouped(4, ROWS, DIM)``. Plans are calibrated although a scan would be fast enough."""
    options = Options(builder, threads=1)
    with calibration.queries(full=True):
        return Indexed(clustered(4, ROWS, DIM), metric, options=options, SCANNED=100, SELECTIVITIES=(0.6, 0.3, 0.1, 0.04))


def held_out(n: int, dim: int = DIM) -> np.ndarray:
    """Queries that are in no segment, ``grouped(5, n, dim)``."""
    return clustered(5, n, dim)


def filtered(kind: str, share: float, where: np.ndarray, query_at: float, rng: np.random.Generator) -> np.ndarray:
    """The rows that a filter matches, bool: random ones, those around the query's position on the line, or those half of the line away."""
    if kind == "uncorrelated":
        return rng.random(len(where)) < share
    rank = np.argsort(np.argsort(where)) / len(where)
    middle = float(np.mean(where < query_at))
    middle = middle if kind == "positive" else (middle + 0.5) % 1.0
    low = min(max(0.0, middle - share / 2), 1 - share)
    return (rank >= low) & (rank < low + share)


def recall(found: flat.Found, oracle: flat.Found) -> float:
    """Recall against exact search; rows that tie with its last row count as correct."""
    docids, scores = oracle
    return 1.0 if not len(docids) else min(int((found[1] >= scores[-1]).sum()), len(docids)) / len(docids)


def random_bytes(file: bytes, start: int, end: int, seed: int) -> bytes:
    """The file with random bytes in [start, end)."""
    return file[:start] + np.random.default_rng(seed).bytes(end - start) + file[end:]


def places(file: bytes) -> dict[str, tuple[int, int]]:
    """The sections of a segment's file: name → (start, end) in bytes."""

    (length,) = np.frombuffer(file, np.uint32, 1, 12)
    meta = msgspec.msgpack.decode(file[index_file._head.size : index_file._head.size + int(length)])
    start = -(-(index_file._head.size + int(length)) // index_file.LINE) * index_file.LINE
    found = {}
    for name, (at, dtype, shape, _) in meta["sections"].items():
        found[name] = (start + at, start + at + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return found
