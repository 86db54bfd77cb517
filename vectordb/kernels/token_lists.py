"""Lists of documents by centroids of their rows: made in a build, and read by a search.

A search scores all centroids for each query row, reads the lists of the best of them, and adds up for each document what its best
centroids give. A query row that met none of a document's centroids counts with its missing score, the same for all these documents.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from .bitset import passes
from .dots import LINE, dot_four
from .jit import count_trailing_zeros, inner, intrinsic, kernel
from .maxsim import LANES, MOST_GROUPS, products_1, products_2
from .topk import make_key, offer, sort_keys

PIECE = 512  # centroids whose products are made at a time: they stay in the core's cache [chosen, not measured]
SAMPLED = 1_024  # centroids that say from which product on a query row's best ones are looked for [chosen]
ROOM = 8  # times the wanted centroids that are held for a query row before the best are kept [chosen]
CELLS = 3  # nearest coarse centroids, in whose cells a row's nearest centroid is looked for [chosen]
_PLACES = 20  # bits of a centroid's number beside its product
MOST_CENTROIDS = 1 << _PLACES
_PLACE = (1 << _PLACES) - 1


def _make_above(groups):
    """A function of kernels: (address of products, address of limits) → uint64, a bit for each lane whose product exceeds its limit."""
    lanes = LANES * groups

    @intrinsic
    def above(typingctx, products, limits):
        def codegen(context, builder, signature, args):
            register = ir.VectorType(ir.IntType(32), lanes).as_pointer()
            held, least = (builder.load(builder.inttoptr(each, register), align=4) for each in args)
            return builder.zext(builder.bitcast(builder.icmp_signed(">", held, least), ir.IntType(lanes)), ir.IntType(64))

        return types.uint64(types.intp, types.intp), codegen

    return above


above_1, above_2 = _make_above(1), _make_above(MOST_GROUPS)


@inner
def keep_highest(keys, n, count):
    """Moves the ``count`` highest of the distinct keys[:n] to the front, in no order (quickselect)."""
    low, high = 0, n - 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                key = keys[i]
                keys[i] = keys[j]
                keys[j] = key
                i += 1
                j -= 1
        if count - 1 <= j:
            high = j
        elif count - 1 >= i:
            low = i
        else:
            return


@inner
def lowest_of(keys, n):
    """The lowest of keys[:n]."""
    lowest = keys[0]
    for i in range(1, n):
        lowest = min(lowest, keys[i])
    return lowest


@inner
def collect(centroids, leap, count, query, most, limits, products, keys, sizes):
    """The centroids whose products with a query row exceed its limit (int32, for each lane), into ``keys`` (int64 ``(lanes, room)``) and
    ``sizes``. Where there is no more room, the ``most`` best are kept, and the limit is raised.

    Of the centroids, ``count`` are read, each ``leap``-th. A key is a product and, in the lower bits, which of these the centroid is.
    """
    steps, groups = query.shape[0], query.shape[1]
    width, stride, room = LANES * groups, leap * centroids.strides[0], keys.shape[1]
    for lane in range(len(sizes)):
        sizes[lane] = 0
    for begin in range(0, count, PIECE):
        rows = min(PIECE, count - begin)
        place = centroids.ctypes.data + begin * stride
        if groups == 1:
            products_1(place, rows, stride, query.ctypes.data, steps, products.ctypes.data)
        else:
            products_2(place, rows, stride, query.ctypes.data, steps, products.ctypes.data)
        for i in range(rows):
            at = products.ctypes.data + 4 * i * width
            lanes = above_1(at, limits.ctypes.data) if groups == 1 else above_2(at, limits.ctypes.data)
            while lanes != 0:
                lane = count_trailing_zeros(lanes)
                lanes &= lanes - np.uint64(1)
                keys[lane, sizes[lane]] = (np.int64(products[i * width + lane]) << _PLACES) | np.int64(begin + i)
                sizes[lane] += 1
                if sizes[lane] == room:
                    keep_highest(keys[lane], room, most)
                    sizes[lane] = most
                    limits[lane] = np.int32(lowest_of(keys[lane], most) >> _PLACES)


@kernel
def probe(centroids, query, zeros, scales, lanes, probes, depth, lists, gains, missing):
    """The best centroids of the query rows of one part (see ``maxsim.lay_out``).

    centroids: uint8 ``(n, width)``. query: ``(width / 4, groups, 64)``. zeros, scales: of the part. lanes: its query rows. probes: the
    lists that are read for each, at most n. depth: the rank of the centroid whose score is the missing score, from 1, at most n. For each
    query row: the numbers of the best centroids into ``lists`` (int32), their scores into ``gains`` (float32), best first, and the missing
    score into ``missing`` (float32).

    A sample of the centroids says from which product on there are probably enough better ones, so that few of the others are looked at.
    """
    count, width, most = centroids.shape[0], LANES * query.shape[1], max(probes, depth)
    lowest, highest = np.int32(-(2**31)), np.int32(2**31 - 1)
    products, limits = np.empty(PIECE * width, np.int32), np.empty(width, np.int32)
    room = min(ROOM * most, count) + 1
    keys, sizes = np.empty((lanes, room), np.int64), np.empty(lanes, np.int64)
    for lane in range(width):
        limits[lane] = lowest if lane < lanes else highest
    leap = count // SAMPLED
    expected = most / max(leap, 1)  # of the best, in the sample
    rank = np.int64(expected + 4 * np.sqrt(expected) + 3)
    if leap > 1 and rank < min(SAMPLED, room):
        collect(centroids, leap, SAMPLED, query, rank, limits, products, keys, sizes)
        for lane in range(lanes):
            keep_highest(keys[lane], sizes[lane], rank)
            limits[lane] = np.int32(lowest_of(keys[lane], rank) >> _PLACES) - 1
    collect(centroids, 1, count, query, most, limits, products, keys, sizes)
    for lane in range(lanes):
        if sizes[lane] < most:  # the sample was wrong
            for other in range(width):
                limits[other] = lowest if other < lanes else highest
            collect(centroids, 1, count, query, most, limits, products, keys, sizes)
            break
    for lane in range(lanes):
        own = keys[lane]
        keep_highest(own, sizes[lane], most)
        worst = lowest_of(own, most)
        keep_highest(own, most, probes)
        sort_keys(own[:probes])
        for i in range(probes):
            key = own[probes - 1 - i]
            lists[lane, i] = np.int32(key & _PLACE)
            gains[lane, i] = np.float32((key >> _PLACES) - zeros[lane]) * scales[lane]
        key = worst if depth >= probes else own[probes - depth]
        missing[lane] = np.float32((key >> _PLACES) - zeros[lane]) * scales[lane]


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
