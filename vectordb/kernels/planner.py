"""The choice of a plan: what was measured when a segment was built, interpolated for a request.

A *setting* is a plan with its parameters. A *cell* is a selectivity and either a way in which a filter lies to the query, or how far the
results are; for each, recall and microseconds of every setting were measured (``vectordb/index/dense/calibrate.py``). The first kind of
cell is known before a search, the second after one.
"""

from __future__ import annotations

import numpy as np

from .bitset import passes
from .jit import inner, kernel
from .topk import make_key, offer, score_of

# The ids of the plans that are compiled into ``search_segment``, and what the kernels must know of them; ``index/dense/plans.py`` has the
# rest. They are written in index files, so they are frozen (see ``index.base.Plan``).
SCAN, BINARY_SCAN, CLUSTERS_SCAN, CLUSTERS_BINARY, GRAPH_BEAM, ACORN, POST_FILTER, EXACT = 0, 1, 2, 3, 4, 5, 6, 7
ADAPTIVE_BEAM = 8
COMPILED_PLANS = (SCAN, BINARY_SCAN, CLUSTERS_SCAN, CLUSTERS_BINARY, GRAPH_BEAM, ACORN, POST_FILTER, EXACT, ADAPTIVE_BEAM)
GRAPH_PLANS = (GRAPH_BEAM, ACORN, POST_FILTER, ADAPTIVE_BEAM)  # they need a graph
TERMINATING_PLANS = (SCAN, BINARY_SCAN, EXACT)  # they find min(k, matches) rows whatever the query, so they may take over from another
FULL_COST_PLANS = (SCAN, EXACT)  # they look at every matching row however many results are asked for
# Columns of a setting: the plan, and its two parameters (``index/dense/plans.py``).
PLAN, EFFORT, WIDTH = range(3)
# Rows of the corrections of a segment: a plan's recall offset and cost factor; how many searches found rows in each of BINS and beyond, and
# behind these, for each of DEPTHS, the distance up to which no search is followed by another.
RECALL_OFFSET, COST_FACTOR, SEEN = range(3)
BINS = 5  # of the usual distances: at each level, as many of its rows have results in one as in another (``index/dense/points.py``)
DEPTHS = (10, 100)  # results asked for in calibrations; a model is of one of them [chosen]
NOT_AGAIN = BINS + 1  # column of SEEN: the distance for the first of DEPTHS

# Constants: unit and meaning, then the source in brackets. [P2]: checked by the suite "planner" of 22 November 2026, commit e7bcf53
# (bench/RESULTS.md, "Under filters"). [tests]: set so that tests with outliers, ties and large limits pass; no benchmark is recorded.
MARGIN = 0.01  # of predicted recall over the target, at most [P2]
MUCH_CHEAPER = 1.3  # ratio of costs from which on the margin is waived [P2]
SEEN_TO_MISS = 0.97  # measured recall below which a scan of codes isn't taken for one that finds all [tests]
NOT_EXACT = 0.9999  # the most recall that is predicted for a plan that may miss rows [tests]
KEPT = 4  # rows that plans score at full precision, times the results asked for [P2]
MORE = 8  # times as many are scored so when codes don't tell which rows are the best [tests]
FEW = 16  # one in so many rows is the most that is scored at full precision one by one [tests]
KEPT_SHARE = 0.75  # of a binary-code scan's time: the rows that it keeps, which grow with the results asked for [two sets, k 100 … 1,000]
SCATTERED = 2.0  # time of a row that is scored at full precision out of order, relative to one in a scan [tests]


@kernel
def log_correlation(local, share):
    """log2 of the query–filter correlation ρ: the selectivity near the query divided by the whole one. Where nothing near passes, −8."""
    return np.log2(max(local / share, 2.0**-8))


@kernel
def weights_of(levels, correlations, share, local, cells, weights):
    """Where a request lies among the calibrated cells: up to four (cell, weight) by linear interpolation of log selectivity and log ρ.

    levels: log2 selectivity, descending; correlations: log2 ρ, ascending.
    """
    upper = 0
    while upper < len(levels) - 1 and levels[upper] > share:
        upper += 1
    lower = max(upper - 1, 0)
    gap = levels[lower] - levels[upper]
    mix = min(max((levels[lower] - share) / gap, 0.0), 1.0) if gap > 0 else 1.0
    right = 0
    while right < len(correlations) - 1 and correlations[right] < local:
        right += 1
    left = max(right - 1, 0)
    span = correlations[right] - correlations[left]
    part = min(max((local - correlations[left]) / span, 0.0), 1.0) if span > 0 else 1.0
    for side in range(2):
        level = lower if side == 0 else upper
        weight = 1.0 - mix if side == 0 else mix
        cells[2 * side], weights[2 * side] = level * len(correlations) + left, weight * (1.0 - part)
        cells[2 * side + 1], weights[2 * side + 1] = level * len(correlations) + right, weight * part


@kernel
def points_of(levels, correlations, costs):
    """(the number of correlations, whether there are cells of distances). With these, ``correlations`` goes on, for each level, with the
    upper ends of BINS and the distances beyond at which it has cells, together as many as correlations, ascending, and a slope; ``costs``
    and the tables of recalls go on with their cells. Files of earlier versions have none.
    """
    count = len(correlations)
    if count * len(levels) == len(costs):
        return count, False
    return (count - len(levels)) // (len(levels) + 1), True


