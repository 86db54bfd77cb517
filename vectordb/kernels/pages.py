"""LMDB's B+tree as bytes: walk every page of it, trust nothing, and add up a hash of all records.

LMDB follows page numbers without a look at where they lead, and its pages carry no checksum. Here each number is checked before it is
followed, each page may have one owner only, and keys have to stand in order and between their separators. The layout is that of LMDB 0.9
(data version 1), little-endian.
"""

from __future__ import annotations

import numpy as np

from .jit import inner, kernel

HEADER = 16  # bytes of a page's header
BRANCH, LEAF, OVERFLOW = 1, 2, 4  # flags of a page
BIG, SUBTREE = 1, 2  # flags of a node: its value lies in pages of its own; its value describes a tree
NO_PAGE = 0xFFFFFFFFFFFFFFFF  # the root of an empty tree
HEAD = 48  # bytes of a value that its hash covers; every longer value has its own checksum there
_DEPTH = 32

# What a tree is made of, as ``walk`` counts it and as LMDB writes it down.
DEPTH, BRANCHES, LEAVES, OVERFLOWS, ENTRIES = range(5)
# Where more of what ``walk`` found is: the sum of the hashes; where the value of the special record begins, and its bytes.
DIGEST, SPECIAL_AT, SPECIAL_SIZE = range(5, 8)
WIDTH = 8

# What can be wrong with a page.
PROBLEMS = (
    "",
    "lies outside of the file",
    "belongs to two owners",
    "has a damaged header",
    "has a damaged list of nodes",
    "has a node of an unknown kind",
    "has keys out of order",
    "is too deep in its tree",
    "begins a value whose pages are damaged",
    "holds a damaged list of free pages",
)
OUTSIDE, SHARED, PAGE, NODES, KIND, ORDER, DEEP, VALUE, FREE = range(1, 10)


@inner
def number(data, offset, width):
    """``width`` (at most 8) bytes as a little-endian u64."""
    value = np.uint64(0)
    for i in range(width):
        value |= np.uint64(data[offset + i]) << np.uint64(8 * i)
    return value


@inner
def mixed(state, data, offset, length):
    """A hash state after some bytes: eight at a time, each step one to one, so that no single change is lost."""
    end = offset + length
    while offset < end:
        state = (state ^ number(data, offset, min(8, end - offset))) * np.uint64(0x9FB21C651E98DF25)
        state ^= state >> np.uint64(32)
        offset += 8
    return state


