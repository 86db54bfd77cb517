"""Exact scans of dense and multi-vector chunks."""

from __future__ import annotations

import numpy as np
from numba import carray

from . import AUX, COUNT, DATA, DOCIDS, FIRST, ITEMS, LAST, NORMS
from .jit import inner, kernel, pointer
from .maxsim import LANES, float_products
from .topk import make_key, offer

DOT, COSINE, L2 = 0, 1, 2
TILED = 4  # rows of a query from which on a register holds numbers of several of them [by times of 47 rows of 128 dimensions]
LARGEST = np.float32(3.4028235e38)  # of float32


@inner
def half_to_float(half):
    """float16 bits to float32 without hardware support: shift into place, rescale the exponent. Exact, subnormals included."""
    magnitude = np.uint32((np.uint32(half) & np.uint32(0x7FFF)) << np.uint32(13))
    value = np.float32(magnitude.view(np.float32) * np.float32(5.192296858534828e33))
    sign = np.uint32((np.uint32(half) & np.uint32(0x8000)) << np.uint32(16))
    return np.uint32(value.view(np.uint32) | sign).view(np.float32)


@inner
def score_row(query, address, half, metric):
    """Dot product, or minus the squared distance, of a float32 query and the row at an address."""
    dim = len(query)
    total = np.float32(0)
    if half:
        row16 = carray(pointer(address), dim, np.uint16)
        if metric == L2:
            for j in range(dim):
                gap = query[j] - half_to_float(row16[j])
                total += gap * gap
        else:
            for j in range(dim):
                total += query[j] * half_to_float(row16[j])
    else:
        row = carray(pointer(address), dim, np.float32)
        if metric == L2:
            for j in range(dim):
                gap = query[j] - row[j]
                total += gap * gap
        else:
            for j in range(dim):
                total += query[j] * row[j]
    score = -total if metric == L2 else total
    return score if abs(score) <= LARGEST else score_long_row(query, address, half, metric)


@inner
def within(score):
    """A score as float32: finite, whatever it was added up from."""
    return np.float32(min(max(score, -LARGEST), LARGEST))


@inner
def score_long_row(query, address, half, metric):
    """What ``score_row`` can't add up in float32: rows as long as no write takes any more. What is too large for float32 is its largest."""
    dim = len(query)
    row16, row = carray(pointer(address), dim, np.uint16), carray(pointer(address), dim, np.float32)
    total = 0.0
    for j in range(dim):
        value = np.float64(half_to_float(row16[j]) if half else row[j])
        if metric == L2:
            total -= (np.float64(query[j]) - value) ** 2
        else:
            total += np.float64(query[j]) * value
    return within(total)


@inner
def cosine_of(product, length):
    """The cosine of a row of that length whose inner product with a query of length 1 this is. Rounding never takes it beyond ±1."""
    return min(max(product / length, np.float32(-1)), np.float32(1))


@inner
def of_unit_length(vectors):
    """Rows divided by their Euclidean length, taken in float64."""
    out = np.empty((vectors.shape[0], vectors.shape[1]), np.float32)
    for i in range(len(vectors)):
        total = 0.0
        for j in range(vectors.shape[1]):
            total += np.float64(vectors[i, j]) * np.float64(vectors[i, j])
        scale = 1.0 / np.sqrt(total)
        for j in range(vectors.shape[1]):
            out[i, j] = np.float32(vectors[i, j] * scale)
    return out


@inner
def lower_bound(values, low, high, target):
    """First index in [low, high) whose value is ≥ target."""
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < target:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def place_of(table, docid):
    """(chunk, position in it) of a row by its docid; chunk −1 when no chunk holds it."""
    low, high = 0, len(table)
    while low < high:
        middle = (low + high) >> 1
        if table[middle, FIRST] <= docid:
            low = middle + 1
        else:
            high = middle
    c = low - 1
    if c < 0 or docid > table[c, LAST]:
        return -1, 0
    if table[c, DOCIDS] == 0:
        return c, docid - table[c, FIRST]
    listed = carray(pointer(table[c, DOCIDS]), table[c, COUNT], np.uint32)
    position = lower_bound(listed, 0, table[c, COUNT], docid)
    if position >= table[c, COUNT] or np.int64(listed[position]) != docid:
        return -1, 0
    return c, position


