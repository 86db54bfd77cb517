"""Boosts by attributes, against factors and rankings that are computed here over all points."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pytest

from tests.congruence.filled import N
from vectordb import Arm, Decay, F, FilterError, If, InvalidArgumentError, Like, Linear, Prefetch, SchemaError, Value

D = np.arange(1.0, 9.0)
FAR = [0.5, -1.0, 0.0, 2.0]
ORIGIN = datetime.datetime(2024, 1, 3, tzinfo=datetime.UTC)
QUERIES = {
    "cosine": {"vectors": {"d": D}},
    "l2": {"vectors": {"far": FAR}},
    "dot": {"vectors": {"half": FAR}},
    "sparse": {"vectors": {"s": {3: 1.0, 7: 0.5}}},
    "text": {"text": {"words": "the fox dog"}},
    "multi": {"vectors": {"m": np.ones((2, 4))}},
    "linear": {"vectors": {"d": D, "s": {3: 1.0}, "far": FAR}, "fusion": "linear"},
    "rrf": {"vectors": {"d": D, "s": {3: 1.0}}},
    "dbsf": {"vectors": {"d": D, "s": {3: 1.0}}, "fusion": "dbsf"},
    "relative": {"vectors": {"d": D, "far": FAR}, "fusion": "relative"},
    "arms": {"vectors": {"a": Arm("d", D, filter="n < 50"), "b": ("d", -D)}, "fusion": Linear({"b": 0.5})},
    "examples": {"like": {"d": [0, "id 1"]}, "pool": "max"},
}


def half(distance, life, floor=1e-6):
    return floor + (1 - floor) * 2 ** (-abs(distance) / life)


BOOSTS = {
    "decay": ([Decay("at", "12h", origin=ORIGIN)], lambda a: half((a["at"] - ORIGIN).total_seconds(), 43_200)),
    "decay of a number": (Decay("n", 10, origin=30, floor=0.2), lambda a: half(a["n"] - 30, 10, 0.2)),
    "value": ([Value("n", log=True)], lambda a: 1 + math.log1p(a["n"])),
    "value of some": ([Value("x", weight=0.5, missing=3.0)], lambda a: 3.0 if a["x"] is None else 1 + 0.5 * a["x"]),
    "if": ([If("lang = 'en'", 1.5)], lambda a: 1.5 if a["lang"] == "en" else 1.0),
    "less": (If(F("n") > 40, 0.25), lambda a: 0.25 if a["n"] > 40 else 1.0),
    "all": (
        [Decay("n", 20.0, origin=10, missing=0.5), Value("x", log=True), If({"op": "eq", "field": "ok", "value": True}, 2.0)],
        lambda a: half(a["n"] - 10, 20) * (1.0 if a["x"] is None else 1 + math.log1p(a["x"])) * (2.0 if a["ok"] else 1.0),
    ),
}


def expected(hits, factor, distance):
    """id → boosted score, of hits without boosts."""
    found = {}
    for hit in hits:
        f = factor({"x": None, "ok": None, "lang": None} | hit.attributes)
        found[hit.id] = hit.score / f if distance or hit.score < 0 else hit.score * f
    return found


@pytest.mark.parametrize("boost", BOOSTS)
@pytest.mark.parametrize("query", QUERIES)
def test_boosts(filled, same, query, boost):
    given, factor = BOOSTS[boost]
    lists = query in ("rrf", "dbsf", "relative")
    options = QUERIES[query] | ({"candidates": N} if lists else {})
    docs, distance = filled["embedded"].collection("docs"), query == "l2"
    for condition in (None, "n > 10"):
        truth = expected(docs.search(**options, filter=condition, limit=N), factor, distance)
        ranked = sorted(truth.items(), key=lambda item: item[1] if distance else -item[1])
        hits = docs.search(**options, boost=given, filter=condition, limit=6, explain=True)
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in ranked[:6]], rel=1e-4)
        assert {hit.id: hit.score for hit in hits} == pytest.approx({hit.id: truth[hit.id] for hit in hits}, rel=1e-4)
        assert hits.plan["boost"]["proven"] is (None if lists else True)
        for hit, score, factors in zip(hits, hits.plan["boost"]["scores"], hits.plan["boost"]["factors"], strict=True):
            assert hit.score == pytest.approx(score / np.prod(factors) if distance or score < 0 else score * np.prod(factors))
            if hit.arms:
                assert sum(arm.contribution for arm in hit.arms.values()) == pytest.approx(hit.score)
                assert hit.arms["boost"].weight == pytest.approx(np.prod(factors))
        if condition is None and boost in ("all", "decay"):
            assert same(lambda docs: docs.search(**options, boost=given, limit=6)).ids.tolist() == hits.ids.tolist()


@pytest.mark.parametrize("missing", ["zero", "renormalise"])
def test_the_parts_of_a_boosted_sum_are_those_without_boosts(filled, same, missing):
    query = {"vectors": {"d": D, "s": {3: 1.0}, "far": FAR}, "fusion": Linear({"s": 2.0}, missing=missing)}
    plain = {hit.id: hit.arms for hit in filled["embedded"].collection("docs").search(**query, limit=N)}
    hits = same(lambda docs: docs.search(**query, boost=Value("n"), limit=9))
    assert len(hits) == 9
    for hit in hits:
        parts = {name: (part.weight, part.contribution, part.missing) for name, part in hit.arms.items() if name != "boost"}
        assert parts == {name: (part.weight, part.contribution, part.missing) for name, part in plain[hit.id].items()}
        assert sum(part.contribution for part in hit.arms.values()) == pytest.approx(hit.score)


def test_boosts_go_as_deep_as_they_must(filled):
    """The best point by far is last without its boost."""
    docs = filled["embedded"].collection("indexed")
    q = np.random.default_rng(2).standard_normal(8)
    last = docs.search({"flat": q}, limit=500).ids.tolist()[-1]
    for field in ("d", "flat"):
        for exact in (True, False):
            hits = docs.search({field: -q}, boost=If(F("n") == last, 50.0), limit=1, exact=exact, explain=True)
            assert hits[0].id == last and hits.plan["boost"]["depth"] == 100
    wide = docs.search({"flat": q}, boost=[Value("n", weight=1e3)], limit=60, explain=True)
    truth = expected(docs.search({"flat": q}, limit=500), lambda a: 1 + 1e3 * a["n"], False)
    assert wide.ids.tolist() == sorted(truth, key=lambda key: -truth[key])[:60] and wide.plan["boost"]["depth"] >= 240
    assert wide.plan["boost"]["highest"] == [1 + 1e3 * 449] and wide.plan["boost"]["proven"]
    approximate = docs.search({"d": q}, boost=[Value("n", weight=1e3)], limit=60, recall=0.9, explain=True)
    assert approximate.plan["boost"]["proven"] is False
    text = str(wide.plan)
    assert "boost: proven to be the true best, from the best " in text and "value(n, weight=1000.0): at most 4.49e+05" in text


def test_boosts_in_batches_stages_and_prepared_searches(same):
    queries, boosts = np.random.default_rng(4).standard_normal((3, 8)), [Value("n", log=True), If("lang = 'en'", 3)]
    found = same(lambda docs: docs.search_batch({"d": queries}, boost=boosts, limit=5))
    own = same(lambda docs: docs.search_batch({"d": queries}, boost=boosts, limit=5, filter=["n > 40", None, "n < 9"]))
    prepared = same(lambda docs: docs.prepare(boost=boosts, limit=5).batch({"d": queries}))
    for q, filter, hits, filtered, again in zip(queries, ["n > 40", None, "n < 9"], found, own, prepared, strict=True):
        assert hits == again == same(lambda docs, q=q: docs.search({"d": q}, boost=boosts, limit=5))
        assert filtered == same(lambda docs, q=q, f=filter: docs.search({"d": q}, boost=boosts, limit=5, filter=f))
        for _ in range(3):  # also when such a search was seen before
            assert same(lambda docs, q=q: docs.prepare(boost=boosts, limit=5)({"d": q})) == hits
            assert (
                same(lambda docs, q=q: docs.search({"d": q}, boost=boosts, limit=5, with_attributes=False)).ids.tolist()
                == hits.ids.tolist()
            )
        staged = same(lambda docs, q=q: docs.search({"d": q}, boost=boosts, limit=5, prefetch=Prefetch({"d": q}, limit=N)))
        assert staged.ids.tolist() == hits.ids.tolist()
    assert len(same(lambda docs: docs.search({"d": D}, boost=[]))) == 10
    likes = same(lambda docs: docs.search_batch({"d": [Like([0]), Like([6])]}, boost=boosts, limit=4))
    assert likes[1] == same(lambda docs: docs.search({"d": Like([6])}, boost=boosts, limit=4))


def test_a_decay_from_now(same):
    """The newest point has the highest factor, by the ratio of the halves."""
    hits = same(lambda docs: [hit.id for hit in docs.search({"d": D}, boost=Decay("at", "1y", floor=1e-6), limit=5)])
    recent = same(lambda docs: [hit.id for hit in docs.search({"d": D}, boost=Decay("at", "1y", origin="2100-01-01"), limit=5)])
    assert hits == recent


WRONG = {
    "type": (3, InvalidArgumentError, r"boost must be a list of Decay\(…\), Value\(…\), If\(…\), not 3"),
    "class": ([Value], InvalidArgumentError, "boost must be a list of"),
    "attribute": (Value("nope"), SchemaError, "nope"),
    "no name": (Value(""), InvalidArgumentError, "Value needs the name of an attribute"),
    "keyword": (Value("lang"), InvalidArgumentError, "Value needs an Int or Float with one value a point, and 'lang' is keyword"),
    "moment": (Value("at"), InvalidArgumentError, "Value needs an Int or Float"),
    "array": (Decay("tags", 3, origin=1), InvalidArgumentError, "Decay needs a Datetime, Int or Float"),
    "place": (Decay("where", 3, origin=1), InvalidArgumentError, "Decay needs a Datetime, Int or Float"),
    "origin": (Decay("n", 3), InvalidArgumentError, "Decay needs an origin"),
    "wrong origin": (Decay("at", 3, origin="soon"), InvalidArgumentError, "origin of Decay: .*'soon'"),
    "half life": (
        Decay("at", "soon"),
        InvalidArgumentError,
        "half_life of Decay must be a number above 0 or a text such as '30d', not 'soon'",
    ),
    "a span of numbers": (Decay("n", "30d", origin=3), InvalidArgumentError, "half_life of Decay must be a number for the int 'n'"),
    "zero": (Decay("n", 0, origin=3), InvalidArgumentError, "half_life of Decay must be a number above 0"),
    "floor": (Decay("n", 1, origin=3, floor=1), InvalidArgumentError, "floor of Decay must be from 1e-6 and below 1"),
    "weight": (Value("n", weight=0), InvalidArgumentError, "weight of Value must be a number above 0"),
    "log": (Value("n", log=2), InvalidArgumentError, "log of Value must be True or False"),
    "factor": (If("n > 1", -1), InvalidArgumentError, "factor of If must be a number above 0"),
    "filter": (If("id > 1", 2), FilterError, "boost If: .*id"),
    "no filter": (If(None, 2), InvalidArgumentError, "If needs a filter"),
    "many": ([Value("n")] * 33, InvalidArgumentError, "at most 32 boosts, not 33"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_boosts(same, case):
    boost, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        same(lambda docs: docs.search({"d": D}, boost=boost))
    with pytest.raises(error, match=text):
        same(lambda docs: docs.prepare(boost=boost))


def test_an_arm_is_not_named_as_the_boosts(same):
    with pytest.raises(InvalidArgumentError, match="so no arm can be"):
        same(lambda docs: docs.search({"boost": ("d", D), "s": {1: 1.0}}, boost=Value("n")))


# ---- Attribute arms of linear fusion ----

ATTRIBUTES = {"fresh": Decay("at", "12h", origin=ORIGIN), "big": Value("x", log=True), "english": If("lang = 'en'", 0.5)}
WEIGHTS = {"d": 1.0, "fresh": 0.7, "big": 0.2}


def attribute_sum(a):
    big = 0.0 if a.get("x") is None else math.log1p(a["x"])
    return 0.7 * half((a["at"] - ORIGIN).total_seconds(), 43_200) + 0.2 * big + (0.5 if a.get("lang") == "en" else 0.0)


@pytest.mark.parametrize(
    "query", [{"d": D}, {"d": D, "s": {3: 1.0, 7: 0.5}}, {"d": D, "far": FAR}, {"a": Arm("d", D, filter="n < 50")}], ids=str
)
@pytest.mark.parametrize("condition", [None, "n > 10"])
def test_attribute_arms(same, query, condition):
    weights = WEIGHTS if "d" in query else {name: weight for name, weight in WEIGHTS.items() if name != "d"}
    points = same(lambda docs: list(docs.iterate(filter=condition)))
    truth = {point.id: attribute_sum(point.attributes) for point in points}
    for name, each in query.items():
        found = {hit.id: hit.score for hit in same(lambda docs, n=name, e=each: docs.search({n: e}, filter=condition, limit=N))}
        sign = -1 if name == "far" else 1
        truth = {key: score + sign * found.get(key, 0.0) for key, score in truth.items() if name != "far" or key in found}
    for limit in (5, N):
        fusion = Linear(weights, attributes=ATTRIBUTES)
        hits = same(lambda docs, f=fusion, n=limit: docs.search(query, fusion=f, filter=condition, limit=n, explain=True))
        ranked = sorted(truth.values(), reverse=True)[:limit]
        assert [hit.score for hit in hits] == pytest.approx(ranked, rel=1e-4, abs=1e-5)
        assert hits.plan["fusion"]["proven"] and hits.plan["fusion"]["attributes"].keys() == ATTRIBUTES.keys()
        for hit in hits:
            assert hit.score == pytest.approx(truth[hit.id], rel=1e-4, abs=1e-5)
            assert {*hit.arms} == {*query, *ATTRIBUTES}
            assert sum(arm.contribution for arm in hit.arms.values()) == pytest.approx(hit.score, abs=1e-6)
            assert hit.arms["big"].missing == (hit.attributes.get("x") is None)


def test_attribute_arms_in_batches_stages_with_boosts_and_missing_fields(same, filled):
    fusion = Linear({"fresh": 0.5}, attributes={"fresh": Decay("n", 20, origin=70)})
    queries = np.random.default_rng(5).standard_normal((3, 8))
    found = same(lambda docs: docs.search_batch({"d": queries}, fusion=fusion, limit=5))
    prepared = same(lambda docs: docs.prepare(fusion=fusion, limit=5).batch({"d": queries}))
    for q, hits, again in zip(queries, found, prepared, strict=True):
        for _ in range(3):
            assert hits == again == same(lambda docs, q=q: docs.search({"d": q}, fusion=fusion, limit=5))
        stage = Prefetch({"d": q}, fusion=fusion, limit=5)
        staged = same(lambda docs, q=q, s=stage: docs.search({"d": q}, prefetch=s, limit=5))
        assert {*staged.ids.tolist()} == {*hits.ids.tolist()}
        among = same(lambda docs, q=q: docs.search({"d": q}, fusion=fusion, prefetch=Prefetch({"d": q}, limit=N), limit=5))
        assert among.ids.tolist() == hits.ids.tolist()
    whole = same(lambda docs: docs.search({"d": D}, fusion=fusion, limit=N))
    raised = same(lambda docs: docs.search({"d": D}, fusion=fusion, boost=If("n < 20", 3.0), limit=4))
    truth = sorted([hit.score * 3.0 if hit.attributes["n"] < 20 and hit.score > 0 else hit.score for hit in whole], reverse=True)
    assert [hit.score for hit in raised] == pytest.approx(truth[:4])
    both = Linear(missing="renormalise", attributes={"fresh": Decay("n", 20, origin=70)})
    hits = same(lambda docs: docs.search({"half": FAR, "d": D}, fusion=both, limit=N))
    for hit in hits:
        assert hit.arms["fresh"].contribution == pytest.approx(half(hit.attributes["n"] - 70, 20), rel=1e-5)
        assert hit.arms["d"].weight == (2.0 if hit.arms["half"].missing else 1.0)
    indexed = filled["embedded"].collection("indexed")
    proven, truth = (indexed.search({f: queries[0]}, fusion=fusion, limit=9, explain=True) for f in ("d", "flat"))
    assert proven.ids.tolist() == truth.ids.tolist() and proven.plan["fusion"]["proven"]


def test_wrong_attribute_arms(same):
    for fusion, error, text in (
        (Linear(attributes={"a": 3}), InvalidArgumentError, "attributes of Linear must be a list of Decay"),
        (Linear(attributes=[Value("n")]), InvalidArgumentError, "attributes of Linear must map names to boosts"),
        (Linear(attributes={"a": Value("nope")}), SchemaError, "nope"),
        (Linear(attributes={"d": Value("n")}), InvalidArgumentError, "both named 'd'"),
        (Linear({"b": 2.0}, attributes={"a": Value("n")}), InvalidArgumentError, "a weight for 'b'"),
    ):
        with pytest.raises(error, match=text):
            same(lambda docs, f=fusion: docs.search({"d": D}, fusion=f))


def test_weights_of_attribute_arms_are_learned(same):
    """One point is the relevant one, whatever the query."""
    queries = np.random.default_rng(3).standard_normal((8, 8))
    arms = {"fresh": Decay("n", 10, origin=87), "lucky": Decay("x", 0.1, origin=3)}
    qrels = [{87: 1.0} for _ in queries]
    tuning = same(lambda docs: docs.tune_fusion({"d": queries}, qrels, limit=5, folds=2, attributes=arms), places=["embedded", "served"])
    assert tuning.fusion.attributes == arms and tuning.fusion.weights["fresh"] == 1.0
    assert {*tuning.ndcg} == {"rrf", "linear", "d alone", "fresh alone", "lucky alone"} and tuning.ndcg["linear"] > 0.9 > tuning.ndcg["rrf"]
    hits = same(lambda docs: docs.search({"d": queries[0]}, fusion=tuning.fusion, limit=5))
    assert 87 in hits.ids.tolist()
