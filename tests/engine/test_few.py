"""Filters that few rows match: they become docids, and a search that asks a new one goes the short way, with the answer of the long one."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client.model.filter_nodes import And, Filter
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.indexed import clustered, held_out
from vectordb import Bool, Dense, F, Float, Int, Keyword, LimitError, Schema, Uuid
from vectordb.common import deadline, memory
from vectordb.filters import as_filter, docids
from vectordb.filters.bitmap import _evaluate, matching_rows
from vectordb.filters.cache import FilterCache
from vectordb.filters.canonical import canonical
from vectordb.filters.docids import docids_of
from vectordb.index.mask import FEW_ROWS
from vectordb.query import direct, execute

ROWS, DIM = 6_000, 24
SIMPLE = [
    "k = 'k7'",
    "k = 'nobody'",
    "k IN ('k1', 'k2', 'nobody')",
    "n BETWEEN 100 AND 180",
    "n = 7 OR n BETWEEN 900 AND 905",
    "n IN (5, 6, 900)",
    "x > 0.985",
    "x = 0",
    "x IN (0, 0.25)",
    "b = true AND n < 60",
    "k = 'k7' AND n < 3000 AND x > 0.5",
    "n < 40 AND k != 'k3'",
    "n < 40 AND NOT k IN ('k3', 'k4', 'nobody') AND NOT x < 0.5",
    "ks CONTAINS 't31'",
    "ks CONTAINS ANY ('t31', 't32')",
    "ks CONTAINS ALL ('t1', 't2')",
    "ns = 17",
    "ns BETWEEN 10 AND 12 AND n < 3000",
    "NOT ns > 3 AND n < 90",
    "u = UUID '00000000-0000-0000-0000-000000000003'",
]
OTHERS = ["k = 'k7' AND b IS NULL", "n < 7 OR n > 5990", "k != 'k7'", "k IS NULL", "ks GLOB 't*1'", "k = 'k7' OR n < 3", "COUNT(ks) = 2"]


def values(low: int, high: int) -> dict:
    rng = np.random.default_rng(low)
    numbers = list(range(low, high))
    return {
        "n": numbers,
        "k": [f"k{i % 50}" if i % 9 else None for i in numbers],
        "x": [{0: -0.0, 1: 0.25}.get(i % 30, float(rng.random())) if i % 7 else None for i in numbers],
        "b": [(True, False, None)[i % 3] for i in numbers],
        "ks": [[f"t{j}" for j in rng.integers(0, 40, i % 4)] for i in numbers],
        "ns": [rng.integers(0, 40, i % 5).tolist() if i % 6 else None for i in numbers],
        "u": [f"00000000-0000-0000-0000-00000000000{i % 9}" if i % 40 == 0 else None for i in numbers],
    }


def fill(database, rows: int = ROWS, indexed: int = ROWS, metric: str = "cosine"):
    attributes = {
        "n": Int(),
        "k": Keyword(),
        "x": Float(),
        "b": Bool(),
        "u": Uuid(),
        "ks": Keyword(array=True),
        "ns": Int(array=True),
    }
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, metric)}, attributes))
    vectors = clustered(1, rows, DIM)
    for low, high in ((0, indexed), (indexed, rows)):
        if low < high:
            docs.upsert(ids=range(low, high), vectors={"v": vectors[low:high]}, attributes=values(low, high))
        if high == indexed:
            docs.optimize()
    return docs


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, recall_audit=0, durability="batched") as database:
        yield database


def checked(docs, given: str, cache: FilterCache) -> np.ndarray | None:
    """The docids of a filter; None if it wasn't evaluated to docids. Bitmaps give the same."""
    with docs._snapshots.pin() as view:
        node = canonical(as_filter(given), view.schema)
        found, expected = docids_of(node, view, cache), _evaluate(node, view, None)
        if found is not None:
            assert found.dtype == np.uint32 and (np.diff(found.astype(np.int64)) > 0).all(), given
            assert set(found.tolist()) - set(view.dead) == set(expected - view.dead), given  # some dead rows are in the column no more
        live = matching_rows(node, view, cache)
        assert list(live) == list(expected - view.dead), given
        assert matching_rows(node, view, cache) is live
        return found


