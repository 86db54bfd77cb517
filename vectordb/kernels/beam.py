"""Best-first searches over the bottom layer of a graph, scored on byte codes. All row numbers are a segment's own.

A search ends by distance: a row is neither kept nor expanded when it is farther from the query than (1 + γ) times the K-th best so far. So
a query ends early where few rows are near that limit, and goes on where many are. γ = 0 is the usual beam of width K.

Without a filter, one sorted buffer holds the rows that are candidates and results at once. Its keys are (score « 32 | row « 1 | 1 if the
row isn't expanded yet), by falling key. The score is an integer that orders as the row's score by codes: the raw product where no row has a
bias, else the bits of the float32 score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray

from .bitset import passes
from .dots import LINE, dot_four
from .jit import inner, pointer, prefetch_lines
from .scoring import prefetch_row, score_of_product
from .sorted_keys import insert
from .topk import make_key, offer, pop_best, push_best, row_of, score_of

NOTHING = np.int64(-1) << np.int64(63)  # the lowest key
LEAST = -float(1 << 30)  # a raw product far below all others, and the lowest that a bound is set to
MOST_LINKS = 128  # links of a row: the schema allows a degree of 64, and the bottom layer has twice as many
SOON = 8  # a row that enters the buffer so few places behind the next to be expanded has its links asked for [prototype]


class Links(NamedTuple):
    """The bottom layer. graph: address of int32 ``(rows, degree)``: rows, padded with −1."""

    rows: int
    graph: int
    degree: int


class Ending(NamedTuple):
    """When a search ends. count: K. gamma: γ. reach: the score by codes of a row at distance 0. cap: of rows scored."""

    count: int
    gamma: float
    reach: float
    cap: int


@inner
def buffer_key(scoring, product, row):
    """The key of a row that isn't expanded yet, from the raw product of its codes and the query's."""
    order = np.int64(product)
    if scoring.biased:
        order = make_key(score_of_product(scoring, product, row), 0) >> 32
    return (order << 32) | (row << 1) | 1


@inner
def row_in(key):
    """The row of a key of the buffer."""
    return (key & np.int64(0xFFFFFFFF)) >> 1


@inner
def result_key(scoring, key):
    """A key of the buffer as one of ``topk``."""
    if scoring.biased:
        return (key & ~np.int64(0xFFFFFFFF)) | (np.int64(0xFFFFFFFF) - row_in(key))
    return make_key(np.float32((key >> 32) - scoring.offset) * scoring.scale, row_in(key))


@inner
def farthest(score, ending):
    """The score by codes at (1 + γ) times the distance of ``score``."""
    return score - ending.gamma * max(ending.reach - score, 0.0)


@inner
def score_bound(key, ending):
    """The key of ``topk`` below which a row isn't kept, where the K-th best has this key. Both have float32 scores."""
    return min(make_key(np.float32(farthest(np.float64(score_of(key)), ending)), 0), key)


@inner
def buffer_bound(scoring, key, ending):
    """The same for keys of the buffer."""
    if scoring.biased:
        return score_bound(key, ending)
    product, scale = np.float64(key >> 32), np.float64(scoring.scale)
    if scale <= 0:  # the query is zero, so all rows are equally near
        return NOTHING
    score = np.float64((key >> 32) - scoring.offset) * scale
    product = max(product - (score - farthest(score, ending)) / scale, LEAST)
    return min((np.int64(np.floor(product)) << 32) | np.int64(0xFFFFFFFF), key)


@inner
def score_links(scoring, links, row, visited, mark, fresh, products):
    """Lists and marks the rows that a row's links lead to and that weren't seen yet, with the raw products of their codes. visited: uint8,
    one more than rows, whose last is marked: it stands for all that links of a damaged file lead to. fresh: int64, products: int32
    ``(MOST_LINKS + 4,)``. Returns their number.
    """
    rows, degree = links.rows, links.degree
    table = carray(pointer(links.graph), rows * degree, np.int32)
    n, start = 0, row * degree
    for j in range(start, start + degree):
        other = np.int64(table[j])
        if other < 0:
            break
        other = min(other, rows)
        fresh[n] = other  # without a branch, which couldn't be predicted: overwritten where the row was seen
        n += visited[other] != mark
        visited[other] = mark
    for j in range(n):
        prefetch_row(scoring, fresh[j])
    for j in range(n, n + 3 if n else 0):
        fresh[j] = fresh[n - 1]
    codes, stride, lines, out = scoring.codes, scoring.stride, scoring.stride // LINE, products.ctypes.data
    for j in range(0, n, 4):
        dot_four(
            codes + fresh[j] * stride,
            codes + fresh[j + 1] * stride,
            codes + fresh[j + 2] * stride,
            codes + fresh[j + 3] * stride,
            scoring.query,
            lines,
            out + 4 * j,
        )
    return n


@inner
def sorted_beam(scoring, links, ending, kept, most, visited, mark, buffer, size, fresh, products):
    """Search from the ``size`` rows in the buffer, which are marked in ``visited``. kept: the best rows that stay in the buffer whatever
    their distance. most: that it holds; those beyond are forgotten. Others as ``score_links``. Returns (size, rows scored).
    """
    count, scored, i, lines = ending.count, 0, 0, (links.degree + 15) >> 4
    bound = buffer_bound(scoring, buffer[count - 1], ending) if size >= count else NOTHING
    visited[links.rows] = mark
    while True:
        while i < size and buffer[i] & 1 == 0:
            i += 1
        if i >= size or buffer[i] < bound or scored > ending.cap:
            break
        row = row_in(buffer[i])
        buffer[i] -= 1
        n = score_links(scoring, links, row, visited, mark, fresh, products)
        scored += n
        near = 0
        for j in range(n):  # most aren't near: without a branch, which couldn't be predicted
            key = buffer_key(scoring, products[j], fresh[j])
            fresh[near] = key
            near += key >= bound
        for j in range(near):
            key = fresh[j]
            if key < bound:
                continue
            size, place = insert(buffer, size, most, key)
            i = min(i, place)
            if place < i + SOON:
                prefetch_lines(links.graph + 4 * links.degree * row_in(key), lines)
            if place < count and size >= count:
                bound = buffer_bound(scoring, buffer[count - 1], ending)
        while size > kept and buffer[size - 1] < bound:
            size -= 1
    return size, scored


@inner
def filtered_beam(scoring, links, ending, bits, visited, mark, candidates, n, results, size, fresh, products):
    """Search over all rows, of which those that pass become results: ``ending.count`` are kept. candidates, results: heaps of ``topk``
    keys, n and size of them, the best and the worst on top; their rows are marked. Others as ``score_links``. Returns (size, rows scored).
    """
    count, scored, lines = ending.count, 0, (links.degree + 15) >> 4
    bound = score_bound(results[0], ending) if size >= count else NOTHING
    visited[links.rows] = mark
    while n > 0 and scored <= ending.cap:
        top = candidates[0]
        if top < bound:
            break
        n = pop_best(candidates, n)
        m = score_links(scoring, links, row_of(top), visited, mark, fresh, products)
        scored += m
        for j in range(m):
            key = result_key(scoring, buffer_key(scoring, products[j], fresh[j]))
            if key < bound:
                continue
            n = push_best(candidates, n, key)
            if passes(bits, fresh[j]):
                size = offer(results, size, count, key)
                if size >= count:
                    bound = score_bound(results[0], ending)
        if n > 0:
            prefetch_lines(links.graph + 4 * links.degree * row_of(candidates[0]), lines)
    return size, scored
