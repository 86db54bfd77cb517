"""Searching one sealed segment: every plan, the choice among them, and the rescoring of the best at full precision.

A segment and a thread's scratch space come as arrays of addresses and sizes (``layout``), so that a call has few
arguments. Row numbers are the segment's own, in cluster order; docids appear only where rows are rescored.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from .beam import Ending
from .binary_scan import binary_scan
from .bitset import gather
from .clusters import search_clusters, selectivity_near
from .dense import L2
from .graph import WIDEST, search_graph
from .jit import inner, kernel, pointer
from .layout import (
    AXIS_COUNT,
    BIAS,
    CANDIDATES,
    CENTROID_BIAS,
    CENTROIDS,
    CLUSTERS,
    CODES,
    DIM,
    DISTANCES,
    EPOCH,
    GRAPH,
    KEYS,
    METRIC,
    NEAR,
    OFFSETS,
    ORDER,
    PRINCIPAL,
    PRINCIPAL_CENTROIDS,
    QUERY,
    QUERY_CODES,
    QUERY_PRINCIPAL,
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
    SPAN,
    SPARE,
    STRIDE,
    U64S,
    VISITED,
    VISITED_ROWS,
    Clusters,
    Mask,
    Space,
)  # fmt: skip
from .planner import (
    ADAPTIVE_BEAM,
    BINARY_SCAN,
    BINS,
    CLUSTERS_BINARY,
    CLUSTERS_SCAN,
    COMPILED_PLANS,
    DEPTHS,
    EFFORT,
    EXACT,
    FEW,
    GRAPH_PLANS,
    KEPT,
    MORE,
    NOT_AGAIN,
    PLAN,
    POST_FILTER,
    RECALL_OFFSET,
    SCAN,
    SEEN,
    TERMINATING_PLANS,
    WIDTH,
    beyond,
    choose,
    cost_of,
    log_correlation,
    points_of,
    predict,
    scan_cost,
    setting_of,
    weights_of,
    weights_of_distance,
)
from .query_codes import encode, encode_principal, encode_signs, normalise, reach_of
from .rescore import rescore, score_all
from .scoring import Scoring, prefetch_row, score_rows
from .topk import make_key, offer, row_of, score_of

CHOOSE, LOOK = -1, -2
STOPPED, AGAIN = 1, 2  # of R_FALLBACK: another plan was stopped; a search was followed by one with more effort
# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commit e7bcf53
# (bench/RESULTS.md, "Under filters"). [A]: see index/dense/principal.py. [D]: 100 results of 54k × 384 in 151 instead of 187 µs, with the
# same recall, 30 November 2026.
KEPT_LEAST = 40  # rows kept by codes, besides KEPT times the results asked for [P2]
CODED_SPARE = 20  # rows whose byte codes a search by principal codes reads at its end, besides 1.5 times the results [A]
CODED_LEAST = 30  # rows kept by a search of the graph, besides 1.5 times the results asked for; each takes time to keep in order [D]
BY_SIGNS = (BINARY_SCAN, CLUSTERS_BINARY)  # plans that compare sign bits
SPARSELY = 64  # with fewer than one docid in so many matching, rows are looked up one by one [chosen]
LEAST_CAP = 1_000  # rows that a graph search may score before it is given up, besides half of the matches [P2]
MOST_RUNS = 5  # of plans in a search: one that is stopped, the one for it, one with more effort, and the same again


@inner
def plan_for(
    segment,
    settings,
    levels,
    correlations,
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

    correlations: without the distances. recalls: the mean recalls; then the targets that settings reach, where these differ.
    growth, extra: as for ``cost_of``.
    """
    share, graph = allowed.matches / segment[ROWS], segment[GRAPH] != 0
    if allowed.filtered and np.log2(share) < levels[len(levels) - 1]:  # so few that scoring each of them is the cheapest
        scan = setting_of(settings, SCAN)
        report[R_MICROSECONDS] = scan_cost(levels, correlations, costs[: len(levels) * len(correlations)], scan, share)
        return scan, scan
    if allowed.filtered:
        local = selectivity_near(segment, signs_of_query, clusters, allowed, space)
        report[R_LOCAL] = local
        weights_of(levels, correlations, min(np.log2(share), levels[1]), log_correlation(local, share), cells, weights)
    else:
        weights_of(levels, correlations, levels[0], 0.0, cells, weights)  # the first level is that of no filter at all
    reached = recalls[len(recalls) - len(costs) :]
    setting, safe = choose(settings, reached, costs, corrections, cells, weights, target, graph, growth, extra)
    exact = setting_of(settings, EXACT)
    report[R_MICROSECONDS] = cost_of(setting, settings, cells, weights, costs, exact, growth, extra)
    report[R_RECALL] = predict(setting, cells, weights, recalls)
    return setting, safe


