"""rabitqlib: the authors' RaBitQ library. SymphonyQG is its graph, and IVF its inverted file."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System
from .common import padded
from .faiss import FaissIVF


class RaBitQLib(System):
    """SymphonyQG: a graph whose edges carry 1-bit codes, scored in batches. Visited rows are scored from floats.

    Degree 32 and ef_construction 200 are those of its guide. For cosine it takes the inner product of unit vectors.
    """

    name = "rabitqlib"
    needs = ("rabitqlib==0.7.1",)
    imports = ("rabitqlib",)
    does = frozenset({"dense", "reopen"})
    rows_per_call = WHOLE
    effort = "ef"
    notes = "SymphonyQG keeps plain floats beside its codes; it can't be changed after it was built; no filters"
    DEGREE, EF_CONSTRUCTION, LEAST = 32, 200, 64  # fewer dimensions than LEAST are an error, so zeros are appended
    ef = 100  # until ``set``

    def create(self, dataset, folder, threads):
        import rabitqlib

        self.metric, self.threads, self.dim = "l2" if dataset.metric == "l2" else "ip", threads, max(self.LEAST, dataset.dim)
        self.index = rabitqlib.SymqgIndex(self.dim, self.DEGREE, self.metric)
        return {"index": "SymphonyQG", "max_degree": self.DEGREE, "ef_construction": self.EF_CONSTRUCTION}

    def insert(self, dataset, rows):
        self.index.build(padded(dataset.vectors[rows], self.dim), self.EF_CONSTRUCTION, self.threads)

    def save(self, folder):
        self.index.save(self.file(folder))

    def reopen(self, dataset, folder, threads):
        import rabitqlib

        self.dim = max(self.LEAST, dataset.dim)
        self.index = rabitqlib.SymqgIndex.load(self.file(folder))

    def set(self, setting):
        self.ef = setting["ef"]

    def query(self, query):
        return padded(query[None], self.dim)

    def search(self, query, k, where):
        return self.index.search(query, k, max(k, self.ef))[0]


class RaBitQIVF(RaBitQLib):
    """IVF with RaBitQ: the lists that faiss's guidelines advise too (its guide refers to them), rescored from plain floats (nbits 32)."""

    name = "rabitqlib-ivf"
    effort = "nprobe"
    efforts = (2, 4, 8, 12, 16, 24, 32, 64, 128, 256)
    notes = "1-bit codes, rescored from plain floats; no filters"
    nprobe = 16  # until ``set``
    RAW = 32  # its number of bits for plain floats

    def create(self, dataset, folder, threads):
        import rabitqlib

        self.metric, self.threads, self.lists = "l2" if dataset.metric == "l2" else "ip", threads, FaissIVF.lists(dataset)
        self.dim = max(self.LEAST, dataset.dim)
        self.index = rabitqlib.IvfIndex(self.dim, len(dataset), self.lists, self.RAW, self.metric)
        return {"index": "IVF", "lists": self.lists, "nbits": self.RAW}

    def insert(self, dataset, rows):
        import rabitqlib

        vectors = padded(dataset.vectors[rows], self.dim)
        clusters = rabitqlib.RaBitQKMeans(self.dim, self.lists, num_threads=self.threads)
        clusters.train(vectors)
        self.index.build(vectors, clusters.centroids, clusters.assignments, self.threads)

    def reopen(self, dataset, folder, threads):
        import rabitqlib

        self.dim = max(self.LEAST, dataset.dim)
        self.index = rabitqlib.IvfIndex.load(self.file(folder))

    def sweep(self, dataset, suite):
        return [one for one in super().sweep(dataset, suite) if one["nprobe"] <= FaissIVF.lists(dataset)]

    def set(self, setting):
        self.nprobe = setting["nprobe"]

    def search(self, query, k, where):
        return self.index.search(query, k, self.nprobe)[0]

    def ids(self, hits):
        rows = np.asarray(hits).reshape(-1).astype(np.int64)
        return rows[(rows >= 0) & (rows < 2**32 - 1)]  # an unfilled place holds the largest uint32
