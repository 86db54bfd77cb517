"""The sections of the report: the tables of each suite."""

from __future__ import annotations

import math

from . import checks, metrics
from .filters import CORRELATIONS
from .suites import TARGETS
from .tables import Part, folded, listed, milliseconds, points, qps_spread, rate, recall_text, seconds, size, table, words

_FILTER_TARGET = 0.95
_NOISE = 1.03  # ratio from which on two systems differ
_FILTER_NOTE = f"""\
The tables show QPS at recall ≥ {_FILTER_TARGET}, or × and the highest recall where no setting reached it. *s* is the measured selectivity,
the share of matching rows. *ρ* is the correlation of query and filter: the share of matching rows among the query's nearest rows (0.1 % of
all, at least 10), ÷ *s*. Below 1, rows near the query match less often than others."""


def _curves(part: Part) -> list[str]:
    blocks = []
    for place in part.places():
        rows = []
        for system in part.systems:
            measured = part.of(place, system)
            if measured:
                figures = points(measured)
                reached = (rate(metrics.at_recall(figures, target)) for target in TARGETS)
                rows.append((system, *reached, f"{max(figures)[0]:.4f}", asked_and_found(measured)))
        blocks.append(f"### {' · '.join(place)}")
        blocks.append(table(("QPS at recall ≥", *(f"{target:.2f}" for target in TARGETS), "highest recall", "asked/found"), rows))
        blocks.append(at_targets(part, place))
        blocks.append(_settings([one for system in part.systems for one in part.of(place, system)]))
        blocks.append(_quality(part, place))
    return [*blocks, *_builds(part)]


def asked_and_found(measured: list[dict]) -> str:
    """What a system found where a recall of TARGETS was asked for, as asked/found; – for one whose setting isn't a recall."""
    found = {one["setting"].get("recall"): one["recall"]["mean"] for one in measured}
    return ", ".join(f"{target:.2f}/{found[target]:.3f}" for target in TARGETS if target in found) or "–"


_AT_TARGETS = (0.95, 0.99)


def at_targets(part: Part, place: tuple[str, str, str]) -> str:
    """Each system's fastest setting that reached a recall: the recall of bad queries (p5, p1) and the latency of slow ones (p99)."""
    rows = []
    for target in _AT_TARGETS:
        reached = [(system, metrics.fastest(part.of(place, system), target)) for system in part.systems]
        for system, one in sorted(((system, one) for system, one in reached if one), key=lambda pair: -pair[1]["latency"]["qps"]):
            recall, latency = one["recall"], one["latency"]
            tail = latency["p99_ms"] / latency["p50_ms"] if latency["p50_ms"] else 0.0
            figures = (f"{recall['mean']:.4f}", f"{recall['p5']:.2f}", f"{recall['p1']:.2f}", rate(latency["qps"]))
            times = (milliseconds(latency["p50_ms"]), milliseconds(latency["p99_ms"]), f"{tail:.1f}")
            rows.append((f"{target:.2f}", system, words(one["setting"]), *figures, *times))
    header = ("recall ≥", "system", "fastest setting", "recall", "p5", "p1", "QPS", "p50 ms", "p99 ms", "p99 ÷ p50")
    return table(header, rows, left=3) if rows else ""


_SETTINGS = {"system": "system", "setting": lambda one: words(one["setting"]), "recall": lambda one: recall_text(one["recall"])}
_SETTINGS |= {name: lambda one, name=name: f"{one['recall'][name]:.2f}" for name in ("p5", "p1")}
_SETTINGS["QPS"] = lambda one: qps_spread(one["latency"])
_SETTINGS |= {f"p{p:g}{' ms' * (p == 50)}": lambda one, p=p: milliseconds(one["latency"][f"p{p:g}_ms"]) for p in metrics.PERCENTILES}
_SETTINGS |= {"cores": lambda one: "–" if one["cores"] is None else f"{one['cores']:.1f}", "short": "under_returned", "wrong": "wrong"}


def _settings(measured: list[dict]) -> str:
    return folded("Every setting", listed(_SETTINGS, measured, left=2))


