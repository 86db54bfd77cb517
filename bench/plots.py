"""Plots of results, as SVG and PNG: recall–QPS curves, heat maps of filters, latency percentiles, bars.

A system has the same colour and marker in every plot of a run. A variant of a system ("zvec-int8") has the same colour with dashed lines.
The axis of recall is logarithmic in 1 − recall, because the difference of .95 and .99 matters more than that of .50 and .54.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import metrics, report
from .filters import CORRELATIONS
from .suites import TARGETS

_INK, _FAINT, _GRID, _PAPER = "#1b1f24", "#7b8490", "#e6e9ed", "#ffffff"
_OURS = ("#d1345b", "#f08a4b")
_PEERS = (
    *("#2f6fb3", "#3a9d8f", "#8a5fbf", "#b0892b", "#5b7a3a", "#3fa0d0", "#a05a7a", "#64727f", "#c27ba0", "#2e8b57"),
    *("#9c6644", "#5566aa", "#0f7173", "#d4a017", "#6d597a", "#7fb069", "#1f3c88", "#7a6a53", "#00a6a6", "#4a7c59"),
)
_MARKERS = "osD^vP<>Xphd*8"
_TARGET = 0.95
_LEAST_RECALL = 0.5


def draw(found: dict, folder: Path) -> dict[str, list[str]]:
    """Draw all plots of the results into a folder. Returns suite → file names of the PNGs. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    pens = Pens({one["name"]: one["kind"] for one in found["systems"]})
    with matplotlib.rc_context(_STYLE):
        for suite, name, figure in _figures(found, pens):
            for kind in ("png", "svg"):
                figure.savefig(folder / f"{name}.{kind}", dpi=160, bbox_inches="tight", pad_inches=0.25)
            _fewer_colours(folder / f"{name}.png")
            names.setdefault(suite, []).append(f"{name}.png")
            figure.clear()
    return names


