"""``vectordb bench tune DIR COLLECTION``: recall, latency and memory of a user's collection, on the user's machine.

The ground truth is computed here in float64, from the vectors that the collection returns page by page. A field without an index is
searched exactly: its recall is 1.000 for every target, so only latency by hits, batch size, threads and filter is of interest. The plan of
a search says whether it is exact. The recall that float16 vectors would have is computed from the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import codes, facts, filters, metrics, timing, tune_fields
from .tune_fields import Field
from .tune_report import advice, show, show_codes

_DEPTH = 50  # rows beyond k that the ground truth keeps, so that ties with the k-th row are known
RECALLS = "0.90,0.95,0.99"  # targets that are measured if the command names none
_FILTER_QUERIES = 50
_CELLS = 16
_FILTERED = ("int64", "string")  # stored forms of the attributes for which ``filters.natural`` makes filters
_SECONDS = 3.0  # longest time of one pass over the queries
_ROUNDS = 1.0  # seconds for each batch size and each number of threads


@dataclass
class Scan:
    """The result of a first pass over the collection: its size, its attributes as columns, and sampled ids to draw queries from."""

    points: int
    columns: dict[str, Any]
    sampled: list[Any]


class Truth:
    """The ``keep`` best points of each query, collected page by page. Unlike ``truth.Truth`` it never holds all vectors.

    ids, scores: lists with an entry for each query, best first. matches: (queries,), number of points that each query could find.
    """

    def __init__(self, queries: int, keep: int):
        self.keep = keep
        self.ids: list[list[Any]] = [[] for _ in range(queries)]
        self.scores = [np.empty(0) for _ in range(queries)]
        self.matches = np.zeros(queries, np.int64)

    def add(self, ids: Sequence[Any], scores: np.ndarray, reached: np.ndarray | None = None) -> None:
        """Add a page. scores: (queries, points of the page). reached: which points each query could find, same shape; None: all."""
        self.matches += len(ids) if reached is None else reached.sum(axis=1)
        for i, new in enumerate(scores):
            new_ids = ids
            if reached is not None:
                places = np.flatnonzero(reached[i])
                new, new_ids = new[places], [ids[j] for j in places.tolist()]
            if not len(new) or (len(self.scores[i]) >= self.keep and new.max() < self.scores[i][-1]):
                continue
            all_scores, all_ids = np.concatenate([self.scores[i], new]), [*self.ids[i], *new_ids]
            order = np.argsort(-all_scores, kind="stable")[: self.keep]
            self.scores[i], self.ids[i] = all_scores[order], [all_ids[j] for j in order.tolist()]

    def edge(self, query: int, k: int) -> float:
        """The lowest score of a correct hit: that of the k-th best point, minus a tolerance for float32. The query must have a match."""
        edge = self.scores[query][min(k, int(self.matches[query])) - 1]
        return edge - 1e-5 * abs(edge)

    def good(self, query: int, k: int) -> set:
        """The ids of correct hits, as far as they are kept. If many scores are equal, there may be more."""
        if not self.matches[query]:
            return set()
        edge = self.edge(query, k)
        return {id for id, score in zip(self.ids[query], self.scores[query].tolist(), strict=True) if score >= edge}

    def recall(self, query: int, hits: Sequence[Any], k: int, tied: Collection[Any] = ()) -> float:
        """Recall of one answer. tied: ids that also count as correct, although they are not kept."""
        good, matches = self.good(query, k).union(tied), int(self.matches[query])
        return metrics.recall(min(k, matches, len(good.intersection(hits[:k]))), k, matches)

    def knows(self, k: int) -> bool:
        """Whether enough points are kept to judge k hits of every query."""
        return all(len(ids) >= min(k, matches) for ids, matches in zip(self.ids, self.matches.tolist(), strict=True))


def main(arguments: Any) -> int:
    """The command. Returns its exit code. Raises ValueError for a missing database, field or query file."""
    from rich.console import Console

    from .progress import Progress

    path, name = Path(arguments.data), arguments.collection
    if not path.is_dir():
        raise ValueError(f"no database at {path}; write: vectordb bench tune DIR COLLECTION")
    for option in ("limit", "recall"):
        if arguments.codes and getattr(arguments, option) is not None:
            raise ValueError(f"--{option} is for searches of an index, and --codes searches none; leave one of them out")
    if arguments.json and not arguments.json.parent.is_dir():
        raise ValueError(f"--json {arguments.json}: there is no directory {arguments.json.parent}")
    targets = _targets(RECALLS if arguments.recall is None else arguments.recall)
    import vectordb

    before = facts.memory(["self"])
    console = Console(stderr=True)
    try:
        # No maintenance and no audits: nothing may be indexed, compacted or searched in the background while this measures.
        with vectordb.open(path, create=False, maintenance=False, recall_audit=0) as database, Progress(console) as progress:
            collection = database.collection(name)
            options = {"field": arguments.field, "queries": arguments.queries, "count": arguments.count}
            if arguments.codes:
                results = compare_codes(collection, progress=progress, **options)
            else:
                results = tune(collection, progress=progress, memory_before=before, targets=targets, k=arguments.limit or 10, **options)
    except vectordb.VectorDBError as error:
        raise ValueError(str(error)) from error
    if arguments.codes:
        show_codes(Console(highlight=False, soft_wrap=True), results)
    else:
        results["advice"] = advice(results, targets)
        show(Console(highlight=False, soft_wrap=True), results, targets)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, default=str), encoding="utf-8")
    return 0


def _targets(text: str) -> list[float]:
    """The recall targets of the option --recall."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--recall must be numbers separated by commas, such as {RECALLS}, not {text!r}") from None


