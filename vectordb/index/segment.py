"""A segment: the index of one dense field over a range of rows, in one file that is mapped and searched in place.

The file is derived from the rows' vectors and can be thrown away. It holds a header (msgpack, with the sections' places and checksums) and
sections that start on cache lines; FORMAT.md describes them. Rows lie in cluster order: ``docids`` says whose they are.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from ..errors import CorruptionError
from ..kernels import codes as kernel_codes
from ..kernels import segment as kernel
from ..kernels.codes import LINE, ROUNDS, pack_signs, rotate_rows, stride_of, words_of
from . import calibrate
from .flat import METRICS
from .graphs import FaissBuilder, Graph, HnswlibBuilder, blocks_of

MAGIC = b"VDBINDEX"
VERSION = 1
GRAPH_ROWS = 20_000  # below, a scan of codes is as fast as a graph
ROWS_A_CLUSTER = 200
MAX_CLUSTERS = 4_096
ROWS_LEARNED = 64  # rows a cluster that k-means sees
BLOCK = 65_536
_NO_BITS = np.zeros((1, 1), np.uint64)
_NO_COUNTS = np.zeros((1, 1), np.int32)
_head = struct.Struct("<8sIIQ")  # magic, version, bytes of the header's body, its checksum
# Checked by ``verify``; all others when a segment is opened. A damaged one of these costs recall, and nothing else: kernels don't trust
# links.
LARGE = frozenset({"codes", "signs", "graph", "bias"})


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

    n, dim = vectors.shape
    threads = options.threads or os.cpu_count() or 1
    rng = np.random.default_rng(options.seed)
    unit = metric == "cosine"
    flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, dim))
    sample = vectors[np.sort(rng.choice(n, min(n, max(ROWS_LEARNED * _clusters_of(n), 4_096)), replace=False))]
    mean = (
        _unit(sample).mean(axis=0, dtype=np.float64).astype(np.float32)
        if unit
        else sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    )
    rotated = np.empty_like(sample)
    rotate_rows(sample, unit, mean, flips, rotated)
    rotated = rotated[rng.permutation(len(rotated))]  # rows may come by topic or date: what is learned from a part must be learned from all
    code_step, error = _learned_step(rotated)
    reach = float(np.sqrt(np.einsum("ij,ij->i", rotated, rotated, dtype=np.float64).max()))
    step("clusters", 0.0)
    centroids = _centroids(rotated / np.float32(code_step), n, options.seed, threads)  # in steps: float32 squares of huge numbers overflow
    assigned, codes, bias = np.empty(n, np.int64), np.empty((n, stride_of(dim)), np.uint8), np.empty(n, np.float32)
    for low in range(0, n, BLOCK):
        block = np.empty((min(BLOCK, n - low), dim), np.float32)
        rotate_rows(vectors[low : low + BLOCK], unit, mean, flips, block)
        kernel_codes.encode_rows(block, np.float32(code_step), codes[low : low + BLOCK])
        assigned[low : low + BLOCK] = _nearest(block / np.float32(code_step), centroids)
        bias[low : low + BLOCK] = -np.einsum("ij,ij->i", block, block)
        step("codes", (low + len(block)) / n)
    order = np.argsort(assigned, kind="stable")
    place = np.empty(n, np.int32)  # where a row goes
    place[order] = np.arange(n, dtype=np.int32)
    arranged = _aligned_copy(codes[order])
    signs = _aligned_copy(np.zeros((-(-n // LINE), words_of(dim), LINE), np.uint64))
    pack_signs(arranged, dim, signs)
    centroids = centroids * np.float32(code_step)
    centroid_codes = np.empty((len(centroids), arranged.shape[1]), np.uint8)
    kernel_codes.encode_rows(centroids, np.float32(code_step), centroid_codes)
    first = int(docids[0])
    inverse = np.full(int(docids[-1]) - first + 1, -1, np.int32)
    inverse[docids.astype(np.int64) - first] = place
    sections = {
        "docids": docids[order].astype(np.uint32),
        "inverse": inverse,
        "codes": arranged,
        "signs": signs,
        "mean": mean,
        "flips": flips,
        "centroids": _aligned_copy(centroid_codes),
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(assigned, minlength=len(centroids)))]).astype(np.int32),
    }
    if metric == "l2":
        sections["bias"] = bias[order]
        sections["centroid_bias"] = -np.einsum("ij,ij->i", centroids, centroids).astype(np.float32)
    meta = {
        "rows": n,
        "dim": dim,
        "metric": metric,
        "first": first,
        "step": float(code_step),
        "code_error": float(error),
        "reach": reach,
        "options": {name: value for name, value in asdict(options).items() if name != "threads"},
    }
    # Some rows are left out of the graph until the plans are calibrated with them as queries: queries that the graph doesn't know.
    held = np.sort(rng.choice(n, min(calibrate.QUERIES if n >= GRAPH_ROWS else calibrate.FEW_QUERIES, n // 20), replace=False))
    if n >= GRAPH_ROWS:
        rest = np.setdiff1d(np.arange(n), held, assume_unique=True)
        builder = _builder(options, metric, vectors, codes, threads, len(rest), dim, step)
        source = _graph_source(metric, vectors, codes)
        for low, high in blocks_of(len(rest)):
            builder.add(source(rest[low:high]))
            step("graph", high / n)
        without = {**sections, **_arranged_graph(builder.export(), rest, place, n)}
        without_meta = meta | _graph_meta(without)
        builder.add(source(held))
        inserted = np.concatenate([rest, held])
        sections |= _arranged_graph(builder.export(), inserted, place, n)
        meta |= _graph_meta(sections)
        del builder
    else:
        without, without_meta = sections, meta
    step("calibration", 0.0)
    draft = Layout(without_meta, {name: array for name, array in without.items() if not name.startswith("_")})
    model = calibrate.calibrate(
        draft, vectors, docids, order, held, metric, options.seed, threads, lambda share: step("calibration", share)
    )
    sections |= model
    _write(path, meta, {name: array for name, array in sections.items() if not name.startswith("_")})


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


def _centroids(rotated: np.ndarray, rows: int, seed: int, threads: int) -> np.ndarray:
    """k-means by faiss on a sample: float32 ``(clusters, dim)``."""
    count, training = _clusters_of(rows), rotated
    if count == 1 or len(training) <= count:
        return np.clip(rotated, -127, 127).mean(axis=0, keepdims=True).astype(np.float32)
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        means = faiss.Kmeans(
            rotated.shape[1], count, niter=6, seed=seed + 1, min_points_per_centroid=1, max_points_per_centroid=ROWS_LEARNED, verbose=False
        )
        means.train(np.clip(training, -127, 127).astype(np.float32))
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


def _builder(options: Options, metric: str, vectors, codes, threads: int, rows: int, dim: int, step: Progress):
    step("graph", 0.0)
    source = _graph_source(metric, vectors, codes)
    width = source(np.zeros(1, np.int64)).shape[1]
    if options.graph_builder == "hnswlib":
        return HnswlibBuilder(width, len(vectors), options.degree, options.ef_construction, options.seed, threads)
    builder = FaissBuilder(width, metric != "dot", options.degree, options.ef_construction, options.seed, threads)
    builder.train(source(np.arange(0, len(vectors), max(len(vectors) // 20_000, 1))))
    return builder


def _arranged_graph(graph: Graph, inserted: np.ndarray, place: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """A graph over rows in insertion order, in the segment's order. Rows that aren't in it have no links."""
    where = np.append(place[inserted], np.int32(-1)).astype(np.int32)  # the last is for "none"
    links = np.full((n, graph.bottom.shape[1]), -1, np.int32)
    links[where[:-1]] = where[graph.bottom]
    return {
        "graph": _aligned_copy(links),
        "upper_rows": where[graph.upper_rows],
        "upper_offsets": graph.upper_offsets,
        "upper_links": graph.upper_links,
        "_entry": np.array([where[graph.entry_row], graph.entry_slot, graph.top_level], np.int64),
    }


def _graph_meta(sections: dict[str, np.ndarray]) -> dict:
    row, slot, level = sections["_entry"].tolist()
    return {"entry_row": row, "entry_slot": slot, "top_level": level}


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    raw = np.empty(array.nbytes + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _write(path: Path, meta: dict, sections: dict[str, np.ndarray]) -> None:
    places, at = {}, 0
    for name, array in sections.items():
        array = sections[name] = np.ascontiguousarray(array)
        places[name] = [at, array.dtype.str, list(array.shape), xxhash.xxh3_64_intdigest(array.reshape(-1).view(np.uint8))]
        at += -(-array.nbytes // LINE) * LINE
    body = msgspec.msgpack.encode({**meta, "sections": places})
    start = -(-(_head.size + len(body)) // LINE) * LINE
    with open(path, "wb") as file:
        file.write(_head.pack(MAGIC, VERSION, len(body), xxhash.xxh3_64_intdigest(body)) + body)
        for name, array in sections.items():
            file.seek(start + places[name][0])
            file.write(array.reshape(-1).view(np.uint8).data)
        file.truncate(start + at)
        file.flush()
        os.fsync(file.fileno())


class Layout:
    """Sections as kernels see them. Keeps the arrays alive whose addresses it holds."""

    def __init__(self, meta: dict, sections: dict[str, np.ndarray]):
        self.meta = meta
        self.sections = sections
        self.rows, self.dim, self.metric = meta["rows"], meta["dim"], meta["metric"]
        self.has_graph = "graph" in sections
        self.docids = sections["docids"]
        self.clusters = len(sections["centroids"])
        self.first = meta["first"]
        at = {name: array.ctypes.data for name, array in sections.items()}
        self.description = np.zeros(kernel.SEGMENT_WIDTH, np.int64)
        values = {
            kernel.ROWS: self.rows,
            kernel.DIM: self.dim,
            kernel.STRIDE: stride_of(self.dim),
            kernel.CODES: at["codes"],
            kernel.BIAS: at.get("bias", 0),
            kernel.SIGNS: at["signs"],
            kernel.WORDS: words_of(self.dim),
            kernel.CLUSTERS: self.clusters,
            kernel.CENTROIDS: at["centroids"],
            kernel.CENTROID_BIAS: at.get("centroid_bias", 0),
            kernel.OFFSETS: at["offsets"],
            kernel.DOCIDS_AT: at["docids"],
            kernel.MEAN: at["mean"],
            kernel.FLIPS: at["flips"],
            kernel.FLIP_ROUNDS: len(sections["flips"]),
            kernel.METRIC: METRICS[self.metric],
            kernel.STEP: _bits(meta["step"]),
            kernel.CODE_ERROR: _bits(meta["code_error"]),
            kernel.REACH: _bits(meta["reach"]),
        }
        if self.has_graph:
            values |= {
                kernel.GRAPH: at["graph"],
                kernel.DEGREE: sections["graph"].shape[1],
                kernel.UPPER_COUNT: len(sections["upper_rows"]),
                kernel.UPPER_ROWS: at["upper_rows"],
                kernel.UPPER_OFFSETS: at["upper_offsets"],
                kernel.UPPER_LINKS: at["upper_links"],
                kernel.UPPER_SIZE: sections["upper_links"].size,
                kernel.ENTRY_ROW: meta["entry_row"],
                kernel.ENTRY_SLOT: meta["entry_slot"],
                kernel.TOP_LEVEL: meta["top_level"],
            }
        for column, value in values.items():
            self.description[column] = value


def _bits(number: float) -> int:
    """A float64's bits as an integer."""
    return int(np.array(number, np.float64).view(np.int64))


