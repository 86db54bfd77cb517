"""The benchmark's report and plots of fixed results. UPDATE_GOLDEN=1 rewrites tests/golden/bench_report.md."""

import os
import re
import struct
from itertools import pairwise

import numpy as np
import pytest

from bench import headlines, metrics, report, sections, tables
from tests.support.paths import GOLDEN

REPORT = GOLDEN / "bench_report.md"


def measurement(suite, cell, system, setting, recall, ms, exact=False, stage="built", under=0, quality=None):
    times = [[int(ms * 1e6 * factor)] * 4 for factor in (1.0, 1.1, 0.9)]
    return {
        "suite": suite,
        "dataset": "made-2k",
        "stage": stage,
        "cell": cell,
        "system": system,
        "setting": setting,
        "exact": exact,
        "requests": 12,
        "queries": 4,
        "recall": metrics.recalls([recall] * 4),
        "latency": metrics.latencies(times),
        "under_returned": under,
        "wrong": 0,
        "cores": 1.0,
        "quality": quality or {},
        "raw": [],
    }


def operation(suite, system, op, stage="built", **figures):
    return {"suite": suite, "dataset": "made-2k", "stage": stage, "system": system, "op": op, **figures}


def built(suite, system, seconds):
    sizes = {"before": 50 << 20, "after": 90 << 20, "peak": 130 << 20, "disk": 8 << 20}
    times = {"create_s": 0.0, "insert_s": seconds / 2, "finish_s": seconds / 2, "build_s": seconds, "cpu_s": 1.0}
    return operation(suite, system, "build", settings={"m": 16}, points=2000, batch=1000, **times, **sizes)


@pytest.fixture
def found():
    cells, measured = [], []
    for shape in ("equality", "range"):
        for share in (0.1, 0.01):
            for side in ("none", "positive", "negative"):
                name = f"{shape} {share * 100:g} % {side}"
                where = {"shape": shape, "selectivity": share, "correlation": side, "measured_selectivity": share, "example": "{}"}
                where["measured_correlation"] = {"none": 1.0, "positive": 5.0, "negative": 0.1}[side]
                cells.append(
                    {"suite": "filtered", "dataset": "made-2k", "stage": "built", "cell": name, "k": 10, "queries": 4, "where": where}
                )
                measured.append(measurement("filtered", name, "vectordb", {}, 1.0, 0.5))
                measured.append(measurement("filtered", name, "peer", {"ef": 64}, 0.5 if side == "negative" else 0.97, 0.2, under=3))
    quality = {"nDCG@10": {"mean": 0.7, "low": 0.65, "high": 0.75}, "MRR@10": {"mean": 0.6, "low": 0.5, "high": 0.7}}
    dense = [
        *(measurement("dense", "k=10", "vectordb", {"exact": True}, 1.0, 0.4, exact=True),),
        *(
            measurement("dense", "k=10", "peer", {"ef": ef}, recall, ms)
            for ef, recall, ms in ((16, 0.85, 0.05), (64, 0.96, 0.1), (256, 0.995, 0.3))
        ),
        *(measurement("dense", "k=10", "peer", {"exact": True}, 0.98, 2.0, exact=True),),
    ]
    hybrid = [measurement("hybrid", "k=10", "vectordb", {}, 1.0, 0.8, quality=quality)]
    churn = [
        measurement("churn", "k=10", name, {}, recall, 0.4, stage=s)
        for s in ("built", "restarted")
        for name, recall in (("vectordb", 1.0), ("peer", 0.9))
    ]
    ingest = [
        operation(
            "ingest",
            name,
            "ingest",
            f"batches of {batch}",
            settings={},
            batch=batch,
            rows=1001,
            batch_s=[0.5, 1.5],
            finish_s=0.2,
            searchable_s=wait,
            durable=sure,
        )
        for name, sure, wait in (("vectordb", True, 0.002), ("peer", False, None))
        for batch in (10, 1000)
    ]
    reopened = [
        operation(
            "footprint",
            "vectordb",
            "restart",
            "opened",
            open_s=0.2,
            first_answer_s=0.01,
            before=50 << 20,
            after=80 << 20,
            peak=90 << 20,
            cold=True,
        )
    ]
    change = operation(
        "churn",
        "vectordb",
        "change",
        "changed",
        deleted=300,
        updated=300,
        delete_s=0.1,
        update_s=0.2,
        finish_s=0.0,
        after=90 << 20,
        disk=9 << 20,
    )
    loads = [
        {
            "suite": "service",
            "dataset": "made-2k",
            "stage": "served",
            "system": "vectordb",
            "load": "8 clients, closed loop",
            "setting": {},
            "repeat": repeat,
            "qps": 1000.0 + repeat,
            "recall": 1.0,
            "under": 0,
            "failed": 0,
            "reason": "",
            "timed_out": 2,
            "asked_rate": None,
            "seconds": 1.0,
            "milliseconds": [],
            "p50_ms": 1.0,
            "p95_ms": 2.0,
            "p99_ms": 3.0,
            "p99.9_ms": 9.0,
        }
        for repeat in range(3)
    ]
    systems = [
        {"name": "vectordb", "kind": "ours", "version": "vectordb 1.0", "notes": "exact", "does": [], "metrics": [], "python": "3.11"},
        {"name": "peer", "kind": "library", "version": "peer 2.0", "notes": "", "does": [], "metrics": [], "python": "3.11"},
    ]
    dataset = {
        "name": "made-2k",
        "points": 2000,
        "queries": 100,
        "asked": 4,
        "dim": 8,
        "metric": "cosine",
        "hash": "ab" * 32,
        "about": "made up",
    }
    software = {"python": "3.11.2", "vectordb": "1.0", "commit": "0123456789ab"}
    environment = {
        "cpu": "A Processor",
        "cores": 2,
        "ram_gib": 23.4,
        "system": "Linux",
        "load": [0.1, 0.2, 0.3],
        "command": "vectordb bench run",
    }
    problem = {
        "suite": "dense",
        "dataset": "made-2k",
        "system": "other",
        "where": "start",
        "kind": "unsupported",
        "message": "a | b",
        "details": "",
    }
    return {
        "format": 1,
        "environment": environment | {"software": software, "overhead": {"loop_us": 0.16, "in_figures_us": 0.05}},
        "plan": {"scale": {"queries": 4, "repeats": 3}, "floors": ["vectordb: 1"]},
        "started": 1_800_000_000.0,
        "ended": 1_800_000_600.0,
        "floors_missed": [],
        "datasets": [dataset | {"suite": "dense"}],
        "systems": systems,
        "cells": cells,
        "operations": [*(built("dense", name, s) for name, s in (("vectordb", 0.5), ("peer", 2.0))), *ingest, *reopened, change],
        "loads": loads,
        "exact_modes": [
            {"suite": "dense", "dataset": "made-2k", "system": "vectordb", "setting": {"exact": True}},
            {"suite": "hybrid", "dataset": "made-2k", "system": "vectordb", "setting": {"exact": True}},
            {"suite": "dense", "dataset": "made-2k", "system": "third", "setting": None},
        ],
        "measurements": [*dense, *measured, *hybrid, *churn],
        "problems": [problem],
    }


