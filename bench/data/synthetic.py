"""Generated data: clustered dense vectors, SPLADE-like sparse vectors, and attributes of chosen selectivity and correlation.

The same seed gives the same bytes with the same version of NumPy. The report shows a hash, which can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import Dataset, unit

SEED = 20_261_122
_ROWS = 65_536  # rows that are drawn at a time
VOCABULARY = 30_522  # tokens of BERT's tokenizer, which are SPLADE's terms
BUCKETS = (2, 10, 20, 100, 1000, 2000, 10_000)
TAG_BUCKETS = (2, 10, 100, 1000)
NULLS = {"opt50": 0.5, "opt10": 0.1, "opt1": 0.01, "opt01": 0.001, "opt90": 0.9}


def clustered(
    n: int = 100_000,
    dim: int = 384,
    queries: int = 1000,
    centres: int = 256,
    intrinsic: int = 24,
    shared: int = 64,
    noise: float = 1.5,
    seed: int = SEED,
) -> Dataset:
    """Unit vectors in overlapping clusters, like embeddings of texts, with attributes. Queries are drawn like points.

    A cluster is a Gaussian around its centre, in ``intrinsic`` directions of its own; its radius is ``noise`` × the length of the centre.
    Centres and directions lie in a subspace of ``shared`` dimensions. A fifth of the noise lies in all dimensions, and the distance of a
    point from its centre varies (log-normal). With the defaults and 20,000 points, 56 % of a query's ten nearest rows are in the nearest of
    128 k-means clusters, and the local intrinsic dimension is 18. MiniLM on Debian's descriptions has 56 % and 23; GloVe has 40 % and 17.
    The clusters overlap because separate clusters would favour systems that partition space, such as IVF.
    """
    rng = np.random.default_rng(seed)
    vectors, labels = _draw(rng, n + queries, dim, centres, intrinsic, shared, noise)
    place = place_of(vectors[:n], labels[:n], rng)
    about = f"{centres} overlapping clusters, {intrinsic} intrinsic of {min(shared, dim)} shared dimensions, noise {noise:g}, seed {seed}"
    attributes = attributes_of(place, np.random.default_rng(seed + 1))
    return Dataset("clustered", "cosine", vectors[:n], vectors[n:], attributes=attributes, about=about)


def _draw(
    rng: np.random.Generator, n: int, dim: int, centres: int, intrinsic: int = 24, shared: int = 64, noise: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    shared = min(shared, dim)
    intrinsic = min(intrinsic, shared)
    space = rng.standard_normal((shared, dim), dtype=np.float32) / np.float32(np.sqrt(dim))
    middles = unit(rng.standard_normal((centres, shared), dtype=np.float32) @ space)
    bases = rng.standard_normal((centres, intrinsic, shared), dtype=np.float32) / np.float32(np.sqrt(intrinsic * shared))
    shares = np.exp(0.5 * rng.standard_normal(centres))  # cluster sizes vary, as in real data
    labels = rng.choice(centres, n, p=shares / shares.sum())
    vectors = np.empty((n, dim), dtype=np.float32)
    for label in range(centres):
        rows = np.flatnonzero(labels == label)
        out = np.exp(0.3 * rng.standard_normal((len(rows), 1), dtype=np.float32))
        inside = (out * rng.standard_normal((len(rows), intrinsic), dtype=np.float32)) @ (bases[label] @ space)
        across = rng.standard_normal((len(rows), dim), dtype=np.float32) * np.float32(0.2 / np.sqrt(dim))
        vectors[rows] = middles[label] + np.float32(noise) * (inside + across)
    return unit(vectors), labels


def shared_noise(
    n: int = 100_000,
    dim: int = 384,
    queries: int = 1000,
    centres: int = 200,
    shared: int = 64,
    noise: float = 0.35,
    rest: float = 0.1,
    seed: int = SEED,
) -> Dataset:
    """Unit vectors around centres whose noise lies in the same few directions for all: hard for graphs and codes, with attributes.

    A point is a random unit vector (one of ``centres``), plus ``noise`` × a Gaussian of expected length √shared in ``shared`` directions
    that all clusters have in common, plus ``rest`` × a Gaussian of expected length 1 in all dimensions. The noise is longer than the
    centre, so the shared directions decide which points are neighbours, and in them no cluster differs from another.
    """
    rng = np.random.default_rng(seed)
    middles = unit(rng.standard_normal((centres, dim), dtype=np.float32))
    space = rng.standard_normal((min(shared, dim), dim), dtype=np.float32) / np.float32(np.sqrt(dim))
    labels = rng.integers(0, centres, n + queries)
    vectors = np.empty((n + queries, dim), dtype=np.float32)
    for low in range(0, len(vectors), _ROWS):
        part = labels[low : low + _ROWS]
        inside = rng.standard_normal((len(part), len(space)), dtype=np.float32) @ space
        across = rng.standard_normal((len(part), dim), dtype=np.float32) / np.float32(np.sqrt(dim))
        vectors[low : low + _ROWS] = middles[part] + np.float32(noise) * inside + np.float32(rest) * across
    vectors = unit(vectors)
    place = place_of(vectors[:n], labels[:n], rng)
    about = f"{centres} centres, noise {noise:g} in {len(space)} directions that all share, {rest:g} in all, seed {seed}"
    attributes = attributes_of(place, np.random.default_rng(seed + 1))
    return Dataset("shared-noise", "cosine", vectors[:n], vectors[n:], attributes=attributes, about=about)


class SparseSource:
    """SPLADE-like vectors. Half of a vector's terms come from all terms and half from its topic, both with Zipf–Mandelbrot frequencies."""

    def __init__(self, rng: np.random.Generator, topics: int = 64, vocabulary: int = VOCABULARY):
        self.rng, self.vocabulary = rng, vocabulary
        self.orders = np.stack([rng.permutation(vocabulary) for _ in range(topics)]).astype(np.int32)

    def rows(self, topics: np.ndarray, draws: float):
        """A row for each given topic number, CSR float32; about an eighth of the draws repeat a term."""
        import scipy.sparse

        rng, n, top, shift = self.rng, len(topics), self.vocabulary, 20.0
        sizes = np.maximum(rng.poisson(draws, n), 1)
        total = int(sizes.sum())
        rank = np.minimum(shift * ((top + shift) / shift) ** rng.random(total, np.float32) - shift, top - 1).astype(np.int32)
        terms = np.where(rng.random(total, np.float32) < 0.5, rank, self.orders[np.repeat(topics % len(self.orders), sizes), rank])
        weights = 0.05 + 0.6 * rng.standard_exponential(total, np.float32)
        matrix = scipy.sparse.csr_matrix((weights, terms, np.concatenate([[0], np.cumsum(sizes)])), shape=(n, top))
        matrix.sum_duplicates()
        return matrix


