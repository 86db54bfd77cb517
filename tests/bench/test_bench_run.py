"""Benchmark runs on 2,000 points and fewer: every suite with vectordb and brute force, resumed after a kill, and with faulty systems."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import cli, journal, suites
from bench.clock import Clock
from bench.progress import Progress
from bench.run import Plan, run
from bench.systems import available
from tests.support.paths import ROOT, SUPPORT

pytestmark = pytest.mark.usefixtures("full_calibration")

BAD = SUPPORT / "bench_bad_systems.py"
# cap: the queries are one chunk, which is always measured whole, so only the warm-up is short
SMALL = replace(suites.QUICK, queries=20, repeats=2, cap=0.2, ingest=600, load_seconds=0.3, clients=(1, 2))
DENSE = "clustered:n=2000,dim=32,queries=40,centres=40"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for all tests here: data sets are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VECTORDB_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def bad(name):
    return f"{BAD}:{name}"


def measured(found, system, suite=None):
    return [one for one in found["measurements"] if one["system"] == system and suite in (None, one["suite"])]


@pytest.fixture
def undrawn(monkeypatch):
    """No plots, which take longer than such a run; the test of a killed run looks at them."""
    monkeypatch.setattr("bench.plots.draw", lambda results, folder: {})


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """(results, folder) of every suite that any system can run but the service's."""
    # 500 sparse vectors: to calibrate an index of 2,000 takes longer than all else here.
    names = {"sparse": "sparse:n=500,queries=40", "hybrid": "hybrid:n=500,dim=32,queries=40"}
    pairs = [(suite, names.get(suite, DENSE)) for suite, kind in suites.SUITES.items() if suite != "service" and not kind.systems]
    out = tmp_path_factory.mktemp("whole")
    return run(Plan(pairs, ["vectordb", "exact"], SMALL), out), out


def test_every_suite_runs_with_ours_and_brute_force(whole):
    found, out = whole
    assert not found["problems"]
    for one in found["measurements"]:
        assert not one["wrong"] and not one["under_returned"], one["cell"]
        if one["exact"] or "recall" not in one["setting"]:
            assert one["recall"]["min"] == 1.0, one["cell"]
        else:  # how well ours keeps its word is for the planner's own tests
            assert one["recall"]["mean"] >= one["setting"]["recall"] - 0.1, (one["cell"], one["setting"])
        assert len(one["raw"][0]["times_ns"]) == one["queries"] == len(one["raw"][0]["recall"])
    for suite in ("dense", "filtered", "sparse", "hybrid", "churn"):
        assert {one["system"] for one in found["measurements"] if one["suite"] == suite} == {"vectordb", "exact"}, suite
    assert {one["stage"] for one in measured(found, "vectordb", "churn")} == {"built", "30 % changed", "restarted"}
    [quality] = {tuple(one["quality"]) for one in measured(found, "vectordb", "hybrid")}
    assert quality == ("nDCG@10", "recall@10", "MRR@10")
    builds = [one for one in found["operations"] if one["op"] == "build" and one["system"] == "vectordb"]
    assert all(one["after"] > one["before"] > 0 and one["peak"] >= one["after"] and one["disk"] > one["points"] * 32 * 4 for one in builds)
    ingests = [one for one in found["operations"] if one["op"] == "ingest" and one["system"] == "vectordb"]
    assert {one["batch"] for one in ingests} == {1, 100} and all(one["searchable_s"] is not None and one["durable"] for one in ingests)
    opened = [one for one in found["operations"] if one["op"] == "restart" and one["suite"] == "footprint" and one["system"] == "vectordb"]
    assert [one["cold"] for one in opened] == [True, False]
    environment = found["environment"]
    assert environment["cpu"] and environment["cores"] and environment["software"]["vectordb"] and environment["software"]["commit"]
    assert all(len(one["hash"]) == 64 for one in found["datasets"])
    assert journal.read(out / "results.json") == json.loads(json.dumps(found))
    assert journal.floors_missed(found, [("vectordb", "dense", 1.0), ("vectordb", "hybrid", 1.0), ("exact", None, 1.0)]) == []
    assert not any((out / "work").rglob("data.mdb")), "files of systems are left"


