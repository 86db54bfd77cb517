"""A thread's working memory for searching dense segments: visited marks, heaps, distances. Each thread keeps its own and grows it on
demand.
"""

from __future__ import annotations

import threading

import numpy as np

from ...kernels import layout
from ...kernels.codes import stride_of, words_of

KEYS = 65_536  # capacity of a graph search's heaps; a search falls back to another plan long before it fills them


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """An uninitialised array that starts on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A copy of an array that starts on a cache line."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


class Scratch:
    """Arrays for segments of up to ``rows`` rows, ``clusters`` clusters and ``dim`` dimensions. work: int64, their addresses, for
    kernels.
    """

    def __init__(self, rows: int, clusters: int, dim: int):
        self.size = (rows, clusters, dim)
        padded = -(-rows // 64) * 64
        arrays = {
            layout.VISITED: np.zeros(padded, np.uint32),
            layout.CANDIDATES: np.empty(KEYS, np.int64),
            layout.RESULTS: np.empty(KEYS, np.int64),
            layout.RANKED: np.empty(clusters + 1, np.int64),
            layout.ORDER: np.empty(clusters + 1, np.int64),
            layout.DISTANCES: aligned((padded,), np.uint16),
            layout.NEAR: np.empty(padded + 64, np.int32),
            layout.EPOCH: np.full(1, 2, np.uint32),
            layout.QUERY: np.empty(dim, np.float32),
            layout.QUERY_CODES: aligned((stride_of(dim),), np.int8),
            layout.QUERY_SIGNS: np.empty(words_of(dim), np.uint64),
            layout.SPARE: np.empty(dim, np.float32),
        }
        self.work = np.zeros(layout.WORK_WIDTH, np.int64)
        for column, array in arrays.items():
            self.work[column] = array.ctypes.data
        self.work[layout.KEYS], self.work[layout.VISITED_ROWS] = KEYS, padded
        self._arrays = arrays  # keeps the arrays alive whose addresses are in ``work``


_local = threading.local()


def of_thread(rows: int, clusters: int, dim: int) -> Scratch:
    """This thread's scratch space, grown to at least these sizes."""
    found = getattr(_local, "scratch", None)
    if found is None or rows > found.size[0] or clusters > found.size[1] or dim > found.size[2]:
        size = (rows, clusters, dim) if found is None else tuple(map(max, found.size, (rows, clusters, dim)))
        found = _local.scratch = Scratch(*size)
    return found
