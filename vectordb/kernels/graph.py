"""Beam searches over the bottom layer of an HNSW graph (Malkov and Yashunin 2018), scored on byte codes, under any filter.

A key (``topk.make_key``) orders rows by score; ``results`` is a heap of the best so far with the worst on top, ``candidates`` one of rows
yet to be expanded with the best on top. All row numbers are a segment's own.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .codes import LINE, code_dot
from .jit import kernel, pointer, prefetch_lines
from .topk import make_key, offer

NOBODY = np.uint64(0xFFFFFFFF)


@kernel
def row_of(key):
    """The row of a key."""
    return np.int64(0xFFFFFFFF) - (key & np.int64(0xFFFFFFFF))


@kernel
def score_of(key):
    """The score of a key."""
    ordered = np.int32(key >> 32)
    return np.int32(ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@kernel
def push_best(heap, n, key):
    """Add a key to a heap that has the highest on top; returns the new size."""
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent] >= key:
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = key
    return n + 1


@kernel
def sift_best(heap, n, i):
    """Bring the key at i to its place among those below it."""
    key = heap[i]
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key


@kernel
def pop_best(heap, n):
    """Take the highest key (``heap[0]``, read before) away; returns the new size."""
    n -= 1
    if n > 0:
        heap[0] = heap[n]
        sift_best(heap, n, 0)
    return n


@kernel
def passes(bits, row):
    """Whether a row's bit is set."""
    return (bits[row >> 6] >> np.uint64(row & 63)) & np.uint64(1) != 0


@kernel
def code_score(codes, stride, row, query, scale, offset, bias, biased):
    """The score of a row by its codes: ``(Σ row·query − offset)·scale``, plus its bias where the metric has one."""
    score = np.float32(np.int64(code_dot(codes + row * stride, query, stride // LINE)) - offset) * scale
    return score + bias[row] if biased else score


@kernel
def descend(codes, stride, query, scale, offset, bias, biased, upper_rows, upper_offsets, upper_links, degree, slot, level):
    """From the entry point down the upper layers, always to the best neighbour; returns the slot where it ends."""
    best = code_score(codes, stride, np.int64(upper_rows[slot]), query, scale, offset, bias, biased)
    while level > 0:
        moved = True
        while moved:
            moved = False
            start = (np.int64(upper_offsets[slot]) + level - 1) * degree
            for j in range(start, start + degree):
                other = np.int64(upper_links[j])
                if other < 0:
                    break
                score = code_score(codes, stride, np.int64(upper_rows[other]), query, scale, offset, bias, biased)
                if score > best:
                    best = score
                    slot = other
                    moved = True
        level -= 1
    return slot


@kernel
def beam(
    codes,
    stride,
    rows,
    query,
    scale,
    offset,
    bias,
    biased,
    graph,
    degree,
    filtered,
    bits,
    ef,
    cap,
    visited,
    epoch,
    candidates,
    n,
    results,
    size,
):
    """Best-first search that goes over all rows and keeps those that pass, until the best unexpanded row is worse than the ef-th kept.

    candidates, results: heaps with n and size keys in them, whose rows are marked in ``visited``. Ends when ``cap`` rows were scored.
    Returns (results, rows scored).
    """
    links = carray(pointer(graph), rows * degree, np.int32)
    lines = min(stride // LINE, 8)
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
                prefetch_lines(codes + other * stride, lines)
        scored += m
        for j in range(m):
            other = fresh[j]
            key = make_key(code_score(codes, stride, other, query, scale, offset, bias, biased), other)
            if size < ef or key > results[0]:
                n = push_best(candidates, n, key)
                if not filtered or passes(bits, other):
                    size = offer(results, size, ef, key)
        if n > 0:
            prefetch_lines(graph + 4 * degree * row_of(candidates[0]), 2)
    return size, scored


@kernel
def two_hop(
    codes, stride, rows, query, scale, offset, bias, biased, graph, degree, bits, ef, cap, visited, epoch, candidates, n, results, size
):
    """Best-first search over passing rows only; a neighbour that doesn't pass stands for its own neighbours (ACORN-1, Patel et al. 2024).

    Arguments and result as in ``beam``; start it from passing rows near the query.
    """
    links = carray(pointer(graph), rows * degree, np.int32)
    lines = min(stride // LINE, 8)
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
                prefetch_lines(codes + other * stride, lines)
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
                    prefetch_lines(codes + other * stride, lines)
        scored += m
        for j in range(m):
            other = fresh[j]
            key = make_key(code_score(codes, stride, other, query, scale, offset, bias, biased), other)
            if size < ef or key > results[0]:
                n = push_best(candidates, n, key)
                size = offer(results, size, ef, key)
    return size, scored
