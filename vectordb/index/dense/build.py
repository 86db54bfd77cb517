"""Build the index file of a dense segment: learn the quantisation, cluster and encode the rows, build the graph, calibrate the plans,
write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from vectordb_client.model.fields.dense import USUAL_DEGREE, USUAL_EF_CONSTRUCTION

from ...common import background
from ...kernels.codes import encode_rows, stride_of
from ..base import BuildOptions, Codec, Progress, RowSource, inverse_of, stepper
from ..file import write
from ..scratch import aligned_copy
from . import calibrate, linking
from .codecs import CODECS, ByteCodes
from .frame import BLOCK, UNSEEN, Frame, usable
from .graphs import FaissBuilder, Graph, HnswlibBuilder, blocks_of, of_library
from .linking import Layout, Linker
from .pieces import copied, in_pieces
from .principal import PrincipalCodes
from .segment import DenseSegment

# Constants: unit and meaning, then the source in brackets. [P1]: checked by the suite "planner" of 22 November 2026, commits 2160b5a to
# e96a019. [float]: from the range of the type. [chosen]: chosen, not measured.
GRAPH_ROWS = 20_000  # rows; smaller segments get no graph, because a scan of codes is as fast [P1]
ROWS_A_CLUSTER = 200  # rows per cluster, on average; large segments have more [P1]
MAX_CLUSTERS = 4_096  # clusters [P1]
ROWS_LEARNED = 64  # rows per cluster in the sample for k-means [P1]
LEAST_LEARNED = 4_096  # rows in that sample, at least [chosen]
TRIES = 16  # rows drawn for each calibration query, from which duplicates are removed [chosen]
ENCODED = 2_048  # rows that are encoded at a time: what is made of them stays in the cache [chosen]
FARTHEST = 1e6  # steps; larger numbers are clipped before they are squared. Only rows that are kept apart have such numbers [float]


@dataclass(frozen=True)
class Options(BuildOptions):
    """How a segment is built. degree: links of a row in an upper layer of the graph (M of HNSW); the bottom layer has twice as many.
    ef_construction: candidates for the links of a new row. None: as the data needs it. threads: 0 means all cores; with 1, the same rows
    and seed give the same file, except for what the calibration measured.
    """

    graph_builder: str = "vamana"
    degree: int | None = None
    ef_construction: int | None = None
    seed: int = 0
    threads: int = 0

    def sizes(self) -> tuple[int, int]:
        """(degree, ef_construction) that a graph is begun with."""
        degree = self.degree or USUAL_DEGREE
        return degree, self.ef_construction or max(USUAL_EF_CONSTRUCTION, degree)


def options_of(spec: Any) -> Options:
    """The options of a field's definition."""
    return Options(spec.index.graph_builder, spec.index.degree, spec.index.ef_construction)