def _quality(part: Part, place: tuple[str, str, str]) -> str:
    """Ranking metrics (nDCG, recall, MRR) of each system's setting with the highest recall."""
    rows, names = [], []
    for system in part.systems:
        judged = [one for one in part.of(place, system) if one["quality"]]
        if judged:
            best = max(judged, key=lambda one: one["recall"]["mean"])
            names = list(best["quality"])
            row = (f"{one['mean']:.4f} [{one['low']:.3f}–{one['high']:.3f}]" for one in best["quality"].values())
            rows.append((system, words(best["setting"]), *row))
    return table(("against judgements", "setting", *names), rows, left=2) if rows else ""


_ADDED = {"added after": lambda one: size(one["after"] - one["before"]), "added at peak": lambda one: size(one["peak"] - one["before"])}
_BUILDS = {"build": "system", "data": "dataset", "insert": "insert_s", "finish": "finish_s"}
_BUILDS |= {"points/s": lambda one: rate(one["points"] / one["build_s"] if one["build_s"] else None)}
_BUILDS |= {"compiling, before": lambda one: seconds(one.get("compile_s")) if one.get("compile_s", 0) >= 0.05 else "–"}
_BUILDS |= {"memory before": "before"}
_BUILDS |= {**_ADDED, "disk": "disk"}


def _builds(part: Part) -> list[str]:
    return [listed(_BUILDS, part.operated("build"), left=2)]


_SUMMARY_NOTE = """\
The first table summarizes all filter shapes: the geometric mean of the QPS over the shapes in which some setting reached the recall, and
how many did, if not all. *Lowest recall* is the minimum over the cells of the recall of the system's best setting."""


def summary(part: Part, dataset: str) -> dict[tuple[str, str, float], tuple[float | None, int, int]]:
    """(system, correlation, selectivity) → (QPS, reached, tried): the geometric mean QPS at the target recall over the filter shapes that
    reached it (None if none did), their number, and the number of all shapes."""
    qps_of: dict[tuple[str, str, float], list[float | None]] = {}
    for cell in part.cells:
        where = cell.get("where")
        if cell["dataset"] == dataset and where and where["correlation"] in CORRELATIONS:
            for system in part.systems:
                measured = part.of((dataset, cell["stage"], cell["cell"]), system)
                if measured:
                    rates = qps_of.setdefault((system, where["correlation"], where["selectivity"]), [])
                    rates.append(metrics.at_recall(points(measured), _FILTER_TARGET))
    result = {}
    for key, every in qps_of.items():
        reached = [qps for qps in every if qps is not None]
        mean = math.exp(sum(map(math.log, reached)) / len(reached)) if reached else None
        result[key] = (mean, len(reached), len(every))
    return result


def _summarized(part: Part, dataset: str) -> list[str]:
    cells = summary(part, dataset)
    shares = sorted({share for _, _, share in cells}, reverse=True)
    columns = [(side, share) for side in CORRELATIONS for share in shares if any(key[1:] == (side, share) for key in cells)]
    if not columns:
        return []
    rows = []
    for system in part.systems:
        row = [system]
        for side, share in columns:
            mean, reached, tried = cells.get((system, side, share), (None, 0, 0))
            row.append("–" if not tried else f"{rate(mean) if mean else '×'}{'' if reached == tried else f' ({reached}/{tried})'}")
        rows.append((*row, _lowest(part, dataset, system)))
    header = ("QPS", *(f"{side} {share * 100:g} %" for side, share in columns), "lowest recall")
    return [_SUMMARY_NOTE, table(header, rows)]


def _lowest(part: Part, dataset: str, system: str) -> str:
    best: dict[str, float] = {}
    for one in part.measurements:
        if (one["dataset"], one["system"]) == (dataset, system):
            best[one["cell"]] = max(best.get(one["cell"], 0.0), one["recall"]["mean"])
    cell = min(best, key=lambda name: best[name]) if best else None
    return "–" if cell is None else f"{best[cell]:.3f}" if best[cell] >= _FILTER_TARGET else f"{best[cell]:.3f}: {cell}"


