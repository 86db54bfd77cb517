"""``vectordb bench tune DIR/COLLECTION``: a user's own collection, measured on this machine.

Truth is computed here, from the vectors that the collection gives out, page by page in float64; the database's searches are judged by it.
In this version the database searches exactly, so recall is 1.000 whatever is asked for, and the curve is one of latency: by hits, batch,
threads and filter. What would be another point of the curve — keeping float16 — is computed from the vectors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import facts, filters, metrics, timing
from .report import rate, short, size

_PAGE = 2000
_DEPTH = 50  # rows beyond k that the truth keeps, so that ties of the k-th are known
_FILTER_QUERIES = 50
_CELLS = 16
_SECONDS = 3.0  # of one measurement
_SLOW = 2.0  # times the unfiltered median: a slow filter


@dataclass
class Scan:
    """One pass over the collection without its vectors: what queries and filter cells are drawn from."""

    points: int
    columns: dict[str, Any]
    sampled: list[Any]


@dataclass
class Truth:
    """Best rows of each query, by id. edges[k]: the k-th score."""

    ids: list[list[Any]]
    scores: list[np.ndarray]
    matches: int

    def recall(self, query: int, found: Sequence[Any], k: int) -> float:
        expected = min(k, self.matches)
        if not expected:
            return 1.0
        edge = self.scores[query][expected - 1]
        good = {id for id, score in zip(self.ids[query], self.scores[query].tolist(), strict=True) if score >= edge - 1e-5 * abs(edge)}
        return min(expected, sum(id in good for id in set(found[:k]))) / expected


@dataclass
class Best:
    """The best rows so far of each query, taken page by page."""

    keep: int
    ids: list[list[Any]] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    matches: int = 0

    def add(self, ids: Sequence[Any], scores: np.ndarray) -> None:
        """scores: (queries, rows of this page)."""
        if not self.ids:
            self.ids, self.scores = [[] for _ in scores], [np.empty(0) for _ in scores]
        self.matches += len(ids)
        for i, new in enumerate(scores):
            if len(self.scores[i]) >= self.keep and (not len(new) or new.max() < self.scores[i][-1]):
                continue
            every, names = np.concatenate([self.scores[i], new]), [*self.ids[i], *ids]
            order = np.argsort(-every, kind="stable")[: self.keep]
            self.scores[i], self.ids[i] = every[order], [names[j] for j in order.tolist()]

    def truth(self) -> Truth:
        return Truth(self.ids, self.scores, self.matches)


def main(arguments: Any) -> int:
    """The command; returns its exit code. Raises ValueError on what it can't measure."""
    from rich.console import Console

    from .progress import Progress

    place = Path(arguments.collection)
    path, name = place.parent, place.name
    if not path.is_dir():
        raise ValueError(f"no database at {path}; the collection is named DIR/COLLECTION")
    targets = [float(text) for text in str(arguments.recall).split(",")]
    import vectordb

    before = facts.memory(["self"])
    console = Console(stderr=True)
    try:
        with vectordb.open(path, create=False) as database, Progress(console) as progress:
            collection = database.collection(name)
            options = {"field": arguments.field, "queries": arguments.queries, "count": arguments.count, "k": arguments.limit}
            found = tune(collection, progress=progress, memory_before=before, **options)
    except vectordb.VectorDBError as error:
        raise ValueError(str(error)) from error
    found["advice"] = advice(found, targets)
    show(Console(highlight=False, soft_wrap=True), found, targets)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, default=str), encoding="utf-8")
    return 0


