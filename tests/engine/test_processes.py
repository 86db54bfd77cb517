"""Several processes and threads on one directory: which writes of others they see, and what they must not see."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import vectordb
from tests.support.upkeep import until
from tests.support.worker import Worker
from vectordb import AlreadyExistsError, ClosedError, Dense, Int, Keyword, LockedError, NotFoundError, PreconditionError, Schema, Sparse
from vectordb.storage import lmdb_env
from vectordb.storage.format import FORMAT_KEY

SCHEMA = Schema({"v": Dense(16, "dot"), "s": Sparse()}, {"n": Int(), "k": Keyword()})
POINTS = 60
_theirs: dict[str, vectordb.Database] = {}


def generation(k: int, dim: int = 16) -> dict:
    """A batch that replaces every point by one that says k: any answer that mixes two batches shows."""
    return {
        "ids": list(range(POINTS)),
        "vectors": {"v": np.full((POINTS, dim), k, np.float32), "s": [{i: float(k), 1000: float(k)} for i in range(POINTS)]},
        "attributes": {"n": [k] * POINTS, "k": [f"g{k}"] * POINTS},
    }


def consistent(collection, dim: int = 16) -> int:
    """Ask in several ways; every answer must be of one generation. Returns the newest seen."""
    newest = 0
    for hits, scale in (
        (collection.search({"v": np.ones(dim, np.float32)}, limit=POINTS), dim),
        (collection.search({"s": {1000: 1.0}}, limit=POINTS), 1),
        (collection.search({"v": np.ones(dim, np.float32)}, filter="n >= 0 AND k STARTSWITH 'g'", limit=POINTS), dim),
    ):
        (k,) = {hit.attributes["n"] for hit in hits}
        assert sorted(hit.id for hit in hits) == list(range(POINTS))
        assert {hit.score for hit in hits} == {float(scale * k)}
        assert {hit.attributes["k"] for hit in hits} == {f"g{k}"}
        assert k >= newest
        newest = k
    return newest


# What the other process runs.


def theirs(path, initial_map=None):
    if path not in _theirs:
        if initial_map:
            lmdb_env.INITIAL_MAP = initial_map
        _theirs[path] = vectordb.open(path, durability="batched", create=False)
    return _theirs[path].collection("c")


def write_generations(path, first, last, initial_map=None):
    for k in range(first, last):
        theirs(path, initial_map).upsert(**generation(k))


def write_big(path, rows, initial_map):
    batch = {"ids": [f"big{i}" for i in range(rows)], "vectors": {"s": [{i: 1.0} for i in range(rows)]}, "payload": ["x" * 400] * rows}
    theirs(path, initial_map).upsert(**batch)


def count_theirs(path):
    return theirs(path).count()


def write_until_told(path, first, enough):
    """Generations from ``first`` on, until the file ``enough`` is there. Returns the last."""
    k = first
    while True:
        theirs(path).upsert(**generation(k))
        if os.path.exists(enough):
            return k
        k += 1


def hold_the_lock(path, held, release):
    """Keep the write lock; ``held`` appears when we have it, and we keep it until ``release`` does."""

    def wait(txn):
        held.touch()
        wait_for(release)

    theirs(path)._directory.env.write(wait, "batched", 10.0)


def wait_for(path, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.005)


def drop_theirs(path):
    _theirs[path].drop_collection("c")


@pytest.fixture
def collection(database):
    return database.create_collection("c", SCHEMA)


def test_a_write_is_seen_by_the_next_query_of_another_process(directory, collection, worker):
    for k in range(1, 60, 3):
        worker.call(write_generations, directory, k, k + 1)
        assert consistent(collection) == k
        collection.upsert(ids=[f"mine{k}"])
        assert worker.call(count_theirs, directory) == collection.count() == POINTS + k // 3 + 1
        collection.delete([f"mine{j}" for j in range(k + 1)], filter=None)
        collection.upsert(ids=[f"mine{j}" for j in range(1, k + 1, 3)])


def test_readers_see_whole_batches_while_another_process_writes(directory, collection, worker, tmp_path):
    collection.upsert(**generation(1))
    worker.send(write_until_told, directory, 2, tmp_path / "enough")
    seen, deadline = set(), time.monotonic() + 300
    while len(seen) < 20 and time.monotonic() < deadline:
        seen.add(consistent(collection))
    (tmp_path / "enough").touch()
    last = worker.receive()
    assert len(seen) == 20
    assert consistent(collection) == last


def test_threads_search_while_one_writes(collection):
    collection.upsert(**generation(1))
    done, errors, seen = threading.Event(), [], [set() for _ in range(4)]

    def reader(mine):
        try:
            while not done.is_set():
                mine.add(consistent(collection))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=reader, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    last, deadline = 1, time.monotonic() + 300
    while not errors and (last < 80 or any(len(mine) < 5 for mine in seen)) and time.monotonic() < deadline:
        last += 1
        collection.upsert(**generation(last))
    done.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert consistent(collection) == last
    assert all(len(mine) >= 5 for mine in seen)


def test_the_map_grows_under_readers_of_both_processes(directory, worker, monkeypatch):
    monkeypatch.setattr(lmdb_env, "INITIAL_MAP", 1 << 20)
    with vectordb.open(directory, durability="batched") as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(**generation(1))
        assert consistent(collection) == 1  # its tables hold addresses from now on
        other = vectordb.open(directory, create=False)  # shares the map
        stop, errors = threading.Event(), []

        def read():
            try:
                while not stop.is_set():
                    consistent_with_big(other.collection("c"))
            except BaseException as error:
                errors.append(error)

        def consistent_with_big(asked):
            hits = asked.search({"v": np.ones(16, np.float32)}, limit=POINTS)
            assert len({hit.score for hit in hits}) == 1 and len(hits) == POINTS

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        moves = database.directory.env.map_moves
        for size in (2_000, 4_000, 8_000):
            worker.call(write_big, directory, size, 1 << 20)  # the other process grows the file past our map
            consistent_with_big(collection)
            assert collection.count() == POINTS + size
        collection.upsert(ids=[f"ours{i}" for i in range(8_000)], payload=["y" * 900] * 8_000)  # now it is us
        assert collection.delete(filter="n = 1").count == POINTS  # a filter inside a write, after a move
        assert worker.call(count_theirs, directory) == collection.count() == 8_000 + 8_000
        stop.set()
        for thread in threads:
            thread.join()
        other.close()
        assert database.directory.env.map_moves > moves + 1


def test_the_map_grows_while_a_filter_of_the_same_group_holds_old_addresses(directory, monkeypatch):
    monkeypatch.setattr(lmdb_env, "INITIAL_MAP", 4 << 20)
    with vectordb.open(directory, durability="batched") as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(ids=range(30_000), attributes={"n": np.arange(30_000), "k": [f"k{i % 10}" for i in range(30_000)]})
        assert collection.count("n < 100 AND k = 'k3'") == 10
        moves, begun = database.directory.env.map_moves, threading.Event()

        def slow(txn):
            begun.set()
            time.sleep(0.3)

        hold = threading.Thread(target=database._handle.write, args=(slow, "batched"))  # the other two wait for it, and become one group
        hold.start()
        begun.wait(300)
        big = threading.Thread(target=lambda: collection.upsert(ids=[f"b{i}" for i in range(9_000)], payload=["z" * 2_000] * 9_000))
        results = []
        small = threading.Thread(target=lambda: results.append(collection.delete(filter="n < 100 AND k = 'k3'").count))
        big.start()
        time.sleep(0.05)
        small.start()
        for thread in (hold, big, small):
            thread.join()
        assert results == [10]
        assert collection.count() == 30_000 + 9_000 - 10
        assert database.directory.env.map_moves > moves


def test_a_nested_read_does_not_wait_for_a_map_that_waits_for_it(database):
    env = database.directory.env
    with env.read():
        growing = threading.Thread(target=env._resize, args=(2 * env._lmdb.info()["map_size"], env.map_moves), daemon=True)
        growing.start()
        until(lambda: env.gate.moving)
        with env.read(nested=True) as txn:
            assert txn.get(FORMAT_KEY)
        assert growing.is_alive()
    growing.join(300)
    assert not growing.is_alive() and env.map_moves == 1


def test_a_writer_that_waits_too_long_is_told_so(directory, collection, worker, tmp_path):
    worker.call(count_theirs, directory)
    with vectordb.open(directory, write_timeout=0.2) as impatient:
        ours = impatient.collection("c")
        ours.upsert(ids=[1])
        worker.send(hold_the_lock, directory, tmp_path / "held", tmp_path / "release")
        wait_for(tmp_path / "held")
        begun = time.monotonic()
        with pytest.raises(LockedError) as caught:
            ours.upsert(ids=[2])
        assert time.monotonic() - begun > 0.1
        assert caught.value.field == "path"
        assert ours.count() == 1  # reading needs no lock
        (tmp_path / "release").touch()
        worker.receive()
        assert ours.upsert(ids=[2]).count == 1


def test_a_killed_writer_leaves_no_lock(directory, collection, tmp_path):
    with Worker() as victim:
        victim.call(count_theirs, directory)
        victim.send(hold_the_lock, directory, tmp_path / "held", tmp_path / "release")
        wait_for(tmp_path / "held")
        victim.process.kill()
        victim.process.join()
        assert collection.upsert(ids=[1]).count == 1


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(directory, database, collection):
    collection.upsert(**generation(1))
    reading, writing = os.pipe()
    with database.directory.env.read():  # a reader of the parent, which the child must not disturb
        child = os.fork()
        if child == 0:
            said = []
            for use in (
                lambda: collection.search({"v": np.ones(16)}),
                lambda: collection.upsert(ids=[99]),
                lambda: database.collections(),
                lambda: database.close(),
                lambda: vectordb.open(directory),
            ):
                try:
                    use()
                    said.append("fine")
                except ClosedError:
                    said.append("closed")
                except BaseException as error:
                    said.append(repr(error))
            os.write(writing, " ".join(said).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1000).decode() == "closed closed closed fine closed"
        assert "no active readers" not in database.directory.env._lmdb.readers()
    assert consistent(collection) == 1
    collection.upsert(**generation(2))
    assert consistent(collection) == 2


def test_a_collection_dropped_by_another_process_is_gone(directory, database, collection, worker):
    collection.upsert(**generation(1))
    worker.call(count_theirs, directory)
    worker.call(drop_theirs, directory)
    for use in (collection.count, lambda: collection.upsert(ids=[1]), lambda: collection.schema, lambda: database.collection("c")):
        with pytest.raises(NotFoundError):
            use()
    again = database.create_collection("c", SCHEMA)
    assert again.count() == 0 and again.info().sequence == 0
    with pytest.raises(NotFoundError):
        collection.count()  # the old one stays gone


def test_threads_share_commits_and_a_refused_write_fails_alone(collection):
    collection.upsert(ids=["there"])
    results, refused = [], []

    def write(i):
        for j in range(10):
            results.append(collection.upsert(ids=[(i * 10 + j)]))
            try:
                collection.upsert(ids=["there"], if_version=0)
            except PreconditionError as error:
                refused.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(2, 82))
    assert len(refused) == 80
    assert collection.count() == 81
    versions = {point.id: point.version for point in collection.iterate()}
    assert sorted(versions.values()) == list(range(1, 82))


def test_threads_that_create_the_same_collection_get_the_same_one(database):
    made, errors = [], []

    def create():
        try:
            made.append(database.create_collection("x", SCHEMA, exist_ok=True))
            database.create_collection("x", SCHEMA)
        except AlreadyExistsError as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(errors) == 6
    assert len({id(collection) for collection in made}) == 1


def test_closing_waits_for_a_reader_and_refuses_the_next(directory):
    database = vectordb.open(directory)
    collection = database.create_collection("c", SCHEMA)
    entered, leave = threading.Event(), threading.Event()

    def read():
        with database.directory.env.read() as txn:
            entered.set()
            leave.wait(300)
            assert txn.stat()["entries"] > 0  # the map is still there

    reader = threading.Thread(target=read)
    reader.start()
    entered.wait(300)
    closer = threading.Thread(target=database.close)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    leave.set()
    closer.join(300)
    reader.join()
    assert not closer.is_alive()
    for use in (collection.count, lambda: collection.upsert(ids=[1]), database.collections, database.flush):
        with pytest.raises(ClosedError):
            use()
    database.close()
