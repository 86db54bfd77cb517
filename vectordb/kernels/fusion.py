"""Several ranked lists into one by the sums of what each gives a row."""

from __future__ import annotations

import numpy as np

from .jit import inner, kernel


@inner
def comes_before(sums, docids, a, b):
    """Whether row a ranks before row b: the higher sum, then the lower docid."""
    return sums[a] > sums[b] or (sums[a] == sums[b] and docids[a] < docids[b])


@inner
def sink(heap, n, i, sums, docids):
    """Put ``heap[i]`` at its place below: a parent ranks after its children."""
    row = heap[i]
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and comes_before(sums, docids, heap[child], heap[child + 1]):
            child += 1
        if comes_before(sums, docids, heap[child], row):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = row


@kernel(nogil=False, ordered=True)
def merge_lists(docids, scores, normal, ends, weights, each, best, sums, places, facts):
    """The rows with the highest sums over all lists, best first; returns how many: min(limit, different rows).

    docids: int64 ``(n,)``, the lists one after another, each without repeats; ends: int64 ``(lists,)``, where each ends. scores: float32
    ``(n,)``. normal: float64 ``(n,)``; a list gives a row its weight · normal. weights: float64, of each list, or with ``each`` of each
    entry. Out: best int64 ``(limit,)``, sums float64 ``(limit,)``, places int64 ``(limit, lists)``: where a row stands in a list, −1 where
    it doesn't. facts: float64 ``(3, limit, lists)``, score, normal and part of a row in a list; 0 where it isn't. A sum is added up in the
    order of the lists; equal sums go to the lower docid.
    """
    n, lists, limit = len(docids), len(ends), len(best)
    size = 2
    while size < 2 * n:
        size <<= 1
    # Filled by loops: np.full, np.zeros and the assignment of a row each make numba compile many functions of its own.
    slots = np.empty(size, np.int64)  # a hash table with open addressing: the number of the row, or −1
    for i in range(size):
        slots[i] = -1
    rows, totals, where = np.empty(n, np.int64), np.empty(n, np.float64), np.empty(n * lists, np.int64)
    for i in range(n * lists):
        where[i] = -1
    different, begin = 0, 0
    for a in range(lists):
        for i in range(begin, ends[a]):
            slot = (docids[i] * np.int64(0x9E3779B1)) & (size - 1)
            while slots[slot] >= 0 and rows[slots[slot]] != docids[i]:
                slot = (slot + 1) & (size - 1)
            row = slots[slot]
            if row < 0:
                row = slots[slot] = different
                rows[row], totals[row] = docids[i], 0.0
                different += 1
            totals[row] += (weights[i] if each else weights[a]) * normal[i]
            where[row * lists + a] = i - begin
        begin = ends[a]
    count = min(limit, different)
    heap = np.empty(count, np.int64)
    for i in range(count):
        heap[i] = i
    for i in range(count // 2 - 1, -1, -1):
        sink(heap, count, i, totals, rows)
    for row in range(count, different):
        if comes_before(totals, rows, row, heap[0]):
            heap[0] = row
            sink(heap, count, 0, totals, rows)
    for left in range(count - 1, -1, -1):
        row = heap[0]
        best[left], sums[left] = rows[row], totals[row]
        begin = 0
        for a in range(lists):
            place = places[left, a] = where[row * lists + a]
            i = begin + place
            facts[0, left, a] = scores[i] if place >= 0 else 0.0
            facts[1, left, a] = normal[i] if place >= 0 else 0.0
            facts[2, left, a] = (weights[i] if each else weights[a]) * normal[i] if place >= 0 else 0.0
            begin = ends[a]
        heap[0] = heap[left]
        sink(heap, left, 0, totals, rows)
    return count
