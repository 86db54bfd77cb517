"""A file of lists as kernels see it.

The file is derived from the rows' vectors and can be deleted and rebuilt. Rows are in the order of the lists; ``docids`` maps a position to
its docid. Rows too long for float32 are kept ``apart``: the file lists their docids, and searches score them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels import layout
from ...kernels import lists as kernel
from ..base import IndexKind
from ..exact import METRICS
from ..file import IndexFile
from ..model import Corrections, which_model
from .model import Choices, ListsModel, models_of
from .plans import PLANS

LEAST = 4_096  # rows of a file from which another one is made, at least: a smaller one is built as fast. Chosen, not measured


class ListsSegment(IndexKind):
    """dim, metric, lists: its properties. description: int64, addresses and sizes for kernels. choices: the
    cache of ``search``: request → (number of calls when it was chosen, choices).
    """

    plans = PLANS

    def __init__(self, meta: dict[str, Any], sections: dict[str, np.ndarray], file: IndexFile | None = None):
        super().__init__(meta, sections, file)
        self.dim, self.metric, self.lists = meta["dim"], meta["metric"], len(sections["centroids"])
        self.description = self._described()
        self.corrections = Corrections.of(PLANS)
        self.choices: dict[tuple, tuple[int, Choices]] = {}
        if file is not None:
            self.models = models_of(sections)

    def _described(self) -> np.ndarray:
        meta, sections = self.meta, self.sections
        address = {name: array.ctypes.data for name, array in sections.items()}
        present = np.zeros(-(-len(self.inverse) // 64) * 64, np.bool_)
        present[self.docids.astype(np.int64) - self.first] = True
        self._present = np.packbits(present, bitorder="little").view(np.uint64)
        values = {
            layout.ROWS: self.rows,
            layout.DIM: self.dim,
            layout.U64S: sections["signs"].shape[1] // 8,
            layout.SIGNS: address["signs"],
            layout.STRIDE: sections["codes"].shape[1],
            layout.CODES: address["codes"],
            layout.CLUSTERS: self.lists,
            layout.CENTROIDS: address["centroids"],
            layout.OFFSETS: address["offsets"],
            layout.DOCIDS_AT: address["docids"],
            layout.MEAN: address["mean"],
            layout.FLIPS: address["flips"],
            layout.FLIP_ROUNDS: len(sections["flips"]),
            layout.METRIC: METRICS[self.metric],
            layout.FIRST_DOCID: self.first,
            layout.SPAN: len(self.inverse),
            layout.PRESENT: self._present.ctypes.data,
            kernel.ADD: address["add"],
            kernel.FACTOR: address["factor"],
            kernel.ERROR: address["error"],
            kernel.LONG_ADD: address["long_add"],
            kernel.LONG_FACTOR: address["long_factor"],
            kernel.BITS: meta["bits"],
            kernel.CENTROID_CODES: address["centroid_codes"],
            kernel.HALF_SQUARES: address["half_squares"],
            kernel.SCALE: _bits(meta["scale"]),
            kernel.CENTROID_STEP: _bits(meta["centroid_step"]),
            kernel.LOST: _bits(meta["lost"]),
            kernel.LONG_LOST: _bits(meta["long_lost"]),
        }
        description = np.zeros(kernel.LISTS_WIDTH, np.int64)
        for column, value in values.items():
            description[column] = value
        return description

    def model(self, k: int) -> ListsModel:
        return self.models[which_model(k)]

    def fits(self, spec: Any) -> bool:
        return super().fits(spec) and (self.dim, self.metric) == (spec.dim, spec.metric)

    def facts(self) -> dict[str, Any]:
        healed = {"healed": self.healed["times"]} if self.healed else {}
        return {"kind": self.name, "lists": self.lists, "bits": [1, self.meta["bits"]]} | healed

    @property
    def renewable(self) -> bool:
        return self.rows >= LEAST


def _bits(number: float) -> int:
    """The bits of a float64 as an int64."""
    return int(np.array(number, np.float64).view(np.int64))
