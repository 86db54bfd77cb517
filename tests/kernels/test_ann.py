"""Approximate search: hits are correct with every plan, there are enough of them, and the recall target is met."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import indexed as support
from tests.support.indexed import (
    DIM,
    KINDS,
    METRICS,
    ROWS,
    Chunks,
    Indexed,
    Trace,
    clustered,
    filtered,
    grouped,
    held_out,
    recall,
)
from tests.support.nightly import cases
from vectordb.index.base import SegmentMask, SegmentRequest, SegmentTarget
from vectordb.index.dense import calibrate
from vectordb.index.dense.build import Options
from vectordb.index.dense.frame import Frame
from vectordb.index.dense.kind import HNSWFile
from vectordb.index.dense.plans import PLANS
from vectordb.index.dense.scratch import DenseScratch
from vectordb.index.model import Corrections, settings_of
from vectordb.kernels import layout, planner

pytestmark = pytest.mark.usefixtures("full_calibration")

# The settings of a file: those that one built now is calibrated for, and some of plans that earlier versions calibrated.
NOW = settings_of(PLANS)
EARLIER = [(planner.GRAPH_BEAM, 4, 0), (planner.POST_FILTER, 8, 0)]
SETTINGS = np.vstack([NOW, EARLIER])
RUNS = SETTINGS[:, planner.PLAN].astype(int)  # the plan of each setting
NAMES = {id: plan.name for id, plan in PLANS.items()}
CALIBRATED = sorted(set(RUNS[: len(NOW)].tolist()))  # the plans that a file built now is calibrated for
SHARES = (0.3, 0.05)
QUERIES = 64


def with_earlier_plans(indexed: Indexed) -> Indexed:
    """Rows whose segment can be searched by the settings of earlier versions too. Its planner never chooses them."""
    models = []
    for model in indexed.segment.models:
        tables = {}
        for name, value in (("recalls", 0.0), ("lows", 0.0), ("costs", 1e9)):
            table = getattr(model, name)
            tables[name] = np.hstack([table, np.full((len(table), len(EARLIER)), value, np.float32)])
        models.append(dataclasses.replace(model, settings=SETTINGS, **tables))
    other, segment = copy.copy(indexed), object.__new__(HNSWFile)
    segment.__dict__.update(indexed.segment.__dict__, models=tuple(models))
    other.segment = segment
    return other


@functools.cache
def small(metric: str, dtype: str = "float32") -> Indexed:
    return with_earlier_plans(support.small(metric, dtype))


@functools.cache
def large(metric: str, builder: str = "faiss") -> Indexed:
    return with_earlier_plans(support.large(metric, builder))


def setting(plan: int, effort: float) -> int:
    """The setting of a plan whose effort is the nearest to one; of two as near, the one that keeps more by sign bits."""
    own = np.flatnonzero(np.equal(RUNS, plan))
    distance = np.abs(SETTINGS[own, planner.EFFORT] - effort)
    nearest = own[distance == distance.min()]
    return int(nearest[np.argmax(SETTINGS[nearest, planner.WIDTH])])


def settings_for(has_filter: bool) -> list[int]:
    return [s for s, plan in enumerate(RUNS) if has_filter or plan != planner.ACORN]


def in_the_oracles_words(indexed: Indexed, queries, found, rows):
    """Checks that found rows match, come once and in order, and have the scores that an exact search gives them."""
    for (docids, scores), (all_docids, all_scores) in zip(found, indexed.exact(queries, indexed.count, rows), strict=True):
        place = {docid: i for i, docid in enumerate(all_docids.tolist())}
        assert place.keys() >= set(docids.tolist()), "a row that doesn't match"
        at = np.array([place[docid] for docid in docids.tolist()], np.int64)
        assert (np.diff(at) > 0).all()  # best first, ties by docid, none twice
        np.testing.assert_array_equal(scores, all_scores[at])


@pytest.mark.parametrize("share", [None, 0.5, 0.02], ids=["all rows", "half", "few"])
@pytest.mark.parametrize(("metric", "dtype"), [("cosine", "float32"), ("dot", "float16"), ("l2", "float32"), ("l2", "float16")])
def test_every_setting_returns_rows_in_the_oracles_order_with_its_scores(metric, dtype, share):
    indexed = small(metric, dtype)
    queries = held_out(4, 24)
    rows = None if share is None else indexed.docids[np.random.default_rng(0).random(indexed.count) < share]
    matches = indexed.count if rows is None else len(rows)
    for k, forced in itertools.product((1, 10, 60), settings_for(rows is not None)):
        found = indexed.search(queries, k, rows, forced=forced)
        in_the_oracles_words(indexed, queries, found, rows)
        sizes = [len(docids) for docids, _ in found]
        if RUNS[forced] in planner.GRAPH_PLANS:
            assert max(sizes) <= min(k, matches)
        else:
            assert sizes == [min(k, matches)] * len(queries), (NAMES[RUNS[forced]], k)


@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_finds_what_the_oracle_finds(metric):
    """Byte codes and rescoring lose next to nothing of clustered rows."""
    indexed, queries = small(metric), held_out(40, 24)
    rows = indexed.every(3)
    found = indexed.search(queries, 10, rows, forced=0)
    recalls = [recall(*pair) for pair in zip(found, indexed.exact(queries, 10, rows), strict=True)]
    assert np.mean(recalls) >= 0.995  # 1.0 with each metric


def preferring(one: HNSWFile, plan: int) -> HNSWFile:
    """A segment whose models claim that a plan is perfect and cheap. It shares everything else with the first."""
    settled = np.equal(RUNS, plan)
    claims = {"recalls": settled.astype(np.float32), "costs": np.where(settled, 1, 1000).astype(np.float32)}
    models = []
    for model in one.models:
        tables = {name: np.ascontiguousarray(np.broadcast_to(row, model.recalls.shape)) for name, row in claims.items()}
        models.append(dataclasses.replace(model, lows=None, **tables))
    other = object.__new__(HNSWFile)
    other.__dict__.update(one.__dict__, models=tuple(models), corrections=Corrections.of(PLANS))
    return other


@functools.cache
def in_parts(metric: str) -> tuple[Indexed, HNSWFile, np.ndarray, np.ndarray]:
    """Two segments, rows after them that are in none, and rows among theirs that neither holds (dead when they were built).

    Returns (the first with all rows, the second segment, docids of the first's, of the second's).
    """
    rng = np.random.default_rng(2)
    docids = np.flatnonzero(rng.random(1_700) < 0.6)[:960].astype(np.uint32)
    dead = rng.random(len(docids)) < 0.1
    first, second = docids[:500][~dead[:500]], docids[500:800][~dead[500:800]]
    rows = clustered(8, len(docids), 13)
    options = Options(threads=1)
    indexed = Indexed(rows, metric, "float16", docids, inside=first, options=options, GRAPH_ROWS=50, ROWS_A_CLUSTER=30)
    other = Indexed(rows, metric, "float16", docids, inside=second, options=options, GRAPH_ROWS=50, ROWS_A_CLUSTER=30)
    return with_earlier_plans(indexed), with_earlier_plans(other).segment, first, second


@st.composite
def requests(draw):
    """(metric, wanted docids as a rule over all docids, k, target, the plan that the models are made to prefer or None)."""
    kind = draw(st.sampled_from(["all", "none", "one", "share", "range", "those of one cluster"]))
    return {
        "metric": draw(st.sampled_from(METRICS)),
        "kind": kind,
        "share": draw(st.sampled_from([0.005, 0.05, 0.3, 0.8, 0.99])),
        "seed": draw(st.integers(0, 10_000)),
        "k": draw(st.one_of(st.integers(1, 30), st.integers(100, 1_200))),
        "target": draw(st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0])),
        "plan": draw(st.none() | st.sampled_from(range(len(NAMES)))),
        "queries": draw(st.integers(1, 3)),
    }


@settings(max_examples=cases(30, 150))
@given(requests())
def test_never_fewer_than_asked_for_and_never_a_row_that_does_not_match(request):
    """Over two segments and a rest. Plans that find too little, or go on too long, are given up for one that always ends."""
    indexed, second, first_docids, second_docids = in_parts(request["metric"])
    rng = np.random.default_rng(request["seed"])
    live = np.concatenate([first_docids, second_docids, indexed.docids[800:]])
    everything = np.arange(indexed.docids[-1] + 20, dtype=np.uint32)  # also docids of rows without the field
    dead = np.setdiff1d(indexed.docids, live)
    wanted = {
        "all": lambda: live,
        "none": lambda: live[:0],
        "one": lambda: live[[rng.integers(len(live))]],
        "share": lambda: np.setdiff1d(everything[rng.random(len(everything)) < request["share"]], dead),
        "range": lambda: np.setdiff1d(everything[rng.integers(500) : rng.integers(500, 1_000)], dead),
        "those of one cluster": lambda: np.sort(indexed.segment.docids[: int(indexed.segment.offsets[1])]),
    }[request["kind"]]()
    parts = []
    for one in (indexed.segment, second):
        plan = request["plan"]
        allowed = SegmentMask(one, None if request["kind"] == "all" else wanted)
        if plan is not None and (allowed.filtered or plan != planner.ACORN):
            one = preferring(one, plan)
        parts.append(SegmentTarget(one, allowed))
    rest = [indexed.rest(wanted[wanted > second_docids[-1]])]
    queries = held_out(request["queries"], 13)
    found = indexed.search(queries, request["k"], target=request["target"], parts=parts, rest=rest)
    in_the_oracles_words(indexed, queries, found, wanted)
    matches = len(np.intersect1d(wanted, live))
    assert [len(docids) for docids, _ in found] == [min(request["k"], matches)] * len(queries)


@functools.cache
def cell(metric: str, kind: str, share: float) -> list[tuple[np.ndarray, np.ndarray, SegmentMask, tuple]]:
    """Requests of a cell: (query, wanted docids, what the segment makes of them, the oracle's answer)."""
    indexed, rng = large(metric), np.random.default_rng(9)
    where, made = grouped(4, ROWS, DIM)[1], []
    for query, at in zip(*grouped(5, QUERIES, DIM), strict=True):
        rows = indexed.docids[filtered(kind, share, where, at, rng)]
        made.append((query[None, :], rows, SegmentMask(indexed.segment, rows), indexed.exact(query[None, :], 10, rows)[0]))
    return made


def mean_recall(indexed: Indexed, requests, **how) -> float:
    found = []
    for query, rows, allowed, oracle in requests:
        (answer,) = indexed.search(query, 10, rows, parts=[SegmentTarget(indexed.segment, allowed)], **how)
        found.append(recall(answer, oracle))
    return float(np.mean(found))


# At k = 10 and 30 % of the rows matching: the least mean recall of a plan at one effort over all metrics, for filters of each of KINDS.
# What was observed with cosine, dot and l2 is beside it. Plans that fail far from the query are why there is a choice: None asks nothing.
FLOORS = {
    (planner.SCAN, 0): (0.98, 0.98, 0.98),  # 1.000 1.000 1.000; 1.000 1.000 1.000; 1.000 0.998 1.000
    (planner.BINARY_SCAN, 2.2): (0.95, 0.95, 0.91),  # 0.998 0.988 0.994; 0.998 0.991 0.988; 0.988 0.952 0.958
    (planner.CLUSTERS_SCAN, 1_000): (0.97, 0.97, 0.95),  # 1.000 1.000 1.000; 1.000 1.000 1.000; 0.997 0.991 0.994
    (planner.CLUSTERS_BINARY, 1_000): (0.95, 0.95, 0.84),  # 1.000 0.991 0.997; 1.000 0.998 0.995; 0.933 0.892 0.881
    (planner.ADAPTIVE_BEAM, 0.1): (0.94, 0.94, 0.74),
    (planner.GRAPH_BEAM, 4): (0.94, 0.94, 0.74),  # 1.000 0.977 1.000; 1.000 0.977 1.000; 0.950 0.802 0.991
    (planner.POST_FILTER, 8): (0.93, 0.95, None),  # 1.000 0.967 1.000; 1.000 0.991 1.000; 0.017 0.097 0.081
    (planner.ACORN, 6): (0.95, 0.95, 0.79),  # 1.000 0.986 1.000; 1.000 0.991 1.000; 0.959 0.850 0.997
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("plan", "effort"), FLOORS)
def test_each_plan_finds_what_it_should(metric, plan, effort):
    for kind, floor in zip(KINDS, FLOORS[plan, effort], strict=True):
        found = mean_recall(large(metric), cell(metric, kind, SHARES[0]), forced=setting(plan, effort))
        assert floor is None or found >= floor, (NAMES[plan], kind, found)


def test_a_graph_by_hnswlib_finds_as_much_as_one_by_faiss():
    pytest.importorskip("hnswlib")
    indexed = large("cosine", "hnswlib")
    assert indexed.segment.meta["options"]["graph_builder"] == "hnswlib"
    for kind, i in (("uncorrelated", 0), ("positive", 1), ("negative", 2)):
        requests = [(query, rows, SegmentMask(indexed.segment, rows), oracle) for query, rows, _, oracle in cell("cosine", kind, SHARES[0])]
        for plan, effort in ((planner.ADAPTIVE_BEAM, 0.1), (planner.ACORN, 6)):
            assert mean_recall(indexed, requests, forced=setting(plan, effort)) >= FLOORS[plan, effort][i], (NAMES[plan], kind)


@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("scans", [True, False], ids=["any plan", "not by scanning"])
def test_the_recall_asked_for_is_met(target, scans, monkeypatch):
    """Of queries that are not in the segment, with any filter. Scans are so cheap here that the rest has to be tested without them.

    What was chosen depends on the clock. Of these 21 means in four builds one at most was more than 0.02 below the target (cosine, 30 % far
    from the query, 0.845 for 0.9).
    """
    means, queries = {}, held_out(QUERIES)
    for metric in METRICS:
        indexed = large(metric)
        monkeypatch.setattr(indexed.segment, "corrections", Corrections.of(PLANS))
        if not scans:
            indexed.segment.corrections.table[1, planner.SCAN] = 1e6
        found = indexed.search(queries, 10, target=target)
        means[metric, "no filter"] = np.mean([recall(*pair) for pair in zip(found, indexed.exact(queries, 10), strict=True)])
        for kind, share in itertools.product(KINDS, SHARES):
            means[metric, kind, share] = mean_recall(indexed, cell(metric, kind, share), target=target)
    below = {where: mean for where, mean in means.items() if mean < target - 0.02}
    assert len(below) <= 2 and min(means.values()) >= target - 0.08 and np.mean(list(means.values())) >= target - 0.01, below


@pytest.mark.parametrize("metric", METRICS)
def test_rows_beyond_a_sharp_bound_are_found_among_many_as_good(metric):
    """All but the nearer half match. The best of them score so much alike that byte codes don't tell them apart: more are rescored."""
    indexed, found = large(metric), []
    for query in held_out(QUERIES):
        ((docids, _),) = indexed.exact(query[None, :], ROWS)
        rows = np.sort(docids[ROWS // 2 :]).astype(np.uint32)
        (answer,), (oracle,) = indexed.search(query[None, :], 10, rows, forced=0), indexed.exact(query[None, :], 10, rows)
        found.append(recall(answer, oracle))
    assert np.mean(found) >= 0.98  # 1.000 with each metric


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 40, 300])
def test_other_numbers_of_results_are_found_as_well(metric, k):
    """Efforts grow with k; the models are of 10 and 100. Which of the plans that will do is the cheapest is the clock's to say."""
    indexed, queries = large(metric), held_out(QUERIES)
    found = indexed.search(queries, k)
    mean = np.mean([recall(*pair) for pair in zip(found, indexed.exact(queries, k), strict=True)])
    assert mean >= (0.93 if k <= 100 else 0.90)  # of 300, with .95 asked: .954 to .986


# Many at once


def same(one, other):
    assert len(one) == len(other)
    for (docids, scores), (other_docids, other_scores) in zip(one, other, strict=True):
        np.testing.assert_array_equal(docids, other_docids)
        np.testing.assert_array_equal(scores, other_scores)


@pytest.fixture
def settled(monkeypatch):
    """Costs are not learned: what was chosen once is chosen again."""
    monkeypatch.setattr(Corrections, "learn_cost", lambda *_: None)


@pytest.mark.parametrize("forced", [-1, setting(planner.ADAPTIVE_BEAM, 0.06), setting(planner.CLUSTERS_BINARY, 1_000)])
@pytest.mark.parametrize("has_filter", [False, True])
def test_a_batch_finds_what_its_queries_find_alone(forced, has_filter, settled):
    indexed = large("cosine")
    rows = indexed.every(3) if has_filter else None
    queries = held_out(37)
    together = indexed.search(queries, 10, rows, forced=forced)
    same(together, [indexed.search(query[None, :], 10, rows, forced=forced)[0] for query in queries])
    trace = Trace()
    same(together, indexed.search(queries, 10, rows, forced=forced, trace=trace))
    (run,) = trace.report.runs
    assert run.setting >= 0 and run.elapsed > 0


@pytest.mark.parametrize("forced", [-1, setting(planner.ACORN, 3), setting(planner.BINARY_SCAN, 2)])
def test_two_threads_find_what_one_does(forced, settled):
    """Each has marks, heaps and distances of its own."""
    rows = {metric: large(metric).every(3) for metric in METRICS}
    tasks = [(metric, query[None, :]) for query in held_out(60) for metric in METRICS]

    def ask(task):
        return large(task[0]).search(task[1], 10, rows[task[0]], forced=forced)[0]

    alone = [ask(task) for task in tasks]
    with ThreadPoolExecutor(2) as pool:
        same(list(pool.map(ask, tasks)), alone)


def test_scratch_space_serves_segments_of_any_size_in_turn():
    """It grows; marks that a larger segment left don't disturb a smaller one, nor the other way round."""
    forced = setting(planner.ADAPTIVE_BEAM, 0.1)
    tasks = [(small("dot"), held_out(1, 24)), (large("dot"), held_out(1)), (small("l2"), held_out(1, 24))]
    with ThreadPoolExecutor(1) as pool:
        fresh = [pool.submit(indexed.search, queries, 10, forced=forced).result() for indexed, queries in tasks]
    for _ in range(5):
        for (indexed, queries), expected in zip(tasks, fresh, strict=True):
            same(indexed.search(queries, 10, forced=forced), expected)


def test_marks_of_long_ago_are_cleared_when_their_number_comes_round():
    """After 255 searches of a thread."""
    indexed, forced = large("l2"), setting(planner.ADAPTIVE_BEAM, 0.1)
    queries = held_out(1)
    expected = indexed.search(queries, 10, forced=forced)
    space = DenseScratch.of_thread(indexed.segment.rows, indexed.segment.clusters, DIM)
    space._arrays[layout.VISITED][:] = 1  # as the first search after it would leave them
    space._arrays[layout.EPOCH][0] = 254
    for _ in range(3):
        same(indexed.search(queries, 10, forced=forced), expected)
    assert space._arrays[layout.EPOCH][0] < 100


# Plans


@settings(max_examples=cases(15, 60))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.floats(0, 1e9), st.floats(0, 1e9)), max_size=60))
def test_what_running_teaches_stays_within_bounds(measurements):
    learned = Corrections.of(PLANS)
    for of_cost, plan, predicted, actual in measurements:
        (learned.learn_cost if of_cost else learned.learn_recall)(plan, predicted, actual)
    recalls, costs, _ = learned.table
    assert (recalls >= -0.2).all() and (recalls <= 0.02).all()
    assert (costs >= 0.25).all() and (costs <= 4).all() and 0.05 <= learned.speed <= 20


