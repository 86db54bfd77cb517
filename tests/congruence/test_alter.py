"""``alter``: integers become floats, and ``ttl`` changes. Afterwards a collection answers like one that was always so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from vectordb_client import Client

from tests.support.places import plain
from vectordb import Datetime, Dense, Float, Int, InvalidArgumentError, Keyword, PreconditionError, Schema, SchemaError
from vectordb.common import clock
from vectordb.engine.check import check

N = 120
START = datetime(2030, 1, 1, tzinfo=UTC)


def schema(kind, ttl=None):
    attributes = {"n": kind(), "many": kind(array=True), "other": Int(), "tag": Keyword(), "ends": Datetime(), "later": Datetime()}
    return Schema({"v": Dense(4)}, attributes, ttl=ttl)


def columns():
    rng = np.random.default_rng(5)
    return {
        "ids": range(N),
        "vectors": {"v": rng.standard_normal((N, 4)).astype(np.float32)},
        "attributes": {
            "n": [int(x) if i % 6 else None for i, x in enumerate(rng.integers(-30, 30, N))],
            "many": [[int(x) for x in rng.integers(0, 9, i % 4)] if i % 5 else None for i in range(N)],
            "other": range(N),
            "tag": [f"t{i % 4}" for i in range(N)],
            "ends": [START + timedelta(minutes=i) if i % 3 else None for i in range(N)],
            "later": [START + timedelta(minutes=2 * i) if i % 4 else None for i in range(N)],
        },
        "payload": [{"i": i} for i in range(N)],
    }


def fill(docs, whole=True):
    docs.upsert(ids=[500, 501], attributes={"n": [2**60 + 1, 7], "many": [[2**53 + 1], [1]]})
    docs.delete([500, 501])  # a row that is dead doesn't matter
    given = columns()
    for low, high in ((0, 50), (50, 60), (60, N)):
        part = {name: values[low:high] for name, values in given["attributes"].items()}
        vectors = {"v": given["vectors"]["v"][low:high]}
        docs.upsert(ids=given["ids"][low:high], vectors=vectors, attributes=part, payload=given["payload"][low:high])
    docs.delete([3, 70])
    return docs


CONDITIONS = ["n = 5", "n > 1.5", "n BETWEEN -3.25 AND 8", "n IN (1, 2, 3)", "n IS NULL", "NOT n < 0"]
CONDITIONS += ["many = 3", "COUNT(many) = 2", "many IS NULL", "many > 6.5"]


def answers(docs):
    query = {"v": np.ones(4, np.float32)}
    found = [plain([(each.id, each.vectors, each.attributes, each.payload) for each in docs.iterate(with_vectors=True)])]
    found.append(docs.schema.to_dict())
    for condition in CONDITIONS:
        found.append((condition, docs.count(condition), docs.search(query, filter=condition, limit=9).ids.tolist()))
    for _ in range(3):
        found.append(plain(docs.search(query, limit=5, filter="n > 2")))
    found.append([point.id for point in docs.scroll(order_by=["-n", "other"], limit=40).points])
    found.append(docs.facets(["n", "tag"]))
    found.append(docs.aggregate({"n": ["min", "max", "sum", "mean", "p50", "distinct"], "other": ["sum"]}))
    return found


def test_integers_become_floats(database, embedded, directory):
    docs = fill(database.create_collection("docs", schema(Int)))
    other = fill(database.create_collection("other", schema(Float)))
    before = answers(docs)
    assert [type(docs.get(1).attributes["n"]), type(before[-1]["n"]["sum"])] == [int, int]
    with pytest.raises(InvalidArgumentError, match=r"n must be an integer, not 1.5 \(float\); alter\(attributes="):
        docs.upsert(ids=[1], attributes={"n": [1.5]})
    sequence = docs.info().sequence
    docs.alter(attributes={"n": Float(), "many": Float(array=True)})
    assert answers(docs) == answers(other)
    assert [c.kind for c in docs.changes(since=sequence)] == ["schema"] and docs.info().sequence == sequence + 1
    docs.alter(attributes={"n": Float()})  # it is one already
    assert docs.info().sequence == sequence + 1
    for each in (docs, other):
        each.upsert(ids=[900], attributes={"n": [1.5], "many": [[0.25, 6.75]]})
        each.update(ids=[4], attributes={"n": [2]}, payload=["x"])
        each.update(ids=[5], increment={"n": 0.5})
    found, expected = answers(docs), answers(other)
    assert found == expected and docs.count("n = 1.5") == 1
    embedded.flush()
    assert check(directory).problems == ()
    docs.optimize()
    docs.purge()
    assert answers(docs) == expected
    embedded.flush()
    assert check(directory).problems == ()


def test_an_integer_without_an_equal_float_is_named(database):
    docs = database.create_collection("docs", schema(Int))
    docs.upsert(ids=[1, 2, 3], attributes={"n": [2**53, 2**62, -(2**63)], "many": [[1], [2, 2**53 + 1], None]})
    with pytest.raises(SchemaError, match="'many' can't become a float: point 2 has 9007199254740993") as caught:
        docs.alter(attributes={"n": Float(), "many": Float(array=True)})
    assert (caught.value.field, docs.schema) == ("many", schema(Int))
    docs.alter(attributes={"n": Float()})
    assert docs.get(3).attributes["n"] == -(2.0**63) and docs.count("n = 4611686018427387904") == 1
    docs.update(ids=[2], attributes={"many": [[2]]})
    docs.alter(attributes={"many": Float(array=True)})
    assert docs.get(2).attributes["many"] == [2.0]


def test_wrong_alterations_are_refused_and_change_nothing(database):
    docs = database.create_collection("docs", schema(Float))
    before = docs.info().sequence
    wrong = [
        (lambda: docs.alter(), "something to change"),
        (lambda: docs.alter(attributes={"n": Int()}), r"is Float\(\) and can't become Int\(\): only Int\(\) can become Float\(\)"),
        (lambda: docs.alter(attributes={"other": Float(array=True)}), "can't become"),
        (lambda: docs.alter(attributes={"tag": Keyword(tenant=True)}), "can't become"),
        (lambda: docs.alter(attributes={"nothing": Float()}), "no attribute 'nothing' to alter"),
        (lambda: docs.alter(attributes={"other": "float"}), "can't become 'float'"),
        (lambda: docs.alter(attributes=["other"]), "must be a mapping"),
        (lambda: docs.alter(ttl="nothing"), "ttl must name an attribute"),
        (lambda: docs.alter(ttl="n"), "ttl must name an attribute"),
        (lambda: docs.alter(ttl=7), "ttl must name an attribute"),
    ]
    for call, words in wrong:
        with pytest.raises(SchemaError, match=words):
            call()
    assert docs.info().sequence == before and docs.schema == schema(Float)


@pytest.fixture
def now():
    """``now(minutes)`` sets the clock."""
    yield lambda minutes: clock.set_clock(lambda: int((START + timedelta(minutes=minutes)).timestamp() * 1e6))
    clock.set_clock(None)


def ids(docs):
    return [point.id for point in docs.iterate()], docs.count(), docs.search({"v": [1, 1, 1, 1]}, limit=200).ids.tolist()


def test_ttl_is_set_changed_and_taken_away(database, embedded, directory, now):
    now(0)
    docs, other = (database.create_collection(name, schema(Int)) for name in ("docs", "other"))
    for each in (docs, other):
        fill(each)
    gone, ttl, attributes = set(), None, columns()["attributes"]

    def ended(minutes):
        moments = enumerate([] if ttl is None else attributes[ttl])
        return {i for i, moment in moments if moment is not None and moment <= START + timedelta(minutes=minutes)}

    for step, (minutes, following) in enumerate([(20, "ends"), (30, "later"), (60, None), (66, "ends"), (72, "ends"), (78, None)]):
        now(minutes)
        gone |= ended(minutes)
        docs.alter(ttl=following)
        ttl = following
        assert docs.schema.ttl == ttl
        for later in (minutes, minutes + 5):
            now(later)
            gone |= ended(later)
            other.delete(sorted(gone))
            assert ids(docs) == ids(other), (step, later)
        if step == 1:
            docs.update(ids=[119], attributes={"later": [START]})
            other.delete([119])
            gone.add(119)
            docs.optimize()
    with pytest.raises(PreconditionError):
        docs.upsert(ids=[119], if_version=[1])
    assert docs.drop_fields(["ends"]) is None
    embedded.flush()
    assert check(directory).problems == ()


def test_a_client_with_an_older_schema(embedded, address):
    docs = embedded.create_collection("docs", schema(Int))
    with Client(address) as client:
        theirs = client.collection("docs")
        docs.alter(attributes={"n": Float()})
        theirs.upsert(ids=[1], attributes={"n": [1]})
        theirs.upsert(ids=[2], attributes={"n": [1.5]})
        assert [point.attributes["n"] for point in docs] == [1.0, 1.5] and type(docs.get(1).attributes["n"]) is float
        assert theirs.schema == docs.schema