def sparse(n: int = 100_000, queries: int = 1000, topics: int = 64, seed: int = SEED) -> Dataset:
    """SPLADE-like vectors: 30,522 terms, about 125 non-zeros a document and 40 a query."""
    rng = np.random.default_rng(seed)
    source = SparseSource(rng, topics)
    labels = rng.integers(0, topics, n + queries)
    documents, sparse_queries = source.rows(labels[:n], 130), source.rows(labels[n:], 41)
    place = np.argsort(np.argsort(labels[:n], kind="stable"))
    about = f"{topics} topics, Zipf–Mandelbrot terms, seed {seed}"
    attributes = attributes_of(place, np.random.default_rng(seed + 1))
    return Dataset("sparse", "dot", sparse=documents, sparse_queries=sparse_queries, attributes=attributes, about=about)


def hybrid(n: int = 100_000, dim: int = 384, queries: int = 1000, centres: int = 256, seed: int = SEED) -> Dataset:
    """Dense and sparse vectors of the same points. Each dense cluster is a sparse topic, so the two arms are correlated as in texts.

    A query is made from one point: its dense vector plus noise, and a third of its terms. That point is the relevant one in ``qrels``.
    """
    rng = np.random.default_rng(seed)
    vectors, labels = _draw(rng, n, dim, centres)
    source = SparseSource(rng)
    documents = source.rows(labels, 130)
    targets = rng.choice(n, queries, replace=False)
    moved = unit(vectors[targets] + 0.9 * unit(rng.standard_normal((queries, dim), dtype=np.float32)))
    sparse_queries = _third(documents[targets], rng) + source.rows(labels[targets], 8)
    place = place_of(vectors, labels, rng)
    return Dataset(
        "hybrid",
        "cosine",
        vectors,
        moved,
        documents,
        sparse_queries.tocsr(),
        attributes_of(place, np.random.default_rng(seed + 1)),
        qrels={i: {int(row): 1} for i, row in enumerate(targets)},
        about=f"{centres} clusters that are topics too; a query is about one point; seed {seed}",
    )


