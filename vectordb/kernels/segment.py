"""Searching one sealed segment: every plan, the choice among them, and the rescoring of the best at full precision.

A segment and a thread's scratch space come as arrays of addresses and sizes (``SEGMENT_*`` and ``WORK_*`` below), so that a call has few
arguments. Row numbers are the segment's own, in cluster order; docids appear only where rows are rescored.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from . import COUNT, DATA, NORMS
from .codes import LINE, block_distances, count_ones, encode_query, nearer, rotate, sign_words
from .dense import COSINE, L2, place_of, score_row
from .graph import beam, code_score, descend, passes, pop_best, push_best, row_of, score_of, sift_best, two_hop
from .jit import count_trailing_zeros, kernel, pointer, prefetch_lines
from .topk import make_key, offer, sort_keys

# Columns of a segment's description (int64; STEP, CODE_ERROR and REACH hold the bits of float64).
ROWS, DIM, STRIDE, CODES, BIAS, SIGNS, WORDS, DOCIDS_AT, MEAN, FLIPS, FLIP_ROUNDS, METRIC, STEP, CODE_ERROR, REACH = range(15)
GRAPH, DEGREE, UPPER_COUNT, UPPER_ROWS, UPPER_OFFSETS, UPPER_LINKS, UPPER_SIZE, ENTRY_ROW, ENTRY_SLOT, TOP_LEVEL = range(15, 25)
CLUSTERS, CENTROIDS, CENTROID_BIAS, OFFSETS = range(25, 29)
SEGMENT_WIDTH = 29

# Columns of a scratch description: addresses of arrays as long as the largest segment (in rows) or as WORK_KEYS says.
VISITED, CANDIDATES, RESULTS, RANKED, ORDER, DISTANCES, NEAR, EPOCH, QUERY, QUERY_CODES, QUERY_SIGNS, SPARE, KEYS, VISITED_ROWS = range(14)
WORK_WIDTH = 14

# Plans.
SCAN, FUNNEL, CLUSTERS_SCAN, CLUSTERS_FUNNEL, GRAPH_BEAM, GRAPH_TWO_HOP, POST_FILTER = range(7)
# Columns of a setting: the plan, its parameter (which scales with k), and a second one that doesn't.
PLAN, EFFORT, WIDTH = range(3)
SETTING_WIDTH = 3

# Columns of a report (float64), one row a query.
R_SETTING, R_LOCAL, R_SCORED, R_MICROSECONDS, R_RECALL, R_FALLBACK = range(6)
REPORT_WIDTH = 6

# The selectivity near a query is that of the nearest clusters that hold so many rows and so many matches, or of a quarter of all clusters.
NEAR_ROWS, NEAR_MATCHES = 500, 64
MARGIN = 0.01  # of predicted recall over the target, at most
MUCH_CHEAPER = 2.0
DEVIATIONS = 3.0  # of the codes' error, within which rows are scored again
RESCORED_AT_ONCE = 16
SEEDS = 16  # passing rows that a two-hop search starts from
ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def bits_between(bits, w, low, high):
    """Word w of a bitmap with the bits outside rows [low, high) cleared."""
    word = bits[w]
    if w == low >> 6:
        word &= ALL_BITS << np.uint64(low & 63)
    if w == (high - 1) >> 6:
        word &= ALL_BITS >> np.uint64(63 - ((high - 1) & 63))
    return word


@kernel
def passing_of_clusters(bits, offsets, counts):
    """How many rows of each cluster pass, into ``counts`` (int32); returns how many in all."""
    total = np.int64(0)
    for c in range(len(counts)):
        low, high = np.int64(offsets[c]), np.int64(offsets[c + 1])
        found = np.int64(0)
        if high > low:
            for w in range(low >> 6, ((high - 1) >> 6) + 1):
                found += np.int64(count_ones(bits_between(bits, w, low, high)))
        counts[c] = found
        total += found
    return total


@kernel
def local_bits(docids, inverse, first, bits):
    """Sets the bits of a segment's rows whose docids are given (uint32). inverse: int32, row of docid ``first + i`` or −1."""
    bits[:] = 0
    for i in range(len(docids)):
        at = np.int64(docids[i]) - first
        if 0 <= at < len(inverse):
            row = np.int64(inverse[at])
            if 0 <= row < 64 * len(bits):
                bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)


