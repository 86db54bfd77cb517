"""A segment: the index of one field over a range of rows, in one file that is mapped and searched in place (here: of a dense field).

The file is derived from the rows' vectors and can be thrown away. Rows lie in cluster order: ``docids`` says whose they are. Rows that lie
so far from the others that codes would tell nothing of them are kept ``apart``: the file names them, and searches score them exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels import bitset, layout, planner
from ..kernels.codes import rotate, stride_of, words_of
from . import calibrate
from .file import Mapped
from .flat import METRICS

_NO_BITS = np.zeros((1, 1), np.uint64)
_NO_COUNTS = np.zeros((1, 1), np.int32)


class Layout:
    """Sections as kernels see them. Keeps the arrays alive whose addresses it holds."""

    def __init__(self, meta: dict, sections: dict[str, np.ndarray]):
        self.meta = meta
        self.sections = sections
        self.rows, self.dim, self.metric = meta["rows"], meta["dim"], meta["metric"]
        self.has_graph = "graph" in sections
        self.docids = sections["docids"]
        self.clusters = len(sections["centroids"])
        self.first = meta["first"]
        # What bounds the error of codes; a file built before that was written down has none.
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
    """A float64's bits as an integer."""
    return int(np.array(number, np.float64).view(np.int64))


class Segment(Mapped, Layout):
    """A segment's mapped file.

    rows, dim, metric, nbytes, has_graph; docids: uint32 ``(rows,)`` in the segment's own order; apart: uint32, ascending.
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
        self.all_allowed = Allowed(self, None)
        self.models = calibrate.models_of(self.sections, self.rows, self.dim)
        self.offsets, self.inverse = self.sections["offsets"], self.sections["inverse"]
        self.corrections = calibrate.Corrections()

    def fits(self, spec: Any) -> bool:
        """Whether this is an index of such a dense field."""
        return (self.dim, self.metric) == (spec.dim, spec.metric)

    def ceiling(self, query: np.ndarray) -> float:
        """The highest dot product that a row could have with a query, float32 ``(dim,)``: the longest row may point its way."""
        longest = max(self.longest + float(np.linalg.norm(self.sections["mean"])), self.meta.get("apart_longest", 0.0))
        return float(np.linalg.norm(query)) * longest


class Allowed:
    """The rows of a segment that may be found: all of them, or those with a bit set in ``bits`` (uint64 ``(1, words)``).

    counts: int32 ``(1, clusters)``, how many of each cluster; matches: int64 ``(1,)``, of all.
    """

    __slots__ = ("bits", "counts", "filtered", "matches", "nbytes")

    def __init__(self, segment: Segment, docids: np.ndarray | None):
        """docids: uint32, ascending; those of other segments are passed over. None allows every row."""
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
