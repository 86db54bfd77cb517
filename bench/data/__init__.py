"""Data sets by name: ``load(name)`` makes or fetches one, keeps it in the cache folder with a SHA-256 of its content, and gives a Dataset."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("cosine", "dot", "l2")


def cache_folder() -> Path:
    """$VECTORDB_BENCH_CACHE, or ~/.cache/vectordb/bench."""
    given = os.environ.get("VECTORDB_BENCH_CACHE")
    return Path(given).expanduser() if given else Path("~/.cache/vectordb/bench").expanduser()


class DataError(Exception):
    """A data set can't be had; the message says what to install or to pass."""


@dataclass
class Dataset:
    """Points (rows 0 … n-1 are their ids), queries, and what is known about them.

    metric: of the dense vectors; sparse vectors are always compared by inner product. vectors: (n, dim) float32, unit length for "cosine".
    sparse, sparse_queries: (n, terms), (q, terms) scipy CSR float32. attributes: name → a column of n values: an int array, a list of strings
    or None (keyword, nullable), a list of lists of strings (tags), a list of ints or None. qrels: query number → {row: grade}.
    texts, query_texts: for systems that want text. hash: SHA-256 of all of it.
    """

    name: str
    metric: str = "cosine"
    vectors: np.ndarray | None = None
    queries: np.ndarray | None = None
    sparse: Any = None
    sparse_queries: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    qrels: dict[int, dict[int, float]] | None = None
    texts: list[str] | None = None
    query_texts: list[str] | None = None
    hash: str = ""
    about: str = ""

    def __len__(self) -> int:
        return len(self.vectors) if self.vectors is not None else self.sparse.shape[0]

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    @property
    def arm(self) -> str:
        """What is searched: "dense", "sparse" or "hybrid"."""
        return "hybrid" if self.vectors is not None and self.sparse is not None else "sparse" if self.vectors is None else "dense"

    @property
    def query_count(self) -> int:
        return len(self.queries) if self.queries is not None else self.sparse_queries.shape[0]
