"""Principal codes: which axes are learned, what searches by them find, and files with and without them."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tests.support.indexed import METRICS, Indexed, low_rank, of_low_rank
from tests.support.interpreted import both, keys_of, same_ranking
from vectordb.index.base import SegmentMask
from vectordb.index.dense import principal
from vectordb.index.dense.frame import Frame
from vectordb.index.dense.principal import learned_axes
from vectordb.index.dense.scratch import DenseScratch
from vectordb.index.scratch import aligned
from vectordb.kernels import layout, planner, sorted_keys


def frame_of(vectors: np.ndarray, metric: str) -> Frame:
    return Frame.learned(vectors, metric, 4_096, np.random.default_rng(0))


@pytest.mark.parametrize("metric", METRICS)
def test_axes_are_learned_where_few_of_them_tell_the_nearest_rows(metric):
    axes = learned_axes(frame_of(of_low_rank(3, 1_500), metric))
    assert axes.shape == (64, 160)
    np.testing.assert_allclose(axes @ axes.T, np.eye(64), atol=1e-5)
    again = learned_axes(frame_of(of_low_rank(3, 1_500), metric))
    np.testing.assert_array_equal(axes, again)
    # The rows differ in 20 directions, and these lie among the axes.
    frame = frame_of(of_low_rank(3, 1_500), metric)
    rest = frame.sample - frame.sample @ axes.T @ axes
    assert np.square(rest).sum() < 0.01 * np.square(frame.sample).sum()  # observed: .0006


@pytest.mark.parametrize("metric", METRICS)
def test_no_axes_are_learned_where_they_would_not_pay(metric):
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((1_500, 160)).astype(np.float32)
    assert learned_axes(frame_of(noise, metric)) is None  # no direction says more than another
    assert learned_axes(frame_of(of_low_rank(3, 1_500, 64), metric)) is None  # a row of codes is one cache line
    assert learned_axes(frame_of(of_low_rank(3, 100), metric)) is None  # too few rows to learn from
    assert learned_axes(frame_of(np.ones((1_500, 160), np.float32), metric)) is not None  # all alike: any axes do


@functools.cache
def without(metric: str) -> Indexed:
    """``low_rank`` without principal codes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(principal, "MOST_AXES", 0)
        return Indexed(of_low_rank(3, 1_500), metric)


@pytest.mark.parametrize("metric", METRICS)
def test_searches_find_as_much_as_by_all_byte_codes(metric):
    """Observed of 200 queries: .9965 to .9995 of the nearest ten with principal codes, .9960 to 1 without, at the widest γ."""
    queries = of_low_rank(9, 200)
    found = {}
    for indexed in (low_rank(metric), without(metric)):
        settings = indexed.segment.models[0].settings
        widest = np.flatnonzero(settings[:, planner.PLAN] == planner.ADAPTIVE_BEAM)[-1]
        truth = [set(docids.tolist()) for docids, _ in indexed.exact(queries, 10)]
        hits = indexed.search(queries, 10, forced=int(widest))
        exact = dict(zip(range(200), indexed.exact(queries, 10), strict=True))
        found[indexed] = np.mean([len(truth[q] & set(docids.tolist())) / 10 for q, (docids, _) in enumerate(hits)])
        for q in (0, 7):  # scores are those of the vectors, whatever codes chose the rows
            scores = dict(zip(*(each.tolist() for each in exact[q]), strict=True))
            assert all(scores.get(docid, score) == score for docid, score in zip(*(each.tolist() for each in hits[q]), strict=True))
    assert "principal" in low_rank(metric).segment.sections and "principal" not in without(metric).segment.sections
    assert min(found.values()) > 0.98


@pytest.mark.parametrize("metric", METRICS)
def test_the_kernel_searches_by_them(metric):
    indexed = low_rank(metric)
    searched = indexed.segment
    model, queries = searched.models[0], of_low_rank(9, 2)
    scratch = DenseScratch(searched.rows, searched.clusters, searched.dim)
    for plan in (planner.ADAPTIVE_BEAM, planner.POST_FILTER):
        table = np.vstack([model.settings, (plan, 2, 2)])
        for wanted, k in ((None, 3), (None, 30), (indexed.every(2), 5)):
            allowed = SegmentMask(searched, wanted)
            heaps, sizes, report = np.zeros((2, k), np.int64), np.zeros(2, np.int64), np.zeros((2, layout.REPORT_WIDTH))
            (_, one), (_, other) = both(
                "segment.search_segment", searched.description, scratch.work, table, model.levels, model.correlations, model.table,
                model.costs, searched.corrections.table, 0.95, len(table) - 1, model.depth, allowed.filtered, allowed.bits, allowed.counts,
                allowed.matches, queries, k, indexed.table, np.zeros(len(indexed.table), np.uint8), False, heaps, sizes, report,
            )  # fmt: skip
            np.testing.assert_array_equal(one[-2], other[-2])
            same_ranking(keys_of(one[-3], one[-2], 40), keys_of(other[-3], other[-2], 40))
            assert (one[-1][:, layout.R_SCORED] == other[-1][:, layout.R_SCORED]).all()


def test_keys_are_inserted_in_order():
    rng = np.random.default_rng(3)
    for most in (1, 7, 8, 9, 40):
        buffer, size, kept = aligned((64,), np.int64), 0, []
        buffer[:] = rng.integers(-(2**63), 2**63 - 1, 64)  # what is beyond the keys is never looked at
        for key in (rng.integers(-50, 50, 300) << 33).tolist():
            place = sum(each >= key for each in kept)
            kept = sorted([*kept, key], reverse=True)[:most]
            size, found = sorted_keys.insert(buffer, size, most, key)
            assert (size, found) == (len(kept), place if place < most else most)
            assert buffer[:size].tolist() == kept
