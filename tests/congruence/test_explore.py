"""Operations on a field: the same embedded, with a ``Client`` and with an ``AsyncClient``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from vectordb_client.rpc import explore

from vectordb import InvalidArgumentError, SchemaError

CALLS = [
    lambda d: d.neighbours("d", 4),
    lambda d: d.neighbours("far", filter="n > 10", exact=True),
    lambda d: d.duplicates("d", 0.8),
    lambda d: d.duplicates("far", radius=0.5, limit=3, recall=0.99),
    lambda d: d.health("half", k=3),
    lambda d: d.health("d", filter="n < 0", seed=3),
    lambda d: d.cluster("d", central=2),
    lambda d: d.cluster("far", 3, with_centres=True, sample=40),
    lambda d: d.probe("d", [[1.0] * 8, [1.0] * 7 + [2]], [[-1.0] * 8, [-1.0] * 7 + [0]], k=3),
    lambda d: d.axis("far", [[1.0, 2, 3, 4], [1, 2, 3, 5]], [[9.0, 2, 3, 4], [8, 2, 3, 5]]),
    lambda d: d.classify("d", "lang", k=3),
    lambda d: d.classify("far", "ok", method="centroid"),
]


def facts(result):
    """A result as plain values."""
    return {field.name: shown(getattr(result, field.name)) for field in dataclasses.fields(result)}


def shown(value):
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    return list(map(shown, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_answers_are_equal_in_every_place(same, number):
    found = same(lambda docs: facts(CALLS[number](docs)))
    assert found


def test_results_in_small_messages_are_equal(same, monkeypatch):
    monkeypatch.setattr(explore, "_ROWS", 7)
    for call in CALLS[:8:2]:
        same(lambda docs, call=call: facts(call(docs)))


def test_an_id_of_any_kind_is_an_example(same):
    ids = same(lambda docs: [point.id for point in docs.scroll(limit=1000, filter="n IS NOT NULL", with_vectors=["far"]).points])
    assert len({type(id) for id in ids}) > 1

    def axis(docs):
        found = [point for point in docs.get(ids, with_vectors=["far"]) if "far" in point.vectors]
        found.sort(key=lambda point: float(point.vectors["far"][0]))
        return facts(docs.axis("far", [point.id for point in found[:10]], [point.id for point in found[-10:]]))

    assert same(axis)["reliability"] > 0.5


def test_progress_is_told(same):
    def told(docs):
        steps = []
        docs.neighbours("d", progress=lambda done, total: steps.append((done, total)))
        assert steps and all(0 <= done <= total for done, total in steps)
        return steps[-1]

    done, total = same(told)
    assert done == total > 50


def test_negatives_are_equal(same):
    queries = np.random.default_rng(0).standard_normal((70, 8)).astype(np.float32)
    ids = same(lambda docs: [point.id for point in docs.scroll(limit=70, filter="n IS NOT NULL").points])
    with_vector = [point.id for point in same(lambda docs: docs.get(ids, with_vectors=["d"])) if "d" in point.vectors]
    found = same(lambda docs: docs.mine_negatives("d", queries, [[with_vector[i % 20]] for i in range(70)], n=3))
    assert len(found) == 70 and max(map(len, found)) == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.cluster("s"), SchemaError, "cluster is for dense fields, and 's' is sparse"),
        (lambda d: d.health("nope"), SchemaError, "no vector field 'nope'"),
        (lambda d: d.duplicates("far", 0.9), InvalidArgumentError, "needs radius=…, not min_score"),
        (lambda d: d.neighbours("d", k=-1), InvalidArgumentError, "k must be an integer from 1 to 1,000"),
        (lambda d: d.classify("d", "tags"), SchemaError, "is an array of Keyword"),
        (lambda d: d.health("d", where="n > 1"), InvalidArgumentError, "filter"),
    ],
)
def test_errors_are_equal_in_every_place(same, call, error, message):
    with pytest.raises(error, match=message):
        same(call)
