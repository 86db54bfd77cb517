"""bm25s: sums of precomputed scores, with one column of a sparse matrix per term."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System, Unsupported


class BM25S(System):
    """The rows' weights replace bm25s's BM25 scores, so that it has the same task as the other systems.

    bm25s has no query weights: a query is a set of terms. Queries with different weights are refused.
    """

    name = "bm25s"
    needs = ("bm25s==0.3.16", "numba>=0.60", "scipy>=1.11")
    imports = ("bm25s", "numba", "scipy")
    does = frozenset({"sparse", "filtered"})
    rows_per_call = WHOLE
    exact_setting = {}
    notes = "exact; queries without weights only; Numba backend; filters are passed as precomputed weight masks"

    def create(self, dataset, folder, threads):
        return {"backend": "numba"}

    def insert(self, dataset, rows):
        import bm25s

        columns = dataset.sparse[rows].tocsc()
        columns.sort_indices()
        self.index = bm25s.BM25(backend="numba")
        terms = columns.shape[1]
        self.index.scores = {
            "data": columns.data.astype(np.float32),
            "indices": columns.indices.astype(np.int32),
            "indptr": columns.indptr.astype(np.int64),
            "num_docs": columns.shape[0],
        }
        self.index.vocab_dict = {str(term): term for term in range(terms)}
        self.index.unique_token_ids_set = set(range(terms))
        self.index.nonoccurrence_array = None

    def finish(self):
        self.index.activate_numba_scorer()
        self.search([0], 1, None)  # compiles the Numba kernels

    def query(self, query):
        terms, values = query
        if len(values) and np.ptp(values) > 1e-6 * np.max(values):
            raise Unsupported("bm25s has no query weights, but these queries have them")
        return terms.tolist()

    def filter(self, where):
        return where.mask.astype(np.float32)

    def search(self, query, k, where):
        return self.index.retrieve([query], k=k, n_threads=1, show_progress=False, weight_mask=where)

    def ids(self, hits):
        rows, scores = hits
        return np.asarray(rows[0], np.int64)[np.asarray(scores[0]) > 0]
