"""Arms with names of their own, and a filter a query: against sums and ranks that are computed here from whole rankings."""

from __future__ import annotations

import numpy as np
import pytest

from tests.congruence.filled import N
from vectordb import DBSF, RRF, Arm, F, FilterError, InvalidArgumentError, Linear, Prefetch, Relative, SchemaError

A, B = np.arange(1.0, 9.0), np.linspace(2, -1, 8)
ARMS = {"a": Arm("d", A, filter="n < 40", weight=2.0), "b": ("d", B), "words": Arm("words", "fox dog", weight=0.5)}
FAR = [0.5, -1.0, 0.0, 2.0]


def ranked(docs, query, condition=None, limit=N) -> dict:
    """id → score of one query, best first."""
    return {hit.id: hit.score for hit in docs.search(query, filter=condition, limit=limit, exact=True)}


def lists(docs, condition=None, limits=(N, N, N)) -> dict[str, dict]:
    own = "n < 40" if condition is None else f"n < 40 AND ({condition})"
    words = docs.search(text={"words": "fox dog"}, filter=condition, limit=limits[2])
    return {
        "a": ranked(docs, {"d": A}, own, limits[0]),
        "b": ranked(docs, {"d": B}, condition, limits[1]),
        "words": {hit.id: hit.score for hit in words},
    }


def expected(arms: dict[str, dict], weights: dict[str, float], normalise) -> dict:
    sums: dict = {}
    for name, scores in arms.items():
        for (key, _), normal in zip(scores.items(), normalise(np.array(list(scores.values()))), strict=True):
            sums[key] = sums.get(key, 0.0) + weights[name] * float(normal)
    return sums


def shape(scores):
    return np.ones(len(scores)) if scores.min() == scores.max() else (scores - scores.min()) / (scores.max() - scores.min())


def spread(scores):
    deviation = 3 * scores.std(ddof=1)
    return (scores - (scores.mean() - deviation)) / (2 * deviation)


NORMAL = {
    "rrf": lambda scores: 1 / (60 + np.arange(1, len(scores) + 1)),
    "linear": lambda scores: scores,
    "relative": shape,
    "dbsf": spread,
}


@pytest.mark.parametrize("fusion", NORMAL)
@pytest.mark.parametrize("condition", [None, "n > 10 OR lang = 'en'"])
def test_named_arms_are_fused_by_their_weights(same, fusion, condition):
    hits = same(lambda docs: docs.search(ARMS, fusion=fusion, filter=condition, limit=N))
    truth = same(lambda docs: expected(lists(docs, condition), {"a": 2.0, "b": 1.0, "words": 0.5}, NORMAL[fusion]))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(truth, rel=1e-4, abs=1e-5)
    assert [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)
    for hit in hits:
        assert list(hit.arms) == ["a", "b", "words"] and hit.arms["a"].weight == 2.0
        assert sum(arm.contribution for arm in hit.arms.values()) == pytest.approx(hit.score, abs=1e-6)
        if hit.attributes["n"] >= 40:
            assert hit.arms["a"].score is None and hit.arms["a"].contribution == 0.0 and not hit.arms["a"].missing


def test_weights_of_the_fusion_go_by_name_and_limits_shorten_lists(same):
    arms = {"a": Arm("d", A, limit=5), "b": Arm("d", B, limit=3, filter=F("n") > 20)}
    hits = same(lambda docs: docs.search(arms, fusion=RRF(weights={"b": 3.0}), limit=N))
    own = same(lambda docs: {"a": ranked(docs, {"d": A}, None, 5), "b": ranked(docs, {"d": B}, "n > 20", 3)})
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected(own, {"a": 1.0, "b": 3.0}, NORMAL["rrf"]))
    alone = same(lambda docs: docs.search({"x": Arm("d", A, limit=4, filter="n > 20")}, limit=10))
    assert alone.ids.tolist() == list(same(lambda docs: ranked(docs, {"d": A}, "n > 20", 4)))
    for _ in range(3):  # also when it was seen before, and under the name of the field
        arms = {"d": Arm("d", A, filter="n > 20")}
        assert same(lambda docs: docs.search(arms, limit=4)).ids.tolist() == alone.ids.tolist()  # noqa: B023
        assert same(lambda docs: docs.search({"d": A}, limit=4)).ids.tolist() == list(same(lambda docs: ranked(docs, {"d": A}, None, 4)))
        assert same(lambda docs: docs.search({"d": ("d", A)}, limit=4)) == same(lambda docs: docs.search({"d": A}, limit=4))


