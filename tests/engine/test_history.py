"""``as_of``: each earlier state answers like a fresh database into which the operations until then are replayed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import vectordb
from tests.support.places import difference, plain
from vectordb import (
    Arm,
    Bool,
    Dense,
    F,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    Linear,
    NotFoundError,
    PreconditionError,
    Prefetch,
    Range,
    Schema,
    Sparse,
    Text,
    Value,
)
from vectordb.common import clock
from vectordb.engine.check import check
from vectordb.storage import format
from vectordb.storage.change_log import Limits

START = datetime(2030, 1, 1, tzinfo=UTC)
WORDS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
SCHEMA = Schema(
    {"d": Dense(3), "e": Dense(2, metric="l2", index=None), "t": Sparse(encoder="bm25", source="body")},
    {"body": Text(), "n": Int(), "x": Float(), "k": Keyword(), "tags": Keyword(array=True), "b": Bool()},
)
IDS = [*range(12), *(f"p{i}" for i in range(8))]
FILTERS = [
    "n < 5",
    "k = 'b' OR b = true",
    "NOT tags = 'x'",
    "body MATCH 'cat'",
    F("meta.page") > 3,
    F("meta.page").is_missing(),
    F.has_id(IDS[:9]),
    F("id").in_(IDS[:9]) if hasattr(F("id"), "in_") else "ALL",
    "n IS NULL",
]


class Time:
    """A clock that the test sets."""

    seconds = 0.0

    def __call__(self):
        return int((START.timestamp() + self.seconds) * 1_000_000)

    def at(self, seconds):
        return START + timedelta(seconds=seconds)


@pytest.fixture
def time():
    time = Time()
    clock.set_clock(time)
    yield time
    clock.set_clock(None)


def operations(rng, n):
    """n random writes, as functions of a collection."""

    def some(most):
        return [IDS[i] for i in rng.choice(len(IDS), rng.integers(1, most), replace=False)]

    def point(name):
        vectors = {"d": rng.integers(-4, 5, 3) + 0.5, "e": rng.integers(-4, 5, 2)}
        attributes = {
            "body": " ".join(rng.choice(WORDS, rng.integers(0, 9))),
            "n": int(rng.integers(0, 9)) if rng.random() < 0.8 else None,
            "x": float(rng.integers(0, 5)) / 4,
            "k": str(rng.choice(list("abc"))),
            "tags": [str(each) for each in rng.choice(list("xyz"), rng.integers(0, 3))] or None,
            "b": bool(rng.random() < 0.5),
        }
        kept = {name: vector.tolist() for name, vector in vectors.items() if rng.random() < 0.8}
        payload = {"meta": {"page": int(rng.integers(0, 8))}, "by": str(rng.choice(WORDS))} if rng.random() < 0.7 else None
        return {"id": name, "vectors": kept, "attributes": attributes, "payload": payload}

    made = []
    for _ in range(n):
        kind, number, word = rng.integers(0, 9), int(rng.integers(0, 9)), str(rng.choice(WORDS))
        if kind < 3:
            points = [point(name) for name in some(9)]
            made.append(lambda docs, points=points: docs.upsert(points))
        elif kind == 3:
            ids = some(5)
            made.append(lambda docs, ids=ids: docs.delete(ids))
        elif kind == 4:
            made.append(lambda docs, number=number: docs.delete(filter=f"n = {number}"))
        elif kind == 5:
            made.append(lambda docs, number=number, word=word: docs.update(filter=f"n > {number}", attributes={"body": word}))
        elif kind == 6:
            made.append(lambda docs, number=number: docs.update(filter="k = 'a'", increment={"n": number, "x": 0.5}))
        elif kind == 7:
            made.append(lambda docs, number=number: docs.update(filter=f"n <= {number}", payload_merge={"meta": {"page": number}}))
        else:
            made.append(lambda docs, number=number: docs.update(filter=f"x < {number / 8}", vectors={"e": [number, 1]}))
    return made


def answers(docs, **state):
    """What a collection answers. state: ``as_of``."""
    d, e, query = {"d": [1.0, -0.5, 2.0]}, {"e": [1.0, 2.0]}, {"d": [1.0, -0.5, 2.0], "e": [1.0, 2.0]}
    found = [docs.count(**state), docs.get(IDS, with_vectors=True, **state), list(docs.iterate(page=7, with_vectors=True, **state))]
    for condition in FILTERS:
        found += [docs.count(condition, **state), [point.id for point in docs.iterate(filter=condition, page=4, **state)]]
        found += [docs.search(d, filter=condition, **state), docs.search(text={"t": "cat dog"}, filter=condition, **state)]
    for options in ({"exact": True}, {"limit": 3}, {"min_score": 1.0}, {"score": "calibrated"}, {"boost": Value("x")}, {"offset": 2}):
        found.append(docs.search(d, **options, **state))
    found += [docs.search(e, radius=20.0, **state), docs.search(text={"t": "cat fox fox"}, with_vectors=True, **state)]
    for fusion in ("rrf", "relative", "dbsf", "linear", Linear({"d": 0.5}, missing="renormalise")):
        found.append(docs.search(query, text={"t": "bee cat"}, fusion=fusion, exact=True, **state))
    found.append(docs.search({"a": Arm("d", d["d"], filter="n > 2"), "b": Arm("t", "eel")}, **state))
    found.append(docs.search(d, prefetch=Prefetch(e, limit=6), diversity=0.3, **state))
    found.append(docs.search(text={"t": "caat hen"}, fuzzy=1, highlight=["body"], **state))
    if docs.get(3, **state) is not None and "d" in docs.get(3, with_vectors=True, **state).vectors:
        found.append(docs.search(like={"d": [3]}, filter="n > 1", **state))
    found += [docs.search(order_by=order, **state) for order in (["-n", "x"], ["k", "-x"])]
    page = docs.scroll(order_by=["x", "-n"], limit=5, **state)
    found.append(page.points)
    while page.cursor is not None:
        page = docs.scroll(order_by=["x", "-n"], limit=5, cursor=page.cursor, **state)
        found.append(page.points)
    hits = docs.search(d, limit=4, **state)
    while hits.next is not None:
        hits = docs.search(d, limit=4, cursor=hits.next, **state)
        found.append(hits)
    found.append(docs.search_batch({"d": [d["d"], [0.5, 0.5, 0.5]]}, filter=[None, "b = true"], limit=4, **state))
    found.append(docs.prepare(limit=4, **state)(d))
    found.append(docs.search(d, group_by="k", group_size=2, facets=["k", "tags", Range("n", [0, 3, None])], **state).groups)
    found += [docs.facets(["k", "tags", "b", Range("x", [0, 0.5, 2])], filter=condition, **state) for condition in (None, "n > 2")]
    found.append(docs.aggregate({"n": ["count", "distinct", "min", "max", "sum", "mean", "p50"], "k": "max", "body": "count"}, **state))
    return plain(found)


def replayed(path, made, **given):
    """sequence → answers of a database without history, after each operation."""
    with vectordb.open(path, durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA, **given)
        states = {0: answers(docs)}
        for each in made:
            sequence = each(docs).sequence
            states[sequence] = answers(docs)
    return states


@pytest.mark.parametrize("seed", range(2))
def test_each_state_answers_like_a_replay(tmp_path, seed):
    rng = np.random.default_rng(seed)
    made = operations(rng, 12)
    expected, path = replayed(tmp_path / "replayed", made), tmp_path / "data"
    database = vectordb.open(path, durability="batched", maintenance=False)
    docs = database.create_collection("docs", SCHEMA, history="7d")
    reached = 0
    for i, each in enumerate(made):
        reached = each(docs).sequence
        if i % 7 == 3:
            docs.optimize()
        if i % 9 == 5:
            database.close()
            database = vectordb.open(path, durability="batched", maintenance=False)
            docs = database["docs"]
        for sequence in rng.choice([known for known in expected if known <= reached], 2):
            state = int(sequence)
            assert not difference(expected[state], answers(docs, as_of=state)), (i, state)
    for state in expected:
        assert not difference(expected[state], answers(docs, as_of=state)), state
    assert docs.info().history == {"seconds": 604_800.0, "first": 0, "time": None}
    database.close()
    assert not check(path).problems
    # No more is stored without history, whatever happened before.
    with vectordb.open(path, maintenance=False) as database:
        docs = database["docs"]
        docs.keep_history(None)
        docs.optimize()
        assert docs.info().deleted_rows == 0


def test_rows_and_log_entries_that_the_history_needs_no_longer_are_removed(tmp_path, time):
    with vectordb.open(tmp_path / "data", maintenance=False, change_log_batches=1) as database:
        docs = database.create_collection("docs", SCHEMA, history="1h")
        for hour in range(6):
            time.seconds = 1800.0 * hour
            docs.upsert([{"id": i, "attributes": {"n": hour}} for i in range(3)])
            docs.optimize()
        # At 2 h 30: what was replaced before 1 h 30 isn't needed; the state of 1 h 30 is.
        history = docs.info().history
        assert (history["first"], datetime.fromisoformat(history["time"])) == (4, time.at(5400))
        assert docs.info().deleted_rows == 6
        assert [docs.get(1, as_of=state).attributes["n"] for state in (4, 5, 6)] == [3, 4, 5]
        assert docs.get(1, as_of=time.at(5400.5)) == docs.get(1, as_of=4)
        for state in (3, 0, time.at(5399)):
            with pytest.raises(
                NotFoundError, match=r"as_of is .*, but the history begins at sequence 4 \(2030-01-01T01:30:00\.000\+00:00\)"
            ):
                docs.count(as_of=state)
        docs.keep_history("10m")
        docs.optimize()
        assert (docs.info().deleted_rows, docs.info().history["first"]) == (3, 5)
        time.seconds += 3600
        docs.upsert([{"id": 1, "attributes": {"n": 9}}])
        docs.optimize()
        assert (docs.info().deleted_rows, docs.info().history["first"]) == (1, 6)
        assert docs.count(as_of=6) == 3 and docs.get(1, as_of=6).attributes == {"n": 5}


def test_a_time_means_the_last_state_until_then(tmp_path, time):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA, history=timedelta(days=1))
        for minute in (1, 2, 2, 5):  # two in the same moment
            time.seconds = 60.0 * minute
            docs.upsert([{"id": docs.count(), "attributes": {"n": minute}}])
        time.seconds = 30.0  # the clock was set back: times of the log don't fall
        docs.upsert([{"id": 9}])
        time.seconds = 1e4
        expected = {0: 0, 59.999: 0, 60: 1, 119: 1, 120: 3, 299: 3, 300: 5, 9999: 5}
        assert {second: docs.count(as_of=time.at(second)) for second in expected} == expected
        east = time.at(120).astimezone(datetime.strptime("+0530", "%z").tzinfo)
        assert docs.count(as_of=east) == docs.count(as_of=east.isoformat()) == docs.count(as_of="2030-01-01T00:02:00Z") == 3
        assert docs.count(as_of=time.at(1e4 + 30)) == 5  # the clock of a caller may be ahead
        with pytest.raises(InvalidArgumentError, match="which is in the future"):
            docs.count(as_of=time.at(2e4))


def test_points_that_end_are_those_of_the_state(tmp_path, time):
    schema = Schema(
        {"d": Dense(3), "t": Sparse(encoder="bm25", source="body")}, {"body": Text(), "until": vectordb.Datetime()}, ttl="until"
    )

    def answers(docs, **state):
        found = [docs.count(**state), list(docs.iterate(**state)), docs.get([0, 1, 2, 3], **state), docs.count("body MATCH 'a'", **state)]
        found += [
            docs.search({"d": [1.0, 1.0, 1.0]}, **state),
            docs.search(text={"t": "a b"}, **state),
            docs.search(order_by="until", **state),
        ]
        return plain(found)

    def step(docs, second):
        time.seconds = second
        if second == 50:
            return docs.delete([3])
        ends = {10: 45.0, 20: 100.0, 30: None, 40: 60.0}.get(second)
        until = None if ends is None else time.at(ends)
        point = {
            "id": int(second // 10) - 1,
            "vectors": {"d": [second, 1, 2]},
            "attributes": {"body": "a b " * int(second // 10), "until": until},
        }
        return docs.upsert([point])

    expected = {}
    with vectordb.open(tmp_path / "replayed", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        for second in range(10, 130, 10):
            if second <= 50 or second == 80:
                step(docs, float(second))
            time.seconds = second + 2.0
            expected[second] = answers(docs)
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", schema, history="1d")
        for second in (10, 20, 30, 40, 50, 80):
            step(docs, float(second))
        time.seconds = 1000.0
        docs.optimize()
        for second, answer in expected.items():
            assert not difference(answer, answers(docs, as_of=time.at(second + 2.0))), second
        assert [docs.count(as_of=state) for state in (7, 8)] == [3, 2]  # of a sequence, what had ended when it was written


def test_indexes_are_used_where_they_have_all_rows(tmp_path):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((900, 3)).astype(np.float32)
    bodies = [" ".join(rng.choice(WORDS, 6)) for _ in range(900)]
    queries = rng.standard_normal((8, 3)).astype(np.float32)
    schema = Schema({"d": Dense(3), "t": Sparse(encoder="bm25", source="body")}, {"body": Text(), "n": Int()})
    with vectordb.open(tmp_path / "data", maintenance=False, durability="batched") as database:
        docs = database.create_collection("docs", schema, history="1d")
        states = {}

        def note():
            states[docs.info().sequence] = plain(
                [docs.search_batch({"d": queries}, exact=True), docs.search(text={"t": "cat dog"}, exact=True)]
            )

        docs.upsert(ids=range(600), vectors={"d": vectors[:600]}, attributes={"n": range(600), "body": bodies[:600]})
        note()
        docs.optimize()
        docs.delete(filter="n < 50")
        note()
        docs.upsert(ids=range(600, 900), vectors={"d": vectors[600:]}, attributes={"n": range(600, 900), "body": bodies[600:]})
        note()
        docs.delete(filter="n BETWEEN 100 AND 140")
        note()

        def compare():
            for state, expected in states.items():
                exact = [
                    docs.search_batch({"d": queries}, exact=True, as_of=state),
                    docs.search(text={"t": "cat dog"}, exact=True, as_of=state),
                ]
                assert not difference(expected, plain(exact)), state
                found = docs.search_batch({"d": queries}, as_of=state)
                truth = [set(hits.ids) for hits in docs.search_batch({"d": queries}, exact=True, as_of=state)]
                assert np.mean([len(set(hits.ids) & ids) / len(ids) for hits, ids in zip(found, truth, strict=True)]) >= 0.9

        def plan(state):
            return docs.search({"d": queries[0]}, as_of=state, explain=True).plan

        compare()
        assert plan(1)["arms"][0]["plan"] == "segments"  # made in this state
        assert plan(2)["as_of"] == {"sequence": 2, "newest": 4, "old_rows": 41, "index_files": {"used": 2, "left_out": 0}}
        docs.optimize()  # makes files without the rows that died
        compare()
        told = plan(1)
        assert told["as_of"]["index_files"]["left_out"] and "as of sequence 1, 3 writes ago" in str(told), told
        assert plan(4)["arms"][0]["plan"] == "segments"


def test_a_purge_removes_points_from_the_history_at_once(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA, history="1d")
        docs.upsert([{"id": 1, "attributes": {"body": "secret"}}, {"id": 2}])
        docs.delete([1])
        assert docs.get(1, as_of=1).attributes == {"body": "secret"}
        assert docs.purge()["proven"]
        with pytest.raises(NotFoundError, match=r"history begins at sequence 2 .*; earlier states were not kept, or a purge removed them"):
            docs.get(1, as_of=1)
        assert docs.count(as_of=2) == 1
        docs.delete([2])
        assert docs.count(as_of=2) == 1 and docs.count(as_of=3) == 0


def test_fields_have_the_names_of_today(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA, history="1d")
        docs.upsert([{"id": 1, "vectors": {"d": [1, 2, 3], "e": [1, 1]}, "attributes": {"n": 1, "k": "a"}}])
        docs.add_fields(attributes={"later": Int()})
        docs.upsert([{"id": 1, "vectors": {"d": [1, 2, 3]}, "attributes": {"later": 5, "k": "b"}}])
        docs.rename_fields({"n": "number", "d": "dense"})
        docs.drop_fields(["k", "e"])
        docs.optimize()
        assert docs.get(1, with_vectors=True, as_of=1).attributes == {"number": 1}
        assert list(docs.get(1, with_vectors=True, as_of=1).vectors) == ["dense"]
        assert (
            docs.count("number = 1", as_of=1) == 1 and docs.count("later IS NULL", as_of=1) == 1 and docs.count("later = 5", as_of=3) == 1
        )
        assert docs.search({"dense": [1, 2, 3]}, as_of=1).ids.tolist() == [1]


def test_history_that_begins_later_begins_with_that_state(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert([{"id": 1}])
        docs.delete([1])
        with pytest.raises(PreconditionError, match=r'keep_history\("7d"\) keeps it from now on'):
            docs.count(as_of=1)
        assert docs.info().history == {} and "history" not in docs.info().to_dict()
        docs.keep_history(3600)
        docs.upsert([{"id": 2}])
        assert [docs.count(as_of=state) for state in (2, 3)] == [0, 1]
        with pytest.raises(NotFoundError, match="begins at sequence 2"):
            docs.count(as_of=1)
        docs.keep_history(0)
        docs.keep_history("1d")
        with pytest.raises(NotFoundError, match="begins at sequence 3"):
            docs.count(as_of=2)
        assert database.create_collection("docs", SCHEMA, exist_ok=True).info().history["seconds"] == 86_400
        database.drop_collection("docs")
        assert database.create_collection("docs", SCHEMA, history="1d").count(as_of=0) == 0


def test_the_change_log_keeps_what_the_history_needs(tmp_path):
    for history, kept in ((None, 2), ("1d", 9)):
        with vectordb.open(tmp_path / str(history), maintenance=False, change_log_batches=2) as database:
            docs = database.create_collection("docs", SCHEMA, history=history)
            for i in range(9):
                docs.upsert([{"id": i}])
            with docs._snapshots.pin() as view:
                assert sum(view.store.log(sequence) is not None for sequence in range(1, 10)) == kept
                descriptor = bytes(view.txn.get(format.key(docs.number, format.META)))
                assert (b"history" in descriptor) == (history is not None)
    assert Limits().history == 0.0


@pytest.mark.parametrize("value", [-1, "soon", "7", True, 2e9, float("nan"), [1]])
def test_wrong_times_are_refused(tmp_path, value):
    with vectordb.open(":memory:") as database:
        with pytest.raises(InvalidArgumentError, match="history must be a time such as '7d' or '12h'"):
            database.create_collection("docs", SCHEMA, history=value)
        assert "docs" not in database
        docs = database.create_collection("docs", SCHEMA)
        with pytest.raises(InvalidArgumentError, match="history must be a time such as '7d' or '12h'"):
            docs.keep_history(value)
