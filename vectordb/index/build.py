"""Build a segment's file from the vectors of its rows: learn, encode, arrange, link, calibrate, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..kernels.codes import LINE, ROUNDS, ZERO, encode_rows, pack_signs, rotate_rows, stride_of, words_of
from . import calibrate
from .graphs import FaissBuilder, Graph, HnswlibBuilder, blocks_of
from .scratch import aligned_copy
from .segment import Layout, write

GRAPH_ROWS = 20_000  # below, a scan of codes is as fast as a graph
ROWS_A_CLUSTER = 200
MAX_CLUSTERS = 4_096
ROWS_LEARNED = 64  # rows a cluster that k-means sees
BLOCK = 65_536


@dataclass(frozen=True)
class Options:
    """How a segment is built. degree: links of a row in an upper layer, twice as many in the bottom one. threads: 0 means all cores; with
    1 the same rows and seed give the same file.
    """

    graph_builder: str = "faiss"
    degree: int = 16
    ef_construction: int = 80
    seed: int = 0
    threads: int = 0

    def kept(self) -> dict[str, str | int]:
        """What a file says of how it was built."""
        return {name: value for name, value in asdict(self).items() if name != "threads"}


class Cancelled(Exception):
    """The build was told to stop."""


Progress = Callable[[str, float], None]


def build(
    path: Path,
    vectors: np.ndarray,
    docids: np.ndarray,
    metric: str,
    options: Options,
    progress: Progress = lambda stage, share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Index vectors (float32 ``(n, dim)``, n ≥ 1) of rows ``docids`` (uint32, ascending) into a new file, synced.

    Raises Cancelled soon after ``cancelled()`` turns true, and OSError.
    """

    def step(stage: str, share: float) -> None:
        if cancelled():
            raise Cancelled(stage)
        progress(stage, share)

    n = len(vectors)
    threads = options.threads or os.cpu_count() or 1
    rng = np.random.default_rng(options.seed)
    frame = _Frame.learned(vectors, metric == "cosine", rng)
    step("clusters", 0.0)
    centroids = _centroids(frame, n, options.seed, threads)
    codes, lengths, assigned, lacking = _encoded(frame, vectors, centroids, step)
    order = np.argsort(assigned, kind="stable")
    place = np.empty(n, np.int32)  # where a row goes
    place[order] = np.arange(n, dtype=np.int32)
    sections = _arranged(frame, docids, codes, lengths, assigned, centroids, order, place, metric) | {"lacking": lacking[order]}
    meta = {
        "rows": n,
        "dim": vectors.shape[1],
        "metric": metric,
        "first": int(docids[0]),
        "step": float(frame.step),
        "code_error": frame.error,
        "reach": frame.reach,
        "longest": float(np.sqrt(lengths.max(), dtype=np.float64)),
        "options": options.kept(),
    }
    # Some rows are left out of the graph until the plans are calibrated with them as queries: queries that the graph doesn't know.
    linked = n >= GRAPH_ROWS
    held = np.sort(rng.choice(n, min(calibrate.QUERIES if linked else calibrate.FEW_QUERIES, n // 20), replace=False))
    drafts = _graphs(options, metric, vectors, codes, held, place, threads, step) if linked else iter([({}, {})] * 2)
    links, entry = next(drafts)
    step("calibration", 0.0)
    draft = Layout(meta | entry, sections | links)
    model = calibrate.calibrate(
        draft, vectors, docids, order, held, metric, options.seed, threads, lambda share: step("calibration", share)
    )
    links, entry = next(drafts)
    write(path, meta | entry, sections | links | model)


@dataclass(frozen=True)
class _Frame:
    """How vectors become codes, as a sample taught it.

    step: the width of a code. error: the root of the mean squared error of a number's code. reach: the longest rotated vector. sample: what
    it was learned from, rotated, in steps, in random order.
    """

    unit: bool
    mean: np.ndarray
    flips: np.ndarray
    step: np.float32
    error: float
    reach: float
    sample: np.ndarray

    @classmethod
    def learned(cls, vectors: np.ndarray, unit: bool, rng: np.random.Generator) -> _Frame:
        n, dim = vectors.shape
        flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, dim))
        # Rows may come by topic or date: what is learned from a part must be learned from all of them.
        rows = rng.choice(n, min(n, max(ROWS_LEARNED * _clusters_of(n), 4_096)), replace=False)
        sample = vectors[np.sort(rows)]
        mean = (_unit(sample) if unit else sample).mean(axis=0, dtype=np.float64).astype(np.float32)
        rotated = np.empty_like(sample)
        rotate_rows(sample, unit, mean, flips, rotated)
        rotated = rotated[rng.permutation(len(rotated))]
        step, error = _learned_step(rotated)
        reach = float(np.sqrt(np.einsum("ij,ij->i", rotated, rotated, dtype=np.float64).max()))
        return cls(unit, mean, flips, np.float32(step), error, reach, rotated / np.float32(step))

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors in the frame, float32 ``(n, dim)``."""
        out = np.empty((len(vectors), vectors.shape[1]), np.float32)
        rotate_rows(vectors, self.unit, self.mean, self.flips, out)
        return out


def _encoded(frame: _Frame, vectors: np.ndarray, centroids: np.ndarray, step: Progress) -> tuple[np.ndarray, ...]:
    """Of every row: codes (uint8 ``(n, stride)``), squared length in the frame, nearest centroid, and the length of what its codes lack."""
    n, dim = vectors.shape
    lacking = np.empty(n, np.float32)
    codes, lengths, assigned = np.empty((n, stride_of(dim)), np.uint8), np.empty(n, np.float32), np.empty(n, np.int64)
    for low in range(0, n, BLOCK):
        block = frame.rotated(vectors[low : low + BLOCK])
        encode_rows(block, frame.step, codes[low : low + BLOCK])
        lengths[low : low + BLOCK] = np.einsum("ij,ij->i", block, block)
        gaps = block - (codes[low : low + BLOCK, :dim].astype(np.float32) - ZERO) * frame.step
        lacking[low : low + BLOCK] = np.sqrt(np.einsum("ij,ij->i", gaps, gaps))
        assigned[low : low + BLOCK] = _nearest(block / frame.step, centroids)
        step("codes", (low + len(block)) / n)
    return codes, lengths, assigned, lacking


def _arranged(frame, docids, codes, lengths, assigned, centroids, order, place, metric) -> dict[str, np.ndarray]:
    """The sections of rows and clusters, in cluster order."""
    n, dim = len(docids), len(frame.mean)
    arranged = aligned_copy(codes[order])
    signs = aligned_copy(np.zeros((-(-n // LINE), words_of(dim), LINE), np.uint64))
    pack_signs(arranged, dim, signs)
    middles = centroids * frame.step
    centroid_codes = np.empty((len(centroids), arranged.shape[1]), np.uint8)
    encode_rows(middles, frame.step, centroid_codes)
    first = int(docids[0])
    inverse = np.full(int(docids[-1]) - first + 1, -1, np.int32)
    inverse[docids.astype(np.int64) - first] = place
    sections = {
        "docids": docids[order].astype(np.uint32),
        "inverse": inverse,
        "codes": arranged,
        "signs": signs,
        "mean": frame.mean,
        "flips": frame.flips,
        "centroids": aligned_copy(centroid_codes),
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(assigned, minlength=len(centroids)))]).astype(np.int32),
    }
    if metric == "l2":
        sections["bias"] = -lengths[order]
        sections["centroid_bias"] = -np.einsum("ij,ij->i", middles, middles).astype(np.float32)
    return sections


def _graphs(options, metric, vectors, codes, held, place, threads, step) -> Iterator[tuple[dict, dict]]:
    """(sections, what the header says of them) of the graph without the held rows, then of the whole one."""
    step("graph", 0.0)
    n = len(vectors)
    rest = np.setdiff1d(np.arange(n), held, assume_unique=True)
    source = _graph_source(metric, vectors, codes)
    builder = _builder(options, metric != "dot", source, n, threads)
    for low, high in blocks_of(len(rest)):
        builder.add(source(rest[low:high]))
        step("graph", high / n)
    yield _arranged_graph(builder.export(), rest, place)
    builder.add(source(held))
    yield _arranged_graph(builder.export(), np.concatenate([rest, held]), place)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _learned_step(rotated: np.ndarray) -> tuple[float, float]:
    """The step that makes the least squared error on a sample, among some that cut the largest numbers off; and that error's root."""
    sample = rotated[:4096]
    largest = max(float(np.abs(sample).max()), 127 * float(np.finfo(np.float32).tiny))
    best = (np.inf, largest / 127)
    for share in (1.0, 0.85, 0.7, 0.6, 0.5, 0.4):
        step = largest * share / 127
        rounded = np.clip(np.rint(sample / step), -127, 127) * step
        best = min(best, (float(np.square(sample - rounded).mean()), step))
    return best[1], float(np.sqrt(best[0]))


def _clusters_of(rows: int) -> int:
    """How many clusters a segment has."""
    return int(min(MAX_CLUSTERS, max(1, min(rows // ROWS_A_CLUSTER, 2 * np.sqrt(rows)))))


def _centroids(frame: _Frame, rows: int, seed: int, threads: int) -> np.ndarray:
    """k-means by faiss on the sample: float32 ``(clusters, dim)``, in steps (float32 squares of huge numbers would overflow)."""
    count = _clusters_of(rows)
    training = np.clip(frame.sample, -127, 127).astype(np.float32)
    if count == 1 or len(training) <= count:
        return training.mean(axis=0, keepdims=True)
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        means = faiss.Kmeans(
            training.shape[1], count, niter=6, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=ROWS_LEARNED, verbose=False
        )
        means.train(training)
    finally:
        faiss.omp_set_num_threads(before)
    return np.ascontiguousarray(means.centroids, np.float32)


def _nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row."""
    if len(centroids) == 1:
        return np.zeros(len(rows), np.int64)
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    found = np.empty(len(rows), np.int64)
    for low in range(0, len(rows), 8_192):
        found[low : low + 8_192] = np.argmin(lengths - 2 * (rows[low : low + 8_192] @ centroids.T), axis=1)
    return found


def _graph_source(metric: str, vectors: np.ndarray, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What the graph is built over, float32, by squared distance: the codes; for dot the vectors with one more number, which makes the
    nearest those of the highest inner product (Bachrach et al. 2014).
    """
    if metric != "dot":
        width = -(-vectors.shape[1] // 16) * 16
        return lambda rows: codes[rows, : min(width, codes.shape[1])].astype(np.float32)
    largest = np.float32(max(float(vectors.max()), -float(vectors.min())) or 1.0)
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    extra = (np.sqrt(squares.max() - squares) / largest).astype(np.float32)
    return lambda rows: np.concatenate([vectors[rows] / largest, extra[rows, None]], axis=1)


def _builder(options: Options, bytes_: bool, source: Callable[[np.ndarray], np.ndarray], rows: int, threads: int):
    """The library that builds the graph, ready to add rows."""
    width = source(np.zeros(1, np.int64)).shape[1]
    if options.graph_builder == "hnswlib":
        return HnswlibBuilder(width, rows, options.degree, options.ef_construction, options.seed, threads)
    builder = FaissBuilder(width, bytes_, options.degree, options.ef_construction, options.seed, threads)
    builder.train(source(np.arange(0, rows, max(rows // 20_000, 1))))
    return builder


def _arranged_graph(graph: Graph, inserted: np.ndarray, place: np.ndarray) -> tuple[dict, dict]:
    """A graph over rows in insertion order, in the segment's order. Rows that aren't in it have no links."""
    where = np.append(place[inserted], np.int32(-1)).astype(np.int32)  # the last is for "none"
    links = np.full((len(place), graph.bottom.shape[1]), -1, np.int32)
    links[where[:-1]] = where[graph.bottom]
    sections = {
        "graph": aligned_copy(links),
        "upper_rows": where[graph.upper_rows],
        "upper_offsets": graph.upper_offsets,
        "upper_links": graph.upper_links,
    }
    return sections, {"entry_row": int(where[graph.entry_row]), "entry_slot": graph.entry_slot, "top_level": graph.top_level}
