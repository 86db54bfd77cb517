"""Lists of documents by centroids of their rows: made in a build, and read by a search.

A search scores all centroids for each query row, reads the lists of the best of them, and adds up for each document what its best
centroids give. A query row that met none of a document's centroids counts with its missing score, the same for all these documents.
"""

from __future__ import annotations

import numpy as np

from .bitset import passes
from .dots import LINE, dot_four
from .jit import inner, kernel
from .maxsim import LANES, products_1, products_2
from .topk import make_key, offer, sort_keys

PIECE = 512  # centroids whose products are made at a time: they stay in the core's cache [chosen, not measured]
CELLS = 3  # nearest coarse centroids, in whose cells a row's nearest centroid is looked for [chosen]
_PLACES = 20  # bits of a centroid's number beside its product
MOST_CENTROIDS = 1 << _PLACES
_PLACE = (1 << _PLACES) - 1


@inner
def any_above(products, at, limits, width):
    """Whether any of a centroid's products exceeds the limit of its query row."""
    above = False
    for lane in range(width):
        above |= products[at + lane] > limits[lane]
    return above


@kernel
def probe(centroids, query, zeros, scales, lanes, probes, depth, lists, gains, missing):
    """The best centroids of the query rows of one part (see ``maxsim.lay_out``).

    centroids: uint8 ``(n, width)``. query: ``(width / 4, groups, 64)``. zeros, scales: of the part. lanes: its query rows. probes: the
    lists that are read for each, at most n. depth: the rank of the centroid whose score is the missing score, from 1, at most n. For each
    query row: the numbers of the best centroids into ``lists`` (int32), their scores into ``gains`` (float32), best first, and the missing
    score into ``missing`` (float32).
    """
    count, steps, groups = centroids.shape[0], query.shape[0], query.shape[1]
    width, stride, most = LANES * groups, centroids.strides[0], max(probes, depth)
    products = np.empty(PIECE * width, np.int32)
    limits = np.empty(width, np.int32)
    heaps, sizes = np.empty((lanes, most), np.int64), np.empty(lanes, np.int64)
    for lane in range(width):
        limits[lane] = np.int32(-(2**31)) if lane < lanes else np.int32(2**31 - 1)
    for lane in range(lanes):
        sizes[lane] = 0
    for begin in range(0, count, PIECE):
        rows = min(PIECE, count - begin)
        place = centroids.ctypes.data + begin * stride
        if groups == 1:
            products_1(place, rows, stride, query.ctypes.data, steps, products.ctypes.data)
        else:
            products_2(place, rows, stride, query.ctypes.data, steps, products.ctypes.data)
        for i in range(rows):
            if begin + i >= most and not any_above(products, i * width, limits, width):
                continue
            for lane in range(lanes):
                product = products[i * width + lane]
                if product > limits[lane] or sizes[lane] < most:
                    sizes[lane] = offer(heaps[lane], sizes[lane], most, (np.int64(product) << _PLACES) | np.int64(begin + i))
                    if sizes[lane] == most:
                        limits[lane] = np.int32(heaps[lane, 0] >> _PLACES)
    for lane in range(lanes):
        heap = heaps[lane]
        sort_keys(heap)
        for i in range(probes):
            key = heap[most - 1 - i]
            lists[lane, i] = np.int32(key & _PLACE)
            gains[lane, i] = np.float32((key >> _PLACES) - zeros[lane]) * scales[lane]
        missing[lane] = np.float32((heap[most - depth] >> _PLACES) - zeros[lane]) * scales[lane]


@kernel
def gather(list_at, entries, lists, gains, missing, best, tag, floor, sums, stamps, touched, found):
    """Adds up the lists of some query rows; returns the number of documents found, with the ``found`` before.

    list_at: int64, where each list begins, and the end. entries: int32, the documents of the lists. lists, gains, missing: as ``probe``
    makes them. best: documents get the score of their best centroid, instead of sums of what each centroid gives above the missing score.
    tag: the stamp of the first query row, each further one has the next; ``floor``: the lowest tag of this search. sums (float32) and
    stamps (int64) have an element for each document; stamps below ``floor`` are those of earlier searches. touched: int32, documents found.
    """
    for q in range(len(lists)):
        stamp = tag + q
        for i in range(lists.shape[1]):
            gain = gains[q, i] if best else gains[q, i] - missing[q]
            if gain <= 0 and not best and i > 0:
                break
            for e in range(list_at[lists[q, i]], list_at[lists[q, i] + 1]):
                document = entries[e]
                before = stamps[document]
                if before == stamp:
                    continue
                stamps[document] = stamp
                if before < floor:
                    sums[document] = gain
                    touched[found] = document
                    found += 1
                elif best:
                    sums[document] = max(sums[document], gain)
                else:
                    sums[document] += gain
    return found


