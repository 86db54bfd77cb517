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
from ...kernels import TINY_WEIGHT, impact_build, impact_layout, impact_levels
from ..base import BuildOptions, Progress, RowSource, inverse_of, stepper
from ..file import write
from ..saturation import Saturation
from .calibrate import calibrate
from .segment import ImpactSegment

# Constants: unit and meaning, then the source in brackets. [type]: from the range of a type. [chosen]: chosen, not measured.
MAX_POSTINGS = 2**32 - 1 >> 2  # of a window, offsets into the lists have 32 bits; they take up to three numbers per posting [type]
SMALL_TERMS = 1 << 20  # terms that are all smaller are numbered by a table of all numbers [chosen]
SLOTS = 1 << 17  # of the hash table of terms, at first [chosen]
LEAST = 1e-30  # the least weight that is told apart from others by levels [float32]
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
    vocabulary, row_terms = _numbered(terms, threads, lambda share: step("terms", share))
    impacts, counted = weights, {}
    if saturation is not None and weights is not None:
        lengths = np.add.reduceat(np.append(weights, np.float32(0)), indptr[:-1], dtype=np.float64).astype(np.int64)
        lengths[indptr[1:] == indptr[:-1]] = 0  # reduceat gives an empty row the item that follows it
        counted = {"row_lengths": lengths.astype(np.float32)}
        impacts = saturation.weights(weights, np.repeat(lengths, np.diff(indptr)))
    negative = np.zeros(0, np.bool_) if impacts is None else impacts < 0
    signed = bool(negative.any())
    rounded, levels = _leveled(impacts, len(terms), options, threads)
    frequencies = np.empty(len(vocabulary), np.int64)
    impact_build.count_postings(indptr, row_terms, 0, len(docids), frequencies)
    row_lists = row_terms
    if signed:  # the lists of negative weights follow those of positive ones
        row_lists = row_terms + np.where(negative, np.uint32(len(vocabulary)), np.uint32(0)).astype(np.uint32)
    list_at, lists = _lists(indptr, row_lists, rounded, (1 + signed) * len(vocabulary), len(levels["level_most"]), threads, step)
    meta = {
        "kind": "sparse",
        "rows": len(docids),
        "first": int(docids[0]),
        "binary": weights is None,
        "signed": signed,
        "options": options.kept(),
    }
    if saturation is not None:
        meta |= {"mean": saturation.mean, "saturation": saturation.numbers.tolist()}
    sections = {
        "docids": docids.astype(np.uint32),
        "inverse": inverse_of(docids),
        "terms": vocabulary,
        "frequencies": frequencies.astype(np.uint32),
        "run_at": list_at,
        "runs": lists,
        **levels,
        "row_at": indptr.astype(np.int64),
        "row_terms": row_terms,
        **counted,
    }
    kept = _row_weights(weights, saturation is not None)
    if kept is not None:
        sections["row_weights"] = kept
    step("calibration", 0.0)
    model = calibrate(ImpactSegment(meta, sections), idf, options.seed, threads, lambda share: step("calibration", share))
    write(path, meta, sections | model)


def _numbered(terms: np.ndarray, threads: int, progress: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
    """(the distinct terms, uint64 ascending; the position of each term in them, uint16 or uint32)."""
    largest = int(terms.max()) if len(terms) else 0
    if largest < SMALL_TERMS:  # as the tokens of an encoder are: a table of all numbers is faster than a hash table
        held = np.zeros(largest + 1, np.bool_)
        for low in range(0, len(terms), PIECE):
            held[terms[low : low + PIECE].view(np.int64)] = True
            progress(0.5 * low / len(terms))
        vocabulary = np.flatnonzero(held).astype(np.uint64)
        numbers = (np.cumsum(held) - 1).astype(np.uint32 if len(vocabulary) > 65_536 else np.uint16)
        places = np.empty(len(terms), numbers.dtype)

        def looked_up(low: int) -> None:
            np.take(numbers, terms[low : low + PIECE].view(np.int64), out=places[low : low + PIECE], mode="clip")
            progress(0.5 + 0.5 * low / len(terms))

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(looked_up, range(0, len(terms), PIECE)))
        return vocabulary, places
    slots, count, start = SLOTS, 0, 0
    keys, held = np.empty(slots, np.uint64), np.full(slots, impact_build.EMPTY)
    while start < len(terms):
        end = min(start + PIECE, len(terms))
        stopped, count = impact_build.note_terms(terms[:end], start, keys, held, count)
        if stopped < end:  # half of the slots are used
            known, slots = keys[held != impact_build.EMPTY], 4 * slots
            keys, held = np.empty(slots, np.uint64), np.full(slots, impact_build.EMPTY)
            impact_build.note_terms(known, 0, keys, held, 0)
        start = stopped
        progress(0.5 * start / len(terms))
    vocabulary = np.sort(keys[held != impact_build.EMPTY])
    impact_build.number_terms(vocabulary, keys, held)
    places = np.empty(len(terms), np.uint32 if len(vocabulary) > 65_536 else np.uint16)

    def piece(low: int) -> None:
        impact_build.places_of(terms[low : low + PIECE], keys, held, places[low : low + PIECE])
        progress(0.5 + 0.5 * low / len(terms))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(piece, range(0, len(terms), PIECE)))
    return vocabulary, places


