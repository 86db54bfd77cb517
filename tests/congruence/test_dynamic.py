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
    (lambda docs: docs.update(ids=[1], attributes={"a": [1]}), "can only replace the whole payload"),
]


def test_what_does_not_fit_is_refused_before_anything_is_written(database):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=[1], attributes={"old": [1]})
    for call, text in REFUSED:
        with pytest.raises(InvalidArgumentError, match=text):
            call(docs)
        assert docs.get(1).payload == {"old": 1} and docs.count() == 1, text


def test_it_is_declared_at_creation(database):
    database.create_collection("c", SCHEMA)
    with pytest.raises(AlreadyExistsError, match="it has dynamic=True"):
        database.create_collection("c", Schema(SCHEMA.vectors, SCHEMA.attributes), exist_ok=True)
    with pytest.raises(SchemaError, match="dynamic"):
        Schema(dynamic="yes")
    plain = database.create_collection("plain", Schema(SCHEMA.vectors, SCHEMA.attributes))
    with pytest.raises(SchemaError, match="no attribute 'color'"):
        plain.upsert(ids=[1], attributes={"color": ["red"]})
