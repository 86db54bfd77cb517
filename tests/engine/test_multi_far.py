"""Queries unlike the rows of a multi-vector field: how far they are, and searches that are followed by one with more effort. The oracle is
``exact=True``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vectordb
from vectordb import F, Int, MultiVector, Schema, TokenLists
from vectordb.index.model import PLAN
from vectordb.index.multi import build, far
from vectordb.index.multi.plans import EXACT, LISTS, SCAN

pytestmark = pytest.mark.usefixtures("full_calibration")

DIM, ROWS = 48, 600
VECTORS = np.random.default_rng(0).standard_normal((60, DIM)).astype(np.float32)


def documents() -> list[np.ndarray]:
    """Of three topics each, around those of ``VECTORS``."""
    rng, made = np.random.default_rng(1), []
    for _ in range(ROWS):
        rows = VECTORS[rng.integers(0, len(VECTORS), 3)[rng.integers(0, 3, rng.integers(4, 16))]]
        made.append((rows + 0.8 * rng.standard_normal(rows.shape)).astype(np.float32))
    return made


DOCUMENTS = documents()
NEAR = [document[:8] for document in DOCUMENTS[:10]]
FAR = list(np.random.default_rng(2).standard_normal((16, 12, DIM)).astype(np.float32))


@pytest.fixture(scope="module", params=["cosine", "max"])
def docs(request, tmp_path_factory):
    metric, aggregation = ("dot", "max") if request.param == "max" else ("cosine", "maxsim")
    with (
        pytest.MonkeyPatch.context() as patch,
        vectordb.open(tmp_path_factory.mktemp("far"), maintenance=False, durability="batched") as database,
    ):
        field = MultiVector(DIM, metric, aggregation=aggregation, index=TokenLists(centroids=128))
        patch.setattr(build, "QUERIES", 16)  # a build takes a second less
        docs = database.create_collection("c", Schema({"m": field}, {"n": Int()}))
        docs.upsert(ids=range(ROWS), vectors={"m": DOCUMENTS}, attributes={"n": [i % 4 for i in range(ROWS)]})
        docs.optimize()
        yield docs


@pytest.fixture
def segment(docs):
    """The docs' segment, by whose model lists are cheap and scans dear, as in a large one: which plan runs depends on no time."""
    with docs._snapshots.pin() as view:
        (opened,) = view.snapshot.segments(view.fields["m"])
    segment, before = opened.segment, opened.segment.models
    segment.models = tuple(with_costs(model) for model in before)
    segment.choices.clear()
    yield segment
    segment.models = before
    segment.choices.clear()


def with_costs(model, **others):
    listed = model.settings[:, PLAN] == LISTS
    efforts = np.where(listed, model.settings[:, 1] * model.settings[:, 2] / 1e3, np.inf)
    return replace(model, costs=np.broadcast_to(efforts, model.costs.shape).astype(np.float32), units=np.array([1e3, 1e5]), **others)


def asked(docs, queries, recall: float = 0.95, limit: int = 10, **options) -> tuple[float, list[dict]]:
    """(the mean recall, how each query was searched)."""
    shares, plans = [], []
    for query in queries:
        exact = docs.search({"m": query}, limit=limit, exact=True, **options)
        hits = docs.search({"m": query}, limit=limit, recall=recall, explain=True, **options)
        assert len(hits) == len(exact) and sorted(hits.scores, reverse=True) == hits.scores.tolist()
        shares.append(len(set(exact.ids.tolist()) & set(hits.ids.tolist())) / len(exact))
        plans += hits.plan["arms"][0]["segments"]
    return float(np.mean(shares)), plans


def test_far_queries_find_what_was_asked_for(docs, segment):
    near, plans = asked(docs, NEAR)
    assert near > 0.95  # observed: 1
    assert sum(plan["searched_again"] for plan in plans) <= 2  # observed: 0
    found, plans = asked(docs, FAR)
    assert found > 0.93  # observed: .975 to 1; without this .64 to .88
    assert all(plan["distance"] is None or plan["distance"] > 0 for plan in plans)
    filtered, _ = asked(docs, FAR, filter=F("n") < 2)
    assert filtered > 0.95  # observed: .99 to 1
    assert asked(docs, FAR[:8], limit=40)[0] > 0.95  # observed: .997 to 1; .86 to .95 with fewer candidates


