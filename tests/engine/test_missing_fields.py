"""Fused search with points that lack a field: each convention against brute force over all points."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client import Client

import vectordb
from vectordb import DBSF, HNSW, RRF, Dense, Int, Linear, Prefetch, Relative, Schema, Sparse
from vectordb.query.fusion import missing as groups_of
from vectordb.server.main import start

KINDS = [RRF, Relative, DBSF, Linear]
ROWS = 1500
SCHEMA = Schema(
    {"img": Dense(16, index=HNSW(degree=8, ef_construction=40)), "far": Dense(4, "l2"), "txt": Sparse()},
    {"n": Int()},
)


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """In segments and behind them; of every field some points lack it, and some lack all."""
    rng = np.random.default_rng(1)
    with vectordb.open(tmp_path_factory.mktemp("missing") / "data", durability="batched", maintenance=False) as database:
        collection = database.create_collection("docs", SCHEMA)
        given = {
            "img": list(rng.standard_normal((ROWS, 16))),
            "far": list(rng.standard_normal((ROWS, 4))),
            "txt": [{int(t): float(rng.random() + 0.1) for t in rng.choice(60, 6, replace=False)} for _ in range(ROWS)],
        }
        vectors = {name: [None if rng.random() < 0.15 else value for value in values] for name, values in given.items()}
        attributes = {"n": [*range(ROWS)]}
        collection.upsert(ids=range(ROWS), vectors=vectors, attributes=attributes)
        collection.delete(list(range(0, ROWS, 13)))
        collection.optimize()
        collection.upsert(ids=range(100), vectors={n: values[:100] for n, values in vectors.items()}, attributes={"n": [*range(100)]})
        yield collection


class Lists:
    """What the points of a collection that doesn't change are, one field at a time; each list is read once."""

    def __init__(self, collection):
        self.collection, self._held, self._whole = collection, {}, {}

    def held(self, query, node):
        """name → the ids that have a vector there and match."""
        for name in query:
            if (name, node) not in self._held:
                condition = f"HAS_VECTOR({name})" if node is None else f"({node}) AND HAS_VECTOR({name})"
                self._held[name, node] = {point.id for point in self.collection.scroll(filter=condition, limit=10_000).points}
        return {name: self._held[name, node] for name in query}

    def whole(self, name, vector, node):
        """(ids, raw scores) of every point that matches, from an exact search."""
        key = name, tuple(vector.items()) if isinstance(vector, dict) else vector.tobytes(), node
        if key not in self._whole:
            hits = self.collection.search({name: vector}, filter=node, limit=5000, exact=True)
            self._whole[key] = hits.ids.tolist(), hits.scores.tolist()
        return self._whole[key]


@pytest.fixture(scope="module")
def lists(docs):
    return Lists(docs)


def oracle(lists, query, fusion, candidates, node=None, among=None):
    """id → fused score, by adding up what each arm's whole list makes of each point."""
    weights = {name: float(fusion.weights.get(name, 1.0)) for name in query}
    has, parts = lists.held(query, node), {}
    for name in query:
        whole = zip(*lists.whole(name, query[name], node), strict=True)
        hits = [(i, -score if name == "far" else score) for i, score in whole if among is None or i in among]
        if not isinstance(fusion, Linear):
            hits = hits[:candidates]
        raw = np.array([score for _, score in hits])
        if isinstance(fusion, RRF):
            value = 1 / (fusion.k + np.arange(1, len(raw) + 1))
        elif isinstance(fusion, Relative):
            value = (raw - raw.min()) / (raw.max() - raw.min())
        elif isinstance(fusion, DBSF):
            value = (raw - raw.mean() + 3 * raw.std(ddof=1)) / (6 * raw.std(ddof=1))
        else:
            value = raw
        for (i, _), each in zip(hits, value.tolist(), strict=True):
            parts.setdefault(i, {})[name] = each
    scores = {}
    for i, own in parts.items():
        if isinstance(fusion, Linear) and fusion.missing == "zero" and "far" in query and i not in has["far"]:
            continue
        factor = 1.0
        there = sum(weights[name] for name in query if i in has[name])
        if fusion.missing == "renormalise" and there > 0:
            factor = sum(weights.values()) / there
        scores[i] = factor * sum(weights[name] * each for name, each in own.items())
    return scores, has


