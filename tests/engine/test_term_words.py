"""Words of sparse terms on disk: stored once, kept, found by other processes, checked; and gone with their collection."""

from __future__ import annotations

import pytest

import vectordb
from tests.engine.test_check import damage, problems_of
from vectordb import (
    CorruptionError,
    Dense,
    Schema,
    Sparse,
    Text,
    encoders,
)
from vectordb.storage import format, term_words

TOP = 2**64 - 1
SCHEMA = Schema(
    {"raw": Sparse(), "bm": Sparse("idf", encoder="bm25", source="body"), "v": Dense(2)},
    {"body": Text()},
)
BM25 = encoders.load("bm25")


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(
        ids=[1, 2, 3],
        vectors={"raw": [{1: 1.0, TOP: 2.0}, {1: 1.0, 5: 1.0}, {2**63: 4.0}]},
        attributes={"body": ["a Harbour, two harbours: harbours", "the boats", "BOAT boat"]},
    )
    return docs


def words(docs):
    return set(docs.terms("bm").values())


def test_words_outlive_reopening_deletes_and_compaction(directory):
    with vectordb.open(directory) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert(ids=range(300), attributes={"body": [f"word{i}" for i in range(300)]})
        docs.set_terms("raw", {TOP: "the last"})
        docs.delete(list(range(299)))
        docs.optimize()
    with vectordb.open(directory) as database:
        docs = database.collection("docs")
        assert words(docs) == {f"word{i}" for i in range(300)} and docs.terms("raw") == {TOP: "the last"}
        docs.upsert(ids=[1], attributes={"body": ["word7 and more"]})
        assert docs.terms("bm")[BM25.term("word7")] == "word7" and "more" in words(docs)


def test_more_terms_than_are_remembered_are_still_stored_once(docs, monkeypatch):
    monkeypatch.setattr("vectordb.collection.MAX_WORDED_TERMS", 3)
    for i in range(20):
        docs.upsert(ids=[i], attributes={"body": [f"word{i // 2} common"]})
    assert len(next(iter(docs._worded.values()))) <= 5  # those of the first writes
    assert {f"word{i}" for i in range(10)} <= words(docs)


def test_what_is_no_word_is_left_out_of_what_an_encoder_says(docs, monkeypatch):
    made = BM25.encode_documents(["fine bad long"])
    said = {BM25.term("fine"): "fine", BM25.term("bad"): "a\nb", BM25.term("long"): "x" * 481}
    monkeypatch.setattr(encoders.bm25.BM25, "encode_documents", lambda *_: made._replace(words=lambda known: said))
    docs.upsert(ids=[1], attributes={"body": ["fine bad long"]})
    assert BM25.term("fine") in docs.terms("bm") and not {BM25.term("bad"), BM25.term("long")} & docs.terms("bm").keys()


def test_a_second_process_finds_and_adds_words(directory, worker):
    with vectordb.open(directory) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert(ids=[1], attributes={"body": ["harbours"]})
        assert worker.call(_elsewhere, str(directory)) == {"harbours"}
        assert words(docs) == {"harbours", "ferries"} and docs.terms("raw") == {3: "three"}
        docs.upsert(ids=[3], attributes={"body": ["ferry"]})
        assert words(docs) == {"harbours", "ferries"}


def _elsewhere(path):
    with vectordb.open(path) as database:
        docs = database.collection("docs")
        before = words(docs)
        docs.upsert(ids=[2], attributes={"body": ["harbour ferries"]})
        docs.set_terms("raw", {3: "three"})
        return before


def test_words_go_with_their_collection(database, docs):
    docs.set_terms("raw", {1: "one"})
    number = docs._number
    database.drop_collection("docs")
    again = database.create_collection("docs", SCHEMA)
    assert again.terms("raw") == {} == again.terms("bm")
    with database.directory.env.read() as txn:
        cursor = txn.cursor()
        assert not cursor.set_range(format.collection_prefix(number)) or not bytes(cursor.key()).startswith(
            format.collection_prefix(number)
        )


@pytest.fixture
def filled(directory):
    with vectordb.open(directory) as database:
        docs = database.create_collection("c", SCHEMA)
        docs.upsert(ids=[1], vectors={"raw": [{5: 1.0}]})
        docs.set_terms("raw", {5: "five"})
    return directory


DAMAGE = {
    "a flipped bit": (lambda key, n, m: {key: b"\0" + format.with_checksum(b"five")[1:]}, "the word of term 5 record fails its checksum"),
    "no text": (lambda key, n, m: {key: format.with_checksum(b"\xff")}, "the word of term 5 is not valid UTF-8"),
    "no word": (lambda key, n, m: {key: format.with_checksum(b"a\nb")}, "has 'a\\nb' for term 5, which is not a valid word"),
    "nothing": (lambda key, n, m: {key: b""}, "fails its checksum"),
    "of a dense field": (
        lambda key, n, m: {format.term_word_key(n, m.fields["v"], 5): b"x"},
        "which has no such record",
    ),
    "of no field": (
        lambda key, n, m: {format.term_word_key(n, 999, 5): b"x"},
        "is of field 999, which has no such record",
    ),
    "a short key": (lambda key, n, m: {key[:-1]: format.with_checksum(b"x")}, "which has no such record"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(filled, name):
    make, expected = DAMAGE[name]
    damage(filled, lambda txn, n, m: [txn.put(*pair) for pair in make(format.term_word_key(n, m.fields["raw"], 5), n, m).items()])
    if name in ("a flipped bit", "no text"):
        with vectordb.open(filled) as database:
            docs = database.collection("c")
            for ask in (lambda: docs.search({"raw": {5: 1.0}}, explain=True), lambda: docs.terms("raw"), docs.info):
                with pytest.raises(CorruptionError, match="the word of term 5"):
                    ask()
            assert docs.search({"raw": {5: 1.0}})[0].id == 1  # nothing but its name is lost
    found = problems_of(filled)
    assert any(expected in line for line in found), found


def test_words_that_are_there_are_not_written_again(docs):
    """The same bytes in the same page: a batch without new words dirties no page of the table."""
    env, number = docs._directory.env, docs._number

    def work(txn):
        field = docs._snapshots.newest.meta.fields["bm"]
        before = term_words.page(txn, number, field, None, 100)
        term_words.add(txn, number, field, dict.fromkeys(before, "another"))
        return before, term_words.page(txn, number, field, None, 100)

    before, after = env.write(work, "commit", 10.0)
    assert before == after
