"""Compile every search kernel now, so that the first caller doesn't wait for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from vectordb_client.filter import F

from .database import open as open_database
from .index import ann, sparse_build
from .index.build import Options, build
from .index.segment import Segment
from .types import Dense, Geo, Int, Keyword, MultiVector, Prefetch, Schema, Sparse, Text

_SCHEMA = Schema(
    {"d": Dense(2), "s": Sparse(weighting="idf"), "m": MultiVector(2)},
    {"i": Int(), "f": Int(array=True), "k": Keyword(), "t": Text(), "g": Geo()},
)
_FILTERS = [
    F("i") > 1,
    F("f") > 1,
    F("i").isin([1, 5]),
    F("k").isin(["a", "b"]),
    F("i").is_null(),
    F("t").match_phrase("a b"),
    F("g").geo_radius(0, 0, 1),
]


def warm() -> None:
    """Run one search of each kind in a throw-away database: some 45 seconds of a core once on a machine, half a second later."""
    with tempfile.TemporaryDirectory(prefix="vectordb-warm-") as folder, open_database(folder, durability="batched") as database:
        docs = database.create_collection("warm", _SCHEMA)
        vectors = {"d": np.ones((3, 2)), "s": [{1: 1.0}] * 3, "m": [np.ones((1, 2))] * 3}
        attributes = {"i": [1, 2, None], "f": [[1], [2], [3]], "k": ["a", "b", "c"], "t": ["a b"] * 3, "g": [(0, 0)] * 3}
        docs.upsert(ids=[1, 2, 3], vectors=vectors, attributes=attributes)
        for condition in _FILTERS:
            docs.count(condition)
        for query in ({"d": [1, 1]}, {"s": {1: 1.0}}, {"m": [[1, 1]]}):
            docs.search(query)
        docs.search({"d": [1, 1], "s": {1: 1.0}})
        docs.search({"s": {1: 1.0}}, prefetch=Prefetch({"d": [1, 1]}))
        # A few rows make one cluster and no graph: that needs no library, and compiles all there is.
        ones = np.ones(4, np.float32)
        rows = Path(folder) / "warm-sparse", np.arange(5), np.zeros(4, np.uint64), ones, np.arange(4, dtype=np.uint32), False
        sparse_build.build(*rows, sparse_build.Options())
        path, rows = Path(folder) / "warm", np.eye(8, dtype=np.float32)
        build(path, rows, np.arange(8, dtype=np.uint32), "l2", Options())
        segment = Segment.open(path)
        ann.search_bounded([ann.Part(segment, segment.all_allowed)], [], rows, rows[0], "float32", "l2", 3, -np.inf)
