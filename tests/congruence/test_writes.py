"""Upserts, updates and deletes, with and without conditions: the same receipts, and the same points afterwards."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tests.congruence.filled import SCHEMA, N, points
from tests.support.places import plain
from vectordb import Dense, F, Int, NotFoundError, Point, PreconditionError, Schema, WriteResult


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    assert docs.upsert(**points()).count == N
    return docs


def test_what_was_written_is_what_is_read(docs, embedded):
    """From each place the same bits are stored as from an embedded upsert."""
    other = embedded.create_collection("other", SCHEMA)
    other.upsert(**points())
    assert plain(list(docs.iterate(with_vectors=True))) == plain(list(other.iterate(with_vectors=True)))
    assert docs.info() == embedded.collection("docs").info()


def test_points_are_written_as_dicts_points_and_columns(docs):
    result = docs.upsert([{"id": 1, "vectors": {"d": np.ones(8)}}, Point("x", attributes={"n": 5})])
    assert type(result) is WriteResult and (int(result), result.count) == (2, 2) == (docs.info().sequence, result.count)
    assert docs.update(ids=["x"], attributes={"lang": ["fr"]}).count == 1
    assert docs.get("x").attributes == {"lang": "fr", "n": 5}
    assert docs.upsert([]).count == docs.upsert(ids=[]).count == 0


def test_an_update_leaves_what_it_does_not_name_and_takes_away_none(docs):
    docs.update([{"id": 0, "vectors": {"d": None}, "attributes": {"n": None}}, {"id": 3, "payload": [1]}])
    first, second = docs.get([0, 3], with_vectors=True)
    assert "d" not in first.vectors and "s" in first.vectors
    assert first.attributes.get("n") is None and first.attributes["lang"] == "en"
    assert second.payload == [1] and second.attributes["n"] == 3 and "d" in second.vectors


def test_an_update_of_a_missing_point_writes_nothing(docs):
    with pytest.raises(NotFoundError):
        docs.update(ids=[0, "missing"], payload=[1, 2])
    assert docs.get(0).payload is None and docs.info().sequence == 1


def test_points_are_deleted_by_ids_and_by_filters(docs):
    assert docs.delete([0, "id 1", "not there", uuid.UUID(int=2)]).count == 3
    assert docs.get([0, "id 1", uuid.UUID(int=2)]) == [None] * 3
    assert docs.delete(6).count == 1
    assert docs.delete(filter=F("lang") == "de").count == N // 3 - 1
    assert docs.delete(filter="n < 30").count == docs.info().deleted_rows - 4 - (N // 3 - 1)
    assert docs.count("n < 30") == 0 and docs.delete(filter="ALL").count > 0 and docs.count() == 0


def test_conditions_on_versions_hold_or_nothing_is_written(docs):
    with pytest.raises(PreconditionError, match="point 0 is at version 1, not at version 2"):
        docs.upsert(ids=[0, 3], attributes={"n": [-1, -1]}, if_version=[2, 1])
    with pytest.raises(PreconditionError):
        docs.delete([0], if_version=9)
    assert docs.get(0).attributes["n"] == 0 and docs.info().sequence == 1
    assert docs.upsert(ids=[0], attributes={"n": [-1]}, if_version={0: 1}).count == 1
    assert docs.upsert(ids=["new"], if_version=0).count == 1
    assert docs.delete([0], if_version=2).count == 1


def test_conditions_on_filters_hold_or_nothing_is_written(docs):
    with pytest.raises(PreconditionError):
        docs.delete([3], if_filter=F("n") == 99)
    with pytest.raises(PreconditionError):
        docs.update(ids=[3, 6], payload=[1, 1], if_filter="n = 3")
    assert docs.get(3).payload["row"] == 3 and docs.info().sequence == 1
    assert docs.update(ids=[3, 6], payload=[1, 1], if_filter="n <= 6").count == 2
    assert docs.delete([3], if_filter="n = 3").count == 1


def test_a_deletion_takes_sets(database):
    docs = database.create_collection("sets", Schema({"v": Dense(2)}))
    docs.upsert(ids=list(range(6)))
    assert docs.delete({0, 1}).count == 2 and docs.delete(frozenset({2, 99})).count == 1
    assert docs.delete(set()).count == 0
    with pytest.raises(PreconditionError, match="point 3 is at version 1, not at version 7"):
        docs.delete({3}, if_version=7)
    assert docs.delete({3, 4}, if_version={3: 1, 4: 1}).count == 2
    assert [point.id for point in docs] == [5]


def test_an_id_may_read_like_a_filter(database):
    docs = database.create_collection("odd", Schema({"v": Dense(2)}))
    docs.upsert(ids=["year > 3"])
    assert docs.delete("year > 3").count == 1
    assert docs.delete(["year > 3"]).count == 0  # a list holds ids
    for name in ("a", "year=3", "isbn = x", "a > b", "in (", "not there", "is null", "year > "):
        assert docs.delete(name).count == 0  # no filter, but an id that no point has


@pytest.mark.parametrize("durability", ["commit", "batched"])
def test_every_durability_can_be_asked_for(database, durability):
    docs = database.create_collection("docs", Schema({}, {"n": Int()}))
    assert docs.upsert(ids=[1], attributes={"n": [1]}, durability=durability).count == 1
    assert docs.update(ids=[1], attributes={"n": [2]}, durability=durability).count == 1
    assert docs.delete([1], durability=durability).count == 1


def test_an_optimize_drops_deleted_rows_and_builds_indexes(database, embedded):
    rng = np.random.default_rng(3)
    docs = database.create_collection("docs", Schema({"d": Dense(8), "flat": Dense(8, index=None)}, {"n": Int()}))
    rows = rng.standard_normal((400, 8))
    docs.upsert(ids=list(range(400)), vectors={"d": rows, "flat": rows}, attributes={"n": list(range(400))})
    docs.delete(list(range(50)))
    result = docs.optimize()
    assert result.pop("seconds") > 0 and result["done"] and (result["rows_dropped"], result["segments_built"]) == (50, 1)
    info = docs.info()
    assert info == embedded.collection("docs").info() and info.deleted_rows == 0
    (segment,) = info.statistics["d"]["segments"]
    assert (segment["first"], segment["end"], segment["rows"], segment["dead"]) == (0, 400, 350, 0)
    again = docs.optimize(wait=False)
    assert again["done"] is False and again.keys() == result.keys() | {"seconds"}


def test_a_purge_proves_that_deleted_points_are_erased(database):
    docs = database.create_collection("docs", Schema({"v": Dense(4)}))
    docs.upsert(ids=list(range(20)), vectors={"v": np.ones((20, 4))})
    docs.delete([1, 2])
    result = docs.purge()
    assert result["proven"] and result["done"] and result["rows_dropped"] == result["ids"] == 2
    assert result.keys() == database.purge().keys()
    database.drop_collection("docs")
    with pytest.raises(NotFoundError):
        docs.purge()
