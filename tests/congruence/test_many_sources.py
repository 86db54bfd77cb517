"""The encoder bm25f: scores by brute force over weighted counts, after writes and partial updates; what it refuses."""

from __future__ import annotations

import math
from collections import Counter

import pytest

import vectordb
from tests.support.places import plain
from vectordb import Analyzer, F, Int, InvalidArgumentError, Keyword, Schema, SchemaError, Sparse, Text
from vectordb.common.tokenize import words
from vectordb.engine.check import check

SOURCES = {"title": 3, "body": 1, "key": 2}
SCHEMA = Schema(
    {"w": Sparse(encoder="bm25f(language=none, k1=0.9, b=0.4)", sources=SOURCES)},
    {"title": Text(), "body": Text(), "key": Keyword(), "n": Int()},
)
ROWS = {
    1: {"title": "the sea", "body": "ships on the sea", "key": "Salt"},
    2: {"title": "salt", "body": "the sea and the salt"},
    3: {"body": "a history of ports and ships"},
    4: {"n": 7},
    5: {"title": "", "body": None, "key": "sea salt sea"},
}


def expected(rows, query):
    counted = {}
    for row, attributes in rows.items():
        texts = {source: attributes.get(source) for source in SOURCES}
        if any(text is not None for text in texts.values()):
            counted[row] = Counter()
            for source, weight in SOURCES.items():
                for word in words(texts[source] or ""):
                    counted[row][word] += weight
    mean = sum(count.total() for count in counted.values()) / len(counted)
    scores = {}
    for row, count in counted.items():
        for word in words(query):
            df = sum(word in other for other in counted.values())
            if tf := count[word]:
                idf = math.log(1 + (len(counted) - df + 0.5) / (df + 0.5))
                scores[row] = scores.get(row, 0) + idf * tf * 1.9 / (tf + 0.9 * (0.6 + 0.4 * count.total() / mean))
    return scores


def agree(docs, rows):
    for query in ("sea", "salt ships", "the history zzz", "ports"):
        hits = docs.search(text=query, limit=20)
        assert dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)) == pytest.approx(expected(rows, query), rel=1e-5)


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert([{"id": row, "attributes": attributes} for row, attributes in ROWS.items()])
    return docs


def test_scores_follow_every_write(docs):
    rows = {row: dict(attributes) for row, attributes in ROWS.items()}
    agree(docs, rows)
    changes = [
        {"id": 1, "attributes": {"title": None}},
        {"id": 2, "attributes": {"n": 1}},
        {"id": 3, "attributes": {"title": "sea, sea"}},
        {"id": 4, "attributes": {"body": "ports"}},
        {"id": 5, "attributes": {"title": None, "key": None}},
    ]
    docs.update(changes)
    for change in changes:
        rows[change["id"]] |= change["attributes"]
    agree(docs, rows)
    assert docs.get([5], with_vectors=True)[0].vectors == {} and docs.count(F.has_vector("w")) == 4
    docs.delete(ids=[2])
    docs.upsert(ids=[1], attributes={"body": ["salt"]})
    del rows[2]
    rows[1] = {"body": "salt"}
    agree(docs, rows)
    docs.optimize()
    agree(docs, rows)


def test_a_vector_that_is_given_stays_until_a_text_changes(docs):
    docs.upsert(ids=[9], vectors={"w": [{17: 2.0}]}, attributes={"title": ["sea"]})
    assert docs.search({"w": {17: 1.0}}).ids.tolist() == [9]
    docs.update([{"id": 9, "attributes": {"n": 3}}, {"id": 1, "attributes": {"title": "x"}}])
    docs.update([{"id": 9, "vectors": {"w": {17: 5.0}}, "attributes": {"body": "port"}}])
    assert docs.search({"w": {17: 1.0}}).ids.tolist() == [9]
    docs.update(ids=[9], attributes={"body": ["harbour"]})
    assert docs.search({"w": {17: 1.0}}).ids.tolist() == [] and 9 in docs.search(text="harbour sea").ids
    assert "harbour" in docs.terms("w").values()
    with pytest.raises(InvalidArgumentError, match="whole numbers from 1 to"):
        docs.update(ids=[9], vectors={"w": [{17: 0.5}]}, attributes={"title": ["y"]})


