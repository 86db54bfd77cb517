"""The first reading of a field's vectors for a build: how many there are, a sample of them, and those that are far longer than others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base import Progress, RowSource

# Constants: unit and meaning. Chosen, not measured.
MOST_BYTES = 768 << 20  # bytes of the sample
SPAN = 32  # vectors of a calibration query
FAR = 4.0  # times a long row's length; a row with a longer vector is kept apart: a step wide enough for it would blur all others
HELD_OUT = 8  # rows for each one that serves as a query, from which on the sample has no vectors of these
LONG = 0.99  # quantile of the rows' lengths that is that of a long row


@dataclass
class Sample:
    """sizes: int64, the vectors of each row. lengths: float64, the length of each row's longest vector. vectors: float32 ``(n, dim)``, a
    random sample, in random order, without those of the rows of ``queries``: centroids that were learned from a query find more for it.
    queries: (row, float32 ``(vectors, dim)``), spans of vectors of random rows.
    """

    sizes: np.ndarray
    lengths: np.ndarray
    vectors: np.ndarray
    queries: list[tuple[int, np.ndarray]]

    def split(self) -> np.ndarray:
        """bool: the rows that get codes, at least LONG of all. Vectors of other rows are removed from the sample."""
        limit = FAR * float(np.quantile(self.lengths, LONG, method="lower")) * (1 + 1e-5)
        near = self.lengths <= limit
        if not near.all():
            self.vectors = self.vectors[_lengths(self.vectors) <= limit]
        return near


def sampled(rows: RowSource, dim: int, unit: bool, queries: int, rng: np.random.Generator, step: Progress) -> Sample:
    """Read all vectors once. unit: they count as of length 1. queries: how many spans are wanted."""
    count = len(rows.docids)
    sizes, lengths = np.empty(count, np.int64), np.ones(count)
    asked = set(rng.choice(count, min(queries, count), replace=False).tolist())
    held_out = count >= HELD_OUT * len(asked)
    spans = []
    most, limit = max(MOST_BYTES // (8 * dim), 1), 1.0  # half of the bytes, because a selection copies
    kept, priorities = np.empty((0, dim), np.float32), np.empty(0)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    held = 0
    for low, column in rows.blocks():
        values, indptr = column.values, column.indptr
        high = low + len(indptr) - 1
        sizes[low:high] = np.diff(indptr)
        if not unit:
            lengths[low:high] = np.maximum.reduceat(_lengths(values), indptr[:-1])
        # Each vector has a random priority, and those below a limit are kept; the limit falls as more come.
        own = sorted(asked.intersection(range(low, high)))
        drawn = rng.random(len(values))
        if held_out:
            for row in own:
                drawn[int(indptr[row - low]) : int(indptr[row - low + 1])] = 1.0  # not below any limit
        chosen = np.flatnonzero(drawn < limit)
        waiting.append((values[chosen].astype(np.float32), drawn[chosen]))
        held += len(chosen)
        if len(kept) + held > most:
            kept, priorities = _joined(kept, priorities, waiting)
            if len(kept) > most:
                limit = float(np.partition(priorities, most // 2)[most // 2])
                below = priorities < limit
                kept, priorities = kept[below], priorities[below]
            waiting, held = [], 0
        for row in own:
            begin, end = int(indptr[row - low]), int(indptr[row - low + 1])
            begin += int(rng.integers(max(end - begin - SPAN, 0) + 1))
            spans.append((row, values[begin : min(begin + SPAN, end)].astype(np.float32)))
        step("read", high / count)
    kept, priorities = _joined(kept, priorities, waiting)
    return Sample(sizes, lengths, kept[np.argsort(priorities, kind="stable")], spans)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms, float64."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))


def _joined(kept: np.ndarray, priorities: np.ndarray, waiting: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    vectors, drawn = zip(*waiting, strict=True) if waiting else ((), ())
    return np.concatenate([kept, *vectors]), np.concatenate([priorities, *drawn])
