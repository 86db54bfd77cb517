"""The plans of a file of lists. Both are compiled into ``search_lists``."""

from __future__ import annotations

import math

from ...kernels import lists as kernel
from ..base import Plan

KEPT_LEAST = 5  # rows scored at full precision besides the setting's multiple of the results [chosen, not measured]
# Matching rows of the nearest lists that are looked at, and rows scored at full precision, times the results; by rising effort.
_ROWS = (
    250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 11_000, 16_000, 22_000, 32_000, 45_000, 64_000, 90_000, 128_000, 256_000,
    512_000,
)  # fmt: skip
_KEPT = (1, 3)


def effort_of(setting: tuple[float, float], k: int, depth: int) -> tuple[int, int]:
    """(matching rows to look at, rows to score at full precision) of a setting that was measured for ``depth`` results."""
    return round(setting[0] * max(k / depth, 1.0)), math.ceil(setting[1] * k) + KEPT_LEAST


def _described(setting: tuple[float, float], k: int, depth: int) -> dict[str, float]:
    rows, kept = effort_of(setting, k, depth)
    return {"rows": rows, "rescored": kept}


PLANS: dict[int, Plan] = {
    kernel.SCAN: Plan(kernel.SCAN, "exact scan", terminates=True, exact=True),
    kernel.LISTS: Plan(
        kernel.LISTS, "lists", [(rows, kept) for kept in _KEPT for rows in _ROWS], frozenset({"rabitq1"}), terminates=True, describe=_described
    ),
}