def tune(
    collection: Any,
    field: str | None = None,
    queries: Path | None = None,
    count: int = 200,
    k: int = 10,
    progress: Any = None,
    memory_before=None,
) -> dict:
    """All figures, as plain data; see ``show`` for what they are. Raises ValueError."""
    from .progress import Progress

    progress = progress or Progress(None)
    schema, info = collection.schema, collection.info()
    field = field or next((name for name, spec in schema.vectors.items() if spec.kind == "dense"), None)
    spec = schema.vectors.get(field)
    if spec is None or spec.kind != "dense":
        raise ValueError(f"tune measures dense vector fields; {field!r} isn't one of {', '.join(schema.vectors) or 'none'}")
    progress.stage("reading attributes, choosing queries")
    scan = read(collection, count)
    if not scan.points:
        raise ValueError(f"{collection.name} has no points")
    asked = _queries(collection, field, spec, scan, queries, count)
    cells = _cells(scan, len(asked))
    progress.stage(f"exact truth of {len(asked)} queries and {len(cells)} filters over {scan.points:,} points")
    deepest = max(k, 100)
    truth, by_cell, half = _truths(collection, field, spec, asked, cells, scan, deepest)
    progress.stage("searching")
    bench = _Bench(collection, field, asked, k)
    bench.pass_over(asked[:20], k)  # what the first search reads and compiles isn't in any figure
    limits = [bench.judged(truth, limit) for limit in sorted({1, 10, 100, 1000, k}) if limit <= max(scan.points, k)]
    base = next(one for one in limits if one["limit"] == k)
    memory = facts.memory(["self"])
    return {
        "collection": collection.name,
        "field": field,
        "points": info.points,
        "deleted_rows": info.deleted_rows,
        "dim": spec.dim,
        "metric": spec.metric,
        "dtype": spec.dtype,
        "queries": len(asked),
        "queries_from": str(queries) if queries else "points of the collection",
        "k": k,
        "base": base,
        "limits": limits,
        "float16": half,
        "attributes_ms": bench.judged(truth, k, with_attributes=True)["p50_ms"] - base["p50_ms"],
        "batches": bench.batches(),
        "threads": bench.threads(),
        "filters": [bench.filtered(where, by_cell[where.name]) for where in cells],
        "memory": {"before": (memory_before or memory)["rss"], "now": memory["rss"], "peak": memory["peak"]},
        "disk": info.bytes,
        "raw_vectors": scan.points * spec.dim * (2 if spec.dtype == "float16" else 4),
        "machine": facts.machine(),
    }


def read(collection: Any, count: int, seed: int = 0) -> Scan:
    """Attributes of all points as columns, and some ids by reservoir sampling (Vitter 1985, algorithm R)."""
    names = [name for name, spec in collection.schema.attributes.items() if spec.kind in ("keyword", "int")]
    columns: dict[str, list] = {name: [] for name in names}
    rng, sampled, n = np.random.default_rng(seed), [], 0
    for page in _pages(collection, with_attributes=names):
        for point in page:
            for name in names:
                columns[name].append(point.attributes.get(name))
            if len(sampled) < count:
                sampled.append(point.id)
            elif (at := int(rng.integers(0, n + 1))) < count:
                sampled[at] = point.id
            n += 1
    return Scan(n, {name: values for name, values in columns.items() if any(value is not None for value in values)}, sampled)


def _pages(collection: Any, **options: Any) -> Iterator[list]:
    cursor = None
    while True:
        page = collection.scroll(limit=_PAGE, cursor=cursor, **options)
        yield list(page)
        cursor = page.cursor
        if cursor is None:
            return


def _queries(collection: Any, field: str, spec: Any, scan: Scan, path: Path | None, count: int) -> np.ndarray:
    if path is not None:
        from .data import files

        given = files._READERS.get(path.suffix.lower())
        if given is None:
            raise ValueError(f"{path}: queries are .npy or .fvecs")
        asked = np.asarray(given(path).vectors[:count])
        if asked.shape[1] != spec.dim:
            raise ValueError(f"{path} has {asked.shape[1]} dimensions, the field {field!r} {spec.dim}")
        return asked
    points = collection.get(scan.sampled, with_vectors=[field], with_attributes=False)
    having = [point.vectors[field] for point in points if point is not None and field in point.vectors]
    if not having:
        raise ValueError(f"none of {len(scan.sampled)} sampled points has the field {field!r}; pass --queries")
    return np.stack(having).astype(np.float32)