@inner
def distance_of(results, size, depth, reach):
    """How far the best of ``results`` (keys) are: the distance of the ``depth``-th, relative to that of the mean of all rows. reach: the
    score by codes of a row at distance 0; the mean has the score 0.
    """
    best, n, depth = np.empty(depth, np.int64), 0, min(depth, size)
    for i in range(size):
        if n < depth or results[i] > best[0]:
            n = offer(best, n, depth, results[i])
    if n == 0 or reach <= 0:
        return 0.0
    return max((reach - np.float64(score_of(best[0]))) / reach, 0.0)


@inner
def plan_again(
    segment,
    settings,
    levels,
    distances,
    recalls,
    costs,
    corrections,
    target,
    depth,
    allowed,
    ran,
    distance,
    cells,
    weights,
    growth,
    extra,
    report,
):
    """The setting for a request of which a search by the setting ``ran`` found rows at ``distance``, and one that takes over: (setting,
    safe). It is the same where that reaches the target for such requests. Corrects the report, and adds what another search costs. Where
    the distance is a usual one, it is only counted, in the corrections; so it is beyond, up to a distance that these have where the
    searches without a filter resemble the rows.

    cells, weights: where the request lies by its correlation. distances: at which there are cells. Others as ``plan_for``.
    """
    share, exact = allowed.matches / segment[ROWS], setting_of(settings, EXACT)
    level = min(np.log2(share), levels[1]) if allowed.filtered else levels[0]
    local = log_correlation(report[R_LOCAL], share) if allowed.filtered else 0.0
    far, far_weights = np.zeros(4, np.int64), np.zeros(4, np.float64)
    found = weights_of_distance(levels, distances, level, local, distance, far, far_weights)
    corrections[SEEN, found] += 1  # what threads add at the same moment may count once
    if found < BINS or (not allowed.filtered and distance <= corrections[SEEN, NOT_AGAIN + (depth > DEPTHS[0])]):
        return ran, exact
    reached = recalls[len(recalls) - len(costs) :]
    report[R_RECALL] = predict(ran, far, far_weights, recalls)
    report[R_MICROSECONDS] = cost_of(ran, settings, far, far_weights, costs, exact, growth, extra)
    if predict(ran, far, far_weights, reached) + corrections[RECALL_OFFSET, np.int64(settings[ran, PLAN])] >= target:
        return ran, exact
    both, cost = np.empty((1, len(settings)), np.float32), np.empty((1, len(settings)), np.float32)
    for s in range(len(settings)):
        both[0, s], cost[0, s] = predict(s, far, far_weights, reached), predict(s, far, far_weights, costs)
        if allowed.filtered:
            both[0, s] = min(both[0, s], np.float32(predict(s, cells, weights, reached)))
    only, whole = np.zeros(4, np.int64), np.zeros(4, np.float64)
    whole[0] = 1.0
    setting, safe = choose(settings, both, cost, corrections, only, whole, target, segment[GRAPH] != 0, growth, extra)
    if setting != ran:
        report[R_RECALL] = predict(setting, far, far_weights, recalls)
        report[R_MICROSECONDS] += cost_of(setting, settings, far, far_weights, costs, exact, growth, extra)
        report[R_FALLBACK] = AGAIN
    return setting, safe


