"""VSAG (pyvsag), Ant Group's library: HGraph, its recommended index."""

from __future__ import annotations

import json

import numpy as np

from .base import WHOLE, System


class VSAG(System):
    """HGraph over 8-bit codes, rescored from plain floats (``use_reorder``), which its guide advises where latency counts.

    max_degree 32 and ef_construction 400 are those of its guide's example; its best practices are 16–48 and 200–500.
    """

    name = "pyvsag"
    needs = ("pyvsag==0.18.5",)
    imports = ("pyvsag",)
    does = frozenset({"dense", "reopen"})
    rows_per_call = WHOLE
    effort = "ef_search"
    notes = "HGraph, 8-bit codes, rescored from plain floats; its Python interface takes no filters"
    DEGREE, EF_CONSTRUCTION = 32, 400

    def create(self, dataset, folder, threads):
        return self._begin(dataset, threads)

    def _begin(self, dataset, threads):
        import pyvsag

        pyvsag.set_logger_off()
        self.set({"ef_search": 100})
        options = {"base_quantization_type": "sq8_uniform", "use_reorder": True, "precise_quantization_type": "fp32"}
        options |= {"max_degree": self.DEGREE, "ef_construction": self.EF_CONSTRUCTION}
        metric = "l2" if dataset.metric == "l2" else "ip"
        whole = {"dtype": "float32", "metric_type": metric, "dim": dataset.dim, "index_param": options | {"build_thread_count": threads}}
        self.index = pyvsag.Index("hgraph", json.dumps(whole))
        return options

    def insert(self, dataset, rows):
        flat = np.ascontiguousarray(dataset.vectors[rows]).ravel()
        self.index.build(flat, np.asarray(rows, np.int64), len(rows), dataset.dim)

    def save(self, folder):
        self.index.save(self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index.load(self.file(folder))

    def set(self, setting):
        self.ef, self.parameters = setting["ef_search"], {}

    def search(self, query, k, where):
        text = self.parameters.get(k)
        if text is None:
            text = self.parameters[k] = json.dumps({"hgraph": {"ef_search": max(k, self.ef)}})
        return self.index.knn_search(query, k, text)[0]
