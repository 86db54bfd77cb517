"""Beam searches over the bottom layer of an HNSW graph (Malkov and Yashunin 2018), scored on byte codes, under any filter.

``results`` is a heap of the best keys so far with the worst on top, ``candidates`` one of rows yet to be expanded with the best on top. All
row numbers are a segment's own.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .bitset import gather, passes
from .clusters import nearest_cluster
from .jit import inner, pointer, prefetch_lines
from .layout import (
    DEGREE,
    ENTRY_ROW,
    ENTRY_SLOT,
    GRAPH,
    ROWS,
    TOP_LEVEL,
    UPPER_COUNT,
    UPPER_LINKS,
    UPPER_OFFSETS,
    UPPER_ROWS,
    UPPER_SIZE,
)
from .planner import ACORN, GRAPH_BEAM, POST_FILTER
from .scoring import code_score, prefetch_row
from .topk import make_key, offer, pop_best, push_best, row_of

# Constants: unit and meaning, then the source in brackets. [prototype]: measured with a prototype of this search in November 2026.
SEEDS = 16  # passing rows of the nearest clusters that ACORN-1 starts from; without them it returns wrong rows fast [prototype]
MOST_LINKS = 128  # links of a row: the schema allows a degree of 64, and the bottom layer has twice as many
MOST_FRESH = 64  # rows found through neighbours that don't pass, for each expanded row [chosen, not measured]


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
def beam(scoring, rows, graph, degree, filtered, bits, ef, cap, visited, epoch, candidates, n, results, size):
    """Best-first search that goes over all rows and keeps those that pass, until the best unexpanded row is worse than the ef-th kept.

    candidates, results: heaps with n and size keys in them, whose rows are marked in ``visited``. Ends when ``cap`` rows were scored.
    Returns (results, rows scored).
    """
    links = carray(pointer(graph), rows * degree, np.int32)
    fresh = np.empty(MOST_LINKS, np.int64)
    scored = 0
    while n > 0:
        top = candidates[0]
        if (size >= ef and top < results[0]) or scored > cap:
            break
        n = pop_best(candidates, n)
        start = row_of(top) * degree
        m = 0
        for j in range(start, start + degree):
            other = np.int64(links[j])
            if other < 0:
                break
            if other < rows and visited[other] != epoch:  # the first: a damaged file must not make us read outside of it
                visited[other] = epoch
                fresh[m] = other
                m += 1
                prefetch_row(scoring, other)
        scored += m
        for j in range(m):
            other = fresh[j]
            key = make_key(code_score(scoring, other), other)
            if size < ef or key > results[0]:
                n = push_best(candidates, n, key)
                if not filtered or passes(bits, other):
                    size = offer(results, size, ef, key)
        if n > 0:
            prefetch_lines(graph + 4 * degree * row_of(candidates[0]), 2)
    return size, scored


@inner
def acorn(scoring, rows, graph, degree, bits, ef, cap, visited, epoch, candidates, n, results, size):
    """Best-first search over passing rows only; a neighbour that doesn't pass stands for its own neighbours (ACORN-1, Patel et al. 2024).

    Arguments and result as in ``beam``; start it from passing rows near the query.
    """
    links = carray(pointer(graph), rows * degree, np.int32)
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
            other = np.int64(links[j])
            if other < 0:
                break
            if other >= rows or visited[other] == epoch:
                continue
            visited[other] = epoch
            if passes(bits, other):
                fresh[m] = other
                m += 1
                prefetch_row(scoring, other)
            else:
                failed[f] = other
                f += 1
                prefetch_lines(graph + 4 * degree * other, 2)
        for i in range(f):
            if m >= MOST_FRESH:
                visited[failed[i]] = epoch - np.uint32(1)  # left for a later visit
                continue
            start = failed[i] * degree
            for j in range(start, start + degree):
                other = np.int64(links[j])
                if other < 0:
                    break
                if other < rows and passes(bits, other) and visited[other] != epoch:
                    visited[other] = epoch
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
def enter(segment, scoring, filtered, allowed, ef, mark, space):
    """Marks and lists the row where a beam search starts, found in the graph's upper layers. Returns (candidates, results)."""
    row = segment[ENTRY_ROW]
    if segment[TOP_LEVEL] > 0:
        rows = carray(pointer(segment[UPPER_ROWS]), segment[UPPER_COUNT], np.int32)
        offsets = carray(pointer(segment[UPPER_OFFSETS]), segment[UPPER_COUNT], np.int32)
        links = carray(pointer(segment[UPPER_LINKS]), segment[UPPER_SIZE], np.int32)
        slot = descend(scoring, rows, offsets, links, segment[DEGREE] // 2, segment[ENTRY_SLOT], segment[TOP_LEVEL])
        row = np.int64(rows[slot])
    space.visited[row] = mark
    key = make_key(code_score(scoring, row), row)
    size = 0
    if not filtered or passes(allowed.bits, row):
        size = offer(space.results, 0, ef, key)
    return push_best(space.candidates, 0, key), size


@inner
def search_graph(segment, scoring, clusters, allowed, plan, ef, cap, space):
    """Any of the graph's plans. Returns (results, rows scored); more than ``cap`` were scored where it was given up."""
    mark = np.uint32(space.epoch[0] + np.uint32(2))
    if mark < 4:  # went round: no mark of long ago may look like one of now
        space.visited[:] = 0
        mark = np.uint32(4)
    space.epoch[0] = mark
    candidates, results, rows = space.candidates, space.results, segment[ROWS]
    if plan == ACORN:
        n, size = seed(scoring, clusters, allowed, ef, mark, space)
        size, scored = acorn(
            scoring, rows, segment[GRAPH], segment[DEGREE], allowed.bits, ef, cap, space.visited, mark, candidates, n, results, size
        )
        return size, scored + n
    filtered = allowed.filtered and plan == GRAPH_BEAM
    n, size = enter(segment, scoring, filtered, allowed, ef, mark, space)
    size, scored = beam(
        scoring, rows, segment[GRAPH], segment[DEGREE], filtered, allowed.bits, ef, cap, space.visited, mark, candidates, n, results, size
    )
    if allowed.filtered and plan == POST_FILTER:
        kept = 0
        for i in range(size):
            if passes(allowed.bits, row_of(results[i])):
                results[kept] = results[i]
                kept += 1
        size = kept
    return size, scored
