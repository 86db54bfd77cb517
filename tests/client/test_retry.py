"""The client retries failed calls only if that is safe, and a forked process gets its own connection."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import grpc
import pytest
from vectordb_client import (
    AsyncClient,
    Client,
    DeadlineError,
    Dense,
    InvalidArgumentError,
    LimitError,
    LockedError,
    PreconditionError,
    Schema,
    UnavailableError,
)
from vectordb_client.model.schema import Int
from vectordb_client.rpc.retry import pause_before_retry
from vectordb_client.rpc.status import DETAIL_KEY, status_of
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(4)}, {"n": Int()})
UNAVAILABLE, TOO_MANY = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


class Flaky(grpc.GenericRpcHandler):
    """In front of a service: fails the next calls of a method as it is told, and counts the calls."""

    def __init__(self):
        self.failures: dict[str, list[tuple]] = {}
        self.calls: dict[str, int] = {}

    def fail(self, method: str, times: int, code: grpc.StatusCode = UNAVAILABLE, metadata: tuple = ()) -> None:
        self.failures[method], self.calls = [(code, metadata)] * times, {}

    def service(self, details):
        method = details.method.rpartition("/")[2]
        self.calls[method] = self.calls.get(method, 0) + 1
        if not self.failures.get(method):
            return None
        code, metadata = self.failures[method].pop()

        def behavior(request, context):
            context.set_trailing_metadata(metadata)
            context.abort(code, "not now")

        return grpc.unary_unary_rpc_method_handler(behavior)


@pytest.fixture
def flaky():
    return Flaky()


@pytest.fixture
def address(tmp_path, flaky, monkeypatch):
    made = grpc.server

    def server(*arguments, **options):
        built = made(*arguments, **options)
        built.add_generic_rpc_handlers((flaky,))
        return built

    monkeypatch.setattr("vectordb.server.main.grpc.server", server)
    with vectordb.open(tmp_path / "data") as database:
        running, port = start(database, port=0)
        yield f"127.0.0.1:{port}"
        running.stop(0).wait()


@pytest.fixture
def docs(address):
    with Client(address) as client:
        docs = client.create_collection("docs", SCHEMA)
        docs.upsert(ids=list(range(20)), attributes={"n": list(range(20))})
        yield docs


def detail(error) -> tuple:
    return ((DETAIL_KEY, status_of(error)[2]),)


@pytest.mark.parametrize("code", [UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_read_is_made_again_until_it_is_answered(docs, flaky, code):
    flaky.fail("Count", 3, code)
    assert docs.count() == 20 and flaky.calls["Count"] == 4


def test_a_read_is_given_up_after_so_many_tries(docs, flaky):
    flaky.fail("Count", 100)
    with pytest.raises(UnavailableError):
        docs.count()
    assert flaky.calls["Count"] == 6


def test_without_retries_there_is_one_try(address, docs, flaky):
    with Client(address, retries=0) as client:
        flaky.fail("Count", 1)
        with pytest.raises(UnavailableError):
            client.collection("docs").count()
    assert flaky.calls["Count"] == 1


def test_tries_end_with_the_deadline(address, docs, flaky):
    with Client(address, retries=100) as client:
        flaky.fail("Count", 1000)
        with pytest.raises((UnavailableError, DeadlineError)):
            client.collection("docs").count(timeout=0.5)
    assert 1 < flaky.calls["Count"] < 20


def test_a_rate_limit_says_when_to_come_back(docs, flaky):
    flaky.fail("Count", 2, TOO_MANY, (("retry-after", "0.2"),))
    began = time.monotonic()
    assert docs.count() == 20 and flaky.calls["Count"] == 3
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("metadata", [(), (("retry-after", "soon"),), (("retry-after", "-1"),), (("retry-after", "3600"),)])
def test_a_limit_that_stays_or_outlasts_the_deadline_is_raised_at_once(docs, flaky, metadata):
    flaky.fail("Count", 1, TOO_MANY, metadata)
    with pytest.raises(LimitError):
        docs.count()
    assert flaky.calls["Count"] == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.ABORTED])
def test_nothing_else_is_made_again(docs, flaky, code):
    flaky.fail("Count", 1, code)
    with pytest.raises(vectordb.VectorDBError):
        docs.count()
    assert flaky.calls["Count"] == 1


def test_a_lock_that_the_service_has_waited_for_is_raised_at_once(docs, flaky):
    flaky.fail("Count", 1, metadata=detail(LockedError("another process writes")))
    with pytest.raises(LockedError):
        docs.count()
    assert flaky.calls["Count"] == 1


WRITES = {
    "upsert": lambda docs, **condition: docs.upsert(ids=[1], attributes={"n": [7]}, **condition),
    "update": lambda docs, **condition: docs.update(ids=[1], attributes={"n": [7]}, **condition),
    "delete": lambda docs, **condition: docs.delete([1], **condition),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_without_a_condition_is_made_again(docs, flaky, name):
    method = "Delete" if name == "delete" else "Write"
    flaky.fail(method, 2)
    assert WRITES[name](docs).count == 1 and flaky.calls[method] == 3


@pytest.mark.parametrize("condition", [{"if_version": 1}, {"if_filter": "n = 1"}])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_with_a_condition_only_where_nothing_was_done(docs, flaky, name, condition):
    method = "Delete" if name == "delete" else "Write"
    flaky.fail(method, 1)
    with pytest.raises(UnavailableError):
        WRITES[name](docs, **condition)
    assert flaky.calls[method] == 1
    flaky.fail(method, 1, metadata=detail(UnavailableError("the service is shutting down")))
    assert WRITES[name](docs, **condition).count == 1 and flaky.calls[method] == 2


def test_a_collection_is_made_again_only_if_it_may_exist(address, docs, flaky):
    with Client(address) as client:
        flaky.fail("CreateCollection", 1)
        with pytest.raises(UnavailableError):
            client.create_collection("new", SCHEMA)
        flaky.fail("CreateCollection", 1)
        client.create_collection("new", SCHEMA, exist_ok=True)
        flaky.fail("DropCollection", 1)
        with pytest.raises(UnavailableError):
            client.drop_collection("new")
        assert client.collections() == ["docs", "new"]


def test_iterating_goes_on_where_it_was(docs, flaky):
    found = []
    for point in docs.iterate(page=3):
        if len(found) % 3 == 0:
            flaky.fail("Scroll", 2)
        found.append(point.id)
    assert found == list(range(20))


def test_the_asyncio_client_does_the_same(address, docs, flaky):
    async def ask():
        async with AsyncClient(address) as client:
            others = await client.collection("docs")
            flaky.fail("Count", 3)
            assert await others.count() == 20 and flaky.calls["Count"] == 4
            flaky.fail("Write", 1)
            with pytest.raises(UnavailableError):
                await others.upsert(ids=[1], if_version=1)
            assert flaky.calls["Write"] == 1
            flaky.fail("Count", 1, TOO_MANY, (("retry-after", "0.1"),))
            assert await others.count() == 20
            flaky.fail("Count", 1, TOO_MANY)
            with pytest.raises(LimitError):
                await others.count()
            flaky.fail("Scroll", 2)
            assert [point.id async for point in others.iterate(page=7)] == list(range(20))
        async with AsyncClient(address, retries=0) as client:
            flaky.fail("ListCollections", 1)
            with pytest.raises(UnavailableError):
                await client.collections()

    asyncio.run(ask())


def test_pauses_grow_to_two_seconds():
    request = pb.CountRequest()
    for attempt in range(12):
        longest = min(0.05 * 2**attempt, 2.0)
        for _ in range(20):
            pause = pause_before_retry("UNAVAILABLE", (), "Count", request, attempt, None)
            assert longest / 2 <= pause <= longest
    assert pause_before_retry("UNAVAILABLE", (), "Count", request, 9, 0.5) is None
    assert pause_before_retry("DEADLINE_EXCEEDED", (), "Count", request, 0, None) is None
    assert pause_before_retry("UNAVAILABLE", (), "Purge", request, 0, None) is None
    assert pause_before_retry("UNAVAILABLE", detail(PreconditionError("x")), "Purge", request, 0, None) is not None


@pytest.mark.parametrize("retries", [-1, 101, 1.5, True, None, "many"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_retries_must_be_a_number(kind, retries):
    with pytest.raises(InvalidArgumentError) as caught:
        kind("localhost:1", retries=retries)
    assert caught.value.field == "retries"


FORK = """
import asyncio, os, sys, threading
from vectordb_client import AsyncClient, Client, ClosedError
client, other, mode = Client(sys.argv[1], timeout=20), AsyncClient(sys.argv[1], timeout=20), sys.argv[2]
client.collections()
if mode == "async":
    asyncio.run(other.collections())
if mode == "inside":
    docs = client.collection("docs")
    threading.Thread(target=lambda: docs.optimize(timeout=20), daemon=True).start()
    from vectordb_client.rpc.channel import _inside_grpc
    while not any(_inside_grpc(f) for t, f in sys._current_frames().items() if t != threading.get_ident()):
        pass
pid = os.fork()
if pid == 0:
    try:
        answer = asyncio.run(other.collections()) if mode == "async" else client.collections()
        print("child", answer, flush=True)
    except ClosedError as error:
        print("child", error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", client.collections(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("mode", "said"), [("idle", "child ['docs']"), ("async", "start processes with 'spawn'"), ("inside", "start processes with 'spawn'")]
)
def test_after_a_fork_the_child_connects_anew_or_says_that_it_cannot(tmp_path, mode, said, monkeypatch):
    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", SCHEMA)
        monkeypatch.setattr(docs, "optimize", lambda wait, timeout: time.sleep(3) or {"done": True})
        server, port = start(database, port=0)
        command = [sys.executable, "-c", FORK, f"127.0.0.1:{port}", mode]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
        server.stop(0).wait()
    child, parent = done.stdout.splitlines()
    assert child.startswith("child") and said in child, done.stderr
    assert parent == "parent ['docs']"
