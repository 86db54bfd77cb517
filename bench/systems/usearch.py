"""usearch: HNSW with SIMD kernels for many number types."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System


class USearch(System):
    """usearch with its defaults, connectivity 16 and expansion_add 128, which its own benchmarks use too."""

    name = "usearch"
    needs = ("usearch==2.26.6",)
    imports = ("usearch",)
    does = frozenset({"dense", "delete", "reopen"})
    exact_setting = {"exact": True}
    rows_per_call = WHOLE
    effort = "expansion_search"
    notes = "no filters in Python: predicates exist only in the C++ and C interfaces"
    DTYPE = "f32"

    def create(self, dataset, folder, threads):
        self._make(dataset, threads)
        graph = {"connectivity": self.index.connectivity, "expansion_add": self.index.expansion_add}
        return {"dtype": self.DTYPE, **graph, "simd": self.index.hardware_acceleration}

    def _make(self, dataset, threads):
        from usearch.index import Index

        self.index = Index(ndim=dataset.dim, metric="l2sq" if dataset.metric == "l2" else "ip", dtype=self.DTYPE)
        self.threads = threads

    def insert(self, dataset, rows):
        existing = self.index.contains(rows)
        if np.any(existing):
            self.index.remove(rows[existing], threads=self.threads)
        self.index.add(np.asarray(rows, np.uint64), dataset.vectors[rows], threads=self.threads)

    def delete(self, ids):
        self.index.remove(np.asarray(ids, np.uint64), threads=self.threads)

    def save(self, folder):
        self.index.save(self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._make(dataset, threads)
        self.index.load(self.file(folder))

    def set(self, setting):
        super().set(setting)
        if not self.is_exact:
            self.index.expansion_search = setting["expansion_search"]

    def search(self, query, k, where):
        return self.index.search(query, k, threads=1, exact=self.is_exact).keys


class USearchBF16(USearch):
    """usearch with bfloat16: half the memory, and twice as fast on processors with bfloat16 instructions."""

    name = "usearch-bf16"
    DTYPE = "bf16"
    exact_setting = None  # a full scan of rounded vectors is not exact