def _cells(scan: Scan, queries: int) -> list[filters.Where]:
    """Filters on the collection's own attributes near 50, 10, 1 and 0.1 %: at most a few, spread over attributes."""
    found = filters.natural(scan.columns, scan.points, min(queries, _FILTER_QUERIES))
    by_share: dict[float, list] = {}
    for where in found:
        by_share.setdefault(where.selectivity, []).append(where)
    chosen: list[filters.Where] = []
    while len(chosen) < _CELLS and any(by_share.values()):
        for cells in by_share.values():
            if cells and len(chosen) < _CELLS:
                chosen.append(cells.pop(0))
    return sorted(chosen, key=lambda where: (where.shape, -where.selectivity))


def _truths(collection, field: str, spec, asked: np.ndarray, cells: Sequence[filters.Where], scan: Scan, k: int):
    """(unfiltered truth, truth by cell, recall that float16 vectors would have) in one pass over the vectors."""
    columns = filters.Columns(scan.columns, scan.points)
    masks = [where.filters(columns)[0].mask for where in cells]
    whole, half, best = Best(k + _DEPTH), Best(k), [Best(k + _DEPTH) for _ in cells]
    some, low = asked[:_FILTER_QUERIES], 0
    for page in _pages(collection, with_vectors=[field], with_attributes=False):
        here = [i for i, point in enumerate(page) if field in point.vectors]
        ids = [page[i].id for i in here]
        if ids:
            vectors = np.stack([page[i].vectors[field] for i in here])
            scores = _scores(spec.metric, vectors, asked)
            whole.add(ids, scores)
            if spec.dtype == "float32":
                half.add(ids, _scores(spec.metric, vectors.astype(np.float16), asked))
            for mask, kept in zip(masks, best, strict=True):
                match = [j for j, i in enumerate(here) if low + i < len(mask) and mask[low + i]]
                kept.add([ids[j] for j in match], scores[: len(some), match])
        low += len(page)
    truth = whole.truth()
    rounded = [truth.recall(i, ids, k) for i, ids in enumerate(half.ids)] if half.ids else []
    return truth, {where.name: kept.truth() for where, kept in zip(cells, best, strict=True)}, float(np.mean(rounded)) if rounded else None