def check(hits, scores, has, limit):
    assert len(hits) == min(limit, len(scores)) and len({hit.id for hit in hits}) == len(hits)
    best = sorted(scores.values(), reverse=True)[: len(hits)]
    np.testing.assert_allclose([hit.score for hit in hits], best, rtol=1e-6, atol=1e-9)
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.id], rel=1e-6, abs=1e-9)
        assert hit.score == pytest.approx(sum(arm.contribution for arm in hit.arms.values()), rel=1e-12, abs=1e-15)
        for name, arm in hit.arms.items():
            assert arm.missing == (hit.id not in has[name])
            assert arm.contribution == (0.0 if arm.normalized is None else arm.weight * arm.normalized)


def asked(rng, names=("img", "far", "txt")):
    terms = rng.choice(60, 8, replace=False).tolist()
    query = {"img": rng.standard_normal(16), "far": rng.standard_normal(4), "txt": dict.fromkeys(terms, 1.0)}
    return {name: query[name] for name in names}


CASES = [({}, None), ({"img": 0.2, "txt": 5.0}, "n < 900"), ({"far": 0.0}, None), ({"img": 1e6, "txt": 1e-9}, "n >= 1480")]


# How linear fusion goes about groups of points: it searches them or adds up row by row. The others have no such choice.
WAYS = [(kind, 0) for kind in KINDS] + [(Linear, 10_000)]


@pytest.mark.parametrize(("kind", "listed"), WAYS, ids=[*(kind.__name__ for kind in KINDS), "Linear row by row"])
@pytest.mark.parametrize("convention", ["zero", "renormalise"])
@pytest.mark.parametrize("names", [("img", "txt"), ("img", "far", "txt")], ids="+".join)
def test_every_fusion_ranks_points_that_lack_fields_as_the_oracle_does(docs, lists, monkeypatch, kind, convention, names, listed):
    monkeypatch.setattr(groups_of, "LISTED", listed)
    rng = np.random.default_rng(len(names))
    for weights, node in CASES:
        query = asked(rng, names)
        fusion = kind(weights={name: w for name, w in weights.items() if name in names}, missing=convention)
        for limit, candidates in ((10, 2000), (1001, 2000), (10, 25)):
            scores, has = oracle(lists, query, fusion, candidates, node)
            hits = docs.search(
                query, fusion=fusion, filter=node, limit=limit, candidates=candidates, exact=kind is not Linear, explain=True
            )
            check(hits, scores, has, limit)
            told = hits.plan["fusion"]
            matching = docs.count(node) if node else docs.count()
            assert told["missing"] == convention
            assert told["lacking"] == {name: matching - len(has[name]) for name in names if matching > len(has[name])}
            if kind is Linear:
                assert told["proven"] and hits.plan["exact"]


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_prefetch_too(docs, lists, kind):
    rng = np.random.default_rng(9)
    query = asked(rng)
    stage = Prefetch({"txt": query["txt"]}, limit=200)
    among = set(docs.search({"txt": query["txt"]}, limit=200, exact=True).ids.tolist())
    for convention in ("zero", "renormalise"):
        fusion = kind(missing=convention)
        hits = docs.search(query, prefetch=stage, fusion=fusion, limit=30, candidates=500, exact=True, explain=True)
        scores, has = oracle(lists, query, fusion, 500, None, among)
        check(hits, scores, has, 30)
        assert hits.plan["fusion"]["lacking"].get("img") == len(among - has["img"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1, 10, 1001])
