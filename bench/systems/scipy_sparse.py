"""SciPy's sparse matrices: exact sparse search in one line of Python."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System


class ScipySparse(System):
    """Sparse query × transposed CSR matrix, then argpartition: the fastest form in SciPy (bench/README.md)."""

    name = "scipy-sparse"
    needs = ("scipy>=1.11",)
    imports = ("scipy",)
    does = frozenset({"sparse", "filtered"})
    rows_per_call = WHOLE
    exact_setting = {}
    notes = "exact; filters are passed as precomputed masks"

    def create(self, dataset, folder, threads):
        return {"layout": "terms × rows, CSR"}

    def insert(self, dataset, rows):
        self.by_term = dataset.sparse[rows].T.tocsr()

    def query(self, query):
        import scipy.sparse

        terms, values = query
        return scipy.sparse.csr_matrix((values, terms, [0, len(terms)]), shape=(1, self.by_term.shape[0]), dtype=np.float32)

    def filter(self, where):
        return where.mask

    def search(self, query, k, where):
        hits = query @ self.by_term
        rows, scores = hits.indices, hits.data
        if where is not None:
            passing = where[rows]
            rows, scores = rows[passing], scores[passing]
        if len(scores) > k:
            best = np.argpartition(scores, -k)[-k:]
            rows, scores = rows[best], scores[best]
        return rows[np.argsort(-scores)]
