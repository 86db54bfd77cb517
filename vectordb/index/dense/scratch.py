"""A thread's working memory for searching dense segments: visited marks, heaps, distances."""

from __future__ import annotations

import numpy as np

from ...kernels import layout
from ...kernels.codes import stride_of, u64s_of
from ..scratch import Scratch, aligned

KEYS = 65_536  # capacity of a graph search's heaps; a search falls back to another plan long before it fills them


class DenseScratch(Scratch):
    """Arrays for segments of up to (rows, clusters, dimensions)."""

    width = layout.WORK_WIDTH

    def __init__(self, rows: int, clusters: int, dim: int):
        super().__init__(rows, clusters, dim)
        self.work[layout.KEYS], self.work[layout.VISITED_ROWS] = KEYS, len(self._arrays[layout.VISITED])

    @staticmethod
    def arrays(rows: int, clusters: int, dim: int) -> dict[int, np.ndarray]:
        padded = -(-rows // 64) * 64
        return {
            layout.VISITED: np.zeros(padded + 64, np.uint8),  # and one for rows that links of a damaged file lead to
            layout.CANDIDATES: aligned((KEYS,), np.int64),
            layout.RESULTS: np.empty(KEYS, np.int64),
            layout.RANKED: np.empty(clusters + 1, np.int64),
            layout.ORDER: np.empty(clusters + 1, np.int64),
            layout.DISTANCES: aligned((padded,), np.uint16),
            layout.NEAR: np.empty(padded + 64, np.int32),
            layout.EPOCH: np.zeros(1, np.uint32),
            layout.QUERY: np.empty(dim, np.float32),
            layout.QUERY_CODES: aligned((stride_of(dim),), np.int8),
            layout.QUERY_SIGNS: np.empty(u64s_of(dim), np.uint64),
            layout.SPARE: np.empty(dim, np.float32),
            layout.QUERY_PRINCIPAL: aligned((stride_of(dim),), np.int8),
        }