def test_an_l2_arm_with_a_filter_in_linear_fusion(same):
    arms = {"far": Arm("far", FAR, filter="n < 30"), "d": A}
    hits = same(lambda docs: docs.search(arms, fusion="linear", limit=N))
    near = same(lambda docs: ranked(docs, {"far": FAR}, "n < 30"))
    every = same(lambda docs: ranked(docs, {"d": A}))
    assert {hit.id: hit.score for hit in hits} == pytest.approx({key: every[key] - score for key, score in near.items()}, rel=1e-5)


@pytest.mark.parametrize("fusion", [RRF, Linear, Relative, DBSF])
def test_points_that_lack_a_field_of_two_arms(same, fusion):
    arms = {"a": Arm("half", FAR, weight=2.0), "b": ("half", [1.0, 1, 0, 0]), "d": Arm("d", A, filter="n > 5")}
    hits = same(lambda docs: docs.search(arms, fusion=fusion(missing="renormalise"), limit=N, explain=True))
    lacking = [hit for hit in hits if hit.attributes["n"] % 11 == 7]
    assert lacking and all(hit.arms["a"].missing and hit.arms["b"].missing for hit in lacking)
    assert all(hit.arms["d"].weight == 4.0 for hit in lacking if hit.arms["d"].score is not None)
    assert hits.plan["fusion"]["lacking"].keys() == {"a", "b"}


def test_named_arms_in_stages_and_batches(same):
    stage = Prefetch({"a": Arm("d", A, filter="n < 30"), "b": ("d", B)}, limit=9)
    before = same(lambda docs: docs.search(stage.vectors, limit=9))
    hits = same(lambda docs: docs.search({"x": Arm("s", {3: 1.0, 7: 0.5}, filter="n > 3"), "y": ("d", B)}, prefetch=stage, limit=N))
    assert {*hits.ids.tolist()} == {*before.ids.tolist()}
    many = {"a": Arm("d", np.stack([A, B]), filter="n < 40"), "w": Arm("words", ["fox", "dog"]), "s": [{3: 1.0}, {7: 1.0}]}
    found = same(lambda docs: docs.search_batch(many, limit=6, fusion="linear"))
    for q, hits in enumerate(found):
        one = {"a": Arm("d", (A, B)[q], filter="n < 40"), "w": Arm("words", ("fox", "dog")[q]), "s": many["s"][q]}
        assert hits == same(lambda docs, one=one: docs.search(one, limit=6, fusion="linear"))
    assert same(lambda docs: docs.prepare(limit=6, fusion="linear").batch(many)) == found
    assert same(lambda docs: docs.search_batch({"a": Arm("d", [])})) == []


