"""What tables and plots are made of: the results of one suite, figures in words, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class Part:
    """The results of one suite."""

    def __init__(self, results: dict, suite: str):
        self.suite = suite
        self.measurements = [one for one in results["measurements"] if one["suite"] == suite]
        self.operations = [one for one in results["operations"] if one["suite"] == suite]
        self.loads = [one for one in results["loads"] if one["suite"] == suite]
        self.figures = [one for one in results.get("figures", ()) if one["suite"] == suite]
        self.cells = [one for one in results["cells"] if one["suite"] == suite]
        self._facts = self.measurements + self.operations + self.loads + self.figures
        order = [one["name"] for one in results["systems"]]
        self.systems = [name for name in order if any(one["system"] == name for one in self._facts)]
        self.datasets = list(dict.fromkeys(one["dataset"] for one in self._facts))
        self.there = bool(self.systems)

    def places(self) -> list[tuple[str, str, str]]:
        """(data set, stage, cell), in the order they were measured."""
        return list(dict.fromkeys((one["dataset"], one["stage"], one["cell"]) for one in self.measurements))

    def of(self, place: tuple[str, str, str], system: str) -> list[dict]:
        return [one for one in self.measured(place[0], place[1], system) if one["cell"] == place[2]]

    def measured(self, dataset: str, stage: str, system: str) -> list[dict]:
        return [one for one in self.measurements if (one["dataset"], one["stage"], one["system"]) == (dataset, stage, system)]

    def operated(self, op: str, dataset: str | None = None) -> list[dict]:
        """The operations of this name (on one data set)."""
        return [one for one in self.operations if one["op"] == op and dataset in (None, one["dataset"])]


def points(measured: Iterable[dict]) -> list[tuple[float, float]]:
    """(mean recall, QPS) of each measurement."""
    return [(one["recall"]["mean"], one["latency"]["qps"]) for one in measured]


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A Markdown table. left: number of left-aligned columns; the others are right-aligned."""
    marks = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, marks, *([str(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(columns: Mapping[str, str | Callable[[dict], object]], facts: Sequence[dict], left: int = 1) -> str:
    """A Markdown table with a row for each fact; empty without facts. columns: heading → a value's name, or a function of the fact.

    A value is shown by its name: "…_s" as seconds, sizes of memory and files in MiB, others as they are.
    """

    def cell(one: dict, of: str | Callable[[dict], object]) -> object:
        if not isinstance(of, str):
            return of(one)
        return seconds(one[of]) if of.endswith("_s") else size(one[of]) if of in ("before", "after", "peak", "disk") else one[of]

    return table(tuple(columns), [[cell(one, of) for of in columns.values()] for one in facts], left) if facts else ""


def terminal_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], figures: bool = False) -> Any:
    """A rich Table. figures: all columns but the first hold figures, which are right-aligned."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for i, column in enumerate(header):
        table.add_column(column, justify="right" if figures and i else "left", overflow="ellipsis" if figures else "fold")
    for row in rows:
        table.add_row(*row)
    return table


def folded(summary: str, text: str) -> str:
    """A block that is collapsed in the report."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


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


def milliseconds(value: float) -> str:
    return f"{value:.3g}"


def qps_spread(latency: dict) -> str:
    return f"{rate(latency['qps'])} [{rate(latency['qps_low'])}–{rate(latency['qps_high'])}]"


def recall_text(recall: dict) -> str:
    return f"{recall['mean']:.4f} [{recall['low']:.3f}–{recall['high']:.3f}]"
