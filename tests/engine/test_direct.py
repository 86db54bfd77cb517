"""Direct searches give what the long way gives, to the last bit, whatever happens around them; what is unusual goes the long way."""

from __future__ import annotations

import pickle
import signal
import threading
import time
import uuid

import numpy as np
import pytest
from vectordb_client import Client
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.indexed import clustered, held_out
from tests.support.places import serving
from tests.support.upkeep import until
from tests.support.worker import Worker
from vectordb import ClosedError, CorruptionError, Datetime, DeadlineError, Dense, F, Int, Keyword, NotFoundError, Schema
from vectordb.common import deadline
from vectordb.common.deadline import Deadline
from vectordb.engine import audits
from vectordb.index.dense import kind
from vectordb.index.model import Corrections
from vectordb.query import direct, direct_blocks, execute, segments

pytestmark = pytest.mark.usefixtures("few_calibration_queries")

ROWS, DIM = 1_500, 24
IDS = {
    "integers": lambda n: list(range(0, 3 * n, 3)),
    "large integers": lambda n: [2**64 - 1 - i * 10**i for i in range(16)] + list(range(n - 16)),
    "texts": lambda n: [f"name {i}" * (1 + i % 9) for i in range(n)],
    "long texts": lambda n: ["x" * (i % 480) + str(i) for i in range(n)],
    "uuids": lambda n: [uuid.UUID(int=i * 7919) for i in range(n)],
    "all kinds": lambda n: [(i, str(i), uuid.UUID(int=i))[i % 3] for i in range(n)],
}
SELECTIONS = {"all": {}, "none": {"with_attributes": False}, "names": {"with_attributes": ["at", "n"]}}
FILTERS = [None, "n < 700", F("k") == "k3", {"op": "ge", "field": "n", "value": 1_490}, "n = 7", "n = -1", "NOT (n < 0)"]


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


def fill(database, name="docs", metric="cosine", dtype="float32", ids="integers", rows=ROWS, indexed=ROWS):
    """A collection of which the first ``indexed`` rows are indexed."""
    schema = Schema({"v": Dense(DIM, metric, dtype)}, {"n": Int(), "k": Keyword(), "at": Datetime()})
    docs = database.create_collection(name, schema)
    vectors, names = clustered(1, rows, DIM), IDS[ids](rows)
    for low, high in ((0, indexed), (indexed, rows)):
        if low < high:
            numbers = list(range(low, high))
            when = [f"2024-01-{1 + i % 28:02}T00:00:00Z" if i % 5 else None for i in numbers]
            attributes = {"n": numbers, "k": [f"k{i % 10}" for i in numbers], "at": when}
            docs.upsert(ids=names[low:high], vectors={"v": vectors[low:high]}, attributes=attributes, payload=[{"i": i} for i in numbers])
        if indexed and high == indexed:
            docs.optimize()
    return docs


def ways(docs, query, **options):
    """The hits of a direct search, None if it isn't done directly, and those of the long way."""
    request = SearchRequest.of(options)
    for _ in range(2):  # a block is made when a search is seen for the second time
        docs.pieces.search_anything(request, {"v": query}, None, False, execute.whole)
    hits = docs._direct(request, {"v": query})
    (long,) = docs.pieces.search_anything(request, {"v": query}, None, False, execute.whole)
    return hits, long


def check_same(hits, long) -> None:
    assert hits.ids.dtype == long.ids.dtype and hits.ids.tolist() == long.ids.tolist()
    assert hits.scores.tobytes() == long.scores.tobytes()
    assert (hits.columns is None) == (long.columns is None)
    assert len(hits) == len(long) and list(hits) == list(long) and hits == long and repr(hits) == repr(long)
    assert np.array([hit.score for hit in hits]).tobytes() == np.array([hit.score for hit in long]).tobytes()
    assert [*map(type, hits.ids.tolist())] == [*map(type, long.ids.tolist())]
    assert hits.to_dicts() == long.to_dicts() and hits.plan is None
    assert pickle.loads(pickle.dumps(hits)) == long


def check(docs, query, **options):
    hits, long = ways(docs, query, **options)
    assert hits is not None, options
    check_same(hits, long)
    return hits


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", ["scan", "segment", "segment and tail", "segments"])
def test_every_form_of_a_field(database, monkeypatch, metric, dtype, shape):
    if shape == "segments":
        monkeypatch.setattr(kind, "MAX_ROWS", 500)
    docs = fill(database, metric=metric, dtype=dtype, indexed={"scan": 0, "segment and tail": 1_200}.get(shape, ROWS))
    if shape == "segments":
        assert len(docs.info().statistics["v"]["segments"]) == 3
    stored = docs.get(3, with_vectors=True).vectors["v"]
    for condition in FILTERS:
        for options in ({}, {"limit": 1, "recall": 0.8}, {"limit": 40, "with_attributes": False}):
            for query in [*held_out(2, DIM), stored]:
                hits, long = ways(docs, query, filter=condition, **options)
                check_same(hits, long)
                assert len(hits) > 0 or condition == "n = -1"


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_form_of_an_id(database, ids, selection):
    docs = fill(database, ids=ids, rows=400, indexed=300)
    for query in held_out(8, DIM):
        check(docs, query, **SELECTIONS[selection])
        check(docs, query, filter="n < 90", limit=100, **SELECTIONS[selection])


