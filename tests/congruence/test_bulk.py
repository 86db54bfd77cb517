"""Bulk writes, embedded and served: chunks are sent in parallel, and refused points are listed and don't stop the others."""

from __future__ import annotations

import inspect
import threading

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import Dense, InvalidArgumentError, LimitError, NotFoundError, Point, Schema, Sparse
from vectordb_client.model.schema import Int, Keyword

import vectordb

SCHEMA = Schema({"d": Dense(4), "s": Sparse()}, {"n": Int(), "k": Keyword()})


@pytest.fixture
def docs(database):
    return database.create_collection("docs", SCHEMA)


def points(n: int):
    return ({"id": i, "vectors": {"d": [i, 1, 0, 0]}, "attributes": {"n": i, "k": "x"}} for i in range(n))


def test_points_of_any_iterable(docs):
    result = docs.bulk(points(1050), chunk=100)
    assert (result.count, result.failed) == (1050, ()) and result.sequence == docs.info().sequence == 11
    assert docs.count() == 1050 and docs.get(1049).attributes == {"n": 1049, "k": "x"}


def test_columns(docs):
    n = 230
    sparse = scipy.sparse.random(n, 50, 0.2, format="coo", dtype=np.float32, random_state=1)
    columns = {
        "ids": np.arange(n),
        "vectors": {"d": np.ones((n, 4), np.float32), "s": sparse},
        "attributes": {"n": list(range(n)), "k": ["x"] * n},
        "payload": [{"p": i} for i in range(n)],
    }
    assert docs.bulk(**columns, chunk=64, parallel=3).count == n == docs.count("n >= 0")
    found = docs.get(200, with_vectors=True)
    assert found.payload == {"p": 200} and found.attributes["n"] == 200
    terms, weights = found.vectors["s"]
    assert dict(zip(terms.tolist(), weights.tolist())) == dict(zip(sparse.tocsr()[200].indices.tolist(), sparse.tocsr()[200].data.tolist()))


def test_points_that_cannot_be_taken_are_listed(docs):
    given = list(points(500))
    given[3] = Point("", {"d": [1, 2, 3, 4]})
    given[77] = Point("seven", {"d": [1, 2]})
    given[78] = {"id": 78, "vectors": {"d": [0, 0, 0, 0]}}
    given[499] = {"id": 499, "attributes": {"n": "many"}}
    result = docs.bulk(given, chunk=100, parallel=2)
    assert [(failed.position, failed.id) for failed in result.failed] == [(3, ""), (77, "seven"), (78, 78), (499, 499)]
    assert all(isinstance(failed.error, InvalidArgumentError) for failed in result.failed)
    assert "2 dimensions" in str(result.failed[1].error) and result.failed[2].error.field == "d"
    assert result.count == docs.count() == 496


def test_columns_name_the_ids_that_failed(docs):
    vectors = np.ones((90, 4), np.float32)
    vectors[50, 2] = np.nan
    result = docs.bulk(ids=[f"p{i}" for i in range(90)], vectors={"d": vectors}, chunk=32)
    assert [(failed.position, failed.id) for failed in result.failed] == [(50, "p50")] and docs.count() == 89


def test_one_at_a_time_the_last_of_an_id_wins(docs):
    again = [{"id": i % 10, "attributes": {"n": i}} for i in range(95)]
    result = docs.bulk(again, chunk=10, parallel=1)
    assert result.failed == () and [docs.get(i).attributes["n"] for i in range(10)] == [90, 91, 92, 93, 94, 85, 86, 87, 88, 89]


def test_progress_is_told(docs):
    told = []
    given = list(points(95))
    given[90] = {"id": 90, "vectors": {"d": [1]}}
    docs.bulk(given, chunk=10, parallel=3, progress=lambda *so_far: told.append(so_far))
    assert len(told) == 10 and told == sorted(told) and told[-1] == (94, 1)


