"""Build a file of lists: learn the frame and the lists, encode the rows, calibrate the plans, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.model.fields.dense import USUAL_BITS

from ...common import background
from ..base import BuildOptions, Progress, RowSource, inverse_of, stepper
from ..dense.pieces import copied, in_pieces
from ..file import write
from ..scratch import aligned_copy
from .calibrate import calibrate
from .clusters import ROWS_LEARNED, count_for, lists_of
from .codecs import LONGER, Coding, OneBit
from .frame import Frame, codable
from .segment import ListsSegment

# Unit and meaning. Chosen, not measured.
LEAST_LEARNED = 4_096  # rows from which lists are learned, at least
UNSEEN = 20  # at least one row in so many is left out of these, to serve as a query when the plans are calibrated
ENCODED = 2_048  # rows that are encoded at a time: what is made of them stays in the cache


@dataclass(frozen=True)
class Options(BuildOptions):
    """How a file is built. bits: of the longer codes, 2, 4 or 8. threads: 0 means all cores."""

    bits: int = USUAL_BITS
    seed: int = 0
    threads: int = 0


def options_of(spec: Any) -> Options:
    """The options of a field's definition. A field whose index is a graph gets the usual ones."""
    return Options(getattr(spec.index, "bits", USUAL_BITS))


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

    progress: called with a stage and the share of it that is done, 0 … 1. Raises Cancelled soon after ``cancelled()`` returns true,
    Unbuildable when faiss fails, and OSError.
    """
    step = stepper(progress, cancelled)
    threads = options.threads or background.cores()
    rng = np.random.default_rng(options.seed)
    kept = codable(vectors, metric)
    frame = Frame.learned(vectors[kept] if not kept.all() else vectors, metric, rng) if kept.any() else None
    if frame is not None:
        kept &= frame.near(vectors)
    if frame is None or not kept.any():  # a file must hold at least one row: its code is meaningless, but it is scored at full precision
        kept[:1], vectors = True, np.zeros_like(vectors)
        frame = Frame.learned(vectors, metric, rng)
    apart = docids[~kept].astype(np.uint32)
    if len(apart):
        vectors, docids = vectors[kept], np.ascontiguousarray(docids[kept])
    n = len(vectors)
    most = min(n - n // UNSEEN, max(ROWS_LEARNED * count_for(n), LEAST_LEARNED))
    seen = np.sort(rng.choice(n, most, replace=False))
    centroids, assigned = lists_of(frame, vectors, seen, options.seed, threads, step)
    coding = Coding(frame, centroids, assigned)
    codecs = [codec.train(coding, n) for codec in (OneBit, LONGER[options.bits])]

    def encode(low: int, high: int) -> None:
        rotated = frame.rotated(vectors[low:high])
        for codec in codecs:
            codec.encode_rows(low, rotated)

    in_pieces(n, ENCODED, threads, encode, lambda high: step("codes", high / n))
    order = np.argsort(assigned, kind="stable")
    sections, entries = arranged(frame, docids[order].astype(np.uint32), assigned, centroids)
    meta = {
        "kind": "lists",
        "rows": n,
        "dim": vectors.shape[1],
        "metric": metric,
        "first": int(docids[0]),
        "codecs": [codec.name for codec in codecs],
        "options": options.kept(),
        **entries,
    }
    for codec in codecs:
        encoded, entries = codec.arranged(order, sections)
        sections |= encoded
        meta |= entries
    if len(apart):
        sections["apart"] = apart
    step("calibration", 0.0)
    unseen = np.setdiff1d(np.arange(n), seen, assume_unique=True)
    given = frame, vectors, docids, order, unseen, options.seed, threads, lambda share: step("calibration", share)
    model = calibrate(ListsSegment(meta, sections), *given)
    write(path, meta, sections | model)


def arranged(frame: Frame, docids: np.ndarray, assigned: np.ndarray, centroids: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(the sections that describe rows and lists, entries of the header). docids: in the order of the lists."""
    largest = float(np.abs(centroids).max())
    step = largest / 127 if largest > 0 else 1.0
    squares = np.einsum("ij,ij->i", centroids, centroids, dtype=np.float64)
    sections = {
        "docids": docids,
        "inverse": inverse_of(docids),
        "mean": frame.mean,
        "flips": frame.flips,
        "offsets": np.concatenate([[0], np.cumsum(np.bincount(assigned, minlength=len(centroids)))]).astype(np.int32),
        "centroids": aligned_copy(centroids),
        "centroid_codes": aligned_copy((np.rint(centroids / np.float32(step)) + 128).astype(np.uint8)),
        "half_squares": (squares / 2).astype(np.float32),
    }
    return sections, {"scale": frame.scale, "centroid_step": step}
