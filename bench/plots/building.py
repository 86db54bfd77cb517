"""Building, ingesting and changing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import metrics, tables
from .style import FAINT, INK, PAPER, TARGET, Pens, new, no_label, spread_labels, thousands, title_of


def bars(part: Any, dataset: str, pens: Pens):
    """Bars of build time, added memory and disk, side by side, with a row for each system."""
    built = part.operated("build", dataset)
    if not built:
        return None
    built = sorted({one["system"]: one for one in built}.values(), key=lambda one: one["build_s"])
    panels: list[tuple[str, Callable[[dict], float], Callable[[float], str]]] = [
        ("build", lambda one: one["build_s"], tables.seconds),
        ("memory added", lambda one: max(0, one["after"] - one["before"]), tables.size),
        ("disk", lambda one: one["disk"], tables.size),
    ]
    figure, [row] = new(10.5, 1.5 + 0.36 * len(built), 1, 3, sharey=True)
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
            text, x = show(shown), shown
            if name == "memory added" and peaks[y] > 1.05 * shown:
                text, x = f"{show(shown).removesuffix(' MiB')} → {show(peaks[y])}", peaks[y]
            axes.text(x + 0.03 * top, y, text, va="center", fontsize=8.5, color=INK)
        axes.set_xlim(0, 1.5 * top)
        axes.set_xticks([])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_title("memory added → at its peak" if name == "memory added" else name, loc="left", fontsize=10, color=FAINT)
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
    figure, [[axes]] = new(8.5, 5)
    labels = []
    for system in part.systems:
        mine = sorted((one for one in part.operated("ingest", dataset) if one["system"] == system), key=lambda one: one["batch"])
        if not mine:
            continue
        x, y = [one["batch"] for one in mine], [(one["rows"] - 1) / sum(one["batch_s"]) for one in mine]
        face = pens.colour[system] if mine[0]["durable"] else PAPER
        axes.plot(x, y, marker=pens.marker[system], markersize=7, markerfacecolor=face, **pens.line(system))
        labels.append((x[-1], y[-1], system, pens.colour[system]))
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(thousands)
        axis.set_minor_formatter(no_label)
    spread_labels(axes, labels, pens)
    axes.set_xlabel("points per call (log)")
    axes.set_ylabel("points per second (log)")
    title_of(figure, "Ingest: points per second", f"{dataset}; filled markers: durable when the call returns; hollow: not durable")
    return figure


def churn(part: Any, dataset: str, pens: Pens):
    """QPS at the target recall before the change, after it and after a restart. A cross with the recall where it was not reached."""
    stages = list(dict.fromkeys(one["stage"] for one in part.measurements))
    figure, [[axes]] = new(8.5, 5)
    labels = []
    for system in part.systems:
        points = []
        for x, stage in enumerate(stages):
            pairs = tables.points(part.measured(dataset, stage, system))
            if pairs:
                qps = metrics.at_recall(pairs, TARGET)
                points.append((x, qps if qps is not None else max(pairs)[1], qps is not None, max(pairs)[0]))
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], marker=pens.marker[system], markersize=7, **pens.line(system))
            for x, y, reached, recall in points:
                if not reached:
                    axes.scatter(x, y, marker="x", s=90, color=INK, zorder=6)
                    axes.annotate(f"only {recall:.2f}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8, color=FAINT)
            labels.append((*points[-1][:2], system, pens.colour[system]))
    axes.set_yscale("log")
    axes.set_xticks(range(len(stages)), stages)
    axes.yaxis.set_major_formatter(thousands)
    axes.yaxis.set_minor_formatter(no_label)
    axes.set_xlim(-0.2, len(stages) - 0.8)
    spread_labels(axes, labels, pens)
    axes.set_ylabel("requests per second (log)")
    title_of(figure, "Churn: 15 % updated, 15 % deleted, then a restart", f"{dataset}; the fastest setting with recall ≥ {TARGET:g}")
    return figure