@inner
def by_principal(segment, work, codes, scoring, clusters):
    """How rows and clusters are scored by principal codes: (Scoring, Clusters), from those by byte codes. codes: the query's byte codes."""
    at, axes = work[QUERY_PRINCIPAL], segment[AXIS_COUNT]
    scale, offset = encode_principal(segment, codes, scoring.scale, scoring.offset, carray(pointer(at), segment[STRIDE], np.int8))
    middles = Scoring(segment[PRINCIPAL_CENTROIDS], axes, at, scale, offset, clusters.scoring.bias, scoring.biased)
    entries = Clusters(middles, clusters.offsets, clusters.heap, clusters.order, np.full(1, -1, np.int64))
    return Scoring(segment[PRINCIPAL], axes, at, scale, offset, scoring.bias, scoring.biased), entries


@inner
def score_again(scoring, size, space):
    """Scores the first ``size`` of the results by byte codes; returns their number."""
    for i in range(size):
        row = row_of(space.results[i])
        space.near[i] = row
        prefetch_row(scoring, row)
    return score_rows(scoring, space.near, size, space.results, 0, size)


@kernel
def search_segment(
    segment,
    work,
    settings,
    levels,
    correlations,
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

    queries: float32 ``(n, dim)``, as given. all_bits: uint64 ``(m, u64s)``, a bit for each of the segment's rows, where ``filtered``;
    all_counts: int32 ``(m, clusters)``, passing rows of each cluster; all_matches: int64 ``(m,)``, of all: m is n, or 1 when all queries
    share a filter. depth: the k that the costs and recalls are of. forced: a setting to use, CHOOSE, or LOOK to report nothing but the
    selectivity near the query. reports: float64 ``(n, REPORT_WIDTH)``, overwritten. Queries whose plan isn't one of COMPILED_PLANS get only
    a report.
    """
    rows, dim, stride, count = segment[ROWS], segment[DIM], segment[STRIDE], segment[CLUSTERS]
    biased = segment[METRIC] == L2
    bias = carray(pointer(segment[BIAS]), rows if biased else 0, np.float32)
    centroid_bias = carray(pointer(segment[CENTROID_BIAS]), count if biased else 0, np.float32)
    offsets = carray(pointer(segment[OFFSETS]), count + 1, np.int32)
    heap, order = carray(pointer(work[RANKED]), count + 1, np.int64), carray(pointer(work[ORDER]), count + 1, np.int64)
    taken = np.empty(1, np.int64)
    space = Space(
        carray(pointer(work[VISITED]), work[VISITED_ROWS], np.uint8),
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
    signs = carray(pointer(work[QUERY_SIGNS]), segment[U64S], np.uint64)
    cells, weights = np.zeros(4, np.int64), np.zeros(4, np.float64)
    limit = work[KEYS] - 256
    measured = max(k, depth)  # efforts are multiples of the number of results they were measured for
    points, by_distance = points_of(levels, correlations, costs)
    distances, correlations, scan_costs = correlations[points:], correlations[:points], costs[: points * len(levels)]
    touched = 0
    for q in range(len(queries)):
        own = q if len(all_matches) > 1 else 0
        allowed = Mask(filtered, all_bits[own], all_counts[own], all_matches[own])
        report = reports[q]
        report[:] = 0
        report[R_SETTING] = report[R_LOCAL] = -1
        report[R_RECALL] = 1
        needed = min(k, allowed.matches)
        if needed == 0:
            continue
        normalise(segment, queries[q], unit)
        r = min(KEPT * k + KEPT_LEAST, allowed.matches)  # kept by codes; how many of them are rescored depends on how close they come
        if filtered and forced == CHOOSE and r == allowed.matches:  # all would be rescored: their codes needn't be looked at
            scan = setting_of(settings, SCAN)
            report[R_SETTING], report[R_SCORED] = scan, allowed.matches
            report[R_MICROSECONDS] = scan_cost(levels, correlations, scan_costs, scan, allowed.matches / rows)
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
        signed = filtered or forced == LOOK
        if signed:
            encode_signs(segment, rotated, spare, signs)
        if forced == LOOK:
            report[R_LOCAL] = selectivity_near(segment, signs, clusters, allowed, space)
            continue
        exact = setting_of(settings, EXACT)
        setting, safe, looked, growth, extra = forced, exact, False, 1.0, 0.0
        if forced == CHOOSE:
            growth, extra = beyond(k, depth, allowed.matches)
            setting, safe = plan_for(
                segment, settings, levels, correlations, recalls, costs, corrections, target, signs, allowed, clusters, space, cells,
                weights, growth, extra, report,
            )  # fmt: skip
        report[R_SETTING] = setting
        if np.int64(settings[setting, PLAN]) not in COMPILED_PLANS:
            continue  # the caller runs it

        plan, size, n, reach = EXACT, 0, 0, reach_of(segment, unit) - np.float64(shift)
        for _ in range(MOST_RUNS):
            plan, effort = np.int64(settings[setting, PLAN]), settings[setting, EFFORT]
            if not signed and plan in BY_SIGNS:
                encode_signs(segment, rotated, spare, signs)
                signed = True
            size, scored, failed = 0, np.int64(0), False
            if plan == SCAN:
                n = gather(filtered, allowed.bits, 0, rows, space.near)
                size, scored = score_rows(scoring, space.near, n, space.results, 0, r), n
            elif plan == BINARY_SCAN:
                most = np.int64(settings[setting, WIDTH] * measured)
                size, scored = binary_scan(segment, scoring, signs, allowed, effort, most, measured, r, space)
            elif plan in (CLUSTERS_SCAN, CLUSTERS_BINARY):
                budget = max(np.int64(effort * max(k / depth, 1.0)), r)
                first_pass = max(np.int64(settings[setting, WIDTH] * measured), r)
                size, scored = search_clusters(
                    segment, scoring, signs, clusters, allowed, plan == CLUSTERS_BINARY, budget, first_pass, r, space
                )
            elif plan in GRAPH_PLANS:
                adaptive = plan == ADAPTIVE_BEAM
                width = settings[setting, WIDTH] if adaptive else effort
                ending = Ending(
                    min(max(np.int64(width * measured), needed), limit // 4),
                    effort if adaptive else 0.0,
                    reach,
                    min(allowed.matches // 2 + LEAST_CAP, limit),  # about what a scan of the matching rows costs
                )
                kept = min(r, k + k // 2 + CODED_LEAST, limit // WIDEST)
                if segment[PRINCIPAL] != 0 and (not allowed.filtered or plan == POST_FILTER):
                    principal, entries = by_principal(segment, work, codes, scoring, clusters)
                    size, scored = search_graph(segment, principal, entries, allowed, plan, ending, kept, space)
                    size = score_again(scoring, min(size, k + k // 2 + CODED_SPARE), space)
                else:
                    size, scored = search_graph(segment, scoring, clusters, allowed, plan, ending, kept, space)
                failed = scored > ending.cap
            report[R_SCORED] += scored
            if forced >= 0 or plan in (SCAN, EXACT):
                break
            if size >= needed and not failed:
                if looked or not by_distance:
                    break
                looked = True
                distance = distance_of(space.results, size, depth, reach)
                if not filtered:
                    report[R_LOCAL] = distance
                other, safe = plan_again(
                    segment, settings, levels, distances, recalls, costs, corrections, target, depth, allowed, setting, distance, cells,
                    weights, growth, extra, report,
                )  # fmt: skip
                if other == setting:
                    break
                report[R_SETTING] = setting = other
                continue
            report[R_FALLBACK] = STOPPED
            setting = exact if plan in TERMINATING_PLANS else safe
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
