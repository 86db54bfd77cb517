"""The plans of a segment of a multi-vector field."""

from __future__ import annotations

from ..base import Plan

SCAN, LISTS, EXACT = range(3)  # ids of the plans

# Settings: (parameter, parameter), see ``describe``. Chosen: the recall of a search by lists rises from about .9 to .99 over them.
_EXACTS = (1.5, 2, 4, 8)  # rows scored exactly, times the results
_PROBES = (2, 4, 8, 16, 32, 64, 128)  # lists that are read for each query row
_CANDIDATES = (50, 100, 200, 400, 800)  # rows scored by byte codes, for 10 results


def exact_rows(times: float, k: int, depth: int) -> int:
    """The number of rows that a plan scores exactly."""
    return max(round(times * max(k, depth)), k)


def candidates(number: float, k: int) -> int:
    """The number of rows that the plan LISTS scores by byte codes: half as many more for each further result as for the first 10.
    Searches for fewer results than the model's depth score as many as for those, because that is what was measured.
    """
    return max(round(number * (k + 10) / 20), k)


PLANS: dict[int, Plan] = {
    plan.id: plan
    for plan in (
        Plan(
            SCAN,
            "byte scan",
            [(times, 0) for times in _EXACTS],
            terminates=True,
            describe=lambda setting, k, depth: {"exact": exact_rows(setting[0], k, depth)},
        ),
        Plan(
            LISTS,
            "token lists",
            [(probes, number) for probes in _PROBES for number in _CANDIDATES],
            describe=lambda setting, k, depth: {"lists": int(setting[0]), "candidates": candidates(setting[1], max(k, depth))},
        ),
        Plan(EXACT, "exact scan", [(0, 0)], terminates=True, exact=True),
    )
}
