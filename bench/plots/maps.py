"""Heat maps of filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import metrics, sections, tables
from ..filters import CORRELATIONS
from .style import FAINT, INK, PAPER, TARGET, new


def filter_summary(part: Any, dataset: str):
    """Heat map of all systems: a row for each system, a column for each correlation × selectivity, geometric means over filter shapes."""
    cells = sections.summary(part, dataset)
    shares = sorted({share for _, _, share in cells}, reverse=True)
    sides = [side for side in CORRELATIONS if any(key[1] == side for key in cells)]
    columns = [(side, share) for side in sides for share in shares]
    means = [mean for mean, _, _ in cells.values() if mean]
    if not means or len(part.systems) < 2:
        return None
    norm, colours = _scale(means), _map_colours()
    figure, [[place]] = new(max(7.5, 0.72 * len(columns) + 2), 0.5 * len(part.systems) + 2)
    place.grid(False)
    for y, system in enumerate(part.systems):
        for x, (side, share) in enumerate(columns):
            mean, reached, tried = cells.get((system, side, share), (None, 0, 0))
            share_of = f"{reached}/{tried}" if reached < tried else None
            _map_cell(place, x, y, mean, tables.short(mean) if mean else share_of or "·", norm, colours, hatched=bool(tried) and not mean)
            if mean and share_of:
                place.text(x + 0.95, y + 0.93, share_of, ha="right", va="bottom", fontsize=6.5, color="white" if norm(mean) > 0.55 else INK)
    _map_axes(place, "", columns, sides, shares, part.systems)
    shapes = {
        cell["where"]["shape"] for cell in part.cells if cell["dataset"] == dataset and cell.get("where", {}).get("correlation") in sides
    }
    over = next(iter(shapes)) if len(shapes) == 1 else f"over {len(shapes)} shapes of filters"
    title = f"Filtered search: requests per second at recall ≥ {TARGET:g}, {over}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    note = f"{dataset}; geometric means; small figures: shapes that reached {TARGET:g} of all shapes; hatched: no shape reached it"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9.5, color=FAINT)
    return figure


def _scale(rates: list[float]):
    from matplotlib.colors import LogNorm

    return LogNorm(min(rates), max(max(rates), min(rates) * 10))


def _map_cell(place: Any, x: int, y: int, qps: float | None, text: str, norm: Any, colours: Any, hatched: bool) -> None:
    from matplotlib.patches import Rectangle

    edge = "#d5d9de" if hatched else "white"
    face = colours(norm(qps)) if qps else "#f4f5f7"
    place.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=edge, linewidth=1.2, hatch="////" if hatched else None))
    colour = FAINT if not qps else "white" if norm(qps) > 0.55 else INK
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
    rates = [qps for cells in values.values() for qps, _ in cells.values() if qps]
    if not rates:
        return None
    norm = _scale(rates)
    across = 1 if len(columns) > 6 else 2
    down = math.ceil(len(part.systems) / across)
    wide, high = 0.52 * len(columns) * across + 2.4 * across, down * (0.36 * len(shapes) + 1.25) + 0.9
    figure, axes = new(max(wide, 7.5), high, down, across)
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
                text = tables.short(qps) if qps else f"{recall:.2f}" if recall is not None else "·"
                _map_cell(place, x, y, qps, text, norm, colours, hatched=qps is None and recall is not None)
        _map_axes(place, system, columns, sides, shares, shapes)
    title = f"Filtered search: requests per second at recall ≥ {TARGET:g}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    note = f"{dataset}; darker is faster; hatched: {TARGET:g} was not reached, the figure is the highest recall; ·: not run"
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9.5, color=FAINT)
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
        place.annotate(label, (middle, 0), ha="center", va="bottom", fontsize=8.5, color=FAINT, **above)
        if i:
            place.axvline(i * len(shares), color=PAPER, linewidth=5)
    place.set_title(system, loc="left", fontsize=11.5, fontweight="bold", pad=20)


def _reached(part: Any, dataset: str, system: str, grid: dict) -> dict:
    """(shape, correlation, selectivity) → (QPS at the target recall or None, highest recall)."""
    result = {}
    for one_place in part.places():
        if one_place[0] == dataset and one_place[2] in grid:
            measured = part.of(one_place, system)
            if measured:
                where = grid[one_place[2]]
                points = tables.points(measured)
                key = (where["shape"], where["correlation"], where["selectivity"])
                result[key] = (metrics.at_recall(points, TARGET), max(point[0] for point in points))
    return result


def _map_colours():
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sea", ["#edf4f1", "#b5d8d2", "#62aab0", "#2b7391", "#173f6b"])