@inner
def record_hash(data, key_at, key_size, value_at, value_size):
    """The hash (u64) of a record: its key, the size of its value, and the first ``HEAD`` bytes of that."""
    state = np.uint64(0x9E3779B97F4A7C15) ^ (np.uint64(value_size) << np.uint64(16)) ^ np.uint64(key_size)
    state = mixed(state * np.uint64(0xD6E8FEB86659FD93), data, key_at, key_size)
    state = mixed(state, data, value_at, min(value_size, HEAD))
    state = (state ^ (state >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(32))


@kernel
def sum_of_hashes(data, sizes):
    """The sum (u64) of the hashes of records. data: each one's key and head of its value; sizes: int64 ``(n, 2)``, of key and value."""
    total, offset = np.uint64(0), 0
    for i in range(len(sizes)):
        key_size, value_size = sizes[i, 0], sizes[i, 1]
        total += record_hash(data, offset, key_size, offset + key_size, value_size)
        offset += key_size + min(value_size, HEAD)
    return total


@inner
def before(data, a, a_size, b, b_size, integers):
    """Whether one key sorts before another; ``integers``: both are u64."""
    if integers:
        return number(data, a, 8) < number(data, b, 8)
    for i in range(min(a_size, b_size)):
        if data[a + i] != data[b + i]:
            return data[a + i] < data[b + i]
    return a_size < b_size


@kernel
def take(owned, page):
    """Give a page its owner; whether it had none. owned: one bit a page, uint8."""
    bit = np.uint8(1 << (page & 7))
    free = owned[page >> 3] & bit == 0
    owned[page >> 3] |= bit
    return free


@inner
def page_problem(data, size, end, page, leaf, owned):
    """What is wrong with a page of a tree as such, 0 when nothing is. end: the page behind the last; leaf: which kind it has to be."""
    if page < 2 or page >= end or (page + 1) * size > len(data):
        return OUTSIDE
    if not take(owned, page):
        return SHARED
    base = page * size
    flags, lower, upper = np.int64(number(data, base + 10, 2)), np.int64(number(data, base + 12, 2)), np.int64(number(data, base + 14, 2))
    if number(data, base, 8) != np.uint64(page) or flags != (LEAF if leaf else BRANCH):
        return PAGE
    if lower & 1 or upper & 1 or lower < HEADER + 2 or lower > upper or upper > size:
        return PAGE
    nodes = 0
    for i in range((lower - HEADER) >> 1):
        node = np.int64(number(data, base + HEADER + 2 * i, 2))
        if node < upper or node + 8 > size:
            return NODES
        kind, length = np.int64(number(data, base + node + 4, 2)), 8 + np.int64(number(data, base + node + 6, 2))
        if leaf:
            length += 8 if kind & BIG else np.int64(number(data, base + node, 4))
        if node + length > size:
            return NODES
        nodes += length + (length & 1)
    return 0 if nodes == size - upper else NODES


@inner
def value_problem(data, size, end, page, length, owned):
    """What is wrong with the pages of a large value of ``length`` bytes, 0 when nothing is."""
    count = (HEADER - 1 + length) // size + 1
    if page < 2 or page >= end or count > end - page or (page + count) * size > len(data):
        return OUTSIDE
    base = page * size
    if number(data, base, 8) != np.uint64(page) or number(data, base + 10, 2) != OVERFLOW or number(data, base + 12, 4) != np.uint64(count):
        return VALUE
    for i in range(count):
        if not take(owned, page + i):
            return SHARED
    return 0


@inner
def free_problem(data, offset, length, end, owned):
    """What is wrong with a list of free pages, 0 when nothing is."""
    room = length // 8 - 1
    count = number(data, offset, 8) if room >= 0 else np.uint64(NO_PAGE)
    if room < 0 or count > np.uint64(room):
        return FREE
    for i in range(np.int64(count)):
        page = number(data, offset + 8 + 8 * i, 8)
        if page < np.uint64(2) or page >= np.uint64(end):
            return FREE
        if not take(owned, np.int64(page)):
            return SHARED
    return 0


@kernel
def walk(data, size, end, root, depth, kinds, is_free, special, owned, report):
    """Every page of the tree at ``root``; returns (problem, page), (0, 0) when all is well.

    data: the file, uint8. size: bytes of a page. end: the page behind the last. depth: of the tree, 1 for a leaf alone. kinds: flags
    that its nodes may have. is_free: this is the tree of free pages, whose keys are integers. special: the record with this key (uint8) is
    found, and not added to the sum of hashes. owned: uint8, one bit a page; set for those that the tree has. report: uint64 ``(WIDTH,)``,
    what was counted.
    """
    pages, nodes = np.empty(_DEPTH, np.int64), np.empty(_DEPTH, np.int64)
    bounds = np.empty((_DEPTH, 4), np.int64)  # the keys around a page: where the lower one is, its bytes; the same of the upper one
    for i in range(_DEPTH):
        pages[i] = nodes[i] = 0
        bounds[i, 0] = bounds[i, 1] = bounds[i, 2] = bounds[i, 3] = -1
    if depth < 1 or depth > _DEPTH:
        return DEEP, root
    level, pages[0], entering = 0, root, True
    report[DEPTH] = np.uint64(depth)
    while level >= 0:
        page, leaf = pages[level], level == depth - 1
        if entering:
            problem = page_problem(data, size, end, page, leaf, owned)
            if problem:
                return problem, page
            report[LEAVES if leaf else BRANCHES] += np.uint64(1)
            nodes[level], entering = 0, False
        base = page * size
        count = (np.int64(number(data, base + 12, 2)) - HEADER) >> 1
        i = nodes[level]
        if i == count:
            level -= 1
            continue
        nodes[level] = i + 1
        node = base + np.int64(number(data, base + HEADER + 2 * i, 2))
        key, key_size = node + 8, np.int64(number(data, node + 6, 2))
        keyed = leaf or i > 0  # the first key of a branch means everything lower
        if keyed:
            if is_free and key_size != 8:
                return KIND, page
            low, low_size, high, high_size = bounds[level, 0], bounds[level, 1], bounds[level, 2], bounds[level, 3]
            if low >= 0 and before(data, key, key_size, low, low_size, is_free):
                return ORDER, page
            if high >= 0 and not before(data, key, key_size, high, high_size, is_free):
                return ORDER, page
            if i > (0 if leaf else 1):
                last = base + np.int64(number(data, base + HEADER + 2 * (i - 1), 2))
                if not before(data, last + 8, np.int64(number(data, last + 6, 2)), key, key_size, is_free):
                    return ORDER, page
        if not leaf:
            for j in range(4):  # not by slices: those compile half a second of numba's own functions
                bounds[level + 1, j] = bounds[level, j]
            if keyed:
                bounds[level + 1, 0], bounds[level + 1, 1] = key, key_size
            if i + 1 < count:
                after = base + np.int64(number(data, base + HEADER + 2 * (i + 1), 2))
                bounds[level + 1, 2], bounds[level + 1, 3] = after + 8, np.int64(number(data, after + 6, 2))
            level, entering = level + 1, True
            child = number(data, node, 6)
            pages[level] = np.int64(child)
            continue
        kind, length, value = np.int64(number(data, node + 4, 2)), np.int64(number(data, node, 4)), key + key_size
        if kind & ~np.int64(kinds):
            return KIND, page
        if kind & BIG:
            first = number(data, value, 8)
            if first >= np.uint64(end):
                return OUTSIDE, page
            problem = value_problem(data, size, end, np.int64(first), length, owned)
            if problem:
                return problem, page
            report[OVERFLOWS] += np.uint64((HEADER - 1 + length) // size + 1)
            value = np.int64(first) * size + HEADER
        if is_free:
            problem = free_problem(data, value, length, end, owned)
            if problem:
                return problem, page
        report[ENTRIES] += np.uint64(1)
        same = key_size == len(special)
        for j in range(len(special) if same else 0):
            same = same and data[key + j] == special[j]
        if same:
            report[SPECIAL_AT], report[SPECIAL_SIZE] = np.uint64(value), np.uint64(length)
        else:
            report[DIGEST] += record_hash(data, key, key_size, value, length)
    return 0, 0