def tune(
    collection: Any,
    field: str | None = None,
    queries: Path | None = None,
    count: int | None = None,
    k: int = 10,
    progress: Any = None,
    memory_before: dict | None = None,
    targets: Sequence[float] = (0.90, 0.95, 0.99),
) -> dict:
    """Measure a field of a collection. Returns the figures as plain data; ``show`` prints them.

    field: default the first dense field, else the first vector field. queries: a file; default points of the collection. count: number of
    queries (default ``Field.most``). k: hits per query. Raises ValueError if the collection has no points or a name or file is wrong.
    """
    from .progress import Progress

    progress = progress or Progress(None)
    chosen, info = _field(collection.schema, field), collection.info()
    count = count or chosen.most
    progress.stage("reading attributes, choosing queries")
    scan = read(collection, chosen, count)
    if not scan.points:
        raise ValueError(f"{collection.name} has no points")
    query_vectors = _queries(collection, chosen, scan, queries, count)
    chosen.ask(query_vectors)
    cells = _cells(scan, len(query_vectors))
    progress.stage(f"computing exact results of {len(query_vectors)} queries and {len(cells)} filters over {scan.points:,} points")
    truth, by_cell, half = _truths(collection, chosen, cells, scan, max(k, 100))
    progress.stage("searching")
    bench = _Bench(collection, chosen, k)
    exact = bench.is_exact()
    bench.pass_over(query_vectors[:20], k)  # warm-up: first searches read files and compile kernels
    limits = [bench.judged(truth, limit) for limit in sorted({1, 10, 100, 1000, k}) if limit <= max(scan.points, k)]
    base = next(one for one in limits if one["limit"] == k)
    memory = facts.memory(["self"])
    results = {
        "collection": collection.name,
        "field": chosen.name,
        **chosen.about(),
        "points": info.points,
        "deleted_rows": info.deleted_rows,
        "queries": len(query_vectors),
        "queries_from": str(queries) if queries else "points of the collection",
        "k": k,
        "exact": exact,
        "base": base,
        "limits": limits,
        "targets": [] if exact else bench.targets(truth, targets),
        "float16": half,
        "attributes_ms": bench.judged(truth, k, with_attributes=True)["p50_ms"] - base["p50_ms"],
        "batches": bench.batches(base["p50_ms"]),
        "threads": bench.threads(base["p50_ms"]),
        "filters": [bench.filtered(where, by_cell[where.name]) for where in cells],
        "memory": {"before": (memory_before or memory)["rss"], "now": memory["rss"], "peak": memory["peak"]},
        "disk": info.bytes,
        "machine": facts.machine(),
    }
    if bench.is_exact() != exact:
        raise ValueError(f"another process built an index of {chosen.name!r} during the measurement; run the command again")
    return results


