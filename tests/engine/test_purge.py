"""Purge: no file contains an erased id, record or vector, while others read and write; a kill at any step loses nothing."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vectordb
from tests.support import forked
from tests.support.upkeep import index_files, vectors
from vectordb import Dense, InvalidArgumentError, Keyword, LockedError, MultiVector, Schema, Sparse, Text
from vectordb.common import failpoints
from vectordb.engine.check import check
from vectordb.maintenance import requests
from vectordb.maintenance.purge import STEPS
from vectordb.storage import erasure_scan as residue
from vectordb.storage import rewrite

SCHEMA = Schema({"v": Dense(8), "s": Sparse(), "m": MultiVector(8)}, {"k": Keyword(), "body": Text()})
POINTS, GONE = 400, 150
_theirs: dict[str, vectordb.Database] = {}


@pytest.fixture
def database(directory):
    """Without work in the background, which may rebuild an index file before a purge does."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


def name(i: int):
    """Ids of all three kinds."""
    return [i, f"point number {i}", uuid.UUID(int=(i + 1) << 64 | 0xABCDEF)][i % 3]


def rows(ids, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    v = vectors(rng, len(ids), 8)
    s = [{int(term): float(weight) for term, weight in zip(rng.integers(0, 500, 6), rng.random(6), strict=True)} for _ in ids]
    m = [vectors(rng, 2, 8) for _ in ids]
    payload = [{"secret": f"secret of {seed} {i}"} for i in ids]
    return {"ids": [name(i) for i in ids], "vectors": {"v": v, "s": s, "m": m}, "payload": payload}


def fill(collection) -> list[bytes]:
    """Points, of which some are deleted and some replaced; returns bytes that must go."""
    first = rows(range(POINTS), 1)
    collection.upsert(**first)
    collection.optimize()
    again = rows(range(GONE, GONE + 50), 2)
    collection.upsert(**again)
    collection.delete([name(i) for i in range(GONE)])
    replaced = GONE + 50
    erased = [first["vectors"]["v"][i].tobytes() for i in range(replaced)]
    erased += [first["vectors"]["m"][i][1].tobytes() for i in range(replaced)]
    erased += [f"secret of 1 {i}\x00"[:-1].encode() + end for i in range(replaced) for end in (b"",) if i >= 100]
    erased += [first["ids"][i].bytes for i in range(GONE) if i % 3 == 2]
    return erased


def held(directory, needles) -> int:
    """How many of the needles are in some file, by a plain look."""
    whole = b"\0\0\0\0".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())
    return sum(needle in whole for needle in needles)


def contents(collection) -> dict:
    found = {}
    for point in collection.iterate(with_vectors=True):
        vectors_ = {
            key: [part.tolist() for part in (value if isinstance(value, tuple) else (value,))] for key, value in point.vectors.items()
        }
        found[point.id] = (vectors_, point.attributes, point.payload, point.version)
    return found


@pytest.fixture
def erased(database):
    return fill(database.create_collection("c", SCHEMA))


def test_what_was_erased_is_in_no_file_and_the_rest_is_as_before(database, erased, directory):
    collection = database.collection("c")
    before, files = contents(collection), index_files(directory)
    assert held(directory, erased) > len(erased) // 2
    queries = vectors(np.random.default_rng(5), 5, 8)
    answers = [collection.search({"v": query}, limit=20, exact=True).ids.tolist() for query in queries]
    result = collection.purge()
    assert result["proven"] and result["residue"] == [] and result["done"]
    assert result["rows_dropped"] == GONE + 50 and result["segments_built"] == 3
    assert result["ids"] == GONE and result["rows"] == GONE + 50 and result["vectors"] >= 3 * GONE
    assert result["bytes_reclaimed"] == result["bytes_before"] - result["bytes_after"] > 0
    assert held(directory, erased) == 0
    assert not files & index_files(directory)
    assert contents(collection) == before
    assert [collection.search({"v": query}, limit=20, exact=True).ids.tolist() for query in queries] == answers
    assert collection.info().deleted_rows == 0
    collection.upsert(**rows(range(3), 9))
    assert collection.count() == POINTS - GONE + 3
    assert check(directory).problems == ()
    again = collection.purge()
    assert again["proven"] and again["rows_dropped"] == again["ids"] == 0


