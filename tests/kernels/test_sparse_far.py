"""What a calibration of sparse segments knows without running every setting, and queries that are unlike the rows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.test_sparse_index import mean_recall, short_queries
from tests.support.sparse_indexed import Indexed, large, small, texts
from vectordb.index.base import SegmentMask, SegmentTarget
from vectordb.index.impact import calibrate
from vectordb.index.impact.far import SHORTEST, made_queries
from vectordb.index.model import PLAN
from vectordb.kernels import impact as kernel
from vectordb.kernels import impact_levels


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("k", [10, 100])
def test_what_is_predicted_of_a_search_is_what_it_finds(k, share):
    """Every setting of a plan that may miss rows, from one pass for each share of the postings."""
    bench = calibrate._Bench(large().segment, False, 0)
    bits = bench._filter(share)
    asked = [bench._asked((-1, *query), bits, k) for query in short_queries(8)]
    found = bench._found(asked, k)
    missed = 0
    for predicted, (query, allowed, matches, truth) in zip(found, asked, strict=True):
        docids = set(bench.segment.docids[truth].tolist())
        for setting in np.flatnonzero(calibrate.SETTINGS[:, PLAN] == kernel.IMPACTS).tolist():
            keys = bench._run(setting, query, k, allowed, matches)
            own = set((0xFFFFFFFF - (keys & 0xFFFFFFFF)).tolist())
            assert len(own & docids) / k == pytest.approx(predicted[setting])
            missed += len(docids - own)
    assert missed > 0  # there was something to predict


def test_levels_of_weights_are_those_of_numpy():
    rng = np.random.default_rng(0)
    weights = rng.standard_exponential(3_000).astype(np.float32)
    edges = np.array([0.1, 0.5, 2.0], np.float32)
    level, held = np.empty(3_000, np.uint8), (np.zeros(4, np.int64), np.zeros(4), np.zeros(4, np.float32))
    impact_levels.levels_of(weights, edges, level, *held)
    np.testing.assert_array_equal(level, 3 - np.searchsorted(edges, weights, side="right"))
    np.testing.assert_array_equal(held[0], np.bincount(level))
    np.testing.assert_allclose(held[1], np.bincount(level, weights=weights), rtol=1e-12)
    np.testing.assert_array_equal(held[2], [weights[level == i].max() for i in range(4)])


def unlike(kind: str, n: int) -> list:
    """Queries that are unlike the rows of ``large``: random terms, a few terms, terms of twelve rows."""
    rng, held, queries = np.random.default_rng(6), texts(7, 400), []
    for i in range(n):
        if kind == "random":
            terms = np.unique(rng.integers(0, 2_000, rng.integers(3, 40)))
        elif kind == "few":
            own = held.terms[held.indptr[i] : held.indptr[i + 1]]
            terms = np.unique(rng.choice(own, min(3, len(own)), replace=False))
        else:
            terms = np.unique(rng.choice(held.terms, 400))
        queries.append((terms.astype(np.uint64), (0.1 + rng.random(len(terms))).astype(np.float32)))
    return queries


@pytest.mark.parametrize("kind", ["random", "few", "many"])
def test_recall_of_queries_unlike_the_rows(kind):
    """Observed at .95 in two builds: random .967 and .990, few .992 and .998, many .946 and .953. The floor is three standard errors below
    what is aimed at, .94.
    """
    assert mean_recall(large(), unlike(kind, 100), 10, 0.95) >= 0.9


def test_made_queries_are_vectors_of_the_vocabulary():
    segment = large().segment
    made = made_queries(segment, np.ones(segment.vocabulary, np.float32), 30, np.random.default_rng(0))
    again = made_queries(segment, np.ones(segment.vocabulary, np.float32), 30, np.random.default_rng(0))
    assert len(made) == 30 and min(len(terms) for terms, _ in made) <= 2 * SHORTEST < max(len(terms) for terms, _ in made)
    for (terms, weights), (same_terms, same_weights) in zip(made, again, strict=True):
        assert (np.diff(terms.astype(np.int64)) > 0).all() and np.isin(terms, segment.sections["terms"]).all()
        assert (weights > 0).all() and weights.dtype == np.float32
        np.testing.assert_array_equal(terms, same_terms)
        np.testing.assert_array_equal(weights, same_weights)


def test_a_setting_for_queries_unlike_the_rows_reads_as_many_postings():
    model = large().segment.model(10)
    settings, costs = model.settings, np.ones(len(model.settings))
    first = int(np.flatnonzero(settings[:, PLAN] == kernel.IMPACTS)[0])
    far = np.where(settings[:, 2] <= 0.001, 0.96, 0.9).astype(np.float32)
    told = calibrate_model(model, far)._for_far(first, 0.95, costs)
    assert settings[told, 1] == settings[first, 1] and settings[told, 2] == 0.001
    assert calibrate_model(model, None)._for_far(first, 0.95, costs) == first
    assert calibrate_model(model, np.ones_like(far))._for_far(first, 0.95, costs) == first


def calibrate_model(model, far):
    """The model with other recalls of queries that are unlike the rows."""
    return type(model)(model.depth, model.plans, model.settings, model.recalls, model.costs, model.levels, model.scan, far)


def test_filters_that_match_fewer_rows_than_were_tried_are_searched_exactly():
    segment = small().segment
    assert len(segment.model(10).levels) == 1
    for matches in (30, 300, 599):
        target = SegmentTarget(segment, SegmentMask(segment, segment.docids[:matches]))
        assert segment.plans[int(segment.model(10).settings[segment.model(10).choose(target, 10, 0.8).setting, PLAN])].exact


def test_binary_postings_take_at_most_half_of_the_bytes_of_weighted_ones():
    """Lists and rows of 4,000 rows."""
    column = texts(8, 4_000)
    sizes = [
        sum(indexed.segment.sections[name].nbytes for name in ("runs", "row_terms", "row_weights") if name in indexed.segment.sections)
        for indexed in (Indexed(column, binary=True), Indexed(column))
    ]
    assert sizes[0] <= sizes[1] / 2, sizes