@kernel(nogil=False)
def hold(table, docids, out):
    """Whether chunks hold each row (int64 docids), into ``out`` (bool)."""
    for i in range(len(docids)):
        out[i] = place_of(table, docids[i])[0] >= 0


@inner
def next_position(docids, listed, first, count, position, docid):
    """Position of a docid in a chunk, or −1; ``position`` is where the last search ended (docids come ascending)."""
    if not listed:
        return docid - first
    position = lower_bound(docids, position, count, docid)
    return position if position < count and docids[position] == docid else -1 - position


@inner
def select(table, c, rows, filtered, cursor, positions):
    """Positions in chunk c of the wanted rows (``rows[cursor:]`` that it spans, or all); returns (how many, the next ``cursor``)."""
    count = table[c, COUNT]
    if not filtered:
        for i in range(count):
            positions[i] = i
        return count, cursor
    docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
    listed = table[c, DOCIDS] != 0
    first = table[c, FIRST]
    last = table[c, LAST]
    n = 0
    position = 0
    while cursor < len(rows) and np.int64(rows[cursor]) <= last:
        docid = np.int64(rows[cursor])
        cursor += 1
        if docid < first:
            continue
        place = next_position(docids, listed, first, count, position, docid)
        if place < 0:
            position = -1 - place
            continue
        position = place
        positions[n] = place
        n += 1
    return n, cursor


@inner
def first_row(table, rows, filtered, low, high):
    """Index of the first of ``rows`` that chunks [low, high) can hold."""
    return lower_bound(rows, 0, len(rows), table[low, FIRST]) if filtered and low < high else 0


@inner
def widest(table, low, high):
    """The most rows a chunk of [low, high) has."""
    most = 0
    for c in range(low, high):
        most = max(most, table[c, COUNT])
    return most


BLOCK = 256  # rows scored for all queries of a batch before the next: they stay in the core's cache [chosen, not measured]


@kernel
def dense_topk(table, queries, half, metric, rows, filtered, low, high, heaps, sizes):
    """For each query the best rows of chunks [low, high), into heaps ``(queries, k)``; sizes (int64 zeros) says how many.

    queries: float32 ``(n, dim)``; for COSINE they are brought to unit length and a row's score is divided by its stored norm. With
    ``filtered`` only ``rows`` (uint32, ascending) are scored.
    """
    if metric == COSINE:
        queries = of_unit_length(queries)
    k = heaps.shape[1]
    stride = queries.shape[1] * (2 if half else 4)
    positions = np.empty(widest(table, low, high), np.int64)
    cursor = first_row(table, rows, filtered, low, high)
    for c in range(low, high):
        selected, cursor = select(table, c, rows, filtered, cursor, positions)
        docids = carray(pointer(table[c, DOCIDS]), table[c, COUNT], np.uint32)
        listed = table[c, DOCIDS] != 0
        norms = carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)
        for begin in range(0, selected, BLOCK):
            for q in range(len(queries)):
                query = queries[q]
                heap = heaps[q]
                n = sizes[q]
                for i in range(begin, min(begin + BLOCK, selected)):
                    p = positions[i]
                    score = score_row(query, table[c, DATA] + p * stride, half, metric)
                    if metric == COSINE:
                        score = cosine_of(score, norms[p])
                    key = make_key(score, np.int64(docids[p]) if listed else table[c, FIRST] + p)
                    if n < k or key > heap[0]:
                        n = offer(heap, n, k, key)
                sizes[q] = n


