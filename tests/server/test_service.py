"""A service over an open database: the answers and errors of the embedded database, limits, deadlines, health and orderly stop."""

from __future__ import annotations

import datetime
import itertools
import logging
import sys
import threading
import types
import uuid
from functools import partial

import grpc
import numpy as np
import pytest
from vectordb_client import (
    HNSW,
    RRF,
    AlreadyExistsError,
    Client,
    ClosedError,
    Dense,
    F,
    FilterError,
    ImpactIndex,
    InvalidArgumentError,
    Keyword,
    LimitError,
    Linear,
    MultiVector,
    NotFoundError,
    Plan,
    Point,
    PreconditionError,
    Prefetch,
    Schema,
    SchemaError,
    Sparse,
    UnavailableError,
    VectorDBError,
    WriteResult,
    errors,
)
from vectordb_client.model.schema import Datetime, Geo, Int, Text, Uuid
from vectordb_client.rpc.channel import METHODS
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from vectordb.server.main import start

SCHEMA = Schema(
    {"d": Dense(8), "s": Sparse(), "m": MultiVector(4)},
    {"lang": Keyword(), "n": Int(), "at": Datetime(), "key": Uuid(), "where": Geo(), "tags": Keyword(array=True)},
)
N = 60


def points() -> dict:
    rng = np.random.default_rng(5)
    ids = [i if i % 3 == 0 else f"id {i}" if i % 3 == 1 else uuid.UUID(int=i) for i in range(N)]
    return {
        "ids": ids,
        "vectors": {
            "d": rng.standard_normal((N, 8)),
            "s": [{int(t): float(w) for t, w in zip(rng.integers(0, 20, 4), rng.uniform(0.1, 2, 4), strict=True)} for _ in range(N)],
            "m": [rng.standard_normal((1 + i % 3, 4)) for i in range(N)],
        },
        "attributes": {
            "lang": [("en", "de", None)[i % 3] for i in range(N)],
            "n": list(range(N)),
            "at": [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=i) for i in range(N)],
            "key": [uuid.UUID(int=1000 + i) for i in range(N)],
            "where": [(i / 2, -i) for i in range(N)],
            "tags": [["a", "b"][: i % 3] for i in range(N)],
        },
        "payload": [{"row": i} if i % 2 else None for i in range(N)],
    }


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        yield database


@pytest.fixture
def address(database):
    server, port = start(database, port=0)
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def client(address):
    with Client(address) as client:
        yield client


@pytest.fixture
def both(database, client):
    """(embedded, served) of one filled collection."""
    served = client.create_collection("docs", SCHEMA)
    served.upsert(**points())
    return database.collection("docs"), served


def waiting(release: threading.Event) -> list:
    """A method of the database that takes as long as the test likes."""
    release.wait(60)
    return []


def raw(address, rpc, data, timeout=10.0):
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(METHODS[rpc][0])(data, timeout=timeout)


def same(a, b) -> None:
    """Points or hits are equal, vectors included."""
    assert type(a) is type(b)
    for name in ("id", "score", "attributes", "payload", "version", "arms"):
        assert getattr(a, name, None) == getattr(b, name, None), name
    assert a.vectors.keys() == b.vectors.keys()
    for name, value in a.vectors.items():
        for x, y in zip(value, b.vectors[name], strict=True):
            np.testing.assert_array_equal(x, y)


# ---- The same surface, the same answers ----


def test_collections_are_made_listed_and_dropped(client):
    assert client.collections() == []
    made = client.create_collection("docs", SCHEMA)
    assert made.schema == client.collection("docs").schema == SCHEMA
    assert client.collections() == ["docs"]
    assert client.create_collection("docs", SCHEMA, exist_ok=True).name == "docs"
    with pytest.raises(AlreadyExistsError):
        client.create_collection("docs", SCHEMA)
    client.drop_collection("docs")
    for call in (lambda: client.collection("docs"), lambda: client.drop_collection("docs"), made.count):
        with pytest.raises(NotFoundError):
            call()


