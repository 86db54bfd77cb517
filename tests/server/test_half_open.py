"""Incomplete calls, unread answers and silent connections don't keep other clients from the service."""

from __future__ import annotations

import errno
import re
import resource
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vectordb_client import Client, Dense, Schema, StorageError, UnavailableError

import vectordb
from tests.support.raw_http2 import RawConnection
from vectordb.server import connections, probes, receive
from vectordb.server.access import keys
from vectordb.server.connections import peer_of, too_many
from vectordb.server.main import start
from vectordb.server.telemetry.health import check

METHODS = (
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.health.v1.Health/List",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    *(f"vectordb.v1.VectorDB/{name}" for name in ("ServerInfo", "Search", "Count", "Write", "Optimize", "Changes", "Unknown")),
)
VECTOR = {"d": np.ones(4)}


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        database.create_collection("docs", Schema({"d": Dense(4)})).upsert(ids=[1, 2, 3], vectors={"d": np.ones((3, 4))})
        yield database


@pytest.fixture
def served(database):
    """From settings to the port of a service that has them."""
    stop = []

    def make(**settings):
        server, port = start(database, port=0, **settings)
        stop.append(lambda: server.stop(0).wait())
        return port

    yield make
    for each in stop:
        each()


@pytest.fixture
def raw():
    """Makes raw connections, which are closed at the end."""
    made = []

    def make(port, **more):
        made.append(RawConnection(port, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def wait_until(holds, seconds=300):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def begin_all(raw, port, sockets, each, metadata=None):
    for _ in range(sockets):
        connection = raw(port)
        for method in METHODS:
            for _ in range(each):
                connection.begin("/" + method, metadata)


@pytest.mark.parametrize("keyed", [False, True])
def test_calls_without_a_message_hold_up_nobody(served, raw, tmp_path, keyed):
    token = keys.create(tmp_path / "data" / "keys.json", "admin", vectors=True)[0] if keyed else None
    port = served(threads=1, write_threads=1)
    before = threading.active_count()
    begin_all(raw, port, sockets=3, each=30)
    for _ in range(3):
        check(f"127.0.0.1:{port}", 10)
        with Client(f"127.0.0.1:{port}", api_key=token, timeout=300) as client:
            docs = client.collection("docs")
            assert len(docs.search(VECTOR, limit=2)) == 2 and docs.count() == 3
            assert docs.upsert(ids=[1], vectors={"d": np.ones((1, 4))}).count == 1
    assert threading.active_count() - before < 30  # those of lanes and the like, not one for each of a thousand


def test_who_has_a_key_and_sends_no_message_gives_its_places_back(served, raw, tmp_path):
    token = keys.create(tmp_path / "data" / "keys.json", "read")[0]
    port = served(threads=1, concurrent_requests=3, message_seconds=1.0)
    silent = raw(port)
    for _ in range(3):
        silent.begin("/vectordb.v1.VectorDB/Count", {"authorization": f"Bearer {token}"})
    for _ in range(3):
        assert b"message_seconds" in silent.received()  # the caller is told why
    with Client(f"127.0.0.1:{port}", api_key=token, timeout=300) as client:
        assert client.collection("docs").count() == 3


def test_a_call_that_is_ended_without_a_message_is_told(served, raw):
    port = served()
    for method in ("grpc.health.v1.Health/Check", "vectordb.v1.VectorDB/Count"):
        connection = raw(port)
        connection.end(connection.begin("/" + method))
        answer = connection.received()
        assert b"without the message" in answer and b"12" in answer  # UNIMPLEMENTED, as gRPC says
    with Client(f"127.0.0.1:{port}") as client:
        assert client.collection("docs").count() == 3


def test_a_message_that_comes_late_is_taken(served, raw):
    port = served()
    connection = raw(port)
    stream = connection.begin("/vectordb.v1.VectorDB/ListCollections")
    with Client(f"127.0.0.1:{port}") as client:
        assert client.collections() == ["docs"]
    connection.send(stream)
    assert b"docs" in connection.received()


def test_who_watches_the_health_and_does_not_read_holds_up_nobody(served, raw):
    port = served()
    deaf = raw(port, window=0)
    for method in ("Watch", "Check"):
        for _ in range(30):
            deaf.send(deaf.begin(f"/grpc.health.v1.Health/{method}"), last=method == "Check")
    for _ in range(3):
        check(f"127.0.0.1:{port}", 10)


def test_watching_the_health_still_works_and_is_bounded(served, monkeypatch):
    monkeypatch.setattr(probes, "WATCHES", 2)
    port = served()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20) for name in ("", "nobody knows")]
        assert [next(watch).status for watch in watches] == [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
        ]
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()

        def again():
            try:
                return next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)).status == health_pb2.HealthCheckResponse.SERVING
            except grpc.RpcError:
                return False

        wait_until(again)


