"""Fields that are dropped or renamed: afterwards a collection answers like one that never had the fields, or always the new names."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client import Client

from tests.support.places import plain
from tests.support.upkeep import hurry, index_files, until
from vectordb import Dense, Int, Keyword, Schema, SchemaError, Sparse, Text
from vectordb.engine.check import check

N = 90
VECTORS = {"v": Dense(4, metric="l2"), "w": Dense(3), "s": Sparse(encoder="bm25", source="body")}
ATTRIBUTES = {"n": Int(), "m": Int(array=True), "tag": Keyword(), "body": Text()}


def points(names):
    """Columns by their names after a change; a name that is None has been dropped."""
    rng = np.random.default_rng(4)
    vectors = {"v": rng.standard_normal((N, 4)).astype(np.float32), "w": rng.standard_normal((N, 3)).astype(np.float32)}
    attributes = {
        "n": [int(i % 7) if i % 5 else None for i in range(N)],
        "m": [[i % 3, i % 4] for i in range(N)],
        "tag": [f"t{i % 6}" for i in range(N)],
        "body": [f"word{i % 9} fox" for i in range(N)],
    }

    def kept(part):
        return {names.get(name, name): column for name, column in part.items() if names.get(name, name) is not None}

    return {"ids": range(N), "vectors": kept(vectors), "attributes": kept(attributes), "payload": [{"i": i} for i in range(N)]}


def fill(docs, names):
    columns = points(names)
    docs.upsert(ids=[1000], vectors={names.get("w", "w"): [[1, 2, 3]]} if names.get("w", "w") else None)
    docs.upsert(**columns)
    docs.delete([1000, 3, 4, 5])
    return docs


def answers(docs, schema):
    found = [plain(list(docs.iterate(with_vectors=True))), docs.schema.to_dict()]
    for name, spec in schema.attributes.items():
        found.append(docs.count(f"{name} IS NULL"))
        conditions = {Int: ("= 1", "= 2"), Keyword: ("= 't1'", "= 't2'"), Text: ("MATCH 'word3'",)}[type(spec)]
        found.append([docs.count(f"{name} {condition}") for condition in conditions])
    for name, spec in schema.vectors.items():
        if isinstance(spec, Dense):
            query = np.ones(spec.dim, np.float32)
            found += [docs.search({name: query}, limit=9, exact=exact).ids.tolist() for exact in (True, False)]
        else:
            found.append(docs.search(text="word3", limit=20).ids.tolist())
    return found


CHANGES = [
    (lambda d: d.drop_fields("tag"), {"tag": None}),
    (lambda d: d.drop_fields(["w", "n"]), {"w": None, "n": None}),
    (lambda d: d.drop_fields(["body", "s"]), {"body": None, "s": None}),
    (lambda d: d.rename_fields({"n": "number", "v": "vector"}), {"n": "number", "v": "vector"}),
    (lambda d: d.rename_fields({"v": "w", "w": "v", "n": "m", "m": "n"}), {"v": "w", "w": "v", "n": "m", "m": "n"}),
    (lambda d: d.rename_fields({"body": "text", "s": "words"}), {"body": "text", "s": "words"}),
]


def schema_after(names):
    def kept(part):
        return {names.get(name, name): spec for name, spec in part.items() if names.get(name, name) is not None}

    vectors = {name: Sparse(encoder="bm25", source=names.get("body", "body")) if name == "s" else spec for name, spec in VECTORS.items()}
    return Schema(kept(vectors), kept(ATTRIBUTES))


def test_a_changed_collection_answers_like_one_made_with_the_new_schema(database, embedded, directory, monkeypatch):
    hurry(monkeypatch, SEAL_ROWS=32)
    for number, (change, names) in enumerate(CHANGES):
        docs = fill(database.create_collection(f"docs{number}", Schema(VECTORS, ATTRIBUTES)), {})
        answers(docs, Schema(VECTORS, ATTRIBUTES))  # caches are warm
        if number in (1, 4):
            docs.optimize()
        before = docs.info().sequence
        change(docs)
        after = schema_after(names)
        other = fill(database.create_collection(f"other{number}", after), names)
        assert answers(docs, after) == [*answers(other, after)], number
        assert docs.info().sequence == before + 1 and [c.kind for c in docs.changes(since=before)] == ["schema"]
        for each in (docs, other):
            each.update(filter="ALL", payload={"new": True})
            if number == 4:
                each.optimize()
        assert docs.count() == other.count() and check_of(docs, after) == check_of(other, after)
    embedded.flush()
    assert check(directory).problems == ()
    until(lambda: check(directory).notes == ())  # the background may just be replacing an index file


def check_of(docs, schema):
    return answers(docs, schema)[2:]


def test_a_name_that_is_free_again_can_have_another_type(database, embedded, directory):
    docs = fill(database.create_collection("docs", Schema(VECTORS, ATTRIBUTES)), {})
    assert docs.count("tag = 't1'") > 0
    docs.drop_fields(["tag", "v", "s"])
    assert docs.count("tag = 't1'") == 0  # a key of the payload now
    with pytest.raises(SchemaError):
        docs.upsert(ids=[1], attributes={"tag": ["x"]})
    docs.add_fields(vectors={"v": Dense(2), "s": Sparse(encoder="bm25", source="body")}, attributes={"tag": Int()})
    assert docs.count("tag IS NULL") == docs.count() and len(docs.search({"v": [1, 0]}, limit=5)) == 0
    docs.upsert(ids=[7], vectors={"v": [[1, 2]]}, attributes={"tag": [5], "body": ["word3 new"]})
    assert docs.count("tag = 5") == 1 and docs.search({"v": [1, 0]}, limit=5).ids.tolist() == [7]
    assert docs.search(text="word3", limit=5).ids.tolist() == [7] and docs.terms("s")
    embedded.flush()
    assert check(directory).problems == ()


def test_wrong_changes_are_refused_and_change_nothing(database):
    docs = fill(database.create_collection("docs", Schema(VECTORS, ATTRIBUTES)), {})
    before = docs.info().sequence
    wrong = [
        (lambda: docs.drop_fields("body"), "source of vector field 's'"),
        (lambda: docs.drop_fields("nothing"), "no field 'nothing'"),
        (lambda: docs.drop_fields([*VECTORS, *ATTRIBUTES]), "at least one field"),
        (lambda: docs.drop_fields([]), "a list of names"),
        (lambda: docs.drop_fields(7), "a list of names"),
        (lambda: docs.rename_fields({"n": "m"}), "there is a field 'm' already"),
        (lambda: docs.rename_fields({"n": "x", "m": "x"}), "can't have one name"),
        (lambda: docs.rename_fields({"n": ""}), "'' is not a name"),
        (lambda: docs.rename_fields({"nothing": "x"}), "no field 'nothing'"),
        (lambda: docs.rename_fields("n"), "mapping of old names"),
    ]
    for call, words in wrong:
        with pytest.raises(SchemaError, match=words):
            call()
    assert docs.info().sequence == before and docs.schema == Schema(VECTORS, ATTRIBUTES)


def test_a_client_with_an_older_schema_writes_nothing_into_other_fields(embedded, address):
    docs = embedded.create_collection("docs", Schema({"v": Dense(2)}, {"a": Int(), "b": Int()}))
    with Client(address) as client:
        theirs = client.collection("docs")
        docs.rename_fields({"a": "c"})
        with pytest.raises(SchemaError):
            theirs.upsert(ids=[1], attributes={"a": [1]})
        theirs.upsert(ids=[1], attributes={"c": [1]})
        docs.drop_fields("v")
        docs.add_fields(vectors={"v": Dense(3)})
        with pytest.raises((SchemaError, ValueError)):
            theirs.upsert(ids=[2], vectors={"v": [[1, 2]]})
        theirs.upsert(ids=[2], vectors={"v": [[1, 2, 3]]})
    assert docs.count() == 2


def test_a_transaction_made_before_a_field_was_dropped_writes_nothing(embedded):
    docs = embedded.create_collection("docs", Schema({"v": Dense(2)}, {"a": Int(), "b": Int()}))
    for change in (lambda: docs.drop_fields("a"), lambda: docs.rename_fields({"b": "a"})):
        name = next(iter(docs.schema.attributes))
        with pytest.raises(SchemaError, match="dropped, renamed or replaced"), embedded.transaction() as t:
            t["docs"].upsert(ids=[1], attributes={name: [1]})
            change()
    assert docs.count() == 0


def test_the_files_of_a_dropped_field_are_removed(embedded, directory, monkeypatch):
    hurry(monkeypatch, SEAL_ROWS=32)
    docs = fill(embedded.create_collection("docs", Schema({"v": Dense(4), "w": Dense(3)}, ATTRIBUTES)), {})
    docs.optimize()
    before = index_files(directory)
    docs.drop_fields("v")
    left = index_files(directory)
    assert left < before and left and docs.purge()["proven"]
