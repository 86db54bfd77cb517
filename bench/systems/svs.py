"""SVS (scalable-vs), Intel's Vamana graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import WHOLE, System


class SVS(System):
    """SVS with the values of its documentation: degree 64, window 200, alpha 1.2 (L2) or 0.95 (inner product)."""

    name = "svs"
    needs = ("scalable-vs==0.5.0",)
    imports = ("svs",)
    does = frozenset({"dense", "reopen"})
    exact_setting = {"exact": True}
    rows_per_call = WHOLE
    effort = "window"
    notes = "static graph; compression (LVQ, LeanVec) needs an Intel processor: see svs-lvq"
    DEGREE, WINDOW = 64, 200

    def create(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.folder = Path(folder)
        alpha = 1.2 if dataset.metric == "l2" else 0.95
        svs = self.svs
        self.built = svs.VamanaBuildParameters(graph_max_degree=self.DEGREE, window_size=self.WINDOW, alpha=alpha)
        return {"graph_max_degree": self.DEGREE, "window_size": self.WINDOW, "alpha": alpha}

    def _begin(self, dataset, threads):
        import svs

        self.svs, self.threads = svs, threads
        # Rows have unit length for cosine, so the inner product gives the same ranking.
        self.distance = svs.DistanceType.L2 if dataset.metric == "l2" else svs.DistanceType.MIP
        self.vectors, self.flat = dataset.vectors, None

    def insert(self, dataset, rows):
        self.vectors = np.ascontiguousarray(dataset.vectors[rows])
        self.index = self.svs.Vamana.build(self.built, self.source(), self.distance, num_threads=self.threads)

    def source(self):
        return self.vectors

    def finish(self):
        self.index.num_threads = 1
        self.set({"window": 40})

    def save(self, folder):
        self.index.save(*self._files(folder))

    @staticmethod
    def _files(folder):
        return [str(Path(folder, name)) for name in ("config", "graph", "data")]

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        svs = self.svs
        config, graph, data = self._files(folder)
        loader = svs.VectorDataLoader(data, svs.DataType.float32, dims=dataset.dim)
        self.index = svs.Vamana(config, svs.GraphLoader(graph), loader, self.distance, num_threads=1)
        self.finish()

    def set(self, setting):
        super().set(setting)
        if self.is_exact:
            self.flat = self.flat or self.svs.Flat(self.vectors, self.distance, 1)
            return
        parameters = self.index.search_parameters
        parameters.buffer_config = self.svs.SearchBufferConfig(setting["window"])
        self.index.search_parameters = parameters

    def query(self, query):
        return query[None]

    def search(self, query, k, where):
        return (self.flat if self.is_exact else self.index).search(query, k)[0]


class SVSLVQ(SVS):
    """SVS with LVQ4x8 compression (4 bits, and 8 more for rescoring), which its documentation advises where it is supported."""

    name = "svs-lvq"
    does = frozenset({"dense"})
    exact_setting = None
    notes = "needs an Intel processor"

    @classmethod
    def unfit(cls):
        # On other processors the library ends the whole process.
        if "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
            return "its compression (LVQ) runs on Intel's processors only: elsewhere the library ends the process"
        return None

    def create(self, dataset, folder, threads):
        return super().create(dataset, folder, threads) | {"compression": "LVQ4x8"}

    def source(self):
        svs, rows, converted = self.svs, self.folder / "rows.fvecs", self.folder / "rows.svs"
        svs.write_vecs(self.vectors, str(rows))
        svs.convert_vecs_to_svs(str(rows), str(converted))
        rows.unlink()
        return svs.LVQLoader(svs.VectorDataLoader(str(converted), svs.DataType.float32), primary=4, residual=8)
