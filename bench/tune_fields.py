"""The kinds of vector fields for ``tune``: dense, sparse and multi-vector. Each has its queries, exact float64 scores, and sizes.

Scores are computed by NumPy and SciPy from the vectors that the collection returns. They share no code with the searches they judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

_FLOAT32 = 4e-6  # error of a float32 inner product, relative to the product of the vectors' lengths


class Field:
    """A vector field of a collection. Call ``see`` for every page if ``sees`` is true, then ``ask`` once, then ``scores`` for every page.

    page: points per page. most: default number of queries.
    """

    page, most, sees = 2000, 200, False

    def __init__(self, name: str, spec: Any):
        self.name, self.spec = name, spec
        self.points = self.numbers = self.rows = 0  # points with the field; numbers and rows in their vectors

    def see(self, values: Sequence) -> None:
        """Take note of a page of vectors, before ``ask``."""

    def query(self, value: Any) -> Any:
        """A stored vector in the form of a query."""
        return value.astype(np.float32)

    def asks(self, query: Any) -> bool:
        """Whether a query can have hits; False for a query without terms."""
        return True

    def ask(self, queries: Sequence) -> None:
        """Set the queries, in the form that ``search`` accepts. At least one."""
        self.queries = list(queries)

    def scores(self, values: Sequence) -> tuple[np.ndarray, np.ndarray | None]:
        """(scores, reached) of a page. scores: (queries, rows) float64, higher is better. reached: rows that each query can find, bool of
        the same shape, or None for all."""
        raise NotImplementedError

    def rescored(self, values: Sequence) -> np.ndarray:
        """(queries, rows) float64: the scores, raised by the largest rounding error of a float32 search."""
        return self.scores(values)[0]

    def rounded(self, values: Sequence) -> Sequence | None:
        """The vectors rounded to float16, or None if the field can't be float16 or already is."""
        return None

    def many(self, count: int) -> Any:
        """``count`` queries in the form that ``search_batch`` accepts. They repeat if there are fewer."""
        return [self.queries[i % len(self.queries)] for i in range(count)]

    def from_file(self, path: Path) -> list:
        """Read queries from a file of vectors. Raises ValueError for a wrong format or shape."""
        raise NotImplementedError

    def count(self, values: Sequence) -> None:
        """Add a page to ``points``, ``rows`` and ``numbers``."""
        self.points += len(values)

    def nbytes(self) -> int:
        """Bytes of the vectors alone, in the field's dtype."""
        return self.numbers * (2 if self.spec.dtype == "float16" else 4)

    def form(self) -> str:
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Kind, form and sizes of the field, for the results."""
        return {"kind": self.spec.kind, "form": self.form(), "with_field": self.points, "raw_vectors": self.nbytes()}


def make(name: str, spec: Any) -> Field:
    return {"dense": Dense, "sparse": Sparse, "multi": Multi}[spec.kind](name, spec)


class Dense(Field):
    def scores(self, values):
        rows, queries = np.stack(values).astype(np.float64), np.stack(self.queries).astype(np.float64)
        if self.spec.metric == "l2":
            return 2 * queries @ rows.T - (rows**2).sum(axis=1) - (queries**2).sum(axis=1)[:, None], None
        if self.spec.metric == "cosine":
            rows, queries = _unit(rows), _unit(queries)
        return queries @ rows.T, None

    def rescored(self, values):
        rows, queries = (np.linalg.norm(np.stack(side).astype(np.float64), axis=1) for side in (values, self.queries))
        scores, _ = self.scores(values)
        if self.spec.metric == "l2":
            return scores + 1e-11 * (queries[:, None] ** 2 + rows**2)  # bound of the cancellation error in the sums above
        return scores + _FLOAT32 * (1.0 if self.spec.metric == "cosine" else queries[:, None] * rows)

    def rounded(self, values):
        return [value.astype(np.float16) for value in values] if self.spec.dtype == "float32" else None

    def many(self, count):
        return np.stack(super().many(count))

    def from_file(self, path):
        from .data import files

        reader = files._READERS.get(path.suffix.lower())
        if reader is None:
            raise ValueError(f"{path}: queries of a dense field must be .npy or .fvecs{_or_texts(self.spec)}")
        queries = np.asarray(reader(path).vectors)
        if queries.shape[1] != self.spec.dim:
            raise ValueError(f"{path} has vectors of {queries.shape[1]} dimensions, but the field {self.name!r} has {self.spec.dim}")
        return list(queries)

    def count(self, values):
        super().count(values)
        self.rows += len(values)
        self.numbers += len(values) * self.spec.dim

    def form(self):
        return f"{self.spec.dim} {self.spec.dtype}, {self.spec.metric}"


class Multi(Field):
    """A multi-vector field: several vectors per point. Its ground truth is expensive to compute, so it has fewer queries."""

    page, most = 500, 50

    def ask(self, queries):
        super().ask(queries)
        self.wide = [self._scored(np.asarray(query)) for query in self.queries]

    def _scored(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        return _unit(rows) if self.spec.metric == "cosine" else rows

    def scores(self, values):
        starts = np.concatenate([[0], np.cumsum([len(value) for value in values[:-1]])]).astype(np.int64)
        rows = self._scored(np.concatenate(values))
        scores = np.empty((len(self.wide), len(values)))
        for i, query in enumerate(self.wide):
            best = np.maximum.reduceat(query @ rows.T, starts, axis=1)  # per document and vector of the query
            scores[i] = best.sum(axis=0) if self.spec.aggregation == "maxsim" else best.max(axis=0)
        return scores, None

    rounded = Dense.rounded

    def from_file(self, path):
        if path.suffix.lower() != ".npy":
            raise ValueError(f"{path}: queries of a multi-vector field must be .npy, (queries, vectors, dim){_or_texts(self.spec)}")
        queries = np.load(path)
        if queries.ndim != 3 or queries.shape[2] != self.spec.dim or not queries.shape[1]:
            raise ValueError(
                f"{path} has shape {queries.shape}; queries of {self.name!r} must have shape (queries, vectors, {self.spec.dim})"
            )
        return list(queries.astype(np.float32))

    def count(self, values):
        super().count(values)
        rows = sum(len(value) for value in values)
        self.rows, self.numbers = self.rows + rows, self.numbers + rows * self.spec.dim

    def form(self):
        spec = self.spec
        return f"~{self.rows / max(1, self.points):.0f} × {spec.dim} {spec.dtype}, {spec.metric}, {spec.aggregation}"


class Sparse(Field):
    """A sparse field. A query finds rows that share a term with it. postings: the number of postings that all queries reach together."""

    def __init__(self, name: str, spec: Any):
        super().__init__(name, spec)
        self.sees = spec.weighting == "idf"
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []
        self._rows_seen = self.postings = 0

    def see(self, values):
        if not values:
            return
        terms, counts = np.unique(np.concatenate([terms for terms, _ in values]), return_counts=True)
        self._seen.append((terms, counts))
        self._rows_seen += len(values)

    def query(self, value):
        return value

    def asks(self, query):
        return len(_terms(query)) > 0

    def _frequencies(self, terms: np.ndarray) -> np.ndarray:
        """Document frequencies: the number of rows that contain each term. terms: ascending."""
        counts_of = np.zeros(len(terms), np.int64)
        for seen, counts in self._seen:
            places, existing = _places(terms, seen)
            counts_of[places[existing]] += counts[existing]
        return counts_of

    def ask(self, queries):
        import scipy.sparse

        super().ask(queries)
        self.terms = np.unique(np.concatenate([_terms(query) for query in self.queries]))
        weights = np.ones(len(self.terms))
        if self.sees:
            df = self._frequencies(self.terms)
            weights = np.log(1 + (self._rows_seen - df + 0.5) / (df + 0.5))
        self.matrix = self._matrix([(_terms(query), query[1]) for query in self.queries]) @ scipy.sparse.diags_array(weights)
        self.shared = (self.matrix != 0).astype(np.float64)

    def _matrix(self, values: Sequence):
        """The rows as a float64 CSR matrix, with a column for each term of the queries."""
        import scipy.sparse

        terms = np.concatenate([terms for terms, _ in values])
        weights = np.concatenate([weights for _, weights in values]).astype(np.float64)
        owner = np.repeat(np.arange(len(values)), [len(terms) for terms, _ in values])
        places, existing = _places(self.terms, terms)
        return scipy.sparse.csr_array((weights[existing], (owner[existing], places[existing])), shape=(len(values), len(self.terms)))

    def scores(self, values):
        rows = self._matrix(values)
        common = (self.shared @ (rows != 0).astype(np.float64).T).toarray()
        self.postings += int(common.sum())
        return (self.matrix @ rows.T).toarray(), common > 0

    def rescored(self, values):
        return (self.matrix @ self._matrix(values).T).toarray()

    def from_file(self, path):
        if path.suffix.lower() != ".npz":
            raise ValueError(f"{path}: queries of a sparse field must be .npz (a SciPy CSR matrix, queries × terms){_or_texts(self.spec)}")
        import scipy.sparse

        matrix = scipy.sparse.csr_array(scipy.sparse.load_npz(path))
        matrix.sum_duplicates()
        ends = matrix.indptr.tolist()
        terms, weights = matrix.indices.astype(np.uint64), matrix.data.astype(np.float32)
        return [(terms[low:high], weights[low:high]) for low, high in pairwise(ends)]

    def count(self, values):
        super().count(values)
        self.numbers += sum(len(terms) for terms, _ in values)

    def nbytes(self):
        return 8 * self.numbers  # 4 bytes for a term and 4 for its weight

    def form(self):
        weighting = f", {self.spec.weighting}" if self.spec.weighting else ""
        return f"~{self.numbers / max(1, self.points):.0f} terms{weighting}"

    def about(self):
        count = len(self.queries)
        terms = sum(len(_terms(query)) for query in self.queries) / max(1, count)
        return super().about() | {"postings": self.postings / max(1, count), "query_terms": terms}


def encoded(spec: Any, path: Path, count: int) -> list:
    """Queries from a file with one text per line, encoded by the field's encoder. Raises ValueError."""
    from vectordb import encoders

    if spec.encoder is None:
        raise ValueError(f"{path} contains texts, but the field has no encoder; pass a file of vectors")
    texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][:count]
    if not texts:
        raise ValueError(f"{path} contains no text")
    return list(encoders.load(spec.encoder).encode_queries(texts))


def pages(collection: Any, size: int, **options: Any) -> Iterator[list]:
    """All points of a collection in id order, in lists of ``size``. options: of ``Collection.scroll``."""
    cursor = None
    while True:
        page = collection.scroll(limit=size, cursor=cursor, **options)
        yield list(page)
        cursor = page.cursor
        if cursor is None:
            return


def _terms(query: tuple) -> np.ndarray:
    return np.asarray(query[0]).astype(np.uint64)


def _places(ordered: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index of each term in ``ordered``, whether it is there). ordered: ascending."""
    places = np.minimum(np.searchsorted(ordered, terms), max(0, len(ordered) - 1))
    return places, (ordered[places] == terms) if len(ordered) else np.zeros(len(terms), bool)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-300)


def _or_texts(spec: Any) -> str:
    return ", or .txt with one text per line" if spec.encoder else ""