def test_writes_return_sequence_and_count(both):
    embedded, served = both
    result = served.upsert([{"id": 1, "vectors": {"d": np.ones(8)}}, Point("x", attributes={"n": 5})])
    assert isinstance(result, WriteResult)
    assert (int(result), result.count) == (embedded.info().sequence, 2)
    assert served.update(ids=["x"], attributes={"lang": ["fr"]}).count == 1
    assert embedded.get("x").attributes["lang"] == "fr"
    assert embedded.get("x").attributes["n"] == 5
    assert served.delete([1, "x", "not there"]).count == 2
    assert served.delete(filter=F("lang") == "de").count == sum(lang == "de" for lang in points()["attributes"]["lang"])


def test_an_update_leaves_what_it_does_not_name_and_takes_away_none(both):
    embedded, served = both
    served.update([{"id": 0, "vectors": {"d": None}, "attributes": {"n": None}}, {"id": 3, "payload": [1]}])
    first, second = embedded.get([0, 3], with_vectors=True)
    assert "d" not in first.vectors and "s" in first.vectors
    assert first.attributes.get("n") is None and first.attributes["lang"] == "en"
    assert second.payload == [1] and second.attributes["n"] == 3 and "d" in second.vectors


def test_gets_are_the_same(both):
    embedded, served = both
    ids = [*points()["ids"][:7], "missing", 0]
    for options in (
        {},
        {"with_vectors": True},
        {"with_vectors": ["s"], "with_attributes": ["at"]},
        {"with_attributes": False},
        {"with_attributes": []},
    ):
        for a, b in zip(embedded.get(ids, **options), served.get(ids, **options), strict=True):
            if a is None:
                assert b is None
            else:
                same(a, b)
    for single in (0, "id 1", uuid.UUID(int=2), np.int64(3)):
        same(embedded.get(single), served.get(single))
    assert served.get("missing") is None
    assert served.get([]) == []


QUERIES = [
    {"d": np.arange(1.0, 9.0)},
    {"s": {3: 1.0, 7: 0.5}},
    {"s": ([3, 7], [1.0, 0.5])},
    {"m": np.ones((2, 4))},
    {"d": np.arange(1.0, 9.0), "s": {3: 1.0}, "m": np.ones((1, 4))},
]
OPTIONS = [
    {},
    {"limit": 3, "exact": True},
    {"limit": 3, "recall": 0.5},
    {"limit": 3, "recall": 1},
    {"limit": 3, "recall": np.float32(0.99), "exact": True},
    {"filter": "n > 20"},
    {"filter": F("lang") == "en", "with_vectors": True},
    {"filter": {"op": "gt", "field": "n", "value": 20}, "with_attributes": ["at", "where"], "with_vectors": ["s"]},
    {"with_attributes": False},
    {"filter": F("at") >= datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)},
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: "+".join(q))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_searches_are_the_same(both, query, options):
    embedded, served = both
    expected, found = embedded.search(query, **options), served.search(query, **options)
    assert len(expected) == len(found) > 0
    for a, b in zip(expected, found, strict=True):
        same(a, b)
    np.testing.assert_array_equal(expected.ids, found.ids)


@pytest.mark.parametrize("fusion", ["relative", "dbsf", RRF(k=5.0, weights={"d": 2.0}), "linear", Linear({"s": 0.25})])
def test_fusions_are_the_same(both, fusion):
    embedded, served = both
    arguments = {"vectors": QUERIES[-1], "fusion": fusion, "candidates": 20}
    for a, b in zip(embedded.search(**arguments), served.search(**arguments), strict=True):
        same(a, b)


def nested(n):
    """n stages."""
    return Prefetch({"d": np.ones(8)}, prefetch=nested(n - 1) if n > 1 else None)


