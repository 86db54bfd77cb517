"""Databases and collections: made, listed, described, changed and dropped; and as containers, such as ``db["docs"]``, ``id in docs``."""

from __future__ import annotations

import sys
import types
import uuid

import pytest

import vectordb
from tests.congruence.filled import BOOKS, INDEXED
from tests.congruence.filled import SCHEMA as EVERYTHING
from vectordb import HNSW, AlreadyExistsError, Datetime, Dense, Int, InvalidArgumentError, NotFoundError, Schema, SchemaError
from vectordb.maintenance import backup

SCHEMA = Schema({"v": Dense(2)}, {"n": Int()})
# With an AsyncClient, what has to wait is no operator.
operators = pytest.mark.parametrize("database", ["embedded", "served"], indirect=True)


@pytest.mark.parametrize("schema", [EVERYTHING, BOOKS, INDEXED], ids=["everything", "books", "indexed"])
def test_collections_are_made_listed_and_dropped(database, embedded, schema):
    assert database.collections() == []
    made = database.create_collection("docs", schema)
    assert made.schema == database.collection("docs").schema == embedded.collection("docs").schema == schema
    assert database.collections() == ["docs"]
    assert database.create_collection("docs", schema, exist_ok=True).name == "docs"
    with pytest.raises(AlreadyExistsError):
        database.create_collection("docs", schema)
    database.drop_collection("docs")
    for call in (lambda: database.collection("docs"), lambda: database.drop_collection("docs"), made.count):
        with pytest.raises(NotFoundError):
            call()
    assert database.collections() == []


def test_fields_are_added(database, embedded):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1], vectors={"v": [[1, 2]]})
    added = {"vectors": {"new": Dense(2, "l2")}, "attributes": {"seen": Datetime(), "more": Int(array=True)}}
    docs.add_fields(**added)
    docs.add_fields(**added, exist_ok=True)
    docs.update([{"id": 1, "vectors": {"new": [1, 2]}, "attributes": {"seen": "2025-01-01T00:00:00Z", "more": [3]}}])
    assert docs.search({"new": [1, 2]})[0].attributes == embedded.collection("docs").get(1).attributes
    assert docs.schema == embedded.collection("docs").schema == SCHEMA.with_fields(**added)


def test_fields_that_another_added_are_found(database, embedded):
    docs = database.create_collection("docs", SCHEMA)
    embedded.collection("docs").add_fields(attributes={"late": Int()})
    assert docs.upsert({"id": 500 + i, "attributes": {"late": i}} for i in range(3)).count == 3  # a generator is read once
    assert docs.get(502).attributes == {"late": 2}


@pytest.mark.parametrize("index", [None, HNSW(degree=8, ef_construction=40)])
def test_a_field_keeps_its_index(database, index):
    docs = database.create_collection("docs", Schema({"d": Dense(8, index=index)}))
    docs.add_fields(vectors={"more": Dense(2, index=index), "usual": Dense(2)})
    found = {name: spec.index for name, spec in database.collection("docs").schema.vectors.items()}
    assert found == {"d": index, "more": index, "usual": HNSW()}