def test_progress_draws_a_bar(docs, capsys):
    docs.bulk(list(points(20)), chunk=5, progress=True)
    assert "20/20" in capsys.readouterr().out


def test_nothing_is_little(docs):
    assert docs.bulk([]) == docs.bulk(ids=[]) and docs.bulk([]).count == 0


def test_points_are_read_as_they_are_needed(docs):
    read, told = [], []

    def endless():
        for point in points(100_000):
            read.append(point["id"])
            yield point

    def stop(written, failed):
        told.append(len(read))
        raise KeyError("enough")

    with pytest.raises(KeyError):
        docs.bulk(endless(), chunk=10, parallel=2, progress=stop)
    assert told == [told[0]] and len(read) <= 60 and docs.count() <= 60


def test_what_is_not_about_a_point_ends_it(docs, monkeypatch):
    read = []

    def some():
        for point in points(100_000):
            if point["id"] == 500:
                name = "vectordb.collection.Collection.apply_batch"
                monkeypatch.setattr(name, lambda *_, **__: (_ for _ in ()).throw(NotFoundError("the collection was dropped")))
                monkeypatch.setattr("vectordb.collection.Collection.upsert", lambda *_, **__: (_ for _ in ()).throw(NotFoundError("gone")))
            read.append(1)
            yield point

    with pytest.raises(NotFoundError):
        docs.bulk(some(), chunk=50, parallel=2)
    monkeypatch.undo()
    assert len(read) < 1000 and docs.count() <= 500


def test_a_rate_limit_is_not_the_fault_of_points(tmp_path, monkeypatch):
    error = LimitError("too fast")
    error.retry_after = 1.0
    calls = []

    def upsert(self, *_, **__):
        calls.append(1)
        raise error

    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", SCHEMA)
        monkeypatch.setattr("vectordb.collection.Collection.upsert", upsert)
        with pytest.raises(LimitError):
            docs.bulk(points(100), chunk=50, parallel=1)
    assert len(calls) <= 2


WRONG = [
    ({"chunk": 0}, "chunk"),
    ({"chunk": True}, "chunk"),
    ({"parallel": 65}, "parallel"),
    ({"progress": "yes"}, "progress"),
    ({"points": None}, "points"),
    ({"ids": [1]}, "points"),
    ({"points": None, "vectors": {"d": np.ones((1, 4))}}, "ids"),
    ({"points": None, "ids": [1, 2], "vectors": {"d": np.ones((1, 4))}}, "d"),
    ({"points": None, "ids": [1, 2], "payload": [1]}, "payload"),
    ({"points": None, "ids": [1], "vectors": [1]}, "vectors"),
    ({"points": {"id": 1}}, "points"),
    ({"points": "abc"}, "points"),
]


def test_wrong_arguments_are_refused_before_anything_is_written(docs):
    for options, field in WRONG:
        with pytest.raises(InvalidArgumentError) as caught:
            docs.bulk(**{"points": [{"id": 1}], **options})
        assert caught.value.field == field and docs.count() == 0, options


def test_several_chunks_are_under_way_at_a_time(tmp_path, monkeypatch):
    """Each of the first three waits for the other two."""
    together = threading.Barrier(3)
    original = vectordb.Collection.upsert

    def upsert(self, *arguments, **options):
        together.wait(20)
        return original(self, *arguments, **options)

    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", SCHEMA)
        monkeypatch.setattr(vectordb.Collection, "upsert", upsert)
        assert docs.bulk(points(6), chunk=1, parallel=3).count == 6


def test_a_bulk_takes_what_an_upsert_takes_but_conditions():
    upsert, bulk = (set(inspect.signature(method).parameters) for method in (vectordb.Collection.upsert, vectordb.Collection.bulk))
    assert bulk - upsert == {"chunk", "parallel", "progress"} and upsert - bulk == {"if_version", "if_filter", "if_absent"}
