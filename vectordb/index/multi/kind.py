"""The index of multi-vector fields (``INDEX_KINDS["multi"]``): byte codes of all vectors, and lists of rows by centroids."""

from __future__ import annotations

from typing import Any

from vectordb_client.model.fields import TokenLists

from ..model import DEPTHS
from .build import build_rows, options_of
from .plans import EXACT, SCAN
from .search import search, usable
from .segment import MultiSegment

# Constants: unit and meaning. Chosen, not measured.
MAX_ROWS = 1_000_000  # rows of a file
BUILD_BYTES = 3 << 29  # bytes of codes of a build, if rows have USUAL_VECTORS vectors
USUAL_VECTORS = 128
SEAL_ROWS = 2_000  # with fewer rows an exact scan is fast enough


class MultiFile(MultiSegment):
    """The memory-mapped file of a segment of a multi-vector field. docids: ascending. The sections ``list_at`` and ``entries`` aren't
    among the large ones: searches write where they lead to.
    """

    name = "multi"
    field = "multi"
    options = TokenLists
    needed = frozenset({SCAN, EXACT})
    depths = len(DEPTHS)
    seal_rows = SEAL_ROWS
    large = frozenset({"codes"})
    own_sections = large | {
        "docids", "inverse", "starts", "flips", "centroids", "list_at", "entries", "apart", "settings", "levels", "recalls", "costs",
        "lows", "units", "far_recalls", "distances", "shifts",
    }  # fmt: skip

    tiers = (frozenset({"codes"}),)

    build = staticmethod(build_rows)
    usable = staticmethod(usable)
    search = staticmethod(search)

    @classmethod
    def max_rows(cls, spec: Any) -> int:
        return max(1, min(MAX_ROWS, BUILD_BYTES // (USUAL_VECTORS * spec.dim)))

    @staticmethod
    def build_options(spec: Any) -> dict[str, Any]:
        return options_of(spec).kept()
