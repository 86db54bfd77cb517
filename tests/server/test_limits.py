"""Limits of a service: request size, waiting calls, calls per second, and fairness during a flood of searches."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vectordb_client import Client, Dense, F, InvalidArgumentError, LimitError, Prefetch, RateLimitError, Schema, Sparse
from vectordb_client.model.schema import Int
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.rpc import calls
from vectordb_client.rpc.methods import METHODS
from vectordb_client.rpc.status import error_of, status_of

import vectordb
from vectordb.common import deadline
from vectordb.server.access import keys
from vectordb.server.access.rates import Rates
from vectordb.server.main import start
from vectordb.server.settings import Settings

SCHEMA = Schema({"d": Dense(4), "s": Sparse()}, {"n": Int()})
VECTOR = {"d": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        database.create_collection("docs", SCHEMA).upsert(ids=range(20), vectors={"d": np.ones((20, 4))}, attributes={"n": list(range(20))})
        yield database


@pytest.fixture
def served(database):
    """From settings to a client of a service that has them."""
    stop = []

    def make(**settings):
        server, port = start(database, port=0, **settings)
        client = Client(f"127.0.0.1:{port}", timeout=300)
        stop.extend((client.close, lambda: server.stop(0).wait()))
        return client

    yield make
    for each in stop:
        each()


def wait_until(holds):
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- Sizes ----

TOO_MUCH = {
    "limit": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.search(VECTOR, limit=11)),
    "limit of a batch": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.search_batch({"d": np.ones((2, 4))}, limit=11)),
    "limit of a stage": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.search(VECTOR, prefetch=Prefetch(VECTOR, limit=11))),
    "candidates": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.search({**VECTOR, "s": {1: 1.0}}, candidates=11)),
    "offset and limit": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.search(VECTOR, limit=5, offset=6)),
    "limit of a page": ({"max_limit": 10}, "max_limit", 11, lambda docs: docs.scroll(limit=11)),
    "queries": ({"max_queries": 3}, "max_queries", 4, lambda docs: docs.search_batch({"d": np.ones((4, 4))})),
    "hits": ({"max_batch_hits": 100}, "max_batch_hits", 102, lambda docs: docs.search_batch({"d": np.ones((2, 4))}, limit=51)),
    "candidates of a batch": (
        {"max_batch_hits": 100},
        "max_batch_hits",
        200,
        lambda docs: docs.search_batch({"d": np.ones((2, 4)), "s": [{1: 1.0}] * 2}, limit=1),
    ),
    "points": ({"max_points": 3}, "max_points", 4, lambda docs: docs.upsert(ids=["a", 1, 2, 3])),
    "points updated": ({"max_points": 3}, "max_points", 4, lambda docs: docs.update(ids=[0, 1, 2, 3], attributes={"n": [1] * 4})),
    "ids to get": ({"max_ids": 3}, "max_ids", 4, lambda docs: docs.get([0, 1, 2, 3])),
    "ids to delete": ({"max_ids": 3}, "max_ids", 4, lambda docs: docs.delete([0, 1, 2, 3])),
    "filter": ({"max_filter_nodes": 2}, "max_filter_nodes", 3, lambda docs: docs.count("n > 1 AND n < 5")),
    "filter as JSON": (
        {"max_filter_nodes": 2},
        "max_filter_nodes",
        3,
        lambda docs: docs.search(VECTOR, filter=(F("n") > 1) & (F("n") < 5)),
    ),
    "filter of a delete": ({"max_filter_nodes": 2}, "max_filter_nodes", 3, lambda docs: docs.delete(filter="n > 1 AND n < 5")),
    "if_filter": (
        {"max_filter_nodes": 2},
        "max_filter_nodes",
        3,
        lambda docs: docs.upsert(ids=[3], if_filter="n > 1 AND n < 5"),
    ),
    "attributes added": ({"max_attributes": 2}, "max_attributes", 3, lambda docs: docs.add_fields(attributes={"m": Int(), "o": Int()})),
    "vector fields added": ({"max_vector_fields": 2}, "max_vector_fields", 3, lambda docs: docs.add_fields(vectors={"e": Dense(2)})),
}


@pytest.mark.parametrize("case", sorted(TOO_MUCH))
def test_too_much_is_refused_by_the_name_of_its_setting(database, served, case):
    settings, setting, value, ask = TOO_MUCH[case]
    docs = served(**settings).collection("docs")
    before = database.collection("docs").info().sequence
    with pytest.raises(
        LimitError,
        match=rf"(is|has) {value}( nodes and values| rows)?, but this service allows at most {settings[setting]} .*setting {setting}\)$",
    ) as caught:
        ask(docs)
    assert caught.value.value == value and caught.value.field
    assert database.collection("docs").info().sequence == before
    wider = served(**{name: value * 2 if name == setting else given for name, given in settings.items()}).collection("docs")
    ask(wider)


def test_a_schema_and_the_number_of_collections_have_limits(served, database):
    client = served(max_vector_fields=2, max_attributes=2, max_collections=2)
    for schema in (Schema({name: Dense(2) for name in "abc"}), Schema({}, {name: Int() for name in "abc"})):
        with pytest.raises(LimitError, match="is 3, but this service allows at most 2"):
            client.create_collection("new", schema)
    client.create_collection("new", SCHEMA)
    with pytest.raises(LimitError, match="max_collections"):
        client.create_collection("more", SCHEMA)
    assert client.create_collection("new", SCHEMA, exist_ok=True).name == "new"
    assert client.collections() == ["docs", "new"]


@pytest.mark.parametrize("ask", [lambda docs: docs.search(VECTOR, limit=100_001), lambda docs: docs.scroll(limit=10**9)])
def test_what_is_wrong_anyway_is_told_as_the_database_tells_it(served, database, ask):
    told = []
    for docs in (served(max_limit=10).collection("docs"), database.collection("docs")):
        with pytest.raises(InvalidArgumentError) as caught:
            ask(docs)
        told.append((type(caught.value), str(caught.value), caught.value.field, caught.value.value))
    assert told[0] == told[1] and told[0][0] is InvalidArgumentError


def test_every_limit_is_finite_by_default():
    for setting in dataclasses.fields(Settings):
        if setting.name.startswith("max_") or setting.name in ("queue", "concurrent_requests", "requests_per_second"):
            assert 0 < setting.default < 1e10


# ---- Calls waiting, and a second ----


@pytest.fixture
def slow(database, monkeypatch):
    """Searches that take until ``release`` is set; ``begun`` counts them."""
    release, begun = threading.Event(), []
    pieces = database.collection("docs").pieces
    real = pieces.search

    def search(*arguments, **named):
        begun.append(1)
        assert release.wait(300)
        return real(*arguments, **named)

    monkeypatch.setattr(pieces, "search", search)
    yield release, begun
    release.set()


def _many(docs, n):
    """n searches at once, as futures of calls."""
    name, request = next(calls.search(docs._remote, SearchRequest({"limit": 1, "with_attributes": False}), VECTOR, None, False))
    method = docs._client._channel.unary_unary(METHODS[name].path, type(request).SerializeToString, METHODS[name].response.FromString)
    return [method.future(request, timeout=20) for _ in range(n)]


def _error(future):
    """What a call failed with, None if it didn't."""
    error = future.exception(timeout=20)
    return None if error is None else error_of(error.code().name, error.details(), dict(error.trailing_metadata())["vectordb-error-bin"])


