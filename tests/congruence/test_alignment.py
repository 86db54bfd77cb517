"""Which rows of a hit the rows of a query were compared with: the same in each place, and by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.word_rows import DIM, WordRows
from vectordb import EncoderError, InvalidArgumentError, MultiVector, Prefetch, Schema, Sparse, Text, encoders

FIELD = MultiVector(DIM, encoder="word-rows", source="body")
BODIES = ["Cars need fuel, and cats don't.", "A cat; many cats - the catalogue", "dogs", None, "", "fuel of a car"]


@pytest.fixture
def docs(database, monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "word-rows", WordRows)
    docs = database.create_collection("docs", Schema({"m": FIELD}, {"body": Text(), "other": Text()}))
    docs.upsert(ids=list(range(len(BODIES))), attributes={"body": BODIES, "other": ["cats and dogs"] * len(BODIES)})
    return docs


def products(query: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        query, rows = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, rows))
    return query @ rows.T


@pytest.mark.parametrize(("metric", "dtype"), [("cosine", "float32"), ("dot", "float16")])
@pytest.mark.parametrize("aggregation", ["maxsim", "max"])
def test_the_parts_add_up_to_the_score(database, metric, dtype, aggregation):
    rng = np.random.default_rng(1)
    docs = database.create_collection("docs", Schema({"m": MultiVector(5, metric, dtype, aggregation)}))
    stored = [rng.standard_normal((n, 5)).astype(dtype) for n in rng.integers(1, 6, 30)]
    docs.upsert(ids=range(30), vectors={"m": stored})
    query = rng.standard_normal((4, 5)).astype(np.float32)
    hits = docs.search({"m": query}, limit=12, explain=True)
    (arm,) = hits.plan["arms"]
    assert len(arm["alignment"]) == 10
    for hit, row in zip(hits, arm["alignment"], strict=False):
        expected = products(query, stored[hit.id], metric)
        parts = row["parts"]
        assert row["score"] == pytest.approx(hit.score, abs=1e-5) and "others" not in row
        assert sum(part["score"] for part in parts) == pytest.approx(row["score"])
        wanted = range(4) if aggregation == "maxsim" else [int(expected.max(axis=1).argmax())]
        assert [(part["query"], part["row"]) for part in parts] == [(q, int(expected[q].argmax())) for q in wanted]
        assert [part["score"] for part in parts] == pytest.approx([expected[q].max() for q in wanted], abs=1e-5)
    assert "alignment of the best row: " in str(hits.plan)


def test_of_a_long_query_the_highest_parts_are_listed(database):
    rng = np.random.default_rng(2)
    docs = database.create_collection("docs", Schema({"m": MultiVector(3)}))
    docs.upsert(ids=[1], vectors={"m": [rng.standard_normal((3, 3))]})
    hits = docs.search({"m": rng.standard_normal((300, 3))}, explain=True)
    (row,) = hits.plan["arms"][0]["alignment"]
    assert len(row["parts"]) == 256 and row["others"]["parts"] == 44
    assert sum(part["score"] for part in row["parts"]) + row["others"]["score"] == pytest.approx(hits[0].score, abs=1e-3)
    assert min(part["score"] for part in row["parts"]) * 44 >= row["others"]["score"]
    assert "and 296 more" in str(hits.plan)


def test_words_are_named_where_an_encoder_made_the_rows(docs):
    hits = docs.search(text="feline? car", explain=True, limit=4)
    (arm,) = hits.plan["arms"]
    best = next(row for hit, row in zip(hits, arm["alignment"], strict=True) if hit.id == 0)
    assert [part["query_word"] for part in best["parts"]] == ["[S]", "feline", "?", "car"]
    assert best["parts"][0]["word"] == "[S]" and best["parts"][0]["score"] == pytest.approx(1)
    listed = docs.search({"m": np.ones((1, DIM))}, explain=True).plan["arms"][0]["alignment"][0]["parts"]
    assert "word" in listed[0] and "query_word" not in listed[0]


def test_given_rows_have_no_words(docs):
    docs.upsert(ids=[9], vectors={"m": [np.ones((2, DIM))]}, attributes={"body": ["some words of a text"]})
    hits = docs.search({"m": np.ones((1, DIM))}, explain=True)
    assert hits[0].id == 9 and "word" not in hits.plan["arms"][0]["alignment"][0]["parts"][0]


def test_a_second_stage_and_a_fused_arm_are_explained(docs):
    stage = Prefetch(text={"m": "cats"}, limit=3)
    hits = docs.search(text={"m": "fuel"}, prefetch=stage, explain=True)
    assert len(hits.plan["arms"][0]["alignment"]) == len(hits) == 3
    assert len(hits.plan["prefetch"]["arms"][0]["alignment"]) == 3
    assert "alignment" not in docs.search(text="nothing", filter="body MATCH 'absent'", explain=True).plan["arms"][0]


def test_the_words_that_matched_are_highlighted(docs):
    hits = {hit.id: hit for hit in docs.search(text="cats fuels", highlight=["body", "other"])}
    assert set(hits) == {0, 1, 2, 5}
    # "fuels" begins as "fuel" does; of equal rows the first is taken.
    assert [BODIES[0][start:end] for start, end in hits[0].highlights["body"]] == ["fuel", "cats"]
    assert len(hits[2].highlights["body"]) == 1  # a text of one word: everything is aligned with it
    assert [(start, end) for start, end in hits[0].highlights["other"]] == [(0, 4)]  # no field was made of it: equal words
    batch = docs.search_batch(text=["fuel", "dogs"], highlight=["body"])
    assert [[BODIES[hits[0].id][start:end] for start, end in hits[0].highlights["body"]] for hits in batch] == [["fuel"], ["dogs"]]


def test_rows_that_are_not_those_of_the_text_highlight_equal_words(docs):
    docs.upsert(ids=[9], vectors={"m": [np.ones((2, DIM))]}, attributes={"body": ["cats and many other words"]})
    hits = {hit.id: hit for hit in docs.search(text="cats catfish", highlight=["body"])}
    assert [(start, end) for start, end in hits[9].highlights["body"]] == [(0, 4)]


def test_texts_are_updated_and_removed(docs):
    docs.update(ids=[2, 0], attributes={"body": ["a cow", None]})
    assert docs.get(0, with_vectors=["m"]).vectors == {}
    assert docs.get(2, with_vectors=["m"]).vectors["m"].shape == (3, DIM)
    assert docs.search(text="cow")[0].id == 2


def test_an_encoder_of_rows_needs_a_field_of_rows(database, monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "word-rows", WordRows)
    with pytest.raises(EncoderError, match="makes multi-vectors, but the field is sparse; use a MultiVector field"):
        database.create_collection("no", Schema({"s": Sparse(encoder="word-rows", source="body")}, {"body": Text()}))
    with pytest.raises(EncoderError, match=r"makes 16 dimensions, but the field has 8; write MultiVector\(16, …\)"):
        database.create_collection("no", Schema({"m": MultiVector(8, encoder="word-rows", source="body")}, {"body": Text()}))
    with pytest.raises(EncoderError, match="makes sparse vectors, but the field is multi"):
        database.create_collection("no", Schema({"m": MultiVector(8, encoder="bm25", source="body")}, {"body": Text()}))


def test_highlights_need_a_text(docs):
    with pytest.raises(InvalidArgumentError, match="highlight marks the words of text"):
        docs.search({"m": np.ones((1, DIM))}, highlight=["body"])
