"""Searches in groups: equal to grouping the whole exact ranking, embedded, with a ``Client`` and with an ``AsyncClient``."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.congruence.conftest import PLACES
from tests.support.places import opened, serving
from vectordb import (
    HNSW,
    Datetime,
    Dense,
    F,
    Int,
    InvalidArgumentError,
    Keyword,
    LimitError,
    Prefetch,
    Schema,
    SchemaError,
    Sparse,
)
from vectordb.query.direct_groups import EVERY, Depths

N = 400
SCHEMA = Schema(
    {"v": Dense(6, index=HNSW(degree=8, ef_construction=40)), "far": Dense(4, "l2", index=None), "s": Sparse()},
    {"doc": Int(), "kind": Keyword(), "tags": Keyword(array=True), "at": Datetime(), "n": Int()},
)
RNG = np.random.default_rng(4)
CENTRES = RNG.standard_normal((50, 6))
VECTORS = np.array([CENTRES[i % 50] + 0.2 * RNG.standard_normal(6) for i in range(N)], np.float32)
FAR = RNG.standard_normal((N, 4)).astype(np.float32)
TERMS = [{int(t): float(w) for t, w in zip(RNG.integers(0, 20, 4), RNG.random(4) + 0.1, strict=True)} for _ in range(N)]
QUERIES = RNG.standard_normal((4, 6)).astype(np.float32)


def fill(database):
    docs = database.create_collection("docs", SCHEMA)
    attributes = {
        "doc": [None if i % 13 == 0 else i % 50 for i in range(N)],  # the points of one document are near one another
        "kind": ["a" if i % 9 else f"k{i % 7}" for i in range(N)],  # most points are of one kind
        "tags": [["x"] * (i % 2) + [f"t{i % 5}", f"t{i % 11}"] for i in range(N)],
        "at": [f"2024-01-0{1 + i % 9}" for i in range(N)],
        "n": list(range(N)),
    }
    for low, high in ((0, 300), (300, N)):
        part = slice(low, high)
        docs.upsert(
            ids=list(range(low, high)),
            vectors={"v": VECTORS[part], "far": [None if i % 17 == 0 else FAR[i] for i in range(low, high)], "s": TERMS[part]},
            attributes={name: values[part] for name, values in attributes.items()},
        )
        if not low:
            docs.delete(list(range(0, 300, 10)))
            docs.optimize()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """{place: the database}, which no test changes."""
    with contextlib.ExitStack() as stack:
        path = tmp_path_factory.mktemp("groups") / "data"
        embedded = stack.enter_context(vectordb.open(path, durability="batched", maintenance=False))
        fill(embedded)
        address = stack.enter_context(serving(embedded, max_limit=500))
        yield {place: stack.enter_context(opened(place, embedded, address)) for place in PLACES}


@pytest.fixture(params=PLACES)
def docs(request, places):
    return places[request.param].collection("docs")


def whole(docs, query, **options):
    """All hits of a search without groups."""
    return list(docs.search(query, limit=N, **options))


def oracle(hits, by, size, groups):
    found = {}
    for hit in hits:
        value = hit.attributes.get(by)
        for each in sorted(set(value)) if isinstance(value, list) else [] if value is None else [value]:
            if each in found or len(found) < groups:
                found.setdefault(each, [])
                if len(found[each]) < size:
                    found[each].append(hit)
    return list(found.items())


def check(hits, expected):
    assert [(group.value, list(group.hits)) for group in hits.groups] == expected
    assert list(hits) == [hit for _, group in expected for hit in group] and len(hits) == sum(len(group) for _, group in expected)


@pytest.mark.parametrize("by", ["doc", "kind", "tags", "at"])
def test_groups_of_one_field_equal_grouping_the_whole_ranking(docs, by):
    for options in ({}, {"filter": "n < 120"}, {"filter": F("n").isin([7, 8, 17, 57])}, {"filter": "n < 0"}):
        for query in ({"v": QUERIES[0]}, {"far": FAR[7]}, {"s": TERMS[3]}):
            everything = whole(docs, query, exact=True, **options)
            for size, groups in ((1, 10), (3, 4), (2, 100)):
                hits = docs.search(query, group_by=by, group_size=size, groups=groups, exact=True, explain=True, **options)
                check(hits, oracle(everything, by, size, groups))
                assert hits.plan["groups"]["proven"] and hits.plan["groups"]["complete"]
                assert "proven to be the true best, from the best" in str(hits.plan)


def test_groups_that_are_searched_by_an_index(docs):
    everything = whole(docs, {"v": QUERIES[1]}, exact=True)
    hits = docs.search({"v": QUERIES[1]}, group_by="doc", group_size=2, recall=0.999, explain=True)
    assert len(hits.groups) == 10 and all(len(group.hits) == 2 for group in hits.groups)
    scores = {hit.id: hit.score for hit in everything}
    for group in hits.groups:
        assert all(hit.attributes["doc"] == group.value and hit.score == pytest.approx(scores[hit.id]) for hit in group.hits)
        assert group.hits.scores.tolist() == sorted(group.hits.scores.tolist(), reverse=True)
    assert hits.plan["groups"]["complete"] and not hits.plan["groups"]["proven"] and "not proven" in str(hits.plan)
    best = [group.hits[0].score for group in hits.groups]
    assert best == sorted(best, reverse=True)


def test_fused_groups_equal_grouping_the_fused_ranking(docs):
    query = {"v": QUERIES[2], "far": FAR[9], "s": TERMS[11]}
    for fusion in ("rrf", "relative", "linear"):
        everything = whole(docs, query, fusion=fusion, candidates=N, exact=True)
        for by, size, groups in (("doc", 2, 10), ("tags", 1, 5), ("kind", 3, 8)):
            hits = docs.search(query, fusion=fusion, candidates=N, exact=True, group_by=by, group_size=size, groups=groups)
            assert [(group.value, group.hits.ids.tolist()) for group in hits.groups] == [
                (value, [hit.id for hit in group]) for value, group in oracle(everything, by, size, groups)
            ], (fusion, by)
            assert all(hit.arms for hit in hits)


def test_batches_prefetches_prepared_searches_and_selections(docs):
    options = {"group_by": "doc", "group_size": 2, "groups": 4, "exact": True}
    batch = docs.search_batch({"v": QUERIES}, facets="kind", **options)
    for query, hits in zip(QUERIES, batch, strict=True):
        check(hits, oracle(whole(docs, {"v": query}, exact=True), "doc", 2, 4))
        assert hits == docs.prepare(**options)({"v": query}) and hits.facets["kind"].points == N - 30
    prefetch = Prefetch({"s": TERMS[5]}, limit=60)
    hits = docs.search({"v": QUERIES[0]}, prefetch=prefetch, **options)
    check(hits, oracle(whole(docs, {"v": QUERIES[0]}, prefetch=prefetch, exact=True), "doc", 2, 4))
    bare = docs.search({"v": QUERIES[0]}, with_attributes=False, **options)
    assert bare.ids.tolist() == batch[0].ids.tolist() and [g.value for g in bare.groups] == [g.value for g in batch[0].groups]
    assert pickle.loads(pickle.dumps(bare)).groups == bare.groups
    assert docs.search({"v": QUERIES[0]}).groups == () and docs.search_batch({"v": QUERIES[:0]}, group_by="doc") == []


WRONG = [
    ({"group_size": 2}, InvalidArgumentError, r"group_size needs group_by, .*: search\(…, group_by='doc', group_size=2\)"),
    ({"groups": 3}, InvalidArgumentError, "groups needs group_by"),
    ({"group_by": "doc", "limit": 5}, InvalidArgumentError, "limit counts single hits, and group_by makes groups: write groups=5"),
    ({"group_by": "nope"}, SchemaError, "group_by: no attribute 'nope'; the attributes are: lang"),
    ({"group_by": "d"}, SchemaError, "no attribute 'd'; a vector field"),
    ({"group_by": "body"}, SchemaError, "group_by can't use 'body': Text is stored as words"),
    ({"group_by": 3}, InvalidArgumentError, "group_by must be the name of an attribute, not 3"),
    ({"group_by": "lang", "group_size": 0}, InvalidArgumentError, "group_size must be an integer from 1"),
    ({"group_by": "lang", "groups": 1.5}, InvalidArgumentError, "groups must be an integer from 1"),
]


@pytest.mark.parametrize("options, error, text", WRONG)
def test_wrong_groups_say_what_to_write(same, options, error, text):
    for call in (lambda docs: docs.search({"d": [1.0] * 8}, **options), lambda docs: docs.prepare(**options)):
        with pytest.raises(error, match=text):
            same(call)


def test_the_hits_of_all_groups_are_limited(docs, request):
    with pytest.raises(LimitError, match="groups × group_size is 200000, at most 100000"):
        docs.search({"v": QUERIES[0]}, group_by="doc", groups=1000, group_size=200)
    if request.node.callspec.params["docs"] != "embedded":
        with pytest.raises(LimitError, match=r"groups × group_size is 600, but this service allows at most 500 \(setting max_limit\)"):
            docs.search({"v": QUERIES[0]}, group_by="doc", groups=100, group_size=6)


def test_direct_searches_in_groups_find_the_same(places):
    docs = places["embedded"].collection("docs")
    found = docs.pieces.direct_groups
    for field, queries in (("v", QUERIES), ("far", FAR[:4])):
        for options in ({}, {"with_attributes": ["doc"]}, {"with_attributes": False}):
            for by, size, groups in (("doc", 1, 2), ("doc", 3, 2), ("at", 2, 9), ("doc", 2, 100)):
                asked = {"group_by": by, "group_size": size, "groups": groups} | options
                for n in range(2 * EVERY):  # after some searches the depth is chosen by them
                    docs.search({field: queries[n % 2]}, **asked)
                direct = 0
                for query in queries:
                    long_way = docs.search({field: query}, explain=True, **asked)
                    hits = found.search(SearchRequest.of(asked), {field: query})
                    direct += hits is not None
                    hits = docs.search({field: query}, **asked) if hits is None else hits
                    assert hits.ids.tolist() == long_way.ids.tolist() and hits.scores.tolist() == long_way.scores.tolist()
                    assert hits == long_way and hits.groups == long_way.groups and hits._grouping == list(long_way._grouping)
                assert direct or by == "at" or groups == 100, (field, asked)  # else there are too many rows, or too few groups


def test_a_search_in_groups_goes_as_deep_as_those_before_it_had_to():
    depths = Depths((10, 12, 30))
    chosen = [depths.best]
    for needed in (10, 12, 31, 12):
        for _ in range(8 * EVERY):
            depths.learn(needed)
        chosen.append(depths.best)
    assert chosen == [2, 0, 1, 2, 1]
    for n in range(8 * EVERY):  # twice in ten at 12, else at 10: 10 is enough for most, and the others cost 30 more
        depths.learn(12 if n % 10 < 2 else 10)
    assert depths.best == 1


def test_direct_searches_in_groups_follow_writes(embedded):
    docs = embedded.create_collection("docs", SCHEMA)
    docs.upsert(ids=list(range(60)), vectors={"v": VECTORS[:60]}, attributes={"doc": [i % 9 for i in range(60)]})
    rng = np.random.default_rng(6)
    for step in range(12):
        for _ in range(3):
            hits = docs.search({"v": QUERIES[0]}, group_by="doc", group_size=2, groups=4)
            check(hits, oracle(whole(docs, {"v": QUERIES[0]}), "doc", 2, 4))
        ids = rng.choice(70, 4, replace=False).tolist()
        if step % 3 == 2:
            docs.delete(ids)
        else:
            docs.upsert(ids=ids, vectors={"v": rng.standard_normal((4, 6))}, attributes={"doc": rng.integers(0, 9, 4).tolist()})
