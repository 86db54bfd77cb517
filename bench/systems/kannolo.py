"""kANNolo: HNSW in Rust, over dense and over sparse vectors."""

from __future__ import annotations

import os

import numpy as np

from .base import WHOLE, System


class Kannolo(System):
    """kANNolo with its defaults: m 32, ef_construction 200. Graph type "compressed" gives the same results with a smaller, faster index.

    The exhaustive search reads the same 16-bit vectors, so it is not exact (recall .999 on clustered-100k) and is no exact mode here.
    """

    name = "kannolo"
    needs = ("kannolo==0.15.1",)
    imports = ("kannolo",)
    does = frozenset({"dense", "filtered", "reopen"})
    rows_per_call = WHOLE
    effort = "ef_search"
    notes = "stores 16-bit vectors; filters (ACORN-1) are precomputed lists of bools, read point by point through a Python callback"
    M, EF_CONSTRUCTION = 32, 200

    def create(self, dataset, folder, threads):
        self._begin(dataset, threads)
        return {"m": self.M, "ef_construction": self.EF_CONSTRUCTION, "graph_type": "compressed", "metric": self.metric}

    def _begin(self, dataset, threads):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import kannolo

        self.kannolo, self.ef = kannolo, 100
        self.metric = "euclidean" if dataset.metric == "l2" else "dotproduct"

    def insert(self, dataset, rows):
        flat = np.ascontiguousarray(dataset.vectors[rows]).ravel()
        build = self.kannolo.DensePlainHNSW.build_from_array
        self.index = build(flat, dataset.dim, self.M, self.EF_CONSTRUCTION, self.metric, "compressed")

    def save(self, folder):
        self.index.save(self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index = self.kannolo.DensePlainHNSW.load(self.file(folder), self.metric, "compressed")

    def set(self, setting):
        self.ef = setting["ef_search"]

    def filter(self, where):
        return where.mask.tolist().__getitem__

    def search(self, query, k, where):
        if where is None:
            return self.index.search(query, k, self.ef)[1]
        return self.index.search_filtered(query, k, where, self.ef)[1]


class KannoloSparse(Kannolo):
    """The same graph over sparse vectors, with the inner product."""

    name = "kannolo-sparse"
    does = frozenset({"sparse", "reopen"})
    notes = "stores 16-bit values; no filters with sparse vectors"

    def insert(self, dataset, rows):
        matrix = dataset.sparse[rows]
        self.index = self.kannolo.SparsePlainHNSW.build_from_arrays(*arrays(matrix), self.M, self.EF_CONSTRUCTION, "compressed")

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index = self.kannolo.SparsePlainHNSW.load(self.file(folder), "compressed")

    def search(self, query, k, where):
        return self.index.search(*query, k, self.ef)[1]


def arrays(matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix.sort_indices()
    return matrix.indices.astype(np.int32), matrix.data.astype(np.float32), matrix.indptr.astype(np.int64)
