"""Several worker processes behind one port: they share calls, are replaced when they die, and stop together."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from vectordb_client import Client, Dense, PreconditionError, Schema, UnavailableError
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.schema import Int

import vectordb
from tests.server.test_serve import ready, serving
from vectordb.server import workers
from vectordb.server.main import start
from vectordb.server.settings import Settings

SCHEMA = Schema({"d": Dense(8)}, {"n": Int()})


def until(condition, seconds=300.0):
    """Waits for a condition; returns what it was."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it didn't come to that"
        time.sleep(0.02)
    return found


def children(process) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """(process, address) of a service with two workers."""
    process = serving(tmp_path_factory.mktemp("workers") / "data", "--port", "0", "--workers", "2", "--grace", "3")
    yield process, ready(process)
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=300)


def test_clients_spread_and_each_reads_what_it_wrote(service):
    process, address = service
    wrong, clients = [], [Client(address) for _ in range(12)]
    clients[0].create_collection("own", SCHEMA)

    def go(number, client):
        docs = client.collection("own")
        for i in range(15):
            docs.upsert(ids=[number], vectors={"d": np.full((1, 8), i + 1.0)}, attributes={"n": [i]})
            # Another connection of the same client may be another worker's.
            client._connect()
            if docs.get(number).attributes["n"] != i or docs.count(f"n >= {i}") < 1 or len(docs.search({"d": np.ones(8)}, limit=1)) != 1:
                wrong.append((number, i))

    threads = [threading.Thread(target=go, args=parts) for parts in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and clients[0].collection("own").count() == 12
    assert len(children(process)) == 2
    for client in clients:
        client.close()


def test_a_worker_that_dies_is_replaced_and_clients_go_on(service):
    process, address = service
    with Client(address, retries=50) as client:
        docs = client.create_collection("dies", SCHEMA)
        docs.upsert(ids=[1], attributes={"n": [1]})
        for pid in children(process):
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: pid not in (now := children(process)) and len(now) == 2)
            assert docs.count() == 1
            docs.upsert(ids=[1], attributes={"n": [2]})
        assert docs.get(1).attributes["n"] == 2


def test_a_worker_that_was_told_to_end_finishes_and_is_replaced(service):
    process, address = service
    with Client(address) as client:
        client.create_collection("ends", SCHEMA, exist_ok=True)
        victim = min(children(process))
        os.kill(victim, signal.SIGTERM)
        until(lambda: victim not in children(process) and len(children(process)) == 2)
        assert client.collection("ends").count() == 0


def test_a_second_service_on_the_port_is_refused(service, tmp_path):
    port = service[1].rpartition(":")[2]
    for options in (("--workers", "2"), ()):
        second = serving(tmp_path / "other", "--port", port, *options)
        out, err = second.communicate(timeout=300)
        assert second.returncode == 1 and out == ""
        assert err.count("\n") == 1 and "can't listen" in err


def test_a_signal_drains_all_of_them(service):
    process, address = service
    pids = children(process)
    with Client(address, retries=0) as client:
        client.create_collection("last", SCHEMA).upsert(ids=list(range(50)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        with pytest.raises(UnavailableError):
            client.collections()
    assert not any(alive(pid) for pid in pids)


def test_workers_end_with_their_supervisor(tmp_path):
    process = serving(tmp_path / "data", "--port", "0", "--workers", "2", "--grace", "1")
    ready(process)
    pids = children(process)
    process.kill()
    process.communicate()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_directory_that_does_not_open_is_said_once(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    process = serving(tmp_path / "file", "--port", "0", "--workers", "3")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err


# ---- The supervisor alone, with other commands than a service ----

READY = "import sys, time; sys.stdin.readline(); print('ready', flush=True); "


def supervisor(script: str, count: int = 2) -> workers.Supervisor:
    return workers.Supervisor((sys.executable, "-S", "-c", script), b"{}\n", count, 0.1)


def test_it_gives_up_when_workers_die_again_and_again(monkeypatch, capfd):
    monkeypatch.setattr(workers, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(workers, "MOST_QUICK", 3)
    assert supervisor(READY + "sys.exit(7)", 1).run(lambda: None) == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 3 and "giving up" in said[-1] and "3 times in a row" in said[-1] and "status 7" in said[-1]


def test_all_are_started_after_the_first_is_ready_and_announced_once(tmp_path):
    made = supervisor(READY + f"open({str(tmp_path)!r} + '/' + str(time.monotonic_ns()), 'w').close(); sys.stdin.read()", 3)
    announced = []

    def announce():
        announced.append(1)
        made.report("signal", signal.SIGTERM)

    assert made.run(announce) == 0
    assert announced == [1]


def test_a_worker_that_will_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(workers, "_LATE_SECONDS", 0.1)
    stubborn = (
        READY.replace("sys.stdin.readline()", "import signal; signal.signal(15, signal.SIG_IGN); sys.stdin.readline()") + "time.sleep(60)"
    )
    made = supervisor(stubborn)
    assert made.run(lambda: made.report("signal", signal.SIGTERM)) == 0


def test_several_workers_need_linux(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InvalidArgumentError) as caught:
        workers.supervise(tmp_path, Settings(workers=2))
    assert caught.value.field == "workers"


# ---- A client is never answered from before its own writes ----


@pytest.fixture
def served(tmp_path):
    """(embedded collection, the same as a client sees it)"""
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, port=0)
        with Client(f"127.0.0.1:{port}", retries=0) as client:
            docs = client.create_collection("docs", SCHEMA)
            yield database, docs
        server.stop(0).wait()


READS = [
    lambda docs: docs.count(),
    lambda docs: docs.get(1),
    lambda docs: docs.search({"d": np.ones(8)}),
    lambda docs: docs.scroll(),
    lambda docs: docs.info(),
]


@pytest.mark.parametrize("read", READS)
def test_a_read_that_comes_too_early_waits_and_then_says_so(served, read, monkeypatch):
    database, docs = served
    number, sequence = database.collection("docs").number, int(docs.upsert(ids=[1], attributes={"n": [1]}))
    read(docs)
    docs._client._service.wrote("docs", number, sequence + 1)
    monkeypatch.setattr("vectordb.server.methods.served._FRESH_SECONDS", 0.05)
    with pytest.raises(UnavailableError) as caught:
        read(docs)
    assert (caught.value.field, caught.value.value) == ("seen", sequence + 1)
    monkeypatch.setattr("vectordb.server.methods.served._FRESH_SECONDS", 20.0)
    writer = threading.Timer(0.1, lambda: database.collection("docs").upsert(ids=[2], attributes={"n": [2]}))
    writer.start()
    read(docs)  # answered once the write is there
    writer.join()
    assert docs.count() == 2


def test_a_collection_made_again_does_not_wait_for_its_namesake(served):
    database, docs = served
    for i in range(5):
        docs.upsert(ids=[i])
    database.drop_collection("docs")
    database.create_collection("docs", SCHEMA).upsert(ids=[7])
    again = docs._client.collection("docs")
    assert again.count() == 1 and [point.id for point in again.iterate()] == [7]


def test_a_write_that_was_refused_moves_nothing(served):
    database, docs = served
    docs.upsert(ids=[1])
    seen = dict(docs._client._service.seen)
    with pytest.raises(PreconditionError):
        docs.upsert(ids=[1], if_version=99)
    assert docs._client._service.seen == seen == {"docs": (database.collection("docs").number, docs.info().sequence)}
