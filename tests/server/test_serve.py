"""A service as a process: limits, deadlines, health, orderly start and stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from vectordb_client import (
    Client,
    ClosedError,
    DeadlineError,
    Dense,
    InvalidArgumentError,
    LimitError,
    LockedError,
    Schema,
    UnavailableError,
)
from vectordb_client.model.schema import Int
from vectordb_client.rpc import calls
from vectordb_client.rpc.methods import METHODS, SERVICE
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(8)}, {"n": Int()})


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


def waiting(release: threading.Event, begun: threading.Event | None = None) -> list:
    """A method of the database that takes as long as the test likes."""
    if begun:
        begun.set()
    release.wait(60)
    return []


# ---- Limits ----


@pytest.fixture
def small(database):
    server, port = start(database, port=0, max_message_bytes=64 << 10)
    with Client(f"127.0.0.1:{port}") as client:
        yield client
    server.stop(0).wait()


def test_the_service_says_what_it_takes(client, small):
    assert client.server_info() == {"version": vectordb.__version__, "max_message_bytes": 64 << 20, "max_batch": 100_000}
    assert small.server_info()["max_message_bytes"] == 64 << 10


def test_an_upsert_larger_than_a_message_is_split(small):
    collection = small.create_collection("docs", SCHEMA)
    payload = ["x" * 1000] * 500
    result = collection.upsert(ids=list(range(500)), vectors={"d": np.ones((500, 8))}, payload=payload)
    assert result.count == 500
    assert int(result) == collection.info().sequence >= 8
    assert collection.count() == 500


def test_a_point_larger_than_a_message_is_refused_before_anything_is_sent(small):
    collection = small.create_collection("docs", SCHEMA)
    with pytest.raises(LimitError, match="point 2"):
        collection.upsert(ids=[1, 2], payload=["small", "x" * 70_000])
    assert collection.count() == 0


def test_a_message_that_is_too_large_all_the_same_is_a_limit_error(small):
    collection = small.create_collection("docs", SCHEMA)
    with pytest.raises(LimitError):
        collection.get(["x" * 400 + str(i) for i in range(1000)])


def test_an_answer_too_large_is_a_limit_error_and_a_page_is_made_to_fit(small):
    collection = small.create_collection("docs", SCHEMA)
    collection.upsert(ids=list(range(200)), vectors={"d": np.ones((200, 8))}, payload=["x" * 1000] * 200)
    with pytest.raises(LimitError, match="fewer"):
        collection.search({"d": np.ones(8)}, limit=200)
    with pytest.raises(LimitError, match="fewer"):
        collection.get(list(range(200)))
    assert 0 < len(collection.scroll(limit=200)) < 200
    assert [point.id for point in collection.iterate()] == list(range(200))


# ---- Deadlines, closing, reach ----


def test_a_deadline_that_passed_is_a_deadline_error(database, client, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(database, "collections", lambda: waiting(release))
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        client.collections(timeout=0.2)
    assert time.monotonic() - began < 30
    release.set()


def test_work_whose_caller_has_gone_is_not_begun(tmp_path, monkeypatch):
    done = []
    with vectordb.open(tmp_path / "one") as database:
        server, port = start(database, port=0, write_threads=1)
        release, begun = threading.Event(), threading.Event()
        monkeypatch.setattr(database, "drop_collection", lambda name: waiting(release, begun) if name == "first" else done.append(name))
        with Client(f"127.0.0.1:{port}") as client:
            holder = threading.Thread(target=client.drop_collection, args=("first",))
            holder.start()
            assert begun.wait(300)
            with pytest.raises(DeadlineError):
                client.drop_collection("docs", timeout=0.1)
            release.set()
            holder.join()
            client.drop_collection("last")
        server.stop(0).wait()
    assert done == ["last"]


# ---- Optimizing: a call that may take minutes ----


@pytest.fixture
def optimizing(database, monkeypatch):
    """What the embedded ``optimize`` was asked, and an event that it waits for."""
    asked, release = [], threading.Event()

    def optimize(wait=True, timeout=None):
        asked.append((wait, timeout))
        if wait and not release.wait(10 if timeout is None else timeout):
            raise LockedError("another process maintains the directory", field="timeout", value=timeout)
        return {"segments": 1, "share": float("nan"), "fields": {"d": (1, 2)}}

    collection = database.create_collection("docs", SCHEMA)
    monkeypatch.setattr(collection, "optimize", optimize, raising=False)
    yield asked, release
    release.set()


def test_waiting_for_an_optimize_keeps_nobody_from_searching(database, optimizing):
    asked, release = optimizing
    server, port = start(database, port=0, threads=1)
    with Client(f"127.0.0.1:{port}", timeout=300) as client:
        docs = client.collection("docs")
        holders = [threading.Thread(target=docs.optimize) for _ in range(3)]
        for holder in holders:
            holder.start()
        until = time.monotonic() + 300
        while len(asked) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert docs.count() == 0 and len(docs.search({"d": np.ones(8)})) == 0
        assert docs.optimize(wait=False)["segments"] == 1
        release.set()
        for holder in holders:
            holder.join(300)
            assert not holder.is_alive()
    server.stop(0).wait()


def test_an_optimize_takes_as_long_as_it_takes_unless_told(address, optimizing):
    asked, release = optimizing
    with Client(address, timeout=0.2) as client:
        docs = client.collection("docs")
        threading.Timer(0.6, release.set).start()
        assert docs.optimize() == {"segments": 1, "share": None, "fields": {"d": [1, 2]}}
        assert docs.optimize(timeout=30) == docs.optimize(True, 0.5) == docs.optimize()
    assert asked == [(True, None), (True, 30.0), (True, 0.5), (True, None)]


def test_an_optimize_that_runs_out_of_time_says_what_the_database_says(address, optimizing):
    with Client(address) as client:
        began = time.monotonic()
        with pytest.raises(LockedError) as caught:
            client.collection("docs").optimize(timeout=0.3)
        assert time.monotonic() - began < 30
    assert (caught.value.field, caught.value.value) == ("timeout", 0.3)


def test_an_optimize_answers_before_the_deadline_of_any_client(address, optimizing):
    asked, _ = optimizing
    path = METHODS["Optimize"].path
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(pb.OptimizeRequest(collection="docs").SerializeToString(), timeout=1)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # a LockedError, not DEADLINE_EXCEEDED
    ((wait, timeout),) = asked
    assert wait and 0.3 < timeout < 1


def test_an_optimize_that_does_not_answer_is_given_up(address, database, optimizing, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(database.collection("docs"), "optimize", lambda wait, timeout: waiting(release))
    monkeypatch.setattr(calls, "_ANSWER_SECONDS", 0.2)
    with Client(address) as client, pytest.raises(DeadlineError):
        client.collection("docs").optimize(timeout=0.1)
    release.set()


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, float("nan")])
def test_a_timeout_must_be_seconds(client, timeout):
    with pytest.raises(InvalidArgumentError) as caught:
        client.collections(timeout=timeout)
    assert caught.value.field == "timeout"


@pytest.mark.parametrize("timeout", [None, float("inf")])
def test_a_client_without_a_timeout_waits(address, timeout):
    with Client(address, timeout=timeout) as client:
        assert client.collections() == client.collections(timeout=float("inf")) == []


def test_a_closed_client_says_so(client):
    collection = client.create_collection("docs", SCHEMA)
    client.close()
    client.close()
    for call in (client.collections, collection.count, lambda: collection.upsert(ids=[1]), lambda: list(collection.iterate())):
        with pytest.raises(ClosedError):
            call()


def test_closing_ends_a_call_under_way(database, client, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(database, "collections", lambda: waiting(release))
    threading.Timer(0.2, client.close).start()
    with pytest.raises(ClosedError):
        client.collections()
    release.set()


def test_a_service_that_is_not_there_is_unavailable():
    with Client("127.0.0.1:1", timeout=5) as client, pytest.raises(UnavailableError) as caught:
        client.collections()
    assert caught.value.value == "127.0.0.1:1"


def test_a_client_finds_a_service_that_came_back(database):
    server, port = start(database, port=0)
    with Client(f"127.0.0.1:{port}", timeout=300) as client:
        assert client.collections() == []
        server.stop(0).wait()
        with pytest.raises(UnavailableError):
            client.collections()
        server, _ = start(database, port=port)
        until = time.monotonic() + 300
        while True:
            try:
                assert client.collections() == []
                break
            except UnavailableError:
                assert time.monotonic() < until
                time.sleep(0.05)
        server.stop(0).wait()


def test_many_threads_share_a_client(database, client):
    served = client.create_collection("docs", SCHEMA)
    served.upsert(ids=list(range(50)), vectors={"d": np.random.default_rng(1).standard_normal((50, 8))})
    query = {"d": np.ones(8)}
    expected, failed = database.collection("docs").search(query).ids.tolist(), []

    def ask():
        for _ in range(20):
            if served.search(query).ids.tolist() != expected:
                failed.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# ---- Health, reflection, starting and stopping ----


def test_health_is_serving_even_when_every_thread_is_busy(tmp_path, monkeypatch):
    with vectordb.open(tmp_path / "one") as database:
        release, begun = threading.Event(), threading.Event()
        monkeypatch.setattr(database, "collections", lambda: waiting(release, begun))
        server, port = start(database, port=0, threads=1)
        with Client(f"127.0.0.1:{port}") as client, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            holder = threading.Thread(target=client.collections)
            holder.start()
            assert begun.wait(300)
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", SERVICE.full_name):
                answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=2)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            release.set()
            holder.join()
        server.stop(0).wait()


def test_reflection_names_the_service_and_its_file(address):
    with grpc.insecure_channel(address) as channel:
        requests = iter(
            [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE.full_name),
            ]
        )
        listed, file = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests, timeout=5)
    assert SERVICE.full_name in {service.name for service in listed.list_services_response.service}
    assert b"vectordb/v1/vectordb.proto" in file.file_descriptor_response.file_descriptor_proto[0]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"port": -1}, "port"),
        ({"port": "7070"}, "port"),
        ({"threads": 0}, "threads"),
        ({"max_message_bytes": 10}, "max_message_bytes"),
        ({"host": ""}, "host"),
    ],
)
def test_options_out_of_range_are_refused(database, options, field):
    with pytest.raises(InvalidArgumentError) as caught:
        start(database, **{"port": 0, **options})
    assert caught.value.field == field


def test_a_port_that_is_taken_is_refused(database, address):
    with pytest.raises(UnavailableError, match="can't listen"):
        start(database, port=int(address.rpartition(":")[2]))


def serving(path, *options) -> subprocess.Popen:
    command = [sys.executable, "-m", "vectordb", "serve", "--data", str(path), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})


def ready(process) -> str:
    line = process.stdout.readline()
    found = re.search(r"^vectordb serving .* on (127\.0\.0\.1:\d+) ", line)
    assert found, (line, process.poll() is not None and process.stderr.read())
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_closes_and_exits_with_0(tmp_path, number):
    process = serving(tmp_path / "data", "--port", "0")
    with Client(ready(process)) as client:
        collection = client.create_collection("docs", SCHEMA)
        collection.upsert(ids=list(range(60)), attributes={"n": list(range(60))})
        states = []
        with grpc.insecure_channel(client.target) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE.full_name), timeout=20)
            states.append(next(watch).status)
            process.send_signal(number)
            states.append(next(watch).status)
            watch.cancel()
        assert process.wait(300) == 0
        with pytest.raises(UnavailableError):
            client.collections()
    assert states == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    said = [line.split(" ")[1:4] for line in process.stderr.read().splitlines()]
    assert said == [["info", "vectordb.server:", word] for word in ("serving", "stopping", "stopped")]
    with vectordb.open(tmp_path / "data") as database:
        assert database.collection("docs").count() == 60


def test_a_signal_ends_an_optimize_and_nothing_is_lost(tmp_path):
    process = serving(tmp_path / "data", "--port", "0", "--no-maintenance", "--grace", "0.2")
    outcome = []

    def optimize(collection):
        try:
            outcome.append(collection.optimize())
        except UnavailableError as error:
            outcome.append(type(error))

    with Client(ready(process)) as client:
        collection = client.create_collection("docs", Schema({"d": Dense(64)}))
        vectors = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
        collection.upsert(ids=list(range(20_000)), vectors={"d": vectors})
        assert collection.info().maintenance["state"] == "off"
        waiter = threading.Thread(target=optimize, args=(collection,))
        waiter.start()
        until = time.monotonic() + 300
        while collection.info().maintenance["state"] != "running":
            assert time.monotonic() < until and waiter.is_alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        waiter.join(300)
    assert outcome == [UnavailableError]
    with vectordb.open(tmp_path / "data") as database:
        assert database.collection("docs").count() == 20_000


def test_calls_under_way_are_finished_when_a_signal_comes(tmp_path):
    process = serving(tmp_path / "data", "--port", "0")
    with Client(ready(process)) as client:
        collection = client.create_collection("docs", Schema({"d": Dense(256)}))
        outcome = []

        def write():
            try:
                outcome.append(collection.upsert(ids=list(range(20_000)), vectors={"d": np.ones((20_000, 256), np.float32)}).count)
            except UnavailableError:
                outcome.append(0)  # it had not begun

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        writer.join()
        assert process.wait(300) == 0
    with vectordb.open(tmp_path / "data") as database:
        assert outcome == [database.collection("docs").count()]


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serving(tmp_path / "data", "--port", str(taken.getsockname()[1]))
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert out == "" and err.count("\n") == 1 and "can't listen" in err
    (tmp_path / "file").write_text("not a directory")
    process = serving(tmp_path / "file", "--port", "0")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], "is reachable from other machines"),
        (["--keys-file", "nowhere.json"], "vectordb keys create"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"], "nowhere"),
        (["--port", "7171", "--metrics-port", "7171"], "metrics_port and port are both 7171"),
        (["--audit-log", "nowhere/audit"], "the folder of audit_log"),
        (["--snapshot-dir", "data/snapshots"], "is in the directory of the database"),
        (["--snapshot-dir", "data"], "is in the directory of the database"),
        (["--port", "70000"], "port must be from 0 to 65535"),
        (["--host", "203.0.113.1", "--insecure", "--port", "7171"], "can't listen"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_wrong_settings_are_told_before_anything_is_made(tmp_path, monkeypatch, capsys, flags, said, workers):
    from vectordb import warm
    from vectordb.cli import main

    monkeypatch.setattr(warm, "warm", lambda: pytest.fail("kernels are compiled"))
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--data", str(tmp_path / "data"), "--workers", workers, *flags]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_new_database_is_told_of_and_only_where_its_folder_is(tmp_path):
    for facts in ("a new database, 4 threads", "4 threads"):
        process = serving(tmp_path / "data", "--port", "0")
        assert f"({facts}, " in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=300)
    process = serving(tmp_path / "typo" / "data", "--port", "0")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1 and out == "" and f"no folder {tmp_path / 'typo'} " in err and err.count("\n") == 1
    assert not (tmp_path / "typo").exists()
