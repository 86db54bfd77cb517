"""Sparse fields derived from dense ones, as users of a directory and of a service have them, against a product by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.places import plain
from vectordb import CSR, RRF, Arm, Dense, Int, InvalidArgumentError, PreconditionError, Prefetch, Schema, SchemaError, Sparse, TopTerms
from vectordb.derivations import DERIVATIONS, sparse
from vectordb.engine.deriving import made_of

N, DIM, K = 240, 12, 6
GIVEN = CSR("v", hidden=48, k=K)


@pytest.fixture(autouse=True)
def short_fits(monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 12)


def rows(n=N, seed=1):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((20, DIM))
    return (centres[rng.integers(0, 20, n)] + 0.3 * rng.standard_normal((n, DIM))).astype(np.float32)


def filled(database, metric="cosine"):
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, metric), "codes": Sparse(derived=GIVEN)}, {"n": Int()}))
    values = rows()
    docs.upsert(ids=range(N), vectors={"v": [value if i % 9 else None for i, value in enumerate(values)]}, attributes={"n": range(N)})
    report = docs.fit("codes")
    assert report["state"] == "ready" and report["dim"] == 48 and report["source_dim"] == DIM
    return docs, values


def matrix(embedded, values):
    """The codes of vectors, ``(n, 48)`` float32, as the database makes them."""
    with embedded["docs"]._snapshots.pin() as view:
        parts, spec = made_of(view.txn, view.store.collection, view.fields["codes"]).parts, view.schema.vectors["codes"]
    codes = DERIVATIONS["csr"].derive(GIVEN, spec, parts, np.ascontiguousarray(values))
    whole = np.zeros((len(values), 48), np.float32)
    whole[np.repeat(np.arange(len(values)), np.diff(codes.indptr)), codes.terms.astype(np.int64)] = codes.weights
    return whole


def cut(code, k):
    """The code with its k heaviest terms alone."""
    return np.where(np.isin(np.arange(len(code)), np.argsort(-code, kind="stable")[:k]), code, 0).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_each_write_makes_codes_and_searches_score_their_product(database, embedded, metric):
    docs, values = filled(database, metric)
    docs.upsert(ids=[5, 1000], vectors={"v": [values[6], values[7]]})
    docs.update(ids=[7], vectors={"v": [values[8] * 3]})
    docs.update(ids=[10], attributes={"n": [-1]})
    docs.update(ids=[11], vectors={"v": None})
    docs.delete([12, 13])
    now = {i: value for i, value in enumerate(values) if i % 9 and i not in (11, 12, 13)}
    now |= {5: values[6], 1000: values[7], 7: values[8] * 3}
    made = dict(zip(now, matrix(embedded, np.stack(list(now.values()))), strict=True))
    stored = {p.id: p.vectors["codes"] for p in docs.iterate(with_vectors=["codes"]) if "codes" in p.vectors}
    assert stored.keys() == {i for i, code in made.items() if code.any()} and docs.count("HAS_VECTOR(codes)") == len(stored)
    for i, (terms, weights) in stored.items():
        assert np.flatnonzero(made[i]).tolist() == terms.tolist() and made[i][made[i] > 0].tobytes() == weights.tobytes()
        assert len(terms) <= K and np.linalg.norm(weights) == pytest.approx(np.linalg.norm(now[i]) if metric == "dot" else 1, rel=1e-5)
    query = values[20] * 1.5
    (own,) = matrix(embedded, query[None])
    for k in (None, 1, 3):
        asked = own if k is None else cut(own, k)
        scores = {i: float(code.astype(np.float64) @ asked) for i, code in made.items() if code @ asked}
        best = sorted(scores.values(), reverse=True)
        terms = {int(t): float(asked[t]) for t in np.flatnonzero(asked)}
        for given in (query if k is None else TopTerms(query, k), TopTerms(query.tolist(), k), terms):
            for exact in (True, False):
                hits = docs.search({"codes": given}, limit=1000, exact=exact)
                np.testing.assert_allclose(hits.scores, best, rtol=1e-4, atol=1e-6)
                assert all(scores[hit.id] == pytest.approx(hit.score, rel=1e-4) for hit in hits)
        few = docs.search({"codes": TopTerms(query, k)}, filter="n < 40", limit=1000)
        assert sorted(few.ids.tolist()) == sorted(i for i in scores if i < 40 and i != 5)
    several = np.stack([query, values[3], values[8]])
    for k in (None, 2):
        asked = docs.search_batch({"codes": TopTerms(several, k)}, limit=5)
        assert plain(list(asked)) == plain([docs.search({"codes": TopTerms(q, k)}, limit=5) for q in several])
    mixed = docs.search_batch({"codes": [TopTerms(query, 2), values[3]]}, limit=5)
    assert plain(list(mixed)) == plain([docs.search({"codes": q}, limit=5) for q in (TopTerms(query, 2), values[3])])
    assert plain(list(docs.search_batch({"codes": several}, limit=5))) == plain([docs.search({"codes": q}, limit=5) for q in several])


def test_codes_are_prefetched_fused_named_and_explained(database, embedded):
    docs, values = filled(database)
    query = values[30]
    (own,) = matrix(embedded, query[None])
    matches = (matrix(embedded, values) @ own > 0) & (np.arange(N) % 9 > 0)
    exact = [hit.id for hit in docs.search({"v": query}, limit=N, exact=True) if matches[hit.id]]
    funnel = docs.search({"v": query}, prefetch=Prefetch({"codes": query}, limit=N), limit=12)
    assert funnel.ids.tolist() == exact[:12]
    small = docs.search({"v": query}, prefetch=Prefetch({"codes": TopTerms(query, 3)}, limit=60), limit=5)
    assert small[0].id == 30
    fused = docs.search({"v": query, "codes": TopTerms(query, 2)}, fusion=RRF(), limit=5, explain=True)
    assert {arm["field"]: arm.get("derived") for arm in fused.plan["arms"]} == {"v": None, "codes": "csr of v"}
    named = docs.search({"a": Arm("codes", TopTerms(query, 2)), "b": Arm("codes", query)}, limit=5, explain=True)
    assert [len(arm["terms"]) for arm in named.plan["arms"]] == [2, K]
    heaviest = named.plan["arms"][0]["terms"][0]["term"]
    docs.set_terms("codes", {heaviest: "a concept"})
    with pytest.raises(InvalidArgumentError, match="terms: 'codes' is derived by csr and has the terms 0 to 47, not 48"):
        docs.set_terms("codes", {48: "beyond"})
    told = docs.search({"codes": query}, limit=3, explain=True).plan["arms"][0]
    words = [[part.get("word") for part in row if part["term"] == heaviest] for row in told["matched"]]
    assert ["a concept"] in words and "csr of v" in str(docs.search({"codes": query}, limit=3, explain=True).plan)
    assert "recall@10" in str(docs.info()) and docs.info().statistics["codes"]["derived"]["dead"] >= 0
    page = docs.search({"codes": TopTerms(query, 4)}, limit=4)
    following = docs.search({"codes": TopTerms(query, 4)}, limit=4, cursor=page.next)
    assert [*page.ids, *following.ids] == docs.search({"codes": TopTerms(query, 4)}, limit=8).ids.tolist()
    docs.fit("codes")
    assert docs.terms("codes") == {}  # they named terms of the other fit


def test_codes_of_points_that_exist_are_made_and_need_a_fit(database):
    docs = database.create_collection("docs", Schema({"v": Dense(DIM)}))
    docs.upsert(ids=range(N), vectors={"v": rows()})
    docs.add_fields(vectors={"codes": Sparse(derived=GIVEN)})
    with pytest.raises(PreconditionError, match="not fitted"):
        docs.search({"codes": rows()[0]})
    with pytest.raises(InvalidArgumentError, match="it needs 600"):
        docs.add_fields(vectors={"wide": Sparse(derived=CSR("v", hidden=300))})
        docs.fit("wide")
    assert docs.fit("codes")["version"] == 1 and docs.search({"codes": rows()[3]}, limit=1)[0].score > 0.5
    assert sorted(docs.report("codes")["recall_by_terms"]) == ["1", "3", "6"]
    docs.rename_fields({"v": "w"})
    assert docs.schema.vectors["codes"].derived.source == "w" and Schema.from_dict(docs.schema.to_dict()) == docs.schema


WRONG = [
    (np.ones(5), r"has shape \(5,\); a vector of 'v' has shape \(12,\), and one of the field is"),
    (np.zeros(DIM), "all zeros, which has no terms"),
    (np.full(DIM, np.nan), "not finite"),
    (np.ones((2, DIM)), "for several queries write search_batch"),
]


def test_wrong_queries_and_writes_are_refused(database):
    docs, values = filled(database)
    for given, words in WRONG:
        for query in (given, TopTerms(given, 3)):
            with pytest.raises(InvalidArgumentError, match=words):
                docs.search({"codes": query})
    with pytest.raises(InvalidArgumentError, match="must all be of the field or all of its source"):
        docs.search_batch({"codes": [values[0], {3: 1.0}]})
    with pytest.raises(SchemaError, match="are derived from 'v' and can't be written"):
        docs.upsert(ids=[1], vectors={"v": values[:1], "codes": [{1: 1.0}]})
    other = database.create_collection("other", Schema({"s": Sparse()}))
    with pytest.raises(InvalidArgumentError, match="TopTerms, which is for derived sparse fields"):
        other.search({"s": TopTerms(values[0], 2)})