@kernel
def best_found(sums, touched, found, filtered, bits, heap):
    """The best documents of ``touched[:found]`` by ``sums`` into a heap of keys; returns how many. bits: uint64, a bit for each document
    that may be found, if ``filtered``.
    """
    n = 0
    for i in range(found):
        document = np.int64(touched[i])
        if filtered and not passes(bits, document):
            continue
        key = make_key(sums[document], document)
        if n < len(heap) or key > heap[0]:
            n = offer(heap, n, len(heap), key)
    return n


@inner
def offer_centroids(products, lengths, low, n, best, place):
    """Offers centroids low … low + n − 1 to the lists of the nearest, ``best`` (scores) and ``place``, which are ordered."""
    for j in range(n):
        score = 2 * np.int64(products[j]) - lengths[low + j]
        i = len(best)
        while i > 0 and score > best[i - 1]:
            i -= 1
        if i < len(best):
            for m in range(len(best) - 1, i, -1):
                best[m] = best[m - 1]
                place[m] = place[m - 1]
            best[i] = score
            place[i] = low + j


@inner
def rank_centroids(codes, lengths, low, high, row, products, best, place):
    """``offer_centroids`` of the centroids [low, high). codes: uint8 ``(centroids, stride)``. row: int8 ``(stride,)``."""
    stride, last = codes.strides[0], high - 1
    at, lines = codes.ctypes.data, codes.shape[1] // LINE
    for c in range(low, high, 4):
        dot_four(
            at + c * stride,
            at + min(c + 1, last) * stride,
            at + min(c + 2, last) * stride,
            at + min(c + 3, last) * stride,
            row.ctypes.data,
            lines,
            products.ctypes.data,
        )
        offer_centroids(products, lengths, c, min(4, high - c), best, place)


@kernel
def assign(rows, coarse, coarse_lengths, fine, fine_lengths, first, labels):
    """The nearest centroid of each row into ``labels`` (int32), among those in the cells of the nearest coarse centroids.

    rows: uint8 codes ``(n, width)``. coarse, fine: uint8 codes of centroids, ``(count, stride)``, stride a multiple of 64. The lengths:
    int64, the squared length of each in units of the codes. first: int64, the first centroid of each cell, and the end.
    """
    width, stride = rows.shape[1], coarse.shape[1]
    row, products = np.empty(stride, np.int8), np.empty(4, np.int32)
    cells = min(CELLS, len(coarse))
    scores, near = np.empty(cells, np.int64), np.empty(cells, np.int64)
    best, place = np.empty(1, np.int64), np.empty(1, np.int64)
    lowest = -(np.int64(1) << np.int64(62))
    for j in range(width, stride):
        row[j] = 0
    for i in range(len(rows)):
        for j in range(width):
            row[j] = np.int8(np.int32(rows[i, j]) - 128)
        for c in range(cells):
            scores[c] = lowest
            near[c] = 0
        rank_centroids(coarse, coarse_lengths, 0, len(coarse), row, products, scores, near)
        best[0], place[0] = lowest, 0
        for c in range(cells):
            cell = near[c]
            if first[cell + 1] > first[cell]:
                rank_centroids(fine, fine_lengths, first[cell], first[cell + 1], row, products, best, place)
        labels[i] = np.int32(place[0])


@kernel
def count_entries(starts, labels, last, sizes):
    """The length of each list into ``sizes`` (int64 zeros). starts: int64, the first row of each document, and the end. labels: int32, the
    centroid of each row. last: int32, −1 for each centroid.
    """
    for document in range(len(starts) - 1):
        for row in range(starts[document], starts[document + 1]):
            label = labels[row]
            if last[label] != document:
                last[label] = document
                sizes[label] += 1


@kernel
def fill_entries(starts, labels, last, ends, entries):
    """The lists into ``entries`` (int32), each ascending. last: int32, −1 for each centroid. ends: int64, where each list begins; raised to
    its end.
    """
    for document in range(len(starts) - 1):
        for row in range(starts[document], starts[document + 1]):
            label = labels[row]
            if last[label] != document:
                last[label] = document
                entries[ends[label]] = document
                ends[label] += 1