def _row_weights(weights: np.ndarray | None, counted: bool) -> np.ndarray | None:
    """The weights of the forward index in the shortest form that gives them back: none where all are alike (``counted``: where all term
    frequencies are 1), one byte for a term frequency.
    """
    if weights is None or not len(weights):
        return weights
    least, most = weights.min(), weights.max()
    if least == most and (most == 1 if counted else most >= TINY_WEIGHT):
        return None
    return weights.astype(np.uint8) if counted and least >= 1 and most < 256 else weights


def _leveled(weights: np.ndarray | None, count: int, options: Options, threads: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(the level of each weight, uint8, 0 for the largest weights; the sections that describe the levels). The edges between levels are
    evenly spaced on a logarithmic scale between two quantiles of the weights, whatever their signs.
    """
    level = np.zeros(count, np.uint8)
    if weights is not None and count and weights.min() < TINY_WEIGHT:
        weights = np.maximum(np.abs(weights), np.float32(LEAST))
    if weights is None or not count or weights.min() == weights.max():
        one = np.float32(1) if weights is None or not count else weights.max()
        return level, {"level_most": np.array([one]), "level_mean": np.array([one]), "level_share": np.ones(1, np.float32)}
    rng = np.random.default_rng(options.seed)
    sample = np.sort(weights if count <= SAMPLE else weights[rng.integers(0, count, SAMPLE)])
    low, high = sample[int(RARE * (len(sample) - 1))], sample[int((1 - RAREST) * (len(sample) - 1))]
    edges = np.unique(np.exp(np.linspace(np.log(low), np.log(high), options.levels))[1:].astype(np.float32))
    if weights.max() > FAR * high:  # a few huge weights would raise the bound of all others of their level
        edges = np.append(edges, np.float32(FAR * high))

    def piece(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        held = np.zeros(len(edges) + 1, np.int64), np.zeros(len(edges) + 1), np.zeros(len(edges) + 1, np.float32)
        impact_levels.levels_of(weights[start : start + PIECE], edges, level[start : start + PIECE], *held)
        return held

    with ThreadPoolExecutor(threads) as pool:
        pieces = list(pool.map(piece, range(0, count, PIECE)))
    counts, sums = (np.sum([held[i] for held in pieces], axis=0) for i in range(2))
    most, used = np.max([held[2] for held in pieces], axis=0), np.flatnonzero(counts)
    if len(used) < len(counts):
        level = (np.cumsum(counts > 0) - 1).astype(np.uint8)[level]
    means = {"level_mean": (sums[used] / counts[used]).astype(np.float32), "level_share": (counts[used] / count).astype(np.float32)}
    return level, {"level_most": most[used], **means}


def _lists(
    indptr: np.ndarray, row_lists: np.ndarray, level: np.ndarray, lists: int, levels: int, threads: int, step: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """(offset of each list, the lists), by term. row_lists: the list of each posting. lists: how many there are."""
    rows = len(indptr) - 1

    def window(low: int) -> tuple[np.ndarray, np.ndarray]:
        high = min(low + impact_layout.BLOCK_ROWS, rows)
        counts = np.empty(lists, np.int64)
        impact_build.count_postings(indptr, row_lists, low, high, counts)
        ends = np.cumsum(counts)
        size = int(indptr[high] - indptr[low])
        docs, own = np.empty(size, np.uint16), np.empty(size, np.uint8)
        impact_build.fill_lists(indptr, row_lists, level, low, high, ends - counts, docs, own)
        begins = np.empty(lists + 1, np.uint32)
        runs = np.empty(size + 2 * int(np.minimum(counts, levels).sum()), np.uint16)
        used = impact_build.write_runs(ends, docs, own, levels, begins, runs)
        step("lists", 0.7 * high / rows)
        return begins, runs[:used].copy()

    with ThreadPoolExecutor(threads) as pool:
        windows = list(pool.map(window, range(0, rows, impact_layout.BLOCK_ROWS)))
        addresses = [np.array([arrays[i].ctypes.data for arrays in windows], np.int64) for i in range(2)]
        sizes, bounds = np.empty(lists, np.int64), np.linspace(0, lists, threads + 1).astype(np.int64).tolist()
        list(pool.map(lambda low, high: impact_build.measure_lists(*addresses, levels, low, high, sizes), bounds[:-1], bounds[1:]))
        list_at = np.concatenate([[0], np.cumsum(sizes)])
        joined = np.empty(int(list_at[-1]), np.uint16)
        bounds = np.searchsorted(list_at, np.linspace(0, len(joined), 4 * threads + 1)).tolist()
        bounds[0], bounds[-1] = 0, lists

        def join(low: int, high: int) -> None:
            impact_build.join_lists(*addresses, levels, low, high, list_at, joined)
            step("lists", 0.7 + 0.3 * low / max(lists, 1))

        list(pool.map(join, bounds[:-1], bounds[1:]))
    return list_at, joined
