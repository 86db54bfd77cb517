"""Words of sparse terms: left by encoders, set by users, shown by explain and info; the same in each place."""

from __future__ import annotations

import pytest
from vectordb_client.v1 import vectordb_pb2 as pb

from vectordb import Dense, InvalidArgumentError, LimitError, PreconditionError, Schema, SchemaError, Sparse, Text, encoders

TOP = 2**64 - 1
SCHEMA = Schema({"raw": Sparse(), "bm": Sparse("idf", encoder="bm25", source="body"), "v": Dense(2)}, {"body": Text()})
BM25 = encoders.load("bm25")


@pytest.fixture
def settings():
    return {"max_message_bytes": 64 << 10}


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(
        ids=[1, 2, 3],
        vectors={"raw": [{1: 1.0, TOP: 2.0}, {1: 1.0, 5: 1.0}, {2**63: 4.0}]},
        attributes={"body": ["a Harbour, two harbours: harbours", "the boats", "BOAT boat"]},
    )
    return docs


def arm(hits):
    return hits.plan["arms"][0]


def words(docs, field="bm"):
    return set(docs.terms(field).values())


def test_texts_leave_the_commonest_form_of_each_term_and_later_ones_do_not_change_it(docs):
    assert docs.terms("bm")[BM25.term("harbour")] == "harbours"
    assert docs.terms("bm")[BM25.term("boat")] == "boat"
    assert words(docs) == {"a", "two", "the", "harbours", "boat"}
    docs.upsert(ids=[4], attributes={"body": ["harbour harbour harbour boats trains"]})
    docs.update(ids=[1], attributes={"body": ["a ship"]})
    assert words(docs) == {"a", "two", "the", "harbours", "boat", "trains", "ship"}
    assert list(docs.terms("bm")) == sorted(docs.terms("bm"))


def test_a_raw_query_of_an_encoded_field_is_explained_in_words(docs):
    terms = {BM25.term("harbour"): 1.0, BM25.term("boat"): 2.0, 17: 1.0}
    hits = docs.search({"bm": terms}, explain=True)
    assert {part["term"]: part.get("word") for part in arm(hits)["terms"]} == {
        BM25.term("harbour"): "harbours",
        BM25.term("boat"): "boat",
        17: None,
    }
    assert [[part["word"] for part in row] for row in arm(hits)["matched"]] == [["harbours"] if i == 1 else ["boat"] for i in hits.ids]
    assert f"contributions to the best row: {'harbours' if hits[0].id == 1 else 'boat'} " in str(hits.plan)


def test_a_text_is_explained_in_its_own_words(docs):
    said = arm(docs.search(text={"bm": "Boats"}, explain=True))
    assert [part["word"] for part in said["terms"]] == ["boats"]


def test_what_a_user_sets_stays_whatever_is_written(docs):
    term = BM25.term("train")
    assert docs.set_terms("bm", {term: "Railway"}) == 1
    docs.upsert(ids=[9], attributes={"body": ["trains and trains"]})
    assert docs.terms("bm")[term] == "Railway"


def test_a_write_that_is_refused_leaves_no_words(docs):
    with pytest.raises(PreconditionError):
        docs.upsert(ids=[1], attributes={"body": ["zeppelin"]}, if_version=99)
    assert "zeppelin" not in words(docs)
    docs.upsert(ids=[1], attributes={"body": ["zeppelin"]})  # and this process doesn't think that they are stored
    assert "zeppelin" in words(docs)


def test_words_of_raw_terms_are_set_listed_changed_and_taken_away(docs):
    assert docs.set_terms("raw", {}) == 0 and docs.terms("raw") == {}
    assert docs.set_terms("raw", {TOP: "last", 1: "one", 2**63: "middle", 77: "of no point"}) == 4
    assert list(docs.terms("raw").items()) == [(1, "one"), (77, "of no point"), (2**63, "middle"), (TOP, "last")]
    assert docs.set_terms("raw", {1: "one", 77: None, 78: None, 5: "five"}, durability="batched") == 2
    assert docs.terms("raw", limit=2) == {1: "one", 5: "five"}
    assert docs.terms("raw", after=5, limit=1) == {2**63: "middle"}
    assert docs.terms("raw", after=2**63) == {TOP: "last"} and docs.terms("raw", after=TOP) == {}
    hits = docs.search({"raw": {1: 1.0, TOP: 1.0, 6: 1.0}}, explain=True)
    assert [part.get("word") for part in arm(hits)["terms"]] == ["one", None, "last"]
    assert "contributions to the best row: last 2, one 1" in str(hits.plan)
    heaviest = docs.info().statistics["raw"]["dictionary"]["heaviest"]
    assert heaviest[0] == {"term": 1, "rows": 2, "word": "one"} and heaviest[-1] == {"term": TOP, "rows": 1, "word": "last"}
    docs.set_terms("raw", {1: "uno"})  # though no row changed
    assert docs.info().statistics["raw"]["dictionary"]["heaviest"][0]["word"] == "uno"
    docs.set_terms("raw", {1: None})
    assert docs.info().statistics["raw"]["dictionary"]["heaviest"][0] == {"term": 1, "rows": 2}
    assert docs.terms("bm") and docs.info().sequence == 1


