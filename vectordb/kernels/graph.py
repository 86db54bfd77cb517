"""Beam searches over the bottom layer of an HNSW graph (Malkov and Yashunin 2018), scored on byte codes, under any filter.

``results`` is a heap of the best keys so far with the worst on top, ``candidates`` one of rows yet to be expanded with the best on top. All
row numbers are a segment's own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray

from .bitset import passes
from .codes import LINE, code_dot
from .jit import inner, pointer, prefetch_lines
from .topk import make_key, offer, pop_best, push_best, row_of


class Scoring(NamedTuple):
    """How rows are scored for one query by their codes.

    codes, query: addresses of the rows' codes (``stride`` bytes each) and of the query's. A score is (Σ row·query − offset)·scale, plus
    the row's ``bias`` (float32) where ``biased``.
    """

    codes: int
    stride: int
    query: int
    scale: np.float32
    offset: int
    bias: np.ndarray
    biased: bool


@inner
def code_score(scoring, row):
    """The score of a row by its codes."""
    product = code_dot(scoring.codes + row * scoring.stride, scoring.query, scoring.stride // LINE)
    score = np.float32(np.int64(product) - scoring.offset) * scoring.scale
    return score + scoring.bias[row] if scoring.biased else score


@inner
def prefetch_row(scoring, row):
    """Ask for a row's codes, to be scored soon."""
    prefetch_lines(scoring.codes + row * scoring.stride, scoring.stride // LINE)


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
    fresh = np.empty(128, np.int64)
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
def two_hop(scoring, rows, graph, degree, bits, ef, cap, visited, epoch, candidates, n, results, size):
    """Best-first search over passing rows only; a neighbour that doesn't pass stands for its own neighbours (ACORN-1, Patel et al. 2024).

    Arguments and result as in ``beam``; start it from passing rows near the query.
    """
    links = carray(pointer(graph), rows * degree, np.int32)
    most = 64
    fresh = np.empty(most + 128, np.int64)
    failed = np.empty(128, np.int64)
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
            if m >= most:
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