def compare_codes(
    collection: Any, field: str | None = None, queries: Path | None = None, count: int | None = None, progress: Any = None
) -> dict:
    """What codes keep of the exact results on a dense field (``codes.compare``), as plain data; ``show_codes`` prints it.

    field: default the first dense field. queries: a file; default points of the collection, which are left out of the rows. count: number
    of queries. Raises ValueError if the field isn't dense, or there are too few points.
    """
    from .progress import Progress

    progress = progress or Progress(None)
    chosen = _field(collection.schema, field)
    if chosen.spec.kind != "dense":
        raise ValueError(f"codes are compared on dense vectors, but the field {chosen.name!r} is {chosen.spec.kind}; pass --field NAME")
    progress.stage("reading vectors")
    rng, kept, seen = np.random.default_rng(0), [], 0
    for page in tune_fields.pages(collection, chosen.page, with_vectors=[chosen.name], with_attributes=False):
        for point in page:
            if chosen.name not in point.vectors:
                continue
            seen += 1  # reservoir sampling, as in ``read``
            place = len(kept) if len(kept) < codes.MOST_ROWS else int(rng.integers(0, seen))
            if place == len(kept):
                kept.append(point.vectors[chosen.name])
            elif place < codes.MOST_ROWS:
                kept[place] = point.vectors[chosen.name]
    if not kept:
        raise ValueError(f"no point of {collection.name} has a vector in the field {chosen.name!r}")
    vectors = np.stack(kept).astype(np.float32)
    most = min(count or codes.MOST_QUERIES, codes.MOST_QUERIES)
    if queries is not None:
        asked = np.stack(_queries(collection, chosen, Scan(seen, {}, []), queries, most))
    else:
        some = rng.permutation(len(vectors))[: min(most, len(vectors) // 2)]
        asked, vectors = vectors[some], np.delete(vectors, some, axis=0)
    figures = codes.compare(vectors, asked, chosen.spec.metric, stage=progress.stage)
    return {
        "collection": collection.name,
        "field": chosen.name,
        "points": seen,
        "rows": len(vectors),
        "queries": len(asked),
        "dim": chosen.spec.dim,
        "metric": chosen.spec.metric,
        "codes": figures,
        "machine": facts.machine(),
    }


def _field(schema: Any, name: str | None) -> Field:
    """The named field; if name is None, the first dense field, else the first vector field."""
    if not schema.vectors:
        raise ValueError("the collection has no vector field")
    name = name or next((name for name, spec in schema.vectors.items() if spec.kind == "dense"), next(iter(schema.vectors)))
    if name not in schema.vectors:
        raise ValueError(f"no vector field {name!r}; known: {', '.join(schema.vectors)}")
    return tune_fields.make(name, schema.vectors[name])


def read(collection: Any, field: Field, count: int, seed: int = 0) -> Scan:
    """Read the attributes of all points as columns, and sample ``count`` ids (reservoir sampling, Vitter 1985, algorithm R)."""
    names = [name for name, spec in collection.schema.attributes.items() if spec.plain and spec.stored in _FILTERED]
    columns: dict[str, list] = {name: [] for name in names}
    rng, sampled, n = np.random.default_rng(seed), [], 0
    for page in tune_fields.pages(collection, field.page, with_attributes=names, with_vectors=[field.name] if field.sees else False):
        if field.sees:
            field.see([point.vectors[field.name] for point in page if field.name in point.vectors])
        for point in page:
            for name in names:
                columns[name].append(point.attributes.get(name))
            if len(sampled) < count:
                sampled.append(point.id)
            elif (place := int(rng.integers(0, n + 1))) < count:
                sampled[place] = point.id
            n += 1
    return Scan(n, {name: values for name, values in columns.items() if any(value is not None for value in values)}, sampled)


def _queries(collection: Any, field: Field, scan: Scan, path: Path | None, count: int) -> list:
    if path is not None:
        texts = path.suffix.lower() == ".txt"
        vectors = tune_fields.encoded(field.spec, path, count) if texts else field.from_file(path)[:count]
        none = f"{path} contains no query"
    else:
        points = collection.get(scan.sampled, with_vectors=[field.name], with_attributes=False)
        vectors = [field.query(point.vectors[field.name]) for point in points if point is not None and field.name in point.vectors]
        none = f"none of {len(scan.sampled)} sampled points has a vector in the field {field.name!r}; pass --queries FILE"
    vectors = [query for query in vectors if field.asks(query)]
    if not vectors:
        raise ValueError(none)
    return vectors


def _cells(scan: Scan, queries: int) -> list[filters.Where]:
    """Filters on the collection's attributes with selectivities near 50, 10, 1 and 0.1 %: at most 16, spread over the attributes."""
    natural_cells = filters.natural(scan.columns, scan.points, min(queries, _FILTER_QUERIES))
    by_share: dict[float, list] = {}
    for where in natural_cells:
        by_share.setdefault(where.selectivity, []).append(where)
    chosen: list[filters.Where] = []
    while len(chosen) < _CELLS and any(by_share.values()):
        for cells in by_share.values():
            if cells and len(chosen) < _CELLS:
                chosen.append(cells.pop(0))
    return sorted(chosen, key=lambda where: (where.shape, -where.selectivity))


def _truths(
    collection: Any, field: Field, cells: Sequence[filters.Where], scan: Scan, k: int
) -> tuple[Truth, dict[str, Truth], float | None]:
    """(truth without filter, cell name → its truth, recall that float16 vectors would have), in one pass over the vectors."""
    columns = filters.Columns(scan.columns, scan.points)
    masks = [where.filters(columns)[0].mask for where in cells]
    queries, some = len(field.queries), min(len(field.queries), _FILTER_QUERIES)
    whole, half, by_cell = Truth(queries, k + _DEPTH), Truth(queries, k), {where.name: Truth(some, k + _DEPTH) for where in cells}
    low = 0
    for page in tune_fields.pages(collection, field.page, with_vectors=[field.name], with_attributes=False):
        having = [i for i, point in enumerate(page) if field.name in point.vectors]
        ids, values = [page[i].id for i in having], [page[i].vectors[field.name] for i in having]
        if ids:
            field.count(values)
            scores, reached = field.scores(values)
            whole.add(ids, scores, reached)
            rounded = field.rounded(values)
            if rounded is not None:
                half.add(ids, field.scores(rounded)[0])
            for mask, kept in zip(masks, by_cell.values(), strict=True):
                match = [j for j, i in enumerate(having) if mask[low + i]]
                kept.add([ids[j] for j in match], scores[:some, match], None if reached is None else reached[:some, match])
        low += len(page)
    kept16 = [whole.recall(i, ids, k) for i, ids in enumerate(half.ids)] if half.matches.any() else []
    return whole, by_cell, float(np.mean(kept16)) if kept16 else None


class _Bench:
    """Times the searches of a collection and judges their recall."""

    def __init__(self, collection: Any, field: Field, k: int):
        self.collection, self.field, self.queries, self.k = collection, field, field.queries, k

    def pass_over(self, queries: Sequence, limit: int, **options: Any) -> tuple[list[int], list]:
        options = {"limit": limit, "with_attributes": False, **options}

        def search(query: dict, k: int, where: Any) -> Any:
            return self.collection.search(query, **options)

        times, answers, _ = timing.measure(search, [{self.field.name: query} for query in queries], limit, None, _SECONDS)
        return times, answers

    def is_exact(self) -> bool:
        """Whether the plan of a search with default options says that it is exact."""
        hits = self.collection.search({self.field.name: self.queries[0]}, limit=self.k, explain=True, with_attributes=False)
        return bool(hits.plan["arms"][0].get("exact", hits.plan["exact"]))

    def recalls(self, truth: Truth, answers: Sequence, k: int) -> list[float]:
        """The recall of each query. Hits that the truth doesn't keep are scored here; those that tie with the k-th best are correct."""
        answers = [list(hits.ids)[:k] for hits in answers]
        others = [[id for id in ids if id not in good] for ids, good in ((ids, truth.good(i, k)) for i, ids in enumerate(answers))]
        tied: list[set] = [set() for _ in answers]
        unknown = list(dict.fromkeys(id for ids in others for id in ids))
        for low in range(0, len(unknown), self.field.page):
            ids = unknown[low : low + self.field.page]
            points = self.collection.get(ids, with_vectors=[self.field.name], with_attributes=False)
            points = [point for point in points if point is not None and self.field.name in point.vectors]
            if not points:
                continue
            scores = self.field.rescored([point.vectors[self.field.name] for point in points])
            column = {point.id: j for j, point in enumerate(points)}
            for i, ids_of in enumerate(others):
                if ids_of and truth.matches[i]:
                    edge = truth.edge(i, k)
                    tied[i].update(id for id in ids_of if id in column and scores[i, column[id]] >= edge)
        return [truth.recall(i, ids, k, tied[i]) for i, ids in enumerate(answers)]

    def judged(self, truth: Truth, limit: int, count: int | None = None, **options: Any) -> dict:
        """Recall and latency of the first ``count`` queries, by default all. options: of ``search``."""
        times, answers = self.pass_over(self.queries[:count], limit, **options)
        recall = metrics.recalls(self.recalls(truth, answers, limit)) if truth.knows(limit) else None
        return {"limit": limit, "recall": recall, **metrics.latencies([times])}

    def targets(self, truth: Truth, targets: Sequence[float]) -> list[dict]:
        """Measured recall and latency for each recall target, and last of ``exact=True``."""
        measured = [{"target": target, **self.judged(truth, self.k, recall=target)} for target in targets]
        return [*measured, {"target": None, **self.judged(truth, self.k, exact=True)}]

    def filtered(self, where: filters.Where, truth: Truth) -> dict:
        from vectordb_client.model.filter import from_dict

        expression = where.expressions[0]
        matches = int(np.median(truth.matches))  # equal for all queries, except of sparse fields
        about = {"filter": expression, "name": where.name, "field": expression.get("field", ""), "matches": matches}
        return about | self.judged(truth, self.k, _FILTER_QUERIES, filter=from_dict(expression))

    def batches(self, milliseconds: float) -> list[dict]:
        """Queries per second of ``search_batch`` by batch size, without sizes that take too long. milliseconds: the time of one search."""
        sizes = [size for size in (1, 8, 64, 256) if size == 1 or size * milliseconds < 1000 * _SECONDS]
        search = partial(self.collection.search_batch, limit=self.k, with_attributes=False)
        return [{"batch": size, "qps": self._rate(partial(search, {self.field.name: self.field.many(size)}), size)} for size in sizes]

    def threads(self, milliseconds: float) -> list[dict]:
        """Searches per second by number of threads that share the collection. milliseconds: the time of one search."""
        cores, rates = facts.machine()["cores"], []
        each = max(2, min(32, int(500 / milliseconds)))
        search = partial(self.collection.search, limit=self.k, with_attributes=False)
        for workers in sorted({1, 2, cores, 2 * cores}):
            queries = [{self.field.name: query} for query in self.field.many(each * workers)]
            with ThreadPoolExecutor(workers) as pool:
                rate = self._rate(lambda pool=pool, queries=queries: list(pool.map(search, queries)), len(queries))
                rates.append({"threads": workers, "qps": rate})
        return rates

    @staticmethod
    def _rate(call: Callable[[], Any], queries: int) -> float:
        """Queries per second of a call with so many queries."""
        call()
        return timing.rate(call, _ROUNDS) * queries
