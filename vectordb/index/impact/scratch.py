"""A thread's working memory for searching sparse segments: sums, candidates, a table of the query's weights by term. Each thread keeps its
own and grows it on demand.
"""

from __future__ import annotations

import threading

import numpy as np

from ...kernels import impact as kernel

MAX_QUERY_TERMS = 4_096  # for more terms the index isn't used: each may add a rounding error of 1 to a 16-bit sum
MAX_LEVELS = 64  # levels to which weights are rounded, at most


class Scratch:
    """Arrays for segments of up to ``rows`` rows and ``vocabulary`` terms. work: int64, their addresses, for kernels."""

    def __init__(self, rows: int, vocabulary: int):
        self.size = (rows, vocabulary)
        arrays = {
            kernel.SUMS: np.zeros(-(-rows // kernel.BLOCK_ROWS) * kernel.BLOCK_ROWS, np.uint16),
            kernel.MAXIMA: np.zeros(-(-rows // kernel.GROUP), np.uint16),
            kernel.NEAR: np.empty(-(-rows // kernel.GROUP) * kernel.GROUP, np.int32),
            kernel.QUERY: np.zeros(max(vocabulary, 65_536), np.float32),  # zero between searches
            kernel.CONTRIBUTIONS: np.empty(MAX_QUERY_TERMS * MAX_LEVELS, np.int64),
            kernel.PLACES: np.empty(MAX_QUERY_TERMS, np.int64),
            kernel.HISTOGRAM: np.empty(kernel.BUCKETS, np.int64),
        }
        self.work = np.zeros(kernel.WORK_WIDTH, np.int64)
        for column, array in arrays.items():
            self.work[column] = array.ctypes.data
        self._arrays = arrays  # keeps the arrays alive whose addresses are in ``work``

    @property
    def sums(self) -> np.ndarray:
        """The sum of each row in the last search, uint16. If that search read all postings, sums are upper bounds of scores, scaled to 16
        bits.
        """
        return self._arrays[kernel.SUMS]


_local = threading.local()


def of_thread(rows: int, vocabulary: int) -> Scratch:
    """This thread's scratch space, grown to at least these sizes."""
    found = getattr(_local, "scratch", None)
    if found is None or rows > found.size[0] or vocabulary > found.size[1]:
        size = (rows, vocabulary) if found is None else (max(rows, found.size[0]), max(vocabulary, found.size[1]))
        found = _local.scratch = Scratch(*size)
    return found