def test_a_purge_of_the_database_reaches_dropped_collections(database, erased, directory):
    other = database.create_collection("other", SCHEMA)
    given = rows(range(20), 7)
    other.upsert(**given)
    needles = [row.tobytes() for row in given["vectors"]["v"]]
    database.drop_collection("other")
    assert held(directory, needles) > 0
    assert database.purge()["proven"]
    assert held(directory, needles + erased) == 0


def test_what_lives_on_elsewhere_is_no_residue(database, directory):
    collection = database.create_collection("c", SCHEMA)
    v = vectors(np.random.default_rng(0), 1, 8)
    collection.upsert(ids=["the first one", "the second one"], vectors={"v": np.repeat(v, 2, axis=0)})
    collection.delete("the first one")
    result = collection.purge()
    assert result["proven"] and result["alike"] == 1 and result["vectors"] == 1


def test_a_file_that_keeps_something_is_named(database, erased, directory):
    (directory / "notes").mkdir()
    (directory / "notes" / "mine.txt").write_bytes(b"x" * 1001 + erased[0] + b"y" * 77)
    result = database.purge()
    assert not result["proven"] and result["residue"] == [os.path.join("notes", "mine.txt")]


def test_arguments_are_checked(database, erased):
    for timeout in (-1, "1", True):
        with pytest.raises(InvalidArgumentError, match="timeout"):
            database.collection("c").purge(timeout=timeout)


@pytest.mark.parametrize("lengths", [(8, 9, 20, 64), (16,)])
def test_the_search_finds_every_needle_wherever_it_lies(lengths):
    rng = np.random.default_rng(len(lengths))
    for _ in range(30):
        block = bytearray(rng.integers(0, 4, 2_000, dtype=np.uint8).tobytes())
        needles = [rng.integers(0, 256, int(rng.choice(lengths)), dtype=np.uint8).tobytes() for _ in range(50)]
        at = rng.integers(0, len(block) - 64, 5).tolist()
        for needle, place in zip(needles, at, strict=False):
            block[place : place + len(needle)] = needle
        assert residue.Search(needles).within(block) == {needle for needle in needles if needle in block}


def test_the_search_of_files_finds_what_lies_across_two_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(residue, "_BLOCK", 100)
    needle = bytes(range(40))
    for at in range(300):
        (tmp_path / "file").write_bytes(b"\0" * at + needle + b"\0" * 50)
        assert residue.in_files(residue.Search([needle]), tmp_path) == {needle: {"file"}}
    (tmp_path / "file").write_bytes(b"\0" * 80 + needle[:-1] + b"\0" * 200)
    assert residue.in_files(residue.Search([needle]), tmp_path) == {}