def test_simple_filters_become_docids_while_rows_come_and_go(database):
    docs, cache = fill(database, indexed=0), FilterCache()
    ids = ROWS
    for step in range(6):
        for given in SIMPLE:
            for _ in range(docids.SCANS):
                found = checked(docs, given, cache)
            assert found is not None, given
        for given in OTHERS:
            assert checked(docs, given, cache) is None, given
        if step % 2:
            docs.delete(range(step * 3, step * 3 + 40, 2))
        else:
            docs.upsert(ids=range(ids, ids + 900), attributes=values(ids, ids + 900))
            ids += 900
        if step == 3:
            docs.optimize()


def test_what_many_rows_match_becomes_a_bitmap(database, monkeypatch):
    docs, cache = fill(database, indexed=0), FilterCache()
    monkeypatch.setattr(docids, "LEAST_MANY", 100)
    for given in ("n < 1000", "k IN ('k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8')", "b = true", "n < 3000 AND b = true"):
        for _ in range(3):
            assert checked(docs, given, cache) is None, given
    assert checked(docs, "n < 3000 AND k = 'k7'", cache) is not None
    for long in (f"n IN ({', '.join(map(str, range(0, 400, 2)))})", " AND ".join(f"ks CONTAINS 't{i}'" for i in range(9))):
        assert checked(docs, long, cache) is None, long


def test_values_are_put_in_order_once_asked_for_again(database):
    docs, cache = fill(database, indexed=0), FilterCache()

    def found(given: str, cache: FilterCache = cache) -> int | None:
        """The number of rows found; None if they weren't looked up."""
        with docs._snapshots.pin() as view:
            rows = docids_of(canonical(as_filter(given), view.schema), view, cache)
        return None if rows is None else len(rows)

    def ordered() -> int | None:
        with docs._snapshots.pin() as view:
            known = cache.get(("ordered", view.fields["n"]))
        return None if known is None else known[0]

    assert found("n < 10") is None and ordered() is None
    assert found("n < 11") == 11 and ordered() == ROWS
    docs.upsert(ids=range(ROWS, ROWS + docids.NEWER), attributes=values(ROWS, ROWS + docids.NEWER))
    assert found(f"n >= {ROWS - 3}") == docids.NEWER + 3  # newer rows are looked for in the column
    docs.upsert(ids=[10**6], attributes=values(10**6, 10**6 + 1))
    newest = f"n >= {ROWS + docids.NEWER - 3}"
    assert found(newest) == 4 and ordered() == ROWS
    assert found(newest) == 4 and ordered() == ROWS + docids.NEWER + 1
    small = FilterCache(capacity=10_000)
    assert [found("n < 12", small) for _ in range(4)] == [None] * 4
    assert all(key[0] != "ordered" for key in small._entries)


def test_memory_is_counted(database):
    docs = fill(database, indexed=0)
    pool = memory.Pool(1 << 30, 100, 0.1, ("a", "b"))
    with deadline.scope(deadline.Deadline(60, allowance=pool.allowance())), pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "SMALL", 64)
        with pytest.raises(LimitError), docs._snapshots.pin() as view:
            docids_of(canonical(as_filter("k = 'k7'"), view.schema), view, FilterCache())


def both_ways(docs, query, given, **options):
    """(the hits of a direct search or None, those of the long way)."""
    request = SearchRequest.of({"filter": given, **options})
    hits = docs._direct(request, {"v": query})
    (long,) = docs.pieces.search_anything(request, {"v": query}, None, False, execute.whole)
    return hits, long