def test_what_finds_rows_too_far_away_is_searched_again(docs, segment):
    """By a model that claims: lists find half of what is farther than 0."""
    segment.models = tuple(
        replace(
            model,
            recalls=np.ones_like(model.recalls),
            distances=np.linspace(0, 1e-6, len(model.distances)),
            far_recalls=np.broadcast_to(np.where(model.settings[:, PLAN] == LISTS, 0.5, 1), model.far_recalls.shape).astype(np.float32),
            shifts=np.zeros_like(model.shifts),
        )
        for model in segment.models
    )
    for options in ({}, {"filter": F("n") < 3}):
        found, (plan, *_) = asked(docs, FAR[:1], **options)
        assert found == 1 and plan["searched_again"] and plan["plan"] == "byte scan" and plan["predicted"]["recall"] > 0.99
        assert plan["rows_scored"] > plan["matches"]  # those of the lists are counted, too
    single = [docs.search({"m": query}, recall=0.95).ids.tolist() for query in FAR[:3]]
    assert [hits.ids.tolist() for hits in docs.search_batch({"m": FAR[:3]}, recall=0.95)] == single
    _, (plan,) = asked(docs, FAR[:1], recall=0.4)
    assert not plan["searched_again"] and plan["plan"] == "token lists" and plan["predicted"]["recall"] == pytest.approx(0.5, abs=0.03)


def test_files_of_earlier_versions_are_searched_once(docs, segment):
    segment.models = tuple(replace(model, distances=None, far_recalls=None, shifts=None) for model in segment.models)
    _, plans = asked(docs, FAR[:3])
    assert all(plan["distance"] is None and not plan["searched_again"] for plan in plans)


def test_the_distance_is_that_of_the_last_of_the_best(docs, segment):
    query, spec = FAR[0], docs.schema.vectors["m"]
    hits = docs.search({"m": query}, recall=0.8, explain=True, limit=10)
    (plan,) = hits.plan["arms"][0]["segments"]
    every = np.concatenate(DOCUMENTS)
    lengths, longest = np.linalg.norm(query, axis=1), float(np.linalg.norm(every, axis=1).max())
    lengths = np.ones(len(query)) if spec.metric == "cosine" else lengths * longest
    reach = lengths.max() if spec.aggregation == "max" else lengths.sum()
    assert plan["distance"] == pytest.approx((reach - hits.scores[-1]) / reach, rel=1e-4)


def test_a_build_measures_what_far_queries_find(segment):
    sections = segment.sections
    plans = sections["settings"][:, PLAN]
    assert sections["far_recalls"].shape == (2, sections["distances"].shape[1], len(plans))
    assert (np.diff(sections["distances"], axis=1) > 0).all() and (np.diff(sections["far_recalls"], axis=1) <= 0).all()
    assert (sections["far_recalls"][:, :, plans == EXACT] == 1).all() and (sections["far_recalls"][:, :, plans == SCAN] > 0.5).all()
    assert (sections["shifts"][:, 0] == 0).all() and (sections["shifts"] >= 0).all()


@pytest.mark.parametrize("unit", [True, False])
def test_made_queries(unit):
    made, again = (far.made_queries(VECTORS, unit, 16, np.random.default_rng(4)) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(made, again, strict=True))
    assert {query.dtype for query in made} == {np.dtype(np.float32)} and {query.shape[1] for query in made} == {DIM}
    assert all(far.VECTORS[0] <= len(query) <= far.VECTORS[1] for query in made)
    lengths = np.concatenate([np.linalg.norm(query, axis=1) for query in made])
    known = np.ones(len(VECTORS)) if unit else np.linalg.norm(VECTORS, axis=1)
    assert known.min() * 0.999 < lengths.min() <= lengths.max() < known.max() * 1.001


def test_distances():
    query = np.array([[3, 4], [0, 0]], np.float32)
    assert [far.reach_of(query, *facts) for facts in ((True, 1.0, False), (False, 2.0, False), (False, 2.0, True))] == [1, 10, 10]
    assert [far.distance_of(score, 10.0) for score in (10.0, 11.0, 5.0, -10.0, -30.0, -np.inf)] == [0, 0, 0.5, 2, 2, 2]
    assert far.distance_of(0.0, 0.0) == 0
