"""The plans of a sparse segment. POSTINGS has a kernel of its own, because it reads the chunks: see ``search.by_postings``."""

from __future__ import annotations

from ...kernels import impact as kernel
from ..base import Plan

# Shares of the query's postings that are added up, and shares of the results that may be expected to be missed: checked by the sparse
# suites of 22 November 2026 (bench/RESULTS.md, commits 16627f3 and 062f29e).
_SHARES, _MISSES = (0.01, 0.03, 0.06, 0.12, 0.25), (0.2, 0.05, 0.01, 0.001, 0.0001, 0.00001)

PLANS: dict[int, Plan] = {
    plan.id: plan
    for plan in (
        Plan(kernel.SCAN, "scan", terminates=True, exact=True),
        Plan(kernel.SAFE, "safe impacts", [(1, 0)], terminates=True, exact=True),
        Plan(
            kernel.IMPACTS,
            "impacts",
            [(share, misses) for share in _SHARES for misses in _MISSES],
            describe=lambda setting, k, depth: {"postings": setting[0], "misses": setting[1]},
        ),
        Plan(kernel.POSTINGS, "full postings", [(1, 0)], terminates=True, exact=True),
    )
}
