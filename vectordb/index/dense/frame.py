"""The quantisation of a segment's vectors: centring, random rotation, the step of the byte codes; and which rows are outliers without a
code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.codes import ROUNDS, rotate_rows, rounding_error

# Constants: unit and meaning, then the source in brackets. [tests]: set so that tests with outliers pass (test_outliers.py); no benchmark
# is recorded. [float]: from the range of the type. [chosen]: chosen, not measured.
BLOCK = 65_536  # rows at a time; bounds memory [chosen]
UNSEEN = 20  # at least one row in so many is left out of the sample, to serve as a query when the plans are calibrated [chosen]
SAMPLED_STEPS = 4_096  # rows that the step is learned from [chosen]
MOST = 0.97  # the quantile of the rows' norms from which the outlier limit is derived [tests]
FAR = 3.0  # times that norm; a longer row is an outlier: a step wide enough for it would blur all other rows [tests]
# Norms up to which float32 arithmetic neither overflows nor underflows: of vectors that are squared; of vectors that are normalised
# [float].
LONGEST, SHORTEST_UNIT, LONGEST_UNIT = 1e18, 1e-37, 1e37
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)  # of the largest number: candidates for the clipping point of codes [tests]
SMALLEST = 127 * float(np.finfo(np.float32).tiny)  # the smallest range of numbers that can be divided into 127 steps [float]


@dataclass(frozen=True)
class Frame:
    """A quantisation, learned from a sample of the vectors.

    metric: of the field; for cosine, vectors are normalised first. mean, flips: the centre, and the signs of the random rotation. step: the
    width of a code. error: the root mean square of a number's quantisation error. sample_radius: the largest norm of a rotated vector in
    the sample. limit: the norm up to which rotated vectors get codes; the others are outliers. sample: the rotated sample in units of the
    step, in random order. seen: int64 ascending, the indexes of the vectors that were sampled.
    """

    metric: str
    mean: np.ndarray
    flips: np.ndarray
    step: np.float32
    error: float
    sample_radius: float
    limit: float
    sample: np.ndarray
    seen: np.ndarray

    @classmethod
    def learned(cls, vectors: np.ndarray, metric: str, most: int, rng: np.random.Generator) -> Frame:
        """Learn a quantisation from a sample of at most ``most`` vectors (float32 ``(n, dim)``). All vectors must be ``usable``."""
        (n, dim), unit = vectors.shape, metric == "cosine"
        flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, dim))
        # A random sample: rows may be sorted by topic or date, so the first rows don't represent the others.
        rows = np.sort(rng.choice(n, min(n - n // UNSEEN, most), replace=False))
        sample = vectors[rows]
        mean = _middle(_unit(sample) if unit else sample)
        # A dimension in which all rows are equal can't rank them, and would only add noise where the query differs: leave it out.
        constant, value = _constants(vectors)
        constant &= (value == 0) | (not unit)
        mean[constant], flips[0, constant] = value[constant], 0
        rotated = np.empty_like(sample)
        rotate_rows(sample, unit, mean, flips, rotated)
        lengths = _lengths(rotated)
        limit = _limit(lengths)
        near = lengths <= limit
        if not near.all():
            rotated, lengths = rotated[near], lengths[near]
        rotated = rotated[rng.permutation(len(rotated))]
        step, error = learned_step(rotated)
        return cls(metric, mean, flips, np.float32(step), error, float(lengths.max()), limit, rotated / np.float32(step), rows)

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors after normalising (for cosine), centring and rotating, float32 ``(n, dim)``."""
        out = np.empty((len(vectors), vectors.shape[1]), np.float32)
        rotate_rows(vectors, self.metric == "cosine", self.mean, self.flips, out)
        return out


def usable(vectors: np.ndarray, unit: bool) -> np.ndarray:
    """bool: which vectors, float32 ``(n, dim)``, can be quantised: those whose norm is within the range of float32 arithmetic."""
    good = np.empty(len(vectors), np.bool_)
    for low in range(0, len(vectors), BLOCK):
        lengths = _lengths(vectors[low : low + BLOCK])
        some = (lengths > SHORTEST_UNIT) & (lengths < LONGEST_UNIT) | (lengths == 0) if unit else lengths < LONGEST
        good[low : low + BLOCK] = some
    return good


def _constants(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool: the dimensions in which all vectors are equal; float32: the first vector)."""
    equal = np.ones(vectors.shape[1], np.bool_)
    for low in range(0, len(vectors), BLOCK):
        equal &= (vectors[low : low + BLOCK] == vectors[0]).all(axis=0)
        if not equal.any():
            break
    return equal, vectors[0].copy()


def _middle(rows: np.ndarray) -> np.ndarray:
    """The mean of the rows without outliers, float32. Outliers distort the first mean, so they are removed in two rounds."""
    kept = rows
    for _ in range(2):
        mean = kept.mean(axis=0, dtype=np.float64)
        lengths = _lengths(rows, mean)
        near = lengths <= _limit(lengths)
        if near.all():
            kept = rows
            break
        kept = rows[near]
    return kept.mean(axis=0, dtype=np.float64).astype(np.float32)


def _lengths(rows: np.ndarray, middle: np.ndarray | None = None) -> np.ndarray:
    """Euclidean norms of rows, or their distances from a point, float64. In float32, squares of small or large numbers would under- or
    overflow.
    """
    norms = np.empty(len(rows), np.float64)
    for low in range(0, len(rows), BLOCK // 8):
        block = rows[low : low + BLOCK // 8].astype(np.float64)
        if middle is not None:
            block -= middle
        norms[low : low + BLOCK // 8] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return norms


def _limit(lengths: np.ndarray) -> float:
    """The norm above which a row is an outlier."""
    return FAR * float(np.quantile(lengths, MOST, method="lower")) * (1 + 1e-5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = _lengths(vectors)[:, None]
    return np.divide(vectors, np.where(norms > 0, norms, 1), out=np.empty(vectors.shape, np.float32), casting="same_kind")


def learned_step(rotated: np.ndarray) -> tuple[float, float]:
    """(step, root mean squared error): the step of the least squared error on a sample. Smaller steps clip the largest numbers."""
    sample = rotated[:SAMPLED_STEPS]
    largest = max(float(sample.max()), -float(sample.min()), SMALLEST)
    best = min((rounding_error(sample, largest * share / 127, largest), largest * share / 127) for share in SHARES)
    return best[1], float(np.sqrt(best[0])) * largest
