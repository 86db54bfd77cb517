"""Cursors at their limits: many rows, a short change log, an older copy of the directory."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import vectordb
from vectordb import Dense, PreconditionError, Schema, Sparse
from vectordb.query import paging

ROWS = np.random.default_rng(2).standard_normal((600, 8)).astype(np.float32)
QUERY = {"v": ROWS[0]}


@pytest.fixture
def docs(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, change_log_batches=5) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(8), "s": Sparse("idf")}))
        docs.upsert(ids=list(range(600)), vectors={"v": ROWS, "s": [{i % 7: 1.0, 7 + i % 50: 0.5} for i in range(600)]})
        docs.optimize()
        yield docs


def pages(docs, query, limit, **options):
    hits = docs.search(query, limit=limit, **options)
    found, longest = hits.ids.tolist(), 0
    while hits.next is not None:
        longest = max(longest, len(hits.next))
        hits = docs.search(query, limit=limit, cursor=hits.next, **options)
        found += hits.ids.tolist()
    return found, longest


@pytest.mark.parametrize("recall", [0.3, None])
def test_an_approximate_plan_goes_on_until_pages_become_exact(docs, recall, monkeypatch):
    monkeypatch.setattr(paging, "MOST_LISTED", 60)
    found, longest = pages(docs, QUERY, 25, recall=recall)
    assert sorted(found) == list(range(600)) and longest < 1_000  # the cursor grows no more
    truth = docs.search(QUERY, limit=600, exact=True).ids.tolist()
    rest = [i for i in truth if i not in found[:75]]
    assert found[75:] == rest  # from the fourth page on exact


def test_a_cursor_of_a_long_page_does_not_list_it(docs, monkeypatch):
    monkeypatch.setattr(paging, "MOST_SHOWN", 100)
    truth = docs.search(QUERY, limit=600, exact=True).ids.tolist()
    for _ in range(3):  # the third time it is done directly
        first = docs.search(QUERY, limit=150)
    assert len(first.next) < 200
    later = docs.search(QUERY, limit=500, cursor=first.next).ids.tolist()
    assert later == truth[truth.index(first.ids[-1]) + 1 :]
    found, _ = pages(docs, {"s": {1: 1.0, 9: 1.0}}, 150)
    assert len(found) == len(set(found))


def test_the_change_log_must_reach_back_to_the_first_page(docs):
    first = docs.search(QUERY, limit=10, exact=True)
    whole = docs.search(QUERY, limit=20, exact=True).ids.tolist()
    for i in range(6):
        docs.upsert(ids=[1_000 + i], vectors={"v": ROWS[:1]})
    second = docs.search(QUERY, limit=10, exact=True, cursor=first.next)  # nothing died, so the log isn't needed
    assert sorted([*first.ids.tolist(), *second.ids.tolist()]) == sorted(whole)
    docs.upsert(ids=[5], vectors={"v": ROWS[9:10]})
    with pytest.raises(PreconditionError, match=r"the change log no longer has sequence \d+; start again without a cursor"):
        docs.search(QUERY, limit=10, exact=True, cursor=second.next)


def test_an_older_copy_refuses_a_later_cursor(docs, tmp_path):
    shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=shutil.ignore_patterns("*.lock", "lock.mdb"))
    docs.upsert(ids=[700], vectors={"v": ROWS[:1]})
    following = docs.search(QUERY, limit=10).next
    with (
        vectordb.open(tmp_path / "copy", maintenance=False) as database,
        pytest.raises(PreconditionError, match="but the collection is at"),
    ):
        database.collection("docs").search(QUERY, limit=10, cursor=following)


def test_a_query_that_its_owner_changes_is_the_one_that_was_searched(docs):
    for query in ({"v": ROWS[3].copy()}, {"v": ROWS[3].copy(), "s": {1: 1.0}}):
        for _ in range(3):
            hits = docs.search(query, limit=10)
        original = {name: value.copy() for name, value in query.items()}
        query["v"][:] = 0.5
        assert len(docs.search(original, limit=10, cursor=hits.next)) == 10
