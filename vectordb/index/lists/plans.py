"""The plans of a file of lists. Both are compiled into ``search_lists``."""

from __future__ import annotations

from ...kernels import lists as kernel
from ..base import Plan

# Matching rows of the nearest lists that are looked at, by rising effort; and the standard deviations of its error by which a score by
# longer codes may be too low: rows that may then be among the best are scored at full precision.
_ROWS = (
    250, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 11_000, 16_000, 22_000, 32_000, 45_000, 64_000, 90_000, 128_000, 256_000,
    512_000,
)  # fmt: skip
_SETTINGS = [(rows, deviations) for deviations in (0.8, 2.5) for rows in _ROWS]


def effort_of(setting: tuple[float, float], k: int, depth: int) -> int:
    """The matching rows to look at by a setting that was measured for ``depth`` results."""
    return round(setting[0] * max(k / depth, 1.0))


def _described(setting: tuple[float, float], k: int, depth: int) -> dict[str, float]:
    return {"rows": effort_of(setting, k, depth), "deviations": setting[1]}


PLANS: dict[int, Plan] = {
    kernel.SCAN: Plan(kernel.SCAN, "exact scan", terminates=True, exact=True),
    kernel.LISTS: Plan(kernel.LISTS, "lists", _SETTINGS, frozenset({"rabitq1"}), terminates=True, describe=_described),
}
