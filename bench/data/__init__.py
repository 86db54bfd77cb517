"""Data sets by name: ``load(name)`` makes or downloads one and keeps it in the cache folder, with the SHA-256 of its content."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("cosine", "dot", "l2")


def cache_folder() -> Path:
    """The cache folder: $VECTORDB_BENCH_CACHE, else ~/.cache/vectordb/bench."""
    given = os.environ.get("VECTORDB_BENCH_CACHE")
    return Path(given).expanduser() if given else Path("~/.cache/vectordb/bench").expanduser()


class DataError(Exception):
    """A data set is not available. The message says what to install or to pass."""


@dataclass
class Dataset:
    """Points and queries, with attributes, texts and relevance judgements where the data has them. The id of a point is its row, 0 … n-1.

    metric: of the dense vectors; sparse vectors are always compared by inner product. vectors: (n, dim) float32, unit length for "cosine".
    sparse, sparse_queries: (n, terms) and (q, terms) scipy CSR float32. attributes: name → a column of n values, which is an int array, a
    list of strings or None (a nullable keyword), a list of lists of strings (tags), or a list of ints or None. qrels: query index →
    {row: grade}. multi, multi_queries: matrices of n points and of q queries (``tokens.Ragged``), for MaxSim; a data set with them has no
    other vectors. texts, query_texts: for systems that embed text. hash: SHA-256 of the data.
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
    multi: Any = None
    multi_queries: Any = None
    hash: str = ""
    about: str = ""

    def __len__(self) -> int:
        if self.multi is not None:
            return len(self.multi)
        return len(self.vectors) if self.vectors is not None else self.sparse.shape[0]

    @property
    def dim(self) -> int:
        return self.vectors.shape[1] if self.multi is None else self.multi.dim

    @property
    def arm(self) -> str:
        """Which vectors the data set has: "dense", "sparse", "hybrid" (both) or "multi"."""
        if self.multi is not None:
            return "multi"
        return "hybrid" if self.vectors is not None and self.sparse is not None else "sparse" if self.vectors is None else "dense"

    @property
    def query_count(self) -> int:
        if self.multi is not None:
            return len(self.multi_queries)
        return len(self.queries) if self.queries is not None else self.sparse_queries.shape[0]

    def only(self, arm: str) -> Dataset:
        """The data set with the vectors of this arm only. Raises DataError if it has none."""
        if (arm == "multi") != (self.multi is not None):
            raise DataError(f"data set {self.name} has {'only' if self.multi is not None else 'no'} multi-vectors")
        if (arm in ("dense", "hybrid") and self.vectors is None) or (arm in ("sparse", "hybrid") and self.sparse is None):
            raise DataError(f"data set {self.name} has no {arm} vectors")
        if arm == "dense":
            return replace(self, sparse=None, sparse_queries=None)
        return replace(self, vectors=None, queries=None) if arm == "sparse" else self

    def keep(self, names) -> Dataset:
        """The data set with these attributes only."""
        return replace(self, attributes={name: self.attributes[name] for name in names})

    def attributes_of(self, rows: np.ndarray) -> dict[str, Any]:
        """The attributes of these rows: name → column."""
        listed, columns = rows.tolist(), self.attributes.items()
        return {name: column[rows] if isinstance(column, np.ndarray) else [column[row] for row in listed] for name, column in columns}

    def query(self, i: int) -> Any:
        """Query i in the form of ``System.prepare``: a contiguous float32 array (multi: ``(rows, dim)``), (int32 indices, float32 values),
        or a pair of both.
        """
        if self.multi is not None:
            return self.multi_queries[i]
        return _form(self.queries, self.sparse_queries, i)

    def point(self, i: int) -> Any:
        """The vectors of row i in the form of a query."""
        if self.multi is not None:
            return self.multi[i]
        return _form(self.vectors, self.sparse, i)

    def describe(self) -> dict:
        """The facts about the data set that the report shows."""
        facts: dict[str, Any] = {
            "name": self.name,
            "points": len(self),
            "queries": self.query_count,
            "hash": self.hash,
            "about": self.about,
        }
        if self.vectors is not None:
            facts |= {"dim": self.dim, "metric": self.metric}
        if self.multi is not None:
            facts |= {"dim": self.dim, "metric": self.metric, "rows": round(float(self.multi.sizes.mean()), 1)}
            facts["query_rows"] = round(float(self.multi_queries.sizes.mean()), 1)
        if self.sparse is not None:
            rows, terms = self.sparse.shape
            facts |= {"terms": terms, "non_zeros": round(self.sparse.nnz / max(rows, 1), 1)}
            facts["query_non_zeros"] = round(self.sparse_queries.nnz / max(self.sparse_queries.shape[0], 1), 1)
        if self.attributes:
            facts["attributes"] = sorted(self.attributes)
        if self.qrels is not None:
            facts["judged_queries"] = len(self.qrels)
        return facts


def _form(vectors: np.ndarray | None, matrix: Any, i: int) -> Any:
    dense = None if vectors is None else np.ascontiguousarray(vectors[i], np.float32)
    if matrix is None:
        return dense
    low, high = matrix.indptr[i : i + 2]
    sparse = matrix.indices[low:high].astype(np.int32), matrix.data[low:high].astype(np.float32)
    return sparse if dense is None else (dense, sparse)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows scaled to length 1, float32. Zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(norms == 0, 1, norms), dtype=np.float32)


# By name

_SYNTHETIC = ("clustered", "shared-noise", "sparse", "hybrid", "multi-topic")
_REAL = ("debian-minilm", "glove-50", "fashion-mnist", "wordnet", "debian", "stdlib")
_SIZES = {"k": 1000, "m": 1_000_000}
_VERSION = 3  # part of the cache folder's name; increase it when the generated data changes