def _scores(metric: str, vectors: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(queries, rows) float64, higher is better."""
    rows, queries = vectors.astype(np.float64), asked.astype(np.float64)
    if metric == "l2":
        return 2 * queries @ rows.T - (rows**2).sum(axis=1) - (queries**2).sum(axis=1)[:, None]
    scores = queries @ rows.T
    if metric == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1) + 1e-300
    return scores


class _Bench:
    """The collection's searches, timed."""

    def __init__(self, collection: Any, field: str, asked: np.ndarray, k: int):
        self.collection, self.field, self.asked, self.k = collection, field, asked, k

    def pass_over(self, asked: np.ndarray, limit: int, filter: Any = None, with_attributes: bool = False) -> tuple[list[int], list]:
        search, name = self.collection.search, self.field

        def one(query, k, where):
            return search(query, limit=k, filter=where, with_attributes=with_attributes)

        times, found, _ = timing.measure(one, [{name: query} for query in asked], limit, [filter] * len(asked), _SECONDS)
        return times, found

    def judged(self, truth: Truth, limit: int, with_attributes: bool = False) -> dict:
        times, found = self.pass_over(self.asked, limit, with_attributes=with_attributes)
        recall = None
        if limit <= len(truth.scores[0]) or truth.matches <= limit:
            recall = metrics.recalls([truth.recall(i, list(hits.ids), limit) for i, hits in enumerate(found)])
        return {"limit": limit, "recall": recall, **metrics.latencies([times])}

    def filtered(self, where: filters.Where, truth: Truth) -> dict:
        from vectordb_client.filter import from_dict

        expression = where.expressions[0]
        times, found = self.pass_over(self.asked[:_FILTER_QUERIES], self.k, from_dict(expression))
        recall = metrics.recalls([truth.recall(i, list(hits.ids), self.k) for i, hits in enumerate(found)])
        name = expression.get("field", "")
        return {
            "filter": expression,
            "name": where.name,
            "field": name,
            "matches": truth.matches,
            "recall": recall,
            **metrics.latencies([times]),
        }

    def batches(self) -> list[dict]:
        """Queries a second of ``search_batch``, by batch size."""
        made = []
        for batch in (1, 8, 64, 256):
            asked = np.resize(self.asked, (batch, self.asked.shape[1]))

            def call(asked: np.ndarray = asked) -> None:
                self.collection.search_batch({self.field: asked}, limit=self.k, with_attributes=False)

            call()
            made.append({"batch": batch, "qps": _rate(call) * batch})
        return made

    def _search(self, query: dict) -> Any:
        return self.collection.search(query, limit=self.k, with_attributes=False)

    def threads(self) -> list[dict]:
        """Searches a second of several threads that share the collection."""
        cores, made = facts.machine()["cores"], []
        for workers in sorted({1, 2, cores, 2 * cores}):
            queries = [{self.field: query} for query in np.resize(self.asked, (32 * workers, self.asked.shape[1]))]

            with ThreadPoolExecutor(workers) as pool:

                def call(queries: list = queries, pool: Any = pool) -> None:
                    list(pool.map(self._search, queries))

                call()
                made.append({"threads": workers, "qps": _rate(call) * len(queries)})
        return made


def _rate(call: Callable[[], None]) -> float:
    """Calls a second: the best of the rounds that fit in a second."""
    best, end = 0.0, time.perf_counter() + 1.0
    while time.perf_counter() < end or not best:
        start = time.perf_counter()
        call()
        best = max(best, 1 / (time.perf_counter() - start))
    return best


def advice(found: dict, targets: Sequence[float]) -> list[str]:
    """What the figures say to do, in sentences; nothing that wasn't measured."""
    base, said = found["base"], []
    p50 = base["p50_ms"]
    recall = base["recall"]["mean"] if base["recall"] else None
    if recall is not None and recall < 1:
        said.append(f"Recall is {recall:.4f}, though searches are exact: run `vectordb check` and report this, please.")
    else:
        wanted = ", ".join(f"{target:g}" for target in targets)
        cost = f"{p50:.3g} ms at the median"
        said.append(f"Searches are exact in this version: recall {wanted} all cost the same, {cost}, and recall is 1.000.")
    swept = found["points"] * found["dim"] * (2 if found["dtype"] == "float16" else 4)
    said.append(f"A search without a filter reads {size(swept)} of vectors: twice as many points take twice as long.")
    if found["float16"] is not None:
        deepest = max(100, found["k"])
        said.append(f"With dtype float16 the vectors would take {size(swept / 2)}; recall@{deepest} would be {found['float16']:.4f}.")
    slow = [one for one in found["filters"] if one["p50_ms"] > _SLOW * p50]
    for one in sorted(slow, key=lambda one: -one["p50_ms"])[:3]:
        times = f"{one['p50_ms']:.3g} ms, {one['p50_ms'] / p50:.1f} times the unfiltered search"
        said.append(f"The filter {_named(one['filter'])} ({one['matches']:,} points) takes {times}.")
    if found["filters"] and not slow:
        worst = max(found["filters"], key=lambda one: one["p50_ms"])
        what = f"{_named(worst['filter'])}, takes {worst['p50_ms']:.3g} ms"
        said.append(f"No filter is slow: the slowest of {len(found['filters'])}, {what}.")
    single, best = found["batches"][0]["qps"], max(found["batches"], key=lambda one: one["qps"])
    if best["qps"] > 1.5 * single:
        said.append(f"search_batch with {best['batch']} queries answers {best['qps'] / single:.1f} times as many a second as one by one.")
    alone, most = found["threads"][0]["qps"], max(found["threads"], key=lambda one: one["qps"])
    if most["qps"] > 1.3 * alone:
        said.append(f"{most['threads']} threads answer {most['qps'] / alone:.1f} times as many a second as one.")
    if found["attributes_ms"] > 0.2 * p50:
        said.append(f"Attributes of the hits cost {found['attributes_ms']:.3g} ms: name the ones you need, or pass with_attributes=False.")
    if found["deleted_rows"] > 0.2 * max(found["points"], 1):
        said.append(f"{found['deleted_rows']:,} deleted rows still take space beside {found['points']:,} points.")
    return said


def show(console: Any, found: dict, targets: Sequence[float]) -> None:
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for i, column in enumerate(columns):
            made.add_column(column, justify="left" if i == 0 else "right")
        return made

    machine = found["machine"]
    console.print(
        f"[bold]{found['collection']}[/].{found['field']}: {found['points']:,} points × {found['dim']} {found['dtype']}, {found['metric']}"
    )
    console.print(f"{machine['cpu']}, {machine['cores']} cores; {found['queries']} queries ({found['queries_from']})\n", markup=False)
    made = table("recall and latency by hits", "hits", "recall", "p5", "p50 ms", "p95", "p99", "QPS")
    for one in found["limits"]:
        recall = one["recall"]
        judged = (f"{recall['mean']:.4f}", f"{recall['p5']:.2f}") if recall else ("–", "–")
        made.add_row(f"{one['limit']:,}", *judged, *(f"{one[key]:.3g}" for key in ("p50_ms", "p95_ms", "p99_ms")), rate(one["qps"]))
    console.print(made, "")
    made = table("what a recall target costs", "recall ≥", "setting", "p50 ms", "QPS")
    for target in targets:
        made.add_row(f"{target:g}", "exact (the only one)", f"{found['base']['p50_ms']:.3g}", rate(found["base"]["qps"]))
    console.print(made, "")
    if found["filters"]:
        made = table(f"filters, {found['k']} hits", "filter", "matches", "recall", "p50 ms", "p99", "× unfiltered")
        for one in found["filters"]:
            times = one["p50_ms"] / found["base"]["p50_ms"]
            figures = (
                f"{one['recall']['mean']:.4f}",
                f"{one['p50_ms']:.3g}",
                f"{one['p99_ms']:.3g}",
                f"{times:.2f}{' slow' if times > _SLOW else ''}",
            )
            made.add_row(_named(one["filter"]), f"{one['matches']:,}", *figures)
        console.print(made, "")
    batches = "  ".join(f"{one['batch']}: {short(one['qps'])}/s" for one in found["batches"])
    threads = "  ".join(f"{one['threads']}: {short(one['qps'])}/s" for one in found["threads"])
    console.print(f"batches   {batches}\nthreads   {threads}", markup=False)
    memory = found["memory"]
    added = f"{size(memory['now'] - memory['before'])} more than before it was opened (this tool's own share included)"
    console.print(f"memory    {size(memory['now'])} resident, {added}; {size(memory['peak'])} at the peak", markup=False)
    console.print(f"disk      {size(found['disk'])}; the vectors alone are {size(found['raw_vectors'])}\n", markup=False)
    for sentence in found["advice"]:
        console.print(f"• {sentence}", markup=False)


def _named(expression: dict) -> str:
    op, name = expression["op"], expression.get("field", "")
    if op == "eq":
        return f"{name} = {expression['value']!r}"
    if op == "ge":
        return f"{name} >= {expression['value']}"
    return f"{name} contains {expression['values'][0]!r}" if op == "contains_any" else json.dumps(expression)
