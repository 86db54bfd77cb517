"""Build the index file of a sparse segment: number the terms, round the weights to levels, write impact-ordered posting lists,
calibrate.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common import background
from ...kernels import TINY_WEIGHT, impact_build, impact_layout, impact_lists
from ..base import BuildOptions, Progress, RowSource, inverse_of, stepper
from ..file import write
from ..saturation import Saturation
from .calibrate import calibrate
from .segment import ImpactSegment

# Constants: unit and meaning, then the source in brackets. [type]: from the range of a type. [chosen]: chosen, not measured.
MAX_POSTINGS = 2**32 - 1 >> 2  # offsets into the lists have 32 bits, and the lists take up to three numbers per posting [type]
SAMPLE = 200_000  # weights from which the levels are learned [chosen]
RARE, RAREST = 0.01, 0.0001  # quantiles of the weights, from below and from above, between which the edges of the levels lie [chosen]
FAR = 4.0  # weights above FAR times the highest edge get a level of their own [chosen]
PIECE = 4_000_000  # postings processed at a time; bounds memory [chosen]


@dataclass(frozen=True)
class Options(BuildOptions):
    """How a segment is built. levels: the number of levels to which weights are rounded. threads: 0 means all cores; any number gives the
    same file, except for the calibration's measurements.
    """

    levels: int = 16
    seed: int = 0
    threads: int = 0


def options_of(spec: Any) -> Options:
    """The options of a field's definition."""
    return Options(spec.index.levels)


def build_rows(path: Path, rows: RowSource, spec: Any, progress: Progress, cancelled: Callable[[], bool]) -> None:
    """``IndexKind.build``: copy the vectors of a sparse field and index them."""
    step = stepper(progress, cancelled)
    docids, sizes, terms, weights = rows.docids, [np.zeros(1, np.int64)], [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for low, column in rows.blocks():
        sizes.append(np.diff(column.indptr))
        terms.append(column.terms)
        weights.append(column.weights)
        step("copy", (low + len(column)) / len(docids))
    rows.release()
    indptr, idf = np.cumsum(np.concatenate(sizes), dtype=np.int64), spec.weighting == "idf"
    stored = None if spec.binary else np.concatenate(weights)
    build(path, indptr, np.concatenate(terms), stored, docids, idf, options_of(spec), progress, cancelled, rows.saturation)


def build(
    path: Path,
    indptr: np.ndarray,
    terms: np.ndarray,
    weights: np.ndarray | None,
    docids: np.ndarray,
    idf: bool,
    options: Options,
    progress: Progress = lambda stage, share: None,
    cancelled: Callable[[], bool] = lambda: False,
    saturation: Saturation | None = None,
) -> None:
    """Index the sparse vectors of rows ``docids`` (uint32, ascending, at least one) into a new file and sync it.

    indptr: int64 ``(rows + 1,)``. terms: uint64, ascending within a row. weights: float32; None: all are 1. idf: queries will be multiplied
    by inverse document frequencies. saturation: given if the weights are term frequencies; it weighs them. Raises Cancelled soon after
    ``cancelled()`` returns true, ValueError for too many postings, and OSError.
    """
    step = stepper(progress, cancelled)
    if len(terms) > MAX_POSTINGS:
        raise ValueError(f"an index file holds at most {MAX_POSTINGS} postings, not {len(terms)}")
    threads = options.threads or background.cores()
    step("terms", 0.0)
    vocabulary = _vocabulary(terms)
    row_terms = np.empty(len(terms), np.uint32 if len(vocabulary) > 65_536 else np.uint16)
    for low in range(0, len(terms), PIECE):
        places = np.empty(len(terms[low : low + PIECE]), np.int64)
        impact_lists.locate_terms(vocabulary, terms[low : low + PIECE], places)
        row_terms[low : low + PIECE] = places
        step("terms", low / len(terms))
    counted = {}
    if saturation is not None:
        ends = np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])
        lengths = ends[indptr[1:]] - ends[indptr[:-1]]
        counted = {"row_lengths": lengths.astype(np.float32)}
    impacts = weights if saturation is None else saturation.weights(weights, np.repeat(lengths, np.diff(indptr)))
    rounded, levels = _leveled(impacts, len(terms), options)
    list_at, lists = _lists(indptr, row_terms, rounded, len(vocabulary), len(levels["level_most"]), threads, step)
    meta = {
        "kind": "sparse",
        "rows": len(docids),
        "first": int(docids[0]),
        "binary": weights is None,
        "signed": weights is not None and bool((impacts < TINY_WEIGHT).any()),
        "options": options.kept(),
    }
    if saturation is not None:
        meta |= {"mean": saturation.mean, "saturation": saturation.numbers.tolist()}
    sections = {
        "docids": docids.astype(np.uint32),
        "inverse": inverse_of(docids),
        "terms": vocabulary,
        "frequencies": np.bincount(row_terms, minlength=len(vocabulary)).astype(np.uint32),
        "list_at": list_at,
        "lists": lists,
        **levels,
        "row_at": indptr.astype(np.int64),
        "row_terms": row_terms,
        **counted,
    }
    if weights is not None:
        sections["row_weights"] = weights
    step("calibration", 0.0)
    model = calibrate(ImpactSegment(meta, sections), idf, options.seed, threads, lambda share: step("calibration", share))
    write(path, meta, sections | model)


