"""A small collection for tests of maintenance, and searches whose answers it must not change."""

from __future__ import annotations

import numpy as np

from tests.support.upkeep import vectors
from vectordb import Dense, Int, Schema

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})


def fill(collection, rng, ids) -> None:
    ids = list(ids)
    collection.upsert(ids=ids, vectors={"v": vectors(rng, len(ids))}, attributes={"n": ids})


def answers(collection, rng=None) -> list:
    """Some exact searches, filtered too."""
    queries = np.random.default_rng(9).standard_normal((3, 4)).astype(np.float32)
    return [
        [(hit.id, round(hit.score, 5)) for hit in collection.search({"v": query}, limit=20, exact=True, filter=condition)]
        for query in queries
        for condition in (None, "n < 50")
    ]