@kernel
def weights_of_distance(levels, distances, share, local, distance, cells, weights):
    """Where a search lies among the cells of distances beyond the usual ones, as ``weights_of``. distances: float64 ``(levels · (points +
    1),)``. Returns the one of BINS that it lies in; BINS if it lies beyond them all.

    A filter that leaves out the rows near the query makes all results farther, by the slope for each unit of log ρ (local). The distances
    of cells are those without that.
    """
    width = len(distances) // len(levels)
    points = width - 1
    upper = 0
    while upper < len(levels) - 1 and levels[upper] > share:
        upper += 1
    lower = max(upper - 1, 0)
    gap = levels[lower] - levels[upper]
    mix = min(max((levels[lower] - share) / gap, 0.0), 1.0) if gap > 0 else 1.0
    moved = (1.0 - mix) * distances[lower * width + points] + mix * distances[upper * width + points]
    distance += moved * local
    found = 0
    while found < BINS and (1.0 - mix) * distances[lower * width + found] + mix * distances[upper * width + found] < distance:
        found += 1
    for side in range(2):
        level = lower if side == 0 else upper
        weight = 1.0 - mix if side == 0 else mix
        start, right = level * width, BINS
        while right < points - 1 and distances[start + right] < distance:
            right += 1
        left = max(right - 1, BINS)
        span = distances[start + right] - distances[start + left]
        part = min(max((distance - distances[start + left]) / span, 0.0), 1.0) if span > 0 else 1.0
        first = (len(levels) + level) * points  # behind the cells of correlations, which are as many
        cells[2 * side], weights[2 * side] = first + left, weight * (1.0 - part)
        cells[2 * side + 1], weights[2 * side + 1] = first + right, weight * part
    return found


@kernel
def predict(setting, cells, weights, table):
    """A setting's interpolated figure. table: float32 ``(cells, settings)``."""
    total = 0.0
    for i in range(4):
        if weights[i] > 0:
            total += weights[i] * np.float64(table[cells[i], setting])
    return total


@kernel
def setting_of(settings, plan):
    """The first setting of a plan, −1 when there is none."""
    for s in range(len(settings)):
        if np.int64(settings[s, PLAN]) == plan:
            return s
    return -1


@inner
def scan_cost(levels, correlations, costs, scan, share):
    """What a scan (setting ``scan``) of so small a share costs that the calibration didn't go down to it."""
    return np.float64(costs[len(costs) - len(correlations), scan]) * share * 2.0 ** -levels[len(levels) - 1]


@kernel
def beyond(k, depth, matches):
    """(growth, extra) for ``cost_of``: how many times as many results are asked for as were measured, and which share of the matching rows
    is scored at full precision for that.
    """
    return max(k / depth, 1.0), min(KEPT * max(k - depth, 0) / matches, 1.0)


@kernel
def cost_of(setting, settings, cells, weights, costs, exact, growth, extra):
    """A setting's predicted microseconds for ``growth`` (≥ 1) times as many results as it was measured for. exact: the setting that scores
    all at full precision; extra: the share of the matching rows that are scored so besides.
    """
    cost = predict(setting, cells, weights, costs)
    plan = np.int64(settings[setting, PLAN])
    if growth > 1.0 and plan != EXACT:
        if plan == BINARY_SCAN:
            cost *= 1.0 + KEPT_SHARE * (growth - 1.0)
        elif plan not in FULL_COST_PLANS:
            cost *= growth
        elif exact >= 0:
            full = predict(exact, cells, weights, costs)
            if plan == SCAN and MORE * extra * FEW > 1.0:
                cost += full  # of so many results a scan of codes is seldom sure
            elif plan == SCAN:
                cost += cost + MORE * extra * SCATTERED * full
            cost += extra * SCATTERED * full
    return cost


@inner
def choose(settings, recalls, costs, corrections, cells, weights, target, graph, growth, extra):
    """Returns (best, fallback). best: the cheapest setting predicted to reach the target plus a margin; the margin is waived if that is
    MUCH_CHEAPER, and without such a setting it is the one of highest recall. fallback: the cheapest with the margin among the plans that
    always terminate.

    corrections: float64 ``(3, plans)``: added to the recall and multiplied with the cost of each plan, learned at run time; SEEN. growth,
    extra: as for ``cost_of``.
    """
    needed = target + min((1.0 - target) / 2.0, MARGIN)  # predictions are measured on few queries
    exact = setting_of(settings, EXACT)
    only = np.int64(-1)  # the cell, where a request lies in a single one and costs are as measured: most have no filter
    for i in range(4):
        if weights[i] == 1.0 and growth <= 1.0:
            only = cells[i]
    best, bare, safe, most = -1, -1, -1, 0
    best_cost, bare_cost, safe_cost, most_recall = np.inf, np.inf, np.inf, -1.0
    for s in range(len(settings)):
        plan = np.int64(settings[s, PLAN])
        if not graph and plan in GRAPH_PLANS:
            continue
        if only >= 0:
            cost, recall = np.float64(costs[only, s]), np.float64(recalls[only, s])
        else:
            cost, recall = cost_of(s, settings, cells, weights, costs, exact, growth, extra), predict(s, cells, weights, recalls)
        cost *= corrections[COST_FACTOR, plan]
        recall += corrections[RECALL_OFFSET, plan]
        if plan == EXACT:
            recall = 1.0
        else:
            if plan == SCAN and recall >= SEEN_TO_MISS:
                recall = max(recall, needed)  # it ends only where codes leave no doubt
            recall = min(recall, NOT_EXACT)
        if recall > most_recall:
            most, most_recall = s, recall
        if recall >= target and cost < bare_cost:
            bare, bare_cost = s, cost
        if recall < needed:
            continue
        if cost < best_cost:
            best, best_cost = s, cost
        if plan in TERMINATING_PLANS and cost < safe_cost:
            safe, safe_cost = s, cost
    if bare >= 0 and best_cost > MUCH_CHEAPER * bare_cost:
        best = bare
    return best if best >= 0 else most, safe if safe >= 0 else exact


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
    return np.float32(-np.inf) if n == 0 else score_of(heap[0])
