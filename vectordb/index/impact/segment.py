"""A sparse segment: the index of a sparse field over a range of rows, with impact-ordered posting lists and a forward index.

Rows are in the order of their docids. The file is derived from the field's chunks and can be deleted and rebuilt. FORMAT.md describes its
sections.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.model.schema import Sparse

from ...kernels import impact as kernel
from ..dense.calibrate import DEPTHS, Corrections
from ..dense.segment import SegmentMask
from ..file import Mapped
from . import calibrate as sparse_calibrate


class SparseLayout:
    """A segment's sections as kernels see them. It keeps the arrays alive whose addresses are in ``description`` (int64).

    rows: their number. vocabulary: the number of distinct terms. binary: every weight is 1. signed: some weight is negative or tiny, so the
    index can't be searched. most: an upper bound of all weights. mean: the mean text length when the index was built, if it was built from
    term frequencies; saturation: float32 ``(4,)``, the coefficients at that mean, as kernels take them.
    """

    clusters = 1  # a sparse segment has no clusters; ``SegmentMask`` counts all of its rows as one

    def __init__(self, meta: dict, sections: dict[str, np.ndarray]):
        self.meta = meta
        self.sections = sections
        self.rows, self.first = meta["rows"], meta["first"]
        self.binary, self.signed = meta["binary"], meta["signed"]
        self.docids, self.inverse = sections["docids"], sections["inverse"]
        self.vocabulary = len(sections["terms"])
        self.most = float(sections["level_most"][0]) if self.vocabulary else 0.0
        self.mean = meta.get("mean", 1.0)
        self.saturation = np.array([*meta.get("saturation", (0, 0, 0)), 1], np.float32)
        self.offsets = np.array([0, self.rows], np.int32)
        self.every_bit = all_bits(self.rows)
        at = {name: array.ctypes.data for name, array in sections.items()}
        self.description = np.zeros(kernel.SEGMENT_WIDTH, np.int64)
        values = {
            kernel.ROWS: self.rows,
            kernel.VOCABULARY: self.vocabulary,
            kernel.TERMS: at["terms"],
            kernel.FREQUENCIES: at["frequencies"],
            kernel.LIST_AT: at["list_at"],
            kernel.LISTS: at["lists"],
            kernel.LEVELS: len(sections["level_most"]),
            kernel.LEVEL_MOST: at["level_most"],
            kernel.LEVEL_MEAN: at["level_mean"],
            kernel.LEVEL_SHARE: at["level_share"],
            kernel.ROW_AT: at["row_at"],
            kernel.ROW_TERMS: at["row_terms"],
            kernel.WIDE: sections["row_terms"].dtype == np.uint32,
            kernel.ROW_WEIGHTS: at.get("row_weights", 0),
            kernel.DOCIDS_AT: at["docids"],
            kernel.ROW_LENGTHS: at.get("row_lengths", 0),
        }
        for column, value in values.items():
            self.description[column] = value


class SparseSegment(Mapped, SparseLayout):
    """The memory-mapped file of a sparse segment. docids: uint32 ``(rows,)``, ascending."""

    kind = "sparse"
    large = frozenset({"lists", "row_terms", "row_weights"})
    names = large | {
        "docids", "inverse", "terms", "frequencies", "list_at", "level_most", "level_mean", "level_share", "row_at",
        "row_lengths",        "settings", "levels", "recalls", "costs", "scan",
    }  # fmt: skip
    plans = kernel.PLANS
    needed = frozenset({kernel.SCAN, kernel.SAFE})
    depths = len(DEPTHS)

    def __init__(self, *mapped: Any):
        super().__init__(*mapped)
        self.all_allowed = SegmentMask(self, None)
        self.models = sparse_calibrate.models_of(self.sections, self.rows)
        self.corrections = Corrections.of(len(sparse_calibrate.PLAN_NAMES))
        self.choices: dict = {}  # the cache of ``sparse_ann``: request → (number of calls when it was chosen, choice)

    def postings_of(self, terms: np.ndarray) -> int:
        """The total number of postings of some terms (uint64, ascending)."""
        vocabulary = self.sections["terms"]
        at = np.minimum(np.searchsorted(vocabulary, terms), len(vocabulary) - 1)
        return int(self.sections["frequencies"][at[vocabulary[at] == terms]].sum(dtype=np.int64))

    def fits(self, spec: Sparse) -> bool:
        """Whether the file is an index of a field with this definition."""
        return self.binary == spec.binary


def all_bits(rows: int) -> np.ndarray:
    """A bitmap (uint64) in which the bit of every row is set."""
    words = np.full(-(-rows // 64), ~np.uint64(0))
    if rows % 64:
        words[-1] >>= np.uint64(64 - rows % 64)
    return words
