"""Fusion weights learned from judged queries: close to the true weights, and evaluated on other queries than they were learned from."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Dense, InvalidArgumentError, Linear, Schema, SchemaError, Sparse

ROWS, QUERIES = 400, 40


@pytest.fixture
def judged(database):
    """A collection, queries of three arms, and judgements made by 1 · dot + 4 · sparse + 0 · noise: the best three of each query."""
    rng = np.random.default_rng(1)
    docs = database.create_collection("docs", Schema({"d": Dense(6, "dot"), "s": Sparse(), "noise": Dense(6, "dot")}))
    rows, noise = rng.standard_normal((ROWS, 6)), rng.standard_normal((ROWS, 6))
    terms = [{int(t): float(rng.random()) for t in rng.choice(12, 6, replace=False)} for _ in range(ROWS)]
    docs.upsert(ids=[f"p{i}" for i in range(ROWS)], vectors={"d": rows, "s": terms, "noise": noise})
    queries = {
        "d": rng.standard_normal((QUERIES, 6)),
        "s": [{int(t): float(rng.random()) for t in rng.choice(12, 4, replace=False)} for _ in range(QUERIES)],
        "noise": rng.standard_normal((QUERIES, 6)),
    }
    best = docs.search_batch({name: queries[name] for name in ("d", "s")}, fusion=Linear({"s": 4.0}), limit=3)
    return docs, queries, [{hit.id: 3.0 - place for place, hit in enumerate(hits)} for hits in best]


def test_learned_weights_beat_ranks_and_are_near_the_true_ones(judged):
    docs, queries, qrels = judged
    learned = docs.tune_fusion(queries, qrels, limit=5)
    assert learned == docs.tune_fusion(queries, qrels, limit=5)  # whatever is drawn comes from the seed
    weights = learned.fusion.weights
    assert max(weights.values()) == weights["s"] == 1.0
    assert 0.15 < weights["d"] < 0.4 and weights["noise"] < 0.05  # true: .25 and 0; learned: .254 and 0
    assert learned.ndcg["linear"] > 0.95 and learned.ndcg["rrf"] < 0.5  # .995 and .361
    assert set(learned.ndcg) == {"rrf", "linear", "d alone", "s alone", "noise alone"}
    assert (learned.limit, learned.queries, len(learned.folds), len(learned.weights)) == (5, QUERIES, 5, 5)
    for name, mean in learned.ndcg.items():
        assert mean == pytest.approx(np.mean([fold[name] for fold in learned.folds]))  # folds of one size
    assert docs.tune_fusion(queries, qrels, limit=5, seed=1).folds != learned.folds
    lines = str(learned).splitlines()
    assert lines[0].startswith("nDCG@5 of 40 queries") and lines[3].split()[0] == "linear" and len(lines) == 8


def test_figures_are_those_of_real_searches(judged):
    docs, queries, qrels = judged
    learned = docs.tune_fusion(queries, qrels, limit=4, folds=2)

    def ndcg(hits, relevant):
        gains = [relevant.get(hit.id, 0.0) / np.log2(place + 2) for place, hit in enumerate(hits)]
        return sum(gains) / sum(grade / np.log2(place + 2) for place, grade in enumerate(sorted(relevant.values(), reverse=True)[:4]))

    for name, options in (("rrf", {}), ("d alone", {"only": "d"}), ("s alone", {"only": "s"})):
        asked = {options["only"]: queries[options["only"]]} if options else queries
        found = docs.search_batch(asked, limit=4)
        assert learned.ndcg[name] == pytest.approx(np.mean([ndcg(hits, relevant) for hits, relevant in zip(found, qrels, strict=True)]))
    places = np.random.default_rng(0).permutation(QUERIES)
    for part, weights, fold in zip((places[::2], places[1::2]), learned.weights, learned.folds, strict=True):
        values = []
        for q in part.tolist():
            asked = {name: column[q] for name, column in queries.items()}
            values.append(ndcg(docs.search(asked, fusion=Linear(weights), limit=4), qrels[q]))
        assert fold["linear"] == pytest.approx(np.mean(values))


def test_queries_without_a_relevant_point_are_left_out(judged):
    docs, queries, qrels = judged
    few = {name: column[:12] for name, column in queries.items()}
    silent = [{} if q % 3 == 0 else {"nobody": 0.0} if q % 3 == 1 else qrels[q] for q in range(12)]
    some = {name: [column[q] for q in range(2, 12, 3)] for name, column in queries.items()}
    learned = docs.tune_fusion(few, silent, folds=2)
    assert learned.queries == 4 and learned == docs.tune_fusion(some, [qrels[q] for q in range(2, 12, 3)], folds=2)


def test_what_cannot_be_learned_from_is_refused_by_name(judged):
    docs, queries, qrels = judged
    two = {name: queries[name] for name in ("d", "s")}
    for arguments, field in (
        ({"vectors": two, "qrels": qrels[:-1]}, "qrels"),
        ({"vectors": two, "qrels": {0: {"p1": 1}}}, "qrels"),
        ({"vectors": two, "qrels": [*qrels[:-1], 5]}, "qrels"),
        ({"vectors": two, "qrels": [*qrels[:-1], {"p1": -1}]}, "qrels"),
        ({"vectors": two, "qrels": [*qrels[:-1], {"p1": float("nan")}]}, "qrels"),
        ({"vectors": two, "qrels": [{}] * QUERIES}, "qrels"),
        ({"vectors": {"d": queries["d"]}, "qrels": qrels}, "vectors"),
        ({"vectors": {"d": queries["d"], "s": queries["s"][:3]}, "qrels": qrels}, "vectors"),
        ({"vectors": [1], "qrels": qrels}, "vectors"),
        ({"vectors": {"d": 5}, "qrels": qrels}, "d"),
        ({"vectors": None, "qrels": qrels}, "vectors"),
        ({"vectors": two, "qrels": qrels, "folds": 1}, "folds"),
        ({"vectors": two, "qrels": qrels, "folds": 41}, "qrels"),
        ({"vectors": two, "qrels": qrels, "limit": 0}, "limit"),
        ({"vectors": two, "qrels": qrels, "candidates": True}, "candidates"),
        ({"vectors": two, "qrels": qrels, "seed": -1}, "seed"),
        ({"vectors": two, "qrels": qrels, "recall": 2.0}, "recall"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            docs.tune_fusion(**arguments)
        assert caught.value.field == field, arguments
    with pytest.raises(SchemaError):
        docs.tune_fusion({"d": queries["d"], "nope": queries["s"]}, qrels)
