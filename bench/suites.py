"""The suites as data: the stages that a system goes through, and the cells that are searched after each.

A stage has operations (build, change, restart, …), which one system after the other carries out while the others rest. Then come cells:
searches that all systems do in turn; loads of several clients; and probes: other figures, measured by functions of ``probes`` in turn. The
module ``run`` carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import filters
from .data import Dataset
from .filters import Where

CHANGED = 0.15  # share of the rows that "churn" updates, and as many that it deletes
TARGETS = (0.90, 0.95, 0.99)
OURS = ("vectordb",)
HARD = "shared-noise-100k"
REAL = ("debian-minilm", "glove-50-100k", "fashion-mnist", "wordnet")  # real sets come first: made data flatters some systems
TEN = "clustered:n=10,queries=256"  # a data set of ten points: what a search costs beside its work


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


@dataclass(frozen=True)
class Probe:
    """A function of ``probes``, "module.function", that each system's worker runs once a round; the systems take turns within a round.

    needs: what a system must support. rounds: default ``Scale.repeats``. warm: options of an unmeasured round that comes first. fresh: each
    run is in a new process with an empty folder. cell: the name and the filters of a cell. options: arguments of the function.
    """

    name: str
    needs: frozenset[str] = frozenset()
    rounds: int | None = None
    warm: dict[str, Any] | None = None
    fresh: bool = False
    cell: Cell | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stage:
    name: str
    ops: list[tuple[str, dict]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    changed: bool = False  # the ground truth is that of the data after ``change``


@dataclass
class Suite:
    """A suite. arm: "dense", "sparse", "hybrid" or "multi". needs: what a system must support (``System.does``). attributes: those to
    load."""

    arm: str
    needs: frozenset[str]
    stages: list[Stage]
    attributes: list[str] = field(default_factory=list)
    sweeps: bool = True  # measure all settings of a system, or only one
    quiet: bool = False  # without background work of the systems


@dataclass(frozen=True)
class Check:
    """A bound of the figures whose names match the pattern ``what``, in one suite.

    value: how the figures of all rounds and cells become one number, see ``checks.VALUES``. other: a system to compare with by rounds:
    "÷ NAME" (how many times as fast or as small vectordb is) or "− NAME" (the difference). data: check only this data set.
    """

    what: str
    limit: float
    most: bool = True  # the value must be at most the limit, else at least
    value: str = "median"
    other: str = ""
    system: str = "vectordb"
    data: str = ""


@dataclass(frozen=True)
class Kind:
    """The suite of a name. about, time: what it measures and how long, for `bench list`. data: the data sets, if none are given. quick:
    those of a quick run; empty: ``data`` with fewer points. systems: those that it is made for; empty: all that support ``needs``."""

    about: str
    time: str
    make: Callable[[Dataset, Scale, Sequence[int] | None], Suite]
    data: tuple[str, ...] = ("clustered-100k",)
    quick: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    needs: frozenset[str] = frozenset({"dense"})


def make(name: str, dataset: Dataset, scale: Scale, own: Sequence[int] | None, cells: str | None = None) -> Suite:
    """The suite for a data set. own: ``place`` of each query, for correlated filters. cells: keep those with it in their name."""
    suite = SUITES[name].make(dataset, scale, own)
    if cells:
        for stage in suite.stages:
            stage.cells = [cell for cell in stage.cells if cells in cell.name]
            stage.probes = [probe for probe in stage.probes if cells in (probe.cell.name if probe.cell else probe.name)]
    every = [cell for stage in suite.stages for cell in (*stage.cells, *(probe.cell for probe in stage.probes)) if cell and cell.where]
    used = {name for cell in every for name in cell.where.fields()}
    return replace(suite, attributes=sorted(used | set(suite.attributes)))


def _searched(arm: str, *counts: int, quality: bool = False) -> Callable[[Dataset, Scale, Sequence[int] | None], Suite]:
    """The maker of a suite that fills the systems and searches them for each number of hits; a quick run only for the first."""

    def make(dataset: Dataset, scale: Scale, own) -> Suite:
        cells = [Cell(f"k={k}", k, quality=quality) for k in (counts if scale.full_grid else counts[:1])]
        return Suite(arm, frozenset({arm}), [Stage("built", [("build", {})], cells)])

    return make


def _multivector(dataset: Dataset, scale: Scale, own) -> Suite:
    probes = [Probe(f"multivectors.{name}", frozenset({"ours"}), 1) for name in ("first_stages", "plans")]
    stage = Stage("built", [("build", {})], [Cell("k=10", 10, quality=True)], probes=probes)
    return Suite("multi", frozenset({"multi"}), [stage])


def _filtered(dataset: Dataset, scale: Scale, own) -> Suite:
    q = dataset.query_count if own is None else len(own)
    attributes = dict(dataset.attributes)
    cells: list[Where] = []
    if own is not None and "place" in attributes:
        shapes, shares = (filters.SHAPES, filters.SELECTIVITIES) if scale.full_grid else (("equality", "range"), (0.1, 0.01))
        cells += filters.grid(len(dataset), own, shapes, shares)
    generated = _grid_attributes()
    cells += filters.natural({k: v for k, v in attributes.items() if k not in generated}, len(dataset), min(q, scale.queries))
    cells_of = [Cell(where.name, where=where) for where in cells]
    arm = "dense" if dataset.vectors is not None else "sparse"
    return Suite(arm, frozenset({arm, "filtered"}), [Stage("built", [("build", {})], cells_of)])


def _grid_attributes() -> set[str]:
    from .data import synthetic

    return set(synthetic.attributes_of(np.arange(2), np.random.default_rng(0)))


def _ingest(dataset: Dataset, scale: Scale, own) -> Suite:
    """A stage for each batch size. Fewer rows are written one by one, because each call is a commit."""
    sizes = {1: max(100, scale.ingest // 100), 100: scale.ingest // 4, 1000: scale.ingest, 10_000: 2 * scale.ingest}
    ops = [("ingest", {"batch": batch, "rows": min(rows, len(dataset))}) for batch, rows in sizes.items() if batch <= scale.ingest]
    kept = [name for name in ("u_100", "price") if name in dataset.attributes]
    arm = "dense" if dataset.vectors is not None else "sparse"
    return Suite(arm, frozenset({arm}), [Stage(f"batches of {op[1]['batch']:,}", [op]) for op in ops], kept)


def _churn(dataset: Dataset, scale: Scale, own) -> Suite:
    stages = [
        Stage("built", [("build", {})], [Cell("k=10")]),
        Stage("30 % changed", [("change", {})], [Cell("k=10")], changed=True),
        Stage("restarted", [("restart", {})], [Cell("k=10")], changed=True),
    ]
    return Suite("dense", frozenset({"dense", "delete"}), stages)


def _service(dataset: Dataset, scale: Scale, own) -> Suite:
    loads = [Load("closed", clients) for clients in scale.clients]
    loads += [Load("open", scale.clients[-1], share) for share in (0.5, 0.8)]
    stage = Stage("served", [("build", {})], [Cell("k=10")], loads)
    return Suite("dense", frozenset({"dense", "serve"}), [stage], sweeps=False)


def _footprint(dataset: Dataset, scale: Scale, own) -> Suite:
    stages = [
        Stage("built", [("build", {})]),
        Stage("opened cold", [("restart", {"cold": True})]),
        Stage("opened warm", [("restart", {})], [Cell("k=10")]),
    ]
    return Suite("dense", frozenset({"dense", "reopen"}), stages, sweeps=False)


def _release(dataset: Dataset, scale: Scale, own) -> Suite:
    """Every system is filled without ``finish``, so that no index is built: searches are exact."""
    arm, ours = dataset.arm, frozenset({"ours"})
    probes = [Probe("release.search", warm={}), Probe("release.server", frozenset({"serve", "dense"}))]
    if len(dataset) >= 1_000:
        probes.append(Probe("release.space", frozenset({"reopen"}), 1))
    if len(dataset) >= 1_000 and arm == "dense":
        needs = {"release.batch": "batch", "release.upsert": "durable", "release.rows": "durable", "release.threads": "ours"}
        needs |= dict.fromkeys(("parts.filters", "parts.text", "parts.start"), "ours")
        probes += [Probe(name, frozenset({need})) for name, need in needs.items()]
        probes += [Probe("parts.compiling", ours, 1), Probe("parts.changes", ours)]
    attributes = [name for name in ("u_20", "price", "grade") if name in dataset.attributes and arm != "sparse"]
    return Suite(arm, frozenset({arm}), [Stage("filled", [("build", {"finish": False})], probes=probes)], attributes, quiet=True)


def _planner(dataset: Dataset, scale: Scale, own) -> Suite:
    [stage] = _filtered(dataset, scale, own).stages
    cells = [cell for cell in stage.cells if cell.where.correlation in filters.CORRELATIONS]
    ours = frozenset({"ours"})
    probes = [Probe("planner.cell", ours, 1, cell=cell) for cell in (Cell("no filter"), *cells)]
    probes += [Probe("release.threads", ours, options={"exact": False}), Probe("release.space", ours, 1)]
    return Suite("dense", ours, [Stage("built", [("build", {})], probes=probes)], quiet=True)


def _query(dataset: Dataset, scale: Scale, own) -> Suite:
    ours, forms = frozenset({"ours"}), frozenset({"query"})
    probes = [Probe("queries.forms", forms), Probe("queries.ranked", ours), Probe("queries.payloads", ours)]
    return Suite("dense", forms, [Stage("built", [("build", {})], probes=probes)], ["u_20", "u_1000", "price"], quiet=True)


def _probed(
    name: str, arm: str, build: bool, options: Callable[[Scale], dict] = lambda scale: {}, needs: str = "ours", **more: Any
) -> Callable[[Dataset, Scale, Sequence[int] | None], Suite]:
    """The maker of a suite of one probe. build: fill and finish the system before. more: fields of the probe."""

    def make(dataset: Dataset, scale: Scale, own) -> Suite:
        probe = Probe(name, frozenset({needs}), options=options(scale), **more)
        stage = Stage("built" if build else "started", [("build", {})] if build else [], probes=[probe])
        return Suite(arm, frozenset({needs}), [stage], quiet=needs == "ours")

    return make


def _calls(scale: Scale) -> dict:
    return {"calls": 600, "rows": 20_000} if scale.full_grid else {"calls": 200, "rows": 19_000}


_RELEASE = (
    Check("search with all defaults, p50", 60, data=TEN),
    Check("exact search, p50", 500, other="− vectordb", system="vectordb-service", data=TEN),
    Check("exact search, p50", 1 / 1.3, False, other="÷ exact", data="clustered-100k"),
    Check("exact search, p50", 3, False, other="÷ scipy-sparse", data="sparse-100k"),
    Check("upsert, batches of 1,000, each synced", 20_000, False, data="clustered-100k"),
    Check("upsert, batches of 1,000, each synced", 1, False, other="÷ qdrant-edge", data="clustered-100k"),
    Check("filter of 3 clauses: each cached, the whole new, p50", 100, data="clustered-100k"),
    Check("filter of 3 clauses: asked before, p50", 10, data="clustered-100k"),
    Check("new process to first answer", 1, data="clustered-100k"),
    Check("every kernel, empty cache, new process", 30, data="clustered-100k"),
)
_PLANNER = (
    *(Check(f"target {target:.2f}: short of the target", 0.95, False, "share ≤ 0.01") for target in TARGETS),
    Check("target .*: error of the prediction", 0.02, value="mean"),
    Check("target .*: regret", 1.25, value="geometric mean"),
    Check("target .*: regret", 2, value="highest"),
    Check("single searches from 2 threads ÷ from 1", 1.8, False, data="clustered-100k"),
    Check("points loaded and indexed", 4_000, False, data="clustered-100k"),
)
_FORMS, _TEXTS = "clustered-100k:dim=128", "stdlib-6k"
_ORDERS = [
    (kind, f"order_by a {kind}, {name}, page {page}, p50")
    for kind in ("number", "keyword")
    for name in ("no filter", "a keyword filter, 5 %")
    for page in (1, 2)
]
_COUNTS = [f"facets of 1,000 values, {name}, p50" for name in ("no filter", "a keyword filter, 5 %")]
_PEERS = (*_COUNTS, *(what for kind, what in _ORDERS if kind == "number"), "diverse hits of 50, p50")
_QUERY = (
    *(Check(what, 1, data=_FORMS) for what in _COUNTS),
    *(Check(what, 2, data=_FORMS) for _, what in _ORDERS),
    *(Check(what, 1, False, other="÷ qdrant-edge", data=_FORMS) for what in _PEERS),
    Check("groups of 1, limit 10 ÷ plain", 1.5, data=_FORMS),
    *(Check(f"count of a {kind}, a payload path ÷ an attribute", 1.2, data=_FORMS) for kind in ("keyword", "range of numbers")),
)
_TYPOS = (
    Check("MRR@10, clean: trigram", 0.97, False, data=_TEXTS),
    Check("MRR@10, typos: trigram", 0.90, False, data=_TEXTS),
    *(Check(f"search, {what}: trigram ÷ bm25", 3, data=_TEXTS) for what in ("clean", "typos")),
)
_UPDATES = (
    Check(".*: recall lost beside a new build", 0.005, value="highest"),
    Check(".*: most bytes on disk .*", 1.3, value="highest"),
    Check(".*: processor time for 10 % replaced .*", 0.15, value="highest"),
)
# The times that `vectordb bench list` shows are from the first run with all peers (RESULTS.md): two cores of an AMD EPYC (Zen 5), shared
# with other work. "≈" marks an estimate for 100k × 384. The default queries and repeats take longer than those of that run.
SUITES = {
    "dense": Kind(
        "recall against QPS for every setting of every system, k = 10 and 100",
        "28 min for 20 systems, 100k × 384, 200 queries × 2 repeats; 18 min for 100k × 50; seven data sets: use --minutes",
        _searched("dense", 10, 100),
        (*REAL, "clustered-100k", HARD, "clustered-500k:dim=256"),
        ("clustered-10k", "shared-noise-10k"),
    ),
    "filtered": Kind(
        "13 filter shapes × selectivity 50, 10, 1, 0.1 % × correlation none, positive, negative; the data's own attributes",
        "8 min to build 9 systems, 50k × 384; then 14 s per cell of 40 queries, 156 cells",
        _filtered,
        needs=frozenset({"dense", "filtered"}),
    ),
    "sparse": Kind(
        "recall against QPS on learned sparse vectors",
        "10 min for 10 systems, 20k, 200 queries × 2 repeats; builds at 100k: Seismic 4 min, kannolo 10, zvec over 20",
        _searched("sparse", 10, quality=True),
        ("wordnet", "sparse-100k"),
        ("sparse-10k",),
        needs=frozenset({"sparse"}),
    ),
    "hybrid": Kind(
        "dense + sparse, fused by reciprocal rank: recall against the exact fusion; nDCG and MRR if the data has judgements",
        "6 min for 6 systems, 20k, 100 queries × 2 repeats",
        _searched("hybrid", 10, 100, quality=True),
        ("wordnet", "hybrid-100k"),
        ("hybrid-10k",),
        needs=frozenset({"hybrid"}),
    ),
    "ingest": Kind(
        "points per second by batch size, with durable writes; slowest batch; time until a new point is found",
        "≈ 1–3 min per system",
        _ingest,
    ),
    "churn": Kind(
        "recall and QPS after 30 % of the points were updated or deleted, and after a restart",
        "≈ 4 min per system",
        _churn,
        needs=frozenset({"dense", "delete"}),
    ),
    "service": Kind(
        "latency percentiles and time-outs with 1, 8 and 32 clients, closed loop and open loop",
        "≈ 2 min per system",
        _service,
        needs=frozenset({"dense", "serve"}),
    ),
    "footprint": Kind(
        "peak memory, disk, and the time to open with a cold and a warm page cache",
        "≈ 2 min per system",
        _footprint,
        needs=frozenset({"dense", "reopen"}),
    ),
    "multivector": Kind(
        "matrices compared by MaxSim: recall of the exact best against QPS, bytes and build time; nDCG and MRR if the data has judgements",
        "≈ 15 min, most of it the graph of qdrant-edge; the token vectors take minutes once",
        _multivector,
        ("tokens:wordnet-5k", "tokens:debian-2k", "multi-topic-5k"),
        ("multi-topic-1k",),
        systems=("vectordb", "exact", "qdrant-edge"),
        needs=frozenset({"multi"}),
    ),
    "release": Kind(
        "the figures of a release beside a few peers: exact search, writes, filters, start-up, compilation, memory, disk; ten bounds",
        "≈ 6 min",
        _release,
        (TEN, "clustered-100k", "sparse-100k", "hybrid-100k"),
        systems=("vectordb", "vectordb-service", "exact", "scipy-sparse", "qdrant-edge"),
        checks=_RELEASE,
    ),
    "planner": Kind(
        "the planner in every cell of filters: predicted beside observed recall, and regret against every fixed setting",
        "≈ 30 s per cell, 157 cells",
        _planner,
        systems=OURS,
        checks=_PLANNER,
    ),
    "proofs": Kind(
        "linear fusion that is proven exact, by the weight of the sparse arm",
        "≈ 2 min",
        _probed("parts.proofs", "hybrid", True),
        ("hybrid-100k",),
        systems=OURS,
    ),
    "quality": Kind(
        "nDCG@10 of each arm and of rank and linear fusion on judged queries; needs --data FOLDER in BEIR's layout",
        "by the data",
        _probed("quality.judged", "hybrid", False, rounds=1),
        (),
        systems=OURS,
    ),
    "query": Kind(
        "facets, orders, groups, diverse hits, calibrated scores, payload filters, beside qdrant-edge and the plain search; with bounds",
        "≈ 4 min",
        _query,
        (_FORMS,),
        ("clustered-10k:dim=128",),
        systems=("vectordb", "qdrant-edge"),
        checks=_QUERY,
    ),
    "typos": Kind(
        "MRR@10 of texts by their words as they are and with typos, and the time of a search: BM25 and trigrams; with bounds",
        "≈ 2 min",
        _probed("queries.typos", "sparse", False),
        (_TEXTS,),
        ("stdlib-2k",),
        systems=OURS,
        checks=_TYPOS,
    ),
    "updates": Kind(
        "a day in which 1 % of the points change every hour: recall, disk and processor time of merges beside a new build; with bounds",
        "≈ 5 min",
        _probed("updates.churn", "dense", False, lambda scale: {"hours": 24 if scale.full_grid else 12}, rounds=1),
        ("debian-minilm",),
        ("clustered-10k:dim=128",),
        systems=OURS,
        checks=_UPDATES,
    ),
    "bulk": Kind(
        "the service: bulk writes, calls of one and of 64 queries, searches while points are written",
        "≈ 3 min",
        _probed("serving.service", "dense", False, lambda scale: {"seconds": scale.load_seconds}, "serve", rounds=1),
        systems=("vectordb-service",),
    ),
    "background": Kind(
        "latency of searches beside audits, verification, writes, index builds and optimize",
        "≈ 2 min",
        _probed("serving.background", "dense", True, lambda scale: {"searches": scale.ingest, "indexing": scale.load_seconds}, rounds=1),
        ("clustered-50k:dim=128",),
        systems=OURS,
    ),
    "fairness": Kind(
        "latency of one API key's searches while another key floods the service through eight connections",
        "≈ 2 min",
        _probed("serving.fairness", "dense", False, lambda scale: {"seconds": scale.load_seconds}, rounds=1),
        ("clustered-100k:dim=128",),
        systems=OURS,
    ),
    "compare": Kind(
        "the cost of calls in two checkouts of vectordb, in turns and in new processes; see `bench compare`",
        "2 min with --quick; longer without, not timed",
        _probed("compare.checkout", "dense", False, _calls, warm={"calls": 20}, fresh=True),
        (TEN,),
        systems=OURS,
    ),
}
