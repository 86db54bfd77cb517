"""Points that end: at each moment a collection answers like one from which the ended points were deleted. The clock is set by the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.support.places import plain
from tests.support.upkeep import hurry, until
from vectordb import Datetime, Dense, Int, NotFoundError, Schema, SchemaError, Sparse, Text
from vectordb.common import clock
from vectordb.engine.check import check

N = 80
START = datetime(2030, 1, 1, tzinfo=UTC)
VECTORS = {"v": Dense(4), "s": Sparse(encoder="bm25", source="body")}
ATTRIBUTES = {"n": Int(), "body": Text(), "ends": Datetime(), "other": Datetime(array=True)}
SCHEMA, PLAIN = Schema(VECTORS, ATTRIBUTES, ttl="ends"), Schema(VECTORS, ATTRIBUTES)


class Time:
    def __init__(self):
        self.minutes = 0

    def __call__(self):
        return int((START + timedelta(minutes=self.minutes)).timestamp() * 1_000_000)


@pytest.fixture
def time():
    time = Time()
    clock.set_clock(time)
    yield time
    clock.set_clock(None)


def moment(i):
    """When point i ends: every fourth never."""
    return None if i % 4 == 3 else START + timedelta(minutes=(i * 7) % 50 + 1)


def fill(docs):
    rng = np.random.default_rng(3)
    docs.upsert(
        ids=range(N),
        vectors={"v": rng.standard_normal((N, 4)).astype(np.float32)},
        attributes={"n": range(N), "body": [f"w{i % 5} fox {'x ' * (i % 7)}" for i in range(N)], "ends": [moment(i) for i in range(N)]},
    )
    return docs


def answers(docs):
    query, found = np.ones(4, np.float32), [plain(list(docs.iterate(with_vectors=True))), docs.count(), docs.info().points]
    for condition in ("n < 20", "body MATCH 'w2'", "ends IS NULL", "NOT n = 3"):
        found += [docs.count(condition), docs.search({"v": query}, filter=condition, limit=20).ids.tolist()]
    for _ in range(3):  # the third time directly
        found.append(plain(docs.search({"v": query}, limit=7)))
    found.append(plain(docs.search({"v": query}, limit=7, exact=True)))
    found.append(plain(docs.search(text="w2 fox", limit=90)))
    found.append([hit.id for hit in docs.search({"v": query}, text="w1", limit=9)])
    found.append([point is not None for point in docs.get(list(range(N)))])
    found.append([point.id for point in docs.scroll(filter="n < 60", limit=90).points])
    return found


def ended(time):
    return [i for i in range(N) if moment(i) is not None and moment(i) <= START + timedelta(minutes=time.minutes)]


def test_at_each_moment_the_answers_are_those_without_the_ended_points(database, embedded, directory, time, monkeypatch):
    hurry(monkeypatch, SEAL_ROWS=32)
    docs, other = fill(database.create_collection("docs", SCHEMA)), fill(database.create_collection("other", PLAIN))
    for step, minutes in enumerate((0, 1, 9, 9, 30, 60)):
        time.minutes = minutes
        if step == 2:
            docs.optimize()
            other.optimize()
        other.delete(ended(time))
        assert answers(docs)[1:] == answers(other)[1:]
        assert [p.id for p in docs.iterate()] == [p.id for p in other.iterate()]
    assert docs.count() == N // 4
    gone = docs.optimize()["rows_dropped"]
    assert gone > 0 and docs.info().deleted_rows == 0 and [p.id for p in docs.iterate()] == list(range(3, N, 4))
    assert {i for c in docs.changes() if c.kind == "delete" for i in c.ids} == set(ended(time))
    embedded.flush()
    assert check(directory).problems == ()
    until(lambda: check(directory).notes == ())  # the background may just be replacing an index file


def test_a_write_takes_the_id_of_an_ended_point_for_a_free_one(database, time):
    docs = database.create_collection("docs", SCHEMA)
    soon = START + timedelta(minutes=5)
    docs.upsert(ids=[1, 2, 3], attributes={"n": [1, 2, 3], "ends": [soon, soon, None]})
    docs.update(ids=[2], attributes={"ends": [START + timedelta(minutes=9)]})
    time.minutes = 5
    assert docs.get([1, 2, 3])[0] is None and docs.count() == 2 == docs.info().sequence  # reads write nothing
    with pytest.raises(NotFoundError):
        docs.update(ids=[1], attributes={"n": [5]})
    assert docs.update(filter="ALL", increment={"n": 1}).count == 2
    assert docs.upsert(ids=[1], attributes={"n": [7]}, if_version=0).count == 1
    time.minutes = 9
    assert docs.upsert(ids=[1, 2], attributes={"n": [0, 8]}, if_absent=True).count == 1
    assert {p.id: p.attributes["n"] for p in docs.iterate()} == {1: 7, 2: 8, 3: 4}
    docs.upsert(ids=[4], attributes={"ends": [START]})  # has ended already
    assert docs.get(4) is None and docs.count() == 3
    with database.transaction() as t:
        t["docs"].upsert(ids=[4], attributes={"n": [1]}, if_version=0)
    assert docs.get(4).attributes == {"n": 1}


def test_the_attribute_is_renamed_with_the_collection_and_not_dropped(database, embedded, directory, time):
    docs = fill(database.create_collection("docs", SCHEMA))
    docs.rename_fields({"ends": "until"})
    docs.add_fields(attributes={"more": Int()})
    assert docs.schema.ttl == "until" and Schema.from_dict(docs.schema.to_dict()) == docs.schema
    with pytest.raises(SchemaError, match="says when points end"):
        docs.drop_fields("until")
    time.minutes = 60
    assert docs.count() == N // 4
    docs.delete([3])
    assert docs.count() == N // 4 - 1
    embedded.flush()
    assert check(directory).problems == ()


def test_wrong_ttls_are_refused():
    wrong_ones = {"nothing": "is not an attribute", "n": "it is Int", "other": "array=True", 5: "5", "v": "not an attribute"}
    for wrong, words in wrong_ones.items():
        with pytest.raises(SchemaError, match=words):
            Schema(VECTORS, ATTRIBUTES, ttl=wrong)
