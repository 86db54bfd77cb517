"""Dense encoders for tests: the sum of a fixed random vector for each word, in several spaces that hold the same information."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from vectordb import encoders
from vectordb.encoders.base import Encoded, Encoder, dense_column

DIM = 24
_WORDS = np.random.default_rng(3).standard_normal((512, DIM)).astype(np.float32)


@lru_cache(8)
def rotation(dim: int = DIM) -> np.ndarray:
    """A fixed orthogonal matrix, float64."""
    return np.linalg.qr(np.random.default_rng(5).standard_normal((dim, dim)))[0]


class Plain(Encoder):
    """Sums the vectors of words. A text without words has no vector. encoded: how many texts all have encoded."""

    kind = "dense"
    dim = DIM
    name = "toy"
    encoded = 0

    def __init__(self):
        self.identity = f"{self.name} 1"

    def turned(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def _rows(self, texts) -> tuple[np.ndarray, np.ndarray]:
        rows = np.zeros((len(texts), DIM))
        for row, text in enumerate(texts):
            for word in text.split():
                rows[row] += _WORDS[zlib.crc32(word.encode()) % len(_WORDS)]
        return self.turned(rows).astype(np.float32), np.array([bool(text.split()) for text in texts])

    def encode_documents(self, texts, state=None):
        Plain.encoded += len(texts)
        return Encoded(dense_column(*self._rows(texts)))

    def encode_queries(self, texts):
        return list(self._rows(texts)[0])


class Turned(Plain):
    """The vectors of ``Plain``, rotated."""

    name = "turned"

    def turned(self, rows):
        return rows @ rotation()


class Wide(Plain):
    """The vectors of ``Plain``, in more dimensions."""

    name = "wide"
    dim = DIM + 8

    def turned(self, rows):
        return np.pad(rows, ((0, 0), (0, 8))) @ rotation(DIM + 8)


class Other(Plain):
    """Vectors that have nothing to do with those of ``Plain``."""

    name = "other"

    def turned(self, rows):
        return np.sin(37 * rows)


TOYS = {each.name: each for each in (Plain, Turned, Wide, Other)}


def register() -> None:
    """Let fields name the toys, in this process."""
    encoders.ENCODERS.update(TOYS)


WORDS = [f"w{n}" for n in range(300)]


def texts(n: int, seed: int = 1) -> list[str]:
    """n texts of six words. The first words of a text say what it is about."""
    rng = np.random.default_rng(seed)
    return [" ".join(WORDS[w] for w in (*(rng.integers(0, 20) * 3 + np.arange(3)), *rng.integers(0, 300, 3))) for _ in range(n)]
