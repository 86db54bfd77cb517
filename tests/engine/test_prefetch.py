"""Prefetch stages: the hits of one stage are the only candidates of the next, which scores them exactly."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Dense, Int, Linear, MultiVector, Prefetch, Schema, Sparse

ROWS = 400


@pytest.fixture
def collection(database):
    """With an index, rows behind it, and holes in every field."""
    rng = np.random.default_rng(3)
    docs = database.create_collection("docs", Schema({"d": Dense(8, "l2"), "s": Sparse("idf"), "m": MultiVector(4)}, {"n": Int()}))

    def write(ids):
        vectors = {
            "d": rng.standard_normal((len(ids), 8)),
            "s": [{int(t): float(rng.random() + 0.1) for t in rng.choice(20, 4, replace=False)} for _ in ids],
            "m": [rng.standard_normal((1 + i % 3, 4)) for i in ids],
        }
        for at, name in enumerate(vectors):
            vectors[name] = [None if i % 13 == at else value for i, value in zip(ids, vectors[name], strict=True)]
        docs.upsert(ids=ids, vectors=vectors, attributes={"n": ids})

    write(list(range(ROWS)))
    docs.optimize()
    write(list(range(0, ROWS, 5)))
    docs.delete(list(range(0, ROWS, 7)))
    return docs


QUERY = {"d": np.linspace(-1, 1, 8), "s": {1: 1.0, 2: 0.5, 3: 2.0}, "m": np.ones((2, 4))}


def ranked(docs, name, node, among):
    """(id, score) of the candidates that the arm matches, best first, by a whole search."""
    return [(hit.id, hit.score) for hit in docs.search({name: QUERY[name]}, filter=node, limit=ROWS, exact=True) if hit.id in among]


@pytest.mark.parametrize("node", [None, "n < 150", "n = 21"])
@pytest.mark.parametrize(("first", "second", "third"), [("s", "d", "m"), ("m", "s", "d"), ("d", "m", "s")])
def test_each_stage_ranks_the_hits_of_the_one_before(collection, node, first, second, third):
    a = collection.search({first: QUERY[first]}, filter=node, limit=60, exact=True)
    b = ranked(collection, second, node, set(a.ids.tolist()))[:25]
    c = ranked(collection, third, node, {i for i, _ in b})[:10]
    inner = Prefetch({first: QUERY[first]}, limit=60)
    stages = Prefetch({second: QUERY[second]}, limit=25, prefetch=inner)
    hits = collection.search({third: QUERY[third]}, prefetch=stages, filter=node, exact=True)
    assert [(hit.id, hit.score) for hit in hits] == c
    assert [
        (hit.id, hit.score) for hit in collection.search({second: QUERY[second]}, prefetch=inner, filter=node, limit=25, exact=True)
    ] == b
    bare = collection.search({third: QUERY[third]}, prefetch=stages, filter=node, exact=True, with_attributes=False)
    assert bare.ids.tolist() == hits.ids.tolist()


def test_candidates_that_a_stage_does_not_match_are_no_hits(collection):
    few = Prefetch({"d": QUERY["d"]}, limit=30)
    candidates = collection.search({"d": QUERY["d"]}, limit=30)
    for name in ("s", "m"):
        hits = collection.search({name: QUERY[name]}, prefetch=few, limit=100)
        matches = ranked(collection, name, None, set(candidates.ids.tolist()))
        assert [hit.id for hit in hits] == [i for i, _ in matches] and 0 < len(hits) <= 30
    assert len(collection.search({"s": QUERY["s"]}, prefetch=Prefetch({"s": {999: 1.0}}), limit=5)) == 0


@pytest.mark.parametrize("fusion", ["rrf", "relative", "dbsf", Linear({"s": 0.1})])
def test_arms_fused_after_a_prefetch_add_up(collection, fusion):
    stage = Prefetch({"m": QUERY["m"], "d": QUERY["d"]}, limit=40, fusion="linear")
    among = collection.search({"m": QUERY["m"], "d": QUERY["d"]}, limit=40, fusion="linear")
    hits = collection.search(QUERY, prefetch=stage, fusion=fusion, limit=15, explain=True)
    assert 0 < len(hits) <= 15 and set(hits.ids.tolist()) <= set(among.ids.tolist())
    scores = {name: dict(ranked(collection, name, None, set(among.ids.tolist()))) for name in QUERY}
    for hit in hits:
        assert hit.score == sum(said.contribution for said in hit.arms.values())
        for name, said in hit.arms.items():
            assert said.score == scores[name].get(hit.id)
            places = sorted(scores[name], key=lambda i: scores[name][i], reverse=name != "d")
            assert said.rank == (places.index(hit.id) + 1 if hit.id in places else None)
    assert hits.plan["fusion"].get("proven") is (True if isinstance(fusion, Linear) else None)


def test_an_explained_search_shows_every_stage(collection):
    stages = Prefetch({"d": QUERY["d"]}, limit=50, prefetch=Prefetch({"s": QUERY["s"], "m": QUERY["m"]}, limit=80))
    plan = collection.search({"m": QUERY["m"]}, prefetch=stages, filter="n < 300", explain=True).plan
    first = plan["prefetch"]["prefetch"]
    assert (plan["prefetch"]["limit"], first["limit"], first["hits"], first["prefetch"]) == (50, 80, 80, None)
    assert [arm["field"] for arm in first["arms"]] == ["s", "m"] and first["fusion"]["method"] == "rrf"
    assert plan["prefetch"]["arms"][0]["rows"] == 80 and plan["arms"][0]["rows"] == plan["prefetch"]["hits"] <= 50
    assert {"filter", "prefetch", "arm m", "fetch"} <= plan["milliseconds"].keys()
    heads = [line.split(":")[0] for line in str(plan).splitlines()]
    steps = [head for head in heads if head.split()[0] in ("prefetch", "sparse", "multi", "dense")]
    assert steps == ["prefetch", "  prefetch", "    sparse s", "    multi m", "  dense d", "multi m"]
    assert "\n  dense d: exact scan, 80 rows scored" in str(plan) and "\nmulti m: exact scan" in str(plan)


def test_an_approximate_first_stage_is_searched_at_the_recall_asked_for(collection):
    plan = collection.search({"m": QUERY["m"]}, prefetch=Prefetch({"d": QUERY["d"]}), recall=0.5, explain=True).plan
    assert plan["prefetch"]["arms"][0]["recall"]["target"] == 0.5 and plan["arms"][0]["exact"] and not plan["exact"]
    plan = collection.search({"m": QUERY["m"]}, prefetch=Prefetch({"d": QUERY["d"]}), exact=True, explain=True).plan
    assert plan["exact"] and plan["prefetch"]["exact"]
