"""Snapshots and purges through the service: the same as embedded, and never outside the configured folder."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from vectordb_client import AsyncClient, Client

import vectordb
from vectordb import AlreadyExistsError, Dense, InvalidArgumentError, NotFoundError, PreconditionError, Schema
from vectordb.maintenance import backup
from vectordb.server.main import start


@pytest.fixture
def client(database, tmp_path):
    (tmp_path / "snapshots").mkdir()
    server, port = start(database, port=0, threads=1, snapshot_dir=str(tmp_path / "snapshots"))
    with Client(f"127.0.0.1:{port}") as client:
        collection = client.create_collection("c", Schema({"v": Dense(4)}))
        collection.upsert(ids=list(range(20)), vectors={"v": np.random.default_rng(0).standard_normal((20, 4))})
        yield client
    server.stop(0).wait()


@pytest.mark.parametrize("archive", [False, True])
def test_a_snapshot_lies_in_the_services_folder_and_can_be_restored(client, tmp_path, archive):
    manifest = client.snapshot("monday-1.tar", archive=archive)
    assert manifest["path"] == str(tmp_path / "snapshots" / "monday-1.tar") and manifest["collections"]["c"] == {
        "sequence": 1,
        "points": 20,
    }
    assert backup.check(manifest["path"]).ok
    vectordb.restore(manifest["path"], tmp_path / "back")
    with pytest.raises(AlreadyExistsError):
        client.snapshot("monday-1.tar")


@pytest.mark.parametrize("name", ["", ".", "..", "../out", "a/b", "/tmp/x", ".hidden", "a\\b", "a\x00b", "x" * 101, "ü", "a b", "a\n"])
def test_a_name_is_no_path(client, tmp_path, name):
    with pytest.raises(InvalidArgumentError, match="name") as caught:
        client.snapshot(name)
    assert caught.value.field == "path"
    assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_of_snapshots_inside_the_database_is_refused(database, directory, tmp_path, linked):
    (tmp_path / "link").symlink_to(directory)
    folder = (tmp_path / "link" if linked else directory) / "snapshots"
    server, port = start(database, port=0, snapshot_dir=str(folder))
    with Client(f"127.0.0.1:{port}") as client, pytest.raises(InvalidArgumentError, match="is in the directory of the database"):
        client.snapshot("x")
    server.stop(0).wait()
    assert not folder.exists()


def test_without_a_folder_there_are_no_snapshots(database):
    server, port = start(database, port=0)
    with Client(f"127.0.0.1:{port}") as client, pytest.raises(PreconditionError, match="snapshot_dir"):
        client.snapshot("x")
    server.stop(0).wait()


def test_a_purge_through_the_service_is_the_embedded_one(database, client):
    collection = client.collection("c")
    collection.delete([1, 2])
    result = collection.purge()
    assert result["proven"] and result["done"] and result["rows_dropped"] == result["ids"] == 2
    assert result.keys() == database.collection("c").purge().keys() == client.purge().keys()
    client.drop_collection("c")
    with pytest.raises(NotFoundError):
        collection.purge()


def test_the_asyncio_client_too(client):
    async def use():
        async with AsyncClient(client.target) as other:
            collection = await other.collection("c")
            return [await other.snapshot("async"), await other.purge(), await collection.purge(timeout=60)]

    manifest, whole, one = asyncio.run(use())
    assert manifest["collections"]["c"]["points"] == 20 and whole["proven"] and one["proven"]


def test_a_snapshot_under_way_keeps_nobody_from_searching(database, client, monkeypatch):
    """The service has one thread for calls; snapshots wait elsewhere."""
    begun, release = threading.Event(), threading.Event()

    def waits(*_, **__):
        begun.set()
        assert release.wait(60)
        return {"path": "nowhere"}

    monkeypatch.setattr(database, "snapshot", waits)
    found = []
    thread = threading.Thread(target=lambda: found.append(client.snapshot("x")))
    thread.start()
    try:
        assert begun.wait(60)
        assert client.collection("c").count(timeout=30) == 20
    finally:
        release.set()
        thread.join(300)
    assert found == [{"path": "nowhere"}]