def test_a_flood_of_searches_is_refused_and_starves_neither_writes_nor_health(served, slow):
    release, begun = slow
    client = served(threads=2, queue=3)
    docs = client.collection("docs")
    futures = _many(docs, 12)
    # Two at work, three waiting; the others are told at once, and when to come again.
    wait_until(lambda: sum(future.done() for future in futures) == 7 and len(begun) == 2)
    refused = [future for future in futures if future.done()]
    error = _error(refused[0])
    assert type(error) is RateLimitError and error.retry_after > 0 and error.field == "queue" and "setting queue" in str(error)
    assert float(dict(refused[0].trailing_metadata())["retry-after"]) == error.retry_after
    assert all(type(_error(future)) is RateLimitError for future in refused)
    assert docs.upsert([{"id": 100, "vectors": VECTOR}]).count == 1
    assert docs.delete([100]).count == 1
    assert client.server_info() and client.collections() == ["docs"]
    with grpc.insecure_channel(client.target) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    assert len(begun) == 2
    release.set()
    assert sum(len(future.result().results) for future in futures if future not in refused) == 5
    assert len(docs.search(VECTOR, limit=3)) == 3


def test_places_come_back_when_callers_give_up(served, slow):
    """Whether at work or still waiting: nothing is counted twice, or for ever."""
    release, begun = slow
    docs = served(threads=1, queue=2, concurrent_requests=3).collection("docs")
    for _ in range(3):
        futures = _many(docs, 3)
        wait_until(lambda: begun)
        for future in futures:
            future.cancel()
        release.set()
        # All three places are free again, sooner or later: three calls at once are taken.
        wait_until(lambda: [_error(future) for future in _many(docs, 3)] == [None] * 3)
        release.clear()
        begun.clear()


