"""Top-k selection: a min-heap of int64 keys that order by score, then by lower docid."""

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel
def make_key(score, docid):
    """Higher score is a higher key; among equal scores the lower docid is. The float's bits are made to order as an integer."""
    bits = np.float32(score).view(np.int32)
    ordered = np.int64(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
    return (ordered << 32) | (np.int64(0xFFFFFFFF) - np.int64(docid))


@kernel
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


@kernel
def sort_keys(keys):
    """Sort ascending in place (heapsort: NumPy's sort takes longer to compile than all the searches of ten users)."""
    n = len(keys)
    start = n // 2
    end = n
    while end > 1:
        if start > 0:
            start -= 1
            key = keys[start]
        else:
            end -= 1
            key = keys[end]
            keys[end] = keys[0]
        i = start
        while True:
            child = 2 * i + 1
            if child >= end:
                break
            if child + 1 < end and keys[child + 1] > keys[child]:
                child += 1
            if keys[child] <= key:
                break
            keys[i] = keys[child]
            i = child
        keys[i] = key


@kernel
def unpack(keys, docids, scores):
    """Keys, sorted here, to docids (int64) and scores (float32), best first."""
    sort_keys(keys)
    n = len(keys)
    for i in range(n):
        key = keys[n - 1 - i]
        ordered = np.int32(key >> 32)
        docids[i] = np.int64(0xFFFFFFFF) - (key & np.int64(0xFFFFFFFF))
        scores[i] = np.int32(ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