def test_every_form_of_a_query(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    locked = query.copy()
    locked.setflags(write=False)
    wide = np.zeros((DIM, 2), np.float32)
    wide[:, 0] = query
    odd = np.frombuffer(b"x" + query.tobytes(), np.uint8)[1:].view(np.float32)
    assert not odd.flags.aligned
    hits = check(docs, query)
    for form in (locked, wide[:, 0], odd, query.astype(np.float64), query.astype(np.float64)[None], query.tolist(), tuple(query.tolist())):
        assert check(docs, form) == hits
    for form in (query.astype(np.float16), np.array(query.tolist(), ">f4"), query.astype(np.int64)):
        check(docs, form)


@pytest.mark.parametrize(
    "query",
    [
        np.zeros(DIM),
        np.full(DIM, np.nan),
        np.full(DIM, 1e300),
        np.ones(DIM - 1),
        np.ones((2, DIM)),
        np.ones(0),
        "text",
        None,
        [["x"] * DIM],
    ],
    ids=str,
)
@pytest.mark.parametrize("single", [True, False])
def test_what_is_wrong_with_a_query_is_said_as_before(database, query, single):
    docs = fill(database, rows=300, indexed=200)
    if single and isinstance(query, np.ndarray):
        with np.errstate(over="ignore"):
            query = query.astype(np.float32)
    check(docs, np.ones(DIM))
    request, said = SearchRequest.of({}), []
    for run in (docs._direct, lambda *given: docs.pieces.search_anything(*given, None, False, execute.whole)):
        try:
            said.append(run(request, {"v": query}))
        except vectordb.VectorDBError as error:
            said.append((type(error), error.message, error.field))
    assert said[0] is None and type(said[1]) is tuple
    with pytest.raises(said[1][0]) as caught:
        docs.search({"v": query})
    assert (type(caught.value), caught.value.message, caught.value.field) == said[1]


def test_tiny_and_huge_queries_go_the_long_way_and_are_answered(database):
    docs = fill(database, rows=300, indexed=200)
    for scale in (1e-20, 1e18):
        hits, long = ways(docs, held_out(1, DIM)[0] * np.float32(scale))
        assert hits is None and len(long) == 10


def test_what_is_not_the_usual_is_not_done_directly(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    for options in ({"exact": True}, {"recall": 1.0}, {"explain": True}, {"with_vectors": True}):
        hits, long = ways(docs, query, **options)
        assert hits is None and len(long) > 0


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


def test_a_recorded_search_tells_its_plan(database):
    docs = fill(database, indexed=1_200)
    (query,) = held_out(1, DIM)
    check(docs, query, filter="n >= 100")
    explained = docs.search({"v": query}, filter="n >= 100", explain=True).plan
    trace = direct.trace.begin()
    try:
        hits = docs._direct(SearchRequest.of({"filter": "n >= 100"}), {"v": query})
    finally:
        direct.trace.end()
    plan = trace.plan()
    assert hits is not None and trace.plan_name() == explained["arms"][0]["segments"][0]["plan"]
    assert plan["filter"] == explained["filter"] and plan["arms"][0]["tail"]["rows"] == 300 and plan["arms"][0]["candidates"] == 10
    assert plan["arms"][0]["segments"][0]["plan"] == explained["arms"][0]["segments"][0]["plan"]
    assert list(trace.clock.stages) == ["arm v"]


def test_searches_that_are_due_for_an_audit_go_the_long_way(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(segments, "_audit", lambda *given: begun.append(given))
    monkeypatch.setattr(audits, "budget", audits.Budget())
    with vectordb.open(tmp_path, maintenance=False, recall_audit=1 / 8) as database:
        docs = fill(database)
        (query,) = held_out(1, DIM)
        docs.search({"v": query})
        docs.search({"v": query})
        for _ in range(62):
            docs.search({"v": query})
        assert len(begun) == 8


def test_costs_are_learned(database, monkeypatch, learn_cost):
    monkeypatch.setattr(Corrections, "learn_cost", learn_cost)
    docs = fill(database)
    (query,) = held_out(1, DIM)
    check(docs, query)
    (segment,) = database.directory.index_files._open.values()
    before = segment.corrections.table[1].copy()
    for _ in range(64):
        docs._direct(SearchRequest.of({}), {"v": query})
    assert (segment.corrections.table[1] != before).sum() == 1


def test_hits_outlive_what_they_were_found_in(database):
    docs = fill(database, ids="texts")
    (query,) = held_out(1, DIM)
    hits, long = ways(docs, query)
    names, other = ways(docs, query, with_attributes=False)
    docs.delete(filter="ALL")
    database.close()
    time.sleep(0)
    check_same(hits, long)
    check_same(names, other)


def test_searches_of_the_service_are_direct(database, monkeypatch):
    docs, direct_ones, search = fill(database, ids="all kinds", indexed=1_200), [], direct.DirectSearches.search

    def watched(self, *given):
        hits = search(self, *given)
        direct_ones.append(hits is not None)
        return hits

    monkeypatch.setattr(direct.DirectSearches, "search", watched)
    (query,) = held_out(1, DIM)
    with serving(database) as address, Client(address) as client:
        served = client.collection("docs")
        for options in (
            {},
            {"with_attributes": False},
            {"filter": F("n") < 700, "limit": 5, "with_attributes": ["at"]},
            {"filter": {"op": "lt", "field": "n", "value": 700}, "recall": 0.9},
        ):
            del direct_ones[:]
            answers = [served.search({"v": query}, **options) for _ in range(4)]
            # A filter that few rows match is searched by the block of the unfiltered search, which is there from the second query on.
            assert not direct_ones[0] and direct_ones[2:] == [True, True]
            assert all(list(hits) == list(docs.search({"v": query}, **options)) for hits in answers)
