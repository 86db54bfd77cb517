"""Axes, probes and classifications of a field, against planted properties and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client.model.fields import DenseColumn

import vectordb
from vectordb import (
    Bool,
    Dense,
    Float,
    InvalidArgumentError,
    Keyword,
    NotFoundError,
    PreconditionError,
    Schema,
    SchemaError,
    Text,
    encoders,
)
from vectordb.encoders.base import Encoded, Encoder

DIM, ROWS = 24, 600
METRICS = ("cosine", "dot", "l2")
TOPICS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """Points along a direction (``size``), in three topics of which two lie near each other; ``rare`` is dimension 5 or 11."""
    rng = np.random.default_rng(0)
    size, topic, rare = rng.uniform(size=ROWS), rng.integers(0, 3, ROWS), rng.random(ROWS) < 0.15
    way = rng.standard_normal(DIM) * 1.2
    vectors = rng.standard_normal((ROWS, DIM)) * 0.5 + size[:, None] * way
    vectors[:, :2] += np.array([[4, 0], [0, 4], [1.0, 4]])[topic]
    vectors[:, 5] += 2.5 * rare
    vectors[:, 11] -= 2.0 * rare
    vectors = vectors.astype(np.float32)
    database = vectordb.open(tmp_path_factory.mktemp("labels") / "data", durability="batched", maintenance=False)
    collection = database.create_collection(
        "c",
        Schema(
            {metric: Dense(DIM, metric, index=None) for metric in METRICS},
            {"topic": Keyword(), "rare": Bool(), "size": Float(), "tags": Keyword(array=True)},
        ),
    )
    topics = [TOPICS[each] for each in topic]
    attributes = {"topic": topics, "rare": rare.tolist(), "size": size.tolist()}
    collection.upsert(ids=list(range(ROWS)), vectors=dict.fromkeys(METRICS, vectors), attributes=attributes)
    collection.upsert(ids=["empty"])
    collection.vectors, collection.size, collection.rare, collection.topic = vectors, size, rare, np.array(topics)
    yield collection
    database.close()


def ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("metric", METRICS)
def test_an_axis_orders_points(docs, metric):
    order = np.argsort(docs.size)
    low, high, inner = order[:30].tolist(), order[-30:].tolist(), order[30:-30]
    axis = docs.axis(metric, low, high)
    places = docs.vectors / np.linalg.norm(docs.vectors, axis=1, keepdims=True) if metric == "cosine" else docs.vectors
    way = places[high].mean(axis=0) - places[low].mean(axis=0)
    assert np.allclose(axis.vector, way / np.linalg.norm(way), atol=1e-5)
    assert axis.reliability >= 0.9 and axis.examples == (30, 30)  # observed: 1.0
    projected = axis.project(docs.vectors)
    assert projected[low].mean() == pytest.approx(0, abs=1e-5) and projected[high].mean() == pytest.approx(1, abs=1e-5)
    spearman = np.corrcoef(ranks(projected[inner]), ranks(docs.size[inner]))[0, 1]
    assert spearman >= 0.65  # observed: 0.71 for cosine, else 0.85
    assert np.allclose(axis.at(1.0), places[high].mean(axis=0), atol=1e-5)
    mixed = docs.axis(metric, [docs.vectors[each] for each in low], [*high[:6], *(docs.vectors[each].tolist() for each in high[6:])])
    assert np.allclose(mixed.vector, axis.vector, atol=1e-6) and mixed.reliability == axis.reliability
    if metric != "l2":
        best = docs.search({metric: axis.vector}, limit=20, exact=True).ids
        assert set(best.tolist()) == set(np.argsort(-projected)[:20].tolist())


def test_an_axis_of_nothing_is_refused(docs):
    rng = np.random.default_rng(1)
    for _ in range(8):
        some = rng.permutation(ROWS)[:20].tolist()
        with pytest.raises(PreconditionError, match=r"axis: low and high examples are separated .* 0\.50 is needed; give more") as refused:
            docs.axis("dot", some[:10], some[10:])
        assert -1 <= refused.value.value < 0.5
    same = [docs.vectors[0], docs.vectors[1]]
    with pytest.raises(PreconditionError):
        docs.axis("dot", same, same)


class Letters(Encoder):
    """The counts of letters as a dense vector."""

    kind, identity = "dense", "dense letters 1"

    def encode_documents(self, texts, state=None):
        return Encoded(DenseColumn(np.array(self.encode_queries(texts), np.float32).reshape(-1, 26), None))

    def encode_queries(self, texts):
        return [np.bincount([ord(each) - 97 for each in text if each.isalpha()], minlength=26).astype(np.float32) for text in texts]


def test_an_axis_of_texts(database, monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "letters", Letters)
    texts = ["aaab", "caad", "aaaf", "xxz", "yzzx", "zxwx"]
    docs = database.create_collection("texts", Schema({"v": Dense(26, encoder="letters", source="body")}, {"body": Text()}))
    docs.upsert(ids=list(range(6)), attributes={"body": texts})
    by_id = docs.axis("v", [0, 1, 2], [3, 4, 5])
    by_text = docs.axis("v", low=[0], low_text=texts[1:3], high_text=texts[3:])
    assert np.array_equal(by_id.vector, by_text.vector) and by_text.reliability == 1.0
    assert set(docs.search({"v": by_text.vector}, limit=3).ids.tolist()) == {3, 4, 5}


@pytest.mark.parametrize("metric", METRICS)
def test_a_probe_finds_the_dimensions(docs, metric):
    rare = np.flatnonzero(docs.rare)
    positives = rare[:30].tolist()
    probe = docs.probe(metric, positives, filter="rare = false", k=2)
    assert sorted(probe.dims.tolist()) == [5, 11] and probe.examples == (30, int((~docs.rare).sum()))
    assert probe.reliability >= 0.9 and probe.accuracy >= 0.9  # observed: 0.999 and 0.996, or more
    others = np.concatenate([rare[30:], np.flatnonzero(~docs.rare)])
    told = probe.probability(docs.vectors[others]) > 0.5
    right = np.arange(len(others)) < len(rare) - 30
    assert (told[right].mean() + (~told[~right]).mean()) / 2 >= 0.9  # observed: 0.998 and more
    negatives = np.flatnonzero(~docs.rare)[:60].tolist()
    given = docs.probe(metric, positives, negatives, k=DIM + 9)
    assert len(given.dims) == DIM and given.examples == (30, 60)
    assert np.allclose(np.flatnonzero(probe.vector), [5, 11])
    with pytest.raises(PreconditionError, match="probe: positives and negatives are separated"):
        docs.probe(metric, list(range(20)), list(range(100, 130)), k=2)


def test_the_weights_of_a_probe_are_those_of_a_logistic_regression(docs):
    """The gradient of the penalized likelihood is 0 there."""
    positives, negatives = np.flatnonzero(docs.rare)[:30], np.flatnonzero(~docs.rare)[:60]
    probe = docs.probe("dot", positives.tolist(), negatives.tolist(), k=3)
    sides = [docs.vectors[each].astype(np.float64) for each in (negatives, positives)]
    spread = np.sqrt((sides[0].var(axis=0) + sides[1].var(axis=0)) / 2)
    difference = (sides[1].mean(axis=0) - sides[0].mean(axis=0)) / spread
    assert probe.dims.tolist() == np.argsort(-np.abs(difference))[:3].tolist()
    rows, right = np.concatenate(sides), np.repeat([0.0, 1.0], [60, 30])
    shares = np.repeat([45 / 60, 45 / 30], [60, 30])
    slope = (rows[:, probe.dims] / spread[probe.dims]).T @ (shares * (probe.probability(rows) - right)) + probe.weights * spread[probe.dims]
    assert np.abs(slope).max() < 1e-3


def nearest_labels(docs, metric, k, rows):
    places = docs.vectors[rows].astype(np.float64)
    if metric == "cosine":
        places /= np.linalg.norm(places, axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", places, places) if metric != "dot" else np.zeros(len(places))
    scores = 2 * places @ places.T - squares[:, None] - squares
    np.fill_diagonal(scores, -np.inf)
    told = []
    for row in np.argsort(-scores, axis=1)[:, :k]:
        labels = docs.topic[rows][row].tolist()
        told.append(max(labels, key=labels.count))  # the first of the most frequent ones
    return np.array(told)


@pytest.mark.parametrize("metric", METRICS)
def test_nearest_points_tell_a_label(docs, metric):
    rows = np.arange(ROWS)
    told = nearest_labels(docs, metric, 7, rows)
    found = docs.classify(metric, "topic", k=7)
    assert found.points == ROWS and found.accuracy == pytest.approx((told == docs.topic).mean(), abs=0.002)
    assert found.baseline == pytest.approx(max((docs.topic == topic).mean() for topic in TOPICS))
    assert found.counts == {topic: int((docs.topic == topic).sum()) for topic in sorted(TOPICS)}
    assert {found.confused[0][0], found.confused[0][1]} == {"green", "blue"}
    assert sum(count for *_, count in found.confused) == round((1 - found.accuracy) * ROWS)
    assert found.recalls["red"] == pytest.approx((told == docs.topic)[docs.topic == "red"].mean(), abs=0.01)
    assert "is taken for" in str(found) and "topic by nearest" in str(found)


def test_means_tell_a_label(docs):
    wide, told = docs.vectors.astype(np.float64), []
    for row in range(ROWS):
        others = np.arange(ROWS) != row
        means = {topic: wide[others & (docs.topic == topic)].mean(axis=0) for topic in TOPICS}
        told.append(min(TOPICS, key=lambda topic: ((means[topic] - wide[row]) ** 2).sum()))
    found = docs.classify("l2", "topic", method="centroid")
    assert found.accuracy == pytest.approx((np.array(told) == docs.topic).mean(), abs=1e-9)
    few = docs.classify("l2", "rare", method="centroid", sample=100, filter="size > 0.5")
    assert few.points == 100 and set(few.counts) == {True, False}
    nothing = docs.classify("l2", "topic", filter="size > 2")
    assert nothing.points == 0 and nothing.accuracy == 0.0 and nothing.confused == ()


WRONG = [
    (lambda d: d.axis("dot", [1]), InvalidArgumentError, "low needs at least 2 examples, as low or low_text"),
    (lambda d: d.axis("dot", [1, 2], [3, 4_000]), NotFoundError, "high: there is no point with the id 4000"),
    (lambda d: d.axis("dot", [1, "empty"], [3, 4]), InvalidArgumentError, "low: point 'empty' has no vector in field 'dot'"),
    (lambda d: d.axis("dot", 7, [1, 2]), InvalidArgumentError, r"low must be a list of ids or vectors, not 7; for one example write \[7\]"),
    (lambda d: d.axis("dot", [[1.0, 2.0]] * 2, [1, 2]), InvalidArgumentError, "low: query vector 'dot' has shape"),
    (lambda d: d.axis("dot", [1, 2], [[float("nan")] * DIM] * 2), InvalidArgumentError, "high must hold ids or vectors of finite numbers"),
    (lambda d: d.axis("dot", low_text=["a", "b"], high=[1, 2]), InvalidArgumentError, "low_text: vector field 'dot' has no encoder"),
    (lambda d: d.axis("dot", low_text="a", high=[1, 2]), InvalidArgumentError, "low_text must be a list of 1 to 1,000 strings, not 'a'"),
    (lambda d: d.probe("dot", [1]), InvalidArgumentError, "positives needs at least 2 examples, so that one can be held out"),
    (lambda d: d.probe("dot", [1, 2], filter="size > 2"), InvalidArgumentError, "probe finds no other points in 'dot'; give negatives"),
    (lambda d: d.axis("dot", [1, 1], [3, 4]), InvalidArgumentError, "low needs at least 2 examples that differ, .*; all 2 are equal"),
    (lambda d: d.probe("dot", [1, 2], [3, 3, 3]), InvalidArgumentError, "negatives needs at least 2 examples that differ"),
    (lambda d: d.neighbours("dot", None), InvalidArgumentError, "k must be an integer from 1 to 1,000, not None"),
    (lambda d: d.classify("dot", None), InvalidArgumentError, "label must be the name of an attribute, not None"),
    (lambda d: d.health("dot", sample=None), InvalidArgumentError, "sample must be an integer from 10 to 200,000, not None"),
    (lambda d: d.duplicates("l2", radius=-1), InvalidArgumentError, "radius must be a squared distance, 0 or more, not -1"),
    (lambda d: d.classify("dot", "nope"), SchemaError, "classify: no attribute 'nope'; the attributes are: topic"),
    (lambda d: d.classify("dot", "tags"), SchemaError, "'tags' is an array of Keyword; such are: topic, rare"),
    (lambda d: d.classify("dot", "size"), SchemaError, "'size' is Float; such are: topic, rare"),
    (lambda d: d.classify("dot", "topic", method="svm"), InvalidArgumentError, "method must be 'nearest' or 'centroid', not 'svm'"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(docs, number):
    call, error, message = WRONG[number]
    with pytest.raises(error, match=message):
        call(docs)


def test_vectors_that_are_placed_are_checked(docs):
    order = np.argsort(docs.size)
    axis = docs.axis("dot", order[:12].tolist(), order[-12:].tolist())
    for wrong in ([1.0, 2.0], "text", np.zeros((2, 2, DIM)), None):
        with pytest.raises(InvalidArgumentError, match=r"vectors must be \(n, 24\) numbers"):
            axis.project(wrong)
    assert axis.project(docs.vectors[0]).shape == (1,)
