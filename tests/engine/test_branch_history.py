"""Branches together with history, changed types and tenants: neither side sees what happens on the other."""

import pytest

import vectordb
from vectordb import AlreadyExistsError, Datetime, Dense, Float, Int, Keyword, NotFoundError, Schema, SchemaError, Sparse, Text
from vectordb.engine.check import check

SCHEMA = Schema({"v": Dense(2), "w": Sparse(encoder="bm25", source="body")}, {"n": Int(), "body": Text(), "of": Keyword()})
ROWS = range(40)


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "db", maintenance=False) as opened:
        yield opened
    report = check(tmp_path / "db")
    assert report.problems == ()


def written(docs, rows, number):
    values = {"n": [number + row for row in rows], "body": [f"word{row % 5} of {number}" for row in rows], "of": ["x"] * len(rows)}
    return docs.upsert(ids=list(rows), vectors={"v": [[1, row] for row in rows]}, attributes=values)


def state(docs, as_of=None):
    """Everything that reads tell of a collection."""
    points = docs.get(list(ROWS), with_vectors=True, as_of=as_of)
    found = docs.search(text={"w": "word1 of"}, limit=50, exact=True, as_of=as_of)
    ordered = docs.search({"v": [1, 0]}, limit=50, exact=True, as_of=as_of)
    rows = [None if point is None else (point.id, point.attributes, point.vectors["v"].tolist()) for point in points]
    counts = docs.count("n >= 20", as_of=as_of), docs.facets(["of"], as_of=as_of)["of"]
    return rows, found.ids.tolist(), found.scores.tolist(), ordered.ids.tolist(), counts


def test_a_branch_has_the_history_of_its_original(database):
    docs = database.create_collection("docs", SCHEMA, history="7d")
    written(docs, ROWS, 0)
    docs.optimize()
    first = docs.info().sequence
    before = state(docs)
    docs.delete(list(range(0, 40, 3)))
    branch = database.branch("docs", "next")
    since = state(docs)
    assert state(branch, first) == before
    written(branch, range(5, 15), 100)
    assert state(branch, first) == before == state(docs, first) and state(docs) == since
    docs.keep_history(None)
    docs.optimize()
    assert state(branch, first) == before and state(docs) == since
    branch.optimize()
    assert state(branch, first) == before


def test_the_original_keeps_its_history_when_the_branch_ends_its_own(database):
    docs = database.create_collection("docs", SCHEMA, history="7d")
    written(docs, ROWS, 0)
    first, before = docs.info().sequence, state(docs)
    docs.delete(list(range(20)))
    branch = database.branch("docs", "next")
    branch.keep_history(None)
    branch.optimize()
    assert branch.info().deleted_rows == 0
    database.drop_collection("next")
    assert state(docs, first) == before


def test_a_purge_ends_the_history_of_the_side_that_had_deleted_points(database):
    docs = database.create_collection("docs", SCHEMA, history="7d")
    written(docs, ROWS, 0)
    first = docs.info().sequence
    branch = database.branch("docs", "next")
    docs.delete([1, 2, 3])
    now = state(docs), state(branch)
    docs.purge()
    assert (state(docs), state(branch)) == now
    with pytest.raises(NotFoundError, match="a purge removed them"):
        docs.get(1, as_of=first)
    assert state(branch, first) == now[1]  # nothing was deleted there


@pytest.mark.parametrize("changed", ["docs", "next"])
def test_a_changed_type_stays_on_its_side(database, changed):
    docs = database.create_collection("docs", SCHEMA, history="7d")
    written(docs, ROWS, 0)
    docs.optimize()
    branch = database.branch("docs", "next")
    other = docs if changed == "next" else branch
    before = state(other)
    database[changed].alter(attributes={"n": Float()})
    database[changed].update(ids=[1], attributes={"n": [0.5]})
    assert state(other) == before and type(other.get(1).attributes["n"]) is int
    assert database[changed].get(1).attributes["n"] == 0.5 and type(database[changed].get(2).attributes["n"]) is float
    assert database[changed].count("n < 1") == 2
    database[changed].optimize()
    other.optimize()
    assert state(other) == before


def test_a_merge_is_a_write_of_the_history(database):
    docs = database.create_collection("docs", SCHEMA, history="7d")
    written(docs, ROWS, 0)
    branch = database.branch("docs", "next")
    before, sequence = state(docs), docs.info().sequence
    written(branch, range(10), 500)
    branch.delete([30, 31])
    database.merge("next")
    assert state(docs, sequence) == before and state(docs) == state(branch)
    docs.optimize()
    assert state(docs, sequence) == before


def test_a_merge_takes_points_that_have_another_tenant_now(database):
    docs = database.create_collection("docs", Schema({"v": Dense(2)}, {"of": Keyword(tenant=True), "n": Int()}))
    docs.upsert(ids=[1, 2, 3], vectors={"v": [[1, 0]] * 3}, attributes={"of": ["a", "a", "b"], "n": [1, 2, 3]})
    branch = database.branch("docs", "next")
    branch.delete([1])
    branch.upsert(ids=[1, 3], vectors={"v": [[0, 1]] * 2}, attributes={"of": ["b", "b"], "n": [10, 30]})
    merged = database.merge("next")
    assert (merged.added, merged.changed, merged.deleted) == (0, 2, 0)
    assert [docs.get(i).attributes for i in (1, 2, 3)] == [{"of": "b", "n": 10}, {"of": "a", "n": 2}, {"of": "b", "n": 30}]
    assert docs.count("of = 'b'") == 2 and docs.count() == 3


def test_a_merge_says_how_to_make_the_definitions_equal(database):
    schema = Schema({"v": Dense(2)}, {"n": Int(), "k": Keyword(), "until": Datetime()})
    docs = database.create_collection("docs", schema)
    docs.upsert(ids=[1], vectors={"v": [[1, 0]]}, attributes={"n": [1], "k": ["x"]})
    branch = database.branch("docs", "next")
    branch.alter(attributes={"n": Float()})
    with pytest.raises(SchemaError, match="make the same change on the other side, by alter"):
        database.merge("next")
    docs.alter(attributes={"n": Float()})
    branch.alter(ttl="until")
    with pytest.raises(SchemaError, match=r"settings of ttl, 'until' and None; make them equal by alter\(ttl="):
        database.merge("next")
    docs.alter(ttl="until")
    branch.rename_fields({"k": "kind"})
    with pytest.raises(SchemaError, match="kind isn't there in the original: it was dropped or renamed on one of the two sides"):
        database.merge("next")
    docs.rename_fields({"k": "kind"})
    branch.update(ids=[1], attributes={"n": [0.5]})
    assert database.merge("next").changed == 1 and docs.get(1).attributes == {"n": 0.5, "kind": "x"}


def test_a_history_that_is_not_kept_is_said(database):
    database.create_collection("docs", SCHEMA)
    with pytest.raises(AlreadyExistsError, match="keep_history changes that") as caught:
        database.create_collection("docs", SCHEMA, exist_ok=True, history="7d")
    assert caught.value.field == "history"
    database["docs"].keep_history("7d")
    assert database.create_collection("docs", SCHEMA, exist_ok=True, history="7d").info().history["seconds"] == 7 * 86_400
    assert database.create_collection("docs", SCHEMA, exist_ok=True).info().history["seconds"] == 7 * 86_400
