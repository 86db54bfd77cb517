"""hnswlib: the reference implementation of HNSW. It has no wheels, so installation needs a C++ compiler."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System


class Hnswlib(System):
    """Build settings follow ALGO_PARAMS.md (M 12–48 for most data, more for embeddings) and the README (ef_construction 200).

    The exact mode is hnswlib's brute-force index (BFIndex) over the graph's vectors. With a filter it returns some rows twice.
    """

    name = "hnswlib"
    needs = ("hnswlib==0.8.0",)
    imports = ("hnswlib",)
    does = frozenset({"dense", "filtered", "delete", "reopen"})
    exact_setting = {"exact": True}
    rows_per_call = WHOLE
    effort = "ef"
    exact_filters = False
    notes = "filters are precomputed lists of bools, read point by point through a Python callback (its only interface)"
    M, EF_CONSTRUCTION = 32, 200

    def create(self, dataset, folder, threads):
        self._make(dataset, threads)
        self.index.init_index(max_elements=len(dataset), M=self.M, ef_construction=self.EF_CONSTRUCTION, random_seed=100)
        return {"M": self.M, "ef_construction": self.EF_CONSTRUCTION, "space": self.index.space}

    def _make(self, dataset, threads):
        import hnswlib

        # Rows have unit length for cosine. With the inner product hnswlib need not normalise every query.
        self.index = hnswlib.Index(space="l2" if dataset.metric == "l2" else "ip", dim=dataset.dim)
        self.threads, self.flat = threads, None

    def insert(self, dataset, rows):
        self.flat = None
        self.index.add_items(dataset.vectors[rows], rows, num_threads=self.threads)

    def finish(self):
        self.index.set_num_threads(1)

    def delete(self, ids):
        self.flat = None
        for row in ids.tolist():
            self.index.mark_deleted(row)

    def save(self, folder):
        self.index.save_index(self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._make(dataset, threads)
        self.index.load_index(self.file(folder), max_elements=len(dataset))
        self.finish()

    def set(self, setting):
        super().set(setting)
        if not self.is_exact:
            self.index.set_ef(setting["ef"])
        elif self.flat is None:
            self.flat = self._exhaustive()

    def _exhaustive(self):
        import hnswlib

        rows, vectors = [], []
        for row in self.index.get_ids_list():
            try:
                vectors.append(self.index.get_items([row])[0])
            except RuntimeError:  # the row is marked as deleted
                continue
            rows.append(row)
        flat = hnswlib.BFIndex(space=self.index.space, dim=self.index.dim)
        flat.init_index(max_elements=max(1, len(rows)))
        flat.add_items(np.array(vectors), rows)
        return flat

    def query(self, query):
        return query[None]

    def filter(self, where):
        return where.mask.tolist().__getitem__, int(where.mask.sum())

    def search(self, query, k, where):
        if self.is_exact:
            return self.flat.knn_query(query, k, 1)[0]
        if where is None:
            return self.index.knn_query(query, k, 1)[0]
        passes, matches = where
        k = min(k, matches)
        while k:  # hnswlib raises an error if it finds fewer than k; then try a smaller k
            try:
                return self.index.knn_query(query, k, 1, passes)[0]
            except RuntimeError:
                k //= 2
        return np.empty((1, 0))
