"""How vectors of a segment become codes: where their middle is, how they are turned, how wide a step is; and which of them have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.codes import ROUNDS, rotate_rows

BLOCK = 65_536
SAMPLED_STEPS = 4_096  # rows that the step is learned from
MOST = 0.97  # the share of the rows that says how long rows are
FAR = 3.0  # times as far from the middle as that share: codes with a step for such a row would tell little of the others
LONGEST, SHORTEST_UNIT, LONGEST_UNIT = 1e18, 1e-37, 1e37  # lengths beyond which float32 squares, or quotients, aren't numbers any more
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)  # of the largest number, where codes may be cut off
SMALLEST = 127 * float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Frame:
    """How vectors become codes, as a sample taught it.

    step: the width of a code. error: the root of the mean squared error of a number's code. reach: the longest rotated vector. limit: the
    length up to which rotated vectors have codes; longer ones are kept apart. sample: what it was learned from, rotated, in steps, in
    random order.
    """

    unit: bool
    mean: np.ndarray
    flips: np.ndarray
    step: np.float32
    error: float
    reach: float
    limit: float
    sample: np.ndarray

    @classmethod
    def learned(cls, vectors: np.ndarray, unit: bool, most: int, rng: np.random.Generator) -> Frame:
        """From at most so many of the vectors, float32 ``(n, dim)``, all ``usable``."""
        n, dim = vectors.shape
        flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, dim))
        # Rows may come by topic or date: what is learned from a part must be learned from all of them.
        rows = rng.choice(n, min(n, most), replace=False)
        sample = vectors[np.sort(rows)]
        mean = _middle(_unit(sample) if unit else sample)
        # What all rows have in common tells none of them from another, but is noise where a query has something else.
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
        step, error = _learned_step(rotated)
        return cls(unit, mean, flips, np.float32(step), error, float(lengths.max()), limit, rotated / np.float32(step))

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors in the frame, float32 ``(n, dim)``."""
        out = np.empty((len(vectors), vectors.shape[1]), np.float32)
        rotate_rows(vectors, self.unit, self.mean, self.flips, out)
        return out


def usable(vectors: np.ndarray, unit: bool) -> np.ndarray:
    """bool: which vectors, float32 ``(n, dim)``, can be brought into a frame at all."""
    found = np.empty(len(vectors), np.bool_)
    for low in range(0, len(vectors), BLOCK):
        lengths = _lengths(vectors[low : low + BLOCK])
        good = (lengths > SHORTEST_UNIT) & (lengths < LONGEST_UNIT) | (lengths == 0) if unit else lengths < LONGEST
        found[low : low + BLOCK] = good
    return found


def _constants(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool: in which dimensions all vectors are the same; and float32: what the first one has."""
    found = np.ones(vectors.shape[1], np.bool_)
    for low in range(0, len(vectors), BLOCK):
        found &= (vectors[low : low + BLOCK] == vectors[0]).all(axis=0)
        if not found.any():
            break
    return found, vectors[0].copy()


def _middle(rows: np.ndarray) -> np.ndarray:
    """The mean of all rows but those far from it, float32. A few that are very far have moved the first mean, so it is taken twice."""
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
    """Euclidean lengths (from a middle), float64: float32 squares of small or large numbers aren't numbers any more."""
    found = np.empty(len(rows), np.float64)
    for low in range(0, len(rows), BLOCK // 8):
        block = rows[low : low + BLOCK // 8].astype(np.float64)
        if middle is not None:
            block -= middle
        found[low : low + BLOCK // 8] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return found


def _limit(lengths: np.ndarray) -> float:
    """The length from which on a row is far from the others."""
    return FAR * float(np.quantile(lengths, MOST, method="lower")) * (1 + 1e-5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = _lengths(vectors)[:, None]
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def _learned_step(rotated: np.ndarray) -> tuple[float, float]:
    """The step that makes the least squared error on a sample, among some that cut the largest numbers off; and that error's root."""
    sample = rotated[:SAMPLED_STEPS].astype(np.float64)
    largest = max(float(np.abs(sample).max()), SMALLEST)
    best = (np.inf, largest / 127)
    for share in SHARES:
        step = largest * share / 127
        rounded = np.clip(np.rint(sample / step), -127, 127) * step
        best = min(best, (float(np.square((sample - rounded) / largest).mean()), step))
    return best[1], float(np.sqrt(best[0])) * largest
