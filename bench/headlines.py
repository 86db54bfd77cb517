"""vectordb beside the best peer: ratios, losses first, and the tables of RESULTS.md, which are written from the results of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import metrics, sections
from .checks import factor
from .suites import TARGETS
from .tables import Part, points, rate, seconds, size, table

OURS = "vectordb"
SUITES = ("dense", "sparse", "hybrid")
BOUNDS = (0.95, 0.99)  # the recalls at which the ratios are taken
BEGIN, END = "<!-- measured: written by `vectordb bench report --tables`; edits here are lost -->", "<!-- end of measured -->"

_NOTE = """\
Losses first. × is the QPS of vectordb ÷ that of a peer, each at its fastest setting that reached the recall: above 1 vectordb is faster.
"not reached" stands where no setting of vectordb did, and "only vectordb" where no peer did."""


@dataclass(frozen=True)
class Standing:
    """vectordb beside the peers in one cell, at one recall. qps: of ours, None if not reached. peers: name → QPS of those that did."""

    suite: str
    dataset: str
    cell: str
    target: float
    qps: float | None
    peers: dict[str, float]

    def best(self, names: Sequence[str]) -> tuple[str, float] | None:
        """The fastest of these peers that reached the recall, and its QPS."""
        reached = [(name, self.peers[name]) for name in names if name in self.peers]
        return max(reached, key=lambda pair: pair[1], default=None)

    def ratio(self, names: Sequence[str]) -> float | None:
        """QPS of ours ÷ that of the best of these; 0 if only they reached the recall, None if none of them did."""
        best = self.best(names)
        return None if best is None else (self.qps or 0.0) / best[1]


def standings(results: dict) -> list[Standing]:
    """Of every cell that vectordb and some peer were measured in, at each of BOUNDS."""
    found = []
    for suite in SUITES:
        part = Part(results, suite)
        for place in part.places() if OURS in part.systems else ():
            if not part.of(place, OURS):
                continue
            for target in BOUNDS:
                rates = {
                    name: metrics.at_recall(points(part.of(place, name)), target) for name in part.systems if name not in _ours(results)
                }
                peers = {name: qps for name, qps in rates.items() if qps is not None}
                qps = metrics.at_recall(points(part.of(place, OURS)), target)
                if rates and (peers or qps is not None):
                    found.append(Standing(suite, place[0], place[2], target, qps, peers))
    return found


def _ours(results: dict) -> list[str]:
    return [one["name"] for one in results["systems"] if one["kind"] == "ours"]


def ratios(results: dict) -> list[str]:
    """The table of ratios, worst first; nothing without a peer."""
    every = standings(results)
    if not every:
        return []
    kinds = {one["name"]: one["kind"] for one in results["systems"]}
    databases = [name for name, kind in kinds.items() if kind in ("database", "server")]
    groups = {
        "best database": databases,
        "best library": [name for name, kind in kinds.items() if kind == "library"],
        "hnswlib": ["hnswlib"],
    }
    peers = [*databases, *groups["best library"]]

    def beside(one: Standing, names: Sequence[str]) -> str:
        best, ratio = one.best(names), one.ratio(names)
        if best is None or ratio is None:
            return "–"
        return f"{'not reached' if one.qps is None else factor(ratio)}{'' if len(names) == 1 else f' ({best[0]})'}"

    def rank(one: Standing) -> float:
        ratio = one.ratio(peers)
        return float("inf") if ratio is None else ratio

    rows = []
    for one in sorted(every, key=rank):
        best = one.best(peers)
        worst = "only vectordb" if best is None else beside(one, [best[0]])
        about = (_short(one.dataset), one.cell, f"{one.target:.2f}", rate(one.qps), "–" if best is None else f"{best[0]} {rate(best[1])}")
        rows.append((f"**{worst}**" if rank(one) < 1 else worst, *about, *(beside(one, names) for names in groups.values())))
    header = ("×", "data", "cell", "recall ≥", "vectordb QPS", "best peer", *(f"÷ {name}" for name in groups))
    return ["## vectordb beside the best peer", _NOTE, table(header, rows, left=4)]


def _short(dataset: str) -> str:
    return Path(dataset).name if "/" in dataset else dataset


# RESULTS.md


def tables(results: dict) -> str:
    """The measured part of RESULTS.md: machine, ratios, and for each data set QPS, bad queries, slow queries and loading."""
    environment = results["environment"]
    software, scale = environment["software"], results["plan"]["scale"]
    about = (
        f"{environment['cpu']}, {environment['cores']} cores, load {environment['load'][0]} when it began; commit {software['commit']}; "
    )
    about += f"{scale['queries']} queries × {scale['repeats']} repeats, one request at a time: "
    about += f"`{' '.join(map(_short, environment['command'].split(' ')))}`"  # without the folders of this machine
    blocks = [about, *ratios(results)]
    for suite in SUITES:
        part = Part(results, suite)
        for dataset in part.datasets:
            blocks.append(f"## {suite.capitalize()}: {_short(dataset)}")
            blocks.append(_rates(part, dataset))
            for place in part.places():
                text = sections.at_targets(part, place) if place[0] == dataset else ""
                blocks += [f"### {_short(dataset)}, {place[2]}: bad queries and slow queries", text] if text else []
    return "\n\n".join(block for block in (*blocks, *_missing(results)) if block) + "\n"


def _rates(part: Part, dataset: str) -> str:
    """A row for each system: QPS at the recalls in each cell, highest recall, what was found of the recall that was asked for, loading,
    compiling, memory. The fastest at .95 first.
    """
    cells = [place for place in part.places() if place[0] == dataset]
    rows = []
    for system in part.systems:
        figures = [points(part.of(place, system)) for place in cells]
        if not any(figures):
            continue
        qps = [[metrics.at_recall(values, target) for target in TARGETS] for values in figures]
        shown = [" / ".join(map(rate, values)) for values in qps]
        best = max((recall for values in figures for recall, _ in values), default=0.0)
        build = next((one for one in part.operated("build", dataset) if one["system"] == system), None)
        asked = "; ".join(text for place in cells if (text := sections.asked_and_found(part.of(place, system))) != "–") or "–"
        rows.append((-(qps[0][1] or 0.0), (system, *shown, f"{best:.4f}", asked, *_load(build))))
    targets = " / ".join(f"{target:.2f}" for target in TARGETS)
    header = ("system", *(f"{place[2]}: QPS at {targets}" for place in cells), "highest recall", "asked/found")
    return table(
        (*header, "points/s loaded", "compiling, before", "memory added"), [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    )


def _load(build: dict | None) -> tuple[str, str, str]:
    if build is None:
        return "–", "–", "–"
    compiling = build.get("compile_s", 0.0)
    loaded = rate(build["points"] / build["build_s"] if build["build_s"] else None)
    return loaded, seconds(compiling) if compiling >= 0.05 else "–", size(build["after"] - build["before"])


def _missing(results: dict) -> list[str]:
    lines = [
        f"- {one['system']} ({_short(one['dataset'])}, {one['where']}): {' '.join(one['message'].split())[:200]}"
        for one in results["problems"]
    ]
    lines += [f"- not measured, the time was up: {text}" for text in results.get("left", ())]
    return ["## What is missing", "\n".join(dict.fromkeys(lines))] if lines else []


def rewrite(path: Path, results: dict) -> None:
    """Write ``tables`` into a Markdown file, between the lines BEGIN and END. A file without them gets them after its title."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    whole = f"{BEGIN}\n\n{tables(results)}\n{END}"
    head, begin, rest = text.partition(BEGIN)
    if begin:
        _, end, tail = rest.partition(END)
        if not end:
            raise ValueError(f"{path} has no line {END!r} after {BEGIN!r}")
        text = f"{head}{whole}{tail}"
    else:
        title, _, below = text.partition("\n")
        text = f"{title}\n\n{whole}\n{below}"
    path.write_text(text, encoding="utf-8")