def _fewer_colours(path: Path) -> None:
    """Reduce a PNG to a palette of 256 colours, which makes the file a third as large without a visible difference."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#c4cad1",
    "axes.linewidth": 0.8,
    "axes.facecolor": _PAPER,
    "figure.facecolor": _PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "vectordb",  # makes the SVG files deterministic
}


class Pens:
    """Colour, marker and line style of each system. kinds: system name → "ours", "library", "database" or "server"."""

    def __init__(self, kinds: dict[str, str]):
        self.ours = {name for name, kind in kinds.items() if kind == "ours"}
        mine, peers = [name for name in kinds if name in self.ours], [name for name in kinds if name not in self.ours]
        # A variant's name begins with the name of its system. Milvus Lite is an exception: it is not a variant of the server.
        first = {name: next((one for one in peers if name.startswith(f"{one}-") and kinds[one] == kinds[name]), name) for name in peers}
        heads = list(dict.fromkeys(first.values()))
        self.colour = {name: _OURS[i % len(_OURS)] for i, name in enumerate(mine)}
        self.colour |= {name: _PEERS[heads.index(first[name]) % len(_PEERS)] for name in peers}
        self.marker = {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate([*mine, *peers])}
        self.dashed = {name for name in peers if first[name] != name}

    def line(self, name: str) -> dict:
        mine = name in self.ours
        dash = {"linestyle": (0, (4, 1.6)), "dash_capstyle": "butt"} if name in self.dashed else {"solid_capstyle": "round"}
        return {"color": self.colour[name], "linewidth": 2.6 if mine else 1.6, "zorder": 5 if mine else 3, **dash}


def _figures(found: dict, pens: Pens):
    """Yield (suite, file name, matplotlib figure) of every plot."""
    for suite in ("dense", "sparse", "hybrid"):
        part = report._Part(found, suite)
        for place in part.places():
            yield suite, _name(suite, *place), curves(part, place, pens)
            tails = latency(part, place, pens)
            if tails is not None:
                yield suite, _name(suite, "latency", *place), tails
    part = report._Part(found, "filtered")
    for dataset in part.datasets:
        for name, made in (("summary", filter_summary(part, dataset)), ("", filter_map(part, dataset))):
            if made is not None:
                yield "filtered", _name("filtered", name, dataset), made
    for suite in ("dense", "sparse", "footprint"):
        part = report._Part(found, suite)
        for dataset in part.datasets:
            figure = bars(part, dataset, pens)
            if figure is not None:
                yield suite, _name(suite, "build", dataset), figure
    part = report._Part(found, "ingest")
    for dataset in part.datasets:
        yield "ingest", _name("ingest", dataset), ingest(part, dataset, pens)
    part = report._Part(found, "churn")
    for dataset in part.datasets:
        yield "churn", _name("churn", dataset), churn(part, dataset, pens)
    part = report._Part(found, "service")
    if part.loads:
        yield "service", "service", loads(part, pens)


def _name(*parts: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts if part)


def _new(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any):
    # Without pyplot, which would need a display and keep every figure in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _title(figure: Any, title: str, below: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    figure.axes[0].set_title(below, loc="left", fontsize=10, color=_FAINT, pad=10)


# Recall against QPS


def _nines(recall: np.ndarray | float) -> np.ndarray:
    """−log10(1 − recall): the number of nines. Recall 1.0 is drawn at .9999."""
    return -np.log10(np.maximum(1 - np.asarray(recall, dtype=float), 1e-4))


def curves(part: Any, place: tuple[str, str, str], pens: Pens):
    """Recall–QPS curves: a point for each setting, a line along the Pareto front, error bars over the repeats, labels at the right."""
    figure, [[axes]] = _new(9.5, max(5.8, 0.34 * len(part.systems)))
    labels, left = [], 0
    for system in part.systems:
        measured = part.of(place, system)
        shown = [one for one in measured if one["recall"]["mean"] >= _LEAST_RECALL]
        left += len(measured) - len(shown)
        if not shown:
            continue
        x = _nines([one["recall"]["mean"] for one in shown])
        y = np.array([one["latency"]["qps"] for one in shown])
        low, high = (np.array([one["latency"][key] for one in shown]) for key in ("qps_low", "qps_high"))
        best = metrics.pareto([(one["recall"]["mean"], one["latency"]["qps"]) for one in shown])
        pen = pens.line(system)
        axes.errorbar(x, y, yerr=[y - low, high - y], fmt="none", ecolor=pen["color"], alpha=0.35, linewidth=1.2, zorder=2)
        axes.scatter(x, y, s=20, color=pen["color"], marker=pens.marker[system], alpha=0.35, linewidths=0, zorder=pen["zorder"])
        axes.plot(x[best], y[best], marker=pens.marker[system], markersize=6, markeredgecolor="white", markeredgewidth=0.8, **pen)
        labels.append((x[best[-1]], y[best[-1]], system, pen["color"]))
    axes.set_yscale("log")
    ticks = [value for value in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0) if value >= _LEAST_RECALL]
    axes.set_xticks(_nines(ticks), [f"{value:g}" if value < 1 else "1" for value in ticks])
    axes.set_xlim(*_ends(axes, _nines(1.0)))
    axes.yaxis.set_major_formatter(_thousands)
    axes.yaxis.set_minor_formatter(_none)
    for target in TARGETS:
        axes.axvline(_nines(target), color="#c4cad1", linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    _spread_labels(axes, labels, pens)
    axes.set_xlabel(f"recall@{'100' if '100' in place[2] else '10'}, mean over queries")
    axes.set_ylabel("requests per second (log)")
    below = f"{place[0]}, {place[2]}: one request at a time; up and to the right is better; bars: lowest and highest repeat"
    _title(
        figure,
        f"{part.suite.capitalize()}: recall against speed",
        below + (f"; {left} settings below {_LEAST_RECALL} not shown" if left else ""),
    )
    return figure


def _ends(axes: Any, most: float) -> tuple[float, float]:
    low = min((float(np.min(line.get_xdata())) for line in axes.get_lines() if len(line.get_xdata())), default=0.0)
    return min(low, float(_nines(0.9))) - 0.08, float(most) + 0.08


def _thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _none(value: float, _: object = None) -> str:
    return ""


def _spread_labels(axes: Any, labels: list[tuple[float, float, str, str]], pens: Pens) -> None:
    """Draw the system names right of the plot, in the order of the curves' ends and without overlap.

    A thin line leads from each name to the edge of the plot, at the height of the curve's end. Dots lead from there to a curve that ends
    further left. So the lines never cross.
    """
    if not labels:
        return
    low, high = axes.get_ylim()
    edge = axes.get_xlim()[1]
    span = math.log10(high / low)
    room = 0.3 / axes.figure.get_size_inches()[1]  # height of a line of text
    heights = [math.log10(y / low) / span for _, y, _, _ in labels]
    for i, height in zip(np.argsort(heights), _apart(sorted(heights), room), strict=True):
        x, y, name, colour = labels[i]
        axes.plot([x, edge], [y, y], color=colour, linewidth=0.8, linestyle=(0, (1, 2.5)), alpha=0.6, zorder=2, scalex=False)
        axes.annotate(
            name,
            xy=(edge, y),
            xytext=(1.035, height),
            textcoords=axes.transAxes,
            ha="left",
            va="center",
            color=colour,
            fontweight="bold" if name in pens.ours else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "alpha": 0.45,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _apart(heights: Sequence[float], room: float) -> list[float]:
    """Move ascending heights so that they are at least ``room`` apart, with the least sum of squared moves (isotonic regression)."""
    pools: list[list[float]] = []  # [sum, count] of heights less the room below them
    for i, height in enumerate(heights):
        pools.append([height - i * room, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    level = [total / count for total, count in pools for _ in range(int(count))]
    placed = [height + i * room for i, height in enumerate(level)]
    return [max(height, i * room) for i, height in enumerate(placed)]  # none below the plot


# Filters


def filter_summary(part: Any, dataset: str):
    """Heat map of all systems: a row for each system, a column for each correlation × selectivity, geometric means over filter shapes."""
    found = report.summary(part, dataset)
    shares = sorted({share for _, _, share in found}, reverse=True)
    sides = [side for side in CORRELATIONS if any(key[1] == side for key in found)]
    columns = [(side, share) for side in sides for share in shares]
    known = [mean for mean, _, _ in found.values() if mean]
    if not known or len(part.systems) < 2:
        return None
    norm, colours = _scale(known), _map_colours()
    figure, [[place]] = _new(max(7.5, 0.72 * len(columns) + 2), 0.5 * len(part.systems) + 2)
    place.grid(False)
    for y, system in enumerate(part.systems):
        for x, (side, share) in enumerate(columns):
            mean, reached, tried = found.get((system, side, share), (None, 0, 0))
            share_of = f"{reached}/{tried}" if reached < tried else None
            _map_cell(place, x, y, mean, report.short(mean) if mean else share_of or "·", norm, colours, hatched=bool(tried) and not mean)
            if mean and share_of:
                place.text(
                    x + 0.95, y + 0.93, share_of, ha="right", va="bottom", fontsize=6.5, color="white" if norm(mean) > 0.55 else _INK
                )
    _map_axes(place, "", columns, sides, shares, part.systems)
    shapes = {
        cell["where"]["shape"] for cell in part.cells if cell["dataset"] == dataset and cell.get("where", {}).get("correlation") in sides
    }
    over = next(iter(shapes)) if len(shapes) == 1 else f"over {len(shapes)} shapes of filters"
    title = f"Filtered search: requests per second at recall ≥ {_TARGET:g}, {over}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    note = f"{dataset}; geometric means; small figures: shapes that reached {_TARGET:g} of all shapes; hatched: no shape reached it"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9.5, color=_FAINT)
    return figure


def _scale(known: list[float]):
    from matplotlib.colors import LogNorm

    return LogNorm(min(known), max(max(known), min(known) * 10))


def _map_cell(place: Any, x: int, y: int, qps: float | None, text: str, norm: Any, colours: Any, hatched: bool) -> None:
    from matplotlib.patches import Rectangle

    edge = "#d5d9de" if hatched else "white"
    face = colours(norm(qps)) if qps else "#f4f5f7"
    place.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=edge, linewidth=1.2, hatch="////" if hatched else None))
    colour = _FAINT if not qps else "white" if norm(qps) > 0.55 else _INK
    place.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=8, color=colour)


def filter_map(part: Any, dataset: str):
    """A heat map for each system: a row for each filter, a column for each selectivity × correlation. Colour: QPS at the target recall."""
    about = {one["cell"]: one["where"] for one in part.cells if one["dataset"] == dataset and one.get("where")}
    grid = {cell: where for cell, where in about.items() if where["correlation"] in CORRELATIONS}
    if not grid:
        return None
    shapes = list(dict.fromkeys(where["shape"] for where in grid.values()))
    shares = sorted({where["selectivity"] for where in grid.values()}, reverse=True)
    sides = [side for side in CORRELATIONS if any(where["correlation"] == side for where in grid.values())]
    columns = [(side, share) for side in sides for share in shares]
    values = {system: _reached(part, dataset, system, grid) for system in part.systems}
    known = [qps for cells in values.values() for qps, _ in cells.values() if qps]
    if not known:
        return None
    norm = _scale(known)
    across = 1 if len(columns) > 6 else 2
    down = math.ceil(len(part.systems) / across)
    wide, high = 0.52 * len(columns) * across + 2.4 * across, down * (0.36 * len(shapes) + 1.25) + 0.9
    figure, axes = _new(max(wide, 7.5), high, down, across)
    figure.get_layout_engine().set(h_pad=0.16)  # so each title is nearer to its own map
    colours = _map_colours()
    for number, place in enumerate(axes.flat):
        if number >= len(part.systems):
            place.set_visible(False)
            continue
        system = part.systems[number]
        place.grid(False)
        for x, (side, share) in enumerate(columns):
            for y, shape in enumerate(shapes):
                qps, recall = values[system].get((shape, side, share), (None, None))
                text = report.short(qps) if qps else f"{recall:.2f}" if recall is not None else "·"
                _map_cell(place, x, y, qps, text, norm, colours, hatched=qps is None and recall is not None)
        _map_axes(place, system, columns, sides, shares, shapes)
    title = f"Filtered search: requests per second at recall ≥ {_TARGET:g}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    note = f"{dataset}; darker is faster; hatched: {_TARGET:g} was not reached, the figure is the highest recall; ·: not run"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9.5, color=_FAINT)
    return figure


def _map_axes(place: Any, system: str, columns: list, sides: list, shares: list, shapes: list) -> None:
    place.set_xlim(0, len(columns))
    place.set_ylim(len(shapes), 0)
    place.set_xticks(np.arange(len(columns)) + 0.5, [f"{share * 100:g}%" for _, share in columns], fontsize=8.5)
    place.set_yticks(np.arange(len(shapes)) + 0.5, shapes, fontsize=9)
    place.tick_params(length=0)
    for spine in place.spines.values():
        spine.set_visible(False)
    for i, side in enumerate(sides):
        label, middle = f"correlation {side}" if side == "none" else side, (i + 0.5) * len(shares)
        above = {"xytext": (0, 4), "textcoords": "offset points", "annotation_clip": False}
        place.annotate(label, (middle, 0), ha="center", va="bottom", fontsize=8.5, color=_FAINT, **above)
        if i:
            place.axvline(i * len(shares), color=_PAPER, linewidth=5)
    place.set_title(system, loc="left", fontsize=11.5, fontweight="bold", pad=20)


def _reached(part: Any, dataset: str, system: str, grid: dict) -> dict:
    """(shape, correlation, selectivity) → (QPS at the target recall or None, highest recall)."""
    result = {}
    for one_place in part.places():
        if one_place[0] == dataset and one_place[2] in grid:
            measured = part.of(one_place, system)
            if measured:
                where = grid[one_place[2]]
                points = [(one["recall"]["mean"], one["latency"]["qps"]) for one in measured]
                key = (where["shape"], where["correlation"], where["selectivity"])
                result[key] = (metrics.at_recall(points, _TARGET), max(point[0] for point in points))
    return result


def _map_colours():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sea", ["#edf4f1", "#b5d8d2", "#62aab0", "#2b7391", "#173f6b"])


# Latency


def latency(part: Any, place: tuple[str, str, str], pens: Pens):
    """Latency percentiles of each system's fastest setting at the target recall, or of its setting with the highest recall."""
    chosen = []
    for system in part.systems:
        measured = part.of(place, system)
        if measured:
            good = [one for one in measured if one["recall"]["mean"] >= _TARGET - 1e-9]
            one = max(good, key=lambda m: m["latency"]["qps"]) if good else max(measured, key=lambda m: m["recall"]["mean"])
            chosen.append((system, one["latency"], f"{report.words(one['setting'])}, recall {one['recall']['mean']:.3f}"))
    if not chosen:
        return None
    below = f"{place[0]}, {place[2]}: the fastest setting with recall ≥ {_TARGET:g}, one request at a time"
    return _percentiles(chosen, f"{part.suite.capitalize()}: latency of a request", below, pens)


