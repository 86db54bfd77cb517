"""Which hits are good enough: bounds of scores, limit="auto", calibrated scores, and points that lack a field. Each against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tests.congruence.filled import N
from vectordb import DBSF, RRF, InvalidArgumentError, Linear, Prefetch, Relative

D = np.arange(1.0, 9.0)
FAR = [0.5, -1, 0, 2]
SPARSE = {3: 1.0, 7: 0.5}
TWO = {"d": D, "s": SPARSE}


@pytest.mark.parametrize(
    "query", [{"d": D}, {"half": np.ones(4)}, {"s": SPARSE}, {"m": np.ones((2, 4))}], ids=lambda query: next(iter(query))
)
@pytest.mark.parametrize("options", [{}, {"filter": "n > 20"}], ids=str)
def test_min_score_of_one_arm(same, query, options):
    whole = same(lambda docs: docs.search(query, limit=N, exact=True, **options))
    for bound in (float(whole.scores[3]), float(whole.scores[-1]), float(np.median(whole.scores)), 1e9):
        expected = [hit for hit in whole if hit.score >= bound]
        assert list(same(lambda docs, b=bound: docs.search(query, limit=N, exact=True, min_score=b, **options))) == expected
        assert list(same(lambda docs, b=bound: docs.search(query, limit=5, min_score=b, **options))) == expected[:5]


@pytest.mark.parametrize("options", [{}, {"filter": "n > 20"}], ids=str)
def test_radius_of_an_l2_field(same, options):
    whole = same(lambda docs: docs.search({"far": FAR}, limit=N, exact=True, **options))
    for bound in (float(whole.scores[3]), float(np.median(whole.scores)), 0.0):
        expected = [hit for hit in whole if hit.score <= bound]
        assert list(same(lambda docs, b=bound: docs.search({"far": FAR}, limit=N, exact=True, radius=b, **options))) == expected


def test_min_score_of_fused_scores(same):
    whole = same(lambda docs: docs.search(TWO, limit=N, fusion="linear"))
    bound = whole[20].score
    assert list(same(lambda docs: docs.search(TWO, limit=N, fusion="linear", min_score=bound))) == [h for h in whole if h.score >= bound]


def test_bounds_of_batches_stages_and_prepared_searches(same):
    queries = np.random.default_rng(4).standard_normal((3, 8))
    alone = [same(lambda docs, q=q: docs.search({"d": q}, min_score=0.3)) for q in queries]
    assert same(lambda docs: docs.search_batch({"d": queries}, min_score=0.3)) == alone
    assert same(lambda docs: docs.prepare(min_score=0.3)({"d": queries[0]})) == alone[0]
    for _ in range(3):  # also when the search without the bound is done directly
        same(lambda docs: docs.search({"d": queries[0]}))
    assert same(lambda docs: docs.search({"d": queries[0]}, min_score=0.3)) == alone[0]
    stage = Prefetch({"s": SPARSE}, limit=20)
    whole = same(lambda docs: docs.search({"d": D}, prefetch=stage, limit=20))
    assert list(same(lambda docs: docs.search({"d": D}, prefetch=stage, limit=20, min_score=0.2))) == [h for h in whole if h.score >= 0.2]


# ---- limit="auto" ----


def positive_part(scores: np.ndarray) -> int:
    """How many entries of the sparsemax of standardised scores are above 0, by bisection of its threshold."""
    z = np.asarray(scores, np.float64) / (np.std(np.asarray(scores, np.float64)) or 1.0)
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(z - middle, 0).sum() > 1 else (low, middle)
    return int((z > high + 1e-12).sum())


@pytest.mark.parametrize(
    "search", [{"vectors": {"d": D}}, {"vectors": {"far": FAR}}, {"vectors": TWO}, {"vectors": {"m": np.ones((2, 4))}}], ids=str
)
def test_a_limit_where_scores_fall_off(same, search):
    whole = same(lambda docs: docs.search(limit=100, **search))
    sign = -1.0 if "far" in search["vectors"] else 1.0
    count = positive_part(sign * np.array([hit.score for hit in whole]))
    assert 0 < count < len(whole)
    hits = same(lambda docs: docs.search(limit="auto", explain=True, **search))
    assert list(hits) == list(whole)[:count] and hits.plan["request"]["limit"] == "auto"
    vectors = {name: [query] for name, query in search["vectors"].items()}
    assert list(same(lambda docs: docs.search_batch(vectors, limit="auto"))[0]) == list(hits)


def test_a_limit_where_nothing_is_found(same):
    assert len(same(lambda docs: docs.search({"d": D}, filter="n > 100000", limit="auto"))) == 0
    assert len(same(lambda docs: docs.search({"d": D}, filter="n > 100000", score="calibrated"))) == 0


# ---- Calibrated scores ----


def shares(docs, query):
    """id → (score, share of all points with the field that score lower), of the points that match. All points are in the sample."""
    (field,) = query
    hits = docs.search(query, limit=N, exact=True)
    sign = -1.0 if field == "far" else 1.0
    scores = sign * hits.scores.astype(np.float64)
    size = docs.count(f"HAS_VECTOR({field})")
    return {hit.id: (hit.score, (size - (scores >= score).sum()) / size) for hit, score in zip(hits, scores.tolist(), strict=True)}


@pytest.mark.parametrize("query", [{"d": D}, {"far": FAR}, {"s": SPARSE}], ids=lambda query: next(iter(query)))
def test_calibrated_scores_of_one_arm(same, filled, query):
    truth = shares(filled["embedded"].collection("docs"), query)
    raw = same(lambda docs: docs.search(query, limit=30))
    hits = same(lambda docs: docs.search(query, limit=30, score="calibrated"))
    assert [hit.id for hit in hits] == [hit.id for hit in raw]
    assert [hit.score for hit in hits] == pytest.approx([truth[hit.id][1] for hit in raw])
    good = same(lambda docs: docs.search(query, limit=30, score="calibrated", min_score=0.9))
    assert list(good) == [hit for hit in hits if hit.score >= 0.9] and 0 < len(good) < 30
    some = same(lambda docs: docs.search(query, limit=30, score="calibrated", filter="n > 40"))
    assert {hit.id: hit.score for hit in some}.items() <= {i: share for i, (_, share) in truth.items()}.items()  # the sample stays


@pytest.mark.parametrize("fusion", [RRF, Relative, DBSF, Linear])
@pytest.mark.parametrize("missing", ["zero", "renormalise"])
def test_fused_calibrated_scores_are_a_weighted_mean(same, filled, fusion, missing):
    docs = filled["embedded"].collection("docs")
    query, weights = {"d": D, "top": np.ones((2, 3))}, {"d": 2.0, "top": 0.5}
    truth = {name: shares(docs, {name: vector}) for name, vector in query.items()}
    has = {name: {hit.id for hit in docs.search(order_by="n", filter=f"HAS_VECTOR({name})", limit=N)} for name in query}
    options = {"fusion": fusion(weights=weights, missing=missing), "candidates": N, "score": "calibrated"}
    hits = same(lambda docs: docs.search(query, limit=N, **options))
    assert len(hits) > 50
    expected = {}
    for hit in hits:
        total = sum(weights[name] for name in query if missing == "zero" or hit.id in has[name])
        expected[hit.id] = sum(weights[name] * truth[name].get(hit.id, (0, 0.0))[1] for name in query) / total
        for name, arm in hit.arms.items():
            assert arm.missing == (hit.id not in has[name]) and (arm.score is None) == (hit.id not in truth[name])
            assert arm.normalized == (None if arm.score is None else pytest.approx(truth[name][hit.id][1]))
        assert hit.score == pytest.approx(sum(arm.contribution for arm in hit.arms.values()))
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits])
    assert [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)
    assert list(same(lambda docs: docs.search(query, limit=9, **options))) == list(hits)[:9]
    assert list(same(lambda docs: docs.search(query, limit=9, offset=4, **options))) == list(hits)[4:13]
    good = same(lambda docs: docs.search(query, limit=N, min_score=0.5, **options))
    assert list(good) == [hit for hit in hits if hit.score >= 0.5]
    batch = same(lambda docs: docs.search_batch({name: [vector, vector] for name, vector in query.items()}, limit=9, **options))
    assert [list(one) for one in batch] == [list(hits)[:9]] * 2


# ---- Candidates and points that lack a field ----


@pytest.mark.parametrize("missing", ["zero", "renormalise"])
@pytest.mark.parametrize("fusion", [RRF, Relative, DBSF, Linear])
def test_the_first_hits_do_not_depend_on_the_limit(same, fusion, missing):
    query = {"d": D, "far": FAR, "s": SPARSE, "top": np.ones((2, 3))}
    options = {"fusion": fusion(missing=missing), "candidates": 40}
    first = list(same(lambda docs: docs.search(query, limit=10, **options)))
    for limit in (3, 11, 40):
        assert list(same(lambda docs, n=limit: docs.search(query, limit=n, **options)))[:10] == first[:limit]


@pytest.mark.parametrize("fusion", [RRF, Relative, DBSF, Linear])
def test_a_point_that_lacks_a_field_ranks_by_the_others(same, filled, fusion):
    """Its score is that of its arms, weighted as if the arm that it lacks gave their weighted mean."""
    docs = filled["embedded"].collection("docs")
    query, weights = {"d": D, "top": np.ones((2, 3))}, {"d": 2.0, "top": 0.5}
    has = {name: {hit.id for hit in docs.search(order_by="n", filter=f"HAS_VECTOR({name})", limit=N)} for name in query}
    hits = same(lambda docs: docs.search(query, limit=N, candidates=N, fusion=fusion(weights=weights, missing="renormalise")))
    lacking = 0
    for hit in hits:
        own = sum(weights[name] for name in query if hit.id in has[name])
        parts = [weights[name] * (arm.normalized or 0.0) for name, arm in hit.arms.items()]
        assert hit.score == pytest.approx(sum(parts) * 2.5 / own, rel=1e-5)
        lacking += own < 2.5
    assert lacking and [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)


# ---- Errors ----

WRONG = [
    ({"d": D}, {"min_score": "high"}, "min_score must be a finite number, not 'high'"),
    ({"d": D}, {"min_score": float("nan")}, "min_score must be a finite number, not nan"),
    ({"d": D}, {"radius": -1}, "radius is a squared distance, at least 0, not -1"),
    ({"d": D}, {"min_score": 0.5, "radius": 1}, "min_score and radius can't be given together"),
    ({"d": D}, {"radius": 1}, "radius is for l2 fields, but scores of 'd' are higher for better hits: give min_score"),
    (
        {"far": FAR},
        {"min_score": 1},
        "min_score is for scores where higher is better, but those of 'far' are squared distances: give radius",
    ),
    (TWO, {"min_score": 0.5}, "those of fusion 'rrf' depend on the candidates: write score='calibrated' or fusion='linear'"),
    (TWO, {"radius": 0.5}, "radius is for a search of one l2 field, but this one fuses several"),
    ({"far": FAR}, {"radius": 1, "score": "calibrated"}, "radius is a squared distance, but the scores are calibrated: give min_score"),
    ({"d": D}, {"min_score": 2, "score": "calibrated"}, "min_score of calibrated scores is a share from 0 to 1, not 2"),
    ({"d": D}, {"score": "percent"}, "score must be 'raw' or 'calibrated', not 'percent'"),
]


@pytest.mark.parametrize(("query", "options", "text"), WRONG, ids=str)
def test_wrong_bounds_are_refused(same, query, options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        same(lambda docs: docs.search(query, **options))


@pytest.mark.parametrize("options", [{"diversity": 0.3}, {"rerank": lambda query, hits: [1.0] * len(hits)}, {"group_by": "n"}])
def test_an_automatic_limit_needs_a_list_by_score(same, options):
    with pytest.raises(InvalidArgumentError, match=r"limit='auto' and .* can't be given together"):
        same(lambda docs: docs.search({"d": np.ones(8)}, limit="auto", **options))
