"""Build the index file of a segment of a multi-vector field: learn the step of the byte codes, encode the vectors, make the lists,
calibrate.

The vectors are read three times, block by block, because there may be more than memory holds: for a sample; to be encoded; and for the
exact scores of the calibration. Codes and labels of all vectors are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common import background
from ...kernels.codes import ROUNDS, encode_rows
from ...kernels.maxsim import width_of
from ..base import BuildOptions, Progress, RowSource, inverse_of, stepper
from ..dense.pieces import in_pieces
from ..file import write
from .calibrate import QUERIES, Calibration
from .centroids import SAMPLED, Centroids, count_for, lists_of
from .far import MADE, made_queries
from .sample import Sample, sampled
from .segment import MultiSegment, rotated

# Constants: unit and meaning. Chosen, not measured.
LEAST_VECTORS, LEAST_ROWS = 32_768, 512  # smaller segments get no lists: a scan of the byte codes is as fast
ENCODED = 4_096  # vectors that are encoded in one call
STEP_ROWS = 65_536  # vectors of the sample that the step is learned from; of these, the longest
LONGEST = 0.02  # share of them that counts as the longest
CLIPPED = 0.9999  # quantile of their numbers beyond which numbers are clipped
SMALLEST = 127 * float(np.finfo(np.float32).tiny)  # the smallest range of numbers that can be divided into 127 steps


@dataclass(frozen=True)
class Options(BuildOptions):
    """How a segment is built. centroids: as in ``TokenLists``. threads: 0 means all cores."""

    centroids: int | None = None
    seed: int = 0
    threads: int = 0


def options_of(spec: Any) -> Options:
    """The options of a field's definition."""
    return Options(spec.index.centroids)


def build_rows(path: Path, rows: RowSource, spec: Any, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """``IndexKind.build`` of a multi-vector field."""
    build(path, rows, spec, options_of(spec), progress, cancelled)


def build(
    path: Path,
    rows: RowSource,
    spec: Any,
    options: Options,
    progress: Progress = lambda stage, share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Index the rows of a source into a new file and sync it. Raises as ``IndexKind.build``."""
    step, rng = stepper(progress, cancelled), np.random.default_rng(options.seed)
    threads, unit = options.threads or background.cores(), spec.metric == "cosine"
    sample = sampled(rows, spec.dim, unit, QUERIES, rng, step)
    near = sample.split()
    flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, spec.dim))
    width = _learned_step(sample.vectors, unit, flips)
    starts = np.concatenate([[0], np.cumsum(sample.sizes[near])])
    codes = _encoded(rows, near, int(starts[-1]), unit, flips, width, threads, step)
    docids = rows.docids[near].astype(np.uint32)
    meta = {
        "kind": "multi",
        "rows": len(docids),
        "first": int(docids[0]),
        "dim": spec.dim,
        "metric": spec.metric,
        "aggregation": spec.aggregation,
        "step": float(width),
        "longest": 1.0 if unit else float(sample.lengths[near].max()),
        "options": options.kept(),
    }
    sections = {"docids": docids, "inverse": inverse_of(docids), "starts": starts, "codes": codes, "flips": flips}
    if not near.all():
        sections["apart"] = rows.docids[~near].astype(np.uint32)
    if options.centroids is not None or (len(codes) >= LEAST_VECTORS and len(docids) >= LEAST_ROWS):
        sections |= _lists(sample, unit, flips, width, starts, codes, options, threads, step)
    made = made_queries(sample.vectors, unit, MADE, rng)
    sample.vectors = sample.vectors[:0]
    calibration = Calibration(MultiSegment(meta, sections), _queries(sample, near), made, options.seed, step)
    calibration.score(rows, near, spec, step)
    rows.release()
    found, model = calibration.models(threads, step)
    write(path, meta | found, sections | model)


def _learned_step(sample: np.ndarray, unit: bool, flips: np.ndarray) -> np.float32:
    """The step of the codes, by the longest vectors of the sample: under dot products these are the ones that are found."""
    vectors = sample[:STEP_ROWS]
    if not unit:
        lengths = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        vectors = vectors[lengths >= np.quantile(lengths, 1 - LONGEST, method="lower")]
    numbers = np.abs(rotated(vectors, unit, flips))
    return np.float32(max(float(np.quantile(numbers, CLIPPED)), SMALLEST) / 127)


def _encoded(
    rows: RowSource, near: np.ndarray, total: int, unit: bool, flips: np.ndarray, width: np.float32, threads: int, step: Progress
) -> np.ndarray:
    """The byte codes of the vectors of the rows ``near``, uint8 ``(total, width)``."""
    codes, at = np.empty((total, width_of(flips.shape[1])), np.uint8), 0
    for low, column in rows.blocks():
        sizes = np.diff(column.indptr)
        kept = near[low : low + len(sizes)]
        values = column.values if kept.all() else column.values[np.repeat(kept, sizes)]
        into = codes[at : at + len(values)]
        at += len(values)

        def encode(begin: int, end: int, values: np.ndarray = values, into: np.ndarray = into) -> None:
            for first in range(begin, end, ENCODED):
                last = min(first + ENCODED, end)
                encode_rows(rotated(np.ascontiguousarray(values[first:last], np.float32), unit, flips), width, into[first:last])

        if len(values):
            in_pieces(len(values), len(values), threads, encode, lambda done: None, ENCODED)
        step("encode", (low + len(sizes)) / len(near))
    return codes


def _lists(
    sample: Sample,
    unit: bool,
    flips: np.ndarray,
    width: np.float32,
    starts: np.ndarray,
    codes: np.ndarray,
    options: Options,
    threads: int,
    step: Progress,
) -> dict[str, np.ndarray]:
    """The sections that hold centroids and lists."""
    count = count_for(len(codes), options.centroids)
    learned = rotated(sample.vectors[: SAMPLED * count], unit, flips)
    learned /= width
    centroids = Centroids(learned, count, options.seed, threads, step)
    list_at, entries = lists_of(starts, centroids.labels(codes, threads, step), len(centroids))
    return {"centroids": np.ascontiguousarray(centroids.fine[:, : codes.shape[1]]), "list_at": list_at, "entries": entries}


def _queries(sample: Sample, near: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The calibration queries of rows that have codes, by their numbers among these."""
    numbers = np.cumsum(near) - 1
    return [(int(numbers[row]), span) for row, span in sample.queries if near[row]]
