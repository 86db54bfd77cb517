"""turbovec: a scan of 4-bit codes (TurboQuant), in Rust."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System
from .common import padded


class TurboVec(System):
    """4 bits a dimension, calibrated on a random sample before the rows are added, as its reference advises.

    It returns estimated scores and keeps no floats. ``expansion`` × k candidates are rescored here in NumPy from the plain vectors, as an
    application would do; 0: its own answers.
    """

    name = "turbovec"
    needs = ("turbovec==1.1.2",)
    imports = ("turbovec",)
    does = frozenset({"dense", "filtered", "reopen"})
    rows_per_call = WHOLE
    effort = "expansion"
    efforts = (0, 1.5, 2, 3, 5)
    metrics = frozenset({"cosine", "dot"})
    notes = "scans every code; candidates are rescored in NumPy; filters are passed as precomputed masks"
    expansion = 2  # until ``set``
    BITS, SAMPLE, STEP = 4, 2048, 8  # its dimensions are multiples of STEP

    def create(self, dataset, folder, threads):
        self._begin(dataset)
        import turbovec

        self.index = turbovec.TurboQuantIndex(dim=self.dim, bit_width=self.BITS)
        sample = np.random.default_rng(0).choice(len(dataset), min(self.SAMPLE, len(dataset)), replace=False)
        self.index.calibrate(padded(dataset.vectors[np.sort(sample)], self.dim))
        return {"bit_width": self.BITS, "calibrated": len(sample)}

    def _begin(self, dataset):
        self.dim, self.vectors = dataset.dim + -dataset.dim % self.STEP, dataset.vectors

    def insert(self, dataset, rows):
        self.index.add(padded(dataset.vectors[rows], self.dim))

    def finish(self):
        self.index.prepare()

    def save(self, folder):
        self.index.write(self.file(folder))

    def reopen(self, dataset, folder, threads):
        import turbovec

        self._begin(dataset)
        self.index = turbovec.TurboQuantIndex.load(self.file(folder))
        self.finish()

    def set(self, setting):
        self.expansion = setting["expansion"]

    def query(self, query):
        return padded(query[None], self.dim)

    def filter(self, where):
        return np.ascontiguousarray(where.mask, dtype=bool)

    def search(self, query, k, where):
        rows = self.index.search(query, k=max(k, int(self.expansion * k)), mask=where)[1][0]
        if not self.expansion:
            return rows
        vectors = self.vectors[rows]
        scores = vectors @ query[0, : vectors.shape[1]]
        return rows[np.argsort(-scores)[:k]]
