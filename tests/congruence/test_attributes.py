"""Vectors of attributes and of time series, as users of a directory and of a service have them, against vectors made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import (
    Attributes,
    Category,
    Cyclic,
    Dense,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    NotFoundError,
    Number,
    Prefetch,
    Schema,
    SchemaError,
    Series,
)

GIVEN = Attributes("price", Cyclic("weekday", 7), "brand")
SERIES = Series("readings", window=32)
TYPES = {"price": Float(), "weekday": Int(), "brand": Keyword(), "readings": Float(array=True)}
N = 140
PRICES = np.logspace(-2, 4, N)
SCHEMA = Schema({"profile": Dense(48, derived=GIVEN), "curve": Dense(40, "l2", derived=SERIES)}, TYPES)


def attributes(n=N):
    waves = [np.sin(np.arange(32) / (2 + i % 5)) * 10.0 ** (i % 3) + i for i in range(n)]
    return {
        "price": [float(each) for each in PRICES[:n]],
        "weekday": [i % 7 for i in range(n)],
        "brand": [f"brand {i % 4}" for i in range(n)],
        "readings": [wave.tolist() for wave in waves],
    }


def filled(database, schema=SCHEMA):
    docs = database.create_collection("docs", schema)
    docs.upsert(ids=range(N), attributes=attributes())
    return docs


def agrees(docs):
    """How many stored vectors are those of the stored attributes, to the last bit; all must be."""
    seen = 0
    for point in docs.iterate(with_vectors=True, with_attributes=True):
        for name, given in (("profile", GIVEN), ("curve", SERIES)):
            expected = given.vectors(SCHEMA.vectors[name].dim, [point.attributes], TYPES)[0]
            if name in point.vectors:
                assert np.array_equal(point.vectors[name], expected), (point.id, name)
                seen += 1
            else:
                assert not expected.any()
    return seen


def test_queries_are_values_of_attributes_examples_and_vectors(database):
    docs = filled(database)
    assert docs.schema == SCHEMA and agrees(docs) == 2 * N
    for price in (0.01, 1.0, 300.0, 1e4):  # six decades: the nearest first, all the way
        ids = docs.search({"profile": {"price": price}}, limit=N, exact=True).ids
        far = abs(np.log10(PRICES[ids] + 1e-3) - np.log10(price + 1e-3))
        assert (np.diff(far) > -1e-9).all()
    days = [point % 7 for point in docs.search({"profile": {"weekday": 6}}, limit=N, exact=True).ids]
    assert [set(days[:20]), set(days[20:60]), set(days[60:100]), set(days[100:])] == [{6}, {0, 5}, {1, 4}, {2, 3}]
    both = docs.search({"profile": {"brand": "brand 2", "price": 5.0}}, limit=5, explain=True)
    assert {point % 4 for point in both.ids} == {2} and both.plan["arms"][0]["derived"] == "attributes of price, weekday, brand"
    vector = GIVEN.vectors(48, [{"brand": "brand 2", "price": 5.0}], TYPES)[0]
    assert docs.search({"profile": vector}, limit=5).ids.tolist() == both.ids.tolist()
    assert docs.search(like={"profile": [{"brand": "brand 2", "price": 5.0}]}, limit=5).ids.tolist() == both.ids.tolist()
    (own,) = docs.get([33], with_vectors=True)
    nearest = docs.search({"profile": own.vectors["profile"]}, limit=4).ids.tolist()
    assert nearest[0] == 33 and docs.search(like={"profile": [33]}, limit=3).ids.tolist() == nearest[1:]
    several = [{"price": 5.0}, {"weekday": 3}, {"brand": "brand 0"}]
    batch = docs.search_batch({"profile": several}, limit=4, filter="weekday < 5")
    alone = [docs.search({"profile": each}, limit=4, filter="weekday < 5") for each in several]
    assert [hits.ids.tolist() for hits in batch] == [hits.ids.tolist() for hits in alone]
    curve, branded = {"readings": attributes()["readings"][8]}, Prefetch({"profile": {"brand": "brand 0"}}, limit=35)
    prefetched = docs.search({"curve": curve}, prefetch=branded, limit=1)
    assert prefetched.ids.tolist() == [8]


def test_series_are_found_by_shape_and_size(database):
    docs = filled(database)
    readings = attributes()["readings"][17]
    assert docs.search({"curve": {"readings": readings}}, limit=1)[0].id == 17
    louder = [value * 1.02 + 0.1 for value in readings]
    found = docs.search({"curve": {"readings": louder}}, limit=9).ids.tolist()
    assert found[0] % 5 == 17 % 5 and sum(point % 5 == 17 % 5 for point in found) >= 7  # observed 9: the same shape
    assert docs.report("curve")["rows"] == N and docs.report("curve")["source"] == "readings"


def test_writes_of_every_kind_make_them(database):
    docs = filled(database)
    docs.update(ids=[3], attributes={"price": [77.0]})
    docs.update(ids=[4], attributes={"price": [None], "weekday": [None], "brand": [None]})
    docs.update(filter="weekday = 2", attributes={"brand": "brand 9"})
    docs.update(ids=[6], increment={"weekday": [1]})
    docs.upsert(ids=[7, 500], attributes={"price": [1.0, None], "readings": [None, [3.0]]})
    docs.upsert(ids=[501])
    docs.bulk([{"id": 600 + i, "attributes": {"price": float(i)}} for i in range(20)])
    docs.delete([9])
    with database.transaction() as both:
        both["docs"].update(ids=[20], attributes={"price": [5e3]})
    assert docs.count("HAS_VECTOR(profile)") == N + 20 - 2  # without 4 and 9; 500 and 501 have none of the attributes
    assert docs.count("HAS_VECTOR(curve)") == N - 1  # 7 lost its series, 9 was deleted, 500 has one
    assert agrees(docs) == 2 * N + 20 - 3


def test_fields_are_added_renamed_and_dropped(database):
    docs = filled(database, Schema({"curve": SCHEMA.vectors["curve"]}, TYPES))
    docs.delete([5])
    docs.add_fields(vectors={"profile": Dense(48, derived=GIVEN)})
    docs.optimize()
    assert docs.report("profile")["state"] == "ready" and docs.report("profile")["rows"] == N - 1 and agrees(docs) == 2 * (N - 1)
    with pytest.raises(SchemaError, match="'profile' is derived from 'price'; drop both, or 'profile' first"):
        docs.drop_fields(["price"])
    docs.rename_fields({"price": "cost", "readings": "load"})
    assert docs.schema.vectors["profile"].derived == Attributes("cost", Cyclic("weekday", 7), "brand")
    assert docs.schema.vectors["curve"].derived == Series("load", window=32)
    docs.upsert(ids=[5], attributes={"cost": [1.0]})
    assert docs.search({"profile": {"cost": 1.0}}, limit=N, exact=True).ids.tolist().index(5) < 3
    docs.drop_fields(["profile", "cost"])
    assert docs.search({"curve": {"load": [1.0, 2.0]}}, limit=1)


def test_errors_name_what_is_wrong(database):
    docs = filled(database)
    wrong = [
        (lambda: docs.search({"profile": {"cost": 1}}), InvalidArgumentError, r"\(price, weekday, brand\); 'cost' is"),
        (lambda: docs.search({"profile": {}}), InvalidArgumentError, "it is empty"),
        (lambda: docs.search({"profile": {"price": None}}), InvalidArgumentError, "has no value of price, weekday, brand"),
        (lambda: docs.search({"profile": {"price": "x"}}), InvalidArgumentError, "price must be a number, not 'x'"),
        (lambda: docs.search({"profile": [1.0, 2.0]}), InvalidArgumentError, r"has shape \(2,\), not \(48,\)"),
        (lambda: docs.search({"curve": {"readings": []}}), InvalidArgumentError, "has no value of readings"),
        (lambda: docs.search_batch({"profile": {"price": 1.0}}), InvalidArgumentError, "must be a list or array"),
        (lambda: docs.search(like={"profile": [{"cost": 3}]}), InvalidArgumentError, "like: .*'cost' is none of them"),
        (lambda: docs.search(like={"profile": [9999]}), NotFoundError, "9999"),
        (lambda: docs.search(text={"profile": "cheap"}), InvalidArgumentError, "encoder"),
        (lambda: docs.upsert(ids=[1], vectors={"profile": np.ones((1, 48))}), SchemaError, "'weekday' and 'brand' and can't"),
        (lambda: docs.fit("profile"), InvalidArgumentError, "which learns nothing from points"),
        (lambda: docs.add_fields(vectors={"x": Dense(8, derived=Attributes("none"))}), SchemaError, "'none', which is not an attribute"),
        (lambda: docs.add_fields(vectors={"x": Dense(8, derived=Attributes(Number("brand")))}), SchemaError, "write Category"),
        (lambda: docs.add_fields(vectors={"x": Dense(8, derived=Attributes(Category("price")))}), SchemaError, "write Number"),
        (lambda: docs.migrate("profile", "wordllama"), InvalidArgumentError, "'brand', which are attributes"),
    ]
    for call, kind, words in wrong:
        with pytest.raises(kind, match=words):
            call()
    assert docs.count() == N