def build_rows(path: Path, rows: RowSource, spec: Any, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """``IndexKind.build``: copy the vectors of a dense field and index them."""
    vectors = copied(rows, spec.dim, stepper(progress, cancelled))
    build(path, vectors, rows.docids, spec.metric, options_of(spec), progress, cancelled)


def build(
    path: Path,
    vectors: np.ndarray,
    docids: np.ndarray,
    metric: str,
    options: Options,
    progress: Progress = lambda stage, share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Index vectors (float32 ``(n, dim)``, n ≥ 1) of rows ``docids`` (uint32, ascending) into a new file and sync it.

    ``vectors`` is overwritten if some rows have to be kept apart (outliers, which get no code). progress: called with a stage and the share
    of it that is done, 0 … 1. Raises Cancelled soon after ``cancelled()`` returns true, StorageError when a library fails to build a part
    of the index, and OSError.
    """
    step = stepper(progress, cancelled)
    threads = options.threads or background.cores()
    rng = np.random.default_rng(options.seed)
    good = usable(vectors, metric == "cosine")
    if not good.any():
        # A file must hold at least one row. Its code is meaningless, but the only row is always scored at full precision.
        good[0], vectors[0] = True, 0
    vectors, docids, unusable = _parted(vectors, docids, good)
    frame = Frame.learned(vectors, metric, max(ROWS_LEARNED * _clusters_of(len(vectors)), LEAST_LEARNED), rng)
    step("clusters", 0.0)
    centroids = _centroids(frame, len(vectors), options.seed, threads)
    codecs = {}
    for name, kind in CODECS.items():
        codec = kind.train(frame, len(vectors)) if len(vectors) >= GRAPH_ROWS or not kind.of_graph else None
        if codec is not None:
            codecs[name] = codec
    assigned, distances = code_all(frame, vectors, centroids, codecs.values(), threads, step)
    byte = cast(ByteCodes, codecs[ByteCodes.name])
    distances += np.square(byte.lengths / frame.step)
    near = byte.lengths <= frame.limit
    kept = np.flatnonzero(near)
    vectors, docids, far = _parted(vectors, docids, near)
    assigned, codes, distances = (each if near.all() else each[kept] for each in (assigned, byte.codes, distances))
    apart = {name: np.concatenate([unusable[name], far[name]]) for name in far}
    n = len(vectors)
    order = np.argsort(assigned, kind="stable")
    place = np.empty(n, np.int32)  # the position of each row in cluster order
    place[order] = np.arange(n, dtype=np.int32)
    sections = _arranged(frame, docids[order].astype(np.uint32), assigned, centroids)
    meta = {
        "rows": n,
        "dim": vectors.shape[1],
        "metric": metric,
        "first": int(docids[0]),
        "codecs": list(codecs),
        "options": options.kept(),
        "limit": frame.limit,
    }
    for codec in codecs.values():
        encoded, entries = codec.arranged(kept[order], sections)
        sections |= encoded
        meta |= entries
    if len(apart["docids"]):
        sections["apart"] = np.sort(apart["docids"])
        meta["apart_longest"] = float(apart["lengths"].max())
    # Some rows serve as calibration queries. They are added to the graph after the calibration, so that it measures queries that are not in
    # the graph.
    linked = n >= GRAPH_ROWS
    held = different(vectors, _unseen(frame, kept), min(calibrate.QUERIES if linked else calibrate.FEW_QUERIES, n // UNSEEN), rng)
    drafts: Iterator[tuple[dict, dict]] = iter([({}, {})] * 2)
    if linked:
        medoids = sections["medoids"] = _medoids(assigned, distances, held, place, len(centroids))
        if options.graph_builder == "vamana":
            near, width = linked_by(sections, meta)
            lifts = lifts_of(vectors)[order] / width if metric == "dot" else np.zeros(0)
            layout = Layout(near, sections["offsets"], medoids, centroids, lifts.astype(np.float32))
            drafts = _linked(options, layout, place[held], threads, step)
        else:
            drafts = _graphs(options, metric, vectors, codes, held, place, threads, step)
    links, entry = next(drafts)
    step("calibration", 0.0)
    draft = DenseSegment(meta | entry, sections | links)
    model, meta["cold"] = calibrate.calibrate(
        draft, vectors, docids, order, held, options.seed, threads, lambda share: step("calibration", share)
    )
    links, entry = next(drafts)
    write(path, meta | entry, sections | links | model)


def _unseen(frame: Frame, kept: np.ndarray) -> np.ndarray:
    """Which of the rows that were kept the quantisation and the clusters were not learned from, int64. A row that was is nearer to its
    centroid than a new query would be, so plans that search the nearest clusters would seem to find more.
    """
    return np.flatnonzero(~np.isin(kept, frame.seen))


def different(vectors: np.ndarray, among: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to ``count`` random rows of ``among``, ascending, without duplicate vectors: repeating a query measures nothing new."""
    some = among[rng.permutation(len(among))[: TRIES * count]]
    _, first = np.unique(vectors[some], axis=0, return_index=True)
    return np.sort(some[np.sort(first)[:count]])


def code_all(
    frame: Frame, vectors: np.ndarray, centroids: np.ndarray, codecs: Collection[Codec], threads: int, step: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Encode all rows with each codec. Returns (the nearest centroid of each row, int64; its squared distance in steps, less the row's own
    squared length, float64).
    """
    assigned, distances = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float64)

    def encode(low: int, high: int) -> None:
        block = frame.rotated(vectors[low:high])
        for codec in codecs:
            codec.encode_rows(low, block)
        assigned[low:high], distances[low:high] = _nearest(np.clip(block / frame.step, -FARTHEST, FARTHEST), centroids)

    in_pieces(len(vectors), ENCODED, threads, encode, lambda high: step("codes", high / max(len(vectors), 1)))
    return assigned, distances


def _parted(vectors: np.ndarray, docids: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(vectors, docids, {docids and lengths of the others}) of the rows to keep. Vectors are compacted in place: they may take
    gigabytes.
    """
    others = vectors[~kept].astype(np.float64)
    parted = {"docids": docids[~kept], "lengths": np.sqrt(np.einsum("ij,ij->i", others, others))}
    if not len(others):
        return vectors, docids, parted
    count = 0
    for low in range(0, len(vectors), BLOCK):
        block = vectors[low : low + BLOCK][kept[low : low + BLOCK]]
        vectors[count : count + len(block)] = block
        count += len(block)
    return vectors[:count], np.ascontiguousarray(docids[kept]), parted


def _arranged(frame: Frame, docids: np.ndarray, assigned: np.ndarray, centroids: np.ndarray) -> dict[str, np.ndarray]:
    """The sections that describe rows and clusters. docids: in cluster order."""
    middles = centroids * frame.step
    codes = np.empty((len(centroids), stride_of(len(frame.mean))), np.uint8)
    encode_rows(middles, frame.step, codes)
    sections = {
        "docids": docids,
        "inverse": inverse_of(docids),
        "mean": frame.mean,
        "flips": frame.flips,
        "centroids": aligned_copy(codes),
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(assigned, minlength=len(centroids)))]).astype(np.int32),
    }
    if frame.metric == "l2":
        sections["centroid_bias"] = -np.einsum("ij,ij->i", middles, middles).astype(np.float32)
    return sections


