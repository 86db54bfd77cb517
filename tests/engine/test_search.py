"""Search against NumPy: each vector type, extreme numbers, ties, limits, batches, fusion, plans.

Scores must agree with float64 within ``reference.TOLERANCE`` × the sum of the terms' magnitudes.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import scipy.sparse

import vectordb
from tests.support.reference import Model, Stored, check_ranking, stored_vector
from vectordb import DBSF, RRF, Dense, F, Hits, Int, MultiVector, Relative, Schema, Sparse
from vectordb.common import background
from vectordb.index import exact as flat

N = 700


def filled(database, spec, column, name="c"):
    """A collection with one vector field, a number by row, every 7th point without a vector and every 5th replaced; and its model."""
    schema = Schema({"v": spec}, {"n": Int()})
    collection, model = database.create_collection(name, schema), Model(schema)
    for first, last in ((0, 50), (50, 51), (51, N), (0, N)):
        ids = [i for i in range(first, last) if last - first < N or i % 5 == 0]
        values = [None if i % 7 == 3 else column[(i + (last - first == N)) % N] for i in ids]
        collection.upsert(ids=ids, vectors={"v": values}, attributes={"n": ids})
        for i, value in zip(ids, values, strict=True):
            model.points[i] = Stored({} if value is None else {"v": stored_vector(spec, value)}, {"n": i})
    gone = list(range(0, N, 11))
    collection.delete(gone)
    for i in gone:
        del model.points[i]
    return collection, model


def asked(collection, model, query, limits=(1, 10, N + 5)):
    for node, limit in itertools.product((None, F("n") < 100, (F("n") >= 40) & (F("n") <= 60), F("n") == -1), limits):
        model.check_hits(collection.search({"v": query}, filter=node, limit=limit), "v", query, node, limit)


@pytest.mark.parametrize(("metric", "dtype"), list(itertools.product(["cosine", "dot", "l2"], ["float32", "float16"])))
@pytest.mark.parametrize("dim", [1, 17, 384])
def test_dense_search_is_exact(database, metric, dtype, dim):
    rng = np.random.default_rng(dim)
    collection, model = filled(database, Dense(dim, metric, dtype), rng.standard_normal((N, dim)).astype(np.float32))
    for _ in range(2):
        asked(collection, model, rng.standard_normal(dim).astype(np.float32))


@pytest.mark.parametrize("weighting", [None, "idf"])
@pytest.mark.parametrize("signed", [False, True])
def test_sparse_search_is_exact(database, weighting, signed):
    rng = np.random.default_rng(1)
    draw = (lambda: float(rng.standard_normal())) if signed else (lambda: float(rng.random() + 0.01))
    column = [{int(t) ** 9: draw() for t in rng.choice(60, rng.integers(0, 9), replace=False)} for _ in range(N)]
    collection, model = filled(database, Sparse(weighting), column)
    for size in (1, 3, 30):
        asked(collection, model, {int(t) ** 9: draw() for t in rng.choice(60, size, replace=False)})
    asked(collection, model, {2**64 - 1: 1.0, 3: 1.0})
    assert len(collection.search({"v": {}})) == 0


@pytest.mark.parametrize(
    ("metric", "dtype", "aggregation"), list(itertools.product(["cosine", "dot"], ["float32", "float16"], ["maxsim", "max"]))
)
def test_multi_vector_search_is_exact(database, metric, dtype, aggregation):
    rng = np.random.default_rng(2)
    column = [rng.standard_normal((rng.integers(1, 6), 24)).astype(np.float32) for _ in range(N)]
    collection, model = filled(database, MultiVector(24, metric, dtype, aggregation), column)
    for rows in (1, 4):
        asked(collection, model, rng.standard_normal((rows, 24)).astype(np.float32))


def test_a_scan_on_several_cores_gives_the_same_hits(database, monkeypatch):
    rng = np.random.default_rng(3)
    collection = database.create_collection("c", Schema({"v": Dense(64), "m": MultiVector(16)}, {"n": Int()}))
    vectors = rng.standard_normal((6_000, 64)).astype(np.float32)
    for first in range(0, 6_000, 3_000):  # chunks too large to be joined
        ids = np.arange(first, first + 3_000)
        collection.upsert(ids=ids, vectors={"v": vectors[ids], "m": [row.reshape(4, 16) for row in vectors[ids]]}, attributes={"n": ids})
        collection.upsert(ids=ids, vectors={"v": vectors[ids], "m": [row.reshape(4, 16) for row in vectors[ids]]}, attributes={"n": ids})
    queries = {"v": vectors[:9] + 0.1, "m": [row.reshape(4, 16) for row in vectors[:9] + 0.1]}
    answers = []
    for limit, cores in ((1 << 60, 1), (0, 2), (0, 4), (0, 99)):
        monkeypatch.setattr(flat, "_PARALLEL_BYTES", limit)
        monkeypatch.setattr(background, "CORES", cores)
        monkeypatch.setattr(flat, "_pool", None)
        for name, node in itertools.product(queries, (None, "n > 2500", "n BETWEEN 2990 AND 3010")):
            hits = collection.search_batch({name: queries[name]}, filter=node, limit=50)
            alone = [collection.search({name: query}, filter=node, limit=50) for query in queries[name]]
            assert [list(h) for h in hits] == [list(h) for h in alone]
            answers.append([(hit.id, hit.score) for h in hits for hit in h])
    assert answers[:6] == answers[6:12] == answers[12:18] == answers[18:]
    expected = np.argsort(-(vectors @ queries["v"][4]) / np.linalg.norm(vectors, axis=1))[:50]
    monkeypatch.undo()
    assert set(collection.search({"v": queries["v"][4]}, limit=49).ids.tolist()) <= set(expected.tolist())


def test_ties_go_to_the_older_row(database):
    collection = database.create_collection("c", Schema({"v": Dense(2, "dot")}))
    collection.upsert(ids=range(9, -1, -1), vectors={"v": np.ones((10, 2))})
    collection.upsert(ids=[9], vectors={"v": np.ones((1, 2))})
    assert collection.search({"v": [1, 1]}).ids.tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0, 9]
    assert collection.search({"v": [1, 1]}, limit=3).ids.tolist() == [8, 7, 6]


@pytest.mark.parametrize("scale", [1e-28, 1e-19, 1e-10, 1.0, 1e10, 1e19, 3e37])
def test_a_cosine_depends_on_the_direction_only(database, scale):
    """From the shortest to the longest vectors that are accepted; also of the query."""
    rng = np.random.default_rng(4)
    directions = rng.standard_normal((100, 5))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    expected = np.sort(directions @ directions[0])[::-1]
    for dtype in ("float32",) if not 1e-4 < scale < 1e4 else ("float32", "float16"):
        collection = database.create_collection(dtype, Schema({"v": Dense(5, "cosine", dtype), "m": MultiVector(5)}))
        collection.upsert(ids=range(100), vectors={"v": directions * scale, "m": [[row * scale] for row in directions]})
        for by in (scale, 1.0, 1e-40, 1e30):
            for query in ({"v": directions[0] * by}, {"m": [directions[0] * by]}):
                hits = collection.search(query, limit=100)
                tolerance = 2e-6 if by != 1e-40 and dtype == "float32" else 2e-3  # 1e-40 is subnormal in float32: 5 digits are left
                np.testing.assert_allclose(hits.scores, expected, atol=tolerance)


def test_every_row_that_shares_a_term_is_a_match_however_small_the_product(database):
    collection = database.create_collection("c", Schema({"s": Sparse()}))
    collection.upsert(ids=[1, 2, 3, 4], vectors={"s": [{5: 1e-30}, {5: 1.0, 6: -1.0}, {5: 1e15}, {6: 1.0}]})
    assert collection.search({"s": {5: 1.0}}).ids.tolist() == [3, 2, 1]
    assert set(collection.search({"s": {5: 1.0, 6: 1.0}}).ids.tolist()) == {1, 2, 3, 4}  # 2 scores exactly 0
    assert collection.search({"s": {5: -1.0}}).ids.tolist() == [1, 2, 3]
    assert len(collection.search({"s": {5: 1e-30}})) == 3  # 1e-60 is 0 in float32
    positive = database.create_collection("positive", Schema({"s": Sparse()}))
    positive.upsert(ids=[1, 2, 3], vectors={"s": [{5: 1e-30}, {5: 1.0}, {6: 1.0}]})
    assert positive.search({"s": {5: 1e-30}}).ids.tolist() == [2, 1]
    assert positive.search({"s": {5: 1e-30}}, filter=F.has_id([1, 3])).ids.tolist() == [1]


def test_idf_follows_deletes_and_counts_only_points_that_have_the_field(database):
    collection = database.create_collection("c", Schema({"s": Sparse("idf")}))
    collection.upsert(ids=range(10), vectors={"s": [{1: 1.0} if i < 4 else {} if i < 8 else None for i in range(10)]})

    def idf(n, df):
        return float(np.log(1 + (n - df + 0.5) / (df + 0.5)))

    assert collection.search({"s": {1: 2.0}})[0].score == pytest.approx(2 * idf(8, 4), rel=1e-6)
    collection.delete([0, 7])
    assert collection.search({"s": {1: 2.0}})[0].score == pytest.approx(2 * idf(6, 3), rel=1e-6)
    collection.upsert(ids=[1], vectors={"s": [{2: 1.0}]})
    assert collection.search({"s": {1: 2.0}})[0].score == pytest.approx(2 * idf(6, 2), rel=1e-6)


def test_queries_of_a_batch_are_answered_one_by_one_in_every_form(database):
    rng = np.random.default_rng(5)
    schema = Schema({"v": Dense(4), "s": Sparse(), "m": MultiVector(3)})
    collection = database.create_collection("c", schema)
    matrix = scipy.sparse.random(50, 30, 0.2, format="csr", random_state=1, dtype=np.float32)
    collection.upsert(ids=range(50), vectors={"v": rng.standard_normal((50, 4)), "s": matrix, "m": rng.standard_normal((50, 2, 3))})
    dense = rng.standard_normal((5, 4))
    for form in (dense, dense.astype(np.float32), dense.tolist(), list(dense)):
        assert collection.search_batch({"v": form}) == [collection.search({"v": row}) for row in dense]
    dicts = [{int(t): float(w) for t, w in zip(row.indices, row.data, strict=True)} for row in matrix[:5]]
    expected = [collection.search({"s": query}) for query in dicts]
    for form in (matrix[:5], dicts, [(row.indices, row.data) for row in matrix[:5]], [(list(d), list(d.values())) for d in dicts]):
        assert collection.search_batch({"s": form}) == expected
    multi = rng.standard_normal((5, 2, 3))
    assert collection.search_batch({"m": multi}) == [collection.search({"m": rows}) for rows in multi]
    assert collection.search_batch({"v": dense, "s": dicts}) == [
        collection.search({"v": row, "s": query}) for row, query in zip(dense, dicts, strict=True)
    ]
    assert collection.search_batch({"v": np.empty((0, 4))}) == []


def test_nothing_is_found_where_nothing_is(database):
    collection = database.create_collection("c", Schema({"v": Dense(4), "s": Sparse(), "m": MultiVector(3)}, {"n": Int()}))
    queries = ({"v": np.ones(4)}, {"s": {1: 1.0}}, {"m": np.ones((1, 3))}, {"v": np.ones(4), "s": {1: 1.0}})
    for query, node in itertools.product(queries, (None, "n IS NULL", "n = 1")):
        assert list(collection.search(query, filter=node)) == []
    collection.upsert(ids=[1, 2])  # points without vectors
    for query, node in itertools.product(queries, (None, "n IS NULL", "n = 1")):
        hits = collection.search(query, filter=node)
        assert list(hits) == [] and hits.ids.shape == hits.scores.shape == (0,)
    assert collection.count() == 2


@pytest.mark.parametrize("fusion", ["rrf", "relative", "dbsf", RRF(5, {"s": 3}), Relative({"v": 0.25}), DBSF({"v": 2, "s": 0})])
def test_fused_scores_are_what_the_arms_say(database, fusion):
    rng = np.random.default_rng(6)
    schema = Schema({"v": Dense(4, "l2"), "s": Sparse()}, {"n": Int()})
    collection = database.create_collection("c", schema)
    sparse = [{int(t): float(rng.random() + 0.1) for t in rng.choice(9, 3, replace=False)} for _ in range(80)]
    vectors = rng.standard_normal((80, 4))
    collection.upsert(ids=range(80), vectors={"v": [None if i % 9 == 0 else vectors[i] for i in range(80)], "s": sparse})
    query = {"v": rng.standard_normal(4), "s": {1: 1.0, 4: 2.0}}
    method = fusion if not isinstance(fusion, str) else {"rrf": RRF(), "relative": Relative(), "dbsf": DBSF()}[fusion]
    for limit, candidates in ((10, None), (10, 15), (80, 80)):
        depth = max(100, 4 * limit) if candidates is None else max(candidates, limit)
        expected: dict[int, float] = {}
        for name in query:
            arm = collection.search({name: query[name]}, limit=depth)
            raw = np.array([-hit.score if name == "v" else hit.score for hit in arm])
            if isinstance(method, RRF):
                value = 1 / (method.k + np.arange(1, len(arm) + 1))
            elif isinstance(method, Relative):
                value = (raw - raw.min()) / (raw.max() - raw.min())
            else:
                value = (raw - raw.mean() + 3 * raw.std(ddof=1)) / (6 * raw.std(ddof=1))
            for hit, part in zip(arm, value * method.weights.get(name, 1.0), strict=True):
                expected[hit.id] = expected.get(hit.id, 0.0) + float(part)
        hits = collection.search(query, limit=limit, fusion=fusion, candidates=candidates)
        assert all(hit.score == pytest.approx(sum(arm.contribution for arm in hit.arms.values())) for hit in hits)
        check_ranking(list(hits), {i: (score, 1.0) for i, score in expected.items()}, limit, lower=False)


def test_hits_hold_what_was_asked_for(database):
    schema = Schema({"v": Dense(2), "s": Sparse()}, {"n": Int(), "k": vectordb.Keyword()})
    collection = database.create_collection("c", schema)
    collection.upsert(ids=[1], vectors={"v": [[1, 2]], "s": [{3: 4.0}]}, attributes={"n": [1], "k": ["x"]}, payload=[{"p": 1}])

    def hit(**options):
        return collection.search({"v": [1, 2]}, **options)[0]

    assert (hit().attributes, hit().payload, hit().vectors) == ({"n": 1, "k": "x"}, {"p": 1}, {})
    assert (hit(with_attributes=False).attributes, hit(with_attributes=False).payload) == ({}, None)
    assert (hit(with_attributes=["k"]).attributes, hit(with_attributes=[]).payload) == ({"k": "x"}, {"p": 1})
    assert set(hit(with_vectors=True).vectors) == {"v", "s"} and set(hit(with_vectors=["s"]).vectors) == {"s"}
    assert hit(with_vectors=["s"]).vectors["s"][0].dtype == np.uint64
    hit().attributes["n"] = 99  # what was answered is the caller's
    assert hit().attributes["n"] == 1


def test_hits_are_a_sequence_and_columns(database):
    collection = database.create_collection("c", Schema({"v": Dense(2, "l2")}, {"n": Int()}))
    collection.upsert(ids=[1, 2, 3], vectors={"v": [[0, 1], [0, 2], [0, 3]]}, attributes={"n": [1, None, 3]})
    hits = collection.search({"v": [0, 0]})
    assert isinstance(hits, Hits) and len(hits) == 3 and hits[0].id == 1 and hits[-1].id == 3
    assert (hits.ids.dtype, hits.scores.dtype) == (np.uint64, np.float32)
    assert hits.scores.tolist() == [1.0, 4.0, 9.0]
    assert isinstance(hits[:2], Hits) and hits[:2].ids.tolist() == [1, 2]
    assert hits == collection.search({"v": [0, 0]})
    assert hits.to_pandas()["id"].tolist() == [1, 2, 3]
    assert hits.to_arrow().column("n").to_pylist() == [1, None, 3]
    collection.upsert(ids=["x"], vectors={"v": [[0, 0]]})
    assert collection.search({"v": [0, 0]}).ids.tolist() == ["x", 1, 2, 3]


def test_an_explained_search_says_what_was_done(database):
    collection = database.create_collection("c", Schema({"v": Dense(2), "s": Sparse()}, {"n": Int()}))
    collection.upsert(ids=range(10), vectors={"v": np.ones((10, 2)), "s": [{1: 1.0}] * 10}, attributes={"n": range(10)})
    assert collection.search({"v": [1, 1]}).plan is None
    plan = collection.search({"v": [1, 1], "s": {1: 1.0}}, filter="n < 4", explain=True).plan
    json.dumps(plan)
    assert plan["filter"]["matches"] == 4 and plan["filter"]["selectivity"] == pytest.approx(0.4)
    assert [arm["field"] for arm in plan["arms"]] == ["v", "s"]
    assert plan["sequence"] == 1 and plan["exact"] is True


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("name", [int, str])
def test_hits_without_attributes_are_the_same_hits(database, metric, name):
    rng = np.random.default_rng(4)
    collection = database.create_collection("c", Schema({"v": Dense(6, metric)}, {"n": Int()}))
    collection.upsert(ids=[name(2**40 + i) for i in range(50)], vectors={"v": rng.standard_normal((50, 6))}, attributes={"n": [*range(50)]})
    query = rng.standard_normal(6)
    full = collection.search({"v": query}, filter=F("n") > 7, limit=9)
    bare = collection.search({"v": query}, filter=F("n") > 7, limit=9, with_attributes=False)
    assert bare.ids.tolist() == full.ids.tolist() and bare.scores.tolist() == full.scores.tolist()
    assert len(bare) == 9 and [(hit.id, hit.score, hit.attributes, hit.arms) for hit in bare] == [(h.id, h.score, {}, {}) for h in full]
    assert bare[2] == list(bare)[2] and list(bare[1:3]) == list(bare)[1:3] and bare != full and bare == Hits(list(bare))


def test_a_search_seen_before_is_still_checked(database):
    collection = database.create_collection("c", Schema({"v": Dense(2, "dot")}, {"n": Int()}))
    collection.upsert(ids=[1, 2], vectors={"v": np.eye(2)}, attributes={"n": [1, 2]})
    condition = F("n") >= 1
    for _ in range(3):
        assert collection.search({"v": [1, 0]}, filter=condition, limit=1).ids.tolist() == [1]
    for wrong in (
        {"vectors": {"v": [1, 0, 0]}},
        {"vectors": {"v": [np.nan, 0]}},
        {"limit": True},
        {"limit": 1.0},
        {"recall": 1.5},
        {"recall": True},
        {"with_attributes": 1},
        {"with_vectors": 0},
        {"exact": 0},
        {"explain": 0},
        {"filter": "n >= x"},
        {"fusion": "none"},
    ):
        with pytest.raises(vectordb.VectorDBError):
            collection.search(**({"vectors": {"v": [1, 0]}, "filter": condition, "limit": 1} | wrong))
    collection.upsert(ids=[3], vectors={"v": [[2, 0]]}, attributes={"n": [3]})
    assert collection.search({"v": [1, 0]}, filter=condition, limit=1).ids.tolist() == [3]
    collection.delete([3])
    assert collection.search({"v": [1, 0]}, filter=condition, limit=1).ids.tolist() == [1]
    collection.add_fields(attributes={"m": Int()})
    assert collection.search({"v": [0, 1]}, filter=condition, limit=1).ids.tolist() == [2]
