"""What tables and plots are made of: the results of one suite, figures in words, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Part:
    """The results of one suite."""

    def __init__(self, found: dict, suite: str):
        self.suite = suite
        self.measurements = [one for one in found["measurements"] if one["suite"] == suite]
        self.operations = [one for one in found["operations"] if one["suite"] == suite]
        self.loads = [one for one in found["loads"] if one["suite"] == suite]
        self.figures = [one for one in found.get("figures", ()) if one["suite"] == suite]
        self.cells = [one for one in found["cells"] if one["suite"] == suite]
        self._facts = self.measurements + self.operations + self.loads + self.figures
        order = [one["name"] for one in found["systems"]]
        self.systems = [name for name in order if any(one["system"] == name for one in self._facts)]
        self.datasets = list(dict.fromkeys(one["dataset"] for one in self._facts))
        self.there = bool(self.systems)

    def places(self) -> list[tuple[str, str, str]]:
        """(data set, stage, cell), in the order they were measured."""
        return list(dict.fromkeys((one["dataset"], one["stage"], one["cell"]) for one in self.measurements))

    def of(self, place: tuple[str, str, str], system: str) -> list[dict]:
        return [one for one in self.measurements if (one["dataset"], one["stage"], one["cell"]) == place and one["system"] == system]


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
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


def milliseconds(value: float) -> str:
    return f"{value:.3g}"


def qps_spread(latency: dict) -> str:
    return f"{rate(latency['qps'])} [{rate(latency['qps_low'])}–{rate(latency['qps_high'])}]"


def recall_text(recall: dict) -> str:
    return f"{recall['mean']:.4f} [{recall['low']:.3f}–{recall['high']:.3f}]"