class Segment(Layout):
    """A segment's mapped file.

    rows, dim, metric, nbytes, has_graph; docids: uint32 ``(rows,)`` in the segment's own order.
    """

    def __init__(self, path: Path, meta: dict, sections: dict[str, np.ndarray], nbytes: int, map_: mmap.mmap):
        super().__init__(meta, sections)
        self.path = path
        self.nbytes = nbytes
        self._map = map_
        self.models = calibrate.models_of(sections)
        self.offsets, self.inverse = sections["offsets"], sections["inverse"]
        self.corrections = calibrate.Corrections()
        self.all_allowed = Allowed(self, None)

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map a file. Raises FileNotFoundError, and CorruptionError when what is checked now (all but the large sections) is damaged."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _head.size:
                raise _damaged(path, f"has {size} bytes")
            # A private mapping: nothing writes to it, but kernels are compiled for arrays that could be written to.
            map_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        magic, version, length, digest = _head.unpack_from(map_)
        body = map_[_head.size : _head.size + length] if length < size else b""
        if magic != MAGIC or version != VERSION or xxhash.xxh3_64_intdigest(body) != digest:
            raise _damaged(path, "has no valid header")
        meta = msgspec.msgpack.decode(body)
        places = meta.pop("sections")
        start = -(-(_head.size + length) // LINE) * LINE
        whole = np.frombuffer(map_, np.uint8)
        sections = {}
        for name, (at, dtype, shape, digest) in places.items():
            nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raw = whole[start + at : start + at + nbytes]
            if len(raw) != nbytes or (name not in LARGE and xxhash.xxh3_64_intdigest(raw) != digest):
                raise _damaged(path, f"section {name!r} is cut off or fails its checksum")
            sections[name] = raw.view(dtype).reshape(shape)
        found = cls(path, meta, sections, size, map_)
        found._digests = {name: digest for name, (_, _, _, digest) in places.items()}
        return found

    def verify(self) -> None:
        """Read everything. Raises CorruptionError naming the section that fails its checksum."""
        for name, array in self.sections.items():
            if xxhash.xxh3_64_intdigest(array.reshape(-1).view(np.uint8)) != self._digests[name]:
                raise _damaged(self.path, f"section {name!r} fails its checksum")


class Allowed:
    """The rows of a segment that may be found: all of them, or those with a bit set in ``bits`` (uint64 ``(1, words)``).

    counts: int32 ``(1, clusters)``, how many of each cluster; matches: int64 ``(1,)``, of all.
    """

    __slots__ = ("bits", "counts", "filtered", "matches", "nbytes")

    def __init__(self, segment: Segment, docids: np.ndarray | None):
        """docids: uint32, ascending; those of other segments are passed over. None allows every row."""
        self.filtered = docids is not None
        if docids is None:
            self.bits, self.counts = _NO_BITS, _NO_COUNTS
            self.matches = np.array([segment.rows], np.int64)
        else:
            low, high = np.searchsorted(docids, [segment.first, segment.first + len(segment.inverse)])
            self.bits = np.zeros((1, -(-segment.rows // 64)), np.uint64)
            self.counts = np.zeros((1, segment.clusters), np.int32)
            kernel.local_bits(docids[low:high], segment.inverse, segment.first, self.bits[0])
            total = kernel.passing_of_clusters(self.bits[0], segment.offsets, self.counts[0])
            self.matches = np.array([total], np.int64)
            if total == segment.rows:
                self.filtered = False
        self.nbytes = self.bits.nbytes + self.counts.nbytes + 256


def _damaged(path: Path, what: str) -> CorruptionError:
    return CorruptionError(f"index file {path} {what}", field="index", value=str(path))