def _third(matrix, rng: np.random.Generator):
    kept = matrix.copy()
    kept.data = np.where(rng.random(kept.nnz) < 0.27, kept.data, 0).astype(np.float32)
    kept.eliminate_zeros()
    return kept


# Attributes


def place_of(vectors: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order the rows on a line so that neighbours in space are near each other; returns each row's place, 0 … n-1.

    Clusters are chained greedily, and rows within a cluster are sorted along its main direction. A correlated filter selects a window of
    places.
    """
    clusters = np.unique(labels)
    middles = np.stack([vectors[labels == label].mean(axis=0) for label in clusters])
    chain, left = [0], set(range(1, len(clusters)))
    while left:
        rest = np.fromiter(left, dtype=np.int64)
        nearest = int(rest[np.argmin(((middles[rest] - middles[chain[-1]]) ** 2).sum(axis=1))])
        chain.append(nearest)
        left.remove(nearest)
    place, low = np.empty(len(vectors), dtype=np.int64), 0
    for step in chain:
        rows = np.flatnonzero(labels == clusters[step])
        inside = vectors[rows] - middles[step]
        direction = rng.standard_normal(vectors.shape[1]).astype(np.float32)
        for _ in range(3):  # power iteration: close to the first principal component
            direction = inside.T @ (inside @ direction)
            direction /= np.linalg.norm(direction) or 1
        place[rows[np.argsort(inside @ direction, kind="stable")]] = np.arange(low, low + len(rows))
        low += len(rows)
    return place


def attributes_of(place: np.ndarray, rng: np.random.Generator) -> dict[str, list | np.ndarray]:
    """The attributes that ``filters.grid`` uses.

    ``u`` is a random permutation of 0 … n-1, and ``place`` is the row's place. ``u_10`` is the tenth of ``u`` that contains the row, as a
    keyword; others likewise. ``tags`` is a list of such keywords, with "most" in 90 % and "rare" in .05 % of the rows. ``grade`` is 0 … 9,
    ``flag`` is "yes" in 90 %, ``price`` is below 1,000,000, and ``opt…`` is null in the share of rows that its name says.
    """
    n = len(place)
    lines = {"u": rng.permutation(n), "place": np.asarray(place)}
    columns: dict[str, list | np.ndarray] = {name: line.astype(np.int64) for name, line in lines.items()}
    for name, line in lines.items():
        for count in BUCKETS:
            words = [f"{name[0]}{bucket}" for bucket in range(count)]
            columns[f"{name}_{count}"] = [words[bucket] for bucket in (line * count // n).tolist()]
    columns["tags"] = _tags(lines, rng)
    columns["grade"] = rng.integers(0, 10, n)
    columns["flag"] = np.where(rng.random(n) < 0.9, "yes", "no").tolist()
    columns["price"] = rng.integers(0, 1_000_000, n)
    for name, share in NULLS.items():
        nulls, values = rng.random(n) < share, rng.integers(0, 100, n)
        columns[name] = [None if null else value for null, value in zip(nulls.tolist(), values.tolist(), strict=True)]
    return columns


def _tags(lines: dict[str, np.ndarray], rng: np.random.Generator) -> list[list[str]]:
    n = len(lines["u"])
    columns = []
    for name, line in lines.items():
        for count in TAG_BUCKETS:
            words = [f"{name[0]}{count}:{bucket}" for bucket in range(count)]
            columns.append([words[bucket] for bucket in (line * count // n).tolist()])
    most, rare = (rng.random(n) < 0.9).tolist(), (rng.random(n) < 0.0005).tolist()
    more: Sequence[list[str]] = [["most"] * m + ["rare"] * r for m, r in zip(most, rare, strict=True)]
    return [[*row, *extra] for *row, extra in zip(*columns, more, strict=True)]
