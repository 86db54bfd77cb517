"""BM25 scores by the formula over the live texts, for any history of writes and any layout on disk."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectordb
from tests.support.nightly import cases
from tests.support.upkeep import hurry, until
from vectordb import F, InvalidArgumentError, Linear, Schema, SchemaError, Sparse, Text, VectorDBError
from vectordb.common.tokenize import words
from vectordb.engine.check import check
from vectordb.maintenance import policy
from vectordb.storage.store import Store

ENCODER = "bm25(language=none, k1=1.4, b=0.6)"
VOCABULARY = [f"w{i}" for i in range(30)]
QUERIES = ["w0", "w1 w2 w3", "w0 w0 w5 w9 w20", "w29 missing", "w4 w8 w12 w16 w20 w24 w28"]


def schema(encoder: str = ENCODER, **options) -> Schema:
    return Schema({"t": Sparse(encoder=encoder, source="body", **options)}, {"body": Text()})


def formula(texts: dict, query: str, k1: float = 1.4, b: float = 0.6) -> dict:
    """Id → score of the texts that share a word with the query, by the textbook and in float64."""
    counts = {key: Counter(words(text)) for key, text in texts.items()}
    lengths = {key: sum(count.values()) for key, count in counts.items()}
    mean, scores = sum(lengths.values()) / max(len(texts), 1), {}
    for word, times in Counter(words(query)).items():
        having = [key for key, count in counts.items() if word in count]
        idf = math.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for key in having:
            tf = counts[key][word]
            part = times * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * lengths[key] / mean))
            scores[key] = scores.get(key, 0.0) + part
    return scores


def found(collection, query: str, **options) -> dict:
    return {hit.id: float(np.float32(hit.score)) for hit in collection.search(text=query, limit=1_000, with_attributes=False, **options)}


def same_as_fresh(database, collection, texts: dict, query_texts=QUERIES) -> None:
    """To the last bit the scores of a new collection with the same texts, and about those of the textbook."""
    fresh = database.create_collection(f"fresh{len(database.collections())}", collection.schema)
    for key in sorted(texts, key=str):
        fresh.upsert(ids=[key], attributes={"body": [texts[key]]})
    for query in query_texts:
        expected = formula(texts, query)
        for options in ({"exact": True}, {}, {"filter": F("body").is_null() | ~F("body").is_null()}):
            scores = found(collection, query, **options)
            assert scores == found(fresh, query, exact=True)
            assert scores == pytest.approx(expected, rel=1e-5)
    with collection._snapshots.pin() as view:
        counted = view.store.texts(view.fields["t"])
    assert counted == (len(texts), sum(len(words(text)) for text in texts.values()))


def text_of(rng, size: int) -> str:
    return " ".join(rng.choice(VOCABULARY, size, p=1 / np.arange(2, 32) / (1 / np.arange(2, 32)).sum()))


BODY = st.lists(st.sampled_from(VOCABULARY[:9]), max_size=12).map(" ".join)
CHANGE = st.one_of(
    st.tuples(st.just("upsert"), st.dictionaries(st.integers(0, 12), BODY, min_size=1, max_size=6)),
    st.tuples(st.just("update"), st.dictionaries(st.integers(0, 12), BODY, min_size=1, max_size=3)),
    st.tuples(st.just("delete"), st.sets(st.integers(0, 12), min_size=1, max_size=4)),
    st.tuples(st.sampled_from(["optimize", "purge", "touch"]), st.none()),
)


@settings(max_examples=cases(10, 40))
@given(st.lists(CHANGE, min_size=1, max_size=8))
def test_any_history_scores_like_a_fresh_collection(tmp_path_factory, changes):
    with vectordb.open(tmp_path_factory.mktemp("bm25") / "data", durability="batched", maintenance=False) as database:
        collection, texts = database.create_collection("c", schema()), {}
        for what, value in changes:
            if what == "upsert":
                collection.upsert(ids=list(value), attributes={"body": list(value.values())})
                texts |= value
            elif what == "update":
                value = {key: body for key, body in value.items() if key in texts}
                collection.update(ids=list(value), attributes={"body": list(value.values())})
                texts |= value
            elif what == "delete":
                collection.delete(list(value))
                texts = {key: body for key, body in texts.items() if key not in value}
            elif what == "touch" and texts:  # a new row with the old vector
                collection.update(ids=list(texts)[:2], payload=[{"seen": True}] * len(list(texts)[:2]))
            elif what == "optimize":
                collection.optimize()
            elif what == "purge":
                collection.purge()
        same_as_fresh(database, collection, texts, QUERIES[:3])
        assert check(database.path).problems == ()


def test_equal_texts_score_alike_whenever_they_were_written(database):
    collection = database.create_collection("c", schema())
    rng = np.random.default_rng(0)
    collection.upsert(ids=[1], attributes={"body": ["w1 w2 w3"]})
    collection.upsert(ids=range(10, 200), attributes={"body": [text_of(rng, 300) for _ in range(190)]})
    collection.upsert(ids=[2], attributes={"body": ["w1 w2 w3"]})
    collection.delete(list(range(10, 200)))
    collection.upsert(ids=[3], attributes={"body": ["w1 w2 w3"]})
    scores = found(collection, "w1")
    assert len(scores) == 3 and len(set(scores.values())) == 1
    same_as_fresh(database, collection, dict.fromkeys([1, 2, 3], "w1 w2 w3"))


@pytest.mark.parametrize("how", ["never", "delete", "update", "delete, optimize", "delete, purge"])
def test_deleted_texts_leave_nothing_behind(database, how):
    collection, texts = (
        database.create_collection("c", schema()),
        {1: "the cat sat on the mat", 2: "dogs chase cats over hills all day long"},
    )
    if how != "never":
        collection.upsert(ids=[1 if how == "update" else 9], attributes={"body": ["secret " * 2_000]})
    if "delete" in how:
        collection.delete([9])
    if "optimize" in how:
        collection.optimize()
    if "purge" in how:
        assert database.purge()["proven"]
    collection.upsert(ids=list(texts), attributes={"body": list(texts.values())})
    same_as_fresh(database, collection, texts, ["cat", "cats the day"])


def grown(collection, rng, indexed) -> dict:
    """Short texts, indexed, then ever longer ones, indexed too, then some more; many are replaced or deleted."""
    texts = {}
    for step, size in enumerate((6, 40, 150)):
        new = {int(i): text_of(rng, int(rng.integers(1, 2 * size))) for i in rng.integers(0, 900, 400)}
        collection.upsert(ids=list(new), attributes={"body": list(new.values())})
        texts |= new
        gone = rng.choice(list(texts), 40, replace=False).tolist()
        collection.delete(gone)
        texts = {key: text for key, text in texts.items() if key not in gone}
        if step < 2:
            indexed(step)
    return texts


def test_segments_built_at_other_mean_lengths_give_the_same_scores(database, monkeypatch):
    """Their bounds hold for the mean of now: a search that must lose nothing loses nothing."""
    monkeypatch.setattr(policy, "MEAN_DRIFT", 1e9)
    collection = database.create_collection("c", schema())
    hurry(monkeypatch)
    texts = grown(collection, np.random.default_rng(1), lambda step: until(lambda: collection.info().statistics["t"]["tail"] < 64))
    with collection._snapshots.pin() as view:
        means = [part.segment.mean for part in view.snapshot.segments(view.fields["t"])]
    assert means and min(means) < 0.8 * np.mean([len(words(text)) for text in texts.values()])
    same_as_fresh(database, collection, texts)
    for query in QUERIES:
        best = sorted(formula(texts, query).values(), reverse=True)[:10]
        for options in ({"exact": True}, {"recall": 0.99}):
            scores = [hit.score for hit in collection.search(text=query, limit=10, **options)]
            assert scores == pytest.approx(best, rel=1e-5)


def test_a_segment_is_built_again_when_texts_have_become_longer(database, monkeypatch):
    hurry(monkeypatch)
    rng = np.random.default_rng(2)
    collection = database.create_collection("c", schema())
    collection.upsert(ids=range(300), attributes={"body": [text_of(rng, 5) for _ in range(300)]})
    assert until(lambda: _means(collection)) == [5.0]
    collection.upsert(ids=range(1_000, 1_050), attributes={"body": [text_of(rng, 300) for _ in range(50)]})
    until(lambda: min(_means(collection), default=0.0) > 40)


def _means(collection) -> list[float]:
    with collection._snapshots.pin() as view:
        return [part.segment.mean for part in view.snapshot.segments(view.fields["t"])]


def test_optimized_merged_and_restored(database, tmp_path):
    collection = database.create_collection("c", schema())
    texts = grown(collection, np.random.default_rng(3), lambda step: collection.optimize())
    collection.optimize()
    same_as_fresh(database, collection, texts)
    database.snapshot(tmp_path / "copy")
    vectordb.restore(tmp_path / "copy", tmp_path / "back")
    with vectordb.open(tmp_path / "back") as restored:
        same_as_fresh(restored, restored.collection("c"), texts)


def _write_theirs(path, low: int, high: int) -> None:
    with vectordb.open(path, durability="batched") as database:
        collection = database.collection("c")
        for i in range(low, high):
            collection.upsert(ids=[i], attributes={"body": [f"w{i % 7} w{i % 5} " + "w29 " * (i % 11)]})
        collection.delete(list(range(low, high, 3)))


def test_two_processes_count_the_same_texts(directory, worker):
    with vectordb.open(directory, durability="batched") as database:
        collection = database.create_collection("c", schema())
        worker.send(_write_theirs, directory, 0, 60)
        for i in range(60, 120):
            collection.upsert(ids=[i], attributes={"body": [f"w{i % 7} w{i % 5} " + "w29 " * (i % 11)]})
        collection.delete(list(range(60, 120, 3)))
        worker.receive()
        texts = {i: f"w{i % 7} w{i % 5} " + "w29 " * (i % 11) for i in range(120) if i % 3}
        same_as_fresh(database, collection, texts)


# What the field holds


def test_a_vector_is_term_frequencies_and_travels_as_such(database):
    collection = database.create_collection("c", schema())
    texts = {1: "w1 w2 w1 w3", 2: "w2", 3: "", 4: "w3 w3 w3 w9 w1"}
    collection.upsert(ids=list(texts), attributes={"body": list(texts.values())})
    points = collection.get([1, 2, 3, 4], with_vectors=True)
    assert sorted(points[0].vectors["t"][1].tolist()) == [1.0, 1.0, 2.0] and len(points[2].vectors["t"][0]) == 0
    other = database.create_collection("other", schema())
    other.upsert([vectordb.Point(point.id, dict(point.vectors), {}, None) for point in points])
    for query in QUERIES:
        assert found(other, query) == found(collection, query)
    (change,) = other.changes(with_vectors=True)
    assert change.points[0].vectors["t"][1].tolist() == points[0].vectors["t"][1].tolist()


@pytest.mark.parametrize("weight", [0.5, -1.0, 1.5, 2.0**25])
def test_vectors_that_are_no_term_frequencies_are_refused_by_name(database, weight):
    collection = database.create_collection("c", schema())
    for write in (collection.upsert, collection.update):
        if write == collection.update:
            collection.upsert(ids=["a", "b"], attributes={"body": ["w1", "w2"]})
        with pytest.raises(InvalidArgumentError, match=r"vector 't' of point 'b' has .* for term 7; .* whole numbers from 1"):
            write(ids=["a", "b"], vectors={"t": [{5: 1.0}, {7: weight}]})
    assert collection.count() == 2


def test_the_encoder_alone_makes_the_field_bm25(database):
    assert Sparse(encoder="bm25").weighting == Sparse(encoder="bm25 (k1=0.9)").weighting == "idf"
    assert Sparse(encoder="bm25") == Sparse(weighting="idf", encoder="bm25") and Sparse().weighting is None
    assert Sparse(encoder="sparse-encoder(model=x)").weighting is None
    one, two = database.create_collection("one", schema()), database.create_collection("two", schema(weighting="idf"))
    for collection in (one, two):
        collection.upsert(ids=[1, 2, 3], attributes={"body": ["w0 w1", "w0 w2", "w0 w0 w0"]})
    assert found(one, "w0 w1") == found(two, "w0 w1")
    assert database.create_collection("one", schema(weighting="idf"), exist_ok=True).count() == 3
    assert Schema.from_dict(one.schema.to_dict()) == one.schema == schema()
    assert Schema.from_dict({"vectors": {"t": {"kind": "sparse", "encoder": "bm25"}}}).vectors["t"].weighting == "idf"


def test_what_contradicts_bm25_is_refused(database):
    for options, said in (({"weighting": "none"}, "weighting"), ({"binary": True}, "binary")):
        with pytest.raises(VectorDBError, match=f"leave {said} out"):
            database.create_collection("c", schema(**options))
        assert database.collections() == []
    with pytest.raises(SchemaError, match="weighting"):
        schema(weighting="tf")


def test_explained_contributions_add_up_to_the_score(database):
    collection = database.create_collection("c", schema())
    rng = np.random.default_rng(5)
    collection.upsert(ids=range(50), attributes={"body": [text_of(rng, int(rng.integers(1, 40))) for _ in range(50)]})
    hits = collection.search(text="w0 w3 w5", explain=True)
    (arm,) = hits.plan["arms"]
    for hit, parts in zip(hits, arm["matched"], strict=True):
        assert sum(part["contribution"] for part in parts) == pytest.approx(hit.score, rel=1e-5)


def test_linear_fusion_adds_the_scores_of_a_search(database):
    fields = {"t": Sparse(encoder=ENCODER, source="body"), "s": Sparse()}
    collection = database.create_collection("c", Schema(fields, {"body": Text()}))
    rng = np.random.default_rng(6)
    bodies = [text_of(rng, int(rng.integers(1, 40))) for _ in range(400)]
    collection.upsert(ids=range(400), vectors={"s": [{i % 7: 1.0 + i % 3} for i in range(400)]}, attributes={"body": bodies})
    collection.optimize()
    alone = found(collection, "w1 w2 w3")
    hits = collection.search({"s": {3: 0.5}}, text="w1 w2 w3", fusion=Linear({"t": 2.0}), limit=20, explain=True)
    assert hits.plan["fusion"]["proven"]
    for hit in hits:
        if "t" in hit.arms:
            assert float(np.float32(hit.arms["t"].score)) == alone[hit.id]
    sums = {i: 2 * alone.get(i, 0.0) + (0.5 * (1 + i % 3) if i % 7 == 3 else 0.0) for i in range(400)}
    assert hits.scores == pytest.approx(sorted(sums.values(), reverse=True)[:20], rel=1e-6)


def test_counters_that_are_wrong_are_a_problem_of_check(directory):
    with vectordb.open(directory) as database:
        collection = database.create_collection("c", schema())
        collection.upsert(ids=[1, 2], attributes={"body": ["w0 w1", "w0 w2"]})
        assert collection.info().statistics["t"]["texts"] == {"documents": 2, "words": 4}

        def spoil(by):
            with collection._snapshots.pin() as view:
                field = view.fields["t"]
            database._handle.write(lambda txn: Store(txn, collection.number).add_encoder_state(field, {"words": by}), "commit")

        spoil(1)
        assert any("texts of 't'" in problem for problem in check(directory).problems)
        spoil(-1)
        assert check(directory).problems == ()
