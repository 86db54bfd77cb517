"""Fields of earlier versions: searched and written by their own rules, reported as such, and converted by ``optimize``."""

from __future__ import annotations

import importlib.util
import json
import tarfile

import numpy as np
import pytest

import vectordb
from tests.support.paths import GOLDEN
from vectordb import Schema, Sparse, Text
from vectordb.collection import Collection
from vectordb.common import failpoints
from vectordb.common.tokenize import RULE, words
from vectordb.engine.check import check
from vectordb.maintenance.convert import STEPS
from vectordb.storage import format
from vectordb.storage.reader import read_only

TEXTS = GOLDEN / "texts"
_spec = importlib.util.spec_from_file_location("golden_texts_make", TEXTS / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.fixture
def earlier(tmp_path):
    """(directory, what it must answer) of the version before."""
    with tarfile.open(TEXTS / "format-3.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    directory = tmp_path / "data"
    yield directory, json.loads((tmp_path / "expected.json").read_text())
    failpoints.disarm()
    assert check(directory).problems == ()


def same(collection, expected: dict) -> None:
    found = json.loads(json.dumps(make.answers(collection)))
    assert found["counts"] == expected["counts"]
    for text, hits in expected["searches"].items():
        assert [hit[0] for hit in found["searches"][text]] == [hit[0] for hit in hits], text
        np.testing.assert_allclose([hit[1] for hit in found["searches"][text]], [hit[1] for hit in hits], rtol=1e-4, atol=1e-4)


def notes_of(collection) -> dict[str, str]:
    return {name: facts["note"] for name, facts in collection.info().statistics.items() if "note" in facts}


def same_as_fresh(database, collection) -> None:
    """Every answer is that of a new collection with the same points, to the last bit."""
    fresh = database.create_collection(f"fresh{len(database.collections())}", collection.schema)
    fresh.upsert([vectordb.Point(point.id, {}, dict(point.attributes)) for point in collection.iterate()])
    for text in make.QUERIES:
        for options in ({"exact": True}, {"recall": 0.95}):
            one, other = ([(h.id, h.score) for h in c.search(text=text, limit=400, **options)] for c in (collection, fresh))
            assert sorted(one, key=str) == sorted(other, key=str)
    for text in make.FILTERS:
        assert collection.count(text) == fresh.count(text)


def test_they_answer_as_they_did_and_say_so(earlier):
    directory, expected = earlier
    with vectordb.open(directory, maintenance=False) as database:
        for name in ("notes", "hand", "plain", "loose"):
            collection = database.collection(name)
            same(collection, expected[name])
            assert set(notes_of(collection)) == {"t", "body", "tags"}
        assert "optimize() converts it" in notes_of(database.collection("notes"))["t"]
        assert "without weighting" in notes_of(database.collection("plain"))["t"]
        assert "new collection" in notes_of(database.collection("loose"))["t"]
    with read_only(directory) as (txn, _):
        assert format.unpack_record(txn.get(format.FORMAT_KEY), "format") == {"format": 3}


def test_they_are_written_by_their_own_rules_until_they_are_converted(earlier):
    directory, _ = earlier
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")
        collection.upsert(ids=["new"], attributes={"body": ["ฉันกินข้าวกับปลา"], "tags": [["❤"]]})
        assert collection.count("body MATCH 'ปลา'") == 0 and collection.count("tags MATCH '❤'") == 0
        assert len(collection.search(text="ปลา")) == 0
        assert "new" in collection.search(text="ฉันกินข้าวกับปลา", limit=400).ids
        assert collection.count("body MATCH 'ฉันกินข้าวกับปลา' AND HAS_ID('new')") == 1
        assert (collection.get("new", with_vectors=True).vectors["t"][1] % 1).all()  # a finished weight
        collection.add_fields(vectors={"u": Sparse(encoder="bm25", source="body")}, attributes={"more": Text()})
        collection.upsert(ids=["newer"], attributes={"body": ["ปลา"], "more": ["ฉันกินข้าวกับปลา"]})
        assert collection.search(text={"u": "ปลา"}).ids.tolist() == ["newer"] and collection.count("more MATCH 'ปลา'") == 1
        assert set(notes_of(collection)) == {"t", "body", "tags"}
    with read_only(directory) as (txn, _):
        assert format.unpack_record(txn.get(format.FORMAT_KEY), "format") == {"format": format.VERSION}


@pytest.mark.parametrize("how", ["optimize", "purge"])
def test_what_was_made_of_texts_becomes_what_a_fresh_collection_has(earlier, how):
    directory, _ = earlier
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")
        collection.count("body MATCH 'ปลา'")  # its bitmap is kept, and wrong from now on
        collection.count("body MATCH 'ป'")
        getattr(collection, how)()
        assert notes_of(collection) == {} and collection.info().statistics["t"]["texts"]["documents"] == collection.count()
        assert collection.info().statistics["t"]["segments"] or how == "purge"
        assert collection.terms("t")[3] == "three"
        assert collection.count("body MATCH 'ปลา'") > 0 and collection.count("tags MATCH '❤'") > 0
        same_as_fresh(database, collection)
        collection.delete(list(range(100, 200)))
        collection.upsert(ids=["new"], attributes={"body": ["ปลา fox"]})
        same_as_fresh(database, collection)
    with vectordb.open(directory, maintenance=False) as database:
        same_as_fresh(database, database.collection("notes"))


def test_what_was_not_made_of_texts_stays(earlier):
    directory, expected = earlier
    with vectordb.open(directory, maintenance=False) as database:
        for name in ("hand", "plain", "loose"):
            collection = database.collection(name)
            collection.optimize()
            assert set(notes_of(collection)) == {"t"}
            found = {name: dict(map(tuple, hits)) for name, hits in make.answers(collection)["searches"].items()}
            assert found == {name: pytest.approx(dict(map(tuple, hits)), abs=1e-4) for name, hits in expected[name]["searches"].items()}
            assert collection.count("body MATCH 'ปลา'") > 0
        hand = database.collection("hand")
        hand.update(ids=[7], attributes={"body": ["text again"]})  # its vector is made of it now
        hand.optimize()
        assert notes_of(hand) == {}
        same_as_fresh(database, hand)


def test_a_purge_leaves_nothing_of_deleted_texts_in_counters_that_stay(earlier):
    directory, _ = earlier
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("plain")
        collection.upsert(ids=["long"], attributes={"body": ["secret " * 5_000]})
        collection.delete(["long"])
        assert collection.purge()["proven"]
        with collection._snapshots.pin() as view:
            counters = view.store.encoder_state(view.fields["t"])
        texts = [point.attributes["body"] for point in collection.iterate()]
        sizes = [len(words(text, 1)) for text in texts]
        assert counters == {"documents": sum(size > 0 for size in sizes), "words": sum(sizes)}
        collection.delete(filter="body MATCH 'fox'")
        collection.delete([point.id for point in collection.iterate()])
        collection.purge()
        with collection._snapshots.pin() as view:
            assert view.store.encoder_state(view.fields["t"]) is None


@pytest.mark.parametrize("step", [step for step in STEPS if step != "convert.committed"])
def test_a_conversion_that_fails_changes_nothing(earlier, step):
    directory, expected = earlier
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")

        def fail():
            raise OSError("no")

        failpoints.arm(step, fail)
        with pytest.raises(vectordb.VectorDBError):
            collection.optimize()
        failpoints.disarm()
        assert set(notes_of(collection)) == {"t", "body", "tags"}
        same(collection, expected["notes"])
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")
        collection.optimize()
        same_as_fresh(database, collection)


def test_a_write_that_a_conversion_overtakes_is_encoded_again(earlier, monkeypatch):
    directory, _ = earlier
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")
        commit, done = Collection._commit, []

        def late(self, change, durability):
            if not done:
                done.append(collection.optimize())
            return commit(self, change, durability)

        monkeypatch.setattr(Collection, "_commit", late)
        collection.upsert(ids=["late"], attributes={"body": ["a late fox ปลา"]})
        assert done and notes_of(collection) == {}
        assert (collection.get("late", with_vectors=True).vectors["t"][1] == 1).all()
        same_as_fresh(database, collection)


def _see(path) -> tuple:
    global _theirs
    database = vectordb.open(path, maintenance=False)
    _theirs = database.collection("notes")
    return tuple(_theirs.search(text="ปลา", limit=400).ids), _theirs.count("body MATCH 'ปลา'")


def _see_again() -> tuple:
    return (
        len(_theirs.search(text="ปลา", limit=400)),
        _theirs.count("body MATCH 'ปลา'"),
        _theirs.upsert(ids=["theirs"], attributes={"body": ["their ปลา"]}).count,
    )


def test_other_processes_see_it_at_their_next_call(earlier, worker):
    directory, _ = earlier
    assert worker.call(_see, directory) == ((), 0)
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.collection("notes")
        collection.optimize()
        found = len(collection.search(text="ปลา", limit=400)), collection.count("body MATCH 'ปลา'"), 1
        assert min(found) > 0 and worker.call(_see_again) == found
        same_as_fresh(database, collection)


def test_who_asks_for_the_same_fields_gets_the_collection_there_is(earlier):
    directory, _ = earlier
    schema = Schema({"t": Sparse(encoder="bm25", source="body")}, {"body": Text(), "tags": Text(array=True)})
    with vectordb.open(directory, maintenance=False) as database:
        for name in ("notes", "plain"):
            assert database.create_collection(name, schema, exist_ok=True).count() > 100
        assert database.collection("plain").schema.vectors["t"].weighting == "none"
        with pytest.raises(vectordb.AlreadyExistsError):
            database.create_collection("plain", Schema({"t": Sparse()}), exist_ok=True)


def test_collections_of_today_have_todays_rules(database):
    collection = database.create_collection("c", Schema({"t": Sparse(encoder="bm25", source="body")}, {"body": Text()}))
    with collection._snapshots.pin() as view:
        assert view.snapshot.meta.rules == {"t": RULE, "body": RULE} and view.schema.earlier == frozenset()
    assert notes_of(collection) == {}
