"""Words of sparse terms: stored by encoders, set by users, shown by explain and info, the same embedded and served."""

from __future__ import annotations

import asyncio

import pytest
from vectordb_client import AsyncClient, Client
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.engine.test_check import damage, problems_of
from vectordb import (
    CorruptionError,
    Dense,
    InvalidArgumentError,
    LimitError,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
    encoders,
)
from vectordb.server.main import start
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


@pytest.fixture
def served(database, docs):
    server, port = start(database, port=0, max_message_bytes=64 << 10)
    with Client(f"127.0.0.1:{port}") as client:
        yield client.collection("docs")
    server.stop(0).wait()


def arm(hits):
    return hits.plan["arms"][0]


def words(docs, field="bm"):
    return set(docs.terms(field).values())


# ---- Left by encoders ----


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
    assert len(docs._worded["bm"]) <= 5  # those of the first writes
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


# ---- Set by users ----


@pytest.mark.parametrize("place", ["docs", "served"])
def test_words_of_raw_terms_are_set_listed_changed_and_taken_away(place, request):
    docs = request.getfixturevalue(place)
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


@pytest.mark.parametrize("place", ["docs", "served"])
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
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
    ],
)
def test_what_can_not_be_is_refused_by_name_and_nothing_is_written(place, request, call, error, says):
    docs = request.getfixturevalue(place)
    with pytest.raises(error) as caught:
        call(docs)
    assert type(caught.value) is error and says in str(caught.value) and caught.value.field
    assert docs.terms("raw") == {}


def test_the_longest_word_there_may_be(docs):
    docs.set_terms("raw", {0: "é" * 240})
    assert docs.terms("raw") == {0: "é" * 240}


def test_more_words_than_a_message_holds_go_in_several(served):
    many = {i * 7: "w" * 400 + str(i) for i in range(1_000)}  # 400 KB, the service takes 64 KiB
    many[3] = None
    assert served.set_terms("raw", many) == 1_000
    del many[3]
    found, after = {}, None
    while page := served.terms("raw", after=after, limit=1_000):
        assert len(page) < 200
        found |= page
        after = max(page)
    assert found == many


def test_the_asyncio_client_does_the_same(served):
    async def ask():
        async with AsyncClient(served._client.target) as client:
            docs = await client.collection("docs")
            return await docs.set_terms("raw", {4: "four", 5: None}), await docs.terms("raw", after=3, limit=5)

    assert asyncio.run(ask()) == (1, {4: "four"})


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
def test_requests_that_contradict_themselves_are_refused(served, request_):
    with pytest.raises(InvalidArgumentError):
        served._client._run((x for x in [("SetTerms", request_)]), None)
    assert served.terms("raw") == {}


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


def test_a_field_added_later_has_words_of_its_own(docs):
    docs.set_terms("raw", {1: "one"})
    docs.add_fields(vectors={"late": Sparse()})
    assert docs.terms("late") == {}
    docs.set_terms("late", {1: "late"})
    assert docs.terms("raw") == {1: "one"} and docs.terms("late") == {1: "late"}


# ---- On disk ----


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
        lambda key, n, m: {format.term_word_key(n, m.fields["v"], 5): format.with_checksum(b"x")},
        "which has no such record",
    ),
    "of no field": (
        lambda key, n, m: {format.term_word_key(n, 999, 5): format.with_checksum(b"x")},
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
