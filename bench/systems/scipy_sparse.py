"""SciPy's sparse matrices: exact sparse search in one line of Python."""

from __future__ import annotations

import numpy as np

from .base import System
from .common import each


class ScipySparse(System):
    """Sparse query × transposed CSR matrix, then argpartition: the fastest form in SciPy (bench/README.md)."""

    name = "scipy-sparse"
    needs = ("scipy>=1.11",)
    imports = ("scipy",)
    does = frozenset({"sparse", "filtered"})
    exact_setting = {}
    notes = "exact; filters are passed as precomputed masks"

    def create(self, dataset, folder, threads):
        return {"layout": "terms × rows, CSR"}

    def batch(self):
        return 2**62

    def insert(self, dataset, rows):
        self.rows, self.by_term = np.asarray(rows, np.int64), dataset.sparse[rows].T.tocsr()

    def prepare(self, queries, filters):
        import scipy.sparse

        terms = self.by_term.shape[0]
        made = [scipy.sparse.csr_matrix((v, t, [0, len(t)]), shape=(1, terms), dtype=np.float32) for t, v in queries]
        return made, each(filters, lambda where: np.asarray(where.mask)[self.rows])

    def search(self, query, k, where):
        found = query @ self.by_term
        rows, scores = found.indices, found.data
        if where is not None:
            passing = where[rows]
            rows, scores = rows[passing], scores[passing]
        if len(scores) > k:
            best = np.argpartition(scores, -k)[-k:]
            rows, scores = rows[best], scores[best]
        return rows[np.argsort(-scores)]

    def ids(self, found):
        return self.rows[found]
