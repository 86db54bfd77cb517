"""Searching one sealed segment: every plan, the choice among them, and the rescoring of the best at full precision.

A segment and a thread's scratch space come as arrays of addresses and sizes (``layout``), so that a call has few
arguments. Row numbers are the segment's own, in cluster order; docids appear only where rows are rescored.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .bitset import bits_between, gather, passes
from .codes import block_distances, nearer
from .dense import L2
from .graph import Scoring, beam, code_score, descend, prefetch_row, two_hop
from .jit import count_trailing_zeros, inner, kernel, pointer
from .layout import (
    BIAS,
    CANDIDATES,
    CENTROID_BIAS,
    CENTROIDS,
    CLUSTERS,
    CODES,
    DEGREE,
    DIM,
    DISTANCES,
    ENTRY_ROW,
    ENTRY_SLOT,
    EPOCH,
    GRAPH,
    KEYS,
    METRIC,
    NEAR,
    OFFSETS,
    ORDER,
    QUERY,
    QUERY_CODES,
    QUERY_SIGNS,
    R_FALLBACK,
    R_LOCAL,
    R_MICROSECONDS,
    R_RECALL,
    R_SCORED,
    R_SETTING,
    RANKED,
    RESULTS,
    ROWS,
    SIGNS,
    SPAN,
    SPARE,
    STRIDE,
    TOP_LEVEL,
    UPPER_COUNT,
    UPPER_LINKS,
    UPPER_OFFSETS,
    UPPER_ROWS,
    UPPER_SIZE,
    VISITED,
    VISITED_ROWS,
    WORDS,
    Clusters,
    Mask,
    Space,
)  # fmt: skip
from .planner import (
    CLUSTERS_FUNNEL,
    CLUSTERS_SCAN,
    EFFORT,
    ENDING_PLANS,
    EXACT,
    FEW,
    FUNNEL,
    GRAPH_BEAM,
    GRAPH_PLANS,
    GRAPH_TWO_HOP,
    KEPT,
    MORE,
    PLAN,
    POST_FILTER,
    SCAN,
    WIDTH,
    beyond,
    choose,
    cost_of,
    log_rho,
    predict,
    scan_cost,
    setting_of,
    weights_of,
)
from .precise import rescore, score_all
from .query_codes import encode, encode_signs, normalise
from .topk import make_key, offer, pop_best, push_best, row_of, sift_best, sort_keys

# The selectivity near a query is that of the nearest rows by sign bits, among the rows of the nearest clusters.
NEAREST_ROWS, NEAR_ROWS = 64, 512
CHOOSE, LOOK = -1, -2
SCORED_AHEAD = 8  # rows whose codes are asked for before they are scored
SEEDS = 16  # passing rows that a two-hop search starts from
KEPT_LEAST = 40  # rows kept by codes, besides KEPT times the results asked for
SPARSELY = 64  # with fewer than one docid in so many matching, rows are looked up one by one
FIRST_LOOK = 10  # rows that a funnel scores by codes at first, times the results asked for


@inner
def nearest_cluster(clusters, i):
    """The i-th nearest cluster, −1 when there are no more. All are scored the first time; the order is made as it is asked for."""
    count = len(clusters.offsets) - 1
    heap, taken = clusters.heap, clusters.taken
    if i >= count:
        return np.int64(-1)
    if taken[0] < 0:
        for c in range(count):
            heap[c] = make_key(code_score(clusters.scoring, c), c)
        for c in range(count // 2 - 1, -1, -1):
            sift_best(heap, count, c)
        taken[0] = 0
    while taken[0] <= i:
        clusters.order[taken[0]] = row_of(heap[0])
        pop_best(heap, count - taken[0])
        taken[0] += 1
    return clusters.order[i]


@inner
def selectivity_near(segment, signs_of_query, clusters, allowed, space):
    """The share that passes of the rows nearest to the query, as far as sign bits tell. Rows of a cluster alone wouldn't do: a filter may
    leave out just those of them that are near.
    """
    distances, histogram, words = space.distances, space.histogram, len(signs_of_query)
    histogram[:] = 0
    rows, looked = np.int64(0), 0
    while rows < NEAR_ROWS:
        c = nearest_cluster(clusters, looked)
        if c < 0:
            break
        looked += 1
        low, high = np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])
        for w in range(low >> 6, ((high + 63) >> 6)):
            block = segment[SIGNS] + w * words * 512
            block_distances(block, signs_of_query.ctypes.data, words, np.uint64(0), distances.ctypes.data + 128 * w)
        for row in range(low, high):
            histogram[distances[row]] += 1
        rows += high - low
    threshold, total = 0, histogram[0]
    while total < min(NEAREST_ROWS, rows):
        threshold += 1
        total += histogram[threshold]
    passing = 0
    for i in range(looked):
        c = nearest_cluster(clusters, i)
        for row in range(np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])):
            if np.int64(distances[row]) <= threshold and passes(allowed.bits, row):
                passing += 1
    return passing / max(total, 1)


@inner
def score_rows(scoring, rows, n, results, size, r):
    """Scores rows[:n] by their codes into the heap of the best r; returns its size."""
    for i in range(n):
        if i + SCORED_AHEAD < n:
            prefetch_row(scoring, np.int64(rows[i + SCORED_AHEAD]))
        row = np.int64(rows[i])
        key = make_key(code_score(scoring, row), row)
        if size < r or key > results[0]:
            size = offer(results, size, r, key)
    return size


@inner
def tighten(histogram, total, threshold, wanted):
    """Lowers the threshold while enough rows stay; returns (rows at or under it, threshold)."""
    while threshold > 0 and total - histogram[threshold] >= wanted:
        total -= histogram[threshold]
        threshold -= 1
    return total, threshold


@inner
def funnel_blocks(signs, signs_of_query, allowed, low, high, wanted, space, threshold, total, n):
    """Hamming distances of the blocks of rows [low, high) that hold a passing row, into ``space.distances``; the passing rows within the
    threshold are listed in ``space.near``, and it falls so that ``wanted`` rows stay. Returns (threshold, total, n).
    """
    at, words = space.distances.ctypes.data, len(signs_of_query)
    for w in range(low >> 6, ((high - 1) >> 6) + 1):
        word = bits_between(allowed.filtered, allowed.bits, w, low, high)
        if word == 0:
            continue
        word &= block_distances(signs + w * words * 512, signs_of_query.ctypes.data, words, np.uint64(threshold), at + 128 * w)
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            space.near[n] = row
            n += 1
            space.histogram[space.distances[row]] += 1
            total += 1
        if total > wanted:
            total, threshold = tighten(space.histogram, total, threshold, wanted)
    return threshold, total, n


@inner
def keep_near(space, n, threshold):
    """Drops the rows beyond the threshold from ``space.near``; returns how many stay."""
    near, kept = space.near, 0
    for i in range(n):
        if np.int64(space.distances[near[i]]) <= threshold:
            near[kept] = near[i]
            kept += 1
    return kept


@inner
def funnel(segment, scoring, signs_of_query, allowed, spread, most, k, r, space):
    """Two-stage binary-code scan of all passing rows. First the best FIRST_LOOK·k by Hamming distance are scored by codes. Then all rows
    are scored whose distance is at most that of the best of those plus ``spread`` standard deviations (of a binomial with their mean
    distance), but no more than ``most``. Returns (results, rows scored).
    """
    rows, dim = segment[ROWS], segment[DIM]
    distances, histogram, near, results = space.distances, space.histogram, space.near, space.results
    histogram[:] = 0
    wanted = max(np.int64(FIRST_LOOK * k), r)
    threshold, _, n = funnel_blocks(segment[SIGNS], signs_of_query, allowed, 0, rows, wanted, space, np.int64(dim), np.int64(0), 0)
    n = keep_near(space, n, threshold)
    size = score_rows(scoring, near, n, results, 0, r)
    if n >= allowed.matches:
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
    bound = min(np.int64(mean + spread * np.sqrt(dim * share * (1.0 - share))), dim)
    if bound <= threshold:
        return size, n
    again, m = np.int64(0), 0
    histogram[:] = 0
    for w in range((rows + 63) >> 6):
        word = bits_between(allowed.filtered, allowed.bits, w, 0, rows)
        if word == 0:
            continue
        word &= nearer(distances.ctypes.data + 128 * w, np.uint64(bound))
        while word != 0:
            row = 64 * w + count_trailing_zeros(word)
            word &= word - np.uint64(1)
            if np.int64(distances[row]) > threshold:
                near[m] = row
                m += 1
                histogram[distances[row]] += 1
                again += 1
        while again > most and bound > threshold and again - histogram[bound] >= most:
            again -= histogram[bound]
            bound -= 1
    m = keep_near(space, m, bound)
    return score_rows(scoring, near, m, results, size, r), n + m


@inner
def search_clusters(segment, scoring, signs_of_query, clusters, allowed, by_signs, budget, first_pass, r, space):
    """The nearest clusters until they hold ``budget`` passing rows: each of these scored by codes, or only the best ``first_pass`` of them
    by Hamming distance. Returns (results, rows scored).
    """
    size, n, passed, i = 0, 0, np.int64(0), 0
    threshold, total = segment[DIM], np.int64(0)
    space.histogram[:] = 0
    while passed < budget:
        c = nearest_cluster(clusters, i)
        i += 1
        if c < 0:
            break
        low, high = np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1])
        here = np.int64(allowed.counts[c]) if allowed.filtered else high - low
        if here == 0:
            continue
        passed += here
        if by_signs:
            threshold, total, n = funnel_blocks(segment[SIGNS], signs_of_query, allowed, low, high, first_pass, space, threshold, total, n)
        else:
            n = gather(allowed.filtered, allowed.bits, low, high, space.near)
            size = score_rows(scoring, space.near, n, space.results, size, r)
    if by_signs:
        passed = keep_near(space, n, threshold)
        size = score_rows(scoring, space.near, passed, space.results, 0, r)
    return size, passed


@inner
def seed(scoring, clusters, allowed, ef, mark, space):
    """Marks and lists SEEDS passing rows of the nearest clusters, for a two-hop search to start from. Returns (candidates, results)."""
    n, size, i = 0, 0, 0
    while n < SEEDS:
        c = nearest_cluster(clusters, i)
        i += 1
        if c < 0:
            break
        if allowed.counts[c] == 0:
            continue
        here = gather(True, allowed.bits, np.int64(clusters.offsets[c]), np.int64(clusters.offsets[c + 1]), space.near)
        for j in range(0, here, max(here // SEEDS, 1)):
            row = np.int64(space.near[j])
            space.visited[row] = mark
            key = make_key(code_score(scoring, row), row)
            n = push_best(space.candidates, n, key)
            size = offer(space.results, size, ef, key)
    return n, size


@inner
def enter(segment, scoring, filtered, allowed, ef, mark, space):
    """Marks and lists the row where a beam search starts, found in the graph's upper layers. Returns (candidates, results)."""
    row = segment[ENTRY_ROW]
    if segment[TOP_LEVEL] > 0:
        rows = carray(pointer(segment[UPPER_ROWS]), segment[UPPER_COUNT], np.int32)
        offsets = carray(pointer(segment[UPPER_OFFSETS]), segment[UPPER_COUNT], np.int32)
        links = carray(pointer(segment[UPPER_LINKS]), segment[UPPER_SIZE], np.int32)
        slot = descend(scoring, rows, offsets, links, segment[DEGREE] // 2, segment[ENTRY_SLOT], segment[TOP_LEVEL])
        row = np.int64(rows[slot])
    space.visited[row] = mark
    key = make_key(code_score(scoring, row), row)
    size = 0
    if not filtered or passes(allowed.bits, row):
        size = offer(space.results, 0, ef, key)
    return push_best(space.candidates, 0, key), size


@inner
def search_graph(segment, scoring, clusters, allowed, plan, ef, cap, space):
    """Any of the graph's plans. Returns (results, rows scored); more than ``cap`` were scored where it was given up."""
    mark = np.uint32(space.epoch[0] + np.uint32(2))
    if mark < 4:  # went round: no mark of long ago may look like one of now
        space.visited[:] = 0
        mark = np.uint32(4)
    space.epoch[0] = mark
    candidates, results, rows = space.candidates, space.results, segment[ROWS]
    if plan == GRAPH_TWO_HOP:
        n, size = seed(scoring, clusters, allowed, ef, mark, space)
        size, scored = two_hop(
            scoring, rows, segment[GRAPH], segment[DEGREE], allowed.bits, ef, cap, space.visited, mark, candidates, n, results, size
        )
        return size, scored + n
    filtered = allowed.filtered and plan == GRAPH_BEAM
    n, size = enter(segment, scoring, filtered, allowed, ef, mark, space)
    size, scored = beam(
        scoring, rows, segment[GRAPH], segment[DEGREE], filtered, allowed.bits, ef, cap, space.visited, mark, candidates, n, results, size
    )
    if allowed.filtered and plan == POST_FILTER:
        kept = 0
        for i in range(size):
            if passes(allowed.bits, row_of(results[i])):
                results[kept] = results[i]
                kept += 1
        size = kept
    return size, scored


@inner
def plan_for(
    segment,
    settings,
    levels,
    locals_,
    recalls,
    costs,
    corrections,
    target,
    signs_of_query,
    allowed,
    clusters,
    space,
    cells,
    weights,
    growth,
    extra,
    report,
):
    """The setting for a request, and one that takes over when that doesn't end well: (setting, safe). Fills its part of the report.

    growth, extra: as for ``cost_of``.
    """
    share, graph = allowed.matches / segment[ROWS], segment[GRAPH] != 0
    if allowed.filtered and np.log2(share) < levels[len(levels) - 1]:  # so few that scoring each of them is the cheapest
        scan = setting_of(settings, SCAN)
        report[R_MICROSECONDS] = scan_cost(levels, locals_, costs, scan, share)
        return scan, scan
    if allowed.filtered:
        local = selectivity_near(segment, signs_of_query, clusters, allowed, space)
        report[R_LOCAL] = local
        weights_of(levels, locals_, min(np.log2(share), levels[1]), log_rho(local, share), cells, weights)
    else:
        weights_of(levels, locals_, levels[0], 0.0, cells, weights)  # the first level is that of no filter at all
    setting, safe = choose(settings, recalls, costs, corrections, cells, weights, target, graph, growth, extra)
    exact = setting_of(settings, EXACT)
    report[R_MICROSECONDS] = cost_of(setting, settings, cells, weights, costs, exact, growth, extra)
    report[R_RECALL] = predict(setting, cells, weights, recalls)
    return setting, safe


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
    reports,
):
    """The best k of a segment for each query, merged into ``heaps`` ``(n, k)`` of docid keys with ``sizes`` filled; returns chunks newly
    touched.

    queries: float32 ``(n, dim)``, as given. all_bits: uint64 ``(m, words)``, a bit for each of the segment's rows, where ``filtered``;
    all_counts: int32 ``(m, clusters)``, passing rows of each cluster; all_matches: int64 ``(m,)``, of all: m is n, or 1 when all queries
    share a filter. depth: the k that the costs and recalls are of. forced: a setting to use, CHOOSE, or LOOK to report nothing but the
    selectivity near the query. reports: float64 ``(n, REPORT_WIDTH)``, overwritten.
    """
    rows, dim, stride, count = segment[ROWS], segment[DIM], segment[STRIDE], segment[CLUSTERS]
    biased = segment[METRIC] == L2
    bias = carray(pointer(segment[BIAS]), rows if biased else 0, np.float32)
    centroid_bias = carray(pointer(segment[CENTROID_BIAS]), count if biased else 0, np.float32)
    offsets = carray(pointer(segment[OFFSETS]), count + 1, np.int32)
    heap, order = carray(pointer(work[RANKED]), count + 1, np.int64), carray(pointer(work[ORDER]), count + 1, np.int64)
    taken = np.empty(1, np.int64)
    space = Space(
        carray(pointer(work[VISITED]), work[VISITED_ROWS], np.uint32),
        carray(pointer(work[EPOCH]), 1, np.uint32),
        carray(pointer(work[CANDIDATES]), work[KEYS], np.int64),
        carray(pointer(work[RESULTS]), work[KEYS], np.int64),
        carray(pointer(work[DISTANCES]), (rows + 63) // 64 * 64, np.uint16),
        carray(pointer(work[NEAR]), rows + 64, np.int32),
        np.empty(dim + 2, np.int64),
    )
    unit = np.empty(dim, np.float32)
    rotated, spare = carray(pointer(work[QUERY]), dim, np.float32), carray(pointer(work[SPARE]), dim, np.float32)
    codes = carray(pointer(work[QUERY_CODES]), stride, np.int8)
    signs = carray(pointer(work[QUERY_SIGNS]), segment[WORDS], np.uint64)
    cells, weights = np.zeros(4, np.int64), np.zeros(4, np.float64)
    limit = work[KEYS] - 256
    measured = max(k, depth)  # efforts are multiples of the number of results they were measured for
    touched = 0
    for q in range(len(queries)):
        own = q if len(all_matches) > 1 else 0
        allowed = Mask(filtered, all_bits[own], all_counts[own], all_matches[own])
        report = reports[q]
        report[:] = 0
        report[R_SETTING] = report[R_LOCAL] = -1
        report[R_RECALL] = 1
        wanted = min(k, allowed.matches)
        if wanted == 0:
            continue
        normalise(segment, queries[q], unit)
        r = min(KEPT * k + KEPT_LEAST, allowed.matches)  # kept by codes; how many of them are rescored depends on how close they come
        if filtered and forced == CHOOSE and r == allowed.matches:  # all would be rescored: their codes needn't be looked at
            scan = setting_of(settings, SCAN)
            report[R_SETTING], report[R_SCORED] = scan, allowed.matches
            report[R_MICROSECONDS] = scan_cost(levels, locals_, costs, scan, allowed.matches / rows)
            if allowed.matches * SPARSELY >= segment[SPAN]:
                sizes[q], fresh, _ = score_all(segment, unit, filtered, allowed.bits, table, verified, half, heaps[q], sizes[q])
            else:
                size = gather(filtered, allowed.bits, 0, rows, space.near)
                for i in range(size):
                    space.results[i] = make_key(np.float32(0), np.int64(space.near[i]))
                sizes[q], fresh, _ = rescore(
                    segment, unit, space.results, size, 0, np.float32(0), np.float32(np.inf), table, verified, half, heaps[q], sizes[q]
                )
            touched += fresh
            continue
        scale, offset, shift, bound = encode(segment, unit, rotated, spare, codes)
        scoring = Scoring(segment[CODES], stride, work[QUERY_CODES], scale, offset, bias, biased)
        clusters = Clusters(
            Scoring(segment[CENTROIDS], stride, work[QUERY_CODES], scale, offset, centroid_bias, biased), offsets, heap, order, taken
        )
        taken[0] = -1
        encode_signs(segment, rotated, spare, signs)
        if forced == LOOK:
            report[R_LOCAL] = selectivity_near(segment, signs, clusters, allowed, space)
            continue
        exact = setting_of(settings, EXACT)
        setting, safe = forced, exact
        if forced == CHOOSE:
            growth, extra = beyond(k, depth, allowed.matches)
            setting, safe = plan_for(
                segment, settings, levels, locals_, recalls, costs, corrections, target, signs, allowed, clusters, space, cells, weights,
                growth, extra, report,
            )  # fmt: skip
        report[R_SETTING] = setting

        plan, size, n = EXACT, 0, 0
        for _ in range(3):
            plan, effort = np.int64(settings[setting, PLAN]), settings[setting, EFFORT]
            size, scored, failed = 0, np.int64(0), False
            if plan == SCAN:
                n = gather(filtered, allowed.bits, 0, rows, space.near)
                size, scored = score_rows(scoring, space.near, n, space.results, 0, r), n
            elif plan == FUNNEL:
                most = np.int64(settings[setting, WIDTH] * measured)
                size, scored = funnel(segment, scoring, signs, allowed, effort, most, measured, r, space)
            elif plan in (CLUSTERS_SCAN, CLUSTERS_FUNNEL):
                budget = max(np.int64(effort * max(k / depth, 1.0)), r)
                first_pass = max(np.int64(settings[setting, WIDTH] * measured), r)
                size, scored = search_clusters(
                    segment, scoring, signs, clusters, allowed, plan == CLUSTERS_FUNNEL, budget, first_pass, r, space
                )
            elif plan in GRAPH_PLANS:
                ef = min(max(np.int64(effort * measured), wanted), limit // 4)
                cap = min(allowed.matches // 2 + 1000, limit)  # about what a scan of the matching rows costs
                size, scored = search_graph(segment, scoring, clusters, allowed, plan, ef, cap, space)
                failed = scored > cap
            report[R_SCORED] += scored
            if forced >= 0 or plan in (SCAN, EXACT) or (size >= wanted and not failed):
                break
            report[R_FALLBACK] = 1
            setting = exact if plan in ENDING_PLANS else safe
        before = heaps[q, : sizes[q]].copy() if plan == SCAN else heaps[q, :0].copy()
        start, enough = 0, plan == EXACT
        while not enough:
            sizes[q], fresh, enough = rescore(
                segment, unit, space.results, size, start, shift, bound, table, verified, half, heaps[q], sizes[q]
            )
            touched += fresh
            if plan != SCAN or size >= allowed.matches:
                break
            if not enough:
                # So many rows score nearly the same that the codes can't tell which are the best: the scan keeps more of them, or goes over
                # to the vectors themselves before that costs more.
                start, r = size, min(MORE * size, allowed.matches)
                if r > min(allowed.matches // FEW, limit):
                    plan, enough = EXACT, True
                    sizes[q] = len(before)
                    for i in range(len(before)):
                        heaps[q, i] = before[i]
                else:
                    size = score_rows(scoring, space.near, n, space.results, 0, r)
        if plan == EXACT:
            sizes[q], fresh, scored = score_all(segment, unit, filtered, allowed.bits, table, verified, half, heaps[q], sizes[q])
            touched += fresh
            report[R_SCORED] += scored
    return touched
