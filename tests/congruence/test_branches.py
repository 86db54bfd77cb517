"""Branches of collections, in every place and on the command line."""

from __future__ import annotations

import uuid

import pytest

import vectordb
from vectordb import (
    AlreadyExistsError,
    BranchDiff,
    Dense,
    Int,
    InvalidArgumentError,
    Keyword,
    MergeResult,
    NotFoundError,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
)
from vectordb.cli import main
from vectordb.engine.check import check

SCHEMA = Schema({"v": Dense(2), "t": Sparse(encoder="bm25", source="body")}, {"n": Int(), "tag": Keyword(), "body": Text()})
UUID = uuid.UUID(int=7)
IDS = [1, 2, 3, "a", UUID]


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    vectors = [[1.0, float(i)] for i in range(5)]
    docs.upsert(ids=IDS, vectors={"v": vectors}, attributes={"n": [0, 1, 2, 3, 4], "body": ["fox", "fox dog", "dog", "ape", "bee"]})
    return docs


def numbers(collection):
    return {point.id: point.attributes["n"] for point in collection.scroll(limit=100).points}


def test_changes_stay_on_their_side_until_they_are_merged(docs, database, embedded, directory):
    branch = database.branch("docs", "next")
    assert branch.name == "next" and database.collections() == ["docs", "next"]
    assert numbers(branch) == numbers(docs) and branch.count() == 5
    facts = branch.info().branch
    assert (facts["of"], facts["sequence"], facts["dropped"]) == ("docs", 1, False) and docs.info().branch is None
    assert "branch of 'docs', made at sequence 1" in str(branch.info())
    branch.update(ids=[1, UUID], attributes={"n": [10, 40], "tag": ["x", "y"]})
    branch.upsert(ids=["new"], vectors={"v": [[9.0, 9.0]]}, attributes={"n": [6], "body": ["fox fox"]}, payload=[{"k": 1}])
    branch.delete([3])
    docs.update(ids=[2], attributes={"n": [20]})
    assert numbers(docs) == {1: 0, 2: 20, 3: 2, "a": 3, UUID: 4}
    assert numbers(branch) == {1: 10, 2: 1, "a": 3, UUID: 40, "new": 6}
    counts = {"added": 1, "changed": 2, "deleted": 1, "conflicts": 0}
    assert database.diff("next") == BranchDiff(("new",), (1, UUID), (3,), (), counts)
    assert database.diff("next", limit=1) == BranchDiff(("new",), (1,), (3,), (), counts)
    assert database.diff("next", limit=0).counts == counts
    assert database.merge("next") == MergeResult(1, 2, 1, 0, 4)
    assert numbers(docs) == {1: 10, 2: 20, "a": 3, UUID: 40, "new": 6}
    written, here = (collection.get("new", with_vectors=True) for collection in (docs, branch))
    assert (written.attributes, written.payload, written.version) == (here.attributes, here.payload, 4)
    assert written.vectors["v"].tolist() == [9.0, 9.0] and written.vectors["t"][1].tolist() == [2.0]
    assert docs.search(text="fox").ids.tolist() == ["new", 1, 2] and docs.count("tag = 'x'") == 1
    assert docs.search({"v": [9.0, 9.0]}, limit=1, filter="n = 6").ids.tolist() == ["new"]
    assert database.merge("next") == MergeResult(0, 0, 0, 0, 4)  # once more: nothing is left to do
    branch.delete(["new"])
    assert database.merge("next").deleted == 1 and docs.get("new") is None
    database.drop_collection("next")
    assert database.collections() == ["docs"] and docs.count() == 4
    embedded.flush()
    assert check(directory).problems == ()


@pytest.mark.parametrize(
    ("choice", "expected"), [("branch", {1: 10, 2: 11, "a": 3, UUID: 40}), ("original", {1: 100, 3: 30, "a": 3, UUID: 40, "b": 7})]
)
def test_conflicts_are_refused_or_decided(docs, database, choice, expected):
    branch = database.branch("docs", "next")
    branch.update(ids=[1, 2, UUID], attributes={"n": [10, 11, 40]})
    branch.delete([3])
    branch.upsert(ids=["b", "c"], attributes={"n": [8, 9]})
    branch.delete(["c"])
    docs.update(ids=[1, 3], attributes={"n": [100, 30]})
    docs.upsert(ids=["b"], attributes={"n": [7]})
    docs.delete([2])
    assert database.diff("next").conflicts == (1, 2, 3, "b")
    before = numbers(docs), docs.info().sequence
    with pytest.raises(
        PreconditionError, match="4 points were changed on branch 'next' and in its original 'docs', too: 1, 2, 3, 'b'; nothing"
    ) as raised:
        database.merge("next")
    assert raised.value.field == "on_conflict" and "on_conflict='branch'" in str(raised.value)
    assert (numbers(docs), docs.info().sequence) == before
    merged = database.merge("next", on_conflict=choice)
    assert merged.conflicts == 4 and numbers(docs) == expected | ({"b": 8} if choice == "branch" else {})
    assert sum(database.diff("next").counts.values()) == 0
    branch.update(ids=[1], attributes={"n": [5]})  # decided: only what changes from now on counts
    assert database.merge("next").changed == 1 and docs.get(1).attributes["n"] == 5


