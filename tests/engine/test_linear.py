"""Linear fusion: hits are the best of Σ weight · score over all points, and each score is the exact sum of its parts."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

import vectordb
from tests.support.nightly import cases
from tests.support.upkeep import until
from vectordb import HNSW, Dense, F, Int, InvalidArgumentError, Linear, MultiVector, Schema, Sparse
from vectordb.query.fusion import linear
from vectordb.query.fusion.linear import Listed, Source, top

ROWS = 300
SCHEMA = Schema(
    {"d": Dense(8), "ip": Dense(4, "dot", "float16"), "far": Dense(3, "l2"), "s": Sparse(), "idf": Sparse("idf"), "m": MultiVector(4)}
    | {"bits": Sparse(binary=True)},
    {"n": Int()},
)


class Scored:
    """An arm as the threshold algorithm reads it, over given scores (float32, NaN: no match), and how deep it was read.

    bounds: what it is listed by, at least the scores and at most ``below`` (an array) above them; the scores themselves by default.
    """

    def __init__(self, scores, weight, needed, bounds=None, below=None, guessing=False):
        self.scores, self.deepest, self.below = scores, 0, below
        self.bounds = scores if bounds is None else bounds
        guess, ceiling = (self.guess, float(np.nanmax(scores, initial=-1e30))) if guessing else (None, np.inf)
        self.source = Source(weight, needed, self.best, self.looked_up, guess, ceiling)

    def best(self, k, floor=-np.inf):
        self.deepest = max(self.deepest, k)
        docids, scores = self.ranked(self.bounds)
        there = int((scores.astype(np.float64) >= floor).sum())
        rest = float(scores[k - 1]) if there >= k else None if floor == -np.inf else floor
        docids, scores = docids[: min(k, there)], scores[: min(k, there)]
        return Listed((docids, scores), None if self.below is None else self.below[docids], rest)

    def guess(self, k):
        """Some good rows, but not all."""
        docids, scores = self.ranked(self.scores)
        return docids[::2][:k], scores[::2][:k]

    def ranked(self, scores):
        matches = np.flatnonzero(~np.isnan(scores))
        order = matches[np.lexsort((matches, -scores[matches]))]
        return order, scores[order]

    def looked_up(self, docids):
        assert (np.diff(docids) > 0).all()
        found = docids[~np.isnan(self.scores[docids])][::-1]  # in any order
        return found, self.scores[found]


def exhaustive(arms, limit):
    """(docids, sums) by adding up every row."""
    total = np.zeros(len(arms[0].scores))
    hit = np.zeros(len(total), np.bool_)
    for arm in arms:
        has = ~np.isnan(arm.scores)
        total += np.where(has, arm.source.weight * np.where(has, arm.scores, 0.0).astype(np.float64), -np.inf if arm.source.needed else 0.0)
        hit |= has
    rows = np.flatnonzero(hit & (total > -np.inf))
    rows = rows[np.lexsort((rows, -total[rows]))[:limit]]
    return rows.tolist(), total[rows].tolist()


def drawn_scores(rng):
    """Scores of an arm: of any sign and size, some missing, many equal, or in the opposite order of another arm."""
    rising = np.linspace(-1, 1, ROWS)
    scores = rng.choice([rng.standard_normal(ROWS), rng.random(ROWS), -rng.random(ROWS), rising, -rising])
    if rng.random() < 0.4:
        scores = np.round(scores * rng.integers(0, 4))  # ties, or one score for all
    scores = (scores * 10.0 ** rng.integers(-6, 7)).astype(np.float32)
    scores[rng.random(ROWS) < rng.choice([0, 0.1, 0.9, 1.0])] = np.nan
    return scores


def drawn_arm(rng, weight):
    """What a Scored is made of; every other one is listed by scores that are off."""
    scores, needed = drawn_scores(rng), bool(rng.random() < 0.25)
    if rng.random() < 0.5:
        return scores, weight, needed
    gaps = np.nanmax(np.abs(scores), initial=0.0) * rng.choice([1e-3, 0.1]) * rng.random(ROWS)
    bounds = (scores.astype(np.float64) + gaps).astype(np.float32)
    bounds = np.where(bounds < scores, scores, bounds)
    return scores, weight, needed, bounds, (bounds.astype(np.float64) - scores) * rng.choice([1.0, 1.5]), bool(rng.random() < 0.7)


@pytest.mark.parametrize("seed", range(cases(15, 30)))
def test_a_proof_by_the_first_lists_is_that_of_the_long_way(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    scores = [drawn_scores(rng) for _ in range(rng.integers(1, 4))]
    weights, limit, depth = rng.random(len(scores)), int(rng.integers(1, 20)), int(rng.integers(20, 60))

    def ranked() -> list:
        arms = [Scored(each, float(weight), False) for each, weight in zip(scores, weights, strict=True)]
        return [np.asarray(part).tolist() for part in dataclasses.astuple(top([arm.source for arm in arms], limit, depth, True))]

    monkeypatch.setattr(linear, "SCORED_AT_ONCE", 1_000)
    at_once = ranked()
    monkeypatch.setattr(linear, "_proven_at_once", lambda *given: None)
    *long_way, _ = ranked()
    np.testing.assert_equal(at_once[:-1], long_way)


@pytest.mark.parametrize("seed", range(cases(20, 40)))
def test_the_threshold_algorithm_finds_what_adding_up_every_row_finds(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        weights = [float(rng.choice([0.0, 1e-9, 0.3, 1.0, 7.0, 1e9])) for _ in range(rng.integers(1, 5))]
        arms = [Scored(*drawn_arm(rng, weight)) for weight in weights]
        limit, depth = int(rng.choice([1, 10, 400])), int(rng.choice([1, 20, 1000]))
        sources = [arm.source for arm in arms]
        ranking = top(sources, limit, depth, True)
        assert (ranking.docids.tolist(), ranking.sums.tolist()) == exhaustive(arms, limit) and ranking.proven
        assert ranking.scores.shape == ranking.ranks.shape == (len(arms), len(ranking.docids))
        for arm, scores, ranks in zip(arms, ranking.scores, ranking.ranks, strict=True):
            np.testing.assert_array_equal(scores, arm.scores[ranking.docids].astype(np.float64))
            whole = arm.ranked(arm.scores)[0].tolist()
            listed = set(arm.best(ROWS)[0][0].tolist())
            for docid, rank in zip(ranking.docids.tolist(), ranks.tolist(), strict=True):
                assert rank in (0, whole.index(docid) + 1 if docid in listed else 0)


def test_lists_are_made_no_longer_than_the_proof_needs():
    agreeing = np.linspace(1, 0, ROWS).astype(np.float32)
    arms = [Scored(agreeing, 1.0, False), Scored(agreeing, 1.0, False)]
    assert top([a.source for a in arms], 5, 10, True).proven
    assert [arm.deepest for arm in arms] == [10, 10]
    opposed = [Scored(agreeing, 1.0, False), Scored(agreeing[::-1].copy(), 1.0, False)]
    assert top([a.source for a in opposed], 5, 10, True).depth == ROWS  # every sum is the same


def test_an_arm_that_cannot_change_the_best_is_not_listed():
    rng = np.random.default_rng(3)
    ruling, other = np.zeros(ROWS, np.float32), rng.random(ROWS).astype(np.float32)
    ruling[rng.choice(ROWS, 30, replace=False)] = 10 + np.arange(30)
    arms = [Scored(ruling, 1.0, False), Scored(other, 1.0, False, guessing=True)]
    ranking = top([arm.source for arm in arms], 10, 20, True)
    assert ranking.proven and (ranking.docids.tolist(), ranking.sums.tolist()) == exhaustive(arms, 10)
    assert arms[1].deepest == 0
    arms[0].source = dataclasses.replace(arms[0].source, weight=0.01)
    ranking = top([arm.source for arm in arms], 10, 20, True)
    assert ranking.proven and (ranking.docids.tolist(), ranking.sums.tolist()) == exhaustive(arms, 10)
    assert arms[1].deepest > 0


def test_lists_that_may_lack_rows_prove_nothing_but_their_rows_get_their_true_sums():
    rng = np.random.default_rng(0)
    arms = [Scored(rng.standard_normal(ROWS).astype(np.float32), 1.0, False) for _ in range(2)]
    lists = [tuple(column[::2] for column in arm.best(60)[0]) for arm in arms]
    sources = [
        Source(1.0, False, lambda k, floor, listed=listed: Listed(listed, None, 0.0), arm.looked_up)
        for arm, listed in zip(arms, lists, strict=True)
    ]
    ranking = top(sources, 10, 30, False)
    assert not ranking.proven
    held = np.union1d(lists[0][0], lists[1][0])
    only = [Scored(np.where(np.isin(np.arange(ROWS), held), arm.scores, np.float32(np.nan)), 1.0, False) for arm in arms]
    assert (ranking.docids.tolist(), ranking.sums.tolist()) == exhaustive(only, 10)


# ---- In a database ----


def column(rng, name, n):
    spec = SCHEMA.vectors[name]
    if isinstance(spec, Sparse):
        return [{int(t): float(w) for t, w in zip(rng.choice(40, 4, replace=False), rng.choice([0.5, 1.0, 2.5], 4))} for _ in range(n)]
    if isinstance(spec, MultiVector):
        return [rng.integers(-2, 3, (rng.integers(1, 4), 4)) + 0.5 for _ in range(n)]
    return list(rng.integers(-2, 3, (n, spec.dim)) + 0.25)


def points(rng, ids):
    """Vectors with many equal numbers, and holes in every field."""
    vectors = {}
    for name in SCHEMA.vectors:
        vectors[name] = [None if rng.random() < 0.2 else value for value in column(rng, name, len(ids))]
    return {"ids": ids, "vectors": vectors, "attributes": {"n": ids}}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """With rows in segments and behind them, replaced and deleted ones."""
    rng = np.random.default_rng(5)
    with vectordb.open(tmp_path_factory.mktemp("linear") / "data", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert(**points(rng, list(range(700))))
        docs.delete(list(range(0, 700, 9)))
        docs.optimize()
        docs.upsert(**points(rng, list(range(300, 400))))
        docs.upsert(**points(rng, list(range(700, 760))))
        docs.delete(list(range(305, 760, 11)))
        assert docs.info().statistics["d"]["segments"] and docs.info().statistics["d"]["tail"]
        docs.search(dict(zip(SCHEMA.vectors, [column(rng, name, 1)[0] for name in SCHEMA.vectors], strict=True)))
        until(lambda: database.directory.index_files.verified())
        yield docs


def summed(docs, query, weights, node):
    """id → (fused score, arm → raw score) of all hits, from whole exact searches of each arm."""
    parts: dict = {}
    for name in query:
        for hit in docs.search({name: query[name]}, filter=node, limit=1000, exact=True):
            parts.setdefault(hit.id, {})[name] = hit.score
    sums = {}
    for i, scores in parts.items():
        if "far" in query and "far" not in scores:
            continue
        total = 0.0
        for name in query:
            total += weights.get(name, 1.0) * (-scores[name] if name == "far" else scores[name]) if name in scores else 0.0
        sums[i] = (total, scores)
    return sums


def check(hits, query, weights, sums, limit):
    """The true best, in order (equal sums: older rows first, which the caller's ids say), each hit's parts adding up exactly."""
    assert len(hits) == min(limit, len(sums))
    assert [hit.score for hit in hits] == sorted((total for total, _ in sums.values()), reverse=True)[:limit]
    for hit in hits:
        total, scores = sums[hit.id]
        assert hit.score == total == sum(said.contribution for said in hit.arms.values())
        assert list(hit.arms) == list(query)
        for name, said in hit.arms.items():
            assert said.score == scores.get(name) and said.weight == weights.get(name, 1.0)
            assert said.contribution == (0.0 if said.score is None else said.weight * said.normalized)
            assert said.normalized == (None if said.score is None else -said.score if name == "far" else said.score)


QUERIES = [("d", "s"), ("d", "bits"), ("d", "far"), ("far", "ip", "idf"), ("m", "s"), ("d", "ip", "far", "s", "idf", "m"), ("s", "idf")]


@pytest.mark.parametrize("names", QUERIES, ids="+".join)
@pytest.mark.parametrize("node", [None, F("n") < 350, F("n") == 301], ids=["all", "half", "one"])
def test_hits_are_the_best_sums_of_all_points(collection, names, node):
    rng = np.random.default_rng(len(names))
    for weights in ({}, dict.fromkeys(names, 0.0), {names[0]: 1e-4, names[-1]: 50.0}):
        query = {name: column(rng, name, 1)[0] for name in names}
        sums = summed(collection, query, weights, node)
        for limit, candidates in itertools.product((1, 10, 1000), (None, 2)):
            hits = collection.search(query, fusion=Linear(weights), filter=node, limit=limit, candidates=candidates, explain=True)
            check(hits, query, weights, sums, limit)
            assert hits.plan["fusion"]["proven"] and hits.plan["exact"] and "proven to be the true best" in str(hits.plan)
            assert {arm["field"] for arm in hits.plan["arms"]} == set(names)
            scanned = {arm["field"] for arm in hits.plan["arms"] if arm["plan"] == "scan of byte codes with error bounds"}
            passed_over = {arm["field"] for arm in hits.plan["arms"] if arm["plan"] == "segments"} & {"d", "ip", "far"}
            assert scanned | passed_over == {"d", "ip", "far"} & set(names) and len(passed_over) < 2  # those that have segments
        for limit in (1, 10, 1000):
            options = {"fusion": Linear(weights), "filter": node, "limit": limit}
            assert collection.search(query, exact=True, **options) == collection.search(query, recall=1.0, **options)


def test_equal_sums_are_ranked_by_age(collection):
    hits = collection.search({"d": np.ones(8), "s": {1: 1.0}}, fusion=Linear({"d": 0.0, "s": 0.0}), limit=1000)
    assert {hit.score for hit in hits} == {0.0}
    untouched = [hit.id for hit in hits if not 300 <= hit.id < 400]  # the others were written again, after these
    assert [hit.id for hit in hits][: len([i for i in untouched if i < 700])] == sorted(i for i in untouched if i < 700)


def test_a_point_without_an_l2_vector_is_no_hit_and_one_without_another_scores_nothing_there(database):
    docs = database.create_collection("docs", Schema({"d": Dense(2, "dot"), "far": Dense(2, "l2")}))
    docs.upsert(ids=[1, 2, 3, 4], vectors={"d": [[-1, 0], None, [1, 0], None], "far": [[0, 1], [0, 2], None, None]})
    query = {"d": [1, 0], "far": [0, 0]}
    assert [(hit.id, hit.score) for hit in docs.search(query, fusion="linear")] == [(1, -2.0), (2, -4.0)]
    docs.upsert(ids=[5], vectors={"d": [[-9, 0]], "far": [[0, 0]]})
    # 5 has the smallest distance, and what it lacks nothing of: a negative inner product.
    assert [(hit.id, hit.score) for hit in docs.search(query, fusion="linear", candidates=1, limit=2)] == [(1, -2.0), (2, -4.0)]


def test_where_a_recall_is_named_indexes_are_used_and_no_score_is_taken_for_zero(database):
    rng = np.random.default_rng(7)
    docs = database.create_collection("docs", Schema({"d": Dense(16, index=HNSW(degree=8, ef_construction=40)), "s": Sparse()}))
    rows = rng.standard_normal((1500, 16))
    terms = [{int(t): float(rng.random() + 0.1) for t in rng.choice(200, 5, replace=False)} for _ in rows]
    docs.upsert(ids=range(1500), vectors={"d": rows, "s": terms})
    docs.optimize()
    query = {"d": rng.standard_normal(16), "s": dict.fromkeys(range(12), 1.0)}
    hits = docs.search(query, fusion=Linear({"s": 0.2}), recall=0.5, explain=True, limit=20)
    plan = hits.plan["fusion"]
    assert plan["proven"] is False and not hits.plan["exact"] and "not proven" in str(hits.plan)
    sums = summed(docs, query, {"s": 0.2}, None)
    assert all(hit.score == sums[hit.id][0] for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    true = docs.search(query, fusion=Linear({"s": 0.2}), limit=20)
    # Found: 17 of 20. Half is asked for, and which plan finds them depends on times that were measured.
    assert len(set(true.ids.tolist()) & set(hits.ids.tolist())) >= 8


def test_a_proof_takes_plans_of_a_sparse_index_that_lose_nothing(database):
    rng = np.random.default_rng(8)
    docs = database.create_collection("docs", Schema({"d": Dense(4, index=None), "s": Sparse()}))
    terms = [{int(t): float(rng.random() + 0.1) for t in rng.choice(200, 20, replace=False)} for _ in range(900)]
    docs.upsert(ids=range(900), vectors={"d": rng.standard_normal((900, 4)), "s": terms})
    docs.optimize()
    query, weights = {"d": rng.standard_normal(4), "s": terms[5]}, {"d": 0.01}
    assert docs.search({"s": terms[5]}, explain=True).plan["arms"][0]["recall"]["target"] == 0.95
    until(lambda: database.directory.index_files.verified())
    hits = docs.search(query, fusion=Linear(weights), explain=True)
    check(hits, query, weights, summed(docs, query, weights, None), 10)
    arm = hits.plan["arms"][1]
    assert hits.plan["fusion"]["proven"] and arm["plan"] == "segments" and arm["exact"] and arm["recall"]["target"] == 1.0
    assert arm["segments"][0]["plan"] in ("scan", "safe impacts", "full postings")


@pytest.mark.parametrize("weights", [{"d": -1.0}, {"d": float("nan")}, {"d": float("inf")}, {"d": "1"}, {"x": 1.0}, {"d": True}, 5, ["d"]])
def test_weights_that_are_none_are_refused_by_name(collection, weights):
    with pytest.raises(InvalidArgumentError) as caught:
        collection.search({"d": np.ones(8), "s": {1: 1.0}}, fusion=Linear(weights))
    assert caught.value.field == "fusion"
    if isinstance(weights, dict):
        assert next(iter(weights)) in str(caught.value)


def test_a_batch_is_answered_one_by_one(collection):
    rng = np.random.default_rng(9)
    queries = {"d": column(rng, "d", 5), "s": column(rng, "s", 5), "far": column(rng, "far", 5)}
    together = collection.search_batch(queries, fusion=Linear({"s": 0.5}), candidates=3)
    alone = [collection.search({name: many[i] for name, many in queries.items()}, fusion=Linear({"s": 0.5})) for i in range(5)]
    assert [[(hit.id, hit.score) for hit in hits] for hits in together] == [[(hit.id, hit.score) for hit in hits] for hits in alone]
