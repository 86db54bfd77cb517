"""Matrix products in pieces so small that the matrix library computes each on the calling thread.

On a busy machine the threads of a matrix library wait for one another longer than they compute: a fit of small products took 8 times as
much processor time as in pieces. Numpy has no way to say how many threads to use.
"""

from __future__ import annotations

import numpy as np

ONE_THREAD = 1 << 18  # multiplications: OpenBLAS computes products of at most so many on one thread
WORTH_THREADS = 1 << 27  # multiplications from which several threads are worth their waiting, measured with two busy cores
_NARROW = 64  # rows and columns of a piece, where they are that many


def multiplied(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right`` of float32 ``(m, k)`` and ``(k, n)``."""
    (m, k), n = left.shape, right.shape[1]
    if not ONE_THREAD < m * k * n < WORTH_THREADS:
        return left @ right
    wide = min(n, max(ONE_THREAD // (k * min(m, _NARROW)), 1))
    tall = max(ONE_THREAD // (k * wide), 1)
    result = np.empty((m, n), np.float32)
    for low in range(0, m, tall):
        for first in range(0, n, wide):
            np.matmul(left[low : low + tall], right[:, first : first + wide], out=result[low : low + tall, first : first + wide])
    return result
