"""The scan of byte codes by upper bounds: no row's score exceeds its bound, and no row among the best is skipped."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.indexed import METRICS, Indexed, clustered, held_out
from vectordb.common import background
from vectordb.index import exact as flat
from vectordb.index.base import SegmentMask, SegmentRequest, SegmentTarget, TailRange
from vectordb.index.dense import search as dense_search


def awkward(metric: str) -> np.ndarray:
    """Rows around some middles, some far from all others, which are kept apart, and some whose codes are cut off."""
    rows = clustered(2, 3_000, 24)
    rows[::250] *= 40.0
    rows[7::500, :3] = 300.0
    rows[11::500, :2] = 9.0
    return rows


def bounded(indexed: Indexed, part: SegmentTarget, rest: list[TailRange], query: np.ndarray, k: int, threshold: float):
    """The rows with the highest upper bounds."""
    request = SegmentRequest([part], rest, indexed.chunks, query[None], indexed.spec, k, 1.0)
    return dense_search.search_bounded(request, threshold)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_score_lies_between_its_bounds(metric, dtype):
    indexed = Indexed(awkward(metric), metric, dtype)
    part = SegmentTarget(indexed.segment, indexed.segment.all_allowed)
    for query in np.concatenate([held_out(3, 24), indexed.vectors[:2] * 1e3, indexed.vectors[250:251]]):
        (docids, bounds), below = bounded(indexed, part, indexed.apart(), query, 3_000, -np.inf)
        assert np.array_equal(np.sort(docids), indexed.docids) and (np.diff(bounds) <= 0).all()
        found, scores = flat.search_dense(indexed.table, query[None], dtype, metric, 3_000, None)[0]
        true = scores[np.argsort(found)].astype(np.float64)[docids]
        assert (true <= bounds).all() and (true >= bounds.astype(np.float64) - below).all()
        if metric == "dot":
            assert indexed.segment.upper_bound(query) >= scores[0] * (1 - 1e-6)
        # A bound that says nothing would hold too: half of them are closer than the scores' own spread.
        assert np.median(below) < 0.25 * (scores[0] - scores[-1])  # at most .13


@pytest.mark.parametrize("metric", METRICS)
def test_a_floor_and_a_filter_leave_out_only_what_they_may(metric):
    rows = clustered(2, 3_000, 24)
    inside = np.arange(200, 2_600, dtype=np.uint32)
    indexed = Indexed(rows, metric, inside=inside)
    wanted = np.flatnonzero(np.random.default_rng(0).random(3_000) < 0.4).astype(np.uint32)
    part = SegmentTarget(indexed.segment, SegmentMask(indexed.segment, wanted))
    chunks = len(indexed.table)
    rest = [TailRange(0, 1, wanted[wanted < 200]), TailRange(2_600 // 700, chunks, wanted[wanted >= 2_600])]
    for query in held_out(5, 24):
        found, scores = flat.search_dense(indexed.table, query[None], "float32", metric, 3_000, wanted)[0]
        top, middle, low = float(scores[0]) + 1e6, float(scores[50]), float(scores[300])
        for k, floor in ((3_000, -np.inf), (3_000, middle), (40, -np.inf), (40, low), (10, top)):
            (docids, bounds), below = bounded(indexed, part, rest, query, k, floor)
            assert len(docids) == len(below) <= k and np.isin(docids, wanted).all()
            missed = ~np.isin(found, docids)
            limit = max(floor, float(bounds[-1])) if len(docids) == k else floor
            assert (scores[missed] <= limit).all()
            if k == 3_000:
                assert len(docids) >= (scores >= floor).sum()


def test_large_segments_are_scanned_by_several_cores_with_the_same_result(monkeypatch):
    indexed = Indexed(clustered(2, 3_000, 24), "cosine")
    part = SegmentTarget(indexed.segment, indexed.segment.all_allowed)
    found = []
    for least, cores in ((1 << 60, 2), (0, 2), (0, 5)):
        monkeypatch.setattr(dense_search, "_PARALLEL_CODES", least)
        monkeypatch.setattr(background, "CORES", cores)
        monkeypatch.setattr(flat, "_pool", None)
        found.append([bounded(indexed, part, [], query, 50, -np.inf) for query in held_out(3, 24)])
    for other in found[1:]:
        for (one, below), (two, also) in zip(found[0], other, strict=True):
            assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1]) and np.array_equal(below, also)
