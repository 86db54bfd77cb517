"""The choice of a plan: what was measured when a segment was built, interpolated for a request.

A *setting* is a plan with its parameters. A *cell* is a selectivity and a way in which a filter lies to the query; for each, recall and
microseconds of every setting were measured (``vectordb/index/calibrate.py``).
"""

from __future__ import annotations

import numpy as np

from .bitset import passes
from .jit import kernel
from .topk import make_key, offer, score_of

# Plans. Those up to FUNNEL look at every matching row, those from GRAPH_BEAM on need a graph.
SCAN, FUNNEL, CLUSTERS_SCAN, CLUSTERS_FUNNEL, GRAPH_BEAM, GRAPH_TWO_HOP, POST_FILTER = range(7)
# Columns of a setting: the plan; its parameter; and for funnels how many rows are scored by codes: at most in the second look of FUNNEL, in
# the only one of CLUSTERS_FUNNEL, times the number of results asked for.
PLAN, EFFORT, WIDTH = range(3)

MARGIN = 0.01  # of predicted recall over the target, at most
MUCH_CHEAPER = 1.3


@kernel
def log_rho(local, share):
    """log2 of ρ, the selectivity near the query over the whole one; where nothing near passes, −8."""
    return np.log2(max(local / share, 2.0**-8))


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
def scan_cost(levels, locals_, costs, share):
    """What a scan of so small a share costs that the calibration didn't go down to it. SCAN is the first setting."""
    return np.float64(costs[len(costs) - len(locals_), 0]) * share * 2.0 ** -levels[len(levels) - 1]


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
