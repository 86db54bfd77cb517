"""faiss: HNSW, IVF with plain vectors, and IVF with 4-bit product quantization (FastScan) rescored from plain vectors."""

from __future__ import annotations

import numpy as np

from .base import WHOLE, System, spread


class Faiss(System):
    """Base of the three faiss systems. faiss has no attributes, so filters are bitmaps (IDSelectorBitmap), which are made untimed."""

    needs = ("faiss-cpu==1.15.1",)
    imports = ("faiss",)
    does = frozenset({"dense", "filtered", "reopen"})
    exact_setting = {"exact": True}
    rows_per_call = WHOLE
    effort = "efSearch"
    notes = "no attributes; filters are passed as precomputed bitmaps"

    def create(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index, settings = self.make(dataset)
        return settings

    def _begin(self, dataset, threads):
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(threads)
        self.metric = faiss.METRIC_L2 if dataset.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.parameters, self.kept = [], []

    def make(self, dataset):
        """Make the empty index. Returns (index, build settings)."""
        raise NotImplementedError

    def insert(self, dataset, rows):
        vectors = np.ascontiguousarray(dataset.vectors[rows])
        if not self.index.is_trained:
            self.index.train(vectors)
        self.index.add(vectors)

    def finish(self):
        self.faiss.omp_set_num_threads(1)

    def save(self, folder):
        self.faiss.write_index(self.index, self.file(folder))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, threads)
        self.index = self.faiss.read_index(self.file(folder))
        self.finish()

    def set(self, setting):
        super().set(setting)
        for parameters in self.parameters:
            self.apply(parameters, self.setting)

    def prepare(self, queries, filters):
        self.parameters, self.kept = [], []
        queries, filters = super().prepare(queries, filters)
        everything = self.filter(None)
        return queries, [where or everything for where in filters]

    def query(self, query):
        return query[None]

    def filter(self, where):
        selector = None
        if where is not None:
            bits = np.packbits(np.asarray(where.mask, bool), bitorder="little")
            selector = self.faiss.IDSelectorBitmap(bits)
            self.kept += [bits, selector]
        parameters = self.parameters_of(selector)
        plain = self.faiss.SearchParameters(sel=selector)
        self.kept += [parameters, plain]
        self.parameters.append(parameters)
        if self.setting:
            self.apply(parameters, self.setting)
        return parameters, plain

    def parameters_of(self, selector):
        raise NotImplementedError

    def apply(self, parameters, setting) -> None:
        raise NotImplementedError

    def exact_index(self):
        """A flat index over the index's uncompressed vectors, for the exact mode."""
        raise NotImplementedError

    def search(self, query, k, where):
        if self.is_exact:
            return self.exact_index().search(query, k, params=where[1])[1]
        return self.index.search(query, k, params=where[0])[1]


class FaissHNSW(Faiss):
    """HNSW32, the factory string that faiss's guidelines recommend."""

    name = "faiss-hnsw"
    M, EF_CONSTRUCTION = 32, 200

    def make(self, dataset):
        index = self.faiss.IndexHNSWFlat(dataset.dim, self.M, self.metric)
        index.hnsw.efConstruction = self.EF_CONSTRUCTION
        return index, {"M": self.M, "efConstruction": self.EF_CONSTRUCTION}

    def parameters_of(self, selector):
        return self.faiss.SearchParametersHNSW(sel=selector)

    def apply(self, parameters, setting):
        parameters.efSearch = setting.get("efSearch", 16)

    def exact_index(self):
        return self.faiss.downcast_index(self.index.storage)


class FaissIVF(Faiss):
    """IVF with 4 √n lists; faiss's guidelines recommend 4 √n … 16 √n. The exact mode probes all lists."""

    name = "faiss-ivf"
    does = Faiss.does | {"delete"}

    @staticmethod
    def lists(dataset) -> int:
        return max(1, min(2 ** round(np.log2(4 * np.sqrt(len(dataset)))), len(dataset) // 39))  # faiss warns below 39 points per list

    def make(self, dataset):
        lists = self.lists(dataset)
        self.present = np.zeros(len(dataset), bool)
        return self.faiss.index_factory(dataset.dim, f"IVF{lists},Flat", self.metric), {"factory": f"IVF{lists},Flat"}

    def insert(self, dataset, rows):
        vectors = np.ascontiguousarray(dataset.vectors[rows])
        if not self.index.is_trained:
            self.index.train(vectors)
        self.delete(rows[self.present[rows]])
        self.index.add_with_ids(vectors, np.asarray(rows, np.int64))
        self.present[rows] = True

    def delete(self, ids):
        if len(ids):
            self.index.remove_ids(np.ascontiguousarray(ids, np.int64))
            self.present[ids] = False

    def reopen(self, dataset, folder, threads):
        super().reopen(dataset, folder, threads)
        self.present = np.ones(len(dataset), bool)  # removing an absent id does no harm

    def parameters_of(self, selector):
        return self.faiss.SearchParametersIVF(sel=selector)

    def apply(self, parameters, setting):
        parameters.nprobe = setting.get("nprobe", 1)

    def set(self, setting):
        super().set({"nprobe": self.index.nlist} if setting.get("exact") else setting)

    def sweep(self, dataset, suite):
        lists = self.lists(dataset)
        probed = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128, 256, *((512, lists) if suite == "filtered" else ()))
        return [{"nprobe": n} for n in spread([n for n in dict.fromkeys(probed) if n <= lists], suite)]


class FaissIVFPQ(Faiss):
    """IVF with 4-bit product quantization (two dimensions per code, FastScan). The best are rescored from plain vectors (``RFlat``)."""

    name = "faiss-ivfpq"

    def make(self, dataset):
        factory = f"IVF{FaissIVF.lists(dataset)},PQ{max(1, dataset.dim // 2) if dataset.dim % 2 == 0 else dataset.dim}x4fs,RFlat"
        return self.faiss.index_factory(dataset.dim, factory, self.metric), {"factory": factory}

    def parameters_of(self, selector):
        inner = self.faiss.SearchParametersIVF(sel=selector)
        outer = self.faiss.IndexRefineSearchParameters(k_factor=1.0, base_index_params=inner)
        outer.inner = inner
        return outer

    def apply(self, parameters, setting):
        parameters.inner.nprobe = setting.get("nprobe", 1)
        parameters.k_factor = setting.get("k_factor", 1.0)

    def sweep(self, dataset, suite):
        lists = FaissIVF.lists(dataset)
        tried = ((2, 4), (4, 4), (8, 4), (8, 10), (16, 10), (32, 10), (32, 20), (64, 20), (128, 20), (256, 40))
        return [{"nprobe": n, "k_factor": factor} for n, factor in spread([pair for pair in tried if pair[0] <= lists], suite)]

    def exact_index(self):
        return self.faiss.downcast_index(self.index.refine_index)
