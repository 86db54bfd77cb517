"""NGT (ngtpy), Yahoo Japan's library: ONNG graphs."""

from __future__ import annotations

from pathlib import Path

from .base import WHOLE, System


class NGT(System):
    """ONNG: an ANNG whose edges ``Optimizer`` reconstructs, with its default of 10 outgoing and 120 incoming edges, all searched.

    Its quantized graph (QG) can't be made from Python: it needs the command ``qbg``, which the wheel doesn't have. The wheel is also
    compiled for old processors, as its page says.
    """

    name = "ngt"
    needs = ("ngt==2.8.0.post1",)
    imports = ("ngtpy",)
    does = frozenset({"dense", "reopen"})
    rows_per_call = WHOLE
    effort = "epsilon"
    exact_setting = {"exact": True}
    efforts = (-0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2)
    notes = "ONNG over plain floats; the wheel lacks the quantized graph and is compiled for old processors; no filters"
    epsilon = 0.1  # its default, until ``set``
    EDGES, OUTGOING, INCOMING = 100, 10, 120

    def create(self, dataset, folder, threads):
        import ngtpy

        self.threads, self.places = threads, [str(Path(folder, name)) for name in ("anng", "onng")]
        kind = "L2" if dataset.metric == "l2" else "Cosine" if dataset.metric == "cosine" else "Inner Product"
        ngtpy.create(self.places[0], dataset.dim, edge_size_for_creation=self.EDGES, edge_size_for_search=0, distance_type=kind)
        return {"graph": "ONNG", "edges": self.EDGES, "outgoing": self.OUTGOING, "incoming": self.INCOMING, "distance": kind}

    def insert(self, dataset, rows):
        import ngtpy

        graph = ngtpy.Index(self.places[0], log_disabled=True)
        graph.batch_insert(dataset.vectors[rows], num_threads=self.threads)
        graph.save()
        graph.close()

    def finish(self):
        import ngtpy

        optimizer = ngtpy.Optimizer(num_of_outgoings=self.OUTGOING, num_of_incomings=self.INCOMING, log_disabled=True)
        # Its searches for the best coefficients and prefetching didn't end within minutes on 2,000 points.
        off = ("search_parameter_optimization", "prefetch_parameter_optimization", "accuracy_table_generation")
        optimizer.set_processing_modes(shortcut_reduction=True, **dict.fromkeys(off, False))
        optimizer.execute(*self.places)
        self._open()

    def _open(self):
        import ngtpy

        self.index = ngtpy.Index(self.places[1], read_only=True, log_disabled=True)

    def reopen(self, dataset, folder, threads):
        self.places = [str(Path(folder, name)) for name in ("anng", "onng")]
        self._open()

    def set(self, setting):
        super().set(setting)
        self.epsilon = setting.get("epsilon", 0.1)

    def search(self, query, k, where):
        if self.is_exact:
            return self.index.linear_search(query, k, with_distance=False)
        return self.index.search(query, k, self.epsilon, with_distance=False)