def names() -> dict[str, str]:
    """Name of each data set → its description."""
    from . import packages

    makers = {name: packages.PACKAGED[name] for name in _REAL} | {name: _generator(name) for name in _SYNTHETIC}
    return {name: maker.__doc__.strip().splitlines()[0] for name, maker in makers.items()}


def _generator(name: str) -> Any:
    from . import synthetic, tokens

    return tokens.multi_topic if name == "multi-topic" else getattr(synthetic, name.replace("-", "_"))


def load(name: str, **options: Any) -> Dataset:
    """Load a data set, from the cache if it is there. Raises DataError.

    name: one of ``names()``; with a size for fewer points ("clustered-20k", "glove-50-100k"); with options of its generator
    ("clustered:n=5000,dim=64"); with "tokens:" before it for the token vectors of its texts; or the path of a file or folder (options:
    queries, metric, column; see ``files.load``).
    """
    from . import store

    folder = folder_of(name, **options)
    if not (folder / "meta.json").exists():
        dataset = _make(name, options)
        store.write(dataset, folder)
    return store.read(folder)


def folder_of(name: str, **options: Any) -> Path:
    """The data set's folder in the cache, whether it exists or not."""
    key: list[Any] = [_VERSION, name, sorted((k, str(v)) for k, v in options.items() if v is not None)]
    path = Path(name)
    path = Path(name.removeprefix("tokens:"))
    if _is_path(str(path)):
        key += [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    short = re.sub(r"[^\w.-]+", "-", path.name)[:60]
    return cache_folder() / "datasets" / f"{short}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:10]}"


def _is_path(name: str) -> bool:
    return ("/" in name or "." in name) and Path(name).exists()


def _make(name: str, options: dict[str, Any]) -> Dataset:
    from . import files, packages, tokens

    if name.startswith(tokens.PREFIX):
        return replace(tokens.of_texts(load(name.removeprefix(tokens.PREFIX), **options)), name=name)
    if _is_path(name):
        given = {key: Path(value) if key == "queries" else value for key, value in options.items() if value is not None}
        return with_grid(files.load(Path(name), **given))
    base, _, tail = name.partition(":")
    sized = re.fullmatch(r"(.+?)-(\d+)([km])", base)
    base, size = (sized[1], int(sized[2]) * _SIZES[sized[3]]) if sized and base not in _REAL else (base, None)
    if base in _SYNTHETIC:
        given = [part.partition("=") for part in tail.split(",") if part]
        chosen = {key: float(value) if "." in value else int(value) for key, _, value in given}
        if size is not None:
            chosen["n"] = size
        try:
            dataset = _generator(base)(**chosen)
        except TypeError as error:
            raise DataError(f"{name}: {error}") from None
    elif base in _REAL and not tail:
        dataset = packages.PACKAGED[base]()
        dataset = with_grid(dataset if size is None else first(dataset, size))
    else:
        raise DataError(f"unknown data set {name!r}; known: {', '.join((*_SYNTHETIC, *_REAL))}, and paths of files")
    dataset.name = name
    return dataset


def first(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """A random sample of n rows. Judgements of other rows are removed."""
    if n >= len(dataset):
        return dataset
    rows = np.sort(np.random.default_rng(seed).choice(len(dataset), n, replace=False))
    where, pick = {int(row): i for i, row in enumerate(rows)}, rows.tolist()
    changed: dict[str, Any] = {"attributes": dataset.attributes_of(rows)}
    if dataset.vectors is not None:
        changed["vectors"] = np.asarray(dataset.vectors[rows])
    if dataset.sparse is not None:
        changed["sparse"] = dataset.sparse[rows]
    if dataset.multi is not None:
        changed["multi"] = dataset.multi.take(rows)
    if dataset.texts is not None:
        changed["texts"] = [dataset.texts[row] for row in pick]
    if dataset.qrels is not None:
        kept = {q: {where[row]: grade for row, grade in judged.items() if row in where} for q, judged in dataset.qrels.items()}
        changed["qrels"] = {q: judged for q, judged in kept.items() if judged}
    return replace(dataset, **changed)


def with_grid(dataset: Dataset, clusters: int = 256, seed: int = 0) -> Dataset:
    """Add the attributes that ``filters.grid`` uses, derived from k-means clusters of the vectors.

    An attribute of the data set with the same name is renamed with the prefix ``own_``.
    """
    from . import synthetic

    if dataset.vectors is None or "place" in dataset.attributes:
        return dataset
    rng = np.random.default_rng(seed)
    labels = _clusters(np.asarray(dataset.vectors), min(clusters, max(2, len(dataset) // 20)), rng)
    grid = synthetic.attributes_of(synthetic.place_of(dataset.vectors, labels, rng), rng)
    own = {f"own_{name}" if name in grid else name: values for name, values in dataset.attributes.items()}
    return replace(dataset, attributes={**grid, **own})


def _clusters(vectors: np.ndarray, count: int, rng: np.random.Generator, rounds: int = 6) -> np.ndarray:
    """The cluster of each row: k-means (Lloyd's algorithm) on a sample, then the nearest centre of every row."""
    sample = np.asarray(vectors[rng.choice(len(vectors), min(len(vectors), count * 80), replace=False)], dtype=np.float32)
    centres = sample[rng.choice(len(sample), count, replace=False)]

    def nearest(rows: np.ndarray) -> np.ndarray:
        return np.argmin((centres**2).sum(axis=1) - 2 * (rows @ centres.T), axis=1)

    for _ in range(rounds):
        label = nearest(sample)
        for i in np.unique(label):
            centres[i] = sample[label == i].mean(axis=0)
    return np.concatenate([nearest(np.asarray(vectors[low : low + 8192])) for low in range(0, len(vectors), 8192)])