def test_costs_and_recalls_follow_what_is_measured():
    learned = Corrections.of(PLANS)
    for _ in range(400):
        for plan, actual in ((2, 20.0), (3, 10.0), (4, 10.0)):
            learned.learn_cost(plan, 10.0, actual)
        learned.learn_recall(3, 0.95, 0.85)
        learned.learn_recall(4, 0.85, 0.95)  # finding more than predicted is hardly a reason to do less
    recalls, costs, _ = learned.table
    assert costs[2] / costs[3] == pytest.approx(2, abs=0.15) and costs[3] == pytest.approx(costs[4], abs=0.1)
    assert recalls.tolist() == pytest.approx([0, 0, 0, -0.1, 0.02, 0, 0, 0, 0], abs=0.001)


def test_the_first_measured_recalls_move_a_prediction_the_most():
    learned = Corrections.of(PLANS)
    for _ in range(16):
        learned.learn_recall(3, 0.95, 0.85)
    assert learned.table[0, 3] == pytest.approx(-0.05)


def test_a_slower_machine_doesnt_change_the_choice():
    """A plan that runs isn't blamed for what would slow down every other as well: half the speed, or caches that are cold."""
    learned = Corrections.of(PLANS, 2.5)
    for actual in (5.0, 30.0):
        for _ in range(400):
            learned.learn_cost(2, 10.0, actual)
        assert learned.table[1] == pytest.approx(1, abs=0.25) and learned.factors[2] == pytest.approx(actual / 10, rel=0.02)


