"""Writes: receipts, conditions, values that updates keep, limits, many small batches, and fields added later."""

from __future__ import annotations

import threading
import uuid

import numpy as np
import pytest
import scipy.sparse

import vectordb
from vectordb import (
    AlreadyExistsError,
    ClosedError,
    Dense,
    F,
    Int,
    Keyword,
    MultiVector,
    NotFoundError,
    Point,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
)
from vectordb.storage import store as store_module

SCHEMA = Schema({"v": Dense(3), "s": Sparse(), "m": MultiVector(2)}, {"k": Keyword(), "n": Int(), "t": Text(), "ns": Int(array=True)})


@pytest.fixture
def collection(database):
    return database.create_collection("c", SCHEMA)


def test_a_receipt_counts_points_and_numbers_batches(collection):
    results = [collection.upsert(ids=[1, 2]), collection.upsert(ids=[2]), collection.update(ids=[1], attributes={"n": [3]})]
    results.append(collection.delete([1, 5]))
    assert [(int(r), r.sequence, r.count) for r in results] == [(1, 1, 2), (2, 2, 1), (3, 3, 1), (4, 4, 1)]
    assert collection.info().sequence == 4


@pytest.mark.parametrize(
    "nothing",
    [
        lambda c: c.upsert(ids=[]),
        lambda c: c.upsert([]),
        lambda c: c.update(ids=[], attributes={"n": []}),
        lambda c: c.delete([]),
        lambda c: c.delete([7, "x"]),
        lambda c: c.delete(filter="n = 99"),
        lambda c: c.upsert(ids=np.empty(0, np.uint64), vectors={"v": np.empty((0, 3), np.float32)}),
    ],
)
def test_a_write_of_nothing_takes_no_place_in_the_sequence(collection, nothing):
    collection.upsert(ids=[1])
    result = nothing(collection)
    assert (int(result), result.count) == (1, 0)
    assert collection.info().sequence == 1


def test_columns_points_and_dicts_write_the_same(database):
    u = uuid.UUID(int=9)
    matrix = scipy.sparse.csr_matrix(([1.0, 2.0, 3.0], ([0, 0, 2], [4, 9, 1])), shape=(3, 10))
    vectors = {"v": np.eye(3), "s": matrix, "m": [np.ones((1, 2)), np.ones((3, 2)), [[1, 2]]]}
    attributes = {"k": np.array(["a", "b", "c"]), "n": np.arange(3), "ns": [[1], [], None]}
    one, two, three = (database.create_collection(name, SCHEMA) for name in ("one", "two", "three"))
    one.upsert(ids=[1, "x", u], vectors=vectors, attributes=attributes, payload=[None, {"p": 1}, [2]])
    dicts = [
        {"id": 1, "vectors": {"v": [1, 0, 0], "s": {9: 2.0, 4: 1.0}, "m": [[1, 1]]}, "attributes": {"k": "a", "n": 0, "ns": [1]}},
        {
            "id": "x",
            "vectors": {"v": [0, 1, 0], "s": ([], []), "m": np.ones((3, 2))},
            "attributes": {"k": "b", "n": 1, "ns": []},
            "payload": {"p": 1},
        },
        {"id": u, "vectors": {"v": [0, 0, 1], "s": {1: 3}, "m": [[1, 2]]}, "attributes": {"k": "c", "n": 2}, "payload": [2]},
    ]
    two.upsert(dicts)
    three.upsert([Point(**entry) for entry in dicts])
    ids = [1, "x", u]
    expected = one.get(ids, with_vectors=True)
    for other in (two, three):
        for a, b in zip(expected, other.get(ids, with_vectors=True), strict=True):
            assert (a.id, a.attributes, a.payload, a.version) == (b.id, b.attributes, b.payload, b.version)
            assert a.vectors.keys() == b.vectors.keys() == {"v", "s", "m"}
            for name in a.vectors:
                np.testing.assert_array_equal(
                    np.concatenate([*map(np.ravel, a.vectors[name])]), np.concatenate([*map(np.ravel, b.vectors[name])])
                )


def test_an_upsert_replaces_the_whole_point_and_an_update_only_what_it_names(collection):
    collection.upsert(ids=[1], vectors={"v": [[1, 2, 3]], "s": [{5: 1.0}]}, attributes={"k": ["a"], "n": [1]}, payload=["p"])
    collection.update(ids=[1], attributes={"n": [2]})
    collection.update([{"id": 1, "vectors": {"m": [[1, 1]]}}])
    point = collection.get(1, with_vectors=True)
    assert (point.attributes, point.payload, set(point.vectors)) == ({"k": "a", "n": 2}, "p", {"v", "s", "m"})
    collection.update(ids=[1], vectors={"v": None, "s": [None]}, attributes={"k": [None]}, payload=[None])
    point = collection.get(1, with_vectors=True)
    assert (point.attributes, point.payload, set(point.vectors)) == ({"n": 2}, None, {"m"})
    assert collection.count(F.has_vector("v")) == collection.count("k IS NOT NULL") == 0
    collection.upsert(ids=[1], attributes={"t": ["x"]})
    point = collection.get(1, with_vectors=True)
    assert (point.attributes, point.vectors, point.version) == ({"t": "x"}, {}, 5)


