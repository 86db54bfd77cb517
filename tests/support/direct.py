"""Direct searches and the long way side by side: collections to search, and whether both answer the same to the last bit."""

from __future__ import annotations

import pickle
import uuid

import numpy as np
from vectordb_client.model.search_request import SearchRequest

from tests.support.indexed import clustered
from vectordb import Datetime, Dense, Int, Keyword, Schema
from vectordb.query import execute

ROWS, DIM = 1_500, 24
IDS = {
    "integers": lambda n: list(range(0, 3 * n, 3)),
    "large integers": lambda n: [2**64 - 1 - i * 10**i for i in range(16)] + list(range(n - 16)),
    "texts": lambda n: [f"name {i}" * (1 + i % 9) for i in range(n)],
    "long texts": lambda n: ["x" * (i % 480) + str(i) for i in range(n)],
    "uuids": lambda n: [uuid.UUID(int=i * 7919) for i in range(n)],
    "all kinds": lambda n: [(i, str(i), uuid.UUID(int=i))[i % 3] for i in range(n)],
}


def fill(database, name="docs", metric="cosine", dtype="float32", ids="integers", rows=ROWS, indexed=ROWS, **index):
    """A collection of which the first ``indexed`` rows are indexed. index: the option of that name, if it isn't the usual one."""
    schema = Schema({"v": Dense(DIM, metric, dtype, **index)}, {"n": Int(), "k": Keyword(), "at": Datetime()})
    docs = database.create_collection(name, schema)
    vectors, names = clustered(1, rows, DIM), IDS[ids](rows)
    for low, high in ((0, indexed), (indexed, rows)):
        if low < high:
            numbers = list(range(low, high))
            when = [f"2024-01-{1 + i % 28:02}T00:00:00Z" if i % 5 else None for i in numbers]
            attributes = {"n": numbers, "k": [f"k{i % 10}" for i in numbers], "at": when}
            docs.upsert(ids=names[low:high], vectors={"v": vectors[low:high]}, attributes=attributes, payload=[{"i": i} for i in numbers])
        if indexed and high == indexed:
            docs.optimize()
    return docs


def ways(docs, query, **options):
    """The hits of a direct search, None if it isn't done directly, and those of the long way."""
    request = SearchRequest.of(options)
    for _ in range(2):  # a block is made when a search is seen for the second time
        docs.pieces.search_anything(request, {"v": query}, None, False, execute.whole)
    hits = docs._direct(request, {"v": query})
    (long,) = docs.pieces.search_anything(request, {"v": query}, None, False, execute.whole)
    return hits, long


def check_same(hits, long) -> None:
    assert hits.ids.dtype == long.ids.dtype and hits.ids.tolist() == long.ids.tolist()
    assert hits.scores.tobytes() == long.scores.tobytes()
    assert (hits.columns is None) == (long.columns is None)
    assert len(hits) == len(long) and list(hits) == list(long) and hits == long and repr(hits) == repr(long)
    assert np.array([hit.score for hit in hits]).tobytes() == np.array([hit.score for hit in long]).tobytes()
    assert [*map(type, hits.ids.tolist())] == [*map(type, long.ids.tolist())]
    assert hits.to_dicts() == long.to_dicts() and hits.plan is None
    assert pickle.loads(pickle.dumps(hits)) == long


def check(docs, query, **options):
    hits, long = ways(docs, query, **options)
    assert hits is not None, options
    check_same(hits, long)
    return hits