def loads(part: Any, pens: Pens):
    """Latency percentiles of the service suite: a line for each system and load, from the repeat with the median rate."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for one in part.loads:
        if "p50_ms" in one:
            groups.setdefault((one["system"], one["load"]), []).append(one)
    chosen = []
    for (system, load), repeats in groups.items():
        one = sorted(repeats, key=lambda r: r["qps"])[len(repeats) // 2]
        late = one["timed_out"] + one["failed"]
        chosen.append((system, one, f"{load}: {report.rate(one['qps'])}/s" + (f", {late} timed out or failed" if late else "")))
    below = "open loop: a latency is measured from the time the request was scheduled"
    return _percentiles(chosen, "Service: latency of a request", below, pens, ordered=False)


def _percentiles(chosen: list[tuple[str, dict, str]], title: str, below: str, pens: Pens, ordered: bool = True):
    if ordered:
        chosen = sorted(chosen, key=lambda one: one[1]["p50_ms"])
    figure, [[axes]] = _new(9.5, 1.7 + 0.52 * len(chosen))
    keys = [f"p{p:g}_ms" for p in metrics.PERCENTILES]
    for y, (system, values, note) in enumerate(chosen):
        x = [values[key] for key in keys]
        colour = pens.colour[system]
        axes.plot(x, [y] * len(x), color=colour, linewidth=3 if system in pens.ours else 2, alpha=0.35, solid_capstyle="round", zorder=2)
        for value, shade, area in zip(x, (1, 0.75, 0.5, 0.3), (70, 48, 36, 28), strict=True):
            axes.scatter(value, y, s=area, color=_mixed(colour, shade), zorder=4, linewidths=0)
        axes.annotate(note, (x[0], y), xytext=(0, 8), textcoords="offset points", fontsize=8, color=_FAINT, ha="left")
    axes.set_yticks(range(len(chosen)), [name for name, _, _ in chosen])
    for tick, (name, _, _) in zip(axes.get_yticklabels(), chosen, strict=True):
        tick.set_color(pens.colour[name])
        tick.set_fontweight("bold" if name in pens.ours else "normal")
    axes.set_ylim(len(chosen) - 0.4, -0.75)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_number)
    axes.xaxis.set_minor_formatter(_sparse_minor)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("milliseconds (log); dots from left to right: p50, p95, p99, p99.9")
    _title(figure, title, below)
    return figure


def _number(value: float, _: object = None) -> str:
    return f"{value:g}"


def _sparse_minor(value: float, _: object = None) -> str:
    """Label 2 and 5 of each decade, because a short axis would have only one label otherwise."""
    lead = value / 10 ** math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:g}" if round(lead, 3) in (2, 5) else ""


def _mixed(colour: str, share: float) -> tuple[float, ...]:
    """The colour mixed with white."""
    from matplotlib.colors import to_rgb

    return tuple(share * part + (1 - share) for part in to_rgb(colour))


# Building


def bars(part: Any, dataset: str, pens: Pens):
    """Bars of build time, added memory and disk, side by side, with a row for each system."""
    built = [one for one in part.operations if one["op"] == "build" and one["dataset"] == dataset]
    if not built:
        return None
    built = sorted({one["system"]: one for one in built}.values(), key=lambda one: one["build_s"])
    panels: list[tuple[str, Callable[[dict], float], Callable[[float], str]]] = [
        ("build", lambda one: one["build_s"], report.seconds),
        ("memory added", lambda one: max(0, one["after"] - one["before"]), report.size),
        ("disk", lambda one: one["disk"], report.size),
    ]
    figure, [row] = _new(10.5, 1.5 + 0.36 * len(built), 1, 3, sharey=True)
    for axes, (name, value, show) in zip(row, panels, strict=True):
        values = [value(one) for one in built]
        colours = [pens.colour[one["system"]] for one in built]
        axes.barh(range(len(built)), values, color=colours, height=0.62, alpha=0.9)
        top = max(values) or 1
        if name == "memory added":  # a tick marks the peak
            peaks = [max(0, one["peak"] - one["before"]) for one in built]
            axes.scatter(peaks, range(len(built)), marker="|", s=110, color=colours, zorder=4, linewidths=1.6)
            top = max(top, *peaks)
        for y, shown in enumerate(values):
            text, at = show(shown), shown
            if name == "memory added" and peaks[y] > 1.05 * shown:
                text, at = f"{show(shown).removesuffix(' MiB')} → {show(peaks[y])}", peaks[y]
            axes.text(at + 0.03 * top, y, text, va="center", fontsize=8.5, color=_INK)
        axes.set_xlim(0, 1.5 * top)
        axes.set_xticks([])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_title("memory added → at its peak" if name == "memory added" else name, loc="left", fontsize=10, color=_FAINT)
    row[0].set_yticks(range(len(built)), [one["system"] for one in built])
    row[0].set_ylim(len(built) - 0.4, -0.6)
    for axes in row:
        axes.tick_params(axis="y", length=0)
    for tick, one in zip(row[0].get_yticklabels(), built, strict=True):
        tick.set_fontweight("bold" if one["system"] in pens.ours else "normal")
    figure.suptitle(f"Building {built[0]['points']:,} points: {dataset}", x=0.01, ha="left", fontsize=14, fontweight="bold")
    return figure


def ingest(part: Any, dataset: str, pens: Pens):
    """Points per second by batch size. Markers are hollow where a batch is not durable when the call returns."""
    figure, [[axes]] = _new(8.5, 5)
    labels = []
    for system in part.systems:
        mine = sorted(
            (one for one in part.operations if one["system"] == system and one["dataset"] == dataset), key=lambda one: one["batch"]
        )
        if not mine:
            continue
        x, y = [one["batch"] for one in mine], [(one["rows"] - 1) / sum(one["batch_s"]) for one in mine]
        face = pens.colour[system] if mine[0]["durable"] else _PAPER
        axes.plot(x, y, marker=pens.marker[system], markersize=7, markerfacecolor=face, **pens.line(system))
        labels.append((x[-1], y[-1], system, pens.colour[system]))
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_thousands)
        axis.set_minor_formatter(_none)
    _spread_labels(axes, labels, pens)
    axes.set_xlabel("points per call (log)")
    axes.set_ylabel("points per second (log)")
    _title(figure, "Ingest: points per second", f"{dataset}; filled markers: durable when the call returns; hollow: not durable")
    return figure


def churn(part: Any, dataset: str, pens: Pens):
    """QPS at the target recall before the change, after it and after a restart. A cross with the recall where it was not reached."""
    stages = list(dict.fromkeys(one["stage"] for one in part.measurements))
    figure, [[axes]] = _new(8.5, 5)
    labels = []
    for system in part.systems:
        points = []
        for x, stage in enumerate(stages):
            mine = [one for one in part.measurements if (one["dataset"], one["stage"], one["system"]) == (dataset, stage, system)]
            if mine:
                pairs = [(one["recall"]["mean"], one["latency"]["qps"]) for one in mine]
                qps = metrics.at_recall(pairs, _TARGET)
                points.append((x, qps if qps is not None else max(pairs)[1], qps is not None, max(pairs)[0]))
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], marker=pens.marker[system], markersize=7, **pens.line(system))
            for x, y, reached, recall in points:
                if not reached:
                    axes.scatter(x, y, marker="x", s=90, color=_INK, zorder=6)
                    axes.annotate(f"only {recall:.2f}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8, color=_FAINT)
            labels.append((*points[-1][:2], system, pens.colour[system]))
    axes.set_yscale("log")
    axes.set_xticks(range(len(stages)), stages)
    axes.yaxis.set_major_formatter(_thousands)
    axes.yaxis.set_minor_formatter(_none)
    axes.set_xlim(-0.2, len(stages) - 0.8)
    _spread_labels(axes, labels, pens)
    axes.set_ylabel("requests per second (log)")
    _title(figure, "Churn: 15 % updated, 15 % deleted, then a restart", f"{dataset}; the fastest setting with recall ≥ {_TARGET:g}")
    return figure
