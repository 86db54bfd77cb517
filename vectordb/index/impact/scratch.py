"""A thread's working memory for searching sparse segments: sums, candidates, a table of the query's weights by term."""

from __future__ import annotations

import numpy as np

from ...kernels import impact_layout as layout
from ...kernels.impact_runs import CURSOR
from ..scratch import Scratch

MAX_QUERY_TERMS = 4_096  # for more terms the index isn't used: each may add a rounding error of 1 to a 16-bit sum
MAX_LEVELS = 64  # levels to which weights are rounded, at most


class ImpactScratch(Scratch):
    """Arrays for segments of up to (rows, terms)."""

    width = layout.WORK_WIDTH

    @staticmethod
    def arrays(rows: int, vocabulary: int) -> dict[int, np.ndarray]:
        return {
            layout.SUMS: np.zeros(layout.BLOCK_ROWS, np.uint16),
            layout.HEIGHTS: np.empty(-(-rows // layout.GROUP) * layout.GROUP, np.uint16),
            layout.NEAR: np.empty(-(-rows // layout.GROUP) * layout.GROUP, np.int32),
            layout.QUERY: np.zeros(max(vocabulary, 65_536), np.float32),  # zero between searches
            layout.CONTRIBUTIONS: np.empty(MAX_QUERY_TERMS * MAX_LEVELS, np.int64),
            layout.PLACES: np.empty(MAX_QUERY_TERMS, np.int64),
            layout.LISTED: np.empty(MAX_QUERY_TERMS, np.int64),
            layout.BEGINS: np.empty(MAX_QUERY_TERMS, np.int64),
            layout.CURSORS: np.empty(CURSOR * MAX_QUERY_TERMS * MAX_LEVELS, np.int64),
            layout.HISTOGRAM: np.empty(layout.BUCKETS, np.int64),
        }