STAGES = [
    Prefetch({"s": {1: 1.0, 2: 1.0, 3: 0.5}}, limit=12),
    Prefetch({"s": {1: 1.0, 2: 1.0}, "d": np.ones(8)}, limit=9, fusion=Linear({"s": 0.5}), candidates=20),
    Prefetch({"m": np.ones((2, 4))}, limit=8, prefetch=Prefetch({"d": np.ones(8)}, limit=30, prefetch=Prefetch({"s": {1: 1.0, 5: 2.0}}))),
]


@pytest.mark.parametrize("stage", STAGES, ids=["one", "fused", "three"])
@pytest.mark.parametrize("options", [{}, {"filter": "n > 20", "limit": 3}, {"recall": 0.9}, {"exact": True}], ids=str)
def test_stages_are_the_same(both, stage, options):
    for vectors, fusion in (({"d": np.arange(8.0)}, "rrf"), ({"d": np.arange(8.0), "s": {1: 1.0, 9: 1.0}}, "linear")):
        answers = [c.search(vectors, prefetch=stage, fusion=fusion, explain=True, **options) for c in both]
        for a, b in zip(*answers, strict=True):
            same(a, b)
        assert 0 < len(answers[0]) <= stage.limit
        plans = [hits.plan for hits in answers]
        depth = 0
        for plan in plans:
            while plan is not None:
                depth += 1
                assert plan.pop("milliseconds")
                plan = plan["prefetch"]
        assert plans[0] == plans[1] and str(plans[0]) == str(plans[1]) and depth == 2 * (4 if stage.prefetch else 2)


def test_stages_of_a_batch_are_the_same(both):
    rng = np.random.default_rng(2)
    vectors, sparse = {"d": rng.standard_normal((3, 8))}, [{1: 1.0, 4: 2.0}, {2: 1.0}, {}]
    expected, found = (c.search_batch(vectors, prefetch=Prefetch({"s": sparse}, limit=6), limit=4) for c in both)
    for q, (a, b) in enumerate(zip(expected, found, strict=True)):
        alone = both[0].search({"d": vectors["d"][q]}, prefetch=Prefetch({"s": sparse[q]}, limit=6), limit=4)
        assert len(a) == len(b) == len(alone)
        for x, y, z in zip(a, b, alone, strict=True):
            same(x, y)
            same(x, z)
    assert len(expected[0]) == 4 and len(expected[2]) == 0  # a query without terms leaves no candidates


def test_an_explained_search_has_its_plan(both):
    expected, found = (c.search(QUERIES[-1], filter="n > 20", explain=True).plan for c in both)
    assert type(expected) is type(found) is Plan
    for plan in (expected, found):
        assert plan.pop("milliseconds").keys() >= {"filter", "fusion", "fetch"}
    assert expected == found and str(expected) == str(found)
    assert both[1].search(QUERIES[0]).plan is None


def test_the_recall_asked_for_reaches_the_database(both, monkeypatch):
    embedded, served = both
    asked, real = [], embedded._search_pieces

    def search(batch, take, given):
        asked.append((given["recall"], given["exact"]))
        return real(batch, take, given)

    monkeypatch.setattr(embedded, "_search_pieces", search)
    for options in ({}, {"recall": 0.5}, {"recall": 1}, {"recall": 0.99, "exact": True}):
        assert served.search({"d": np.ones(8)}, **options) == served.search_batch({"d": np.ones((1, 8))}, **options)[0]
    assert asked == [said for said in ((None, False), (0.5, False), (1.0, False), (0.99, True)) for _ in range(2)]


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_recall_that_is_none_is_refused_from_any_client(both, address, recall):
    column = pb.VectorColumn(field="d", dense=pb.DenseVectors(data=np.ones(8, "<f4").tobytes(), dtype=1, dim=8))
    request = pb.SearchRequest(collection="docs", queries=1, limit=1, vectors=[column], recall=recall)
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, "Search", request.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "recall" in caught.value.details()


