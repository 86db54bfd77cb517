"""The impact-ordered index of sparse fields (``INDEX_KINDS["sparse"]``): posting lists by falling weight, and a forward index."""

from __future__ import annotations

from typing import Any

from vectordb_client.model.fields import ImpactIndex

from ...kernels import impact as kernel
from ..model import DEPTHS
from .build import build_rows, options_of
from .search import search, usable
from .segment import ImpactSegment

MAX_ROWS = 2_000_000  # rows of a file [chosen, not measured]


class ImpactFile(ImpactSegment):
    """The memory-mapped file of a sparse segment. docids: ascending."""

    name = "sparse"
    field = "sparse"
    options = ImpactIndex
    needed = frozenset({kernel.SCAN, kernel.SAFE})
    depths = len(DEPTHS)
    large = frozenset({"lists", "runs", "row_terms", "row_weights"})
    own_sections = large | {
        "docids", "inverse", "terms", "frequencies", "list_at", "run_at", "level_most", "level_mean", "level_share", "row_at",
        "row_lengths", "settings", "levels", "recalls", "far_recalls", "costs", "scan",
    }  # fmt: skip

    tiers = (frozenset({"lists", "runs"}), frozenset({"row_terms", "row_weights"}))
    scattered = frozenset({"row_terms", "row_weights"})

    build = staticmethod(build_rows)
    usable = staticmethod(usable)
    search = staticmethod(search)

    @classmethod
    def max_rows(cls, spec: Any) -> int:
        return MAX_ROWS

    @staticmethod
    def build_options(spec: Any) -> dict[str, Any]:
        return options_of(spec).kept()
