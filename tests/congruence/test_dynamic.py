"""``Schema(dynamic=True)``: what isn't declared is stored in the payload and can be filtered."""

from __future__ import annotations

import pytest

from vectordb import AlreadyExistsError, Dense, F, Int, InvalidArgumentError, Schema, SchemaError

SCHEMA = Schema({"v": Dense(2)}, {"year": Int()}, dynamic=True)


def found(docs, condition):
    return [point.id for point in docs.iterate(filter=condition)]


def test_unknown_keys_are_stored_and_filtered(database):
    docs = database.create_collection("c", SCHEMA)
    assert docs.schema == SCHEMA == Schema.from_dict(SCHEMA.to_dict()) and docs.schema.dynamic
    docs.upsert(
        ids=[1, 2, 3],
        vectors={"v": [[1, 0], [0, 1], [1, 1]]},
        attributes={"year": [2020, None, 2022], "color": ["red", None, 3], "deep": [{"a": [1, 2]}, None, None]},
        payload=[{"other": 1}, None, None],
    )
    docs.upsert(
        [{"id": 4, "year": 2023, "v": [2, 1], "color": "blue"}, {"id": 5, "attributes": {"size": 1.5}, "payload": {"color": "red"}}]
    )
    assert docs.get(1).payload == {"other": 1, "color": "red", "deep": {"a": [1, 2]}} and docs.get(1).attributes == {"year": 2020}
    assert docs.get(2).payload is None and docs.get(3).payload == {"color": 3}
    assert docs.get(4).attributes == {"year": 2023} and docs.get(4, with_vectors=True).vectors["v"].tolist() == [2, 1]
    assert found(docs, F("color") == "red") == [1, 5] and found(docs, F("color") == 3) == [3]
    assert found(docs, "deep.a = 2") == [1] and found(docs, "size > 1 AND year IS NULL") == [5]
    assert [hit.id for hit in docs.search({"v": [1, 0]}, filter="color = 'blue' AND year > 2000")] == [4]
    docs.add_fields(attributes={"more": Int()})
    assert docs.schema.dynamic
    docs.upsert(ids=[6], attributes={"more": [1], "color": ["green"]})
    assert found(docs, "more = 1 AND color = 'green'") == [6]


def test_a_table_may_have_any_columns(database):
    pandas = pytest.importorskip("pandas")
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(pandas.DataFrame({"id": [1, 2], "year": [2020, 2021], "color": ["red", None], "price": [1.5, float("nan")]}))
    assert docs.get(1).payload == {"color": "red", "price": 1.5} and docs.get(2).payload is None
    assert found(docs, "price > 1") == [1]


REFUSED = [
    (lambda docs: docs.upsert(ids=[1], attributes={"a": [1]}, payload=[{"a": 2}]), "given twice"),
    (lambda docs: docs.upsert(ids=[1], attributes={"a": [1]}, payload=[7]), "must be an object"),
    (lambda docs: docs.upsert(ids=[1], attributes={"a": 5}), "must be a column of 1 value"),
    (lambda docs: docs.upsert(ids=[1], attributes={"a": [1, 2]}), "2 values for 1 id"),
    (lambda docs: docs.upsert(ids=[1], attributes={"v": [1]}), "is a vector field"),
    (lambda docs: docs.upsert(ids=[1], attributes={"a": [object()]}), "has no JSON form"),
    (lambda docs: docs.upsert(ids=[1], attributes={"year": ["x"]}), "year must be an integer"),
    (lambda docs: docs.update(ids=[1], attributes={"a": [1]}, payload=[{"a": 2}]), "given twice: as an attribute and in payload"),
    (lambda docs: docs.update(ids=[1], attributes={"a": [1]}, payload_merge={"a": 2}), "in payload_merge"),
    (lambda docs: docs.update(ids=[1], attributes={"a": [object()]}), "attribute 'a' of point 1: .* has no JSON form"),
    (lambda docs: docs.update(ids=[1], attributes={"v": [1]}), "is a vector field"),
    (lambda docs: docs.update(filter="ALL", attributes={}), "needs something to change"),
]


def test_what_does_not_fit_is_refused_before_anything_is_written(database):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=[1], attributes={"old": [1]})
    for call, text in REFUSED:
        with pytest.raises(InvalidArgumentError, match=text):
            call(docs)
        assert docs.get(1).payload == {"old": 1} and docs.count() == 1, text


def test_updates_change_keys_and_leave_the_others(database):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=[1, 2, 3, 4], attributes={"year": [1, 2, 3, 4], "a": [1, 2, None, 4]}, payload=[{"b": {"x": 1}}, None, None, {"c": 1}])
    docs.update(ids=[1, 2, 3], attributes={"a": ["new", None, [1]], "b": [{"y": 2}, 5, float("nan")], "year": [7, 8, 9]})
    assert [docs.get(i).payload for i in (1, 2, 3, 4)] == [{"b": {"y": 2}, "a": "new"}, {"b": 5}, {"a": [1]}, {"c": 1, "a": 4}]
    assert [docs.get(i).attributes["year"] for i in (1, 2, 3, 4)] == [7, 8, 9, 4]
    docs.update([{"id": 1, "color": "red"}, {"id": 4, "a": None, "attributes": {"d": 1}}])
    assert docs.get(1).payload == {"b": {"y": 2}, "a": "new", "color": "red"} and docs.get(4).payload == {"c": 1, "d": 1}
    docs.update(ids=[2], attributes={"b": [None]})
    assert docs.get(2).payload == {} and found(docs, "color = 'red'") == [1]
    docs.update(ids=[2], attributes={"z": [1]}, payload=[{"w": 2}])
    docs.update(ids=[3], attributes={"z": [1]}, payload_merge={"w": 2})
    assert [docs.get(i).payload for i in (2, 3)] == [{"w": 2, "z": 1}, {"a": [1], "w": 2, "z": 1}]
    assert docs.update(filter="z = 1", attributes={"color": "blue"}, increment={"year": 1}).count == 2
    assert found(docs, "color = 'blue'") == [2, 3] and [docs.get(i).attributes["year"] for i in (2, 3)] == [9, 10]
    with database.transaction() as t:
        t["c"].update(ids=[1], attributes={"color": [None], "e": [True]})
    assert docs.get(1).payload == {"b": {"y": 2}, "a": "new", "e": True}
    docs.update(ids=[1], payload=[7])
    with pytest.raises(InvalidArgumentError, match="the payload of point 1 is 7"):
        docs.update(ids=[4, 1], attributes={"color": ["x", "y"]})
    assert docs.get(4).payload == {"c": 1, "d": 1}


def test_it_is_declared_at_creation(database):
    database.create_collection("c", SCHEMA)
    with pytest.raises(AlreadyExistsError, match="it has dynamic=True"):
        database.create_collection("c", Schema(SCHEMA.vectors, SCHEMA.attributes), exist_ok=True)
    with pytest.raises(SchemaError, match="dynamic"):
        Schema(dynamic="yes")
    plain = database.create_collection("plain", Schema(SCHEMA.vectors, SCHEMA.attributes))
    with pytest.raises(SchemaError, match="no attribute 'color'"):
        plain.upsert(ids=[1], attributes={"color": ["red"]})
