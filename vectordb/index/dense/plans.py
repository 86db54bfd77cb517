"""The plans of a dense segment.

The kernel of a plan that isn't compiled into ``search_segment`` is called with (segment, bits, query, setting, wanted): the open file;
uint64, a bit for each row that may be returned, or None for all; the query as given (float32 ``(dim,)``); the plan's two parameters; and
the number of rows asked for. It returns (rows that may be among the best, int array of the segment's own numbers, without duplicates; the
number of rows that it scored). They are then scored at full precision. If there are fewer than results, an exact scan takes over.
"""

from __future__ import annotations

from ...kernels import planner
from ..base import Plan

# Settings: (parameter, parameter), see ``describe``. Each plan has more steps where its recall changes fast. Checked by the suite "planner"
# of 22 November 2026, commits 5afc918 to e7bcf53 (bench/RESULTS.md, "Under filters").
_SPREADS, _WIDE_SPREADS = (0.3, 0.7, 1.0, 1.3, 1.6, 2.2, 3.0, 4.0, 5.0), (3.0, 4.0, 5.0, 6.0, 7.0)
_ROWS = (500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 11_000, 16_000, 32_000)
_GAMMAS = (0.0, 0.015, 0.03, 0.045, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5)
# K grows with γ: the same recall with fewer searches that take long. On Debian's package texts, 54k × 384, the slowest hundredth scores
# 3.3 times as many rows as the median at a recall of .983, and 4.7 times with K = 1.25.
_BEAMS = [(gamma, round(min(1 + 10 * gamma, 2), 2)) for gamma in _GAMMAS]
_FEW_ROWS = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
_BYTE, _BINARY = frozenset({"byte"}), frozenset({"byte", "sign"})
_GRAPH, _FILTERED_GRAPH = _BYTE | {"graph"}, _BYTE | {"graph", "filter"}


def _rows(setting, k, depth) -> dict[str, float]:
    return {"rows": round(setting[0] * max(k / depth, 1.0))}


def _rows_of_passes(setting, k, depth) -> dict[str, float]:
    return _rows(setting, k, depth) | {"first_pass": round(setting[1] * max(k, depth))}


def _ef(setting, k, depth) -> dict[str, float]:
    return {"ef": int(setting[0] * max(k, depth))}


def _gamma(setting, k, depth) -> dict[str, float]:
    return {"gamma": setting[0], "nearest": int(setting[1] * max(k, depth))}


def _deviations(setting, k, depth) -> dict[str, float]:
    return {"deviations": setting[0]}


def _single(*values):
    return [(value, 0) for value in values]


# (id, name, settings, needs, describe) of the plans that may miss rows.
_APPROXIMATE = (
    # standard deviations of the Hamming distance that the second pass looks beyond; its rows, times the results
    (planner.BINARY_SCAN, "binary-code scan", [(s, 400) for s in _SPREADS] + [(s, 2_000) for s in _WIDE_SPREADS], _BINARY, _deviations),
    # matching rows of the nearest clusters
    (planner.CLUSTERS_SCAN, "clusters", _single(250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000), _BYTE, _rows),
    # the same; and rows that the binary codes leave, times the results
    (planner.CLUSTERS_BINARY, "clusters, binary codes", [(m, 12) for m in _ROWS] + [(m, 40) for m in _FEW_ROWS], _BINARY, _rows_of_passes),
    # γ: how much farther than the K-th best a row may be, relative to it; and K, times the results
    (planner.ADAPTIVE_BEAM, "graph", _BEAMS, _GRAPH, _gamma),
    # ef, times the results; "two-hop graph" is ACORN-1
    (planner.ACORN, "two-hop graph", _single(1, 1.5, 2, 3, 4, 6, 9, 14, 24), _FILTERED_GRAPH, _ef),
    # of files of earlier versions: a beam of fixed width; the same without the filter, which is then applied to what it found
    (planner.GRAPH_BEAM, "graph, fixed width", [], _GRAPH, _ef),
    (planner.POST_FILTER, "post-filter", [], _FILTERED_GRAPH, _ef),
)
PLANS: dict[int, Plan] = {
    planner.SCAN: Plan(planner.SCAN, "scan", needs=_BYTE, terminates=True),
    **{
        id: Plan(id, name, settings, needs, id in planner.TERMINATING_PLANS, describe=describe)
        for id, name, settings, needs, describe in _APPROXIMATE
    },
    planner.EXACT: Plan(planner.EXACT, "exact scan", terminates=True, exact=True),
}