def _filtered(part: Part) -> list[str]:
    blocks = [_FILTER_NOTE]
    for dataset in part.datasets:
        blocks += [f"### {dataset}", *_summarized(part, dataset)]
        rows = []
        for place in [place for place in part.places() if place[0] == dataset]:
            about = next(one for one in part.cells if (one["dataset"], one["stage"], one["cell"]) == place)["where"]
            rho = about["measured_correlation"]
            row = [place[2], f"{about['measured_selectivity'] * 100:.3g} %", "–" if rho is None else f"{rho:.2f}"]
            rows.append((*row, *(_at_target(part.of(place, system)) for system in part.systems)))
        blocks.append(table(("filter", "s", "ρ", *part.systems), rows))
    measured = {system: [one for one in part.measurements if one["system"] == system] for system in part.systems}
    sums = [(system, *(f"{sum(one[name] for one in mine):,}" for name in _SUMS.values())) for system, mine in measured.items()]
    blocks.append(table(("all settings together", *_SUMS), sums))
    cells = listed(_BY_CELL, [one for mine in measured.values() for one in mine], left=3)
    return [*blocks, folded("Every setting", cells), *_builds(part)]


_SUMS = {"requests": "requests", "short answers": "under_returned", "wrong rows": "wrong"}
_BY_CELL = {"filter": "cell"} | {name: _SETTINGS[name] for name in ("system", "setting", "recall", "p5", "QPS")}
_BY_CELL |= {"p99 ms": _SETTINGS["p99"], "short": "under_returned", "wrong": "wrong"}


def _at_target(measured: list[dict]) -> str:
    if not measured:
        return "–"
    qps = metrics.at_recall(points(measured), _FILTER_TARGET)
    return rate(qps) if qps is not None else f"× {max(points(measured))[0]:.2f}"


_INGEST = {
    "system": "system",
    "durable": lambda one: "yes" if one["durable"] else "no",
    "batch": lambda one: f"{one['batch']:,}",
    "points": lambda one: f"{one['rows']:,}",
    "points/s": lambda one: rate((one["rows"] - 1) / sum(one["batch_s"])),
    "with finish": lambda one: rate((one["rows"] - 1) / (sum(one["batch_s"]) + one["finish_s"])),
    "worst batch": lambda one: seconds(max(one["batch_s"])),
    "finish": "finish_s",
    "new point found after": lambda one: "not in 60 s" if one["searchable_s"] is None else seconds(one["searchable_s"]),
}


def _ingest(part: Part) -> list[str]:
    return [listed(_INGEST, part.operations, left=2)]


_CHANGES = {"the change": "system", "delete": "delete_s", "update": "update_s", "finish": "finish_s"}
_CHANGES |= {"memory after": "after", "disk after": "disk"}


def _churn(part: Part) -> list[str]:
    rows = []
    for dataset in part.datasets:
        for system in part.systems:
            for stage in dict.fromkeys(one["stage"] for one in part.measurements):
                measured = part.measured(dataset, stage, system)
                if measured:
                    figures = points(measured)
                    speeds = (rate(metrics.at_recall(figures, target)) for target in TARGETS)
                    rows.append((system, stage, *speeds, f"{max(figures)[0]:.4f}", sum(one["wrong"] for one in measured)))
    header = ("QPS at recall ≥", "stage", *(f"{target:.2f}" for target in TARGETS), "highest recall", "wrong rows")
    return [table(header, rows, left=2), listed(_CHANGES, part.operated("change")), *_builds(part)]


def _service(part: Part) -> list[str]:
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
        asked_rate = rate(repeats[0]["asked_rate"]) if repeats[0]["asked_rate"] else ""
        tails = [milliseconds(middle[f"p{p:g}_ms"]) if middle else "–" for p in metrics.PERCENTILES]
        recall = [one["recall"] for one in repeats if one["recall"] is not None]
        bad = (sum(one["timed_out"] for one in repeats), sum(one["failed"] for one in repeats))
        rows.append((system, load, asked_rate, speeds, *tails, f"{min(recall):.4f}" if recall else "–", *bad))
    header = ("system", "load", "asked QPS", "answered QPS", "p50 ms", "p95", "p99", "p99.9", "recall", "timed out", "failed")
    note = "Clients are threads of one Python process on the same machine. In the open loop a latency is measured from the time the request"
    note += " was scheduled. More than a second counts as timed out. Latencies are those of the repeat with the median rate."
    return [note, table(header, rows, left=2)]


_OPENED = {"system": "system", "files": lambda one: "cold" if one["cold"] else "warm", "open": "open_s", "first answer": "first_answer_s"}
_OPENED |= {"memory added": _ADDED["added after"], "at peak": _ADDED["added at peak"]}


def _footprint(part: Part) -> list[str]:
    return [*_builds(part), listed(_OPENED, part.operated("restart"), left=2)]