def test_named_arms_of_indexed_fields(same, filled):
    rng = np.random.default_rng(0)
    q, p = rng.standard_normal((2, 8))
    arms = {"a": Arm("d", q, filter="n < 300"), "b": ("d", p), "s": Arm("s", {1: 1.0, 5: 0.5}, filter="n > 100", weight=0.5)}
    flat = {"a": Arm("flat", q, filter="n < 300"), "b": ("flat", p), "s": Arm("plain", {1: 1.0, 5: 0.5}, filter="n > 100", weight=0.5)}
    for fusion in ("linear", "rrf"):
        hits = same(lambda docs, f=fusion: docs.search(arms, fusion=f, limit=20, exact=True), "indexed")
        truth = same(lambda docs, f=fusion: docs.search(flat, fusion=f, limit=20), "indexed")
        assert hits.ids.tolist() == truth.ids.tolist() and np.allclose(hits.scores, truth.scores)
    docs = filled["embedded"].collection("indexed")
    proven = docs.search(arms, fusion="linear", limit=20, explain=True)
    assert proven.ids.tolist() == same(lambda docs: docs.search(flat, fusion="linear", limit=20), "indexed").ids.tolist()
    assert proven.plan["fusion"]["proven"] and [arm.get("arm") for arm in proven.plan["arms"]] == ["a", "b", None]
    text = str(docs.search(arms, explain=True).plan)
    assert "a = dense d, filter n <= 299: " in text and "b = dense d: " in text and "sparse s, filter n >= 101: " in text


