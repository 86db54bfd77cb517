"""A sparse segment: the index of a sparse field over a range of rows, with impact-ordered posting lists and a forward index.

Rows are in the order of their docids. The file is derived from the field's chunks and can be deleted and rebuilt. FORMAT.md describes its
sections.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels import impact_layout as layout
from ..base import IndexKind
from ..file import IndexFile
from ..model import Corrections, which_model
from .model import Choice, ImpactModel, models_of
from .plans import PLANS


class ImpactSegment(IndexKind):
    """The sections of a sparse segment as kernels see them.

    description: int64, addresses and sizes for kernels. vocabulary: the number of distinct terms. binary: every weight is 1. signed: some
    weight is negative, so there are lists of these. unsearchable: a file of an earlier version with negative or tiny weights. most: an
    upper bound of the sizes of all weights. mean: the mean text length when the index was built, if it was built from term frequencies;
    saturation: float32 ``(4,)``, the coefficients at that mean, as kernels take them. choices: the cache of ``search``: request → (number
    of calls when it was chosen, choice).
    """

    plans = PLANS

    def __init__(self, meta: dict[str, Any], sections: dict[str, np.ndarray], file: IndexFile | None = None):
        super().__init__(meta, sections, file)
        self.unsearchable = meta["signed"] and "list_at" in sections
        self.binary, self.signed = meta["binary"], meta["signed"] and not self.unsearchable
        self.vocabulary = len(sections["terms"])
        self.most = float(sections["level_most"][0]) if self.vocabulary else 0.0
        self.mean = meta.get("mean", 1.0)
        self.saturation = np.array([*meta.get("saturation", (0, 0, 0)), 1], np.float32)
        self.every_bit = all_bits(self.rows)
        self.description = self._described()
        self.corrections = Corrections.of(PLANS)
        self.choices: dict[tuple, tuple[int, Choice]] = {}
        if file is not None:
            self.models = models_of(sections, self.rows)

    def _described(self) -> np.ndarray:
        sections = self.sections
        address = {name: array.ctypes.data for name, array in sections.items()}
        values = {
            layout.ROWS: self.rows,
            layout.VOCABULARY: self.vocabulary,
            layout.TERMS: address["terms"],
            layout.FREQUENCIES: address["frequencies"],
            layout.LIST_AT: address.get("run_at") or address["list_at"],
            layout.LISTS: address["runs"] if "run_at" in address else address["lists"],
            layout.LEVELS: len(sections["level_most"]),
            layout.LEVEL_MOST: address["level_most"],
            layout.LEVEL_MEAN: address["level_mean"],
            layout.LEVEL_SHARE: address["level_share"],
            layout.ROW_AT: address["row_at"],
            layout.ROW_TERMS: address["row_terms"],
            layout.WIDE: sections["row_terms"].dtype == np.uint32,
            layout.ROW_WEIGHTS: address.get("row_weights", 0),
            layout.DOCIDS_AT: address["docids"],
            layout.ROW_LENGTHS: address.get("row_lengths", 0),
            layout.BY_TERM: "run_at" in address,
            layout.SIGNS: 2 if self.signed else 1,
            layout.BYTES: "row_weights" in sections and sections["row_weights"].dtype == np.uint8,
        }
        description = np.zeros(layout.SEGMENT_WIDTH, np.int64)
        for column, value in values.items():
            description[column] = value
        return description

    def model(self, k: int) -> ImpactModel:
        return self.models[which_model(k)]

    def postings_of(self, terms: np.ndarray) -> int:
        """The total number of postings of some terms (uint64, ascending)."""
        vocabulary = self.sections["terms"]
        places = np.minimum(np.searchsorted(vocabulary, terms), len(vocabulary) - 1)
        return int(self.sections["frequencies"][places[vocabulary[places] == terms]].sum(dtype=np.int64))

    def fits(self, spec: Any) -> bool:
        return super().fits(spec) and self.binary == spec.binary

    def facts(self) -> dict[str, Any]:
        return {}

    def drift(self, texts: Any) -> float:
        """The factor by which the mean text length has changed. The larger it is, the worse is the order of the posting lists."""
        if "mean" not in self.meta or not texts.words:
            return 1.0
        mean = texts.words / texts.documents
        return max(mean / self.mean, self.mean / mean)


def all_bits(rows: int) -> np.ndarray:
    """A bitmap (uint64) in which the bit of every row is set."""
    bits = np.full(-(-rows // 64), ~np.uint64(0))
    if rows % 64:
        bits[-1] >>= np.uint64(64 - rows % 64)
    return bits
