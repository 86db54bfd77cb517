"""Derived fields, as users of a directory and of a service have them: written, searched, filtered, fused, changed and exported."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.places import plain
from vectordb import (
    PCA,
    RRF,
    Dense,
    Int,
    InvalidArgumentError,
    Like,
    Pick,
    PreconditionError,
    Prefetch,
    Prefix,
    Project,
    Schema,
    SchemaError,
    Sparse,
)
from vectordb.derivations import DERIVATIONS
from vectordb.engine.deriving import made_of

N, DIM = 260, 12
GIVEN = {"cut": (4, Prefix("v")), "random": (6, Project("v", seed=2)), "main": (5, PCA("v")), "some": (3, Pick("v"))}
LEARNED = ("main", "some")


def schema(metric="cosine", dtype="float32"):
    derived = {name: Dense(dim, metric, dtype, derived=given) for name, (dim, given) in GIVEN.items()}
    return Schema({"v": Dense(DIM, metric), **derived, "s": Sparse()}, {"n": Int()})


def rows(n=N, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, DIM)) * np.linspace(2, 0.3, DIM) + 0.2).astype(np.float32)


def filled(database, metric="cosine", dtype="float32"):
    docs = database.create_collection("docs", schema(metric, dtype))
    values = rows()
    given = [value if i % 9 else None for i, value in enumerate(values)]
    docs.upsert(ids=range(N), vectors={"v": given, "s": [{i % 7: 1.0, 9: 0.5} for i in range(N)]}, attributes={"n": range(N)})
    for name in LEARNED:
        docs.fit(name)
    return docs, values


def parts_of(embedded, name):
    with embedded["docs"]._snapshots.pin() as view:
        return made_of(view.txn, view.store.collection, view.fields[name]).parts


def expected(embedded, name, values):
    spec = embedded["docs"].schema.vectors[name]
    parts = parts_of(embedded, name)
    return DERIVATIONS[spec.derived.name].derive(spec.derived, spec, parts, values).astype(spec.dtype)


@pytest.mark.parametrize(("metric", "dtype"), [("cosine", "float32"), ("l2", "float32"), ("dot", "float16")])
def test_each_write_derives_and_queries_of_both_kinds_find_the_same(database, embedded, metric, dtype):
    docs, values = filled(database, metric, dtype)
    docs.upsert(ids=[5, 1000], vectors={"v": [values[6], values[7]]}, attributes={"n": [5, 1000]})
    docs.update(ids=[7], vectors={"v": [values[8]]})
    docs.update(ids=[10], attributes={"n": [-1]})
    docs.update(ids=[11], vectors={"v": None})
    docs.delete([12, 13])
    now = {i: value for i, value in enumerate(values) if i % 9 and i not in (11, 12, 13)}
    now |= {5: values[6], 1000: values[7], 7: values[8]}
    for name in GIVEN:
        made = dict(zip(now, expected(embedded, name, np.stack(list(now.values()))), strict=True))
        stored = {p.id: p.vectors[name] for p in docs.iterate(with_vectors=[name]) if name in p.vectors}
        assert stored.keys() == now.keys()
        assert all(stored[i].tobytes() == made[i].tobytes() for i in now)
        assert docs.count(f"HAS_VECTOR({name})") == len(now)
        query, ids = values[20] * 1.5, list(made)
        (own,) = expected(embedded, name, query[None])
        whole = np.stack([made[i] for i in ids]).astype(np.float64)
        wide = own.astype(np.float64)
        scores = {
            "l2": -np.square(whole - wide).sum(axis=1),
            "dot": whole @ wide,
            "cosine": whole @ wide / np.linalg.norm(whole, axis=1) / np.linalg.norm(wide),
        }[metric]
        for asked in (query, own.astype(np.float32)):
            for exact in (True, False):
                hits = docs.search({name: asked}, limit=15, exact=exact)
                got = np.array([-h.score if metric == "l2" else h.score for h in hits])
                best = np.sort(scores)[::-1][:15]
                np.testing.assert_allclose(got, best, rtol=2e-3 if dtype == "float16" else 2e-4, atol=1e-4)
        hits = docs.search({name: query}, filter="n < 40", limit=1000)
        assert sorted(hits.ids.tolist()) == sorted(i for i in now if i < 40)
        both = docs.search_batch({name: np.stack([query, values[3]])}, limit=5)
        assert plain(list(both)) == plain([docs.search({name: q}, limit=5) for q in (query, values[3])])
    if database is embedded:
        docs.optimize()
        assert docs.search({"main": values[20]}, limit=3, explain=True).plan["arms"][0]["field"] == "main"


def test_a_shortlist_of_all_rows_is_the_exact_search(database):
    docs, values = filled(database)
    for name in GIVEN:
        exact = docs.search({"v": values[30]}, limit=12, exact=True)
        funnel = docs.search({"v": values[30]}, prefetch=Prefetch({name: values[30]}, limit=N), limit=12)
        assert plain(list(funnel)) == plain(list(exact))
        short = docs.search({"v": values[30]}, prefetch=Prefetch({name: values[30]}, limit=20), limit=12, exact=True)
        listed = set(docs.search({name: values[30]}, limit=20, exact=True).ids.tolist())
        whole = docs.search({"v": values[30]}, limit=N, exact=True)
        assert short.ids.tolist() == [i for i in whole.ids.tolist() if i in listed][:12]


def test_it_is_fused_grouped_and_asked_by_examples_like_any_field(database):
    docs, values = filled(database)
    hits = docs.search({"cut": values[4], "s": {3: 1.0}}, fusion=RRF(), limit=20, explain=True)
    assert set(hits[0].arms) == {"cut", "s"} and hits.plan["arms"][0]["derived"] == "prefix of v"
    assert "dense cut (prefix of v): " in str(hits.plan)
    by_id, by_vector = (docs.search({"main": Like([each])}, limit=6, exact=True) for each in (4, values[4]))
    assert 4 not in by_id.ids and by_vector.ids.tolist()[1:] == by_id.ids.tolist()[:5]
    assert docs.search(like=[4], limit=3).ids.tolist() == docs.search({"v": Like([4])}, limit=3).ids.tolist()  # the only one not derived
    plain_hits = docs.search({"random": values[4]}, without={"random": [values[5]]}, limit=5)
    own = docs.get(5, with_vectors=["random"]).vectors["random"]
    assert plain(list(plain_hits)) == plain(list(docs.search({"random": values[4]}, without={"random": [own]}, limit=5)))


def test_values_by_hand_and_other_nonsense_are_refused_and_change_nothing(database):
    docs, values = filled(database)
    before = docs.info().sequence
    wrong = [
        (lambda: docs.upsert(ids=[1], vectors={"cut": values[:1, :4]}), SchemaError, "vectors of field 'cut' are derived from 'v'"),
        (lambda: docs.upsert([{"id": 1, "vectors": {"v": values[0], "main": values[0][:5]}}]), SchemaError, "'main'"),
        (lambda: docs.update(ids=[1], vectors={"some": None}), SchemaError, "can't be written"),
        (lambda: docs.update(filter="n = 1", vectors={"some": values[0][:3]}), SchemaError, "can't be written"),
        (lambda: docs.search({"cut": values[0][:5]}), InvalidArgumentError, r"not \(4,\); a vector of 'v' has shape \(12,\)"),
        (lambda: docs.search_batch({"cut": [values[0], values[0][:4]]}), InvalidArgumentError, "all of its source 'v'"),
        (lambda: docs.fit("cut"), InvalidArgumentError, "learns nothing"),
        (lambda: docs.fit("v"), InvalidArgumentError, "not derived; the derived fields: cut, random, main, some"),
        (lambda: docs.fit("w"), SchemaError, "no vector field 'w'"),
        (lambda: docs.report("s"), InvalidArgumentError, "not derived"),
        (lambda: docs.drop_fields("v"), SchemaError, "is derived from 'v'; drop both"),
        (lambda: docs.add_fields(vectors={"x": Dense(3, derived=Prefix("s"))}), SchemaError, "which is sparse"),
        (lambda: docs.add_fields(vectors={"x": Dense(3, derived=Prefix("cut"))}), SchemaError, "itself derived"),
    ]
    for call, error, words in wrong:
        with pytest.raises(error, match=words):
            call()
    assert docs.info().sequence == before


def test_a_field_without_enough_points_waits_and_says_so(database):
    docs = database.create_collection("docs", schema())
    docs.upsert(ids=range(8), vectors={"v": rows(8)})
    with pytest.raises(PreconditionError, match=r"'main' has no vectors yet: it is not fitted .* call fit\('main'\)"):
        docs.search({"main": rows(1)[0]})
    with pytest.raises(InvalidArgumentError, match="can't be fitted to 8 points with a vector of 'v'; it needs 20"):
        docs.fit("main")
    assert docs.report("main")["state"] == "waiting" and "recall_at_10" not in docs.report("main")
    assert docs.count("HAS_VECTOR(main)") == 0 and len(docs.search({"cut": rows(1)[0]})) == 8
    assert "main: derived from v, waiting" in str(docs.info())


def test_a_fit_is_reported_and_the_same_again_for_the_same_points(database, embedded):
    docs, _ = filled(database)
    before = parts_of(embedded, "main")["basis"].tobytes()
    first = docs.report("main")
    assert (first["by"], first["dim"], first["source_dim"]) == ("pca", 5, 12)
    assert (first["state"], first["version"], first["sample"], first["held_out"]) == ("ready", 1, 208, 23)
    assert 0.2 < first["recall_at_10"] < 1.0 and 0.5 < first["variance"] < 1.0 and first["deleted_since"] == 0
    again = docs.fit("main")
    assert again["done"] and again["version"] == 2 and again["recall_at_10"] == first["recall_at_10"]
    assert parts_of(embedded, "main")["basis"].tobytes() == before
    docs.upsert(ids=[1], vectors={"v": rows(1, seed=5)})
    assert docs.report("main")["deleted_since"] == 1
    other = docs.report("random")
    assert other["state"] == "ready" and other["sample"] == 208 and 0 < other["recall_at_10"] < 1
    told = docs.info()
    assert told.statistics["main"]["derived"]["version"] == 2
    assert (
        "fit 2 at sequence " in str(told)
        and " to 208 points, recall@10" in str(told)
        and "1 of the sample were deleted or replaced since" in str(told)
    )


def test_added_fields_are_made_for_the_points_that_exist(database, embedded):
    docs = database.create_collection("docs", Schema({"v": Dense(DIM)}, {"n": Int()}))
    values = rows()
    docs.upsert(ids=range(N), vectors={"v": values}, attributes={"n": range(N)})
    docs.delete(range(50))
    docs.add_fields(vectors={name: Dense(dim, derived=given) for name, (dim, given) in GIVEN.items()})
    docs.optimize()  # the background may have made them already
    for name in LEARNED:
        docs.fit(name)
    docs.upsert(ids=[N], vectors={"v": values[:1]})
    for name in GIVEN:
        stored = {p.id: p.vectors[name] for p in docs.iterate(with_vectors=[name])}
        made = expected(embedded, name, np.concatenate([values[50:], values[:1]]))
        assert [*stored] == [*range(50, N + 1)] and all(stored[50 + i].tobytes() == each.tobytes() for i, each in enumerate(made))
    docs.rename_fields({"v": "w", "cut": "v"})
    assert docs.schema.vectors["v"].derived == Prefix("w")
    docs.upsert(ids=[1], vectors={"w": values[:1]})
    assert sorted(docs.search({"v": values[0]}, limit=2).ids.tolist()) == [1, N] and docs.fit("main")["source"] == "w"
    docs.drop_fields(["v", "main"])
    docs.add_fields(vectors={"v": Dense(2)})
    assert docs.count("HAS_VECTOR(v)") == 0


def test_examples_of_an_axis_may_be_vectors_of_the_source(database):
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    vectors[:20, 0] += 8
    vectors[20:, 0] -= 8
    docs = database.create_collection("axes", Schema({"v": Dense(8), "small": Dense(4, derived=Prefix("v"))}))
    docs.upsert(ids=range(40), vectors={"v": vectors})
    of_ids = docs.axis("small", low=[20, 21, 22], high=[0, 1, 2])
    of_source = docs.axis("small", low=[vectors[20], 21, vectors[22][:4]], high=list(vectors[:3]))
    np.testing.assert_allclose(of_ids.vector, of_source.vector, atol=1e-6)
    assert of_source.vector.shape == (4,) and of_source.reliability == of_ids.reliability
    assert docs.probe("small", positives=list(vectors[:6]), negatives=list(vectors[20:26]), k=2).dims.max() < 4