def test_readers_and_writers_of_the_process_go_on_meanwhile(database, erased, directory):
    collection = database.collection("c")
    stop, failed, written = threading.Event(), [], []
    query = vectors(np.random.default_rng(3), 1, 8)[0]

    def guarded(work):
        def run():
            try:
                while not stop.is_set():
                    work()
            except Exception as error:
                failed.append(error)

        return threading.Thread(target=run)

    def read():
        assert len(collection.search({"v": query}, limit=10)) == 10
        assert collection.get(name(POINTS - 1)).payload == {"secret": f"secret of 1 {POINTS - 1}"}

    def write():
        i = 10_000 + len(written)
        collection.upsert(**rows([i], i))
        written.append(name(i))

    threads = [guarded(read), guarded(read), guarded(write)]
    for thread in threads:
        thread.start()
    try:
        results = [collection.purge() for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(300)
    assert not failed and all(result["proven"] for result in results)
    assert held(directory, erased) == 0
    assert None not in collection.get(written) and collection.count() == POINTS - GONE + len(written)


# What the other process runs.


def theirs(path):
    if path not in _theirs:
        _theirs[path] = vectordb.open(path, create=False, maintenance=False)
    return _theirs[path].collection("c")


def count(path):
    return theirs(path).count()


def write(path, i):
    theirs(path).upsert(**rows([i], i))
    return theirs(path).count()


def purge(path):
    return theirs(path).purge()


def hold(path, read: bool, connection) -> None:
    """Keep the directory open (and a read transaction) until told to end."""
    collection = theirs(path)
    if read:
        with collection._snapshots.pin():
            connection.send("open")
            connection.recv()
            # Another thread isn't kept waiting for this one.
            with ThreadPoolExecutor(1) as pool:
                connection.send(pool.submit(collection.count).result())
            connection.recv()
    connection.send(collection.count())


def test_another_process_lets_go_and_goes_on(database, erased, directory, worker):
    path, collection = str(directory), database.collection("c")
    assert worker.call(count, path) == POINTS - GONE
    assert collection.purge()["proven"]  # the other one does nothing meanwhile
    assert held(directory, erased) == 0
    assert worker.call(count, path) == POINTS - GONE
    assert worker.call(write, path, 1_000) == POINTS - GONE + 1
    assert collection.count() == POINTS - GONE + 1
    collection.delete(name(1_000))
    assert worker.call(purge, path)["proven"]  # and the other way around
    assert collection.count() == worker.call(count, path) == POINTS - GONE
    collection.upsert(**rows([2_000], 8))
    assert worker.call(count, path) == POINTS - GONE + 1


def test_a_process_that_does_not_let_go_is_waited_for_and_then_all_is_as_before(database, erased, directory, monkeypatch):
    context = forked.context()
    ours, other = context.Pipe()
    process = context.Process(target=hold, args=(str(directory), True, other), daemon=True)
    process.start()
    assert ours.poll(300) and ours.recv() == "open"
    monkeypatch.setattr(requests, "PATIENCE_SECONDS", 0.3)
    collection = database.collection("c")
    with pytest.raises(LockedError, match="another process has had"):
        collection.purge()
    assert not (directory / rewrite.REWRITTEN).exists()
    assert collection.count() == POINTS - GONE
    ours.send("count")
    assert ours.poll(300) and ours.recv() == POINTS - GONE
    collection.upsert(**rows([5_000], 8))
    ours.send("end")
    assert ours.poll(300) and ours.recv() == POINTS - GONE + 1
    process.join(300)
    assert database.purge()["proven"] and held(directory, erased) == 0


def test_a_long_read_of_the_same_process_is_waited_for_and_holds_up_no_other(database, erased, directory, monkeypatch):
    monkeypatch.setattr(rewrite, "STILL_SECONDS", 0.05)
    monkeypatch.setattr(requests, "PATIENCE_SECONDS", 0.3)
    collection = database.collection("c")
    with ThreadPoolExecutor(2) as pool:
        with collection._snapshots.pin() as view:
            with pytest.raises(LockedError, match="a read of this process"):
                pool.submit(collection.purge).result(60)
            assert pool.submit(collection.count).result(60) == view.snapshot.live
            monkeypatch.setattr(requests, "PATIENCE_SECONDS", 60.0)
            purging = pool.submit(collection.purge)
            assert pool.submit(collection.count).result(60) == POINTS - GONE
        assert purging.result(60)["proven"]
    assert held(directory, erased) == 0


def purge_until_killed(path: str, step: str) -> None:
    failpoints.arm(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with vectordb.open(path, maintenance=False) as database:
        database.purge()


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "beside another process"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_nothing_is_lost(directory, step, shared):
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        gone = fill(database.create_collection("c", SCHEMA))
        before = contents(database.collection("c"))
    context = forked.context()
    beside = vectordb.open(directory, maintenance=False) if shared else None
    process = context.Process(target=purge_until_killed, args=(str(directory), step))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    if beside is not None:
        assert contents(beside.collection("c")) == before
        beside.collection("c").upsert(**rows([7_000], 8))
        assert beside.collection("c").count() == POINTS - GONE + 1
        beside.collection("c").delete(name(7_000))
        beside.close()
    assert check(directory).problems == ()
    with vectordb.open(directory, create=False, maintenance=False) as database:
        assert not (directory / rewrite.REWRITTEN).exists()
        collection = database.collection("c")
        assert contents(collection) == before
        assert (
            collection.search({"v": np.ones(8)}, limit=5).ids.tolist()
            == collection.search({"v": np.ones(8)}, limit=5, exact=True).ids.tolist()
        )
        assert collection.purge()["proven"]
        assert held(directory, gone) == 0