def test_an_update_in_any_order_of_ids_keeps_each_points_own_vectors(collection):
    rng = np.random.default_rng(1)
    dense, multi = (
        rng.standard_normal((50, 3)).astype(np.float32),
        [rng.standard_normal((1 + i % 3, 2)).astype(np.float32) for i in range(50)],
    )
    collection.upsert(ids=range(50), vectors={"v": dense, "s": [{i: 1.0} for i in range(50)], "m": multi})
    order = rng.permutation(50)[:30]
    collection.update(ids=order, vectors={"v": [dense[i] + 1 if i % 2 else None if i % 4 else dense[i] for i in order.tolist()]})
    for i, point in enumerate(collection.get(range(50), with_vectors=True)):
        moved = i in order
        assert ("v" in point.vectors) == (not moved or i % 2 == 1 or i % 4 == 0)
        if "v" in point.vectors:
            np.testing.assert_array_equal(point.vectors["v"], dense[i] + 1 if moved and i % 2 else dense[i])
        assert point.vectors["s"][0].tolist() == [i]
        np.testing.assert_array_equal(point.vectors["m"], multi[i])


def test_conditions_hold_for_the_whole_batch_or_nothing_is_written(collection):
    collection.upsert(ids=[1, 2], attributes={"n": [1, 2]})
    collection.update(ids=[2], attributes={"n": [3]})
    refused = [
        (lambda: collection.upsert(ids=[3, 1], if_version=0), "if_version", 1),
        (lambda: collection.upsert(ids=[1, 2], if_version=[1, 1]), "if_version", 2),
        (lambda: collection.update(ids=[1], if_version={1: 9}), "if_version", 1),
        (lambda: collection.delete([1, 2], if_version=1), "if_version", 2),
        (lambda: collection.upsert(ids=[1, 2], if_filter="n < 2"), "if_filter", 2),
        (lambda: collection.upsert(ids=[9], if_filter="n IS NULL"), "if_filter", 9),
        (lambda: collection.delete([1, 9], if_filter=F("n") == 1), "if_filter", 9),
    ]
    for write, field, value in refused:
        with pytest.raises(PreconditionError) as caught:
            write()
        assert (caught.value.field, caught.value.value) == (field, value)
    assert collection.info().sequence == 2 and collection.count() == 2
    assert collection.upsert(ids=[3, 4], if_version=0).count == 2
    assert collection.upsert(ids=[1, 5], if_version=[1, None]).count == 2
    assert collection.delete([2, 3], if_version={2: 2}).count == 2
    assert collection.delete(filter="n IS NULL", if_filter="n IS NULL").count == 3
    assert collection.count() == 0


