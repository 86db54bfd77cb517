"""The change stream, embedded and served: ordered, resumable, limited, and sufficient to build an equal collection."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from vectordb_client import Client

import vectordb
from tests.support.upkeep import until
from vectordb import (
    Change,
    ClosedError,
    DeadlineError,
    Dense,
    Int,
    InvalidArgumentError,
    Keyword,
    LimitError,
    MultiVector,
    NotFoundError,
    Schema,
    Sparse,
    UnavailableError,
)
from vectordb.query import changes

SCHEMA = Schema({"v": Dense(4), "s": Sparse(), "m": MultiVector(3)}, {"n": Int(), "k": Keyword(array=True)})


@pytest.fixture
def settings():
    return {"max_message_bytes": 64 << 10, "change_streams": 2}


@pytest.fixture
def collection(embedded):
    """The collection that changes, embedded."""
    return embedded.create_collection("c", SCHEMA)


@pytest.fixture
def watched(collection, database):
    """The same collection, as the reader of its changes has it."""
    return database.collection("c")


only_served = pytest.mark.parametrize("database", ["served"], indirect=True)


def point(i, seed: int) -> dict:
    rng = np.random.default_rng([hash(i) % 2**32, seed])
    v = {"v": rng.standard_normal(4).astype(np.float32), "s": {int(t): float(t) for t in rng.integers(1, 9, 2)}}
    if seed % 2:
        v["m"] = rng.standard_normal((2, 3)).astype(np.float32)
    return {"id": i, "vectors": v, "attributes": {"n": seed, "k": ["a", str(seed)]}, "payload": {"seed": seed}}


def some_ids(rng, n: int) -> list:
    return [rng.choice([i, f"id {i}", uuid.UUID(int=i)]) for i in rng.sample(range(40), n)]


def write_something(rng, collection, k: int) -> None:
    kind = rng.choice(["upsert", "upsert", "upsert", "update", "delete", "filter", "optimize"])
    if kind == "upsert":
        collection.upsert([point(i, k) for i in some_ids(rng, rng.choice([1, 2, 9]))])
    elif kind == "update":
        there = [p.id for p in collection.scroll(limit=100)]
        if there:
            collection.update(ids=[rng.choice(there)], attributes={"n": [k]})
    elif kind == "delete":
        collection.delete(some_ids(rng, 3))
    elif kind == "filter":
        collection.delete(filter=f"n < {k - 30}")
    else:
        collection.optimize()


def apply(change: Change, target) -> None:
    """What a replica does."""
    if change.kind == "schema":
        added = {name: spec for name, spec in change.schema.attributes.items() if name not in target.schema.attributes}
        if added:
            target.add_fields(attributes=added)
    elif change.kind == "delete":
        target.delete(list(change.ids))
    elif change.ids:
        assert tuple(p.id for p in change.points) == change.ids and {p.version for p in change.points} == {change.sequence}
        target.upsert(change.points)


def contents(collection) -> dict:
    found = {}
    for p in collection.iterate(with_vectors=True):
        vectors = {name: [part.tolist() for part in (value if isinstance(value, tuple) else (value,))] for name, value in p.vectors.items()}
        found[p.id] = (vectors, p.attributes, p.payload)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_an_equal_collection_is_built_from_the_stream(embedded, collection, watched, seed):
    """By pieces of random length, while the other one goes on changing and being compacted."""
    rng = random.Random(seed)
    replica = embedded.create_collection("replica", SCHEMA)
    at = 0
    for k in range(60):
        write_something(rng, collection, k)
        if k == 30:
            collection.add_fields(attributes={"late": Int()})
        if rng.random() < 0.3:
            stream = watched.changes(at, with_vectors=True, with_attributes=True)
            for change in itertools.islice(stream, rng.choice([1, 3, 100])):
                assert change.sequence == at + 1
                apply(change, replica)
                at = change.sequence
    for change in watched.changes(at, with_vectors=True, with_attributes=True):
        apply(change, replica)
        at = change.sequence
    assert at == collection.info().sequence
    assert contents(replica) == contents(collection) and replica.count() > 5
    assert replica.schema == collection.schema
    assert list(watched.changes(at)) == []


def test_what_a_change_says(collection, watched):
    collection.upsert([point(i, 1) for i in (1, "two", uuid.UUID(int=3))])
    collection.upsert([point(1, 2)])
    collection.delete(["two", 1, "nothing"])
    collection.add_fields(attributes={"late": Int()})
    first, second, third, fourth = watched.changes()
    assert first == Change(1, "write", (uuid.UUID(int=3),)) and second == Change(2, "write", ())
    assert third.kind == "delete" and set(third.ids) == {"two", 1} and third.points is None
    assert fourth == Change(4, "schema", schema=collection.schema)
    assert list(watched.changes(since=3)) == [fourth]
    change = next(iter(watched.changes(with_attributes=["n"])))
    assert change.points[0].attributes == {"n": 1} and change.points[0].vectors == {} and change.points[0].version == 1
    change = next(iter(watched.changes(with_vectors=["v"])))
    assert list(change.points[0].vectors) == ["v"] and change.points[0].attributes == {}


def test_a_large_batch_is_one_change(collection, watched):
    """Over the wire it takes many messages of 64 KiB."""
    n = 3_000
    ids = [f"a rather long id of point {i:>20}" for i in range(n)]
    collection.upsert(ids=ids, vectors={"v": np.ones((n, 4))}, attributes={"n": list(range(n))})
    collection.upsert(ids=[1], vectors={"v": np.ones((1, 4))})
    for wanted in ({}, {"with_attributes": True, "with_vectors": True}):
        large, small = watched.changes(**wanted)
        assert large.ids == tuple(ids) and small.ids == (1,)
        if wanted:
            assert [p.attributes["n"] for p in large.points] == list(range(n))
    collection.delete(ids)
    assert len(next(iter(watched.changes(2))).ids) == n


@only_served
def test_a_point_larger_than_a_message_is_refused_by_name(collection, watched):
    collection.upsert(ids=[1], payload=["x" * 100_000])
    assert [change.ids for change in watched.changes()] == [(1,)]
    with pytest.raises(LimitError, match="change 1 takes"):
        list(watched.changes(with_attributes=True))


def test_wrong_arguments_are_refused_at_once(collection, watched):
    collection.upsert([point(1, 1)])
    for since in (-1, 1.5, True, "0", None, 2**64):
        with pytest.raises(InvalidArgumentError, match="since"):
            list(watched.changes(since))
    with pytest.raises(InvalidArgumentError, match="since is 2, but the newest sequence is 1"):
        list(watched.changes(2))
    with pytest.raises(InvalidArgumentError, match="follow"):
        list(watched.changes(follow=1))
    with pytest.raises(InvalidArgumentError, match="timeout"):
        list(watched.changes(timeout=0))
    with pytest.raises(InvalidArgumentError, match="with_vectors"):
        list(watched.changes(with_vectors=["nope"]))


def test_changes_that_are_not_kept_any_more_say_which_are(embedded, collection, watched):
    vectordb.open(embedded.path, change_log_batches=5).close()  # of the directory, whichever handle writes
    for k in range(12):
        collection.upsert([point(k, k)])
    assert [change.sequence for change in watched.changes(7)] == [8, 9, 10, 11, 12]
    with pytest.raises(NotFoundError, match="oldest change in the log is 8") as caught:
        list(watched.changes(6))
    assert caught.value.field == "since"


def test_a_purge_forgets_what_was_deleted_and_says_so(collection, watched):
    collection.upsert([point(k, 1) for k in range(5)])
    collection.delete([1, 2])
    collection.upsert([point(k, 1) for k in range(5, 8)])
    collection.purge()
    with pytest.raises(NotFoundError, match="since is less than 2") as caught:
        list(watched.changes())
    assert caught.value.field == "since"
    assert [change.ids for change in watched.changes(2)] == [(5, 6, 7)]


def test_a_dropped_collection_ends_a_stream_with_an_error(embedded, collection, watched):
    collection.upsert([point(1, 1)])
    stream = iter(watched.changes(follow=True, timeout=60))
    assert next(stream).sequence == 1
    embedded.drop_collection("c")
    with pytest.raises(NotFoundError):
        next(stream)


def test_following_waits_for_more_and_ends_in_time(collection, watched):
    collection.upsert([point(1, 1)])
    found = []
    reader = threading.Thread(target=lambda: found.extend(watched.changes(follow=True, timeout=1.5)))
    begun = time.monotonic()
    reader.start()
    until(lambda: len(found) == 1)
    for k in range(2, 6):
        collection.upsert([point(k, k)])
        until(lambda k=k: len(found) == k)
    reader.join(300)
    assert not reader.is_alive() and time.monotonic() - begun >= 1.4
    assert [change.ids for change in found] == [(k,) for k in range(1, 6)]


def test_following_sees_what_another_process_writes_and_survives_a_purge(directory, collection, watched, worker):
    found = []
    two = itertools.islice(watched.changes(follow=True, timeout=60), 2)
    reader = threading.Thread(target=lambda: found.extend(two), daemon=True)
    reader.start()
    worker.call(write_and_purge, str(directory), 1)
    until(lambda: len(found) == 1)
    worker.call(write_and_purge, str(directory), 2)
    reader.join(300)
    assert [change.ids for change in found] == [(1,), (2,)]


def write_and_purge(path, i):
    with vectordb.open(path) as database:
        collection = database.collection("c")
        collection.upsert([point(i, i)])
        collection.purge()


def test_following_ends_when_the_database_is_closed(embedded, collection):
    ends = threading.Thread(target=lambda: list(collection.changes(follow=True)))
    ends.start()
    embedded.close()
    ends.join(300)
    assert not ends.is_alive()
    with pytest.raises(ClosedError):
        collection.changes()


def test_a_stream_without_follow_raises_when_time_runs_out(collection):
    for k in range(3):
        collection.upsert([point(k, k)])
    stream = collection.changes(timeout=0.05)
    next(stream)
    time.sleep(0.06)
    with pytest.raises(DeadlineError):
        list(stream)


@only_served
def test_streams_are_bounded_and_leave_searches_alone(collection, watched):
    """Two streams are allowed, and as many as are open: the third is refused by name, and one that ends makes room."""
    collection.upsert([point(1, 1)])
    streams = [iter(watched.changes(follow=True, timeout=60)) for _ in range(2)]
    for stream in streams:
        assert next(stream).sequence == 1
    with pytest.raises(LimitError, match="change_streams") as caught:
        list(watched.changes())
    assert caught.value.field == "change_streams"
    for _ in range(10):
        assert watched.count(timeout=30) == 1
    streams[0].close()

    def room():
        try:
            return len(list(watched.changes()))
        except LimitError:
            return 0

    assert until(room) == 1


def test_a_stream_ends_with_the_service_and_with_the_client(embedded, collection):
    collection.upsert([point(1, 1)])
    stopping = threading.Event()
    from vectordb.server.main import _start
    from vectordb.server.settings import Settings

    server, _, port = _start(embedded, Settings(port=0), stopping=stopping)
    try:
        with Client(f"127.0.0.1:{port}") as client:
            stream = iter(client.collection("c").changes(follow=True))
            next(stream)
            stopping.set()
            with pytest.raises(UnavailableError, match="shutting down"):
                next(stream)
            stopping.clear()
            stream = iter(client.collection("c").changes(follow=True))
            next(stream)
        assert list(stream) == []
        with pytest.raises(ClosedError):
            client._stream("Changes", None, None, None, True)
    finally:
        server.stop(0).wait()


def test_a_file_put_in_place_by_a_purge_is_noticed_though_it_counts_the_same_transactions():
    replaced = SimpleNamespace(newest_transaction=lambda: 5, map_moves=1)
    assert changes._waited(replaced, (5, 0), time.monotonic() + 300)
    assert not changes._waited(replaced, (5, 1), time.monotonic())  # nothing new, and no time left
