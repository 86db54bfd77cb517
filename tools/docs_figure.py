"""Draw bench/figures/overview.png, the figure of README.md, from tables of bench/RESULTS.md: ``python tools/docs_figure.py``.

Needs matplotlib. Every number is read from that page; nothing is measured here.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "bench" / "figures" / "overview.png"
OURS, PEERS, INK = "#d1345b", "#8fa3b8", "#1b1f24"
# (title, whether "higher" or "lower" is better, a text of RESULTS.md before the table, column of the table)
PANELS = (
    ("Embedded search, synthetic vectors\nqueries per second", "higher", "--systems vectordb,hnswlib,qdrant-edge,zvec` (500", 2),
    ("Embedded search, GloVe\nqueries per second", "higher", "--data glove-50-100k --systems vectordb", 2),
    ("Service, one client\nqueries per second", "higher", "`--suite service --data clustered-100k", 1),
    ("Memory added, synthetic vectors\nMiB", "lower", "--systems vectordb,hnswlib,qdrant-edge,zvec` (500", 5),
)


def values(text: str, before: str, column: int) -> list[tuple[str, float]]:
    """(system, number) of each row of the first table after the text ``before``. The number is the first one in the cell."""
    table = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", text[text.index(before) :], re.MULTILINE)[1]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    return [(row[0], float(re.match(r"[\d,.]+", row[column])[0].rstrip(",.").replace(",", ""))) for row in rows]


def draw() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    text = (ROOT / "bench" / "RESULTS.md").read_text()
    figure, axes = pyplot.subplots(2, 2, figsize=(9.5, 4.4))
    for axis, (title, better, before, column) in zip(axes.flat, PANELS, strict=True):
        rows = sorted(values(text, before, column), key=lambda row: row[1], reverse=better == "lower")
        names = [name.partition(",")[0] for name, _ in rows]
        bars = axis.barh(names, [value for _, value in rows], color=[OURS if name == "vectordb" else PEERS for name in names], height=0.66)
        axis.bar_label(bars, [f"{value:,.0f}" for _, value in rows], padding=4, color=INK, fontsize=9)
        axis.set_title(f"{title}, {better} is better", fontsize=10.5, loc="left", color=INK)
        axis.set_xlim(0, max(value for _, value in rows) * 1.28)
        axis.set_xticks([])
        axis.tick_params(left=False, labelcolor=INK, labelsize=10)
        for side in ("top", "right", "bottom", "left"):
            axis.spines[side].set_visible(False)
    figure.tight_layout(w_pad=2, h_pad=1.5)
    figure.savefig(TARGET, dpi=150, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    draw()