def test_batches_of_searches_are_the_same(both):
    embedded, served = both
    dense = np.random.default_rng(1).standard_normal((4, 8))
    sparse = [{1: 1.0}, {2: 1.0, 3: 2.0}, {}, {19: 1.0}]
    for query in ({"d": dense}, {"s": sparse}, {"m": [np.ones((1 + i, 4)) for i in range(4)]}, {"d": dense, "s": sparse}):
        expected, found = (c.search_batch(query, limit=5) for c in both)
        assert len(expected) == len(found) == 4
        for a, b in zip(expected, found, strict=True):
            for x, y in zip(a, b, strict=True):
                same(x, y)
    assert served.search_batch({"d": dense[:1]}) == embedded.search_batch({"d": dense[:1]})
    assert served.search_batch({"d": dense[:0]}) == embedded.search_batch({"d": dense[:0]}) == []


def test_texts_are_encoded_by_the_service(database, client):
    schema = Schema({"words": Sparse(weighting="idf", encoder="bm25", source="body"), "d": Dense(2)}, {"body": Text()})
    served = client.create_collection("texts", schema)
    bodies = ["a quick brown fox", "a lazy dog", "the fox and the dog", "nothing of it"]
    served.upsert(ids=[1, 2, 3, 4], vectors={"d": np.eye(4, 2) + 0.5}, attributes={"body": bodies})
    embedded = database.collection("texts")
    for arguments in ({"text": "quick dog"}, {"text": {"words": "fox"}}, {"text": "fox", "vectors": {"d": [1, 0]}, "limit": 2}):
        expected, found = embedded.search(**arguments), served.search(**arguments)
        assert len(found) > 0 and expected == found
    for arguments in ({"text": ["fox", "dog"]}, {"text": {"words": ["fox", "dog"]}, "vectors": {"d": np.eye(2)}}):
        assert served.search_batch(**arguments) == embedded.search_batch(**arguments)
    with pytest.raises(SchemaError):
        served.search(text={"nope": "fox"})
    with pytest.raises(InvalidArgumentError):
        served.search(text=5)


def test_counts_pages_and_iteration_are_the_same(both):
    embedded, served = both
    for condition in (None, "n < 30", F("lang").isin(["en", "de"])):
        assert served.count(condition) == embedded.count(condition)
        a, b = (list(c.iterate(filter=condition, page=7, with_vectors=True)) for c in both)
        assert len(a) == len(b) == embedded.count(condition)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    first, again = embedded.scroll(limit=10), served.scroll(limit=10)
    assert first.cursor == again.cursor
    assert served.scroll(limit=10, cursor=again.cursor) == embedded.scroll(limit=10, cursor=first.cursor)


def test_sparse_indexes_through_the_service_are_the_same(database, client):
    rng = np.random.default_rng(3)
    rows = [{int(t): float(w) for t, w in zip(rng.integers(0, 60, 8), rng.random(8) + 0.1, strict=True)} for _ in range(400)]
    fields = {"s": Sparse(index=ImpactIndex(levels=8)), "b": Sparse(binary=True), "exact": Sparse(index=None)}
    docs = client.create_collection("sparse", Schema(fields, {"n": Int()}))
    docs.upsert(ids=list(range(400)), vectors=dict.fromkeys(fields, rows), attributes={"n": list(range(400))})
    assert docs.optimize()["segments_built"] == 2
    local = database.collection("sparse")
    assert local.info() == docs.info() and local.schema == docs.schema
    for query in rows[:20]:
        for field, condition in itertools.product(("s", "b"), (None, "n < 100")):
            mine, its = (place.search({field: query}, filter=condition, recall=1.0) for place in (local, docs))
            assert [(hit.id, hit.score) for hit in mine] == [(hit.id, hit.score) for hit in its]
        its = docs.search({"exact": query}, limit=5)
        assert [(hit.id, hit.score) for hit in docs.search({"s": query}, limit=5, recall=1.0)] == [(hit.id, hit.score) for hit in its]
    mine, its = (place.search({"s": rows[0]}, explain=True).plan["arms"][0] for place in (local, docs))
    assert mine.keys() == its.keys() and mine["terms"] == its["terms"] and mine["postings"] == its["postings"]
    assert its["segments"][0].keys() == mine["segments"][0].keys() and its["matched"][0] == mine["matched"][0]


