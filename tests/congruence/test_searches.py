"""Searches of every kind of field, fused, staged, filtered, explained and in batches: the same hits and plans to the last bit."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from tests.congruence.filled import N
from vectordb import DBSF, RRF, F, InvalidArgumentError, Linear, Plan, Prefetch, Relative

D = np.arange(1.0, 9.0)
QUERIES = {
    "dense": {"vectors": {"d": D}},
    "l2": {"vectors": {"far": [0.5, -1, 0, 2]}},
    "float16": {"vectors": {"half": np.ones(4, np.float32)}},
    "sparse": {"vectors": {"s": {3: 1.0, 7: 0.5}}},
    "two arrays": {"vectors": {"s": ([3, 7], [1.0, 0.5])}},
    "binary": {"vectors": {"bits": {3: 1.0, 7: 0.5}}},
    "idf": {"text": {"words": "quick dog"}},
    "text": {"text": "the foxes"},
    "multi": {"vectors": {"m": np.ones((2, 4))}},
    "max": {"vectors": {"top": np.ones((2, 3))}},
    "hybrid": {"vectors": {"d": D, "s": {3: 1.0}, "m": np.ones((1, 4))}},
    "hybrid with l2": {"vectors": {"far": [0.5, -1, 0, 2], "half": np.ones(4)}},
    "text and vector": {"text": "dog", "vectors": {"d": D}},
}
OPTIONS = [
    {},
    {"limit": 3, "exact": True},
    {"limit": 3, "recall": 0.5},
    {"limit": 3, "recall": 1},
    {"limit": 3, "recall": np.float32(0.99), "exact": True},
    {"limit": N},
    {"filter": "n > 20"},
    {"filter": F("lang") == "en", "with_vectors": True},
    {"filter": {"op": "gt", "field": "n", "value": 20}, "with_attributes": ["at", "where"], "with_vectors": ["s"]},
    {"with_attributes": False},
    {"filter": F("at") >= datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)},
    {"explain": True},
    {"explain": True, "filter": "n > 20", "exact": True},
]
HYBRID = {"d": D, "far": [0.5, -1, 0, 2], "s": {3: 1.0, 7: 0.5}, "top": np.ones((2, 3))}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_search(same, query, options):
    hits = same(lambda docs: docs.search(**QUERIES[query], **options))
    assert 0 < len(hits) <= options.get("limit", 10)
    assert type(hits.plan) is (Plan if "explain" in options else type(None))


@pytest.mark.parametrize("fusion", ["rrf", "relative", "dbsf", "linear", RRF(k=5.0, weights={"d": 2.0}), Linear({"s": 0.25})], ids=str)
@pytest.mark.parametrize("options", [{}, {"filter": "n > 20"}, {"candidates": 20}, {"exact": True, "explain": True}], ids=str)
def test_a_fusion(same, fusion, options):
    assert len(same(lambda docs: docs.search(HYBRID, fusion=fusion, limit=20, **options))) == 20


@pytest.mark.parametrize("fusion", [RRF, Relative, DBSF, Linear])
@pytest.mark.parametrize("missing", ["zero", "renormalise"])
def test_a_fusion_with_points_that_lack_a_field(same, fusion, missing):
    hits = same(lambda docs: docs.search(HYBRID, fusion=fusion(missing=missing), limit=N, explain=True))
    assert hits.plan["fusion"]["lacking"].keys() == {"far", "top"}


STAGES = {
    "one": Prefetch({"s": {1: 1.0, 2: 1.0, 3: 0.5}}, limit=12),
    "text": Prefetch(text={"words": "fox dog"}, limit=12),
    "fused": Prefetch({"s": {1: 1.0, 2: 1.0}, "d": np.ones(8)}, limit=9, fusion=Linear({"s": 0.5}), candidates=20),
    "three": Prefetch(
        {"m": np.ones((2, 4))}, limit=8, prefetch=Prefetch({"d": np.ones(8)}, limit=30, prefetch=Prefetch({"s": {1: 1.0, 5: 2.0}}))
    ),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("options", [{}, {"filter": "n > 20", "limit": 3}, {"recall": 0.9}, {"exact": True}], ids=str)
def test_stages(same, stage, options):
    stage = STAGES[stage]
    for vectors, fusion in (({"d": np.arange(8.0)}, "rrf"), ({"d": np.arange(8.0), "s": {1: 1.0, 9: 1.0}}, "linear")):
        hits = same(lambda docs, v=vectors, f=fusion: docs.search(v, prefetch=stage, fusion=f, explain=True, **options))
        assert 0 < len(hits) <= stage.limit
        plan, depth = hits.plan, 0
        while plan is not None:
            depth, plan = depth + 1, plan["prefetch"]
        assert depth == (4 if stage is STAGES["three"] else 2)


def test_batches(same):
    dense = np.random.default_rng(1).standard_normal((4, 8))
    sparse = [{1: 1.0}, {2: 1.0, 3: 2.0}, {}, {19: 1.0}]
    many = [np.ones((1 + i, 4)) for i in range(4)]
    for query in ({"d": dense}, {"s": sparse}, {"m": many}, {"d": dense, "s": sparse}, {"d": dense[:1]}, {"d": dense[:0]}):
        for options in ({"limit": 5}, {"limit": 5, "explain": True, "filter": "n > 20", "with_vectors": True}):
            found = same(lambda docs, q=query, o=options: docs.search_batch(q, **o))
            assert len(found) == len(next(iter(query.values())))
            for i, hits in enumerate(found):
                alone = same(lambda docs, q=query, i=i, o=options: docs.search({name: column[i] for name, column in q.items()}, **o))
                assert hits == alone if not options.get("with_vectors") else hits.ids.tolist() == alone.ids.tolist()


@pytest.mark.parametrize(
    "texts",
    [{"text": ["fox", "dog"]}, {"text": {"words": ["fox", "dog"]}, "vectors": {"d": np.eye(2, 8)}}],
    ids=["texts", "texts and vectors"],
)
def test_batches_of_texts(same, texts):
    assert all(len(hits) > 0 for hits in same(lambda docs: docs.search_batch(**texts)))


def test_stages_of_a_batch(same):
    vectors, sparse = {"d": np.random.default_rng(2).standard_normal((3, 8))}, [{1: 1.0, 4: 2.0}, {2: 1.0}, {}]
    found = same(lambda docs: docs.search_batch(vectors, prefetch=Prefetch({"s": sparse}, limit=6), limit=4))
    assert len(found[0]) == 4 and len(found[2]) == 0  # a query without terms leaves no candidates
    for q, hits in enumerate(found):
        assert hits == same(lambda docs, q=q: docs.search({"d": vectors["d"][q]}, prefetch=Prefetch({"s": sparse[q]}, limit=6), limit=4))


# ---- Fields with an index ----

EXACT = [{"exact": True}, {"recall": 1.0}]


@pytest.mark.parametrize("condition", [None, "n >= 100", "n < 80"])
def test_exact_searches_of_a_dense_index(same, condition):
    for query in np.random.default_rng(6).standard_normal((5, 8)):
        truth = same(lambda docs, q=query: docs.search({"flat": q}, filter=condition, limit=300), "indexed")
        for options in EXACT:
            hits = same(lambda docs, q=query, o=options: docs.search({"d": q}, filter=condition, **o), "indexed")
            assert hits == truth[:10]


@pytest.mark.parametrize("field", ["s", "bits"])
@pytest.mark.parametrize("condition", [None, "n < 100"])
def test_exact_searches_of_a_sparse_index(same, field, condition):
    rng = np.random.default_rng(7)
    for _ in range(10):
        query = {int(t): float(w) for t, w in zip(rng.integers(0, 60, 6), rng.random(6) + 0.1, strict=True)}
        for options in EXACT:
            hits = same(lambda docs, q=query, o=options: docs.search({field: q}, filter=condition, **o), "indexed")
            if field == "s":
                truth = same(lambda docs, q=query: docs.search({"plain": q}, filter=condition), "indexed")
                assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in truth]


@pytest.mark.parametrize("recall", [0.5, 0.95])
def test_approximate_searches_find_true_neighbours_and_say_so(filled, recall):
    """What they find may change as the planner learns what plans cost, so hits are compared with the truth and not with each other."""
    for query in np.random.default_rng(8).standard_normal((5, 8)):
        for database in filled.values():
            docs = database.collection("indexed")
            truth = docs.search({"flat": query}, filter="n >= 100", limit=400)
            hits = docs.search({"d": query}, filter="n >= 100", explain=True, recall=recall)
            assert len(hits) == 10 and all(hit in truth for hit in hits)
            (many,) = docs.search_batch({"d": [query]}, filter="n >= 100", explain=True, recall=recall)
            for plan in (hits.plan, many.plan):
                assert plan["arms"][0]["recall"]["target"] == recall and not plan["exact"]


def test_plans_of_an_index_have_the_same_keys_and_consider_the_same_plans(filled):
    """What they expect and choose may change as the planner learns what plans cost."""

    def shape(plan):
        yield sorted(plan), plan["exact"]
        for arm in plan["arms"]:
            yield sorted(arm), arm["field"], arm["kind"], arm["plan"], arm.get("terms"), sorted(arm.get("tail", ()))
            for segment in arm.get("segments", ()):
                considered = sorted((one["plan"], sorted(one["parameters"].items()), sorted(one)) for one in segment["considered"])
                assert plan["exact"] or segment["plan"] in {name for name, *_ in considered}
                yield sorted(segment), segment["rows"], segment["matches"], considered

    for vectors in ({"d": D}, {"s": {3: 1.0, 7: 0.5}}, {"d": D, "bits": {3: 1.0}}):
        for exact in (False, True):
            plans = [db.collection("indexed").search(vectors, exact=exact, explain=True).plan for db in filled.values()]
            assert list(shape(plans[0])) == list(shape(plans[1])) == list(shape(plans[2]))


def test_weights_are_learned_from_judged_queries(same):
    rng = np.random.default_rng(9)
    queries = {"d": rng.standard_normal((12, 8)), "s": [{int(t): 1.0 for t in rng.integers(0, 20, 3)} for _ in range(12)]}
    qrels = [{int(3 * i + 6): 2.0, f"id {3 * i + 7}": 1.0} for i in range(12)]
    for options in ({"folds": 3}, {"folds": 2, "filter": "HAS_VECTOR(far)", "candidates": 30, "seed": 2}):
        assert same(lambda docs, o=options: docs.tune_fusion(queries, qrels, limit=5, **o)).queries == 12


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fusion": RRF({"d": 2.0}, missing="x")}, "k of RRF must be a number"),  # weights given by position
        ({"fusion": RRF(-1, weights={"d": -1.0}, missing="x")}, "the weight of 'd'"),
        ({"fusion": RRF(missing="x")}, "missing of a fusion must be"),
        ({"prefetch": Prefetch({"d": [1.0]}, fusion=RRF({"d": 2.0}))}, "'d'"),
        ({"prefetch": Prefetch({"d": D}, fusion=RRF({"d": 2.0}))}, "k of RRF must be a number"),
    ],
    ids=str,
)
def test_the_first_of_several_errors_is_the_one_to_mend_first(same, options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        same(lambda docs: docs.search({"d": D}, **options))


def test_plans_show_the_weights_of_a_fusion_by_field(same):
    query = {"s": {3: 1.0}, "d": D}
    request = same(lambda docs: docs.search(query, fusion=RRF(weights={"s": 2.0, "d": 0.5}), explain=True).plan["request"])
    assert list(request["fusion"]["weights"].items()) == [("d", 0.5), ("s", 2.0)]
    same(
        lambda docs: str(docs.search(query, fusion=Linear({"s": 2.0, "d": 0.5}), explain=True).plan).partition("request:")[2].split("\n")[0]
    )
