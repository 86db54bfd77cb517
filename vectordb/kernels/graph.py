"""The plans that search an HNSW graph (Malkov and Yashunin 2018): where a search starts, the search among passing rows only, and what
each plan makes of the results.

``results`` is a heap of the best keys so far with the worst on top, ``candidates`` one of rows yet to be expanded with the best on top. All
row numbers are a segment's own.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .beam import MOST_LINKS, Links, buffer_key, filtered_beam, result_key, sorted_beam
from .bitset import gather, passes
from .clusters import nearest_cluster, nearest_few
from .dots import LINE, code_dot
from .jit import inner, pointer, prefetch_lines
from .layout import (
    DEGREE,
    ENTRY_ROW,
    ENTRY_SLOT,
    GRAPH,
    MEDOIDS,
    ROWS,
    TOP_LEVEL,
    UPPER_COUNT,
    UPPER_LINKS,
    UPPER_OFFSETS,
    UPPER_ROWS,
    UPPER_SIZE,
)
from .planner import ACORN, POST_FILTER
from .scoring import code_score, prefetch_row
from .sorted_keys import insert
from .topk import make_key, offer, pop_best, push_best, row_of

# Constants: unit and meaning, then the source in brackets. [prototype]: measured with a prototype of this search in November 2026.
SEEDS = 16  # passing rows of the nearest clusters that ACORN-1 starts from; without them it returns wrong rows fast [prototype]
MOST_FRESH = 64  # rows found through neighbours that don't pass, for each expanded row [chosen, not measured]
ENTRIES = 4  # clusters in whose middles a beam search starts [prototype]
MOST_ENTERED = 1_024  # clusters; where there are more, to go down the upper layers takes less time than to rank them [prototype]
WIDEST = 8  # rows that the buffer holds, times those kept [prototype]


@inner
def descend(scoring, upper_rows, upper_offsets, upper_links, degree, slot, level):
    """From the entry point down the upper layers, always to the best neighbour; returns the slot where it ends."""
    best = code_score(scoring, np.int64(upper_rows[slot]))
    while level > 0:
        moved = True
        while moved:
            moved = False
            start = (np.int64(upper_offsets[slot]) + level - 1) * degree
            for j in range(start, start + degree):
                other = np.int64(upper_links[j])
                if other < 0:
                    break
                score = code_score(scoring, np.int64(upper_rows[other]))
                if score > best:
                    best = score
                    slot = other
                    moved = True
        level -= 1
    return slot


@inner
def acorn(scoring, links, bits, ef, cap, visited, mark, candidates, n, results, size):
    """Best-first search over passing rows only; a neighbour that doesn't pass stands for its own neighbours (ACORN-1, Patel et al. 2024).

    Arguments and result as of ``filtered_beam``; start it from passing rows near the query. ef: results kept; cap: of rows scored.
    """
    rows, degree = links.rows, links.degree
    table = carray(pointer(links.graph), rows * degree, np.int32)
    fresh = np.empty(MOST_FRESH + MOST_LINKS, np.int64)
    failed = np.empty(MOST_LINKS, np.int64)
    scored = 0
    while n > 0:
        top = candidates[0]
        if (size >= ef and top < results[0]) or scored > cap:
            break
        n = pop_best(candidates, n)
        start = row_of(top) * degree
        m = 0
        f = 0
        for j in range(start, start + degree):
            other = np.int64(table[j])
            if other < 0:
                break
            if other >= rows or visited[other] == mark:
                continue
            visited[other] = mark
            if passes(bits, other):
                fresh[m] = other
                m += 1
                prefetch_row(scoring, other)
            else:
                failed[f] = other
                f += 1
                prefetch_lines(links.graph + 4 * degree * other, 2)
        for i in range(f):
            if m >= MOST_FRESH:
                visited[failed[i]] = np.uint8(0)  # left for a later visit
                continue
            start = failed[i] * degree
            for j in range(start, start + degree):
                other = np.int64(table[j])
                if other < 0:
                    break
                if other < rows and passes(bits, other) and visited[other] != mark:
                    visited[other] = mark
                    fresh[m] = other
                    m += 1
                    prefetch_row(scoring, other)
        scored += m
        for j in range(m):
            other = fresh[j]
            key = make_key(code_score(scoring, other), other)
            if size < ef or key > results[0]:
                n = push_best(candidates, n, key)
                size = offer(results, size, ef, key)
    return size, scored


@inner
def seed(scoring, clusters, allowed, ef, mark, space):
    """Marks and lists SEEDS passing rows of the nearest clusters, for ACORN-1 to start from. Returns (candidates, results)."""
    n, size, i = 0, 0, 0
    while n < SEEDS:
        c = nearest_cluster(clusters, i)
        i += 1
        if c < 0:
            break
        if allowed.counts[c] == 0:
            continue
        here = gather(True, allowed.bits, np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1]), space.near)
        for j in range(0, here, max(here // SEEDS, 1)):
            row = np.int64(space.near[j])
            space.visited[row] = mark
            key = make_key(code_score(scoring, row), row)
            n = push_best(space.candidates, n, key)
            size = offer(space.results, size, ef, key)
    return n, size


@inner
def top_row(segment, scoring):
    """The row where a search starts, found in the graph's upper layers."""
    row = segment[ENTRY_ROW]
    if segment[TOP_LEVEL] > 0:
        rows = carray(pointer(segment[UPPER_ROWS]), segment[UPPER_COUNT], np.int32)
        offsets = carray(pointer(segment[UPPER_OFFSETS]), segment[UPPER_COUNT], np.int32)
        links = carray(pointer(segment[UPPER_LINKS]), segment[UPPER_SIZE], np.int32)
        slot = descend(scoring, rows, offsets, links, segment[DEGREE] // 2, segment[ENTRY_SLOT], segment[TOP_LEVEL])
        row = np.int64(rows[slot])
    return row


@inner
def enter(segment, scoring, clusters, mark, space):
    """Marks and lists the rows where a beam search starts, by falling score, as keys of the buffer in ``space.candidates``: the rows in the
    middle of the nearest clusters, or one from the upper layers where a file doesn't have these. Returns their number.
    """
    size, rows, fresh = 0, segment[ROWS], np.empty(4, np.int64)
    count = len(clusters.offsets) - 1
    if segment[MEDOIDS] != 0 and count <= MOST_ENTERED:
        medoids = carray(pointer(segment[MEDOIDS]), count, np.int32)
        found = nearest_few(clusters, fresh, ENTRIES)
        for i in range(found):
            row = np.int64(medoids[fresh[i]])
            if 0 <= row < rows and space.visited[row] != mark:
                space.visited[row] = mark
                prefetch_row(scoring, row)
                prefetch_lines(segment[GRAPH] + 4 * segment[DEGREE] * row, 2)
                fresh[size] = row
                size += 1
    if size == 0:
        fresh[0] = top_row(segment, scoring)
        space.visited[fresh[0]] = mark
        size = 1
    n = 0
    for i in range(size):
        product = code_dot(scoring.codes + fresh[i] * scoring.stride, scoring.query, scoring.stride // LINE)
        n, _ = insert(space.candidates, n, ENTRIES, buffer_key(scoring, product, fresh[i]))
    return n


@inner
def next_mark(space):
    """The mark of a search in ``space.visited``: 1 … 255, after which all marks are removed."""
    mark = space.epoch[0] + np.uint32(1)
    if mark > 255:
        space.visited[:] = 0
        mark = np.uint32(1)
    space.epoch[0] = mark
    return np.uint8(mark)


@inner
def search_graph(segment, scoring, clusters, allowed, plan, ending, kept, space):
    """Any of the graph's plans. kept: the most results. Returns (results, rows scored); more than ``ending.cap`` were scored where it was
    given up.
    """
    mark = next_mark(space)
    buffer, results = space.candidates, space.results
    links = Links(segment[ROWS], segment[GRAPH], segment[DEGREE])
    if plan == ACORN:
        n, size = seed(scoring, clusters, allowed, ending.count, mark, space)
        size, scored = acorn(scoring, links, allowed.bits, ending.count, ending.cap, space.visited, mark, buffer, n, results, size)
        return size, scored + n
    fresh, products = np.empty(MOST_LINKS + 4, np.int64), np.empty(MOST_LINKS + 4, np.int32)
    n = enter(segment, scoring, clusters, mark, space)
    size = 0
    if allowed.filtered and plan != POST_FILTER:
        for i in range(n):  # they fall, so they are a heap
            buffer[i] = result_key(scoring, buffer[i])
            if passes(allowed.bits, row_of(buffer[i])):
                size = offer(results, size, ending.count, buffer[i])
        return filtered_beam(scoring, links, ending, allowed.bits, space.visited, mark, buffer, n, results, size, fresh, products)
    most = max(WIDEST * kept, ending.count)
    n, scored = sorted_beam(scoring, links, ending, kept, most, space.visited, mark, buffer, n, fresh, products)
    i = 0
    while i < n and size < kept:
        key = result_key(scoring, buffer[i])
        if not allowed.filtered or passes(allowed.bits, row_of(key)):
            results[size] = key
            size += 1
        i += 1
    return size, scored
