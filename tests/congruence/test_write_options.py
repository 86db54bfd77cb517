"""Updates by filter, increments, merges into payloads, and insert-only upserts, compared with a model of dicts, in every place."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from vectordb import (
    Datetime,
    Dense,
    FilterError,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    NotFoundError,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
)

ATTRIBUTES = {"n": Int(), "x": Float(), "many": Int(array=True), "tag": Keyword(), "when": Datetime(), "body": Text()}
SCHEMA = Schema({"v": Dense(2), "s": Sparse(encoder="bm25", source="body")}, ATTRIBUTES)


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=range(10), vectors={"v": np.ones((10, 2))}, attributes={"n": range(10), "body": ["red fox"] * 10})
    return docs


def test_an_update_by_filter_changes_all_points_that_match_and_no_others(docs):
    before = docs.info().sequence
    result = docs.update(filter="n >= 7", vectors={"v": [3, 4]}, attributes={"tag": "old", "many": [1, 2]}, payload={"a": [1]})
    assert (result.count, result.sequence) == (3, before + 1)
    for point in docs.iterate(with_vectors=True):
        changed = point.attributes["n"] >= 7
        assert point.vectors["v"].tolist() == ([3, 4] if changed else [1, 1])
        assert point.attributes.get("tag") == ("old" if changed else None) and point.payload == ({"a": [1]} if changed else None)
        assert point.attributes.get("many") == ([1, 2] if changed else None)
    assert docs.update(filter="n > 100", attributes={"tag": "x"}).count == 0 and docs.info().sequence == before + 1
    assert docs.update(filter="ALL", vectors={"v": None}, attributes={"tag": None}).count == 10
    assert docs.count("tag IS NULL") == 10 and docs.search({"v": [1, 0]}, limit=5, exact=True).ids.tolist() == []
    assert docs.update(filter="n < 2", attributes={"body": "blue dog"}).count == 2
    assert sorted(docs.search(text="blue", limit=9).ids) == [0, 1] and len(docs.search(text="red", limit=20)) == 8
    with pytest.raises(PreconditionError):
        docs.update(filter="n < 5", increment={"n": 1}, if_filter="n < 4")


def test_random_increments_and_merges_are_those_of_a_model(docs):
    rng, numbers, payloads = random.Random(2), {i: (i, None) for i in range(10)}, dict.fromkeys(range(10))

    def value(depth=0):
        kinds = [lambda: None, lambda: rng.randrange(3), lambda: "x", lambda: [1, {"k": None}]]
        return rng.choice([*kinds, *[lambda: tree(depth + 1)] * (depth < 2)])()

    def tree(depth=0):
        return {rng.choice("abc"): value(depth) for _ in range(rng.randint(0, 3))}

    def patched(old, patch):
        if not isinstance(patch, dict):
            return patch
        old = dict(old) if isinstance(old, dict) else {}
        for key, new in patch.items():
            old.pop(key, None) if new is None else old.__setitem__(key, patched(old.get(key), new))
        return old

    for _ in range(60):
        ids = rng.sample(range(10), 3)
        more, floats, patches = [rng.randint(-3, 3) for _ in ids], [rng.choice([None, 0.5]) for _ in ids], [tree() for _ in ids]
        if rng.random() < 0.3:
            low = rng.randrange(10)
            ids = [i for i, (n, _) in numbers.items() if n >= low]
            more, floats, patches = ([one[0]] * len(ids) for one in (more, floats, patches))
            step, half, patch = (one[0] if one else 0 for one in (more, floats, patches))
            docs.update(filter=f"n >= {low}", increment={"n": step, "x": half}, payload_merge=patch or {})
        else:
            docs.update(ids=ids, increment={"n": more, "x": floats}, payload_merge=patches)
        for i, step, half, patch in zip(ids, more, floats, patches, strict=True):
            n, x = numbers[i]
            numbers[i] = n + step, x if half is None else (x or 0) + half
            payloads[i] = patched(payloads[i], patch)
        assert {p.id: (p.attributes["n"], p.attributes.get("x")) for p in docs.iterate()} == numbers
        assert {p.id: p.payload for p in docs.iterate()} == payloads
    assert docs.count("n > 3") == sum(n > 3 for n, _ in numbers.values())


def test_points_as_dicts_may_be_incremented_too(docs):
    docs.update([{"id": 1, "attributes": {"tag": "a"}}, {"id": 2}], increment={"n": [1, 2]}, payload_merge={"seen": True})
    assert [p.attributes["n"] for p in docs.get([1, 2])] == [2, 4] and docs.get(2).payload == {"seen": True}


def test_sums_that_do_not_fit_write_nothing(docs):
    docs.update(ids=[0, 1], attributes={"n": [0, 2**63 - 1], "x": [0, 1.5e308]})
    before = docs.info().sequence
    for more in ({"n": 1}, {"x": 1.5e308}):
        with pytest.raises(InvalidArgumentError, match="point 1 can't be incremented") as caught:
            docs.update(ids=[0, 1], increment=more)
        assert caught.value.field in more
    assert docs.info().sequence == before and docs.get(0).attributes["x"] == 0
    assert math.isfinite(docs.get(1).attributes["x"])


def test_insert_only_leaves_points_that_exist_as_they_are(docs):
    result = docs.upsert(
        ids=[8, "new", 9, 11], vectors={"v": [[5, 5], None, [6, 6], [7, 7]]}, attributes={"body": ["w"] * 4}, if_absent=True
    )
    assert result.count == 2 == docs.count("body MATCH 'w'") == len(docs.search(text="w", limit=9))
    assert docs.get(11, with_vectors=True).vectors["v"].tolist() == [7, 7] and "v" not in docs.get("new", with_vectors=True).vectors
    assert docs.get(8).attributes["n"] == 8
    again = docs.upsert([{"id": 8}, {"id": "new"}], if_absent=True)
    assert again.count == 0 and again.sequence == docs.info().sequence == result.sequence


def test_the_options_work_in_transactions_and_see_its_earlier_writes(database, docs):
    with database.transaction() as t:
        t["docs"].upsert(ids=[50, 1], attributes={"n": [0, 7]}, if_absent=True)
        t["docs"].upsert(ids=[50], attributes={"n": [9]}, if_absent=True)
        t["docs"].update(filter="n <= 1", increment={"n": 10})
    assert [result.count for result in t.results] == [1, 0, 3]
    assert [docs.get(i).attributes["n"] for i in (0, 1, 50)] == [10, 11, 10]


WRONG = [
    (lambda d: d.update(ids=[1], increment={"tag": 1}), InvalidArgumentError, "tag", "Int or Float"),
    (lambda d: d.update(ids=[1], increment={"many": 1}), InvalidArgumentError, "many", "array"),
    (lambda d: d.update(ids=[1], increment={"when": 1}), InvalidArgumentError, "when", "datetime"),
    (lambda d: d.update(ids=[1], increment={"nothing": 1}), SchemaError, "attributes", "nothing"),
    (lambda d: d.update(ids=[1], increment={"n": 1.5}), InvalidArgumentError, "n", "1.5"),
    (lambda d: d.update(ids=[1], increment={"n": "x"}), InvalidArgumentError, "n", "'x'"),
    (lambda d: d.update(ids=[1], increment={"n": [1, 2]}), InvalidArgumentError, "n", "2 values for 1 id"),
    (lambda d: d.update(ids=[1], increment=3), InvalidArgumentError, "increment", "mapping"),
    (lambda d: d.update(ids=[1], attributes={"n": [1]}, increment={"n": 1}), InvalidArgumentError, "n", "both"),
    (lambda d: d.update(ids=[1], payload=[1], payload_merge={"a": 1}), InvalidArgumentError, "payload_merge", "both"),
    (lambda d: d.update(ids=[1], payload_merge=[3]), InvalidArgumentError, "payload_merge", "objects, not 3"),
    (lambda d: d.update(ids=[1], payload_merge={"a": {1, 2}}), InvalidArgumentError, "payload", "JSON"),
    (lambda d: d.update(ids=[1, 2], payload_merge=[{}]), InvalidArgumentError, "payload_merge", "1 value for 2 ids"),
    (lambda d: d.update(ids=[1], filter="n = 1", attributes={"n": 2}), InvalidArgumentError, "filter", "either"),
    (lambda d: d.update(filter="n = 1"), InvalidArgumentError, "filter", "something to change"),
    (lambda d: d.update(filter="n = 1", attributes={"n": 1}, if_version=3), InvalidArgumentError, "if_version", "ids"),
    (lambda d: d.update(filter="n = 1", attributes={"n": [1]}), InvalidArgumentError, "n", "that matches the filter"),
    (lambda d: d.update(filter="n = 1", vectors={"v": [1, 2, 3]}), InvalidArgumentError, "v", "3"),
    (lambda d: d.update(filter="id = 1", attributes={"n": 1}), FilterError, None, "HAS_ID"),
    (lambda d: d.update(attributes={"n": [1]}), InvalidArgumentError, "ids", "filter="),
    (lambda d: d.upsert(ids=[1], if_absent=True, if_version=0), InvalidArgumentError, "if_absent", "leave out"),
    (lambda d: d.upsert(ids=[1], if_absent=1), InvalidArgumentError, "if_absent", "True or False"),
    (lambda d: d.upsert(ids=[1], filter="n = 1"), InvalidArgumentError, "filter", "filter"),
    (lambda d: d.update(ids=[1, 99], increment={"n": 1}), NotFoundError, "ids", "99"),
    (lambda d: d.delete("ALL"), InvalidArgumentError, "ids", "delete\\(filter='ALL'\\)"),
]


def test_what_makes_no_sense_is_refused_with_what_to_write(docs):
    for number, (call, kind, field, words) in enumerate(WRONG):
        with pytest.raises(kind, match=words) as caught:
            call(docs)
        assert field is None or caught.value.field == field, number
    assert docs.info().sequence == 1