def test_messages_without_a_key_are_read_a_few_at_a_time(monkeypatch):
    """One more, and the call that has waited longest is ended."""

    class Arrived:
        readable, request = True, None

        def read(self, then):
            self.then = then

        def abort(self, *why):
            ended.append(self)

    ended = []
    monkeypatch.setattr(receive, "Arrival", lambda *given: given[1][0])
    pool = receive.MessageFirst(1, "test", receive.Overdue(60), most=3)
    calls = [Arrived() for _ in range(5)]
    for call in calls:
        pool.submit(None, call)
    assert ended == calls[:2] and list(pool._reading) == calls[2:]


def test_the_thread_of_timers_ends_where_nothing_is_awaited(monkeypatch):
    monkeypatch.setattr(receive, "IDLE_SECONDS", 0.01)
    timers, late = receive.Overdue(0.01), threading.Event()
    for _ in range(2):  # a later call starts another thread
        late.clear()
        timers.expect("call", late.set)
        watching = timers._thread
        assert late.wait(300)
        if watching is not None:
            watching.join(300)
            assert not watching.is_alive()
        assert timers._thread is None


def test_a_grpc_of_another_make_waits_for_messages_in_its_own_way(served, monkeypatch):
    monkeypatch.setattr(receive, "_KNOWN", False)
    port = served()
    check(f"127.0.0.1:{port}", 10)
    with Client(f"127.0.0.1:{port}", timeout=300) as client:
        assert client.collection("docs").count() == 3


# ---- One key beside another ----


