"""kANNolo: HNSW in Rust, over dense and over sparse vectors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .base import System, Unsupported
from .common import EFFORTS, each, spread

FILE = "kannolo.bin"


class Kannolo(System):
    """m 32 and ef_construction 200 are its defaults; graph type "compressed" is "smaller index and faster queries", the same results."""

    name = "kannolo"
    needs = ("kannolo==0.15.1",)
    imports = ("kannolo",)
    does = frozenset({"dense", "filtered", "reopen"})
    notes = "keeps 16-bit vectors; filters (ACORN-1) are ready-made lists of bools, asked point by point through a Python callback"
    M, EF_CONSTRUCTION = 32, 200

    def create(self, dataset, folder, threads):
        self._begin(dataset, threads)
        return {"m": self.M, "ef_construction": self.EF_CONSTRUCTION, "graph_type": "compressed", "metric": self.metric}

    def _begin(self, dataset, threads):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import kannolo

        self.kannolo, self.dataset, self.flat, self.ef, self.is_exact = kannolo, dataset, None, 100, False
        self.metric = "euclidean" if dataset.metric == "l2" else "dotproduct"
        self.rows = np.arange(len(dataset))

    def batch(self):
        return 2**62

    def insert(self, dataset, rows):
        self.rows = np.asarray(rows, np.int64)
        flat = np.ascontiguousarray(dataset.vectors[rows]).ravel()
        build = self.kannolo.DensePlainHNSW.build_from_array
        self.index = build(flat, dataset.dim, self.M, self.EF_CONSTRUCTION, self.metric, "compressed")

    def save(self, folder):
        self.index.save(str(Path(folder, FILE)))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index = self.kannolo.DensePlainHNSW.load(str(Path(folder, FILE)), self.metric, "compressed")

    def sweep(self, dataset, suite):
        return [{"ef_search": ef} for ef in spread(EFFORTS, suite)]

    def exact(self):
        return {"exact": True}

    def set(self, setting):
        self.is_exact = bool(setting.get("exact"))
        self.ef = setting.get("ef_search", 100)
        if self.is_exact and self.flat is None:
            self.flat = self.exhaustive()

    def exhaustive(self):
        vectors = np.ascontiguousarray(self.dataset.vectors[self.rows])
        return self.kannolo.DenseFlatIndex.build_from_array(vectors.ravel(), vectors.shape[1], self.metric)

    def prepare(self, queries, filters):
        queries = [np.ascontiguousarray(query, np.float32) for query in queries]
        return queries, each(filters, lambda where: np.asarray(where.mask)[self.rows].tolist().__getitem__)

    def search(self, query, k, where):
        if self.is_exact:
            if where is not None:
                raise Unsupported("its exhaustive search takes no filter")
            return self.flat.search(query, k)[1]
        if where is None:
            return self.index.search(query, k, self.ef)[1]
        return self.index.search_filtered(query, k, where, self.ef)[1]

    def ids(self, found):
        found = np.asarray(found, np.int64)
        return self.rows[found[found >= 0]]


class KannoloSparse(Kannolo):
    """The same graph over sparse vectors, inner product."""

    name = "kannolo-sparse"
    does = frozenset({"sparse", "reopen"})
    notes = "keeps 16-bit values; no filters over sparse vectors"

    def insert(self, dataset, rows):
        self.rows = np.asarray(rows, np.int64)
        matrix = dataset.sparse[rows]
        self.index = self.kannolo.SparsePlainHNSW.build_from_arrays(*arrays(matrix), self.M, self.EF_CONSTRUCTION, "compressed")

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index = self.kannolo.SparsePlainHNSW.load(str(Path(folder, FILE)), "compressed")

    def exhaustive(self):
        return self.kannolo.SparseFlatIndex.build_from_arrays(*arrays(self.dataset.sparse[self.rows]))

    def prepare(self, queries, filters):
        return [(np.ascontiguousarray(terms, np.int32), np.ascontiguousarray(values, np.float32)) for terms, values in queries], filters

    def search(self, query, k, where):
        if self.is_exact:
            return self.flat.search(*query, k)[1]
        return self.index.search(*query, k, self.ef)[1]


def arrays(matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix.sort_indices()
    return matrix.indices.astype(np.int32), matrix.data.astype(np.float32), matrix.indptr.astype(np.int64)
