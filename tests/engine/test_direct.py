"""Direct searches give what the long way gives, to the last bit, whatever happens around them; what is unusual goes the long way."""

from __future__ import annotations

import time

import numpy as np
import pytest
from vectordb_client import Client
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.direct import DIM, IDS, ROWS, check, check_same, fill, ways
from tests.support.indexed import held_out
from tests.support.places import serving
from vectordb import F
from vectordb.engine import audits
from vectordb.index.dense import kind
from vectordb.index.model import Corrections
from vectordb.query import direct, execute, segments

SELECTIONS = {"all": {}, "none": {"with_attributes": False}, "names": {"with_attributes": ["at", "n"]}}
FILTERS = [None, "n < 700", F("k") == "k3", {"op": "ge", "field": "n", "value": 1_490}, "n = 7", "n = -1", "NOT (n < 0)"]


@pytest.fixture(autouse=True)
def learn_cost(monkeypatch):
    """Searches learn nothing about costs from their times, which would let the plan change between two searches that are compared."""
    learn = Corrections.learn_cost
    monkeypatch.setattr(Corrections, "learn_cost", lambda *given: None)
    return learn


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, recall_audit=0, durability="batched") as database:
        yield database


# Each shape with each metric, and both dtypes with each of either.
FORMS = [
    (shape, metric, ("float32", "float16")[(i + j) % 2])
    for i, shape in enumerate(("scan", "segment", "segment and tail", "segments"))
    for j, metric in enumerate(("cosine", "dot", "l2"))
]


@pytest.mark.parametrize(("shape", "metric", "dtype"), FORMS)
def test_every_form_of_a_field(database, monkeypatch, shape, metric, dtype):
    if shape == "segments":
        monkeypatch.setattr(kind, "MAX_ROWS", 500)
    docs = fill(database, metric=metric, dtype=dtype, indexed={"scan": 0, "segment and tail": 1_200}.get(shape, ROWS))
    if shape == "segments":
        assert len(docs.info().statistics["v"]["segments"]) == 3
    stored = docs.get(3, with_vectors=True).vectors["v"]
    for condition in FILTERS:
        for options in ({}, {"limit": 1, "recall": 0.8}, {"limit": 40, "with_attributes": False}):
            for query in [*held_out(2, DIM), stored]:
                hits, long = ways(docs, query, filter=condition, **options)
                check_same(hits, long)
                assert len(hits) > 0 or condition == "n = -1"


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_form_of_an_id(database, ids, selection):
    docs = fill(database, ids=ids, rows=400, indexed=300)
    for query in held_out(8, DIM):
        check(docs, query, **SELECTIONS[selection])
        check(docs, query, filter="n < 90", limit=100, **SELECTIONS[selection])


