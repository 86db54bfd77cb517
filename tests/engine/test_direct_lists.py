"""Direct searches of inverted lists give what the long way gives, to the last bit, alone and beside graphs and other arms."""

from __future__ import annotations

import pytest
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.direct import DIM, ROWS, check, check_same, fill, ways
from tests.support.indexed import clustered, held_out
from vectordb import IVF, Dense, F, Int, Schema, Sparse
from vectordb.index.dense import kind as dense_kind
from vectordb.index.lists import calibrate
from vectordb.index.lists import kind as lists_kind
from vectordb.index.model import Corrections
from vectordb.query import direct, direct_arm_blocks, execute, trace

FILTERS = [None, "n < 1200", F("k") == "k3", "n >= 1490", "n = 7", "n = -1"]


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch):
    """Small calibrations. Searches learn nothing of their times, which would let the plan change between two that are compared."""
    for name, few in (("QUERIES", 32), ("FILTERED", 12), ("MADE", 21)):
        monkeypatch.setattr(calibrate, name, few)
    monkeypatch.setattr(Corrections, "learn_cost", lambda *given: None)


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, recall_audit=0, durability="batched") as database:
        yield database


@pytest.mark.parametrize(
    ("shape", "metric", "dtype"),
    [
        ("segment", "l2", "float16"),
        ("segment and tail", "cosine", "float32"),
        ("segment and tail", "dot", "float16"),
        ("segments", "l2", "float32"),
        ("both kinds", "dot", "float32"),
        ("both kinds", "cosine", "float16"),
    ],
)
def test_every_form_of_a_field(database, monkeypatch, shape, metric, dtype):
    if shape == "segments":
        monkeypatch.setattr(lists_kind.ListsFile, "max_rows", classmethod(lambda cls, spec: 800))
    index: dict = {"index": IVF(bits=8 if metric == "dot" else 4)}
    if shape == "both kinds":  # lists, and a graph of the rest
        monkeypatch.setattr(lists_kind, "GRAPH_MOST", 800)
        monkeypatch.setattr(dense_kind, "MAX_ROWS", 900)
        index = {}
    docs = fill(database, metric=metric, dtype=dtype, indexed=1_200 if shape == "segment and tail" else ROWS, ids="texts", **index)
    kinds = sorted(segment.get("kind", "dense") for segment in docs.info().statistics["v"]["segments"])
    assert kinds == {"segments": ["lists"] * 2, "both kinds": ["dense", "lists"]}.get(shape, ["lists"])
    docs.delete(["name 4", "name 5name 5name 5name 5name 5name 5"])
    stored = docs.get("name 27", with_vectors=True)
    queries = [*held_out(2, DIM), -held_out(1, DIM)[0]] + ([] if stored is None else [stored.vectors["v"]])
    for condition in FILTERS:
        for options in ({}, {"limit": 1, "recall": 0.8}, {"limit": 100, "recall": 0.99, "with_attributes": False}):
            for query in queries:
                hits, long = ways(docs, query, filter=condition, **options)
                check_same(hits, long)
                truth = docs.search({"v": query}, filter=condition, exact=True, **{**options, "recall": 0.95})
                assert len(hits) == len(truth)


def test_plans_are_chosen_anew_now_and_then(database, monkeypatch):
    monkeypatch.setattr(direct, "CHOSEN_ANEW", 5)
    docs = fill(database, index=IVF())
    query, directly = held_out(1, DIM)[0], 0
    check(docs, query)
    request = SearchRequest.of({})
    for _ in range(20):
        directly += docs._direct(request, {"v": query}) is not None
        docs.search({"v": query})
    assert 10 <= directly < 20


def test_an_arm_of_a_fused_search(database, monkeypatch):
    monkeypatch.setattr(direct_arm_blocks, "CHOSEN_ANEW", 6)
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, index=IVF()), "w": Dense(DIM, "l2"), "s": Sparse()}, {"n": Int()}))
    vectors = {"v": clustered(1, ROWS, DIM), "w": clustered(2, ROWS, DIM), "s": [{i % 40: 1.0, 50 + i % 7: 0.5} for i in range(ROWS)]}
    docs.upsert(ids=range(ROWS), vectors=vectors, attributes={"n": range(ROWS)})
    docs.optimize()
    for options in ({}, {"filter": "n < 1300", "fusion": "relative"}, {"filter": "n < 40"}):
        directly = 0
        for query in held_out(12, DIM):
            asked = {"v": query, "w": query, "s": {3: 1.0, 52: 1.0}}
            request = SearchRequest.of(options)
            hits = docs._direct(request, asked)
            (long,) = docs.pieces.search_anything(request, asked, None, False, execute.whole)
            if hits is not None:
                directly += 1
                assert list(hits) == list(long)
        assert directly >= 5


def test_how_a_direct_search_was_run_is_told(database):
    docs = fill(database, index=IVF())
    query = held_out(1, DIM)[0]
    for condition, plans in ((None, {"lists", "exact scan"}), ("n < 1200", {"lists", "exact scan"}), ("n < 40", {"exact scan"})):
        check(docs, query, filter=condition)
        notes = trace.begin()
        try:
            assert docs._direct(SearchRequest.of({"filter": condition}), {"v": query}) is not None
        finally:
            trace.end()
        assert notes.plan_name() in plans
        (arm,) = notes.plan()["arms"]
        assert arm["segments"][0]["rows_scored"] > 0