def test_points_that_both_sides_deleted_are_no_conflict(docs, database):
    branch = database.branch("docs", "next")
    for each in (docs, branch):
        each.delete([1])
    assert sum(database.diff("next").counts.values()) == 0
    assert database.merge("next") == MergeResult(0, 0, 0, 0, 2)


def test_branches_of_branches_aliases_and_new_names(docs, database):
    database.alias("live", "docs")
    database.branch("live", "one")
    two = database.branch("one", "two")
    database.rename_collection("one", "first")
    assert two.info().branch["of"] == "first"
    two.update(ids=[1], attributes={"n": [10]})
    database.alias("trial", "two")
    assert database.merge("trial").changed == 1
    assert numbers(database.collection("first"))[1] == 10 and numbers(docs)[1] == 0
    assert database.merge("first").changed == 1 and numbers(docs)[1] == 10


def test_the_history_of_the_original_goes_on_in_the_branch(docs, database):
    docs.delete(["a"])
    branch = database.branch("docs", "next")
    branch.upsert(ids=[8], attributes={"n": [8]})
    assert [(change.sequence, change.kind) for change in branch.changes()] == [(1, "write"), (2, "delete"), (3, "write")]
    assert [change.ids for change in branch.changes(since=2)] == [(8,)]
    database.merge("next")
    assert [change.ids for change in docs.changes(since=2)] == [(8,)]


def test_errors_say_what_to_do(docs, database):
    database.alias("live", "docs")
    branch = database.branch("docs", "next")
    wrong = [
        (lambda: database.branch("nothing", "x"), NotFoundError, "no collection 'nothing'"),
        (lambda: database.branch("docs", "next"), AlreadyExistsError, "there is a collection 'next' already; choose another name"),
        (lambda: database.branch("docs", "live"), AlreadyExistsError, "there is an alias 'live' already"),
        (lambda: database.branch("docs", "a b"), SchemaError, "'a b' is not a name"),
        (lambda: database.merge("nothing"), NotFoundError, "no collection 'nothing'"),
        (lambda: database.merge("docs"), InvalidArgumentError, "collection 'docs' isn't a branch.*branches: next"),
        (lambda: database.diff("live"), InvalidArgumentError, "collection 'docs' isn't a branch"),
        (lambda: database.merge("next", on_conflict="ours"), InvalidArgumentError, "on_conflict must be 'error', 'branch'.*not 'ours'"),
        (lambda: database.merge("next", on_conflict=["error"]), InvalidArgumentError, "on_conflict must be"),
        (lambda: database.diff("next", limit=-1), InvalidArgumentError, "limit must be an integer from 0 to 100,000, not -1"),
        (lambda: database.diff("next", limit=True), InvalidArgumentError, "limit must be"),
    ]
    for call, kind, words in wrong:
        with pytest.raises(kind, match=words):
            call()
    docs.drop_fields("tag")
    branch.update(ids=[1], attributes={"n": [10]})
    with pytest.raises(SchemaError, match="tag isn't there in the original"):
        database.merge("next")
    database.drop_alias("live")
    database.drop_collection("docs")
    with pytest.raises(PreconditionError, match=r"the original of branch 'next', collection 'docs', was dropped.*rename_collection"):
        database.merge("next")
    assert numbers(branch)[1] == 10 and branch.info().branch["dropped"]
    assert database.collections() == ["next"]


def test_branches_on_the_command_line(tmp_path, capsys):
    with vectordb.open(tmp_path / "data") as database:
        database.create_collection("docs", Schema({}, {"n": Int()})).upsert(ids=[1, 2], attributes={"n": [1, 2]})
    place = str(tmp_path / "data")

    def told(*words):
        code = main([*words])
        out, err = capsys.readouterr()
        return code, (out + err).strip()

    assert told("branch", place, "docs", "next") == (0, "'next' is a branch of collection 'docs'")
    with vectordb.open(tmp_path / "data") as database:
        database.collection("next").upsert(ids=[2, 3], attributes={"n": [20, 30]})
        database.collection("docs").update(ids=[2], attributes={"n": [21]})
    assert told("diff", place, "next") == (0, "added: 1 point: 3\nchanged: 1 point: 2\ndeleted: 0 points\nconflicts: 1 point: 2")
    assert told("diff", place, "next", "--json", "--limit", "0")[1].startswith('{\n "added": [],')
    code, words = told("merge", place, "next")
    assert code == 1 and "on_conflict='branch'" in words
    assert told("merge", place, "next", "--on-conflict", "branch") == (
        0,
        "merged branch 'next': 1 points added, 1 changed, 0 deleted, 1 of them in conflict",
    )
    assert "branch of 'docs'" in told("info", place, "next")[1]
    with pytest.raises(SystemExit):
        main(["branch", place, "docs"])