def test_the_report_reads_as_written_down(found):
    text = report.markdown(found, {"dense": ["plots/dense.png"]})
    if os.environ.get("UPDATE_GOLDEN"):
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(text, encoding="utf-8")
    assert text == REPORT.read_text(encoding="utf-8")


def test_losses_stand_first_beside_the_best_peer(found):
    found["measurements"] += [
        measurement("dense", "k=100", name, {}, recall, ms) for name, recall, ms in (("vectordb", 0.97, 0.1), ("peer", 0.96, 0.3))
    ]
    every = headlines.standings(found)
    assert [(one.suite, one.cell, one.target) for one in every] == [
        ("dense", "k=10", 0.95),
        ("dense", "k=10", 0.99),
        ("dense", "k=100", 0.95),
    ]  # nobody reached .99 for k = 100, and in "hybrid" vectordb is alone
    by_place = {(one.cell, one.target): one for one in every}
    assert by_place["k=10", 0.95].ratio(["peer"]) == pytest.approx(0.25)
    assert by_place["k=10", 0.99].ratio(["peer"]) == pytest.approx(0.75)
    assert by_place["k=100", 0.95].ratio(["peer"]) == pytest.approx(3)
    lines = [line for line in headlines.ratios(found)[2].splitlines() if "made-2k" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| **0.25**", "| **0.75**", "| 3.00"]
    for one in found["measurements"]:
        if one["system"] == "vectordb" and one["suite"] == "dense":
            one["recall"] = one["recall"] | {"mean": 0.9}
    lines = [line for line in headlines.ratios(found)[2].splitlines() if "made-2k" in line]
    assert all(line.startswith("| **not reached**") for line in lines) and len(lines) == 3


def test_the_tables_of_the_results_are_written_between_their_marks(found, tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\nWords after.\n")
    headlines.rewrite(path, found)
    assert path.read_text().startswith(f"# Results\n\n{headlines.BEGIN}\n")  # after the title, where no marks are
    path.write_text(path.read_text().replace("# Results\n", "# Results\n\nWords before.\n"))
    first = path.read_text()
    headlines.rewrite(path, found | {"left": ["dense · other: 3 of 9 passes"]})
    second = path.read_text()
    for text in (first, second):
        assert text.startswith("# Results\n\nWords before.\n") and text.endswith("\nWords after.\n")
        assert text.count(headlines.BEGIN) == text.count(headlines.END) == text.count("## vectordb beside the best peer") == 1
    assert "3 of 9 passes" in second and "3 of 9 passes" not in first
    assert "| peer | 10,000 / 10,000 / 3,333 | 0.9950 | – | 1,000 | – | 40 MiB |" in second
    path.write_text(headlines.BEGIN)
    with pytest.raises(ValueError, match="has no line"):
        headlines.rewrite(path, found)


def test_slow_and_bad_queries_stand_beside_the_rates(found):
    text = sections.at_targets(tables.Part(found, "dense"), ("made-2k", "built", "k=10"))
    [row] = [line for line in text.splitlines() if "ef 64" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "0.95",
        "peer",
        "ef 64",
        "0.9600",
        "0.96",
        "0.96",
        "10,000",
        "0.1",
        "0.11",
        "1.1",
    ]


def test_every_table_is_whole(found):
    """Each line of a table has as many cells as its head."""
    for block in report.markdown(found).split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) <= 1, block


def test_what_was_missed_stands_first(found):
    text = report.markdown(found | {"floors_missed": ["peer: recall 0.9 is under its floor of 1"]})
    assert text.index("**missed**: peer: recall 0.9") < text.index("## Systems")


def test_an_exact_mode_that_isnt_is_marked(found):
    lines = [line for line in report.markdown(found).splitlines() if "**no**" in line]
    assert len(lines) == 1 and lines[0].startswith("| peer | dense |")


def test_a_system_without_an_exact_mode_says_so(found):
    text = report.markdown(found)
    assert "| third | dense | 0 | – | – | no exact mode |" in text
    assert "| vectordb | hybrid | 0 | – | – | not measured |" in text


def test_shapes_of_filters_are_summed_up_by_the_geometric_mean_of_those_that_reached_the_recall(found):
    for one in found["measurements"]:
        if (one["system"], one["cell"]) == ("vectordb", "range 10 % none"):
            one["latency"] = one["latency"] | {"qps": 8000.0}
        if (one["system"], one["cell"]) == ("peer", "equality 1 % positive"):
            one["recall"] = one["recall"] | {"mean": 0.94}
    summed = sections.summary(tables.Part(found, "filtered"), "made-2k")
    assert summed["vectordb", "none", 0.1] == (pytest.approx(4000), 2, 2)  # of 2,000 and 8,000
    assert summed["peer", "positive", 0.01] == (pytest.approx(5000), 1, 2)
    assert summed["peer", "negative", 0.1] == (None, 0, 2)
    text = report.markdown(found)
    assert "| peer | 5,000 | 5,000 | 5,000 | 5,000 (1/2) | × (0/2) | × (0/2) | 0.500: equality 10 % negative |" in text


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_plots_are_pictures_of_a_size_to_look_at(found, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    from bench import plots

    found["measurements"] = [one for one in found["measurements"] if one["suite"] != "hybrid"]  # like "dense"
    names = plots.draw(found, tmp_path)
    assert set(names) == {"dense", "filtered", "ingest", "churn", "service"}
    for suite in names.values():
        for name in suite:
            width, height = png_size(tmp_path / name)
            assert 900 < width < 3000 and 250 < height < 3000, name
            picture = imread(tmp_path / name)[..., :3]
            assert picture.shape[:2] == (height, width)
            colours = (picture.reshape(-1, 3) * 255).astype(np.int64) @ [65_536, 256, 1]
            assert np.unique(colours).size > 50, f"{name} is blank"
            svg = (tmp_path / name).with_suffix(".svg").read_text()
            assert "<svg" in svg
    assert "vectordb" in (tmp_path / names["dense"][0]).with_suffix(".svg").read_text()


def test_names_on_a_plot_never_lie_on_each_other():
    pytest.importorskip("matplotlib")
    from bench.plots.style import _apart

    assert _apart([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])
    crowded = _apart([0.5, 0.5, 0.51, 0.52, 0.9], 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(crowded))
    assert np.mean(crowded[:4]) == pytest.approx(np.mean([0.5, 0.5, 0.51, 0.52]))
    assert min(_apart([0.0, 0.0, 0.01], 0.05)) >= 0


def test_what_was_asked_and_found_is_shown_of_systems_that_are_asked_for_a_recall():
    def found(setting, mean):
        return {"setting": setting, "recall": {"mean": mean}}

    asked = [found({"recall": target}, mean) for target, mean in ((0.95, 0.9612), (0.9, 0.9), (0.97, 0.98), (0.99, 1.0))]
    assert sections.asked_and_found(asked) == "0.90/0.900, 0.95/0.961, 0.99/1.000"
    assert sections.asked_and_found([found({"ef": 64}, 0.97), found({}, 1.0)]) == "–"