def test_multi_vectors_are_compared_beside_brute_force_and_a_peer(tmp_path, undrawn):
    peers = [name for name in ("qdrant-edge",) if available(name) is None]
    out = tmp_path / "run"
    found = run(Plan([("multivector", "multi-topic:n=300,dim=16,queries=20")], ["vectordb", "exact", *peers], SMALL), out)
    assert not found["problems"]
    assert {one["system"] for one in found["measurements"]} == {"vectordb", "exact", *peers}
    for one in found["measurements"]:
        assert not one["wrong"] and not one["under_returned"]
        floor = 1.0 if one["exact"] or one["system"] == "exact" else 0.9  # observed: 1.0 of all settings
        assert one["recall"]["mean"] >= (floor if "hnsw_ef" not in one["setting"] else 0.5), (one["system"], one["setting"])
    assert [one["points"] for one in found["operations"] if one["op"] == "build"] == [300] * (2 + len(peers))
    figures = {one["what"]: one["values"][0] for one in found["figures"]}
    shares = [figures[f"tokens={n}: of the exact 10 among 50"] for n in (32, 16, 8)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1.0 and "FDE(20, 4, 8): bytes a point" in figures


def test_repeats_take_turns(whole):
    lines = [json.loads(line) for line in (whole[1] / "journal.jsonl").read_text().splitlines()]
    passes = [one for one in lines if one["fact"] == "pass" and one["suite"] == "dense"]
    order = list(dict.fromkeys((one["repeat"], one["system"]) for one in passes))  # the first setting of each
    assert order == [(0, "vectordb"), (0, "exact"), (1, "exact"), (1, "vectordb")]


def test_runs_are_reported_together(whole, tmp_path, undrawn):
    run(Plan([("dense", DENSE)], [bad("Chatty")], SMALL), tmp_path / "other")
    assert cli.main(["report", str(whole[1]), str(tmp_path / "other"), "--out", str(tmp_path / "both")]) == 0
    text = (tmp_path / "both" / "report.md").read_text()
    assert "| vectordb | ours |" in text and f"| {bad('Chatty')} | library |" in text
    measured = text.partition("## Dense")[2].partition("## Filtered")[0]
    assert "| vectordb |" in measured and f"| {bad('Chatty')} |" in measured


def test_the_service_is_asked_by_many_clients_in_both_loops(tmp_path):
    found = run(Plan([("service", DENSE)], ["vectordb-service", "exact"], replace(SMALL, repeats=1)), tmp_path)
    assert [(one["system"], one["kind"]) for one in found["problems"]] == [("exact", "unsupported")]
    loads = {one["load"]: one for one in found["loads"]}
    assert set(loads) == {"1 client, closed loop", "2 clients, closed loop", "open loop at 50%", "open loop at 80%"}
    assert all(one["recall"] >= 0.9 and not one["failed"] and not one["under"] for one in found["loads"])
    assert all(one["p50_ms"] <= one["p99.9_ms"] and len(one["milliseconds"]) > 5 for one in found["loads"])
    fastest = max(one["qps"] for one in found["loads"] if one["asked_rate"] is None)
    assert loads["open loop at 50%"]["asked_rate"] == pytest.approx(fastest / 2)


def test_systems_that_misbehave_are_reported_and_the_rest_goes_on(tmp_path):
    names = ["exact", bad("Raises"), bad("Unbuildable"), bad("Crashes"), bad("Chatty"), "nosuch.py:Thing"]
    found = run(Plan([("dense", DENSE)], names, SMALL), tmp_path)
    problems = {}
    for one in found["problems"]:
        problems.setdefault(one["system"], []).append(one)
    assert set(problems) == {*names[1:4], names[5]}
    assert "no answer today" in problems[bad("Raises")][0]["message"] and "search" in problems[bad("Raises")][0]["details"]
    assert "can't take these rows" in problems[bad("Unbuildable")][0]["message"]
    [crash] = problems[bad("Crashes")]
    assert "SIGKILL" in crash["message"] and '"ef": 2' in crash["where"]
    assert "adapter can't be loaded" in problems["nosuch.py:Thing"][0]["message"]
    assert [one["setting"]["ef"] for one in measured(found, bad("Crashes"))] == [1, 3]
    for name in ("exact", bad("Chatty"), bad("Crashes")):
        assert all(one["recall"]["mean"] == 1.0 and len(one["raw"]) == SMALL.repeats for one in measured(found, name)), name
    assert not measured(found, bad("Raises"))


def test_what_answers_lack_and_what_is_wrong_in_them_is_counted(tmp_path):
    found = run(Plan([("filtered", DENSE)], [bad("Short"), bad("Picky"), "exact"], SMALL, cells="equality 10 % negative"), tmp_path)
    [one] = measured(found, bad("Short"))
    requests = SMALL.queries * SMALL.repeats
    assert one["requests"] == requests
    assert one["under_returned"] == requests  # three rows where ten match
    assert one["wrong"] >= requests  # one comes twice, and the others don't match, mostly
    assert one["recall"]["mean"] < 0.3
    [problem] = [one for one in found["problems"] if one["system"] == bad("Picky")]
    assert (problem["kind"], problem["message"]) == ("unsupported", "it has no such filter")
    [cell] = found["cells"]
    assert cell["where"]["measured_correlation"] < 0.7 and 0.08 < cell["where"]["measured_selectivity"] < 0.12


def test_systems_run_in_groups_where_memory_is_small(tmp_path):
    """No more of them are alive at once; nobody is left out, and the figures stand together."""
    names = ["exact", bad("Crashes"), bad("Chatty")]
    said = Said()
    found = run(Plan([("dense", DENSE)], names, SMALL, group=2), tmp_path, said)
    assert {one["system"] for one in found["measurements"]} == set(names)
    starts = [i for i, text in enumerate(said.stages) if text.endswith("starts")]
    [asked] = [i for i, text in enumerate(said.stages) if text.endswith(f"{names[2]} starts")]
    assert len(starts) == 3 and any("build" in text for text in said.stages[starts[1] : asked])
    assert [one["system"] for one in found["exact_modes"] if one["setting"] is None] == [bad("Crashes")]


class Said(Progress):
    def __init__(self):
        super().__init__(None)
        self.stages = []

    def stage(self, text):
        self.stages.append(text)


def test_a_run_ends_when_its_time_is_up_and_goes_on_with_the_same_command(tmp_path):
    """The first run has time for nothing, and says so; the second for everything."""
    pairs = [("dense", DENSE)]
    first = run(Plan(pairs, ["exact"], SMALL, minutes=1e-6), tmp_path)
    assert not first["measurements"] and len(first["left"]) == 1 and "exact (build)" in first["left"][0]
    assert not first["problems"], "what a bound leaves out is no fault of the system"
    again = run(Plan(pairs, ["exact"], SMALL), tmp_path)
    assert not again["left"] and [len(one["raw"]) for one in again["measurements"]] == [SMALL.repeats]


def test_time_is_shared_by_what_is_left():
    clock = Clock(1.0)
    with clock.share(4):
        assert 14 < clock.seconds() <= 15
        with clock.share(3):
            assert 4 < clock.seconds() <= 5
    with clock.share(1):  # what the first part didn't use is there for the others
        assert 59 < clock.seconds() <= 60
    endless = Clock()
    with endless.share(2):
        assert not endless.up()


def test_a_system_over_the_bound_of_memory_is_left_out(tmp_path):
    found = run(Plan([("dense", DENSE)], ["exact"], SMALL, memory=0.001), tmp_path)
    assert not found["measurements"]
    assert ["above the bound of 0.001" in one["message"] for one in found["problems"]] == [True]


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """SIGKILL in the middle: what was measured stays as it was, the rest is added, no worker is left behind."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bench.cli", "run", "--suite", "dense", "--data", DENSE, "--systems", f"exact,{bad('Slow')}"]
    command += ["--quick", "--queries", "40", "--repeats", "6", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = out / "journal.jsonl"
    end = time.monotonic() + 300
    while not (path.exists() and path.read_text().count('"fact": "pass"') >= 4):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    passes = [one for one in before if one["fact"] == "pass"]
    assert 4 <= len(passes) < 12
    assert cli.main(command[3:]) == 0
    after = {one["key"]: one for one in map(json.loads, path.read_text().splitlines())}
    assert all(after[one["key"]] == one for one in before)
    found = journal.read(out / "results.json")
    assert {one["system"]: len(one["raw"]) for one in found["measurements"]} == {"exact": 6, bad("Slow"): 6}
    _gone(out)
    report = (out / "report.md").read_text()
    assert "## Dense" in report and list((out / "plots").glob("*.png"))


def _gone(out):
    """No worker of the run lives; one whose runner was killed ends by itself."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        living = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if os.fsencode(str(out)) in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                    living.append(entry)
            except OSError:
                continue
        if not living:
            return
        time.sleep(0.2)
    raise AssertionError(f"still there: {living}")


def test_another_plan_doesnt_go_into_the_same_folder(tmp_path, capsys, undrawn):
    arguments = ["run", "--suite", "dense", "--data", DENSE, "--systems", "exact", "--quick", "--queries", "10", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--minutes", "9"]) == 0
    assert cli.main([*arguments, "--minutes", "5"]) == 0, "a bound on time is no part of what is measured"
    assert cli.main([*arguments, "--repeats", "1"]) == 1
    assert "other options" in capsys.readouterr().err


def test_a_missed_floor_makes_the_run_fail(tmp_path, capsys, undrawn):
    arguments = ["run", "--suite", "dense", "--data", DENSE, "--quick", "--queries", "10", "--repeats", "1", "--out"]
    short = bad("Short")
    assert cli.main([*arguments, str(tmp_path / "1"), "--systems", "exact", "--floor", "exact:1.0", "--floor", "exact@dense:0.5"]) == 0
    assert cli.main([*arguments, str(tmp_path / "2"), "--systems", short, "--floor", f"{short}:0.9"]) == 1
    assert "below the floor of 0.9" in capsys.readouterr().err
    assert "**missed**" in (tmp_path / "2" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "dnse"], "unknown suite 'dnse'"),
        (["--systems", "qdrnt"], "unknown system 'qdrnt'"),
        (["--systems", "exact", "--floor", "vectordb:0.9"], "this run doesn't measure it"),
    ],
)
def test_a_name_that_is_nothing_is_a_wrong_command_line(arguments, said, tmp_path, capsys):
    assert cli.main(["run", *arguments, "--quick", "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "soon"])
def test_a_bound_that_is_none_is_refused(value, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--minutes", value])
    assert ended.value.code == 2 and "must be a number above 0" in capsys.readouterr().err


def test_data_that_cant_be_had_is_a_problem_of_its_suite_only(tmp_path):
    found = run(Plan([("sparse", DENSE), ("dense", "no-such-data"), ("dense", DENSE)], ["exact"], SMALL), tmp_path)
    messages = [one["message"] for one in found["problems"]]
    assert "has no sparse vectors" in messages[0] and "unknown data set" in messages[1]
    assert measured(found, "exact", "dense")


def test_list_names_everything(capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for name in ("dense", "footprint", "clustered", "wordnet", "vectordb", "hnswlib"):
        assert name in text