@kernel
def scan_rows(codes, stride, query, scale, offset, bias, biased, rows, n, results, size, r):
    """Scores rows[:n] by their codes into the heap of the best r; returns its size."""
    lines = min(stride // LINE, 8)
    for i in range(n):
        if i + 8 < n:
            prefetch_lines(codes + np.int64(rows[i + 8]) * stride, lines)
        row = np.int64(rows[i])
        key = make_key(code_score(codes, stride, row, query, scale, offset, bias, biased), row)
        if size < r or key > results[0]:
            size = offer(results, size, r, key)
    return size


@kernel
def gather(filtered, bits, low, high, rows):
    """The passing rows of [low, high), ascending, into ``rows`` (int32); returns how many."""
    n = 0
    if high <= low:
        return n
    if not filtered:
        for row in range(low, high):
            rows[n] = row
            n += 1
        return n
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(bits, w, low, high)
        while word != 0:
            rows[n] = 64 * w + count_trailing_zeros(word)
            n += 1
            word &= word - np.uint64(1)
    return n


@kernel
def rank_clusters(codes, stride, query, scale, offset, bias, biased, clusters, ranked):
    """A heap of keys of all clusters, nearest on top."""
    for c in range(clusters):
        ranked[c] = make_key(code_score(codes, stride, c, query, scale, offset, bias, biased), c)
    for i in range(clusters // 2 - 1, -1, -1):
        sift_best(ranked, clusters, i)


@kernel
def next_cluster(ranked, left, order, done):
    """The cluster that is next in order, taken off the heap once; returns (cluster, left, done)."""
    cluster = row_of(ranked[0])
    order[done] = cluster
    return cluster, pop_best(ranked, left), done + 1


@kernel
def tighten(histogram, total, threshold, wanted):
    """Lowers the threshold while enough rows stay; returns (rows at or under it, threshold)."""
    while threshold > 0 and total - histogram[threshold] >= wanted:
        total -= histogram[threshold]
        threshold -= 1
    return total, threshold


@kernel
def funnel_blocks(signs, words, query_signs, filtered, bits, low, high, wanted, distances, histogram, threshold, total, near, n):
    """Hamming distances of the blocks of rows [low, high) that hold a passing row, into ``distances``; the passing rows within the
    threshold are listed in ``near``, and it falls so that ``wanted`` rows stay. Returns (threshold, total, n).
    """
    at = distances.ctypes.data
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(bits, w, low, high) if filtered else bits_between_all(w, low, high)
        if word == 0:
            continue
        word &= block_distances(signs + w * words * 512, query_signs, words, np.uint64(threshold), at + 128 * w)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            near[n] = row
            n += 1
            histogram[distances[row]] += 1
            total += 1
        if total > wanted:
            total, threshold = tighten(histogram, total, threshold, wanted)
    return threshold, total, n


@kernel
def bits_between_all(w, low, high):
    """``bits_between`` of a bitmap with every bit set."""
    word = ALL_BITS
    if w == low >> 6:
        word &= ALL_BITS << np.uint64(low & 63)
    if w == (high - 1) >> 6:
        word &= ALL_BITS >> np.uint64(63 - ((high - 1) & 63))
    return word


@kernel
def keep_near(near, n, distances, threshold):
    """Drops the rows beyond the threshold; returns how many stay."""
    kept = 0
    for i in range(n):
        if np.int64(distances[near[i]]) <= threshold:
            near[kept] = near[i]
            kept += 1
    return kept


@kernel
def rescore(segment, query, results, size, start, shift, bound, table, verified, half, heap, found):
    """Rows of ``results`` from the ``start``-th on scored at full precision from the chunks, into ``heap`` (keys by docid), best codes
    first, until what is left can't be among the best: a score by codes, plus ``shift``, is at most ``bound`` off. Returns (found, chunks
    newly touched, whether it ended so).
    """
    metric = segment[METRIC]
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    order = results[:size].copy()
    sort_keys(order)
    width = segment[DIM] * (2 if half else 4)
    places = np.empty(RESCORED_AT_ONCE, np.int64)
    chunks = np.empty(RESCORED_AT_ONCE, np.int64)
    k = len(heap)
    touched = 0
    done = start
    while done < size:
        if found == k and score_of(order[size - 1 - done]) + shift + bound < score_of(heap[0]):
            return found, touched, True
        n = min(RESCORED_AT_ONCE, size - done)
        for i in range(n):
            c, position = place_of(table, np.int64(docids[row_of(order[size - 1 - done - i])]))
            chunks[i], places[i] = c, position
            if c >= 0:
                if verified[c] != 1:  # 2 is another thread's mark, which may not be confirmed yet
                    verified[c] = 2
                    touched += 1
                prefetch_lines(table[c, DATA] + position * width, 8)
        for i in range(n):
            c = chunks[i]
            if c >= 0:
                score = score_row(query, table[c, DATA] + places[i] * width, half, metric)
                if metric == COSINE:
                    score /= carray(pointer(table[c, NORMS]), table[c, COUNT], np.float32)[places[i]]
                found = offer(heap, found, k, make_key(score, np.int64(docids[row_of(order[size - 1 - done - i])])))
        done += n
    return found, touched, False


@kernel
def weights_of(levels, locals_, share, local, cells, weights):
    """Where a request lies among the calibrated cells: up to four (cell, weight) by linear interpolation of log selectivity and log ρ.

    levels: log2 selectivity, descending; locals_: log2 ρ, ascending.
    """
    upper = 0
    while upper < len(levels) - 1 and levels[upper] > share:
        upper += 1
    lower = max(upper - 1, 0)
    gap = levels[lower] - levels[upper]
    mix = min(max((levels[lower] - share) / gap, 0.0), 1.0) if gap > 0 else 1.0
    right = 0
    while right < len(locals_) - 1 and locals_[right] < local:
        right += 1
    left = max(right - 1, 0)
    span = locals_[right] - locals_[left]
    part = min(max((local - locals_[left]) / span, 0.0), 1.0) if span > 0 else 1.0
    for side in range(2):
        level = lower if side == 0 else upper
        weight = 1.0 - mix if side == 0 else mix
        cells[2 * side], weights[2 * side] = level * len(locals_) + left, weight * (1.0 - part)
        cells[2 * side + 1], weights[2 * side + 1] = level * len(locals_) + right, weight * part


@kernel
def predict(setting, cells, weights, table):
    """A setting's interpolated figure. table: float32 ``(cells, settings)``."""
    total = 0.0
    for i in range(4):
        if weights[i] > 0:
            total += weights[i] * np.float64(table[cells[i], setting])
    return total


@kernel
def choose(settings, recalls, costs, corrections, cells, weights, target, graph):
    """The cheapest setting whose predicted recall reaches the target with a margin, or without one where that is much cheaper, else the one
    of highest recall; returns (setting, the same with a margin among plans that always end: scans and funnels).

    corrections: float64 ``(2, plans)``: added to the recall and multiplied with the cost of each plan, learned at run time.
    """
    needed = target + min((1.0 - target) / 2.0, MARGIN)  # predictions are measured on few queries
    best, bare, safe, most = -1, -1, 0, 0
    best_cost, bare_cost, safe_cost, most_recall = np.inf, np.inf, np.inf, -1.0
    for s in range(len(settings)):
        plan = np.int64(settings[s, PLAN])
        if not graph and plan >= GRAPH_BEAM:
            continue
        cost = predict(s, cells, weights, costs) * corrections[1, plan]
        recall = predict(s, cells, weights, recalls) + corrections[0, plan]
        if plan == SCAN:
            recall = max(recall, min(needed, 0.9999))  # every matching row is scored: nothing does better
        if recall > most_recall:
            most, most_recall = s, recall
        if recall >= target and cost < bare_cost:
            bare, bare_cost = s, cost
        if recall < needed:
            continue
        if cost < best_cost:
            best, best_cost = s, cost
        if plan <= FUNNEL and cost < safe_cost:
            safe, safe_cost = s, cost
    if bare >= 0 and best_cost > MUCH_CHEAPER * bare_cost:
        best = bare
    return best if best >= 0 else most, safe


@kernel
def search_segment(
    segment,
    work,
    settings,
    levels,
    locals_,
    recalls,
    costs,
    corrections,
    target,
    forced,
    depth,
    filtered,
    all_bits,
    all_counts,
    all_matches,
    queries,
    k,
    table,
    verified,
    half,
    heaps,
    sizes,
    report,
):
    """The best k of a segment for each query, merged into ``heaps`` ``(n, k)`` of docid keys with ``sizes`` filled; returns chunks newly
    touched.

    queries: float32 ``(n, dim)``, as given. all_bits: uint64 ``(m, words)``, a bit for each of the segment's rows, where ``filtered``;
    all_counts: int32 ``(m, clusters)``, passing rows of each cluster; all_matches: int64 ``(m,)``, of all: m is n, or 1 when all queries
    share a filter. depth: the k that the costs and recalls are of. forced: a setting to use, or −1 to choose. report: float64 ``(n,
    REPORT_WIDTH)``, overwritten.
    """
    rows, dim, stride, words = segment[ROWS], segment[DIM], segment[STRIDE], segment[WORDS]
    metric = segment[METRIC]
    biased = metric == L2
    bias = carray(pointer(segment[BIAS]), rows if biased else 0, np.float32)
    mean = carray(pointer(segment[MEAN]), dim, np.float32)
    flips = carray(pointer(segment[FLIPS]), (segment[FLIP_ROUNDS], dim), np.float32)
    clusters = segment[CLUSTERS]
    offsets = carray(pointer(segment[OFFSETS]), clusters + 1, np.int32)
    centroid_bias = carray(pointer(segment[CENTROID_BIAS]), clusters if biased else 0, np.float32)
    step = np.int64(segment[STEP]).view(np.float64)
    code_error, reach = np.int64(segment[CODE_ERROR]).view(np.float64), np.int64(segment[REACH]).view(np.float64)
    upper_rows = carray(pointer(segment[UPPER_ROWS]), segment[UPPER_COUNT], np.int32)
    upper_offsets = carray(pointer(segment[UPPER_OFFSETS]), segment[UPPER_COUNT], np.int32)
    upper_links = carray(pointer(segment[UPPER_LINKS]), segment[UPPER_SIZE], np.int32)

    visited = carray(pointer(work[VISITED]), rows, np.uint32)
    all_visited = carray(pointer(work[VISITED]), work[VISITED_ROWS], np.uint32)
    epoch = carray(pointer(work[EPOCH]), 1, np.uint32)
    candidates = carray(pointer(work[CANDIDATES]), work[KEYS], np.int64)
    results = carray(pointer(work[RESULTS]), work[KEYS], np.int64)
    ranked = carray(pointer(work[RANKED]), clusters + 1, np.int64)
    order = carray(pointer(work[ORDER]), clusters + 1, np.int64)
    distances = carray(pointer(work[DISTANCES]), (rows + 63) // 64 * 64, np.uint16)
    near = carray(pointer(work[NEAR]), rows + 64, np.int32)
    spare = carray(pointer(work[SPARE]), dim, np.float32)
    rotated = carray(pointer(work[QUERY]), dim, np.float32)
    unit = np.empty(dim, np.float32)
    codes_of_query = carray(pointer(work[QUERY_CODES]), stride, np.int8)
    signs_of_query = carray(pointer(work[QUERY_SIGNS]), words, np.uint64)
    histogram = np.empty(dim + 2, np.int64)
    cells, weights = np.zeros(4, np.int64), np.zeros(4, np.float64)

    codes, query = segment[CODES], work[QUERY_CODES]
    limit = work[KEYS] - 256
    touched = 0
    for q in range(len(queries)):
        own = q if len(all_matches) > 1 else 0
        bits, counts, matches = all_bits[own], all_counts[own], all_matches[own]
        # The query: unit length for cosine; centred for l2; rotated; its byte codes.
        length = 1.0
        if metric == COSINE:
            square = 0.0
            for j in range(dim):
                square += np.float64(queries[q, j]) * np.float64(queries[q, j])
            length = 1.0 / np.sqrt(square) if square > 0 else 0.0
        for j in range(dim):
            unit[j] = np.float32(queries[q, j] * length)  # as the exact scan has it: scores of both are the same
            rotated[j] = unit[j] - mean[j] if biased else unit[j]
        rotate(rotated, flips, spare)
        query_step, code_sum = encode_query(rotated, codes_of_query)
        offset = 128 * code_sum
        scale = np.float32(query_step * np.float32(step)) * (np.float32(2) if biased else np.float32(1))

        # What a score by codes lacks, and how far off it may be: row and query were both rounded.
        shift, square = np.float32(0), np.float32(0)
        for j in range(dim):
            shift += unit[j] * mean[j]
            square += rotated[j] * rotated[j]
        noise = square * np.float32(code_error * code_error) + np.float32((reach * query_step) ** 2 / 12)
        bound = np.float32(DEVIATIONS) * np.sqrt(noise) * (np.float32(2) if biased else np.float32(1))
        if biased:
            shift = -square

        wanted = min(k, matches)
        measured = max(k, depth)  # efforts are multiples of the number of results they were measured for
        r = min(4 * k + 40, matches)  # kept by codes; how many of them are rescored depends on how close they come
        report[q, R_SETTING] = -1
        report[q, R_LOCAL] = -1.0
        report[q, R_FALLBACK] = 0
        report[q, R_SCORED] = 0
        report[q, R_MICROSECONDS] = 0
        report[q, R_RECALL] = 1
        if wanted == 0:
            continue

        left, done = np.int64(0), np.int64(0)
        ranked_ = False
        local_rows, local_passing = np.int64(0), np.int64(0)
        setting = forced
        safe = 0
        share = np.log2(matches / rows)
        last = levels[len(levels) - 1]
        if forced < 0:
            if filtered and share < last:
                setting = 0  # so few that scoring each of them is the cheapest
                report[q, R_MICROSECONDS] = np.float64(costs[len(costs) - len(locals_), 0]) * 2.0 ** (share - last)
            else:
                local = 0.0
                if filtered:
                    rank_clusters(segment[CENTROIDS], stride, query, scale, offset, centroid_bias, biased, clusters, ranked)
                    left, ranked_ = clusters, True
                    while left > 0 and (local_rows < NEAR_ROWS or (local_passing < NEAR_MATCHES and 4 * done < clusters)):
                        cluster, left, done = next_cluster(ranked, left, order, done)
                        local_rows += np.int64(offsets[cluster + 1]) - np.int64(offsets[cluster])
                        local_passing += np.int64(counts[cluster])
                    near_share = local_passing / max(local_rows, 1)
                    report[q, R_LOCAL] = near_share
                    local = np.log2(max(near_share * rows / matches, 2.0**-8))
                # The first level is that of no filter at all.
                weights_of(levels, locals_, min(share, levels[1]) if filtered else levels[0], local, cells, weights)
                setting, safe = choose(settings, recalls, costs, corrections, cells, weights, target, segment[GRAPH] != 0)
                report[q, R_MICROSECONDS] = predict(setting, cells, weights, costs)
                report[q, R_RECALL] = predict(setting, cells, weights, recalls)
        report[q, R_SETTING] = setting

        scored, plan, n = np.int64(0), np.int64(SCAN), 0
        size = 0
        for attempt in range(2):
            plan = np.int64(settings[setting, PLAN])
            effort = settings[setting, EFFORT]
            size = 0
            if plan == SCAN:
                n = gather(filtered, bits, 0, rows, near)
                size = scan_rows(codes, stride, query, scale, offset, bias, biased, near, n, results, 0, r)
                scored += n
            elif plan == FUNNEL:
                if metric == COSINE:  # its signs are those of the difference to the mean, as the rows' are
                    for j in range(dim):
                        rotated[j] = unit[j] - mean[j]
                    rotate(rotated, flips, spare)
                sign_words(rotated, signs_of_query)
                size, n = funnel(
                    segment,
                    query,
                    scale,
                    offset,
                    bias,
                    biased,
                    work[QUERY_SIGNS],
                    filtered,
                    bits,
                    effort,
                    measured,
                    r,
                    matches,
                    distances,
                    histogram,
                    near,
                    results,
                )
                scored += n
            elif plan <= CLUSTERS_FUNNEL:
                if not ranked_:
                    rank_clusters(segment[CENTROIDS], stride, query, scale, offset, centroid_bias, biased, clusters, ranked)
                    left, ranked_, done = clusters, True, 0
                budget = max(np.int64(effort * max(k / depth, 1.0)), r)
                if plan == CLUSTERS_FUNNEL:
                    if metric == COSINE:
                        for j in range(dim):
                            rotated[j] = unit[j] - mean[j]
                        rotate(rotated, flips, spare)
                    sign_words(rotated, signs_of_query)
                    histogram[:] = 0
                threshold, total, n = np.int64(dim), np.int64(0), 0
                first_pass = max(np.int64(settings[setting, WIDTH] * measured), r)
                passed, at = np.int64(0), np.int64(0)
                while passed < budget and (at < done or left > 0):
                    if at < done:
                        cluster = order[at]
                    else:
                        cluster, left, done = next_cluster(ranked, left, order, done)
                    at += 1
                    low, high = np.int64(offsets[cluster]), np.int64(offsets[cluster + 1])
                    here = np.int64(counts[cluster]) if filtered else high - low
                    if here == 0:
                        continue
                    passed += here
                    if plan == CLUSTERS_SCAN:
                        n = gather(filtered, bits, low, high, near)
                        size = scan_rows(codes, stride, query, scale, offset, bias, biased, near, n, results, size, r)
                    else:
                        threshold, total, n = funnel_blocks(
                            segment[SIGNS],
                            words,
                            work[QUERY_SIGNS],
                            filtered,
                            bits,
                            low,
                            high,
                            first_pass,
                            distances,
                            histogram,
                            threshold,
                            total,
                            near,
                            n,
                        )
                if plan == CLUSTERS_FUNNEL:
                    n = keep_near(near, n, distances, threshold)
                    size = scan_rows(codes, stride, query, scale, offset, bias, biased, near, n, results, 0, r)
                    passed = n
                scored += passed
            else:
                ef = min(max(np.int64(effort * measured), wanted), limit // 4)
                epoch[0] += np.uint32(2)
                if epoch[0] < 4:  # went round: no mark of long ago may look like one of now
                    all_visited[:] = 0
                    epoch[0] = np.uint32(4)
                cap = min(matches // 2 + 1000, limit)  # about what a scan of the matching rows costs
                n = 0
                if plan == GRAPH_TWO_HOP:
                    if not ranked_:
                        rank_clusters(segment[CENTROIDS], stride, query, scale, offset, centroid_bias, biased, clusters, ranked)
                        left, ranked_, done = clusters, True, 0
                    at = np.int64(0)
                    while n < SEEDS and (at < done or left > 0):
                        if at < done:
                            cluster = order[at]
                        else:
                            cluster, left, done = next_cluster(ranked, left, order, done)
                        at += 1
                        if counts[cluster] == 0:
                            continue
                        here = gather(True, bits, np.int64(offsets[cluster]), np.int64(offsets[cluster + 1]), near)
                        for i in range(0, here, max(here // SEEDS, 1)):
                            row = np.int64(near[i])
                            visited[row] = epoch[0]
                            key = make_key(code_score(codes, stride, row, query, scale, offset, bias, biased), row)
                            n = push_best(candidates, n, key)
                            size = offer(results, size, ef, key)
                    scored += n
                    size, more = two_hop(
                        codes,
                        stride,
                        rows,
                        query,
                        scale,
                        offset,
                        bias,
                        biased,
                        segment[GRAPH],
                        segment[DEGREE],
                        bits,
                        ef,
                        cap,
                        visited,
                        epoch[0],
                        candidates,
                        n,
                        results,
                        size,
                    )
                else:
                    entry = segment[ENTRY_ROW]
                    if segment[TOP_LEVEL] > 0:
                        slot = descend(
                            codes,
                            stride,
                            query,
                            scale,
                            offset,
                            bias,
                            biased,
                            upper_rows,
                            upper_offsets,
                            upper_links,
                            segment[DEGREE] // 2,
                            segment[ENTRY_SLOT],
                            segment[TOP_LEVEL],
                        )
                        entry = np.int64(upper_rows[slot])
                    visited[entry] = epoch[0]
                    key = make_key(code_score(codes, stride, entry, query, scale, offset, bias, biased), entry)
                    n = push_best(candidates, 0, key)
                    on_results = filtered and plan == GRAPH_BEAM
                    if not on_results or passes(bits, entry):
                        size = offer(results, 0, ef, key)
                    size, more = beam(
                        codes,
                        stride,
                        rows,
                        query,
                        scale,
                        offset,
                        bias,
                        biased,
                        segment[GRAPH],
                        segment[DEGREE],
                        on_results,
                        bits,
                        ef,
                        cap,
                        visited,
                        epoch[0],
                        candidates,
                        n,
                        results,
                        size,
                    )
                    if filtered and plan == POST_FILTER:
                        kept = 0
                        for i in range(size):
                            if passes(bits, row_of(results[i])):
                                results[kept] = results[i]
                                kept += 1
                        size = kept
                scored += more
                if forced < 0 and (more > cap or size < wanted):
                    report[q, R_FALLBACK] = 1
                    setting = safe
                    continue
            if size >= wanted or attempt == 1 or forced >= 0:
                break
            setting = 0
            report[q, R_FALLBACK] = 1
        report[q, R_SCORED] = scored
        start = 0
        while True:
            sizes[q], fresh, enough = rescore(segment, unit, results, size, start, shift, bound, table, verified, half, heaps[q], sizes[q])
            touched += fresh
            if enough or plan != SCAN or size >= min(matches, limit):
                break
            # So many rows score nearly the same that the codes can't tell which are the best: the scan keeps more of them.
            start, r = size, min(4 * size, matches, limit)
            size = scan_rows(codes, stride, query, scale, offset, bias, biased, near, n, results, 0, r)
    return touched


@kernel
def funnel(
    segment, query, scale, offset, bias, biased, query_signs, filtered, bits, spread, k, r, matches, distances, histogram, near, results
):
    """The sign-bit funnel over all passing rows: the best 10·k by Hamming distance are scored by codes; then all rows that are no farther
    than the best of those plus ``spread`` standard deviations (of a binomial with their mean distance). Returns (results, rows scored).
    """
    rows, dim, stride, words = segment[ROWS], segment[DIM], segment[STRIDE], segment[WORDS]
    histogram[:] = 0
    first_pass = max(np.int64(10 * k), r)
    threshold, _, n = funnel_blocks(
        segment[SIGNS], words, query_signs, filtered, bits, 0, rows, first_pass, distances, histogram, np.int64(dim), np.int64(0), near, 0
    )
    n = keep_near(near, n, distances, threshold)
    size = scan_rows(segment[CODES], stride, query, scale, offset, bias, biased, near, n, results, 0, r)
    if n >= matches:
        return size, n
    # How far, in signs, the k best of these are: the median half of them says where the true ones may still be.
    order = results[:size].copy()
    sort_keys(order)
    best = min(k, size)
    mean = 0.0
    for i in range(best // 2, best):
        mean += np.float64(distances[row_of(order[size - 1 - i])])
    mean /= best - best // 2
    share = mean / dim
    farther = np.int64(mean + spread * np.sqrt(dim * share * (1.0 - share)))
    if farther <= threshold:
        return size, n
    most = 400 * k
    again = np.int64(0)
    at = distances.ctypes.data
    m = 0
    histogram[:] = 0
    bound = min(farther, dim)
    for w in range((rows + 63) >> 6):
        word = bits_between(bits, w, 0, rows) if filtered else bits_between_all(w, 0, rows)
        if word == 0:
            continue
        word &= nearer(at + 128 * w, np.uint64(bound))
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            if np.int64(distances[row]) > threshold:
                near[m] = row
                m += 1
                histogram[distances[row]] += 1
                again += 1
        if again > most:
            while bound > threshold and again - histogram[bound] >= most:
                again -= histogram[bound]
                bound -= 1
    m = keep_near(near, m, distances, bound)
    size = scan_rows(segment[CODES], stride, query, scale, offset, bias, biased, near, m, results, size, r)
    return size, n + m


@kernel
def kth_score(scores, filtered, bits, k):
    """The k-th best of the scores (float32) of passing rows, or the worst when there are fewer."""
    heap = np.empty(k, np.int64)
    n = 0
    for row in range(len(scores)):
        if not filtered or passes(bits, row):
            key = make_key(scores[row], row)
            if n < k or key > heap[0]:
                n = offer(heap, n, k, key)
    return np.float32(-np.inf) if n == 0 else np.int32((heap[0] >> 32) ^ ((heap[0] >> 63) & np.int64(0x7FFFFFFF))).view(np.float32)


@kernel
def random_filter(offsets, shares, noise, start, bits):
    """Sets each row's bit with its cluster's probability. noise: uint16, used from ``start`` on, round and round."""
    bits[:] = 0
    at = start
    for c in range(len(shares)):
        bound = np.int64(shares[c] * 65536.0)
        for row in range(np.int64(offsets[c]), np.int64(offsets[c + 1])):
            at = at + 1 if at + 1 < len(noise) else 0
            if np.int64(noise[at]) < bound:
                bits[row >> 6] |= np.uint64(1) << np.uint64(row & 63)
