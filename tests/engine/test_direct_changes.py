"""Direct searches after and beside writes, deletes, damage, commits of others, moves of the map, interrupts and the end of the database."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.direct import DIM, check, fill
from tests.support.indexed import clustered, held_out
from tests.support.upkeep import until
from tests.support.worker import Worker
from vectordb import ClosedError, CorruptionError, DeadlineError, F, Int, NotFoundError
from vectordb.common import deadline
from vectordb.common.deadline import Deadline
from vectordb.index.dense import kind
from vectordb.index.model import Corrections
from vectordb.query import direct_blocks


@pytest.fixture(autouse=True)
def learn_cost(monkeypatch):
    """Searches learn nothing about costs from their times, which would let the plan change between two searches that are compared."""
    learn = Corrections.learn_cost
    monkeypatch.setattr(Corrections, "learn_cost", lambda *given: None)
    return learn


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, recall_audit=0, durability="batched") as database:
        yield database


def test_after_writes_deletes_and_compaction(database):
    docs = fill(database, indexed=1_200)
    (query,) = held_out(1, DIM)
    first = check(docs, query).ids.tolist()
    docs.delete(first[:3])
    assert SearchRequest.of({}) is SearchRequest.of({})
    assert docs._direct(SearchRequest.of({}), {"v": query}) is None  # the snapshot is another
    hits = check(docs, query)
    assert not set(first[:3]) & set(hits.ids.tolist())
    docs.upsert(ids=[10**6], vectors={"v": query[None]}, attributes={"n": [5]})
    assert check(docs, query, filter="n < 700").ids[0] == 10**6
    docs.delete(filter="n >= 100 AND n < 900")
    check(docs, query)
    docs.optimize()
    hits = check(docs, query)
    docs.purge()
    assert check(docs, query) == hits
    docs.add_fields(attributes={"more": Int()})
    docs.update([{"id": 10**6, "attributes": {"more": 3}}])
    assert check(docs, query)[0].attributes["more"] == 3


@pytest.mark.parametrize("shape", ["deleted", "filtered", "segments"])
def test_few_rows_of_a_segment_are_searched_one_by_one(database, monkeypatch, shape):
    """Where few rows of a segment match, no plan is chosen, however good another is predicted to be."""
    if shape == "segments":
        monkeypatch.setattr(kind, "MAX_ROWS", 500)
    docs = fill(database)
    condition = None if shape == "deleted" else "n >= 300"
    if shape == "deleted":
        docs.delete(filter="n < 600")
    docs.search({"v": held_out(1, DIM)[0]})
    for segment in docs._directory.index_files._open.values():
        segment.corrections.table[0] = 1.0  # the cheapest of all plans is predicted to find everything
    for query in held_out(20, DIM):
        hits = check(docs, query, filter=condition)
        if shape != "filtered":
            assert hits.ids.tolist() == docs.search({"v": query}, filter=condition, exact=True).ids.tolist()


def _write_there(path, number, vector):
    with vectordb.open(path, maintenance=False) as database:
        database.collection("docs").upsert(ids=[number], vectors={"v": [vector]})


def test_after_a_commit_of_another_process(database, tmp_path):
    docs = fill(database, rows=300, indexed=200)
    (query,) = held_out(1, DIM)
    with Worker() as worker:
        for number in range(10**6, 10**6 + 3):
            check(docs, query)
            worker.call(_write_there, tmp_path / "data", number, query.tolist())
            assert number in docs.search({"v": query}).ids.tolist()


def test_after_a_commit_to_another_collection_and_a_move_of_the_map(database):
    docs, other = fill(database), fill(database, "other", rows=20, indexed=0)
    (query,) = held_out(1, DIM)
    hits = check(docs, query)
    other.delete([0])
    assert check(docs, query) == hits
    env = database.directory.env
    env._resize(2 * env._lmdb.info()["map_size"], env.map_moves)
    assert docs._direct(SearchRequest.of({}), {"v": query}) is None
    assert check(docs, query) == hits


def test_a_collection_that_is_created_again(database):
    docs = fill(database, rows=300, indexed=200)
    (query,) = held_out(1, DIM)
    check(docs, query)
    database.drop_collection("docs")
    with pytest.raises(NotFoundError):
        docs.search({"v": query})
    again = fill(database, rows=50, indexed=0)
    assert len(check(again, query, limit=100)) == 50
    with pytest.raises(NotFoundError):
        docs.search({"v": query})


def test_a_lost_index_file_is_not_searched_any_more(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    hits = check(docs, query, recall=0.99)
    files = database.directory.index_files
    ((file, _),) = files._open.items()
    with files._lock:
        files._damage(file, "as if it were damaged")
    assert docs._direct(SearchRequest.of({"recall": 0.99}), {"v": query}) is None
    assert check(docs, query, recall=0.99, limit=3).ids.tolist() == hits.ids[:3].tolist()


def test_damaged_rows_are_reported(database, monkeypatch):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    check(docs, query)
    block = next(filter(None, docs._snapshots.newest.direct.values()))
    block.table.verified[:] = 0
    block.rows.verified[:] = 0
    block.rows._offsets.clear()
    check(docs, query)  # what wasn't verified yet is verified
    block.table.verified[:] = 0
    monkeypatch.setattr("vectordb.storage.chunks.check_digest", _damaged)
    with pytest.raises(CorruptionError, match="as if"):
        docs._direct(SearchRequest.of({}), {"v": query})
    with pytest.raises(CorruptionError, match="as if"):
        docs.search({"v": query})


def _damaged(*given):
    raise CorruptionError("as if it were damaged", field="v")


def test_records_too_large_for_the_arena(database, monkeypatch):
    docs = fill(database)
    docs.update([{"id": i, "payload": "x" * 60_000} for i in range(0, 30, 3)])
    (query,) = held_out(1, DIM)
    assert any(hit.payload == "x" * 60_000 for hit in check(docs, query, filter="n < 12", limit=12))


def test_values_are_keys_and_not_objects(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    for make in (lambda: "n < " + str(700), lambda: F("n") < 700, lambda: {"op": "lt", "field": "n", "value": 700}):
        check(docs, query, filter=make())
        assert docs._direct(SearchRequest.of({"filter": make()}), {"v": query}) is not None
    given = {"op": "lt", "field": "n", "value": 700}
    hits = docs.search({"v": query}, filter=given)
    given["value"] = 20
    few = docs.search({"v": query}, filter=given)
    assert few.ids.max() < 60 and docs.search({"v": query}, filter={"op": "lt", "field": "n", "value": 700}) == hits
    one, true = ({"op": "eq", "field": "n", "value": value} for value in (1, True))
    assert SearchRequest.of({"filter": one}) is not SearchRequest.of({"filter": true})


def test_a_query_that_changes_meanwhile_gives_the_hits_of_some_state_of_it(database):
    docs = fill(database)
    query, bad = held_out(1, DIM)[0], np.full(DIM, np.nan, np.float32)
    good, stop = query.copy(), threading.Event()
    check(docs, good)

    def change():
        while not stop.is_set():
            query[:] = bad
            query[:] = good

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            hits = docs._direct(SearchRequest.of({}), {"v": query})
            assert hits is None or np.isfinite(hits.scores).all()
    finally:
        stop.set()
        thread.join()


def test_deadlines(database):
    docs = fill(database, rows=300, indexed=200)
    (query,) = held_out(1, DIM)
    check(docs, query)
    with deadline.scope(Deadline(0.0)):
        assert docs._direct(SearchRequest.of({}), {"v": query}) is None
        with pytest.raises(DeadlineError):
            docs.search({"v": query})
    check(docs, query)


def test_interrupts_end_a_search_and_leave_the_map_free_to_move(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    check(docs, query)
    caught, gate = 0, database.directory.env.gate

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for i in range(200):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1e-6 * i)
                for _ in range(100_000):
                    docs._direct(SearchRequest.of({}), {"v": query})
            except KeyboardInterrupt:
                caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught == 200
    assert gate.hold_still(5.0)
    gate.go_on()
    check(docs, query)


def test_a_search_inside_of_a_search_goes_the_long_way(database):
    docs = fill(database, rows=300, indexed=200)
    (query,) = held_out(1, DIM)
    check(docs, query)
    lane = direct_blocks.of_thread.lane
    lane.inside = database.directory.env.gate
    try:
        assert docs._direct(SearchRequest.of({}), {"v": query}) is None
    finally:
        lane.inside = None


def test_no_map_moves_and_no_database_closes_while_somebody_searches_directly(database):
    gate = database.directory.env.gate
    visitor = direct_blocks.Visitor()
    visitor.inside = gate
    assert not gate.hold_still(0.05) and not gate.moving and not gate.shut
    closing = threading.Thread(target=gate.hold_still)
    closing.start()
    until(lambda: gate.moving)
    assert gate.shut and closing.is_alive()
    visitor.inside = None
    closing.join(60)
    assert not closing.is_alive()
    gate.go_on()
    assert not gate.shut


def test_searches_beside_writes_growth_and_the_end_of_the_database(tmp_path):
    database = vectordb.open(tmp_path, maintenance=False, recall_audit=0, durability="batched")
    docs = fill(database, indexed=1_200)
    queries, failed, done = held_out(16, DIM), [], [0, 0]

    def search(number):
        try:
            while True:
                for query in queries:
                    hits = docs.search({"v": query}, filter=(None, "n < 700")[number], limit=5)
                    assert len(hits) == 5 and (np.diff(hits.scores) <= 0).all() and all(hit.attributes["n"] >= 0 for hit in hits)
                    done[number] += 1
        except ClosedError:
            pass
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=search, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    env, vectors = database.directory.env, clustered(2, 40, DIM)
    for i in range(40):
        docs.upsert(ids=[10**6 + i], vectors={"v": vectors[i : i + 1]}, attributes={"n": [i]})
        if i % 8 == 0:
            env._resize(2 * env._lmdb.info()["map_size"], env.map_moves)
        before = list(done)
        until(lambda before=before: failed or min(a - b for a, b in zip(done, before, strict=True)) > 20)
    database.close()
    for thread in threads:
        thread.join(300)
    assert not failed and not any(thread.is_alive() for thread in threads)
    with pytest.raises(ClosedError):
        docs.search({"v": queries[0]})
