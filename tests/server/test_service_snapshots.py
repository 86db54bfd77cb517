"""Snapshots through the service: never outside the configured folder, and nobody waits for them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from vectordb_client import Client

from vectordb import Dense, InvalidArgumentError, PreconditionError, Schema
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
