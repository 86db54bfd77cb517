"""Queries by examples and without directions, against formulas that are computed here from the stored vectors."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tests.congruence.filled import N
from vectordb import Arm, Dense, InvalidArgumentError, Keyword, Like, NotFoundError, Prefetch, Schema, SchemaError

FIELDS = {"d": "cosine", "far": "l2", "half": "dot"}
IDS = {"d": [0, "id 1", uuid.UUID(int=5)], "far": [6, "id 10"], "half": [12, "id 13", 15]}


@pytest.fixture(scope="module")
def rows(filled):
    """field → {id: vector}."""
    points = filled["embedded"].collection("docs").scroll(limit=1000, with_vectors=list(FIELDS))
    return {field: {point.id: point.vectors[field].astype(float) for point in points if field in point.vectors} for field in FIELDS}


def score(metric, e, p):
    if metric == "l2":
        return -((e - p) ** 2).sum()
    return e @ p if metric == "dot" else e @ p / np.linalg.norm(e) / np.linalg.norm(p)


def sigma(x):
    return 0.5 + 0.5 * x / (1 + abs(x))


def softmax(scores, t):
    powers = np.exp((scores - scores.max()) / t)
    return powers / powers.sum()


def temperature(metric, vectors):
    centred = vectors - vectors.mean(axis=0) if metric == "l2" else vectors
    return 0.1 if metric == "cosine" else 0.1 * (centred**2).sum(axis=1).mean()


def expected(metric, like, unlike, pool, context):
    """A function from a row to its score, higher is better."""
    unit = [e / np.linalg.norm(e) if metric == "cosine" else e for e in (*like, *unlike)]
    near, far = unit[: len(like)], unit[len(like) :]

    def pooled(p):
        s = np.array([score(metric, e, p) for e in near])
        t = np.array([score(metric, e, p) for e in far])
        if pool == "mean":
            mean = np.mean(near, axis=0)
            return score(metric, 2 * mean - np.mean(far, axis=0) if len(far) else mean, p)
        if pool == "attention":
            warmth = temperature(metric, np.array(unit))
            return softmax(s, warmth) @ s - (softmax(t, warmth) @ t if len(t) else 0.0)
        best, worst = (max(x, default=-np.inf) for x in (s, t))
        return best if context else sigma(best) if best > worst else -sigma(worst)

    def whole(p):
        sides = [score(metric, a, p) - score(metric, b, p) for a, b in context]
        if context and not len(like):
            return sum(min(side, 0.0) for side in sides)
        return sigma(pooled(p)) + np.sign(sides).sum() if context else pooled(p)

    return whole


CASES = {
    "like": {"like": [0, 1]},
    "one": {"like": [1]},
    "unlike": {"like": [0, 1], "unlike": ["v"]},
    "vectors": {"like": ["v", 0], "unlike": ["w"]},
    "max": {"like": [0, "v"], "unlike": ["w", 1], "pool": "max"},
    "max of like": {"like": [0, "v"], "pool": "max"},
    "max of unlike": {"unlike": [0, "v"], "pool": "max"},
    "attention": {"like": [0, 1], "unlike": ["v"], "pool": "attention"},
    "attention to like": {"like": [0, 1, "v", "w"], "pool": "attention"},
    "context": {"context": [(0, "v"), ("w", 1)]},
    "context and like": {"like": ["v"], "context": [(0, 1), ("w", "v")]},
    "context, like, max": {"like": ["v", "w"], "context": [(0, 1)], "pool": "max"},
    "context, like, attention": {"like": ["v", "w", 0], "context": [(0, 1)], "pool": "attention"},
}


def given(field, case, dim, rows):
    """(arguments with ids and vectors, the same with vectors only, the ids)."""
    rng = np.random.default_rng(4)
    named = {"v": rng.standard_normal(dim).astype(np.float32), "w": rng.standard_normal(dim).astype(np.float32)}
    ids = [IDS[field][i] for i in (0, 1)]
    used: list = []

    def one(each, found):
        if isinstance(each, str):
            return named[each].astype(float) if found else named[each]
        used.append(ids[each])
        return rows[ids[each]] if found else ids[each]

    def every(found):
        return {
            name: value
            if name == "pool"
            else [tuple(one(e, found) for e in each) if type(each) is tuple else one(each, found) for each in value]
            for name, value in CASES[case].items()
        }

    return every(False), every(True), used


def near(metric):
    return {"rel": 2e-3, "abs": 2e-3} if metric == "dot" else {"rel": 1e-4, "abs": 1e-5}  # half floats


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("field", FIELDS)
def test_points_like_examples(same, filled, rows, field, case):
    metric, points = FIELDS[field], rows[field]
    dim = len(next(iter(points.values())))
    options, found, ids = given(field, case, dim, points)
    rank = expected(metric, found.get("like", []), found.get("unlike", []), found.get("pool", "mean"), found.get("context", []))
    truth = {key: rank(p) for key, p in points.items() if key not in ids}
    mean = options.get("pool", "mean") == "mean" and "context" not in options
    shown = {key: -value if metric == "l2" and mean else value for key, value in truth.items()}
    hits = same(lambda docs: docs.search(**{k: v if k == "pool" else {field: v} for k, v in options.items()}, limit=N, explain=True))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(shown, **near(metric))
    ordered = [truth[key] for key in hits.ids.tolist()]
    assert ordered == pytest.approx(sorted(ordered, reverse=True), **near(metric))
    assert hits == filled["embedded"].collection("docs").search({field: Like(**options)}, limit=N)
    (arm,) = hits.plan["arms"]
    assert len(arm["examples"]) == len(arm["contributions"][0])
    for hit, parts in zip(hits, arm["contributions"], strict=False):
        assert sum(parts) == pytest.approx(-hit.score if metric == "l2" and mean else hit.score, **near(metric))


def test_a_filter_a_limit_stages_batches_and_arms(same, rows):
    likes = [Like([0, "id 1"]), Like(["id 7"], unlike=[9]), Like([0], pool="max"), Like(context=[(0, "id 1")])]
    found = same(lambda docs: docs.search_batch({"d": likes}, limit=5, filter="n > 20", explain=True))
    for like, hits in zip(likes, found, strict=True):
        alone = same(lambda docs, like=like: docs.search({"d": like}, limit=5, filter="n > 20"))
        assert hits.ids.tolist() == alone.ids.tolist() and len(hits) == 5 and min(hit.attributes["n"] for hit in hits) > 20
        assert np.allclose(hits.scores, alone.scores)
    filters = ["n > 20", None, "n < 50", None]
    own = same(lambda docs: docs.search_batch({"d": likes}, limit=5, filter=filters))
    for like, condition, hits in zip(likes, filters, own, strict=True):
        alone = same(lambda docs, like=like, f=condition: docs.search({"d": like}, limit=5, filter=f))
        assert hits.ids.tolist() == alone.ids.tolist()
    assert same(lambda docs: docs.prepare(limit=5, filter="n > 20").batch({"d": likes})) == found
    # A prefetch, and arms of every fusion.
    stage = Prefetch({"s": {1: 1.0, 3: 2.0}}, limit=12)
    before = same(lambda docs: docs.search(stage.vectors, limit=13)).ids.tolist()
    staged = same(lambda docs: docs.search({"d": Like([before[0]], pool="max")}, prefetch=stage, limit=12)).ids.tolist()
    assert before[0] not in staged and {*staged} == {*before[1:]}
    by_like = same(lambda docs: docs.search({"d": np.ones(8)}, prefetch=Prefetch({"d": Like([0])}, limit=6), limit=6))
    assert 0 not in by_like.ids.tolist() and len(by_like) == 6
    for fusion in ("rrf", "linear", "relative", "dbsf"):
        arms = {"a": Arm("d", Like([0], pool="max"), filter="n < 40", weight=2.0), "s": {1: 1.0, 3: 2.0}, "far": Like([6])}
        hits = same(lambda docs, a=arms, f=fusion: docs.search(a, fusion=f, limit=N, explain=True))
        assert not {0, 6} & {*hits.ids.tolist()} and hits.plan["arms"][0]["examples"] == [{"like": 0}]
        for hit in hits:
            assert hit.score == pytest.approx(sum(arm.contribution for arm in hit.arms.values()))
            if fusion == "linear":  # a pooled arm has no score for others, as l2
                assert hit.attributes["n"] < 40 and hit.arms["a"].score == pytest.approx(
                    sigma(score("cosine", rows["d"][0], rows["d"][hit.id])), rel=1e-5
                )


def test_examples_of_an_indexed_field(filled):
    docs = filled["embedded"].collection("indexed")
    for options in ({"like": [100, 200], "unlike": [300]}, {"like": [100], "pool": "max"}, {"context": [(100, 200)]}):
        for condition in (None, "n > 90"):
            hits = docs.search({"d": Like(**options)}, exact=True, filter=condition)
            truth = docs.search({"flat": Like(**options)}, filter=condition)
            assert hits.ids.tolist() == truth.ids.tolist() and not {100, 200, 300} & {*hits.ids.tolist()}
            for _ in range(3):  # a search that was seen before
                plain = docs.search({"d": np.ones(8)}, filter=condition)
                assert docs.search({"d": Like(**options)}, exact=True, filter=condition) == hits
                assert docs.search({"d": np.ones(8)}, filter=condition) == plain


WRONG = {
    "no point": ({"like": {"d": [999]}}, NotFoundError, "no point with the id 999"),
    "no vector": ({"like": {"far": ["id 7"]}}, InvalidArgumentError, "'id 7'.* no vector in field 'far'"),
    "several fields": ({"like": [0]}, InvalidArgumentError, "like needs the name of a dense field: .*d, far, half"),
    "no field": ({"like": {"nope": [0]}}, SchemaError, "nope"),
    "a sparse field": ({"like": {"s": [0]}}, InvalidArgumentError, "Like is for dense fields, and 's' is sparse"),
    "one id": ({"like": {"d": 0}}, InvalidArgumentError, r"like must be a list of ids or vectors, not 0.*write like=\[…\]"),
    "an id of a wrong type": ({"like": {"d": [True]}}, InvalidArgumentError, "like: id True"),
    "dimensions": ({"like": {"d": [[1.0, 2.0]]}}, InvalidArgumentError, "like: query vector 'd'"),
    "pool": ({"like": {"d": [0]}, "pool": "sum"}, InvalidArgumentError, "pool must be 'mean', 'max' or 'attention', not 'sum'"),
    "pool alone": ({"vectors": {"d": np.ones(8)}, "pool": "max"}, InvalidArgumentError, "pool='max' says how"),
    "unlike alone": ({"unlike": {"d": [0]}}, InvalidArgumentError, r"unlike needs examples in like \(or pool='max'\)"),
    "nothing": ({"like": {"d": []}}, InvalidArgumentError, "Like needs examples"),
    "pairs": ({"context": {"d": [(0, 6, 9)]}}, InvalidArgumentError, r"pairs \(positive, negative\)"),
    "unlike and context": ({"like": {"d": [0]}, "unlike": {"d": [6]}, "context": {"d": [(0, 6)]}}, InvalidArgumentError, "as a pair"),
    "pool of pairs": ({"context": {"d": [(0, 6)]}, "pool": "max"}, InvalidArgumentError, "leave it out with context alone"),
    "cancelled": ({"like": {"d": [np.eye(8)[0], -np.eye(8)[0]]}}, InvalidArgumentError, "cancel each other out"),
    "query and like": ({"vectors": {"d": np.ones(8)}, "like": {"d": [0]}}, InvalidArgumentError, "both a query and like"),
    "too many": ({"like": {"d": [0] * 1001}}, InvalidArgumentError, "at most 1,000 examples, not 1,001"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_examples(same, case):
    options, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        same(lambda docs: docs.search(**options))


def test_wrong_examples_of_batches(same):
    for call, text in (
        (lambda docs: docs.search_batch({"d": Like([0])}), "write a list with one for each query"),
        (lambda docs: docs.search({"d": [Like([0])]}), "for several queries write search_batch"),
        (lambda docs: docs.search_batch({"d": [Like([0]), np.ones(8)]}), "all Like"),
        (lambda docs: docs.search_batch(like={"d": [0]}), "like= is a query of search; in search_batch"),
        (lambda docs: docs.prepare(context={"d": [(0, 6)]}), "context= is a query of search"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            same(call)


# ---- Without ----


@pytest.mark.parametrize("field", FIELDS)
def test_directions_are_projected_out(same, rows, field):
    rng, metric, points = np.random.default_rng(6), FIELDS[field], rows[field]
    dim = len(next(iter(points.values())))
    q, *others = rng.standard_normal((4, dim)).astype(np.float32)
    others = [others[0], 3 * others[0], others[1]][: 2 if dim == 4 else 3]  # one depends on another
    basis, _ = np.linalg.qr(np.array([others[0], *others[2:]], float).T)
    rest = q - basis @ (basis.T @ q)
    truth = {key: (-1 if metric == "l2" else 1) * score(metric, rest, p) for key, p in points.items()}
    for given in (others, {field: others}):
        hits = same(lambda docs, g=given: docs.search({field: q}, without=g, limit=N, explain=True))
        assert {hit.id: hit.score for hit in hits} == pytest.approx(truth, **near(metric))
        facts = hits.plan["arms"][0]["without"]
        assert facts["directions"] == basis.shape[1]
        assert facts["removed"] == pytest.approx(1 - (rest @ rest) / float(q @ q), abs=1e-3)


def test_without_in_batches_stages_arms_and_prepared_searches(same):
    rng = np.random.default_rng(7)
    queries, other = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal(8)
    found = same(lambda docs: docs.search_batch({"d": queries}, without=[other], limit=5))
    prepared = same(lambda docs: docs.prepare(without={"d": [other]}, limit=5).batch({"d": queries}))
    unit = other / np.linalg.norm(other)
    for q, hits in zip(queries, found, strict=True):
        rest = q - (q @ unit) * unit
        truth = same(lambda docs, r=rest: docs.search({"d": r}, limit=5))
        assert hits.ids.tolist() == truth.ids.tolist() and np.allclose(hits.scores, truth.scores, atol=1e-5)
        for _ in range(3):
            assert same(lambda docs, q=q: docs.search({"d": q}, without=[other], limit=5)) == hits
        stage = Prefetch({"d": q}, limit=5)
        staged = same(lambda docs, q=q, s=stage: docs.search({"d": q}, prefetch=s, without=[other]))
        assert staged.ids.tolist() == hits.ids.tolist()
        arms = {"a": Arm("d", q), "s": {1: 1.0}}
        fused = same(lambda docs, a=arms: docs.search(a, without={"d": [other]}, fusion="linear", limit=5))
        truth = same(lambda docs, r=rest: docs.search({"d": r, "s": {1: 1.0}}, fusion="linear", limit=5))
        assert fused.ids.tolist() == truth.ids.tolist() and np.allclose(fused.scores, truth.scores, atol=1e-5)
    assert same(lambda docs: docs.prepare(without=[other], limit=5).batch({"d": queries})) == prepared == found
    mean = same(lambda docs: docs.search(like={"d": [0, 6]}, without=[other], limit=5, explain=True))
    assert mean.plan["arms"][0]["without"]["directions"] == 1


WITHOUT = {
    "text": ({"d": np.ones(8)}, ["snake"], InvalidArgumentError, "'snake', but vector field 'd' has no encoder"),
    "one text": ({"d": np.ones(8)}, "snake", InvalidArgumentError, "'snake', but vector field 'd' has no encoder"),
    "sparse": ({"d": np.ones(8), "s": {1: 1.0}}, [np.ones(8)], InvalidArgumentError, "dense fields, and 's' is sparse"),
    "field": ({"d": np.ones(8)}, {"far": [np.ones(4)]}, InvalidArgumentError, "names field 'far', which this search doesn't ask"),
    "no field": ({"d": np.ones(8)}, {"nope": [np.ones(4)]}, SchemaError, "nope"),
    "dimensions": ({"d": np.ones(8)}, [np.ones(4)], InvalidArgumentError, "without must be a list of texts and vectors"),
    "id": ({"d": np.ones(8)}, [7], InvalidArgumentError, "without must be a list of texts and vectors"),
    "number": ({"d": np.ones(8)}, 7, InvalidArgumentError, "without must be a list"),
    "nothing": ({"d": np.ones(8)}, [], InvalidArgumentError, "at least one"),
    "all of it": ({"d": np.ones(8)}, [np.ones(8)], InvalidArgumentError, "nothing is left of the query"),
    "zeros": ({"far": np.ones(4)}, [np.zeros(4)], InvalidArgumentError, "all zeros"),
    "pooled": ({"d": Like([0], pool="max")}, [np.ones(8)], InvalidArgumentError, "not pooled to one"),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_wrong_directions(same, case):
    vectors, without, error, text = WITHOUT[case]
    with pytest.raises(error, match=text):
        same(lambda docs: docs.search(vectors, without=without))


def test_examples_given_as_ids_go_with_pages_facets_and_groups(database):
    """Their points are left out of the hits by a filter of the query's own."""
    docs = database.create_collection("forty", Schema({"v": Dense(4)}, {"k": Keyword()}))
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    docs.upsert(ids=list(range(40)), vectors={"v": rows}, attributes={"k": [f"k{i % 4}" for i in range(40)]})
    whole = docs.search(like=[1, 2], limit=40).ids.tolist()
    assert sorted(whole) == sorted({*range(40)} - {1, 2})
    page = docs.search(like=[1, 2], limit=7)
    found = page.ids.tolist()
    while page.next is not None:
        page = docs.search(like=[1, 2], limit=7, cursor=page.next)
        found += page.ids.tolist()
    assert found == whole
    counted = docs.search(like=[1, 2], limit=5, facets=["k"], filter="k != 'k0'").facets["k"]
    assert [(each.value, each.count) for each in counted.counts] == [("k1", 10), ("k2", 10), ("k3", 10)]
    groups = docs.search(like=[1, 2], group_by="k", group_size=2).groups
    expected = {k: [i for i in whole if i % 4 == k][:2] for k in range(4)}
    assert {int(group.value[1]): group.hits.ids.tolist() for group in groups} == expected
    for example, hits in zip((1, 2), docs.search_batch({"v": [Like([1]), Like([2])]}, group_by="k", groups=2), strict=True):
        alone = docs.search(like=[example], group_by="k", groups=2)
        assert [(group.value, group.hits.ids.tolist()) for group in hits.groups] == [
            (group.value, group.hits.ids.tolist()) for group in alone.groups
        ]