def test_a_point_with_one_field_which_is_the_query_comes_first(database, kind, limit):
    rng = np.random.default_rng(2)
    docs = database.create_collection("docs", Schema({"img": Dense(32), "txt": Dense(32)}))
    docs.upsert(ids=range(1000), vectors={"img": rng.standard_normal((1000, 32)), "txt": rng.standard_normal((1000, 32))})
    query = {"img": rng.standard_normal(32), "txt": rng.standard_normal(32)}
    docs.upsert(ids=["only"], vectors={"img": [query["img"]]})
    docs.upsert(ids=["none"])
    hits = docs.search(query, fusion=kind(missing="renormalise"), limit=limit, explain=True)
    assert hits[0].id == "only" and len(hits) == limit
    assert hits[0].arms["txt"] == (None, None, None, 0.0, 0.0, True) and hits[0].arms["img"].weight == 2.0
    assert "2 points without txt: their other weights are rescaled" in str(hits.plan) and "1 point without img" in str(hits.plan)
    batch = docs.search_batch({name: [vector, vector] for name, vector in query.items()}, fusion=kind(missing="renormalise"), limit=limit)
    assert [list(each) for each in batch] == [list(hits)] * 2
    plain = docs.search(query, fusion=kind(), limit=1001, explain=True)
    (only,) = [hit for hit in plain if hit.id == "only"]
    assert plain[0].id != "only" or kind is Linear
    assert only.arms["txt"].missing and not only.arms["img"].missing and only.arms["txt"].weight == 1.0
    assert not any(arm.missing for hit in plain if hit.id != "only" for arm in hit.arms.values())
    assert "2 points without txt" in str(plain.plan)


def test_linear_fusion_ranks_points_without_an_l2_vector_only_when_it_rescales(database):
    docs = database.create_collection("docs", Schema({"d": Dense(2, "dot"), "far": Dense(2, "l2")}))
    docs.upsert(ids=[1, 2, 3, 4], vectors={"d": [[-1, 0], None, [1, 0], None], "far": [[0, 1], [0, 2], None, None]})
    query = {"d": [1, 0], "far": [0, 0]}
    assert [(hit.id, hit.score) for hit in docs.search(query, fusion=Linear())] == [(1, -2.0), (2, -4.0)]
    hits = docs.search(query, fusion=Linear({"far": 3.0}, missing="renormalise"))
    assert [(hit.id, hit.score) for hit in hits] == [(3, 4.0), (1, -4.0), (2, -4.0 * 4.0)]


def test_where_all_points_have_all_fields_nothing_is_rescaled(database):
    rng = np.random.default_rng(3)
    docs = database.create_collection("docs", Schema({"a": Dense(4), "b": Dense(4)}))
    docs.upsert(ids=range(50), vectors={"a": rng.standard_normal((50, 4)), "b": rng.standard_normal((50, 4))})
    query = {"a": rng.standard_normal(4), "b": rng.standard_normal(4)}
    for kind in KINDS:
        weights = {"a": 0.1, "b": 0.7}
        plain = docs.search(query, fusion=kind(weights=weights))
        assert list(docs.search(query, fusion=kind(weights=weights, missing="renormalise"))) == list(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_answers_the_same(database, kind):
    rng = np.random.default_rng(4)
    docs = database.create_collection("docs", Schema({"a": Dense(4), "b": Dense(4)}))
    docs.upsert(ids=range(60), vectors={name: [v if rng.random() < 0.7 else None for v in rng.standard_normal((60, 4))] for name in "ab"})
    server, port = start(database, port=0)
    query = {"a": rng.standard_normal(4), "b": rng.standard_normal(4)}
    with Client(f"127.0.0.1:{port}") as client:
        for fusion in (kind(), kind(missing="renormalise"), kind(weights={"a": 3.0}, missing="renormalise")):
            here = docs.search(query, fusion=fusion, limit=60, explain=True)
            there = client.collection("docs").search(query, fusion=fusion, limit=60, explain=True)
            assert list(there) == list(here) and any(arm.missing for hit in there for arm in hit.arms.values())
            assert there.plan["fusion"] == here.plan["fusion"]
            stage = Prefetch(query, fusion=fusion, limit=20)
            after = client.collection("docs").search({"a": query["a"]}, prefetch=stage)
            assert list(after) == list(docs.search({"a": query["a"]}, prefetch=stage))
    server.stop(0).wait()
