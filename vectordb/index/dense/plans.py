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
_SPREADS = (0.3, 0.7, 1.0, 1.3, 1.6, 2.2, 3.0, 4.0, 5.0)
_CLUSTER_ROWS = (500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 11_000, 16_000, 32_000)
_BEAMS = (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7.5, 9, 12, 16, 22, 30, 40)


def _binary_scan(setting, k, depth):
    return {"deviations": setting[0]}


def _clusters(setting, k, depth):
    return {"rows": round(setting[0] * max(k / depth, 1.0))}


def _clusters_binary(setting, k, depth):
    return {"rows": round(setting[0] * max(k / depth, 1.0)), "first_pass": round(setting[1] * max(k, depth))}


def _graph(setting, k, depth):
    return {"ef": int(setting[0] * max(k, depth))}


_GRAPH, _FILTERED_GRAPH = frozenset({"graph"}), frozenset({"graph", "filter"})
_BYTE, _BINARY = frozenset({"byte"}), frozenset({"byte", "sign"})

PLANS: dict[int, Plan] = {
    plan.id: plan
    for plan in (
        Plan(planner.SCAN, "scan", needs=_BYTE, terminates=True),
        # standard deviations of the Hamming distance that the second pass looks beyond; its rows, times the results
        Plan(
            planner.BINARY_SCAN,
            "binary-code scan",
            [*((spread, 400) for spread in _SPREADS), *((spread, 2_000) for spread in (3.0, 4.0, 5.0, 6.0, 7.0))],
            _BINARY,
            terminates=True,
            describe=_binary_scan,
        ),
        # matching rows of the nearest clusters
        Plan(
            planner.CLUSTERS_SCAN,
            "clusters",
            [(rows, 0) for rows in (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)],
            _BYTE,
            describe=_clusters,
        ),
        # the same; and rows that the binary codes leave, times the results
        Plan(
            planner.CLUSTERS_BINARY,
            "clusters, binary codes",
            [*((rows, 12) for rows in _CLUSTER_ROWS), *((rows, 40) for rows in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000))],
            _BINARY,
            describe=_clusters_binary,
        ),
        # ef, times the results
        Plan(planner.GRAPH_BEAM, "graph", [(ef, 0) for ef in _BEAMS], _BYTE | _GRAPH, describe=_graph),
        Plan(  # ACORN-1
            planner.ACORN,
            "two-hop graph",
            [(ef, 0) for ef in (1, 1.5, 2, 3, 4, 6, 9, 14, 24)],
            _BYTE | _FILTERED_GRAPH,
            describe=_graph,
        ),
        Plan(
            planner.POST_FILTER,
            "post-filter",
            [(ef, 0) for ef in (2, 3, 4, 6, 8, 12, 16, 24, 32)],
            _BYTE | _FILTERED_GRAPH,
            describe=_graph,
        ),
        Plan(planner.EXACT, "exact scan", terminates=True, exact=True),
    )
}
