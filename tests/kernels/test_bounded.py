"""The scan of byte codes by upper bounds: no row's score exceeds its bound, and no row among the best is skipped."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.indexed import METRICS, Indexed, clustered, held_out
from vectordb.common import background
from vectordb.index import exact as flat
from vectordb.index.dense import search as ann
from vectordb.index.dense.segment import SegmentMask


def awkward(metric: str) -> np.ndarray:
    """Rows around some middles, some far from all others, which are kept apart, and some whose codes are cut off."""
    rows = clustered(2, 3_000, 24)
    rows[::250] *= 40.0
    rows[7::500, :3] = 300.0
    rows[11::500, :2] = 9.0
    return rows


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_score_lies_between_its_bounds(metric, dtype):
    indexed = Indexed(awkward(metric), metric, dtype)
    part = ann.SegmentTarget(indexed.segment, indexed.segment.all_allowed)
    for query in np.concatenate([held_out(3, 24), indexed.vectors[:2] * 1e3, indexed.vectors[250:251]]):
        (docids, bounds), below = ann.search_bounded([part], indexed.apart(), indexed.table, query, dtype, metric, 3_000, -np.inf)
        assert np.array_equal(np.sort(docids), indexed.docids) and (np.diff(bounds) <= 0).all()
        found, scores = flat.search_dense(indexed.table, query[None], dtype, metric, 3_000, None)[0]
        true = scores[np.argsort(found)].astype(np.float64)[docids]
        assert (true <= bounds).all() and (true >= bounds.astype(np.float64) - below).all()
        if metric == "dot":
            assert indexed.segment.ceiling(query) >= scores[0] * (1 - 1e-6)
        # A bound that says nothing would hold too: half of them are closer than the scores' own spread.
        assert np.median(below) < 0.25 * (scores[0] - scores[-1])  # at most .13


@pytest.mark.parametrize("metric", METRICS)
def test_a_floor_and_a_filter_leave_out_only_what_they_may(metric):
    rows = clustered(2, 3_000, 24)
    inside = np.arange(200, 2_600, dtype=np.uint32)
    indexed = Indexed(rows, metric, inside=inside)
    wanted = np.flatnonzero(np.random.default_rng(0).random(3_000) < 0.4).astype(np.uint32)
    part = ann.SegmentTarget(indexed.segment, SegmentMask(indexed.segment, wanted))
    chunks = len(indexed.table)
    rest = [ann.TailRange(0, 1, wanted[wanted < 200]), ann.TailRange(2_600 // 700, chunks, wanted[wanted >= 2_600])]
    for query in held_out(5, 24):
        found, scores = flat.search_dense(indexed.table, query[None], "float32", metric, 3_000, wanted)[0]
        top, middle, low = float(scores[0]) + 1e6, float(scores[50]), float(scores[300])
        for k, floor in ((3_000, -np.inf), (3_000, middle), (40, -np.inf), (40, low), (10, top)):
            (docids, bounds), below = ann.search_bounded([part], rest, indexed.table, query, "float32", metric, k, floor)
            assert len(docids) == len(below) <= k and np.isin(docids, wanted).all()
            missed = ~np.isin(found, docids)
            limit = max(floor, float(bounds[-1])) if len(docids) == k else floor
            assert (scores[missed] <= limit).all()
            if k == 3_000:
                assert len(docids) >= (scores >= floor).sum()


def test_large_segments_are_scanned_by_several_cores_with_the_same_result(monkeypatch):
    indexed = Indexed(clustered(2, 3_000, 24), "cosine")
    part = ann.SegmentTarget(indexed.segment, indexed.segment.all_allowed)
    found = []
    for least, cores in ((1 << 60, 2), (0, 2), (0, 5)):
        monkeypatch.setattr(ann, "_PARALLEL_CODES", least)
        monkeypatch.setattr(background, "CORES", cores)
        monkeypatch.setattr(flat, "_pool", None)
        found.append([ann.search_bounded([part], [], indexed.table, query, "float32", "cosine", 50, -np.inf) for query in held_out(3, 24)])
    for other in found[1:]:
        for (one, below), (two, also) in zip(found[0], other, strict=True):
            assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1]) and np.array_equal(below, also)