def test_an_optimize_through_the_service_is_the_same(database, client):
    rng = np.random.default_rng(3)
    rows, queries = rng.standard_normal((400, 8)), rng.standard_normal((5, 8))
    said = []
    for name, place in (("embedded", database), ("served", client)):
        docs = place.create_collection(name, Schema({"d": Dense(8), "flat": Dense(8, index=None)}, {"n": Int()}))
        docs.upsert(ids=list(range(400)), vectors={"d": rows, "flat": rows}, attributes={"n": list(range(400))})
        docs.delete(list(range(50)))
        result = docs.optimize()
        assert result.pop("seconds") > 0 and result["done"] and result["rows_dropped"] == 50
        (segment,) = docs.info().statistics["d"]["segments"]
        assert (segment["first"], segment["end"], segment["rows"], segment["dead"]) == (0, 400, 350, 0)
        said.append((result, docs.info().deleted_rows, docs.info().statistics["d"]["tail"], docs.info().maintenance))
        again = docs.optimize(wait=False)
        assert again["done"] is False and again.keys() == result.keys() | {"seconds"}
    assert said[0] == said[1]
    docs = (database.collection("served"), client.collection("served"))
    assert docs[0].info() == docs[1].info()
    for query in queries:
        truth = docs[1].search({"flat": query}, filter="n >= 100", limit=300)
        for exact in ({"exact": True}, {"recall": 1.0}):
            embedded, served = (c.search({"d": query}, filter="n >= 100", explain=True, **exact) for c in docs)
            assert embedded == served == truth[:10] and served.plan["exact"] is embedded.plan["exact"] is True
        # What approximate searches find may change as the planner learns what plans cost; what they say of it may not.
        for recall in (0.5, 0.95):
            for hits in (c.search({"d": query}, filter="n >= 100", explain=True, recall=recall) for c in docs):
                assert len(hits) == 10 and all(hit in truth for hit in hits)
                assert hits.plan["arms"][0]["recall"]["target"] == recall and not hits.plan["exact"]


@pytest.mark.parametrize("index", [None, HNSW(degree=8, ef_construction=40)])
def test_a_field_keeps_its_index_through_the_service(database, client, index):
    served = client.create_collection("docs", Schema({"d": Dense(8, index=index)}))
    served.add_fields(vectors={"more": Dense(2, index=index), "usual": Dense(2)})
    for place in (database, client):
        found = {name: spec.index for name, spec in place.collection("docs").schema.vectors.items()}
        assert found == {"d": index, "more": index, "usual": HNSW()}


