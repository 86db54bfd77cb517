"""SVS (scalable-vs), Intel's Vamana graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import System, Unsupported


class SVS(System):
    """SVS with the values of its documentation: degree 64, window 200, alpha 1.2 (L2) or 0.95 (inner product)."""

    name = "svs"
    needs = ("scalable-vs==0.5.0",)
    imports = ("svs",)
    does = frozenset({"dense", "reopen"})
    exact_setting = {"exact": True}
    effort = "window"
    notes = "static graph; compression (LVQ, LeanVec) needs an Intel processor: see svs-lvq"
    DEGREE, WINDOW = 64, 200

    def create(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.folder, self.flat = Path(folder), None
        alpha = 1.2 if dataset.metric == "l2" else 0.95
        svs = self.svs
        self.built = svs.VamanaBuildParameters(graph_max_degree=self.DEGREE, window_size=self.WINDOW, alpha=alpha)
        return {"graph_max_degree": self.DEGREE, "window_size": self.WINDOW, "alpha": alpha}

    def _begin(self, dataset, threads):
        import svs

        self.svs, self.threads = svs, threads
        # Rows have unit length for cosine, so the inner product gives the same ranking.
        self.distance = svs.DistanceType.L2 if dataset.metric == "l2" else svs.DistanceType.MIP
        self.rows = np.arange(len(dataset))
        self.vectors, self.is_exact, self.flat = dataset.vectors, False, None

    def batch(self):
        return 2**62

    def insert(self, dataset, rows):
        self.rows, self.vectors = np.asarray(rows, np.int64), np.ascontiguousarray(dataset.vectors[rows])
        self.index = self.svs.Vamana.build(self.built, self.source(), self.distance, num_threads=self.threads)

    def source(self):
        return self.vectors

    def finish(self):
        self.index.num_threads = 1
        self.set({"window": 40})

    def save(self, folder):
        self.index.save(*(str(Path(folder, name)) for name in ("config", "graph", "data")))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        svs = self.svs
        config, graph, data = (str(Path(folder, name)) for name in ("config", "graph", "data"))
        loader = svs.VectorDataLoader(data, svs.DataType.float32, dims=dataset.dim)
        self.index = svs.Vamana(config, svs.GraphLoader(graph), loader, self.distance, num_threads=1)
        self.finish()

    def set(self, setting):
        self.is_exact = bool(setting.get("exact"))
        if self.is_exact:
            self.flat = self.flat or self.svs.Flat(self.vectors, self.distance, 1)
            return
        parameters = self.index.search_parameters
        parameters.buffer_config = self.svs.SearchBufferConfig(setting["window"])
        self.index.search_parameters = parameters

    def prepare(self, queries, filters):
        return [np.ascontiguousarray(query, np.float32)[None] for query in queries], filters

    def search(self, query, k, where):
        return (self.flat if self.is_exact else self.index).search(query, k)[0]

    def ids(self, found):
        return self.rows[found[0].astype(np.int64)]


class SVSLVQ(SVS):
    """SVS with LVQ4x8 compression (4 bits, and 8 more for rescoring), which its documentation advises where it is supported."""

    name = "svs-lvq"
    does = frozenset({"dense"})
    notes = "needs an Intel processor"

    def create(self, dataset, folder, threads):
        # On other processors the library ends the whole process.
        if "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
            raise Unsupported("LVQ needs an Intel processor")
        return super().create(dataset, folder, threads) | {"compression": "LVQ4x8"}

    def source(self):
        svs, rows, converted = self.svs, self.folder / "rows.fvecs", self.folder / "rows.svs"
        svs.write_vecs(self.vectors, str(rows))
        svs.convert_vecs_to_svs(str(rows), str(converted))
        rows.unlink()
        return svs.LVQLoader(svs.VectorDataLoader(str(converted), svs.DataType.float32), primary=4, residual=8)

    def exact(self):
        return None