def test_calls_of_one_key_are_bounded_and_others_go_on(database, tmp_path, slow, monkeypatch):
    release, _ = slow
    tokens = [keys.create(tmp_path / "data" / "keys.json", "read")[0] for _ in range(2)]
    server, port = start(database, port=0, threads=2, concurrent_requests=2)
    with Client(f"127.0.0.1:{port}", api_key=tokens[0]) as one, Client(f"127.0.0.1:{port}", api_key=tokens[1]) as other:
        docs, theirs = one.collection("docs"), other.collection("docs")
        holders = [threading.Thread(target=docs.search, args=(VECTOR,)) for _ in range(2)]
        for holder in holders:
            holder.start()
        wait_until(lambda: len(slow[1]) == 2)
        with pytest.raises(RateLimitError, match="concurrent_requests") as caught:
            docs.search(VECTOR)
        assert caught.value.retry_after > 0 and tokens[0] not in str(caught.value)
        assert other.server_info()
        release.set()
        for holder in holders:
            holder.join()
        assert len(docs.search(VECTOR, limit=2)) == len(theirs.search(VECTOR, limit=2)) == 2
    server.stop(0).wait()


def test_a_caller_of_one_call_at_a_time_is_never_refused(served):
    docs = served(concurrent_requests=1, threads=1, queue=0).collection("docs")
    for _ in range(200):
        docs.count()


def test_calls_a_second_are_bounded_a_key(database, tmp_path):
    tokens = [keys.create(tmp_path / "data" / "keys.json", "read")[0] for _ in range(2)]
    server, port = start(database, port=0, requests_per_second=0.01)
    with Client(f"127.0.0.1:{port}", api_key=tokens[0]) as one, Client(f"127.0.0.1:{port}", api_key=tokens[1]) as other:
        assert one.server_info()
        with pytest.raises(RateLimitError, match="requests_per_second") as caught:
            one.server_info()
        assert 90 < caught.value.retry_after <= 100
        assert other.server_info()
    server.stop(0).wait()


