"""Direct searches of one sparse field find what the long way finds, with the same scores."""

from __future__ import annotations

import numpy as np
import pytest

import vectordb
from vectordb import F, Int, Schema, Sparse
from vectordb.index.model import Corrections
from vectordb.query import direct_sparse

ROWS, TAIL = 1_500, 60


def rows(count: int, seed: int, signed: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        terms = np.unique(np.minimum(rng.geometric(0.02, 12), 400)).astype(np.uint64)
        weights = (rng.random(len(terms)) + 0.1).astype(np.float32)
        made.append((terms, weights * rng.choice([-1, 1], len(terms)).astype(np.float32) if signed else weights))
    return made


@pytest.fixture(scope="module", params=["plain", "idf", "signed"])
def docs(request, tmp_path_factory):
    spec = Sparse(weighting="idf") if request.param == "idf" else Sparse()
    with vectordb.open(tmp_path_factory.mktemp("sparse"), durability="batched", maintenance=False, recall_audit=0) as database:
        collection = database.create_collection("docs", Schema({"s": spec}, {"n": Int()}))
        held = rows(ROWS, 1, request.param == "signed")
        collection.upsert(ids=range(ROWS - TAIL), vectors={"s": held[:-TAIL]}, attributes={"n": range(ROWS - TAIL)})
        collection.optimize()
        collection.upsert(ids=range(ROWS - TAIL, ROWS), vectors={"s": held[-TAIL:]}, attributes={"n": range(ROWS - TAIL, ROWS)})
        collection.delete(ids=range(0, ROWS, 17))
        yield collection


@pytest.fixture(autouse=True)
def same_plans(monkeypatch):
    """Times of searches change no plan: both ways search alike, however busy the machine is."""
    monkeypatch.setattr(Corrections, "learn_cost", lambda *_: None)


@pytest.fixture
def count(monkeypatch):
    """Counts the direct searches."""
    done, search = [], direct_sparse.DirectSparse.search

    def counted(*arguments):
        hits = search(*arguments)
        done.append(hits is not None)
        return hits

    monkeypatch.setattr(direct_sparse.DirectSparse, "search", counted)
    return done


def plain(hits) -> list:
    return [(hit.id, hit.score, dict(hit.attributes)) for hit in hits]


@pytest.mark.parametrize(
    ("options", "usual"),
    [
        ({}, True),
        ({"recall": 0.99, "with_attributes": False}, True),
        ({"limit": 40, "filter": F("n") < 700}, True),
        ({"filter": F("n").isin([1, 2, 3, ROWS - 1])}, False),
        ({"limit": 2 * ROWS, "recall": 1.0, "with_attributes": ["n"]}, False),
    ],
    ids=["usual", "more recall", "filtered", "few match", "every row"],
)
def test_direct_searches_find_the_same(docs, count, monkeypatch, options, usual):
    queries = [*rows(12, 7), ([3], [1.0]), {5: 0.5, 9: 2.0}]
    for _ in range(3):
        docs.search({"s": queries[0]}, **options)
    count.clear()
    found = [docs.search({"s": query}, **options) for query in queries]
    if usual:  # else rows that share no term with the query may be among the best, which the long way finds
        assert sum(count) >= 10, count
    direct = [plain(hits) for hits in found]
    cursors = [hits.next for hits in found]
    monkeypatch.setattr(direct_sparse.DirectSparse, "search", lambda *_: None)
    again = [docs.search({"s": query}, **options) for query in queries]
    assert direct == [plain(hits) for hits in again]
    for query, cursor, hits in zip(queries, cursors, again, strict=True):
        assert (cursor is None) == (hits.next is None)
        if cursor is not None:
            pages = [docs.search({"s": query}, cursor=each, **options) for each in (cursor, hits.next)]
            assert plain(pages[0]) == plain(pages[1])


def test_changes_are_seen(docs, count):
    query = ([1, 2, 3], [1.0, 1.0, 1.0])
    for _ in range(3):
        docs.search({"s": query}, limit=3)
    assert any(count)
    docs.upsert(ids=["new"], vectors={"s": [([1, 2, 3], [50.0, 50.0, 50.0])]}, attributes={"n": [None]})
    assert [docs.search({"s": query}, limit=3)[0].id for _ in range(4)] == ["new"] * 4
    docs.delete(ids=["new"])
    assert all(docs.search({"s": query}, limit=3)[0].id != "new" for _ in range(4))


def test_wrong_queries_are_refused_as_before(docs):
    for _ in range(4):
        docs.search({"s": ([1, 2], [1.0, 1.0])})
    for wrong, message in (
        (([2, 1], [1.0]), "2 terms and 1 weights"),
        (([1, 1], [1.0, 1.0]), "twice|repeat|more than once"),
        (([1], [np.nan]), "the weight nan"),
        ("text", "s"),
    ):
        with pytest.raises(vectordb.InvalidArgumentError, match=message):
            docs.search({"s": wrong})