def test_a_graph_builder_that_is_not_installed_is_refused_where_it_would_build(database, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    made = Schema({"d": Dense(8, index=HNSW("hnswlib"))})
    caught = []
    for place in (database, client):
        collection = place.create_collection(f"docs{len(caught)}", Schema({"d": Dense(8)}))
        for call in (partial(place.create_collection, "no", made), partial(collection.add_fields, vectors={"e": made.vector("d")})):
            with pytest.raises(SchemaError, match=r"pip install 'hnswlib>=0\.8'") as error:
                call()
            caught.append((error.value.field, error.value.value))
    assert caught == [("graph_builder", "hnswlib")] * 4
    assert database.collections() == ["docs0", "docs2"]


def test_a_graph_builder_that_is_installed_is_taken(database, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", types.ModuleType("hnswlib"))
    schema = Schema({"d": Dense(8, index=HNSW("hnswlib"))})
    assert client.create_collection("docs", schema).schema == database.collection("docs").schema == schema


def test_facts_are_the_same(both):
    embedded, served = both
    assert served.info() == embedded.info()


def test_conditions_hold_or_nothing_is_written(both):
    embedded, served = both
    version = served.get(0).version
    with pytest.raises(PreconditionError) as caught:
        served.upsert(ids=[0], attributes={"n": [1]}, if_version=version + 1)
    with pytest.raises(PreconditionError) as expected:
        embedded.upsert(ids=[0], attributes={"n": [1]}, if_version=version + 1)
    assert (caught.value.field, caught.value.message) == (expected.value.field, expected.value.message)
    assert served.upsert(ids=[0], attributes={"n": [1]}, if_version={0: version}).count == 1
    with pytest.raises(PreconditionError):
        served.delete([3], if_filter=F("n") == 99)
    assert served.delete([3], if_filter="n = 3").count == 1


def test_fields_added_by_another_are_found(both, address):
    embedded, served = both
    with Client(address) as other:
        other.collection("docs").add_fields(vectors={"new": Dense(2)}, attributes={"seen": Datetime()})
    moment = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    served.update([{"id": 0, "vectors": {"new": [1, 2]}, "attributes": {"seen": moment}}])
    assert served.search({"new": [1, 2]})[0].attributes["seen"] == moment
    assert served.schema == embedded.schema


def test_points_may_come_from_a_generator_even_with_a_new_field(both, database):
    embedded, served = both
    database.collection("docs").add_fields(attributes={"late": Int()})
    assert served.upsert({"id": 500 + i, "attributes": {"late": i}} for i in range(3)).count == 3
    assert embedded.get(502).attributes["late"] == 2


# ---- Errors ----


MISTAKES = [
    (lambda c: c.upsert(ids=[1], vectors={"d": [[1, 2]]}), InvalidArgumentError),
    (lambda c: c.upsert(ids=[1, 1]), InvalidArgumentError),
    (lambda c: c.upsert(ids=[1], attributes={"nope": [1]}), SchemaError),
    (lambda c: c.upsert(ids=[1], durability="never"), InvalidArgumentError),
    (lambda c: c.upsert([{"id": 1, "colour": 2}]), InvalidArgumentError),
    (lambda c: c.upsert(ids=["k" * 500]), LimitError),
    (lambda c: c.update(ids=[10**6], attributes={"n": [1]}), NotFoundError),
    (lambda c: c.delete(), InvalidArgumentError),
    (lambda c: c.delete([1], filter="n = 1"), InvalidArgumentError),
    (lambda c: c.delete(filter="n = 1", if_version=3), InvalidArgumentError),
    (lambda c: c.delete([1, 1]), InvalidArgumentError),
    (lambda c: c.get([-1]), InvalidArgumentError),
    (lambda c: c.get(0, with_vectors=["nope"]), InvalidArgumentError),
    (lambda c: c.get(0, with_vectors="d"), InvalidArgumentError),
    (lambda c: c.search(), InvalidArgumentError),
    (lambda c: c.search({"nope": [1]}), SchemaError),
    (lambda c: c.search({"d": [1]}), InvalidArgumentError),
    (lambda c: c.search([1]), InvalidArgumentError),
    (lambda c: c.search({"d": [0] * 8}), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, limit=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, limit=10**9), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=1.5), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=float("nan")), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=True), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall="high"), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8))}, recall=10**400), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, exact=1), InvalidArgumentError),
    (lambda c: c.optimize(wait=1), InvalidArgumentError),
    (lambda c: c.optimize(timeout=-1), InvalidArgumentError),
    (lambda c: c.optimize(timeout="soon"), InvalidArgumentError),
    (lambda c: c.optimize(timeout=True), InvalidArgumentError),
    (lambda c: c.optimize(timeout=float("nan")), InvalidArgumentError),
    (lambda c: c.optimize(timeout=float("inf")), InvalidArgumentError),
    (lambda c: c.optimize(timeout=10**400), InvalidArgumentError),
    (lambda c: c.optimize(wait=False, timeout=float("inf")), InvalidArgumentError),
    (lambda c: c.optimize(wait=None), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, fusion=Linear({"d": -1})), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch={"d": [1] * 8}), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch()), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, limit=0)), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, limit="x")), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, candidates=-1)), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=nested(9)), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8))}, prefetch=Prefetch({"d": np.ones((3, 8))})), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, fusion="best"), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, candidates=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, filter="n >"), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter="nope = 1"), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter={"op": "?"}), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter=7), FilterError),
    (lambda c: c.search(text="hello"), InvalidArgumentError),
    (lambda c: c.search(text={"d": "hello"}), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8)), "s": [{1: 1.0}]}), InvalidArgumentError),
    (lambda c: c.search_batch(text="one"), InvalidArgumentError),
    (lambda c: c.count("n = 'x'"), FilterError),
    (lambda c: c.scroll(cursor="nonsense"), InvalidArgumentError),
    (lambda c: c.scroll(limit=0), InvalidArgumentError),
    (lambda c: c.add_fields(attributes={"n": Int()}), SchemaError),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_raises_the_same_error_embedded_and_served(both, number):
    call, cls = MISTAKES[number]
    caught = []
    for collection in both:
        with pytest.raises(cls) as error:
            call(collection)
        caught.append((type(error.value), error.value.field))
    assert caught[0] == caught[1]


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_of_the_database_reaches_the_caller(database, client, monkeypatch, name):
    cls = getattr(errors, name)

    def refuse():
        raise cls("for a reason", field="path", value=7)

    monkeypatch.setattr(database, "collections", refuse)
    with pytest.raises(VectorDBError) as caught:
        client.collections()
    if cls is ClosedError:  # of the service's database, not of this client
        assert type(caught.value) is UnavailableError
    else:
        assert (type(caught.value), caught.value.message, caught.value.field, caught.value.value) == (cls, "for a reason", "path", 7)


