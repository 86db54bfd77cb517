"""Plots of results, as SVG and PNG: recall–QPS curves, heat maps of filters, latency percentiles, bars.

A system has the same colour and marker in every plot of a run. A variant of a system ("zvec-int8") has the same colour with dashed lines.
The axis of recall is logarithmic in 1 − recall, because the difference of .95 and .99 matters more than that of .50 and .54.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ..tables import Part
from .building import bars, churn, ingest
from .curves import curves, latency, loads
from .maps import filter_map, filter_summary
from .style import STYLE, Pens


def draw(results: dict, folder: Path) -> dict[str, list[str]]:
    """Draw all plots of the results into a folder. Returns suite → file names of the PNGs. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    pens = Pens({one["name"]: one["kind"] for one in results["systems"]})
    with matplotlib.rc_context(STYLE):
        for suite, name, figure in _figures(results, pens):
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


def _figures(results: dict, pens: Pens):
    """Yield (suite, file name, matplotlib figure) of every plot."""
    for suite in ("dense", "sparse", "hybrid"):
        part = Part(results, suite)
        for place in part.places():
            yield suite, _name(suite, *place), curves(part, place, pens)
            tails = latency(part, place, pens)
            if tails is not None:
                yield suite, _name(suite, "latency", *place), tails
    part = Part(results, "filtered")
    for dataset in part.datasets:
        for name, heat_map in (("summary", filter_summary(part, dataset)), ("", filter_map(part, dataset))):
            if heat_map is not None:
                yield "filtered", _name("filtered", name, dataset), heat_map
    for suite in ("dense", "sparse", "footprint"):
        part = Part(results, suite)
        for dataset in part.datasets:
            figure = bars(part, dataset, pens)
            if figure is not None:
                yield suite, _name(suite, "build", dataset), figure
    for suite, plot in (("ingest", ingest), ("churn", churn)):
        part = Part(results, suite)
        for dataset in part.datasets:
            yield suite, _name(suite, dataset), plot(part, dataset, pens)
    part = Part(results, "service")
    if part.loads:
        yield "service", "service", loads(part, pens)


def _name(*parts: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts if part)
