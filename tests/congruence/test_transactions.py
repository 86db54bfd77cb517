"""Transactions over several collections: everything or nothing, as a model of three dicts says, in every place."""

from __future__ import annotations

import copy
import random

import pytest

from vectordb import (
    ClosedError,
    Dense,
    InvalidArgumentError,
    Keyword,
    NotFoundError,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
    VectorDBError,
)
from vectordb import Int as Number

NAMES = ["a", "b", "c"]
SCHEMA = Schema({"v": Dense(2), "s": Sparse(encoder="bm25", source="body")}, {"n": Number(), "tag": Keyword(), "body": Text()})


@pytest.fixture
def collections(database):
    return {name: database.create_collection(name, SCHEMA) for name in NAMES}


def content(collections):
    return {name: {p.id: p.attributes.get("n") for p in each.iterate()} for name, each in collections.items()}


def test_random_transactions_do_what_a_model_does_or_nothing(database, collections):
    rng, model = random.Random(5), {name: {} for name in NAMES}
    refused = 0
    for k in range(40):
        after, failed = copy.deepcopy(model), False
        before = {name: each.info().sequence for name, each in collections.items()}
        counts = []
        try:
            with database.transaction() as t:
                for _ in range(rng.randint(1, 4)):
                    name, ids = rng.choice(NAMES), rng.sample(range(8), 2)
                    points, kind = after[name], rng.choice(["upsert", "upsert", "update", "delete", "filter", "condition", "raise"])
                    if kind == "upsert":
                        t[name].upsert(ids=ids, vectors={"v": [[k, 1], [k, 2]]}, attributes={"n": [k, k], "body": ["red fox", f"w{k}"]})
                        points.update(dict.fromkeys(ids, k))
                        counts.append(2)
                    elif kind == "update":
                        t[collections[name]].update(ids=ids, attributes={"n": [k, -k]})
                        failed |= not set(ids) <= set(points)
                        points.update(zip(ids, (k, -k), strict=True))
                        counts.append(2)
                    elif kind == "delete":
                        t[name].delete(ids)
                        counts.append(sum(i in points for i in ids))
                        [points.pop(i, None) for i in ids]
                    elif kind == "filter":
                        t[name].delete(filter=f"n = {k} OR n < 0")
                        gone = [i for i, n in points.items() if n == k or n < 0]
                        counts.append(len(gone))
                        [points.pop(i) for i in gone]
                    elif kind == "condition":
                        t[name].upsert(ids=[9], attributes={"n": [k]}, if_version=0)
                        failed |= 9 in points
                        points[9] = k
                        counts.append(1)
                    elif rng.random() < 0.3:
                        raise LookupError
            assert not failed
            model = after
            assert [result.count for result in t.results] == counts
            assert all(collections[name].info().sequence == sequence for name, sequence in t.sequences.items())
        except (LookupError, VectorDBError):
            refused += 1
            assert not t.results and before == {name: each.info().sequence for name, each in collections.items()}
        assert content(collections) == model
    assert 5 < refused < 35
    for each in collections.values():
        assert len(each.search(text="red", limit=20)) == each.count("body MATCH 'red'")
        assert [c.sequence for c in each.changes()] == list(range(1, each.info().sequence + 1))


def test_reads_inside_show_what_is_committed_and_conditions_what_the_transaction_wrote(database, collections):
    a = collections["a"]
    a.upsert(ids=[1], attributes={"n": [1]})
    version = a.get(1).version
    with database.transaction() as t:
        t[a].update(ids=[1], attributes={"n": [2]}, if_version=version)
        assert a.get(1).attributes["n"] == 1
        t["b"].upsert(ids=[1], attributes={"n": [2]})
        assert collections["b"].count() == 0
        t["a"].update(ids=[1], attributes={"tag": ["x"]}, if_filter="n = 2")
    assert a.get(1).attributes == {"n": 2, "tag": "x"} and collections["b"].count() == 1
    with (
        pytest.raises(
            PreconditionError, match=r"point 1 is at version \d+, not at version \d+ \(write 2 of the transaction, collection 'a'"
        ),
        database.transaction() as t,
    ):
        t["b"].delete(filter="ALL")
        t["a"].update(ids=[1], attributes={"n": [5]}, if_version=version)
    assert collections["b"].count() == 1


def test_a_transaction_without_writes_commits_nothing(database, collections):
    with database.transaction(durability="batched") as t:
        pass
    assert t.results == [] and t.sequences == {} and collections["a"].info().sequence == 0


def test_wrong_writes_and_wrong_uses_are_refused_at_once_and_write_nothing(database, collections):
    wrong = [
        (lambda t: t["a"].upsert(ids=[1], attributes={"n": ["x"]}), InvalidArgumentError, "n"),
        (lambda t: t["a"].upsert(ids=[1], attributes={"m": [1]}), SchemaError, "attributes"),
        (lambda t: t["a"].upsert(ids=[1], durability="commit"), InvalidArgumentError, "durability"),
        (lambda t: t["a"].delete(), InvalidArgumentError, "ids"),
        (lambda t: t["nothing"].upsert(ids=[1]), NotFoundError, "collection"),
        (lambda t: t[7].upsert(ids=[1]), InvalidArgumentError, "collection"),
        (lambda t: t["a"].upsert(ids=[1], vector=[1]), InvalidArgumentError, "vector"),
        (lambda t: t["a"].search({"v": [1, 2]}), InvalidArgumentError, "search"),
        (lambda t: t["a"].optimize(), InvalidArgumentError, "optimize"),
    ]
    for call, kind, field in wrong:
        with pytest.raises(kind) as caught, database.transaction() as t:
            t["b"].upsert(ids=[1])
            call(t)
        assert caught.value.field == field
    assert collections["b"].count() == 0
    with pytest.raises(InvalidArgumentError, match="durability"):
        database.transaction(durability="sometimes")
    with pytest.raises(InvalidArgumentError, match="begins with its block"):
        database.transaction()["a"].upsert(ids=[1])
    with database.transaction() as t:
        kept = t["a"]
    for late in (lambda: kept.upsert(ids=[1]), lambda: t["a"].upsert(ids=[1]), t.__enter__):
        with pytest.raises(ClosedError):
            late()


def test_a_collection_that_is_dropped_in_between_stops_the_transaction(database, collections):
    with pytest.raises(NotFoundError), database.transaction() as t:
        t["a"].upsert(ids=[1])
        t["b"].upsert(ids=[1])
        database.drop_collection("b")
    assert collections["a"].count() == 0
