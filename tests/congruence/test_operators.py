"""Databases and collections as containers: ``db["docs"]``, ``len(docs)``, ``id in docs``, iteration; the same embedded and served."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from vectordb_client import AsyncClient, Client

import vectordb
from vectordb import Dense, Int, InvalidArgumentError, NotFoundError, Schema
from vectordb.server.main import start

SCHEMA = Schema({"v": Dense(2)}, {"n": Int()})


@pytest.fixture
def address(database):
    server, port = start(database, port=0)
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture(params=["embedded", "served"])
def db(request, database):
    if request.param == "embedded":
        yield database
        return
    with Client(request.getfixturevalue("address")) as client:
        yield client


def test_a_database_contains_its_collections_by_name(db):
    assert len(db) == 0 and list(db) == [] and "docs" not in db
    docs = db.create_collection("docs", SCHEMA)
    db.create_collection("more", SCHEMA)
    assert list(db) == ["docs", "more"] and len(db) == 2
    assert "docs" in db and "other" not in db and 3 not in db
    docs.upsert(ids=[1], attributes={"n": [5]})
    assert db["docs"].get(1).attributes == {"n": 5}
    with pytest.raises(NotFoundError, match="docs, more"):
        db["other"]


def test_a_collection_contains_points_by_id(db):
    docs = db.create_collection("docs", SCHEMA)
    key = uuid.uuid4()
    docs.upsert(ids=[1, "a", key], attributes={"n": [1, 2, 3]})
    assert len(docs) == 3
    assert 1 in docs and "a" in docs and key in docs
    assert "1" not in docs and 2 not in docs
    for wrong in (None, 1.5, [1, "a"], -1):
        with pytest.raises(InvalidArgumentError, match="id"):
            wrong in docs  # noqa: B015


def test_iteration_reads_every_point_once_in_the_order_of_ids(db):
    docs = db.create_collection("docs", SCHEMA)
    docs.upsert(ids=[*range(2500), "b", "a"])
    found = []
    for point in docs:
        if point.id == 10:
            docs.delete([11, 2400])  # one on a page that was read already, one on a later page
            docs.upsert(ids=[2499])
        found.append(point.id)
    assert found == [*range(2400), *range(2401, 2500), "a", "b"]


def test_empty_databases_and_collections_are_true(db):
    assert bool(db) and bool(db.create_collection("docs", SCHEMA))


def test_a_page_is_a_sequence_of_points(db):
    docs = db.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2, 3])
    page = docs.scroll(limit=2)
    assert [point.id for point in page] == [1, 2] and len(page) == 2
    assert page[0].id == 1 and page[-1].id == 2 and [point.id for point in page[1:]] == [2]
    assert repr(page) == f"Page(2 points: 1, 2; cursor={page.cursor!r})"


def test_names_of_other_databases_say_what_to_write(db):
    docs = db.create_collection("docs", SCHEMA)
    for owner, name, advice in (
        (db, "get_collection", r"collection\(name\)"),
        (db, "get_or_create_collection", "exist_ok=True"),
        (db, "query", r"collection\(name\)\.search"),
        (docs, "query", "search"),
        (docs, "add", "upsert"),
        (docs, "clear", 'filter="ALL"'),
    ):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; write .*{advice}") as error:
            getattr(owner, name)
        assert isinstance(error.value, InvalidArgumentError) and error.value.field == name
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        docs.nonsense  # noqa: B018


def test_arguments_of_other_databases_say_what_to_write(db):
    docs = db.create_collection("docs", SCHEMA)
    for call, advice in (
        (lambda: docs.search({"v": [1, 2]}, offset=3), r"hits\[offset:\]"),
        (lambda: docs.search({"v": [1, 2]}, score_threshold=3), "hit.score >="),
        (lambda: docs.search_batch({"v": [[1, 2]]}, nprobe=3), "recall="),
        (lambda: docs.delete(all=True), 'filter="ALL"'),
        (lambda: docs.search({"v": [1, 2]}, 3), r"takes vectors by position, and the others by name: text=…, filter=…, limit=…"),
        (lambda: db.create_collection("x", vectors={}), "write schema="),
        (lambda: db.create_collection("x", {"v": 4}), r"write Schema\(vectors="),
        (lambda: docs.delete(), 'filter="ALL" deletes all points'),
    ):
        with pytest.raises(InvalidArgumentError, match=advice):
            call()


def test_deleting_by_the_filter_all_empties_a_collection(db):
    docs = db.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2, 3])
    assert docs.delete(filter="ALL").count == 3 and len(docs) == 0


def test_the_asyncio_client_iterates_and_refuses_operators_that_cannot_wait(address, database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=range(1500))

    async def scenario():
        async with AsyncClient(address) as client:
            assert [name async for name in client] == ["docs"]
            remote = await client.collection("docs")
            assert [point.id async for point in remote] == list(range(1500))
            assert bool(client) and bool(remote)
            for attempt, advice in (
                (lambda: client["docs"], r"await client.collection\('docs'\)"),
                (lambda: "docs" in client, r"'docs' in await client.collections\(\)"),
                (lambda: len(client), r"len\(await client.collections\(\)\)"),
                (lambda: list(client), "async for"),
                (lambda: len(remote), r"await collection.count\(\)"),
                (lambda: 1 in remote, r"await collection.get\(1\) is not None"),
                (lambda: list(remote), "async for"),
            ):
                with pytest.raises(TypeError, match=advice) as error:
                    attempt()
                assert isinstance(error.value, InvalidArgumentError)
            with pytest.raises(AttributeError, match="write search"):
                remote.query  # noqa: B018

    asyncio.run(scenario())


def test_the_address_of_a_service_is_not_a_directory_and_memory_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("localhost:7070", "https://db.example.org"):
        with pytest.raises(InvalidArgumentError, match="Client"):
            vectordb.open(address)
    with vectordb.open(":memory:") as db:
        db.create_collection("docs", SCHEMA).upsert(ids=[1])
        assert len(db["docs"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_names_missing_in_the_package_say_where_they_are():
    with pytest.raises(AttributeError, match="from vectordb_client import Client"):
        vectordb.Client  # noqa: B018
    with pytest.raises(AttributeError, match="open"):
        vectordb.connect  # noqa: B018