_FIGURES_NOTE = """\
A figure is the median of the rounds, in brackets the lowest and the highest. × says how many times as fast, as many or as small the figure
of the first system is. Figures of the same round are compared: the median, in brackets its 95 % interval over the rounds (of fewer than six
the lowest and highest)."""


def _figures(part: Part) -> list[str]:
    """What probes measured. Of two systems, the figures stand side by side."""
    blocks = [_FIGURES_NOTE]
    for dataset in part.datasets:
        blocks.append(f"### {dataset}")
        for cells in (False, True):
            figures: dict[tuple[str, str], dict[str, dict]] = {}
            for one in part.figures:
                if one["dataset"] == dataset and bool(one["cell"]) == cells:
                    figures.setdefault((one["cell"], one["what"]), {})[one["system"]] = one
            make = _side_by_side if len(part.systems) == 2 and not cells else _one_by_one
            text = make(figures, part.systems)
            if figures:
                blocks.append(folded("By cell", text) if cells else text)
    return blocks


def _one_by_one(figures: dict[tuple[str, str], dict[str, dict]], systems: list[str]) -> str:
    rows = []
    for (cell, what), by_system in figures.items():
        first, *others = (by_system[system] for system in systems if system in by_system)
        for one in (first, *others):
            ratio = "" if one is first else _ratio(checks.ratios(first, one))
            rows.append((*((cell,) if cell else ()), what, one["system"], _values(one), one["unit"], ratio))
    header = (*(("cell",) if any(cell for cell, _ in figures) else ()), "figure", "system", "", "unit", "×")
    return table(header, rows, left=len(header) - 3)


def _side_by_side(figures: dict[tuple[str, str], dict[str, dict]], systems: list[str]) -> str:
    """Also the ratio of the best rounds, which other work on the machine disturbs least, and a list of what differs beyond the noise."""
    rows, slower, faster = [], [], []
    for (_, what), by_system in figures.items():
        first, second = (by_system.get(system) for system in systems)
        ratios = checks.ratios(first, second) if first and second else []
        best = checks.ratios(*({**one, "values": [checks.best(one)]} for one in (first, second))) if ratios else []
        rows.append(
            (what, *(_values(one) if one else "–" for one in (first, second)), (first or second)["unit"], _ratio(ratios), _ratio(best))
        )
        _, low, high = checks.spread(ratios) if len(ratios) > 2 else (1, 1, 1)
        if high < 1 / _NOISE and best[0] < 1:
            slower.append(what)
        elif low > _NOISE and best[0] > 1:
            faster.append(what)
    lines = [f"{systems[0]} is {word} in: {'; '.join(names) or 'nothing'}." for word, names in (("slower", slower), ("faster", faster))]
    head = table(("figure", *systems, "unit", "×", "× of the best rounds"), rows)
    return f"{head}\n\nBeyond {_NOISE - 1:.0%} in the whole interval and in the best rounds: {' '.join(lines)}"


def _values(one: dict) -> str:
    values = one["values"]
    text = checks.figure(checks.VALUES["median"](values))
    return f"{text} [{checks.figure(min(values))}–{checks.figure(max(values))}]" if len(set(values)) > 1 else text


def _ratio(ratios: list[float]) -> str:
    if len(ratios) < 2:
        return "".join(map(checks.factor, ratios))
    return "{} [{}–{}]".format(*map(checks.factor, checks.spread(ratios)))


def probed(results: dict) -> list[str]:
    """The figures of all suites' probes, and their checks, for a terminal."""
    parts = [Part(results, suite) for suite in dict.fromkeys(one["suite"] for one in results.get("figures", ()))]
    return [block for part in parts for block in _figures(part)] + check_lines(results)


def check_lines(results: dict) -> list[str]:
    """A list of the suites' bounds. Empty if there are none."""
    bounds = results.get("checks", ())
    lines = [f"- {'' if one['met'] else '**missed**: '}{checks.bound(one)} ({one['suite']} · {one['dataset']})" for one in bounds]
    return ["## Checks", "\n".join(lines)] if lines else []


_SECTIONS = {"filtered": _filtered, "ingest": _ingest, "churn": _churn, "service": _service, "footprint": _footprint}


def section(part: Part) -> list[str]:
    """The Markdown blocks of a suite's section."""
    return _SECTIONS.get(part.suite, _curves)(part) + (_figures(part) if part.figures else [])
