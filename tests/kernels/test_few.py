"""Searches among few rows, given by docid: they find what an exact scan of the same rows finds, in whatever way the rows are scored."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.indexed import METRICS, Indexed, Trace, clustered, held_out, small
from vectordb.index.mask import FEW_ROWS, SegmentMask
from vectordb.kernels import few, planner


def some_of(indexed: Indexed, n: int, seed: int = 1) -> np.ndarray:
    chosen = np.random.default_rng(seed).choice(indexed.docids, n, replace=False)
    return np.sort(chosen).astype(np.uint32)


def overlap(found, expected) -> float:
    """The mean share of the expected rows that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for (a, _), (b, _) in zip(found, expected, strict=True)]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 9, few.UNCODED, few.UNCODED + 1, 700])
def test_few_rows_are_searched_as_an_exact_scan_searches_them(metric, n):
    indexed = small(metric)
    rows, queries = some_of(indexed, n), held_out(40, 24)
    trace = Trace()
    found, expected = indexed.search(queries, 10, rows, trace=trace), indexed.exact(queries, 10, rows)
    assert [len(docids) for docids, _ in found] == [min(10, n)] * 40
    assert trace.report.plan_names() == ["scan"] and trace.report.runs[0].scored == n
    if n <= few.UNCODED:
        for (docids, scores), (all_docids, all_scores) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(docids, all_docids)
            np.testing.assert_array_equal(scores, all_scores)
    assert overlap(found, expected) >= 0.995  # 1.0 for each metric and number of rows
    exact_scores = [dict(zip(*map(np.ndarray.tolist, each), strict=True)) for each in indexed.exact(queries, n, rows)]
    for (docids, scores), known in zip(found, exact_scores, strict=True):
        assert [known[docid] for docid in docids.tolist()] == scores.tolist()


@pytest.mark.parametrize("k", [1, 79, 80, 81, 150, 400])
def test_any_number_of_results(k):
    indexed = small("cosine")
    rows, queries = some_of(indexed, 300, 2), held_out(10, 24)
    found, expected = indexed.search(queries, k, rows), indexed.exact(queries, k, rows)
    assert [len(docids) for docids, _ in found] == [min(k, 300)] * 10
    assert overlap(found, expected) >= 0.99  # 1.0


def test_halves_gaps_and_rows_that_the_segment_does_not_hold():
    rng = np.random.default_rng(5)
    docids = np.sort(rng.choice(9_000, 3_000, replace=False)).astype(np.uint32)
    indexed = Indexed(clustered(3, 3_000, 24), "dot", "float16", docids, inside=docids[500:2_900:2].copy())
    queries, asked = clustered(4, 20, 24), np.arange(0, 9_000, 4, dtype=np.uint32)[:FEW_ROWS]
    held = np.intersect1d(np.intersect1d(asked, docids[500:2_900:2]), indexed.segment.docids)
    mask = SegmentMask(indexed.segment, asked)
    assert mask.few is not None and int(mask.matches[0]) == len(held) > few.UNCODED
    found = indexed.search(queries, 10, asked, parts=None)
    expected = indexed.exact(queries, 10, np.intersect1d(asked, docids[500:2_900:2]))
    assert overlap(found, expected) >= 0.99  # 1.0


def test_codes_that_can_not_tell_rows_apart_are_not_trusted():
    """A far row makes the codes of the others coarse: all of them are then scored at full precision."""
    rng = np.random.default_rng(9)
    vectors = rng.standard_normal((1, 24)) + 1e-4 * rng.standard_normal((2_000, 24))
    indexed = Indexed(vectors.astype(np.float32), "cosine")
    rows, queries = some_of(indexed, 600), (vectors[:8] + 1e-4 * rng.standard_normal((8, 24))).astype(np.float32)
    assert overlap(indexed.search(queries, 10, rows), indexed.exact(queries, 10, rows)) >= 0.9  # 0.99: float32 can hardly tell them apart


def test_a_mask_of_few_rows_is_that_of_the_same_rows_among_many():
    indexed = small("l2")
    rows = some_of(indexed, 400)
    mask = SegmentMask(indexed.segment, rows)
    assert mask.few is not None and mask.filtered
    bits = np.unpackbits(mask.bits[0].view(np.uint8), bitorder="little")[: indexed.segment.rows]
    np.testing.assert_array_equal(np.sort(indexed.segment.docids[bits != 0]), rows)
    assert mask.counts.sum() == mask.matches[0] == 400
    assert SegmentMask(indexed.segment, None).few is None and SegmentMask(indexed.segment, indexed.docids).few is None


def test_forced_plans_search_few_rows_too():
    indexed = small("cosine")
    rows, queries = some_of(indexed, 300), held_out(10, 24)
    exact = int(planner.setting_of(indexed.segment.model(10).settings, planner.EXACT))
    trace = Trace()
    found = indexed.search(queries, 10, rows, forced=exact, trace=trace)
    assert trace.report.plan_names() == ["exact scan"] and overlap(found, indexed.exact(queries, 10, rows)) == 1.0
