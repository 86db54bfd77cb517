"""Filters on the payload against an evaluation point by point: scanned, from columns, after writes, deletes and compaction, elsewhere."""

from __future__ import annotations

import json
import random
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.model import filter_extended as extended
from vectordb_client.model.filter import from_dict, to_dict

import vectordb
from tests.support import payload_model
from tests.support.filter_model import printed
from tests.support.nightly import cases
from vectordb import Dense, F, FilterError, Int, Schema
from vectordb.filters import path_index
from vectordb.filters.cache import FilterCache

SCHEMA = Schema({"v": Dense(2)}, {"n": Int()})


def found(docs, node):
    return {point.id for point in docs.iterate(filter=node)}


@settings(max_examples=cases(60, 120), deadline=None)
@given(node=payload_model.filters, sample=st.lists(payload_model.payloads, min_size=1, max_size=12), split=st.integers(0, 12))
def test_a_filter_matches_the_payloads_it_says(shared, node, sample, split):
    docs, first = shared
    ids = [next(first) for _ in sample]
    for some in (ids[:split], ids[split:]):
        if some:
            docs.upsert(ids=some, payload=[sample[i - ids[0]] for i in some])
            expected = {i for i in some if payload_model.holds(node, sample[i - ids[0]])}
            for notation in (node, to_dict(node)):
                assert found(docs, notation) & set(some) == expected, node
    path_index.USES, uses = 1, path_index.USES
    try:
        docs._filters = docs.pieces._filters = FilterCache()
        assert docs.count(node) == len(found(docs, node))
        assert found(docs, node) & set(ids) == {i for i in ids if payload_model.holds(node, sample[i - ids[0]])}, node
    finally:
        path_index.USES = uses
    docs.delete(ids)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    import itertools

    with vectordb.open(tmp_path_factory.mktemp("payload"), durability="batched", maintenance=False) as database:
        yield database.create_collection("c", SCHEMA), itertools.count()


@settings(max_examples=cases(75, 150), deadline=None)
@given(payload_model.leaves() | payload_model.any_element | payload_model.nested)
def test_filters_survive_json_and_printing(node):
    assert from_dict(json.loads(json.dumps(to_dict(node)))) == node
    if not isinstance(node, extended.AnyElement):
        assert vectordb.filters.as_filter(printed(node)) == node


PAYLOADS = [
    {"page": 1, "tags": ["x", "y"], "meta": {"page": 1}},
    {"page": "1", "tags": [], "meta": {"page": 3.5}},
    {"page": 1.0, "meta": {"page": None}},
    {"page": True, "meta": {}},
    {"page": None},
    {"page": 2**53 + 1, "meta.page": 9},
    None,
    {"page": [1, "1", [2]], "meta": [{"page": 1}, {"page": 7}]},
]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        (F("page") == 1, [0, 2, 7]),
        (F("page") == "1", [1, 7]),
        (F("page") == True, [3]),  # noqa: E712
        (F("page") == 1.0, [0, 2, 7]),
        (F("page") == 2, [7]),
        (F("page") > 2**53, [5]),
        (F("page") == float(2**53), []),
        (F("page") != 1, [1, 3, 4, 5, 6]),
        (F("page") == None, [4, 6]),  # noqa: E711
        (F("page").is_null(), [4, 6]),
        (F("page").is_missing(), [6]),
        (F("page").is_null() & ~F("page").is_missing(), [4]),
        (F("meta.page") > 3, [1, 5, 7]),
        (F("meta.page").isin([1, 9]), [0, 5, 7]),
        (F("page") >= "0", [1, 7]),
        (F("tags").count() == 2, [0]),
        (F("tags").count() == 0, [1, 2, 3, 4, 5, 6, 7]),
        (F("tags").contains_all(["x", "y"]), [0]),
        (F("tags").some_not_in(["x"]), [0]),
        (F("meta").any(F("page") == 1), [0, 7]),
        (F("nothing.there") == 1, []),
    ],
)
def test_types_are_told_apart_and_so_are_null_and_missing(database, condition, ids):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=list(range(len(PAYLOADS))), payload=PAYLOADS)
    for _ in range(3):  # scanned, then from a column
        docs._filters._entries.clear()
        assert sorted(found(docs, condition)) == ids


