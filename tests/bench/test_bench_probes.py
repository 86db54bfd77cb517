"""Suites of probes on 2,000 points and fewer: what they measure, their bounds, and the comparison of two checkouts."""

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import checks, cli, sections, suites
from bench.probes import queries
from bench.probes.queries import misspelt
from bench.run import Plan, run
from bench.suites import Check
from bench.systems import available
from tests.support import nightly

pytestmark = pytest.mark.usefixtures("full_calibration")

ROOT = Path(__file__).resolve().parents[2]
SMALL = replace(suites.QUICK, queries=40, repeats=2, ingest=500, load_seconds=0.2, clients=(1,))
DENSE = "clustered:n=2000,dim=32,queries=64,centres=40"
HYBRID = "hybrid:n=500,dim=32,queries=40"  # to calibrate a sparse index of 2,000 takes longer than the probe
ONCE = replace(SMALL, repeats=1)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests here: data sets are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VECTORDB_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def probed(suite, data, systems, out, cells=None, scale=SMALL):
    found = run(Plan([(suite, data)], systems, scale, cells), out)
    assert not found["problems"]
    return found, {(one["system"], one["what"]): one for one in found["figures"]}


def test_a_release_is_measured_beside_brute_force(tmp_path):
    found, figures = probed("release", DENSE, ["vectordb", "exact"], tmp_path, "release.")
    assert {system for system, what in figures if what == "exact search, p50"} == {"vectordb", "exact"}
    assert all(len(one["values"]) == (1 if "bytes" in one["what"] or "loaded" in one["what"] else 2) for one in figures.values())
    assert all(value > 0 for one in figures.values() for value in one["values"])
    for what in (
        "search_batch of 64",
        "upsert, batches of 1,000, each synced",
        "upsert of one point, not synced, p99",
        "bytes on disk, a point",
    ):
        assert ("vectordb", what) in figures, what
    assert ("exact", "search_batch of 64") in figures and ("exact", "upsert of one point, each synced, p50") not in figures
    assert figures["vectordb", "bytes on disk, a point"]["values"][0] > 32 * 4
    assert not found["checks"], "the bounds are for the suite's own data"


def test_an_exact_search_that_isnt_fails_the_probe(tmp_path):
    bad = f"{Path(__file__).parents[1] / 'support' / 'bench_bad_systems.py'}:Short"
    found = run(Plan([("release", DENSE)], [bad, "exact"], SMALL, "release.search"), tmp_path)
    [problem] = found["problems"]
    assert problem["system"] == bad and problem["where"] == "release.search"
    assert {one["system"] for one in found["figures"]} == {"exact"}


def test_query_forms_are_measured_beside_a_peer_that_has_them(tmp_path):
    systems = ["vectordb"] + ["qdrant-edge"] * (available("qdrant-edge") is None)
    found, figures = probed("query", DENSE, systems, tmp_path, scale=ONCE)
    for what in ("facets of 1,000 values, no filter, p50", "order_by a number, no filter, page 2, p50", "diverse hits of 50, p50"):
        assert {system for system, name in figures if name == what} == set(systems), what
    kind = suites.SUITES["query"]
    assert {check.what for check in kind.checks} <= {what for _, what in figures}, "a bound of a figure that isn't there is never missed"
    assert {check.data for check in kind.checks} == set(kind.data) and not found["checks"]


def test_words_with_typos_are_asked_of_each_encoder(tmp_path):
    chance = random.Random(1)
    typed = {word: misspelt(word, chance) for word in ("cat", "word", "harbour", "ab")}
    assert typed["cat"] == "cat" and typed["ab"] == "ab" and typed["harbour"][0] == "h" and typed["harbour"] != "harbour"
    rng = random.Random(2)
    vocabulary = ["".join(rng.choices("abcdefghijklmnop", k=rng.randrange(3, 9))) for _ in range(400)]
    texts = [" ".join(rng.sample(vocabulary, 20)) for _ in range(60)]
    worker = SimpleNamespace(dataset=SimpleNamespace(texts=texts), turn=0, folder=tmp_path)
    figures = {what: value for what, value, _ in queries.typos(worker)}
    assert figures["MRR@10, clean: bm25"] > 0.9 and figures["MRR@10, typos: trigram"] > figures["MRR@10, typos: bm25"]
    for check in suites.SUITES["typos"].checks:
        assert check.what in figures


@pytest.mark.parametrize("part", ["filters", "changes", "start"])
def test_parts_of_ours_are_measured(part, tmp_path):
    _, figures = probed("release", DENSE, ["vectordb"], tmp_path, f"parts.{part}", scale=ONCE)
    assert len(figures) >= 3 and all(min(one["values"]) > 0 for one in figures.values())


def test_the_planner_is_measured_in_each_cell(tmp_path):
    found, _ = probed("planner", DENSE, ["vectordb"], tmp_path, "equality 10 %")
    assert {one["cell"] for one in found["figures"]} == {f"equality 10 % {side}" for side in ("none", "positive", "negative")}
    for one in found["figures"]:
        [value] = one["values"]
        if one["what"].endswith(": recall"):
            assert 0.5 < value <= 1
        if one["what"].endswith(": predicted recall"):
            assert 0.5 < value <= 1
        assert not one["what"].endswith(": regret") or value > 0
    bounds = {(one["what"].partition(": ")[2], one["limit"]) for one in found["checks"]}
    assert {("target 0.95: short of the target, share ≤ 0.01", 0.95), ("target …: regret, highest", 2)} <= bounds


