"""Seismic (pyseismic-lsr): blocks of posting lists with summaries, for learned sparse vectors."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from .base import WHOLE, System


class Seismic(System):
    """Seismic's raw index, in which rows and terms are numbers, so searches handle no strings. Built with the defaults and a graph (nknn).

    The brute force of SeismicDataset also reads 16-bit values, so it is not exact (recall .998 on sparse-20k) and is no exact mode here.
    """

    name = "seismic"
    needs = ("pyseismic-lsr==0.5.4",)
    imports = ("seismic",)
    does = frozenset({"sparse", "reopen"})
    rows_per_call = WHOLE
    effort = "query_cut heap_factor n_knn"
    efforts = (
        *((3, 1.0, 0), (5, 1.0, 0), (5, 0.9, 0), (5, 0.9, 5), (8, 0.9, 5)),
        *((10, 0.8, 5), (10, 0.8, 10), (12, 0.7, 10), (20, 0.6, 10), (40, 0.5, 10)),
    )
    notes = "stores 16-bit values; no filters"
    BUILD = {"n_postings": 3500, "centroid_fraction": 0.1, "min_cluster_size": 2, "summary_energy": 0.4, "doc_cut": 15, "nknn": 10}

    def create(self, dataset, folder, threads):
        self._begin(dataset, folder, threads)
        return dict(self.BUILD)

    def _begin(self, dataset, folder, threads):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import seismic

        self.seismic, self.folder = seismic, Path(folder)
        self.cut, self.heap, self.knn = 10, 0.8, 0

    def insert(self, dataset, rows):
        source = self.folder / "rows.bin"
        inner_format(dataset.sparse[rows], source)
        try:
            self.index = self.seismic.SeismicIndexRaw.build(str(source), **self.BUILD)
        finally:
            source.unlink(missing_ok=True)

    def save(self, folder):
        self.index.save(self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder, threads)
        self.index = self.seismic.SeismicIndexRaw.load(str(next(Path(folder).glob("index*"))))

    def set(self, setting):
        self.cut, self.heap, self.knn = setting["query_cut"], setting["heap_factor"], setting["n_knn"]

    def search(self, query, k, where):
        terms, values = query
        return self.index.search(terms, values, k, self.cut, self.heap, self.knn, True)

    def ids(self, hits):
        return np.array([row for _, row in hits], dtype=np.int64)


def inner_format(matrix, path: Path) -> None:
    """Write Seismic's file format for sparse vectors: their number, then for each its length, terms (u32) and values (f32)."""
    matrix.sort_indices()
    terms, values, offsets = matrix.indices.astype("<u4"), matrix.data.astype("<f4"), matrix.indptr
    with open(path, "wb") as file:
        file.write(np.uint32(matrix.shape[0]).tobytes())
        for low, high in pairwise(offsets.tolist()):
            file.write(np.uint32(high - low).tobytes() + terms[low:high].tobytes() + values[low:high].tobytes())
