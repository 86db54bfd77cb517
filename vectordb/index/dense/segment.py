"""A dense segment: the index of a dense field over a range of rows, in one file that is memory-mapped and searched in place.

The file is derived from the rows' vectors and can be deleted and rebuilt. Rows are in cluster order; ``docids`` maps a position to its
docid. Outliers, rows so far from all others that codes can't represent them, are kept ``apart``: the file lists their docids, and searches
score them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels import layout, planner
from ...kernels.codes import rotate, stride_of, u64s_of
from ..base import IndexKind
from ..exact import METRICS
from ..file import IndexFile
from ..model import DEPTHS, Corrections, which_model
from .model import DenseModel, models_of
from .plans import PLANS

# Constants: searches. Chosen, not measured.
FOLLOWED = 32  # after which the predictions follow; then each time that there are twice as many
MEASURED = 160.0  # about as many queries the calibration asks
UNSEEN = 16.0  # that the calibration counts for
REMEMBERED = 512.0  # at which half of them are forgotten
ALIKE, ALIKE_LAST = 0.06, 0.25  # shares beyond the usual distances (.02 of the rows) and in the last of BINS (.2) of queries like the rows


class DenseSegment(IndexKind):
    """The sections of a dense segment as kernels see them.

    dim, metric, clusters, has_graph: its properties. description: int64, addresses and sizes for kernels. residual_norms: float32, of each
    rotated row less its byte codes; max_norm: the largest norm of a rotated row. Both bound the error of code scores; files of earlier
    versions have neither (None). uncompiled: whether it may choose a plan that has a kernel of its own.
    """

    plans = PLANS

    def __init__(self, meta: dict[str, Any], sections: dict[str, np.ndarray], file: IndexFile | None = None):
        self.clusters = len(sections["centroids"])
        super().__init__(meta, sections, file)
        self.dim, self.metric = meta["dim"], meta["metric"]
        self.has_graph = "graph" in sections
        self.residual_norms, self.max_norm = sections.get("lacking"), meta.get("longest")
        self.description = self._described()
        self.corrections, self.uncompiled, self._next = Corrections.of(PLANS, meta.get("cold", 1.0)), False, FOLLOWED
        if file is not None:
            self.models = models_of(sections, self.rows, self.dim)
            self.uncompiled = any(PLANS[int(plan)].kernel for plan in self.models[0].settings[:, 0])

    def _described(self) -> np.ndarray:
        meta, sections = self.meta, self.sections
        address = {name: array.ctypes.data for name, array in sections.items()}
        self._rotated_mean = sections["mean"].copy()
        rotate(self._rotated_mean, sections["flips"])
        present = np.zeros(-(-len(self.inverse) // 64) * 64, np.bool_)
        present[self.docids.astype(np.int64) - self.first] = True
        self._present = np.packbits(present, bitorder="little").view(np.uint64)
        values = {
            layout.ROWS: self.rows,
            layout.DIM: self.dim,
            layout.STRIDE: stride_of(self.dim),
            layout.CODES: address["codes"],
            layout.BIAS: address.get("bias", 0),
            layout.SIGNS: address["signs"],
            layout.U64S: u64s_of(self.dim),
            layout.CLUSTERS: self.clusters,
            layout.CENTROIDS: address["centroids"],
            layout.CENTROID_BIAS: address.get("centroid_bias", 0),
            layout.OFFSETS: address["offsets"],
            layout.DOCIDS_AT: address["docids"],
            layout.MEAN: address["mean"],
            layout.ROTATED_MEAN: self._rotated_mean.ctypes.data,
            layout.FLIPS: address["flips"],
            layout.FLIP_ROUNDS: len(sections["flips"]),
            layout.METRIC: METRICS[self.metric],
            layout.STEP: _bits(meta["step"]),
            layout.CODE_ERROR: _bits(meta["code_error"]),
            layout.SAMPLE_RADIUS: _bits(meta["reach"]),
            layout.FIRST_DOCID: self.first,
            layout.SPAN: len(self.inverse),
            layout.PRESENT: self._present.ctypes.data,
            layout.MEDOIDS: address.get("medoids", 0),
            layout.MAX_NORM: _bits(self._norm_bound()),
        }
        if "principal" in sections:
            values |= {
                layout.PRINCIPAL: address["principal"],
                layout.PRINCIPAL_CENTROIDS: address["principal_centroids"],
                layout.AXES: address["axes"],
                layout.AXIS_COUNT: len(sections["axes"]),
                layout.PRINCIPAL_STEP: _bits(meta["principal_step"]),
                layout.AXIS_STEP: _bits(meta["axis_step"]),
            }
        if self.has_graph:
            values |= {
                layout.GRAPH: address["graph"],
                layout.DEGREE: sections["graph"].shape[1],
                layout.UPPER_COUNT: len(sections["upper_rows"]),
                layout.UPPER_ROWS: address["upper_rows"],
                layout.UPPER_OFFSETS: address["upper_offsets"],
                layout.UPPER_LINKS: address["upper_links"],
                layout.UPPER_SIZE: sections["upper_links"].size,
                layout.ENTRY_ROW: meta["entry_row"],
                layout.ENTRY_SLOT: meta["entry_slot"],
                layout.TOP_LEVEL: meta["top_level"],
            }
        description = np.zeros(layout.SEGMENT_WIDTH, np.int64)
        for column, value in values.items():
            description[column] = value
        return description

    def follow(self) -> None:
        """Follow the distances of what searches find: where they are farther than those of rows used to be, settings find less. Where
        about as few are beyond the usual ones as of the rows, the predicted recalls hold for these too, and searches are followed by
        another only where they find rows farther away than nearly all rows do.
        """
        table = self.corrections.table[planner.SEEN]
        seen = table[: planner.NOT_AGAIN]
        total = float(seen.sum())
        if total >= self._next:  # not often: it takes several times as long as a search
            usual, beyond = seen[: planner.BINS], float(seen[planner.BINS])
            counted = total - beyond
            shares, chance = (usual + UNSEEN / planner.BINS) / (counted + UNSEEN), (1 / max(counted, 1.0) + 1 / MEASURED) ** 0.5
            for model in self.models:
                model.follow(shares, chance)
            alike = beyond <= ALIKE * total and usual[-1] <= ALIKE_LAST * counted
            table[planner.NOT_AGAIN :][: len(DEPTHS)] = self.sections.get("alike", 0.0) if alike else 0.0
            if total >= REMEMBERED:
                seen /= 2
            self._next = 2 * max(float(seen.sum()), FOLLOWED)

    def model(self, k: int) -> DenseModel:
        return self.models[which_model(k)]

    def fits(self, spec: Any) -> bool:
        return super().fits(spec) and (self.dim, self.metric) == (spec.dim, spec.metric)

    def facts(self) -> dict[str, Any]:
        return {"graph": self.has_graph} | ({"healed": self.healed["times"]} if self.healed else {})

    @property
    def renewable(self) -> bool:
        return self.has_graph and "limit" in self.meta and self.meta["options"]["graph_builder"] == "vamana"

    def upper_bound(self, query: np.ndarray) -> float:
        """An upper bound of the dot product of a query (float32 ``(dim,)``) with any row: the query's norm times the largest norm of
        a row.
        """
        return float(np.linalg.norm(query)) * max(self._norm_bound(), self.meta.get("apart_longest", 0.0))

    def _norm_bound(self) -> float:
        """At least the norm of every row, outliers aside."""
        return (self.max_norm or 0.0) + float(np.linalg.norm(self.sections["mean"]))


def _bits(number: float) -> int:
    """The bits of a float64 as an int64."""
    return int(np.array(number, np.float64).view(np.int64))
