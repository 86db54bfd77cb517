"""Links of a search graph over byte codes (Vamana: Subramanya et al. 2019; in batches: ParlayANN, Manohar et al. 2024).

Candidates of a row, found by a beam search or among the neighbours of its neighbours, are pruned to links in different directions. Then
each linked row gets a link back. Distances are exact squares of codes, in steps: |x|² + |y|² − 2·Σxy.

Keys are int64, ascending: distance « 32 | row « 1 | 1 if the row isn't expanded yet. A row of links has −1 after the last one. All arrays
of links are int32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .codes import ZERO
from .dots import dot_rows
from .jit import inner, kernel

FARTHEST = 2**31 - 1  # squared steps; what is farther counts as that far, so that a key holds it
ALIKE = 4  # one link in ALIKE may lead to a row with the same codes: with more, many equal rows would only know each other [chosen]
SPARE = 8  # elements of scratch arrays beyond the last: products are computed for four rows at once


class Rows(NamedTuple):
    """What distances are computed from. codes: uint8 ``(n, stride)``. squares, totals: int32, of a row's signed codes. lifts: float32, one
    more number of each row, in steps; empty if rows have none.
    """

    codes: np.ndarray
    squares: np.ndarray
    totals: np.ndarray
    lifts: np.ndarray


class Work(NamedTuple):
    """Scratch arrays. query: int8, a row's signed codes. products: int32. ids, far: int64, rows and their distances. kept: int64, links."""

    query: np.ndarray
    products: np.ndarray
    ids: np.ndarray
    far: np.ndarray
    kept: np.ndarray


@kernel
def code_norms(codes, squares, totals):
    """Σ of the squares, and Σ, of each row's signed codes, into int32 ``(n,)`` each."""
    for i in range(len(codes)):
        square, total = np.int32(0), np.int32(0)
        for j in range(codes.shape[1]):
            number = np.int32(np.int32(codes[i, j]) - np.int32(ZERO))
            square = np.int32(square + number * number)
            total = np.int32(total + number)
        squares[i], totals[i] = square, total


@inner
def work_for(stride, room, degree):
    """Scratch arrays for up to ``room`` candidates."""
    room += SPARE
    return Work(
        np.empty(stride, np.int8),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(degree + SPARE, np.int64),
    )


@inner
def measure(rows, x, ids, n, work):
    """The distances of rows ids[:n] to row x, into ``work.far``. Overwrites ``work.query``."""
    query, stride = work.query, rows.codes.shape[1]
    for j in range(stride):
        query[j] = np.int8(np.int32(rows.codes[x, j]) - ZERO)
    dot_rows(rows.codes.ctypes.data, stride, query.ctypes.data, ids, n, work.products)
    base = np.int64(rows.squares[x]) + 2 * ZERO * np.int64(rows.totals[x])
    for i in range(n):
        work.far[i] = min(base + np.int64(rows.squares[ids[i]]) - 2 * np.int64(work.products[i]), FARTHEST)
    if len(rows.lifts) > 0:
        for i in range(n):
            lift = np.float64(rows.lifts[x]) - np.float64(rows.lifts[ids[i]])
            work.far[i] = np.int64(min(np.float64(work.far[i]) + lift * lift, np.float64(FARTHEST)))


@inner
def key_of(far, row):
    """The key of a row that isn't expanded yet."""
    return (far << 32) | (row << 1) | 1


@inner
def row_at(key):
    """The row of a key."""
    return (key & 0xFFFFFFFF) >> 1


@inner
def insert(keys, n, most, key):
    """Insert a key, and drop the last one if there are more than ``most``. Returns how many there are."""
    if n == most:
        if key >= keys[n - 1]:
            return n
        n -= 1
    i = n
    while i > 0 and keys[i - 1] > key:
        keys[i] = keys[i - 1]
        i -= 1
    keys[i] = key
    return n + 1


@inner
def prune(rows, keys, n, degree, alpha, work):
    """Choose at most ``degree`` links of n ascending keys, into ``work.kept``; returns how many.

    A row is left out if a chosen one is nearer to it than the row is to x, by a factor of ``alpha`` (of squares) or more.
    """
    kept, m, alike = work.kept, 0, 0
    for c in range(n):
        row, far = row_at(keys[c]), keys[c] >> 32
        if far == 0:
            alike += 1
            if ALIKE * alike > degree:
                continue
        covered = False
        for j in range(0, m, 4):
            some = min(4, m - j)
            measure(rows, row, kept[j:], some, work)
            for i in range(some):
                covered |= alpha * np.float32(work.far[i]) < np.float32(far)
            if covered:
                break
        if not covered:
            kept[m] = row
            m += 1
            if m == degree:
                break
    return m


@inner
def store(links, kept, n):
    """Write kept[:n] into a row of links."""
    for j in range(len(links)):
        links[j] = kept[j] if j < n else -1


@inner
def walk(rows, graph, x, keys, size, most, visited, mark, work):
    """Beam search for row x: expand the nearest of ``most`` keys until none is left. keys: the rows to start from, marked in ``visited``.
    Returns how many keys there are.
    """
    ids, i = work.ids, 0
    while i < size:
        if keys[i] & 1 == 0:
            i += 1
            continue
        row, n = row_at(keys[i]), 0
        keys[i] -= 1
        for j in range(graph.shape[1]):
            other = np.int64(graph[row, j])
            if other < 0:
                break
            ids[n] = other  # without a branch: the next one overwrites it if the row was seen
            n += visited[other] != mark
            visited[other] = mark
        if n == 0:
            continue
        measure(rows, x, ids, n, work)
        nearest = keys[i]
        for j in range(n):
            key = key_of(work.far[j], ids[j])
            size = insert(keys, size, most, key)
            nearest = min(nearest, key)
        while i > 0 and keys[i - 1] >= nearest:
            i -= 1
    return size


