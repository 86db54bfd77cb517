"""Impact-ordered posting lists: how they are made. First those of each window of rows (``write_runs``), then those of each term
(``join_lists``).
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .impact_runs import DIRECTORY
from .jit import inner, kernel, pointer

EMPTY = np.int32(-1)
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # multiplied with a term, gives a slot of a hash table in the highest bits


@inner
def slot_of(term, keys, held):
    """The slot of a term in a hash table with a power of 2 of slots, or the empty one where it belongs. held: int32, EMPTY in empty
    slots.
    """
    mask = np.uint64(len(keys) - 1)
    slot = ((term * SPREAD) >> np.uint64(32)) & mask
    while held[slot] != EMPTY and keys[slot] != term:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def note_terms(terms, start, keys, held, count):
    """Puts terms[start:] (uint64) into a hash table of ``count`` terms: keys (uint64) and held (int32, 0 where a slot is used). Returns
    (where it stopped, since half of the table is used, or the end; how many terms the table has).
    """
    for i in range(start, len(terms)):
        slot = slot_of(terms[i], keys, held)
        if held[slot] == EMPTY:
            if 2 * count >= len(keys):
                return i, count
            keys[slot] = terms[i]
            held[slot] = 0
            count += 1
    return len(terms), count


@kernel
def number_terms(vocabulary, keys, held):
    """Numbers the terms of a hash table by their position in the vocabulary (uint64), whose terms it has."""
    for i in range(len(vocabulary)):
        held[slot_of(vocabulary[i], keys, held)] = i


@kernel
def places_of(terms, keys, held, out):
    """The number of each term, into ``out`` (uint16 or uint32)."""
    for i in range(len(terms)):
        out[i] = held[slot_of(terms[i], keys, held)]


@kernel
def count_postings(row_at, row_terms, low, high, counts):
    """How many postings each term (position) has among rows [low, high), into counts (int64, cleared here)."""
    counts[:] = 0
    for i in range(row_at[low], row_at[high]):
        counts[row_terms[i]] += 1


@kernel
def fill_lists(row_at, row_terms, row_levels, low, high, starts, docs, levels):
    """Postings of rows [low, high) by term: docs (uint16, row − low), levels (uint8). starts: int64, where each term's begin; moved."""
    for row in range(low, high):
        for i in range(row_at[row], row_at[row + 1]):
            slot = starts[row_terms[i]]
            docs[slot] = row - low
            levels[slot] = row_levels[i]
            starts[row_terms[i]] = slot + 1


@kernel
def write_runs(ends, docs, levels, level_count, list_at, out):
    """Each term's postings as runs of falling weight: level, count, docs. ends: where each term's postings end. list_at: uint32
    (terms + 1,), where a list begins in out (uint16), and the end of the last. Returns how much of it was written.
    """
    counts = np.empty(level_count, np.int64)
    begins = np.empty(level_count, np.int64)
    offset = np.int64(0)
    start = np.int64(0)
    for t in range(len(ends)):
        list_at[t] = offset
        counts[:] = 0
        for p in range(start, ends[t]):
            counts[levels[p]] += 1
        for level in range(level_count):
            if counts[level] > 0:
                out[offset] = level
                out[offset + 1] = counts[level]
                begins[level] = offset + 2
                offset += 2 + counts[level]
        for p in range(start, ends[t]):
            out[begins[levels[p]]] = docs[p]
            begins[levels[p]] += 1
        start = ends[t]
    list_at[len(ends)] = offset
    return offset


@inner
def measure_list(starts, runs, lists, t, sizes):
    """How many numbers the levels of list t have in all windows, into sizes (int64). starts, runs: addresses of what ``write_runs`` made of
    each window. Returns how many levels there are.
    """
    sizes[:] = 0
    for window in range(len(starts)):
        begins = carray(pointer(starts[window]), lists + 1, np.uint32)
        offset, end = np.int64(begins[t]), np.int64(begins[t + 1])
        own = carray(pointer(runs[window]), np.int64(begins[lists]), np.uint16)
        while offset < end:
            sizes[own[offset]] += 2 + np.int64(own[offset + 1])
            offset += 2 + np.int64(own[offset + 1])
    used = 0
    for level in range(len(sizes)):
        used += sizes[level] > 0
    return used


@kernel
def measure_lists(starts, runs, levels, low, high, out):
    """How many numbers each of lists [low, high) by term has, into ``out`` (int64, lists). starts, runs: int64, see ``measure_list``."""
    sizes = np.empty(levels, np.int64)
    for t in range(low, high):
        used = measure_list(starts, runs, len(out), t, sizes)
        out[t] = 1 + DIRECTORY * used if used else 0
        for level in range(levels):
            out[t] += sizes[level]


@kernel
def join_lists(starts, runs, levels, low, high, list_at, out):
    """Writes lists [low, high) by term (see ``impact_runs``) into ``out`` (uint16), each from list_at (int64, lists + 1) on."""
    lists = len(list_at) - 1
    sizes = np.empty(levels, np.int64)
    at = np.empty(levels, np.int64)
    for t in range(low, high):
        if list_at[t] == list_at[t + 1]:
            continue
        used = measure_list(starts, runs, lists, t, sizes)
        entry = list_at[t]
        out[entry] = used
        entry += 1
        place = entry + DIRECTORY * used
        for level in range(levels):
            at[level] = place
            if sizes[level] > 0:
                out[entry] = level
                out[entry + 1] = sizes[level] & 0xFFFF
                out[entry + 2] = sizes[level] >> 16
                entry += DIRECTORY
                place += sizes[level]
        for window in range(len(starts)):
            begins = carray(pointer(starts[window]), lists + 1, np.uint32)
            offset, end = np.int64(begins[t]), np.int64(begins[t + 1])
            own = carray(pointer(runs[window]), np.int64(begins[lists]), np.uint16)
            while offset < end:
                level, count = own[offset], np.int64(own[offset + 1])
                out[at[level]] = window
                out[at[level] + 1] = count
                for i in range(count):
                    out[at[level] + 2 + i] = own[offset + 2 + i]
                at[level] += 2 + count
                offset += 2 + count