def _vocabulary(terms: np.ndarray) -> np.ndarray:
    """The distinct terms, uint64 ascending."""
    pieces = [np.unique(terms[low : low + PIECE]) for low in range(0, len(terms), PIECE)]
    return np.unique(np.concatenate(pieces)) if pieces else np.empty(0, np.uint64)


def _leveled(weights: np.ndarray | None, count: int, options: Options) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(the level of each weight, uint8, 0 for the largest weights; the sections that describe the levels). The edges between levels are
    evenly spaced on a logarithmic scale between two quantiles of the weights.
    """
    level = np.zeros(count, np.uint8)
    if weights is None or not count or weights.min() == weights.max() or (weights < TINY_WEIGHT).any():
        one = np.float32(1) if weights is None or not count else np.abs(weights).max()
        return level, {"level_most": np.array([one]), "level_mean": np.array([one]), "level_share": np.ones(1, np.float32)}
    rng = np.random.default_rng(options.seed)
    sample = np.sort(weights if count <= SAMPLE else rng.choice(weights, SAMPLE, replace=False))
    low, high = sample[int(RARE * (len(sample) - 1))], sample[int((1 - RAREST) * (len(sample) - 1))]
    edges = np.unique(np.exp(np.linspace(np.log(low), np.log(high), options.levels))[1:].astype(np.float32))
    if weights.max() > FAR * high:  # a few huge weights would raise the bound of all others of their level
        edges = np.append(edges, np.float32(FAR * high))
    for start in range(0, count, PIECE):
        level[start : start + PIECE] = len(edges) - np.searchsorted(edges, weights[start : start + PIECE], side="right")
    counts = np.bincount(level, minlength=len(edges) + 1)
    used = np.flatnonzero(counts)
    level = (np.cumsum(counts > 0) - 1).astype(np.uint8)[level]
    sums = np.bincount(level, weights=weights)
    most = np.zeros(len(used), np.float32)
    np.maximum.at(most, level, weights)
    means = {"level_mean": (sums / counts[used]).astype(np.float32), "level_share": (counts[used] / count).astype(np.float32)}
    return level, {"level_most": most, **means}


def _lists(
    indptr: np.ndarray, row_terms: np.ndarray, level: np.ndarray, vocabulary: int, levels: int, threads: int, step: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """(offset of each list, the lists): for each block of rows, the lists of all terms in order."""
    rows = len(indptr) - 1
    starts = range(0, rows, impact_layout.BLOCK_ROWS)

    def block(low: int) -> tuple[np.ndarray, np.ndarray]:
        high = min(low + impact_layout.BLOCK_ROWS, rows)
        counts = np.empty(vocabulary, np.int64)
        impact_build.count_postings(indptr, row_terms, low, high, counts)
        ends = np.cumsum(counts)
        size = int(indptr[high] - indptr[low])
        docs, own = np.empty(size, np.uint16), np.empty(size, np.uint8)
        impact_build.fill_lists(indptr, row_terms, level, low, high, ends - counts, docs, own)
        offsets = np.empty(vocabulary, np.uint32)
        runs = np.empty(size + 2 * int(np.minimum(counts, levels).sum()), np.uint16)
        used = impact_build.write_runs(ends, docs, own, levels, offsets, runs)
        step("lists", high / rows)
        return offsets, runs[:used].copy()

    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(block, starts))
    begins = np.cumsum([0, *(len(runs) for _, runs in blocks)])
    list_at = np.concatenate([*(offsets + np.uint32(begin) for (offsets, _), begin in zip(blocks, begins, strict=False)), begins[-1:]])
    return list_at.astype(np.uint32), np.concatenate([runs for _, runs in blocks])
