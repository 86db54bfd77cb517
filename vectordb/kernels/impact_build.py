"""Impact-ordered posting lists: how they are made."""

from __future__ import annotations

import numpy as np

from .jit import kernel


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
    """Each term's postings as runs of falling weight. ends: where each term's postings end. list_at: uint32 (terms,), where a list begins
    in out (uint16). Returns how much of it was written.
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
    return offset
