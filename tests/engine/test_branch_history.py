"""Branches together with history, changed types and tenants: neither side sees what happens on the other."""

import pytest

import vectordb
from vectordb import Dense, Float, Int, Keyword, NotFoundError, Schema, Sparse, Text
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
