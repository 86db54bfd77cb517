"""The benchmark's statistics against values computed by hand, and the cost of its timing."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from bench import journal, metrics, timing


def test_recall_divides_by_what_can_be_found():
    assert metrics.recall(3, 10, 4) == 0.75
    assert metrics.recall(9, 10, 1000) == 0.9
    assert metrics.recall(0, 10, 0) == 1.0


def test_recalls_show_the_queries_that_fail_behind_the_mean():
    values = [1.0] * 95 + [0.0] * 5
    found = metrics.recalls(values)
    assert found["mean"] == 0.95
    assert found["p5"] == 0.0 and found["p1"] == 0.0 and found["min"] == 0.0
    assert found["low"] < 0.95 < found["high"]
    assert metrics.recalls([1.0] * 99 + [0.0])["p5"] == 1.0


def test_the_interval_is_that_of_the_binomial_distribution():
    """Of 400 queries a fifth fails: the standard error is √(.2·.8/400) = .02."""
    low, high = metrics.interval([1.0] * 320 + [0.0] * 80)
    assert low == pytest.approx(0.8 - 1.96 * 0.02, abs=0.004)
    assert high == pytest.approx(0.8 + 1.96 * 0.02, abs=0.004)


def test_a_recall_of_one_is_not_certain():
    """100 queries without a miss leave room for 3.6 % of all queries to miss: 1 - .025^(1/100)."""
    low, high = metrics.interval([1.0] * 100)
    assert high == 1.0
    assert low == pytest.approx(1 - 0.0362, abs=0.0005)
    assert metrics.interval([1.0] * 1000)[0] > low


def test_qps_is_of_summed_times_and_its_spread_of_repeats():
    found = metrics.latencies([[1_000_000] * 10, [2_000_000] * 10, [4_000_000] * 10])
    assert (found["qps_low"], found["qps"], found["qps_high"]) == (250, 500, 1000)
    assert found["p50_ms"] == 2.0 and found["mean_ms"] == pytest.approx(7 / 3)


def test_percentiles_name_the_tail():
    found = metrics.latencies([list(range(1_000_000, 1_001_000_000, 1_000_000))])
    assert found["p99_ms"] == pytest.approx(990.01) and found["p99.9_ms"] == pytest.approx(999.001)


def test_rankings_agree_with_hand_worked_ones():
    qrels = {0: {7: 1, 8: 1}, 1: {3: 1}, 2: {5: 1}}
    run = {0: [7, 1, 8], 1: [9, 3], 2: []}
    found = metrics.rankings(qrels, run, 10)
    ideal = 1 + 1 / np.log2(3)
    assert found["nDCG@10"]["queries"] == pytest.approx([(1 + 1 / np.log2(4)) / ideal, 1 / np.log2(3), 0])
    assert found["MRR@10"]["queries"] == [1.0, 0.5, 0.0]
    assert found["recall@10"]["queries"] == [1.0, 1.0, 0.0]
    assert found["MRR@10"]["mean"] == 0.5


def test_queries_without_judgements_are_left_out():
    assert metrics.rankings({0: {7: 1}}, {0: [7], 1: [3]}, 10)["recall@10"]["queries"] == [1.0]
    assert metrics.rankings({0: {7: 1}}, {1: [3]}, 10) == {}


def test_the_pareto_front_keeps_what_nothing_beats():
    points = [(0.8, 100), (0.9, 90), (0.85, 80), (0.95, 90), (0.99, 10), (0.99, 20)]
    assert metrics.pareto(points) == [0, 3, 5]


def test_qps_at_a_recall_is_measured_not_interpolated():
    points = [(0.90, 100.0), (0.96, 50.0), (0.99, 20.0)]
    assert metrics.at_recall(points, 0.95) == 50.0
    assert metrics.at_recall(points, 0.90) == 100.0
    assert metrics.at_recall(points, 0.995) is None


def test_the_harness_costs_a_request_less_than_two_microseconds():
    found = timing.overhead()
    assert found["loop_us"] < 2
    assert found["in_figures_us"] < 2


def test_what_is_measured_is_every_query_once_in_order():
    asked = []

    def search(query, k, where):
        asked.append((query, k, where))
        return query * 2

    times, found, _ = timing.measure(search, [1, 2, 3], 10, ["a", None, "c"], cap=0.04, warm=2)
    every = [(1, 10, "a"), (2, 10, None), (3, 10, "c")]
    assert asked[-3:] == every
    assert found == [2, 4, 6] and len(times) == 3 and all(time >= 0 for time in times)
    # Before it the same queries, round and round, for a fortieth of the cap: a thousand seconds' cap wouldn't make it longer than 0.1 s.
    warming = asked[:-3]
    assert len(warming) >= 2 and warming == [every[i % 3] for i in range(len(warming))]


@pytest.mark.parametrize(("seconds", "cap", "asked"), [(0.002, 1000.0, 51), (0.02, 0.4, 6)])
def test_warming_up_ends(monkeypatch, seconds, cap, asked):
    """After a tenth of a second, however long the cap; a slow system has a quarter of it."""
    now, searches = [0.0], []
    monkeypatch.setattr(timing, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def search(*_):
        searches.append(None)
        now[0] += seconds

    timing._warm(search, [1] * 10, 10, None, cap, 10)
    assert abs(len(searches) - asked) <= 1


def test_a_slow_system_gives_figures_of_the_queries_it_came_to():
    times, found, seconds = timing.measure(lambda *_: time.sleep(0.005), list(range(1000)), 10, None, cap=0.1, warm=0)
    assert 32 <= len(times) < 200 and len(found) == len(times) and seconds < 20


def _measured(system, recall, cell="k=10", exact=False, kind="pass"):
    return {
        "fact": kind,
        "suite": "dense",
        "dataset": "d",
        "stage": "built",
        "cell": cell,
        "system": system,
        "setting": {"ef": recall},
        "exact": exact,
        "repeat": 0,
        "times_ns": [1000, 1000],
        "recall": [recall] * 2,
        "returned": [10, 10],
        "wrong": 0,
        "under": 0,
        "cores": 1,
    }


def _results(tmp_path, *passes):
    made = journal.Journal(tmp_path)
    for name, kind in (("ours", "ours"), ("peer", "library")):
        made.add(f"system|{name}", {"fact": "system", "name": name, "kind": kind})
    for i, one in enumerate(passes):
        made.add(str(i), one)
    made.close()
    return journal.results(made, {})


def test_a_floor_asks_for_one_good_setting_in_every_cell(tmp_path):
    found = _results(tmp_path, _measured("peer", 0.8), _measured("peer", 0.96), _measured("peer", 0.7, "k=100"))
    assert journal.floors_missed(found, [("peer", None, 0.7)]) == []
    [missed] = journal.floors_missed(found, [("peer", "dense", 0.95)])
    assert "k=100" in missed and "0.7000" in missed
    [missed] = journal.floors_missed(found, [("peer", "sparse", 0.5)])
    assert "nothing was measured" in missed


def test_our_exact_mode_must_be_exact_whatever_the_floors(tmp_path):
    found = _results(tmp_path, _measured("ours", 0.999, exact=True), _measured("peer", 0.9, exact=True))
    [missed] = journal.floors_missed(found, [])
    assert missed.startswith("ours: its exact mode is not exact")


def test_a_journal_survives_a_line_cut_in_half(tmp_path):
    made = journal.Journal(tmp_path)
    made.add("a", {"fact": "x", "value": 1})
    made.add("a", {"fact": "x", "value": 2})
    made.close()
    with open(made.path, "ab") as file:
        file.write(b'{"key": "b", "fac')
    again = journal.Journal(tmp_path)
    again.add("c", {"fact": "x", "value": 3})
    again.close()
    assert [fact["value"] for fact in journal.Journal(tmp_path).of("x")] == [1, 3]


def test_runs_are_merged_the_later_figures_count(tmp_path):
    first = _results(tmp_path / "1", _measured("peer", 0.8), _measured("ours", 1.0))
    second = _results(tmp_path / "2", _measured("peer", 0.8) | {"times_ns": [500, 500]})
    whole = journal.merged([first | {"ended": 1}, second | {"ended": 2}])
    assert len(whole["measurements"]) == 2 and whole["ended"] == 2
    assert next(one for one in whole["measurements"] if one["system"] == "peer")["latency"]["qps"] == pytest.approx(2e6)
