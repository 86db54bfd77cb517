"""Fewer rows for a multi-vector: clusters of its rows (CRISP, Veneroso et al., 2025, clusters those of trained models at indexing time)."""

from __future__ import annotations

import numpy as np

from ..common import deadline

_ROUNDS = 10  # of Lloyd's algorithm, at most
_NOTHING = 1e-6  # length of the sum of a cluster's directions, ÷ its rows, below which they cancel out


def pooled(indptr: np.ndarray, values: np.ndarray, most: int, unit: bool) -> tuple[np.ndarray, np.ndarray]:
    """Multi-vectors with at most ``most`` rows each: (indptr, values) as in ``MultiColumn``. Those with no more rows stay as they are.

    unit: rows of clusters have length 1; otherwise the mean length of the rows that they stand for.
    """
    sizes = np.diff(indptr)
    if not len(sizes) or sizes.max() <= most:
        return indptr, values
    kept = []
    for low, high in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True):
        deadline.check()
        rows = values[low:high]
        kept.append(rows if len(rows) <= most else clustered(rows, most, unit).astype(values.dtype))
    return np.cumsum([0, *map(len, kept)]), np.concatenate(kept)


def clustered(rows: np.ndarray, most: int, unit: bool) -> np.ndarray:
    """1 to ``most`` rows in the place of more, float32, in the order in which their clusters begin. The same for the same rows.

    Spherical k-means: it begins with rows that are far from one another, and ends when no row changes its cluster.
    """
    wide = rows.astype(np.float32)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1).astype(np.float32)
    directions = wide / np.where(lengths > 0, lengths, 1)[:, None]
    centres = directions[_apart(directions, most)]
    labels = np.full(len(rows), -1)
    for _ in range(_ROUNDS):
        deadline.check()
        found = (directions @ centres.T).argmax(axis=1)
        if np.array_equal(found, labels):
            break
        labels = found
        order, starts = _by_label(labels)
        centres = _directions(np.add.reduceat(directions[order], starts, axis=0), directions[order[starts]], np.diff([*starts, len(order)]))
        labels = np.searchsorted(labels[order[starts]], labels)  # empty clusters are gone
    order, starts = _by_label(labels)
    if not unit:
        sizes = np.diff([*starts, len(order)])
        centres = centres * (np.add.reduceat(lengths[order], starts) / sizes)[:, None]
    return np.ascontiguousarray(centres[np.argsort(order[starts])], np.float32)


def _apart(directions: np.ndarray, count: int) -> list[int]:
    """Rows that are far from one another: each is the one whose nearest of those before it is farthest. It begins with the row that is
    farthest from the mean.
    """
    chosen = [int((directions @ directions.mean(axis=0)).argmin())]
    nearest = directions @ directions[chosen[0]]
    while len(chosen) < count:
        if not len(chosen) % 64:
            deadline.check()
        row = int(nearest.argmin())
        chosen.append(row)
        np.maximum(nearest, directions @ directions[row], out=nearest)
    return chosen


def _by_label(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows by cluster, those of a cluster in their order; where each cluster that has rows begins)."""
    order = np.argsort(labels, kind="stable")
    return order, np.flatnonzero(np.diff(labels[order], prepend=-1))


def _directions(sums: np.ndarray, firsts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sums of directions at length 1; where they cancel out, the first row."""
    lengths = np.linalg.norm(sums, axis=1)
    nothing = lengths <= _NOTHING * sizes
    return np.where(nothing[:, None], firsts, sums / np.where(nothing, 1, lengths)[:, None])
