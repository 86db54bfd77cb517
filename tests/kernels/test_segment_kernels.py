"""Kernels that search a dense segment whole, compiled and interpreted, by every plan, and few rows of it."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from tests.support.indexed import METRICS, Indexed, clustered, held_out
from tests.support.interpreted import both, keys_of, same_ranking
from vectordb.index.base import SegmentMask
from vectordb.index.dense.plans import PLANS
from vectordb.index.dense.scratch import DenseScratch
from vectordb.index.scratch import aligned
from vectordb.kernels import layout, planner


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dtype", "n"), [("float32", 20), ("float32", 200), ("float16", 200)])
def test_search_few(metric, dtype, n):
    indexed = made_segment(metric, dtype)
    searched, queries = indexed.segment, held_out(3, 20)
    scratch = DenseScratch(searched.rows, searched.clusters, searched.dim)
    wanted = np.arange(indexed.docids[0], indexed.docids[n] + 1, dtype=np.uint32)  # some of them are of no row
    heaps, sizes, held = np.zeros((3, 7), np.int64), np.zeros(3, np.int64), np.zeros(len(wanted), np.bool_)
    (touched, one), (also_touched, other) = both(
        "few.search_few", searched.description, scratch.work, searched.inverse, wanted, held, queries, 7, indexed.table,
        np.zeros(len(indexed.table), np.uint8), dtype == "float16", heaps, sizes,
    )  # fmt: skip
    assert touched == also_touched > 0
    assert one[-1].tolist() == other[-1].tolist() == [7, 7, 7]
    for ran in (one, other):
        np.testing.assert_array_equal(ran[4], np.isin(wanted, searched.docids))
    same_ranking(keys_of(one[-2], one[-1], 40), keys_of(other[-2], other[-1], 40))


def test_docids_are_sorted_and_come_once():
    rng = np.random.default_rng(1)
    for n in (0, 1, 2, 24, 25, 400):
        for high in (5, 300, 70_000, 2**32):
            docids = rng.integers(0, high, n).astype(np.uint32)
            (kept, one), (also, other) = both("conditions.sort_docids", docids, n, docids.copy())
            assert kept == also
            np.testing.assert_array_equal(one[0][:kept], np.unique(docids))
            np.testing.assert_array_equal(other[0][:kept], np.unique(docids))


@functools.cache
def made_segment(metric, dtype):
    """320 rows of 20 numbers in some 15 clusters. Those of float16 have gaps between their docids."""
    docids = np.arange(320, dtype=np.uint32) if dtype == "float32" else np.flatnonzero(np.arange(500) % 3 < 2)[:320].astype(np.uint32)
    return Indexed(clustered(3, 320, 20), metric, dtype, docids, GRAPH_ROWS=50, ROWS_A_CLUSTER=20, SCANNED=50)


# Each plan with each metric, and both dtypes with each of either.
FORMS = [
    pytest.param(plan, metric, ("float32", "float16")[(i + j) % 2], id=f"{'chosen' if plan < 0 else PLANS[plan].name}-{metric}")
    for i, plan in enumerate([-1, *PLANS])
    for j, metric in enumerate(METRICS)
]


@pytest.mark.parametrize(("plan", "metric", "dtype"), FORMS)
def test_search_segment(plan, metric, dtype):
    indexed = made_segment(metric, dtype)
    searched = indexed.segment
    model = searched.models[0]
    table = model.settings
    settings = np.flatnonzero(table[:, planner.PLAN] == plan)
    if plan >= 0 and not len(settings):  # a plan of files of earlier versions
        table, settings = np.vstack([table, (plan, 4, 0)]), [len(table)]
    forced = -1 if plan < 0 else int(settings[min(1, len(settings) - 1)])
    queries = held_out(3, 20)
    rng = np.random.default_rng(plan + 1)
    scratch = DenseScratch(searched.rows, searched.clusters, searched.dim)
    for wanted, k in itertools.product((None, indexed.docids[rng.random(320) < 0.5], indexed.docids[200:230]), (3, 30)):
        if wanted is None and plan >= 0 and "filter" in PLANS[plan].needs:
            continue
        allowed = SegmentMask(searched, wanted)
        heaps, sizes, report = np.zeros((3, k), np.int64), np.zeros(3, np.int64), np.zeros((3, layout.REPORT_WIDTH))
        (touched, one), (also_touched, other) = both(
            "segment.search_segment", searched.description, scratch.work, table, model.levels, model.correlations, model.table,
            model.costs, searched.corrections.table, 0.95, forced, model.depth, allowed.filtered, allowed.bits, allowed.counts,
            allowed.matches, queries, k, indexed.table, np.zeros(len(indexed.table), np.uint8), dtype == "float16", heaps, sizes, report,
        )  # fmt: skip
        assert touched and also_touched and (one[-5] == 2).all() and (other[-5] == 2).all()
        np.testing.assert_array_equal(one[-2], other[-2])
        same_ranking(keys_of(one[-3], one[-2], 40), keys_of(other[-3], other[-2], 40))
        exact = [layout.R_SETTING, layout.R_SCORED, layout.R_FALLBACK]
        np.testing.assert_array_equal(one[-1][:, exact], other[-1][:, exact])
        np.testing.assert_allclose(one[-1], other[-1], rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_bounded_scores(metric):
    indexed = made_segment(metric, "float32")
    found = indexed.segment
    query = held_out(1, 20)[0]
    for wanted, floor in ((None, -np.inf), (indexed.docids[::3].copy(), -np.inf), (None, 0.0)):
        allowed = SegmentMask(found, wanted)
        arguments = (allowed.filtered, allowed.bits[0], 10, 300, found.residual_norms, found.max_norm, floor, np.zeros(30, np.int64))
        codes_of_query = aligned((found.description[layout.STRIDE],), np.int8)
        (one, given), (other, also) = both("bounded.bounded_topk", found.description, query, codes_of_query, *arguments)
        assert one[0] == other[0] and one[1:] == pytest.approx(other[1:], rel=1e-4)
        same_ranking(keys_of([given[-1]], [one[0]], 40), keys_of([also[-1]], [other[0]], 40))
