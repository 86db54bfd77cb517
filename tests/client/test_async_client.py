"""The asyncio client has the methods, answers and errors of the blocking client."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from vectordb_client import (
    AsyncClient,
    Client,
    ClosedError,
    DeadlineError,
    Dense,
    InvalidArgumentError,
    Keyword,
    LimitError,
    Schema,
    Sparse,
)
from vectordb_client.rpc.aio import AsyncCollection
from vectordb_client.rpc.client import Collection

import vectordb
from tests.support.paths import ROOT
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(4), "s": Sparse()}, {"lang": Keyword()})


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        yield database


@pytest.fixture
def address(database):
    server, port = start(database, port=0, max_message_bytes=64 << 10)
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def fill(client_collection):
    rng = np.random.default_rng(3)
    return client_collection.upsert(
        ids=list(range(50)),
        vectors={"d": rng.standard_normal((50, 4)), "s": [{i % 5: 1.0 + i} for i in range(50)]},
        attributes={"lang": ["en", "de"] * 25},
    )


def waiting(release: threading.Event) -> list:
    """A method of the database that takes as long as the test likes."""
    release.wait(60)
    return []


def public(cls) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(cls, lambda member: inspect.isfunction(member) or isinstance(member, property))
    return {name: inspect.signature(member) if inspect.isfunction(member) else None for name, member in found if not name.startswith("_")}


def parameters(signature: inspect.Signature) -> list:
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize(("blocking", "awaited"), [(Client, AsyncClient), (Collection, AsyncCollection)])
def test_both_clients_have_the_same_methods_and_arguments(blocking, awaited):
    a, b = public(blocking), public(awaited)
    assert a.keys() == b.keys()
    for name, signature in a.items():
        if signature is not None:
            assert parameters(signature) == parameters(b[name]), name


@pytest.mark.parametrize(
    ("embedded", "served", "own"),
    [
        (vectordb.Database, Client, {"path", "flush", "target", "server_info", "status"}),
        (vectordb.Collection, Collection, {"name", "schema", "apply_batch", "number", "reached", "revision"}),
    ],
)
def test_a_client_has_the_methods_and_arguments_of_the_embedded_database(embedded, served, own):
    a, b = public(embedded), public(served)
    assert a.keys() - own == b.keys() - own
    for name in a.keys() - own:
        expected = parameters(a[name])
        waits = "timeout" in [p[0] for p in expected]  # as long as it takes, embedded too
        found = [p for p in parameters(b[name]) if p[0] != "timeout" or waits]
        assert [p[0] for p in found] == [p[0] for p in expected], name
        assert found == expected, name


def test_an_optimize_is_awaited_without_the_clients_limit(address, database, monkeypatch):
    asked = []

    def optimize(wait, timeout):
        asked.append((wait, timeout))
        time.sleep(0.5 if wait else 0)
        return {"done": wait}

    monkeypatch.setattr(database.create_collection("docs", SCHEMA), "optimize", optimize)

    async def ask():
        async with AsyncClient(address, timeout=0.2) as client:
            docs = await client.collection("docs")
            assert await docs.optimize() == await docs.optimize(timeout=9) == {"done": True}
            assert await docs.optimize(wait=False, timeout=None) == {"done": False}
            for wrong in ({"wait": 1}, {"timeout": "soon"}):
                with pytest.raises(InvalidArgumentError):
                    await docs.optimize(**wrong)

    asyncio.run(ask())
    assert asked[:2] == [(True, None), (True, 9.0)] and len(asked) == 3 and asked[2][0] is False


def test_writes_and_schema_changes_work(address):
    async def change():
        async with AsyncClient(address) as client:
            docs = await client.create_collection("docs", SCHEMA)
            assert (await fill(docs)).count == 50
            await docs.add_fields(attributes={"more": Keyword()})
            assert (await docs.update(ids=[1], attributes={"more": ["x"]})).count == 1
            assert (await docs.get(1)).attributes["more"] == "x"
            assert (await docs.delete(filter="lang = 'de'")).count == 25
            split = await docs.upsert(ids=list(range(100, 300)), payload=["x" * 1000] * 200)
            assert split.count == 200 and int(split) == (await docs.info()).sequence
            with pytest.raises(LimitError):
                await docs.upsert(ids=[1], payload=["x" * 100_000])
            await client.drop_collection("docs")
            assert await client.collections() == []

    asyncio.run(change())


def test_a_forgotten_await_says_so(address, database):
    database.create_collection("docs", SCHEMA)

    async def run():
        async with AsyncClient(address) as client:
            for call, text in (
                (lambda: client.collection("docs").search, "client.collection('docs') has to be awaited before .search is used"),
                (lambda: client.create_collection("more", SCHEMA).upsert, "write await client.create_collection('more')"),
                (lambda: client.__enter__(), "write async with AsyncClient(…) as client"),
                (lambda: list(client), "write async for name in client"),
            ):
                with pytest.raises(vectordb.InvalidArgumentError) as caught:
                    call()
                assert text in str(caught.value)
            docs = await asyncio.create_task(client.collection("docs"))
            with pytest.raises(vectordb.InvalidArgumentError, match="write async for point in collection"):
                list(docs)
            assert [one.name for one in await asyncio.gather(client.collection("docs"), asyncio.wait_for(client.collection("docs"), 60))]
            with pytest.raises(vectordb.InvalidArgumentError, match="write async with"), client:  # a plain `with`
                pass
            assert await client.collections() == ["docs"]

    asyncio.run(run())


def test_many_searches_run_at_once(address):
    async def ask():
        async with AsyncClient(address) as client:
            docs = await client.create_collection("docs", SCHEMA)
            await fill(docs)
            results = await asyncio.gather(*(docs.search({"d": np.eye(4)[i % 4]}, limit=3) for i in range(100)))
            assert all(results[i] == results[i % 4] and len(results[i]) == 3 for i in range(100))

    asyncio.run(ask())


def test_a_deadline_passes_and_a_task_is_cancelled(address, database, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(database, "collections", lambda: waiting(release))

    async def wait():
        async with AsyncClient(address) as client:
            with pytest.raises(DeadlineError):
                await client.collections(timeout=0.1)
            task = asyncio.create_task(client.collections())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(wait())
    release.set()


def test_a_closed_client_says_so(address, database, monkeypatch):
    release = threading.Event()

    async def close():
        client = AsyncClient(address)
        docs = await client.create_collection("docs", SCHEMA)
        monkeypatch.setattr(database, "collections", lambda: waiting(release))
        under_way = asyncio.create_task(client.collections())
        await asyncio.sleep(0.1)
        await client.close()
        await client.close()
        with pytest.raises(ClosedError):
            await under_way
        for call in (client.collections, docs.count):
            with pytest.raises(ClosedError):
                await call()

    asyncio.run(close())
    release.set()


def test_a_client_may_be_made_before_there_is_a_loop(address):
    client = AsyncClient(address)

    async def use():
        async with client:
            return await client.collections()

    assert asyncio.run(use()) == []


def test_the_asyncio_client_is_generated_from_the_blocking_one():
    pytest.importorskip("ruff")
    done = subprocess.run([sys.executable, ROOT / "tools/generate_aio.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docstrings_are_those_of_the_blocking_client_and_await():
    for blocking, awaited in ((Client, AsyncClient), (Collection, AsyncCollection)):
        for name in public(blocking):
            of_blocking, of_awaited = (inspect.getdoc(getattr(cls, name)).splitlines() for cls in (blocking, awaited))
            assert len(of_blocking) == len(of_awaited), name
    assert (
        "await docs.upsert(data_frame)" in AsyncCollection.upsert.__doc__ and "page = await docs.scroll(" in AsyncCollection.scroll.__doc__
    )
    assert "await client.collection" in AsyncClient.__doc__ and "async with AsyncClient" in AsyncClient.__doc__


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
