"""Extreme float32 values: norms are limited on input, scores are finite, and cosines are at most 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import vectordb_client.model.fields
from vectordb_client import Client
from vectordb_client.model.norms import MAX_NORM

import vectordb
from vectordb import DBSF, HNSW, RRF, Dense, InvalidArgumentError, Linear, MultiVector, Prefetch, Relative, Schema, Sparse
from vectordb.server.main import start


@pytest.fixture
def client(database):
    """A client of a service over the same database."""
    server, port = start(database, port=0)
    with Client(f"127.0.0.1:{port}") as connected:
        yield connected
    server.stop(0).wait()


FUSIONS = ["rrf", "relative", "dbsf", "linear"]
METRICS = ["dot", "l2"]
WITHIN = np.float32(MAX_NORM * 0.999)


# ---- What is refused ----


def refused(call, *parts):
    with pytest.raises(InvalidArgumentError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("length", [2e16, 1e19, 3e38, 1.2e39])
def test_a_dense_vector_that_is_too_long_is_refused_by_row_norm_and_bound(database, metric, length):
    docs = database.create_collection("docs", Schema({"v": Dense(16, metric), "w": Dense(2)}))
    rows = np.ones((5, 16), np.float32)
    rows[3] = length / 4
    told = ("'v'", "point 13", "row 3", f"{float(np.linalg.norm(rows[3].astype(np.float64))):.6g}", "1e+16", metric)
    refused(lambda: docs.upsert(ids=range(10, 15), vectors={"v": rows}), *told)
    refused(lambda: docs.upsert(ids=range(10, 15), vectors={"v": [None, *rows[1:]]}), *told)
    refused(lambda: docs.upsert([{"id": 10 + i, "vectors": {"v": row}} for i, row in enumerate(rows)]), *told)
    assert docs.count() == 0
    docs.upsert(ids=range(10, 15), vectors={"v": np.ones((5, 16))})
    refused(lambda: docs.update(ids=[11, 13], vectors={"v": rows[[1, 3]]}), "point 13", "row 1", "1e+16")
    assert (np.array([point.vectors["v"] for point in docs.get([11, 13], with_vectors=True)]) == 1).all()
    refused(lambda: docs.search({"v": rows[3]}), "query vector 'v'", "1e+16", metric)
    refused(lambda: docs.search_batch({"v": rows}), "query vector 'v'", "1e+16")
    refused(lambda: docs.search({"w": [1, 0]}, prefetch=Prefetch({"v": rows[3]})), "1e+16")


def test_multi_vectors_and_sparse_ones_that_are_too_long_are_refused(database):
    docs = database.create_collection("docs", Schema({"m": MultiVector(4, "dot"), "s": Sparse(), "b": Sparse(binary=True)}))
    long = np.ones((3, 4), np.float32)
    long[1] = 1e17
    refused(lambda: docs.upsert(ids=[1, 2], vectors={"m": [np.ones((2, 4)), long]}), "point 2", "row 1", "its vector 1", "2e+17", "1e+16")
    refused(lambda: docs.search({"m": long}), "query vector 'm'", "row 1", "1e+16")
    refused(lambda: docs.upsert(ids=[1, 2], vectors={"s": [{5: 1.0}, {5: 1e16, 6: -1e16}]}), "point 2", "row 1", "1.41421e+16", "1e+16")
    refused(lambda: docs.search({"s": {7: 1e17}}), "'s'", "1e+17", "1e+16")
    refused(lambda: docs.search({"s": (np.array([7], np.uint64), np.array([3e38], np.float32))}), "3e+38", "1e+16")
    assert docs.count() == 0
    docs.upsert(ids=[1], vectors={"b": [{5: 3e38}]})  # weights of a binary field are all 1
    assert docs.search({"b": {5: 3e38}}).scores.tolist() == [1.0]


def test_a_service_and_its_client_refuse_the_same(client):
    docs = client.create_collection("docs", Schema({"v": Dense(4, "l2")}))
    refused(lambda: docs.upsert(ids=[7], vectors={"v": [[1e17, 0, 0, 0]]}), "point 7", "row 0", "1e+17", "1e+16")
    refused(lambda: docs.search({"v": [1e17, 0, 0, 0]}), "query vector 'v'", "1e+16")
    rows = [{"id": i, "vectors": {"v": [1e17 if i == 2 else 1.0, 0, 0, 0]}} for i in range(5)]
    report = docs.bulk(rows)
    assert docs.count() == 4 and len(report.failed) == 1 and "1e+16" in str(report.failed)


# ---- What is taken has finite scores ----


@pytest.mark.usefixtures("full_calibration")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e10, float(WITHIN)])
def test_long_vectors_are_found_as_exactly_through_an_index_as_without(database, metric, scale):
    rng = np.random.default_rng(1)
    docs = database.create_collection("docs", Schema({"v": Dense(16, metric, index=HNSW(degree=8, ef_construction=40))}))
    rows = rng.standard_normal((1500, 16))
    rows = (rows / np.linalg.norm(rows, axis=1).max() * scale).astype(np.float32)
    docs.upsert(ids=range(1500), vectors={"v": rows})
    docs.optimize()
    assert docs.info().statistics["v"]["segments"]
    recalls = []
    for query in rng.standard_normal((40, 16)).astype(np.float32) / 4:
        query = query / max(np.linalg.norm(query), 1) * np.float32(scale)
        wide, other = rows.astype(np.float64), query.astype(np.float64)
        true = wide @ other if metric == "dot" else ((wide - other) ** 2).sum(axis=1)
        best = np.argsort(-true if metric == "dot" else true, kind="stable")[:10]
        exact, fast = docs.search({"v": query}, exact=True), docs.search({"v": query})
        np.testing.assert_allclose(exact.scores, true[best], rtol=1e-4)
        recalls.append(len(set(exact.ids.tolist()) & set(fast.ids.tolist())) / 10)
        known = dict(zip(exact.ids.tolist(), exact.scores.tolist(), strict=True))
        assert all(known.get(hit.id, hit.score) == hit.score for hit in fast)
    assert np.mean(recalls) >= 0.85  # of 0.95 asked for


def test_the_largest_scores_there_are_can_be_told(database):
    docs = database.create_collection("docs", Schema({"m": MultiVector(2, "dot"), "v": Dense(2, "l2"), "s": Sparse("idf")}))
    rows = np.full((60_000, 2), WITHIN / np.sqrt(2), np.float32)
    docs.upsert(ids=[1, 2], vectors={"m": [rows[:1], -rows[:1]], "v": [rows[0], -rows[0]], "s": [{1: WITHIN}, {1: -WITHIN}]})
    query = {"m": rows, "v": rows[0], "s": {1: WITHIN}}
    for name, scores in (("m", [6e36, -6e36]), ("v", [0, 4e32]), ("s", None)):
        hits = docs.search({name: query[name]})
        assert hits.ids.tolist() == [1, 2] and np.isfinite(hits.scores).all()
        if scores is not None:
            np.testing.assert_allclose(hits.scores, scores, rtol=5e-3)
    for fusion in FUSIONS:
        hits = docs.search(query, fusion=fusion)
        assert hits.ids.tolist() == [1, 2] and np.isfinite(hits.scores).all()
    heavy = docs.search(query, fusion=Linear(dict.fromkeys(query, 1e6)))
    assert heavy.ids.tolist() == [1, 2] and np.isfinite([hit.score for hit in heavy]).all() and np.isfinite(heavy.scores).all()


# ---- Directories that hold longer rows, from before norms were bounded ----


@pytest.fixture
def unbounded(monkeypatch):
    """Writes take any finite vector while the test says so."""
    with monkeypatch.context() as patch:
        patch.setattr(vectordb_client.model.fields.base, "check_norms", lambda *_: None)
        patch.setattr(vectordb_client.model.fields.sparse, "check_sparse_norms", lambda *_: None)
        yield patch


def test_rows_of_any_length_that_are_there_are_found_in_order_with_finite_scores(database, unbounded):
    rng = np.random.default_rng(2)
    schema = Schema({"dot": Dense(4, "dot"), "l2": Dense(4, "l2"), "m": MultiVector(4, "dot"), "s": Sparse()})
    docs = database.create_collection("docs", schema)
    n = 60
    rows = rng.standard_normal((n, 4)) * 10.0 ** rng.integers(0, 39, (n, 1))
    rows = np.clip(rows, -3.4e38, 3.4e38).astype(np.float32)
    rows[0], rows[1] = [3e38, -3e38, 3e38, -3e38], 3e38
    terms = [{t: float(w) for t, w in enumerate(row)} for row in rows]
    docs.upsert(ids=range(n), vectors={"dot": rows, "l2": rows, "m": [np.stack([row, -row]) for row in rows], "s": terms})
    unbounded.undo()
    query = np.full(4, 2.0, np.float32)
    largest = float(np.finfo(np.float32).max)
    true = {"dot": rows.astype(np.float64) @ query, "l2": ((rows.astype(np.float64) - query) ** 2).sum(axis=1)}
    asked = {"dot": query, "l2": query, "m": [query, query], "s": dict.fromkeys(range(4), 2.0)}
    for name, limit in ((name, limit) for name in asked for limit in (7, n)):
        hits = docs.search({name: asked[name]}, limit=limit)
        assert len(hits) == limit and np.isfinite(hits.scores).all()
        if name in true:
            expected = np.clip(true[name], -largest, largest)
            order = np.lexsort((np.arange(n), expected if name == "l2" else -expected))[:limit]
            np.testing.assert_allclose(hits.scores, expected[order], rtol=1e-5)
    for fusion in FUSIONS:
        for limit in (5, n):
            hits = docs.search(asked, fusion=fusion, limit=limit)
            assert len(hits) == limit and np.isfinite([hit.score for hit in hits]).all() and np.isfinite(hits.scores).all()
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert all(math.isclose(hit.score, sum(arm.contribution for arm in hit.arms.values()), rel_tol=1e-9) for hit in hits)


# ---- Fusion ----

LISTS = {
    "equal": [[1, 1]] * 4,
    "one": [[1, 0]],
    "opposed": [[1, 0], [-1, 0], [2, 0], [-2, 0]],
    "nearly equal": [[1, 0], [1 + 1e-7, 0], [1 - 1e-7, 0]],
    "huge": [[float(WITHIN), 0], [-float(WITHIN), 0], [0, 1]],
    "tiny": [[1e-38, 0], [-1e-38, 0], [1e-45, 0]],
    "zeros": [[0, 0]] * 3,
}


@pytest.mark.parametrize("rows", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("kind", [RRF, Relative, DBSF, Linear])
@pytest.mark.parametrize("missing", ["zero", "renormalise"])
def test_fusion_gives_every_match_a_finite_score(database, rows, kind, missing):
    docs = database.create_collection("docs", Schema({"l2": Dense(2, "l2"), "dot": Dense(2, "dot"), "s": Sparse()}))
    n = len(rows)
    docs.upsert(ids=range(n), vectors={"l2": rows, "dot": rows, "s": [{1: -1.0 - i} for i in range(n)]})
    docs.upsert(ids=["dense"], vectors={"l2": [rows[0]], "dot": [rows[0]]})
    for weights in (
        {},
        {"l2": 0},
        {"l2": 0, "dot": 0, "s": 0},
        {"l2": 1e6, "s": 1e-9},
        {"dot": 1e-300, "l2": 5e-324},
        {"s": 1e-320, "dot": 0},
    ):
        for limit in (1, 2, n + 1):
            fusion = kind(weights=weights, missing=missing)
            hits = docs.search({"l2": [1, 0], "dot": [-1, 0], "s": {1: 1.0}}, fusion=fusion, limit=limit)
            assert len(hits) == min(limit, n + 1), (weights, limit)
            scores = [hit.score for hit in hits]
            assert np.isfinite(scores).all() and scores == sorted(scores, reverse=True)
            for hit in hits:
                assert hit.score == sum(arm.contribution for arm in hit.arms.values())


def test_dbsf_is_of_the_sample_deviation_and_not_clipped(database):
    docs = database.create_collection("docs", Schema({"v": Dense(1, "dot"), "w": Dense(1, "dot")}))
    values = np.array([100.0, *np.linspace(0, 1, 30)])
    docs.upsert(ids=range(31), vectors={"v": values[:, None], "w": np.ones((31, 1))})
    hits = docs.search({"v": [1], "w": [1]}, fusion="dbsf", limit=31)
    deviation = values.std(ddof=1)
    for hit in hits:
        assert hit.arms["v"].normalized == pytest.approx((values[hit.id] - values.mean() + 3 * deviation) / (6 * deviation), rel=1e-6)
        assert hit.arms["w"].normalized == 0.5  # all the same
    assert hits[0].id == 0 and hits[0].arms["v"].normalized > 1
    docs.upsert(ids=["x"], vectors={"v": [[2.0]]})
    alone = docs.search({"v": [1], "w": [1]}, fusion="dbsf", filter="HAS_ID('x')")
    assert [(hit.id, hit.score) for hit in alone] == [("x", 0.5)]


# ---- Cosines ----


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_cosine_is_never_beyond_one_and_the_same_everywhere(database, client, dtype):
    rng = np.random.default_rng(3)
    schema = Schema(
        {"v": Dense(37, dtype=dtype, index=HNSW(degree=8, ef_construction=40)), "m": MultiVector(37, dtype=dtype), "s": Sparse()}
    )
    docs = database.create_collection("docs", schema)
    base = rng.standard_normal((150, 37))
    rows = np.concatenate([sign * factor * base for sign in (1, -1) for factor in (0.37, 1.0, 1.7, 3.1)])
    given = {"v": rows, "m": [np.stack([row, -row, row]) for row in rows], "s": [{1: 1.0}] * len(rows)}
    docs.upsert(ids=range(len(rows)), vectors=given)
    docs.optimize()
    served = client.create_collection("served", schema)
    served.upsert(ids=range(len(rows)), vectors=given)
    beyond = 0
    for i in range(0, 150, 15):
        query = rows[i].astype(np.float32)
        stored = rows.astype(dtype).astype(np.float32)
        unit = (query / np.linalg.norm(query.astype(np.float64))).astype(np.float32)
        beyond += int((np.abs(stored @ unit / np.linalg.norm(stored, axis=1)) > 1).any())
        exact = docs.search({"v": query}, limit=1200, exact=True)
        fast = docs.search({"v": query}, limit=8)
        assert np.abs(exact.scores).max() <= 1 and exact.scores[0] > 0.9999 and exact.scores[-1] < -0.9999
        known = {hit.id: hit.score for hit in exact}
        assert [hit.score for hit in fast] == [known[hit.id] for hit in fast]
        assert [(hit.id, hit.score) for hit in served.search({"v": query}, limit=1200)] == [(hit.id, hit.score) for hit in exact]
        order = [(hit.score, -hit.id) for hit in exact]
        assert order == sorted(order, reverse=True)
        for hit in docs.search({"v": query, "s": {1: 1.0}}, fusion="linear", limit=8, explain=True):
            assert hit.arms["v"].score == known[hit.id] and abs(hit.arms["v"].score) <= 1
        for hit in docs.search({"v": query}, prefetch=Prefetch({"s": {1: 1.0}}, limit=1200), limit=1200):
            assert hit.score == known[hit.id]
        most = docs.search({"m": [query, -query, query]}, limit=1200)
        assert most.scores.max() <= 3 and most.scores[0] > 2.999
    assert dtype == "float16" or beyond  # there were some that rounding takes beyond


# ---- The first hits, however many are asked for ----


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """3,000 points, some without a vector, most of them in segments."""
    rng = np.random.default_rng(4)
    with vectordb.open(tmp_path_factory.mktemp("first") / "data", durability="batched", maintenance=False) as database:
        schema = Schema({"d": Dense(16, index=HNSW(degree=8, ef_construction=40)), "s": Sparse()}, {"n": vectordb.Int()})
        docs = database.create_collection("docs", schema)
        rows = [row if rng.random() < 0.9 else None for row in rng.standard_normal((3000, 16))]
        terms = [{int(t): float(rng.random() + 0.1) for t in rng.choice(200, 8, replace=False)} for _ in rows]
        docs.upsert(ids=range(2700), vectors={"d": rows[:2700], "s": terms[:2700]}, attributes={"n": [*range(2700)]})
        docs.optimize()
        docs.upsert(ids=range(2700, 3000), vectors={"d": rows[2700:], "s": terms[2700:]}, attributes={"n": [*range(2700, 3000)]})
        assert docs.info().statistics["d"]["segments"] and docs.info().statistics["s"]["segments"]
        yield docs


@pytest.mark.parametrize("kind", [RRF, Relative, DBSF, Linear])
@pytest.mark.parametrize("missing", ["zero", "renormalise"])
@pytest.mark.parametrize("how", [{}, {"exact": True}, {"recall": 0.9}], ids=["default", "exact", "recall"])
def test_the_first_hits_do_not_depend_on_the_limit_where_candidates_are_given(indexed, kind, missing, how):
    rng = np.random.default_rng(5)
    for options in ({}, {"filter": "n < 1200"}, {"prefetch": Prefetch({"s": dict.fromkeys(range(60), 1.0)}, limit=500)}):
        query = {"d": rng.standard_normal(16), "s": dict.fromkeys(range(40), 1.0)}
        found = []
        for limit in (10, 11, 60, 200):
            hits = indexed.search(query, fusion=kind(missing=missing), candidates=200, limit=limit, **how, **options)
            assert len(hits) == limit
            found.append([(hit.id, hit.score) for hit in hits][:10])
        assert all(each == found[0] for each in found)