@inner
def laid_out(query):
    """A query as ``add_tiled`` takes it: its rows 16 at a time, one number of all of them after the other; float32 ``(parts, dim, 16)``."""
    lines = np.zeros(((len(query) + LANES - 1) // LANES, query.shape[1], LANES), np.float32)
    for m in range(len(query)):
        for j in range(query.shape[1]):
            lines[m // LANES, j, m % LANES] = query[m, j]
    return lines


@inner(ordered=True)
def add_up(total, numbers, n):
    """total + numbers[0] + numbers[1] …, rounded each time."""
    for i in range(n):
        total += numbers[i]
    return total


@inner
def add_tiled(query, lines, address, count, norms, first, cosine, products, total, top):
    """(total + the best of each query row, the higher of top and the best pair) of a matrix of float32 rows at an address.

    lines: of ``laid_out``. norms[first:]: of the rows. products: float32, at least 16·count, overwritten. A query row has the same score
    whatever rows stand beside it.
    """
    dim = query.shape[1]
    highest = np.empty(LANES, np.float32)
    for part in range(len(lines)):
        begin = part * LANES
        lanes = min(LANES, len(query) - begin)
        float_products(address, count, 4 * dim, lines.ctypes.data + part * lines.strides[0], dim, products.ctypes.data)
        fine = True
        for i in range(count * LANES):
            fine &= abs(products[i]) <= LARGEST
        for i in range(0 if fine else count * LANES):
            if i % LANES < lanes and not abs(products[i]) <= LARGEST:
                products[i] = score_long_row(query[begin + i % LANES], address + 4 * dim * (i // LANES), False, DOT)
        for lane in range(LANES):
            highest[lane] = np.float32(-np.inf)
        for t in range(count):
            for lane in range(LANES):
                score = products[t * LANES + lane]
                if cosine:
                    score = cosine_of(score, norms[first + t])
                highest[lane] = max(highest[lane], score)
        total = add_up(total, highest, lanes)
        for lane in range(lanes):
            top = max(top, highest[lane])
    return total, top


@kernel
def maxsim_add(table, query, half, cosine, rows, filtered, low, high, totals, tops, docids):
    """Late interaction of some query rows with the wanted rows of chunks [low, high), in their order; returns how many these are.

    query: float32 ``(query rows, dim)``. rows, filtered, cosine: as in ``dense_topk``. For each wanted row: its docid into ``docids``
    (int64); ``totals`` (float32) grows by the best that each query row finds in it, ``tops`` (float32) is raised to the best pair. Called
    for one stretch of query rows after another it gives what it gives for all of them at once, to the last bit, if each stretch has at
    least TILED rows or all of them together have fewer.
    """
    if cosine:
        query = of_unit_length(query)
    dim = query.shape[1]
    stride, tiled = dim * (2 if half else 4), len(query) >= TILED
    lines = laid_out(query) if tiled else np.empty((0, dim, LANES), np.float32)
    products, wide = np.empty(LANES if tiled else 0, np.float32), np.empty((1 if half and tiled else 0, dim), np.float32)
    positions = np.empty(widest(table, low, high), np.int64)
    cursor = first_row(table, rows, filtered, low, high)
    n = 0
    for c in range(low, high):
        selected, cursor = select(table, c, rows, filtered, cursor, positions)
        held = carray(pointer(table[c, DOCIDS]), table[c, COUNT], np.uint32)
        listed = table[c, DOCIDS] != 0
        offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
        norms = carray(pointer(table[c, NORMS]), table[c, ITEMS], np.float32)
        for i in range(selected):
            p = positions[i]
            first, count = np.int64(offsets[p]), np.int64(offsets[p + 1]) - np.int64(offsets[p])
            total = totals[n]
            top = tops[n]
            address = table[c, AUX] + first * stride
            if tiled:
                if LANES * count > len(products):
                    products = np.empty(2 * LANES * count, np.float32)
                if half:
                    if count > len(wide):
                        wide = np.empty((2 * count, dim), np.float32)
                    numbers = carray(pointer(address), count * dim, np.uint16)
                    for t in range(count):
                        for j in range(dim):
                            wide[t, j] = half_to_float(numbers[t * dim + j])
                    address = wide.ctypes.data
                total, top = add_tiled(query, lines, address, count, norms, first, cosine, products, total, top)
            else:
                for m in range(len(query)):
                    best = np.float32(-np.inf)
                    for t in range(count):
                        score = score_row(query[m], address + t * stride, half, DOT)
                        if cosine:
                            score = cosine_of(score, norms[first + t])
                        best = max(best, score)
                    total += best
                    top = max(top, best)
            totals[n] = total
            tops[n] = top
            docids[n] = np.int64(held[p]) if listed else table[c, FIRST] + p
            n += 1
    return n


@kernel
def offer_rows(docids, scores, heap, n):
    """Keep the best of some rows (docids int64, scores float32) in a heap of len(heap) keys, n of them taken; returns how many then are."""
    for i in range(len(docids)):
        n = offer(heap, n, len(heap), make_key(within(scores[i]), docids[i]))
    return n
