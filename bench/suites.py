"""The suites as data: the stages that a system goes through, and the cells that are searched after each.

A stage has operations (build, change, restart, …), which one system after the other carries out while the others rest. Then come cells:
searches that all systems do in turn. The module ``run`` carries them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import filters
from .data import Dataset
from .filters import Where

TARGETS = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class Scale:
    """The size of a run. cap: longest time of one pass over the queries, in seconds. ingest: rows for each batch size."""

    queries: int = 500
    repeats: int = 3
    cap: float = 20.0
    ingest: int = 20_000
    load_seconds: float = 10.0
    clients: tuple[int, ...] = (1, 8, 32)
    full_grid: bool = True


QUICK = Scale(queries=100, repeats=3, cap=2.0, ingest=2_000, load_seconds=1.5, clients=(1, 8), full_grid=False)


@dataclass
class Cell:
    """A set of requests: k, and optionally a filter for each query. quality: also compute nDCG, recall and MRR from the judgements."""

    name: str
    k: int = 10
    where: Where | None = None
    quality: bool = False


@dataclass(frozen=True)
class Load:
    """Requests of several clients.

    mode "closed": each client sends its next request as soon as it has an answer. mode "open": requests are scheduled at random times
    (Poisson), at ``share`` × the highest rate of the closed loops, whether earlier ones are answered or not. Latency is measured from the
    scheduled time.
    """

    mode: str
    clients: int
    share: float = 0.0

    @property
    def name(self) -> str:
        return (
            f"{self.clients} client{'s' * (self.clients > 1)}, closed loop" if self.mode == "closed" else f"open loop at {self.share:.0%}"
        )


@dataclass
class Stage:
    name: str
    ops: list[tuple[str, dict]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    changed: bool = False  # the ground truth is that of the data after ``change``


@dataclass
class Suite:
    """A suite. arm: "dense", "sparse" or "hybrid". needs: what a system must support (``System.does``). attributes: those to load."""

    name: str
    arm: str
    needs: frozenset[str]
    stages: list[Stage]
    attributes: list[str] = field(default_factory=list)
    sweeps: bool = True  # measure all settings of a system, or only one


ABOUT = {
    "dense": "recall against QPS for every setting of every system, k = 10 and 100",
    "filtered": "13 filter shapes × selectivity 50, 10, 1, 0.1 % × correlation none, positive, negative; the data's own attributes",
    "sparse": "recall against QPS on learned sparse vectors",
    "hybrid": "dense + sparse, fused by reciprocal rank: recall against the exact fusion; nDCG and MRR if the data has judgements",
    "ingest": "points per second by batch size, with durable writes; slowest batch; time until a new point is found",
    "churn": "recall and QPS after 30 % of the points were updated or deleted, and after a restart",
    "service": "latency percentiles and time-outs with 1, 8 and 32 clients, closed loop and open loop",
    "footprint": "peak memory, disk, and the time to open with a cold and a warm page cache",
}
# Times that `vectordb bench list` shows, from the first run with all peers (RESULTS.md): two cores of an AMD EPYC (Zen 5), shared with
# other work. "≈" marks an estimate for 100k × 384. The default queries and repeats take longer than those of that run.
TIMES = {
    "dense": "28 min for 20 systems, 100k × 384, 200 queries × 2 repeats; 18 min for 100k × 50",
    "filtered": "8 min to build 9 systems, 50k × 384; then 14 s per cell of 40 queries, 156 cells",
    "sparse": "10 min for 10 systems, 20k, 200 queries × 2 repeats; builds at 100k: Seismic 4 min, kannolo 10, zvec over 20",
    "hybrid": "6 min for 6 systems, 20k, 100 queries × 2 repeats",
    "ingest": "≈ 1–3 min per system",
    "churn": "≈ 4 min per system",
    "service": "≈ 2 min per system",
    "footprint": "≈ 2 min per system",
}
DEFAULT_DATA = {
    "dense": "clustered-100k",
    "filtered": "clustered-100k",
    "sparse": "sparse-100k",
    "hybrid": "hybrid-100k",
    "ingest": "clustered-100k",
    "churn": "clustered-100k",
    "service": "clustered-100k",
    "footprint": "clustered-100k",
}


def make(name: str, dataset: Dataset, scale: Scale, own: Sequence[int] | None, cells: str | None = None) -> Suite:
    """The suite for a data set. own: ``place`` of each query, for correlated filters. cells: keep only cells whose name contains it."""
    suite = _MAKERS[name](dataset, scale, own)
    if cells:
        for stage in suite.stages:
            stage.cells = [cell for cell in stage.cells if cells in cell.name]
    used = {name for stage in suite.stages for cell in stage.cells if cell.where for name in cell.where.fields()}
    return replace(suite, attributes=sorted(used | set(suite.attributes)))


def _plain(scale: Scale) -> list[Cell]:
    return [Cell("k=10"), Cell("k=100", 100)] if scale.full_grid else [Cell("k=10")]


def _dense(dataset: Dataset, scale: Scale, own) -> Suite:
    return Suite("dense", "dense", frozenset({"dense"}), [Stage("built", [("build", {})], _plain(scale))])


def _sparse(dataset: Dataset, scale: Scale, own) -> Suite:
    return Suite("sparse", "sparse", frozenset({"sparse"}), [Stage("built", [("build", {})], [Cell("k=10", quality=True)])])


def _hybrid(dataset: Dataset, scale: Scale, own) -> Suite:
    cells = [Cell("k=10", quality=True)] + ([Cell("k=100", 100, quality=True)] if scale.full_grid else [])
    return Suite("hybrid", "hybrid", frozenset({"hybrid"}), [Stage("built", [("build", {})], cells)])


def _filtered(dataset: Dataset, scale: Scale, own) -> Suite:
    q = dataset.query_count if own is None else len(own)
    known = dict(dataset.attributes)
    cells: list[Where] = []
    if own is not None and "place" in known:
        shapes, shares = (filters.SHAPES, filters.SELECTIVITIES) if scale.full_grid else (("equality", "range"), (0.1, 0.01))
        cells += filters.grid(len(dataset), own, shapes, shares)
    made = _grid_attributes()
    cells += filters.natural({k: v for k, v in known.items() if k not in made}, len(dataset), min(q, scale.queries))
    cells_of = [Cell(where.name, where=where) for where in cells]
    arm = "dense" if dataset.vectors is not None else "sparse"
    return Suite("filtered", arm, frozenset({arm, "filtered"}), [Stage("built", [("build", {})], cells_of)])


def _grid_attributes() -> set[str]:
    from .data import synthetic

    return set(synthetic.attributes_of(np.arange(2), np.random.default_rng(0)))


def _ingest(dataset: Dataset, scale: Scale, own) -> Suite:
    """A stage for each batch size. Fewer rows are written one by one, because each call is a commit."""
    sizes = {1: max(100, scale.ingest // 100), 100: scale.ingest // 4, 1000: scale.ingest, 10_000: 2 * scale.ingest}
    ops = [("ingest", {"batch": batch, "rows": min(rows, len(dataset))}) for batch, rows in sizes.items() if batch <= scale.ingest]
    kept = [name for name in ("u_100", "price") if name in dataset.attributes]
    arm = "dense" if dataset.vectors is not None else "sparse"
    return Suite("ingest", arm, frozenset({arm}), [Stage(f"batches of {op[1]['batch']:,}", [op]) for op in ops], kept)


def _churn(dataset: Dataset, scale: Scale, own) -> Suite:
    stages = [
        Stage("built", [("build", {})], [Cell("k=10")]),
        Stage("30 % changed", [("change", {"share": 0.15})], [Cell("k=10")], changed=True),
        Stage("restarted", [("restart", {})], [Cell("k=10")], changed=True),
    ]
    return Suite("churn", "dense", frozenset({"dense", "delete"}), stages)


def _service(dataset: Dataset, scale: Scale, own) -> Suite:
    loads = [Load("closed", clients) for clients in scale.clients]
    loads += [Load("open", scale.clients[-1], share) for share in (0.5, 0.8)]
    stage = Stage("served", [("build", {})], [Cell("k=10")], loads)
    return Suite("service", "dense", frozenset({"dense", "serve"}), [stage], sweeps=False)


def _footprint(dataset: Dataset, scale: Scale, own) -> Suite:
    stages = [
        Stage("built", [("build", {})]),
        Stage("opened cold", [("restart", {"cold": True})]),
        Stage("opened warm", [("restart", {})], [Cell("k=10")]),
    ]
    return Suite("footprint", "dense", frozenset({"dense", "reopen"}), stages, sweeps=False)


_MAKERS: dict[str, Any] = {
    "dense": _dense,
    "filtered": _filtered,
    "sparse": _sparse,
    "hybrid": _hybrid,
    "ingest": _ingest,
    "churn": _churn,
    "service": _service,
    "footprint": _footprint,
}
SUITES = tuple(_MAKERS)
