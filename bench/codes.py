"""How much of the exact result codes keep, at equal memory: the table of ``vectordb tune DIR/COLLECTION --codes`` and of the suite "codes".

Every code is judged alike: rows become codes and are decoded, queries stay as they are, and all rows are scored. So a figure is that of the
code alone, of no index. Codes of this project are computed by its own kernels, product quantisation and uniform 4-bit codes by faiss; the
others are a few lines of numpy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np

K = 10
RESCORED = (30, 100)  # best rows by codes that are scored by the vectors themselves
MOST_ROWS, MOST_QUERIES = 50_000, 200
_QUERIES_AT_ONCE = 50
_TRAINED, _ROUNDS = 4_096, 6  # rows and rounds of k-means that product quantisation learns from
_KEPT = 0.6  # of the mean size of a row's numbers: smaller ones are 0 in a ternary code


@dataclass(frozen=True)
class Figures:
    """What a code keeps. bytes: of a row. recall: by codes alone; rescored: with as many of the best rows scored by their vectors. encoded:
    rows a second on one thread, training left out. scanned: rows that one thread of the library scores in a microsecond; None where no
    library scans this code. entropy: share of the code's bits that carry information. imbalance: of its lists or centroids, 1 where all
    have as many rows.
    """

    name: str
    bytes: int
    recall: float
    rescored: dict[int, float]
    encoded: float
    scanned: float | None
    entropy: float | None
    imbalance: float | None


@dataclass
class Decoded:
    """Rows as their codes say. rows: float32 ``(n, d)``. queries: what they are multiplied with, if not the queries. squares: what is known
    of the squared lengths of rows, if not those of ``rows``. symbols: (the codes, how many values each can have).
    """

    rows: np.ndarray
    bytes: int
    seconds: float
    queries: np.ndarray | None = None
    squares: np.ndarray | None = None
    symbols: tuple[np.ndarray, int] | None = None
    lists: np.ndarray | None = None
    faiss: str | None = None


def compare(
    vectors: np.ndarray, queries: np.ndarray, metric: str, seed: int = 0, stage: Callable[[str], None] = lambda text: None
) -> list[dict]:
    """The figures of all codes, longest first. vectors: float32 ``(n, dim)``, of which a sample is taken; queries: float32 ``(m, dim)``,
    none of which should be a row. stage: called with the name of each code. Raises ValueError if there is too little.
    """
    rng = np.random.default_rng(seed)
    if len(vectors) < 2 * K or not len(queries):
        raise ValueError(f"codes are compared on at least {2 * K} vectors and one query, but there are {len(vectors)} and {len(queries)}")
    if len(vectors) > MOST_ROWS:
        vectors = vectors[np.sort(rng.choice(len(vectors), MOST_ROWS, replace=False))]
    rows, asked = _prepared(vectors, metric), _prepared(queries[:MOST_QUERIES], metric)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) if metric == "l2" else None
    exact = np.concatenate([_best(block, rows, squares, K) for block in _blocks(asked)])
    figures = []
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # figures are those of one thread
    try:
        for name, make in _codes(rows, metric, seed):
            stage(name)
            figures.append(asdict(_judged(name, make(), rows, asked, squares, exact)))
    finally:
        faiss.omp_set_num_threads(threads)
    return sorted(figures, key=lambda one: (-one["bytes"], -one["recall"]))


def _prepared(vectors: np.ndarray, metric: str) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    if metric != "cosine":
        return vectors
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _blocks(queries: np.ndarray) -> Iterator[np.ndarray]:
    for low in range(0, len(queries), _QUERIES_AT_ONCE):
        yield queries[low : low + _QUERIES_AT_ONCE]


def _best(queries: np.ndarray, rows: np.ndarray, squares: np.ndarray | None, count: int) -> np.ndarray:
    """The best rows of each query, int ``(m, count)``, best first."""
    scores = (queries @ rows.T).astype(np.float64)
    if squares is not None:
        scores = 2 * scores - squares
    count = min(count, len(rows))
    top = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def _judged(name: str, decoded: Decoded, rows: np.ndarray, queries: np.ndarray, squares: np.ndarray | None, exact: np.ndarray) -> Figures:
    asked, known = queries if decoded.queries is None else decoded.queries, None
    if squares is not None:
        known = np.einsum("ij,ij->i", decoded.rows, decoded.rows, dtype=np.float64) if decoded.squares is None else decoded.squares
    top = np.concatenate([_best(block, decoded.rows, known, max(RESCORED)) for block in _blocks(asked)])

    def found(most: int) -> float:
        """The share of the exact results among the best ``most`` by codes: rescoring them finds these."""
        return float(np.mean([len(np.intersect1d(one[:most], true)) / len(true) for one, true in zip(top, exact, strict=True)]))

    entropy = imbalance = None
    if decoded.symbols is not None:
        codes, values = decoded.symbols
        counts = np.stack([np.bincount(column, minlength=values) for column in codes.T[:: max(codes.shape[1] // 64, 1)]])
        shares = counts / len(codes)
        entropy = float(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1).mean() / np.log2(values))
    if decoded.lists is not None:
        shares = np.stack([np.bincount(column) for column in np.atleast_2d(decoded.lists.T)]) / len(rows)
        imbalance = float(((shares**2).sum(axis=1) * (shares > 0).sum(axis=1)).mean())
    scanned = _scanned(decoded.faiss, rows, queries, squares is not None) if decoded.faiss else None
    rescored, encoded = {most: found(most) for most in RESCORED}, len(rows) / max(decoded.seconds, 1e-9)
    return Figures(name, decoded.bytes, found(K), rescored, encoded, scanned, entropy, imbalance)


def _scanned(factory: str, rows: np.ndarray, queries: np.ndarray, l2: bool) -> float:
    """Rows that one thread of faiss scores by codes in a microsecond."""
    index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT)
    if isinstance(index, faiss.IndexPQFastScan):
        index.pq.cp.niter, index.pq.cp.min_points_per_centroid = _ROUNDS, 1  # only its speed is measured
    index.train(rows[:_TRAINED])
    index.add(rows)
    some, seconds = queries[:20], []
    for _ in range(3):
        started = time.perf_counter()
        index.search(some, K)
        seconds.append(time.perf_counter() - started)
    return len(rows) * len(some) / min(seconds) / 1e6


def _codes(rows: np.ndarray, metric: str, seed: int) -> Iterator[tuple[str, Callable[[], Decoded]]]:
    """(name, a function that encodes and decodes) of each code."""
    dim = rows.shape[1]
    yield "float16", lambda: _halves(rows)
    yield "bfloat16", lambda: _brains(rows)
    yield "int8, one step for all", lambda: _steps(rows, 8)
    frame = _Frame(rows, metric, seed)
    for bits in (8, 4, 2, 1):
        yield f"RaBitQ, {bits} bit{'s' * (bits > 1)}", lambda bits=bits: frame.rabitq(bits)
    for levels in (4, 2, 1):
        yield f"recurrent binary, {levels} level{'s' * (levels > 1)}", lambda levels=levels: _recurrent(frame, levels)
    yield "ternary", lambda: _ternary(frame)
    if dim >= 8:
        yield "uniform 4 bits (faiss)", lambda: _faiss(rows, "SQ4", dim // 2, metric)
    for parts in dict.fromkeys(part for part in (dim // 4, dim // 8) if part >= 2 and dim % part == 0 and len(rows) >= _TRAINED):
        yield f"PQ, {parts} parts (faiss)", lambda parts=parts: _products(rows, f"PQ{parts}", parts, seed)
        yield f"OPQ, {parts} parts (faiss)", lambda parts=parts: _products(rows, f"OPQ{parts},PQ{parts}", parts, seed)
    for share in (2, 4, 8):
        if dim // share >= 8:
            kept = dim // share
            yield f"prefix {kept}, int8", lambda kept=kept: _fewer(rows, rows[:, :kept], kept)
            yield f"PCA {kept}, int8", lambda kept=kept: _principal(rows, kept)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _halves(rows: np.ndarray) -> Decoded:
    halves, seconds = _timed(lambda: rows.astype(np.float16))
    return Decoded(halves.astype(np.float32), 2 * rows.shape[1], seconds, faiss="SQfp16")


def _brains(rows: np.ndarray) -> Decoded:
    def cut() -> np.ndarray:
        bits = rows.view(np.uint32)
        return (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)

    bits, seconds = _timed(cut)
    return Decoded(bits.view(np.float32), 2 * rows.shape[1], seconds, faiss="SQbf16")


def _steps(rows: np.ndarray, bits: int) -> Decoded:
    """Numbers rounded to one step, that of the largest but for one in a thousand."""
    top = (1 << (bits - 1)) - 1
    step = float(np.quantile(np.abs(rows[:: max(len(rows) // 2_000, 1)]), 0.999)) / top or 1.0
    codes, seconds = _timed(lambda: np.clip(np.rint(rows / step), -top, top).astype(np.int8))
    symbols = (codes.astype(np.int16) + top).astype(np.int64), 2 * top + 1
    return Decoded(codes.astype(np.float32) * np.float32(step), rows.shape[1] * bits // 8, seconds, symbols=symbols, faiss="SQ8")


def _fewer(rows: np.ndarray, some: np.ndarray, kept: int) -> Decoded:
    """The first of some dimensions in int8, as vectors of all: the others are zeros."""
    decoded = _steps(np.ascontiguousarray(some), 8)
    whole = np.zeros_like(rows)
    whole[:, :kept] = decoded.rows
    return Decoded(whole, kept, decoded.seconds, squares=np.einsum("ij,ij->i", rows, rows, dtype=np.float64), symbols=decoded.symbols)


def _principal(rows: np.ndarray, kept: int) -> Decoded:
    moment = rows.T.astype(np.float64) @ rows
    basis = np.ascontiguousarray(np.linalg.eigh(moment)[1][:, ::-1][:, :kept], np.float32)
    turned, seconds = _timed(lambda: rows @ basis)
    decoded = _steps(turned, 8)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return Decoded(decoded.rows @ basis.T, kept, seconds + decoded.seconds, squares=squares, symbols=decoded.symbols)


class _Frame:
    """Rows as RaBitQ codes have them: turned by a random rotation, less the centroid of their list."""

    def __init__(self, rows: np.ndarray, metric: str, seed: int):
        from vectordb.index.lists.clusters import Clusters, count_for
        from vectordb.index.lists.frame import Frame

        self.frame = Frame.learned(rows, metric, np.random.default_rng(seed))
        self.turned = self.frame.rotated(rows)
        self.lists = Clusters.learned(self.turned, count_for(len(rows)), seed, 1, lambda *_: None)
        self.assigned = self.lists.assign(self.turned)
        self.middles = self.lists.centroids[self.assigned]
        self.rest = self.turned - self.middles
        self.own = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        self.dim = rows.shape[1]

    def decoded(self, rest: np.ndarray, nbytes: int, seconds: float, symbols: tuple[np.ndarray, int] | None) -> Decoded:
        """The rows whose rests are these, turned back."""
        turned = (self.middles + rest) @ self._matrix()
        rows = (turned[:, : self.dim] + self.frame.mean) / np.float32(self.frame.scale)
        return Decoded(rows.astype(np.float32), nbytes, seconds, squares=self.own, symbols=symbols, lists=self.assigned)

    def _matrix(self) -> np.ndarray:
        """The rotation: what it makes of the unit vectors, less what it makes of zeros."""
        from vectordb.kernels.codes import rotate

        units = np.eye(self.frame.dim, dtype=np.float32)
        for unit in units:
            rotate(unit, self.frame.flips)
        return units.T

    def rabitq(self, bits: int) -> Decoded:
        from vectordb.index.exact import METRICS
        from vectordb.kernels import rabitq

        n, width = self.turned.shape
        codes = np.zeros((n, rabitq.stride_of(width, bits)), np.uint8)
        factors = np.empty((3, n), np.float32)
        given = self.turned, self.lists.centroids, self.assigned, bits, METRICS[self.frame.metric], rabitq.STEPS[bits], codes, *factors
        rabitq.encode(*given)  # compiled, and the codes; the second time is measured
        _, seconds = _timed(lambda: rabitq.encode(*given))
        levels = _unpacked(codes, bits, width)
        numbers = levels - np.float32((1 << bits) - 1) / 2
        square = np.einsum("ij,ij->i", self.rest, self.rest)
        product = np.einsum("ij,ij->i", numbers, self.rest)
        stretch = np.where(product > 0, square / np.where(product > 0, product, 1), 0).astype(np.float32)
        return self.decoded(numbers * stretch[:, None], codes.shape[1] + 12, seconds, (levels.astype(np.int64), 1 << bits))


def _unpacked(codes: np.ndarray, bits: int, width: int) -> np.ndarray:
    """The numbers of codes as ``rabitq.pack`` packs them, uint8 ``(n, width)``."""
    if bits == 1:
        return np.unpackbits(codes, axis=1, bitorder="little")[:, :width]
    planes = [(codes >> (plane * bits)) & ((1 << bits) - 1) for plane in range(8 // bits)]
    return np.concatenate(planes, axis=1)[:, :width].astype(np.uint8)


def _recurrent(frame: _Frame, levels: int) -> Decoded:
    """The sign of each number, then that of what is left, and so on, each times its own mean size (BEBR, without its training)."""

    def encode() -> np.ndarray:
        left, known = frame.rest.copy(), np.zeros_like(frame.rest)
        for _ in range(levels):
            sizes = np.abs(left).mean(axis=1, keepdims=True)
            part = np.where(left >= 0, sizes, -sizes)
            known += part
            left -= part
        return known

    known, seconds = _timed(encode)
    return frame.decoded(known, frame.turned.shape[1] * levels // 8 + 4 * levels, seconds, None)


def _ternary(frame: _Frame) -> Decoded:
    """−1, 0 or 1 for each number, times the mean size of those that aren't 0; two bits each."""

    def encode() -> tuple[np.ndarray, np.ndarray]:
        sizes = np.abs(frame.rest)
        kept = sizes > _KEPT * sizes.mean(axis=1, keepdims=True)
        codes = np.where(kept, np.sign(frame.rest), 0).astype(np.int8)
        scale = (sizes * kept).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
        return codes, scale.astype(np.float32)

    (codes, scale), seconds = _timed(encode)
    symbols = codes.astype(np.int64) + 1, 3
    return frame.decoded(codes * scale[:, None], frame.turned.shape[1] // 4 + 4, seconds, symbols)


def _faiss(rows: np.ndarray, factory: str, nbytes: int, metric: str) -> Decoded:
    index = faiss.index_factory(rows.shape[1], factory)
    index.train(rows)
    codes, seconds = _timed(lambda: index.sa_encode(rows))
    return Decoded(index.sa_decode(codes), nbytes, seconds, faiss=factory)


def _products(rows: np.ndarray, factory: str, parts: int, seed: int) -> Decoded:
    """Product quantisation: the nearest of 256 centroids for each part of a row."""
    index = faiss.index_factory(rows.shape[1], factory)
    inner = faiss.downcast_index(index.index) if factory.startswith("OPQ") else index
    inner.do_polysemous_training = False  # only searches by Hamming distance need it
    quantizer = inner.pq
    quantizer.cp.seed, quantizer.cp.min_points_per_centroid = 1 + seed, 1
    quantizer.cp.niter = _ROUNDS
    if factory.startswith("OPQ"):
        turn = faiss.downcast_VectorTransform(index.chain.at(0))
        turn.niter, turn.niter_pq = 3, 2
        turn.max_train_points = _TRAINED
    index.train(rows[:_TRAINED])
    codes, seconds = _timed(lambda: index.sa_encode(rows))
    symbols = codes.astype(np.int64)
    scan = f"PQ{parts}x4fs" if parts % 2 == 0 else None  # the rotation of OPQ is done once a query
    return Decoded(index.sa_decode(codes), parts, seconds, symbols=(symbols, 256), lists=symbols, faiss=scan)


def table(figures: Sequence[dict]) -> list[list[str]]:
    """Cells of a table, one row a code."""

    def cell(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        [
            one["name"], f"{one['bytes']:,}", f"{one['recall']:.4f}", *(f"{one['rescored'][most]:.4f}" for most in RESCORED),
            f"{one['encoded']:,.0f}", cell(one["scanned"], ".0f"), cell(one["entropy"], ".2f"), cell(one["imbalance"], ".2f"),
        ]
        for one in figures
    ]  # fmt: skip


HEAD = (
    "code",
    "bytes a row",
    f"recall@{K}",
    *(f"{most} rescored" for most in RESCORED),
    "rows/s encoded",
    "rows/µs scanned",
    "entropy",
    "imbalance",
)
