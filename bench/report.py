"""The report in Markdown: method, environment, systems, data, tables of each suite, and what failed. ``plots`` draws the figures."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import metrics
from .filters import CORRELATIONS
from .suites import ABOUT, SUITES, TARGETS

_FILTER_TARGET = 0.95

METHOD = """\
The harness sends one request at a time. Within a cell the systems take turns, setting by setting. Every repeat runs all queries again,
after a warm-up. QPS is requests ÷ the sum of their times: the median of the repeats, with the lowest and highest repeat in brackets. Recall
is measured on the timed requests: correct rows ÷ min(k, matches), against exact search in float64. Rows that tie with the k-th best count
as correct. The brackets after a recall hold its 95 % confidence interval over queries; 95 % of the queries reach p5, and 99 % reach p1.
*Cores* is processor time ÷ wall time of the system's processes while searching, with all their threads: 1.0 means one busy core. *Short*
counts answers with fewer than min(k, matches) rows. *Wrong* counts rows that don't match the filter, are deleted or are duplicates. Queries
and filters were converted to each system's format before timing, and ids were read after it. Memory is the resident size of all processes
of a system: before its library was imported (this includes the data set), after the build, and at the peak."""

_FILTER_NOTE = f"""\
The tables show QPS at recall ≥ {_FILTER_TARGET}, or × and the highest recall where no setting reached it. *s* is the measured selectivity,
the share of matching rows. *ρ* is the correlation of query and filter: the share of matching rows among the query's nearest rows (0.1 % of
all, at least 10), ÷ *s*. Below 1, rows near the query match less often than others."""


def markdown(found: dict, pictures: dict[str, list[str]] | None = None) -> str:
    """The report as Markdown. found: the results. pictures: suite → paths of its plots, relative to the report."""
    pictures = pictures or {}
    blocks = [
        "# Benchmark report",
        *_environment(found["environment"], found),
        *_summary(found),
        "## How it was measured",
        METHOD,
        *_systems(found),
    ]
    blocks += _datasets(found)
    for suite in SUITES:
        part = _Part(found, suite)
        if part.there:
            blocks += [f"## {suite.capitalize()}", f"{ABOUT[suite][0].upper()}{ABOUT[suite][1:]}."]
            blocks += [f"![{Path(path).stem}]({path})" for path in pictures.get(suite, ())]
            blocks += _SECTIONS.get(suite, _curves)(part)
    blocks += _exact_modes(found) + _problems(found)
    return "\n\n".join(block for block in blocks if block) + "\n"


class _Part:
    """The results of one suite."""

    def __init__(self, found: dict, suite: str):
        self.suite = suite
        self.measurements = [one for one in found["measurements"] if one["suite"] == suite]
        self.operations = [one for one in found["operations"] if one["suite"] == suite]
        self.loads = [one for one in found["loads"] if one["suite"] == suite]
        self.cells = [one for one in found["cells"] if one["suite"] == suite]
        order = [one["name"] for one in found["systems"]]
        self.systems = [name for name in order if any(one["system"] == name for one in self.measurements + self.operations + self.loads)]
        self.datasets = list(dict.fromkeys(one["dataset"] for one in self.measurements + self.operations + self.loads))
        self.there = bool(self.systems)

    def places(self) -> list[tuple[str, str, str]]:
        """(data set, stage, cell), in the order they were measured."""
        return list(dict.fromkeys((one["dataset"], one["stage"], one["cell"]) for one in self.measurements))

    def of(self, place: tuple[str, str, str], system: str) -> list[dict]:
        return [one for one in self.measurements if (one["dataset"], one["stage"], one["cell"]) == place and one["system"] == system]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A Markdown table. left: number of left-aligned columns; the others are right-aligned."""
    marks = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, marks, *([str(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Figures in words


def rate(value: float | None) -> str:
    """Requests per second: from 100 on a whole number with thousands separators, else three significant digits; "–" for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 2**20:,.0f} MiB" if value >= 10 * 2**20 else f"{value / 2**20:.1f} MiB"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def short(value: float | None) -> str:
    """A number for a cell of a heat map: 7, 540, 2.1k, 36k."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value < 995 else f"{value / 1e3:.1f}k" if value < 9950 else f"{value / 1e3:.0f}k"


def words(setting: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items()) or "default"


def _milliseconds(value: float) -> str:
    return f"{value:.3g}"


def _spread(latency: dict) -> str:
    return f"{rate(latency['qps'])} [{rate(latency['qps_low'])}–{rate(latency['qps_high'])}]"


def _recall(recall: dict) -> str:
    return f"{recall['mean']:.4f} [{recall['low']:.3f}–{recall['high']:.3f}]"


# The whole run: environment, floors, systems, data


def _environment(environment: dict, found: dict) -> list[str]:
    software = environment["software"]
    seen = environment.get("overhead", {})
    rows = [
        (
            "when",
            time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found["started"])) + f", {(found['ended'] - found['started']) / 60:.1f} min",
        ),
        ("processor", f"{environment['cpu']}, {environment['cores']} cores"),
        ("memory", f"{environment.get('ram_gib', '?')} GiB"),
        ("system", environment["system"]),
        ("load when it began", " ".join(str(value) for value in environment["load"])),
        ("software", ", ".join(f"{name} {version}" for name, version in software.items())),
        (
            "harness",
            f"{seen.get('loop_us', 0):.2f} µs per request beside an empty loop, {seen.get('in_figures_us', 0):.2f} µs of it in the figures",
        ),
        ("command", f"`{environment['command']}`"),
        ("scale", words(found["plan"]["scale"])),
    ]
    return [_table(("", ""), rows, left=2)]


def _summary(found: dict) -> list[str]:
    missed = found.get("floors_missed", [])
    verdict = [f"- **missed**: {text}" for text in missed]
    if found["plan"].get("floors") and not missed:
        verdict = [f"All floors hold: {', '.join(found['plan']['floors'])}."]
    return ["## Floors", "\n".join(verdict)] if verdict else []


def _systems(found: dict) -> list[str]:
    settings: dict[str, dict] = {}
    for one in found["operations"]:
        settings.setdefault(one["system"], {}).update(one.get("settings") or {})
    rows = [(one["name"], one["kind"], one["version"], words(settings.get(one["name"], {})), one["notes"]) for one in found["systems"]]
    return ["## Systems", _table(("system", "kind", "version", "built with", "to know"), rows, left=5)]


def _datasets(found: dict) -> list[str]:
    rows = []
    for one in {one["name"]: one for one in found["datasets"]}.values():
        form = [f"{one['dim']} dim, {one['metric']}"] if "dim" in one else []
        form += [f"{one['terms']:,} terms, {one['non_zeros']} a row"] if "terms" in one else []
        texts = (one["name"], "; ".join(form), one["about"], f"`{one['hash'][:12]}`")
        rows.append((*texts, f"{one['points']:,}", f"{one['asked']:,}"))
    return ["## Data", _table(("name", "form", "what it is", "SHA-256", "points", "queries"), rows, left=4)]


# Suites


def _curves(part: _Part) -> list[str]:
    blocks = []
    for place in part.places():
        rows = []
        for system in part.systems:
            measured = part.of(place, system)
            if measured:
                points = [(one["recall"]["mean"], one["latency"]["qps"]) for one in measured]
                best = max(measured, key=lambda one: (one["recall"]["mean"], one["latency"]["qps"]))
                rows.append((system, *(rate(metrics.at_recall(points, target)) for target in TARGETS), f"{best['recall']['mean']:.4f}"))
        blocks.append(f"### {' · '.join(place)}")
        blocks.append(_table(("QPS at recall ≥", *(f"{target:.2f}" for target in TARGETS), "highest recall"), rows))
        blocks.append(_settings([one for system in part.systems for one in part.of(place, system)]))
        blocks.append(_quality(part, place))
    return [*blocks, *_builds(part)]


def _settings(measured: list[dict]) -> str:
    """A collapsed table of every setting."""
    rows = []
    for one in measured:
        latency, recall = one["latency"], one["recall"]
        percentiles = [_milliseconds(latency[f"p{p:g}_ms"]) for p in metrics.PERCENTILES]
        cores = "–" if one["cores"] is None else f"{one['cores']:.1f}"
        low = [f"{recall['p5']:.2f}", f"{recall['p1']:.2f}"]
        row = (one["system"], words(one["setting"]), _recall(recall), *low, _spread(latency), *percentiles, cores)
        rows.append((*row, one["under_returned"], one["wrong"]))
    header = ("system", "setting", "recall", "p5", "p1", "QPS", "p50 ms", "p95", "p99", "p99.9", "cores", "short", "wrong")
    return f"<details><summary>Every setting</summary>\n\n{_table(header, rows, left=2)}\n\n</details>"


def _quality(part: _Part, place: tuple[str, str, str]) -> str:
    """Ranking metrics (nDCG, recall, MRR) of each system's setting with the highest recall."""
    rows, names = [], []
    for system in part.systems:
        judged = [one for one in part.of(place, system) if one["quality"]]
        if judged:
            best = max(judged, key=lambda one: one["recall"]["mean"])
            names = list(best["quality"])
            row = (f"{one['mean']:.4f} [{one['low']:.3f}–{one['high']:.3f}]" for one in best["quality"].values())
            rows.append((system, words(best["setting"]), *row))
    return _table(("against judgements", "setting", *names), rows, left=2) if rows else ""


def _builds(part: _Part) -> list[str]:
    rows = []
    for one in part.operations:
        if one["op"] == "build":
            speed = one["points"] / one["build_s"] if one["build_s"] else None
            times = (seconds(one["insert_s"]), seconds(one["finish_s"]), rate(speed))
            sizes = (size(one["before"]), size(one["after"] - one["before"]), size(one["peak"] - one["before"]), size(one["disk"]))
            rows.append((one["system"], one["dataset"], *times, *sizes))
    header = ("build", "data", "insert", "finish", "points/s", "memory before", "added after", "added at peak", "disk")
    return [_table(header, rows, left=2)] if rows else []


_SUMMARY_NOTE = """\
The first table summarizes all filter shapes: the geometric mean of the QPS over the shapes in which some setting reached the recall, and
how many did, if not all. *Lowest recall* is the minimum over the cells of the recall of the system's best setting."""


def summary(part: _Part, dataset: str) -> dict[tuple[str, str, float], tuple[float | None, int, int]]:
    """(system, correlation, selectivity) → (QPS, reached, tried): the geometric mean QPS at the target recall over the filter shapes that
    reached it (None if none did), their number, and the number of all shapes."""
    made: dict[tuple[str, str, float], list[float | None]] = {}
    for cell in part.cells:
        where = cell.get("where")
        if cell["dataset"] == dataset and where and where["correlation"] in CORRELATIONS:
            for system in part.systems:
                measured = part.of((dataset, cell["stage"], cell["cell"]), system)
                if measured:
                    points = [(one["recall"]["mean"], one["latency"]["qps"]) for one in measured]
                    found = made.setdefault((system, where["correlation"], where["selectivity"]), [])
                    found.append(metrics.at_recall(points, _FILTER_TARGET))
    result = {}
    for key, every in made.items():
        reached = [qps for qps in every if qps is not None]
        mean = math.exp(sum(map(math.log, reached)) / len(reached)) if reached else None
        result[key] = (mean, len(reached), len(every))
    return result


def _summarized(part: _Part, dataset: str) -> list[str]:
    found = summary(part, dataset)
    shares = sorted({share for _, _, share in found}, reverse=True)
    columns = [(side, share) for side in CORRELATIONS for share in shares if any(key[1:] == (side, share) for key in found)]
    if not columns:
        return []
    rows = []
    for system in part.systems:
        row = [system]
        for side, share in columns:
            mean, reached, tried = found.get((system, side, share), (None, 0, 0))
            row.append("–" if not tried else f"{rate(mean) if mean else '×'}{'' if reached == tried else f' ({reached}/{tried})'}")
        rows.append((*row, _lowest(part, dataset, system)))
    header = ("QPS", *(f"{side} {share * 100:g} %" for side, share in columns), "lowest recall")
    return [_SUMMARY_NOTE, _table(header, rows)]


def _lowest(part: _Part, dataset: str, system: str) -> str:
    best: dict[str, float] = {}
    for one in part.measurements:
        if (one["dataset"], one["system"]) == (dataset, system):
            best[one["cell"]] = max(best.get(one["cell"], 0.0), one["recall"]["mean"])
    cell = min(best, key=lambda name: best[name]) if best else None
    return "–" if cell is None else f"{best[cell]:.3f}" if best[cell] >= _FILTER_TARGET else f"{best[cell]:.3f}: {cell}"


def _filtered(part: _Part) -> list[str]:
    blocks = [_FILTER_NOTE]
    for dataset in part.datasets:
        blocks += [f"### {dataset}", *_summarized(part, dataset)]
        rows = []
        for place in [place for place in part.places() if place[0] == dataset]:
            about = next(one for one in part.cells if (one["dataset"], one["stage"], one["cell"]) == place)["where"]
            rho = about["measured_correlation"]
            row = [place[2], f"{about['measured_selectivity'] * 100:.3g} %", "–" if rho is None else f"{rho:.2f}"]
            rows.append((*row, *(_at_target(part.of(place, system)) for system in part.systems)))
        blocks.append(_table(("filter", "s", "ρ", *part.systems), rows))
    short_rows = []
    for system in part.systems:
        mine = [one for one in part.measurements if one["system"] == system]
        requests = sum(one["requests"] for one in mine)
        row = (sum(one["under_returned"] for one in mine), sum(one["wrong"] for one in mine))
        short_rows.append((system, f"{requests:,}", *(f"{value:,}" for value in row)))
    blocks.append(_table(("all settings together", "requests", "short answers", "wrong rows"), short_rows))
    measured = [one for system in part.systems for one in part.measurements if one["system"] == system]
    return [*blocks, _by_cell(measured), *_builds(part)]


def _at_target(measured: list[dict]) -> str:
    if not measured:
        return "–"
    qps = metrics.at_recall([(one["recall"]["mean"], one["latency"]["qps"]) for one in measured], _FILTER_TARGET)
    return rate(qps) if qps is not None else f"× {max(one['recall']['mean'] for one in measured):.2f}"


def _by_cell(measured: list[dict]) -> str:
    rows = []
    for one in measured:
        figures = (_recall(one["recall"]), f"{one['recall']['p5']:.2f}", _spread(one["latency"]), _milliseconds(one["latency"]["p99_ms"]))
        rows.append((one["cell"], one["system"], words(one["setting"]), *figures, one["under_returned"], one["wrong"]))
    header = ("filter", "system", "setting", "recall", "p5", "QPS", "p99 ms", "short", "wrong")
    return f"<details><summary>Every setting</summary>\n\n{_table(header, rows, left=3)}\n\n</details>"


def _ingest(part: _Part) -> list[str]:
    rows = []
    for one in part.operations:
        times = one["batch_s"]
        speed = (one["rows"] - 1) / sum(times)
        whole = (one["rows"] - 1) / (sum(times) + one["finish_s"])
        found_in = seconds(one["searchable_s"]) if one["searchable_s"] is not None else "not in 60 s"
        figures = (
            f"{one['batch']:,}",
            f"{one['rows']:,}",
            rate(speed),
            rate(whole),
            seconds(max(times)),
            seconds(one["finish_s"]),
            found_in,
        )
        rows.append((one["system"], "yes" if one["durable"] else "no", *figures))
    header = ("system", "durable", "batch", "points", "points/s", "with finish", "worst batch", "finish", "new point found after")
    return [_table(header, rows, left=2)]


def _churn(part: _Part) -> list[str]:
    rows = []
    for dataset in part.datasets:
        for system in part.systems:
            for stage in dict.fromkeys(one["stage"] for one in part.measurements):
                mine = [one for one in part.measurements if (one["dataset"], one["stage"], one["system"]) == (dataset, stage, system)]
                points = [(one["recall"]["mean"], one["latency"]["qps"]) for one in mine]
                if mine:
                    speeds = (rate(metrics.at_recall(points, target)) for target in TARGETS)
                    wrong = sum(one["wrong"] for one in mine)
                    rows.append((system, stage, *speeds, f"{max(point[0] for point in points):.4f}", wrong))
    header = ("QPS at recall ≥", "stage", *(f"{target:.2f}" for target in TARGETS), "highest recall", "wrong rows")
    changes = [
        (one["system"], seconds(one["delete_s"]), seconds(one["update_s"]), seconds(one["finish_s"]), size(one["after"]), size(one["disk"]))
        for one in part.operations
        if one["op"] == "change"
    ]
    return [
        _table(header, rows, left=2),
        _table(("the change", "delete", "update", "finish", "memory after", "disk after"), changes) if changes else "",
        *_builds(part),
    ]


def _service(part: _Part) -> list[str]:
    rows = []
    groups: dict[tuple, list[dict]] = {}
    for one in part.loads:
        groups.setdefault((one["system"], one["load"]), []).append(one)
    for (system, load), repeats in groups.items():
        answered = [one for one in repeats if "p50_ms" in one]
        middle = sorted(answered, key=lambda one: one["qps"])[len(answered) // 2] if answered else None
        speeds = (
            f"{rate(middle['qps'])} [{rate(min(o['qps'] for o in answered))}–{rate(max(o['qps'] for o in answered))}]" if middle else "–"
        )
        asked = rate(repeats[0]["asked_rate"]) if repeats[0]["asked_rate"] else ""
        tails = [_milliseconds(middle[f"p{p:g}_ms"]) if middle else "–" for p in metrics.PERCENTILES]
        recall = [one["recall"] for one in repeats if one["recall"] is not None]
        bad = (sum(one["timed_out"] for one in repeats), sum(one["failed"] for one in repeats))
        rows.append((system, load, asked, speeds, *tails, f"{min(recall):.4f}" if recall else "–", *bad))
    header = ("system", "load", "asked QPS", "answered QPS", "p50 ms", "p95", "p99", "p99.9", "recall", "timed out", "failed")
    note = "Clients are threads of one Python process on the same machine. In the open loop a latency is measured from the time the request"
    note += " was scheduled. More than a second counts as timed out. Latencies are those of the repeat with the median rate."
    return [note, _table(header, rows, left=2)]


def _footprint(part: _Part) -> list[str]:
    rows = []
    for one in part.operations:
        if one["op"] == "restart":
            figures = (
                seconds(one["open_s"]),
                seconds(one["first_answer_s"]),
                size(one["after"] - one["before"]),
                size(one["peak"] - one["before"]),
            )
            rows.append((one["system"], "cold" if one["cold"] else "warm", *figures))
    return [*_builds(part), _table(("system", "files", "open", "first answer", "memory added", "at peak"), rows, left=2) if rows else ""]


_SECTIONS = {"filtered": _filtered, "ingest": _ingest, "churn": _churn, "service": _service, "footprint": _footprint}


def _exact_modes(found: dict) -> list[str]:
    """The recall of each system's exact mode. Less than 1.000 means that the harness or the system is wrong."""
    measured: dict[tuple[str, str], list] = {(one["system"], one["suite"]): [] for one in found.get("exact_modes", ())}
    none = {(one["system"], one["suite"]) for one in found.get("exact_modes", ()) if one["setting"] is None}
    for one in found["measurements"]:
        if one["exact"]:
            measured.setdefault((one["system"], one["suite"]), []).append(one)
    rows = []
    for (system, suite), cells in measured.items():
        if not cells:
            rows.append((system, suite, 0, "–", "–", "no exact mode" if (system, suite) in none else "not measured"))
            continue
        worst = min(one["recall"]["min"] for one in cells)
        mean = min(one["recall"]["mean"] for one in cells)
        rows.append((system, suite, len(cells), f"{mean:.4f}", f"{worst:.3f}", "yes" if mean >= 0.9999 else "**no**"))
    header = ("system", "suite", "cells", "lowest mean", "worst query", "reads 1.000")
    return ["## Exact modes", _table(header, rows, left=2)] if rows else []


def _problems(found: dict) -> list[str]:
    if not found["problems"]:
        return []
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in found["problems"]:
        message = " ".join(one["message"].split()).replace("|", "\\|")[:300]
        groups.setdefault((one["system"], one["kind"], message), []).append(f"{one['suite']} · {one['dataset']}: {one['where']}")
    rows = [(*group, _some(places)) for group, places in groups.items()]
    return ["## What didn't run", _table(("system", "kind", "why", "where"), rows, left=4)]


def _some(places: Sequence[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return "; ".join(places[:3]) + more
