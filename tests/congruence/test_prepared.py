"""Prepared searches: the answers of plain ones, options that are checked once and at once."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import vectordb_client

import vectordb
from tests.support.places import plain
from vectordb import RRF, Dense, F, FilterError, Int, InvalidArgumentError, Linear, Prefetch, Schema, SchemaError

D = np.arange(1.0, 9.0)
OPTIONS = [
    {},
    {"limit": 3, "recall": 0.9, "filter": "n > 20"},
    {"filter": F("lang") == "en", "with_vectors": ["s"], "with_attributes": ["lang"]},
    {"fusion": Linear({"s": 0.25}), "explain": True},
    {"fusion": RRF(k=5, weights={"d": 2.0}), "candidates": 20, "exact": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "query", [{"vectors": {"d": D, "s": {3: 1.0}}}, {"text": "dog", "vectors": {"d": D, "s": {7: 1.0}}}], ids=["vectors", "text"]
)
def test_the_answers_are_those_of_a_search(same, query, options):
    expected = same(lambda docs: docs.search(**query, **options))
    for _ in range(2):
        assert plain(list(same(lambda docs: docs.prepare(**options)(**query)))) == plain(list(expected))
    batch = {"vectors": {"d": [D, -D], "s": [{3: 1.0}, {7: 2.0}]}}
    several = same(lambda docs: docs.prepare(**options).batch(**batch)), same(lambda docs: docs.search_batch(**batch, **options))
    assert plain([list(hits) for hits in several[0]]) == plain([list(hits) for hits in several[1]])


def test_one_prepared_search_takes_other_queries_and_fields(same):
    def run(docs):
        prepared = docs.prepare(limit=4, with_attributes=False)
        return [
            prepared({"d": D}),
            prepared({"d": -D}),
            prepared({"s": {3: 1.0}}),
            prepared(text="dog"),
            *prepared.batch(text=["dog", "fox"]),
        ]

    answers = same(run)
    assert [len(hits) for hits in answers] == [4] * 6 and answers[0] != answers[1]
    assert answers[0] == same(lambda docs: docs.search({"d": D}, limit=4, with_attributes=False))


HINTS = {
    "queries": (
        lambda docs: docs.prepare(vectors={"d": D}),
        "prepare() has no argument 'vectors'; queries go to the call: prepared(vectors, ",
    ),
    "text": (lambda docs: docs.prepare(text="x"), "prepare() has no argument 'text'; queries go to the call: prepared(vectors, text=…)"),
    "prefetch": (
        lambda docs: docs.prepare(prefetch=Prefetch({"d": D})),
        "a prefetch has queries of its own, so it can't be prepared: write ",
    ),
    "prefetch with another": (
        lambda docs: docs.prepare(prefetch=Prefetch({"d": D}), lim=3),
        "prepare() has no argument 'prefetch'; a prefetch has",
    ),
    "dense": (lambda docs: docs.prepare()({"d": [D, D]}), "for several queries write prepared.batch"),
    "sparse": (lambda docs: docs.prepare()({"s": [{1: 1.0}, {2: 1.0}]}), "for several queries write prepared.batch"),
    "multi": (lambda docs: docs.prepare()({"m": np.ones((2, 2, 4))}), "for several queries write prepared.batch"),
    "texts": (lambda docs: docs.prepare()(text=["dog", "fox"]), "for several queries write prepared.batch"),
    "one text": (lambda docs: docs.prepare().batch(text="dog"), "for one query write prepared"),
    "option": (lambda docs: docs.prepare()({"d": D}, limit=3), "prepared() has no argument 'limit'; there are: vectors, text"),
    "option of a batch": (
        lambda docs: docs.prepare().batch({"d": [D]}, limit=3),
        "prepared.batch() has no argument 'limit'; there are: vectors, ",
    ),
    "position": (lambda docs: docs.prepare()({"d": D}, "dog"), "prepared() takes vectors by position, and the others by name: text=…"),
    "position of a batch": (lambda docs: docs.prepare().batch({"d": [D]}, "dog"), "prepared.batch() takes vectors by position"),
    "twice": (lambda docs: docs.prepare()({"d": D}, vectors={"d": D}), "prepared() has vectors both by position and by name; give one"),
    "twice in a search": (
        lambda docs: docs.search({"d": D}, vectors=1),
        "search() has vectors both by position and by name; give one of them",
    ),
    "twice in a batch": (
        lambda docs: docs.search_batch({"d": [D]}, vectors=1, lim=2),
        "search_batch() has no argument 'lim'; write limit=…",
    ),
    "twice in another method": (lambda docs: docs.get(1, ids=2), "get() has ids both by position and by name; give one of them"),
}


@pytest.mark.parametrize("name", HINTS)
def test_errors_name_the_prepared_search(same, name):
    call, text = HINTS[name]
    with pytest.raises(InvalidArgumentError) as caught:
        same(call)
    assert text in str(caught.value) and "search_batch" not in str(caught.value).replace("search_batch() has", "")
    assert caught.value.args == (caught.value.message,)


@pytest.mark.parametrize("kind", [vectordb.Collection, vectordb_client.Collection, vectordb_client.AsyncCollection])
def test_prepare_does_not_list_a_prefetch(kind):
    assert {"filter", "explain"} <= inspect.signature(kind.prepare).parameters.keys()
    assert "prefetch" not in inspect.signature(kind.prepare).parameters and "prefetch:" not in inspect.getdoc(kind.prepare)
    assert "A prefetch has queries of its own, so it can't be prepared." in inspect.getdoc(kind.prepare)
    assert "prefetch" in inspect.signature(kind.search).parameters and "prefetch: as in" in inspect.getdoc(kind.search_batch)


WRONG = {
    "limit": ({"limit": 0}, InvalidArgumentError),
    "unknown filter field": ({"filter": "id = 1"}, FilterError),
    "filter": ({"filter": 5}, FilterError),
    "attribute": ({"with_attributes": ["nope"]}, InvalidArgumentError),
    "vector field": ({"with_vectors": ["nope"]}, InvalidArgumentError),
    "fusion": ({"fusion": "nope"}, InvalidArgumentError),
    "weight of no field": ({"fusion": RRF(weights={"nope": 1.0})}, InvalidArgumentError),
    "flag": ({"explain": 1}, InvalidArgumentError),
    "prefetch": ({"prefetch": Prefetch({"d": D})}, InvalidArgumentError),
    "unknown option": ({"lim": 3}, InvalidArgumentError),
    "queries": ({"vectors": {"d": D}}, InvalidArgumentError),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_are_refused_before_the_first_search(same, name):
    options, error = WRONG[name]
    with pytest.raises(error):
        same(lambda docs: docs.prepare(**options))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda prepared: prepared(), InvalidArgumentError),
        (lambda prepared: prepared({"nope": D}), SchemaError),
        (lambda prepared: prepared({"d": D[:3]}), InvalidArgumentError),
        (lambda prepared: prepared({"d": D}, limit=3), InvalidArgumentError),
        (lambda prepared: prepared({"s": {1: 1.0}, "m": np.ones((1, 4))}), InvalidArgumentError),  # a weight of a field that isn't searched
        (lambda prepared: prepared.batch({"d": [D], "s": [{1: 1.0}] * 2}), InvalidArgumentError),
    ],
)
def test_wrong_queries_are_refused(same, call, error):
    with pytest.raises(error):
        same(lambda docs: call(docs.prepare(fusion=RRF(weights={"d": 2.0}))))


def test_a_prepared_search_sees_later_writes_and_fields(database):
    docs = database.create_collection("docs", Schema({"d": Dense(2)}))
    prepared = docs.prepare(limit=5)
    assert len(prepared({"d": [1, 0]})) == 0
    docs.upsert(ids=[1, 2], vectors={"d": [[1, 0], [0, 1]]})
    assert prepared({"d": [1, 0]}).ids.tolist() == [1, 2]
    docs.add_fields(vectors={"e": Dense(2)}, attributes={"n": Int()})
    docs.upsert(ids=[3], vectors={"d": [[1, 1]], "e": [[1, 0]]}, attributes={"n": [7]})
    assert prepared({"e": [1, 0]}).ids.tolist() == [3]
    assert {hit.id: hit.attributes.get("n") for hit in prepared({"d": [1, 1]})} == {3: 7, 1: None, 2: None}


def test_a_prepared_search_does_not_change_with_the_objects_of_its_options(same):
    def run(docs):
        filter, inner = {"op": "and", "filters": [{"op": "gt", "field": "n", "value": 20}]}, {"s": 0.25}
        names, weights = ["s"], {"d": 2.0}
        prepared = docs.prepare(filter=filter, fusion=Linear(inner), with_vectors=names, with_attributes=(attributes := ["n"]))
        fused = docs.prepare(fusion=RRF(weights=weights), explain=True)
        query = {"d": D, "s": {3: 1.0}}
        before = list(prepared(query)), fused(query)
        filter["filters"][0]["value"] = 10**6
        inner["s"] = 90.0
        names[0], attributes[0], weights["d"] = "d", "lang", 0.0
        after = list(prepared(query)), fused(query)
        assert plain(after[0]) == plain(before[0]) and len(before[0]) == 10
        assert list(after[1]) == list(before[1]) and after[1].plan["request"]["fusion"]["weights"] == {"d": 2.0}
        return before[0]

    same(run)


def test_a_filter_that_is_a_dict_is_checked_when_it_is_prepared(same):
    with pytest.raises(FilterError, match="gt"):
        same(lambda docs: docs.prepare(filter={"op": "gt", "field": "n"}))
    options = {"filter": {"op": "eq", "field": "at", "value": np.datetime64("2024-01-01")}}  # not a JSON value
    assert same(lambda docs: len(docs.prepare(**options)({"d": D}))) >= 0