@kernel
def links_by_search(codes, squares, totals, lifts, graph, starts, cluster, batch, low, high, most, degree, alpha, own, out):
    """Links of rows batch[low:high] (int32), pruned of the ``most`` nearest rows that a beam search finds, into ``out``.

    starts: int32 ``(clusters, any)``, rows of the graph to begin at, by the cluster of the row (``cluster``, int32 of all rows), −1 for
    none. own: whether the row has links that are candidates too.
    """
    rows, wide = Rows(codes, squares, totals, lifts), graph.shape[1]
    visited, mark = np.zeros(len(codes), np.uint8), 0
    room = max(wide, starts.shape[1] + wide)
    work, keys = work_for(codes.shape[1], room, degree), np.empty(most + 1, np.int64)
    for b in range(low, high):
        x = np.int64(batch[b])
        mark += 1
        if mark == 256:
            visited[:] = 0
            mark = 1
        seen = np.uint8(mark)
        visited[x] = seen
        n = 0
        for e in range(starts.shape[1]):
            row = np.int64(starts[cluster[x], e])
            if row >= 0 and visited[row] != seen:
                visited[row] = seen
                work.ids[n] = row
                n += 1
        if own:
            for j in range(wide):
                row = np.int64(graph[x, j])
                if row < 0:
                    break
                if visited[row] != seen:
                    visited[row] = seen
                    work.ids[n] = row
                    n += 1
        size = 0
        if n > 0:
            measure(rows, x, work.ids, n, work)
        for j in range(n):
            size = insert(keys, size, most, key_of(work.far[j], work.ids[j]))
        size = walk(rows, graph, x, keys, size, most, visited, seen, work)
        store(out[b], work.kept, prune(rows, keys, size, degree, alpha, work))


@kernel
def links_by_hops(codes, squares, totals, lifts, graph, batch, low, high, most, degree, alpha, out):
    """Links of rows batch[low:high] (int32), pruned of the ``most`` nearest among neighbours and their neighbours, into ``out``."""
    rows, wide = Rows(codes, squares, totals, lifts), graph.shape[1]
    visited, mark = np.zeros(len(codes), np.uint8), 0
    work, keys = work_for(codes.shape[1], wide * (wide + 1), degree), np.empty(most + 1, np.int64)
    for b in range(low, high):
        x = np.int64(batch[b])
        mark += 1
        if mark == 256:
            visited[:] = 0
            mark = 1
        seen = np.uint8(mark)
        visited[x] = seen
        n = near = 0
        for i in range(-1, wide):
            if i >= near:
                break
            row = x if i < 0 else work.ids[i]
            for j in range(wide):
                other = np.int64(graph[row, j])
                if other < 0:
                    break
                work.ids[n] = other
                n += visited[other] != seen
                visited[other] = seen
            near = n if i < 0 else near
        size = 0
        if n > 0:
            measure(rows, x, work.ids, n, work)
        for j in range(n):
            size = insert(keys, size, most, key_of(work.far[j], work.ids[j]))
        store(out[b], work.kept, prune(rows, keys, size, degree, alpha, work))


@kernel
def link_back(codes, squares, totals, lifts, graph, targets, begins, sources, low, high, degree, alpha):
    """Add links from rows targets[low:high] (int32) to those that link to them: sources[begins[t]:begins[t + 1]] (int32, int64), none of
    them twice. Where a row of the graph has no place for all, its links are pruned.
    """
    rows, wide = Rows(codes, squares, totals, lifts), graph.shape[1]
    longest = 0
    for t in range(low, high):
        longest = max(longest, begins[t + 1] - begins[t])
    work, keys = work_for(codes.shape[1], wide + longest, degree), np.empty(wide + longest + 1, np.int64)
    for t in range(low, high):
        x, n = np.int64(targets[t]), 0
        while n < wide and graph[x, n] >= 0:
            work.ids[n] = graph[x, n]
            n += 1
        own = n
        for s in range(begins[t], begins[t + 1]):
            row, there = np.int64(sources[s]), False
            for j in range(own):
                there |= work.ids[j] == row
            if not there:
                work.ids[n] = row
                n += 1
        if n <= wide:
            for j in range(own, n):
                graph[x, j] = work.ids[j]
            continue
        measure(rows, x, work.ids, n, work)
        size = 0
        for j in range(n):
            size = insert(keys, size, n, key_of(work.far[j], work.ids[j]))
        store(graph[x], work.kept, prune(rows, keys, size, degree, alpha, work))


@kernel
def nearest_rows(codes, squares, totals, lifts, x, most, out):
    """The ``most`` nearest rows to row x by their codes, without itself, nearest first, into int64 ``(most,)``; returns how many."""
    rows, size, block = Rows(codes, squares, totals, lifts), 0, 1024
    work, keys = work_for(codes.shape[1], block, 1), np.empty(most + 1, np.int64)
    for low in range(0, len(codes), block):
        n = min(block, len(codes) - low)
        for j in range(n):
            work.ids[j] = low + j
        measure(rows, x, work.ids, n, work)
        for j in range(n):
            if work.ids[j] != x:
                size = insert(keys, size, most, key_of(work.far[j], work.ids[j]))
    for j in range(size):
        out[j] = row_at(keys[j])
    return size
