"""Hard negatives against a plain search."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Dense, InvalidArgumentError, Keyword, NotFoundError, Schema, SchemaError, Sparse, Text

ROWS, DIM = 400, 8
METRICS = ("cosine", "dot", "l2")


@pytest.fixture
def docs(database):
    rng = np.random.default_rng(2)
    fields = {metric: Dense(DIM, metric, index=None) for metric in METRICS}
    collection = database.create_collection(
        "c", Schema({**fields, "t": Sparse(encoder="bm25", source="body")}, {"color": Keyword(), "body": Text()})
    )
    collection.vectors = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    colors = [("red", "blue")[i % 2] for i in range(ROWS)]
    bodies = [f"word{i % 7} word{i % 11} point{i}" for i in range(ROWS)]
    columns = dict.fromkeys(METRICS, collection.vectors)
    collection.upsert(ids=list(range(ROWS)), vectors=columns, attributes={"color": colors, "body": bodies})
    return collection


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("filter", [None, "color = 'red'"])
def test_negatives_are_the_best_points_below_the_relevant_ones(docs, metric, filter):
    queries = np.random.default_rng(3).standard_normal((70, DIM)).astype(np.float32)
    relevant = []
    for query in queries:
        best = docs.search({metric: query}, limit=60, exact=True).ids.tolist()
        relevant.append({best[3]: 1, best[40]: 2, best[5]: 0})
    found = docs.mine_negatives(metric, queries, relevant, n=4, candidates=ROWS, margin=0.1, filter=filter)
    assert len(found) == 70
    for query, known, negatives in zip(queries, relevant, found, strict=True):
        hits = docs.search({metric: query}, limit=ROWS, exact=True)
        scores = {hit.id: hit.score for hit in hits}
        lowest = [scores[id] for id, grade in known.items() if grade]
        if metric == "l2":
            kept = [hit.id for hit in hits if hit.score > max(lowest) * 1.1]
        else:
            kept = [hit.id for hit in hits if hit.score < min(lowest) - 0.1 * abs(min(lowest))]
        kept = [id for id in kept if filter is None or id % 2 == 0][:4]
        assert [id for id, _ in negatives] == kept
        assert all(score == pytest.approx(scores[id]) for id, score in negatives)


def test_negatives_of_texts(docs):
    found = docs.mine_negatives("t", ["point5 word5", "word3"], [5, [3, 10]], n=2)
    assert len(found[0]) == 2 and 5 not in dict(found[0]) and not {3, 10} & set(dict(found[1]))
    assert docs.mine_negatives("t", [], []) == []
    assert docs.mine_negatives("dot", docs.vectors[:1], [0], candidates=1) == [[]]


WRONG = [
    (lambda d: d.mine_negatives("nope", [], []), SchemaError, "no vector field 'nope'; the vector fields are: cosine, dot"),
    (lambda d: d.mine_negatives("dot", "text", []), InvalidArgumentError, "queries must be a list of n vectors or texts, not 'text'"),
    (lambda d: d.mine_negatives("dot", d.vectors[:2], [1]), InvalidArgumentError, "and there are 1 for 2 queries"),
    (lambda d: d.mine_negatives("dot", d.vectors[:1], [[]]), InvalidArgumentError, "relevant has no id for query 0: leave the query out"),
    (lambda d: d.mine_negatives("dot", d.vectors[:1], [9_999]), NotFoundError, "none of the relevant points of query 0 has a vector"),
    (lambda d: d.mine_negatives("dot", d.vectors[:1], [1], margin=2), InvalidArgumentError, "margin must be a number from 0 to 1, not 2"),
    (lambda d: d.mine_negatives("dot", d.vectors[:1], [1], n=0), InvalidArgumentError, "n must be an integer from 1"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(docs, number):
    call, error, message = WRONG[number]
    with pytest.raises(error, match=message):
        call(docs)
