"""Queries that are farther from the rows than rows are from one another find as much of what they ask for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.indexed import DIM, METRICS, ROWS, Indexed, Trace, clustered, held_out, large, recall
from tests.support.interpreted import both
from vectordb.index.base import SegmentTarget
from vectordb.index.dense import far, points
from vectordb.index.dense.build import Options
from vectordb.index.dense.kind import HNSWFile
from vectordb.index.dense.plans import PLANS
from vectordb.index.model import AGAIN, Corrections
from vectordb.kernels import planner, segment
from vectordb.kernels.topk import make_key

pytestmark = pytest.mark.usefixtures("full_calibration")

ADDED = ("distance_points", "far_recalls", "far_costs")  # the sections that files of earlier versions lack
QUERIES = 48


def earlier(one: HNSWFile) -> HNSWFile:
    """The segment as a file of an earlier version has it."""
    return HNSWFile(one.meta, {name: section for name, section in one.sections.items() if name not in ADDED}, one.file)


def apart(metric: str) -> dict[str, np.ndarray]:
    """Queries of several kinds, none of which is drawn like a row."""
    rng, rows = np.random.default_rng(3), clustered(4, ROWS, DIM)
    noise = rng.standard_normal((QUERIES, DIM)).astype(np.float32)
    pairs = rows[rng.integers(0, ROWS, (2, QUERIES))]
    length = float(np.linalg.norm(rows - rows.mean(axis=0), axis=1).mean() / np.sqrt(DIM))
    return {"directions": rows.mean(axis=0) + length * noise, "means of two": pairs.mean(axis=0), "differences": pairs[0] - pairs[1]}


@pytest.mark.parametrize("size", [0, 1, 9, 40])
@pytest.mark.parametrize("depth", [1, 10])
def test_the_distance_of_results_is_that_of_the_worst_of_the_best(size, depth):
    scores = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    keys = np.array([make_key(score, row) for row, score in enumerate(scores)], np.int64)
    (one, _), (other, _) = both("segment.distance_of", keys, size, depth, 3.0)
    worst = -np.sort(-scores)[min(depth, size) - 1] if size else 3.0
    assert one == pytest.approx(other, rel=1e-5) and one == pytest.approx((3.0 - worst) / 3.0, rel=1e-5)
    assert [result for result, _ in both("segment.distance_of", keys, size, depth, 0.0)] == [0.0, 0.0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_distance_that_a_search_reports_is_that_of_what_it_found(metric):
    one, model = large(metric), large(metric).segment.models[0]
    queries = np.concatenate([held_out(3), *(some[:3] for some in apart(metric).values())])
    if metric != "l2":
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    distances = far.distances_of(one.segment, queries)
    for q, query in enumerate(queries):
        trace = Trace()
        ((_, scores),) = one.search(query[None], model.depth, target=0.9, trace=trace)
        (run,), (shown,) = trace.report.runs, trace.report.explained()
        if run.local < 0:  # a scan needs no second search
            assert shown["distance"] is None and shown["plan"] in ("scan", "exact scan")
            continue
        # Scores by codes are a little off, and a second search may have found more.
        found = distances(np.array([q]), -np.abs(scores[-1:]) if metric == "l2" else scores[-1:])[0]
        assert shown["distance"] == run.local >= found - 0.02
        assert run.fallback == AGAIN or run.local <= found + 0.02
        assert shown["local_selectivity"] is None and shown["searched_again"] == (run.fallback == AGAIN)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", [0.9, 0.95])
def test_far_queries_find_what_was_asked_for(metric, target, monkeypatch):
    """Scans are so cheap here that the rest is tested without them. What was chosen depends on the clock. Observed in two builds: .856 to
    .985 at .9, and .919 to 1.0 at .95; the means of a metric .904 and .950 or more. With one search: from .527 and .762.
    """
    one = large(metric)
    monkeypatch.setattr(one.segment, "corrections", Corrections.of(PLANS))
    one.segment.corrections.table[1, [planner.SCAN, planner.EXACT]] = 1e6
    monkeypatch.setattr(Corrections, "learn_cost", lambda *_: None)
    means = []
    for queries in apart(metric).values():
        found = one.search(queries, 10, target=target)
        means.append(np.mean([recall(*pair) for pair in zip(found, one.exact(queries, 10), strict=True)]))
    assert min(means) >= target - 0.07 and np.mean(means) >= target - 0.03, means


def test_a_file_of_an_earlier_version_is_searched_once(monkeypatch):
    one = large("cosine")
    old = earlier(one.segment)
    assert len(old.models[0].costs) * 2 == len(one.segment.models[0].costs)
    old.corrections.table[1, [planner.SCAN, planner.EXACT]] = 1e6
    trace = Trace()
    for query in apart("cosine")["directions"][:8]:
        found = one.search(query[None], 10, parts=[SegmentTarget(old, old.all_allowed)], trace=trace)
        assert len(found[0][0]) == 10 and trace.report.runs[0].fallback != AGAIN
        assert trace.report.explained()[0]["distance"] is None


def claiming(one: HNSWFile, first: int, second: int) -> HNSWFile:
    """The segment with models by which a cheap setting finds all of what is near and nothing of what is far, and another one all."""
    sections = dict(one.sections)
    for name, value in (("recalls", 0.0), ("lows", 0.0), ("far_recalls", 0.0), ("costs", 50.0), ("far_costs", 50.0)):
        sections[name] = np.full_like(sections[name], value)
    for name in ("recalls", "lows"):
        sections[name][..., [first, second]] = 1.0
    sections["far_recalls"][..., second] = 1.0
    for name in ("costs", "far_costs"):
        sections[name][..., first], sections[name][..., second] = 1.0, 2.0
    sections["distance_points"] = np.broadcast_to(np.append(np.linspace(0.8, 1.2, 11), 0.0), sections["distance_points"].shape).copy()
    return HNSWFile(one.meta, sections, one.file)


@pytest.mark.parametrize("filtered", [False, True])
def test_what_finds_rows_too_far_away_is_searched_again(filtered):
    one = large("l2")
    settings = one.segment.models[0].settings
    cheap = int(np.flatnonzero(settings[:, planner.PLAN] == planner.ADAPTIVE_BEAM)[0])
    thorough = int(np.flatnonzero(settings[:, planner.PLAN] == planner.BINARY_SCAN)[-1])
    part = claiming(one.segment, cheap, thorough)
    rows = one.docids[np.random.default_rng(0).random(ROWS) < 0.5] if filtered else None
    allowed = part.all_allowed if rows is None else type(part.all_allowed)(part, rows)
    middle = one.vectors.mean(axis=0)
    for query, expected in ((one.vectors[7], cheap), (middle + 0.01, thorough)):
        trace = Trace()
        (found,) = one.search(query[None], 10, parts=[SegmentTarget(part, allowed)], trace=trace)
        (run,), (shown,) = trace.report.runs, trace.report.explained()
        assert run.setting == expected and shown["searched_again"] == (expected == thorough) and not shown["fallback"]
        assert trace.report.judged() == [(int(settings[expected, planner.PLAN]), 1.0)]
        if expected == thorough:
            assert run.microseconds == pytest.approx(3.0)  # of both searches
            assert recall(found, one.exact(query[None], 10, rows)[0]) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_made_queries(metric):
    rows = clustered(2, 300, 12)
    rows[:3] = 0
    mean = rows.mean(axis=0)
    made = [far.made_queries(rows, mean, metric, 29, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*made)
    assert made[0].shape == (29, 12) and made[0].dtype == np.float32 and np.isfinite(made[0]).all()
    kinds = far.kinds_of(29)
    assert set(kinds.tolist()) == {0, 1, 2, far.NOISE}
    if metric == "l2":
        spread = np.linalg.norm(rows - mean, axis=1)
        assert (np.linalg.norm(made[0] - mean, axis=1) < 3 * spread.max()).all()
    assert np.isfinite(far.made_queries(rows[:1], rows[0], metric, 5, np.random.default_rng(5))).all()


def test_recalls_by_distance_fall_and_heed_random_directions():
    rng = np.random.default_rng(1)
    true, noise = np.linspace(0, 1, 200), np.arange(200) % 4 == 0
    found = np.repeat(true[:, None], 2, axis=1)
    recalls = np.stack([1 - 0.5 * true, np.where(noise & (true > 0.8), 0.2, 1.0)], axis=1) + 0.02 * rng.standard_normal((200, 2))
    costs = np.stack([10 + true, np.full(200, 7.0)], axis=1)
    table, microseconds, axis = points.points_by_distance(true, 0.4, noise, found, recalls, costs, 11)
    assert table.shape == microseconds.shape == (11, 2) and axis[0] == 0.4 and (np.diff(axis) > 0).all()
    assert (np.diff(table, axis=0) <= 0).all()
    np.testing.assert_allclose(table[:6, 0], 1 - 0.5 * axis[:6], atol=0.05)
    np.testing.assert_allclose(microseconds[:6, 0], 10 + axis[:6], atol=0.1)
    assert table[0, 1] > 0.9 and table[5, 1] < 0.35  # the lower of both kinds
    assert (table[6:] == table[5]).all() and (axis[6:] > 1).all()


def test_few_queries_in_random_directions_count_at_the_last_distance_if_a_setting_finds_rows_farther_than_that():
    true, noise = np.array([0.5, 0.6, 0.7, 0.8, 0.8]), np.array([False, False, False, True, True])
    found, recalls, costs = np.array([[0.5, 0.6, 0.7, 0.95, 0.9]]).T, np.array([[1.0, 1.0, 1.0, 0.3, 0.2]]).T, np.ones((5, 1))
    tables, _, axis = points.points_by_distance(true, 0.5, noise, found, recalls, costs, 8)
    assert axis[tables[:, 0] < 0.3].min() == 0.8 and (tables[axis < 0.8] == 1.0).all()


def test_bins_have_the_recall_of_what_is_found_in_them():
    true = np.random.default_rng(2).permutation(np.linspace(0, 1, 200))
    found = np.stack([true, true, np.full(200, 9.0)], axis=1)
    found[:20, 1] = 0.95  # beyond the limit: searched again, so they count for none
    recalls = np.stack([1 - 0.5 * true, np.ones(200), 0.3 + 0 * true], axis=1)
    recalls[:20, 1] = 0
    ends, tables = points.bins_of(0.9, true, found, recalls)
    np.testing.assert_allclose(ends, [0.18, 0.36, 0.54, 0.72, 0.9], atol=0.01)
    np.testing.assert_allclose(tables[:, 0], [0.955, 0.865, 0.775, 0.685, 0.595], atol=0.01)
    assert (tables[:, 1] == 1).all() and tables[:, 2] == pytest.approx(0.3)


def test_predictions_follow_the_distances_that_searches_find():
    """Queries that are farther than rows are from one another, but not so far that each is searched again, get more effort."""
    one = large("cosine")
    settings = one.segment.models[0].settings
    cheap = int(np.flatnonzero(settings[:, planner.PLAN] == planner.ADAPTIVE_BEAM)[0])
    thorough = int(np.flatnonzero(settings[:, planner.PLAN] == planner.BINARY_SCAN)[-1])
    sections = dict(claiming(one.segment, cheap, thorough).sections)
    for name, value in (("recalls", 0.97), ("lows", 0.97)):
        sections[name][..., cheap] = value
    levels = len(sections["levels"])
    for name in ("far_recalls", "far_costs"):
        sections[name] = sections[name].reshape(len(sections[name]), levels, -1, len(settings)).copy()
    sections["far_recalls"][..., : planner.BINS, cheap] = [1.0, 1.0, 0.95, 0.9, 0.8]
    for name in ("far_recalls", "far_costs"):
        sections[name] = sections[name].reshape(sections["recalls"].shape)
    part = HNSWFile(one.segment.meta, sections, one.segment.file)
    counts, target = part.corrections.table[planner.SEEN], SegmentTarget(part, part.all_allowed)

    def chosen() -> int:
        trace = Trace()
        one.search(one.vectors[5:6], 10, target=0.95, parts=[target], trace=trace)
        return trace.report.runs[0].setting

    assert [chosen() for _ in range(40)] == [cheap] * 40 and counts[: planner.NOT_AGAIN].tolist() == [40, 0, 0, 0, 0, 0]
    part.follow()
    assert chosen() == cheap  # nearer than usual, but no less effort for that
    counts[:] = 0
    counts[planner.BINS - 1] = 400
    part.follow()
    assert chosen() == thorough
    lower = 0.13 * 400 / 416 - np.std([1.0, 1.0, 0.95, 0.9, 0.8]) * np.sqrt(1 / 400 + 1 / 160)  # less what chance explains
    assert part.models[0].predictions(target, -1, 10)[1][cheap] == pytest.approx(0.97 - 2 * lower, abs=1e-4)
    counts[: planner.BINS] = 100  # at 512 searches, half are forgotten
    counts[0] = 400
    part.follow()
    assert chosen() == cheap and counts[: planner.BINS].tolist() == [201, 50, 50, 50, 50]


def test_searches_are_not_repeated_where_queries_resemble_the_rows():
    """Some rows are farther from the others than usual too, and what is predicted of rows counts these."""
    one = large("l2")
    settings = one.segment.models[0].settings
    cheap = int(np.flatnonzero(settings[:, planner.PLAN] == planner.ADAPTIVE_BEAM)[0])
    thorough = int(np.flatnonzero(settings[:, planner.PLAN] == planner.BINARY_SCAN)[-1])
    claimed = claiming(one.segment, cheap, thorough)
    part = HNSWFile(claimed.meta, claimed.sections | {"alike": np.array([1e4, 2e4])}, claimed.file)
    counts, middle = part.corrections.table[planner.SEEN], one.vectors.mean(axis=0)

    def chosen() -> int:
        trace = Trace()
        one.search(middle[None] + 0.01, 10, parts=[SegmentTarget(part, part.all_allowed)], trace=trace)
        return trace.report.runs[0].setting

    assert chosen() == thorough and counts[: planner.NOT_AGAIN].tolist() == [0, 0, 0, 0, 0, 1]
    counts[: planner.BINS] = 20
    part.follow()
    assert chosen() == cheap and counts[planner.NOT_AGAIN :][:2].tolist() == [1e4, 2e4]
    counts[planner.BINS] = 140  # more than of the rows
    part.follow()
    assert chosen() == thorough and counts[planner.NOT_AGAIN :][:2].tolist() == [0, 0]


def test_a_build_measures_distances_of_each_level():
    small = Indexed(clustered(3, 900, 16), "dot", options=Options(threads=1), SCANNED=100)
    sections = small.segment.sections
    depths, cells, settings = sections["recalls"].shape
    levels, wide = len(sections["levels"]), len(sections["locals"]) + 1
    assert sections["distance_points"].shape == (depths, levels, wide) and (sections["distance_points"][:, 0, -1] == 0).all()
    assert (np.diff(sections["distance_points"][..., :-1], axis=2) >= 0).all()
    assert (np.diff(sections["distance_points"][..., planner.BINS : -1], axis=2) > 0).all()
    assert (sections["alike"] >= sections["distance_points"][:, 0, planner.BINS - 1]).all() and sections["alike"].shape == (depths,)
    assert sections["far_recalls"].shape == sections["far_costs"].shape == (depths, cells, settings)
    exact = planner.setting_of(sections["settings"], planner.EXACT)
    assert (sections["far_recalls"][..., exact] == 1).all() and (sections["far_costs"] > 0).all()
    assert segment.AGAIN == AGAIN