def test_a_plan_that_runs_slower_than_predicted_is_chosen_less(monkeypatch):
    """One whose cost factor has grown to four gives way to others."""
    indexed, queries = large("cosine"), held_out(QUERIES)

    def chosen(factors) -> np.ndarray:
        monkeypatch.setattr(indexed.segment, "corrections", Corrections.of(PLANS))
        indexed.segment.corrections.table[1] = factors
        found = []
        for query in queries:
            trace = Trace()
            indexed.search(query[None], 10, trace=trace)
            found.append(RUNS[int(trace.report.runs[0].setting)])
        return np.array(found)

    before = chosen(np.ones(len(NAMES)))
    favourite = int(np.bincount(before).argmax())
    factors = np.ones(len(NAMES))
    factors[favourite] = 1_000
    assert favourite not in chosen(factors)


def test_a_plan_that_is_explained(settled, monkeypatch):
    indexed, trace = large("dot"), Trace()
    monkeypatch.setattr(indexed.segment, "corrections", Corrections.of(PLANS))
    rows = indexed.every(3)
    part = SegmentTarget(indexed.segment, SegmentMask(indexed.segment, rows))
    indexed.search(held_out(1), 10, parts=[part], trace=trace)
    (shown,) = trace.report.explained()
    assert (shown["rows"], shown["matches"], shown["selectivity"]) == (ROWS, len(rows), len(rows) / ROWS)
    assert 0 < shown["local_selectivity"] < 1 and shown["plan"] in NAMES.values() and not shown["fallback"]
    costs = [row["microseconds"] for row in shown["considered"]]
    assert costs == sorted(costs) and len(costs) > 20
    same_as_run = [row for row in shown["considered"] if (row["plan"], row["parameters"]) == (shown["plan"], shown["parameters"])]
    assert [row["microseconds"] for row in same_as_run] == pytest.approx([shown["predicted"]["microseconds"]])
    assert {row["plan"] for row in shown["considered"]} == {NAMES[plan] for plan in CALIBRATED}
    assert all(0 <= row["recall"] <= 1 for row in shown["considered"])