def test_an_unexpected_error_says_nothing_of_the_inside(database, client, monkeypatch, caplog):
    def fail():
        raise KeyError("a secret text")

    monkeypatch.setattr(database, "collections", fail)
    with caplog.at_level(logging.ERROR), pytest.raises(VectorDBError) as caught:
        client.collections()
    assert type(caught.value) is VectorDBError
    assert "secret" not in str(caught.value)
    assert "KeyError" in caplog.text and "_list_collections" in caplog.text
    assert "secret text" not in caplog.text.replace('raise KeyError("a secret text")', "")


@pytest.mark.parametrize("rpc", sorted(METHODS))
def test_bytes_that_are_no_message_are_an_invalid_argument(address, rpc):
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, rpc, b"\x0a\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("rpc", sorted(METHODS))
def test_an_empty_message_is_answered_or_refused_by_name(both, address, rpc):
    try:
        raw(address, rpc, b"")
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "request_",
    [
        pb.SearchRequest(collection="docs", queries=2, limit=1),
        pb.SearchRequest(collection="docs", queries=10_000, batch=True, limit=1),
        pb.SearchRequest(collection="docs", queries=1, limit=1, vectors=[pb.VectorColumn(field="d")]),
        pb.SearchRequest(
            collection="docs",
            queries=1,
            limit=1,
            vectors=[pb.VectorColumn(field="d", rows=b"\0\0\0\0", dense=pb.DenseVectors(data=bytes(32), dtype=1, dim=8))],
        ),
        pb.SearchRequest(collection="docs", queries=1, limit=1, texts=[pb.TextQuery(texts=["a", "b"])]),
        pb.SearchRequest(collection="docs", queries=1, limit=1, texts=[pb.TextQuery(texts=["a"]), pb.TextQuery(field="s", texts=["a"])]),
        pb.SearchRequest(collection="docs", queries=1, limit=1, fusion=pb.Fusion(method="dbsf", k=3)),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(both, address, request_):
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, "Search", request_.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