def test_a_condition_sees_writes_that_share_its_transaction(collection):
    """Writers that wait for one another commit together: of those that want version 0, one wins."""
    outcomes = []

    def claim(name):
        try:
            outcomes.append(collection.upsert(ids=["lease"], attributes={"k": [name]}, if_version=0).count)
        except PreconditionError:
            outcomes.append(0)

    for _ in range(5):
        threads = [threading.Thread(target=claim, args=(f"t{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert collection.delete(["lease"]).count == 1
    assert sum(outcomes) == 5 and len(outcomes) == 40


def test_many_small_batches_become_few_chunks_and_stay_the_same_points(database):
    """Optional fields list their rows; the newest chunks are rewritten as they grow."""
    rng = np.random.default_rng(2)
    collection = database.create_collection("c", SCHEMA)
    expected = {}
    for i in range(600):
        ids = rng.choice(400, int(rng.integers(1, 4)), replace=False).tolist()
        rows = [
            {
                "id": j,
                "attributes": {"n": int(i), "k": f"k{i % 5}"} if rng.random() < 0.5 else {},
                "vectors": {"v": [1, i, j]} if rng.random() < 0.5 else {},
            }
            for j in ids
        ]
        collection.upsert(rows)
        expected.update((row["id"], row) for row in rows)
    assert collection.count() == len(expected)
    assert collection.count("n >= 300 AND k = 'k2'") == sum(
        row["attributes"].get("n", 0) >= 300 and row["attributes"]["k"] == "k2" for row in expected.values()
    )
    for point in collection.iterate(with_vectors=True):
        row = expected[point.id]
        assert point.attributes == row["attributes"]
        assert {name: vector.tolist() for name, vector in point.vectors.items()} == row["vectors"]
    assert all(facts["chunks"] <= 12 for facts in collection.info().statistics.values())


def test_chunks_are_bounded_and_large_values_stand_alone(database, monkeypatch):
    monkeypatch.setattr(store_module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(store_module, "POSTINGS_BYTES", 4096)
    collection = database.create_collection("c", SCHEMA)
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((500, 3)).astype(np.float32)
    for first in range(0, 500, 50):
        ids = list(range(first, first + 50))
        payload = ["x" * 9000 if i % 100 == 7 else None for i in ids]
        attributes = {"k": [f"a{i}" for i in ids], "t": [f"w{i % 9} w{i}" for i in ids], "ns": [[i] * (i % 4) for i in ids]}
        collection.upsert(
            ids=ids, vectors={"v": vectors[ids], "s": [{i % 7: 1.0, i: 2.0} for i in ids]}, attributes=attributes, payload=payload
        )
    assert all(facts["chunks"] >= 2 for name, facts in collection.info().statistics.items() if name not in ("m", "n"))
    best = collection.search({"v": vectors[123]}, limit=5)
    order = np.argsort(-(vectors @ vectors[123]) / np.linalg.norm(vectors, axis=1))[:5]
    assert best.ids.tolist() == order.tolist()
    assert [collection.count(f) for f in ("k = 'a77'", "t MATCH 'w3'", "COUNT(ns) = 3", "ns = 402")] == [1, 56, 125, 1]
    assert len(collection.search({"s": {3: 1.0}}, limit=500)) == 71
    assert collection.get(107).payload == "x" * 9000


def test_a_batch_wider_than_a_postings_block_is_found_in_full(database):
    """70,000 rows at once, then small batches across the 65,536th row: every count against NumPy."""
    collection = database.create_collection("c", SCHEMA)
    rng = np.random.default_rng(4)
    n = 70_000
    numbers = rng.integers(0, 50, n)
    has = rng.random(n) < 0.6
    keys = [f"k{x}" if h else None for x, h in zip(numbers.tolist(), has.tolist(), strict=True)]
    terms = rng.integers(0, 5, n)
    matrix = scipy.sparse.csr_matrix((np.arange(1, n + 1, dtype=np.float32), terms, np.arange(n + 1)), shape=(n, 5))
    collection.upsert(ids=np.arange(n), vectors={"s": matrix}, attributes={"k": keys, "n": numbers})
    for x in (0, 7, 49):
        assert collection.count(F("k") == f"k{x}") == int((has & (numbers == x)).sum())
        assert collection.count((F("n") == x) & F("k").is_null()) == int((~has & (numbers == x)).sum())
    hits = collection.search({"s": {3: 1.0}}, limit=100_000)
    rows = np.flatnonzero(terms == 3)
    assert hits.ids.tolist() == rows[::-1].tolist()
    assert hits.scores.tolist() == (rows[::-1] + 1).astype(np.float32).tolist()
    gone = rows[::2]
    assert collection.delete(gone).count == len(gone)
    assert collection.search({"s": {3: 1.0}}, filter="n < 10", limit=100_000).ids.tolist() == [
        i for i in rows[1::2][::-1].tolist() if numbers[i] < 10
    ]


def test_small_batches_across_a_block_boundary_with_optional_fields(database):
    """From row 65,000 on in batches of 1 to 40, a third of the rows without each field."""
    collection = database.create_collection("c", Schema({"v": Dense(2, "dot"), "s": Sparse()}, {"k": Keyword(), "n": Int()}))
    collection.upsert(ids=np.arange(65_000), attributes={"n": np.zeros(65_000, np.int64)})
    rng = np.random.default_rng(5)
    rows, next_id = {}, 65_000
    while next_id < 66_500:
        ids = range(next_id, min(66_500, next_id + int(rng.integers(1, 41))))
        batch = []
        for i in ids:
            vectors = {"v": [float(i % 97), 1.0]} if rng.random() < 0.66 else {}
            vectors |= {"s": {i % 11: float(1 + i % 13)}} if rng.random() < 0.66 else {}
            batch.append({"id": i, "vectors": vectors, "attributes": {"k": f"k{i % 3}"} if rng.random() < 0.66 else {}})
        rows.update((row["id"], row) for row in batch)
        collection.upsert(batch)
        next_id = ids[-1] + 1
    with_dense = {i: row["vectors"]["v"][0] for i, row in rows.items() if "v" in row["vectors"]}
    hits = collection.search({"v": [1, 0]}, limit=50)
    assert hits.scores.tolist() == sorted(with_dense.values(), reverse=True)[:50]
    assert all(with_dense[hit.id] == hit.score for hit in hits)
    filtered = {i: value for i, value in with_dense.items() if rows[i]["attributes"].get("k") == "k1"}
    assert collection.search({"v": [1, 0]}, filter="k = 'k1'", limit=2_000).scores.tolist() == sorted(filtered.values(), reverse=True)
    having = [i for i, row in rows.items() if 4 in row["vectors"].get("s", {})]
    assert sorted(collection.search({"s": {4: 1.0}}, limit=2_000).ids.tolist()) == having
    assert collection.count("k = 'k2' AND HAS_VECTOR(s)") == sum(
        "s" in r["vectors"] and r["attributes"].get("k") == "k2" for r in rows.values()
    )
    assert collection.count("n = 0") == 65_000 and collection.count("n IS NULL") == 1_500


def test_writes_to_other_collections_leave_this_one_as_it_is(database):
    """Small chunks of several collections share pages, which other writes copy, free and use again."""
    for name in ("before", "c", "after"):
        database.create_collection(name, Schema({"v": Dense(4)}, {"k": Keyword(), "n": Int()}))
    collection = database.collection("c")
    vectors = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    collection.upsert(ids=range(5), vectors={"v": vectors}, attributes={"k": list("abcde"), "n": range(5)})

    def answers():
        return [(hit.id, hit.score, hit.attributes) for hit in collection.search({"v": vectors[0]})], collection.count("n > 1 AND k != 'c'")

    expected = answers()
    for i in range(120):
        for j in range(3):
            database.collection("before" if i % 2 else "after").upsert(
                ids=[j], vectors={"v": vectors[:1] + i}, attributes={"k": [str(i) * 20]}
            )
        assert answers() == expected


def test_fields_added_later_are_null_before_and_searchable_after(collection):
    collection.upsert(ids=[1], attributes={"n": [1]})
    collection.add_fields(vectors={"w": Dense(2, "l2")}, attributes={"new": Keyword(array=True)})
    collection.upsert(ids=[2], vectors={"w": [[1, 1]]}, attributes={"new": [["x"]]})
    assert collection.count("new IS NULL") == 1 and collection.count("new = 'x'") == 1
    assert collection.search({"w": [0, 0]}).ids.tolist() == [2]
    assert collection.get(1, with_vectors=True).vectors == {}
    collection.update(ids=[1], vectors={"w": [[3, 0]]})
    assert [(hit.id, hit.score) for hit in collection.search({"w": [0, 0]})] == [(2, 2.0), (1, 9.0)]
    for taken in ({"vectors": {"n": Dense(2)}}, {"attributes": {"v": Int()}}, {"attributes": {"new": Int()}}):
        with pytest.raises(SchemaError) as caught:
            collection.add_fields(**taken)
        assert caught.value.field in ("n", "v", "new")
    assert set(collection.schema.vectors) == {"v", "s", "m", "w"}


def test_collections_come_and_go_by_name(directory, database):
    assert database.collections() == []
    for name in ("b", "a", "_x.y-z"):
        database.create_collection(name, SCHEMA)
    assert database.collections() == ["_x.y-z", "a", "b"]
    with pytest.raises(AlreadyExistsError):
        database.create_collection("a", SCHEMA)
    assert database.create_collection("a", SCHEMA, exist_ok=True).name == "a"
    with pytest.raises(AlreadyExistsError):
        database.create_collection("a", Schema({"v": Dense(4)}), exist_ok=True)
    database.collection("a").upsert(ids=[1])
    database.drop_collection("a")
    assert database.collections() == ["_x.y-z", "b"]
    with pytest.raises(NotFoundError, match=r"_x\.y-z, b"):
        database.collection("a")
    with pytest.raises(NotFoundError):
        database.drop_collection("a")
    assert database.create_collection("a", SCHEMA).count() == 0


def test_everything_is_there_after_reopening(directory):
    with vectordb.open(directory) as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(ids=[1, "x"], vectors={"v": np.ones((2, 3))}, attributes={"k": ["a", "b"]}, payload=[1, 2])
        collection.delete(["x"])
        before = collection.info()
    with pytest.raises(ClosedError):
        collection.count()
    with vectordb.open(directory, create=False) as database:
        collection = database.collection("c")
        assert collection.info() == before and collection.schema == SCHEMA
        assert [point.id for point in collection.iterate()] == [1]
        assert collection.upsert(ids=[3]) == 3


def test_two_handles_of_one_process_share_the_directory(directory):
    one, two = vectordb.open(directory), vectordb.open(str(directory))
    a = one.create_collection("c", SCHEMA)
    b = two.collection("c")
    for i in range(10):
        a.upsert(ids=[i])
        assert b.count() == i + 1
        b.delete([i], if_version=3 * i + 1)
        a.upsert(ids=[i])
    one.close()
    with pytest.raises(ClosedError):
        one.collections()
    assert b.count() == 10
    two.close()
    with pytest.raises(ClosedError):
        b.count()
