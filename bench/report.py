"""The report in Markdown: method, environment, systems, data, the suites, and what failed. ``plots`` draws the figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from . import headlines
from .sections import check_lines, section
from .suites import SUITES
from .tables import Part, table, words

METHOD = """\
The harness sends one request at a time. Within a cell the systems take turns, setting by setting. Every repeat runs all queries again,
after a warm-up. QPS is requests ÷ the sum of their times: the median of the repeats, with the lowest and highest repeat in brackets. Recall
is measured on the timed requests: correct rows ÷ min(k, matches), against exact search in float64. Rows that tie with the k-th best count
as correct. The brackets after a recall hold its 95 % confidence interval over queries; 95 % of the queries reach p5, and 99 % reach p1.
*Cores* is processor time ÷ wall time of the system's processes while searching, with all their threads: 1.0 means one busy core. *Short*
counts answers with fewer than min(k, matches) rows. *Wrong* counts rows that don't match the filter, are deleted or are duplicates. Queries
and filters were converted to each system's format before timing, and ids were read after it. Memory is the resident size of all processes
of a system: before its library was imported (this includes the data set), after the build, and at the peak. Kernels that are compiled at
run time are compiled before the build; points/s doesn't include it, and *compiling, before* shows it where it took 50 ms or more."""


def markdown(results: dict, pictures: dict[str, list[str]] | None = None) -> str:
    """The report as Markdown. results: of ``journal.results``. pictures: suite → paths of its plots, relative to the report."""
    pictures = pictures or {}
    blocks = [
        "# Benchmark report",
        *_environment(results["environment"], results),
        *_summary(results),
        *headlines.ratios(results),
        "## How it was measured",
        METHOD,
        *_systems(results),
    ]
    blocks += _datasets(results)
    for suite in SUITES:
        part = Part(results, suite)
        if part.there:
            about = SUITES[suite].about
            blocks += [f"## {suite.capitalize()}", f"{about[0].upper()}{about[1:]}."]
            blocks += [f"![{Path(path).stem}]({path})" for path in pictures.get(suite, ())]
            blocks += section(part)
    blocks += _exact_modes(results) + _problems(results) + _left(results)
    return "\n\n".join(block for block in blocks if block) + "\n"


# The whole run: environment, floors, systems, data


def _environment(environment: dict, results: dict) -> list[str]:
    software = environment["software"]
    seen = environment.get("overhead", {})
    when, minutes = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(results["started"])), (results["ended"] - results["started"]) / 60
    loop, inside = seen.get("loop_us", 0), seen.get("in_figures_us", 0)
    rows = [
        ("when", f"{when}, {minutes:.1f} min"),
        ("processor", f"{environment['cpu']}, {environment['cores']} cores"),
        ("memory", f"{environment.get('ram_gib', '?')} GiB"),
        ("system", environment["system"]),
        ("load when it began", " ".join(str(value) for value in environment["load"])),
        ("software", ", ".join(f"{name} {version}" for name, version in software.items())),
        ("harness", f"{loop:.2f} µs per request beside an empty loop, {inside:.2f} µs of it in the figures"),
        ("command", f"`{environment['command']}`"),
        ("scale", words(results["plan"]["scale"])),
    ]
    return [table(("", ""), rows, left=2)]


def _summary(results: dict) -> list[str]:
    missed = results.get("floors_missed", [])
    verdict = [f"- **missed**: {text}" for text in missed]
    if results["plan"].get("floors") and not missed:
        verdict = [f"All floors hold: {', '.join(results['plan']['floors'])}."]
    floors = ["## Floors", "\n".join(verdict)] if verdict else []
    return [*floors, *check_lines(results)]


def _systems(results: dict) -> list[str]:
    settings: dict[str, dict] = {}
    for one in results["operations"]:
        settings.setdefault(one["system"], {}).update(one.get("settings") or {})
    rows = [(one["name"], one["kind"], one["version"], words(settings.get(one["name"], {})), one["notes"]) for one in results["systems"]]
    return ["## Systems", table(("system", "kind", "version", "built with", "to know"), rows, left=5)]


def _datasets(results: dict) -> list[str]:
    rows = []
    for one in {one["name"]: one for one in results["datasets"]}.values():
        form = [f"{one['dim']} dim, {one['metric']}"] if "dim" in one else []
        form += [f"{one['terms']:,} terms, {one['non_zeros']} a row"] if "terms" in one else []
        texts = (one["name"], "; ".join(form), one["about"], f"`{one['hash'][:12]}`")
        rows.append((*texts, f"{one['points']:,}", f"{one['asked']:,}"))
    return ["## Data", table(("name", "form", "what it is", "SHA-256", "points", "queries"), rows, left=4)]


def _exact_modes(results: dict) -> list[str]:
    """The recall of each system's exact mode. Less than 1.000 means that the harness or the system is wrong."""
    measured: dict[tuple[str, str], list] = {(one["system"], one["suite"]): [] for one in results.get("exact_modes", ())}
    none = {(one["system"], one["suite"]) for one in results.get("exact_modes", ()) if one["setting"] is None}
    for one in results["measurements"]:
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
    return ["## Exact modes", table(header, rows, left=2)] if rows else []


def _problems(results: dict) -> list[str]:
    if not results["problems"]:
        return []
    groups: dict[tuple[str, str, str], list[str]] = {}
    for one in results["problems"]:
        message = " ".join(one["message"].split()).replace("|", "\\|")[:300]
        groups.setdefault((one["system"], one["kind"], message), []).append(f"{one['suite']} · {one['dataset']}: {one['where']}")
    rows = [(*group, _some(places)) for group, places in groups.items()]
    return ["## What didn't run", table(("system", "kind", "why", "where"), rows, left=4)]


def _left(results: dict) -> list[str]:
    """What the bound on time left out."""
    return ["## What the time didn't suffice for", "\n".join(f"- {text}" for text in results["left"])] if results.get("left") else []


def _some(places: Sequence[str]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return "; ".join(places[:3]) + more
