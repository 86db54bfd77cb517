"""Concepts as users of a directory and of a service have them: named, filtered by, steered along; against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.places import plain
from vectordb import CSR, RRF, SAE, Dense, F, FilterError, Int, InvalidArgumentError, Like, Prefetch, Schema, SchemaError, Sparse, Text
from vectordb.derivations import DERIVATIONS, sae, sparse
from vectordb.engine.deriving import made_of

N, DIM, K, HIDDEN = 240, 12, 5, 32


@pytest.fixture(autouse=True)
def short_fits(monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 12)


def rows(n=N, seed=1):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, DIM))
    return (centres[rng.integers(0, 20, n)] + 0.3 * rng.standard_normal((n, DIM))).astype(np.float32)


def filled(database, metric="cosine", signed=False):
    given = SAE("v", hidden=HIDDEN, k=K, signed=signed)
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, metric), "c": Sparse(derived=given)}, {"n": Int(), "t": Text()}))
    values = rows()
    vectors = [value if i % 9 else None for i, value in enumerate(values)]
    docs.upsert(ids=range(N), vectors={"v": vectors}, attributes={"n": range(N), "t": [f"about topic{i % 4}" for i in range(N)]})
    docs.fit("c")
    return docs, values


def learned(embedded):
    with embedded["docs"]._snapshots.pin() as view:
        return made_of(view.txn, view.store.collection, view.fields["c"]).parts, view.schema.vectors["c"]


def matrix(embedded, values):
    """The codes of vectors made again, ``(n, 32)`` float32."""
    parts, spec = learned(embedded)
    codes = DERIVATIONS["sae"].derive(spec.derived, spec, parts, np.ascontiguousarray(values))
    whole = np.zeros((len(values), HIDDEN), np.float32)
    whole[np.repeat(np.arange(len(values)), np.diff(codes.indptr)), codes.terms.astype(np.int64)] = codes.weights
    return whole


OPS = {"ge": np.greater_equal, "gt": np.greater, "le": np.less_equal, "lt": np.less, "eq": np.equal}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "eq": "="}


@pytest.mark.parametrize("signed", [False, True])
def test_filters_by_a_concept_equal_the_set_made_again(database, embedded, signed):
    docs, values = filled(database, signed=signed)
    docs.delete([10, 11])
    docs.upsert(ids=[12, 900], vectors={"v": values[20:22]})  # rows that came later
    now = {i: values[i] for i in range(N) if i % 9 and i not in (10, 11)} | {12: values[20], 900: values[21]}
    made = dict(zip(now, matrix(embedded, np.stack(list(now.values()))), strict=True))
    made = {i: code for i, code in made.items() if code.any()}
    everyone = {p.id for p in docs}
    ids, whole = np.array(list(made)), np.stack(list(made.values()))
    for term in (0, 31):
        for value in (0.3, 0.0, -0.2):
            for op, compare in OPS.items():
                true = set(ids[compare(whole[:, term], np.float32(value))].tolist())
                built = getattr(F.concept("c", term), f"__{op}__")(value)
                json = {"op": "concept", "field": "c", "concept": term, "compare": op, "value": value}
                assert {p.id for p in docs.iterate(filter=built)} == true
                assert docs.count(f"CONCEPT(c, {term}) {SIGNS[op]} {value!r}") == docs.count(json) == len(true)
            assert docs.count(F.concept("c", term) != value) == len(everyone - set(ids[whole[:, term] == np.float32(value)].tolist()))
    term = int(np.argmax((whole > 0.1).sum(axis=0)))
    true = {int(i) for i in ids[whole[:, term] >= np.float32(0.1)]}
    condition = F.concept("c", term) >= 0.1
    assert {hit.id for hit in docs.search({"v": values[5]}, filter=condition, limit=N)} == true
    assert {hit.id for hit in docs.search({"c": values[5]}, filter=condition & (F("n") < 100), limit=N)} <= {i for i in true if i < 100}
    assert docs.count(~condition) == len(everyone) - len(true)
    several = docs.search_batch({"v": values[5:7]}, filter=[condition, None], limit=N)
    assert {hit.id for hit in several[0]} == true
    plan = docs.search({"v": values[5]}, filter=condition, explain=True).plan
    assert plan["filter"]["matches"] == len(true)


def test_a_named_concept_is_shown_and_keeps_its_name(database):
    docs, values = filled(database)
    labels = docs.terms("c")
    assert labels and all("topic" in word for word in labels.values())
    arm = docs.search({"c": values[7]}, limit=2, explain=True).plan["arms"][0]
    heaviest = max(arm["terms"], key=lambda part: part["weight"])["term"]
    docs.set_terms("c", {heaviest: "fruit"})
    assert docs.terms("c")[heaviest] == "fruit" and "fruit" in str(docs.search({"c": values[7]}, limit=2, explain=True).plan)
    report = docs.report("c")
    assert report["concepts"][str(heaviest)]["named"] and report["families"] is not None and 0 <= report["residual"] < 20
    docs.fit("c")  # to the same points: all latents are the same
    assert docs.terms("c")[heaviest] == "fruit" and docs.report("c")["lost"] == {}
    docs.set_terms("c", {heaviest: None})
    assert docs.terms("c") == labels


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_a_steered_search_is_one_of_the_moved_query(database, embedded, metric):
    docs, values = filled(database, metric)
    (code,) = matrix(embedded, values[30:31])
    parts, _ = learned(embedded)
    unit = values[30].astype(np.float64) / np.linalg.norm(values[30])
    moved = unit + (0.9 - code[4]) * parts["decoder"][4] + (0.0 - code[8]) * parts["decoder"][8]
    moved = (moved / np.linalg.norm(moved) * np.linalg.norm(values[30])).astype(np.float32)
    wanted = docs.search({"v": moved}, limit=10, exact=True)
    for given in ({4: 0.9, 8: 0}, {"c": {4: 0.9, 8: 0.0}}):
        hits = docs.search({"v": values[30]}, limit=10, steer=given, explain=True)
        assert hits.ids.tolist() == wanted.ids.tolist()
        np.testing.assert_allclose(hits.scores, wanted.scores, rtol=1e-4, atol=1e-5)
    told = hits.plan["arms"][0]["steered"]
    assert [(each["field"], each["concept"], each["asked"]) for each in told] == [("c", 4, 0.9), ("c", 8, 0.0)]
    assert told[0]["before"] == pytest.approx(float(code[4]), abs=1e-3) and "steered along concept 4" in str(hits.plan)
    batch = docs.search_batch({"v": values[[30, 31]]}, limit=5, steer={4: 0.9})
    assert plain(list(batch)) == plain([docs.search({"v": values[i]}, limit=5, steer={4: 0.9}) for i in (30, 31)])
    page = docs.search({"v": values[30]}, limit=4, steer={4: 0.9})
    following = docs.search({"v": values[30]}, limit=4, steer={4: 0.9}, cursor=page.next)
    assert [*page.ids, *following.ids] == docs.search({"v": values[30]}, limit=8, steer={4: 0.9}).ids.tolist()
    given = moved_of(values[30], code, parts)
    by_hand = docs.search({"v": given}, prefetch=Prefetch({"v": given}, limit=50), filter="n < 100", limit=5)
    funnel = Prefetch({"v": values[30]}, limit=50)
    assert docs.search({"v": values[30]}, prefetch=funnel, filter="n < 100", limit=5, steer={4: 0.9}).ids.tolist() == by_hand.ids.tolist()
    fused = docs.search({"v": values[30], "c": values[30]}, fusion=RRF(), steer={4: 0.9}, limit=5, explain=True)
    assert [arm.get("steered") is not None for arm in fused.plan["arms"]] == [True, False]
    assert len(docs.search({"v": Like([31, 32])}, steer={4: 0.9}, limit=5)) == 5


def moved_of(query, code, parts):
    """The query with the weight 0.9 of concept 4."""
    unit = query.astype(np.float64) / np.linalg.norm(query)
    moved = unit + (0.9 - code[4]) * parts["decoder"][4]
    return (moved / np.linalg.norm(moved) * np.linalg.norm(query)).astype(np.float32)


WRONG = [
    ({}, InvalidArgumentError, "must say which concept"),
    (5, InvalidArgumentError, "must say which concept"),
    ({HIDDEN: 1.0}, InvalidArgumentError, "has the concepts 0 to 31, not 32"),
    ({-1: 1.0}, InvalidArgumentError, "by their numbers"),
    ({"fruit": 1.0}, InvalidArgumentError, "by their numbers"),
    ({3: float("nan")}, InvalidArgumentError, "must be a number from"),
    ({3: "much"}, InvalidArgumentError, "must be a number from"),
    ({"v": {3: 1.0}}, InvalidArgumentError, "no concepts to steer by"),
    ({"nope": {3: 1.0}}, SchemaError, "nope"),
    ({"c": {}}, InvalidArgumentError, "concepts with weights for each field"),
]


def test_wrong_concepts_are_refused(database):
    docs, values = filled(database)
    for given, kind, words in WRONG:
        with pytest.raises(kind, match=words):
            docs.search({"v": values[1]}, steer=given)
    with pytest.raises(InvalidArgumentError, match="there is none"):
        docs.search({"c": {1: 1.0}}, steer={3: 1.0})
    with pytest.raises(InvalidArgumentError, match="examples that are not pooled"):
        docs.search({"v": Like([values[1], values[2]], pool="max")}, steer={3: 1.0})
    docs.add_fields(vectors={"d": Sparse(derived=SAE("v", hidden=16, k=2)), "r": Sparse(derived=CSR("v", hidden=16, k=2))})
    with pytest.raises(InvalidArgumentError, match="steer must name the field"):
        docs.search({"v": values[1]}, steer={3: 1.0})
    for condition, words in (
        ("CONCEPT(v, 3) > 1", "no field of concepts"),
        ("CONCEPT(n, 3) > 1", "no field of concepts"),
        ("CONCEPT(c, 32) > 1", "has the concepts 0 to 31, not 32"),
        ("CONCEPT(c, 'fruit') > 1", "write its number"),
        ("CONCEPT(c) > 1", "the number of the concept"),
        ("CONCEPT(c, 3) > 'much'", "compared with a number"),
        ("CONCEPT(c, 3)", "a comparison"),
    ):
        with pytest.raises(FilterError, match=words):
            docs.count(condition)
    with pytest.raises(FilterError, match="alone is not a filter"):
        docs.count(F.concept("c", 3) & F.concept("c", 4))
    with pytest.raises(SchemaError, match="signed must be True or False"):
        SAE("v", signed="yes")
    with pytest.raises(SchemaError, match="k of SAE must be less than hidden"):
        Schema({"v": Dense(4), "c": Sparse(derived=SAE("v", hidden=16, k=16))})
    with pytest.raises(SchemaError, match="SAE takes a source with the metric"):
        Schema({"v": Dense(4, "l2"), "c": Sparse(derived=SAE("v"))})
    assert sae.ALIKE == 0.7 and Schema.from_dict(docs.schema.to_dict()) == docs.schema
