"""Resource limits: size of answers, number of values in filters, and work that stops once its caller has gone."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
from vectordb_client import Client, LimitError, RateLimitError
from vectordb_client.rpc import packing as client_packing

import vectordb
from vectordb import Dense, F, Int, Keyword, MultiVector, Prefetch, Schema, Sparse, Text
from vectordb.common import background, deadline, memory
from vectordb.filters import as_filter, bitmap
from vectordb.filters.cache import VALUE_BYTES
from vectordb.filters.nodes import weight
from vectordb.index import exact as flat
from vectordb.query import read
from vectordb.server.access import guard
from vectordb.server.main import start
from vectordb.server.memory import _limits
from vectordb.storage import store

SCHEMA = Schema({"d": Dense(4), "m": MultiVector(4), "s": Sparse()}, {"n": Int(), "k": Keyword(), "t": Text(), "many": Int(array=True)})
N = 3_000
TEXT = "x" * 200
NUMBER = 64 << 10  # the least message


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch, vectordb.open(tmp_path_factory.mktemp("bounds") / "data") as database:
        patch.setattr(store, "CHUNK_BYTES", 8_000)  # many chunks of few points
        patch.setattr(store, "POSTINGS_BYTES", 8_000)
        docs = database.create_collection("docs", SCHEMA)
        vectors = {
            "d": rng.standard_normal((N, 4)),
            "m": [rng.standard_normal((3, 4)) for _ in range(N)],
            "s": [{i % 7: 1.0, 7: 0.5} for i in range(N)],
        }
        attributes = {
            "n": list(range(N)),
            "k": [f"{TEXT}{i}" for i in range(N)],
            "t": ["some words"] * N,
            "many": [[i, i + 1] for i in range(N)],
        }
        docs.upsert(ids=[f"id{i}" for i in range(N)], vectors=vectors, attributes=attributes)
        yield database


@pytest.fixture
def docs(database):
    return database.collection("docs")


@pytest.fixture
def served(database):
    """From settings to the collection through a service that has them."""
    stop = []

    def make(**settings):
        server, port = start(database, port=0, **settings)
        client = Client(f"127.0.0.1:{port}", timeout=60, retries=0)
        stop.extend((client.close, lambda: server.stop(0).wait()))
        return client.collection("docs")

    yield make
    for each in stop:
        each()


# ---- Bytes ----

VECTOR = {"d": np.ones(4)}
TOO_LARGE = {
    "search": lambda docs: docs.search(VECTOR, limit=N),
    "search with vectors": lambda docs: docs.search(VECTOR, limit=N, with_attributes=False, with_vectors=True),
    "ids of a search": lambda docs: docs.search_batch({"d": np.ones((4, 4))}, limit=N, with_attributes=False),
    "batch": lambda docs: docs.search_batch({"d": np.ones((40, 4))}, limit=N),
    "fused": lambda docs: docs.search_batch({"d": np.ones((4, 4)), "s": [{7: 1.0}] * 4}, limit=N, with_attributes=False),
    "summed": lambda docs: docs.search({**VECTOR, "s": {7: 1.0}}, limit=N, with_attributes=False, fusion="linear"),
    "staged": lambda docs: docs.search_batch({"d": np.ones((4, 4))}, limit=N, prefetch=Prefetch({"s": [{7: 1.0}] * 4}, limit=N)),
    "get": lambda docs: docs.get([f"id{i}" for i in range(N)]),
    "get with vectors": lambda docs: docs.get([f"id{i}" for i in range(N)], with_attributes=False, with_vectors=["m"]),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_an_answer_that_becomes_too_large_is_refused_before_all_of_it_is_read(served, monkeypatch, what):
    docs = served(max_message_bytes=NUMBER)
    monkeypatch.setattr(read, "PIECE_ROWS", 100)
    rooms, real = [], client_packing.Room.take

    def take(room, nbytes):
        real(room, nbytes)
        rooms.append(room.taken)

    monkeypatch.setattr(client_packing.Room, "take", take)
    with pytest.raises(LimitError, match=r"max_message_bytes.*fewer.*scroll") as caught:
        TOO_LARGE[what](docs)
    assert caught.value.field == "limit"
    assert NUMBER / 4 < max(rooms) <= NUMBER  # it grew until there was no more room, and no further


def test_pages_end_where_the_message_does_and_nothing_is_missed(served, monkeypatch):
    docs = served(max_message_bytes=NUMBER)
    sizes = []
    for asked in ({}, {"with_vectors": True}, {"filter": "n < 2900"}):
        found, cursor = [], None
        while True:
            page = docs.scroll(limit=N, cursor=cursor, **asked)
            sizes.append(len(page))
            found += page.points
            cursor = page.cursor
            if cursor is None:
                break
        assert [p.id for p in found] == sorted(f"id{i}" for i in range(2900 if "filter" in asked else N))
        assert all(p.attributes["k"] == f"{TEXT}{p.attributes['n']}" for p in found)
        assert ("with_vectors" in asked) == all(set(p.vectors) == {"d", "m", "s"} for p in found)
    assert len(sizes) > 6 and max(sizes) < N
    assert docs.get(found[7].id) == found[7]


@pytest.mark.parametrize("rows", [1, 7, 1_024])
def test_what_is_read_in_pieces_is_what_is_read_at_once(docs, served, monkeypatch, rows):
    client = served()
    asked = [
        lambda docs: docs.search(VECTOR, limit=50, with_vectors=True),
        lambda docs: docs.search({**VECTOR, "s": {7: 1.0}}, limit=50, with_vectors=["m"]),
        lambda docs: docs.search_batch({"m": [np.ones((2, 4))] * 3}, limit=20, with_attributes=["n"]),
        lambda docs: docs.search(VECTOR, limit=50, prefetch=Prefetch({"s": {1: 1.0}}, limit=200)),
        lambda docs: docs.get(["id3", "nobody", "id1", "id3"], with_vectors=True),
        lambda docs: docs.scroll(limit=40, with_vectors=True).points,
    ]
    whole = [ask(docs) for ask in asked]
    monkeypatch.setattr(read, "PIECE_ROWS", rows)
    for ask, expected in zip(asked, whole, strict=True):
        for target in (docs, client):
            assert str(ask(target)) == str(expected)


def test_large_rows_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "PIECE_BYTES", 10_000)
    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", Schema({"m": MultiVector(4)}, {"n": Int()}))
        docs.upsert(
            ids=range(20),
            vectors={"m": [np.ones((1 + 500 * (i % 2), 4)) for i in range(20)]},
            payload=["x" * 3_000 * (i % 5) for i in range(20)],
        )
        for wanted in ({"with_vectors": True}, {}):
            sizes = docs.pieces.get(
                list(range(20)),
                lambda _, pieces: [len(piece) for piece in pieces],
                **{"with_vectors": False, "with_attributes": True} | wanted,
            )
            assert sum(sizes) == 20 and max(sizes) <= 8 and min(sizes) >= 1 and len(sizes) >= 5


def test_changes_of_a_large_batch_come_in_parts_and_are_whole(docs, served, monkeypatch):
    monkeypatch.setattr(read, "PIECE_ROWS", 70)
    parts = list(docs.pieces.changes(0, with_vectors=True, with_attributes=True))
    assert len(parts) == -(-N // 70) and [more for _, more in parts] == [True] * (len(parts) - 1) + [False]
    (here,) = docs.changes(with_vectors=True, with_attributes=True)
    (there,) = served(max_message_bytes=NUMBER).changes(with_vectors=True, with_attributes=True)
    assert here.ids == there.ids == tuple(f"id{i}" for i in range(N))
    assert str(here.points) == str(there.points) and len(here.points) == N


def test_a_batch_for_far_more_than_a_message_takes_no_more_memory_than_one(database, served):
    """40 queries for all points, 30 MB of them: what is made before the refusal is about one message."""
    docs = served(max_message_bytes=1 << 20, threads=1)
    with pytest.raises(LimitError):
        docs.search_batch({"d": np.ones((40, 4))}, limit=N)
    tracemalloc.start()
    try:
        with pytest.raises(LimitError):
            docs.search_batch({"d": np.ones((40, 4))}, limit=N)
        assert tracemalloc.get_traced_memory()[1] < 15 << 20
    finally:
        tracemalloc.stop()


# ---- Lists in filters ----

LISTS = {
    "isin": F("n").isin(range(11)),
    "not_in": F("n").not_in(range(11)),
    "keywords": F("k").isin([str(i) for i in range(11)]),
    "contains_any": F("many").contains_any(range(11)),
    "contains_all": F("many").contains_all(range(11)),
    "has_id": F.has_id(range(11)),
    "words": F("t").match_any("a b c d e f g h i j k"),
    "deeper": ~(F("n").isin(range(5)) & (F("n").isin(range(4)) | F.has_id([1, 2, 3]))),
    "text": f"n IN ({', '.join(map(str, range(11)))})",
    "text of ids": f"HAS_ID({', '.join(map(str, range(11)))})",
    "JSON": {"op": "in", "field": "n", "values": list(range(11))},
    "JSON of none": {"op": "not_in", "field": "n", "values": list(range(11))},
}


@pytest.mark.parametrize("form", LISTS)
def test_a_list_counts_by_its_values(docs, served, form):
    small = served(max_filter_nodes=10)
    for ask in (
        lambda: small.count(LISTS[form]),
        lambda: small.search(VECTOR, filter=LISTS[form]),
        lambda: small.scroll(filter=LISTS[form]),
        lambda: small.delete(filter=LISTS[form]),
        lambda: small.update(ids=["id1"], attributes={"n": [1]}, if_filter=LISTS[form]),
    ):
        with pytest.raises(LimitError, match="max_filter_nodes") as caught:
            ask()
        assert caught.value.value >= 11
    assert served().count(LISTS[form]) == docs.count(LISTS[form])  # embedded there is no such limit


def test_a_list_of_a_million_is_refused_by_default(docs, served):
    many = [f"value {i}" for i in range(200_000)]
    with pytest.raises(LimitError, match=r"filter has 200000 nodes and values, but this service allows at most 100000.*max_filter_nodes"):
        served().count(F("k").isin(many))
    assert docs.count(F("k").isin(many)) == 0
    assert weight(as_filter(F("k").isin(many))) == 200_000


def test_long_filters_are_not_kept_beyond_their_share():
    cache = bitmap.FilterCache(capacity=10 * VALUE_BYTES * 2_000)
    for i in range(100):
        node = cache.bind(F("n").isin(range(i * 5_000, i * 5_000 + 4_000, 2)), SCHEMA)
        cache.put(("leaf", node), 1, bitmap.BitMap([1]))
    assert len(cache._entries) < 10 and not cache._bound
    cache.bind("n > 3", SCHEMA)
    assert len(cache._bound) == 1


# ---- Memory ----


def test_a_call_that_needs_more_than_it_may_is_refused_and_named(served):
    docs = served(request_memory=2 << 20)
    with pytest.raises(LimitError, match=r"2 MiB.*request_memory"):
        docs.search_batch({"d": np.ones((400, 4))}, limit=N, exact=True)
    with pytest.raises(LimitError, match="request_memory"):
        docs.count("n IN (" + "1," * 60_000 + "1)")
    with pytest.raises(LimitError, match="request_memory"):
        docs.upsert(ids=[1], payload=["x" * (2 << 20)])
    assert len(docs.search(VECTOR)) == 10


def test_a_call_waits_for_memory_that_others_hold_then_is_told_to_come_again():
    pool = memory.Pool(10 << 20, 8 << 20, 0.2, ("working_memory", "request_memory"))
    one, other = pool.allowance(), pool.allowance()
    with deadline.scope(deadline.Deadline(allowance=one)):
        memory.hold(6 << 20, "a test")
        with pytest.raises(LimitError, match="request_memory"):
            memory.hold(3 << 20, "a test")
    with deadline.scope(deadline.Deadline(allowance=other)):
        memory.hold(memory.SMALL - 1, "what isn't counted")
        with pytest.raises(RateLimitError, match="working_memory") as caught, memory.held(5 << 20, "a test"):
            raise AssertionError
        assert caught.value.retry_after > 0 and pool.taken == 6 << 20
        with pytest.raises(vectordb.DeadlineError), deadline.scope(deadline.Deadline(0.0, allowance=other)):
            memory.hold(5 << 20, "a test")
        awaited = []

        def give() -> None:
            awaited.append(pool.awaited)  # then calls that may hold memory don't rest
            one.close()

        assert not pool.awaited
        threading.Timer(0.05, give).start()
        with memory.held(5 << 20, "a test"):
            assert pool.taken == 5 << 20
        assert awaited == [True] and not pool.awaited
    other.close()
    assert pool.taken == 0


def test_what_a_call_held_is_given_back(database, served, monkeypatch):
    made, init = [], guard.Guard.__init__
    monkeypatch.setattr(guard.Guard, "__init__", lambda self, *given, **named: made.append(self) or init(self, *given, **named))
    docs = served(working_memory=64 << 20)
    pools = [each.memory for each in made if each.database is database and each.memory.most == 64 << 20]
    for _ in range(2):
        docs.search_batch({"d": np.ones((30, 4))}, limit=1_000, with_attributes=False)
        with pytest.raises(vectordb.FilterError):
            docs.count("id = 3")
    assert pools and all(pool.taken == 0 for pool in pools)


def test_the_memory_there_is_is_that_of_the_least_group(tmp_path):
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    groups.write_text("0::/a/b\n4:cpu,memory:/c\n5:cpu:/d\n")
    for folder, name, text in (
        ("a/b", "memory.max", "max"),
        ("a", "memory.max", "2147483648"),
        ("memory/c", "memory.limit_in_bytes", "1073741824"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712"),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(text)
    assert sorted(_limits(groups, root)) == [1 << 30, 2 << 30, 9223372036854771712]
    assert _limits(tmp_path / "nothing", root) == []


# ---- Whatever is computed stops ----


def everything(docs) -> dict:
    """Work of every kind that grows with what a caller asks for."""
    many = list(range(0, 6_000, 2))
    return {
        "dense": lambda: docs.search_batch({"d": np.ones((40, 4))}, exact=True),
        "dense, filtered": lambda: docs.search_batch({"d": np.ones((40, 4))}, exact=True, filter="n < 2000"),
        "multi": lambda: docs.search({"m": np.ones((500, 4))}),
        "multi, filtered": lambda: docs.search({"m": np.ones((500, 4))}, filter="n < 2000"),
        "sparse": lambda: docs.search({"s": dict.fromkeys(range(5_000), 1.0)}, exact=True),
        "prefetch": lambda: docs.search({"m": np.ones((50, 4))}, prefetch=Prefetch({"s": {7: 1.0}}, limit=2_000)),
        "linear": lambda: docs.search({"d": np.ones(4), "m": np.ones((50, 4))}, fusion="linear"),
        "fused": lambda: docs.search_batch({"d": np.ones((40, 4)), "s": [{7: 1.0}] * 40}),
        "in": lambda: docs.count(F("n").isin(many)),
        "range": lambda: docs.count("n > 3"),
        "keywords": lambda: docs.count(F("k").isin([f"{TEXT}{i}" for i in many])),
        "glob": lambda: docs.count(F("k").glob("*1*")),
        "prefix": lambda: docs.count(F("k").startswith("x")),
        "words": lambda: docs.count(F("t").match_phrase("some words")),
        "elements": lambda: docs.count(F("many").contains_all(many)),
        "fetch": lambda: docs.search({"d": np.ones(4)}, limit=N),
        "get": lambda: docs.get([f"id{i}" for i in range(N)]),
        "scroll": lambda: docs.scroll(limit=N),
        "scroll, filtered": lambda: docs.scroll(limit=N, filter="n > 3"),
    }


@pytest.mark.parametrize("what", everything(None))
def test_every_kind_of_work_is_cut_and_stops(docs, database, monkeypatch, what):
    """At each look at the deadline in turn: the work ends there. With small pieces it looks often, and finds what it finds at once."""
    expected = str(everything(docs)[what]())
    monkeypatch.setattr(deadline, "WORK", 1_000)
    monkeypatch.setattr(deadline, "EVERY", 64)
    monkeypatch.setattr(read, "PIECE_ROWS", 100)
    monkeypatch.setattr(background, "CORES", 1)
    database._collections.clear()
    docs = database.collection("docs")  # nothing is known of earlier filters
    looks, most = [], 1 << 30

    class Counting(deadline.Deadline):
        def check(self):
            looks.append(time.process_time())
            if len(looks) > most:
                raise vectordb.DeadlineError("enough")

    with deadline.scope(Counting()):
        assert str(everything(docs)[what]()) == expected
    assert len(looks) > 3, "it doesn't look at the deadline"
    for most in {1, len(looks) // 2}:
        looks.clear()
        database._collections.clear()
        with deadline.scope(Counting()), pytest.raises(vectordb.DeadlineError):
            everything(database.collection("docs"))[what]()
        assert most < len(looks) <= most + 1 + deadline._AHEAD  # other threads look once more too


def test_scores_do_not_depend_on_how_work_is_cut(docs, monkeypatch):
    rng = np.random.default_rng(3)
    query = rng.standard_normal((50, 4))
    asked = [
        lambda: docs.search({"m": query}, limit=200),
        lambda: docs.search({"m": query}, limit=200, filter="n > 1500"),
        lambda: docs.search_batch({"d": query}, limit=200, exact=True),
        lambda: docs.search({"s": {1: 0.3, 2: 0.7, 7: 0.1}}, limit=200, exact=True),
    ]
    whole = [ask() for ask in asked]
    for work in (1, 5_000, 300_000):
        monkeypatch.setattr(deadline, "WORK", work)
        assert [ask() for ask in asked] == whole


def test_rows_of_a_query_are_limited_in_a_service(docs, served):
    client = served(max_query_rows=5)
    assert len(client.search({"m": np.ones((5, 4))})) == 10
    with pytest.raises(LimitError, match=r"the query has 6 rows, but this service allows at most 5 .*max_query_rows"):
        client.search({"m": np.ones((6, 4))})
    with pytest.raises(LimitError, match="max_query_rows"):
        client.search_batch({"m": [np.ones((1, 4)), np.ones((6, 4))]})
    with pytest.raises(LimitError, match="max_query_rows"):
        client.search({"d": np.ones(4)}, prefetch=Prefetch({"m": np.ones((6, 4))}))
    assert len(docs.search({"m": np.ones((6, 4))})) == 10


def test_what_threads_read_is_let_go_once_none_is_at_work():
    from concurrent.futures import ThreadPoolExecutor

    begun, at_work = threading.Barrier(3, timeout=20), []

    def work(i):
        begun.wait()
        if i == 0:
            raise ValueError("one fails")
        at_work.append(i)
        try:
            while True:
                deadline.check()
                time.sleep(0.001)
        finally:
            time.sleep(0.05)
            at_work.remove(i)

    with ThreadPoolExecutor(3) as pool, pytest.raises(ValueError, match="one fails"):
        try:
            deadline.map_with_deadline(pool, work, range(3))
        finally:
            assert at_work == []


def test_closing_a_database_ends_the_searches_under_way(tmp_path, monkeypatch):
    database = vectordb.open(tmp_path / "data")
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=range(50), vectors={"d": np.ones((50, 4))})
    begun, ended, real = threading.Event(), [], flat.dense.dense_topk

    def endless(*arguments):
        while True:
            real(*arguments)
            begun.set()
            deadline.check()

    monkeypatch.setattr(flat.dense, "dense_topk", endless)

    def search():
        try:
            docs.search(VECTOR, exact=True)
        except vectordb.VectorDBError as error:
            ended.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    assert begun.wait(300)
    closing = threading.Thread(target=database.close)
    closing.start()
    closing.join(300)
    thread.join(300)
    assert not closing.is_alive() and [type(error) for error in ended] == [vectordb.ClosedError]
    assert deadline.current() is None
