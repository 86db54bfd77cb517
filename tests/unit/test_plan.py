"""A plan is data, and its printed text is aligned."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from vectordb_client.model.plan import Plan

import vectordb
from vectordb import Dense, Int, MultiVector, Schema, Sparse

DATA = {
    "sequence": 7,
    "queries": 1,
    "exact": False,
    "live_rows": 100_000,
    "filter": {"matches": 10_012, "selectivity": 0.10012},
    "arms": [
        {
            "field": "text",
            "kind": "dense",
            "plan": "segments",
            "exact": False,
            "recall": {"target": 0.95, "predicted": 0.9731},
            "candidates": 10,
            "rows": 1240,
            "segments": [
                {
                    "rows": 65_536,
                    "matches": 6550,
                    "selectivity": 0.0999,
                    "local_selectivity": 0.121,
                    "plan": "graph",
                    "parameters": {"ef": 40},
                    "predicted": {"microseconds": 31.0, "recall": 0.97},
                    "considered": [
                        {"plan": "clusters", "parameters": {"rows": 200}, "microseconds": 9.0, "recall": 0.7},
                        {"plan": "clusters", "parameters": {"rows": 400}, "microseconds": 12.0, "recall": 0.8},
                        {"plan": "graph", "parameters": {"ef": 24}, "microseconds": 20.0, "recall": 0.91},
                        {"plan": "graph", "parameters": {"ef": 40}, "microseconds": 31.0, "recall": 0.97},
                        {"plan": "funnel", "parameters": {"deviations": 1.6}, "microseconds": 40.0, "recall": 0.96},
                        {"plan": "funnel", "parameters": {"deviations": 3}, "microseconds": 90.0, "recall": 0.99},
                        {"plan": "scan", "parameters": {}, "microseconds": 1204.2, "recall": 1.0},
                        {"plan": "two-hop", "parameters": {"ef": 40, "z": 1.8}, "microseconds": None, "recall": None},
                    ],
                    "microseconds": 33.3,
                    "rows_scored": 620,
                    "fallback": True,
                },
                {
                    "rows": 300,
                    "matches": 1,
                    "selectivity": 1 / 300,
                    "local_selectivity": None,
                    "plan": "return all",
                    "parameters": {},
                    "predicted": {"microseconds": 0.5, "recall": 1.0},
                    "considered": [],
                    "microseconds": 0.4,
                    "rows_scored": 1,
                },
            ],
            "tail": {"rows": 34_164, "microseconds": 52.0},
        },
        {"field": "terms", "kind": "sparse", "plan": "exact term-at-a-time", "rows": 10_012, "candidates": 100},
    ],
    "fusion": {"method": "rrf", "candidates": 100},
    "milliseconds": {"filter": 0.02, "arm text": 1.5, "fetch": 0.02},
}
TEXT = """\
1 query over 100,000 live rows: 1.54 ms = filter 20.0 µs + arm text 1.50 ms + fetch 20.0 µs
filter: 10,012 matches, 10 % of the live rows
dense text: segments, recall 0.973 predicted, 0.950 requested, 1,240 rows scored, 10 candidates
  segment 1 of 2: 65,536 rows, 6,550 matches (9.99 %), 12.1 % near the query; 620 rows scored in 33.3 µs, after another plan was stopped
       plan      parameters      predicted cost  predicted recall
       clusters  rows=400               12.0 µs             0.800
    >  graph     ef=40                  31.0 µs             0.970
       funnel    deviations=1.6         40.0 µs             0.960
       scan                             1.20 ms             1.000
       two-hop   ef=40 z=1.8            unknown           unknown
       and 3 other settings of these plans
  segment 2 of 2: 300 rows, 1 match (0.333 %); 1 row scored in 0.4 µs
       plan        parameters  predicted cost  predicted recall
    >  return all                      0.5 µs             1.000
  tail: 34,164 rows without an index, scanned in 52.0 µs
sparse terms: exact term-at-a-time, 10,012 rows scored, 100 candidates
fusion: rrf of the best 100 of each arm"""


def test_a_plan_prints_aligned_with_the_chosen_plan_marked():
    assert str(Plan(DATA)) == TEXT


def test_a_plan_that_ran_is_shown_even_when_another_setting_of_it_is_cheaper():
    weighed = [{"plan": "graph", "parameters": {"ef": ef}, "microseconds": float(ef), "recall": 0.97} for ef in (10, 20, 30)]
    segment = {"plan": "graph", "parameters": {"ef": 30}, "considered": weighed}
    text = str(Plan({"arms": [{"field": "t", "kind": "dense", "recall": {"target": 0.9, "predicted": 0.97}, "segments": [segment]}]}))
    assert ">  graph  ef=30" in text and "ef=10" not in text and "and 2 other settings" in text


def test_a_plan_is_the_plain_data():
    plan = Plan(copy.deepcopy(DATA))
    assert plan == DATA and isinstance(plan, dict)
    assert eval(repr(plan)) == DATA
    assert json.loads(json.dumps(plan)) == DATA
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and str(again) == TEXT


def test_a_plan_of_another_version_prints_what_is_there():
    assert str(Plan()) == "1 query over 0 live rows"
    sparse = {"arms": [{"field": "t", "kind": "dense", "plan": "segments", "segments": [{"plan": "scan"}], "news": 1}], "more": [1]}
    text = str(Plan(sparse))
    assert "dense t: segments" in text and text.count(">  scan") == 1


@pytest.mark.parametrize("key", ["filter", "arms", "fusion", "milliseconds"])
def test_a_plan_prints_without_a_part_of_it(key):
    for left in ({k: v for k, v in DATA.items() if k != key}, DATA | {key: None}):
        assert 0 < len(str(Plan(left)).splitlines()) <= len(TEXT.splitlines())


@pytest.mark.parametrize("query", [{"d": np.ones(4)}, {"s": {1: 1.0}}, {"d": np.ones(4), "s": {1: 1.0}, "m": np.ones((1, 2))}])
def test_the_plan_of_a_search_prints_its_arms_stages_and_filter(tmp_path, query):
    with vectordb.open(tmp_path / "data") as database:
        docs = database.create_collection("docs", Schema({"d": Dense(4), "s": Sparse(), "m": MultiVector(2)}, {"n": Int()}))
        vectors = {"d": np.ones((9, 4)), "s": [{1: 1.0}] * 9, "m": [np.ones((1, 2))] * 9}
        docs.upsert(ids=list(range(9)), vectors=vectors, attributes={"n": list(range(9))})
        plan = docs.search(query, filter="n > 5", explain=True).plan
        batch = docs.search_batch({"d": np.ones((2, 4))}, explain=True)
    lines = str(plan).splitlines()
    assert lines[0].startswith("1 query over 9 live rows: ") and all(f" {stage} " in lines[0] for stage in plan["milliseconds"])
    assert plan["request"] == {"filter": "n >= 6"} and lines[1] == "request: filter='n >= 6'"
    assert lines[2] == "filter: 3 matches, 33.3 % of the live rows"
    for arm in plan["arms"]:
        assert sum(line.startswith(f"{arm['kind']} {arm['field']}: {arm['plan']}") for line in lines) == 1
    assert ("fusion: rrf" in lines[-1]) == (len(query) > 1)
    assert [str(hits.plan).startswith("2 queries over 9 live rows") for hits in batch] == [True, True]