def linked_by(sections: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """(the codes by whose distances a graph is linked, their step): those that searches of it read."""
    if PrincipalCodes.name in sections:
        return sections[PrincipalCodes.name], meta["principal_step"]
    return sections["codes"], meta["step"]


def _linked(options: Options, layout: Layout, held: np.ndarray, threads: int, step: Progress) -> Iterator[tuple[dict, dict]]:
    """(sections, header entries) of the graph without the held-out rows (int32, in cluster order), then of the whole graph."""
    step("graph", 0.0)
    linker = Linker(layout, *options.sizes(), threads, step)
    linker.link_medoids()
    n, medoids = len(layout.codes), layout.medoids[layout.medoids >= 0]
    rest = np.setdiff1d(np.arange(n, dtype=np.int32), held)
    linker.insert(np.random.default_rng(options.seed).permutation(np.setdiff1d(rest, medoids)), len(medoids))
    if options.degree is None and options.ef_construction is None and len(held):
        recall = linker.recall(held)
        how = next((each for each in linking.REFINEMENTS if recall < each.below), None)
        if how is not None:
            linker.refine(rest, how)
    yield linker.sections(), linker.entries()
    linker.step = lambda stage, share: step("calibration", 1.0)  # few rows: not worth telling
    linker.insert(held, n - len(held))
    linker.adopt()
    yield linker.sections(), linker.entries()


def _graphs(options, metric, vectors, codes, held, place, threads, step) -> Iterator[tuple[dict, dict]]:
    """(sections, header entries) of the graph without the held-out rows, then of the whole graph."""
    step("graph", 0.0)
    n = len(vectors)
    rest = np.setdiff1d(np.arange(n), held, assume_unique=True)
    source = _graph_source(metric, vectors, codes)
    with of_library(options.graph_builder):
        builder = _builder(options, metric != "dot", source, n, threads)
        for low, high in blocks_of(len(rest)):
            builder.add(source(rest[low:high]))
            step("graph", high / n)
        graph = builder.export()
    yield _arranged_graph(graph, rest, place)
    with of_library(options.graph_builder):
        builder.add(source(held))
        graph = builder.export()
    yield _arranged_graph(graph, np.concatenate([rest, held]), place)


def _clusters_of(rows: int) -> int:
    """The number of clusters of a segment."""
    return int(min(MAX_CLUSTERS, max(1, min(rows // ROWS_A_CLUSTER, 2 * np.sqrt(rows)))))


def _centroids(frame: Frame, rows: int, seed: int, threads: int) -> np.ndarray:
    """The centroids: k-means of faiss on the sample, float32 ``(clusters, dim)``, in units of the step, so that no square overflows."""
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
        with of_library("faiss"):
            means.train(training)
    finally:
        faiss.omp_set_num_threads(before)
    return np.ascontiguousarray(means.centroids, np.float32)


def _nearest(rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the nearest centroid of each row; its squared distance, less the row's own squared length)."""
    lengths = np.einsum("ij,ij->i", centroids, centroids)
    apart = lengths - 2 * (rows @ centroids.T)
    nearest = np.argmin(apart, axis=1)
    return nearest, np.take_along_axis(apart, nearest[:, None], axis=1)[:, 0]


def _medoids(assigned: np.ndarray, distances: np.ndarray, held: np.ndarray, place: np.ndarray, clusters: int) -> np.ndarray:
    """The row nearest to each centroid, of those assigned to it, int32 ``(clusters,)``; −1 where there is none. Searches of the graph
    begin at these rows, so none of the held-out rows is one: the graph that is calibrated doesn't have them.
    """
    linked = np.ones(len(assigned), np.bool_)
    linked[held] = False
    rows = np.flatnonzero(linked)
    rows = rows[np.lexsort((distances[rows], assigned[rows]))]
    found, first = np.unique(assigned[rows], return_index=True)
    medoids = np.full(clusters, -1, np.int32)
    medoids[found] = place[rows[first]]
    return medoids


def _graph_source(metric: str, vectors: np.ndarray, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to the float32 vectors that the graph is built over, by squared Euclidean distance. These are the byte codes.
    For dot they are the vectors with one more dimension, which turns maximum inner product into nearest neighbour (Bachrach et al. 2014).
    """
    if metric != "dot":
        width = -(-vectors.shape[1] // 16) * 16
        return lambda rows: codes[rows, : min(width, codes.shape[1])].astype(np.float32)
    largest = np.float32(max(float(vectors.max()), -float(vectors.min())) or 1.0)
    extra = (lifts_of(vectors) / largest).astype(np.float32)
    return lambda rows: np.concatenate([vectors[rows] / largest, extra[rows, None]], axis=1)


def lifts_of(vectors: np.ndarray) -> np.ndarray:
    """The number that, as one more dimension, brings each vector to the length of the longest, float64 ``(n,)``."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares.max() - squares)


def _builder(options: Options, bytes_: bool, source: Callable[[np.ndarray], np.ndarray], rows: int, threads: int):
    """A trained builder of the graph."""
    width = source(np.zeros(1, np.int64)).shape[1]
    degree, ef = options.sizes()
    if options.graph_builder == "hnswlib":
        return HnswlibBuilder(width, rows, degree, ef, options.seed, threads)
    builder = FaissBuilder(width, bytes_, degree, ef, options.seed, threads)
    builder.train(source(np.arange(0, rows, max(rows // 20_000, 1))))
    return builder


def _arranged_graph(graph: Graph, inserted: np.ndarray, place: np.ndarray) -> tuple[dict, dict]:
    """(sections, header entries): a graph whose rows were numbered by insertion, renumbered to cluster order. Rows that are not in the
    graph have no links.
    """
    where = np.append(place[inserted], np.int32(-1)).astype(np.int32)  # the last element maps −1, "no link", to itself
    links = np.full((len(place), graph.bottom.shape[1]), -1, np.int32)
    links[where[:-1]] = where[graph.bottom]
    sections = {
        "graph": aligned_copy(links),
        "upper_rows": where[graph.upper_rows],
        "upper_offsets": graph.upper_offsets,
        "upper_links": graph.upper_links,
    }
    return sections, {"entry_row": int(where[graph.entry_row]), "entry_slot": graph.entry_slot, "top_level": graph.top_level}
