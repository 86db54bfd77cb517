"""Recall against QPS, and latency percentiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import metrics, tables
from ..suites import TARGETS
from .style import FAINT, TARGET, Pens, new, no_label, spread_labels, thousands, title_of

_LEAST_RECALL = 0.5


def _nines(recall: np.ndarray | float) -> np.ndarray:
    """−log10(1 − recall): the number of nines. Recall 1.0 is drawn at .9999."""
    return -np.log10(np.maximum(1 - np.asarray(recall, dtype=float), 1e-4))


def curves(part: Any, place: tuple[str, str, str], pens: Pens):
    """Recall–QPS curves: a point for each setting, a line along the Pareto front, error bars over the repeats, labels at the right."""
    figure, [[axes]] = new(9.5, max(5.8, 0.34 * len(part.systems)))
    labels, left = [], 0
    for system in part.systems:
        measured = part.of(place, system)
        shown = [one for one in measured if one["recall"]["mean"] >= _LEAST_RECALL]
        left += len(measured) - len(shown)
        if not shown:
            continue
        recall, y = np.array(tables.points(shown)).T
        x = _nines(recall)
        low, high = (np.array([one["latency"][key] for one in shown]) for key in ("qps_low", "qps_high"))
        best = metrics.pareto(tables.points(shown))
        pen = pens.line(system)
        axes.errorbar(x, y, yerr=[y - low, high - y], fmt="none", ecolor=pen["color"], alpha=0.35, linewidth=1.2, zorder=2)
        axes.scatter(x, y, s=20, color=pen["color"], marker=pens.marker[system], alpha=0.35, linewidths=0, zorder=pen["zorder"])
        axes.plot(x[best], y[best], marker=pens.marker[system], markersize=6, markeredgecolor="white", markeredgewidth=0.8, **pen)
        labels.append((x[best[-1]], y[best[-1]], system, pen["color"]))
    axes.set_yscale("log")
    ticks = [value for value in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0) if value >= _LEAST_RECALL]
    axes.set_xticks(_nines(ticks), [f"{value:g}" if value < 1 else "1" for value in ticks])
    axes.set_xlim(*_ends(axes, _nines(1.0)))
    axes.yaxis.set_major_formatter(thousands)
    axes.yaxis.set_minor_formatter(no_label)
    for target in TARGETS:
        axes.axvline(_nines(target), color="#c4cad1", linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    spread_labels(axes, labels, pens)
    axes.set_xlabel(f"recall@{'100' if '100' in place[2] else '10'}, mean over queries")
    axes.set_ylabel("requests per second (log)")
    below = f"{place[0]}, {place[2]}: one request at a time; up and to the right is better; bars: lowest and highest repeat"
    title_of(
        figure,
        f"{part.suite.capitalize()}: recall against speed",
        below + (f"; {left} settings below {_LEAST_RECALL} not shown" if left else ""),
    )
    return figure


def _ends(axes: Any, most: float) -> tuple[float, float]:
    low = min((float(np.min(line.get_xdata())) for line in axes.get_lines() if len(line.get_xdata())), default=0.0)
    return min(low, float(_nines(0.9))) - 0.08, float(most) + 0.08


# Latency


def latency(part: Any, place: tuple[str, str, str], pens: Pens):
    """Latency percentiles of each system's fastest setting at the target recall, or of its setting with the highest recall."""
    chosen = []
    for system in part.systems:
        measured = part.of(place, system)
        if measured:
            good = [one for one in measured if one["recall"]["mean"] >= TARGET - 1e-9]
            one = max(good, key=lambda m: m["latency"]["qps"]) if good else max(measured, key=lambda m: m["recall"]["mean"])
            chosen.append((system, one["latency"], f"{tables.words(one['setting'])}, recall {one['recall']['mean']:.3f}"))
    if not chosen:
        return None
    below = f"{place[0]}, {place[2]}: the fastest setting with recall ≥ {TARGET:g}, one request at a time"
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
        chosen.append((system, one, f"{load}: {tables.rate(one['qps'])}/s" + (f", {late} timed out or failed" if late else "")))
    below = "open loop: a latency is measured from the time the request was scheduled"
    return _percentiles(chosen, "Service: latency of a request", below, pens, ordered=False)


def _percentiles(chosen: list[tuple[str, dict, str]], title: str, below: str, pens: Pens, ordered: bool = True):
    if ordered:
        chosen = sorted(chosen, key=lambda one: one[1]["p50_ms"])
    figure, [[axes]] = new(9.5, 1.7 + 0.52 * len(chosen))
    keys = [f"p{p:g}_ms" for p in metrics.PERCENTILES]
    for y, (system, values, note) in enumerate(chosen):
        x = [values[key] for key in keys]
        colour = pens.colour[system]
        axes.plot(x, [y] * len(x), color=colour, linewidth=3 if system in pens.ours else 2, alpha=0.35, solid_capstyle="round", zorder=2)
        for value, shade, area in zip(x, (1, 0.75, 0.5, 0.3), (70, 48, 36, 28), strict=True):
            axes.scatter(value, y, s=area, color=_mixed(colour, shade), zorder=4, linewidths=0)
        axes.annotate(note, (x[0], y), xytext=(0, 8), textcoords="offset points", fontsize=8, color=FAINT, ha="left")
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
    title_of(figure, title, below)
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
