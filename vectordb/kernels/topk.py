"""Keys: int64 that order by score, then by lower docid; heaps of them, with the worst on top (``offer``) or the best (``push_best``)."""

from __future__ import annotations

import numpy as np

from .jit import inner, kernel


@inner
def make_key(score, docid):
    """Higher score is a higher key; among equal scores the lower docid is. The float's bits are made to order as an integer."""
    bits = np.float32(score).view(np.int32)
    ordered = np.int64(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
    return (ordered << 32) | (np.int64(0xFFFFFFFF) - np.int64(docid))


@inner
def row_of(key):
    """The row of a key."""
    return np.int64(0xFFFFFFFF) - (key & np.int64(0xFFFFFFFF))


@inner
def score_of(key):
    """The score of a key."""
    ordered = np.int32(key >> 32)
    return np.int32(ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


@inner
def offer(heap, n, k, key):
    """Keep the k highest keys; returns the new size. heap[0] is the lowest kept."""
    if n < k:
        i = n
        while i > 0:
            parent = (i - 1) >> 1
            if heap[parent] <= key:
                break
            heap[i] = heap[parent]
            i = parent
        heap[i] = key
        return n + 1
    if key > heap[0]:
        i = 0
        while True:
            child = 2 * i + 1
            if child >= n:
                break
            if child + 1 < n and heap[child + 1] < heap[child]:
                child += 1
            if heap[child] >= key:
                break
            heap[i] = heap[child]
            i = child
        heap[i] = key
    return n


@inner
def sort_keys(keys):
    """Sort ascending in place (heapsort: NumPy's sort takes longer to compile than all the searches of ten users)."""
    n = len(keys)
    start = n // 2
    end = n
    while end > 1:
        if start > 0:
            start -= 1
        else:
            end -= 1
            key = keys[end]
            keys[end] = keys[0]
            keys[0] = key
        sift_best(keys, end, start)


@kernel(nogil=False)
def unpack(keys, docids, scores):
    """Keys, sorted here, to docids (int64) and scores (float32), best first."""
    sort_keys(keys)
    n = len(keys)
    for i in range(n):
        docids[i] = row_of(keys[n - 1 - i])
        scores[i] = score_of(keys[n - 1 - i])


@inner
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


@inner
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


@inner
def heap_of_best(keys, n):
    """Make keys[:n] a heap with the highest on top; returns n. Taking the few best from it costs far less than sorting all."""
    for i in range(n // 2 - 1, -1, -1):
        sift_best(keys, n, i)
    return n


@inner
def pop_best(heap, n):
    """Take the highest key (``heap[0]``, read before) away; returns the new size."""
    n -= 1
    if n > 0:
        heap[0] = heap[n]
        sift_best(heap, n, 0)
    return n


@kernel
def pack(docids, scores, keys):
    """Docids (int64) and scores (float32) to keys."""
    for i in range(len(docids)):
        keys[i] = make_key(scores[i], docids[i])
