"""The recall that is asked for is that of the fused list: what is measured, what is chosen, and the recall of held-out queries."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client.model.ranking import DBSF, RRF, Relative
from vectordb_client.model.schema import Dense, Schema, Sparse

import vectordb
from tests.support import indexed, sparse_indexed
from vectordb.query.fusion import depths, lists
from vectordb.query.fusion.depths import Choice, FusedRecall, Point

pytestmark = pytest.mark.usefixtures("full_calibration")

LIMIT, CANDIDATES = 10, 100


class Arms:
    """Two arms with the same 100 rows. A list costs its depth times its recall, and lacks the first of each 1 ÷ (1 − recall) rows."""

    def __init__(self):
        self.now, self.asked = 0.0, []

    def clock(self) -> float:
        return self.now

    def search(self, arm: int, point: Point):
        self.asked.append((arm, point))
        self.now += point.depth * point.recall
        rows = np.arange(point.depth)
        missing = 1.0 - point.recall
        found = rows[np.floor(rows * missing) == np.floor((rows + 1) * missing)]
        return found.astype(np.int64), np.ones(len(found), np.float32)


def first_rows(lists):
    """As if the fused list were the rows that some list has, in their order."""
    return np.unique(np.concatenate([docids for docids, _ in lists]))[:LIMIT]


def measured(arms: Arms, times: int = depths.FIRST, indexed: tuple[bool, ...] = (True, True)) -> FusedRecall:
    recall = FusedRecall(indexed, LIMIT, CANDIDATES, arms.clock)
    for _ in range(times):
        recall.measure(arms.search, first_rows)
    return recall


def test_nothing_is_chosen_before_enough_searches_were_measured():
    recall = measured(Arms(), depths.LEAST - 1)
    assert recall.choose(0.8) == Choice((Point(CANDIDATES, 0.8),) * 2, None, depths.LEAST - 1)
    assert recall.due()


def test_the_cheapest_lists_that_reach_the_recall_are_chosen():
    arms = Arms()
    recall = measured(arms)
    # Both lists lack the same rows, so the fused list has as many of the first ten as the better one.
    few = recall.choose(0.8)
    assert few.predicted >= 0.8 and few.searches == depths.FIRST
    costs = sorted(point.depth * point.recall for point in few.points)
    assert costs == sorted([LIMIT * depths.SHALLOW] * 2)
    assert recall.choose(0.995) == Choice((Point(CANDIDATES, 0.995),) * 2, None, depths.FIRST)  # above the reference's own recall


def test_every_point_and_the_reference_are_run_once_a_measured_search():
    arms = Arms()
    measured(arms, 1)
    expected = [*depths.points_of(LIMIT, CANDIDATES), Point(CANDIDATES, depths.REFERENCE)]
    assert sorted(arms.asked) == sorted((arm, point) for arm in (0, 1) for point in expected)


def test_an_arm_without_an_index_is_read_once():
    arms = Arms()
    recall = measured(arms, 1, (True, False))
    assert [point for arm, point in arms.asked if arm == 1] == [Point(CANDIDATES, 1.0)]
    assert len(recall.combinations) == len(depths.points_of(LIMIT, CANDIDATES))


def test_of_many_arms_only_equal_points_are_combined():
    assert len(measured(Arms(), 0, (True,) * 4 + (False,)).combinations) == len(depths.points_of(LIMIT, CANDIDATES))


def test_a_few_later_searches_are_measured():
    recall = measured(Arms())
    assert sum(recall.due() for _ in range(10 * depths.EVERY)) == 10


@pytest.mark.parametrize("limit", [1, 10, 100, 1_000])
def test_points_have_room_for_the_results(limit):
    points = depths.points_of(limit, max(100, 4 * limit))
    assert all(limit <= point.depth <= max(100, 4 * limit) and 0 < point.recall < 1 for point in points)
    assert len(set(points)) == len(points)


class AtOnce:
    """Measures before the search returns, instead of in the background."""

    rested = True

    def start(self, work, hurry) -> None:
        work()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(lists, "budget", AtOnce())


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """6,000 points with a dense and a sparse vector that agree in part, and 200 queries. So few searches are audited that none is here."""
    n, queries = 6_000, 200
    rng = np.random.default_rng(3)
    topics = sparse_indexed.topics_of(5, n + queries)
    middles = 1.2 * rng.standard_normal((8, indexed.DIM))
    vectors = (middles[topics] + rng.standard_normal((n + queries, indexed.DIM))).astype(np.float32)
    texts = list(sparse_indexed.texts(5, n + queries).vectors())
    with vectordb.open(tmp_path_factory.mktemp("fused"), maintenance=False, recall_audit=1e-9) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(indexed.DIM), "s": Sparse()}))
        docs.upsert(ids=range(n), vectors={"v": vectors[:n], "s": texts[:n]})
        docs.optimize()
        yield docs, [{"v": vector, "s": text} for vector, text in zip(vectors[n:], texts[n:], strict=True)]


# Observed: 0.88–0.96 for 0.8, 0.998–1.0 for 0.95, 0.999–1.0 for 0.99. A floor is three standard errors of 100 queries below the target.
@pytest.mark.parametrize("fusion", [RRF(), Relative(), DBSF(), RRF(weights={"s": 2.0}, missing="renormalise")], ids=repr)
def test_held_out_queries_reach_the_recall_of_the_fused_list(docs, fusion):
    collection, queries = docs
    options = {"limit": LIMIT, "fusion": fusion, "with_attributes": False}
    for query in queries[:100]:
        collection.search(query, recall=0.9, **options)
    truth = [set(hits.ids.tolist()) for hits in (collection.search(query, exact=True, **options) for query in queries[100:])]
    for target, floor in ((0.8, 0.75), (0.95, 0.92), (0.99, 0.975)):
        found = [collection.search(query, recall=target, **options).ids.tolist() for query in queries[100:]]
        overlap = np.mean([len(true.intersection(ids)) / LIMIT for true, ids in zip(truth, found, strict=True)])
        assert overlap >= floor, (target, overlap)


def test_the_plan_says_how_deep_the_arms_were_read_and_why(docs):
    collection, queries = docs
    options = {"limit": LIMIT, "fusion": RRF(k=30.0), "with_attributes": False, "recall": 0.8}
    before = collection.search(queries[0], **options, explain=True).plan["fusion"]
    assert before["recall"] == {"target": 0.8, "predicted": None, "searches": 0}
    assert before["lists"] == {name: {"depth": CANDIDATES, "recall": 0.8} for name in ("v", "s")}
    hits = [collection.search(query, **options) for query in queries[:80]]
    assert [len(each) for each in hits] == [LIMIT] * 80
    plan = collection.search(queries[0], **options, explain=True).plan
    recall = plan["fusion"]["recall"]
    assert recall["predicted"] >= 0.8 and recall["searches"] == depths.FIRST
    for arm in plan["arms"]:
        asked = plan["fusion"]["lists"][arm["field"]]
        assert arm["candidates"] == asked["depth"] and arm["recall"]["target"] == asked["recall"]
    assert f"of {depths.FIRST} searches measured, 0.800 requested" in str(plan)


def test_exact_searches_and_small_results_are_read_whole(docs):
    collection, queries = docs
    plan = collection.search(queries[0], limit=LIMIT, exact=True, explain=True).plan
    assert "lists" not in plan["fusion"] and [arm["candidates"] for arm in plan["arms"]] == [CANDIDATES] * 2


def test_searches_are_measured_in_the_background_where_audits_are_allowed(docs, monkeypatch):
    waiting = []
    monkeypatch.setattr(lists, "budget", type("Later", (AtOnce,), {"start": lambda self, work, hurry: waiting.append(work)})())
    collection, queries = docs
    options = {"limit": LIMIT, "fusion": RRF(k=17.0), "with_attributes": False, "recall": 0.8}
    query = {"v": queries[0]["v"].copy(), "s": queries[0]["s"]}
    collection.search(query, **options)
    query["v"][:] = 0.0  # the caller's array is the caller's
    (measure,) = waiting
    seen = lambda: collection.search(queries[1], **options, explain=True).plan["fusion"]["recall"]["searches"]  # noqa: E731
    assert seen() == 0
    measure()
    assert seen() == 1
    collection._directory.audits.share, share = 0.0, collection._directory.audits.share
    collection.search(queries[1], **options)
    collection._directory.audits.share = share
    assert len(waiting) == 1