@pytest.mark.parametrize(
    ("suite", "data", "system", "what"),
    [
        ("proofs", HYBRID, "vectordb", "linear fusion, sparse weight 0.1: proven exact"),
        ("bulk", DENSE, "vectordb-service", "while writing as fast as possible: p99"),
        ("background", DENSE, "vectordb", "during optimize on all cores: p99.9 ÷ alone"),
        ("updates", DENSE, "vectordb", "lists: recall of a new build"),
        ("fairness", DENSE, "vectordb", "beside 8 × exact, limit 100,000: p99 ÷ alone"),
    ],
)
def test_suites_of_one_probe(suite, data, system, what, tmp_path):
    _, figures = probed(suite, data, [system], tmp_path, scale=ONCE)
    assert figures[system, what]["values"][0] > 0
    assert not any((tmp_path / "work").rglob("data.mdb")), "files are left"


def test_quality_is_that_of_judged_texts(tmp_path):
    found = run(Plan([("quality", HYBRID)], ["vectordb"], SMALL), tmp_path)
    assert "no texts with judged queries" in found["problems"][0]["message"]


@pytest.mark.skipif(not nightly.FOLDER, reason="half a minute of new processes; by night")
def test_two_checkouts_take_turns_in_new_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "_calls", lambda scale: {"calls": 5, "rows": 1_000, "batched": 1_000, "processes": 1})
    monkeypatch.setitem(suites.SUITES, "compare", replace(suites.SUITES["compare"], make=_comparing))
    assert cli.main(["compare", str(ROOT), "--quick", "--rounds", "1", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"| figure | vectordb | vectordb@{ROOT} | unit | × | × of the best rounds |" in text
    for what in ("search, filter new by value", "service: search, 1,000 × 8", "new process: first search", "upsert of one point"):
        assert f"| {what} |" in text, what


def _comparing(dataset, scale, own):
    return suites._probed("compare.checkout", "dense", False, suites._calls, fresh=True)(dataset, scale, own)


def test_what_is_no_checkout_is_refused(tmp_path, capsys):
    assert cli.main(["compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "is no checkout of vectordb" in capsys.readouterr().err


def test_a_suite_without_data_asks_for_it(tmp_path, capsys):
    assert cli.main(["run", "--suite", "quality", "--out", str(tmp_path / "out")]) == 2
    assert "pass --data" in capsys.readouterr().err


# Figures and bounds


def figure(system, values, what="search", unit="µs", cell=""):
    return {"suite": "made", "dataset": "made", "system": system, "cell": cell, "what": what, "unit": unit, "values": values}


def test_ratios_are_of_the_same_round():
    assert checks.ratios(figure("a", [1.0, 4.0]), figure("b", [2.0, 2.0])) == [2.0, 0.5]
    assert checks.ratios(figure("a", [1.0], unit="points/s"), figure("b", [2.0], unit="points/s")) == [0.5]
    assert checks.ratios(figure("a", [1.0], unit=""), figure("b", [2.0], unit="")) == []


def test_the_interval_of_a_median_holds_it():
    values = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.5]
    median, low, high = checks.spread(values)
    assert median == 1.0 and 0.98 <= low <= median <= high <= 1.5
    assert checks.spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("check", "value", "met"),
    [
        (Check("search", 60), 50, True),
        (Check("search", 40), 50, False),
        (Check("search", 45, False), 50, True),
        (Check("search", 2, False, other="÷ peer"), 2.0, True),
        (Check("search", 40, other="− peer"), -50, True),
        (Check("sea.*", 60, value="highest"), 70, False),
        (Check("other", 1), None, None),
        (Check("search", 60, data="another"), None, None),
    ],
)
def test_bounds_are_asked_of_one_number(check, value, met, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "made", suites.Kind("", "", None, checks=(check,)))
    found = checks.checked([figure("vectordb", [30.0, 50.0, 70.0]), figure("peer", [60.0, 100.0, 140.0])])
    assert [(one["value"], one["met"]) for one in found] == ([] if value is None else [(value, met)])
    missed = checks.missed({"checks": found})
    assert len(missed) == (met is False) and all("missed by" in text for text in missed)


def test_of_two_systems_what_differs_is_listed(monkeypatch):
    monkeypatch.setitem(suites.SUITES, "made", suites.Kind("", "", None))
    figures = [
        *(figure("vectordb", [10.0, 10.1, 10.2], "slow"), figure("vectordb@x", [5.0, 5.1, 5.0], "slow")),
        *(figure("vectordb", [1.0, 1.1, 1.2], "same"), figure("vectordb@x", [1.1, 1.0, 1.2], "same")),
    ]
    parts = {"measurements": [], "operations": [], "loads": [], "cells": [], "figures": figures}
    text = "\n".join(sections.probed(parts | {"systems": [{"name": "vectordb"}, {"name": "vectordb@x"}]}))
    assert "vectordb is slower in: slow. vectordb is faster in: nothing." in text
    assert "| slow | 10.1 [10–10.2] | 5 [5–5.1] | µs | 0.50 [0.49–0.50] | 0.50 |" in text