def test_a_bucket_fills_again_and_holds_a_second(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates = Rates(tmp_path / "rates", 4.0)
    assert [rates.take("a") for _ in range(4)] == [0.0] * 4
    assert rates.take("a") == pytest.approx(0.25) and rates.take("b") == 0.0
    now += 0.25
    assert rates.take("a") == 0.0 and rates.take("a") == pytest.approx(0.25)
    now += 100
    assert [rates.take("a") > 0 for _ in range(5)] == [False] * 4 + [True]
    now = 5.0  # the machine was started again
    assert [rates.take("a") > 0 for _ in range(5)] == [False] * 4 + [True]


def test_a_thousand_keys_have_their_own_buckets(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    rates = Rates(tmp_path / "rates", 1.0)
    assert all(rates.take(f"key {i}") == 0.0 for i in range(keys.MAX_KEYS))
    assert all(rates.take(f"key {i}") > 0.0 for i in range(keys.MAX_KEYS))


def test_processes_share_a_bucket(tmp_path):
    """Together they get what one would: not a call more."""
    code = (
        "import sys, time; from pathlib import Path; from vectordb.server.access.rates import Rates\n"
        "rates = Rates(Path(sys.argv[1]), 2000.0); time.monotonic = lambda: 50.0\n"
        "print(sum(rates.take('a') == 0.0 for _ in range(1500)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rates")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    assert sum(int(worker.communicate(timeout=300)[0]) for worker in workers) == 2000


def test_an_error_keeps_its_seconds_across_the_wire():
    error = RateLimitError("too many", field="queue", retry_after=1.5)
    found = error_of(*status_of(error))
    assert (type(found), str(found), found.field, found.retry_after) == (RateLimitError, "too many", "queue", 1.5)
    assert status_of(error)[0] == "RESOURCE_EXHAUSTED"
    assert error_of("RESOURCE_EXHAUSTED", "too large", None).__class__ is LimitError


# ---- Work that nobody waits for ----


def test_a_search_stops_between_its_arms(database, monkeypatch):
    from vectordb.query.fusion import lists

    docs = database.collection("docs")
    patience, searched = deadline.Deadline(), []
    real = lists.search_arm

    def search_arm(view, search, arm, *rest):
        found = real(view, search, arm, *rest)
        searched.append(arm.name)
        patience.leave()
        return found

    monkeypatch.setattr(lists, "search_arm", search_arm)
    with deadline.scope(patience), pytest.raises(vectordb.DeadlineError):
        docs.search({**VECTOR, "s": {1: 1.0}})
    assert searched == ["d"]
    assert len(docs.search({**VECTOR, "s": {1: 1.0}})) == 10  # this thread's patience is as it was


def test_a_batch_stops_between_its_kernel_calls(database, monkeypatch):
    from vectordb.index import exact as flat

    docs = database.collection("docs")
    patience, calls = deadline.Deadline(), []
    real = flat.dense.dense_topk

    def dense_topk(*arguments):
        calls.append(len(arguments[1]))
        if len(calls) == 2:
            patience.leave()
        return real(*arguments)

    monkeypatch.setattr(deadline, "WORK", 16 * 20 * (4 + flat._ROW_WORK + flat._KEPT_WORK // 2))
    monkeypatch.setattr(flat.dense, "dense_topk", dense_topk)
    queries = np.random.default_rng(0).standard_normal((100, 4))
    with deadline.scope(patience), pytest.raises(vectordb.DeadlineError):
        docs.search_batch({"d": queries}, exact=True)
    assert calls == [16, 16]
    with deadline.scope(deadline.Deadline(60)):
        some = docs.search_batch({"d": queries}, exact=True)
    assert some == docs.search_batch({"d": queries}, exact=True)


@pytest.mark.parametrize("ask", [lambda docs: docs.count("n > 3"), lambda docs: docs.upsert(ids=[1]), lambda docs: docs.delete([1])])
def test_what_is_asked_too_late_is_not_done(database, ask):
    docs = database.collection("docs")
    before = docs.info().sequence
    with deadline.scope(deadline.Deadline(0.0)), pytest.raises(vectordb.DeadlineError):
        ask(docs)
    assert docs.info().sequence == before


def test_a_writer_that_gave_up_neither_fails_nor_parts_those_it_commits_with(database, monkeypatch):
    """One thread commits for all that wait; each write is under its own writer's patience."""
    docs = database.collection("docs")
    committer, transactions = docs._directory.committer, []
    real = committer._commit
    monkeypatch.setattr(committer, "_commit", lambda group: (transactions.append(len(group)), real(group)))
    late = deadline.Deadline()
    outcomes = {}

    def write(number, patience):
        try:
            with deadline.scope(patience):
                outcomes[number] = docs.upsert(ids=[1000 + number]).count
        except vectordb.DeadlineError:
            outcomes[number] = "late"

    with committer._turn:
        threads = [threading.Thread(target=write, args=(i, late if i % 2 else None)) for i in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(committer._waiting) == 6)
        late.leave()
    for thread in threads:
        thread.join()
    assert transactions == [3]
    assert outcomes == {0: 1, 2: 1, 4: 1, 1: "late", 3: "late", 5: "late"}
    assert [point is not None for point in docs.get(list(range(1000, 1006)))] == [True, False] * 3


def test_a_search_of_a_caller_who_has_gone_is_stopped(served, database, monkeypatch):
    stopped, begun = threading.Event(), threading.Event()

    def search(*arguments, **named):
        begun.set()
        end = time.monotonic() + 300
        try:
            while time.monotonic() < end:
                deadline.check()
                time.sleep(0.002)
        except vectordb.DeadlineError:
            stopped.set()
            raise

    monkeypatch.setattr(database.collection("docs").pieces, "search", search)
    docs = served().collection("docs")
    for end in ("cancelled", "late"):
        (future,) = _many(docs, 1) if end == "cancelled" else (None,)
        if future is not None:
            assert begun.wait(300)
            future.cancel()
        else:
            with pytest.raises(vectordb.DeadlineError):
                docs.search(VECTOR, timeout=0.3)
        assert stopped.wait(300)
        stopped.clear()