def test_a_graph_builder_that_is_not_installed_is_refused_where_it_would_build(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    made = Schema({"d": Dense(8, index=HNSW("hnswlib"))})
    docs = database.create_collection("docs", SCHEMA)
    for call in (lambda: database.create_collection("no", made), lambda: docs.add_fields(vectors={"e": made.vector("d")})):
        with pytest.raises(SchemaError, match=r"pip install 'hnswlib>=0\.8'") as error:
            call()
        assert (error.value.field, error.value.value) == ("graph_builder", "hnswlib")
    assert database.collections() == ["docs"]


def test_a_graph_builder_that_is_installed_is_taken(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", types.ModuleType("hnswlib"))
    schema = Schema({"d": Dense(8, index=HNSW("hnswlib"))})
    assert database.create_collection("docs", schema).schema == schema


@pytest.mark.parametrize("archive", [False, True])
def test_a_snapshot_is_whole_and_can_be_restored(database, embedded, tmp_path, archive):
    """A service writes it into its folder of snapshots, under the given name."""
    database.create_collection("docs", SCHEMA).upsert(ids=list(range(20)), attributes={"n": list(range(20))})
    (tmp_path / "snapshots").mkdir(exist_ok=True)
    path = str(tmp_path / "snapshots" / "monday-1.tar")
    name = path if database is embedded else "monday-1.tar"
    manifest = database.snapshot(name, archive=archive)
    assert manifest["path"] == path and manifest["collections"] == {"docs": {"sequence": 1, "points": 20}}
    assert backup.check(path).ok
    vectordb.restore(path, tmp_path / "back")
    with vectordb.open(tmp_path / "back") as back:
        assert list(back.collection("docs")) == list(embedded.collection("docs"))
    with pytest.raises(AlreadyExistsError):
        database.snapshot(name)


# ---- As containers ----


@operators
def test_a_database_contains_its_collections_by_name(database):
    assert len(database) == 0 and list(database) == [] and "docs" not in database
    docs = database.create_collection("docs", SCHEMA)
    database.create_collection("more", SCHEMA)
    assert list(database) == ["docs", "more"] and len(database) == 2
    assert "docs" in database and "other" not in database and 3 not in database
    docs.upsert(ids=[1], attributes={"n": [5]})
    assert database["docs"].get(1).attributes == {"n": 5}
    with pytest.raises(NotFoundError, match="docs, more"):
        database["other"]


@operators
def test_a_collection_contains_points_by_id(database):
    docs = database.create_collection("docs", SCHEMA)
    key = uuid.uuid4()
    docs.upsert(ids=[1, "a", key], attributes={"n": [1, 2, 3]})
    assert len(docs) == 3
    assert 1 in docs and "a" in docs and key in docs
    assert "1" not in docs and 2 not in docs
    for wrong in (None, 1.5, [1, "a"], -1):
        with pytest.raises(InvalidArgumentError, match="id"):
            wrong in docs  # noqa: B015


def test_iteration_reads_every_point_once_in_the_order_of_ids(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[*range(2500), "b", "a"])
    found = []
    for point in docs:
        if point.id == 10:
            docs.delete([11, 2400])  # one on a page that was read already, one on a later page
            docs.upsert(ids=[2499])
        found.append(point.id)
    assert found == [*range(2400), *range(2401, 2500), "a", "b"]


def test_empty_databases_and_collections_are_true(database):
    assert bool(database) and bool(database.create_collection("docs", SCHEMA))


def test_a_page_is_a_sequence_of_points(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2, 3])
    page = docs.scroll(limit=2)
    assert [point.id for point in page] == [1, 2] and len(page) == 2
    assert page[0].id == 1 and page[-1].id == 2 and [point.id for point in page[1:]] == [2]
    assert repr(page) == f"Page(2 points: 1, 2; cursor={page.cursor!r})"


def test_names_of_other_databases_say_what_to_write(database):
    docs = database.create_collection("docs", SCHEMA)
    for owner, name, advice in (
        (database, "get_collection", r"collection\(name\)"),
        (database, "get_or_create_collection", "exist_ok=True"),
        (database, "query", r"collection\(name\)\.search"),
        (docs, "query", "search"),
        (docs, "add", "upsert"),
        (docs, "clear", 'filter="ALL"'),
    ):
        assert not hasattr(owner, name)
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; write .*{advice}") as error:
            getattr(owner, name)
        assert isinstance(error.value, InvalidArgumentError) and error.value.field == name
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        docs.nonsense  # noqa: B018


def test_arguments_of_other_databases_say_what_to_write(database):
    docs = database.create_collection("docs", SCHEMA)
    for call, advice in (
        (lambda: docs.search({"v": [1, 2]}, score_threshold=3), "hit.score >="),
        (lambda: docs.search_batch({"v": [[1, 2]]}, nprobe=3), "recall="),
        (lambda: docs.delete(all=True), 'filter="ALL"'),
        (lambda: docs.search({"v": [1, 2]}, 3), r"takes vectors by position, and the others by name: text=…, filter=…, limit=…"),
        (lambda: database.create_collection("x", vectors={}), "write schema="),
        (lambda: database.create_collection("x", {"v": 4}), r"write Schema\(vectors="),
        (lambda: docs.delete(), 'filter="ALL" deletes all points'),
    ):
        with pytest.raises(InvalidArgumentError, match=advice):
            call()


def test_deleting_by_the_filter_all_empties_a_collection(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2, 3])
    assert docs.delete(filter="ALL").count == 3 and docs.count() == 0