@pytest.mark.parametrize(
    ("metric", "indexed"), [("cosine", 0), ("cosine", 5_000), ("cosine", ROWS), ("dot", 5_000), ("l2", ROWS), ("l2", 0)]
)
def test_new_filters_are_searched_directly(database, metric, indexed):
    docs = fill(database, indexed=indexed, metric=metric)
    docs.delete(range(0, 600, 5))
    queries = held_out(4, DIM)
    docs.search({"v": queries[0]}, filter="n < 3", with_attributes=False, limit=12)  # makes the block of all of them
    for given in [*SIMPLE, *OTHERS, F("n") < 31, {"op": "eq", "field": "k", "value": "k9"}, "n < 900"]:
        for _ in range(docids.SCANS - 1):  # so that ranges are looked up by then
            docs.count(given)
        for query in queries:
            hits, long = both_ways(docs, query, given, limit=12, with_attributes=False)
            exact = docs.search({"v": query}, filter=given, limit=12, with_attributes=False, exact=True)
            if hits is None:
                assert docs.count(given) > FEW_ROWS, given
                continue
            assert hits.ids.tolist() == long.ids.tolist() and hits.scores.tobytes() == long.scores.tobytes(), given
            assert len(hits) == len(exact) == min(12, docs.count(given))
            if docs.count(given) <= FEW_ROWS:
                assert len(np.setdiff1d(exact.ids, hits.ids)) <= 1, given  # none


def test_what_is_not_few_goes_the_long_way(database):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    docs.search({"v": query}, filter="n < 3")
    for given in ("n < 5000", "k != 'k7'"):
        hits, long = both_ways(docs, query, given)
        assert hits is None and len(long) == 10
    for wrong in ("id = 3", "n = 'x'", "n ="):
        request = SearchRequest.of({"filter": wrong})
        assert docs._direct(request, {"v": query}) is None
        with pytest.raises(vectordb.FilterError):
            docs.search({"v": query}, filter=wrong)


def test_a_recorded_search_among_few_rows_tells_its_plan(database):
    docs = fill(database, indexed=5_000)
    (query,) = held_out(1, DIM)
    for given in ("n < 3", "n >= 4900 AND n < 5100"):
        docs.search({"v": query}, filter=given)
    explained = docs.search({"v": query}, filter="n >= 4900 AND n < 5101", explain=True).plan
    direct.trace.begin()
    try:
        trace = direct.trace.current()
        hits = docs._direct(SearchRequest.of({"filter": "n >= 4900 AND n < 5101"}), {"v": query})
    finally:
        direct.trace.end()
    plan = trace.plan()
    assert hits is not None and trace.plan_name() == "scan"
    assert plan["filter"] == explained["filter"] == {"matches": 201, "selectivity": 201 / ROWS}
    ours, theirs = plan["arms"][0], explained["arms"][0]
    assert ours["tail"]["rows"] == theirs["tail"]["rows"] == 101
    assert ours["segments"][0]["matches"] == theirs["segments"][0]["matches"] == 100
    assert ours["segments"][0]["predicted"] == theirs["segments"][0]["predicted"]


@pytest.mark.parametrize(
    "alike",
    [
        ["n BETWEEN 0 AND 3", "n IN (0, 3, 1, 2)", "n >= 0 AND n < 4", "n > -1 AND NOT n > 3", F("n").isin(range(4))],
        ["k = 'k7' AND n < 900", "n < 900 AND k = 'k7'", "NOT (k != 'k7' OR n >= 900 OR n IS NULL)", And((F("n") < 900, F("k") == "k7"))],
        ["x = 0", "x = -0.0", "x BETWEEN 0 AND 0"],
    ],
)
def test_equivalent_filters_have_one_plan_and_result(database, alike: list[str | Filter]):
    docs = fill(database)
    (query,) = held_out(1, DIM)
    docs.search({"v": query}, filter="n < 2")
    with docs._snapshots.pin() as view:
        assert len({docs._filters.bind(given, view.schema) for given in alike}) == 1
    direct_hits, long_hits, plans = [], [], []
    for given in alike:
        hits, long = both_ways(docs, query, given)
        direct_hits.append(hits)
        long_hits.append(long)
        plan = docs.search({"v": query}, filter=given, explain=True).plan
        plans.append((plan["filter"], plan["arms"][0]["segments"][0]["plan"], plan["arms"][0]["segments"][0]["matches"]))
    assert all(each == plans[0] for each in plans)
    assert all(each == long_hits[0] for each in [*long_hits, *[hits for hits in direct_hits if hits is not None]])
