"""The lists of a sparse segment by term: one of all rows that hold a term, by falling weight and, within a level, by window of rows.

A list is the number of its levels, then (level, length, length » 16) of each, then the levels themselves: runs of (window, count, rows less
the window's first). All are uint16. A query reads each level from its beginning on, a window of all lists after the other: so the sums of a
window stay in the cache, and memory is read in order (the windows of SINDI: Li et al., "SINDI: an efficient index for approximate maximum
inner product search on sparse vectors", arXiv 2509.08395, with runs of one level instead of a value for each posting).
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .impact_layout import BLOCK_ROWS, LAST_ROW, LEVELS, LIST_AT, LISTS, SIGNS, VOCABULARY
from .jit import inner, pointer, prefetch

# Columns of a cursor, which reads a level of a list: its place and its end in LISTS, what a posting adds, the number of the query's term.
AT, STOP, ADDS, TERM = range(4)
CURSOR = 4
DIRECTORY = 3  # numbers of a list's beginning that tell of a level


@inner
def first_of(segment, listed):
    """The first level of a list by term: that of its largest weights; the number of levels if it is empty."""
    levels = segment[LEVELS]
    list_at = carray(pointer(segment[LIST_AT]), segment[VOCABULARY] * segment[SIGNS] + 1, np.int64)
    begin, end = list_at[listed], list_at[listed + 1]
    if end - begin <= DIRECTORY:
        return levels
    return min(np.int64(carray(pointer(segment[LISTS] + 2 * begin), 2, np.uint16)[1]), levels)


@inner
def open_lists(segment, listed, contributions, cursors):
    """A cursor (int64, CURSOR numbers each) for each level of the query's lists (int64, −1: none) whose postings add anything: of a list
    by falling weight. contributions: int64 (terms · levels). Returns how many.
    """
    levels = segment[LEVELS]
    lists_held = segment[VOCABULARY] * segment[SIGNS]
    list_at = carray(pointer(segment[LIST_AT]), lists_held + 1, np.int64)
    size = list_at[lists_held]
    lists = carray(pointer(segment[LISTS]), size, np.uint16)
    for q in range(len(listed)):
        if listed[q] >= 0:
            prefetch(segment[LISTS] + 2 * list_at[listed[q]])
    n = 0
    for q in range(len(listed)):
        if listed[q] < 0:
            continue
        begin, end = list_at[listed[q]], list_at[listed[q] + 1]
        if end - begin <= DIRECTORY:
            continue
        held = min(np.int64(lists[begin]), levels)
        at = begin + 1 + DIRECTORY * held
        for i in range(held):
            entry = begin + 1 + DIRECTORY * i
            if entry + DIRECTORY > end:
                break
            adds = contributions[q * levels + min(np.int64(lists[entry]), levels - 1)]
            if adds == 0:
                break  # the rest of the list is lower still
            stop = min(at + np.int64(lists[entry + 1]) + (np.int64(lists[entry + 2]) << 16), end)
            cursor = cursors[CURSOR * n : CURSOR * n + CURSOR]
            cursor[AT], cursor[STOP], cursor[ADDS], cursor[TERM] = at, stop, adds, q
            n += 1
            prefetch(segment[LISTS] + 2 * at)
            at = stop
    return n


@inner
def most_of_window(segment, cursors, count, window):
    """Moves cursors to a window. Returns a sum that no row of it exceeds: what the first of each term's cursors that has a run there
    adds.
    """
    size = carray(pointer(segment[LIST_AT]), segment[VOCABULARY] * segment[SIGNS] + 1, np.int64)[segment[VOCABULARY] * segment[SIGNS]]
    lists = carray(pointer(segment[LISTS]), size, np.uint16)
    most, last = np.int64(0), np.int64(-1)
    for c in range(count):
        at, stop = cursors[CURSOR * c + AT], cursors[CURSOR * c + STOP]
        while at + 2 < stop and np.int64(lists[at]) < window:
            at += 2 + np.int64(lists[at + 1])
        cursors[CURSOR * c + AT] = at
        if at + 2 < stop and np.int64(lists[at]) == window and cursors[CURSOR * c + TERM] != last:
            last = cursors[CURSOR * c + TERM]
            most += cursors[CURSOR * c + ADDS]
    return most


@inner
def add_runs(segment, cursors, count, window, sums):
    """Adds the postings of a window to its rows' sums (uint8 or uint16, cleared here). Returns postings read. Windows are asked for in
    order.
    """
    size = carray(pointer(segment[LIST_AT]), segment[VOCABULARY] * segment[SIGNS] + 1, np.int64)[segment[VOCABULARY] * segment[SIGNS]]
    lists = carray(pointer(segment[LISTS]), size, np.uint16)
    sums[:BLOCK_ROWS] = 0
    read = np.int64(0)
    for c in range(count):
        at, stop = cursors[CURSOR * c + AT], cursors[CURSOR * c + STOP]
        while at + 2 < stop and np.int64(lists[at]) < window:
            at += 2 + np.int64(lists[at + 1])
        if at + 2 < stop and np.int64(lists[at]) == window:
            held = min(np.int64(lists[at + 1]), stop - at - 2)
            adds = cursors[CURSOR * c + ADDS]
            for p in range(at + 2, at + 2 + held):
                sums[lists[p] & LAST_ROW] += adds
            read += held
            at += 2 + held
            prefetch(segment[LISTS] + 2 * at)
        cursors[CURSOR * c + AT] = at
    return read
