"""Multi-vectors that are stored as bytes alone (``MultiVector(keep="codes")``): the same in each place. The oracle is numpy, over what
reads return.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import word_rows
from tests.support.toys import checked, moved
from tests.support.word_rows import WordRows
from vectordb import F, Int, MultiVector, Schema, SchemaError, Text, TokenLists, encoders
from vectordb.fields.row_codes import decoded, encoded, score_errors

DIM = 13


def matrices(seed: int, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    topics = np.random.default_rng(0).standard_normal((30, DIM))
    return [
        ((topics[rng.integers(0, 30, size)] + 0.5 * rng.standard_normal((size, DIM))) * rng.uniform(0.2, 5, (size, 1))).astype(np.float32)
        for size in rng.integers(1, 12, n)
    ]


def scores_of(stored: list[np.ndarray], query: np.ndarray, metric: str, best: bool) -> np.ndarray:
    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows

    products = [unit(query.astype(np.float64)) @ unit(rows.astype(np.float64)).T for rows in stored]
    return np.array([each.max() if best else each.max(axis=1).sum() for each in products])


@pytest.mark.parametrize(("metric", "aggregation"), [("cosine", "maxsim"), ("dot", "maxsim"), ("dot", "max")])
def test_searches_compare_what_is_returned(database, metric, aggregation):
    given = matrices(1, 60)
    docs = database.create_collection("docs", Schema({"m": MultiVector(DIM, metric, aggregation=aggregation, keep="codes")}, {"n": Int()}))
    assert docs.schema.vectors["m"].keep == "codes"
    docs.upsert(ids=range(60), vectors={"m": given}, attributes={"n": [i % 3 for i in range(60)]})
    docs.update(ids=[7], vectors={"m": [given[8]]})
    given[7] = given[8]
    stored = [docs.get(i, with_vectors=["m"]).vectors["m"] for i in range(60)]
    for before, after in zip(given, stored, strict=True):
        steps = np.abs(before).max(axis=1, keepdims=True) / 127
        assert after.dtype == np.float32 and (np.abs(after - before) <= 0.51 * steps).all()
    docs.update(ids=range(60), vectors={"m": stored})  # what was rounded isn't rounded again
    assert all(np.array_equal(docs.get(i, with_vectors=["m"]).vectors["m"], rows) for i, rows in enumerate(stored))
    docs.delete([5])
    for filter, some in ((None, range(60)), (F("n") == 1, range(1, 60, 3))):
        for query in matrices(2, 4):
            scores = scores_of(stored, query, metric, aggregation == "max")
            order = sorted((i for i in some if i != 5), key=lambda i: -scores[i])[:10]
            hits = docs.search({"m": query}, filter=filter, exact=True, explain=True)
            np.testing.assert_allclose(hits.scores, scores[order], rtol=1e-4, atol=1e-4)
            assert set(hits.ids.tolist()) == set(order)
            assert hits.plan["arms"][0]["plan"] == "exact scan of codes"
            parts = hits.plan["arms"][0]["alignment"][0]["parts"]
            assert sum(part["score"] for part in parts) == pytest.approx(hits[0].score, rel=1e-4)
    facts = docs.info().statistics["m"]
    errors = score_errors(np.concatenate(stored), metric == "cosine")
    assert facts["keep"] == "codes" and facts["score_error"]["highest"] <= errors.max() + 1e-9
    assert 0.2 * errors.mean() < facts["score_error"]["mean"] < 5 * errors.mean()


def test_rows_are_clustered_before_they_are_rounded(database):
    docs = database.create_collection("docs", Schema({"m": MultiVector(DIM, tokens=3, keep="codes")}))
    docs.upsert(ids=[1], vectors={"m": [np.random.default_rng(4).standard_normal((9, DIM)).astype(np.float32)]})
    rows = docs.get(1, with_vectors=["m"]).vectors["m"]
    assert rows.shape == (3, DIM) and np.array_equal(decoded(*encoded(rows)), rows)


def test_an_index_and_upkeep(directory, tmp_path):
    import vectordb

    field = MultiVector(DIM, index=TokenLists(centroids=32), keep="codes")
    with vectordb.open(directory, maintenance=False, durability="batched") as database:
        docs = database.create_collection("docs", Schema({"m": field}, {"n": Int()}))
        given = matrices(3, 400)
        docs.upsert(ids=range(400), vectors={"m": given}, attributes={"n": [i % 4 for i in range(400)]})
        facts, vectors = docs.info().statistics["m"], sum(map(len, given))
        assert facts["bytes"] <= vectors * (DIM + 8) + 400 * 4 + 512  # and where each point begins
        docs.delete(range(50))
        docs.optimize()
        docs.upsert(ids=range(390, 420), vectors={"m": matrices(5, 30)}, attributes={"n": [0] * 30})  # the tail
        assert docs.info().statistics["m"]["tail"] == 30
        shares = []
        for query in matrices(6, 12):
            for options in ({}, {"filter": F("n") == 2}):
                exact, hits = (docs.search({"m": query}, exact=exact, recall=0.95, **options) for exact in (True, False))
                known = dict(zip(exact.ids.tolist(), exact.scores.tolist(), strict=True))
                found = dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True))
                assert len(found) == 10 and all(known.get(id, score) == score for id, score in found.items())
                shares.append(len(known.keys() & found.keys()) / 10)
        assert np.mean(shares) > 0.92  # observed: .99 and more
        docs.delete([60])
        docs.purge()
        expected = {point.id: point.vectors["m"] for point in docs.iterate(with_vectors=True)}
        assert len(expected) == 369
    checked(directory)
    with moved(directory, "docs", tmp_path / "moved") as docs:
        assert docs.schema.vectors["m"] == field
        assert all(np.array_equal(point.vectors["m"], expected[point.id]) for point in docs.iterate(with_vectors=True))


@pytest.mark.parametrize("scale", [1, 1e-30, 1e-38, 1e-42, 1e38, 0])
def test_rounded_rows_stay_as_they_are(scale):
    values = (np.random.default_rng(7).uniform(-1, 1, (300, 37)) * scale).astype(np.float32)
    codes, steps = encoded(values)
    rounded = decoded(codes, steps)
    assert np.isfinite(rounded).all() and codes.min() > 0
    again = encoded(rounded)
    assert np.array_equal(decoded(*again), rounded) and np.array_equal(again[0], codes) and np.array_equal(again[1], steps)


@pytest.mark.parametrize("keep", ["code", "", None, 8, True])
def test_what_can_not_be_kept_is_refused(keep):
    with pytest.raises(SchemaError, match="keep"):
        MultiVector(4, keep=keep)


def test_bytes_have_no_other_type():
    with pytest.raises(SchemaError, match="leave dtype out"):
        MultiVector(4, dtype="float16", keep="codes")


def test_rows_of_an_encoder(database, monkeypatch):
    """Of texts as of matrices: what the encoder makes is rounded, and texts are asked for by it."""
    monkeypatch.setitem(encoders.ENCODERS, "word-rows", WordRows)
    field = MultiVector(word_rows.DIM, encoder="word-rows", source="body", keep="codes")
    docs = database.create_collection("docs", Schema({"m": field}, {"body": Text()}))
    texts = ["red apples and pears", "a green pear", "blue cars", "cars and apples"]
    docs.upsert(ids=range(4), attributes={"body": texts})
    made = WordRows().encode_queries(texts)
    for i, rows in enumerate(made):
        stored = docs.get(i, with_vectors=["m"]).vectors["m"]
        np.testing.assert_array_equal(stored, decoded(*encoded(rows)))
    hits = docs.search(text="blue cars", explain=True, highlight=["body"])
    assert hits[0].id == 2 and len(hits) == 4
    parts = hits.plan["arms"][0]["alignment"][0]["parts"]
    assert sum(part["score"] for part in parts) == pytest.approx(hits[0].score, rel=1e-4)
    docs.update(ids=[2], attributes={"body": ["green pears"]})
    again = docs.get(2, with_vectors=["m"]).vectors["m"]
    np.testing.assert_array_equal(again, decoded(*encoded(WordRows().encode_queries(["green pears"])[0])))


@pytest.mark.parametrize("archive", [False, True])
def test_snapshots_are_restored_with_their_codes_and_index(directory, tmp_path, archive):
    import vectordb

    with vectordb.open(directory, maintenance=False, durability="batched") as database:
        docs = database.create_collection("docs", Schema({"m": MultiVector(DIM, index=TokenLists(centroids=32), keep="codes")}))
        docs.upsert(ids=range(300), vectors={"m": matrices(3, 300)})
        docs.optimize()
        docs.upsert(ids=range(300, 320), vectors={"m": matrices(7, 20)})
        query = matrices(6, 1)[0]
        wanted = [(point.id, point.vectors["m"].tobytes()) for point in docs.iterate(with_vectors=True)]
        best = docs.search({"m": query}, exact=True)
        database.snapshot(tmp_path / "snap", archive=archive)
        docs.delete(range(200))
    vectordb.restore(tmp_path / "snap", tmp_path / "back")
    checked(tmp_path / "back")
    with vectordb.open(tmp_path / "back", create=False, maintenance=False) as database:
        docs = database.collection("docs")
        assert [(point.id, point.vectors["m"].tobytes()) for point in docs.iterate(with_vectors=True)] == wanted
        assert docs.info().statistics["m"]["segments"] and docs.info().statistics["m"]["tail"] == 20
        hits = docs.search({"m": query}, exact=True)
        assert (hits.ids.tolist(), hits.scores.tolist()) == (best.ids.tolist(), best.scores.tolist())
        assert docs.search({"m": query}, recall=0.99)[0].id == best[0].id
