"""Brute force in NumPy and SciPy: an exact baseline for reports and for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import BATCH, WHOLE, System


class Exact(System):
    """Scores every matching row with BLAS (dense, multi) or SciPy (sparse), then selects the best with argpartition."""

    name = "exact"
    kind = "library"
    needs = ("numpy", "scipy")
    imports = ("numpy",)
    environment = ""
    does = frozenset({"dense", "sparse", "hybrid", "filtered", "delete", "reopen", "batch", "multi"})
    exact_setting = {}
    notes = "every row is scored by BLAS (dense, multi) or SciPy (sparse): no index"

    def create(self, dataset, folder: Path, threads: int) -> dict:
        self.metric, self.arm = dataset.metric, dataset.arm
        self.alive = np.zeros(len(dataset), dtype=bool)
        if dataset.vectors is not None:
            self.vectors = np.zeros(dataset.vectors.shape, dtype=np.float32)
            self.squares = np.zeros(len(dataset), dtype=np.float32)
        return {}

    def insert(self, dataset, rows: np.ndarray) -> None:
        self.alive[rows] = True
        if dataset.vectors is not None:
            self.vectors[rows] = dataset.vectors[rows]
            self.squares[rows] = np.einsum("ij,ij->i", self.vectors[rows], self.vectors[rows])
        if dataset.multi is not None:
            self.multi = dataset.multi
        if dataset.sparse is not None:
            self.terms = dataset.sparse.T.tocsr() if len(rows) == dataset.sparse.shape[0] else self._changed(dataset, rows)

    def _changed(self, dataset, rows: np.ndarray):
        import scipy.sparse

        old = self.terms.T.tolil() if hasattr(self, "terms") else scipy.sparse.lil_matrix(dataset.sparse.shape, dtype=np.float32)
        old[rows] = dataset.sparse[rows]
        return old.tocsr().T.tocsr()

    def batch(self) -> int:
        return WHOLE if self.arm != "dense" else BATCH

    def delete(self, ids: np.ndarray) -> None:
        self.alive[ids] = False

    def save(self, folder: Path) -> None:
        np.save(folder / "alive.npy", self.alive)
        if self.arm in ("dense", "hybrid"):
            np.save(folder / "vectors.npy", self.vectors)
        if self.arm == "multi":
            np.savez(folder / "multi.npz", ends=self.multi.ends, values=self.multi.values)
        if self.arm in ("sparse", "hybrid"):
            import scipy.sparse

            scipy.sparse.save_npz(folder / "terms.npz", self.terms, compressed=False)

    def reopen(self, dataset, folder: Path, threads: int) -> None:
        self.metric, self.arm, self.alive = dataset.metric, dataset.arm, np.load(folder / "alive.npy")
        if self.arm == "multi":
            from ..data.tokens import Ragged

            with np.load(folder / "multi.npz") as arrays:
                self.multi = Ragged(arrays["ends"], arrays["values"])
        if self.arm in ("dense", "hybrid"):
            self.vectors = np.load(folder / "vectors.npy")
            self.squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        if self.arm in ("sparse", "hybrid"):
            import scipy.sparse

            self.terms = scipy.sparse.load_npz(folder / "terms.npz")

    def filter(self, where):
        return np.flatnonzero(where.mask)  # every exact search with a mask begins with that

    def search(self, query, k: int, where):
        if self.arm == "hybrid":
            dense, sparse = (self._best(self._scores(part), max(100, 4 * k), where) for part in query)
            return reciprocal_ranks((dense, sparse))[:k]
        return self._best(self._scores(query), k, where)

    def search_batch(self, queries, k: int):
        """One product of matrices, of dense vectors."""
        if self.arm == "multi":
            return [self.search(query, k, None) for query in queries]
        return [self._best(scores, k, None) for scores in (self.vectors @ np.stack(queries).T).T.copy()]

    def _scores(self, query) -> np.ndarray:
        if self.arm == "multi":
            return self.multi.best(query)
        if isinstance(query, tuple):
            indices, values = query
            return self.terms[indices].T @ values
        scores = self.vectors @ query
        return scores if self.metric != "l2" else 2 * scores - self.squares

    def _best(self, scores: np.ndarray, k: int, where) -> np.ndarray:
        rows = np.flatnonzero(self.alive) if where is None else where[self.alive[where]]
        scores = scores[rows]
        if k < len(rows):
            best = np.argpartition(-scores, k - 1)[:k]
            rows, scores = rows[best], scores[best]
        return rows[np.argsort(-scores, kind="stable")]


def reciprocal_ranks(lists, constant: int = 60) -> np.ndarray:
    """Fuse ranked lists of rows by reciprocal rank. Returns the rows, best first; ties in order of the row."""
    total: dict[int, float] = {}
    for rows in lists:
        for rank, row in enumerate(rows.tolist()):
            total[row] = total.get(row, 0.0) + 1.0 / (constant + rank + 1)
    return np.array(sorted(total, key=lambda row: (-total[row], row)), dtype=np.int64)