REFUSED = [
    (lambda c: c.set_terms("nope", {1: "a"}), SchemaError, "nope"),
    (lambda c: c.set_terms("v", {1: "a"}), SchemaError, "'v' is dense"),
    (lambda c: c.set_terms("body", {1: "a"}), SchemaError, "body"),
    (lambda c: c.set_terms("raw", [(1, "a")]), InvalidArgumentError, "mapping"),
    (lambda c: c.set_terms("raw", {-1: "a"}), InvalidArgumentError, "-1"),
    (lambda c: c.set_terms("raw", {2**64: "a"}), InvalidArgumentError, str(2**64)),
    (lambda c: c.set_terms("raw", {True: "a"}), InvalidArgumentError, "True"),
    (lambda c: c.set_terms("raw", {"1": "a"}), InvalidArgumentError, "'1'"),
    (lambda c: c.set_terms("raw", {2: "fine", 1: ""}), InvalidArgumentError, "term 1 "),
    (lambda c: c.set_terms("raw", {1: 5}), InvalidArgumentError, "term 1 "),
    (lambda c: c.set_terms("raw", {1: "a\tb"}), InvalidArgumentError, "printable"),
    (lambda c: c.set_terms("raw", {1: "\x1b[31m"}), InvalidArgumentError, "printable"),
    (lambda c: c.set_terms("raw", {1: "\ud800"}), InvalidArgumentError, "printable"),
    (lambda c: c.set_terms("raw", {2: "fine", 1: "é" * 241}), LimitError, "term 1 has 482 UTF-8 bytes, at most 480"),
    (lambda c: c.set_terms("raw", {1: "a"}, durability="never"), InvalidArgumentError, "never"),
    (lambda c: c.terms("v"), SchemaError, "'v' is dense"),
    (lambda c: c.terms("raw", limit=0), InvalidArgumentError, "limit"),
    (lambda c: c.terms("raw", limit=100_001), InvalidArgumentError, "limit"),
    (lambda c: c.terms("raw", limit=True), InvalidArgumentError, "limit"),
    (lambda c: c.terms("raw", after=-1), InvalidArgumentError, "after"),
]


def test_what_can_not_be_is_refused_by_name_and_nothing_is_written(docs):
    for call, error, says in REFUSED:
        with pytest.raises(error) as caught:
            call(docs)
        assert type(caught.value) is error and says in str(caught.value) and caught.value.field
        assert docs.terms("raw") == {}, says


def test_the_longest_word_there_may_be(docs):
    docs.set_terms("raw", {0: "é" * 240})
    assert docs.terms("raw") == {0: "é" * 240}


def test_a_field_added_later_has_words_of_its_own(docs):
    docs.set_terms("raw", {1: "one"})
    docs.add_fields(vectors={"late": Sparse()})
    assert docs.terms("late") == {}
    docs.set_terms("late", {1: "late"})
    assert docs.terms("raw") == {1: "one"} and docs.terms("late") == {1: "late"}


@pytest.mark.parametrize("database", ["served", "asyncio"], indirect=True)
def test_more_words_than_a_message_holds_go_in_several(docs):
    many = {i * 7: "w" * 400 + str(i) for i in range(1_000)}  # 400 KB, the service takes 64 KiB
    many[3] = None
    assert docs.set_terms("raw", many) == 1_000
    del many[3]
    found, after = {}, None
    while page := docs.terms("raw", after=after, limit=1_000):
        assert len(page) < 200
        found |= page
        after = max(page)
    assert found == many


@pytest.mark.parametrize("database", ["served"], indirect=True)
@pytest.mark.parametrize(
    "request_",
    [
        pb.SetTermsRequest(collection="docs", field="raw", terms=bytes(8)),
        pb.SetTermsRequest(collection="docs", field="raw", terms=bytes(7), words=["a"]),
        pb.SetTermsRequest(collection="docs", field="raw", terms=bytes(16), words=["a", "b"]),
        pb.SetTermsRequest(collection="docs", field="raw", terms=bytes(8), words=["a"], removed=bytes(8)),
        pb.SetTermsRequest(collection="docs", field="raw", removed=bytes(16)),
        pb.SetTermsRequest(collection="docs", field="raw", terms=bytes(8), words=["\n"]),
        pb.SetTermsRequest(collection="docs", field="v"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(docs, request_):
    with pytest.raises(InvalidArgumentError):
        docs._client._run((x for x in [("SetTerms", request_)]), None)
    assert docs.terms("raw") == {}
