"""A dense segment: the index of a dense field over a range of rows, in one file that is memory-mapped and searched in place.

The file is derived from the rows' vectors and can be deleted and rebuilt. Rows are in cluster order; ``docids`` maps a position to its
docid. Outliers, rows so far from all others that codes can't represent them, are kept ``apart``: the file lists their docids, and searches
score them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels import bitset, layout, planner
from ...kernels.codes import rotate, stride_of, words_of
from ..exact import METRICS
from ..file import Mapped
from . import calibrate

_NO_BITS = np.zeros((1, 1), np.uint64)
_NO_COUNTS = np.zeros((1, 1), np.int32)


class Layout:
    """A segment's sections as kernels see them. It keeps the arrays alive whose addresses are in ``description`` (int64)."""

    def __init__(self, meta: dict, sections: dict[str, np.ndarray]):
        self.meta = meta
        self.sections = sections
        self.rows, self.dim, self.metric = meta["rows"], meta["dim"], meta["metric"]
        self.has_graph = "graph" in sections
        self.docids = sections["docids"]
        self.clusters = len(sections["centroids"])
        self.first = meta["first"]
        # Norms of the codes' residuals and the largest norm: they bound the error of code scores. Files of earlier versions have neither.
        self.lacking, self.longest = sections.get("lacking"), meta.get("longest")
        at = {name: array.ctypes.data for name, array in sections.items()}
        self._rotated_mean = sections["mean"].copy()
        rotate(self._rotated_mean, sections["flips"], np.empty_like(self._rotated_mean))
        self._present = np.zeros(-(-len(sections["inverse"]) // 64) * 64, np.bool_)
        self._present[self.docids.astype(np.int64) - self.first] = True
        self._present = np.packbits(self._present, bitorder="little").view(np.uint64)
        self.description = np.zeros(layout.SEGMENT_WIDTH, np.int64)
        values = {
            layout.ROWS: self.rows,
            layout.DIM: self.dim,
            layout.STRIDE: stride_of(self.dim),
            layout.CODES: at["codes"],
            layout.BIAS: at.get("bias", 0),
            layout.SIGNS: at["signs"],
            layout.WORDS: words_of(self.dim),
            layout.CLUSTERS: self.clusters,
            layout.CENTROIDS: at["centroids"],
            layout.CENTROID_BIAS: at.get("centroid_bias", 0),
            layout.OFFSETS: at["offsets"],
            layout.DOCIDS_AT: at["docids"],
            layout.MEAN: at["mean"],
            layout.ROTATED_MEAN: self._rotated_mean.ctypes.data,
            layout.FLIPS: at["flips"],
            layout.FLIP_ROUNDS: len(sections["flips"]),
            layout.METRIC: METRICS[self.metric],
            layout.STEP: _bits(meta["step"]),
            layout.CODE_ERROR: _bits(meta["code_error"]),
            layout.REACH: _bits(meta["reach"]),
            layout.FIRST_DOCID: self.first,
            layout.SPAN: len(sections["inverse"]),
            layout.PRESENT: self._present.ctypes.data,
        }
        if self.has_graph:
            values |= {
                layout.GRAPH: at["graph"],
                layout.DEGREE: sections["graph"].shape[1],
                layout.UPPER_COUNT: len(sections["upper_rows"]),
                layout.UPPER_ROWS: at["upper_rows"],
                layout.UPPER_OFFSETS: at["upper_offsets"],
                layout.UPPER_LINKS: at["upper_links"],
                layout.UPPER_SIZE: sections["upper_links"].size,
                layout.ENTRY_ROW: meta["entry_row"],
                layout.ENTRY_SLOT: meta["entry_slot"],
                layout.TOP_LEVEL: meta["top_level"],
            }
        for column, value in values.items():
            self.description[column] = value


def _bits(number: float) -> int:
    """The bits of a float64 as an int64."""
    return int(np.array(number, np.float64).view(np.int64))


class Segment(Mapped, Layout):
    """The memory-mapped file of a dense segment.

    rows, dim, metric, nbytes, has_graph: its properties. docids: uint32 ``(rows,)``, in cluster order. apart: uint32, ascending, the docids
    of the outliers. corrections: what searches learned about the predictions of its models.
    """

    kind = "dense"
    large = frozenset({"codes", "signs", "graph", "bias", "lacking"})
    names = large | {
        "docids", "inverse", "mean", "flips", "centroids", "centroid_bias", "offsets", "upper_rows", "upper_offsets", "upper_links",
        "settings", "levels", "locals", "recalls", "costs", "apart",
    }  # fmt: skip
    plans = planner.PLANS
    needed = frozenset({planner.SCAN})
    depths = len(calibrate.DEPTHS)

    def __init__(self, *mapped: Any):
        super().__init__(*mapped)
        self.apart = self.sections.get("apart", self.apart)
        self.all_allowed = SegmentMask(self, None)
        self.models = calibrate.models_of(self.sections, self.rows, self.dim)
        self.offsets, self.inverse = self.sections["offsets"], self.sections["inverse"]
        self.corrections = calibrate.Corrections()

    def fits(self, spec: Any) -> bool:
        """Whether the file is an index of a field with this definition."""
        return (self.dim, self.metric) == (spec.dim, spec.metric)

    def ceiling(self, query: np.ndarray) -> float:
        """An upper bound of the dot product of a query (float32 ``(dim,)``) with any row: the query's norm times the largest norm of
        a row.
        """
        longest = max(self.longest + float(np.linalg.norm(self.sections["mean"])), self.meta.get("apart_longest", 0.0))
        return float(np.linalg.norm(query)) * longest


class SegmentMask:
    """The mask of the rows of a segment that a search may return.

    filtered: whether it excludes any row. bits: uint64 ``(1, words)``, one bit for each row; unused if not filtered. counts: int32 ``(1,
    clusters)``, the number of allowed rows in each cluster. matches: int64 ``(1,)``, their total.
    """

    __slots__ = ("bits", "counts", "filtered", "matches", "nbytes")

    def __init__(self, segment: Segment, docids: np.ndarray | None):
        """docids: the allowed rows, uint32 ascending; docids outside the segment are ignored. None: every row is allowed."""
        self.filtered = docids is not None
        if docids is None:
            self.bits, self.counts = _NO_BITS, _NO_COUNTS
            self.matches = np.array([segment.rows], np.int64)
        else:
            low, high = np.searchsorted(docids, [segment.first, segment.first + len(segment.inverse)])
            self.bits = np.zeros((1, -(-segment.rows // 64)), np.uint64)
            self.counts = np.zeros((1, segment.clusters), np.int32)
            bitset.local_bits(docids[low:high], segment.inverse, segment.first, self.bits[0])
            total = bitset.passing_of_clusters(self.bits[0], segment.offsets, self.counts[0])
            self.matches = np.array([total], np.int64)
            if total == segment.rows:
                self.filtered = False
        self.nbytes = self.bits.nbytes + self.counts.nbytes + 256
