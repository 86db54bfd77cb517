"""A client's handle of a collection while others drop, recreate or change it; and concurrent additions of fields."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from vectordb_client import AsyncClient, Client, Dense, Int, Keyword, NotFoundError, Schema, SchemaError, Sparse, Text
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from vectordb.server.main import start

SCHEMA = Schema({"v": Dense(2)}, {"n": Int()})
POINT = {"ids": [1], "vectors": {"v": [[1.0, 0.0]]}, "attributes": {"n": [1]}}


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", durability="batched") as database:
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


CALLS = {
    "upsert": lambda c: c.upsert(**POINT),
    "update": lambda c: c.update(ids=[1], attributes={"n": [2]}),
    "delete": lambda c: c.delete([1]),
    "get": lambda c: c.get(1),
    "search": lambda c: c.search({"v": [1.0, 0.0]}),
    "search_batch": lambda c: c.search_batch({"v": [[1.0, 0.0]]}),
    "count": lambda c: c.count(),
    "scroll": lambda c: c.scroll(),
    "iterate": lambda c: list(c.iterate()),
    "info": lambda c: c.info(),
    "add_fields": lambda c: c.add_fields(attributes={"m": Int()}),
    "optimize": lambda c: c.optimize(),
    "purge": lambda c: c.purge(),
    "changes": lambda c: list(c.changes()),
    "set_terms": lambda c: c.set_terms("s", {1: "one"}),
    "terms": lambda c: c.terms("s"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("other", [SCHEMA, Schema({"v": Dense(3), "s": Sparse()}, {"n": Keyword()})], ids=["same", "another"])
def test_a_handle_of_a_dropped_collection_reaches_no_other_of_its_name(database, client, call, other):
    """Embedded and served: the same error, whatever the new collection looks like; the new collection is as it was."""
    schema = Schema({"v": Dense(2), "s": Sparse()}, {"n": Int()})
    served, embedded = client.create_collection("a", schema), database.collection("a")
    client.drop_collection("a")
    database.create_collection("a", other)
    for handle in (embedded, served):
        with pytest.raises(NotFoundError, match="dropped"):
            CALLS[call](handle)
    new = database.collection("a")
    assert new.count() == 0 and new.schema == other


def test_a_service_that_knows_no_numbers_is_still_asked(client, address):
    """A client of a service of an older version gets no numbers, and asks by name alone."""
    collection = client.create_collection("a", SCHEMA)
    collection._remote.number = 0
    collection.upsert(**POINT)
    assert collection.count() == 1


def test_a_schema_that_others_changed_is_read_again(database, client):
    collection = client.create_collection("a", SCHEMA)
    database.collection("a").add_fields(attributes={"title": Text(), "lang": Keyword()}, vectors={"w": Dense(3)})
    collection.upsert(**POINT)  # its answer tells of the change
    collection.search({"w": [1.0, 0.0, 0.0]})
    assert set(collection.schema.attributes) == {"n", "title", "lang"} and collection.schema.vectors["w"].dim == 3


@pytest.mark.parametrize("call", ["upsert", "get", "search", "count", "scroll", "delete"])
def test_each_answer_tells_of_a_newer_schema(database, client, call):
    collection = client.create_collection("a", SCHEMA)
    collection.upsert(**POINT)
    database.collection("a").add_fields(attributes={"m": Int()})
    CALLS[call](collection)
    collection.update(ids=[1], attributes={"n": [3]}) if call != "delete" else collection.upsert(**POINT)
    assert "m" in collection.schema.attributes


def test_fields_that_exist_may_be_added_again(database, client):
    for handle in (database.create_collection("a", SCHEMA), client.create_collection("b", SCHEMA)):
        wanted = {"attributes": {"n": Int(), "m": Int()}, "vectors": {"v": Dense(2), "w": Dense(3)}}
        handle.add_fields(**wanted, exist_ok=True)
        before = handle.info().sequence
        handle.add_fields(**wanted, exist_ok=True)
        assert handle.info().sequence == before  # nothing was changed
        assert set(handle.schema.attributes) == {"n", "m"} and set(handle.schema.vectors) == {"v", "w"}
        with pytest.raises(SchemaError, match="exist_ok=True"):
            handle.add_fields(attributes={"m": Int()})
        with pytest.raises(SchemaError, match="exists already, as Int"):
            handle.add_fields(attributes={"m": Keyword(), "k": Int()}, exist_ok=True)
        with pytest.raises(SchemaError, match="exists already"):
            handle.add_fields(vectors={"m": Dense(2)}, exist_ok=True)
        with pytest.raises(vectordb.InvalidArgumentError, match="exist_ok"):
            handle.add_fields(attributes={"m": Int()}, exist_ok="yes")
        assert set(handle.schema.attributes) == {"n", "m"}


def test_equal_fields_added_at_once_are_added_once(database, address):
    """Eight clients look at the same schema, then add the same fields."""
    database.create_collection("a", SCHEMA)
    ready, failed = threading.Barrier(8), []

    def add(number: int) -> None:
        with Client(address) as client:
            collection = client.collection("a")
            ready.wait(300)
            try:
                collection.add_fields(attributes={"m": Int(), f"own_{number}": Text()}, vectors={"w": Dense(3)}, exist_ok=True)
                collection.upsert(ids=[number], vectors={"w": [[1.0, 0.0, 0.0]]}, attributes={"m": [number]})
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failed == []
    found = database.collection("a")
    assert set(found.schema.attributes) == {"n", "m", *(f"own_{number}" for number in range(8))} and found.count() == 8


# ---- Event loops ----


def test_one_async_client_works_in_one_loop_after_another(address):
    client = AsyncClient(address)

    async def story(name: str) -> int:
        collection = await client.create_collection(name, SCHEMA)
        await collection.upsert(**POINT)
        return await collection.count()

    assert [asyncio.run(story(f"c{i}")) for i in range(3)] == [1, 1, 1]
    assert len(client._connections) == 1  # those of loops that have ended are let go
    asyncio.run(client.close())
    with pytest.raises(vectordb.ClosedError):
        asyncio.run(client.collections())


def test_one_async_client_works_in_several_loops_at_once(address):
    client = AsyncClient(address)
    ready, failed = threading.Barrier(4), []

    async def story(number: int) -> None:
        collection = await client.create_collection(f"c{number}", SCHEMA)
        ready.wait(300)
        for _ in range(20):
            await collection.upsert(**POINT)
            if (await collection.count()) != 1:
                raise AssertionError("a write isn't seen")

    def run(number: int) -> None:
        try:
            asyncio.run(story(number))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failed == []
    asyncio.run(client.close())


def test_large_batches_are_encoded_off_the_loop(address, monkeypatch):
    """The messages of a large batch are made, and its answers read, in a thread; those of a small one on the loop."""
    threads = {}
    for name in ("WriteRequest", "SearchRequest"):
        made = getattr(pb, name)

        def make(*args, made=made, name=name, **kwargs):
            threads[name] = threading.current_thread()
            return made(*args, **kwargs)

        monkeypatch.setattr(pb, name, make)

    async def story() -> None:
        async with AsyncClient(address) as client:
            collection = await client.create_collection("a", SCHEMA)
            loop = threading.current_thread()
            for n, elsewhere in ((1, False), (500, True)):
                vectors = np.random.default_rng(n).standard_normal((n, 2))
                await collection.upsert(ids=list(range(n)), vectors={"v": vectors})
                await collection.search_batch({"v": vectors}, limit=1)
                assert [(thread is not loop) for thread in threads.values()] == [elsewhere, elsewhere]
            await collection.upsert({"id": i, "vectors": {"v": [1.0, 0.0]}} for i in range(3))  # of unknown length
            assert threads["WriteRequest"] is not loop

    asyncio.run(story())
