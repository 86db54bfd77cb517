"""The kernels that choose a plan, compiled and interpreted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.interpreted import SEEDS, both
from vectordb.index.dense.plans import PLANS
from vectordb.index.model import settings_of
from vectordb.kernels import planner


@pytest.mark.parametrize("seed", SEEDS)
def test_predictions_lie_between_what_was_measured(seed):
    rng = np.random.default_rng(seed)
    levels, locals_ = np.array([1.0, -0.5, -2.0, -5.0])[: 2 + seed % 3], np.array([-8.0, -1.0, 0.0, 3.0])[: 1 + seed % 4]
    table = rng.random((len(levels) * len(locals_), 3)).astype(np.float32)
    grid = table.reshape(len(levels), len(locals_), 3)

    def predicted(share, local):
        for _, (*_, cells, weights) in both("planner.weights_of", levels, locals_, share, local, np.zeros(4, np.int64), np.zeros(4)):
            assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
            (one, _), (other, _) = both("planner.predict", 1, cells, weights, table)
            assert one == pytest.approx(other)
        return one

    for i, share in enumerate(levels):
        for j, local in enumerate(locals_):
            assert predicted(share, local) == pytest.approx(grid[i, j, 1])
    assert predicted(levels[-1] - 4, 99.0) == pytest.approx(grid[-1, -1, 1])  # beyond the last: as there
    assert predicted(levels[0], -99.0) == pytest.approx(grid[0, 0, 1])
    between = predicted((levels[0] + levels[1]) / 2, locals_[0])
    assert between == pytest.approx((grid[0, 0, 1] + grid[1, 0, 1]) / 2)
    if len(locals_) > 1:
        assert predicted(levels[1], (locals_[0] + locals_[1]) / 2) == pytest.approx((grid[1, 0, 1] + grid[1, 1, 1]) / 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("graph_there", [False, True])
def test_the_cheapest_setting_that_reaches_the_target_is_chosen(seed, graph_there):
    rng = np.random.default_rng(seed)
    settings = settings_of(PLANS)
    plans = settings[:, planner.PLAN].astype(int)
    recalls, costs = rng.random((1, len(settings))).astype(np.float32), (rng.random((1, len(settings))) * 100).astype(np.float32)
    corrections = np.stack([-0.1 * rng.random(len(PLANS)), 1 + rng.random(len(PLANS))])
    cells, weights = np.zeros(4, np.int64), np.array([1.0, 0, 0, 0])
    exact, scan = plans == planner.EXACT, plans == planner.SCAN
    recalls[0, scan] = rng.choice([0.5, 0.98])
    for target, growth, extra in itertools.product((0.2, 0.8, 0.99, 1.0), (1.0, 4.0), (0.0, 0.003, 0.3)):
        arguments = (settings, recalls, costs, corrections, cells, weights, target, graph_there, growth, extra)
        (one, _), (other, _) = both("planner.choose", *arguments)
        assert one == other
        needed = target + min((1 - target) / 2, planner.MARGIN)
        expected = recalls[0] + corrections[0, plans]
        expected[scan & (expected >= planner.SEEN_TO_MISS)] = max(needed, float(expected[scan].max()))
        expected = np.where(exact, 1.0, np.minimum(expected, planner.NOT_EXACT))
        larger = costs[0].astype(np.float64)
        if growth > 1:
            whole = np.isin(plans, planner.FULL_COST_PLANS)
            full, again = larger[exact], planner.MORE * extra
            unsure = full if again * planner.FEW > 1 else larger[scan] + again * planner.SCATTERED * full
            binary = plans == planner.BINARY_SCAN
            grown = larger * np.where(binary, 1 + planner.KEPT_SHARE * (growth - 1), growth)
            larger = np.where(exact, larger, np.where(whole, larger + extra * planner.SCATTERED * full, grown))
            larger[scan] += unsure
        made = [both("planner.cost_of", s, settings, cells, weights, costs, int(exact.argmax()), growth, extra) for s in range(len(plans))]
        np.testing.assert_allclose([[result for result, _ in pair] for pair in made], np.stack([larger, larger], axis=1), rtol=1e-6)
        usable = graph_there | ~np.isin(plans, planner.GRAPH_PLANS)
        cost, bare = (np.where((expected >= least) & usable, larger * corrections[1, plans], np.inf) for least in (needed, target))
        chosen, safe = one
        assert chosen == (bare if cost.min() > planner.MUCH_CHEAPER * bare.min() else cost).argmin()
        assert safe == np.where(np.isin(plans, planner.TERMINATING_PLANS), cost, np.inf).argmin()
        if target == 1:
            assert plans[chosen] == planner.EXACT
    others = ~exact
    given = (settings[others], recalls[:, others], costs[:, others], corrections, cells, weights, 2.0, True, 1.0, 0.0)
    without = both("planner.choose", *given)
    best = int(np.minimum(recalls[0] + corrections[0, plans], planner.NOT_EXACT)[others].argmax())
    assert [chosen for (chosen, _), _ in without] == [best, best]  # none reaches it


@pytest.mark.parametrize(("k", "expected"), [(3, (1.0, 0.0)), (10, (1.0, 0.0)), (25, (2.5, 0.6)), (1_000, (100.0, 1.0))])
def test_more_results_than_were_measured_cost_more(k, expected):
    assert [result for result, _ in both("planner.beyond", k, 10, 100)] == [pytest.approx(expected)] * 2


def test_a_plan_is_found_wherever_it_stands_in_a_table():
    table = np.array([[4.0, 0, 0], [0, 0, 0], [7, 0, 0], [0, 1, 0]])
    for plan, expected in ((0, 1), (7, 2), (5, -1)):
        assert [result for result, _ in both("planner.setting_of", table, plan)] == [expected] * 2


@pytest.mark.parametrize(("local", "share", "expected"), [(0.5, 0.5, 0.0), (0.0, 0.1, -8.0), (0.4, 0.1, 2.0), (1e-9, 0.5, -8.0)])
def test_rho(local, share, expected):
    assert [result for result, _ in both("planner.log_correlation", local, share)] == [pytest.approx(expected)] * 2


def test_a_scan_costs_in_proportion_to_what_matches():
    levels, locals_ = np.array([1.0, -2.0]), np.array([-8.0, 0.0, 4.0])
    costs = np.arange(12, dtype=np.float32).reshape(6, 2)  # a quarter of all rows costs 6
    assert [result for result, _ in both("planner.scan_cost", levels, locals_, costs, 0, 1 / 32)] == [pytest.approx(6 / 8)] * 2


@pytest.mark.parametrize("seed", SEEDS)
def test_cells_of_distances_follow_those_of_correlations(seed):
    rng = np.random.default_rng(seed)
    levels, bins, points = np.array([1.0, -0.5, -2.0])[: 2 + seed % 2], planner.BINS, planner.BINS + 4
    distances = np.sort(rng.random((len(levels), points)), axis=1)
    cells_each = len(levels) * points
    table = rng.random((2 * cells_each, 3)).astype(np.float32)
    slopes = np.append(0.0, rng.random(len(levels) - 1))
    columns = np.column_stack([distances, slopes]).reshape(-1)
    correlations = np.concatenate([np.arange(points, dtype=np.float64), columns])
    assert [result for result, _ in both("planner.points_of", levels, correlations, table)] == [(points, True)] * 2
    given = (levels, correlations[:points], table[:cells_each])  # of a file of an earlier version
    assert [result for result, _ in both("planner.points_of", *given)] == [(points, False)] * 2

    def predicted(share, distance, local=0.0):
        arguments = (levels, columns, share, local, distance, np.zeros(4, np.int64), np.zeros(4))
        (far, (*_, cells, weights)), (also, (*_, other_cells, other_weights)) = both("planner.weights_of_distance", *arguments)
        assert far == also and weights.sum() == pytest.approx(1)
        np.testing.assert_array_equal(cells, other_cells)
        np.testing.assert_allclose(weights, other_weights)
        return far, planner.predict(1, cells, weights, table)

    grid = table[cells_each:, 1].reshape(len(levels), points)
    for level, axis, row in zip(levels, distances, grid, strict=True):
        for distance in (*axis, *rng.random(5), -1.0, 9.0):
            found, expected = predicted(level, distance)
            assert found == np.searchsorted(axis[:bins], distance)
            assert expected == pytest.approx(np.interp(distance, axis[bins:], row[bins:]))
    middle = (levels[0] + levels[1]) / 2
    halves = [np.interp(0.5, axis[bins:], row[bins:]) for axis, row in zip(distances[:2], grid[:2], strict=True)]
    assert predicted(middle, 0.5)[1] == pytest.approx(np.mean(halves))
    assert predicted(levels[1], 0.9, -2.0)[1] == pytest.approx(np.interp(0.9 - 2 * slopes[1], distances[1, bins:], grid[1, bins:]))
