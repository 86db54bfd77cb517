"""Indexed multi-vector fields, embedded and served: options, plans, facts, hits."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import F, Int, InvalidArgumentError, MultiVector, Schema, TokenLists, VectorDBError
from vectordb.index.multi import build

ROWS, DIM = 300, 6


@pytest.fixture
def docs(database, monkeypatch):
    monkeypatch.setattr(build, "QUERIES", 8)
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((20, DIM))
    matrices = [topics[rng.integers(0, 20, 5)] + 0.3 * rng.standard_normal((5, DIM)) for _ in range(ROWS)]
    fields = {"m": MultiVector(DIM, index=TokenLists(centroids=32)), "never": MultiVector(2, index=None)}
    docs = database.create_collection("docs", Schema(fields, {"n": Int()}))
    docs.upsert(ids=range(ROWS), vectors={"m": matrices}, attributes={"n": [i % 10 for i in range(ROWS)]})
    docs.optimize()
    return docs


def test_an_indexed_field(docs):
    assert docs.schema.vectors["m"].index == TokenLists(centroids=32) and docs.schema.vectors["never"].index is None
    (facts,) = docs.info().statistics["m"]["segments"]
    assert facts["rows"] == ROWS and facts["kind"] == "multi" and facts["vectors"] == 5 * ROWS and 16 <= facts["centroids"] <= 40
    query = np.random.default_rng(1).standard_normal((4, DIM))
    for condition in (None, F("n") < 5, F("n") == 3):
        exact = docs.search({"m": query}, filter=condition, exact=True)
        hits = docs.search({"m": query}, filter=condition, recall=0.99, explain=True)
        # observed: all 10, in each place
        assert len(hits) == len(exact) == 10 and len(np.intersect1d(hits.ids.tolist(), exact.ids.tolist())) >= 8
        (segment,) = hits.plan["arms"][0]["segments"]
        assert segment["plan"] in ("byte scan", "token lists", "exact scan") and "token lists" in str(hits.plan)
    one, two = docs.search_batch({"m": [query, query[:1]]}, recall=0.99)
    assert len(one) == len(two) == 10


def test_options_that_make_no_sense(database):
    for options in ({"centroids": 3}, {"centroids": 2.5}, {"lists": 3}):
        with pytest.raises((VectorDBError, TypeError)):
            database.create_collection("c", {"vectors": {"m": {"kind": "multi", "dim": 2, "index": options}}})
    with pytest.raises(InvalidArgumentError, match="shape"):
        database.create_collection("c", Schema({"m": MultiVector(2)})).search({"m": [1.0, 2.0]})
