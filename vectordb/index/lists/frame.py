"""The frame of a file of lists: how its vectors are scaled, centred and rotated before they are clustered and coded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...kernels.rabitq import padded, to_frame
from ..dense.frame import BLOCK, usable

# Unit and meaning. Chosen, not measured.
ROUNDS = 4  # of the rotation: sign flips and a Hadamard transform each
FAR = 1e6  # times the usual length; longer rows are kept apart, because float32 can't hold their codes' factors beside those of others
MEASURED = 65_536  # rows that the usual length and the mean are of


@dataclass(frozen=True)
class Frame:
    """metric: of the field; for cosine, vectors are brought to unit length first. scale: vectors are multiplied by it, so that their usual
    length is 1. mean: float32 ``(dim,)``, of the scaled vectors; zeros for dot products. flips: float32 ``(ROUNDS, padded dim)``, the signs
    of the rotation.
    """

    metric: str
    scale: float
    mean: np.ndarray
    flips: np.ndarray

    @classmethod
    def learned(cls, vectors: np.ndarray, metric: str, rng: np.random.Generator) -> Frame:
        """Learn a frame from vectors (float32 ``(n, dim)``), all of which must be ``usable``."""
        dim = vectors.shape[1]
        flips = rng.choice(np.array([-1, 1], np.float32), (ROUNDS, padded(dim)))
        some = vectors
        if len(vectors) > MEASURED:
            some = vectors[np.sort(rng.choice(len(vectors), MEASURED, replace=False))]
        lengths = _lengths(some)
        usual = 1.0 if metric == "cosine" else float(np.median(lengths[lengths > 0])) if lengths.any() else 1.0
        mean = np.zeros(dim, np.float32)
        if metric != "dot":
            divisors = np.where(lengths > 0, lengths, 1.0) if metric == "cosine" else np.full(len(some), usual)
            near = lengths <= 10 * usual if metric == "l2" else np.ones(len(some), np.bool_)
            sums = np.zeros(dim)
            for low in range(0, len(some), BLOCK // 8):
                part = slice(low, low + BLOCK // 8)
                sums += (some[part].astype(np.float64) / divisors[part, None])[near[part]].sum(axis=0)
            mean = (sums / max(near.sum(), 1)).astype(np.float32)
        return cls(metric, 1.0 / usual, mean, flips)

    @property
    def dim(self) -> int:
        """Dimensions of rotated vectors."""
        return self.flips.shape[1]

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors in the frame, float32 ``(n, padded dim)``."""
        out = np.empty((len(vectors), self.dim), np.float32)
        to_frame(vectors, self.metric == "cosine", self.scale, self.mean, self.flips, out)
        return out

    def near(self, vectors: np.ndarray) -> np.ndarray:
        """bool: which vectors can be coded beside the others."""
        near = np.empty(len(vectors), np.bool_)
        for low in range(0, len(vectors), BLOCK):
            part = vectors[low : low + BLOCK]
            near[low : low + BLOCK] = True if self.metric == "cosine" else _lengths(part) * self.scale <= FAR
        return near


def codable(vectors: np.ndarray, metric: str) -> np.ndarray:
    """bool: which vectors have lengths within the range of float32 arithmetic."""
    return usable(vectors, metric == "cosine")


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms, float64."""
    lengths = np.empty(len(vectors))
    for low in range(0, len(vectors), BLOCK // 8):
        block = vectors[low : low + BLOCK // 8].astype(np.float64)
        lengths[low : low + BLOCK // 8] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return lengths
