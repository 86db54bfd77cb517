"""Get, scroll, iterate, count, changes, terms and facts: the same answers in each place."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tests.congruence.filled import SCHEMA, N, points
from vectordb import Change, F, Page, Point

WANTED = [
    {},
    {"with_vectors": True},
    {"with_vectors": ["s"], "with_attributes": ["at"]},
    {"with_vectors": ["top", "half"], "with_attributes": ["where", "key"]},
    {"with_attributes": False},
    {"with_attributes": []},
]
IDS = points()["ids"]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_points_are_got_in_the_order_of_their_ids(same, wanted):
    got = same(lambda docs: docs.get([*IDS[:20], "missing", 0], **wanted))
    assert [None if point is None else point.id for point in got] == [None if i in (3, "id 4") else i for i in IDS[:20]] + [None, 0]


@pytest.mark.parametrize("one", [0, "id 1", uuid.UUID(int=2), np.int64(6)], ids=str)
def test_one_point_is_got_by_its_id(same, one):
    assert type(same(lambda docs: docs.get(one))) is Point
    assert same(lambda docs: docs.get("missing")) is None
    assert same(lambda docs: docs.get([])) == []


def test_vectors_have_the_types_of_their_fields(same):
    vectors = same(lambda docs: docs.get(6, with_vectors=True)).vectors
    assert vectors.keys() == SCHEMA.vectors.keys()
    assert vectors["d"].dtype == "float32" and vectors["half"].dtype == vectors["top"].dtype == "float16"
    assert [part.dtype for part in vectors["s"]] == ["uint64", "float32"] and vectors["m"].shape == (1, 4)


@pytest.mark.parametrize("condition", [None, "n < 30", F("lang").isin(["en", "de"]), {"op": "is_null", "field": "x"}], ids=str)
def test_pages_have_every_point_once(same, condition):
    total = same(lambda docs: docs.count(condition))
    assert 0 < total < N
    for wanted in WANTED:
        assert len(same(lambda docs, wanted=wanted: docs.iterate(filter=condition, page=7, **wanted))) == total

    def pages(docs):
        page = docs.scroll(filter=condition, limit=9)
        yield page
        while page.cursor is not None:
            page = docs.scroll(filter=condition, limit=9, cursor=page.cursor)
            yield page

    read = same(pages)
    assert {type(page) for page in read} == {Page} and sum(map(len, read)) == total
    assert all(len(page) == 9 for page in read[:-1])


def test_a_collection_has_a_length_a_schema_and_facts(same):
    assert same(lambda docs: docs.schema) == SCHEMA and same(lambda docs: docs.name) == "docs"
    assert same(lambda docs: docs.count()) == N - 2
    for name in ("docs", "books", "every", "indexed"):
        info = same(lambda docs: docs.info(), name)
        assert info.points == same(lambda docs: docs.count(), name)
    assert same(lambda database: database.collections(), None) == ["books", "docs", "every", "indexed"]


def test_changes_are_streamed(same):
    wanted = {"with_vectors": True, "with_attributes": ["n", "at"]}
    for options in ({}, {"since": 1}, wanted):
        changes = same(lambda docs, options=options: docs.changes(**options))
        assert {type(change) for change in changes} == {Change} and changes[-1].kind == "delete"
    assert same(lambda docs: docs.changes(since=docs.info().sequence)) == []


def test_terms_have_words(same):
    assert same(lambda docs: docs.terms("s")) == {3: "three", 7: "seven"}
    words = same(lambda docs: docs.terms("words", limit=4))
    assert len(words) == 4 and len(same(lambda docs: docs.terms("words", after=max(words)))) > 0