def test_with_analyzers_typos_highlights_and_batches(database):
    german = Analyzer("german")
    schema = Schema({"w": Sparse(encoder="bm25f", sources={"a": 1, "b": 2})}, {"a": Text(analyzer=german), "b": Text(analyzer=german)})
    docs = database.create_collection("docs", schema)
    docs.upsert(ids=[1, 2], attributes={"a": ["Häuser am Meer", "Wald"], "b": ["Küste", "ein Haus im Wald"]})
    hits = docs.search(text="Haus Meer", highlight=["a", "b"])
    assert hits.ids.tolist() == [1, 2] and [hit.highlights for hit in hits] == [
        {"a": [(0, 6), (10, 14)], "b": []},
        {"a": [], "b": [(4, 8)]},
    ]
    assert docs.search(text="Huas Wlad", fuzzy=1).ids.tolist() == [2, 1]
    assert plain(docs.search_batch(text=["Haus", "Wald"])[1]) == plain(docs.search(text="Wald"))
    assert "meer" in str(docs.search(text="Meer", explain=True).plan)
    assert "bm25f(k1=1.2, b=0.75, analyzer(language=german" in str(docs.info())


def test_what_is_stored_passes_the_check(directory):
    with vectordb.open(directory) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert([{"id": row, "attributes": attributes} for row, attributes in ROWS.items()])
        docs.update(ids=[1, 3], attributes={"title": ["new", None]})
        docs.purge()
    assert check(directory).problems == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "bm25f"}, "needs the attributes that it reads, with their weights, such as sources=.*, not None"),
        ({"encoder": "bm25f", "sources": {}}, "needs the attributes"),
        ({"encoder": "bm25f", "source": "body"}, "reads several attributes; write sources="),
        ({"encoder": "bm25", "source": "body", "sources": {"body": 1}}, "sources is for the encoder 'bm25f', not for 'bm25'"),
        ({"encoder": "bm25f", "sources": {"body": 0.5}}, "whole number from 1 to 1000, .* not 'body': 0.5"),
        ({"encoder": "bm25f", "sources": {"body": True}}, "whole number"),
        ({"encoder": "bm25f", "sources": {"nothing": 1}}, "sources of vector field 'w' is 'nothing', which is not an attribute"),
        ({"encoder": "bm25f", "sources": {"n": 1}}, "sources of vector field 'w' must be a Text or Keyword attribute"),
        ({"encoder": "bm25f", "sources": {"body": 1, "stems": 1}}, "must have the same analyzer, which 'body' and 'stems' don't have"),
    ],
)
def test_wrong_definitions_are_refused(options, message):
    with pytest.raises(SchemaError, match=message):
        Schema({"w": Sparse(**options)}, {"body": Text(), "n": Int(), "stems": Text(analyzer="german")})


def test_the_definition_is_kept_and_a_field_may_be_added(docs):
    assert docs.schema == SCHEMA == Schema.from_dict(docs.schema.to_dict())
    assert hash(docs.schema.vectors["w"]) == hash(SCHEMA.vectors["w"]) and docs.schema.vectors["w"].sources == SOURCES
    docs.add_fields(vectors={"x": Sparse(encoder="bm25f", sources={"body": 1})})
    docs.update(ids=[1], attributes={"title": ["nothing"]})
    assert docs.count(F.has_vector("x")) == 0
    docs.update(ids=[1], attributes={"body": ["again"]})
    assert docs.search(text={"x": "again"}).ids.tolist() == [1]


def test_sources_can_be_renamed_and_are_dropped_with_their_field(database):
    analyzer = Analyzer("english", fold_accents=True)
    schema = Schema(
        {"w": Sparse(encoder="bm25f", sources={"title": 3, "body": 1})},
        {"title": Text(analyzer=analyzer), "body": Text(analyzer=analyzer)},
    )
    docs = database.create_collection("renamed", schema)
    docs.upsert(ids=[1, 2], attributes={"title": ["Cafés", "ship"], "body": ["sea", "café harbor"]})
    before = docs.search(text="cafe", highlight=["body"])
    docs.rename_fields({"title": "name", "body": "text"})
    after = docs.search(text="cafe", highlight=["text"])
    assert [(hit.id, hit.score, hit.highlights["text"]) for hit in after] == [(hit.id, hit.score, hit.highlights["body"]) for hit in before]
    assert dict(docs.info().schema.vectors["w"].sources) == {"name": 3, "text": 1}
    docs.update(ids=[1], attributes={"text": ["harbour cafes"]})
    assert docs.search(text="harbour").ids.tolist() == [1] and docs.count(F("name").match_any("cafe")) == 1
    with pytest.raises(SchemaError, match="attribute 'name' is the source of vector field 'w'"):
        docs.drop_fields(["name"])
    docs.drop_fields(["w", "name"])
    assert docs.count(F("text").match_any("cafe")) == 2
