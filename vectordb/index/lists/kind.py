"""Inverted lists of dense fields (``INDEX_KINDS["lists"]``): one-bit codes of all rows, longer codes of those that may be among the
best.
"""

from __future__ import annotations

from typing import Any

from vectordb_client.model.fields import HNSW, IVF

from ...kernels.codes import u64s_of
from ..dense.kind import HNSWFile
from ..model import DEPTHS
from .build import build_rows, options_of
from .codecs import CODECS, Longer, OneBit
from .direct import columns_of, few_run
from .healing import renew_rows
from .plans import PLANS
from .search import search, usable
from .segment import ListsSegment

SMALL_BYTES = 24  # of a row: docids, and what belongs to its short code
GRAPH_MOST = 2_000_000  # rows; a larger file of a field with a graph is one of lists


class ListsFile(ListsSegment):
    """The memory-mapped file of lists."""

    name = "lists"
    field = "dense"
    options = IVF
    needed = frozenset(PLANS)
    codecs = CODECS
    depths = len(DEPTHS)
    large = frozenset({"centroids", "centroid_codes"})
    own_sections = large | {
        "docids", "inverse", "mean", "flips", "offsets", "half_squares", "settings", "levels", "recalls", "costs", "scan", "apart",
        "far_usual", "far_distances", "far_recalls",
    }  # fmt: skip

    tiers = (OneBit.sections, Longer.sections)

    build = staticmethod(build_rows)
    renew = staticmethod(renew_rows)
    usable = staticmethod(usable)
    search = staticmethod(search)
    direct = staticmethod(columns_of)
    direct_few = staticmethod(few_run)
    chosen_ahead = True

    @classmethod
    def serves(cls, options: Any) -> bool:
        return type(options) in (IVF, HNSW)

    @classmethod
    def suits(cls, spec: Any, rows: int) -> bool:
        return type(spec.index) is IVF or rows > GRAPH_MOST

    @classmethod
    def needs(cls, spec: Any, rows: int) -> int:
        return rows * (8 * u64s_of(spec.dim) + SMALL_BYTES)

    @classmethod
    def max_rows(cls, spec: Any) -> int:
        return HNSWFile.max_rows(spec)

    @staticmethod
    def build_options(spec: Any) -> dict[str, Any]:
        return options_of(spec).kept()