def test_one_element_must_meet_the_whole_condition(database):
    docs = database.create_collection("c", SCHEMA)
    red_small, blue_large = {"color": "red", "size": 1}, {"color": "blue", "size": 2}
    docs.upsert(ids=[1, 2, 3], payload=[{"items": [red_small, blue_large]}, {"items": [{"color": "red", "size": 2}]}, {"items": red_small}])
    condition = (F("color") == "red") & (F("size") == 2)
    for _ in range(3):
        assert found(docs, F("items").any(condition)) == {2}
        assert found(docs, (F("items.color") == "red") & (F("items.size") == 2)) == {1, 2}
        assert found(docs, F("items").any(~(F("color") == "red"))) == {1}
        docs._filters._entries.clear()


def test_a_path_has_a_column_from_its_second_question_on(database):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=list(range(50)), payload=[{"meta": {"page": i}} for i in range(50)])
    keys = lambda: [key for key in docs._filters._entries if key[0] == "path"]  # noqa: E731
    assert docs.count("meta.page > 3") == 46 and not keys()
    assert docs.count("meta.page > 3") == 46 and not keys()  # the same question: its answer is kept
    assert docs.count("meta.page > 4") == 45 and keys() == [("path", "PathTest", "meta.page")]
    docs.upsert(ids=[50], payload=[{"meta": {"page": 5}}])
    assert docs.count("meta.page = 5") == 2 and docs.count("meta.page > 4") == 46


def test_columns_take_a_bounded_part_of_the_cache(database, monkeypatch):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=list(range(200)), payload=[{"k": f"some text {i}", "many": {str(i): i}} for i in range(200)])
    docs._filters.capacity = 20_000
    for i in range(6):
        assert docs.count(F("k") == f"some text {i}") == 1
    assert not [key for key in docs._filters._entries if key[0] == "path"]
    monkeypatch.setattr(path_index, "MAX_COUNTED", 10)
    for i in range(40):
        assert docs.count(F(f"many.{i}") == i) == 1
    assert len(docs._filters.scans) <= 10


def test_filters_follow_writes_deletes_compaction_and_other_handles(tmp_path):
    rng = random.Random(3)
    path = tmp_path / "data"
    questions = [
        F("a.n") > 5,
        F("a.n") == 3,
        F("a.s").startswith("k1"),
        F("a.n").is_missing(),
        F("list").any((F("n") == 1) & (F("s") == "k2")),
        (F("n") < 40) & (F("a.n") >= 5),
        ~(F("a.n") == 3),
    ]

    def payload():
        some = {"n": rng.randrange(10), "s": f"k{rng.randrange(20)}"}
        return rng.choice([None, {"a": some}, {"list": [some, {"n": 1, "s": "k2"}]}, {"a": {"n": "3"}}])

    with vectordb.open(path, durability="batched", maintenance=False) as database:
        docs = database.create_collection("c", SCHEMA)
        held: dict = {}
        for step in range(12):
            ids = rng.sample(range(80), 12)
            written = {i: payload() for i in ids}
            docs.upsert(ids=ids, vectors={"v": [[1, i] for i in ids]}, attributes={"n": ids}, payload=list(written.values()))
            held |= written
            for i in rng.sample(sorted(held), 4):
                docs.delete([i])
                del held[i]
            if step % 4 == 3:
                docs.optimize()
            expected = []
            for node in questions:
                rows = [i for i, one in held.items() if holds_with_n(node, i, one)]
                expected.append(set(rows))
                assert found(docs, node) == set(rows)
                hits = docs.search({"v": [1, 0]}, filter=node, limit=100)
                assert {hit.id for hit in hits} == set(rows)
            deleted = docs.count(questions[1])
            assert deleted == len(expected[1])
        removed = found(docs, questions[1])
        docs.delete(filter=questions[1])
        assert found(docs, questions[1]) == set() and removed.isdisjoint(held.keys() & found(docs, None))
        counts = [docs.count(node) for node in questions]
    with vectordb.open(path) as again:
        assert [again.collection("c").count(node) for node in questions] == counts


def holds_with_n(node, i, payload):
    return payload_model.holds(node, {**(payload or {}), "n": i})


def test_values_that_json_does_not_have_are_refused(database):
    docs = database.create_collection("c", SCHEMA)
    docs.upsert(ids=[1], payload=[{"u": str(uuid.UUID(int=5))}])
    assert docs.count(F("u") == uuid.UUID(int=5)) == 1
    for wrong, text in ((np.datetime64("2021-05-01"), "has no datetime"), (True, "can't be ordered against True")):
        with pytest.raises(FilterError, match=text):
            docs.count(F("u") > wrong)
