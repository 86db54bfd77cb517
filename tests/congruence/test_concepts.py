"""Sparse fields of cosines with words, as users of a directory and of a service have them, against a product by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.colours import DIM, KNOWN, VECTORS, Colours
from tests.support.places import plain
from vectordb import RRF, Arm, Concepts, Dense, Int, InvalidArgumentError, Prefetch, Schema, SchemaError, Sparse, Text, TopTerms, encoders

N, K = 120, 3
WORDS = ["red", "blue", "green gold", "black", "white", "grey pink"]
GIVEN = Concepts("v", words=WORDS, k=K)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "colours", Colours)


def rows(n=N, seed=1):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def source(metric="cosine"):
    return Dense(DIM, metric, encoder="colours", source="t")


def filled(database, metric="cosine"):
    docs = database.create_collection("docs", Schema({"v": source(metric), "c": Sparse(derived=GIVEN)}, {"n": Int(), "t": Text()}))
    values = rows()
    docs.upsert(ids=range(N), vectors={"v": [value if i % 9 else None for i, value in enumerate(values)]}, attributes={"n": range(N)})
    return docs, values


def matrix(values, k=K):
    """The weights by hand, float64 ``(n, words)``: the k largest positive cosines with the words."""
    words = np.stack([Colours().vector(word) for word in WORDS]).astype(np.float64)
    values = np.asarray(values, np.float64)
    cosines = (values / np.linalg.norm(values, axis=1, keepdims=True)) @ (words / np.linalg.norm(words, axis=1, keepdims=True)).T
    rank = np.argsort(np.argsort(-cosines, axis=1), axis=1)
    return np.where((rank < k) & (cosines > 0), cosines, 0.0)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_weights_are_the_largest_cosines_and_searches_score_their_product(database, metric):
    docs, values = filled(database, metric)
    docs.upsert(ids=[5, 1000], vectors={"v": [values[6], values[7] * 4]})
    docs.upsert(ids=[1001], attributes={"t": ["red blue"]})
    docs.update(ids=[7], vectors={"v": [values[8] * 3]})
    docs.update(ids=[10], attributes={"n": [-1]})
    docs.update(ids=[11], vectors={"v": None})
    docs.delete([12, 13])
    now = {i: value for i, value in enumerate(values) if i % 9 and i not in (11, 12, 13)}
    now |= {5: values[6], 1000: values[7], 7: values[8], 1001: VECTORS[KNOWN.index("red")] + VECTORS[KNOWN.index("blue")]}
    made = dict(zip(now, matrix(list(now.values())), strict=True))
    stored = {p.id: p.vectors["c"] for p in docs.iterate(with_vectors=["c"]) if "c" in p.vectors}
    assert stored.keys() == {i for i, row in made.items() if row.any()} and docs.count("HAS_VECTOR(c)") == len(stored)
    for i, (terms, weights) in stored.items():
        assert terms.tolist() == np.flatnonzero(made[i]).tolist()
        np.testing.assert_allclose(weights, made[i][made[i] > 0], rtol=1e-5, atol=1e-6)
    (own,) = matrix([values[20]])
    (text,) = matrix([Colours().vector("red pink")])
    weighted = np.array([1.0, 0, 0.5, 0, 0, 0])
    heaviest = np.where(np.arange(len(WORDS)) == own.argmax(), own, 0)
    asked = [
        ({"vectors": {"c": values[20] * 2}}, own),
        ({"vectors": {"c": TopTerms(values[20], 1)}}, heaviest),
        ({"text": {"c": "red pink"}}, text),
        ({"vectors": {"c": {"red": 1.0, "green gold": 0.5}}}, weighted),
        ({"vectors": {"c": {0: 1.0, "green gold": 0.5}}}, weighted),
        ({"vectors": {"c": {0: 1.0, 2: 0.5}}}, weighted),
        ({"vectors": {"c": (np.array([0, 2]), np.array([1.0, 0.5]))}}, weighted),
        ({"vectors": {"c": {"indices": [0, 2], "values": [1.0, 0.5]}}}, weighted),
    ]
    for query, weights in asked:
        scores = {i: float(row @ weights) for i, row in made.items() if row @ weights}
        for exact in (True, False):
            hits = docs.search(**query, limit=1000, exact=exact)
            np.testing.assert_allclose(hits.scores, sorted(scores.values(), reverse=True), rtol=1e-5, atol=1e-6)
            assert all(scores[hit.id] == pytest.approx(hit.score, rel=1e-4) for hit in hits)
        few = docs.search(**query, filter="n < 40", limit=1000)
        assert sorted(few.ids.tolist()) == sorted(i for i in scores if i < 40 and i != 5)


def test_words_are_explained_fused_prefetched_and_asked_in_batches(database):
    docs, values = filled(database)
    query = values[30]
    hits = docs.search({"c": query}, limit=4, explain=True)
    arm = hits.plan["arms"][0]
    assert arm["derived"] == "concepts of v" and docs.terms("c") == dict(enumerate(WORDS))
    expected = matrix([query, *(values[hit.id] for hit in hits)])
    assert {part["word"]: part["weight"] for part in arm["terms"]} == pytest.approx(
        {WORDS[i]: expected[0][i] for i in np.flatnonzero(expected[0])}, rel=1e-4
    )
    for parts, row in zip(arm["matched"], expected[1:], strict=True):
        shared = np.flatnonzero(expected[0] * row)
        assert {part["word"]: part["contribution"] for part in parts} == pytest.approx(
            {WORDS[i]: expected[0][i] * row[i] for i in shared}, rel=1e-4
        )
    (opposite,) = np.linalg.lstsq(np.stack([Colours().vector(word) for word in WORDS]), -np.ones(len(WORDS)), rcond=None)[:1]
    assert len(docs.search({"c": opposite}, limit=5)) == len(docs.search({"c": opposite}, limit=5, explain=True)) == 0
    assert [len(each) for each in docs.search_batch({"c": [opposite, query]}, limit=5)] == [0, 5]
    assert [*docs.search({"c": opposite, "v": query}, limit=1).ids] == [30]
    assert database.create_collection("docs", docs.schema, exist_ok=True).count() == N
    report = docs.report("c")
    assert (report["state"], report["dim"], report["source_dim"], report["encoder"]) == ("ready", len(WORDS), DIM, "colours 1")
    assert sorted(report["recall_by_terms"]) == ["1", "3"] and "c: derived from v, ready" in str(docs.info())
    funnel = docs.search({"v": query}, prefetch=Prefetch({"c": query}, limit=N), limit=1)
    assert funnel[0].id == 30
    fused = docs.search({"v": query, "c": {"red": 1.0}}, fusion=RRF(), limit=5, explain=True)
    assert [each["field"] for each in fused.plan["arms"]] == ["v", "c"] and len(fused) == 5
    named = docs.search({"a": Arm("c", {"red": 1.0}), "b": Arm("c", "blue")}, limit=5)
    assert len(named) == 5
    several = [{"red": 1.0}, {"blue": 2.0, "white": 0.1}]
    assert plain(list(docs.search_batch({"c": several}, limit=5))) == plain([docs.search({"c": each}, limit=5) for each in several])
    of_source = docs.search_batch({"c": TopTerms(values[:3])}, limit=5)
    assert plain(list(of_source)) == plain([docs.search({"c": each}, limit=5) for each in values[:3]])
    page = docs.search({"c": {"red": 1.0}}, limit=4)
    following = docs.search({"c": {"red": 1.0}}, limit=4, cursor=page.next)
    assert [*page.ids, *following.ids] == docs.search({"c": {"red": 1.0}}, limit=8).ids.tolist()


def test_a_field_that_is_added_has_the_same_vectors_and_words(database):
    docs, values = filled(database)
    docs.add_fields(vectors={"late": Sparse(derived=GIVEN)})
    docs.optimize()
    points = [p for p in docs.iterate(with_vectors=["c", "late"]) if "c" in p.vectors]
    assert points and all(p.vectors["c"][1].tobytes() == p.vectors["late"][1].tobytes() for p in points)
    assert docs.terms("late") == docs.terms("c")
    docs.purge()
    assert docs.terms("late") == docs.terms("c") and docs.search({"late": {"red": 1.0}}, limit=3).ids.tolist()
    docs.rename_fields({"v": "w", "late": "other"})
    assert docs.schema.vectors["other"].derived.source == "w" and Schema.from_dict(docs.schema.to_dict()) == docs.schema
    docs.upsert(ids=[2000], vectors={"w": values[1:2]})
    assert plain(docs.search({"other": {"red": 1.0}}, limit=9)) == plain(docs.search({"c": {"red": 1.0}}, limit=9))


def test_wrong_words_and_queries_are_refused(database):
    def wrong(words, match, error=InvalidArgumentError, field="c"):
        schema = Schema({"v": source(), "c": Sparse(derived=Concepts("v", words=words))}, {"t": Text()})
        with pytest.raises(error, match=match) as caught:
            database.create_collection("wrong", schema)
        assert caught.value.field == field and "wrong" not in database.collections()

    wrong(["red", "mauve"], "words of Concepts can't be encoded: text 'mauve' has nothing to encode")
    wrong(["red", "nothing"], "the encoder of 'v' makes no usable vector of the word 'nothing'; leave it out")
    docs, values = filled(database)
    with pytest.raises(InvalidArgumentError, match="'late': words of Concepts can't be encoded: text 'mauve'"):
        docs.add_fields(vectors={"late": Sparse(derived=Concepts("v", words=["mauve"]))})
    assert "late" not in docs.schema.vectors
    for query, words in (
        ({"blau": 1.0}, "the field has no word 'blau'; did you mean 'blue'"),
        ({"xyz": 1.0}, "the field has no word 'xyz'; its words: red, blue"),
        ({"red": 1.0, 0: 1.0}, "gives a weight to term 0 and to its word 'red'; give one of them"),
        (np.ones(5), "a vector of 'v' has shape"),
        ("red", r"can't be the text 'red'; write search\(text=\{'c': …\}\)"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            docs.search({"c": query})
    with pytest.raises(InvalidArgumentError, match="'concepts', which learns nothing from points; there is nothing to fit"):
        docs.fit("c")
    with pytest.raises(SchemaError, match="are derived from 'v' and can't be written"):
        docs.upsert(ids=[1], vectors={"v": values[:1], "c": [{1: 1.0}]})
