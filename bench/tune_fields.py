"""What ``tune`` must know of each kind of vector field: its queries, exact scores in float64, what its vectors take.

The scores are computed from the vectors that the collection gives out, by NumPy and SciPy: nothing is shared with the searches they judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

_FLOAT32 = 4e-6  # relative to the lengths of two vectors: what their product in float32 may be off


class Field:
    """A vector field of a collection: where ``sees`` says so, ``see`` every vector; ``ask`` the queries; then ``scores`` page by page.

    page: points read at once. most: queries unless the user says how many.
    """

    page, most, sees = 2000, 200, False

    def __init__(self, name: str, spec: Any):
        self.name, self.spec = name, spec
        self.points = self.numbers = self.rows = 0  # that have the field; what their vectors hold

    def see(self, values: Sequence) -> None:
        """A page of vectors, before any query is known."""

    def query(self, value: Any) -> Any:
        """A point's vector as a query."""
        return value.astype(np.float32)

    def asks(self, query: Any) -> bool:
        """Whether a query can find anything."""
        return True

    def ask(self, queries: Sequence) -> None:
        """What is asked, as ``search`` takes it; at least one."""
        self.asked = list(queries)

    def scores(self, values: Sequence) -> tuple[np.ndarray, np.ndarray | None]:
        """(queries, rows) float64, higher is better; and which rows each query can find, bool of that shape, None for all."""
        raise NotImplementedError

    def rescored(self, values: Sequence) -> np.ndarray:
        """(queries, rows) float64: the scores, each raised by as much as a search in float32 may be wrong about it."""
        return self.scores(values)[0]

    def rounded(self, values: Sequence) -> Sequence | None:
        """The vectors as float16 would keep them; None where that is no choice."""
        return None

    def many(self, count: int) -> Any:
        """``count`` queries as ``search_batch`` takes them."""
        return [self.asked[i % len(self.asked)] for i in range(count)]

    def from_file(self, path: Path) -> list:
        """Queries out of a file of vectors. Raises ValueError."""
        raise NotImplementedError

    def count(self, values: Sequence) -> None:
        """Add a page to ``points``, ``rows`` and ``numbers``."""
        self.points += len(values)

    def nbytes(self) -> int:
        """What the vectors alone take, in their own type."""
        return self.numbers * (2 if self.spec.dtype == "float16" else 4)

    def form(self) -> str:
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Its settings and sizes, for the figures."""
        return {"kind": self.spec.kind, "form": self.form(), "with_field": self.points, "raw_vectors": self.nbytes()}


def make(name: str, spec: Any) -> Field:
    return {"dense": Dense, "sparse": Sparse, "multi": Multi}[spec.kind](name, spec)


class Dense(Field):
    def scores(self, values):
        rows, queries = np.stack(values).astype(np.float64), np.stack(self.asked).astype(np.float64)
        if self.spec.metric == "l2":
            return 2 * queries @ rows.T - (rows**2).sum(axis=1) - (queries**2).sum(axis=1)[:, None], None
        if self.spec.metric == "cosine":
            rows, queries = _unit(rows), _unit(queries)
        return queries @ rows.T, None

    def rescored(self, values):
        rows, queries = (np.linalg.norm(np.stack(side).astype(np.float64), axis=1) for side in (values, self.asked))
        scores, _ = self.scores(values)
        if self.spec.metric == "l2":
            return scores + 1e-11 * (queries[:, None] ** 2 + rows**2)  # of the sums above, which cancel out
        return scores + _FLOAT32 * (1.0 if self.spec.metric == "cosine" else queries[:, None] * rows)

    def rounded(self, values):
        return [value.astype(np.float16) for value in values] if self.spec.dtype == "float32" else None

    def many(self, count):
        return np.stack(super().many(count))

    def from_file(self, path):
        from .data import files

        reader = files._READERS.get(path.suffix.lower())
        if reader is None:
            raise ValueError(f"{path}: queries of a dense field are .npy or .fvecs{_or_texts(self.spec)}")
        asked = np.asarray(reader(path).vectors)
        if asked.shape[1] != self.spec.dim:
            raise ValueError(f"{path} has {asked.shape[1]} dimensions, the field {self.name!r} {self.spec.dim}")
        return list(asked)

    def count(self, values):
        super().count(values)
        self.rows += len(values)
        self.numbers += len(values) * self.spec.dim

    def form(self):
        return f"{self.spec.dim} {self.spec.dtype}, {self.spec.metric}"


class Multi(Field):
    """Several vectors a point. Its truth costs as much as an exact search of every query in float64, so fewer are asked."""

    page, most = 500, 50

    def ask(self, queries):
        super().ask(queries)
        self.wide = [self._scored(np.asarray(query)) for query in self.asked]

    def _scored(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        return _unit(rows) if self.spec.metric == "cosine" else rows

    def scores(self, values):
        starts = np.concatenate([[0], np.cumsum([len(value) for value in values[:-1]])]).astype(np.int64)
        rows = self._scored(np.concatenate(values))
        found = np.empty((len(self.wide), len(values)))
        for i, query in enumerate(self.wide):
            best = np.maximum.reduceat(query @ rows.T, starts, axis=1)  # of each document, for each vector of the query
            found[i] = best.sum(axis=0) if self.spec.aggregation == "maxsim" else best.max(axis=0)
        return found, None

    rounded = Dense.rounded

    def from_file(self, path):
        if path.suffix.lower() != ".npy":
            raise ValueError(f"{path}: queries of a multi-vector field are .npy (queries × vectors × dim){_or_texts(self.spec)}")
        asked = np.load(path)
        if asked.ndim != 3 or asked.shape[2] != self.spec.dim or not asked.shape[1]:
            raise ValueError(f"{path} has shape {asked.shape}; queries of {self.name!r} are (queries, vectors, {self.spec.dim})")
        return list(asked.astype(np.float32))

    def count(self, values):
        super().count(values)
        rows = sum(len(value) for value in values)
        self.rows, self.numbers = self.rows + rows, self.numbers + rows * self.spec.dim

    def form(self):
        spec = self.spec
        return f"~{self.rows / max(1, self.points):.0f} × {spec.dim} {spec.dtype}, {spec.metric}, {spec.aggregation}"


class Sparse(Field):
    """Terms with weights; a query finds rows that share a term with it. postings: how many terms of rows all queries reach together."""

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
        """Rows that hold each term (ascending)."""
        found = np.zeros(len(terms), np.int64)
        for known, counts in self._seen:
            at, there = _places(terms, known)
            found[at[there]] += counts[there]
        return found

    def ask(self, queries):
        import scipy.sparse

        super().ask(queries)
        self.terms = np.unique(np.concatenate([_terms(query) for query in self.asked]))
        weights = np.ones(len(self.terms))
        if self.sees:
            df = self._frequencies(self.terms)
            weights = np.log(1 + (self._rows_seen - df + 0.5) / (df + 0.5))
        self.matrix = self._matrix([(_terms(query), query[1]) for query in self.asked]) @ scipy.sparse.diags_array(weights)
        self.shared = (self.matrix != 0).astype(np.float64)

    def _matrix(self, values: Sequence):
        """CSR float64 (rows, terms of the queries)."""
        import scipy.sparse

        terms = np.concatenate([terms for terms, _ in values])
        weights = np.concatenate([weights for _, weights in values]).astype(np.float64)
        owner = np.repeat(np.arange(len(values)), [len(terms) for terms, _ in values])
        at, there = _places(self.terms, terms)
        return scipy.sparse.csr_array((weights[there], (owner[there], at[there])), shape=(len(values), len(self.terms)))

    def scores(self, values):
        rows = self._matrix(values)
        common = (self.shared @ (rows != 0).astype(np.float64).T).toarray()
        self.postings += int(common.sum())
        return (self.matrix @ rows.T).toarray(), common > 0

    def rescored(self, values):
        return (self.matrix @ self._matrix(values).T).toarray()

    def from_file(self, path):
        if path.suffix.lower() != ".npz":
            raise ValueError(f"{path}: queries of a sparse field are .npz (a SciPy CSR matrix, columns are terms){_or_texts(self.spec)}")
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
        return 8 * self.numbers  # a term in 4 bytes, its weight in 4

    def form(self):
        weighting = f", {self.spec.weighting}" if self.spec.weighting else ""
        return f"~{self.numbers / max(1, self.points):.0f} terms{weighting}"

    def about(self):
        asked = len(self.asked)
        terms = sum(len(_terms(query)) for query in self.asked) / max(1, asked)
        return super().about() | {"postings": self.postings / max(1, asked), "query_terms": terms}


def encoded(spec: Any, path: Path, count: int) -> list:
    """Queries from a file of texts, one a line, by the field's own encoder. Raises ValueError."""
    from vectordb import encoders

    if spec.encoder is None:
        raise ValueError(f"{path} holds texts, and the field has no encoder")
    texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][:count]
    if not texts:
        raise ValueError(f"{path} holds no text")
    return list(encoders.load(spec.encoder).encode_queries(texts))


def pages(collection: Any, size: int, **options: Any) -> Iterator[list]:
    """All points of a collection, in id order."""
    cursor = None
    while True:
        page = collection.scroll(limit=size, cursor=cursor, **options)
        yield list(page)
        cursor = page.cursor
        if cursor is None:
            return


def _terms(query: tuple) -> np.ndarray:
    return np.asarray(query[0]).astype(np.uint64)


def _places(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``asked`` stands in ``known`` (ascending), and whether it does at all."""
    at = np.minimum(np.searchsorted(known, asked), max(0, len(known) - 1))
    return at, (known[at] == asked) if len(known) else np.zeros(len(asked), bool)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-300)


def _or_texts(spec: Any) -> str:
    return ", or .txt with a text a line" if spec.encoder else ""