def test_every_form_of_a_query(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    locked = query.copy()
    locked.setflags(write=False)
    wide = np.zeros((DIM, 2), np.float32)
    wide[:, 0] = query
    odd = np.frombuffer(b"x" + query.tobytes(), np.uint8)[1:].view(np.float32)
    assert not odd.flags.aligned
    hits = check(docs, query)
    for form in (locked, wide[:, 0], odd, query.astype(np.float64), query.astype(np.float64)[None], query.tolist(), tuple(query.tolist())):
        assert check(docs, form) == hits
    for form in (query.astype(np.float16), np.array(query.tolist(), ">f4"), query.astype(np.int64)):
        check(docs, form)


@pytest.mark.parametrize(
    "query",
    [
        np.zeros(DIM),
        np.full(DIM, np.nan),
        np.full(DIM, 1e300),
        np.ones(DIM - 1),
        np.ones((2, DIM)),
        np.ones(0),
        "text",
        None,
        [["x"] * DIM],
    ],
    ids=str,
)
@pytest.mark.parametrize("single", [True, False])
def test_what_is_wrong_with_a_query_is_said_as_before(database, query, single):
    docs = fill(database, rows=300, indexed=200)
    if single and isinstance(query, np.ndarray):
        with np.errstate(over="ignore"):
            query = query.astype(np.float32)
    check(docs, np.ones(DIM))
    request, said = SearchRequest.of({}), []
    for run in (docs._direct, lambda *given: docs.pieces.search_anything(*given, None, False, execute.whole)):
        try:
            said.append(run(request, {"v": query}))
        except vectordb.VectorDBError as error:
            said.append((type(error), error.message, error.field))
    assert said[0] is None and type(said[1]) is tuple
    with pytest.raises(said[1][0]) as caught:
        docs.search({"v": query})
    assert (type(caught.value), caught.value.message, caught.value.field) == said[1]


def test_tiny_and_huge_queries_go_the_long_way_and_are_answered(database):
    docs = fill(database, rows=300, indexed=200)
    for scale in (1e-20, 1e18):
        hits, long = ways(docs, held_out(1, DIM)[0] * np.float32(scale))
        assert hits is None and len(long) == 10


def test_what_is_not_the_usual_is_not_done_directly(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    for options in ({"exact": True}, {"recall": 1.0}, {"explain": True}, {"with_vectors": True}):
        hits, long = ways(docs, query, **options)
        assert hits is None and len(long) > 0


def test_a_recorded_search_tells_its_plan(database):
    docs = fill(database, indexed=1_200)
    (query,) = held_out(1, DIM)
    check(docs, query, filter="n >= 100")
    explained = docs.search({"v": query}, filter="n >= 100", explain=True).plan
    trace = direct.trace.begin()
    try:
        hits = docs._direct(SearchRequest.of({"filter": "n >= 100"}), {"v": query})
    finally:
        direct.trace.end()
    plan = trace.plan()
    assert hits is not None and trace.plan_name() == explained["arms"][0]["segments"][0]["plan"]
    assert plan["filter"] == explained["filter"] and plan["arms"][0]["tail"]["rows"] == 300 and plan["arms"][0]["candidates"] == 10
    assert plan["arms"][0]["segments"][0]["plan"] == explained["arms"][0]["segments"][0]["plan"]
    assert list(trace.clock.stages) == ["arm v"]


def test_searches_that_are_due_for_an_audit_go_the_long_way(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(segments, "_audit", lambda *given: begun.append(given))
    monkeypatch.setattr(audits, "budget", audits.Budget())
    with vectordb.open(tmp_path, maintenance=False, recall_audit=1 / 8) as database:
        docs = fill(database)
        (query,) = held_out(1, DIM)
        docs.search({"v": query})
        docs.search({"v": query})
        for _ in range(62):
            docs.search({"v": query})
        assert len(begun) == 8


def test_costs_are_learned(database, monkeypatch, learn_cost):
    monkeypatch.setattr(Corrections, "learn_cost", learn_cost)
    docs = fill(database)
    (query,) = held_out(1, DIM)
    check(docs, query)
    (segment,) = database.directory.index_files._open.values()
    before = segment.corrections.table[1].copy()
    for _ in range(64):
        docs._direct(SearchRequest.of({}), {"v": query})
    assert (segment.corrections.table[1] != before).sum() == 1


def test_hits_outlive_what_they_were_found_in(database):
    docs = fill(database, ids="texts")
    (query,) = held_out(1, DIM)
    hits, long = ways(docs, query)
    names, other = ways(docs, query, with_attributes=False)
    docs.delete(filter="ALL")
    database.close()
    time.sleep(0)
    check_same(hits, long)
    check_same(names, other)


def test_searches_of_the_service_are_direct(database, monkeypatch):
    docs, direct_ones, search = fill(database, ids="all kinds", indexed=1_200), [], direct.DirectSearches.search

    def watched(self, *given):
        hits = search(self, *given)
        direct_ones.append(hits is not None)
        return hits

    monkeypatch.setattr(direct.DirectSearches, "search", watched)
    (query,) = held_out(1, DIM)
    with serving(database) as address, Client(address) as client:
        served = client.collection("docs")
        for options in (
            {},
            {"with_attributes": False},
            {"filter": F("n") < 700, "limit": 5, "with_attributes": ["at"]},
            {"filter": {"op": "lt", "field": "n", "value": 700}, "recall": 0.9},
        ):
            del direct_ones[:]
            answers = [served.search({"v": query}, **options) for _ in range(4)]
            # A filter that few rows match is searched by the block of the unfiltered search, which is there from the second query on.
            assert not direct_ones[0] and direct_ones[2:] == [True, True]
            assert all(list(hits) == list(docs.search({"v": query}, **options)) for hits in answers)
