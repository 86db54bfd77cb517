"""Draw bench/figures/overview.png, the figure of README.md, from tables of bench/RESULTS.md: ``python tools/docs_figure.py``.

Needs matplotlib. Every number is read from that page; nothing is measured here.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "bench" / "figures" / "overview.png"
OURS, PEERS, INK = "#d1345b", "#8fa3b8", "#1b1f24"
K10, MEMORY = "k=10:", "memory added"  # columns of the tables "Dense": queries per second at recall 0.90, 0.95 and 0.99; memory
# (title, whether "higher" or "lower" is better, the data set, column, which of the numbers in a cell)
PANELS = (
    ("Texts of packages, 54k × 384\nqueries a second, recall 0.95", "higher", "debian_packages", K10, 1),
    ("Texts of packages, 54k × 384\nqueries a second, recall 0.99", "higher", "debian_packages", K10, 2),
    ("Fashion images, 60k × 784\nqueries a second, recall 0.95", "higher", "fashion-mnist", K10, 1),
    ("Texts of packages, 54k × 384\nmemory added, MiB", "lower", "debian_packages", MEMORY, 0),
)


def values(text: str, data: str, heading: str, place: int) -> list[tuple[str, float]]:
    """(system, number) of each row of the table of a data set. A row without that number is left out. heading: how its column begins."""
    head, table = re.search(rf"^## Dense: {data}\n\n(\|.*)\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE).groups()
    (column,) = [place for place, cell in enumerate(head.strip().strip("|").split("|")) if cell.strip().startswith(heading)]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    cells = [(row[0], row[column].split(" / ")[place]) for row in rows]
    return [(name, float(re.match(r"[\d,.]+", cell)[0].replace(",", ""))) for name, cell in cells if cell[:1].isdigit()]


def draw() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    text = (ROOT / "bench" / "RESULTS.md").read_text()
    figure, axes = pyplot.subplots(2, 2, figsize=(9.5, 4.4))
    for axis, (title, better, *where) in zip(axes.flat, PANELS, strict=True):
        rows = sorted(values(text, *where), key=lambda row: row[1], reverse=better == "lower")
        names = [name for name, _ in rows]
        bars = axis.barh(names, [value for _, value in rows], color=[OURS if name == "vectordb" else PEERS for name in names], height=0.66)
        axis.bar_label(bars, [f"{value:,.0f}" for _, value in rows], padding=4, color=INK, fontsize=9)
        axis.set_title(f"{title}, {better} is better", fontsize=10.5, loc="left", color=INK)
        axis.set_xlim(0, max(value for _, value in rows) * 1.28)
        axis.set_xticks([])
        axis.tick_params(left=False, labelcolor=INK, labelsize=10)
        for side in ("top", "right", "bottom", "left"):
            axis.spines[side].set_visible(False)
    figure.tight_layout(w_pad=2, h_pad=1.5)
    figure.savefig(TARGET, dpi=150, bbox_inches="tight", facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    draw()
