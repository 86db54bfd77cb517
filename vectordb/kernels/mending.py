"""Repair of a search graph around rows that are gone (after IP-DiskANN: Xu et al. 2025, arXiv 2502.13826).

A row that links to one that is gone gets links to rows that the lost one led to: those nearest to it. So the work depends on the number of
links that are lost, not on the size of the graph. ``linking`` has the distances, the rule of pruning and the types.
"""

from __future__ import annotations

import numpy as np

from .jit import inner, kernel
from .linking import Rows, insert, key_of, measure, prune, row_at, store, work_for


@inner
def beyond(graph, gone, lost, visited, seen, ids, n, queue):
    """Add the rows that a lost row leads to, and those that its lost neighbours lead to, to ids[n:], unless they are marked in ``visited``.
    queue: room for rows, as many as a row has links. Returns how many ids there are. It looks on through lost neighbours only until some
    row is found, so it adds less than two rows of links.
    """
    wide, begin, ends = graph.shape[1], n, 1
    queue[0] = lost
    i = 0
    while i < ends and n == begin:
        for j in range(wide):
            row = np.int64(graph[queue[i], j])
            if row < 0:
                break
            if visited[row] == seen:
                continue
            visited[row] = seen
            if not gone[row]:
                ids[n] = row
                n += 1
            elif ends < wide:
                queue[ends] = row
                ends += 1
        i += 1
    return n


@kernel
def mend(codes, squares, totals, lifts, graph, gone, batch, low, high, count, alpha):
    """Replace the links of rows batch[low:high] (int32) to rows that are gone (uint8, of all rows; none of the batch is) by links to up to
    ``count`` rows for each that is lost. Where a row has no place for all, its links are pruned.

    Rows that are gone keep their links, so calls for other rows may run at the same time.
    """
    rows, wide = Rows(codes, squares, totals, lifts), graph.shape[1]
    visited, mark, most = np.zeros(len(codes), np.uint8), 0, wide * (count + 1)
    work, keys = work_for(codes.shape[1], max(most, wide), wide), np.empty(max(most, count) + 1, np.int64)
    links, queue = np.empty(most, np.int64), np.empty(wide, np.int64)
    for b in range(low, high):
        x, m, lost = np.int64(batch[b]), 0, 0
        mark += 1
        if mark == 256:
            visited[:] = 0
            mark = 1
        seen = np.uint8(mark)
        visited[x] = seen
        for j in range(wide):
            row = np.int64(graph[x, j])
            if row < 0:
                break
            visited[row] = seen
            if not gone[row]:
                links[m] = row
                m += 1
        for j in range(wide):
            row = np.int64(graph[x, j])
            if row < 0:
                break
            if not gone[row]:
                continue
            lost += 1
            n = beyond(graph, gone, row, visited, seen, work.ids, 0, queue)
            if n == 0:
                continue
            measure(rows, x, work.ids, n, work)
            size = 0
            for i in range(n):
                size = insert(keys, size, count, key_of(work.far[i], work.ids[i]))
            for i in range(n):
                visited[work.ids[i]] = np.uint8(seen - 1)  # a later row may choose those that this one didn't
            for i in range(size):
                links[m] = row_at(keys[i])
                visited[links[m]] = seen
                m += 1
        if lost == 0:
            continue
        if m <= wide:
            store(graph[x], links, m)
            continue
        measure(rows, x, links, m, work)
        size = 0
        for i in range(m):
            size = insert(keys, size, m, key_of(work.far[i], links[i]))
        store(graph[x], work.kept, prune(rows, keys, size, wide, alpha, work))