def test_one_key_cannot_hold_all_threads(served, database, tmp_path, monkeypatch):
    file = tmp_path / "data" / "keys.json"
    database.create_collection("one", Schema({"d": Dense(4)})).upsert(ids=[1], vectors={"d": np.ones((1, 4))})
    theirs, ours = (keys.create(file, "read", collections=[name])[0] for name in ("docs", "one"))
    release, begun = threading.Event(), []
    pieces = database.collection("docs").pieces
    real = pieces.search

    def search(*arguments, **named):
        begun.append(1)
        assert release.wait(300)
        return real(*arguments, **named)

    monkeypatch.setattr(pieces, "search", search)
    port = served(threads=2)
    with Client(f"127.0.0.1:{port}", api_key=theirs, timeout=60) as flood, Client(f"127.0.0.1:{port}", api_key=ours, timeout=300) as client:
        docs = flood.collection("docs")
        threads = [threading.Thread(target=docs.search, args=(VECTOR,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(begun) == 2)
        one = client.collection("one")
        for _ in range(5):
            assert len(one.search(VECTOR)) == 1
        assert len(begun) == 2
        release.set()
        for thread in threads:
            thread.join()
    assert len(begun) == 8


# ---- Connections ----


def test_which_connections_are_too_many():
    """Of a peer those beyond its number, the newest first and callers last; in all, while places are short, those that never called."""
    seen = {("a", i): float(i) for i in range(10)} | {("b", i): 20.0 + i for i in range(3)}
    assert too_many(seen, set(), 100, 5, 100.0) == [("a", i) for i in range(5, 10)]
    assert too_many(seen, {("a", 9)}, 100, 5, 100.0) == [("a", i) for i in range(4, 9)]
    assert too_many(seen, set(seen), 100, 20, 100.0) == []
    assert too_many(seen, set(), 20, 20, 100.0) == []
    assert too_many(seen, {("a", 0), ("b", 1)}, 14, 20, 100.0) == [("a", i) for i in range(1, 7)]
    assert too_many(seen, set(seen), 14, 20, 100.0) == []  # who calls stays
    assert too_many(dict.fromkeys(seen, 5.0), set(), 14, 20, 5.0) == []  # they have just come


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("ipv4:127.0.0.1:50000", ("127.0.0.1", 50000)),
        ("ipv6:%5B::1%5D:50000", ("::1", 50000)),
        ("ipv6:[2001:db8::2]:1", ("2001:db8::2", 1)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:7", ("10.0.0.1", 7)),
        ("unix:/run/socket", ("unix:/run/socket", 0)),
        ("", ("", 0)),
    ],
)
def test_a_peer_is_an_address_and_a_port(address, peer):
    assert peer_of(address) == peer


def test_silent_connections_keep_nobody_out(served, raw, tmp_path):
    token = keys.create(tmp_path / "data" / "keys.json", "read")[0]
    port = served(max_connections=20)
    with Client(f"127.0.0.1:{port}", api_key=token, timeout=300) as old:
        assert old.collection("docs").count() == 3
        silent = [raw(port) for _ in range(60)]
        assert old.collection("docs").count() == 3
        check(f"127.0.0.1:{port}", 20)
        with Client(f"127.0.0.1:{port}", api_key=token, timeout=300, retries=10) as new:
            assert new.collection("docs").count() == 3
        wait_until(lambda: sum(each.closed(0.01) for each in silent) >= 50)
        assert old.collection("docs").count() == 3


def test_a_peer_has_so_many_connections_and_others_theirs(served, raw, monkeypatch):
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.1)
    port = served(max_connections_per_peer=5)
    silent = [raw(port, source="127.0.0.2") for _ in range(12)]
    with Client(f"127.0.0.1:{port}", timeout=300) as client:
        assert client.collection("docs").count() == 3
        wait_until(lambda: sum(each.closed(0.01) for each in silent) >= 7)
        time.sleep(0.3)
        assert sum(each.closed(0.01) for each in silent) == 7
        assert client.collection("docs").count() == 3


def test_files_that_cannot_be_opened_are_a_typed_error(served, database, monkeypatch):
    def collections():
        raise OSError(errno.EMFILE, "Too many open files", "/a/secret/path")

    port = served()
    monkeypatch.setattr(database, "collections", collections)
    with Client(f"127.0.0.1:{port}") as client, pytest.raises(StorageError, match=r"Too many open files$") as caught:
        client.collections()
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")
def test_two_workers_of_few_files_outlast_both(tmp_path, raw):
    """What a container's health check sees, what clients see, and what needs files of the service's own."""
    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", Schema({"d": Dense(4)}))
        docs.upsert(ids=range(500), vectors={"d": np.ones((500, 4))})
    token = keys.create(tmp_path / "data" / "keys.json", "admin", vectors=True)[0]
    command = [sys.executable, "-m", "vectordb", "serve", "--data", str(tmp_path / "data"), "--port", "0", "--workers", "2"]
    command += ["--snapshot-dir", str(tmp_path / "snapshots"), "--grace", "1"]
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # noqa: E731
    said = (tmp_path / "said").open("w+")
    with said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, preexec_fn=few) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r" on 127\.0\.0\.1:(\d+) ", line)
            assert found, f"no address: {line!r}; exit status {process.poll()}; stderr: {(tmp_path / 'said').read_text()[-3000:]}"
            port = int(found[1])
            target = f"127.0.0.1:{port}"
            with Client(target, api_key=token, timeout=60) as client:
                docs = client.collection("docs")
                assert docs.count() == 500
                begin_all(raw, port, sockets=10, each=30)
                for _ in range(6):
                    check(target, 10)
                for _ in range(400):
                    raw(port)
                assert docs.count() == 500
                assert client.snapshot("one") and docs.optimize()["done"]
                check(target, 20)
                assert docs.count() == 500
        finally:
            process.terminate()
            process.wait(300)


def test_health_of_a_service_that_is_not_there_is_told_at_once():
    with pytest.raises(UnavailableError, match="refused"):
        check("127.0.0.1:1", 60)
