"""What all plots share: colours and markers of the systems, axes, labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

INK, FAINT, _GRID, PAPER = "#1b1f24", "#7b8490", "#e6e9ed", "#ffffff"
_OURS = ("#d1345b", "#f08a4b")
_PEERS = (
    *("#2f6fb3", "#3a9d8f", "#8a5fbf", "#b0892b", "#5b7a3a", "#3fa0d0", "#a05a7a", "#64727f", "#c27ba0", "#2e8b57"),
    *("#9c6644", "#5566aa", "#0f7173", "#d4a017", "#6d597a", "#7fb069", "#1f3c88", "#7a6a53", "#00a6a6", "#4a7c59"),
)
_MARKERS = "osD^vP<>Xphd*8"
TARGET = 0.95


STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c4cad1",
    "axes.linewidth": 0.8,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
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


def new(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any):
    # Without pyplot, which would need a display and keep every figure in memory.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def title_of(figure: Any, title: str, below: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    figure.axes[0].set_title(below, loc="left", fontsize=10, color=FAINT, pad=10)


def thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def no_label(value: float, _: object = None) -> str:
    return ""


def spread_labels(axes: Any, labels: list[tuple[float, float, str, str]], pens: Pens) -> None:
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
