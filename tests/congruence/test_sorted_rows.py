"""Orders that are asked for again and again, whose rows are kept sorted: the same pages as by comparing all rows, while data changes."""

from __future__ import annotations

import random
from itertools import chain

import numpy as np
import pytest

import vectordb
from vectordb import Dense, Float, Keyword, Schema
from vectordb.query import sorted_rows

SCHEMA = Schema({"v": Dense(2)}, {"n": Float(), "k": Keyword(), "part": Keyword()})
FILTERS = [None, "part = 'most'", "n > 3", "part = 'few'"]


def attributes(rng, count):
    return {
        "n": [rng.choice([None, -0.0, float(rng.randrange(9)), rng.random()]) for _ in range(count)],
        "k": [rng.choice([None, "b", "a", "ä", f"w{rng.randrange(40)}"]) for _ in range(count)],
        "part": [rng.choice(["most"] * 30 + ["few"]) for _ in range(count)],
    }


def pages(docs, limit, **search):
    hits = docs.search(limit=limit, **search)
    yield hits.ids.tolist()
    while hits.next is not None:
        hits = docs.search(limit=limit, cursor=hits.next, **search)
        yield hits.ids.tolist()


@pytest.fixture
def docs(monkeypatch):
    monkeypatch.setattr(sorted_rows, "WALKED", 200)
    with vectordb.open(":memory:", maintenance=False) as database:
        yield database.create_collection("docs", SCHEMA)


def test_pages_are_those_of_comparing_all_rows(docs, monkeypatch):
    rng, count, walked = random.Random(3), 1500, 0
    docs.upsert(ids=range(count), vectors={"v": np.ones((count, 2))}, attributes=attributes(rng, count))
    page = sorted_rows.SortedRows.page

    def counted(*given):
        nonlocal walked
        found = page(*given)
        walked += found is not None
        return found

    monkeypatch.setattr(sorted_rows.SortedRows, "page", counted)
    for step in range(3):
        for name in ("n", "-n", "k", "-k"):
            for where in FILTERS:
                asked = {"order_by": [name], "filter": where}
                monkeypatch.setattr(sorted_rows, "ASKED", 10**9)
                expected = list(pages(docs, 97, **asked))
                monkeypatch.setattr(sorted_rows, "ASKED", 2)
                for _ in range(2):
                    assert list(pages(docs, 97, **asked)) == expected, (step, asked)
                assert [point.id for point in docs.scroll(filter=where, order_by=[name], limit=30)] == [*chain(*expected)][:30]
        ids = rng.sample(range(count), 200)
        docs.delete(ids[:100])
        docs.upsert(ids=ids[50:], vectors={"v": np.ones((150, 2))}, attributes=attributes(rng, 150))
    assert walked > 100


def test_a_page_continues_in_the_state_of_the_first(docs):
    rng, count = random.Random(4), 600
    docs.upsert(ids=range(count), vectors={"v": np.ones((count, 2))}, attributes=attributes(rng, count))
    for name in ("n", "-k"):
        for where in FILTERS[:2]:
            asked = {"order_by": [name], "filter": where, "limit": 25}
            for _ in range(sorted_rows.ASKED):
                first = docs.search(**asked)
            before = [[*page] for page in pages(docs, **asked)]
            gone = rng.sample(before[1], 5)
            docs.delete(gone)
            docs.upsert(ids=[*before[0][:9], 900], vectors={"v": np.ones((10, 2))}, attributes=attributes(rng, 10))
            for _ in range(sorted_rows.ASKED + 1):
                seen, cursor = first.ids.tolist(), first.next
                while cursor is not None:
                    page = docs.search(**asked, cursor=cursor)
                    seen, cursor = seen + page.ids.tolist(), page.next
                assert seen == [each for each in chain(*before) if each not in gone]
