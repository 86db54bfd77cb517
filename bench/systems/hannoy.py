"""hannoy: HNSW over LMDB, in Rust (Meilisearch's)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import WHOLE, System


class Hannoy(System):
    """hannoy with its defaults m 16 and ef 96, searched through ``by_array`` with preallocated results, its fastest call.

    Its quantized metrics (one bit a dimension) have no rescoring, so plain floats are its best setting where recall counts.
    """

    name = "hannoy"
    kind = "database"
    needs = ("hannoy==0.1.3",)
    imports = ("hannoy",)
    does = frozenset({"dense", "reopen"})
    rows_per_call = WHOLE  # one transaction: the graph is built when the writer closes
    effort = "ef_search"
    metrics = frozenset({"cosine", "l2"})
    notes = "plain floats; the graph is built when the writer's transaction ends; no filters in Python"
    M, EF = 16, 96
    ef = 200  # its default, until ``set``
    SPACE = 4  # the map's size in times the size of the vectors

    def create(self, dataset, folder, threads):
        self._open(dataset, folder)
        return {"m": self.M, "ef": self.EF}

    def _open(self, dataset, folder):
        import hannoy

        self.place = Path(folder) / "hannoy"
        self.place.mkdir(parents=True, exist_ok=True)
        metric = hannoy.Metric.EUCLIDEAN if dataset.metric == "l2" else hannoy.Metric.COSINE
        room = max(1 << 26, self.SPACE * 4 * len(dataset) * (dataset.dim + 64))
        self.database = hannoy.Database(str(self.place), metric, env_size=-(-room // 4096) * 4096)

    def insert(self, dataset, rows):
        with self.database.writer(dataset.dim, m=self.M, ef=self.EF) as writer:
            writer.add_items(rows.tolist(), np.ascontiguousarray(dataset.vectors[rows]))

    def finish(self):
        self.reader = self.database.reader()

    def reopen(self, dataset, folder, threads):
        self._open(dataset, folder)
        self.finish()

    def set(self, setting):
        self.ef = setting["ef_search"]

    def search(self, query, k, where):
        out = np.empty(k, np.uint32), np.empty(k, np.float32)
        self.reader.by_array(query, n=k, ef_search=max(k, self.ef), out=out)
        return out[0]

    def ids(self, hits):
        return hits[hits != np.iinfo(np.uint32).max].astype(np.int64)  # which fills the places without a hit

    def disk(self, folder):
        return super().disk(self.place)
