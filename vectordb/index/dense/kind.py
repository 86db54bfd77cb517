"""The HNSW index of dense fields (``INDEX_KINDS["dense"]``): byte codes, binary codes, clusters and a graph."""

from __future__ import annotations

import importlib
from typing import Any

from vectordb_client.errors import SchemaError
from vectordb_client.model.fields import HNSW

from ...kernels import planner
from ...kernels.codes import stride_of
from ..model import DEPTHS
from .build import build_rows, options_of
from .codecs import CODECS, EARLIER
from .direct import columns_of, scratch
from .healing import renew_rows
from .search import bounds, few_run, search, usable
from .segment import DenseSegment

# Unit and meaning. Chosen, not measured.
MAX_ROWS = 4_000_000  # rows of a file
SMALL_BYTES = 32  # of a row: docids, upper layers, biases
MAX_BUILD_BYTES = 6 << 30  # bytes of vectors that are copied for a build


class HNSWFile(DenseSegment):
    """The memory-mapped file of a dense segment."""

    name = "dense"
    field = "dense"
    options = HNSW
    needed = frozenset({planner.SCAN})
    codecs = CODECS
    default_codecs = EARLIER
    depths = len(DEPTHS)
    large = frozenset({"graph"})
    own_sections = large | {
        "docids", "inverse", "mean", "flips", "centroids", "centroid_bias", "offsets", "medoids",
        "upper_rows", "upper_offsets", "upper_links", "settings", "levels", "locals", "recalls", "lows",
        "costs", "distance_points", "alike", "far_recalls", "far_costs", "apart",
    }  # fmt: skip

    tiers = (frozenset({"graph", "principal", "bias"}), frozenset({"codes"}), frozenset({"signs", "lacking"}))
    scattered = frozenset({"graph", "principal", "codes", "bias"})

    build = staticmethod(build_rows)
    renew = staticmethod(renew_rows)
    usable = staticmethod(usable)
    search = staticmethod(search)
    bounds = staticmethod(bounds)
    direct = staticmethod(columns_of)
    direct_scratch = staticmethod(scratch)
    direct_few = staticmethod(few_run)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {name: value for name, value in self.meta.get("linking", {}).items() if value is not None}

    @classmethod
    def needs(cls, spec: Any, rows: int) -> int:
        degree, _ = options_of(spec).sizes()
        return rows * (stride_of(spec.dim) + 4 * 2 * degree + SMALL_BYTES)

    @classmethod
    def max_rows(cls, spec: Any) -> int:
        return max(1, min(MAX_ROWS, MAX_BUILD_BYTES // (4 * spec.dim)))

    @staticmethod
    def build_options(spec: Any) -> dict[str, Any]:
        return options_of(spec).kept()

    @classmethod
    def check_options(cls, field: str, options: HNSW) -> None:
        if options.graph_builder == "hnswlib":
            try:
                importlib.import_module("hnswlib")
            except ImportError as error:
                what = f"vector field {field!r}: graph_builder 'hnswlib' is not installed ({error}): pip install 'hnswlib>=0.8'"
                raise SchemaError(what, field="graph_builder", value="hnswlib") from error