def test_the_table_of_plans_says_what_the_kernels_take_them_for():
    """The kernels are compiled with tuples of their own."""
    assert {id for id, plan in PLANS.items() if plan.kernel is None} == set(planner.COMPILED_PLANS)
    assert {id for id, plan in PLANS.items() if plan.terminates} == set(planner.TERMINATING_PLANS)
    assert {id for id, plan in PLANS.items() if "graph" in plan.needs} == set(planner.GRAPH_PLANS)


def test_a_plan_that_can_not_be_run_is_refused():
    indexed = small("l2")
    with pytest.raises(ValueError, match="filter"):
        indexed.search(held_out(1, 24), 10, forced=setting(planner.ACORN, 6))
    without = Indexed(clustered(3, 200, 24), "l2", GRAPH_ROWS=300)
    for plan in set(planner.GRAPH_PLANS) & set(CALIBRATED):
        with pytest.raises(ValueError, match="graph"):
            without.search(held_out(1, 24), 10, without.every(2), forced=setting(plan, 6))


def test_chunks_that_a_search_read_are_marked_and_confirmed_once():
    indexed = small("cosine")
    chunks, calls = Chunks(indexed.table), []
    chunks.verified[:] = 0

    def confirm():
        calls.append(np.flatnonzero(chunks.verified == 2).tolist())
        chunks.verified[chunks.verified == 2] = 1

    chunks.confirm = confirm

    part = SegmentTarget(indexed.segment, indexed.segment.all_allowed)
    for _ in range(2):
        HNSWFile.search(SegmentRequest([part], [], chunks, held_out(1, 24), indexed.spec, 5, 0.95))
    assert len(calls) == 1 and calls[0]
    chunks.verified[:] = 2  # marks of another thread, which hasn't confirmed them yet
    HNSWFile.search(SegmentRequest([part], [], chunks, held_out(1, 24), indexed.spec, 5, 0.95))
    assert len(calls) == 2


@pytest.mark.parametrize("count", [400, 6_000])
def test_nothing_is_learned_from_the_rows_that_serve_as_calibration_queries(count, monkeypatch):
    """Rows that the centroids were learned from lie nearer to theirs than new queries do, and make the plans seem to find more."""
    learned, calibrated = Frame.learned, calibrate.calibrate
    frames, queries = [], []
    monkeypatch.setattr(Frame, "learned", lambda *given: frames.append(learned(*given)) or frames[-1])
    monkeypatch.setattr(calibrate, "calibrate", lambda *given: queries.append(given[4]) or calibrated(*given))
    vectors = clustered(3, count, DIM)
    vectors[:5] *= 1e6  # outliers, which are kept apart, so that the other rows get other numbers
    segment = Indexed(vectors, "l2").segment
    assert len(segment.docids) == count - 5
    (frame,), (chosen,) = frames, queries
    docids = np.sort(segment.docids.astype(np.int64))[chosen]
    assert len(chosen) >= min(count // 25, 100) and not np.isin(docids, frame.seen).any()
