"""The levels to which the weights of a sparse segment are rounded."""

from __future__ import annotations

from .jit import kernel


@kernel
def levels_of(weights, edges, levels, counts, sums, most):
    """The level of each weight (float32) into ``levels`` (uint8): how many of the edges (float32, ascending) are above it.

    counts: int64, sums: float64, most: float32, each ``(edges + 1,)``: to them are added how many weights a level has, their sum and the
    largest.
    """
    for i in range(len(weights)):
        weight = weights[i]
        level = 0
        for j in range(len(edges)):
            level += weight < edges[j]
        levels[i] = level
        counts[level] += 1
        sums[level] += weight
        most[level] = max(most[level], weight)