WRONG = {
    "field": ({"a": ("nope", A)}, {}, SchemaError, "arm 'a': .*nope"),
    "a number for a field": ({"a": Arm(3, A)}, {}, SchemaError, "arm 'a'"),
    "name": ({3: ("d", A)}, {}, InvalidArgumentError, "the name of an arm must be a string, not 3"),
    "vector": ({"a": ("d", [1, 2])}, {}, InvalidArgumentError, "arm 'a'"),
    "text without an encoder": ({"a": ("d", "fox")}, {}, InvalidArgumentError, "arm 'a' has a text, but vector field 'd' has no encoder"),
    "filter": ({"a": Arm("d", A, filter="id = 1")}, {}, FilterError, "arm 'a'"),
    "filters": ({"a": Arm("d", A, filter=["n = 1"])}, {}, FilterError, "the filter of arm 'a' must be one filter"),
    "limit": ({"a": Arm("d", A, limit=0)}, {}, InvalidArgumentError, "limit of arm 'a' must be an integer from 1"),
    "weight": ({"a": Arm("d", A, weight=-1)}, {}, InvalidArgumentError, "the weight of arm 'a' must be a number from 0"),
    "two weights": ({"a": Arm("d", A, weight=1), "s": {1: 1.0}}, {"fusion": RRF(weights={"a": 2})}, InvalidArgumentError, "both in Arm"),
    "limit in linear": ({"a": Arm("d", A, limit=5), "s": {1: 1.0}}, {"fusion": "linear"}, InvalidArgumentError, "all points; leave it out"),
    "weight of no arm": ({"a": ("d", A)}, {"fusion": RRF(weights={"d": 2})}, InvalidArgumentError, "a weight for 'd'"),
    "too many": ({f"a{i}": ("d", A) for i in range(65)}, {}, InvalidArgumentError, "at most 64 arms, not 65"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arms(same, case):
    vectors, options, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        same(lambda docs: docs.search(vectors, **options))


# ---- A filter a query ----

FILTERS = ["n > 20", None, F("lang") == "en", {"op": "lt", "field": "n", "value": 3}, "n > 20", "n < 0"]


@pytest.mark.parametrize("options", [{}, {"with_attributes": False}, {"explain": True, "with_vectors": ["s"]}, {"exact": True}], ids=str)
@pytest.mark.parametrize("collection", ["docs", "indexed"])
def test_a_filter_a_query(same, options, collection):
    if collection == "indexed":
        options = {name: value for name, value in options.items() if name != "explain"}  # plans have measured times
    queries = np.random.default_rng(8).standard_normal((6, 8))
    filters = FILTERS if collection == "docs" else ["n > 20", None, "n = 70", "n < 100", "n > 20", "n < 0"]
    for vectors in ({"d": queries}, {"d": queries, "s": [{1: 1.0, 3: 2.0}] * 6}):
        found = same(lambda docs, v=vectors: docs.search_batch(v, filter=filters, limit=7, **options), collection)
        for q, hits in enumerate(found):
            one = {name: column[q] for name, column in vectors.items()}
            alone = same(lambda docs, o=one, q=q: docs.search(o, filter=filters[q], limit=7, **options), collection)
            assert hits.ids.tolist() == alone.ids.tolist() and hits.scores.tolist() == alone.scores.tolist()
        assert len(found[5]) == 0
        if "explain" in options:
            assert found[0].plan["queries"] == 6 and found[0].plan["request"]["filter"] == "n >= 21"


def test_a_filter_a_query_with_stages_and_named_arms(same):
    sparse, dense = [{1: 1.0, 3: 2.0}, {5: 1.0}, {2: 1.0}], np.random.default_rng(9).standard_normal((3, 8))
    found = same(lambda docs: docs.search_batch({"d": dense}, prefetch=Prefetch({"s": sparse}, limit=8), filter=FILTERS[:3]))
    named = same(lambda docs: docs.search_batch({"a": Arm("d", dense, filter="n < 60"), "b": ("d", -dense)}, filter=FILTERS[:3]))
    for q in range(3):
        stage, asked = Prefetch({"s": sparse[q]}, limit=8), FILTERS[q]
        assert found[q] == same(lambda docs, q=q, s=stage, f=asked: docs.search({"d": dense[q]}, prefetch=s, filter=f))
        arms = {"a": Arm("d", dense[q], filter="n < 60"), "b": ("d", -dense[q])}
        assert named[q] == same(lambda docs, a=arms, f=asked: docs.search(a, filter=f))
    assert same(lambda docs: docs.search_batch({"d": dense[:0]}, filter=[])) == []
    one = same(lambda docs: docs.search_batch({"d": dense[:1]}, filter=["n < 4"]))
    for _ in range(3):
        assert same(lambda docs: docs.search_batch({"d": dense[:1]}, filter=["n < 4"])) == one
        assert len(same(lambda docs: docs.search({"d": dense[0]}))) == 10


def test_wrong_filters_of_queries(same):
    two = {"d": np.stack([A, B])}
    for call, error, text in (
        (lambda docs: docs.search({"d": A}, filter=["n > 1"]), InvalidArgumentError, "filter of search must be one filter"),
        (lambda docs: docs.search_batch(two, filter=["n > 1"]), InvalidArgumentError, "a list of 1 filters for 2 queries"),
        (lambda docs: docs.search_batch(two, filter=["n > 1", "id = 2"]), FilterError, "filter of query 1: "),
        (lambda docs: docs.search_batch(two, filter=["n > 1", 3]), FilterError, "3"),
        (lambda docs: docs.prepare(filter=["n > 1"]), InvalidArgumentError, "filter of prepare must be one filter"),
    ):
        with pytest.raises(error, match=text):
            same(call)


def test_weights_of_named_arms_are_learned(same):
    rng = np.random.default_rng(3)
    queries = rng.standard_normal((12, 8))
    qrels = [{int(i): 1.0} for i in rng.integers(2, 29, 12) * 3]
    arms = {"a": Arm("d", queries, weight=2.0), "b": ("d", -queries)}
    tuning = same(lambda docs: docs.tune_fusion(arms, qrels, limit=5, folds=2), places=["embedded", "served"])
    assert tuning.fusion.weights.keys() == {"a", "b"} and max(tuning.fusion.weights.values()) == 1.0


@pytest.mark.parametrize("options", [{"score": "calibrated"}, {"diversity": 0.3}, {"group_by": "lang"}], ids=str)
def test_options_go_by_the_field_of_an_arm(same, options):
    """The name of an arm is none of the schema's."""
    named = same(lambda docs: docs.search({"a": Arm("d", A)}, limit=10, **options))
    assert named.ids.tolist() == same(lambda docs: docs.search({"d": A}, limit=10, **options)).ids.tolist()
